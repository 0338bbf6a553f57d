"""The mail server of ``tests.support.smtp``: aiosmtpd. It imports little, to be there at once.

Its arguments are a ``Behaviour`` and the port in JSON, and the folder with certificates.
"""

import asyncio
import json
import signal
import ssl
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

USER, PASSWORD = "radius-mfa", "canary-mail-password"


@dataclass(frozen=True)
class Behaviour:
    """How the server treats whoever comes. *tls* is starttls, tls or none.

    *certificate* is the name of a file of the authority. Recipients that begin with "refused" get
    a 550, those with "later" a 451, once more for each. *most* mails go over one connection.
    """

    tls: str = "none"
    certificate: str = "localhost"
    login: bool = False
    utf8: bool = True
    sender_refused: bool = False
    silent: bool = False
    most: int = 1000


class _Handler:
    """Keeps mails in files; refuses as its behaviour says."""

    def __init__(self, behaviour: Behaviour, folder: Path) -> None:
        self._behaviour = behaviour
        self._folder = folder
        self._later: set[str] = set()
        self._count = len(list(folder.iterdir()))

    async def handle_MAIL(  # noqa: N802 - aiosmtpd's name
        self, _server: Any, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        if self._behaviour.sender_refused:
            return "553 5.7.1 not your address"
        session.count = getattr(session, "count", 0) + 1
        if session.count > self._behaviour.most:
            return "421 4.7.0 too many mails over this connection"
        envelope.mail_from, envelope.mail_options = address, options
        return "250 OK"

    async def handle_RCPT(  # noqa: N802
        self, _server: Any, _session: Any, envelope: Any, address: str, _options: list[str]
    ) -> str:
        if address.startswith("refused"):
            return "550 5.1.1 nobody of this name here"
        if address.startswith("later") and address not in self._later:
            self._later.add(address)
            return "451 4.7.1 come again"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        self._count += 1
        recipients = ", ".join(envelope.rcpt_tos)
        head = f"X-Envelope: {envelope.mail_from} {recipients}\r\n".encode()
        scratch = self._folder / "scratch"
        scratch.write_bytes(head + envelope.original_content)
        scratch.rename(self._folder / f"{self._count:06}.eml")
        return "250 taken"


async def _serve(behaviour: Behaviour, port: int, folder: Path) -> None:
    from aiosmtpd.smtp import SMTP, AuthResult  # noqa: PLC0415 - only its own process needs it

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    name = behaviour.certificate
    context.load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")

    def authenticate(*call: Any) -> AuthResult:
        right = call[-1].login == USER.encode() and call[-1].password == PASSWORD.encode()
        return AuthResult(success=right, handled=False)

    protocol = partial(
        SMTP,
        _Handler(behaviour, folder / "mails"),
        hostname="mail.test",
        enable_SMTPUTF8=behaviour.utf8,
        tls_context=context if behaviour.tls == "starttls" else None,
        authenticator=authenticate if behaviour.login else None,
        auth_required=behaviour.login,
        auth_require_tls=behaviour.tls == "starttls",
    )
    loop = asyncio.get_running_loop()
    tls = context if behaviour.tls == "tls" else None
    make = asyncio.Protocol if behaviour.silent else protocol
    server = await loop.create_server(make, "127.0.0.1", port, ssl=tls)
    await server.serve_forever()


def main() -> None:
    """Serve until killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    values = json.loads(sys.argv[1])
    port = values.pop("port")
    asyncio.run(_serve(Behaviour(**values), port, Path(sys.argv[2])))


if __name__ == "__main__":
    main()

"""A real mail server for tests: aiosmtpd in a process of its own, which keeps what it is given.

Run as a program it serves; the JSON in its argument is a ``Behaviour``.
"""

import asyncio
import contextlib
import json
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from functools import partial
from pathlib import Path
from typing import Any

from tests.support.certificates import Authority
from tests.support.server import eventually
from tests.support.throwaway import ThrowawayServer

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


class RealSmtp(ThrowawayServer):
    """A mail server on loopback. Use as a context manager; it can be stopped and started again."""

    def __init__(self, behaviour: Behaviour = Behaviour()) -> None:
        super().__init__("rmfa-smtp-")
        self.behaviour = behaviour
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]

    def prepare(self) -> None:
        authority = Authority(self.folder)
        authority.issue("localhost", ["localhost", "127.0.0.1"])
        authority.issue("elsewhere", ["mail.elsewhere.example"])
        authority.issue("expired", ["localhost"], days=-1)
        (self.folder / "mails").mkdir()

    def start(self) -> None:
        with (self.folder / "log").open("ab") as output:
            words = json.dumps({"port": self.port, **asdict(self.behaviour)})
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.smtp", words, str(self.folder)],
                stdout=output,
                stderr=output,
            )
        eventually(self._listens, "the mail server to listen")

    def _listens(self) -> bool:
        self.assert_running()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 5):
            return True
        return False

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(30)
            self.process = None

    @contextmanager
    def down(self) -> Iterator[None]:
        """Let nobody listen for as long as the block lasts."""
        self.stop()
        yield
        self.start()

    def settings(self, **changes: Any) -> dict[str, Any]:
        """Return a ``[mail]`` table that reaches this server."""
        behaviour = self.behaviour
        table: dict[str, Any] = {
            "host": "localhost",
            "port": self.port,
            "tls": behaviour.tls,
            "from_address": "vpn@corp.example",
        }
        if behaviour.tls != "none":
            table["ca_file"] = str(self.folder / "ca.pem")
        if behaviour.login:
            table |= {"username": USER, "password": PASSWORD}
        return table | changes

    @property
    def files(self) -> list[bytes]:
        """What was taken, oldest first, as it came."""
        kept = (self.folder / "mails").glob("*.eml")
        return [file.read_bytes() for file in sorted(kept)]

    @property
    def mails(self) -> list[EmailMessage]:
        """The mails that were taken, oldest first."""
        return [parsed(octets) for octets in self.files]

    def wait_for(self, count: int) -> list[EmailMessage]:
        """Wait until *count* mails were taken, and return them."""
        eventually(lambda: len(self.files) >= count, f"{count} mails")
        mails = self.mails
        assert len(mails) == count, [str(mail["Subject"]) for mail in mails]
        return mails


def parsed(octets: bytes) -> EmailMessage:
    found = message_from_bytes(octets, policy=policy.default)
    assert isinstance(found, EmailMessage)
    return found


def body(mail: EmailMessage, kind: str) -> str:
    """Return the plain or the html part of a mail."""
    part = mail.get_body((kind,))
    assert part is not None
    return str(part.get_content())


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
    from aiosmtpd.smtp import SMTP, AuthResult  # noqa: PLC0415 - the server's process alone

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

"""A real mail server for tests: a process of its own, which keeps what it is given."""

import contextlib
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from tests.support.certificates import Authority
from tests.support.server import eventually
from tests.support.smtp_server import PASSWORD, USER, Behaviour
from tests.support.throwaway import ThrowawayServer

KIND = Behaviour()
"""Takes every mail, in the clear."""


class RealSmtp(ThrowawayServer):
    """A mail server on loopback. Use as a context manager; it can be stopped and started again."""

    def __init__(self, behaviour: Behaviour = KIND) -> None:
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
                [sys.executable, "-m", "tests.support.smtp_server", words, str(self.folder)],
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

"""RADIUS by hand, apart from the code under test: what a NAS sends, and how it checks a reply."""

import hashlib
import hmac
import os
import re
import socket
import struct
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from tests.support.debian import tool

ACCESS_REQUEST, ACCESS_ACCEPT, ACCESS_REJECT, ACCESS_CHALLENGE, STATUS_SERVER = 1, 2, 3, 11, 12
USER_NAME, USER_PASSWORD, CHAP_PASSWORD, REPLY_MESSAGE, CALLING_STATION_ID = 1, 2, 3, 18, 31
STATE, NAS_IDENTIFIER, PROXY_STATE, ACCT_SESSION_ID = 24, 32, 33, 44
PROMPT, EAP_MESSAGE, MESSAGE_AUTHENTICATOR = 76, 79, 80

Attributes = Sequence[tuple[int, bytes]]


def hide(password: bytes, secret: bytes, authenticator: bytes) -> bytes:
    """Return a User-Password as RFC 2865 section 5.2 hides it."""
    padded = password.ljust(max(16, -(-len(password) // 16) * 16), b"\0")
    hidden = b""
    previous = authenticator
    for at in range(0, len(padded), 16):
        key = hashlib.md5(secret + previous).digest()  # noqa: S324 - the protocol's
        previous = bytes(a ^ b for a, b in zip(padded[at : at + 16], key, strict=True))
        hidden += previous
    return hidden


def encode(code: int, identifier: int, authenticator: bytes, attributes: Attributes) -> bytes:
    """Return a packet; nothing in it is checked."""
    body = b"".join(bytes([number, len(value) + 2]) + value for number, value in attributes)
    return struct.pack("!BBH", code, identifier, 20 + len(body)) + authenticator + body


def signed(packet: bytes, secret: bytes) -> bytes:
    """Return *packet* with the value of its (zeroed) first Message-Authenticator filled in."""
    at = 20
    while packet[at] != MESSAGE_AUTHENTICATOR:
        at += packet[at + 1]
    digest = hmac.digest(secret, packet, "md5")
    return packet[: at + 2] + digest + packet[at + 18 :]


def packet_of(  # noqa: PLR0917 - the fields of a packet, in their order
    code: int,
    identifier: int,
    authenticator: bytes,
    fields: Attributes,
    secret: bytes,
    message_authenticator: str = "first",
) -> bytes:
    """Return a request; *message_authenticator* is first, last, none or wrong."""
    zeroed = [(MESSAGE_AUTHENTICATOR, bytes(16))]
    if message_authenticator == "none":
        return encode(code, identifier, authenticator, fields)
    if message_authenticator == "last":
        return signed(encode(code, identifier, authenticator, [*fields, *zeroed]), secret)
    packet = encode(code, identifier, authenticator, [*zeroed, *fields])
    return signed(packet, secret if message_authenticator == "first" else secret + b"x")


def request_authenticator(packet: bytes, secret: bytes) -> bytes:
    """Return *packet* with the authenticator of an Accounting-Request (RFC 2866 section 3)."""
    digest = hashlib.md5(packet[:4] + bytes(16) + packet[20:] + secret).digest()  # noqa: S324
    return packet[:4] + digest + packet[20:]


@dataclass(frozen=True)
class Reply:
    """A reply whose authenticators were verified."""

    code: int
    identifier: int
    attributes: list[tuple[int, bytes]]
    octets: bytes

    def all(self, number: int) -> list[bytes]:
        return [value for attribute, value in self.attributes if attribute == number]


def verified(reply: bytes, request: bytes, secret: bytes) -> Reply:
    """Return *reply* parsed; AssertionError unless both its authenticators fit *request*."""
    code, identifier, length = struct.unpack("!BBH", reply[:4])
    assert length == len(reply)
    assert identifier == request[1], "Identifier not echoed"
    response = hashlib.md5(reply[:4] + request[4:20] + reply[20:] + secret).digest()  # noqa: S324
    assert response == reply[4:20], "Response Authenticator"
    attributes = []
    at = 20
    while at < len(reply):
        attributes.append((reply[at], reply[at + 2 : at + reply[at + 1]]))
        at += reply[at + 1]
    assert attributes[0][0] == MESSAGE_AUTHENTICATOR, "Message-Authenticator is not first"
    unsigned = reply[:4] + request[4:20] + reply[20:22] + bytes(16) + reply[38:]
    assert attributes[0][1] == hmac.digest(secret, unsigned, "md5"), "Message-Authenticator"
    return Reply(code, identifier, attributes, reply)


class Nas:
    """A NAS with a socket of its own. Use as a context manager."""

    def __init__(
        self, server: tuple[str, int], secret: bytes, source: str = "", *, timeout: float = 10
    ) -> None:
        family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        if source:
            self.socket.bind((source, 0))
        self.socket.connect(server)  # only replies from the address asked arrive
        self.socket.settimeout(timeout)
        self.timeout = timeout
        self.secret = secret
        self._identifier = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.socket.close()

    def access_request(
        self,
        user: str | bytes,
        typed: str | bytes,
        attributes: Iterable[tuple[int, bytes]] = (),
        *,
        identifier: int | None = None,
        authenticator: bytes | None = None,
        message_authenticator: str = "first",
    ) -> bytes:
        """Return an Access-Request; *message_authenticator* is first, last, none or wrong."""
        if identifier is None:
            identifier = self._identifier = (self._identifier + 1) % 256
        authenticator = authenticator or os.urandom(16)
        name = user.encode() if isinstance(user, str) else user
        octets = typed.encode() if isinstance(typed, str) else typed
        fields = [
            (USER_NAME, name),
            (USER_PASSWORD, hide(octets, self.secret, authenticator)),
            *attributes,
        ]
        return self.request(
            ACCESS_REQUEST, identifier, authenticator, fields, message_authenticator
        )

    def status_server(self, message_authenticator: str = "first") -> bytes:
        """Return a Status-Server."""
        self._identifier = (self._identifier + 1) % 256
        return self.request(
            STATUS_SERVER, self._identifier, os.urandom(16), [], message_authenticator
        )

    def request(
        self,
        code: int,
        identifier: int,
        authenticator: bytes,
        fields: Attributes,
        message_authenticator: str,
    ) -> bytes:
        return packet_of(
            code, identifier, authenticator, fields, self.secret, message_authenticator
        )

    def send(self, packet: bytes) -> None:
        self.socket.send(packet)

    def receive(self, request: bytes) -> Reply:
        """Return the next datagram as the verified reply to *request*."""
        return verified(self.socket.recv(65_536), request, self.secret)

    def ask(self, packet: bytes) -> Reply:
        """Send *packet* and return its reply."""
        self.send(packet)
        return self.receive(packet)

    def repeat(self, packet: bytes, times: int = 100) -> Reply:
        """Send *packet* again and again, as a NAS does, and return its first reply."""
        for _ in range(times):
            self.send(packet)
            for octets in self.replies(0.3):
                if octets[1] == packet[1]:
                    return verified(octets, packet, self.secret)
        raise AssertionError(f"{times} times no reply")

    def login(
        self, user: str | bytes, typed: str | bytes, attributes: Iterable[tuple[int, bytes]] = ()
    ) -> Reply:
        """Send an Access-Request and return its reply."""
        return self.ask(self.access_request(user, typed, attributes))

    def assert_silent(self, *packets: bytes, seconds: float = 0.3) -> None:
        """Send *packets*; a Status-Server right after them is answered, and they are not.

        *seconds* is longer than a reject takes, where a test's server delays it for 0.05 s.
        """
        for packet in packets:
            self.send(packet)
        self.ask(self.status_server())
        late = self.replies(seconds)
        assert not late, f"a packet owed no reply got code {late[0][0]}"

    def replies(self, seconds: float) -> list[bytes]:
        """Return the datagrams that arrive until none has for *seconds*."""
        found = []
        self.socket.settimeout(seconds)
        try:
            while True:
                found.append(self.socket.recv(65_536))
        except TimeoutError:
            return found
        finally:
            self.socket.settimeout(self.timeout)


@dataclass(frozen=True)
class Radclient:
    """What FreeRADIUS's radclient said."""

    exit_code: int
    out: str

    @property
    def sent(self) -> list[str]:
        """The requests that went out: code, Identifier, source and destination."""
        return re.findall(r"^Sent (.*) length", self.out, re.MULTILINE)

    @property
    def received(self) -> list[str]:
        """The codes of the replies."""
        return re.findall(r"^Received (\S+)", self.out, re.MULTILINE)

    @property
    def attributes(self) -> list[str]:
        """The attributes of the last reply, but for Message-Authenticator."""
        _, _, reply = self.out.rpartition("\nReceived ")
        lines = re.findall(r"^\t(.*)", reply, re.MULTILINE)
        return [line for line in lines if not line.startswith("Message-Authenticator")]


def radclient(
    server: tuple[str, int], request: str, secret: str, *options: str, command: str = "auth"
) -> Radclient:
    """Send *request* (``Name = value`` pairs), signed, with the radclient of FreeRADIUS."""
    host, port = server
    words = ["-x", *options, *(["-6"] if ":" in host else [])]
    endpoint = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    done = subprocess.run(
        [tool("radclient"), *words, endpoint, command, secret],
        input=f"{request}, Message-Authenticator = 0x00\n".removeprefix(", "),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Radclient(done.returncode, done.stdout + done.stderr)

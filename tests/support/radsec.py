"""A NAS that speaks RADIUS over TLS, by hand."""

import socket
import ssl
import struct
from pathlib import Path
from typing import Self

from tests.support.radius import Nas, Reply, verified

SECRET = b"radsec"


def trust(folder: Path, shows: str | None) -> ssl.SSLContext:
    """Return TLS that trusts the authority of *folder* and *shows* a certificate of its."""
    context = ssl.create_default_context(cafile=folder / "ca.pem")
    if shows is not None:
        context.load_cert_chain(folder / f"{shows}.pem", folder / f"{shows}.key")
    return context


class TlsNas(Nas):
    """A NAS with a connection of its own. Use as a context manager."""

    def __init__(
        self, server: tuple[str, int], context: ssl.SSLContext, timeout: float = 10
    ) -> None:
        plain = socket.create_connection(server, timeout)
        self.socket: ssl.SSLSocket = context.wrap_socket(plain, server_hostname="127.0.0.1")
        self.timeout = timeout
        self.secret = SECRET
        self._identifier = 0

    def __enter__(self) -> Self:
        return self

    def packet(self) -> bytes:
        """Return the next packet of the stream; nothing where the server has closed it."""
        head = self._octets(4)
        return head and head + self._octets(struct.unpack("!H", head[2:])[0] - 4)

    def _octets(self, count: int) -> bytes:
        octets = b""
        while len(octets) < count:
            try:
                more = self.socket.recv(count - len(octets))
            except (ConnectionError, ssl.SSLError) as error:
                if isinstance(error, TimeoutError):
                    raise
                more = b""
            if not more:
                return b""
            octets += more
        return octets

    def receive(self, request: bytes) -> Reply:
        return verified(self.packet(), request, self.secret)

    def replies(self, seconds: float) -> list[bytes]:
        found = []
        self.socket.settimeout(seconds)
        try:
            while packet := self.packet():
                found.append(packet)
        except TimeoutError:
            pass
        finally:
            self.socket.settimeout(self.timeout)
        return found

    @property
    def is_closed(self) -> bool:
        """Wait for the end of the stream; return whether nothing came before it."""
        return not self.packet()

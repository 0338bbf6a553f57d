"""A UDP relay in a network of its own, which loses replies, and answers accounting."""

import hashlib
import selectors
import socket
import struct
import threading
from typing import Self

from tests.support.namespaces import Namespace

RADIUS_PORT = 1812
"""Of authentication and accounting alike: openvpn-auth-radius cuts longer ones to four digits."""

ACCOUNTING_REQUEST, ACCOUNTING_RESPONSE = 4, 5

Address = tuple[str, int]


class Relay:
    """Passes requests to port 1812 of *address* in *namespace* on to *server*, and replies back.

    The next *losing* replies are lost on the way. Accounting-Requests are answered by the relay
    itself. Use as a context manager.
    """

    def __init__(self, namespace: Namespace, address: str, server: Address, secret: bytes) -> None:
        self.losing = 0
        self.requests: list[tuple[int, bytes]] = []
        """The source port and octets of each that was passed on."""
        self._here, self._server, self._secret = (address, RADIUS_PORT), server, secret
        self._ways: dict[Address, socket.socket] = {}
        self._ready, self._ended = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, args=(namespace,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10), "the relay does not listen"
        return self

    def __exit__(self, *_exc: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self, namespace: Namespace) -> None:
        namespace.enter()
        near = socket.socket(type=socket.SOCK_DGRAM)
        with near, selectors.DefaultSelector() as selector:
            near.bind(self._here)
            selector.register(near, selectors.EVENT_READ)
            self._ready.set()
            while not self._ended.is_set():
                for key, _ in selector.select(0.05):
                    if key.data is None:
                        self._pass_on(near, selector)
                    else:
                        self._pass_back(near, key.data)
        for way in self._ways.values():
            way.close()

    def _pass_on(self, near: socket.socket, selector: selectors.BaseSelector) -> None:
        octets, source = near.recvfrom(65_536)
        if octets[0] == ACCOUNTING_REQUEST:
            near.sendto(self._accounted(octets), source)
            return
        if source not in self._ways:
            way = self._ways[source] = socket.socket(type=socket.SOCK_DGRAM)
            way.connect(self._server)
            selector.register(way, selectors.EVENT_READ, source)
        self.requests.append((source[1], octets))
        self._ways[source].send(octets)

    def _pass_back(self, near: socket.socket, source: Address) -> None:
        reply = self._ways[source].recv(65_536)
        if self.losing:
            self.losing -= 1
        else:
            near.sendto(reply, source)

    def _accounted(self, request: bytes) -> bytes:
        """Return the reply to an Accounting-Request (RFC 2866 section 3)."""
        head = struct.pack("!BBH", ACCOUNTING_RESPONSE, request[1], 20)
        return head + hashlib.md5(head + request[4:20] + self._secret).digest()  # noqa: S324

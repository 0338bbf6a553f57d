"""RADIUS over TLS (RFC 6614): a stream for each gateway, which its certificate names.

A packet that breaks the protocol breaks the connection (RFC 6613 section 2.6.4); cached replies
die with it (section 2.6.1; checklist D12).
"""

import asyncio
import errno
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import structlog

from radius_mfa.errors import (
    BadMessageAuthenticator,
    Discard,
    HandshakeFailed,
    MalformedPacket,
    MissingMessageAuthenticator,
    TooManyConnections,
    UnknownCertificate,
)
from radius_mfa.protocol.duplicates import DuplicateCache
from radius_mfa.protocol.nas import CertificateTable, Nas
from radius_mfa.protocol.reply import unsupported_reply
from radius_mfa.protocol.wire import LENGTH_END, packet_length
from radius_mfa.server.discards import DiscardLog
from radius_mfa.server.faults import fault
from radius_mfa.server.metrics import Metrics
from radius_mfa.server.sockets import Address, bound, unmapped
from radius_mfa.tasks import TaskSet

log = structlog.get_logger()

HANDSHAKE_SECONDS = 10.0
"""A gateway that has not shown its certificate by then is sent away."""

PACKET_SECONDS = 10.0
"""A packet that has begun must have arrived by then (checklist R07)."""

PACKETS_AT_ONCE = 256
"""An Identifier is an octet: a gateway has no more requests open on a connection."""

MAX_UNREAD_OCTETS = 1_048_576
"""A gateway that leaves more octets of replies unread is cut off."""

ACCEPT_AGAIN_SECONDS = 0.1

_KEEPALIVE = {socket.TCP_KEEPIDLE: 60, socket.TCP_KEEPINTVL: 15, socket.TCP_KEEPCNT: 4}
"""A gateway that went without a word is noticed after two minutes."""

_BREAKS = (MalformedPacket, BadMessageAuthenticator, MissingMessageAuthenticator)


class Link(NamedTuple):
    """Whose connection it is, and what was asked and answered on it (checklist D12)."""

    nas: Nas
    duplicates: DuplicateCache


Answer = Callable[[bytes, Address, Address, float, Link], Awaitable[bytes | None]]


class RadsecListener:
    """One TCP endpoint, and the connections to it."""

    def __init__(
        self,
        endpoint: Address,
        answer: Answer,
        *,
        context: ssl.SSLContext,
        table: CertificateTable,
        max_connections: int,
        reply_cache_seconds: float,
        metrics: Metrics,
        discard_log: DiscardLog,
        dual_stack: bool = False,
    ) -> None:
        """Bind *endpoint*; *dual_stack* lets an IPv6 wildcard serve IPv4 too.

        Raises ConfigurationError where the port is busy or the address is not this machine's.
        """
        self._answer = answer
        self._context = context
        self._table = table
        self._max_connections = max_connections
        self._reply_cache_seconds = reply_cache_seconds
        self._metrics = metrics
        self._discard_log = discard_log
        self._accepting = TaskSet()
        self._arriving = TaskSet()
        self._serving = TaskSet()
        self._connections = set[_Connection]()
        self._open = 0
        self._socket = bound(socket.SOCK_STREAM, endpoint, dual_stack=dual_stack)
        self.local: Address = self._socket.getsockname()[:2]

    def start(self) -> None:
        """Take connections from now on."""
        self._accepting.spawn(self._accept())

    def stop(self) -> None:
        """Take no more connections and no more requests; replies still leave."""
        for task in (*self._accepting, *self._arriving):
            task.cancel()
        for connection in self._connections:
            connection.stop("the server stops")

    async def idle(self) -> None:
        """Wait until every request taken has had its answer, and every connection is closed."""
        await self._serving.idle()

    def close(self) -> None:
        """Close the socket, and what connections are left."""
        for task in self._serving:
            task.cancel()
        self._socket.close()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                opened, peer = await loop.sock_accept(self._socket)
            except OSError as error:  # no descriptor is left, or the gateway has gone again
                log.warning(
                    "connection.not_accepted", error=errno.errorcode.get(error.errno or 0, "?")
                )
                await asyncio.sleep(ACCEPT_AGAIN_SECONDS)
                continue
            source = unmapped(peer[0])
            if self._open < self._max_connections:
                self._open += 1
                self._serving.spawn(self._take(opened, (source, peer[1])))
            else:
                opened.close()
                self._discard(source, TooManyConnections(f"{self._max_connections} are open"))

    async def _take(self, opened: socket.socket, peer: Address) -> None:
        try:
            arrived = await self._arriving.spawn(self._arrive(opened, peer))
            if arrived is not None:
                connection, nas = arrived
                await self._serve(connection, nas, f"{peer[0]}:{peer[1]}")
        finally:
            self._open -= 1

    async def _arrive(
        self, opened: socket.socket, peer: Address
    ) -> "tuple[_Connection, str] | None":
        """Return a connection and the name of its client; None where it is refused."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        try:
            local = unmapped(opened.getsockname()[0]), self.local[1]
            _stay_in_touch(opened)
            transport, _ = await loop.connect_accepted_socket(
                lambda: protocol,
                opened,
                ssl=self._context,
                ssl_handshake_timeout=HANDSHAKE_SECONDS,
            )
        except OSError as error:  # of TLS, of TCP, or of patience
            opened.close()
            self._discard(peer[0], HandshakeFailed(_cause(error)))
            return None
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        try:
            nas = self._table.find(certificate_names(transport.get_extra_info("peercert")))
        except UnknownCertificate as unknown:
            writer.close()
            self._discard(peer[0], unknown)
            return None
        link = Link(nas, DuplicateCache(self._reply_cache_seconds))
        answer = partial(self._answered, link, peer, local)
        return _Connection(reader, writer, answer, partial(self._discard, peer[0])), nas.name

    async def _serve(self, connection: "_Connection", nas: str, source: str) -> None:
        gauge = self._metrics.connections.labels(nas)
        gauge.inc()
        self._connections.add(connection)
        log.info("connection.opened", nas=nas, source=source)
        try:
            await connection.run()
        finally:
            gauge.dec()
            self._connections.discard(connection)
            log.info("connection.closed", nas=nas, source=source, cause=connection.why_closed)

    async def _answered(
        self, link: Link, peer: Address, local: Address, octets: bytes
    ) -> bytes | None:
        try:
            refusal = unsupported_reply(octets, link.nas.shared_secret)
            return refusal or await self._answer(octets, peer, local, time.time(), link)
        except Discard:
            raise
        except Exception as error:  # noqa: BLE001 - rule 4: silence, and no word of the packet
            log.error("packet.failed", source=peer[0], **fault(error))  # noqa: TRY400 - quotes it
            return None

    def _discard(self, source: str, discard: Discard) -> None:
        self._discard_log.write(discard, source, time.monotonic())


class _Connection:
    """A stream of packets, and the replies to them, as each is ready (RFC 6613 section 2.6)."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        answer: Callable[[bytes], Awaitable[bytes | None]],
        discard: Callable[[Discard], None],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._answer = answer
        self._discard = discard
        self._room = asyncio.Semaphore(PACKETS_AT_ONCE)
        self._answering = TaskSet()
        self._reading = TaskSet()
        self.why_closed = ""

    async def run(self) -> None:
        """Serve until one side has enough; then let the replies leave that are due."""
        self._reading.spawn(self._read())
        try:
            await self._reading.idle()
            await self._answering.idle()
        finally:
            self._writer.close()

    def stop(self, why: str) -> None:
        """Take no more packets."""
        self.why_closed = self.why_closed or why
        for task in self._reading:
            task.cancel()

    async def _read(self) -> None:
        try:
            while True:
                await self._room.acquire()
                self._answering.spawn(self._serve(await self._packet()))
                await asyncio.sleep(0)  # a packet is checked before the next one is read
        except asyncio.IncompleteReadError:
            self.stop("the gateway closed it")
        except TimeoutError:
            self.stop(f"a packet took more than {PACKET_SECONDS:g} s")
        except OSError as error:
            self.stop(_cause(error))
        except Discard as discard:
            self._break_off(discard)

    async def _packet(self) -> bytes:
        """Return the next packet, however long the gateway has nothing to ask."""
        start = await self._reader.readexactly(1)
        async with asyncio.timeout(PACKET_SECONDS):
            start += await self._reader.readexactly(LENGTH_END - 1)
            return start + await self._reader.readexactly(packet_length(start) - LENGTH_END)

    async def _serve(self, octets: bytes) -> None:
        try:
            reply = await self._answer(octets)
        except Discard as discard:
            if isinstance(discard, _BREAKS):
                self._break_off(discard)
            else:
                self._discard(discard)
        else:
            if reply is not None:
                self._send(reply)
        finally:
            self._room.release()

    def _send(self, reply: bytes) -> None:
        if self._writer.is_closing():  # the gateway has gone: as good as lost on the way
            return
        self._writer.write(reply)
        if self._writer.transport.get_write_buffer_size() > MAX_UNREAD_OCTETS:
            self.stop("the gateway does not read its replies")
            self._writer.transport.abort()

    def _break_off(self, discard: Discard) -> None:
        """Close at once: what follows a packet that breaks the protocol is not to be trusted."""
        self._discard(discard)
        self.stop(discard.reason)
        self._writer.close()


def certificate_names(certificate: Mapping[str, Any]) -> list[str]:
    """Return the names in *certificate*, as ``SSLSocket.getpeercert`` returns it.

    They are its DNS names and addresses; without either, its common name (RFC 6614 section 2.3).
    """
    alternatives = certificate.get("subjectAltName", ())
    names = [name for kind, name in alternatives if kind in {"DNS", "IP Address"}]
    subject = (pair for names in certificate.get("subject", ()) for pair in names)
    return names or [name for kind, name in subject if kind == "commonName"]


def _stay_in_touch(opened: socket.socket) -> None:
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, number in _KEEPALIVE.items():
        opened.setsockopt(socket.IPPROTO_TCP, option, number)
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _cause(error: OSError) -> str:
    """Return what went wrong, in a word of OpenSSL's or the kernel's; nothing from the wire."""
    if isinstance(error, ssl.SSLError):
        return (error.reason or "TLS failed").lower().replace("_", " ")
    return error.strerror or "no TLS within the time"

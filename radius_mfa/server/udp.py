"""RADIUS over UDP: sockets that drain bursts and reply from the address that was asked.

A NAS drops a reply from another address than it sent to (RFC 2865 section 3; checklist T04), so a
socket bound to a wildcard asks the kernel for each datagram's destination.
"""

import asyncio
import errno
import ipaddress
import socket
import struct
import time
from collections.abc import Awaitable, Callable, Sequence

import structlog

from radius_mfa.errors import Discard
from radius_mfa.protocol.wire import MAX_PACKET_OCTETS
from radius_mfa.server.discards import DiscardLog
from radius_mfa.server.faults import fault
from radius_mfa.server.sockets import Address, bound, unmapped
from radius_mfa.tasks import TaskSet

log = structlog.get_logger()

Answer = Callable[[bytes, Address, Address, float], Awaitable[bytes | None]]

DATAGRAMS_PER_TURN = 64
"""How many datagrams a socket takes before the loop gets its turn."""

_IP_PKTINFO = getattr(socket, "IP_PKTINFO", 8)  # named in Python 3.12; Linux's number before
_SO_RCVBUFFORCE = 33  # Linux's number; Python does not name it
_PKTINFO4 = struct.Struct("=I4s4s")  # struct in_pktinfo: interface, local address, destination
_PKTINFO6 = struct.Struct("=16sI")  # struct in6_pktinfo: destination, interface
_MAX_DATAGRAM = MAX_PACKET_OCTETS + 4096  # room to see that a packet is too long, or padded
_ANCILLARY_OCTETS = 128


class UdpListener:
    """One socket, and the datagrams that arrive on it."""

    def __init__(
        self,
        endpoint: Address,
        answer: Answer,
        *,
        receive_buffer_bytes: int,
        discard_log: DiscardLog,
        dual_stack: bool = False,
    ) -> None:
        """Bind *endpoint*; *dual_stack* lets an IPv6 wildcard serve IPv4 too.

        Raises ConfigurationError where the port is busy or the address is not this machine's.
        """
        self._wildcard = ipaddress.ip_address(endpoint[0]).is_unspecified
        self._serving = TaskSet()
        self._answer = answer
        self._discard_log = discard_log
        self._socket = bound(socket.SOCK_DGRAM, endpoint, dual_stack=dual_stack)
        _raise_buffer(self._socket, receive_buffer_bytes)
        if self._wildcard:
            self._ask_for_destination()
        self.local: Address = self._socket.getsockname()[:2]

    def start(self) -> None:
        """Take datagrams from now on."""
        asyncio.get_running_loop().add_reader(self._socket, self._drain)

    def stop(self) -> None:
        """Take no more datagrams; replies still leave."""
        asyncio.get_running_loop().remove_reader(self._socket)

    async def idle(self) -> None:
        """Wait until every datagram taken has had its answer."""
        await self._serving.idle()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _ask_for_destination(self) -> None:
        if self._socket.family == socket.AF_INET:
            self._socket.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        else:
            self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)

    def _drain(self) -> None:
        for _ in range(DATAGRAMS_PER_TURN):
            try:
                octets, ancillary, _flags, peer = self._socket.recvmsg(
                    _MAX_DATAGRAM, _ANCILLARY_OCTETS if self._wildcard else 0
                )
            except BlockingIOError:
                return
            except OSError as error:  # an ICMP error of an earlier reply: not this datagram's
                log.debug("socket.error", error=errno.errorcode.get(error.errno or 0, "?"))
                continue
            self._serving.spawn(self._serve(octets, peer, ancillary, time.time()))

    async def _serve(
        self,
        octets: bytes,
        peer: tuple[str, int],
        ancillary: Sequence[tuple[int, int, bytes]],
        now: float,
    ) -> None:
        local = (unmapped(_destination(ancillary) or self.local[0]), self.local[1])
        source = unmapped(peer[0])
        try:
            reply = await self._answer(octets, (source, peer[1]), local, now)
        except Discard as discard:
            self._discard_log.write(discard, source, time.monotonic())
            return
        except Exception as error:  # noqa: BLE001 - rule 4: silence, and no word of the packet
            log.error("packet.failed", source=source, **fault(error))  # noqa: TRY400 - quotes it
            return
        if reply is not None:
            self._send(reply, peer, ancillary)

    def _send(
        self, reply: bytes, peer: tuple[str, int], ancillary: Sequence[tuple[int, int, bytes]]
    ) -> None:
        try:
            self._socket.sendmsg([reply], [_from_there(item) for item in ancillary], 0, peer)
        except OSError as error:  # as good as lost on the way: the NAS asks again
            log.warning(
                "reply.not_sent", source=peer[0], error=errno.errorcode.get(error.errno or 0, "?")
            )


def _raise_buffer(opened: socket.socket, wanted: int) -> None:
    """Enlarge the receive buffer, beyond the system's limit where we may."""
    try:
        opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, wanted)
    except OSError:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, wanted)
    got = opened.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2  # Linux reports the double
    if got < wanted:
        log.warning(
            "socket.small_buffer",
            receive_buffer_bytes=got,
            hint=f"bursts may lose packets: sysctl net.core.rmem_max={wanted}",
        )


def _destination(ancillary: Sequence[tuple[int, int, bytes]]) -> str | None:
    """Return the address that a datagram was sent to, where the kernel told it."""
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IP and kind == _IP_PKTINFO:
            return socket.inet_ntop(socket.AF_INET, _PKTINFO4.unpack_from(data)[2])
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
            return socket.inet_ntop(socket.AF_INET6, _PKTINFO6.unpack_from(data)[0])
    return None


def _from_there(item: tuple[int, int, bytes]) -> tuple[int, int, bytes]:
    """Turn what a datagram said of its destination into where its reply leaves from."""
    level, kind, data = item
    if level == socket.IPPROTO_IP and kind == _IP_PKTINFO:
        _interface, _local, destination = _PKTINFO4.unpack_from(data)
        return level, kind, _PKTINFO4.pack(0, destination, bytes(4))
    return item

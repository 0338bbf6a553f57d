"""The way to an LDAP server: name, TCP, StartTLS, TLS, all of it by the event loop.

libldap can do that itself, but blocks, and knows no timeout for the handshake of ldaps://. So it
gets a socket that is connected: the server's own, or one end of a pair whose other end the loop
passes on through TLS. The price is one more copy of each message on encrypted connections.
"""

import asyncio
import os
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import unquote, urlsplit

T = TypeVar("T")

Addresses = list[tuple[Any, ...]]

_START_TLS = bytes.fromhex("301d02010177188016") + b"1.3.6.1.4.1.1466.20037"
_START_TLS_RESPONSE = 0x78  # RFC 4511 section 4.14
_MAX_RESPONSE_OCTETS = 4096
_PORTS = {"ldap": 389, "ldaps": 636}
_KEEPALIVE = (  # a server that is gone without a word is noticed within 75 s
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
)


class LdapFault(Exception):
    """The server gave no answer. *kind* is one word for metrics; the text is for the log."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Target:
    """A server and how to reach it; ``ldap://`` is upgraded by StartTLS unless told otherwise."""

    uri: str
    start_tls: bool = True
    ca_file: Path | None = None
    verify_certificate: bool = True
    tls_minimum: str = "1.2"
    timeout_seconds: float = 1.5


@dataclass(frozen=True, slots=True)
class Way:
    """A socket that leads to the server, to be closed by whoever has it.

    *tls* is the version, empty for none; *end* closes what else there is of the way.
    """

    fd: int
    tls: str = ""
    end: Callable[[], None] = lambda: None


async def reach(target: Target) -> Way:
    """Connect to *target*, or raise LdapFault within its timeout."""
    try:
        async with asyncio.timeout(target.timeout_seconds):
            return await _reach(target)
    except ssl.SSLCertVerificationError as error:
        raise LdapFault("tls", f"its certificate is refused: {error.verify_message}") from None
    except ssl.SSLError as error:
        raise LdapFault("tls", f"no TLS: {error.reason or 'the handshake failed'}") from None
    except TimeoutError:
        raise LdapFault("timeout", f"no answer within {target.timeout_seconds:g} s") from None
    except OSError as error:
        raise LdapFault("connection", _said(error)) from None


def _said(error: OSError) -> str:
    """Return the system's own words; asyncio puts others in their place."""
    if isinstance(error, socket.gaierror):
        return error.strerror or "the name is not known"
    return os.strerror(error.errno) if error.errno else "the server has ended the connection"


async def _reach(target: Target) -> Way:
    url = urlsplit(target.uri)
    if url.scheme == "ldapi":
        opened = await _connected(socket.AF_UNIX, unquote(url.netloc + url.path))
        return Way(opened.detach())
    host = url.hostname or ""
    if url.scheme == "ldap" and not target.start_tls:
        return Way((await _opened(host, url.port or _PORTS[url.scheme])).detach())
    context = _context(target)
    opened = await _opened(host, url.port or _PORTS[url.scheme])
    if url.scheme == "ldap":
        try:
            await _ask_for_tls(opened)
        except BaseException:
            opened.close()
            raise
    return await _encrypted(opened, host, context)


async def _opened(host: str, port: int) -> socket.socket:
    fault: OSError = OSError("the name has no address")
    for family, _, _, _, address in await _resolved(host, port):
        try:
            opened = await _connected(family, address)
        except OSError as error:
            fault = error
            continue
        for option in _KEEPALIVE:
            opened.setsockopt(*option)
        return opened
    raise fault


async def _connected(family: int, address: Any) -> socket.socket:  # noqa: ANN401 - by family
    opened = socket.socket(family, socket.SOCK_STREAM)
    opened.setblocking(False)  # noqa: FBT003 - the standard library's signature
    try:
        await asyncio.get_running_loop().sock_connect(opened, address)
    except BaseException:
        opened.close()
        raise
    return opened


_resolving: dict[tuple[str, int], "asyncio.Future[Addresses]"] = {}


async def _resolved(host: str, port: int) -> Addresses:
    """Return the addresses of *host*; a resolver that hangs costs one thread for each name."""
    with suppress(socket.gaierror):
        flags = socket.AI_NUMERICHOST
        return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags))
    loop = asyncio.get_running_loop()
    future = _resolving.get((host, port))
    if future is None or future.get_loop() is not loop:
        future = in_daemon_thread(
            lambda: list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        )
        _resolving[host, port] = future
        future.add_done_callback(lambda _: _resolving.pop((host, port), None))
    return await asyncio.shield(future)


def in_daemon_thread(work: Callable[[], T]) -> "asyncio.Future[T]":
    """Run *work* in a thread of its own that the process's end does not wait for."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(report: Callable[[], None]) -> None:
        if not future.done():
            report()

    def run() -> None:
        report: Callable[[], None]
        try:
            value = work()
        except OSError as error:
            fault = error

            def report() -> None:
                future.set_exception(fault)
                future.exception()  # seen, also where everybody has given up
        else:

            def report() -> None:
                future.set_result(value)

        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, report)

    threading.Thread(target=run, daemon=True, name="resolve").start()
    return future


async def _ask_for_tls(opened: socket.socket) -> None:
    """Ask for StartTLS (RFC 4511 section 4.14), and take the answer."""
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(opened, _START_TLS)
    octets = b""
    while len(octets) < 2 or len(octets) < 2 + octets[1]:  # noqa: PLR2004 - tag, length
        more = await loop.sock_recv(opened, _MAX_RESPONSE_OCTETS)
        octets += more
        if not more or octets[0] != 0x30 or octets[1:2] > b"\x7f":  # noqa: PLR2004 - BER
            raise LdapFault("tls", "no TLS: the server does not speak LDAP here")
    operation = octets[5:6]
    code = octets[9:10]
    if operation != bytes([_START_TLS_RESPONSE]) or code != b"\0":
        raise LdapFault("tls", f"no TLS: StartTLS is refused, LDAP result {code.hex() or '?'}")


def _context(target: Target) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=target.ca_file)
    except (OSError, ssl.SSLError) as error:
        why = getattr(error, "strerror", None) or "it holds no certificate"
        raise LdapFault("tls", f"ca_file {target.ca_file} can't be used: {why}") from None
    context.minimum_version = ssl.TLSVersion[f"TLSv{target.tls_minimum.replace('.', '_')}"]
    if not target.verify_certificate:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


async def _encrypted(opened: socket.socket, host: str, context: ssl.SSLContext) -> Way:
    ours, theirs = socket.socketpair()
    try:
        transport, _ = await asyncio.get_running_loop().create_connection(
            lambda: _Relay(ours), sock=opened, ssl=context, server_hostname=host
        )
    except BaseException:
        ours.close()
        theirs.close()
        raise
    version = transport.get_extra_info("ssl_object").version()
    return Way(theirs.detach(), version, transport.abort)


class _Relay(asyncio.Protocol):
    """Passes octets on between TLS and one end of a socket pair, until either ends."""

    def __init__(self, inner: socket.socket) -> None:
        self._inner = inner
        self._inner.setblocking(False)  # noqa: FBT003 - the standard library's signature
        self._loop = asyncio.get_running_loop()
        self._unsent = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin (asyncio calls this, once TLS stands)."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is of no such class
        self._loop.add_reader(self._inner, self._readable)

    def _readable(self) -> None:
        try:
            octets = self._inner.recv(65_536)
        except BlockingIOError:
            return
        except OSError:
            octets = b""
        if self._transport is None:
            return
        if octets:
            self._transport.write(octets)
        else:
            self._loop.remove_reader(self._inner)
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        """Pass *data* on; what does not fit waits, and the server with it (asyncio calls this)."""
        if not self._unsent:
            data = data[self._sent(data) :]
            if data and self._transport is not None:
                self._transport.pause_reading()
                self._loop.add_writer(self._inner, self._writable)
        self._unsent += data

    def _sent(self, octets: bytes | bytearray) -> int:
        try:
            return self._inner.send(octets)
        except BlockingIOError:
            return 0
        except OSError:  # libldap has closed its end: _readable sees to the rest
            return len(octets)

    def _writable(self) -> None:
        del self._unsent[: self._sent(self._unsent)]
        if not self._unsent:
            self._loop.remove_writer(self._inner)
            if self._transport is not None:
                self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        """End, so that libldap sees an end as well (asyncio calls this)."""
        self._loop.remove_reader(self._inner)
        self._loop.remove_writer(self._inner)
        self._inner.close()

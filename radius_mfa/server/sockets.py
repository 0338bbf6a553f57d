"""Sockets of the server: bound, or refused in words that help."""

import errno
import ipaddress
import socket

from radius_mfa.errors import ConfigurationError

Address = tuple[str, int]
"""IP address in text, and port."""


class PortInUseError(ConfigurationError):
    """Another process has the port."""


def bound(kind: socket.SocketKind, endpoint: Address, *, dual_stack: bool) -> socket.socket:
    """Return a socket of *kind* at *endpoint*; *dual_stack* lets an IPv6 wildcard serve IPv4 too.

    It does not block. Raises ConfigurationError where the port is busy or the address is not this
    machine's.
    """
    version = ipaddress.ip_address(endpoint[0]).version
    family = socket.AF_INET if version == 4 else socket.AF_INET6  # noqa: PLR2004 - IPv4
    try:
        opened = socket.socket(family, kind)
    except OSError as error:  # a kernel without IPv6
        raise _not_bound(kind, endpoint, error) from None
    try:
        if kind == socket.SOCK_STREAM:  # those whom the last server left have no claim on the port
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(not dual_stack))
        opened.bind(endpoint)
        if kind == socket.SOCK_STREAM:
            opened.listen(_BACKLOG)
    except OSError as error:
        opened.close()
        raise _not_bound(kind, endpoint, error) from None
    opened.setblocking(False)  # noqa: FBT003 - the standard library's signature
    return opened


def _not_bound(kind: socket.SocketKind, endpoint: Address, error: OSError) -> ConfigurationError:
    protocol, flag, setting = _WORDS[kind]
    where = f"{protocol} port {endpoint[1]} on {endpoint[0]}"
    if error.errno == errno.EADDRINUSE:
        return PortInUseError(
            f"{where} is in use",
            f"another RADIUS server runs (ss -{flag}np 'sport = :{endpoint[1]}' names it): "
            f"stop it, or change {setting}",
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return ConfigurationError(
            f"{where} can't be served: the address is not this machine's", f"change {setting}"
        )
    return ConfigurationError(f"{where} can't be served: {error.strerror}", f"change {setting}")


_WORDS = {
    socket.SOCK_DGRAM: ("UDP", "lu", "radius.listen"),
    socket.SOCK_STREAM: ("TCP", "lt", "radsec.listen"),
}
_BACKLOG = 256


def unmapped(address: str) -> str:
    """Return the IPv4 address that a dual-stack socket shows as an IPv6 one."""
    return address.removeprefix("::ffff:") if "." in address else address

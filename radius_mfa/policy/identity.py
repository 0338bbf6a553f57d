"""One canonical key for a user and for a source, whatever form was typed or sent.

Knows no directory: a realm is stripped only where the settings say that it is the directory's own.
"""

import ipaddress
import re
import unicodedata
from collections.abc import Collection
from functools import lru_cache

USER_NAME_CHARACTERS = 253  # what fits into one User-Name attribute (RFC 2865 section 5.1)

REMEMBERED_STATIONS = 16_384
"""Stations come again and again, and taking one apart costs as much as checking a code."""

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_UNFIT_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_STATION_WITH_PORT = re.compile(r"\A\[?(?P<address>[0-9A-Fa-f:.]+?)\]?(?:\[\d+\]|:\d+)?\Z")
_MAC_ADDRESS = re.compile(  # one separator throughout: 10.10.10.10:1000 is none
    r"\A[0-9A-Fa-f]{2}(?P<separator>[-:.]?)(?:[0-9A-Fa-f]{2}(?P=separator)){4}[0-9A-Fa-f]{2}\Z"
)
_CISCO_MAC_ADDRESS = re.compile(r"\A(?:[0-9A-Fa-f]{4}\.){2}[0-9A-Fa-f]{4}\Z")


class InvalidUserNameError(ValueError):
    """The name is empty, too long, or holds characters that no name may hold."""


def canonical_user(user_name: str, realms: Collection[str] = ()) -> str:
    r"""Return the one key of a user: compatibility-normalised, in lower case, own realm stripped.

    ``ALICE``, ``CORP\alice`` and ``alice@corp.example`` are one user where *realms* (in lower
    case) holds ``corp`` and ``corp.example``. Control, format, private-use and unassigned
    characters are refused, as PRECIS (RFC 8264 section 9) refuses them.
    """
    plain = user_name.isascii() and user_name.isprintable()
    name = user_name if plain else unicodedata.normalize("NFKC", user_name)
    name = name.lower() if plain else unicodedata.normalize("NFKC", name.lower())
    if realms:
        name = _without_own_realm(name, realms)
    if not name or len(name) > USER_NAME_CHARACTERS:
        raise InvalidUserNameError("the user name is empty or longer than 253 characters")
    if name != name.strip():
        raise InvalidUserNameError("the user name begins or ends with a space")
    if not plain and any(unicodedata.category(one) in _UNFIT_CATEGORIES for one in name):
        raise InvalidUserNameError("the user name holds a control or invisible character")
    return name


def realm_split(name: str) -> tuple[str, str]:
    r"""Return name and realm of ``corp\alice`` and ``alice@corp.example``; no realm is empty."""
    domain, backslash, rest = name.partition("\\")
    if backslash:
        return rest, domain
    rest, at, realm = name.rpartition("@")
    return (rest, realm) if at else (name, "")


def _without_own_realm(name: str, realms: Collection[str]) -> str:
    domain, backslash, rest = name.partition("\\")
    if backslash and domain in realms:
        return rest
    rest, at, realm = name.rpartition("@")
    if at and realm in realms:
        return rest
    return name


@lru_cache(REMEMBERED_STATIONS)
def normalised_station(calling_station_id: str) -> str:
    """Return a Calling-Station-Id in one form, so that it can be part of a lockout key.

    An address loses its port (``10.99.0.2[4500]``, ``10.99.0.2:4500``, ``[2001:db8::1]:4500``),
    a MAC address becomes twelve hexadecimal digits; anything else is kept, in lower case.
    """
    text = calling_station_id.strip().lower()
    if _MAC_ADDRESS.match(text) or _CISCO_MAC_ADDRESS.match(text):
        return re.sub(r"[-:.]", "", text)
    for address in (text, *(m["address"] for m in [_STATION_WITH_PORT.match(text)] if m)):
        try:
            return unmapped(ipaddress.ip_address(address)).compressed
        except ValueError:
            continue
    return text


def unmapped(address: IpAddress) -> IpAddress:
    """Return the IPv4 address inside an IPv4-mapped IPv6 address, or the address itself."""
    return getattr(address, "ipv4_mapped", None) or address

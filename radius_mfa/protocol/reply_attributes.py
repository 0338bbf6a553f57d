"""Values of reply attributes as octets: type, length, tag, vendor and hiding by the dictionary.

Written out rather than left to pyrad, which makes a number of ``Class = 123`` (checklist A17), and
whose errors are not for operators.
"""

import ipaddress
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any

from radius_mfa.policy.attributes import Encoded
from radius_mfa.protocol.dictionary import dictionary
from radius_mfa.protocol.reply import hidden_octets, text_values
from radius_mfa.protocol.wire import Attribute

MAX_TAG = 0x1F  # RFC 2868 section 3.1

_MAX_ATTRIBUTE_OCTETS = 255
_HEADER_OCTETS = 2
_VENDOR_OCTETS = 4
_VENDOR_HEADER = struct.Struct("!BBIBB")
_SALTED, _LIKE_USER_PASSWORD = 2, 1  # the dictionary's encrypt=


class UnfitAttribute(ValueError):
    """The attribute can't stand in an Access-Accept; *cure* says what to write."""

    def __init__(self, message: str, cure: str = "") -> None:
        super().__init__(message)
        self.cure = cure


@dataclass(frozen=True, slots=True)
class AttributeEncoder:
    """Encodes values of one attribute, with its *tag* where it has one.

    *secret* says that its values travel hidden, *single* that an Accept holds one at most.
    """

    name: str
    number: int
    kind: str
    vendor: int = 0
    has_tag: bool = False
    tag: int | None = None
    secret: bool = False
    values: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    @property
    def single(self) -> bool:
        """Whether an Access-Accept holds at most one of it (RFC 2865 section 5.44 and others)."""
        return not self.vendor and self.number in _ONCE

    def __call__(self, text: str) -> Encoded:
        """Return *text* as an attribute; raises ValueError, which does not quote it."""
        value = _TYPES[self.kind](text, self)
        if not value:
            raise ValueError("is empty, and an attribute without a value may not be sent")
        if self.number in _SPLIT and not self.vendor:
            parts = text_values(text)
            return Encoded(b"".join(self._header(len(part)) + part for part in parts))
        tagged = self._tagged(value)
        if not self.secret:
            return Encoded(self._header(len(tagged)) + tagged)
        return self._hidden(value)

    def _tagged(self, value: bytes) -> bytes:
        if not self.has_tag:
            return value
        if self.kind == "integer":  # the tag takes the place of the first octet
            if value[0]:
                raise ValueError("is larger than 16777215, and the first octet is the tag's")
            return bytes((self.tag or 0,)) + value[1:]
        if self.tag is None:
            if value[:1] and value[0] <= MAX_TAG:
                raise ValueError("begins like a tag: give the attribute one, like :0")
            return value
        return bytes((self.tag,)) + value

    def _hidden(self, value: bytes) -> Encoded:
        tag = bytes((self.tag or 0,)) if self.has_tag else b""
        header = self._header(len(tag) + hidden_octets(1 + len(value)))
        return Encoded(header + tag, bytes((len(value),)) + value)

    def _header(self, length: int) -> bytes:
        """Return what stands before *length* octets of a value, tag and all."""
        inner = _HEADER_OCTETS + length
        whole = inner + _HEADER_OCTETS + _VENDOR_OCTETS if self.vendor else inner
        if whole > _MAX_ATTRIBUTE_OCTETS:
            raise ValueError(f"would make an attribute of {whole} octets, of which 255 fit")
        if self.vendor:
            return _VENDOR_HEADER.pack(
                Attribute.VENDOR_SPECIFIC, whole, self.vendor, self.number, inner
            )
        return bytes((self.number, whole))


def encoder(name: str) -> AttributeEncoder:
    """Return what encodes the attribute *name*, with a tag like ``Tunnel-Type:1``.

    Raises UnfitAttribute for one that the dictionary does not know, or no Accept may hold.
    """
    bare, colon, tag_text = name.partition(":")
    known = dictionary().attributes
    found = known.get(bare)
    if found is None:
        near = get_close_matches(bare, known, n=1, cutoff=0.6) or [
            one for one in known if one.lower() == bare.lower()
        ]
        cure = f"did you mean {near[0]}?" if near else "dictionaries/ holds those that are known"
        raise UnfitAttribute(f"no attribute is called {bare}", cure)
    vendor = dictionary().vendors.GetForward(found.vendor) if found.vendor else 0
    if (not vendor and found.code in _NOT_IN_AN_ACCEPT) or found.encrypt == _LIKE_USER_PASSWORD:
        raise UnfitAttribute(f"{bare} does not stand in an Access-Accept", "leave it out")
    if found.type not in _TYPES:
        raise UnfitAttribute(f"values of {bare} can't be written here", "leave it out")
    return AttributeEncoder(
        name,
        found.code,
        found.type,
        vendor,
        bool(found.has_tag),
        _tag(bare, tag_text, has_tag=bool(found.has_tag)) if colon else None,
        found.encrypt == _SALTED,
        found.values.forward,
    )


def _tag(name: str, text: str, *, has_tag: bool) -> int:
    if not has_tag:
        raise UnfitAttribute(f"{name} takes no tag", f"write {name}")
    if not text.isascii() or not text.isdecimal() or int(text) > MAX_TAG:
        raise UnfitAttribute(f"{text!r} is not a tag", f"write {name}:1, up to {name}:{MAX_TAG}")
    return int(text)


def _string(text: str, _: AttributeEncoder) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise ValueError("is not UTF-8") from None


def _octets(text: str, _: AttributeEncoder) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _whole(octets: int, *, signed: bool = False) -> Callable[[str, AttributeEncoder], bytes]:
    low = -(1 << octets * 8 - 1) if signed else 0
    high = (1 << octets * 8 - signed) - 1

    def encode(text: str, attribute: AttributeEncoder) -> bytes:
        named = attribute.values.get(text)
        if named is not None:
            return named
        number = _number(text)
        if number is None or not low <= number <= high:
            names = list(attribute.values)
            near = get_close_matches(text, names, n=1) or names[:1]
            hint = f", nor a name such as {near[0]}" if near else ""
            raise ValueError(f"is neither a whole number from {low} to {high}{hint}"[:200])
        return number.to_bytes(octets, "big", signed=signed)

    return encode


def _number(text: str) -> int | None:
    digits = text.removeprefix("-")
    return int(text) if digits.isascii() and digits.isdecimal() and len(digits) <= 20 else None  # noqa: PLR2004 - of 64 bits


def _ipv4(text: str, _: AttributeEncoder) -> bytes:
    number = _number(text)  # as Active Directory keeps msRADIUSFramedIPAddress
    if number is not None and -(1 << 31) <= number < 1 << 32:
        return (number % (1 << 32)).to_bytes(4, "big")
    return _parsed(ipaddress.IPv4Address, text, "an IPv4 address").packed  # type: ignore[no-any-return]


def _ipv6(text: str, _: AttributeEncoder) -> bytes:
    if "%" in text:
        raise ValueError("is not an IPv6 address")
    return _parsed(ipaddress.IPv6Address, text, "an IPv6 address").packed  # type: ignore[no-any-return]


def _ipv6_prefix(text: str, _: AttributeEncoder) -> bytes:
    network = _parsed(ipaddress.IPv6Network, text, "an IPv6 prefix like 2001:db8:1::/48")
    octets: bytes = network.network_address.packed[: -(-network.prefixlen // 8)]
    return bytes((0, network.prefixlen)) + octets


def _interface_id(text: str, _: AttributeEncoder) -> bytes:
    parts = text.split(":")
    try:
        numbers = [int(part, 16) for part in parts if len(part) <= 4]  # noqa: PLR2004 - digits
        return struct.pack("!4H", *numbers)
    except (ValueError, struct.error):
        raise ValueError("is not an interface identifier like 0:0:0:1") from None


def _date(text: str, _: AttributeEncoder) -> bytes:
    number = _number(text)
    if number is None:
        moment = _parsed(datetime.fromisoformat, text, "a date like 2027-01-31T18:00:00+01:00")
        number = int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
    if not 0 <= number < 1 << 32:
        raise ValueError("is not a date from 1970 to 2106")
    return number.to_bytes(4, "big")


def _ether(text: str, _: AttributeEncoder) -> bytes:
    octets = _parsed(bytes.fromhex, text.replace(":", "").replace("-", ""), _MAC)
    if len(octets) != 6:  # noqa: PLR2004 - octets of a MAC address
        raise ValueError(f"is not {_MAC}")
    return octets  # type: ignore[no-any-return]


_MAC = "a MAC address like 02:00:5e:10:00:01"


def _parsed(parse: Callable[[str], Any], text: str, what: str) -> Any:  # noqa: ANN401 - what it parses
    try:
        return parse(text)
    except ValueError:
        raise ValueError(f"is not {what}") from None


_TYPES: Mapping[str, Callable[[str, AttributeEncoder], bytes]] = {
    "byte": _whole(1),
    "date": _date,
    "ether": _ether,
    "ifid": _interface_id,
    "integer": _whole(4),
    "integer64": _whole(8),
    "ipaddr": _ipv4,
    "ipv6addr": _ipv6,
    "ipv6prefix": _ipv6_prefix,
    "octets": _octets,
    "short": _whole(2),
    "signed": _whole(4, signed=True),
    "string": _string,
}
"""Types of the dictionary, and how a value in text becomes octets of them."""

_SPLIT = frozenset({Attribute.REPLY_MESSAGE})
"""What is shown as one text again, however many attributes it came in (RFC 2865 section 5.18)."""

_NOT_IN_AN_ACCEPT = frozenset(
    {
        *(2, 3, 4, 5, 24, 26, 30, 31, 32, 33, 60, 61),  # RFC 2865 section 5.44
        *(*range(40, 54), 55),  # RFC 2866 section 5.13, RFC 2869 section 5.19
        *(68, 86),  # RFC 2867 section 4
        *(70, 73, 74, 75, 76, 77, 79, 80, 87),  # RFC 2869 section 5.19
        *(95, 101, 126),  # RFC 3162 section 3, RFC 5176 section 3.6, RFC 5580 section 5
    }
)
"""Numbers that no Accept of a rule holds; State, Proxy-State and their like are the server's."""

_ONCE = frozenset(
    {
        *(1, 6, 7, 8, 9, 10, 12, 15, 16, 19, 20, 23, 27, 28, 29, 34, 35, 36, 37, 39, 62, 63),
        *(71, 72, 84, 85, 88, 89, 96, 100),
    }
)
"""Numbers of which an Accept holds one at most, by the same tables and RFC 4372 section 2.2."""

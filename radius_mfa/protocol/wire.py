"""Strict packet format, ahead of everything else (RFC 2865 sections 3 and 5).

Refuses to know what an attribute means, but for those that may stand once only.
"""

import struct
from dataclasses import field
from enum import IntEnum

from radius_mfa.errors import MalformedPacket, UnexpectedCode
from radius_mfa.values import value

LENGTH_END = 4
HEADER_OCTETS = 20
MAX_PACKET_OCTETS = 4096  # RFC 2865 section 3
MAX_ATTRIBUTES = 200  # precedent: FreeRADIUS max_attributes

_HEADER = struct.Struct("!BBH16s")


class Code(IntEnum):
    """Packet codes (RFC 2865 section 3, RFC 5997 section 3)."""

    ACCESS_REQUEST = 1
    ACCESS_ACCEPT = 2
    ACCESS_REJECT = 3
    ACCESS_CHALLENGE = 11
    STATUS_SERVER = 12

    @property
    def label(self) -> str:
        """The name as the RFCs write it, like ``Access-Request``."""
        return self.name.replace("_", "-").title()


class Attribute(IntEnum):
    """The attributes that the server itself reads or writes, by their registered numbers."""

    USER_NAME = 1
    USER_PASSWORD = 2
    CHAP_PASSWORD = 3
    NAS_IP_ADDRESS = 4
    SERVICE_TYPE = 6
    REPLY_MESSAGE = 18
    STATE = 24
    VENDOR_SPECIFIC = 26
    CALLING_STATION_ID = 31
    NAS_IDENTIFIER = 32
    PROXY_STATE = 33
    ACCT_SESSION_ID = 44
    PROMPT = 76
    EAP_MESSAGE = 79
    MESSAGE_AUTHENTICATOR = 80


SINGLE_INSTANCE = frozenset(
    {
        Attribute.USER_NAME,
        Attribute.USER_PASSWORD,
        Attribute.CHAP_PASSWORD,
        Attribute.STATE,
        Attribute.CALLING_STATION_ID,
        Attribute.NAS_IDENTIFIER,
        Attribute.ACCT_SESSION_ID,
        Attribute.MESSAGE_AUTHENTICATOR,
    }
)
"""RFC 2865 section 5.44 and RFC 2869 section 5.19: at most one of each in an Access-Request."""


@value
class Packet:
    """A well-formed request; *octets* end where the Length field says."""

    code: Code
    identifier: int
    authenticator: bytes = field(repr=False)
    octets: bytes = field(repr=False)
    attributes: tuple[tuple[int, bytes], ...] = field(repr=False)
    firsts: dict[int, bytes] = field(repr=False)

    def first(self, attribute: Attribute) -> bytes | None:
        """Return the value of the first *attribute*, or None."""
        return self.firsts.get(attribute)

    def all(self, attribute: Attribute) -> list[bytes]:
        """Return the values of every *attribute*, in order."""
        return [value for number, value in self.attributes if number == attribute]


def parsed(datagram: bytes) -> Packet:
    """Return the request in *datagram*.

    Raises MalformedPacket, or UnexpectedCode for a code that this server does not serve.
    """
    if len(datagram) < HEADER_OCTETS:
        raise MalformedPacket("shorter than a RADIUS header")
    code, identifier, length, authenticator = _HEADER.unpack_from(datagram)
    served = _SERVED.get(code)
    if served is None:
        raise UnexpectedCode(f"code {code} is not served on this port")
    if packet_length(datagram) > len(datagram):
        raise MalformedPacket("the datagram is shorter than its Length field")
    octets = datagram[:length]  # "octets outside the range of the Length field ... are padding"
    attributes = _attributes(octets)
    firsts = dict(reversed(attributes))
    if len(firsts) < len(attributes):
        _check_single(attributes)
    return Packet(served, identifier, authenticator, octets, attributes, firsts)


_SERVED = {int(code): code for code in (Code.ACCESS_REQUEST, Code.STATUS_SERVER)}


def packet_length(start: bytes) -> int:
    """Return how long a packet is that begins with *start*, its first LENGTH_END octets.

    Raises MalformedPacket where that can't be: the end of a packet in a stream is lost for good.
    """
    length = int.from_bytes(start[LENGTH_END - 2 : LENGTH_END], "big")
    if not HEADER_OCTETS <= length <= MAX_PACKET_OCTETS:
        raise MalformedPacket("the Length field is out of range")
    return length


def _attributes(octets: bytes) -> tuple[tuple[int, bytes], ...]:
    found: list[tuple[int, bytes]] = []
    position, end = HEADER_OCTETS, len(octets)
    while position < end:
        if len(found) == MAX_ATTRIBUTES:
            raise MalformedPacket(f"more than {MAX_ATTRIBUTES} attributes")
        value = position + 2
        if value > end:
            raise MalformedPacket("a lone octet follows the last attribute")
        number, length = octets[position], octets[position + 1]
        if number == 0:
            raise MalformedPacket("attribute type 0")
        position += length
        if length < 2 or position > end:  # noqa: PLR2004 - the attribute's own header
            raise MalformedPacket("an attribute's length is impossible")
        found.append((number, octets[value:position]))
    return tuple(found)


def _check_single(attributes: tuple[tuple[int, bytes], ...]) -> None:
    seen = set()
    for number, _ in attributes:
        if number in SINGLE_INSTANCE and number in seen:
            raise MalformedPacket(f"attribute {number} stands more than once")
        seen.add(number)

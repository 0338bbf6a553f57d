"""The packet format, octet by octet: what is refused, and that nothing of the rest is lost."""

import struct
from itertools import permutations

import pytest

from radius_mfa.errors import Discard, MalformedPacket, UnexpectedCode
from radius_mfa.protocol.wire import MAX_ATTRIBUTES, SINGLE_INSTANCE, Attribute, Code, parsed
from tests.support.radius import ACCESS_REQUEST, STATUS_SERVER, encode

AUTHENTICATOR = bytes(range(16))
HEADER = bytes.fromhex("01 07 0014") + AUTHENTICATOR
ALICE = (1, b"alice")


def packet(body: str | bytes, length: int | None = None) -> bytes:
    """Return an Access-Request with *body*, in hexadecimal or octets; *length* is its field."""
    octets = bytes.fromhex(body) if isinstance(body, str) else body
    length = 20 + len(octets) if length is None else length
    return struct.pack("!BBH", ACCESS_REQUEST, 7, length) + AUTHENTICATOR + octets


def filled(octets: int) -> bytes:
    """Return an Access-Request of exactly *octets*, in attributes of type 200."""
    rest = octets - 20
    sizes = [255] * (rest // 255) + [rest % 255] * bool(rest % 255)
    return packet(b"".join(bytes([200, size]) + bytes(size - 2) for size in sizes))


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        b"\x01",
        HEADER[:19],
        packet("", length=0),
        packet("", length=19),
        packet("", length=21),
        packet("01 07 616c696365", length=28),
        packet("01 07 616c696365", length=0xFFFF),
    ],
    ids=lambda datagram: datagram[:4].hex(),
)
def test_p01_a_length_that_the_datagram_does_not_hold_is_malformed(datagram: bytes) -> None:
    with pytest.raises(MalformedPacket):
        parsed(datagram)


def test_p02_octets_past_the_length_are_padding() -> None:
    """And an attribute that hides there is none."""
    plain = parsed(packet("01 07 616c696365"))
    for padding in (bytes(40), b"\xff" * 40, bytes.fromhex("01 05 626f62"), b"\x01"):
        assert parsed(packet("01 07 616c696365") + padding) == plain
    assert plain.octets == packet("01 07 616c696365")


def test_p03_4096_octets_are_the_most() -> None:
    """RFC 2865 section 3."""
    assert len(parsed(filled(4096)).octets) == 4096
    assert len(parsed(filled(4096) + bytes(100)).octets) == 4096
    for octets in (4097, 4098, 8192, 65_535):
        with pytest.raises(MalformedPacket):
            parsed(filled(octets))


@pytest.mark.parametrize("code", range(256))
def test_p04_only_what_this_port_serves_has_a_code(code: int) -> None:
    """Accounting, CoA, responses and the unknown get silence."""
    datagram = bytes([code]) + HEADER[1:]
    if code in (ACCESS_REQUEST, STATUS_SERVER):
        assert parsed(datagram).code == code
    else:
        with pytest.raises(UnexpectedCode):
            parsed(datagram)


@pytest.mark.parametrize(
    "body",
    [
        "01 00",
        "01 01",
        "01 00 616c696365",
        "01 01 616c696365",
        "c8 01 05 616263",  # read octet by octet, a User-Name
        "01 07 616c696365 01",
        "01 07 616c696365 00",
        "01 07 616c696365 02 00",
        "01 07 616c696365 02 01 21 04 7031",
        "01",
    ],
)
def test_p05_attribute_length_0_or_1_or_a_lone_octet_discards_the_whole_packet(body: str) -> None:
    with pytest.raises(MalformedPacket):
        parsed(packet(body))


@pytest.mark.parametrize("body", ["01 03", "01 08 616c696365", "01 07 616c696365 18 ff 00"])
def test_p06_an_attribute_that_runs_past_the_packet_discards_it(body: str) -> None:
    """And the padding behind it, however long, does not complete it."""
    for padding in (b"", bytes(255)):
        with pytest.raises(MalformedPacket):
            parsed(packet(body) + padding)


@pytest.mark.parametrize("body", ["00 02", "00 07 616c696365", "01 07 616c696365 00 03 ff"])
def test_p07_attribute_type_0_discards_the_packet(body: str) -> None:
    with pytest.raises(MalformedPacket):
        parsed(packet(body))


def test_p08_a_value_wrong_for_its_type_is_no_matter_of_the_format() -> None:
    """RFC 6929 section 2.8: NAS-IP-Address of three octets, NAS-Port of five, both kept opaque."""
    found = parsed(packet("01 07 616c696365 04 05 c0a801 05 07 0000000300"))
    assert found.attributes == (ALICE, (4, b"\xc0\xa8\x01"), (5, b"\0\0\0\3\0"))


@pytest.mark.parametrize("number", [*range(200, 256), 26])
def test_p09_unknown_attributes_and_vendors_are_no_reason_to_discard(number: int) -> None:
    """Types 200 to 255, with the extended ones 241 to 246, and vendor 99999."""
    value = struct.pack("!IBB", 99_999, 1, 3) + b"x"
    datagram = encode(ACCESS_REQUEST, 7, AUTHENTICATOR, [(number, value), ALICE, (number, b"y")])
    assert parsed(datagram).attributes == ((number, value), ALICE, (number, b"y"))


def test_p10_attributes_stand_in_any_order() -> None:
    """And those of one type need not stand together."""
    fields = [ALICE, (2, bytes(16)), (33, b"p1"), (26, b"\0\0\0\x09\x01\x03x"), (33, b"p2")]
    for order in permutations(fields):
        found = parsed(encode(ACCESS_REQUEST, 7, AUTHENTICATOR, order))
        assert found.attributes == order
        assert found.first(Attribute.USER_NAME) == b"alice"
        assert found.first(Attribute.USER_PASSWORD) == bytes(16)
        assert found.all(Attribute.PROXY_STATE) == [v for number, v in order if number == 33]


@pytest.mark.parametrize(
    "vsa",
    [
        "1a 02",
        "1a 03 00",
        "1a 05 000000",
        "1a 06 00000009",
        "1a 07 00000009 01",
        "1a 08 00000009 01 00",
        "1a 08 00000009 01 01",
        "1a 08 00000009 01 ff",
        "1a 0b 00000009 01 03 78 00 00",
        "1a 08 ffffffff 00 02",
    ],
)
def test_p12_odd_vendor_specific_attributes_are_kept_opaque(vsa: str) -> None:
    """RFC 2865 section 5.26: what a vendor puts into it is not ours to judge."""
    octets = bytes.fromhex(vsa)
    found = parsed(packet(octets + bytes.fromhex("01 07 616c696365")))
    assert found.attributes == ((26, octets[2:]), ALICE)


def test_p13_attributes_are_bounded_in_number() -> None:
    """A packet of 4096 octets can hold 2038 of two octets each."""
    assert len(parsed(packet("c8 02" * MAX_ATTRIBUTES)).attributes) == MAX_ATTRIBUTES == 200
    for number in (MAX_ATTRIBUTES + 1, 2038):
        with pytest.raises(MalformedPacket):
            parsed(packet("c8 02" * number))


@pytest.mark.parametrize(
    "attribute",
    [
        Attribute.USER_NAME,
        Attribute.USER_PASSWORD,
        Attribute.CHAP_PASSWORD,
        Attribute.STATE,
        Attribute.CALLING_STATION_ID,
        Attribute.NAS_IDENTIFIER,
        Attribute.ACCT_SESSION_ID,
        Attribute.MESSAGE_AUTHENTICATOR,
    ],
)
@pytest.mark.parametrize("between", ["", "05 06 00000003"])
def test_p14_a_second_instance_discards_the_packet(attribute: Attribute, between: str) -> None:
    """B02: two Message-Authenticators; two passwords or names would be read as the reader likes."""
    one = bytes([attribute, 18]) + bytes(16)
    other = bytes([attribute, 18]) + b"\x01" * 16
    assert parsed(packet(one)).attributes == ((attribute, bytes(16)),)
    for second in (one, other, bytes([attribute, 2])):
        with pytest.raises(MalformedPacket):
            parsed(packet(one + bytes.fromhex(between) + second))


@pytest.mark.parametrize("number", sorted(set(range(1, 256)) - SINGLE_INSTANCE))
def test_p14_every_other_attribute_may_stand_more_than_once(number: int) -> None:
    """B09: Proxy-State, Vendor-Specific and EAP-Message do, in every busy network."""
    fields = ((number, b"1"), (number, b""), (number, b"2"), (number, b"1"))
    assert parsed(encode(ACCESS_REQUEST, 7, AUTHENTICATOR, fields)).attributes == fields


def test_the_header_is_read_as_it_stands() -> None:
    for identifier in (0, 1, 255):
        datagram = bytes([ACCESS_REQUEST, identifier]) + HEADER[2:]
        found = parsed(datagram)
        assert (found.code, found.identifier) == (Code.ACCESS_REQUEST, identifier)
        assert (found.authenticator, found.octets) == (AUTHENTICATOR, datagram)
        assert found.attributes == ()
        assert found.first(Attribute.USER_NAME) is None
        assert found.all(Attribute.PROXY_STATE) == []


def test_codes_are_written_as_the_rfcs_write_them() -> None:
    assert [code.label for code in Code] == [
        "Access-Request",
        "Access-Accept",
        "Access-Reject",
        "Access-Challenge",
        "Status-Server",
    ]


@pytest.mark.parametrize(
    "datagram",
    [b"hunter2", packet(b"\x01\x00hunter2"), b"\x07" + packet(b"\x01\x09hunter2")[1:]],
)
def test_a_discard_does_not_quote_the_packet(datagram: bytes) -> None:
    """L02, rule 8: what its text says is safe to log."""
    with pytest.raises(Discard) as caught:
        parsed(datagram)
    assert "hunter2" not in str(caught.value)


def test_a_packet_does_not_show_its_octets() -> None:
    """L01: the log may hold a packet by accident, but no raw one."""
    shown = repr(parsed(packet(b"\x01\x09hunter2")))
    assert "hunter2" not in shown
    assert str(AUTHENTICATOR) not in shown

"""Reply attributes as octets: what no Accept may hold, what does not fit, and every type exactly.

How radclient reads them is in tests/functional/test_reply_attributes.py.
"""

import hashlib

import pytest

from radius_mfa.policy.attributes import Encoded
from radius_mfa.policy.decision import Accept, Reject, RejectReason
from radius_mfa.protocol import reply_attributes
from radius_mfa.protocol.dictionary import dictionary
from radius_mfa.protocol.reply import decision_reply, signed_reply
from radius_mfa.protocol.reply_attributes import AttributeEncoder, UnfitAttribute, encoder
from radius_mfa.protocol.wire import Code
from tests.support.radius import verified
from tests.unit.protocol.test_reply import SECRET, USER, request

# Refusals


@pytest.mark.parametrize(
    ("name", "why", "cure"),
    [
        ("Filter-ID", "no attribute is called Filter-ID", "did you mean Filter-Id?"),
        ("Fortinet-Groupname", "no attribute is called", "did you mean Fortinet-Group-Name?"),
        ("CLASS", "no attribute is called CLASS", "did you mean Class?"),
        ("xyzzy", "no attribute is called xyzzy", "dictionaries/ holds those that are known"),
        ("User-Password", "does not stand in an Access-Accept", "leave it out"),
        ("State", "does not stand in an Access-Accept", "leave it out"),
        ("Proxy-State", "does not stand in an Access-Accept", "leave it out"),
        ("Message-Authenticator", "does not stand in an Access-Accept", "leave it out"),
        ("EAP-Message", "does not stand in an Access-Accept", "leave it out"),
        ("Vendor-Specific", "does not stand in an Access-Accept", "leave it out"),
        ("Acct-Session-Id", "does not stand in an Access-Accept", "leave it out"),
        ("MS-CHAP-MPPE-Keys", "does not stand in an Access-Accept", "leave it out"),
        ("Filter-Id:1", "Filter-Id takes no tag", "write Filter-Id"),
        ("Tunnel-Type:32", "'32' is not a tag", "write Tunnel-Type:1, up to Tunnel-Type:31"),
        ("Tunnel-Type:", "'' is not a tag", "write Tunnel-Type:1, up to Tunnel-Type:31"),
        ("Tunnel-Type:-1", "'-1' is not a tag", "write Tunnel-Type:1, up to Tunnel-Type:31"),
    ],
)
def test_an_attribute_that_can_t_be_sent_is_refused_with_its_cure(
    name: str, why: str, cure: str
) -> None:
    with pytest.raises(UnfitAttribute) as refused:
        encoder(name)
    assert why in str(refused.value)
    assert refused.value.cure == cure


def test_a_type_that_nobody_can_write_here_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dictionary()["Class"], "type", "tlv")
    with pytest.raises(UnfitAttribute, match="values of Class can't be written"):
        encoder("Class")


def test_only_what_the_tables_of_the_rfcs_allow_is_written_down() -> None:
    """Each number that is refused, or may stand once, is one of an attribute."""
    numbers = {one.code for one in dictionary().attributes.values() if not one.vendor}
    refused, once = reply_attributes._NOT_IN_AN_ACCEPT, reply_attributes._ONCE
    assert refused - numbers == once - numbers == refused & once == set()
    single = {name: encoder(name).single for name in ("Session-Timeout", "Class", "Cisco-AVPair")}
    assert single == {"Session-Timeout": True, "Class": False, "Cisco-AVPair": False}


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("Filter-Id", "", "is empty"),
        ("Reply-Message", "", "is empty"),
        ("Class", "", "is empty"),
        ("Tunnel-Password:1", "", "is empty"),
        ("Tunnel-Private-Group-Id:1", "", "is empty"),
        ("Filter-Id", "\udcff", "is not UTF-8"),
        ("Filter-Id", "x" * 254, "would make an attribute of 256 octets, of which 255 fit"),
        ("Class", "x" * 254, "of which 255 fit"),
        ("Fortinet-Group-Name", "x" * 248, "of which 255 fit"),
        ("Tunnel-Private-Group-Id:1", "x" * 253, "of which 255 fit"),
        ("Tunnel-Password:1", "x" * 240, "of which 255 fit"),
        ("Tunnel-Password:1", "x" * 4096, "of which 255 fit"),
        ("MS-MPPE-Send-Key", "x" * 240, "of which 255 fit"),
        ("Tunnel-Private-Group-Id", "\x1fx", "begins like a tag"),
        ("Session-Timeout", "eight hours", "neither a whole number from 0 to 4294967295"),
        ("Session-Timeout", "-1", "neither a whole number"),
        ("Session-Timeout", "4294967296", "neither a whole number"),
        ("Session-Timeout", "\u0663", "neither a whole number"),
        ("Session-Timeout", "9" * 5000, "neither a whole number"),
        ("Service-Type", "Framed-user", "nor a name such as Framed-User"),
        ("Tunnel-Preference:1", "16777216", "larger than 16777215"),
        ("Framed-IP-Address", "192.0.2.256", "is not an IPv4 address"),
        ("Framed-IP-Address", "4294967296", "is not an IPv4 address"),
        ("Framed-IPv6-Address", "fe80::1%eth0", "is not an IPv6 address"),
        ("Framed-IPv6-Address", "192.0.2.1", "is not an IPv6 address"),
        ("Framed-IPv6-Prefix", "2001:db8::1/64", "is not an IPv6 prefix"),
        ("Framed-Interface-Id", "1:2:3", "is not an interface identifier"),
        ("Framed-Interface-Id", "1:2:3:10000", "is not an interface identifier"),
        ("Framed-Interface-Id", "1:2:3:x", "is not an interface identifier"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_and_not_quoted(
    name: str, value: str, why: str
) -> None:
    with pytest.raises(ValueError, match=r"^(is|would|begins)") as refused:
        encoder(name)(value)
    assert why in str(refused.value)
    assert not value or value not in str(refused.value) or len(value) == 1


# Octets


def vendor(number: int, kind: int, value: bytes) -> bytes:
    inner = bytes([kind, len(value) + 2]) + value
    return bytes([26, len(inner) + 6]) + number.to_bytes(4, "big") + inner


@pytest.mark.parametrize(
    ("name", "value", "octets"),
    [
        ("Filter-Id", "0xAB", b"\x0b\x060xAB"),
        ("Class", "123", b"\x19\x05123"),
        ("Class", "a\udcff\x00", b"\x19\x05a\xff\x00"),
        ("Session-Timeout", "28800", bytes.fromhex("1b0600007080")),
        ("Tunnel-Type", "VLAN", bytes.fromhex("40060000000d")),
        ("Tunnel-Type:1", "13", bytes.fromhex("40060100000d")),
        ("Tunnel-Private-Group-Id", "42", b"\x51\x0442"),
        ("Tunnel-Private-Group-Id:0", "\x01", b"\x51\x04\x00\x01"),
        ("Framed-IP-Address", "192.0.2.9", bytes.fromhex("0806c0000209")),
        ("Framed-IP-Address", "-1073741303", bytes.fromhex("0806c0000209")),
        ("Framed-IP-Address", "3221225993", bytes.fromhex("0806c0000209")),
        ("Framed-IPv6-Prefix", "2001:db8:1:200::/56", bytes.fromhex("610b003820010db8000102")),
        ("Framed-IPv6-Prefix", "::/0", bytes.fromhex("61040000")),
        ("Fortinet-Group-Name", "Süd", vendor(12356, 1, "Süd".encode())),
        ("PaloAlto-User-Group", "vpn", vendor(25461, 5, b"vpn")),
        ("Cisco-AVPair", "a=b", vendor(9, 1, b"a=b")),
        ("Reply-Message", "ü" * 127, b"\x12\xfe" + "ü".encode() * 126 + b"\x12\x04\xc3\xbc"),
        ("Framed-Interface-Id", "0:0:0:1", bytes.fromhex("600a0000000000000001")),
    ],
)
def test_a_value_is_exactly_these_octets(name: str, value: str, octets: bytes) -> None:
    """A17."""
    assert encoder(name)(value) == Encoded(octets)


@pytest.mark.parametrize(
    ("kind", "value", "octets"),
    [
        ("byte", "255", b"\xff"),
        ("short", "258", b"\x01\x02"),
        ("signed", "-1", b"\xff\xff\xff\xff"),
        ("integer64", str(2**64 - 1), b"\xff" * 8),
        ("date", "0", bytes(4)),
        ("date", "1970-01-01T01:00:01+01:00", b"\0\0\0\x01"),
        ("date", "1970-01-01T00:00:02", b"\0\0\0\x02"),
        ("ether", "02-00-5E-10-00-01", bytes.fromhex("02005e100001")),
    ],
)
def test_types_that_few_attributes_have(kind: str, value: str, octets: bytes) -> None:
    made = AttributeEncoder("Example", 200, kind)
    assert made(value).octets == bytes([200, len(octets) + 2]) + octets


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("byte", "256"),
        ("signed", str(2**31)),
        ("integer64", str(2**64)),
        ("date", "tomorrow"),
        ("date", "2107-01-01"),
        ("date", "1969-12-31"),
        ("ether", "02:00"),
        ("ether", "xx:00:5e:10:00:01"),
    ],
)
def test_types_that_few_attributes_have_refuse_what_does_not_fit(kind: str, value: str) -> None:
    with pytest.raises(ValueError, match=r"^is n"):
        AttributeEncoder("Example", 200, kind)(value)


def revealed(hidden: bytes, authenticator: bytes) -> bytes:
    """Undo RFC 2868 section 3.5 on salt and cipher text."""
    plain, previous = b"", authenticator + hidden[:2]
    for at in range(2, len(hidden), 16):
        key = hashlib.md5(SECRET + previous).digest()  # noqa: S324 - the RFC's
        previous = hidden[at : at + 16]
        plain += bytes(a ^ b for a, b in zip(key, previous, strict=True))
    assert not any(plain[1 + plain[0] :])
    return plain[1 : 1 + plain[0]]


@pytest.mark.parametrize("length", [1, 14, 15, 16, 31, 239])
def test_a_hidden_value_is_hidden_anew_in_every_reply(length: int) -> None:
    """RFC 2868 section 3.5: salts have their first bit set, and differ in one packet."""
    asked, values = request(USER), ["x" * length, "y" * length, "y" * length]
    attributes = [encoder("Tunnel-Password:3")(value) for value in values]
    octets = [signed_reply(asked, SECRET, Code.ACCESS_ACCEPT, encoded=attributes) for _ in range(2)]
    seen = set()
    for one in octets:
        found = verified(one, asked.octets, SECRET).all(69)
        assert [value[0] for value in found] == [3, 3, 3]
        assert [revealed(value[1:], asked.authenticator).decode() for value in found] == values
        salts = {value[1:3] for value in found}
        assert len(salts) == 3
        assert all(salt[0] & 0x80 for salt in salts)
        seen.add(one)
    assert len(seen) == 2


def test_granted_attributes_stand_in_an_accept_and_never_in_a_reject() -> None:
    """A08, rule 7: group and address of a user are in no refusal."""
    asked, granted = request(USER), [encoder("Class")("staff")]
    accepted = decision_reply(asked, SECRET, Accept("totp"), "Access denied", granted=granted)
    assert verified(accepted, asked.octets, SECRET).all(25) == [b"staff"]
    reject = Reject(RejectReason.WRONG_CODE)
    refused = decision_reply(asked, SECRET, reject, "Access denied", granted=granted)
    assert verified(refused, asked.octets, SECRET).all(25) == []
    assert refused == decision_reply(asked, SECRET, reject, "Access denied")

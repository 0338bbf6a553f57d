"""Message-Authenticator: what it proves, and what each NAS's policy makes of that."""

import hmac
import ipaddress
from itertools import permutations, product
from typing import Any

import pytest

from radius_mfa.errors import (
    BadMessageAuthenticator,
    Discard,
    MalformedPacket,
    MissingMessageAuthenticator,
    UnsignedProxyState,
)
from radius_mfa.protocol.message_authenticator import Verdict, check, verdict
from radius_mfa.protocol.nas import Nas
from radius_mfa.protocol.wire import parsed
from tests.support.radius import (
    ACCESS_REQUEST,
    CHAP_PASSWORD,
    EAP_MESSAGE,
    MESSAGE_AUTHENTICATOR,
    PROXY_STATE,
    STATUS_SERVER,
    USER_NAME,
    USER_PASSWORD,
    encode,
    packet_of,
    signed,
)

SECRET = b"a shared secret of the tests"
AUTHENTICATOR = bytes(range(16))
USER, PASSWORD = (USER_NAME, b"alice"), (USER_PASSWORD, bytes(16))
PROXY, EAP = (PROXY_STATE, b"p1"), (EAP_MESSAGE, b"\x02\x01\x00\x0a\x01alice")
BOTH = (False, True)
POLICIES = list(product(BOTH, BOTH))
"""Every (require_message_authenticator, limit_proxy_state)."""

LOGIN, PROXIED, EAP_LOGIN, PROXIED_EAP_LOGIN, STATUS, PROXIED_STATUS = SHAPES = [
    (ACCESS_REQUEST, (USER, PASSWORD)),
    (ACCESS_REQUEST, (USER, PASSWORD, PROXY)),
    (ACCESS_REQUEST, (USER, EAP)),
    (ACCESS_REQUEST, (USER, PROXY, EAP)),
    (STATUS_SERVER, ()),
    (STATUS_SERVER, (PROXY,)),
]

CHAP_LOGIN = (ACCESS_REQUEST, (USER, (CHAP_PASSWORD, bytes(17))))
MS_CHAP_LOGIN = (ACCESS_REQUEST, (USER, (26, b"\0\0\x01\x37\x19\x34" + bytes(50))))
WITHOUT_CREDENTIALS = [
    (ACCESS_REQUEST, ()),
    (ACCESS_REQUEST, (USER,)),
    (ACCESS_REQUEST, (USER, (6, b"\0\0\0\x0a"))),
    (ACCESS_REQUEST, (USER, (24, b"a State"))),
    (ACCESS_REQUEST, (USER, (26, b"\0\0\x01\x37\x0b\x12" + bytes(16)))),  # MS-CHAP-Challenge
]


def nas(*, require: bool = True, limit: bool = False) -> Nas:
    return Nas(
        "asa",
        (ipaddress.ip_network("192.0.2.1"),),
        SECRET,
        require_message_authenticator=require,
        limit_proxy_state=limit,
    )


def request(shape: tuple[int, tuple[tuple[int, bytes], ...]], how: str) -> bytes:
    code, fields = shape
    return packet_of(code, 7, AUTHENTICATOR, fields, SECRET, how)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("require", "limit"), POLICIES)
def test_a_wrong_one_is_discarded_by_every_policy(
    shape: tuple[int, tuple[tuple[int, bytes], ...]], *, require: bool, limit: bool
) -> None:
    """B01: a NAS that need not send one may not send a wrong one."""
    with pytest.raises(BadMessageAuthenticator):
        check(parsed(request(shape, "wrong")), nas(require=require, limit=limit))


@pytest.mark.parametrize(
    ("shape", "require", "limit", "discard"),
    [
        (LOGIN, True, False, MissingMessageAuthenticator),  # B03
        (LOGIN, True, True, MissingMessageAuthenticator),
        (PROXIED, True, False, MissingMessageAuthenticator),  # B11
        (PROXIED, True, True, MissingMessageAuthenticator),
        (PROXIED, False, True, UnsignedProxyState),  # B04
        *(
            (shape, require, limit, MissingMessageAuthenticator)  # B07, S02, P16
            for shape in (*SHAPES[2:], *WITHOUT_CREDENTIALS)
            for require, limit in POLICIES
        ),
    ],
)
def test_a_missing_one_is_discarded_where_it_is_asked_for(
    shape: tuple[int, tuple[tuple[int, bytes], ...]],
    discard: type[Discard],
    *,
    require: bool,
    limit: bool,
) -> None:
    """B03, B04, B07, S02, P16: by the NAS's policy, or whatever it says.

    The latter for EAP, for Status-Server and for a request without any credentials.
    """
    with pytest.raises(discard):
        check(parsed(request(shape, "none")), nas(require=require, limit=limit))


@pytest.mark.parametrize(
    ("shape", "limit"),
    [(LOGIN, False), (LOGIN, True), (PROXIED, False), (CHAP_LOGIN, True), (MS_CHAP_LOGIN, True)],
    ids=str,
)
def test_a_missing_one_passes_where_the_operator_says_so(
    shape: tuple[int, tuple[tuple[int, bytes], ...]], *, limit: bool
) -> None:
    """B03, B04: with `require_message_authenticator = false` for a NAS that can't send it."""
    found = check(parsed(request(shape, "none")), nas(require=False, limit=limit))
    assert found is Verdict.ABSENT


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("where", ["first", "last"])
@pytest.mark.parametrize(("require", "limit"), POLICIES)
def test_a_right_one_passes_every_policy(
    shape: tuple[int, tuple[tuple[int, bytes], ...]], where: str, *, require: bool, limit: bool
) -> None:
    """B04, B06: Proxy-State is no fault of a signed request."""
    found = check(parsed(request(shape, where)), nas(require=require, limit=limit))
    assert found is Verdict.VALID


def test_a_nas_must_send_it_unless_told_otherwise() -> None:
    """B13: the safe default."""
    plain = Nas("asa", (), SECRET)
    assert plain.require_message_authenticator
    with pytest.raises(MissingMessageAuthenticator):
        check(parsed(request(LOGIN, "none")), plain)


@pytest.mark.parametrize("octets", [0, 1, 4, 15, 17, 32, 253])
@pytest.mark.parametrize("require", BOTH)
def test_one_of_another_length_is_malformed(octets: int, *, require: bool) -> None:
    """B02: also where none is required; a part of the right value is not enough."""
    right = parsed(request(LOGIN, "first")).attributes[0][1]
    value = (right * 16)[:octets]
    for fields in ([(MESSAGE_AUTHENTICATOR, value), USER], [USER, (MESSAGE_AUTHENTICATOR, value)]):
        packet = parsed(encode(ACCESS_REQUEST, 7, AUTHENTICATOR, fields))
        with pytest.raises(MalformedPacket):
            check(packet, nas(require=require))


def test_a_second_one_is_malformed() -> None:
    """B02: also where the first verifies over both, as pyrad would have it."""
    twice = [(MESSAGE_AUTHENTICATOR, bytes(16)), USER, (MESSAGE_AUTHENTICATOR, bytes(16))]
    with pytest.raises(MalformedPacket):
        parsed(signed(encode(ACCESS_REQUEST, 7, AUTHENTICATOR, twice), SECRET))


@pytest.mark.parametrize(
    "secret", [b"", SECRET[:-1], SECRET + b"x", SECRET.upper(), bytes(16), AUTHENTICATOR], ids=repr
)
def test_another_secret_proves_nothing(secret: bytes) -> None:
    """B01: nor an empty one, nor a longer one."""
    packet = parsed(packet_of(ACCESS_REQUEST, 7, AUTHENTICATOR, [USER], secret))
    assert verdict(packet, SECRET) is Verdict.INVALID


@pytest.mark.parametrize("value", [bytes(16), b"\xff" * 16, AUTHENTICATOR], ids=bytes.hex)
def test_a_value_that_anyone_can_write_proves_nothing(value: bytes) -> None:
    """B01: zeros are what the sum is made over."""
    fields = [(MESSAGE_AUTHENTICATOR, value), USER]
    packet = parsed(encode(ACCESS_REQUEST, 7, AUTHENTICATOR, fields))
    assert verdict(packet, SECRET) is Verdict.INVALID


@pytest.mark.parametrize("where", ["first", "last"])
def test_every_single_bit_is_signed(where: str) -> None:
    """B01: of the header, of the attributes, and of the value itself."""
    good = request(PROXIED, where)
    assert verdict(parsed(good), SECRET) is Verdict.VALID
    for bit in range(8 * len(good)):
        broken = bytearray(good)
        broken[bit // 8] ^= 1 << bit % 8
        try:
            found = verdict(parsed(bytes(broken)), SECRET)
        except Discard:
            continue
        assert found is not Verdict.VALID, f"bit {bit}"


def test_its_place_among_the_attributes_is_no_matter() -> None:
    """B06, P10: first, last or between."""
    unsigned = [USER, PROXY, (PROXY_STATE, b"p2"), (MESSAGE_AUTHENTICATOR, bytes(16))]
    for order in permutations(unsigned):
        packet = parsed(signed(encode(ACCESS_REQUEST, 7, AUTHENTICATOR, order), SECRET))
        assert check(packet, nas()) is Verdict.VALID


def test_an_octet_80_inside_a_value_is_not_taken_for_it() -> None:
    decoy = (PROXY_STATE, bytes([MESSAGE_AUTHENTICATOR, 18]) + bytes(16))
    packet = packet_of(ACCESS_REQUEST, 7, AUTHENTICATOR, [decoy, USER], SECRET, "last")
    assert verdict(parsed(packet), SECRET) is Verdict.VALID
    unsigned = parsed(packet_of(ACCESS_REQUEST, 7, AUTHENTICATOR, [decoy, USER], SECRET, "none"))
    assert verdict(unsigned, SECRET) is Verdict.ABSENT


@pytest.mark.parametrize("padding", [bytes(40), b"\xff" * 40], ids=["zeros", "ones"])
def test_padding_is_not_signed(padding: bytes) -> None:
    """P02: octets past the Length field change nothing."""
    assert check(parsed(request(LOGIN, "first") + padding), nas()) is Verdict.VALID


def test_it_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """B14."""
    compared, compare = [], hmac.compare_digest

    def compare_digest(one: Any, other: Any) -> bool:
        compared.append((one, other))
        return compare(one, other)

    monkeypatch.setattr(hmac, "compare_digest", compare_digest)
    packet = parsed(request(LOGIN, "first"))
    assert verdict(packet, SECRET) is Verdict.VALID
    assert compared == [(packet.attributes[0][1],) * 2]


@pytest.mark.parametrize("how", ["wrong", "none"])
def test_a_discard_does_not_quote_the_packet(how: str) -> None:
    """L02."""
    with pytest.raises(Discard) as caught:
        check(parsed(request(PROXIED, how)), nas())
    assert "alice" not in str(caught.value)
    assert "p1" not in str(caught.value)

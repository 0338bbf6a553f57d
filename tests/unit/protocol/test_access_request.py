"""What a NAS says of a login, decoded once and strictly."""

import ipaddress
from itertools import permutations

import pytest

from radius_mfa.policy.credentials import SplitPolicy
from radius_mfa.protocol.access_request import (
    AccessRequest,
    Method,
    access_request,
    revealed_password,
)
from radius_mfa.protocol.nas import Nas
from radius_mfa.protocol.wire import parsed
from tests.support.radius import (
    ACCESS_REQUEST,
    ACCT_SESSION_ID,
    CALLING_STATION_ID,
    CHAP_PASSWORD,
    EAP_MESSAGE,
    NAS_IDENTIFIER,
    USER_NAME,
    USER_PASSWORD,
    encode,
    hide,
)

SECRET = b"a shared secret of the tests"
AUTHENTICATOR = bytes(range(16))
TYPED = b"correct horse012345"
USER, PASSWORD = (USER_NAME, b"alice"), (USER_PASSWORD, hide(TYPED, SECRET, AUTHENTICATOR))
CHAP, EAP = (CHAP_PASSWORD, bytes(17)), (EAP_MESSAGE, b"\x02\x01\x00\x0a\x01alice")


def nas(*charsets: str) -> Nas:
    split = SplitPolicy(password_charsets=charsets or ("utf-8",))
    return Nas("asa", (ipaddress.ip_network("192.0.2.1"),), SECRET, split=split)


def read(*fields: tuple[int, bytes], charsets: tuple[str, ...] = ()) -> AccessRequest:
    return access_request(parsed(encode(ACCESS_REQUEST, 7, AUTHENTICATOR, fields)), nas(*charsets))


@pytest.mark.parametrize("length", [0, 1, 15, 17, 31, 127, 129, 144, 240, 253])
def test_a_user_password_of_an_impossible_length_is_none(length: int) -> None:
    """A02: no authentication; 144 and 240 octets are what pyrad takes."""
    assert revealed_password(bytes(length), AUTHENTICATOR, SECRET) is None
    assert read(USER, (USER_PASSWORD, bytes(length))).user_password is None


@pytest.mark.parametrize("length", range(129))
def test_a_password_of_every_length_comes_out_as_typed(length: int) -> None:
    """A04, A02: 0 to 128 octets, also at the edges of the blocks."""
    password = bytes(1 + at % 255 for at in range(length))
    hidden = hide(password, SECRET, AUTHENTICATOR)
    assert len(hidden) % 16 == 0
    assert read(USER, (USER_PASSWORD, hidden)).user_password == password


@pytest.mark.parametrize(
    ("padded", "password"),
    [
        (b"", b""),
        (b"\0" * 16, b""),
        (b"\0" * 128, b""),
        (b"horse\0\0\0", b"horse"),
        (b"hor\0se", b"hor\0se"),
        (b"\0horse", b"\0horse"),
        (b"horse" + b"\0" * 30 + b"x", b"horse" + b"\0" * 30 + b"x"),
        (b"horse \0", b"horse "),
        (b"horse\n", b"horse\n"),
        (b"x" * 16 + b"\0" * 16, b"x" * 16),
    ],
)
def test_only_the_padding_at_the_end_goes(padded: bytes, password: bytes) -> None:
    """A04, P11: inner NULs and spaces stay; A05: nothing but padding is an empty password."""
    request = read(USER, (USER_PASSWORD, hide(padded, SECRET, AUTHENTICATOR)))
    assert request.user_password == password


@pytest.mark.parametrize("password", [b"lat\xe9n", b"ab\xff\xfe012345", bytes(range(1, 129))])
def test_a_password_is_octets(password: bytes) -> None:
    """A03: none is dropped, whatever text they are not."""
    request = read(USER, (USER_PASSWORD, hide(password, SECRET, AUTHENTICATOR)))
    assert request.user_password == password


@pytest.mark.parametrize(
    ("secret", "authenticator"),
    [
        (b"", AUTHENTICATOR),
        (SECRET[:-1], AUTHENTICATOR),
        (SECRET + b"x", AUTHENTICATOR),
        (SECRET, bytes(16)),
        (SECRET, AUTHENTICATOR[::-1]),
    ],
)
def test_another_secret_or_authenticator_reveals_nothing(
    secret: bytes, authenticator: bytes
) -> None:
    hidden = hide(TYPED, secret, authenticator)
    revealed = revealed_password(hidden, AUTHENTICATOR, SECRET)
    assert revealed is not None
    assert TYPED not in revealed


@pytest.mark.parametrize(
    ("octets", "charsets", "name"),
    [
        (b"J\xf6rg", (), None),
        (b"\xff", ("utf-8", "ascii"), None),
        (b"bob\0x", (), "bob\0x"),
        (b"alice", (), "alice"),
        (b" alice ", (), " alice "),
        ("Jörg".encode(), (), "Jörg"),
        (b"J\xf6rg", ("utf-8", "latin-1"), "Jörg"),
        (b"J\xf6rg", ("latin-1",), "Jörg"),
    ],
)
def test_a_user_name_is_text_of_the_charsets_of_the_nas(
    octets: bytes, charsets: tuple[str, ...], name: str | None
) -> None:
    r"""A03, P11: never mended and never cut; `bob\0x` is not bob."""
    request = read((USER_NAME, octets), charsets=charsets)
    assert request.user_name == name
    assert request.user_name_octets == octets


@pytest.mark.parametrize(
    ("fields", "method"),
    [
        ([], Method.NONE),
        ([PASSWORD], Method.PAP),
        ([CHAP], Method.CHAP),
        ([EAP], Method.EAP),
        ([PASSWORD, CHAP], Method.CHAP),
        ([PASSWORD, EAP], Method.EAP),
        ([CHAP, EAP], Method.EAP),
        ([PASSWORD, CHAP, EAP], Method.EAP),
    ],
)
def test_only_user_password_alone_is_pap(fields: list[tuple[int, bytes]], method: Method) -> None:
    """P15, A11: beside CHAP-Password or EAP-Message it is never taken for the login."""
    for order in permutations([USER, *fields]):
        assert read(*order).method is method


@pytest.mark.parametrize(
    ("fields", "method"),
    [
        ([(26, b"\0\0\x01\x37\x01\x34" + bytes(50))], Method.MS_CHAP),
        ([(26, b"\0\0\x01\x37\x19\x34" + bytes(50))], Method.MS_CHAP),
        ([(26, b"\0\0\x01\x37\x0b\x12" + bytes(16))], Method.NONE),
        ([(26, b"\0\0\0\x09\x19\x34" + bytes(50))], Method.NONE),
        ([(26, b"\0\0\x01\x37")], Method.NONE),
    ],
    ids=["MS-CHAP", "MS-CHAPv2", "the challenge alone", "another vendor", "cut short"],
)
def test_a_response_of_ms_chap_is_told_from_nothing(
    fields: list[tuple[int, bytes]], method: Method
) -> None:
    """P16: the operator reads what the NAS sends, and that it is to send PAP."""
    assert read(USER, *fields).method is method
    assert read(USER, PASSWORD, *fields).method is Method.PAP


@pytest.mark.parametrize(
    ("service", "method"),
    [
        (10, Method.CALL_CHECK),
        (17, Method.AUTHORIZE_ONLY),
        *((other, Method.PAP) for other in (0, 1, 2, 5, 8, 9, 11, 16, 18, 2**31)),
    ],
)
@pytest.mark.parametrize("state", [[], [(24, b"a State of nobody")]])
def test_a_service_that_is_no_login_is_none_whatever_stands_beside_it(
    service: int, method: Method, state: list[tuple[int, bytes]]
) -> None:
    """A12."""
    fields = [USER, PASSWORD, (6, service.to_bytes(4, "big")), *state]
    for order in permutations(fields):
        assert read(*order).method is method


def test_what_is_absent_is_empty() -> None:
    """P16: for the login to refuse; nothing is made up."""
    assert read() == AccessRequest(
        user_name="", user_name_octets=b"", user_password=None, method=Method.NONE
    )


def test_the_whole_request_in_any_order() -> None:
    """P10; and what is unknown or wrong for its type beside it is no matter (P08, P09)."""
    odd = (4, b"\xc0\xa8\x01")
    fields = [
        USER,
        PASSWORD,
        (CALLING_STATION_ID, b"10.99.0.2[4500]"),
        (NAS_IDENTIFIER, b"gw-1"),
        (ACCT_SESSION_ID, b"\x00\xff7"),
        odd,
    ]
    for order in permutations(fields):
        assert read(*order) == AccessRequest(
            user_name="alice",
            user_name_octets=b"alice",
            user_password=TYPED,
            method=Method.PAP,
            calling_station_id="10.99.0.2[4500]",
            nas_identifier="gw-1",
            acct_session_id=b"\x00\xff7",
        )


def test_a_station_that_is_no_text_stays_legible() -> None:
    """P08: it names a source all the same, and tells two of them apart."""
    request = read((CALLING_STATION_ID, b"\xffhost"), (NAS_IDENTIFIER, b"gw\xfe"))
    assert request.calling_station_id == r"\xffhost"
    assert request.nas_identifier == r"gw\xfe"


def test_a_request_does_not_show_its_password() -> None:
    """Rule 8, L01."""
    request = read(USER, PASSWORD)
    assert request.user_password == TYPED
    assert "horse" not in repr(request)
    assert "012345" not in repr(request)

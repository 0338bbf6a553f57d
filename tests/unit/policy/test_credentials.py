"""Where the password ends and the code begins: every reading that there is, and no other."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radius_mfa.policy.credentials import (
    Candidate,
    CodePosition,
    SplitPolicy,
    candidates,
    decoded,
    unpacked,
)

SIX, EIGHT = "012345", "98012345"
ARABIC_INDIC, FULLWIDTH, MATHEMATICAL_BOLD = "\u0660", "\uff10", "\U0001d7ce"
END, START = CodePosition.END, CodePosition.START


def digits_of(zero: str, digits: str = SIX) -> str:
    """Return *digits* in the script whose zero is *zero*."""
    return "".join(chr(ord(zero) + int(digit)) for digit in digits)


PASSWORDS = {
    "plain": "correct horse",
    "comma": "one,two,",
    "semicolon": "one;two;",
    "digits at the end": "summer654321",
    "digits at the start": "654321summer",
    "digits alone": "654321",
    "umlauts": "Größenwahn",
    "another script": "пароль",
    "digits of another script": "pass" + digits_of(ARABIC_INDIC),
    "backslash": r"CORP\alice\n",
    "quotes": '"it\'s"',
    "spaces around": " in between ",
    "NUL inside": "nul\0inside",
    "as long as fits beside a code": "x" * (128 - 8),
    "none": "",
}


def readings(
    typed: str | bytes,
    digits: frozenset[int] = frozenset({6}),
    policy: SplitPolicy = SplitPolicy(),
) -> list[tuple[bytes, str]]:
    octets = typed.encode() if isinstance(typed, str) else typed
    return [(found.password, found.code) for found in candidates(octets, digits, policy)]


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "12345",
        "correct horse",
        "horse12345",
        "horse12345x",
        "horse12345 ",
        "horse012345\n",
        "horse012345\0",
        "horse12 345",
        "horse12_345",
        "horse+12345",
        "horse-12345",
        "horse0x1234",
        "horse1234.5",
        "horse01234" + digits_of(ARABIC_INDIC, "5"),
        "horse" + digits_of(ARABIC_INDIC),
        "horse" + digits_of(FULLWIDTH),
        "horse" + digits_of(MATHEMATICAL_BOLD),
        "horse⁰¹²³⁴⁵",
        "012345horse",
    ],
)
def test_what_does_not_end_in_six_ascii_digits_holds_no_code(typed: str) -> None:
    """A06, O09: shorter input, signs, and digits of other scripts are no code."""
    assert readings(typed) == []


@pytest.mark.parametrize("password", PASSWORDS.values(), ids=PASSWORDS)
@pytest.mark.parametrize("code", [SIX, EIGHT])
@pytest.mark.parametrize(
    ("policy", "typed"),
    [
        (SplitPolicy(), "{password}{code}"),
        (SplitPolicy(START), "{code}{password}"),
        (SplitPolicy(separator=","), "{password},{code}"),
        (SplitPolicy(START, ";"), "{code};{password}"),
        (SplitPolicy(separator=" - "), "{password} - {code}"),
        (SplitPolicy(separator="0"), "{password}0{code}"),
        (SplitPolicy(START, "0"), "{code}0{password}"),
    ],
)
def test_whatever_the_password_the_code_is_cut_off_exactly(
    policy: SplitPolicy, typed: str, password: str, code: str
) -> None:
    """A05, A06: the password comes out octet for octet; empty stays empty, for login to refuse."""
    field = typed.format(password=password, code=code)
    assert readings(field, frozenset({len(code)}), policy) == [(password.encode(), code)]


@pytest.mark.parametrize(
    ("policy", "typed"),
    [
        (SplitPolicy(START), "horse012345"),
        (SplitPolicy(START), "01234"),
        (SplitPolicy(START), digits_of(ARABIC_INDIC) + "horse"),
        (SplitPolicy(separator=","), "horse012345"),
        (SplitPolicy(separator=","), "horse;012345"),
        (SplitPolicy(separator=","), "012345"),
        (SplitPolicy(separator=","), "horse,012345,"),
        (SplitPolicy(separator=",,"), "horse,012345"),
        (SplitPolicy(separator=","), "012345,horse"),
        (SplitPolicy(separator=","), ",horse012345"),
        (SplitPolicy(START, ","), "012345horse"),
        (SplitPolicy(START, ","), "012345"),
        (SplitPolicy(START, ","), ",012345horse"),
        (SplitPolicy(START, ","), "horse,012345"),
        (SplitPolicy(START, ","), "012345horse,"),
        (SplitPolicy(START, ",,"), "012345,horse"),
    ],
)
def test_a_code_on_the_wrong_side_or_without_its_separator_is_no_code(
    policy: SplitPolicy, typed: str
) -> None:
    """A06: the setting of the NAS is exact; nothing is guessed beside it."""
    assert readings(typed, frozenset({6, 8}), policy) == []


def test_six_and_eight_digits_side_by_side_are_both_readings_longest_first() -> None:
    """A06: only the code itself can tell which device was meant."""
    both = frozenset({6, 8})
    assert readings("horse98012345", both) == [(b"horse", "98012345"), (b"horse98", "012345")]
    assert readings("horse012345", both) == [(b"horse", "012345")]
    assert readings("98012345horse", both, SplitPolicy(START)) == [
        (b"horse", "98012345"),
        (b"45horse", "980123"),
    ]


def test_a_separator_tells_six_digits_from_eight() -> None:
    both, policy = frozenset({6, 8}), SplitPolicy(separator="/")
    assert readings("horse/98012345", both, policy) == [(b"horse", "98012345")]
    assert readings("horse98/012345", both, policy) == [(b"horse98", "012345")]


def test_a_user_without_devices_has_no_readings() -> None:
    assert readings("horse012345", frozenset()) == []


def test_octets_that_are_no_text_are_passed_on_exactly() -> None:
    """A03: the split works on octets, so that no charset can move it."""
    password = bytes(octet for octet in range(256) if not 0x30 <= octet <= 0x39)[:120]
    assert readings(password + b"012345") == [(password, "012345")]
    assert readings(b"ab\xff012345") == [(b"ab\xff", "012345")]


@settings(deadline=None)
@given(
    typed=st.binary(max_size=24) | st.text("0123456789,x", max_size=24).map(str.encode),
    digits=st.frozensets(st.sampled_from([6, 8])),
    position=st.sampled_from(CodePosition),
    separator=st.sampled_from(["", ",", "0"]),
)
def test_every_reading_puts_together_what_was_typed(
    typed: bytes, digits: frozenset[int], position: CodePosition, separator: str
) -> None:
    """A03, A06: no octet is lost, added or moved, whatever was typed."""
    for password, code in readings(typed, digits, SplitPolicy(position, separator)):
        assert len(code) in digits
        parts = [password, separator.encode(), code.encode()]
        assert b"".join(parts if position is END else reversed(parts)) == typed


def test_a_candidate_does_not_show_its_parts() -> None:
    """Rule 8: no password and no code in a repr."""
    shown = repr(Candidate(b"hunter2", "012345"))
    assert "hunter2" not in shown
    assert "012345" not in shown


@pytest.mark.parametrize(
    ("octets", "charsets"),
    [
        (b"lat\xe9n", ["utf-8"]),
        (b"ab\xff\xfe", ["utf-8"]),
        (b"\xc3", ["utf-8"]),  # cut in the middle of a character
        (b"\xed\xa0\x80", ["utf-8"]),  # a surrogate
        (b"\xc0\xaf", ["utf-8"]),  # overlong
        ("größe".encode(), ["ascii"]),
        (b"\x81", ["utf-8", "ascii", "cp1252"]),
        (b"horse", []),
    ],
)
def test_octets_that_fit_no_charset_are_no_text(octets: bytes, charsets: list[str]) -> None:
    r"""A03: refused, never mended: `lat\xe9n` must not become `latn`."""
    assert decoded(octets, charsets) is None


@pytest.mark.parametrize(
    ("octets", "charsets", "text"),
    [
        (b"", ["utf-8"], ""),
        (b"horse", ["utf-8"], "horse"),
        ("größe".encode(), ["utf-8"], "größe"),
        ("größe".encode("latin-1"), ["latin-1"], "größe"),
        ("größe".encode("latin-1"), ["utf-8", "latin-1"], "größe"),
        ("größe".encode(), ["utf-8", "latin-1"], "größe"),
        ("größe".encode(), ["latin-1", "utf-8"], "grÃ¶Ã\x9fe"),
        (b"nul\0inside", ["utf-8"], "nul\0inside"),
    ],
)
def test_the_first_charset_that_fits_decides(octets: bytes, charsets: list[str], text: str) -> None:
    """A03: a Latin-1 NAS is a setting."""
    assert decoded(octets, charsets) == text


@settings(deadline=None)
@given(st.binary(max_size=16))
def test_decoded_text_stands_for_its_octets_alone(octets: bytes) -> None:
    """A03: two different fields never become one password."""
    text = decoded(octets, ["utf-8"])
    assert text is None or text.encode() == octets
    latin = decoded(octets, ["latin-1"])
    assert latin is not None
    assert latin.encode("latin-1") == octets


@pytest.mark.parametrize(
    ("field", "parts"),
    [
        (b"SCRV1:Y2FuYXJ5:MTIzNDU2", (b"123456", b"canary")),
        (b"SCRV1::", (b"", b"")),
        (b"SCRV1:Y2FuYXJ5:MTIzNDU2:", None),
        (b"SCRV1:Y2FuYXJ5", None),
        (b"SCRV2:Y2FuYXJ5:MTIzNDU2", None),
        (b"SCRV1:not base64!:MTIzNDU2", None),
        (b"SCRV1:Y2FuYXJ5:M", None),
    ],
)
def test_openvpns_static_challenge_is_password_and_code(
    field: bytes, parts: tuple[bytes, bytes] | None
) -> None:
    assert unpacked(field) == parts

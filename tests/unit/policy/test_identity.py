"""One key for a user and for a source, whatever form was typed or sent."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radius_mfa.policy.identity import (
    InvalidUserNameError,
    canonical_user,
    normalised_station,
    realm_split,
)

REALMS = {"corp", "corp.example"}
FULLWIDTH = {octet: octet + 0xFEE0 for octet in range(0x21, 0x7F)}


@pytest.mark.parametrize(
    "user_name",
    [
        "",
        " ",
        " alice",
        "alice ",
        "\tbob",
        "\u00a0alice",  # a no-break space is a space
        "alice\n",
        "ali\0ce",
        "bob\0x",  # P11
        "ali\x1b[31mce",
        "alice\x7f",
        "alice\x85",
        "ali\u00adce",  # a soft hyphen
        "ali\u200bce",  # a zero width space
        "\u202ealice",  # from right to left
        "\ufeffalice",
        "alice\u2028",
        "alice\u2029x",
        "alice\ue000",  # private use
        "alice\u0378",  # not assigned
        "alice\ud800",  # a lone surrogate
        "x" * 254,
        "ﷺ" * 15,  # 18 characters each, once normalised
        "corp\\",
        "@corp.example",
        "corp\\ alice",
        "alice @corp.example",
    ],
    ids=ascii,
)
def test_a_name_that_no_user_may_have_is_refused(user_name: str) -> None:
    """A07, P11, L03: empty, over-long, padded, or with what can't be seen."""
    with pytest.raises(InvalidUserNameError):
        canonical_user(user_name, REALMS)


@pytest.mark.parametrize(
    "user_name",
    [
        "alice",
        "ALICE",
        "Alice",
        r"CORP\alice",
        r"corp\ALICE",
        r"corp.example\alice",
        "alice@corp.example",
        "Alice@CORP.Example",
        "alice@corp",
        "alice".translate(FULLWIDTH),
        "ALICE@corp".translate(FULLWIDTH),
        "ⓐlice",
    ],
)
def test_every_form_of_a_name_is_one_user(user_name: str) -> None:
    """A07: one key for lockout, replay and directory."""
    assert canonical_user(user_name, REALMS) == "alice"


@pytest.mark.parametrize(
    ("user_name", "realms", "key"),
    [
        ("alice@corp.example", set(), "alice@corp.example"),
        (r"CORP\alice", set(), r"corp\alice"),
        ("alice@other.example", REALMS, "alice@other.example"),
        (r"OTHER\alice", REALMS, r"other\alice"),
        ("alice@corp.example.evil.example", REALMS, "alice@corp.example.evil.example"),
        ("alice@evilcorp.example", REALMS, "alice@evilcorp.example"),
        ("alice@other@corp", REALMS, "alice@other"),
        ("a@corp@other", REALMS, "a@corp@other"),
        (r"corp\alice@other", REALMS, "alice@other"),
        (r"other\corp\alice", REALMS, r"other\corp\alice"),
        ("corp", REALMS, "corp"),
        ("alice@", REALMS, "alice@"),
        ("mary ann", set(), "mary ann"),
        ("JÖRG", set(), "jörg"),
        ("Jo\u0308rg", set(), "jörg"),
        ("李雷", set(), "李雷"),
        ("x" * 253, set(), "x" * 253),
        ("x" * 253 + "@corp", REALMS, "x" * 253),
    ],
)
def test_a_realm_goes_only_where_it_is_the_directorys_own(
    user_name: str, realms: set[str], key: str
) -> None:
    """A07: two people of two realms never become one."""
    assert canonical_user(user_name, realms) == key


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("alice", ("alice", "")),
        ("corp\\alice", ("alice", "corp")),
        ("alice@corp.example", ("alice", "corp.example")),
        ("alice@home@corp.example", ("alice@home", "corp.example")),
        ("corp\\alice@home", ("alice@home", "corp")),
    ],
)
def test_a_name_is_split_into_name_and_realm(name: str, parts: tuple[str, str]) -> None:
    """The realm decides which directory is asked: a domain in front goes before one behind."""
    assert realm_split(name) == parts


@settings(deadline=None)
@given(st.text(min_size=1, max_size=12) | st.text("aA@\\ß\u0130\u1e9e\u0345\u03a3ﬃ", min_size=1))
def test_a_key_is_its_own_key(user_name: str) -> None:
    """A07: a name from a log or a listing leads to the same user as what was typed."""
    try:
        key = canonical_user(user_name)
    except InvalidUserNameError:
        return
    assert canonical_user(key) == key
    assert unicodedata.is_normalized("NFKC", key)
    assert not any(unicodedata.category(character).startswith("C") for character in key)


@pytest.mark.parametrize(
    ("sent", "station"),
    [
        ("", ""),
        ("10.99.0.2", "10.99.0.2"),
        ("10.99.0.2[4500]", "10.99.0.2"),
        ("10.99.0.2:4500", "10.99.0.2"),
        (" 10.99.0.2 ", "10.99.0.2"),
        ("10.10.10.10:1000", "10.10.10.10"),  # a MAC address, but for its separators
        ("2001:db8::1", "2001:db8::1"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("2001:db8::1[4500]", "2001:db8::1"),
        ("[2001:db8::1]:4500", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("::ffff:10.99.0.2", "10.99.0.2"),
        ("[::ffff:10.99.0.2]:4500", "10.99.0.2"),
        ("00-11-22-AA-BB-CC", "001122aabbcc"),
        ("00:11:22:aa:bb:cc", "001122aabbcc"),
        ("0011.22aa.bbcc", "001122aabbcc"),
        ("001122AABBCC", "001122aabbcc"),
        ("+49 89 1234", "+49 89 1234"),
        ("Host-7.Example", "host-7.example"),
        ("00-11-22-AA-BB-CC:guests", "00-11-22-aa-bb-cc:guests"),
        ("10.99.0.256:4500", "10.99.0.256:4500"),
        ("10.99.0.2[port]", "10.99.0.2[port]"),
        ("10.99.0", "10.99.0"),
    ],
)
def test_a_station_has_one_form(sent: str, station: str) -> None:
    """A port that changes with each try must not open a new lockout counter."""
    assert normalised_station(sent) == station


@settings(deadline=None)
@given(st.text(max_size=40) | st.text("0123456789abf.:[]-", max_size=40))
def test_the_form_of_a_station_is_final(sent: str) -> None:
    once = normalised_station(sent)
    assert normalised_station(once) == once


@settings(deadline=None)
@given(st.ip_addresses(), st.integers(0, 65_535))
def test_no_port_makes_two_stations_of_one_address(address: object, port: int) -> None:
    """O11: else each try from another port would have five failures of its own."""
    plain = normalised_station(str(address))
    bracketed = f"[{address}]:{port}" if ":" in str(address) else f"{address}:{port}"
    assert {plain} == {normalised_station(bracketed), normalised_station(f"{address}[{port}]")}

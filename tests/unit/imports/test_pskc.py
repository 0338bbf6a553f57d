"""PSKC (RFC 6030): the examples of the RFC, and refusals of whatever was changed or is hostile."""

import base64
from typing import Any

import pytest

from radius_mfa.errors import Refused
from radius_mfa.imports import pskc, xml
from radius_mfa.imports.devices import judged
from radius_mfa.imports.formats import Format, Told, entries
from radius_mfa.imports.rows import DeviceRow, Parsed
from radius_mfa.policy.totp import Algorithm
from tests.support.pskc import (
    AES_128_CBC,
    NAMESPACES,
    PBKDF2,
    PRE_SHARED,
    RFC_DERIVED,
    RFC_KEY,
    RFC_PASSPHRASE,
    RFC_SEED,
    container,
    encrypted,
    figure_6,
    figure_7,
    key,
    mac_method,
    secret,
)

KEY = bytes.fromhex(RFC_KEY)
SEED = b"canary-seed-octets!!"
PLAIN = f"<PlainValue>{base64.b64encode(SEED).decode()}</PlainValue>"


def parsed(octets: bytes, now: float = 0, **told: Any) -> Parsed[DeviceRow]:
    found = entries(octets, Format.PSKC, "tokens.xml", Told(now, **told))
    return judged(found, owners={"987654321": "alice", "T1": "alice", "T2": "bob"})


def refusal(octets: bytes, **told: Any) -> str:
    """Return why nothing in *octets* is taken over, as a whole or its one key."""
    try:
        found = parsed(octets, **told)
    except Refused as error:
        return error.message
    assert found.rows == []
    assert "canary" not in repr(found)
    return found.faults[0].what


@pytest.mark.parametrize("written", [RFC_KEY, RFC_KEY.upper(), base64.b64encode(KEY).decode()])
def test_figure_6_of_the_rfc_opens_with_its_pre_shared_key(written: str) -> None:
    """Its key is a HOTP key, which is refused as such; read as TOTP it gives the RFC's seed."""
    assert refusal(figure_6(), key=written).startswith("it is HOTP")
    [row] = parsed(figure_6("totp"), key=written).rows
    assert (row.name, row.seed, row.digits) == ("987654321", RFC_SEED, 8)


def test_figure_7_of_the_rfc_opens_with_its_passphrase() -> None:
    assert refusal(figure_7(), passphrase=RFC_PASSPHRASE).startswith("it is HOTP")
    [row] = parsed(figure_7("totp"), passphrase=RFC_PASSPHRASE).rows
    assert row.seed.hex() == "3132333435363738393031323334353637383930"


def test_the_key_is_asked_for_only_where_the_file_is_encrypted() -> None:
    for octets, kind in ((figure_6("totp"), "key"), (figure_7("totp"), "passphrase")):
        with pytest.raises(pskc.KeyNeededError, match=kind):
            parsed(octets)
    assert parsed(container(key(PLAIN))).rows[0].seed == SEED


@pytest.mark.parametrize("octets", [16, 24, 32])
@pytest.mark.parametrize("digest", ["sha1", "sha256", "sha512"])
def test_many_keys_under_any_aes_and_hmac_are_read(octets: int, digest: str) -> None:
    with_key = bytes(range(octets))
    found = parsed(encrypted({"T1": SEED, "T2": SEED}, with_key, digest), key=with_key.hex())
    assert [(row.user, row.seed) for row in found.rows] == [("alice", SEED), ("bob", SEED)]


def test_what_the_key_says_of_itself_is_kept() -> None:
    xml = key(PLAIN, user="UID=Carol,DC=example", suite="HMAC-SHA256", step="60", digits="8")
    [row] = parsed(container(xml)).rows
    assert row == DeviceRow("key 1", "carol", "987654321", SEED, Algorithm.SHA256, 8, 60)


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ({"kind": "pin"}, "it is PIN: TOTP alone"),
        ({"digits": "10"}, "codes of 10 digits"),
        ({"step": "10"}, "a new code every 10 s"),
        ({"suite": "HMAC-MD5"}, "its digest is not supported"),
        ({"policy": "<Policy><KeyUsage>Encrypt</KeyUsage></Policy>"}, "forbids one-time codes"),
        ({"policy": "<Policy><ExpiryDate>2020-01-01T00:00:00Z</ExpiryDate></Policy>"}, "expired"),
        ({"policy": "<Policy><ExpiryDate>soon</ExpiryDate></Policy>"}, "has expired"),
        ({"policy": "<Policy><StartDate>2030-01-01T00:00:00Z</StartDate></Policy>"}, "not valid"),
    ],
)
def test_a_key_that_can_t_be_taken_over_is_refused_by_name(more: dict[str, str], what: str) -> None:
    assert what in refusal(container(key(PLAIN, **more)), now=1_700_000_000)


def test_a_short_seed_is_refused_wherever_it_comes_from() -> None:
    assert refusal(container(key("<PlainValue>MTIzNA==</PlainValue>"))).startswith(
        "the seed is 32 bits long"
    )


def test_policy_that_is_lost_is_told() -> None:
    policy = (
        '<Policy><PINPolicy MinLength="4"/><ExpiryDate>2030-05-31T00:00:00Z</ExpiryDate>'
        "<KeyUsage>OTP</KeyUsage></Policy>"
    )
    found = parsed(container(key(PLAIN, policy=policy)), now=1_700_000_000)
    assert len(found.rows) == 1
    assert [loss.what for loss in found.losses] == [
        "its PIN: logins take the password of the directory",
        "its ExpiryDate",
    ]


# ---- What was changed ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("octets", "told"),
    [
        (figure_6("totp"), {"key": "00" * 16}),
        (figure_7("totp"), {"passphrase": "qwertz"}),
        (encrypted({"T1": SEED}, KEY), {"key": "00" * 16}),
    ],
)
def test_a_wrong_key_opens_nothing(octets: bytes, told: dict[str, str]) -> None:
    why = refusal(octets, **told)
    assert "does not fit" in why
    assert "qwertz" not in why


@pytest.mark.parametrize("at", range(48))
def test_a_changed_cipher_text_is_found_by_its_mac_before_anything_is_decrypted(at: int) -> None:
    """Whatever octet changes, IV and padding included, the answer is the same: no oracle."""
    value = base64.b64decode("AAECAwQFBgcICQoLDA0OD+cIHItlB3Wra1DUpxVvOx2lef1VmNPCMl8jwZqIUqGv")
    changed = value[:at] + bytes([value[at] ^ 1]) + value[at + 1 :]
    octets = figure_6("totp").replace(base64.b64encode(value), base64.b64encode(changed))
    assert refusal(octets, key=RFC_KEY).startswith("its MAC does not fit")


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("Su+NvtQfmvfJzF6bmQiJqoLRExc=", "Su+NvtQfmvfJzF6bmQiJqoLRExY=", "its MAC does not fit"),
        ("Su+NvtQfmvfJzF6bmQiJqoLRExc=", "Su+NvtQfmvfJ", "its MAC does not fit"),
        ("Su+NvtQfmvfJzF6bmQiJqoLRExc=", "", "encrypted without a MAC"),
        ("<ValueMAC>", "<Other>", "line 13 is no XML"),
        ("#hmac-sha1", "#hmac-md5", "its MAC is not supported"),
        ("MACMethod", "Ignored", "encrypted without a MAC"),
        ("ESIzRFVmd4iZABEiM0RVZg", "ESIzRFVmd4iZABEiM0RVZ", "does not fit"),
    ],
)
def test_a_mac_is_never_optional(old: str, new: str, why: str) -> None:
    octets = figure_6("totp").replace(old.encode(), new.encode())
    assert why in refusal(octets, key=RFC_KEY)


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        (container(key(secret("AAAA", "AAAA"))), "encrypted, but the file names no key"),
        (
            container(key(PLAIN), encryption="<ds:X509Data>x</ds:X509Data>"),
            "encrypted for a certificate",
        ),
        (
            container(
                key(secret("A" * 64, "A" * 28, "http://x#tripledes-cbc")),
                encryption=PRE_SHARED,
                mac=mac_method(""),
            ),
            "its MAC does not fit",
        ),
        (container(key("<PlainValue>c!n!ry</PlainValue>")), "its seed is no base64"),
        (container(key("").replace("<Secret></Secret>", "")), "it has no seed"),
        (b"<Tokens/>", "no PSKC container of RFC 6030"),
        (b'<KeyContainer xmlns="urn:ietf:params:xml:ns:keyprov:pskc:1.0"/>', "no PSKC container"),
    ],
)
def test_what_the_reader_can_t_do_is_said_by_name(octets: bytes, why: str) -> None:
    assert why in refusal(octets, key=RFC_KEY)


@pytest.mark.parametrize("length", [0, 8, 15, 17, 33])
def test_a_key_of_another_length_is_refused(length: int) -> None:
    assert refusal(figure_6("totp"), key="ab" * length).startswith(
        f"an AES key has 16, 24 or 32 octets, this one has {length}"
    )


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (">1000<", ">100000000<", "PBKDF2 asks for 100,000,000 rounds"),
        (">1000<", ">0<", "the parameters of its PBKDF2"),
        (">1000<", ">many<", "the parameters of its PBKDF2"),
        (">16<", ">5<", "the parameters of its PBKDF2"),
        (">16<", ">999999999<", "the parameters of its PBKDF2"),
        ("Ej7/PEpyEpw=", "", "the parameters of its PBKDF2"),
        ("<PRF/>", '<PRF Algorithm="http://x#hmac-md5"/>', "the parameters of its PBKDF2"),
        (PBKDF2, "http://x#scrypt", "its key derivation is not supported"),
    ],
)
def test_a_key_derivation_that_would_harm_is_refused(old: str, new: str, why: str) -> None:
    assert old in RFC_DERIVED
    octets = figure_7("totp").replace(old.encode(), new.encode())
    assert why in refusal(octets, passphrase=RFC_PASSPHRASE)


# ---- Hostile XML ---------------------------------------------------------------------------------

LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        (f'<!DOCTYPE x [<!ENTITY l0 "ha">{LAUGHS}]><KeyContainer {NAMESPACES}>&l9;</KeyContainer>',
         "declares a document type"),
        (f'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><KeyContainer {NAMESPACES}/>',
         "declares a document type"),
        (f'<!DOCTYPE x SYSTEM "http://attacker.example/x.dtd"><KeyContainer {NAMESPACES}/>',
         "declares a document type"),
        (f"<KeyContainer {NAMESPACES}>&e;</KeyContainer>", "line 1 is no XML"),
        (f"<KeyContainer {NAMESPACES}>" + "<a>" * 100_000, "nested too deeply"),
        (f"<KeyContainer {NAMESPACES}>", "line 1 is no XML"),
        ("", "line 1 is no XML"),
        ("<a/><b/>", "line 1 is no XML"),
    ],
)  # fmt: skip
def test_dangerous_or_broken_xml_is_refused(octets: str, why: str) -> None:
    assert why in refusal(octets.encode())


def test_no_secret_of_the_reader_shows_in_a_repr() -> None:
    told = Told(0, key="canary-key", passphrase="canary-pass")
    assert "canary" not in repr(told)
    assert AES_128_CBC.encode() in figure_6()
    keys = pskc._keys(xml.parse(figure_6()), KEY, None)
    assert RFC_KEY not in repr(keys)
    assert repr(KEY) not in repr(keys)

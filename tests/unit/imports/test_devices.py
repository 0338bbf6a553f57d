"""Tokens in CSV, and what every token must be: each refusal by name."""

import base64

import pytest

from radius_mfa.errors import Refused
from radius_mfa.imports import devices, formats
from radius_mfa.imports.devices import Entry, judged
from radius_mfa.imports.formats import Format, Told
from radius_mfa.imports.oath_csv import SeedEncoding
from radius_mfa.imports.rows import DeviceRow, Parsed
from radius_mfa.policy.totp import Algorithm

SEED = b"12345678901234567890"
HEX, BASE32 = SEED.hex(), base64.b32encode(SEED).decode()

TOLD = Told(now=0)


def parsed(
    text: str, kind: Format = Format.CSV, told: Told = TOLD, **more: object
) -> Parsed[DeviceRow]:
    entries = formats.entries(text.encode(), kind, "tokens.csv", told)
    return judged(entries, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (f"user,serial,seed\nalice,T1,{HEX}\n", Format.CSV),
        (f"upn,serial number,secret key,time interval,model\nalice,T1,{BASE32},30,c200\n",
         Format.CSV),
        (f"alice@defrealm, T1, {HEX}, totp, 6, 30\nn/a, T2, {HEX}, hotp, 6\n",
         Format.PRIVACYIDEA),
        (f"alice@defrealm, T1, {BASE32}, totp, 6, 30\n", Format.PRIVACYIDEA),
        (f"alice@defrealm, T1, {HEX}, totp, 6, None\n", Format.CSV),
        (f"T1, {HEX}, totp, 6, 30\n", Format.OATH_CSV),
        (f"# serial, seed, type, digits, step\nT1, {HEX}, TOTP\n", Format.OATH_CSV),
        (f"T1, {HEX}, totp, 6, 30\n", Format.CSV),
    ],
)  # fmt: skip
def test_every_csv_in_use_is_read(text: str, kind: Format) -> None:
    found = parsed(text, kind, realms=["defrealm"], owners={"T1": "alice"})
    [row] = found.rows
    assert (row.user, row.name, row.seed) == ("alice", "T1", SEED)
    assert (row.algorithm, row.digits, row.time_step_seconds) == (Algorithm.SHA1, 6, 30)


def test_headings_carry_everything_that_a_device_is() -> None:
    [row] = parsed(
        "Login;Name;Secret;Hash;Digits;Period;Type\n"
        f"ALICE;desk;{' '.join(BASE32[at : at + 4] for at in range(0, 32, 4))};SHA-512;8;60;totp\n"
    ).rows
    assert row == DeviceRow("row 2", "alice", "desk", SEED, Algorithm.SHA512, 8, 60)


@pytest.mark.parametrize(
    ("entry", "what"),
    [
        (Entry("row 1", "alice", kind="hotp", seed=SEED), "it is HOTP, which counts presses"),
        (Entry("row 1", "alice", kind="ocra", seed=SEED), "it is OCRA: TOTP alone"),
        (Entry("row 1", "alice", kind="?!", seed=SEED), "it is an unknown kind"),
        (Entry("row 1", "alice", seed=SEED, algorithm="MD5"), "its digest is not supported"),
        (Entry("row 1", "alice", seed=SEED, algorithm="SHA3-256"), "its digest is not supported"),
        (Entry("row 1", "alice", seed=SEED[:10]), "the seed is 80 bits long: 128 at least"),
        (Entry("row 1", "alice"), "the seed is 0 bits long"),
        (Entry("row 1", "alice", seed=SEED, digits="7"), "codes of 7 digits"),
        (Entry("row 1", "alice", seed=SEED, digits="six"), "digits or time step is no number"),
        (Entry("row 1", "alice", seed=SEED, digits="-6"), "digits or time step is no number"),
        (Entry("row 1", "alice", seed=SEED, time_step_seconds="45"), "a new code every 45 s"),
        (Entry("row 1", "alice", seed=SEED, name="x" * 65), "a device's name is 1 to 64"),
        (Entry("row 1", "", seed=SEED), "no user is named"),
        (Entry("row 1", "a\nb", seed=SEED), "control or invisible character"),
    ],
)
def test_each_token_that_can_t_be_taken_over_is_refused_by_name(entry: Entry, what: str) -> None:
    found = judged([entry])
    assert found.rows == []
    [fault] = found.faults
    assert what in fault.what
    assert fault.cure
    assert SEED.decode() not in repr(found)


def test_the_same_device_twice_for_a_user_is_refused_and_for_two_users_is_not() -> None:
    other = b"another seed of 160b"
    found = judged(
        [
            Entry("row 1", "alice", "T1", seed=SEED),
            Entry("row 2", "ALICE", "T2", seed=SEED),
            Entry("row 3", "alice", "T1", seed=other),
            Entry("row 4", "bob", "T1", seed=SEED),
        ]
    )
    assert [(fault.place, fault.what) for fault in found.faults] == [
        ("row 2", "the same seed again: see row 1"),
        ("row 3", "a second device named T1: see row 1"),
    ]
    assert [row.place for row in found.rows] == ["row 1", "row 4"]


def test_hex_or_base32_is_decided_for_the_file_and_never_guessed() -> None:
    """A seed that fits both alone proves nothing; among others it is read as they are."""
    both = "ABCDEF234567" * 4
    with pytest.raises(Refused, match="may be hexadecimal or base32") as caught:
        parsed(f"user,seed\nalice,{both}\n")
    assert both not in str(caught.value)
    found = parsed(f"user,seed\nalice,{both}\nbob,{HEX}\n")
    assert [row.seed for row in found.rows] == [bytes.fromhex(both), SEED]
    found = parsed(f"user,seed\nalice,{both}\nbob,{BASE32}\n")
    assert [row.seed for row in found.rows] == [base64.b32decode(both), SEED]
    told = Told(now=0, seed_encoding=SeedEncoding.BASE32)
    assert parsed(f"user,seed\nalice,{both}\n", told=told).rows[0].seed == base64.b32decode(both)


@pytest.mark.parametrize("seed", ["1.23457E+38", "canary!", HEX[:-1], "ÄÖÜ", BASE32])
def test_a_seed_that_is_written_otherwise_is_refused_and_not_quoted(seed: str) -> None:
    found = parsed(f"user,seed\nalice,{HEX}\nbob,{HEX}\ncarol,{seed}\n")
    [fault] = found.faults
    assert (fault.place, fault.what) == ("row 4", "its seed is not written as the others are")
    assert seed not in repr(found)


def test_a_seed_in_the_wrong_column_is_not_shown() -> None:
    found = parsed(f"{HEX}, T1, totp, 6, 30\n", Format.OATH_CSV)
    assert found.faults
    assert HEX not in repr(found)


def test_a_file_without_known_columns_is_refused() -> None:
    with pytest.raises(Refused, match="the columns of the file are not known"):
        parsed(f"T1,{HEX}\n")
    with pytest.raises(Refused, match="empty"):
        parsed("\n")


@pytest.mark.parametrize(
    "text",
    ["serial,user\nT1,alice\nT2,bob\n", "User;Serial\nalice;T1\nbob;T2\n", "T1,alice\nT2,bob"],
)
def test_owners_of_hardware_tokens_come_from_a_list(text: str) -> None:
    assert devices.owners_of_serials(text.encode()) == {"T1": "alice", "T2": "bob"}


@pytest.mark.parametrize("text", ["T1\n", "T1,\n", "T1,alice\nT1,bob\n"])
def test_a_list_of_owners_with_a_doubt_in_it_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="is not a serial number and its one user"):
        devices.owners_of_serials(text.encode())

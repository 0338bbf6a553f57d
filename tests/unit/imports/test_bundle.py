"""The encrypted export: read back as it was, and not at all once anything is wrong with it."""

import base64
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from radius_mfa.errors import Refused
from radius_mfa.imports import bundle
from radius_mfa.imports.bundle import ExportedDevice, ExportedUser, Lock
from radius_mfa.imports.rows import DeviceRow
from radius_mfa.policy.requirement import Requirement
from radius_mfa.policy.totp import Algorithm

SEED = b"canary-seed-octets!!"
HASH = "$argon2id$v=19$m=8192,t=1,p=1$canarysalt$canarydigest"
DAY = datetime(2026, 5, 1, 12, tzinfo=UTC)
PASSPHRASE = "canary passphrase of words"
KEY_FILE = base64.b64encode(bytes(range(32))) + b"\n"

USERS = [
    ExportedUser(
        "zoë",
        DAY,
        DAY,
        HASH,
        DAY,
        (
            ExportedDevice(DeviceRow("export", "zoë", "Gerät", SEED), DAY, DAY, 59_000_000, -20),
            ExportedDevice(
                DeviceRow("export", "zoë", "new", SEED[::-1], Algorithm.SHA512, 8, 60),
                DAY,
                None,
                None,
            ),
        ),
    ),
    ExportedUser("bob", DAY, None, None, None, ()),
    ExportedUser(
        "LDAP/corp/4F2A",
        DAY,
        None,
        None,
        None,
        (),
        "corp",
        "ann",
        Requirement(1.0, 2.5, 3.0, factor_suspended=True, exempt_reason="new"),
    ),
]


@pytest.fixture(autouse=True)
def light_kdf(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the tests the time that a thief shall need."""
    monkeypatch.setattr(bundle, "ARGON2", {"memory_kib": 64, "passes": 1, "lanes": 1})


LOCKS = [bundle.passphrase(PASSPHRASE), bundle.key_file(KEY_FILE)]
each_lock = pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.kind)


@each_lock
def test_what_was_exported_comes_back(lock: Lock) -> None:
    octets = bundle.sealed(USERS, lock)
    assert bundle.kind_of_lock(octets) == lock.kind
    assert bundle.opened(octets, lock) == USERS


def test_what_an_earlier_release_exported_is_still_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """It knew of no drift, no groups and no mail addresses."""

    def before(user: ExportedUser) -> dict[str, Any]:
        values = values_of(user)
        del values["groups"], values["mail"]
        for device in values["devices"]:
            del device["drift_steps"]
        return values

    values_of = bundle._user_values
    monkeypatch.setattr(bundle, "_user_values", before)
    zoe, *_ = bundle.opened(bundle.sealed(USERS, LOCKS[1]), LOCKS[1])
    assert [device.drift_steps for device in zoe.devices] == [0, 0]
    assert (zoe.groups, zoe.mail) == ((), None)


@each_lock
def test_nothing_shows_in_the_file_and_no_two_are_alike(lock: Lock) -> None:
    first, second = bundle.sealed(USERS, lock), bundle.sealed(USERS, lock)
    for secret in (b"canary", b"bob", SEED.hex().encode(), base64.b64encode(SEED), lock.octets):
        assert secret not in first
    assert first[-64:] != second[-64:]
    assert "canary" not in repr(USERS) + repr(lock)


@each_lock
def test_a_changed_or_cut_file_is_refused_whatever_octet_it_is(lock: Lock) -> None:
    octets = bundle.sealed(USERS[1:], lock)
    changed = [
        octets[:at] + bytes([octets[at] ^ 1]) + octets[at + 1 :] for at in range(len(octets))
    ]
    cut = [octets[:length] for length in range(0, len(octets), 7)]
    for one in (*changed, *cut, octets + b"\0"):
        with pytest.raises(Refused):
            bundle.opened(one, lock)


@each_lock
def test_another_lock_opens_nothing(lock: Lock) -> None:
    octets = bundle.sealed(USERS, lock)
    for other in (*LOCKS, bundle.passphrase(PASSPHRASE.upper()), Lock("key-file", bytes(32))):
        if other != lock:
            with pytest.raises(Refused) as caught:
                bundle.opened(octets, other)
            assert "canary" not in str(caught.value).lower()


@pytest.mark.parametrize(
    "header",
    [
        {"memory_kib": 2**40, "passes": 1, "lanes": 1},
        {"memory_kib": 64, "passes": 10**9, "lanes": 1},
        {"memory_kib": 64, "passes": 1, "lanes": 10**6},
        {"memory_kib": 64, "passes": 0, "lanes": 1},
        {"memory_kib": 64, "passes": True, "lanes": 1},
        {"memory_kib": "64", "passes": 1, "lanes": 1},
        {"memory_kib": 64, "passes": 1},
        {"key": "none"},
        {"salt": ""},
        {"nonce": "x"},
        [],
    ],
)
def test_a_header_that_asks_for_harm_is_refused_before_any_work(header: Any) -> None:
    lock = bundle.passphrase(PASSPHRASE)
    magic, line, _ = bundle.sealed(USERS, lock).split(b"\n", 2)
    changed = header
    if header:
        mine = {"key", "salt", "nonce"} if "memory_kib" in header else set(orjson.loads(line))
        changed = {k: v for k, v in orjson.loads(line).items() if k in mine} | header
    with pytest.raises(Refused, match="the file is damaged"):
        bundle.opened(magic + b"\n" + orjson.dumps(changed) + b"\n" + bytes(100), lock)


@pytest.mark.parametrize("octets", [b"", b"user,password\n", b"radius-mfa export 2\n{}\n"])
def test_another_file_is_no_export(octets: bytes) -> None:
    with pytest.raises(Refused, match="no export of radius-mfa"):
        bundle.kind_of_lock(octets)


@pytest.mark.parametrize("octets", [b"", b"canary", base64.b64encode(bytes(31)), b"\xff" * 44])
def test_a_key_file_is_32_octets_in_base64(octets: bytes) -> None:
    with pytest.raises(Refused, match="does not hold 32 octets in base64") as caught:
        bundle.key_file(octets)
    assert "canary" not in str(caught.value)


def test_a_short_passphrase_is_refused() -> None:
    with pytest.raises(Refused, match="12 characters at least") as caught:
        bundle.passphrase("canary12345")
    assert "canary" not in str(caught.value)

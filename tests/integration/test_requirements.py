"""What is required of users, on record: kept to the second, changed for all or none."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson
import pytest

from radius_mfa.errors import BackendUnavailable, HalfDone, Refused
from radius_mfa.policy.access import Enrolment
from radius_mfa.policy.requirement import Requirement
from radius_mfa.policy.totp import Device
from radius_mfa.stores import enrolments
from radius_mfa.stores.audit import entries
from radius_mfa.stores.enrolments import EnrolmentCodec, EnrolmentStore, NewDevice
from radius_mfa.stores.interfaces import Identity, Prospect
from radius_mfa.stores.keyring import KeyRing
from radius_mfa.stores.records import Database
from tests.integration.conftest import Told, everything

NOW = 1_800_000_000.25
FULL = Requirement(NOW, NOW + 9, NOW + 5, factor_suspended=True, exempt_reason="abroad")


def becomes(wanted: Requirement) -> Any:
    return lambda _known: wanted


@pytest.mark.parametrize(
    "wanted",
    [
        Requirement(),
        Requirement(NOW, NOW + 9),
        Requirement(exempt_until=NOW, exempt_reason="x" * 255),
        Requirement(factor_suspended=True),
        FULL,
    ],
)
async def test_what_is_required_comes_back_to_the_login_and_to_the_list(
    store: EnrolmentStore, other_store: EnrolmentStore, key_ring: KeyRing, wanted: Requirement
) -> None:
    """From SQL, through the cache in Redis; the reason of an exemption stays behind."""
    await store.add_user("alice")
    changed = await store.change_requirements(["alice"], "test", becomes(wanted))
    assert changed == ([] if wanted == Requirement() else ["alice"])
    assert (await other_store.user("alice")).requirement == wanted
    assert [user.requirement for user in await other_store.users()] == [wanted]
    fetched = await other_store.fetch("alice")
    assert fetched.requirement == replace(wanted, exempt_reason="")
    codec = EnrolmentCodec(key_ring)
    assert codec.decode("alice", codec.encode("alice", fetched)) == fetched
    grouped = replace(fetched, groups=("Süd", "ops"))
    assert codec.decode("alice", codec.encode("alice", grouped)) == grouped


def test_what_the_release_before_cached_is_still_read(key_ring: KeyRing) -> None:
    """During an upgrade its entries are in Redis for an hour more."""
    device = Device("d", "phone", b"12345678901234567890")
    known = Enrolment(7, known=True, devices=(device,))
    codec = EnrolmentCodec(key_ring)
    version, is_known, suspended, devices, *_more = orjson.loads(codec.encode("alice", known))
    before = orjson.dumps([version, is_known, suspended, devices])
    assert codec.decode("alice", before) == known


async def test_of_several_users_all_are_changed_or_none(
    store: EnrolmentStore, database: Database, told: Told
) -> None:
    for name in ("alice", "bob", "carol"):
        await store.add_user(name)
    before = await everything(database)
    with pytest.raises(Refused, match="there is no user zed"):
        await store.change_requirements(["alice", "zed", "bob"], "test", becomes(FULL))
    assert await everything(database) == before
    told.users.clear()
    changed = await store.change_requirements(["carol", "alice", "alice"], "test", becomes(FULL))
    assert changed == ["alice", "carol"]
    assert told.users == ["alice", "carol"] * 2, "before the commit, and after it"
    assert (await store.user("bob")).requirement == Requirement()


async def test_a_change_that_changes_nothing_tells_nobody(
    store: EnrolmentStore, told: Told
) -> None:
    """So requiring everyone again does not empty every node's cache."""
    await store.add_user("alice")
    await store.change_requirements(["alice"], "test", becomes(FULL))
    before, told.users[:] = await store.fetch("alice"), []
    assert await store.change_requirements(["alice"], "test", becomes(FULL)) == []
    assert told.users == []
    assert await store.fetch("alice") == before


NAMES = ["alice", "bob", "carol"]

MANY: dict[str, Callable[[EnrolmentStore], Any]] = {
    "require": lambda s: s.change_requirements(NAMES, "requirement.require", becomes(FULL)),
    "reset": lambda s: s.reset(NAMES, becomes(FULL)),
    "suspend": lambda s: s.suspend(NAMES, suspended=True),
}


@pytest.mark.parametrize("act", MANY)
async def test_a_backend_that_goes_away_half_way_leaves_everybody_as_they_were(
    store: EnrolmentStore, database: Database, told: Told, act: str
) -> None:
    """Redis at the second of three, before the commit; and once more it is done to all."""
    for name in NAMES:
        await store.add_user(name)
        await store.add_device(name, NewDevice("phone"), confirmed=True)
    before = await everything(database)
    told.users.clear()
    told.fail_on = 2
    with pytest.raises(BackendUnavailable) as away:
        await MANY[act](store)
    assert not isinstance(away.value, HalfDone)
    assert await everything(database) == before
    told.fail_on = 0
    assert await MANY[act](store) == NAMES
    after = await everything(database)
    assert [row for row in after["mfa_user"] if row in before["mfa_user"]] == []
    assert len(after["audit"]) == len(before["audit"]) + 3
    assert len(after["device"]) == (0 if act == "reset" else 3)


@pytest.mark.parametrize("chunk", [500, 2])
async def test_what_redis_does_not_take_back_is_on_the_trail_of_whom_it_reached(
    store: EnrolmentStore, database: Database, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    """Of nobody else, whether the others were in the same transaction or in a later one."""
    monkeypatch.setattr(enrolments, "CHUNK", chunk)
    names = ["alice", "bob", "carol", "dave"]
    for name in names:
        await store.add_user(name)
    redis = Told()

    async def trail() -> list[str]:
        return [one.subject for one in await entries(database, act="user.unlock")]

    with pytest.raises(Refused, match="there is no user zed"):
        await store.note_each([*names, "zed"], "user.unlock", redis)
    assert redis.users == []
    redis.fail_on = 1
    with pytest.raises(BackendUnavailable) as nobody:
        await store.note_each(names, "user.unlock", redis)
    assert not isinstance(nobody.value, HalfDone)
    assert await trail() == []
    redis.fail_on = 1 + 3
    with pytest.raises(HalfDone) as half:
        await store.note_each(names, "user.unlock", redis)
    assert (half.value.done, half.value.left) == (["alice", "bob"], ["carol", "dave"])
    assert half.value.cause == "ConnectionError: done for 2 before that, not for the other 2"
    assert await trail() == ["alice", "bob"]
    assert await store.note_each(half.value.left, "user.unlock", redis) == ["carol", "dave"]
    assert await trail() == names


async def test_who_is_suspended_stays_so_since_they_were(store: EnrolmentStore, told: Told) -> None:
    await store.add_user("alice")
    await store.add_user("bob")
    assert await store.suspend(["alice"], suspended=True) == ["alice"]
    since, told.users[:] = (await store.user("alice")).suspended_at, []
    assert await store.suspend(["bob", "alice"], suspended=True) == ["bob"]
    assert (await store.user("alice")).suspended_at == since
    assert set(told.users) == {"bob"}
    assert await store.suspend(["alice", "bob"], suspended=False) == ["alice", "bob"]
    assert await store.suspend(["alice", "bob"], suspended=False) == []


async def test_several_transactions_say_how_far_they_came(
    store: EnrolmentStore, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More users than one transaction takes: what is committed is told, and the rest is named."""
    monkeypatch.setattr(enrolments, "USERS_AT_ONCE", 1)
    for name in NAMES:
        await store.add_user(name)
    told.users.clear()
    told.fail_on = 3  # two calls for the first user, and one for the second
    with pytest.raises(HalfDone) as half:
        await store.change_requirements(NAMES, "test", becomes(FULL))
    assert (half.value.done, half.value.left) == (["alice"], ["bob", "carol"])
    found = [user.requirement == FULL for user in await store.users()]
    assert found == [True, False, False]


async def test_many_users_are_changed_a_transaction_at_a_time(
    store: EnrolmentStore, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enrolments, "USERS_AT_ONCE", 3)
    names = [f"user{number}" for number in range(8)]
    for name in names:
        await store.add_user(name)
    told.users.clear()
    assert await store.change_requirements(names, "test", becomes(FULL)) == names
    assert told.users == [*names[:3] * 2, *names[3:6] * 2, *names[6:] * 2]
    assert all(user.requirement == FULL for user in await store.users())


async def test_changes_of_one_user_at_once_build_on_one_another(
    store: EnrolmentStore, other_store: EnrolmentStore
) -> None:
    """None is lost to a read of the state before."""
    await store.add_user("alice")

    def longer(known: Requirement) -> Requirement:
        return replace(known, enrol_by=(known.enrol_by or 0) + 1, required_from=0.0)

    nodes = (store, other_store) * 8
    await asyncio.gather(*(n.change_requirements(["alice"], "test", longer) for n in nodes))
    assert (await store.user("alice")).requirement.enrol_by == 16


async def test_a_reset_ends_every_device_and_begins_a_period(store: EnrolmentStore) -> None:
    """Confirmed or not; the user, their password and other users' devices stay."""
    for name in ("alice", "bob"):
        await store.add_user(name, "hash")
        await store.add_device(name, NewDevice("phone"), confirmed=True)
        await store.add_device(name, NewDevice("tablet"))
    assert await store.reset(["alice"], becomes(Requirement(NOW, NOW + 7))) == ["alice"]
    alice, bob = await store.users()
    assert (alice.devices, alice.requirement) == ((), Requirement(NOW, NOW + 7))
    assert alice.password_changed_at is not None
    assert len(bob.devices) == 2
    assert (await store.fetch("alice")).devices == ()


def of_corp(name: str, called: str = "", mail: str = "") -> Identity:
    return Identity(f"LDAP/corp/{name}", called or name, "corp", dn=f"uid={name}", mail=mail)


async def test_newcomers_are_put_on_record_with_what_is_asked_of_them(
    store: EnrolmentStore, other_store: EnrolmentStore, told: Told, database: Database
) -> None:
    """And nobody else; a login that found them unknown meanwhile is told, before and after."""
    new = [of_corp("anna", mail="anna@corp.example"), of_corp("bert")]
    keys = [user.key for user in new]
    before = await everything(database)
    with pytest.raises(Refused, match="there is no user zed"):
        await store.change_requirements([*keys, "zed"], "test", becomes(FULL), new)
    assert await everything(database) == before
    assert await store.prospect(keys) == Prospect(users=2, required=0, new=2)
    changed = await store.change_requirements(keys, "test", becomes(FULL), new, group="vpn")
    assert changed == keys
    assert told.users == keys * 2
    assert await store.prospect([*keys, "zed"]) == Prospect(users=3, required=2, new=1)
    anna = await other_store.user(keys[0])
    assert (anna.name, anna.directory, anna.mail) == ("anna", "corp", "anna@corp.example")
    assert (await other_store.fetch(keys[0])).requirement == replace(FULL, exempt_reason="")
    acts = [(one.act, one.called, one.detail) for one in await entries(database)]
    assert acts == [
        *(("user.add", name, {"directory": "corp"}) for name in ("anna", "bert")),
        *(("test", name, {"group": "vpn"}) for name in ("anna", "bert")),
    ]


async def test_who_is_on_record_keeps_what_they_have_and_gets_their_present_name(
    store: EnrolmentStore, database: Database
) -> None:
    """As ``know`` does: the same acts on the trail, and nothing where nothing is new."""
    known = of_corp("anna", mail="anna@corp.example")
    await store.know(known)
    await store.add_device(known.key, NewDevice("phone"), confirmed=True)
    rows = len(await entries(database))
    renamed = of_corp("anna", "anna.b", "anna.b@corp.example")
    for _ in range(2):
        await store.change_requirements([known.key], "test", becomes(FULL), [renamed])
    anna = await store.user(known.key)
    assert (anna.name, anna.mail, len(anna.devices)) == ("anna.b", renamed.mail, 1)
    acts = [one.act for one in (await entries(database))[rows:]]
    assert acts == ["user.rename", "user.mail", "test"]


async def test_two_admins_at_once_put_a_newcomer_on_record_once(
    store: EnrolmentStore, other_store: EnrolmentStore
) -> None:
    new = [of_corp(f"user{number}") for number in range(20)]
    keys = [user.key for user in new]
    results = await asyncio.gather(
        *(
            one.change_requirements(keys, "test", becomes(FULL), new)
            for one in (store, other_store) * 3
        )
    )
    assert sorted(key for changed in results for key in changed) == sorted(keys)
    assert len(await store.users()) == 20

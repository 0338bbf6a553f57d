"""Many users and devices at once: all or none, told to every node, on SQLite and PostgreSQL."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from sqlalchemy import update

from radius_mfa.errors import BackendUnavailable, Refused
from radius_mfa.policy.requirement import NOTHING_REQUIRED, Requirement
from radius_mfa.stores import bulk as bulk_module
from radius_mfa.stores import keys
from radius_mfa.stores.bulk import Bulk, BulkDevice, BulkUser, Existing
from radius_mfa.stores.enrolments import EnrolmentStore, NewDevice, devices_by_user
from radius_mfa.stores.interfaces import Identity
from radius_mfa.stores.keyring import KeyRing
from radius_mfa.stores.records import Database, DeviceRecord
from tests.integration.conftest import Told, everything

SEED, OTHER_SEED = b"canary-seed-of-alice", b"canary-seed-number-2"
HASH = "hash"
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def device(name: str = "phone", seed: bytes = SEED) -> BulkDevice:
    return BulkDevice(NewDevice(name, seed), "row 2", confirmed_at=NOW, confirmed_step=59_000_000)


def user(name: str, *devices: BulkDevice, password_hash: str | None = HASH) -> BulkUser:
    return BulkUser(name, f"row of {name}", password_hash=password_hash, devices=devices)


def owner(name: str, *devices: BulkDevice) -> BulkUser:
    return BulkUser(name, described=False, devices=devices)


@pytest.fixture
def bulk(database: Database, key_ring: KeyRing, told: Told) -> Bulk:
    return Bulk(database, key_ring, told)


async def test_users_and_devices_are_taken_in_whole(
    bulk: Bulk, store: EnrolmentStore, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than one statement's worth; each user told before the commit and after it."""
    monkeypatch.setattr(bulk_module, "CHUNK", 10)
    names = [f"user{number:02}" for number in range(25)]
    outcome = await bulk.take_in([user(name, device()) for name in names])
    assert (outcome.users_added, outcome.devices_added, outcome.obstacles) == (25, 25, [])
    assert sorted(told.users) == sorted(names * 2)
    assert [one.name for one in await store.users()] == names
    [kept] = (await store.fetch("user07")).devices
    assert (kept.name, kept.seed, kept.confirmed_step) == ("phone", SEED, 59_000_000)


async def test_no_seed_is_stored_in_plain(bulk: Bulk, database: Database) -> None:
    await bulk.take_in([user("alice", device())])
    for rows in (await everything(database)).values():
        assert SEED not in b"".join(cell for row in rows for cell in row if isinstance(cell, bytes))
    assert "canary" not in repr(user("alice", device(), password_hash="canary"))


REFUSED = {
    "user on record": [user("new"), user("alice")],
    "user unknown": [owner("alice", device("b", OTHER_SEED)), owner("nobody", device())],
    "device name on record": [owner("alice", device("phone", OTHER_SEED))],
    "seed on record": [owner("alice", device("other", SEED))],
}


@pytest.mark.parametrize("source", REFUSED.values(), ids=REFUSED)
async def test_one_obstacle_and_nothing_is_changed(
    bulk: Bulk, database: Database, told: Told, source: list[BulkUser]
) -> None:
    await bulk.take_in([user("alice", device())])
    before, told.users[:] = await everything(database), []
    outcome = await bulk.take_in(source)
    [obstacle] = outcome.obstacles
    assert obstacle.what
    assert obstacle.cure
    assert "canary" not in repr(outcome)
    assert await everything(database) == before
    assert told.users == []


async def test_a_dry_run_tells_the_same_and_changes_nothing(
    bulk: Bulk, database: Database, told: Told
) -> None:
    source = [user("alice", device()), user("bob")]
    before = await everything(database)
    dry = await bulk.take_in(source, dry_run=True)
    assert await everything(database) == before
    assert told.users == []
    assert dry == await bulk.take_in(source)


async def test_partial_takes_what_it_can(bulk: Bulk, store: EnrolmentStore) -> None:
    await bulk.take_in([user("alice", device())])
    source = [owner("alice", device(), device("b", OTHER_SEED)), owner("nobody", device())]
    outcome = await bulk.take_in(source, partial=True)
    assert (outcome.devices_added, len(outcome.obstacles)) == (1, 2)
    assert {one.name for one in (await store.fetch("alice")).devices} == {"phone", "b"}


async def test_users_of_devices_are_made_where_that_is_wanted(
    bulk: Bulk, store: EnrolmentStore
) -> None:
    outcome = await bulk.take_in([owner("alice", device())], create_users=True)
    assert (outcome.users_added, outcome.devices_added) == (1, 1)
    assert (await store.user("alice")).password_changed_at is None
    outcome = await bulk.take_in([user("alice")], Existing.UPDATE)
    assert outcome.users_updated == 1
    assert (await store.user("alice")).password_changed_at is not None


async def test_skipping_leaves_what_is_there_and_adds_the_rest(
    bulk: Bulk, store: EnrolmentStore
) -> None:
    await bulk.take_in([user("alice", device())])
    again = [user("alice", device("b", OTHER_SEED), password_hash="other"), user("bob")]
    outcome = await bulk.take_in(again, Existing.SKIP)
    assert (outcome.users_skipped, outcome.users_added, outcome.devices_added) == (1, 1, 0)
    more = [owner("alice", device(), device("b", OTHER_SEED))]
    outcome = await bulk.take_in(more, Existing.SKIP)
    assert (outcome.devices_skipped, outcome.devices_added) == (1, 1)
    assert [one.name for one in (await store.fetch("alice")).devices] == ["phone", "b"]


async def test_updating_replaces_password_suspension_and_device(
    bulk: Bulk, store: EnrolmentStore, database: Database
) -> None:
    await bulk.take_in([user("alice", device()), user("bob", device())])
    before = (await store.fetch("alice")).version
    changed = replace(
        user("alice", device("phone", OTHER_SEED), password_hash="new"), suspended=True
    )
    outcome = await bulk.take_in([changed], Existing.UPDATE)
    assert (outcome.users_updated, outcome.devices_replaced) == (1, 1)
    enrolment = await store.fetch("alice")
    assert [one.seed for one in enrolment.devices] == [OTHER_SEED]
    assert enrolment.suspended
    assert enrolment.version > before
    passwords = {row[0]: row[1] for row in (await everything(database))["local_user"]}
    assert passwords == {"alice": "new", "bob": "hash"}
    await bulk.take_in([replace(user("alice"), suspended=False)], Existing.UPDATE)
    assert not (await store.fetch("alice")).suspended


@pytest.mark.parametrize("fail_on", [1, 2])
async def test_where_redis_can_t_be_told_nothing_is_changed(
    bulk: Bulk, database: Database, told: Told, fail_on: int
) -> None:
    before = await everything(database)
    told.fail_on = fail_on
    with pytest.raises(BackendUnavailable, match="redis"):
        await bulk.take_in([user("alice"), user("bob")])
    assert await everything(database) == before


async def test_redis_going_away_after_the_commit_is_no_failure(
    bulk: Bulk, store: EnrolmentStore, told: Told
) -> None:
    told.fail_on = 3
    await bulk.take_in([user("alice"), user("bob")])
    assert len(await store.users()) == 2


async def test_a_redis_that_takes_longer_than_the_barrier_holds_is_too_slow(
    bulk: Bulk, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ADR 0007: nothing may be cached between the first word to Redis and the commit."""
    monkeypatch.setattr(bulk_module, "MAX_TELLING_SECONDS", -1.0)
    before = await everything(database)
    with pytest.raises(BackendUnavailable, match="too slow for so many users"):
        await bulk.take_in([user("alice")])
    assert await everything(database) == before


async def test_each_user_is_told_before_others_can_see_the_change(
    bulk: Bulk, told: Told, other_store: EnrolmentStore
) -> None:
    seen: list[int] = []

    async def look() -> None:
        seen.append(len(await other_store.users()))

    told.also = look
    await bulk.take_in([user("alice")])
    assert seen == [0, 1]


@pytest.mark.parametrize("existing", Existing)
async def test_two_imports_at_once_leave_each_user_once(
    bulk: Bulk,
    other_database: Database,
    key_ring: KeyRing,
    store: EnrolmentStore,
    existing: Existing,
) -> None:
    other = Bulk(other_database, key_ring, Told())
    source = [user(f"user{number}", device()) for number in range(20)]

    async def take_in(one: Bulk) -> str:
        try:
            return "refused" if (await one.take_in(source, existing)).obstacles else "done"
        except Refused as error:
            return error.message

    results = await asyncio.gather(take_in(bulk), take_in(other))
    assert "done" in results
    users = await store.users()
    assert len(users) == 20
    assert all(len(one.devices) == 1 for one in users)


async def test_nothing_is_stored_under_a_key_that_was_retired_meanwhile(
    bulk: Bulk, database: Database, key_ring: KeyRing
) -> None:
    """An import reads the key ring and then takes its time; another node may retire the key."""
    await keys.check(database, key_ring)
    async with database.session() as session, session.begin():
        [key] = await keys.known_keys(session)
        await keys.retire(session, key)
    before = await everything(database)
    with pytest.raises(Refused, match="key version 1 was retired a moment ago"):
        await bulk.take_in([user("alice", device())])
    assert await everything(database) == before


# ---- Everything out ------------------------------------------------------------------------------


async def test_everything_comes_out_as_it_went_in(bulk: Bulk, store: EnrolmentStore) -> None:
    await bulk.take_in([user("bob", password_hash=None), user("alice", device())])
    await store.suspend(["bob"], suspended=True)
    await store.add_device("alice", NewDevice("waiting", OTHER_SEED))
    [phone] = (await store.fetch("alice")).devices
    await store.resync_device("alice", phone.device_id, -40)
    users, unreadable = await bulk.everything()
    assert unreadable == []
    assert [(one.name, one.suspended, one.password_hash) for one in users] == [
        ("alice", False, "hash"),
        ("bob", True, None),
    ]
    assert [(one.new.name, one.new.seed, one.confirmed_at) for one in users[0].devices] == [
        ("phone", SEED, NOW),
        ("waiting", OTHER_SEED, None),
    ]
    assert [one.drift_steps for one in users[0].devices] == [-40, 0]
    await bulk.take_in(users, Existing.UPDATE)
    [phone] = (await store.fetch("alice")).devices
    assert phone.drift_steps == -40, "as it was, by the same account"


async def test_a_directory_s_user_goes_in_as_they_came_out(
    bulk: Bulk, store: EnrolmentStore
) -> None:
    """With key, directory and name, and with what is required: a suspended factor stays so."""
    ann = Identity("LDAP/corp/4F2A", "ann", "corp", dn="uid=ann", mail="ann@corp.example")
    asked = Requirement(1.0, 2.5, 3.0, factor_suspended=True, exempt_reason="new")
    await store.know(ann)
    await store.add_device(ann.key, NewDevice("phone", SEED), confirmed=True)
    await store.change_requirements([ann.key], "test", lambda _: asked)
    await store.join(ann.key, ["staff", "ops"])
    exported, _ = await bulk.everything()
    await store.delete_user(ann.key)
    await bulk.take_in(exported)
    [moved] = await store.users()
    assert (moved.key, moved.name, moved.directory) == (ann.key, "ann", "corp")
    assert moved.groups == ("ops", "staff")
    assert (moved.requirement, moved.mail) == (asked, "ann@corp.example")
    assert [one.name for one in await store.named("ann")] == ["ann"]
    [kept] = (await store.fetch(ann.key)).devices
    assert kept.seed == SEED
    [obstacle] = (await bulk.take_in(exported)).obstacles
    assert obstacle.user == "ann"

    renamed = replace(exported[0], user_name="ann-smith", requirement=NOTHING_REQUIRED, devices=())
    renamed = replace(renamed, groups=("ops",), mail="ann@new.example")
    await bulk.take_in([renamed], Existing.UPDATE)
    [moved] = await store.users()
    assert (moved.name, moved.requirement) == ("ann-smith", NOTHING_REQUIRED)
    assert (moved.groups, moved.mail) == (("ops",), "ann@new.example")
    await bulk.take_in([owner(ann.key, device("b", OTHER_SEED))])
    [moved] = await store.users()
    told = (moved.name, moved.groups)
    assert told == ("ann-smith", ("ops",)), "a source that knows devices alone changes nothing else"


async def test_a_seed_that_can_t_be_decrypted_is_named_and_the_others_come_out(
    bulk: Bulk, database: Database
) -> None:
    await bulk.take_in([user("alice", device(), device("b", OTHER_SEED))])
    async with database.session() as session, session.begin():
        damaged = update(DeviceRecord).where(DeviceRecord.name == "b").values(seed=bytes(40))
        await session.execute(damaged)
    [alice], [obstacle] = await bulk.everything()
    assert [one.new.name for one in alice.devices] == ["phone"]
    assert obstacle.what.startswith("the seed of b can't be decrypted")
    assert obstacle.user == "alice"


async def test_what_comes_out_is_of_one_moment(
    bulk: Bulk, other_store: EnrolmentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user deleted in the middle of it is in it wholly or not at all."""
    await bulk.take_in([user("alice", device())])
    by_user: Callable[..., Awaitable[object]] = devices_by_user

    async def after_a_deletion(*arguments: object) -> object:
        await other_store.delete_user("alice")
        return await by_user(*arguments)

    monkeypatch.setattr(bulk_module, "devices_by_user", after_a_deletion)
    [alice], _ = await bulk.everything()
    assert len(alice.devices) == 1
    assert await other_store.users() == []


@pytest.mark.parametrize(
    ("new", "why"),
    [
        (NewDevice("phone", b"short"), "the seed is 40 bits long: 128 at least"),
        (NewDevice("phone", SEED, digits=7), "codes of 7 digits"),
        (NewDevice("phone", SEED, time_step_seconds=45), "a new code every 45 s"),
        (NewDevice("", SEED), "a device's name is 1 to 64"),
    ],
)
async def test_no_way_in_enrols_an_unfit_device(
    store: EnrolmentStore, bulk: Bulk, new: NewDevice, why: str
) -> None:
    """RFC 4226 section 4 (R6), not by the command line alone."""
    await store.add_user("alice")
    with pytest.raises(Refused, match=why):
        await store.add_device("alice", new)
    outcome = await bulk.take_in([owner("alice", BulkDevice(new, "row 2"))])
    assert why in outcome.obstacles[0].what
    assert (await store.user("alice")).devices == ()

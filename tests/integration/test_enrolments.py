"""Users and devices on record: what is refused, what is kept, and who is told when."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from radius_mfa.errors import BackendUnavailable, Refused
from radius_mfa.policy.access import Enrolment
from radius_mfa.policy.requirement import begun_anew, required
from radius_mfa.policy.totp import Algorithm, Device
from radius_mfa.stores.enrolments import EnrolmentStore, NewDevice
from radius_mfa.stores.records import Database, MfaUser
from tests.integration.conftest import Told, everything

SEED = b"canary-seed-of-alice"
OTHER_SEED = b"canary-seed-of-bob.."

PHONE = NewDevice("phone", SEED)
TABLET = NewDevice("tablet", OTHER_SEED, Algorithm.SHA256, digits=8, time_step_seconds=60)

Change = Callable[[EnrolmentStore], Coroutine[Any, Any, object]]


async def _confirm_tablet(store: EnrolmentStore) -> None:
    devices = (await store.user("alice")).devices
    tablet = next(device for device in devices if device.name == "tablet")
    await store.confirm_device("alice", tablet.device_id, 7)


CHANGES: dict[str, Change] = {
    "delete_user": lambda store: store.delete_user("alice"),
    "suspend": lambda store: store.suspend(["alice"], suspended=True),
    "add_device": lambda store: store.add_device("alice", NewDevice("third"), confirmed=True),
    "replace_device": lambda store: store.add_device("alice", NewDevice("tablet")),
    "confirm_device": _confirm_tablet,
    "remove_device": lambda store: store.remove_device("alice", "phone"),
    "require": lambda store: store.change_requirements(
        ["alice"], "test", lambda known: required(known, 0, 7)
    ),
    "reset": lambda store: store.reset(["alice"], lambda known: begun_anew(known, 0, 7)),
    "join": lambda store: store.join("alice", ["VPN Staff"]),
    "leave": lambda store: store.leave("alice", ["guests"]),
}

ADD_USER: Change = lambda store: store.add_user("bob", "hash of bob")  # noqa: E731 - one of a table

on_every_change = pytest.mark.parametrize(
    "change", [*CHANGES.values(), ADD_USER], ids=[*CHANGES, "add_user"]
)


@pytest.fixture
async def alice(store: EnrolmentStore, told: Told) -> Enrolment:
    """A user with a confirmed phone and a tablet that waits for its first code."""
    await store.add_user("alice", "hash of alice", ["Guests"])
    await store.add_device("alice", PHONE, confirmed=True)
    await store.add_device("alice", TABLET)
    told.users.clear()
    return await store.fetch("alice")


# Refusals

REFUSALS: list[tuple[Change, str]] = [
    (lambda s: s.add_user("alice", "another hash"), "the user alice exists already"),
    (lambda s: s.add_device("alice", NewDevice("phone")), "has a device named phone already"),
    (lambda s: s.add_device("alice", NewDevice("x", SEED)), "enrolled already, .* device phone"),
    (lambda s: s.add_device("alice", NewDevice("x", OTHER_SEED)), "already, .* device tablet"),
    (lambda s: s.add_device("alice", NewDevice("tablet", SEED)), "already, as .* device phone"),
    (lambda s: s.remove_device("alice", "PHONE"), "has no device named PHONE"),
    (lambda s: s.confirm_device("alice", "no such id", 7), "was replaced or confirmed"),
    (lambda s: s.delete_user("Alice"), "there is no user Alice"),
    (lambda s: s.suspend(["bob"], suspended=True), "there is no user bob"),
    (lambda s: s.add_device("bob", PHONE), "there is no user bob"),
    (lambda s: s.remove_device("bob", "phone"), "there is no user bob"),
    (lambda s: s.user("bob"), "there is no user bob"),
    (lambda s: s.join("bob", ["staff"]), "there is no user bob"),
    (lambda s: s.join("alice", ["staff", ""]), "name is not empty"),
    (lambda s: s.join("alice", ["a\nb"]), "holds no control or invisible"),
    (lambda s: s.join("alice", ["x" * 129]), "at most 128 characters"),
    (lambda s: s.leave("alice", ["guests", "staff"]), "alice is not in the group staff"),
    (lambda s: s.add_user("carol", groups=[" staff"]), "neither begins nor ends"),
]


@pytest.mark.usefixtures("alice")
@pytest.mark.parametrize(
    ("change", "message"),
    [pytest.param(change, message, id=message) for change, message in REFUSALS],
)
async def test_a_refused_change_changes_nothing_and_says_why(
    store: EnrolmentStore, database: Database, change: Change, message: str
) -> None:
    """O06, and bad input: the refusal names what is wrong, and every row stays as it was."""
    before = await everything(database)
    with pytest.raises(Refused, match=message) as refused:
        await change(store)
    assert await everything(database) == before
    assert "canary" not in f"{refused.value!r} {refused.value.cure}"


async def test_a_device_of_another_user_is_not_confirmed(
    store: EnrolmentStore, alice: Enrolment
) -> None:
    assert alice.known
    await store.add_user("bob")
    device = await store.add_device("bob", NewDevice("phone"))
    with pytest.raises(Refused):
        await store.confirm_device("alice", device.device_id, 7)
    assert (await store.fetch("bob")).devices == ()


async def test_a_device_is_confirmed_once(store: EnrolmentStore, alice: Enrolment) -> None:
    """A second confirmation would move *confirmed_step* and let used codes in again."""
    with pytest.raises(Refused):
        await store.confirm_device("alice", alice.devices[0].device_id, 0)
    await _confirm_tablet(store)
    with pytest.raises(Refused):
        await _confirm_tablet(store)


@pytest.mark.usefixtures("alice")
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda s, _n: s.add_user("bob", "hash"), id="user"),
        pytest.param(
            lambda s, n: s.add_device("alice", NewDevice(f"phone {n}", b"one seed for all ..")),
            id="seed",
        ),
        pytest.param(
            lambda s, _n: s.add_device("alice", NewDevice("x"), confirmed=True), id="name"
        ),
        pytest.param(lambda s, _n: _confirm_tablet(s), id="confirmation"),
        pytest.param(lambda s, _n: s.remove_device("alice", "phone"), id="removal"),
    ],
)
async def test_of_the_same_change_made_at_once_on_two_nodes_one_wins(
    store: EnrolmentStore,
    other_store: EnrolmentStore,
    change: Callable[[EnrolmentStore, int], Awaitable[object]],
) -> None:
    """O06: the same seed enrolled twice is one, from two connections at the same time too."""
    results = await asyncio.gather(
        *(change([store, other_store][number % 2], number) for number in range(6)),
        return_exceptions=True,
    )
    refusals = [result for result in results if isinstance(result, BaseException)]
    assert [isinstance(refusal, Refused) for refusal in refusals] == [True] * 5


# What is kept


async def test_an_unknown_user_is_an_enrolment_not_known(store: EnrolmentStore) -> None:
    assert await store.fetch("nobody") == Enrolment(known=False)


async def test_a_confirmed_device_comes_back_as_it_was_enrolled(
    store: EnrolmentStore, other_store: EnrolmentStore, alice: Enrolment
) -> None:
    assert [device.name for device in alice.devices] == ["phone"]
    await _confirm_tablet(store)
    phone, tablet = (await other_store.fetch("alice")).devices
    assert phone == Device(phone.device_id, "phone", SEED)
    assert tablet == Device(tablet.device_id, "tablet", OTHER_SEED, Algorithm.SHA256, 8, 60, 7)


async def test_an_unconfirmed_device_counts_for_nothing_and_gives_way(
    store: EnrolmentStore, alice: Enrolment
) -> None:
    """Rule 11: it is in no Enrolment, and a new one of its name takes its place."""
    assert "tablet" not in {device.name for device in alice.devices}
    first, *_ = [d for d in (await store.user("alice")).devices if d.name == "tablet"]
    second = await store.add_device("alice", NewDevice("tablet", OTHER_SEED))
    assert [device.name for device in (await store.fetch("alice")).devices] == ["phone"]
    with pytest.raises(Refused):
        await store.confirm_device("alice", first.device_id, 7)
    await store.confirm_device("alice", second.device_id, 7)
    names = [(d.name, d.device_id) for d in (await store.fetch("alice")).devices]
    assert names[1:] == [("tablet", second.device_id)]


async def test_a_removed_device_is_gone_and_may_come_back(
    store: EnrolmentStore, alice: Enrolment
) -> None:
    await store.remove_device("alice", "phone")
    assert (await store.fetch("alice")).devices == ()
    again = await store.add_device("alice", PHONE, confirmed=True)
    assert again.device_id != alice.devices[0].device_id
    assert [device.seed for device in (await store.fetch("alice")).devices] == [SEED]


async def test_a_user_made_anew_inherits_nothing(
    store: EnrolmentStore, database: Database, alice: Enrolment
) -> None:
    """Neither devices nor password nor version: nothing cached of the old one fits the new one."""
    await store.delete_user("alice")
    left = await everything(database)
    del left["audit"]  # which keeps what was done to whom
    assert all(not rows for rows in left.values())
    assert not (await store.fetch("alice")).known
    await store.add_user("alice")
    fresh = await store.fetch("alice")
    assert fresh == Enrolment(fresh.version, known=True)
    assert fresh.version > alice.version
    assert (await store.user("alice")).password_changed_at is None


@pytest.mark.usefixtures("alice")
async def test_suspending_ends_with_resuming(store: EnrolmentStore) -> None:
    await store.suspend(["alice"], suspended=True)
    assert (await store.fetch("alice")).suspended
    assert (await store.user("alice")).suspended_at is not None
    await store.suspend(["alice"], suspended=False)
    assert not (await store.fetch("alice")).suspended


async def test_lists_show_every_user_by_name_and_no_secret(
    store: EnrolmentStore, alice: Enrolment
) -> None:
    await store.add_user("zoe")
    await store.add_user("bob", "hash of bob")
    listed = await store.users()
    assert [user.name for user in listed] == ["alice", "bob", "zoe"]
    assert listed == [await store.user(name) for name in ("alice", "bob", "zoe")]
    assert [user.password_changed_at is not None for user in listed] == [True, True, False]
    phone, tablet = listed[0].devices
    assert phone.device_id == alice.devices[0].device_id
    assert (phone.confirmed_at is None, tablet.confirmed_at is None) == (False, True)
    assert phone.created_at.utcoffset() is not None
    assert "canary" not in repr(listed)
    assert "hash of" not in repr(listed)


@pytest.mark.parametrize("name", ["o'brien", 'a"b; drop table device; --', "%s {0} :x", "jürgen☃"])
async def test_a_name_is_kept_as_it_is(store: EnrolmentStore, name: str) -> None:
    await store.add_user(name, "hash")
    await store.add_device(name, NewDevice(name, SEED), confirmed=True)
    assert [device.name for device in (await store.fetch(name)).devices] == [name]
    await store.remove_device(name, name)
    await store.delete_user(name)
    assert await store.users() == []


# Who is told, and when


@pytest.mark.usefixtures("alice")
@on_every_change
async def test_every_node_is_told_before_a_change_can_be_seen_and_again_after_it(
    store: EnrolmentStore, other_database: Database, told: Told, change: Change
) -> None:
    """Between the two the barrier in Redis keeps what is read from being cached."""
    seen = []

    async def look() -> None:
        seen.append(await everything(other_database))

    before = await everything(other_database)
    told.also = look
    await change(store)
    assert seen == [before, await everything(other_database)]
    assert seen[0] != seen[1]
    assert len(set(told.users)) == 1


@pytest.mark.usefixtures("alice")
@on_every_change
async def test_nothing_is_changed_where_redis_can_not_be_told(
    store: EnrolmentStore, database: Database, told: Told, change: Change
) -> None:
    before = await everything(database)
    told.fail_on = 1
    with pytest.raises(BackendUnavailable, match="redis"):
        await change(store)
    assert await everything(database) == before


@pytest.mark.usefixtures("alice")
@on_every_change
async def test_a_change_stands_where_redis_goes_away_after_it(
    store: EnrolmentStore, database: Database, told: Told, change: Change
) -> None:
    before = await everything(database)
    told.fail_on = 2
    await change(store)
    assert await everything(database) != before


async def test_an_exception_inside_a_change_undoes_it_and_nobody_is_told(
    store: EnrolmentStore, database: Database, told: Told, alice: Enrolment
) -> None:
    before = await everything(database)

    async def broken() -> None:
        async with store.change("alice", "test") as session:
            await session.delete(await session.get_one(MfaUser, "alice"))
            await session.flush()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await broken()
    assert await everything(database) == before
    assert told.users == []
    assert await store.fetch("alice") == alice


@pytest.mark.usefixtures("alice")
@pytest.mark.parametrize("change", list(CHANGES.values())[1:], ids=list(CHANGES)[1:])
async def test_versions_grow_with_every_change(store: EnrolmentStore, change: Change) -> None:
    before = (await store.fetch("alice")).version
    await change(store)
    assert (await store.fetch("alice")).version == before + 1


async def test_many_changes_at_once_from_two_nodes_all_happen(
    store: EnrolmentStore, other_store: EnrolmentStore, alice: Enrolment
) -> None:
    """Writers wait for one another: SQLite has one at a time, PostgreSQL one of a user."""
    await store.add_user("bob")
    bob = await store.fetch("bob")
    await asyncio.gather(
        *(node.join("alice", ["staff"]) for node in (store, other_store) * 5),
        *(node.join("bob", ["staff"]) for node in (store, other_store) * 5),
        *(node.fetch("alice") for node in (store, other_store) * 5),
    )
    assert (await store.fetch("alice")).version == alice.version + 10
    assert (await store.fetch("bob")).version == bob.version + 10

"""Recovery codes on record: unknowable from a copy, and used by one login of all."""

import asyncio

import pytest

from radius_mfa.errors import BackendUnavailable, ConfigurationError, Refused
from radius_mfa.policy import recovery
from radius_mfa.stores import audit, keys
from radius_mfa.stores.enrolments import EnrolmentStore, NewDevice
from radius_mfa.stores.interfaces import RecoveryMatch
from radius_mfa.stores.keyring import KEY_OCTETS, KeyRing
from radius_mfa.stores.records import Database
from radius_mfa.stores.recovery_codes import RecoveryCodeStore
from tests.integration.conftest import Told, everything

NOW = 1_800_000_000.0


@pytest.fixture
async def codes(store: EnrolmentStore, key_ring: KeyRing) -> RecoveryCodeStore:
    for name in ("alice", "bob"):
        await store.add_user(name)
        await store.add_device(name, NewDevice("phone"), confirmed=True)
    return RecoveryCodeStore(store, key_ring)


@pytest.fixture
def other_codes(other_store: EnrolmentStore, key_ring: KeyRing) -> RecoveryCodeStore:
    """The store of another node."""
    return RecoveryCodeStore(other_store, key_ring)


async def found(codes: RecoveryCodeStore, code: str, login: str = "x") -> RecoveryMatch:
    match = await codes.find("alice", ["nosuchcode", code], login, NOW)
    assert match is not None
    return match


async def test_of_many_logins_with_one_code_on_two_nodes_one_has_it(
    codes: RecoveryCodeStore, other_codes: RecoveryCodeStore, store: EnrolmentStore
) -> None:
    """Rule 1, O17: all have seen it unused."""
    [code, *_] = await codes.renew("alice")
    match = await found(codes, code)
    assert not match.used
    nodes = (codes, other_codes) * 10
    results = await asyncio.gather(
        *(node.consume(match, f"login {n}", NOW) for n, node in enumerate(nodes))
    )
    assert sorted(results) == [False] * 19 + [True]
    assert (await found(other_codes, code)).used
    assert (await store.user("alice")).recovery_codes == 9
    assert [user.recovery_codes for user in await store.users()] == [9, 0]


async def test_the_same_login_may_use_its_code_again_for_a_minute(
    codes: RecoveryCodeStore,
) -> None:
    [code, *_] = await codes.renew("alice")
    match = await found(codes, code)
    assert await codes.consume(match, "a", NOW)
    assert not (await found(codes, code, "a")).used
    assert (await found(codes, code, "b")).used
    assert await codes.consume(match, "a", NOW + 60)
    assert not await codes.consume(match, "a", NOW + 121)


async def test_a_code_is_given_back_by_the_login_that_used_it_alone(
    codes: RecoveryCodeStore,
) -> None:
    [code, *_] = await codes.renew("alice")
    match = await found(codes, code)
    assert await codes.consume(match, "a", NOW)
    await codes.release(match, "b")
    assert not await codes.consume(match, "b", NOW)
    await codes.release(match, "a")
    assert await codes.consume(match, "b", NOW)


async def test_codes_are_the_user_s_own_and_new_ones_end_the_old(
    codes: RecoveryCodeStore, store: EnrolmentStore
) -> None:
    old, of_bob = await codes.renew("alice"), await codes.renew("bob")
    assert len({*old, *of_bob}) == 20
    assert await codes.find("alice", of_bob, "x", NOW) is None
    version = (await store.fetch("alice")).version
    new = await codes.renew("alice")
    assert await codes.find("alice", old, "x", NOW) is None
    assert await codes.find("bob", of_bob, "x", NOW) is not None
    for code in new:
        assert await codes.find("alice", [code], "x", NOW) is not None
    fresh = await store.fetch("alice")
    assert (fresh.recovery_codes, fresh.version) == (10, version + 1)


@pytest.mark.parametrize("end", ["reset", "last device", "user"])
async def test_codes_end_with_what_they_stand_in_for(
    codes: RecoveryCodeStore, store: EnrolmentStore, end: str
) -> None:
    known = await codes.renew("alice")
    await store.add_device("alice", NewDevice("waits"))
    await store.add_device("alice", NewDevice("tablet"), confirmed=True)
    await store.remove_device("alice", "tablet")
    assert (await store.fetch("alice")).recovery_codes == 10, "the phone is still there"
    if end == "reset":
        await store.reset(["alice"], lambda asked: asked)
    elif end == "last device":
        await store.remove_device("alice", "phone")
    else:
        await store.delete_user("alice")
        await store.add_user("alice")
    assert await codes.find("alice", known, "x", NOW) is None
    assert (await store.fetch("alice")).recovery_codes == 0


async def test_without_a_confirmed_device_there_are_none(
    codes: RecoveryCodeStore, store: EnrolmentStore, database: Database
) -> None:
    await store.add_user("carol")
    await store.add_device("carol", NewDevice("waits"))
    before = await everything(database)
    with pytest.raises(Refused, match="no device whose first code was confirmed"):
        await codes.renew("carol")
    with pytest.raises(Refused, match="there is no user zed"):
        await codes.renew("zed")
    assert await everything(database) == before


async def test_a_copy_of_the_database_tells_no_code(
    codes: RecoveryCodeStore, database: Database
) -> None:
    """L05: neither in plain nor as a hash that could be tried; nor does the trail."""
    known = await codes.renew("alice")
    copy = await everything(database)
    for row in copy["recovery_code"]:
        for code in known:
            assert code not in repr(row)
            assert recovery.digest(code, row[0]) not in row[3]
            assert recovery.digest(code, row[0]).hex() not in repr(row)
    trail = repr(await audit.entries(database))
    assert not any(code in trail for code in known)
    assert known[0] not in repr(await codes.find("alice", known[:1], "x", NOW))


async def test_a_key_that_codes_are_under_is_missed_at_start_and_never_a_wrong_code(
    codes: RecoveryCodeStore, other_store: EnrolmentStore, database: Database
) -> None:
    """Nor is it a failure of the user: rule 9."""
    known = await codes.renew("alice")
    strange = KeyRing({2: bytes(KEY_OCTETS)})
    node = RecoveryCodeStore(other_store, strange)
    with pytest.raises(BackendUnavailable, match="keyring"):
        await node.find("alice", known, "x", NOW)
    for name in ("alice", "bob"):
        await EnrolmentStore(database, strange, Told()).remove_device(name, "phone")
    await RecoveryCodeStore(other_store, strange).find("alice", known, "x", NOW)
    await keys.check(database, strange)


async def test_a_row_moved_to_another_user_opens_nothing(
    codes: RecoveryCodeStore, database: Database
) -> None:
    """Who can write to the database can't give somebody else's codes to himself."""
    known = await codes.renew("alice")
    async with database.session() as session, session.begin():
        connection = await session.connection()
        await connection.exec_driver_sql("UPDATE recovery_code SET \"user\" = 'bob'")
    with pytest.raises(BackendUnavailable, match="keyring"):
        await codes.find("bob", known, "x", NOW)


async def test_start_refuses_a_ring_without_the_key_of_recovery_codes(
    codes: RecoveryCodeStore, database: Database
) -> None:
    await codes.renew("alice")
    async with database.session() as session, session.begin():
        connection = await session.connection()
        await connection.exec_driver_sql("DELETE FROM device")
    with pytest.raises(ConfigurationError, match="lacks key version 1"):
        await keys.check(database, KeyRing({2: bytes(KEY_OCTETS)}))

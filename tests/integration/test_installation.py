"""What a start finds out: a wrong key ring, and a Redis that has lost its memory."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from radius_mfa import tasks
from radius_mfa.errors import BackendUnavailable, ConfigurationError
from radius_mfa.stores import installation
from radius_mfa.stores import keys as keys_module
from radius_mfa.stores.attempts import RedisAttempts
from radius_mfa.stores.enrolments import EnrolmentCodec, EnrolmentStore, NewDevice
from radius_mfa.stores.interfaces import Subject
from radius_mfa.stores.keyring import KEY_OCTETS, KeyRing
from radius_mfa.stores.keys import check as check_keys
from radius_mfa.stores.records import Database, note
from radius_mfa.stores.redis_scripts import RedisScripts, connect, load_scripts
from tests.integration.conftest import Statements, Told, everything
from tests.support.redis import RealRedis
from tests.support.server import eventually

FIRST_KEY, SECOND_KEY, THIRD_KEY = (bytes([n]) * KEY_OCTETS for n in (1, 2, 3))


@pytest.fixture
def key_ring() -> KeyRing:
    return KeyRing({1: FIRST_KEY})


@pytest.fixture
async def attempts(real_redis: RealRedis, key_ring: KeyRing) -> AsyncIterator[RedisAttempts]:
    codec = EnrolmentCodec(key_ring)
    redis = connect(real_redis.url, password=None, timeout_seconds=5)
    async with RedisScripts(redis, load_scripts()) as scripts:
        yield RedisAttempts(scripts, decode=codec.decode, encode=codec.encode)


# Keys


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({1: SECOND_KEY}, "key version 1 in the key ring is not the one this database was made"),
        ({2: SECOND_KEY, 1: THIRD_KEY}, "key version 1 in the key ring is not the one"),
        ({2: FIRST_KEY}, "the key ring lacks key version 1, which is in use"),
    ],
)
async def test_a_key_ring_of_another_database_is_noticed_at_start(
    database: Database,
    store: EnrolmentStore,
    key_ring: KeyRing,
    keys: dict[int, bytes],
    message: str,
) -> None:
    """And nothing of it is noted, so that the right one still fits afterwards."""
    await check_keys(database, key_ring)
    await store.add_user("alice")
    await store.add_device("alice", NewDevice("phone"))
    before = await everything(database)
    with pytest.raises(ConfigurationError, match=message) as refused:
        await check_keys(database, KeyRing(keys))
    assert "restore" in refused.value.cure
    assert await everything(database) == before
    await check_keys(database, key_ring)


async def test_every_key_version_that_is_missed_is_named(database: Database) -> None:
    for version in (1, 2):
        node = EnrolmentStore(database, KeyRing({version: FIRST_KEY}), Told())
        await node.add_user(f"user {version}")
        await node.add_device(f"user {version}", NewDevice("phone"), confirmed=True)
    with pytest.raises(ConfigurationError, match="lacks key version 1, 2, which"):
        await check_keys(database, KeyRing({3: THIRD_KEY}))


async def test_a_key_that_is_added_is_noted_and_encrypts_nothing_yet(
    database: Database, key_ring: KeyRing
) -> None:
    """Another node may not know it; which key encrypts is the database's word."""
    await check_keys(database, key_ring)
    longer = KeyRing({1: FIRST_KEY, 2: SECOND_KEY})
    for _ in range(2):
        await check_keys(database, longer)
    assert longer.primary == 1
    assert [fact[0] for fact in (await everything(database))["fact"]] == [
        "key_check_1",
        "key_check_2",
        "key_primary",
    ]
    with pytest.raises(ConfigurationError, match="key version 2"):
        await check_keys(database, KeyRing({1: FIRST_KEY, 2: THIRD_KEY}))


async def test_the_last_key_encrypts_on_a_new_installation(database: Database) -> None:
    ring = KeyRing({7: SECOND_KEY, 3: FIRST_KEY})
    await check_keys(database, ring)
    other_order = KeyRing({3: FIRST_KEY, 7: SECOND_KEY})
    await check_keys(database, other_order)
    assert (ring.primary, other_order.primary) == (3, 3)


async def test_the_key_that_encrypts_must_be_there_though_nothing_is_under_it(
    database: Database, key_ring: KeyRing
) -> None:
    await check_keys(database, key_ring)
    with pytest.raises(ConfigurationError, match="lacks key version 1, which is in use"):
        await check_keys(database, KeyRing({2: SECOND_KEY}))


async def test_no_key_is_in_the_database(database: Database, key_ring: KeyRing) -> None:
    """L05: what is noted tells a key, and does not hold it."""
    await check_keys(database, key_ring)
    assert FIRST_KEY.hex() not in repr(await everything(database))


@pytest.mark.parametrize("keys", [{1: FIRST_KEY}, {1: SECOND_KEY}])
async def test_of_two_nodes_that_note_the_first_key_at_once_the_slower_checks_its_own(
    database: Database, other_database: Database, key_ring: KeyRing, keys: dict[int, bytes]
) -> None:
    """It waits, finds the key of the faster one, and is refused where it has another."""
    statements = Statements()
    statements.watch(other_database)
    async with database.session() as session, session.begin():
        await keys_module._follow(session, key_ring)
        await session.flush()
        slower = tasks.spawn(check_keys(other_database, KeyRing(keys)))
        await asyncio.to_thread(
            eventually, lambda: any("INSERT" in sent for sent in statements.sent), "it to note"
        )
    if keys == {1: FIRST_KEY}:
        await slower
    else:
        with pytest.raises(ConfigurationError, match="key version 1"):
            await slower
    await check_keys(database, key_ring)


# Memory


def nobody() -> Subject:
    return Subject("nobody", "nas|")


async def test_a_new_installation_has_nothing_to_forget(
    database: Database, attempts: RedisAttempts
) -> None:
    await installation.open_epoch(database, attempts, 1000.0)
    assert (await attempts.load(nobody(), [], 1000.0)).forgotten_until == 0


async def test_a_restart_forgets_nothing(database: Database, attempts: RedisAttempts) -> None:
    await installation.open_epoch(database, attempts, 1000.0)
    first = await attempts.load(nobody(), [], 1000.0)
    await installation.open_epoch(database, attempts, 2000.0)
    assert await attempts.load(nobody(), [], 2000.0) == first


async def test_an_empty_redis_under_a_filled_database_is_a_lost_one(
    database: Database, attempts: RedisAttempts, real_redis: RealRedis
) -> None:
    """Rule 10: codes from before the moment it is noticed may have been used."""
    await installation.open_epoch(database, attempts, 1000.0)
    real_redis.flush()
    await installation.open_epoch(database, attempts, 2000.0)
    assert (await attempts.load(nobody(), [], 2000.0)).forgotten_until == 2000


async def test_of_two_nodes_on_a_new_installation_one_says_that_nothing_is_forgotten(
    database: Database, other_database: Database, attempts: RedisAttempts
) -> None:
    """The slower one waits for that word and believes it only where Redis still has it."""
    statements = Statements()
    statements.watch(other_database)
    async with database.session() as session, session.begin():
        assert await note(session, "redis_filled", "yes")
        slower = tasks.spawn(installation.open_epoch(other_database, attempts, 2000.0))
        await asyncio.to_thread(
            eventually, lambda: any("INSERT" in sent for sent in statements.sent), "it to note"
        )
    await slower
    assert (await attempts.load(nobody(), [], 2000.0)).forgotten_until == 2000


async def test_a_redis_that_does_not_answer_leaves_the_installation_new(
    database: Database, attempts: RedisAttempts, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def down(forgotten_until: float) -> bool:
        assert forgotten_until == 0
        raise BackendUnavailable("redis", "ConnectionError")

    with monkeypatch.context() as patch:
        patch.setattr(attempts, "open_epoch", down)
        with pytest.raises(BackendUnavailable, match="redis"):
            await installation.open_epoch(database, attempts, 1000.0)
    assert (await everything(database))["fact"] == []
    await installation.open_epoch(database, attempts, 2000.0)
    assert (await attempts.load(nobody(), [], 2000.0)).forgotten_until == 0

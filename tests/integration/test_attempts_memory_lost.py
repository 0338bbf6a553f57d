"""Rule 10: a Redis that has lost its memory never lets a used code in again."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from radius_mfa.errors import BackendUnavailable
from radius_mfa.policy.access import Enrolment
from radius_mfa.policy.decision import Accept, Reject, RejectReason
from radius_mfa.policy.totp import Device, Match
from radius_mfa.stores.attempts import RedisAttempts
from radius_mfa.stores.interfaces import Loaded, Settlement, Subject, VerdictKey
from radius_mfa.tasks import TaskSet
from tests.support.redis import RealRedis, attempts_over

NOW = 1_700_000_000.0
LATER = NOW + 12.4

SUBJECT = Subject("alice", "asa|10.0.0.1")
KEYS = [VerdictKey("aa", 60_000)]
ACCEPT = Settlement(Accept("totp"), Match(Device("d-phone", "phone", b""), 7))
WRONG = Settlement(Reject(RejectReason.WRONG_CODE), counted=True, wrong_value="bb")

COLD = "redis: Redis lost its memory while the login was in progress"


@pytest.fixture
async def store(real_redis: RealRedis) -> AsyncIterator[RedisAttempts]:
    """A store whose Redis has memory, from long ago."""
    async with attempts_over(real_redis.url) as opened:
        await opened.open_epoch(0)
        yield opened


def keys_in(redis: RealRedis, pattern: str = "*") -> list[bytes]:
    with redis.client as client:
        return sorted(client.scan_iter(pattern))


async def load(store: RedisAttempts, now: float = NOW, user: str = "alice") -> Loaded:
    return await store.load(Subject(user, SUBJECT.source), KEYS, now)


@pytest.mark.parametrize("settlement", [ACCEPT, WRONG], ids=["accept", "reject"])
async def test_a_settlement_that_finds_no_memory_is_refused_and_writes_nothing(
    store: RedisAttempts, real_redis: RealRedis, settlement: Settlement
) -> None:
    """What was loaded is worth nothing any more: the NAS must ask again."""
    loaded = await load(store)
    real_redis.flush()
    with pytest.raises(BackendUnavailable, match=COLD):
        await store.settle(SUBJECT, settlement, loaded, KEYS, NOW)
    assert keys_in(real_redis) == []


@pytest.mark.parametrize("settlement", [ACCEPT, WRONG], ids=["accept", "reject"])
async def test_a_settlement_of_before_the_loss_is_refused_after_it_too(
    store: RedisAttempts, real_redis: RealRedis, settlement: Settlement
) -> None:
    """Another login has noticed the loss meanwhile, so that there is an epoch, but a new one."""
    before = await load(store)
    real_redis.flush()
    after = await load(store, LATER)
    with pytest.raises(BackendUnavailable, match=COLD):
        await store.settle(SUBJECT, settlement, before, KEYS, NOW)
    assert keys_in(real_redis, "*:alice:*") == []
    settled = await store.settle(SUBJECT, settlement, after, KEYS, LATER)
    assert settled.decision == settlement.decision


@pytest.mark.parametrize(
    "meanwhile",
    [lambda _store: asyncio.sleep(0), lambda store: load(store, LATER)],
    ids=["unnoticed", "noticed"],
)
async def test_nothing_read_before_the_loss_is_cached_after_it(
    store: RedisAttempts,
    real_redis: RealRedis,
    meanwhile: Callable[[RedisAttempts], Awaitable[Any]],
) -> None:
    """Redis forgot as well that the user was changed meanwhile: a revoked device would work on."""
    loaded = await load(store)
    await store.invalidate("alice")  # and the devices that were read are no longer the user's
    real_redis.flush()
    await meanwhile(store)
    await store.remember("alice", Enrolment(1, known=True), loaded)
    assert (await load(store, LATER)).enrolment is None


async def test_a_load_that_finds_no_memory_refuses_codes_up_to_that_moment(
    store: RedisAttempts, real_redis: RealRedis
) -> None:
    """It opens an epoch, says so once, and every later load hears the same."""
    old = await load(store)
    assert old.forgotten_until == 0
    real_redis.flush()
    with capture_logs() as lines:
        loaded = await load(store, LATER)
        again = await load(store, LATER + 100)
        bob = await load(store, LATER + 100, "bob")
    assert loaded.forgotten_until == again.forgotten_until == bob.forgotten_until == 1_700_000_012
    assert old.epoch != loaded.epoch == again.epoch == bob.epoch
    [line] = lines
    assert (line["event"], line["log_level"]) == ("redis.memory_lost", "error")
    assert "flushed" in line["hint"]


async def test_logins_in_flight_notice_the_loss_together_and_all_go_on(
    store: RedisAttempts, real_redis: RealRedis
) -> None:
    """A13: 200 at once, on two nodes; they say it once a node, and none is left unanswered."""
    real_redis.flush()
    users = [f"user{number}" for number in range(100)]
    async with attempts_over(real_redis.url) as other:
        with capture_logs() as lines:
            loads = await asyncio.gather(
                *(load(node, LATER, user) for user in users for node in (store, other))
            )
    assert {loaded.forgotten_until for loaded in loads} == {1_700_000_012}
    assert 1 <= len(lines) <= 2
    by_user = [{loads[n].epoch, loads[n + 1].epoch} for n in range(0, 200, 2)]
    assert all(len(epochs) == 1 for epochs in by_user)


async def test_where_some_slots_keep_their_memory_only_the_others_refuse(
    store: RedisAttempts, real_redis: RealRedis
) -> None:
    """A node of a Redis Cluster that was replaced by an empty one."""
    users = [f"user{number}" for number in range(40)]
    before = {user: await load(store, NOW, user) for user in users}
    lost = keys_in(real_redis, "*:epoch")[::2]
    with real_redis.client as client:
        client.delete(*lost)
    with capture_logs() as lines:
        after = {user: await load(store, LATER, user) for user in users}
    assert [line["event"] for line in lines] == ["redis.memory_lost"]
    hit = {user for user in users if store._names(user)[0].encode() in lost}
    assert 0 < len(hit) < len(users)
    for user in users:
        expected = 1_700_000_012 if user in hit else 0
        assert after[user].forgotten_until == expected
        assert (after[user].epoch == before[user].epoch) is (user not in hit)
        subject = Subject(user, SUBJECT.source)
        if user in hit:
            with pytest.raises(BackendUnavailable, match=COLD):
                await store.settle(subject, ACCEPT, before[user], KEYS, NOW)
        else:
            await store.settle(subject, ACCEPT, before[user], KEYS, NOW)


async def test_a_watch_notices_the_loss_before_any_login_does(
    store: RedisAttempts, real_redis: RealRedis
) -> None:
    """And leaves an epoch alone that is there."""
    real_redis.flush()
    with capture_logs() as lines:
        await store.notice_lost_memory(NOW)
        await store.notice_lost_memory(LATER)
    assert (await load(store, LATER)).forgotten_until == NOW
    assert len(lines) == 1


async def test_a_second_loss_refuses_codes_up_to_the_second_moment(
    store: RedisAttempts, real_redis: RealRedis
) -> None:
    for now in (NOW, LATER):
        real_redis.flush()
        assert (await load(store, now)).forgotten_until == int(now)


async def test_a_new_installation_has_nothing_to_forget_and_only_once(
    real_redis: RealRedis,
) -> None:
    async with attempts_over(real_redis.url) as store:
        with capture_logs() as lines:
            assert await store.open_epoch(0)
            assert not await store.open_epoch(LATER)
            assert (await load(store)).forgotten_until == 0
    assert lines == []


async def test_a_redis_that_loses_key_after_key_is_no_memory_at_all(
    store: RedisAttempts, real_redis: RealRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An eviction policy that throws epochs away: no reply, and the operator is told what."""
    notice = store.notice_lost_memory

    async def in_vain(now: float) -> None:
        await notice(now)
        real_redis.flush()

    monkeypatch.setattr(store, "notice_lost_memory", in_vain)
    real_redis.flush()
    with pytest.raises(BackendUnavailable, match="is maxmemory-policy noeviction"):
        await load(store)


async def test_a_look_that_fails_fails_the_logins_that_wait_for_it_and_no_later_one(
    store: RedisAttempts, real_redis: RealRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A caller who gives up does no harm to the others."""

    async def broken(*_keys: str) -> None:
        raise ConnectionResetError

    real_redis.flush()
    tasks = TaskSet()
    with monkeypatch.context() as patch:
        patch.setattr(store._scripts.redis, "exists", broken)
        waiting = [tasks.spawn(store.notice_lost_memory(NOW)) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        ends = await asyncio.gather(*waiting, return_exceptions=True)
    kinds = [asyncio.CancelledError, BackendUnavailable, BackendUnavailable]
    assert [type(end) for end in ends] == kinds
    assert (await load(store)).forgotten_until == NOW

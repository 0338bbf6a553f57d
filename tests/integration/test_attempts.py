"""What is counted, locked, consumed and forgotten: in Redis, and in the model the tests use."""

import itertools
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest
from redis.crc import key_slot

from radius_mfa.policy.access import Enrolment
from radius_mfa.policy.decision import Accept, Decision, Reject, RejectReason
from radius_mfa.policy.lockout import UNTIL_UNLOCKED, LockoutPolicy
from radius_mfa.policy.totp import Device, Match
from radius_mfa.stores.attempts import UNKNOWN_USER_MS, RedisAttempts
from radius_mfa.stores.interfaces import Settled, Settlement, Subject, VerdictKey
from radius_mfa.stores.memory import MemoryAttempts
from tests.support.redis import RealRedis, attempts_over

NOW_MS = 1_700_000_000_000
SECOND, MINUTE, DAY = 1000, 60_000, 86_400_000

PHONE = Device("d-phone", "phone", b"")
WRONG_CODE = Reject(RejectReason.WRONG_CODE)
LOCKED = Reject(RejectReason.ACCOUNT_LOCKED)
REPLAYED = Reject(RejectReason.CODE_REPLAYED)
ACCEPT = Accept("totp")

CEILING = 100  # NIST SP 800-63B section 3.2.2

OFF = LockoutPolicy(failures_by_source=0, failures_by_user=0)
THREE_BY_SOURCE = LockoutPolicy(3, 0, 10 * MINUTE, 5 * MINUTE, 60 * MINUTE)
THREE_BY_USER = LockoutPolicy(0, 3, 10 * MINUTE, 5 * MINUTE, 60 * MINUTE)


@dataclass
class Desk:
    """Logins over one store; every wrong value is a new one unless it says not."""

    store: Any
    values: Iterator[int] = field(default_factory=itertools.count)

    async def settle(
        self,
        settlement: Settlement,
        after_ms: int = 0,
        user: str = "alice",
        source: str = "asa|10.0.0.1",
        keys: tuple[VerdictKey, ...] = (),
    ) -> Settled:
        subject, now = Subject(user, source), (NOW_MS + after_ms + 0.5) / 1000
        loaded = await self.store.load(subject, keys, now)
        settled: Settled = await self.store.settle(subject, settlement, loaded, keys, now)
        return settled

    async def wrong(
        self, after_ms: int = 0, value: str = "", *, counted: bool = True, **more: Any
    ) -> Settled:
        value = value or f"{next(self.values):032x}"
        return await self.settle(Settlement(WRONG_CODE, None, counted, value), after_ms, **more)

    async def right(self, time_step: int, after_ms: int = 0, **more: Any) -> Settled:
        match = Match(more.pop("device", PHONE), time_step)
        value = f"{next(self.values):032x}"
        return await self.settle(Settlement(ACCEPT, match, True, value), after_ms, **more)  # noqa: FBT003 - counted

    async def used_steps(self, user: str = "alice") -> dict[str, int]:
        loaded = await self.store.load(Subject(user, "any"), [], NOW_MS / 1000)
        steps: dict[str, int] = loaded.used_steps
        return steps


Open = Callable[..., Any]


@pytest.fixture(params=["redis", "memory"])
async def desk(request: pytest.FixtureRequest) -> AsyncIterator[Open]:
    """Opens a desk over either store."""
    async with AsyncExitStack() as stack:

        async def opened(lockout: LockoutPolicy) -> Desk:
            if request.param == "memory":
                return Desk(MemoryAttempts(lockout))
            url = request.getfixturevalue("real_redis").url
            return Desk(await stack.enter_async_context(attempts_over(url, lockout)))

        yield opened


@pytest.fixture
async def redis_desk(real_redis: RealRedis) -> AsyncIterator[Desk]:
    async with attempts_over(real_redis.url) as store:
        yield Desk(store)


# Locks


@pytest.mark.parametrize(
    ("lockout", "everywhere"),
    [(THREE_BY_SOURCE, False), (THREE_BY_USER, True)],
    ids=["source", "user"],
)
async def test_who_is_locked_is_listed_until_the_lock_ends_or_is_ended(
    real_redis: RealRedis,
    lockout: LockoutPolicy,
    everywhere: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    async with attempts_over(real_redis.url, lockout) as store:
        at = Desk(store)
        for user in ("alice", "bob", "carol"):
            for _ in range(2 if user == "carol" else 3):
                await at.wrong(user=user)
        listed = await store.locked(NOW_MS / 1000)
        assert sorted(listed) == ["alice", "bob"]
        assert {locks.everywhere(NOW_MS) for locks in listed.values()} == {everywhere}
        await store.unlock("alice")
        assert list(await store.locked(NOW_MS / 1000)) == ["bob"]
        assert not await store.locked(NOW_MS / 1000 + 301)


@pytest.mark.parametrize("lockout", [THREE_BY_SOURCE, THREE_BY_USER], ids=["source", "user"])
async def test_a_locked_user_is_refused_and_their_code_is_not_consumed(
    desk: Open, lockout: LockoutPolicy
) -> None:
    """O11, O13: the third failure locks; then right and wrong get one verdict, and no more count.

    The code that was refused works when the lock is over.
    """
    at = await desk(lockout)
    assert (await at.wrong()).locked_until == 0
    assert await at.wrong() == Settled(WRONG_CODE)
    locked_until = NOW_MS + lockout.lock_ms
    assert await at.wrong() == Settled(WRONG_CODE, locked_until=locked_until)
    for after_ms in (0, lockout.lock_ms - 1):
        assert await at.right(7, after_ms) == Settled(LOCKED, locked_until=locked_until)
        assert await at.wrong(after_ms) == Settled(LOCKED, locked_until=locked_until)
    assert await at.used_steps() == {}
    assert await at.right(7, lockout.lock_ms) == Settled(ACCEPT)


async def test_a_lock_by_source_holds_for_that_source_and_that_user_alone(desk: Open) -> None:
    """O14: who can make a user fail somewhere does not shut them out elsewhere."""
    at = await desk(THREE_BY_SOURCE)
    for _ in range(3):
        await at.wrong()
    assert (await at.right(7, source="asa|10.0.0.2")).decision == ACCEPT
    assert (await at.right(7, user="bob")).decision == ACCEPT
    assert (await at.right(8)).decision == LOCKED


async def test_a_success_starts_the_counting_of_its_source_and_user_again(desk: Open) -> None:
    """O12: and of no other source."""
    at = await desk(LockoutPolicy(3, 5))
    for source in ("here", "there", "here", "there"):
        await at.wrong(source=source)
    await at.right(7, source="here")
    assert (await at.wrong(source="here")).locked_until == 0
    assert (await at.wrong(source="here")).locked_until == 0
    assert (await at.wrong(source="there")).locked_until != 0


@pytest.mark.parametrize(("after_ms", "locked"), [(10 * MINUTE - 1, True), (10 * MINUTE, False)])
async def test_failures_count_together_inside_the_window(
    desk: Open, after_ms: int, *, locked: bool
) -> None:
    """O11: it begins with the first failure, and ends to the millisecond."""
    at = await desk(THREE_BY_USER)
    await at.wrong(0)
    await at.wrong(9 * MINUTE)
    assert bool((await at.wrong(after_ms)).locked_until) is locked


async def test_each_lock_is_twice_as_long_as_the_last_up_to_the_longest(desk: Open) -> None:
    """O11: growing waits."""
    lockout = LockoutPolicy(0, 1, MINUTE, MINUTE, 5 * MINUTE)
    at = await desk(lockout)
    moment = 0
    for minutes in (1, 2, 4, 5, 5):
        settled = await at.wrong(moment)
        moment += minutes * MINUTE
        assert settled.locked_until == NOW_MS + moment


@pytest.mark.parametrize(("wait_ms", "lock"), [(60 * MINUTE - 1, 10), (60 * MINUTE, 5)])
async def test_earlier_locks_are_forgotten_after_the_longest_lock(
    desk: Open, wait_ms: int, lock: int
) -> None:
    """O14: counted from the end of the window or of the lock, whichever is later."""
    at = await desk(THREE_BY_USER)
    for _ in range(3):
        await at.wrong()
    moment = 10 * MINUTE + wait_ms
    for _ in range(3):
        settled = await at.wrong(moment)
    assert settled.locked_until == NOW_MS + moment + lock * MINUTE


async def test_a_lock_without_end_ends_with_an_unlock_alone(desk: Open) -> None:
    """O11: ``lock_seconds = 0``; and the unlock forgets failures from every source."""
    at = await desk(LockoutPolicy(2, 0, lock_ms=0))
    await at.wrong(source="there")
    await at.wrong()
    assert (await at.wrong()).locked_until == UNTIL_UNLOCKED
    assert (await at.right(7, 3650 * DAY)).decision == LOCKED
    await at.store.unlock("alice")
    assert (await at.wrong(source="there")).locked_until == 0
    assert (await at.right(7)).decision == ACCEPT


async def test_the_same_wrong_value_is_refused_and_not_counted_twice(desk: Open) -> None:
    """From whatever source, for a minute from when it was counted."""
    at = await desk(LockoutPolicy(0, 2, 10 * MINUTE))
    for after_ms in (0, 1, MINUTE - 1):
        assert await at.wrong(after_ms, "aa", source=str(after_ms)) == Settled(WRONG_CODE)
    assert (await at.wrong(MINUTE, "aa")).locked_until != 0


async def test_what_is_no_fault_of_the_user_counts_nothing(desk: Open) -> None:
    """A failure is a wrong factor: a suspended user's login, or one without a code, is none."""
    at = await desk(LockoutPolicy(1, 1))
    for reason in (RejectReason.USER_SUSPENDED, RejectReason.UNSUPPORTED_METHOD):
        settlement = Settlement(Reject(reason), wrong_value="aa")
        assert await at.settle(settlement) == Settled(Reject(reason))
    for number in range(CEILING + 1):
        without_code = Settlement(Accept("password"), wrong_value=f"{number:x}")
        assert await at.settle(without_code) == Settled(Accept("password"))
    assert (await at.right(7)).decision == ACCEPT


@pytest.mark.parametrize("lockout", [THREE_BY_SOURCE, THREE_BY_USER], ids=["source", "user"])
async def test_failures_settled_out_of_their_order_in_time_are_all_counted(
    desk: Open, lockout: LockoutPolicy
) -> None:
    """O11: two nodes' clocks differ a little, and a slow login is settled after a quick one."""
    at = await desk(lockout)
    for after_ms in (20, 10):
        await at.wrong(after_ms)
    assert (await at.wrong(0)).locked_until != 0


# The ceiling


@pytest.mark.parametrize("counted", [True, False], ids=["counted", "not counted"])
@pytest.mark.parametrize(
    "lockout",
    [
        LockoutPolicy(),
        OFF,
        LockoutPolicy(100, 100),
        LockoutPolicy(100, 0, 10 * SECOND, SECOND, 0),
        LockoutPolicy(1, 1, 10 * SECOND, SECOND, 0),
        LockoutPolicy(2, 0, lock_ms=0),
        LockoutPolicy(0, 7, 10 * SECOND, DAY, 7 * DAY),
    ],
    ids=["default", "off", "at most", "short", "at least", "until unlocked", "long"],
)
@pytest.mark.parametrize("sources", [1, 30])
async def test_no_configuration_lets_more_than_100_failures_in_a_row_pass(
    desk: Open, lockout: LockoutPolicy, sources: int, *, counted: bool
) -> None:
    """O11: whatever the limits and ``lockout.count``, the hundredth locks until an admin unlocks.

    The guesser is patient: each value is a new one, after the last mark, window and lock.
    """
    at, moment, heard = await desk(lockout), 0, 0
    for number in range(CEILING + 20):
        source = f"asa|{number % sources}"
        settled = await at.wrong(moment, counted=counted, source=source)
        heard += settled.decision == WRONG_CODE
        moment = max(moment + MINUTE, settled.locked_until - NOW_MS)
    ever = 3650 * DAY
    for source in ("asa|0", "asa|elsewhere"):
        refused = await at.right(7, ever, source=source)
        if lockout.lock_ms or not counted:
            assert refused == Settled(LOCKED, locked_until=UNTIL_UNLOCKED)
            assert heard == CEILING
    assert heard <= CEILING
    await at.store.unlock("alice")
    assert (await at.right(8, ever)).decision == ACCEPT


async def test_replays_count_towards_the_ceiling_and_a_success_ends_the_row(desk: Open) -> None:
    """O11: a used code is a wrong factor, though the limits be off."""
    at = await desk(OFF)
    for number in range(CEILING - 1):
        await at.wrong(number)
    assert (await at.right(7)).decision == ACCEPT
    for number in range(CEILING):
        settlement = Settlement(ACCEPT, Match(PHONE, 7), wrong_value=f"{number:x}")
        assert (await at.settle(settlement)).decision == REPLAYED
    assert (await at.right(8)).decision == LOCKED


# Consumption


async def test_the_accepted_step_of_a_device_only_grows(desk: Open) -> None:
    """O02, O04, O06, O08: whatever the time, and for each device by itself."""
    at = await desk(OFF)
    token = Device("d-token", "token", b"")
    far = 1 << 40
    assert (await at.right(0)).decision == ACCEPT
    assert (await at.right(far)).decision == ACCEPT
    for step, after_ms in ((far, 0), (far - 1, 0), (far, -DAY), (far - 1, -DAY), (1, 3650 * DAY)):
        assert await at.right(step, after_ms) == Settled(REPLAYED)
    assert (await at.right(3, device=token)).decision == ACCEPT
    assert (await at.right(far + 1, -DAY)).decision == ACCEPT
    assert await at.used_steps() == {"d-phone": far + 1, "d-token": 3}


async def test_used_steps_outlive_an_unlock_and_the_user(redis_desk: Desk) -> None:
    """O04: nothing that an admin does makes a code good again."""
    await redis_desk.right(7)
    await redis_desk.store.unlock("alice")
    await redis_desk.store.forget("alice")
    assert (await redis_desk.right(7)).decision == REPLAYED


# Verdicts


PACKET, SESSION = VerdictKey("aa", MINUTE), VerdictKey("bb", 10 * MINUTE)


@pytest.mark.parametrize(
    ("settlement", "verdict"),
    [
        (Settlement(ACCEPT, Match(PHONE, 7)), ACCEPT),
        (Settlement(WRONG_CODE, counted=True, wrong_value="aa"), WRONG_CODE),
    ],
    ids=["accept", "reject"],
)
async def test_one_login_has_one_verdict(
    desk: Open, settlement: Settlement, verdict: Decision
) -> None:
    """D06, D07, D09: the same login again has no second effect, under each key for its time."""
    at = await desk(LockoutPolicy(2, 2))
    assert await at.settle(settlement, keys=(PACKET, SESSION)) == Settled(verdict)
    for after_ms, key in ((MINUTE - 1, PACKET), (10 * MINUTE - 1, SESSION)):
        assert await at.settle(settlement, after_ms, keys=(key,)) == Settled(verdict, shared=True)
        loaded = await at.store.load(
            Subject("alice", "any"), [key], (NOW_MS + after_ms + 0.5) / 1000
        )
        assert loaded.verdict == verdict
    again = await at.settle(Settlement(ACCEPT, Match(PHONE, 8)), MINUTE, keys=(PACKET,))
    assert again == Settled(ACCEPT)


async def test_a_verdict_belongs_to_its_user_and_ends_with_a_change_of_them(desk: Open) -> None:
    """Rule 6, and no way around a revoked device."""
    at = await desk(OFF)
    await at.right(7, keys=(PACKET,))
    assert (await at.right(7, user="bob", keys=(PACKET,))).shared is False
    await at.store.invalidate("alice")
    assert await at.right(7, keys=(PACKET,)) == Settled(REPLAYED)


async def test_an_unlocked_user_does_not_meet_the_verdict_locked_again(desk: Open) -> None:
    at = await desk(LockoutPolicy(1, 0))
    await at.wrong()
    assert (await at.right(7, keys=(PACKET,))).decision == LOCKED
    await at.store.unlock("alice")
    assert await at.right(7, keys=(PACKET,)) == Settled(ACCEPT)


async def test_the_hint_of_a_decision_survives_its_settlement(redis_desk: Desk) -> None:
    """L: the log says why; what another node decided comes without its words."""
    hinted = Settlement(Reject(RejectReason.WRONG_CODE, "the clock is slow"), wrong_value="aa")
    first = await redis_desk.settle(hinted, keys=(PACKET,))
    assert first.decision == Reject(RejectReason.WRONG_CODE, "the clock is slow")
    assert (await redis_desk.wrong(keys=(PACKET,))).decision == WRONG_CODE


# Keys

ODD_USERS = ["alice", "a{b}c", "}{", "alice:tally", "o'brien \\ x", "jürgen@corp.example", "*"]


@dataclass
class Trail:
    """The keys of every script call."""

    calls: list[list[str]] = field(default_factory=list)

    def follow(self, store: RedisAttempts, monkeypatch: pytest.MonkeyPatch) -> None:
        run = store._scripts.run

        async def followed(name: str, keys: list[str], args: Any = ()) -> Any:
            self.calls.append(keys)
            return await run(name, keys, args)

        monkeypatch.setattr(store._scripts, "run", followed)


async def everything(at: Desk, user: str) -> None:
    """Do all that can be done to *user*, so that every kind of key is there."""
    subject = Subject(user, "asa|10.0.0.1")
    loaded = await at.store.load(subject, [PACKET], NOW_MS / 1000)
    await at.store.remember(user, Enrolment(1, known=True), loaded)
    await at.right(7, user=user, keys=(PACKET,))
    await at.store.invalidate(user)
    await at.wrong(user=user, keys=(SESSION,))


@pytest.mark.parametrize("user", ODD_USERS)
async def test_all_keys_of_a_user_share_one_hash_tag_and_are_no_one_elses(
    redis_desk: Desk, real_redis: RealRedis, monkeypatch: pytest.MonkeyPatch, user: str
) -> None:
    """A script touches one slot of a Redis Cluster, and names every key that it touches."""
    trail = Trail()
    trail.follow(redis_desk.store, monkeypatch)
    await everything(redis_desk, user)
    named = set(itertools.chain(*trail.calls))
    assert len({key_slot(key.encode()) for key in named}) == 1
    assert {re.findall(r"\{(.*?)\}", key)[0] for key in named} <= {f"{n:02x}" for n in range(256)}
    with real_redis.client as client:
        there = {key.decode() for key in client.scan_iter() if not key.endswith(b":epoch")}
    assert len(there) > len(["tally", "sources", "steps", "generation", "wrong", "verdict"])
    assert there <= named
    for other in set(ODD_USERS) - {user}:
        loaded = await redis_desk.store.load(Subject(other, "asa|10.0.0.1"), [PACKET], 0)
        assert (loaded.used_steps, loaded.verdict, loaded.generation) == ({}, None, "0")


async def test_every_key_ends_by_itself_but_those_that_must_not(
    redis_desk: Desk, real_redis: RealRedis
) -> None:
    """O08, O12: used steps and failures in a row outlive any lifetime; all else goes away."""
    await everything(redis_desk, "alice")
    with real_redis.client as client:
        lifetimes = {key.decode(): client.pttl(key) for key in client.scan_iter()}
    forever = {key.rpartition(":")[2] for key, lifetime in lifetimes.items() if lifetime == -1}
    assert forever == {"epoch", "tally", "steps"}


@pytest.mark.parametrize(
    ("lockout", "least_ms"),
    [
        (LockoutPolicy(1, 0, 10 * MINUTE, 20 * MINUTE, 60 * MINUTE), 70 * MINUTE),
        (LockoutPolicy(1, 0, 10 * MINUTE, DAY, 0), DAY),
        (LockoutPolicy(1, 0, lock_ms=0), None),
    ],
    ids=["longest lock", "first lock", "until unlocked"],
)
async def test_failures_by_source_are_kept_while_their_lock_lasts(
    real_redis: RealRedis, lockout: LockoutPolicy, least_ms: int | None
) -> None:
    """O12: also where the source's first failure was before an admin changed the settings."""
    async with attempts_over(real_redis.url) as store:
        await Desk(store).wrong(value="aa", source="there")
    async with attempts_over(real_redis.url, lockout) as store:
        await Desk(store).wrong(value="bb")
    with real_redis.client as client:
        [key] = client.keys("*:sources")
        lifetime = client.pttl(key)
    assert lifetime == -1 if least_ms is None else lifetime > least_ms


async def test_sources_that_no_longer_matter_are_swept_out(real_redis: RealRedis) -> None:
    """Whoever can choose their source can't fill Redis; a lock without end is not swept out."""
    for_ever = LockoutPolicy(1, 0, lock_ms=0)
    async with attempts_over(real_redis.url, for_ever) as store:
        await Desk(store).wrong(value="aa", source="locked")
    lockout = LockoutPolicy(3, 0, MINUTE, MINUTE, MINUTE)
    async with attempts_over(real_redis.url, lockout) as store:
        at = Desk(store)
        for number in range(150):
            await at.wrong(source=str(number))
            if number % 50 == 0:
                await at.right(number, source="home")  # the row of failures ends here
        assert len((await store.locks("alice")).sources) > 100
        await at.wrong(2 * MINUTE, source="late")
        assert set((await store.locks("alice")).sources) == {"locked", "late"}


@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
async def test_an_unknown_name_is_cached_for_a_moment_only(
    redis_desk: Desk, real_redis: RealRedis, *, known: bool
) -> None:
    """D10: anyone can make up names; a flood of them must not fill Redis for an hour."""
    subject = Subject("nobody", "asa|10.0.0.1")
    loaded = await redis_desk.store.load(subject, [], NOW_MS / 1000)
    await redis_desk.store.remember("nobody", Enrolment(known=known), loaded)
    unknown = Settlement(Reject(RejectReason.UNKNOWN_USER))
    await redis_desk.settle(unknown, user="nobody", keys=(PACKET,))
    with real_redis.client as client:
        lifetimes = [client.pttl(key) for key in client.keys("*:nobody:*")]
    assert len(lifetimes) == 2
    assert (0 < max(lifetimes) <= UNKNOWN_USER_MS) is not known
    assert min(lifetimes) > 0


async def test_the_clock_is_redis_own(redis_desk: Desk) -> None:
    """O08: what the skew of the clocks is measured by."""
    before = time.time()
    assert before - 1 < await redis_desk.store.clock() < time.time() + 1


async def test_a_try_taken_back_after_its_count_ended_begins_no_count_without_end(
    redis_desk: Desk,
) -> None:
    """Or else an admin were shut out for good by the next failures."""
    store = redis_desk.store
    await store.admin_try("alice", 900)
    await store.unlock("alice")
    await store.admin_try_was_right("alice", signed_in=False)
    assert await store.admin_try("alice", 900) == 1
    [key] = [key async for key in store._scripts.redis.scan_iter("*alice:admin")]
    assert 0 < await store._scripts.redis.ttl(key) <= 900

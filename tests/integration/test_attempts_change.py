"""A change of a user against a login in flight, in every order in which their steps can fall.

A change tells Redis, commits, and tells Redis again; a login loads, reads the record where it
is not cached, caches it, and settles.
"""

import itertools
import math
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

import pytest

from radius_mfa.errors import BackendUnavailable
from radius_mfa.policy.access import Enrolment
from radius_mfa.policy.decision import Accept
from radius_mfa.policy.totp import Device, Match
from radius_mfa.stores.attempts import BARRIER_MS, GENERATION_MS, RedisAttempts
from radius_mfa.stores.interfaces import Loaded, Settled, Settlement, Subject, VerdictKey
from tests.support.redis import RealRedis, attempts_over

NOW = 1_700_000_000.0
ALICE = Subject("alice", "asa|10.0.0.1")
ACCEPT = Settlement(Accept("totp"), Match(Device("d-phone", "phone", b""), 7))

OLD, NEW = Enrolment(1, known=True), Enrolment(2, known=True)

LOGIN = ("load", "fetch", "remember", "settle")
CHANGE = ("invalidate", "commit", "invalidate again", "barrier ends")
CHANGE_CUT_SHORT = ("invalidate", "commit")

Order = tuple[str, ...]


def merged(one: Order, other: Order) -> Iterator[Order]:
    """Return every order of the steps of both that keeps the order of each."""
    length = len(one) + len(other)
    for places in itertools.combinations(range(length), len(one)):
        steps, others = iter(one), iter(other)
        yield tuple(next(steps if place in places else others) for place in range(length))


@dataclass
class World:
    """A user in Redis and on record; each step is called by its name."""

    store: RedisAttempts
    user: str
    record: Enrolment = OLD
    seen: Enrolment | None = None
    outcome: Settled | str = ""
    _loaded: list[Loaded] = field(default_factory=list)

    @property
    def subject(self) -> Subject:
        return Subject(self.user, "asa|10.0.0.1")

    async def take(self, step: str) -> None:
        match step:
            case "load":
                self._loaded.append(await self.load())
                self.seen = self._loaded[0].enrolment
            case "fetch":
                self.seen = self.seen or self.record
            case "remember":
                if self._loaded[0].enrolment is None and self.seen is not None:
                    await self.store.remember(self.user, self.seen, self._loaded[0])
            case "settle":
                self.outcome = await self._settled(self._loaded[0])
            case "commit":
                self.record = NEW
            case "barrier ends":
                [key] = self.store._keys(self.user, "barrier")
                assert await self.store._scripts.redis.delete(key) == 1
            case _:
                await self.store.invalidate(self.user)

    async def load(self) -> Loaded:
        return await self.store.load(self.subject, [], NOW)

    async def _settled(self, loaded: Loaded) -> Settled | str:
        try:
            return await self.store.settle(self.subject, ACCEPT, loaded, [], NOW)
        except BackendUnavailable as error:
            return error.cause


@pytest.fixture
async def store(real_redis: RealRedis) -> AsyncIterator[RedisAttempts]:
    async with attempts_over(real_redis.url) as opened:
        await opened.open_epoch(0)
        yield opened


async def worlds(
    store: RedisAttempts, change: Order, *, warm: bool
) -> AsyncIterator[tuple[World, Order]]:
    """Yield each order, and a user for it who is cached already or not."""
    for number, order in enumerate(merged(LOGIN, change)):
        world = World(store, f"user{number}")
        if warm:
            await store.remember(world.user, OLD, await world.load())
        yield world, order


def test_the_orders_are_all_there() -> None:
    orders = list(merged(LOGIN, CHANGE))
    assert len(set(orders)) == len(orders) == math.comb(8, 4)
    assert all([step for step in order if step in LOGIN] == list(LOGIN) for order in orders)
    assert all([step for step in order if step in CHANGE] == list(CHANGE) for order in orders)


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
async def test_a_change_during_a_login_leaves_nothing_stale(
    store: RedisAttempts, *, warm: bool
) -> None:
    """A revoked device works on no node: what is cached is never older than the record.

    A login settles only if no word of a change came since it loaded; so one that saw the old
    record settles before the change is done, or not at all.
    """
    async for world, order in worlds(store, CHANGE, warm=warm):
        for step in order:
            await world.take(step)
            if world.record is NEW:
                assert (await world.load()).enrolment in (None, NEW), order
        told = [place for place, step in enumerate(order) if step.startswith("invalidate")]
        load, settle = order.index("load"), order.index("settle")
        if any(load < place < settle for place in told):
            assert world.outcome == "the user was changed while the login was in progress", order
            assert (await world.load()).used_steps == {}
        else:
            assert world.outcome == Settled(Accept("totp")), order
            assert world.seen is NEW or settle < told[-1], order


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
async def test_a_change_that_can_say_so_only_once_leaves_nothing_stale_cached(
    store: RedisAttempts, *, warm: bool
) -> None:
    """Redis went away, or the command was killed, after the commit: the barrier holds."""
    async for world, order in worlds(store, CHANGE_CUT_SHORT, warm=warm):
        for step in order:
            await world.take(step)
            if world.record is NEW:
                assert (await world.load()).enrolment in (None, NEW), order


async def test_what_is_read_after_the_change_is_cached_when_the_barrier_is_gone(
    store: RedisAttempts, real_redis: RealRedis
) -> None:
    """The warm path comes back by itself."""
    world = World(store, "alice", NEW)
    for _ in range(2):
        await store.invalidate("alice")
    with real_redis.client as client:
        [barrier] = client.keys("*:alice:barrier")
        [generation] = client.keys("*:alice:generation")
        assert BARRIER_MS / 2 < client.pttl(barrier) <= BARRIER_MS
        assert GENERATION_MS / 2 < client.pttl(generation) <= GENERATION_MS
        await store.remember("alice", NEW, await store.load(ALICE, [], NOW))
        assert (await world.load()).enrolment is None
        client.delete(barrier)
    await store.remember("alice", NEW, await store.load(ALICE, [], NOW))
    assert (await world.load()).enrolment == NEW


async def test_a_change_of_one_user_is_nothing_to_another(store: RedisAttempts) -> None:
    bob = Subject("bob", ALICE.source)
    loaded = await store.load(bob, [], NOW)
    await store.invalidate("alice")
    await store.remember("bob", OLD, loaded)
    assert (await store.load(bob, [], NOW)).enrolment == OLD
    assert await store.settle(bob, ACCEPT, loaded, [], NOW) == Settled(Accept("totp"))


async def test_a_login_refused_by_a_change_is_answered_when_it_comes_again(
    store: RedisAttempts,
) -> None:
    """A13: no reply means that the NAS asks again; the code was not consumed."""
    key = [VerdictKey("aa", 60_000)]
    loaded = await store.load(ALICE, key, NOW)
    await store.invalidate("alice")
    with pytest.raises(BackendUnavailable, match="the user was changed"):
        await store.settle(ALICE, ACCEPT, loaded, key, NOW)
    loaded = await store.load(ALICE, key, NOW)
    assert loaded.verdict is None
    assert await store.settle(ALICE, ACCEPT, loaded, key, NOW) == Settled(Accept("totp"))

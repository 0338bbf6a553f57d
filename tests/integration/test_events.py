"""The event stream over a real Redis: each event once, in order, whatever happens to Redis."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator

import orjson
import pytest

from radius_mfa.errors import BackendUnavailable
from radius_mfa.stores import events
from radius_mfa.stores.events import Event, EventFilter, EventQueue, EventStream, Publisher, Result
from radius_mfa.stores.redis_scripts import RedisScripts
from radius_mfa.tasks import spawn, stop
from tests.support.redis import Proxy, RealRedis, scripts_over

PREFIX = "test:"


@pytest.fixture
def own_redis() -> Iterator[RealRedis]:
    """A Redis that the test may stop."""
    with RealRedis() as server:
        yield server


@pytest.fixture
async def scripts(own_redis: RealRedis) -> AsyncIterator[RedisScripts]:
    async with scripts_over(own_redis.url, timeout_seconds=1) as opened:
        yield opened


@pytest.fixture
def stream(scripts: RedisScripts) -> EventStream:
    return EventStream(scripts, PREFIX)


Publishing = Callable[..., Publisher]


@pytest.fixture
def publishing(scripts: RedisScripts, stream: EventStream) -> Publishing:
    """Return what makes the publisher of one process."""

    def make(process: str = "one", *, size: int = 10_000, keep: int = 10_000) -> Publisher:
        queue = EventQueue(size)
        return Publisher(scripts, stream, queue, process, f"host-{process}", keep)

    return make


def accepted(user: str, **fields: object) -> bytes:
    return orjson.dumps({"event": "login.accepted", "nas": "asa", "user": user, **fields})


def users(found: list[Event]) -> list[str]:
    return [event.user for event in found]


async def collected(stream: EventStream, count: int, after: int = 0) -> list[Event]:
    """Return the first *count* events that somebody who follows gets."""
    found: list[Event] = []
    async with asyncio.timeout(20):
        async for event in stream.follow(after):
            found.append(event)
            if len(found) == count:
                break
    return found


async def test_events_come_out_in_order_with_their_node_and_their_time(
    stream: EventStream, publishing: Publishing
) -> None:
    one, other = publishing("one"), publishing("other")
    before = time.time()
    for number in range(250):  # more than a batch
        one.queue.append(accepted(f"user{number}"))
    other.queue.append(accepted("alice"))
    await one.step()
    await other.step()
    found = await stream.after(0)
    assert users(found) == [*(f"user{number}" for number in range(250)), "alice"]
    assert {event.node for event in found[:-1]} == {"host-one"}
    assert found[-1].node == "host-other"
    assert found[0].result is Result.ACCEPTED
    ids = [event.event_id for event in found]
    assert ids == sorted(set(ids))
    assert events.id_at(int(before * 1000)) <= ids[0]
    assert ids[-1] < events.id_at(int(time.time() * 1000) + 1000)
    assert await stream.after(ids[-2]) == found[-1:]
    assert await stream.last_id() == ids[-1]


async def test_the_newest_are_found_behind_thousands_that_are_not_wanted(
    stream: EventStream, publishing: Publishing
) -> None:
    publisher = publishing()
    for number in range(2_500):
        publisher.queue.append(accepted("alice" if number in (3, 900, 2_000) else "bob"))
    await publisher.step()
    wanted = EventFilter(user="ALICE")
    assert users(await stream.newest(10, wanted)) == ["alice"] * 3
    assert len(await stream.newest(2, wanted)) == 2
    assert [e.event_id for e in await stream.newest(2)] == [
        e.event_id for e in (await stream.after(0, 5_000))[-2:]
    ]
    assert await stream.newest(0) == []


@pytest.mark.parametrize(
    ("admitted", "wanted"),
    [
        ("yes", EventFilter()),
        ("yes", EventFilter(client="asa", result=Result.REJECTED, reason="wrong_code")),
        ("no", EventFilter(client="as")),
        ("no", EventFilter(result=Result.ACCEPTED)),
        ("no", EventFilter(reason="wrong")),
        ("yes", EventFilter(user="corp\\alice")),
        ("yes", EventFilter(user="Alice")),
        ("yes", EventFilter(user="LDAP/corp/1")),
        ("no", EventFilter(user="ali")),
    ],
)
def test_a_filter_admits_what_fits_all_of_its_words(admitted: str, wanted: EventFilter) -> None:
    fields = {
        "event": "login.rejected",
        "nas": "asa",
        "user": "CORP\\alice",
        "canonical_user": "alice",
        "user_key": "LDAP/corp/1",
        "reason": "wrong_code",
    }
    assert wanted.admits(Event(1, "", fields)) is (admitted == "yes")


async def test_the_stream_stays_near_the_length_that_is_set(
    stream: EventStream, publishing: Publishing
) -> None:
    publisher = publishing(keep=1_000)
    for number in range(5_000):
        publisher.queue.append(accepted(f"user{number}"))
    await publisher.step()
    found = await stream.after(0, 10_000)
    assert 1_000 <= len(found) < 1_200
    assert found[-1].user == "user4999"


async def test_what_happens_while_redis_is_away_is_published_when_it_is_back(
    own_redis: RealRedis, stream: EventStream, publishing: Publishing
) -> None:
    publisher = publishing()
    own_redis.stop()
    publisher.queue.append(accepted("alice"))
    with pytest.raises(BackendUnavailable):
        await publisher.step()
    publisher.queue.append(accepted("bob"))
    own_redis.start()
    await publisher.step()
    assert users(await stream.after(0)) == ["alice", "bob"]


async def test_a_batch_whose_reply_was_lost_is_in_the_stream_once(
    own_redis: RealRedis, stream: EventStream
) -> None:
    async with (
        Proxy(own_redis.socket) as proxy,
        scripts_over(proxy.url, timeout_seconds=1) as lossy,
    ):
        publisher = Publisher(lossy, stream, EventQueue(), "one", "host", 1_000)
        await lossy.run("publish", [f"{PREFIX}x", f"{PREFIX}y"], [1, 1_000, 9, "host"])
        publisher.queue.append(accepted("alice"))
        proxy.replies_to_lose = 1
        with pytest.raises(BackendUnavailable):
            await publisher.step()
        assert proxy.replies_lost == 1
        publisher.queue.append(accepted("bob"))
        await publisher.step()
    assert users(await stream.after(0)) == ["alice", "bob"]


async def test_a_full_queue_drops_its_oldest_counts_them_and_says_so_once(
    own_redis: RealRedis,
    stream: EventStream,
    publishing: Publishing,
    capsys: pytest.CaptureFixture[str],
) -> None:
    publisher = publishing(size=3)
    own_redis.stop()
    for number in range(5):
        publisher.queue.append(accepted(f"user{number}"))
    with pytest.raises(BackendUnavailable):
        await publisher.step()  # these three are under way now, and do not count
    for number in range(5, 9):
        publisher.queue.append(accepted(f"user{number}"))
    assert publisher.queue.lost == 3
    own_redis.start()
    for _ in range(3):
        await publisher.step()
    assert users(await stream.after(0)) == [f"user{number}" for number in (2, 3, 4, 6, 7, 8)]
    [line] = [line for line in capsys.readouterr().out.splitlines() if "events.lost" in line]
    assert "lost=3" in line


async def test_who_follows_goes_on_after_redis_was_away_and_after_it_lost_its_memory(
    own_redis: RealRedis, stream: EventStream, publishing: Publishing
) -> None:
    publisher, told, found = publishing(), list[str](), list[str]()

    async def follow() -> None:
        async for event in stream.follow(0, lambda error: told.append(repr(error))):
            found.append(event.user)

    async def until(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110 - what a store holds sets no event
                await asyncio.sleep(0.01)

    following = spawn(follow())
    try:
        publisher.queue.append(accepted("alice"))
        await publisher.step()
        await until(lambda: found == ["alice"])
        own_redis.stop()
        await until(lambda: len(told) == 1)
        own_redis.start()  # it keeps nothing on its disk
        publisher.queue.append(accepted("bob"))
        await publisher.step()
        await until(lambda: found == ["alice", "bob"])
        assert len(told) == 2
        assert told[1] == "None"
    finally:
        await stop(following)


async def test_what_others_put_into_the_stream_stops_no_reader(
    own_redis: RealRedis, stream: EventStream, publishing: Publishing
) -> None:
    with own_redis.client as client:
        for fields in ({"event": "no JSON"}, {"event": "[1]"}, {"odd": "x", "node": b"\xff"}):
            client.xadd(stream.key, fields)
    publisher = publishing()
    publisher.queue.append(accepted("alice"))
    await publisher.step()
    found = await collected(stream, 4)
    assert [event.result for event in found] == [None, None, None, Result.ACCEPTED]

"""Scripts over a real Redis that restarts, hangs, refuses and loses replies."""

import asyncio
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Iterator
from typing import Any

import pytest

from radius_mfa.errors import BackendUnavailable
from radius_mfa.stores import redis_scripts
from radius_mfa.stores.redis_scripts import PLAIN_CONNECTIONS, RedisScripts
from radius_mfa.tasks import TaskSet
from tests.support.redis import Proxy, RealRedis, scripts_over

CANARY = "canary-4d1f"

SOURCES = {
    "echo": "return ARGV[1]",
    "count": "redis.call('INCR', KEYS[1]) return ARGV[1]",
    "read": "return redis.call('GET', KEYS[1])",
    "fail": "return redis.error_reply('ODD ' .. ARGV[1])",
}

HANG_SECONDS = 0.3
SLACK_SECONDS = 2.0  # a busy machine


@pytest.fixture
def own_redis() -> Iterator[RealRedis]:
    """A Redis that the test may stop."""
    with RealRedis() as server:
        yield server


@pytest.fixture
async def scripts(real_redis: RealRedis) -> AsyncIterator[RedisScripts]:
    async with scripts_over(real_redis.url, SOURCES) as opened:
        yield opened


async def count(scripts: RedisScripts, value: str = CANARY) -> Any:
    return await scripts.run("count", ["counter"], [value])


def counted(redis: RealRedis) -> int:
    with redis.client as client:
        return int(client.get("counter") or 0)


async def refusal(scripts: RedisScripts, name: str = "count") -> BackendUnavailable:
    """Return what a call ends in that carries canaries, having looked for them in it."""
    return await refused(scripts.run(name, [f"{CANARY}-key"], [CANARY]))


async def refused(call: Awaitable[Any]) -> BackendUnavailable:
    with pytest.raises(BackendUnavailable) as caught:
        await call
    error = caught.value
    assert CANARY not in "".join(traceback.format_exception(error)) + repr(error)
    return error


async def recovery(scripts: RedisScripts) -> None:
    """Wait until a script runs; connections that died meanwhile may each cost one call."""
    for _ in range(PLAIN_CONNECTIONS + 8):
        try:
            assert await scripts.run("echo", ["k"], ["back"]) == b"back"
        except BackendUnavailable:
            continue
        return
    pytest.fail("no recovery")


# Refusals


@pytest.mark.parametrize(
    ("command", "cause"),
    [
        ("REPLICAOF 127.0.0.1 1", "ReadOnlyError"),
        ("CONFIG SET maxmemory 1", "OutOfMemoryError"),
        ("CONFIG SET min-replicas-to-write 1", "NOREPLICAS"),
        ("CONFIG SET requirepass right", "AuthenticationError"),
        ("ACL SETUSER default -evalsha", "NoPermissionError"),
    ],
)
async def test_a_redis_that_refuses_is_named_and_nothing_is_quoted(
    own_redis: RealRedis, command: str, cause: str
) -> None:
    """L01, A13: a read-only replica, a full Redis, a lost replica, a missing password."""
    with own_redis.client as client:
        client.execute_command(*command.split())
    async with scripts_over(own_redis.url, SOURCES) as scripts:
        assert str(await refusal(scripts)) == f"redis: {cause}"


async def test_a_wrong_password_is_named_and_nothing_is_quoted(own_redis: RealRedis) -> None:
    with own_redis.client as client:
        client.config_set("requirepass", "right")
    async with scripts_over(own_redis.url, SOURCES, password=f"{CANARY}-password") as scripts:
        assert str(await refusal(scripts)) == "redis: AuthenticationError"
        error = await refused(scripts.guarded(scripts.redis.get(f"{CANARY}-key")))
        assert str(error) == "redis: AuthenticationError"
    async with scripts_over(own_redis.url, SOURCES, password="right") as scripts:
        assert await count(scripts) == CANARY.encode()


async def test_an_error_that_a_script_returns_is_its_callers_alone(scripts: RedisScripts) -> None:
    async with asyncio.TaskGroup() as group:
        right = [group.create_task(scripts.run("echo", ["k"], [n])) for n in range(20)]
        group.create_task(refusal(scripts, "fail"))
        right += [group.create_task(scripts.run("echo", ["k"], [n])) for n in range(20, 40)]
    assert [task.result() for task in right] == [b"%d" % n for n in range(40)]


async def test_a_full_redis_refuses_to_write_and_goes_on_reading(own_redis: RealRedis) -> None:
    """And a script that was refused has written nothing."""
    async with scripts_over(own_redis.url, SOURCES) as scripts:
        await count(scripts)
        with own_redis.client as client:
            client.config_set("maxmemory", 1)
            assert str(await refusal(scripts)) == "redis: OutOfMemoryError"
            pipeline = scripts.redis.pipeline(transaction=False)
            pipeline.set(f"{CANARY}-key", CANARY)
            error = await refused(scripts.guarded(pipeline.execute()))
            assert str(error) == "redis: OutOfMemoryError"
            assert await scripts.run("read", ["counter"]) == b"1"
            client.config_set("maxmemory", 0)
        await count(scripts)
    assert counted(own_redis) == 2


async def test_a_call_that_cannot_be_sent_stops_no_later_one(scripts: RedisScripts) -> None:
    """A sender that died of it would leave every later caller waiting."""
    for _ in range(3):
        with pytest.raises(BackendUnavailable, match="redis: UnicodeEncodeError"):
            await scripts.run("echo", ["k"], ["\ud800"])
    assert await scripts.run("echo", ["k"], ["v"]) == b"v"


async def test_more_calls_than_may_wait_are_refused_at_once(
    real_redis: RealRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A13: a Redis that is too slow costs replies, not memory."""
    monkeypatch.setattr(redis_scripts, "MAX_PENDING_CALLS", 10)
    async with scripts_over(real_redis.url, SOURCES) as scripts:
        calls = (scripts.run("echo", ["k"], [n]) for n in range(15))
        ends = await asyncio.gather(*calls, return_exceptions=True)
        assert ends[:10] == [b"%d" % n for n in range(10)]
        assert [str(end) for end in ends[10:]] == ["redis: too many calls are waiting"] * 5


async def test_a_closed_store_answers_nobody_for_ever(own_redis: RealRedis) -> None:
    """Calls that were sent, that wait and that come late all end, and none is cancelled."""
    tasks = TaskSet()
    async with scripts_over(own_redis.url, SOURCES) as scripts:
        await count(scripts)
        own_redis.hang()
        calls = []
        for _ in range(3):
            calls.append(tasks.spawn(count(scripts)))
            await asyncio.sleep(0.01)
    ends = await asyncio.gather(*calls, return_exceptions=True)
    assert [str(end) for end in ends] == ["redis: the connection is closed"] * len(calls)
    with pytest.raises(BackendUnavailable, match="the connection is closed"):
        await count(scripts)


# Redis comes and goes


async def test_scripts_that_redis_has_forgotten_are_loaded_and_run_once(
    scripts: RedisScripts, real_redis: RealRedis
) -> None:
    """NOSCRIPT: after SCRIPT FLUSH every call of the batch is answered, in its place."""
    for _ in range(2):
        with real_redis.client as client:
            client.script_flush()
            client.delete("counter")
        answers = await asyncio.gather(*(count(scripts, str(n)) for n in range(50)))
        assert answers == [b"%d" % n for n in range(50)]
        assert counted(real_redis) == 50


async def test_of_a_batch_only_what_redis_did_not_know_is_sent_again(
    scripts: RedisScripts, real_redis: RealRedis
) -> None:
    """Rule 1: the scripts of the batch that Redis knew have run already."""
    with real_redis.client as client:
        client.script_flush()
        client.script_load(SOURCES["count"])
    calls = [count(scripts) if n % 2 else scripts.run("echo", ["k"], [n]) for n in range(10)]
    answers = await asyncio.gather(*calls)
    assert answers == [CANARY.encode() if n % 2 else b"%d" % n for n in range(10)]
    assert counted(real_redis) == 5


async def test_a_redis_that_was_restarted_is_served_again(own_redis: RealRedis) -> None:
    """Between two calls, so that none was lost: nobody need notice."""
    async with scripts_over(own_redis.url, SOURCES) as scripts:
        await asyncio.gather(*(count(scripts) for _ in range(10)))
        await asyncio.to_thread(own_redis.stop)  # the loop sees the connection end
        await asyncio.to_thread(own_redis.start)
        await asyncio.gather(*(count(scripts) for _ in range(10)))
    assert counted(own_redis) == 10


async def test_a_stopped_redis_fails_fast_and_works_when_it_is_back(own_redis: RealRedis) -> None:
    """A13, S04: long before the time that a hanging one is given."""
    async with scripts_over(own_redis.url, SOURCES, timeout_seconds=10) as scripts:
        await count(scripts)
        await asyncio.to_thread(own_redis.stop)
        began = time.monotonic()
        causes = {str(await refusal(scripts)) for _ in range(5)}
        assert causes <= {"redis: ConnectionResetError", "redis: FileNotFoundError"}
        with pytest.raises(BackendUnavailable, match="redis: FileNotFoundError"):
            await scripts.guarded(scripts.redis.ping())
        assert time.monotonic() - began < SLACK_SECONDS
        own_redis.start()
        await recovery(scripts)


async def test_a_hanging_redis_is_given_up_in_time_and_works_when_it_goes_on(
    own_redis: RealRedis,
) -> None:
    """A13: each caller waits for its own timeout and at most the one before; no call is repeated.

    A call that was given up may have run; it has run once at most.
    """
    async with scripts_over(own_redis.url, SOURCES, timeout_seconds=HANG_SECONDS) as scripts:
        await asyncio.gather(*(count(scripts) for _ in range(10)))
        own_redis.hang()
        began = time.monotonic()
        assert str(await refusal(scripts)) == "redis: TimeoutError"
        took = time.monotonic() - began
        assert HANG_SECONDS * 0.9 < took < HANG_SECONDS + SLACK_SECONDS
        began = time.monotonic()
        calls = [refusal(scripts) for _ in range(50)]
        assert {str(error) for error in await asyncio.gather(*calls)} == {"redis: TimeoutError"}
        assert time.monotonic() - began < 2 * HANG_SECONDS + SLACK_SECONDS
        own_redis.go_on()
        await recovery(scripts)
        await count(scripts)
    assert counted(own_redis) == 11
    with own_redis.client as client:
        assert int(client.get(f"{CANARY}-key") or 0) <= 51


# Nothing is run twice


@pytest.mark.parametrize("forgotten", [False, True], ids=["known", "unknown script"])
async def test_a_script_whose_reply_was_lost_is_not_run_again(
    real_redis: RealRedis, *, forgotten: bool
) -> None:
    """Rule 1, rule 6: it may have run, and it has; only the NAS may ask again."""
    async with (
        Proxy(real_redis.socket) as proxy,
        scripts_over(proxy.url, SOURCES) as scripts,
    ):
        await scripts.run("echo", ["k"], ["connected"])
        if not forgotten:
            await asyncio.gather(*(count(scripts) for _ in range(3)))
        with real_redis.client as client:
            client.delete("counter")
        proxy.replies_to_lose = 1
        with pytest.raises(BackendUnavailable, match="redis: ConnectionError"):
            await count(scripts)
        assert proxy.replies_lost == 1
        assert counted(real_redis) == 1
        assert await count(scripts) == CANARY.encode()
    assert counted(real_redis) == 2


async def test_a_batch_whose_replies_were_lost_is_not_run_again(real_redis: RealRedis) -> None:
    async with (
        Proxy(real_redis.socket) as proxy,
        scripts_over(proxy.url, SOURCES) as scripts,
    ):
        await count(scripts)
        proxy.replies_to_lose = 1
        calls = (count(scripts, str(n)) for n in range(40))
        ends = await asyncio.gather(*calls, return_exceptions=True)
        assert {str(end) for end in ends} == {"redis: ConnectionError"}
    assert counted(real_redis) == 41


async def test_a_plain_command_whose_reply_was_lost_is_not_sent_again(
    real_redis: RealRedis,
) -> None:
    async with (
        Proxy(real_redis.socket) as proxy,
        scripts_over(proxy.url, SOURCES) as scripts,
    ):
        await scripts.redis.ping()
        proxy.replies_to_lose = 1
        with pytest.raises(BackendUnavailable, match="redis: ConnectionError"):
            await scripts.guarded(scripts.redis.incr("counter"))
    assert counted(real_redis) == 1


# Batches


async def test_calls_of_one_turn_of_the_loop_travel_together(real_redis: RealRedis) -> None:
    """100 calls are one write to the socket, and so are the replies one wait."""
    async with (
        Proxy(real_redis.socket) as proxy,
        scripts_over(proxy.url, SOURCES) as scripts,
    ):
        await asyncio.gather(*(count(scripts) for _ in range(10)))
        proxy.sent.clear()
        answers = await asyncio.gather(
            *(scripts.run("echo", ["key"], [number]) for number in range(100))
        )
        assert answers == [b"%d" % number for number in range(100)]
        assert b"".join(proxy.sent).count(b"EVALSHA") == 100
        assert len(proxy.sent) <= 2


async def test_a_caller_who_gives_up_does_no_harm_to_the_others(
    scripts: RedisScripts, real_redis: RealRedis
) -> None:
    """Given up before the call was sent it is not sent; later, its reply goes to nobody else."""
    tasks = TaskSet()
    await count(scripts)
    for turns in (0, 1, 2, 3):
        calls = [tasks.spawn(scripts.run("echo", ["k"], [number])) for number in range(100)]
        for _ in range(turns):
            await asyncio.sleep(0)
        for call in calls[::2]:
            call.cancel()
        ends = await asyncio.gather(*calls, return_exceptions=True)
        assert ends[1::2] == [b"%d" % number for number in range(1, 100, 2)]
        assert {type(end) for end in ends[::2]} <= {asyncio.CancelledError}
    unsent = tasks.spawn(count(scripts))
    await asyncio.sleep(0)
    unsent.cancel()
    await asyncio.gather(unsent, return_exceptions=True)
    assert await scripts.run("echo", ["k"], ["v"]) == b"v"
    assert counted(real_redis) == 1

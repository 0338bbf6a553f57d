"""The history of logins: what the stream held, each event once, on SQLite and on PostgreSQL."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from sqlalchemy import text

from radius_mfa.errors import BackendUnavailable
from radius_mfa.stores.events import EventFilter, EventQueue, EventStream, Publisher, Result
from radius_mfa.stores.history_writer import Budget, HistoryWriter, Rank
from radius_mfa.stores.login_history import Finding, LoginHistory, PastLogin
from radius_mfa.stores.records import Database
from radius_mfa.stores.redis_scripts import RedisScripts
from radius_mfa.tasks import spawn
from tests.support.postgres import RealPostgres
from tests.support.redis import RealRedis, scripts_over

PREFIX = "test:"

on_sqlite = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
on_postgresql = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)


@pytest.fixture
async def scripts(real_redis: RealRedis) -> AsyncIterator[RedisScripts]:
    async with scripts_over(real_redis.url) as opened:
        yield opened


@pytest.fixture
def stream(scripts: RedisScripts) -> EventStream:
    return EventStream(scripts, PREFIX)


@pytest.fixture
def publisher(scripts: RedisScripts, stream: EventStream) -> Publisher:
    return Publisher(scripts, stream, EventQueue(), "one", "vpn-a", 10_000)


@pytest.fixture
def history(database: Database) -> LoginHistory:
    return LoginHistory(database)


Writing = Callable[..., HistoryWriter]


@pytest.fixture
def writing(scripts: RedisScripts, stream: EventStream, history: LoginHistory) -> Writing:
    """Return what makes the writer of one node."""

    def make(node: str = "a", over: LoginHistory = history, **options: Any) -> HistoryWriter:
        options = {"history_days": 90, **options}
        return HistoryWriter(scripts, stream, over, node_id=node, **options)

    return make


def login(user: str = "alice", reason: str = "", **fields: object) -> bytes:
    """Return the event of a login, rejected where there is a *reason*."""
    return orjson.dumps(
        {
            "timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
            "event": "login.rejected" if reason else "login.accepted",
            "nas": "asa",
            "user": user.upper(),
            "canonical_user": user,
            "method": "pap" if reason else "totp",
            "source": "192.0.2.10:1645",
            "station": "198.51.100.7",
            "reason": reason,
            **fields,
        }
    )


async def published(publisher: Publisher, *events: bytes) -> None:
    for event in events:
        publisher.queue.append(event)
    await publisher.step()


async def written(writer: HistoryWriter) -> None:
    """Let *writer* go on until nothing is left to do at once."""
    async with asyncio.timeout(60):
        while await writer.step() < 1:
            pass


async def test_a_login_is_read_back_with_all_that_is_known_of_it(
    publisher: Publisher, writing: Writing, history: LoginHistory
) -> None:
    told = {
        "request_id": "0123456789ab",
        "user_key": "LDAP/corp/17",
        "directory": "corp",
        "nas_identifier": "hq",
        "hint": "the phone's clock seems about 90 s slow",
    }
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    await published(publisher, login(reason="wrong_code", **told))
    await written(writing())
    [row] = await history.recent("LDAP/corp/17")
    assert before <= row.at <= datetime.now(UTC)
    assert replace(row, at=before, event_id=1) == PastLogin(
        event_id=1,
        at=before,
        result=Result.REJECTED,
        user="LDAP/corp/17",
        called="alice",
        typed="ALICE",
        directory="corp",
        client="asa",
        nas_identifier="hq",
        source="192.0.2.10:1645",
        station="198.51.100.7",
        method="pap",
        reason="wrong_code",
        hint=told["hint"],
        request_id="0123456789ab",
        node="vpn-a",
    )
    assert await history.login("0123456789ab") == [row]
    assert await history.recent("alice") == []  # the key is what the name stands for


async def test_pages_filters_counts_and_last_logins(
    publisher: Publisher, writing: Writing, history: LoginHistory
) -> None:
    await published(
        publisher,
        login("alice"),
        login("bob", "wrong_password"),
        login("bob", "wrong_code", nas="forti"),
        login("alice", station="203.0.113.9"),
        orjson.dumps(
            {
                "event": "login.unanswered",
                "timestamp": "2026-01-01T00:00:00Z",
                "nas": "asa",
                "backend": "redis",
            }
        ),
        orjson.dumps({"event": "packet.discarded", "reason": "unknown_nas"}),
    )
    await written(writing())
    every = await history.page()
    assert [one.reason for one in every] == ["redis", "", "wrong_code", "wrong_password", ""]
    first = await history.page(limit=2)
    assert first == every[:2]
    assert await history.page(before=first[-1].event_id, limit=2) == every[2:4]
    assert await history.page(EventFilter(client="forti")) == [every[2]]
    assert await history.page(EventFilter(result=Result.REJECTED)) == every[2:4]
    assert await history.page(EventFilter(user="bob", reason="wrong_code")) == [every[2]]
    last = await history.last_logins(["alice", "bob", "nobody"])
    assert set(last) == {"alice"}
    assert (last["alice"].station, last["alice"].event_id) == ("203.0.113.9", every[1].event_id)
    now = datetime.now(UTC)
    counts = await history.counts(now - timedelta(hours=1), now + timedelta(hours=1))
    assert {(one.client, one.result, one.reason): one.count for one in counts} == {
        ("asa", Result.ACCEPTED, ""): 2,
        ("asa", Result.REJECTED, "wrong_password"): 1,
        ("forti", Result.REJECTED, "wrong_code"): 1,
    }
    [old] = await history.counts(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC))
    assert (old.result, old.reason) == (Result.UNANSWERED, "redis")


async def test_two_nodes_write_each_event_once(
    publisher: Publisher, writing: Writing, history: LoginHistory, other_database: Database
) -> None:
    """Also where both believe that it is their turn, as after one of them was stopped for long."""
    one, other = writing("a"), writing("b", LoginHistory(other_database))
    await published(publisher, *(login(f"user{number}") for number in range(1_200)))
    taking_turns = [spawn(written(writer)) for writer in (one, other)]
    await asyncio.gather(*taking_turns)
    await published(publisher, login("bob"))
    await asyncio.gather(written(one), _greedily(other, publisher))
    assert len(await history.page(limit=5_000)) == 1_201
    now = datetime.now(UTC)
    [count] = await history.counts(now - timedelta(hours=1), now + timedelta(hours=1))
    assert count.count == 1_201


async def _greedily(writer: HistoryWriter, publisher: Publisher) -> None:
    """Write as a node that takes every turn from the other."""
    for _ in range(5):
        await publisher.scripts.redis.delete(f"{PREFIX}{{events}}:turn")
        await writer.step()


async def test_whoever_comes_late_with_the_same_events_writes_nothing(
    history: LoginHistory, other_database: Database
) -> None:
    """Not even a count: a node that was stopped for long believes that it is still its turn."""
    found = Finding(datetime.now(UTC), "asa", Result.REJECTED, "unknown_user")
    late, after = LoginHistory(other_database), await history.position()
    assert await history.record(after, 10, [found], [])
    assert not await late.record(after, 10, [found], [])
    assert not await late.record(after, 20, [found], [])
    [count] = await history.counts(found.at, found.at + timedelta(hours=1))
    assert count.count == 1
    assert await late.position() == 10


async def test_who_has_time_takes_the_turn_from_who_answers_logins(
    publisher: Publisher, writing: Writing, history: LoginHistory
) -> None:
    """A portal, that is; once it is gone, a RADIUS process goes on where it stopped."""
    busy, portal = writing("server"), writing("portal", rank=Rank.HAS_TIME)
    await published(publisher, login("alice"))
    await written(busy)
    await published(publisher, login("bob"))
    await written(portal)
    await published(publisher, login("carol"))
    assert await busy.step() == 1  # not its turn any more
    assert [row.user for row in await history.page()] == ["bob", "alice"]
    await publisher.scripts.redis.delete(f"{PREFIX}{{events}}:turn")
    await written(busy)
    assert [row.user for row in await history.page()] == ["carol", "bob", "alice"]


async def test_a_node_that_dies_in_its_turn_is_followed_by_another(
    publisher: Publisher, writing: Writing, history: LoginHistory
) -> None:
    await published(publisher, login("alice"))
    dead = writing("dead")
    await dead.step()
    other = writing("other")
    assert await other.step() == 1  # not its turn yet
    assert await history.page() == []
    await publisher.scripts.redis.pexpire(f"{PREFIX}{{events}}:turn", 1)
    await asyncio.sleep(0.01)
    await written(other)
    assert len(await history.page()) == 1


async def test_a_database_restored_from_a_backup_gets_what_the_stream_still_holds(
    publisher: Publisher, writing: Writing, history: LoginHistory, database: Database
) -> None:
    writer = writing()
    await published(publisher, login("alice"))
    await written(writer)
    async with database.session() as session:
        await session.execute(text("DELETE FROM login_event"))
        await session.execute(text("DELETE FROM login_count"))
        await session.execute(text("UPDATE fact SET value = '0' WHERE name = 'login_history'"))
        await session.commit()
    await published(publisher, login("bob"))
    await written(writer)
    await written(writer)
    assert [one.user for one in await history.page()] == ["bob", "alice"]


async def test_a_redis_whose_clock_is_behind_the_history_is_written_all_the_same(
    publisher: Publisher, writing: Writing, history: LoginHistory, real_redis: RealRedis
) -> None:
    """As after a Redis of the year 2040 by mistake, which was emptied then."""
    with real_redis.client as client:
        client.xadd(f"{PREFIX}{{events}}:stream", {"event": login("alice")}, id="2208988800000-0")
    writer = writing()
    await written(writer)
    real_redis.flush()
    await published(publisher, login("bob"))
    await written(writer)
    await written(writer)
    assert {one.user for one in await history.page()} == {"alice", "bob"}


@on_postgresql
async def test_what_happens_while_the_database_is_down_is_written_when_it_is_back(
    publisher: Publisher, writing: Writing, history: LoginHistory, postgres: RealPostgres
) -> None:
    writer = writing()
    await published(publisher, login("alice"))
    await written(writer)
    postgres.stop()
    try:
        await published(publisher, *(login(f"user{number}") for number in range(700)))
        for _ in range(3):
            with pytest.raises(BackendUnavailable):
                await writer.step()
    finally:
        postgres.start()
    await written(writer)
    rows = await history.page(limit=5_000)
    assert len({row.event_id for row in rows}) == len(rows) == 701


async def test_a_flood_of_refused_logins_is_counted_wholly_and_kept_in_part(
    publisher: Publisher, writing: Writing, history: LoginHistory
) -> None:
    """Who was let in is kept whatever comes beside it, and so is another reason's first login."""
    flood = [login(f"guess{number}", "unknown_user") for number in range(900)]
    await published(publisher, *flood, login("alice"), login("bob", "wrong_code"))
    await written(writing(budget=Budget(burst=20, per_second=0.0)))
    rows = await history.page(limit=5_000)
    assert [row.user for row in rows[:2]] == ["bob", "alice"]
    assert len(rows) == 22
    now = datetime.now(UTC)
    counts = await history.counts(now - timedelta(hours=1), now + timedelta(hours=1))
    assert {one.reason: one.count for one in counts} == {
        "": 1,
        "wrong_code": 1,
        "unknown_user": 900,
    }


def test_the_row_after_a_flood_tells_how_many_have_none() -> None:
    budget, at = Budget(burst=2, per_second=0.1), datetime(2026, 1, 1, tzinfo=UTC)
    one = Finding(at, "asa", Result.REJECTED, "unknown_user")
    assert [budget.take(one) for _ in range(5)] == [0, 0, None, None, None]
    assert budget.take(replace(one, client="other")) == 0
    assert budget.take(replace(one, result=Result.ACCEPTED)) == 0
    assert budget.take(replace(one, at=at + timedelta(seconds=11))) == 3
    assert budget.take(replace(one, at=at + timedelta(seconds=12))) is None
    later = replace(one, at=at + timedelta(days=1))
    assert [budget.take(later) for _ in range(3)] == [1, 0, None]


async def test_what_is_older_than_the_days_to_keep_is_forgotten(
    publisher: Publisher, writing: Writing, history: LoginHistory, store: Any
) -> None:
    """But the last login of somebody on record, which tells of accounts that nobody uses."""
    await store.add_user("alice", "hash")
    old = datetime.now(UTC) - timedelta(days=91)
    with_age = {"timestamp": old.isoformat()}
    key = f"{PREFIX}{{events}}:stream"
    for number, user in enumerate(("alice", "gone")):
        entry = f"{int(old.timestamp() * 1000)}-{number}"
        await publisher.scripts.redis.xadd(key, {"event": login(user, **with_age)}, id=entry)
    await published(publisher, login("bob"))
    writer = writing()
    await writer.step()
    await writer.step()
    assert len(await history.page()) == 3
    await written(writer)
    assert [row.user for row in await history.page()] == ["bob"]
    assert set(await history.last_logins(["alice", "bob", "gone"])) == {"alice", "bob"}
    assert await history.counts(old - timedelta(hours=1), old + timedelta(hours=1)) == []


async def test_without_days_to_keep_nothing_is_written_and_what_was_is_forgotten(
    publisher: Publisher, writing: Writing, history: LoginHistory
) -> None:
    await published(publisher, login("alice"))
    await written(writing())
    await written(writing(history_days=0))
    assert await history.page() == []
    await published(publisher, login("alice"))
    await written(writing(history_days=0))
    assert await history.page() == []


async def test_what_others_put_into_the_stream_does_not_stop_the_history(
    publisher: Publisher, writing: Writing, history: LoginHistory
) -> None:
    """Too long, of the wrong type, with a NUL that PostgreSQL refuses, without a time."""
    odd = [
        login("x" * 5_000, nas="y" * 500),
        login("nul\0nul", reason=17),  # type: ignore[arg-type]
        login("no time", timestamp="yesterday"),
        login("a list", station=["x"], source=None),
    ]
    await published(publisher, *odd, login("alice"))
    await written(writing())
    found = await history.page()
    assert [row.user for row in found] == ["alice", "a list", "nulnul", "x" * 259]


@pytest.mark.parametrize("count", [2_000])
async def test_a_thousand_events_in_a_second_are_no_effort(
    count: int, publisher: Publisher, writing: Writing, history: LoginHistory
) -> None:
    await published(publisher, *(login(f"user{number}") for number in range(count)))
    writer = writing()
    began = time.process_time()
    await written(writer)
    seconds = time.process_time() - began
    assert len(await history.page(limit=5_000)) == count
    assert seconds < count / 1_000, f"{seconds / count * 1e6:.0f} us for an event"

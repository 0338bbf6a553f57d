"""What clients were seen to send: added up over nodes and restarts, bounded, never lost."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from radius_mfa.errors import BackendUnavailable
from radius_mfa.stores.clients_seen import (
    MAX_IDENTIFIERS,
    OTHERS,
    ClientSeen,
    ClientsSeen,
    ClientTraffic,
    Traffic,
    TrafficWriter,
    may_be_required,
)
from radius_mfa.stores.records import Database
from tests.support.postgres import RealPostgres

on_postgresql = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)

NOW = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.fixture
def store(database: Database) -> ClientsSeen:
    return ClientsSeen(database)


async def test_counters_of_nodes_and_of_methods_add_up(
    store: ClientsSeen, other_database: Database
) -> None:
    before = datetime.now(UTC)
    await store.add({("asa", "hq", "pap"): Traffic(3, 3, 0, 1)})
    await ClientsSeen(other_database).add(
        {("asa", "hq", "pap"): Traffic(2, 1, 1, 0), ("asa", "hq", "chap"): Traffic(1, 1, 0, 0)}
    )
    await store.add({("asa", "branch", "pap"): Traffic(1, 1, 0, 0)})
    branch, hq = await store.all()
    assert (hq.client, hq.nas_identifier, hq.methods) == ("asa", "hq", ("chap", "pap"))
    assert (hq.requests, hq.signed, hq.proxied, hq.resent) == (6, 5, 1, 1)
    assert hq.last_unsigned is not None
    assert before <= hq.first_seen < hq.last_unsigned <= hq.last_seen <= datetime.now(UTC)
    assert branch.last_unsigned is None


async def test_the_last_unsigned_request_is_remembered_while_signed_ones_come(
    store: ClientsSeen,
) -> None:
    await store.add({("asa", "hq", "pap"): Traffic(1, 0, 0, 0)})
    [first] = await store.all()
    await store.add({("asa", "hq", "pap"): Traffic(5, 5, 0, 0)})
    [second] = await store.all()
    assert second.last_unsigned == first.last_unsigned
    assert second.last_seen > first.last_seen


async def test_names_that_a_sender_makes_up_are_bounded(store: ClientsSeen) -> None:
    """In the memory of a process, and on record, over many flushes."""
    for flush in range(3):
        traffic = ClientTraffic()
        for number in range(1_000):
            traffic.of("asa", f"made-up-{flush}-{number}", "pap").requests += 1
        taken = traffic.take()
        assert len(taken) == MAX_IDENTIFIERS + 1
        await store.add(taken)
    seen = await store.all()
    assert len(seen) == MAX_IDENTIFIERS + 1
    assert sum(one.requests for one in seen) == 3_000
    [others] = [one for one in seen if one.nas_identifier == OTHERS]
    assert others.requests == 3_000 - MAX_IDENTIFIERS


async def test_odd_names_are_taken_as_the_database_can(store: ClientsSeen) -> None:
    await store.add({("asa", "nul\0" + "x" * 1_000, "pap"): Traffic(1, 1, 0, 0)})
    [one] = await store.all()
    assert one.nas_identifier == "nul" + "x" * 250


async def test_what_was_not_sent_for_a_year_is_forgotten(
    store: ClientsSeen, database: Database
) -> None:
    await store.add({("old", "", "pap"): Traffic(1, 1, 0, 0)})
    async with database.session() as session:
        long_ago = datetime.now(UTC) - timedelta(days=366)
        await session.execute(text("UPDATE client_seen SET last_seen = :at"), {"at": long_ago})
        await session.commit()
    await store.add({("new", "", "pap"): Traffic(1, 1, 0, 0)})
    assert [one.client for one in await store.all()] == ["new"]


@on_postgresql
async def test_what_could_not_be_written_is_counted_on(
    store: ClientsSeen, postgres: RealPostgres
) -> None:
    writer = TrafficWriter(ClientTraffic(), store)
    writer.traffic.of("asa", "hq", "pap").requests += 2
    postgres.stop()
    try:
        with pytest.raises(BackendUnavailable):
            await writer.step()
        writer.traffic.of("asa", "hq", "pap").requests += 3
    finally:
        postgres.start()
    await writer.step()
    await writer.step()
    assert [one.requests for one in await store.all()] == [5]


def seen(signed: int, requests: int, unsigned_days_ago: float | None = None) -> ClientSeen:
    unsigned = None if unsigned_days_ago is None else NOW - timedelta(days=unsigned_days_ago)
    first = NOW - timedelta(days=30)
    return ClientSeen("asa", "", ("pap",), first, NOW, unsigned, requests, signed, 0, 0)


@pytest.mark.parametrize(
    ("answer", "of_the_client"),
    [
        ("no", []),
        ("no", [seen(0, 500, 0)]),
        ("no", [seen(9, 9)]),
        ("yes", [seen(10, 10)]),
        ("no", [seen(499, 500, 6.9)]),
        ("yes", [seen(499, 500, 7.1)]),
        ("no", [seen(0, 500, 7.1)]),
        ("no", [seen(500, 500), seen(499, 500, 1)]),
        ("yes", [seen(500, 500), seen(1, 1)]),
    ],
)
def test_requiring_a_signature_is_advised_only_where_every_nas_sends_it(
    answer: str, of_the_client: list[ClientSeen]
) -> None:
    """Several gateways behind one address must not be cut off because one of them signs."""
    assert may_be_required(of_the_client, NOW) is (answer == "yes")

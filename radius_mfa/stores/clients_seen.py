"""What each client was seen to send: counted in memory, added to SQL now and then.

Only requests that passed every check of the packet count. NAS-Identifier is whatever the sender
writes, so there is a bound to how many are told apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

from sqlalchemy import delete, func, select

from radius_mfa.stores.records import (
    NAME_CHARACTERS,
    ClientSeenRecord,
    Database,
    insert_of,
    utc_now,
)

FLUSH_SECONDS = 30.0

MAX_IDENTIFIERS = 100
"""NAS-Identifiers of a client that are told apart; all further ones are counted as OTHERS."""

OTHERS = "(others)"

FORGOTTEN_AFTER = timedelta(days=365)
"""What a client has not sent for so long is forgotten."""

SETTLED_AFTER = timedelta(days=7)
"""Without an unsigned request for so long a client counts as signing always."""

ENOUGH_REQUESTS = 10
"""Fewer say little about what a client sends."""

Key = tuple[str, str, str]
"""Client, NAS-Identifier, method."""


@dataclass(slots=True)
class Traffic:
    """Counters: *signed* with Message-Authenticator, *proxied* with Proxy-State, *resent* again."""

    requests: int = 0
    signed: int = 0
    proxied: int = 0
    resent: int = 0

    def add(self, other: "Traffic") -> None:
        """Add the counters of *other*."""
        self.requests += other.requests
        self.signed += other.signed
        self.proxied += other.proxied
        self.resent += other.resent


class ClientTraffic:
    """The counters of this process since they were last taken."""

    def __init__(self) -> None:
        self._counters: dict[Key, Traffic] = {}
        self._identifiers: dict[str, set[str]] = {}

    def of(self, client: str, nas_identifier: str, method: str) -> Traffic:
        """Return the counters of a client's NAS and method."""
        found = self._counters.get((client, nas_identifier, method))
        if found is not None:
            return found
        identifiers = self._identifiers.setdefault(client, set())
        if len(identifiers) >= MAX_IDENTIFIERS and nas_identifier not in identifiers:
            nas_identifier = OTHERS
        identifiers.add(nas_identifier)
        return self._counters.setdefault((client, nas_identifier, method), Traffic())

    def take(self) -> dict[Key, Traffic]:
        """Return the counters, and begin anew."""
        taken, self._counters, self._identifiers = self._counters, {}, {}
        return taken

    def put_back(self, taken: dict[Key, Traffic]) -> None:
        """Take counters back that could not be written."""
        for key, traffic in taken.items():
            self.of(*key).add(traffic)


@dataclass(frozen=True, slots=True)
class ClientSeen:
    """What a client's NAS was seen to send, over all methods."""

    client: str
    nas_identifier: str
    methods: tuple[str, ...]
    first_seen: datetime
    last_seen: datetime
    last_unsigned: datetime | None
    requests: int
    signed: int
    proxied: int
    resent: int

    def signs_always(self, now: datetime) -> bool:
        """Return whether every request had Message-Authenticator, or every one for a week."""
        if self.last_unsigned is None:
            return self.signed > 0
        return self.signed > 0 and now - self.last_unsigned >= SETTLED_AFTER


def may_be_required(seen: Sequence[ClientSeen], now: datetime) -> bool:
    """Return whether Message-Authenticator can be required of a client: all its NASes send it."""
    enough = sum(one.signed for one in seen) >= ENOUGH_REQUESTS
    return enough and all(one.signs_always(now) for one in seen)


class ClientsSeen:
    """What is on record of all nodes together."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self) -> list[ClientSeen]:
        """Return what was seen, by client and NAS-Identifier."""
        record = ClientSeenRecord
        query = select(record).order_by(record.client, record.nas_identifier, record.method)
        async with self._database.session() as session:
            rows = (await session.scalars(query)).all()
        by_nas = groupby(rows, lambda row: (row.client, row.nas_identifier))
        return [_seen(list(of_nas)) for _, of_nas in by_nas]

    async def add(self, taken: dict[Key, Traffic]) -> None:
        """Add the counters of a process to those on record."""
        now, table = utc_now(), ClientSeenRecord.__table__
        async with self._database.session() as session:
            known: dict[str, set[str]] = {}
            pairs = select(ClientSeenRecord.client, ClientSeenRecord.nas_identifier).distinct()
            for client, nas_identifier in await session.execute(pairs):
                known.setdefault(client, set()).add(nas_identifier)
            rows = _rows(taken, known, now)
            if rows:
                adding = await insert_of(session, table)
                new = adding.excluded
                sums = {name: table.c[name] + new[name] for name in _COUNTERS}
                unsigned = func.coalesce(new.last_unsigned, table.c.last_unsigned)
                adding = adding.on_conflict_do_update(
                    index_elements=list(table.primary_key),
                    set_={**sums, "last_seen": new.last_seen, "last_unsigned": unsigned},
                )
                await session.execute(adding, rows)
            stale = ClientSeenRecord.last_seen < now - FORGOTTEN_AFTER
            await session.execute(delete(ClientSeenRecord).where(stale))
            await session.commit()


@dataclass(slots=True)
class TrafficWriter:
    """Adds the counters of this process to those on record, now and then."""

    traffic: ClientTraffic
    store: ClientsSeen

    async def step(self) -> float:
        """Write what was counted; return how many seconds to rest.

        Raises BackendUnavailable: then it is counted on.
        """
        taken = self.traffic.take()
        if taken:
            try:
                await self.store.add(taken)
            except BaseException:
                self.traffic.put_back(taken)
                raise
        return FLUSH_SECONDS


_COUNTERS = ("requests", "signed", "proxied", "resent")


def _rows(
    taken: dict[Key, Traffic], known: dict[str, set[str]], now: datetime
) -> list[dict[str, Any]]:
    """Return rows to add; those of NAS-Identifiers that are too many are one."""
    bounded = ClientTraffic()
    for (client, nas_identifier, method), traffic in taken.items():
        identifiers = known.setdefault(client, set())
        named = nas_identifier.replace("\0", "")[:NAME_CHARACTERS]  # as PostgreSQL takes it
        if len(identifiers) >= MAX_IDENTIFIERS and named not in identifiers:
            named = OTHERS
        identifiers.add(named)
        bounded.of(client, named, str(method)).add(traffic)
    return [
        {
            "client": client,
            "nas_identifier": nas_identifier,
            "method": method,
            "first_seen": now,
            "last_seen": now,
            "last_unsigned": now if traffic.signed < traffic.requests else None,
            **{name: getattr(traffic, name) for name in _COUNTERS},
        }
        for (client, nas_identifier, method), traffic in sorted(bounded.take().items())
    ]


def _seen(rows: list[ClientSeenRecord]) -> ClientSeen:
    unsigned = [row.last_unsigned for row in rows if row.last_unsigned is not None]
    sums = {name: sum(getattr(row, name) for row in rows) for name in _COUNTERS}
    return ClientSeen(
        client=rows[0].client,
        nas_identifier=rows[0].nas_identifier,
        methods=tuple(row.method for row in rows),
        first_seen=min(row.first_seen for row in rows),
        last_seen=max(row.last_seen for row in rows),
        last_unsigned=max(unsigned, default=None),
        **sums,
    )

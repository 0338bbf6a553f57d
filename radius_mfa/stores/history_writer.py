"""Writes the history of logins from the event stream, beside the logins and in no login's way.

Every process runs one, and one at a time has its turn: that spares the others the work, and a
portal takes it from those that answer logins. That nothing is written twice does not depend on it,
but on the database (``login_history``).
"""

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from time import time
from typing import Any

from radius_mfa.stores.events import Event, EventStream, Result, events, stream_id
from radius_mfa.stores.login_history import Finding, LoginHistory, Row, finding, row
from radius_mfa.stores.redis_scripts import RedisScripts

WRITE_SECONDS = 1.0
"""How often the stream is looked at."""

BATCH = 500
"""Events in one transaction."""

REST_SECONDS = 0.05
"""Between two batches while the history is behind."""

TURN_MS = 5_000
"""How long a turn outlives the last look of the node that has it."""

PRUNE_SECONDS = 3_600.0

MAX_BURST = 1_000
"""Logins refused by one client for one reason that get a row each, however fast they come."""

PER_SECOND = 0.1
"""How many more do after that: 8,640 in a day, so a flood of a month is a few hundred MiB."""


class Budget:
    """Which refused logins get a row: a bucket of tokens for each client and reason."""

    def __init__(self, burst: int = MAX_BURST, per_second: float = PER_SECOND) -> None:
        self._burst, self._per_second = float(burst), per_second
        self._tokens: dict[tuple[str, ...], tuple[float, float]] = {}
        self._left_out: Counter[tuple[str, ...]] = Counter()

    def take(self, found: Finding) -> int | None:
        """Return how many like *found* were left out before it; None to leave it out too.

        Whoever was let in, or locked, always gets a row.
        """
        if found.result in _ALWAYS_KEPT:
            return 0
        subject, now = (found.client, found.result, found.reason), found.at.timestamp()
        tokens, then = self._tokens.get(subject, (self._burst, now))
        tokens = min(self._burst, tokens + max(0.0, now - then) * self._per_second)
        if tokens < 1:
            self._tokens[subject] = (tokens, max(now, then))
            self._left_out[subject] += 1
            return None
        self._tokens[subject] = (tokens - 1, max(now, then))
        return self._left_out.pop(subject, 0)


_ALWAYS_KEPT = frozenset({Result.ACCEPTED, Result.LOCKED})


@dataclass(frozen=True, slots=True)
class _Batch:
    """Events after *after* up to *until*, judged by the budget once, however often it is tried.

    *full* says that there may be more at once.
    """

    after: int
    until: int
    full: bool
    findings: list[Finding]
    rows: list[Row]


class Rank(IntEnum):
    """Whose work the history is, first of all: a writer of higher rank takes the turn."""

    ANSWERS_LOGINS = 0
    HAS_TIME = 1


class HistoryWriter:
    """The writer of one process."""

    def __init__(
        self,
        scripts: RedisScripts,
        stream: EventStream,
        history: LoginHistory,
        *,
        node_id: str,
        history_days: int,
        rank: Rank = Rank.ANSWERS_LOGINS,
        budget: Budget | None = None,
    ) -> None:
        self._scripts = scripts
        self._stream = stream
        self._history = history
        self._node_id = node_id
        self._rank = int(rank)
        self._kept_for = timedelta(days=history_days)
        self._budget = Budget() if budget is None else budget
        self._position: int | None = None
        self._batch: _Batch | None = None
        self._next_prune = 0.0

    async def step(self) -> float:
        """Write what is new, or prune what is old; return how many seconds to rest.

        Raises BackendUnavailable: then the same is tried again.
        """
        if not self._kept_for:
            return await self._prune() or PRUNE_SECONDS
        if self._batch is None:
            turn = await self._turn(self._position or 0)
            if turn is None:  # another node moves the position
                self._position = None
                return WRITE_SECONDS
            if self._position is None:
                self._position = await self._history.position()
                return 0.0
            found, newest = events(turn[0]), events(turn[1])
            if not found:
                if newest and newest[0].event_id < self._position:
                    await self._history.begin_anew(self._position)
                    self._position = None
                return await self._prune() or WRITE_SECONDS
            self._batch = self._judged(self._position, found)
        return await self._write(self._batch)

    async def _turn(self, position: int) -> Any:  # noqa: ANN401 - a script returns what it likes
        keys = [f"{self._stream.prefix}turn", self._stream.key]
        return await self._scripts.run(
            "history_turn", keys, [self._node_id, self._rank, TURN_MS, stream_id(position), BATCH]
        )

    def _judged(self, after: int, page: list[Event]) -> _Batch:
        findings, rows = [], []
        for event in page:
            found = finding(event)
            if found is None:
                continue
            findings.append(found)
            left_out = self._budget.take(found)
            if left_out is not None:
                rows.append(row(event, found, left_out))
        return _Batch(after, page[-1].event_id, len(page) == BATCH, findings, rows)

    async def _write(self, batch: _Batch) -> float:
        written = await self._history.record(batch.after, batch.until, batch.findings, batch.rows)
        self._batch = None
        self._position = batch.until if written else None
        return REST_SECONDS if batch.full or not written else WRITE_SECONDS

    async def _prune(self) -> float:
        """Prune now and then, a little at a time; return how long to rest before more of it."""
        now = time()
        if now < self._next_prune:
            return 0.0
        pruned = await self._history.prune(datetime.fromtimestamp(now, UTC) - self._kept_for)
        if pruned:
            return REST_SECONDS
        self._next_prune = now + PRUNE_SECONDS
        return 0.0

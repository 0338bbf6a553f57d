"""The event stream: what happened to logins just now, on every node, in one capped Redis stream.

An event is a line of the log, word for word: made printable and free of secrets there. A login
only appends to a queue in memory; a batch of it leaves a moment later, and Redis being away costs
events and never a login.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import orjson
import structlog

from radius_mfa.errors import BackendUnavailable
from radius_mfa.stores.redis_scripts import Argument, RedisScripts


class Result(StrEnum):
    """What came of a login, in a word."""

    ACCEPTED = "accepted"
    CHALLENGED = "challenged"
    REJECTED = "rejected"
    UNANSWERED = "unanswered"
    FAILED = "failed"
    LOCKED = "locked"
    DISCARDED = "discarded"


PORTAL, ADMIN_PORTAL = "(portal)", "(admin portal)"
"""What stands for the client's name where somebody signs in; no ``[[client]]`` can bear it."""

RESULTS = {
    "login.accepted": Result.ACCEPTED,
    "login.challenged": Result.CHALLENGED,
    "login.rejected": Result.REJECTED,
    "login.unanswered": Result.UNANSWERED,
    "login.failed": Result.FAILED,
    "user.locked": Result.LOCKED,
    "packet.discarded": Result.DISCARDED,
    "portal.accepted": Result.ACCEPTED,
    "portal.challenged": Result.CHALLENGED,
    "portal.refused": Result.REJECTED,
    "admin.locked": Result.LOCKED,
}
"""The lines of the log that are events."""

PUBLISH_SECONDS = 0.1
"""How long an event may wait for others to travel with."""

FOLLOW_SECONDS = 0.2
"""How often whoever follows the stream looks."""

MAX_WAITING = 10_000
"""Events that wait for a Redis that is away; more push out the oldest."""

BATCH = 100
"""Events in one script: Redis serves nobody else while it runs."""

NUMBER_REMEMBERED_MS = 3_600_000

PAGE = 1_000

_SEQUENCE_BITS = 20

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a login. *fields* are those of the log's line (docs/reasons.md).

    *event_id* is the place in the stream as one number: it grows, and holds the time.
    """

    event_id: int
    node: str
    fields: dict[str, Any]

    @property
    def result(self) -> Result | None:
        """What came of it; None for what is no event of this release."""
        return RESULTS.get(self.text("event"))

    @property
    def client(self) -> str:
        """The client's name; empty where a packet came from nobody known."""
        return self.text("nas")

    @property
    def user(self) -> str:
        """The one key of the user, or the name typed where it stands for nobody."""
        return self.text("user_key") or self.text("canonical_user") or self.text("user")

    @property
    def reason(self) -> str:
        """The reason of a reject or a discard, the backend that had no answer, or the fault."""
        return self.text("reason") or self.text("backend") or self.text("error")

    def text(self, name: str) -> str:
        """Return a field as text, empty where there is none."""
        return str(self.fields.get(name, ""))


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events to look at; what is empty asks for nothing."""

    client: str = ""
    user: str = ""
    result: Result | None = None
    reason: str = ""

    def admits(self, event: Event) -> bool:
        """Return whether *event* is asked for; *user* is a key, or a name in the form typed."""
        return (
            self.client in ("", event.client)
            and self.result in (None, event.result)
            and self.reason in ("", event.reason)
            and (not self.user or self.user.casefold() in self._names(event))
        )

    @staticmethod
    def _names(event: Event) -> set[str]:
        return {event.text(name).casefold() for name in ("user", "canonical_user", "user_key")}


class EventQueue:
    """What waits in this process to be published. A full queue drops its oldest event."""

    def __init__(self, size: int = MAX_WAITING) -> None:
        self._waiting = deque[bytes](maxlen=size)
        self._size = size
        self.lost = 0
        """Events that were dropped since the start."""

    def __len__(self) -> int:
        """Return how many events wait."""
        return len(self._waiting)

    def append(self, event: bytes) -> None:
        """Take an event, as JSON; this is all that a login pays for."""
        if len(self._waiting) == self._size:
            self.lost += 1
        self._waiting.append(event)

    def take(self, most: int) -> list[bytes]:
        """Return the *most* oldest events, which wait no longer."""
        return [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]


class EventStream:
    """The stream in Redis, to read from."""

    def __init__(self, scripts: RedisScripts, key_prefix: str) -> None:
        self._scripts = scripts
        self.prefix = f"{key_prefix}{{events}}:"  # one slot of a Redis Cluster
        self.key = f"{self.prefix}stream"

    async def after(self, event_id: int, limit: int = PAGE) -> list[Event]:
        """Return the *limit* oldest events after *event_id*, oldest first."""
        first = f"({stream_id(event_id)}"
        redis = self._scripts.redis
        return events(await self._scripts.guarded(redis.xrange(self.key, first, "+", limit)))

    async def newest(self, limit: int, wanted: EventFilter = EventFilter()) -> list[Event]:
        """Return the *limit* newest events that are *wanted*, oldest first."""
        found: list[Event] = []
        before = "+"
        while len(found) < limit:
            redis = self._scripts.redis
            page = events(await self._scripts.guarded(redis.xrevrange(self.key, before, "-", PAGE)))
            found += [event for event in page if wanted.admits(event)]
            if len(page) < PAGE:
                break
            before = f"({stream_id(page[-1].event_id)}"
        return found[:limit][::-1]

    async def last_id(self) -> int:
        """Return the id of the newest event, 0 where there is none."""
        redis = self._scripts.redis
        page = events(await self._scripts.guarded(redis.xrevrange(self.key, "+", "-", 1)))
        return page[0].event_id if page else 0

    async def follow(
        self,
        event_id: int,
        tell: Callable[[BackendUnavailable | None], object] = lambda _error: None,
    ) -> AsyncIterator[Event]:
        """Yield every event after *event_id*, now and from now on.

        While Redis is away there are none; *tell* is called when that begins, and with None when
        it is over.
        """
        away = False
        while True:
            try:
                page = await self.after(event_id)
            except BackendUnavailable as error:
                if not away:
                    tell(error)
                page, away = [], True
            else:
                if away:
                    tell(None)
                away = False
            for event in page:
                yield event
                event_id = event.event_id
            if len(page) < PAGE:
                await asyncio.sleep(FOLLOW_SECONDS)


@dataclass(slots=True)
class Publisher:
    """Sends what waits in *queue* to the stream, each event once; *keep* is the stream's length."""

    scripts: RedisScripts
    stream: EventStream
    queue: EventQueue
    process: str
    node: str
    keep: int
    _batch: list[bytes] = field(default_factory=list)
    _number: int = 1
    _told: int = 0

    async def step(self) -> float:
        """Publish all that waits; return how many seconds to rest.

        Raises BackendUnavailable: then the batch stays, and goes first the next time.
        """
        while self._batch or self.queue:
            if not self._batch:
                self._batch = self.queue.take(BATCH)
            keys = [self.stream.key, f"{self.stream.prefix}batch:{self.process}"]
            args: list[Argument] = [
                self._number,
                NUMBER_REMEMBERED_MS,
                self.keep,
                self.node,
                *self._batch,
            ]
            await self.scripts.run("publish", keys, args)
            self._batch, self._number = [], self._number + 1
        if self.queue.lost > self._told:
            lost, self._told = self.queue.lost - self._told, self.queue.lost
            log.error(
                "events.lost", lost=lost, hint="Redis was away for longer than they could wait"
            )
        return PUBLISH_SECONDS


def stream_id(event_id: int) -> str:
    """Return Redis's own name of a place in the stream."""
    return f"{event_id >> _SEQUENCE_BITS}-{event_id & (1 << _SEQUENCE_BITS) - 1}"


def id_at(unix_ms: int) -> int:
    """Return the first id that an event of this moment may have."""
    return unix_ms << _SEQUENCE_BITS


def events(entries: list[Any]) -> list[Event]:
    """Return entries of the stream, as Redis gives them, as events."""
    found = []
    for name, values in entries:
        fields = values if isinstance(values, dict) else dict(zip(*[iter(values)] * 2, strict=True))
        milliseconds, _, sequence = name.partition(b"-")
        event_id = id_at(int(milliseconds)) + int(sequence)
        node = fields.get(b"node", b"").decode("utf-8", "replace")
        found.append(Event(event_id, node, _fields(fields.get(b"event", b""))))
    return found


def _fields(octets: bytes) -> dict[str, Any]:
    """Return the fields of an event; nothing that somebody else put there stops its reader."""
    try:
        fields = orjson.loads(octets)
    except orjson.JSONDecodeError:
        return {}
    return fields if isinstance(fields, dict) else {}

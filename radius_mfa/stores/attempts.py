"""Failures, locks, used time steps and verdicts of the whole cluster, in Redis.

Every check-and-record is one Lua script on keys of one user; they share a hash tag, so that a
script touches one slot of a Redis Cluster. The tag is one of 256 rather than the user's own, so
that the epoch, which tells whether Redis still has its memory, can stand in the same slot.
"""

import asyncio
import hashlib
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import structlog

from radius_mfa import tasks
from radius_mfa.errors import BackendUnavailable
from radius_mfa.policy.access import Enrolment
from radius_mfa.policy.decision import (
    FACTOR_AT_FAULT,
    Accept,
    Challenge,
    Decision,
    Reject,
    RejectReason,
)
from radius_mfa.policy.lockout import (
    MAX_CONSECUTIVE_FAILURES,
    SAME_VALUE_MS,
    UNTIL_UNLOCKED,
    LockoutPolicy,
    Tally,
    later_lock,
)
from radius_mfa.stores.interfaces import (
    Loaded,
    PendingChallenge,
    Settled,
    Settlement,
    Subject,
    VerdictKey,
)
from radius_mfa.stores.redis_scripts import RedisScripts

log = structlog.get_logger()

GENERATION_MS = 3_600_000
"""How long a change of a user is remembered: far longer than any login takes."""

BARRIER_MS = 15_000
"""How long nothing is cached around a change of a user: longer than the change takes."""

UNKNOWN_USER_MS = 60_000
"""How long it is cached that nobody has a name: anyone can make up names until Redis is full."""

ALIVE_MS = 60_000

NAMES_KEPT = 4096
"""Names of keys that are kept: a login needs its own twice."""

MAX_NOTICES = 2
"""How often one load may find Redis without memory: a look under way may have come too early."""

MAX_LISTED_LOCKS = 1000
"""Locked users in the list of them: anyone can make up names and have them locked."""

_TAGS = [f"{number:02x}" for number in range(256)]


@dataclass(frozen=True, slots=True)
class Locks:
    """What is counted against a user: in all, and by source."""

    user: Tally
    consecutive: int
    sources: dict[str, Tally]

    def everywhere(self, now_ms: int) -> bool:
        """Return whether the user is locked at *now_ms*, whatever the source."""
        return self.user.lock_end(now_ms) != 0

    def anywhere(self, now_ms: int) -> bool:
        """Return whether the user is locked at *now_ms*, if only at one source."""
        tallies = (self.user, *self.sources.values())
        return any(tally.lock_end(now_ms) for tally in tallies)


class RedisAttempts:
    """The Attempts of production; see ``stores/interfaces.py`` for the promises."""

    def __init__(
        self,
        scripts: RedisScripts,
        *,
        decode: Callable[[str, bytes], Enrolment | None],
        encode: Callable[[str, Enrolment], bytes],
        lockout: LockoutPolicy = LockoutPolicy(),
        key_prefix: str = "radius-mfa:",
        enrolment_cache_seconds: int = 3600,
    ) -> None:
        self._scripts = scripts
        self._decode = decode
        self._encode = encode
        self._prefix = key_prefix
        self._locked = f"{key_prefix}locked"
        self._enrolment_cache_ms = enrolment_cache_seconds * 1000
        self._noticing: asyncio.Task[None] | None = None
        thresholds = (
            SAME_VALUE_MS,
            lockout.failures_by_source,
            lockout.failures_by_user,
            lockout.window_ms,
            lockout.lock_ms,
            lockout.max_lock_ms,
            MAX_CONSECUTIVE_FAILURES,
        )
        by_thresholds = " ".join(map(str, thresholds))
        self._failures = {counted: f"{counted:d} {by_thresholds}" for counted in (False, True)}
        self._names = lru_cache(NAMES_KEPT)(self._names_of)

    async def load(
        self, subject: Subject, verdict_keys: Sequence[VerdictKey], now: float
    ) -> Loaded:
        """Return what is known of *subject*; a Redis without memory is given an epoch first."""
        for _ in range(1 + MAX_NOTICES):
            reply = await self._load(subject, verdict_keys)
            if reply[0] is not None:
                return self._loaded(subject, reply, int(now * 1000))
            await self.notice_lost_memory(now)
        raise BackendUnavailable("redis", "keys vanish: is maxmemory-policy noeviction?")

    async def _load(self, subject: Subject, verdict_keys: Sequence[VerdictKey]) -> list[Any]:
        epoch, own = self._names(subject.user)
        keys = [
            epoch,
            own + "generation",
            own + "tally",
            own + "sources",
            own + "steps",
            own + "enrolment",
            *(f"{own}verdict:{key.digest}" for key in verdict_keys),
        ]
        args = [subject.source]
        if subject.state:
            keys.append(f"{own}challenge:{subject.state}")
            args.append("answered")
        reply: list[Any] = await self._scripts.run("load", keys, args)
        return reply

    def _loaded(self, subject: Subject, reply: list[Any], now_ms: int) -> Loaded:
        epoch, generation, tally, here, steps, enrolment, verdicts, challenge = reply
        generation = (generation or b"0").decode()
        return Loaded(
            epoch=epoch.decode(),
            generation=generation,
            enrolment=None if enrolment is None else self._decode(subject.user, enrolment),
            used_steps={
                device.decode(): int(step)
                for device, step in zip(steps[::2], steps[1::2], strict=True)
            },
            locked_until=later_lock(_lock_end(tally, now_ms), _lock_end(here, now_ms)),
            forgotten_until=float(epoch.decode().partition(":")[2]),
            verdict=_first_valid(verdicts, generation, now_ms),
            challenge=challenge and _pending(subject.state, challenge.decode()),
        )

    async def remember(self, user: str, enrolment: Enrolment, loaded: Loaded) -> None:
        """Cache *enrolment*, unless the user was changed since *loaded*."""
        lifetime = self._enrolment_cache_ms
        if not enrolment.known:
            lifetime = min(lifetime, UNKNOWN_USER_MS)
        epoch, own = self._names(user)
        await self._scripts.run(
            "remember",
            [epoch, own + "generation", own + "barrier", own + "enrolment"],
            [loaded.epoch, loaded.generation, self._encode(user, enrolment), lifetime],
        )

    async def settle(
        self,
        subject: Subject,
        settlement: Settlement,
        loaded: Loaded,
        verdict_keys: Sequence[VerdictKey],
        now: float,
    ) -> Settled:
        """Make *settlement* final, or return what came before it."""
        epoch, own = self._names(subject.user)
        match, asked = settlement.match, _encoded(settlement.decision)
        keys = [
            epoch,
            own + "generation",
            own + "tally",
            own + "sources",
            own + "steps",
            f"{own}wrong:{settlement.wrong_value}",
            *(f"{own}verdict:{key.digest}" for key in verdict_keys),
        ]
        args: list[bytes | str | int] = [
            int(now * 1000),
            loaded.epoch,
            loaded.generation,
            subject.source,
            match.device.device_id if match else "",
            match.time_step if match else "",
            asked,
            _REPLAYED,
            _LOCKED,
            self._failures[settlement.counted] if _wrong_factor(settlement) else "",
            len(verdict_keys),
            *(key.ttl_ms for key in verdict_keys),
        ]
        if settlement.answers is not None or settlement.gives is not None:
            more_keys, more_args = _challenges(own, settlement)
            keys, args = keys + more_keys, args + more_args
        state, verdict, locked_until = await self._scripts.run("settle", keys, args)
        if state in (b"cold", b"stale"):
            raise BackendUnavailable("redis", _UNSETTLED[state])
        if int(locked_until):
            await self._note_lock(subject.user, int(locked_until), now)
        final = verdict.decode()
        decision = settlement.decision if final == asked else _decoded(final)  # the one has a hint
        return Settled(decision, state == b"shared", int(locked_until))

    async def _note_lock(self, user: str, locked_until: int, now: float) -> None:
        """Remember whom to look at for the list of locked users; the tallies alone decide."""
        ends = "+inf" if locked_until == UNTIL_UNLOCKED else locked_until
        pipeline = self._scripts.redis.pipeline(transaction=False)
        pipeline.zadd(self._locked, {user: ends})
        pipeline.zremrangebyscore(self._locked, "-inf", int(now * 1000))
        pipeline.zremrangebyrank(self._locked, 0, -1 - MAX_LISTED_LOCKS)
        with suppress(BackendUnavailable):  # the login is settled
            await self._scripts.guarded(pipeline.execute())

    async def locked(self, now: float) -> dict[str, Locks]:
        """Return the users who are locked now, everywhere or at one source, the latest ones."""
        redis, now_ms = self._scripts.redis, int(now * 1000)
        names = await self._scripts.guarded(redis.zrangebyscore(self._locked, now_ms, "+inf"))
        found = await self.locks_of([name.decode() for name in names])
        return {user: locks for user, locks in found.items() if locks.anywhere(now_ms)}

    async def open_epoch(self, forgotten_until: float) -> bool:
        """Mark Redis as having memory from now on; return whether anything was missing.

        Codes of time steps up to *forgotten_until* (Unix seconds) are refused from then on; 0
        says that there was nothing to forget, which is true once, on a new installation.
        """
        value = f"{secrets.token_hex(8)}:{forgotten_until:.0f}"
        pipeline = self._scripts.redis.pipeline(transaction=False)
        for tag in _TAGS:
            pipeline.set(f"{self._prefix}{{{tag}}}:epoch", value, nx=True)
        return any(await self._scripts.guarded(pipeline.execute()))

    async def notice_lost_memory(self, now: float) -> None:
        """Refuse codes from before *now* wherever Redis has no memory of them (rule 10)."""
        if self._noticing is None or self._noticing.done():
            self._noticing = tasks.spawn(self._notice_lost_memory(now))
        await asyncio.shield(self._noticing)  # every login in flight notices: one look for all

    async def _notice_lost_memory(self, now: float) -> None:
        epochs = [f"{self._prefix}{{{tag}}}:epoch" for tag in _TAGS]
        if await self._scripts.guarded(self._scripts.redis.exists(*epochs)) == len(epochs):
            return
        if await self.open_epoch(forgotten_until=now):
            log.error(
                "redis.memory_lost",
                hint="codes shown up to now are refused once, lockouts have started again; "
                "was Redis flushed, or does it run without appendonly?",
            )

    async def clock(self) -> float:
        """Return the time by Redis's clock, in Unix seconds; writes, to see that Redis can."""
        pipeline = self._scripts.redis.pipeline(transaction=False)
        pipeline.set(f"{self._prefix}alive", "1", px=ALIVE_MS)
        pipeline.time()
        _, (seconds, microseconds) = await self._scripts.guarded(pipeline.execute())
        return float(seconds) + float(microseconds) / 1e6

    async def invalidate(self, user: str) -> None:
        """Make every node forget the user's enrolment: before a change, and again after it."""
        await self._scripts.run(
            "invalidate",
            self._keys(user, "generation", "barrier", "enrolment"),
            [GENERATION_MS, BARRIER_MS],
        )

    async def forget_enrolments(self, users: Sequence[str]) -> None:
        """Drop what is cached of the devices of *users*; logins in progress go on."""
        pipeline = self._scripts.redis.pipeline(transaction=False)
        for user in users:
            pipeline.delete(*self._keys(user, "enrolment"))
        await self._scripts.guarded(pipeline.execute())

    async def locks(self, user: str) -> Locks:
        """Return what is counted against *user*."""
        return (await self.locks_of([user]))[user]

    async def locks_of(self, users: Sequence[str]) -> dict[str, Locks]:
        """Return what is counted against each of *users*."""
        pipeline = self._scripts.redis.pipeline(transaction=False)
        for user in users:
            tally_key, sources_key = self._keys(user, "tally", "sources")
            pipeline.get(tally_key)
            pipeline.hgetall(sources_key)
        replies = await self._scripts.guarded(pipeline.execute()) if users else []
        return {
            user: _locks(text, sources)
            for user, text, sources in zip(users, replies[::2], replies[1::2], strict=True)
        }

    async def unlock(self, user: str) -> None:
        """Forget all failures of *user*, from every source."""
        keys = self._keys(user, "tally", "sources", "admin")
        pipeline = self._scripts.redis.pipeline(transaction=False)
        pipeline.delete(*keys)
        pipeline.zrem(self._locked, user)
        await self._scripts.guarded(pipeline.execute())
        await self.invalidate(user)  # a verdict "locked" must not outlive the lock

    async def admin_try(self, user: str, seconds: int) -> int:
        """Count a try of *user* to sign in as an admin; return how many *seconds* have seen."""
        [key] = self._keys(user, "admin")
        pipeline = self._scripts.redis.pipeline(transaction=True)
        pipeline.set(key, 0, ex=seconds, nx=True)
        pipeline.incr(key)
        return int((await self._scripts.guarded(pipeline.execute()))[1])

    async def admin_try_was_right(self, user: str, *, signed_in: bool) -> None:
        """Take back the last try or, for who is *signed_in* by it, all of them."""
        [key] = self._keys(user, "admin")
        redis = self._scripts.redis
        left = 0 if signed_in else await self._scripts.guarded(redis.decr(key))
        if left <= 0:  # below 0 the count has ended meanwhile, and DECR began one without an end
            await self._scripts.guarded(redis.delete(key))

    async def forget(self, user: str) -> None:
        """Forget all that is known of a user who was deleted, but for the used time steps."""
        await self.unlock(user)

    def _names_of(self, user: str) -> tuple[str, str]:
        """Return the key of the epoch in the user's slot, and what the user's keys begin with."""
        slot = f"{self._prefix}{{{_tag(user)}}}:"
        return slot + "epoch", f"{slot}{user}:"

    def _keys(self, user: str, *kinds: str) -> list[str]:
        own = self._names(user)[1]
        return [own + kind for kind in kinds]


_UNSETTLED = {
    b"cold": "Redis lost its memory while the login was in progress",
    b"stale": "the user was changed while the login was in progress",
}


def _tag(user: str) -> str:
    return hashlib.blake2b(user.encode(), digest_size=1).hexdigest()


def _tally(text: bytes | None) -> tuple[Tally, int]:
    """Return the tally that the scripts keep as text, and the consecutive failures in it."""
    failures, since, locks, until, consecutive = map(int, (text or b"0 0 0 0 0").split())
    return Tally(failures, since, locks, until), consecutive


def _locks(text: bytes | None, sources: dict[bytes, bytes]) -> Locks:
    tally, consecutive = _tally(text)
    by_source = {source.decode(): _tally(value)[0] for source, value in sources.items()}
    return Locks(tally, consecutive, by_source)


def _lock_end(text: bytes | None, now_ms: int) -> int:
    return _tally(text)[0].lock_end(now_ms) if text else 0


def _wrong_factor(settlement: Settlement) -> bool:
    """Return whether a reject, also one that the settlement finds, is a failure of the user.

    That counts towards MAX_CONSECUTIVE_FAILURES, whether or not the limits count it.
    """
    decision = settlement.decision
    if not isinstance(decision, Accept):
        return decision.reason in FACTOR_AT_FAULT
    return settlement.match is not None  # whose time step may be used


def _encoded(decision: Decision) -> str:
    if isinstance(decision, Accept):
        return f"accept:{decision.method}"
    if isinstance(decision, Challenge):
        return f"challenge:{decision.state}:{decision.reason or ''}"
    return f"reject:{decision.reason}"


_REPLAYED = _encoded(Reject(RejectReason.CODE_REPLAYED))
_LOCKED = _encoded(Reject(RejectReason.ACCOUNT_LOCKED))
_ANSWERED = _encoded(Reject(RejectReason.STATE_USED))


def _decoded(verdict: str) -> Decision:
    kind, _, detail = verdict.partition(":")
    if kind == "challenge":
        state, _, reason = detail.partition(":")
        return Challenge(state, RejectReason(reason) if reason else None)
    return Accept(detail) if kind == "accept" else Reject(RejectReason(detail))


def _first_valid(verdicts: list[bytes | None], generation: str, now_ms: int) -> Decision | None:
    for record in filter(None, verdicts):
        of_generation, expiry, verdict = record.decode().split(" ")
        if of_generation == generation and int(expiry) > now_ms:
            return _decoded(verdict)
    return None


def _challenges(own: str, settlement: Settlement) -> tuple[list[str], list[bytes | str | int]]:
    """Return the keys and arguments of the challenges that *settlement* answers and gives."""
    answers, gives, decision = settlement.answers, settlement.gives, settlement.decision
    keys: list[str] = [f"{own}challenge:{one.digest}" for one in (answers, gives) if one]
    args: list[bytes | str | int] = ["", "", ""]
    if answers is not None:
        keys += [f"{own}verdict:{digest}" for digest in answers.verdicts]
        args = [_record(answers), _record(replace(answers, tries=0)), _ANSWERED]
    if gives is None:
        return keys, [*args, "", 0, ""]
    refused = isinstance(decision, Challenge) and decision.reason
    otherwise = _encoded(Reject(refused)) if refused else _LOCKED
    return keys, [*args, _record(gives), gives.ttl_ms, otherwise]


def _record(challenge: PendingChallenge) -> str:
    """Return a challenge as Redis keeps it; a source may hold spaces, so it stands last."""
    verdicts = ",".join(challenge.verdicts) or "-"
    return f"{challenge.generation} {challenge.tries} {verdicts} {challenge.source}"


def _pending(digest: str, record: str) -> PendingChallenge:
    generation, tries, verdicts, source = record.split(" ", 3)
    digests = () if verdicts == "-" else tuple(verdicts.split(","))
    return PendingChallenge(digest, generation, int(tries), source, digests)

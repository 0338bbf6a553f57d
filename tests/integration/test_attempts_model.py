"""The scripts in Redis and their plain statement in Python give the same answers, call by call."""

import asyncio
import itertools
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from radius_mfa.errors import BackendUnavailable
from radius_mfa.policy.access import Enrolment
from radius_mfa.policy.decision import Accept, Challenge, Reject, RejectReason
from radius_mfa.policy.lockout import LockoutPolicy, Tally
from radius_mfa.policy.totp import Device, Match
from radius_mfa.stores import attempts, memory
from radius_mfa.stores.attempts import Locks
from radius_mfa.stores.interfaces import (
    Loaded,
    PendingChallenge,
    Settled,
    Settlement,
    Subject,
    VerdictKey,
)
from radius_mfa.stores.memory import MemoryAttempts
from tests.support.redis import RealRedis, attempts_over

NOW_MS = 1_700_000_000_000

CEILING = 7
"""In place of MAX_CONSECUTIVE_FAILURES, which no random sequence reaches."""

SHORTEST_LIFETIME_SECONDS = 60
"""No key of these tests lives shorter: what expires here does so by ``now``, not by Redis."""

USERS = ["alice", "bob"]
SOURCES = ["asa|10.0.0.1", "asa|10.0.0.2", "forti|"]
DEVICES = [Device(device_id, device_id, b"") for device_id in ("d-1", "d-2")]
VERDICT_KEYS = [VerdictKey("00aa", 60_000), VerdictKey("00bb", 90_000), VerdictKey("00cc", 240_000)]

policies = st.builds(
    LockoutPolicy,
    failures_by_source=st.integers(0, 3),
    failures_by_user=st.integers(0, 5),
    window_ms=st.sampled_from([30_000, 60_000]),
    lock_ms=st.sampled_from([0, 20_000, 60_000]),
    max_lock_ms=st.sampled_from([0, 30_000, 100_000]),
)
matches = st.builds(Match, st.sampled_from(DEVICES), st.integers(0, 6))
wrong_values = st.sampled_from([f"{number:02x}" for number in range(12)])
accepts = st.builds(
    Settlement, st.just(Accept("totp")), matches, counted=st.booleans(), wrong_value=wrong_values
)
rejects = st.builds(
    Settlement,
    st.builds(Reject, st.sampled_from([RejectReason.WRONG_CODE, *RejectReason])),
    counted=st.booleans(),
    wrong_value=wrong_values,
)
wrong_codes = st.builds(
    Settlement,
    st.just(Reject(RejectReason.WRONG_CODE)),
    counted=st.just(value=True),
    wrong_value=wrong_values,
)
without_code = st.just(Settlement(Accept("password")))
settlements = st.one_of(accepts, wrong_codes, rejects, without_code)
keys = st.lists(st.sampled_from(VERDICT_KEYS), unique=True)
few_keys: st.SearchStrategy[list[VerdictKey]] = st.just([]) | st.just([]) | keys
times = st.sampled_from([1, 999, 20_000, 29_999, 30_000, 60_000, 100_000, 240_000, -1, -30_000])

LONG_MS = 1_000_000_000
STATES = ["5a", "5b", "5c"]

questions = st.builds(
    Settlement,
    st.builds(Challenge, st.just("a-State"), st.sampled_from([None, RejectReason.WRONG_CODE])),
    counted=st.booleans(),
    wrong_value=wrong_values,
)

subjects = st.builds(Subject, st.sampled_from(USERS), st.sampled_from(SOURCES))

Seen = tuple[Subject, Loaded, Loaded]

_prefixes = (f"machine{number}:" for number in itertools.count())


class Twins(RuleBasedStateMachine):
    """Both stores, asked the same."""

    seen: Bundle[Seen] = Bundle("seen")

    def __init__(self, redis: RealRedis) -> None:
        super().__init__()
        self._url = redis.url
        self._began = time.monotonic()
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        self._now_ms = NOW_MS
        self._barriers: set[str] = set()

    @initialize(lockout=policies)
    def open(self, lockout: LockoutPolicy) -> None:
        opened = attempts_over(self._url, lockout, key_prefix=next(_prefixes))
        self.redis = self._run(self._stack.enter_async_context(opened))
        self._run(self.redis.open_epoch(0))
        self.memory = MemoryAttempts(lockout)

    def teardown(self) -> None:
        self._run(self._stack.aclose())
        self._runner.close()
        assert time.monotonic() - self._began < SHORTEST_LIFETIME_SECONDS

    def _run(self, call: Any) -> Any:
        return self._runner.run(_answer(call))

    @property
    def _now(self) -> float:
        return (self._now_ms + 0.5) / 1000  # which no rounding takes to the millisecond before

    @rule(target=seen, subject=subjects, verdict_keys=keys)
    def load(self, subject: Subject, verdict_keys: list[VerdictKey]) -> Seen:
        theirs = self._run(self.redis.load(subject, verdict_keys, self._now))
        ours = self._run(self.memory.load(subject, verdict_keys, self._now))
        assert replace(theirs, epoch="") == replace(ours, epoch="")
        return subject, theirs, ours

    @rule(seen=seen, settlement=settlements, verdict_keys=few_keys)
    def settle(self, seen: Seen, settlement: Settlement, verdict_keys: list[VerdictKey]) -> None:
        subject, theirs, ours = seen
        asked = (settlement, theirs, verdict_keys, self._now)
        answer = self._run(self.redis.settle(subject, *asked))
        asked = (settlement, ours, verdict_keys, self._now)
        assert answer == self._run(self.memory.settle(subject, *asked))
        assert isinstance(answer, Settled) == (ours.generation == self._generation(subject.user))

    @rule(subject=subjects, settlement=settlements, verdict_keys=few_keys)
    def login(
        self, subject: Subject, settlement: Settlement, verdict_keys: list[VerdictKey]
    ) -> None:
        self.settle(self.load(subject, verdict_keys), settlement, verdict_keys)

    @rule(
        subject=subjects,
        state=st.sampled_from(STATES),
        gives=st.sampled_from(STATES),
        tries=st.integers(1, 3),
        settlement=questions | accepts | wrong_codes,
        verdict_keys=few_keys,
        without_station=st.booleans(),
    )
    def ask_or_answer(  # noqa: PLR0917 - what hypothesis draws
        self,
        subject: Subject,
        state: str,
        gives: str,
        tries: int,
        settlement: Settlement,
        verdict_keys: list[VerdictKey],
        without_station: bool,  # noqa: FBT001
    ) -> None:
        """Answer the challenge of *state*, if it waits, and ask for another code."""
        source = subject.source.partition("|")[0] + "|" if without_station else subject.source
        assume(gives != state)  # no State is given twice
        seen: Any = self.load(Subject(subject.user, source, state), verdict_keys)
        pending = seen[2].challenge
        settlement = replace(settlement, answers=pending if pending and pending.tries else None)
        if isinstance(settlement.decision, Challenge):
            digests = tuple(key.digest for key in verdict_keys[1:])
            given = PendingChallenge(
                gives, seen[2].generation, tries, subject.source, digests, LONG_MS
            )
            settlement = replace(settlement, gives=given)
        self.settle(seen, settlement, verdict_keys)
        if settlement.answers is not None:
            self.settle(seen, settlement, [])  # of two at once the second finds it answered

    @rule(subject=subjects, values=st.sets(wrong_values, min_size=2), counted=st.booleans())
    def guess(self, subject: Subject, values: set[str], *, counted: bool) -> None:
        for value in sorted(values):
            wrong = Settlement(Reject(RejectReason.WRONG_CODE), counted=counted, wrong_value=value)
            self.login(subject, wrong, [])

    @rule(seen=seen, version=st.integers(1, 3), known=st.booleans())
    def remember(self, seen: Seen, version: int, *, known: bool) -> None:
        subject, theirs, ours = seen
        enrolment = Enrolment(version, known=known)
        self._run(self.redis.remember(subject.user, enrolment, theirs))
        if subject.user not in self._barriers:
            self._run(self.memory.remember(subject.user, enrolment, ours))

    @rule(user=st.sampled_from(USERS))
    def invalidate(self, user: str) -> None:
        self._run(self.redis.invalidate(user))
        self._run(self.memory.invalidate(user))
        self._barriers.add(user)

    @rule(user=st.sampled_from(USERS))
    def unlock(self, user: str) -> None:
        self._run(self.redis.unlock(user))
        self._run(self.memory.unlock(user))
        self._barriers.add(user)

    @rule(user=st.sampled_from(USERS))
    def end_barrier(self, user: str) -> None:
        """As 15 seconds without a change do."""
        self._run(self.redis._scripts.redis.delete(*self.redis._keys(user, "barrier")))
        self._barriers.discard(user)

    @rule(delta_ms=times)
    def let_time_pass(self, delta_ms: int) -> None:
        self._now_ms += delta_ms

    @rule(
        subject=subjects,
        settlement=settlements | wrong_codes | wrong_codes,
        verdict_keys=few_keys,
        choice=st.integers(0, 999),
        delta_ms=st.sampled_from([0, 0, 1, -1]),
    )
    def login_at_an_edge(
        self,
        subject: Subject,
        settlement: Settlement,
        verdict_keys: list[VerdictKey],
        choice: int,
        delta_ms: int,
    ) -> None:
        """Try at the very moment at which a lock, a window, a verdict or a mark ends."""
        known = self.memory._user(subject.user)
        edges = list(self._edges(known.tally, known.sources.get(subject.source, Tally())))
        edges += [
            known.verdicts[key.digest].expiry
            for key in verdict_keys
            if key.digest in known.verdicts
        ]
        edges += filter(None, [known.wrong_values.get(settlement.wrong_value)])
        if edges:
            self._now_ms = edges[choice % len(edges)] + delta_ms
            self.login(subject, settlement, verdict_keys)

    def _edges(self, *tallies: Tally) -> Iterator[int]:
        for tally in tallies:
            if tally.since:
                window_end = tally.since + self.memory._lockout.window_ms
                yield from (tally.since, window_end, max(tally.locked_until, tally.since))
                yield max(tally.locked_until, window_end) + self.memory._lockout.max_lock_ms

    @invariant()
    def counts_are_the_same(self) -> None:
        for user in USERS:
            known = self.memory._user(user)
            expected = Locks(known.tally, known.consecutive, known.sources)
            assert self._run(self.redis.locks(user)) == expected
            assert known.consecutive <= CEILING

    def _generation(self, user: str) -> str:
        return str(self.memory._user(user).generation)


async def _answer(call: Any) -> Any:
    """Return what *call* returns, or the kind of its refusal: both stores must refuse alike."""
    try:
        return await call
    except BackendUnavailable as error:
        return str(error)


@pytest.mark.timeout(600)  # a failure is made small before it is shown
def test_redis_and_the_plain_model_agree_on_every_sequence_of_calls(
    real_redis: RealRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """O04, O06, O08, O11, O13, C03: whatever is loaded, settled, unlocked, whatever the time."""
    monkeypatch.setattr(attempts, "MAX_CONSECUTIVE_FAILURES", CEILING)
    monkeypatch.setattr(memory, "MAX_CONSECUTIVE_FAILURES", CEILING)
    run_state_machine_as_test(
        lambda: Twins(real_redis),  # type: ignore[arg-type]  # documented to take a factory
        settings=settings(
            max_examples=80,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )

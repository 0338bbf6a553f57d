"""The stores in plain Python: what the Lua scripts promise, without a backend.

For tests only: state of one process is no protection. The tests hold ``MemoryAttempts`` and the
scripts in Redis together, call by call.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

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
from radius_mfa.policy.groups import Group
from radius_mfa.policy.identity import canonical_user
from radius_mfa.policy.lockout import (
    MAX_CONSECUTIVE_FAILURES,
    SAME_VALUE_MS,
    UNTIL_UNLOCKED,
    LockoutPolicy,
    Tally,
    later_lock,
)
from radius_mfa.stores.interfaces import (
    LOCAL,
    Identity,
    Loaded,
    PasswordVerdict,
    PendingChallenge,
    RecoveryMatch,
    Settled,
    Settlement,
    Subject,
    VerdictKey,
)


@dataclass(slots=True)
class _Verdict:
    decision: Decision
    generation: int
    expiry: int


@dataclass(slots=True)
class _User:
    generation: int = 0
    tally: Tally = Tally()
    consecutive: int = 0
    sources: dict[str, Tally] = field(default_factory=dict)
    steps: dict[str, int] = field(default_factory=dict)
    enrolment: Enrolment | None = None
    wrong_values: dict[str, int] = field(default_factory=dict)
    verdicts: dict[str, _Verdict] = field(default_factory=dict)
    challenges: dict[str, tuple[PendingChallenge, int]] = field(default_factory=dict)

    def verdict(self, keys: Sequence[VerdictKey], now: int) -> Decision | None:
        for key in keys:
            known = self.verdicts.get(key.digest)
            if known and known.generation == self.generation and known.expiry > now:
                return known.decision
        return None

    def challenge(self, state: str, now: int) -> PendingChallenge | None:
        challenge, expiry = self.challenges.get(state, (None, 0))
        return challenge if expiry > now else None

    def lock_end(self, source: str, now: int) -> int:
        here = self.sources.get(source, Tally())
        return later_lock(self.tally.lock_end(now), here.lock_end(now))


class MemoryAttempts:
    """The Attempts of one process."""

    def __init__(self, lockout: LockoutPolicy = LockoutPolicy()) -> None:
        self._lockout = lockout
        self._users: dict[str, _User] = {}

    def _user(self, name: str) -> _User:
        return self._users.setdefault(name, _User())

    async def load(
        self, subject: Subject, verdict_keys: Sequence[VerdictKey], now: float
    ) -> Loaded:
        """Return what is known of *subject*."""
        user, now_ms = self._user(subject.user), int(now * 1000)
        challenge, source = user.challenge(subject.state, now_ms), subject.source
        if challenge is not None and source.endswith("|"):
            source = challenge.source
        return Loaded(
            epoch="memory:0",
            generation=str(user.generation),
            enrolment=user.enrolment,
            used_steps=dict(user.steps),
            locked_until=user.lock_end(source, now_ms),
            verdict=user.verdict(verdict_keys, now_ms),
            challenge=challenge and replace(challenge, ttl_ms=0),
        )

    async def remember(self, user: str, enrolment: Enrolment, loaded: Loaded) -> None:
        """Cache *enrolment*, unless the user was changed since *loaded*."""
        if str(self._user(user).generation) == loaded.generation:
            self._user(user).enrolment = enrolment

    async def settle(
        self,
        subject: Subject,
        settlement: Settlement,
        loaded: Loaded,
        verdict_keys: Sequence[VerdictKey],
        now: float,
    ) -> Settled:
        """Make *settlement* final, or return what came before it."""
        user, now_ms = self._user(subject.user), int(now * 1000)
        if str(user.generation) != loaded.generation:
            raise BackendUnavailable(
                "redis", "the user was changed while the login was in progress"
            )
        earlier = user.verdict(verdict_keys, now_ms)
        if earlier is not None:
            return Settled(earlier, shared=True)
        decision, locked_until = self._settled(user, subject.source, settlement, now_ms)
        for key in verdict_keys:
            user.verdicts[key.digest] = _Verdict(decision, user.generation, now_ms + key.ttl_ms)
        return Settled(decision, locked_until=locked_until)

    def _settled(
        self, user: _User, source: str, settlement: Settlement, now: int
    ) -> tuple[Decision, int]:
        locked_until = user.lock_end(source, now)
        if locked_until:
            return Reject(RejectReason.ACCOUNT_LOCKED), locked_until
        if not self._answered(user, settlement.answers, now):
            return Reject(RejectReason.STATE_USED), 0
        decision, locked_until = self._judged(user, source, settlement, now)
        if isinstance(decision, Challenge) and settlement.gives is not None:
            if locked_until:
                return Reject(decision.reason or RejectReason.ACCOUNT_LOCKED), locked_until
            gives = settlement.gives
            user.challenges[gives.digest] = gives, now + gives.ttl_ms
        return decision, locked_until

    @staticmethod
    def _answered(user: _User, answers: PendingChallenge | None, now: int) -> bool:
        """End the challenge that is answered; return False where it has ended already."""
        if answers is None:
            return True
        known = user.challenge(answers.digest, now)
        if known is None or not known.tries:
            return False
        user.challenges[answers.digest] = replace(known, tries=0), user.challenges[known.digest][1]
        for digest in known.verdicts:
            user.verdicts.pop(digest, None)
        return True

    def _judged(
        self, user: _User, source: str, settlement: Settlement, now: int
    ) -> tuple[Decision, int]:
        decision, match = settlement.decision, settlement.match
        if match is not None and match.time_step <= user.steps.get(match.device.device_id, -1):
            decision = Reject(RejectReason.CODE_REPLAYED)
        if isinstance(decision, Accept):
            if match is not None:
                user.steps[match.device.device_id] = match.time_step
            user.tally, user.consecutive = Tally(), 0
            user.sources.pop(source, None)
            return decision, 0
        wrong_factor = decision.reason in FACTOR_AT_FAULT
        if not wrong_factor or user.wrong_values.get(settlement.wrong_value, 0) > now:
            return decision, 0
        user.wrong_values[settlement.wrong_value] = now + SAME_VALUE_MS
        if settlement.counted:
            self._count(user, source, now)
        user.consecutive += 1
        if user.consecutive >= MAX_CONSECUTIVE_FAILURES:
            tally = user.tally
            user.tally = Tally(tally.failures, tally.since, tally.locks, UNTIL_UNLOCKED)
        return decision, user.lock_end(source, now)

    def _count(self, user: _User, source: str, now: int) -> None:
        policy = self._lockout
        user.tally = user.tally.after_failure(now, policy.failures_by_user, policy)
        here = user.sources.get(source, Tally())
        user.sources[source] = here.after_failure(now, policy.failures_by_source, policy)

    async def invalidate(self, user: str) -> None:
        """Forget the user's cached enrolment, and void the verdicts on their logins."""
        self._user(user).generation += 1
        self._user(user).enrolment = None

    async def unlock(self, user: str) -> None:
        """Forget all failures of *user*."""
        known = self._user(user)
        known.tally, known.consecutive, known.sources = Tally(), 0, {}
        await self.invalidate(user)


class MemoryEnrolments:
    """Enrolments in a dictionary; counts how often it is asked."""

    def __init__(self, enrolments: dict[str, Enrolment]) -> None:
        self.enrolments = enrolments
        self.fetches = 0

    async def fetch(self, user: str) -> Enrolment:
        """Return what is on record of *user*."""
        self.fetches += 1
        return self.enrolments.get(user, Enrolment())


class MemoryRecoveryCodes:
    """Recovery codes of users, by themselves; what is used is kept by the login that did so."""

    def __init__(self, codes: dict[str, list[str]] | None = None) -> None:
        self._codes = codes or {}
        self.used: dict[str, str] = {}

    async def find(
        self,
        user: str,
        codes: Sequence[str],
        login: str,
        now: float,  # noqa: ARG002 - nothing expires
    ) -> RecoveryMatch | None:
        """Return the code of *user* that is one of *codes*."""
        for code in self._codes.get(user, []):
            if code in codes:
                return RecoveryMatch(code, code, self.used.get(code, login) != login)
        return None

    async def consume(self, match: RecoveryMatch, login: str, now: float) -> bool:  # noqa: ARG002
        """Use a code; False where another login was faster."""
        return self.used.setdefault(match.code_id, login) == login

    async def release(self, match: RecoveryMatch, login: str) -> None:
        """Give a code back."""
        if self.used.get(match.code_id) == login:
            del self.used[match.code_id]


class MemoryDirectory:
    """Passwords in a dictionary; keeps who was asked about, for tests of the one bind.

    *groups* and *attributes* are those that it knows of everybody; *looked_up* is what was asked.
    """

    def __init__(
        self,
        passwords: dict[str, str],
        realms: Collection[str] = (),
        groups: Sequence[Group] = (),
        attributes: Mapping[str, Sequence[str]] = MappingProxyType({}),
    ) -> None:
        self._passwords = passwords
        self._realms = realms
        self._groups = groups
        self._attributes = attributes
        self.asked: list[tuple[str, str]] = []
        self.looked_up: list[str] = []

    async def identify(self, user_name: str) -> Identity:
        """Return the user by the one name."""
        name = canonical_user(user_name, self._realms)
        return Identity(name, name, LOCAL)

    async def verify(
        self,
        user: Identity,
        password: str,
        enrolment: Enrolment,  # noqa: ARG002 - no version to mind
    ) -> PasswordVerdict:
        """Return whether *password* is the user's."""
        self.asked.append((user.key, password))
        if user.key not in self._passwords:
            return PasswordVerdict.UNKNOWN_USER
        right = self._passwords[user.key] == password
        return PasswordVerdict.RIGHT if right else PasswordVerdict.WRONG

    async def groups(self, user: Identity) -> Sequence[Group]:  # noqa: ARG002 - all are alike
        """Return the groups of everybody."""
        self.looked_up.append("groups")
        return self._groups

    async def attributes(
        self,
        user: Identity,  # noqa: ARG002 - all are alike
        names: Collection[str],
    ) -> Mapping[str, Sequence[str]]:
        """Return what everybody has under *names*."""
        self.looked_up += sorted(names)
        return {name: self._attributes[name] for name in names if name in self._attributes}

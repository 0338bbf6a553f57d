"""When failures lock, and for how long.

The Lua script ``settle.lua`` applies the same rules atomically in Redis; this module is their
plain statement, and the tests hold the two together. All times are Unix milliseconds.
"""

from collections.abc import Collection
from dataclasses import dataclass

from radius_mfa.policy.decision import Factor

MAX_CONSECUTIVE_FAILURES = 100
"""NIST SP 800-63B section 3.2.2: no account may see more; then only an admin unlocks."""

UNTIL_UNLOCKED = -1
"""The value of ``locked_until`` that no time ends."""

SAME_VALUE_MS = 60_000
"""The same wrong value sent again within this time is refused and not counted twice."""


@dataclass(frozen=True, slots=True)
class LockoutPolicy:
    """Thresholds of ``[lockout]``; a limit of 0 switches that counter off.

    Each lock without a success in between doubles the wait, up to *max_lock_ms*. A *lock_ms* of
    0 locks until an admin unlocks.
    """

    failures_by_source: int = 5
    failures_by_user: int = 20
    window_ms: int = 900_000
    lock_ms: int = 900_000
    max_lock_ms: int = 14_400_000
    count: Collection[Factor] = frozenset(Factor)


@dataclass(frozen=True, slots=True)
class Tally:
    """Failures of one user, in all or from one source, since *since*; *locks* so far in a row."""

    failures: int = 0
    since: int = 0
    locks: int = 0
    locked_until: int = 0

    def lock_end(self, now: int) -> int:
        """Return when the lock that is closed at *now* ends, or 0 where none is closed."""
        closed = self.locked_until == UNTIL_UNLOCKED or self.locked_until > now
        return self.locked_until if closed else 0

    def remembered(self, now: int, policy: LockoutPolicy) -> "Tally":
        """Return what is left of the tally at *now*: earlier locks are forgotten in the end."""
        if self.locked_until == UNTIL_UNLOCKED:
            return self
        ended = max(self.locked_until, self.since + policy.window_ms)
        return Tally() if now >= ended + policy.max_lock_ms else self

    def after_failure(self, now: int, limit: int, policy: LockoutPolicy) -> "Tally":
        """Return the tally with one more failure at *now*, locked where that reaches *limit*."""
        kept = self.remembered(now, policy)
        # Also before *since*: clocks differ, and a slow login is settled after a quick one.
        window_open = kept.failures > 0 and now < kept.since + policy.window_ms
        failures = kept.failures + 1 if window_open else 1
        since = kept.since if window_open else now
        if limit == 0 or failures < limit:
            return Tally(failures, since, kept.locks, kept.locked_until)
        return Tally(0, now, kept.locks + 1, _lock_end(now, kept.locks, policy))


def later_lock(one: int, other: int) -> int:
    """Return the later of two ends of locks, 0 standing for none."""
    return UNTIL_UNLOCKED if UNTIL_UNLOCKED in (one, other) else max(one, other)


def _lock_end(now: int, locks: int, policy: LockoutPolicy) -> int:
    if policy.lock_ms == 0:
        return UNTIL_UNLOCKED
    return now + min(
        policy.lock_ms * (1 << min(locks, 30)), max(policy.max_lock_ms, policy.lock_ms)
    )

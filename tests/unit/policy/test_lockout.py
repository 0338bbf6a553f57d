"""When failures lock, and for how long; time is in milliseconds and passed in."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radius_mfa.policy.decision import Factor
from radius_mfa.policy.lockout import (
    MAX_CONSECUTIVE_FAILURES,
    SAME_VALUE_MS,
    UNTIL_UNLOCKED,
    LockoutPolicy,
    Tally,
    later_lock,
)

NOW = 1_700_000_000_000
MINUTE = 60_000
POLICY = LockoutPolicy(window_ms=15 * MINUTE, lock_ms=10 * MINUTE, max_lock_ms=60 * MINUTE)
LIMIT = 3


def failed(
    times: int,
    tally: Tally = Tally(),
    *,
    now: int = NOW,
    limit: int = LIMIT,
    policy: LockoutPolicy = POLICY,
) -> Tally:
    for _ in range(times):
        tally = tally.after_failure(now, limit, policy)
    return tally


def test_the_limit_locks_and_one_failure_less_does_not() -> None:
    """O11: the failure that reaches the limit closes the lock, and the lock opens by itself."""
    assert failed(LIMIT - 1).lock_end(NOW) == 0
    locked = failed(LIMIT)
    end = NOW + POLICY.lock_ms
    assert locked.lock_end(NOW) == end
    assert locked.lock_end(end - 1) == end
    assert locked.lock_end(end) == 0, "O14: auto unlock"


def test_a_new_tally_is_open() -> None:
    assert Tally().lock_end(NOW) == 0
    assert Tally().lock_end(0) == 0


def test_the_failures_before_a_lock_do_not_count_after_it() -> None:
    """After a lock the user has the whole limit again, not one try."""
    end = failed(LIMIT).locked_until
    assert failed(LIMIT - 1, failed(LIMIT), now=end).lock_end(end) == 0


@pytest.mark.parametrize(
    ("later", "failures"),
    [
        (0, LIMIT),
        (POLICY.window_ms - 1, LIMIT),
        (POLICY.window_ms, 1),
        (POLICY.window_ms + 1, 1),
        (-1, LIMIT),  # settled out of order; nor does a clock set back forgive anything
    ],
)
def test_failures_count_inside_one_window_from_the_first(later: int, failures: int) -> None:
    """O11: the window does not slide, so that slow guessing is not forgiven try by try."""
    before = failed(LIMIT - 1)
    after = failed(1, before, now=NOW + later, limit=100)
    assert after.failures == failures
    assert after.since == (NOW if failures == LIMIT else NOW + later)


def test_the_waits_double_up_to_the_longest() -> None:
    """O11: growing waits; O14: bounded ones."""
    tally, now, waits = Tally(), NOW, []
    for _ in range(6):
        tally = failed(LIMIT, tally, now=now)
        waits.append((tally.lock_end(now) - now) // MINUTE)
        now = tally.lock_end(now)
    assert waits == [10, 20, 40, 60, 60, 60]


def test_a_longest_lock_shorter_than_the_first_does_not_shorten_it() -> None:
    policy = LockoutPolicy(lock_ms=10 * MINUTE, max_lock_ms=MINUTE)
    assert failed(LIMIT, policy=policy).locked_until == NOW + 10 * MINUTE


def test_a_thousand_locks_in_a_row_are_still_bounded() -> None:
    """O14: the doubling is cut off before its number grows without end."""
    tally = Tally(failures=LIMIT - 1, since=NOW, locks=1_000)
    assert failed(1, tally).locked_until == NOW + POLICY.max_lock_ms


def test_locks_until_an_admin_unlocks() -> None:
    """`lock_seconds = 0`: no time ends it, and nothing forgets it."""
    policy = LockoutPolicy(lock_ms=0)
    tally = failed(LIMIT, policy=policy)
    for later in (0, policy.window_ms, 10**15):
        assert tally.lock_end(NOW + later) == UNTIL_UNLOCKED
        assert tally.remembered(NOW + later, policy) is tally


@pytest.mark.parametrize("failures", [1, 5, 200])
def test_a_limit_of_zero_never_locks(failures: int) -> None:
    tally = failed(failures, limit=0)
    assert tally.failures == failures
    assert tally.lock_end(NOW) == 0


@pytest.mark.parametrize(
    ("tally", "ends"),
    [
        (failed(LIMIT), NOW + POLICY.window_ms),
        (Tally(0, NOW, 3, NOW + 40 * MINUTE), NOW + 40 * MINUTE),
        (Tally(LIMIT - 1, NOW, 2, NOW - 5 * MINUTE), NOW + POLICY.window_ms),
    ],
    ids=["a short lock", "a long lock", "a window still open"],
)
def test_earlier_locks_are_forgotten_in_the_end(tally: Tally, ends: int) -> None:
    """O14: after the longest lock without a failure the next lock is a first one again."""
    forgotten = ends + POLICY.max_lock_ms
    assert tally.remembered(forgotten - 1, POLICY) is tally
    assert tally.remembered(forgotten, POLICY) == Tally()
    assert failed(1, tally, now=forgotten - 1).locks == tally.locks
    assert failed(1, tally, now=forgotten) == Tally(failures=1, since=forgotten)


def test_an_open_lock_survives_a_failure_below_the_limit() -> None:
    """A user's lock is not opened by a failure that is counted elsewhere."""
    locked = failed(LIMIT)
    assert failed(1, locked).lock_end(NOW) == locked.lock_end(NOW)


@pytest.mark.parametrize(
    ("one", "other", "later"),
    [
        (0, 0, 0),
        (0, NOW, NOW),
        (NOW, NOW + 1, NOW + 1),
        (UNTIL_UNLOCKED, 0, UNTIL_UNLOCKED),
        (UNTIL_UNLOCKED, NOW, UNTIL_UNLOCKED),
        (UNTIL_UNLOCKED, UNTIL_UNLOCKED, UNTIL_UNLOCKED),
    ],
)
def test_of_two_locks_the_later_end_counts(one: int, other: int, later: int) -> None:
    assert later_lock(one, other) == later
    assert later_lock(other, one) == later


def test_the_defaults_are_those_of_the_checklist() -> None:
    """O11: 5 from one source or 20 in all, inside 15 minutes, for 15 minutes; never over 100."""
    policy = LockoutPolicy()
    assert (policy.failures_by_source, policy.failures_by_user) == (5, 20)
    assert policy.window_ms == policy.lock_ms == 15 * MINUTE
    assert policy.max_lock_ms == 240 * MINUTE
    assert set(policy.count) == {Factor.PASSWORD, Factor.CODE}
    assert MAX_CONSECUTIVE_FAILURES == 100
    assert SAME_VALUE_MS == MINUTE


def test_the_mark_of_an_endless_lock_is_the_one_in_redis() -> None:
    """Stored by `settle.lua`; another value would open every such lock at an upgrade."""
    assert UNTIL_UNLOCKED == -1


@settings(deadline=None)
@given(
    gaps=st.lists(st.integers(0, 40 * MINUTE), max_size=40),
    limit=st.integers(1, 6),
    lock=st.integers(1, 30),
    longest=st.integers(0, 120),
)
def test_no_guesser_gets_more_tries_than_the_limit_between_two_locks(
    gaps: list[int], limit: int, lock: int, longest: int
) -> None:
    """O11, O14: at most *limit* tries inside a window, and every lock ends in bounded time."""
    policy = LockoutPolicy(
        window_ms=15 * MINUTE, lock_ms=lock * MINUTE, max_lock_ms=longest * MINUTE
    )
    tally, now, tries = Tally(), NOW, list[int]()
    for gap in gaps:
        now += gap
        if tally.lock_end(now):
            assert tally.lock_end(now) <= now + max(lock, longest) * MINUTE
            continue
        tally = tally.after_failure(now, limit, policy)
        tries = [*tries, now] if not tally.lock_end(now) else []
        since_window = [at for at in tries if at >= tally.since]
        assert len(since_window) < limit

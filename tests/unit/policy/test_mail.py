"""Which mails are still true when they are sent at last, and when they are tried again."""

import pytest

from radius_mfa.policy.mail import LONGEST_WAIT_SECONDS, Kind, still_so, wait_seconds
from radius_mfa.policy.requirement import NOTHING_REQUIRED, Requirement

RUNS = Requirement(0, 1000)
LATER = Requirement(500, 1000)
SUSPENDED = Requirement(0, 1000, factor_suspended=True)


@pytest.mark.parametrize(
    ("asked", "now", "confirmed", "true"),
    [
        (RUNS, 10, False, {Kind.REQUIRED, Kind.REMINDER}),
        (LATER, 10, False, {Kind.REQUIRED, Kind.REMINDER}),
        (RUNS, 1000, False, {Kind.REQUIRED}),
        (RUNS, 10, True, set()),
        (SUSPENDED, 10, False, set()),
        (NOTHING_REQUIRED, 10, False, set()),
        (NOTHING_REQUIRED, 10, True, set()),
    ],
)
def test_a_mail_that_was_overtaken_is_not_true_any_more(
    asked: Requirement, now: float, *, confirmed: bool, true: set[Kind]
) -> None:
    """Nobody is told to enrol who has, or need not; what has happened has happened for ever."""
    found = {kind for kind in Kind if still_so(kind, asked, now, confirmed=confirmed)}
    assert found == true | set(Kind) - {Kind.REQUIRED, Kind.REMINDER}


def test_waits_grow_up_to_a_limit() -> None:
    assert [wait_seconds(tries) for tries in (1, 2, 3, 4, 5)] == [30, 60, 120, 240, 480]
    assert wait_seconds(6) == wait_seconds(10_000) == LONGEST_WAIT_SECONDS

"""Which mails there are, whether one still says something true, and when to try again.

*now* and all moments are Unix seconds.
"""

from enum import StrEnum

from radius_mfa.policy.access import State, state
from radius_mfa.policy.requirement import DAY_SECONDS, Requirement


class Kind(StrEnum):
    """What a mail tells its user."""

    REQUIRED = "required"
    REMINDER = "reminder"
    ENROLLED = "enrolled"
    DEVICE_ADDED = "device_added"
    DEVICE_REMOVED = "device_removed"
    RECOVERY_CODE_USED = "recovery_code_used"
    LOCKED = "locked"
    RESET = "reset"
    TEST = "test"


class Fate(StrEnum):
    """What became of a mail, or that it waits."""

    WAITING = "waiting"
    SENT = "sent"
    REFUSED = "refused"
    GIVEN_UP = "given up"
    DROPPED = "dropped"


REMINDER_SECONDS = DAY_SECONDS
"""How long before the end of an enrolment period its reminder goes out."""

FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 30, 600
"""What could not be sent is tried again after these; each wait is twice the one before."""

_TO_ENROL = {State.PRE_ENROLLMENT, State.IN_ENROLLMENT, State.PENDING_ACTIVATION}
_STILL_SO = {
    Kind.REQUIRED: _TO_ENROL | {State.ENROLLMENT_EXPIRED},
    Kind.REMINDER: _TO_ENROL,
}
"""In which states of the user a mail that waited is still true; any other tells what was."""


def still_so(kind: Kind, asked: Requirement, now: float, *, confirmed: bool) -> bool:
    """Return whether a mail still says something true: much may have happened while it waited."""
    if kind not in _STILL_SO:
        return True
    found = state(asked, now, confirmed=confirmed, pending=False)
    return asked.enrol_by is not None and found in _STILL_SO[kind]


def wait_seconds(tries: int) -> int:
    """Return how long to wait after the try of number *tries*, from 1."""
    doubled: int = FIRST_WAIT_SECONDS << min(tries - 1, 16)
    return min(doubled, LONGEST_WAIT_SECONDS)

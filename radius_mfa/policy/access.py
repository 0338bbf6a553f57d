"""Who needs a second factor now: the state of a user, and what a client's mode makes of it.

Two tables and no branches to get wrong: ``state`` derives the seven states from stored facts,
``ACCESS`` says for each of them and each mode what a login takes. docs/enrolment.md shows both.
"""

from collections.abc import Mapping
from enum import Enum, StrEnum, auto

from radius_mfa.policy.decision import RejectReason
from radius_mfa.policy.requirement import NOTHING_REQUIRED, Requirement
from radius_mfa.policy.totp import Device
from radius_mfa.values import value


class Mode(StrEnum):
    """What a client asks of its users: ``mfa`` of a ``[[client]]``."""

    ALWAYS = "always"
    REQUIRED = "required"
    ENROLLED = "enrolled"
    OFF = "off"


class State(StrEnum):
    """Where a user is on the way to a second factor; derived, never stored."""

    NOT_ENROLLED = "NOT_ENROLLED"
    PRE_ENROLLMENT = "PRE_ENROLLMENT"
    IN_ENROLLMENT = "IN_ENROLLMENT"
    PENDING_ACTIVATION = "PENDING_ACTIVATION"
    ENROLLMENT_EXPIRED = "ENROLLMENT_EXPIRED"
    ENROLLED = "ENROLLED"
    DISABLED = "DISABLED"


class Need(Enum):
    """What a login takes: a code beside the password, or the password alone."""

    CODE = auto()
    PASSWORD = auto()


@value
class Enrolment:
    """What is known of a user's second factor; *version* grows with every change.

    *devices* are confirmed ones only: a half-finished enrolment changes nothing (rule 11).
    *recovery_codes* is how many were left when this was read; some may be used by now. *groups*
    are those kept here; a directory may know more.
    """

    version: int = 0
    known: bool = False
    suspended: bool = False
    devices: tuple[Device, ...] = ()
    recovery_codes: int = 0
    requirement: Requirement = NOTHING_REQUIRED
    groups: tuple[str, ...] = ()

    @property
    def code_lengths(self) -> frozenset[int]:
        """The lengths that a code of this user may have."""
        return frozenset(device.digits for device in self.devices)


def state(requirement: Requirement, now: float, *, confirmed: bool, pending: bool = False) -> State:
    """Return the state of a user at *now* (Unix seconds).

    *confirmed* and *pending* say whether they have a device whose first code came, and one that
    still waits for it. What waits hides nothing but the three states before it.
    """
    if requirement.factor_suspended:
        return State.DISABLED
    if confirmed:
        return State.ENROLLED
    if pending:
        return State.PENDING_ACTIVATION
    if requirement.required_from is None or requirement.enrol_by is None:
        return State.NOT_ENROLLED
    if now < requirement.required_from:
        return State.PRE_ENROLLMENT
    return State.IN_ENROLLMENT if now < requirement.enrol_by else State.ENROLLMENT_EXPIRED


def _row(*cells: Need | RejectReason) -> dict[Mode, Need | RejectReason]:
    return dict(zip(Mode, cells, strict=True))


_CODE, _PASSWORD = Need.CODE, Need.PASSWORD
_NOT, _IN = RejectReason.NOT_ENROLLED, RejectReason.IN_ENROLLMENT
_EXPIRED, _DISABLED = RejectReason.ENROLLMENT_EXPIRED, RejectReason.FACTOR_SUSPENDED

ACCESS: Mapping[State, Mapping[Mode, Need | RejectReason]] = {
    #                                always     required   enrolled   off
    State.ENROLLED: _row(_CODE, _CODE, _CODE, _PASSWORD),
    State.IN_ENROLLMENT: _row(_IN, _PASSWORD, _PASSWORD, _PASSWORD),
    State.NOT_ENROLLED: _row(_NOT, _NOT, _PASSWORD, _PASSWORD),
    State.PRE_ENROLLMENT: _row(_NOT, _NOT, _PASSWORD, _PASSWORD),
    State.ENROLLMENT_EXPIRED: _row(_EXPIRED, _EXPIRED, _EXPIRED, _PASSWORD),
    State.DISABLED: _row(_DISABLED, _DISABLED, _DISABLED, _PASSWORD),
}
"""By state and mode. PENDING_ACTIVATION has no row: it counts as if nothing had been set up.

A requirement that begins later changes nothing before: PRE_ENROLLMENT is as NOT_ENROLLED.
"""

_EXEMPT = _row(_PASSWORD, _PASSWORD, _PASSWORD, _PASSWORD)

_NEVER_EXEMPT = frozenset({State.ENROLLED, State.DISABLED})
"""An exemption excuses from enrolling, never from a second factor that one has.

Or else suspending somebody's second factor would open a door that was shut.
"""


PORTAL: Mapping[State, Need | RejectReason] = {
    **dict.fromkeys(ACCESS, _PASSWORD),
    State.ENROLLED: _CODE,
    State.DISABLED: _DISABLED,
}
"""What signing in to the portal takes: it is where one enrols, so it opens to who has not yet."""


def needed(enrolment: Enrolment, mode: Mode | None, now: float) -> Need | RejectReason:
    """Return what a login takes at a client of *mode*, or why it is refused whatever is typed.

    None stands for the portal. Unknown and suspended users are refused in every mode.
    """
    if not enrolment.known:
        return RejectReason.UNKNOWN_USER
    if enrolment.suspended:
        return RejectReason.USER_SUSPENDED
    found = state(enrolment.requirement, now, confirmed=bool(enrolment.devices))
    if mode is None:
        return PORTAL[found]
    exempt = enrolment.requirement.exempt(now) and found not in _NEVER_EXEMPT
    return (_EXEMPT if exempt else ACCESS[found])[mode]

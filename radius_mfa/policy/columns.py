"""The columns of the list of users, as filters: on the command line and in the portal."""

from collections.abc import Mapping
from enum import StrEnum

from radius_mfa.policy.access import State
from radius_mfa.policy.requirement import Requirement


class Totp(StrEnum):
    """The column MFA: TOTP, as a filter."""

    ENROLLED = "enrolled"
    NOT_ENROLLED = "not-enrolled"
    IN_ENROLMENT = "in-enrolment"
    PENDING = "pending"
    EXPIRED = "expired"
    DISABLED = "disabled"


class Asked(StrEnum):
    """The column MFA: User Requirement, as a filter."""

    REQUIRED = "required"
    NOT_REQUIRED = "not-required"
    EXEMPT = "exempt"


class Standing(StrEnum):
    """The state of the user, as a filter."""

    ACTIVE = "active"
    LOCKED = "locked"
    PARTLY_LOCKED = "partly-locked"
    SUSPENDED = "suspended"


TOTP_OF_STATE: Mapping[State, Totp] = {
    State.NOT_ENROLLED: Totp.NOT_ENROLLED,
    State.PRE_ENROLLMENT: Totp.NOT_ENROLLED,
    State.IN_ENROLLMENT: Totp.IN_ENROLMENT,
    State.PENDING_ACTIVATION: Totp.PENDING,
    State.ENROLLMENT_EXPIRED: Totp.EXPIRED,
    State.ENROLLED: Totp.ENROLLED,
    State.DISABLED: Totp.DISABLED,
}


def asked_of(requirement: Requirement, now: float) -> Asked:
    """Return what the column MFA: User Requirement says of a user, in a word."""
    if requirement.exempt(now):
        return Asked.EXEMPT
    return Asked.NOT_REQUIRED if requirement.enrol_by is None else Asked.REQUIRED


def standing(*, suspended: bool, everywhere: bool, somewhere: bool) -> Standing:
    """Return the state of a user; *everywhere* and *somewhere* say where they are locked."""
    if suspended:
        return Standing.SUSPENDED
    if everywhere:
        return Standing.LOCKED
    return Standing.PARTLY_LOCKED if somewhere else Standing.ACTIVE

"""Who needs a second factor now, and who can't be let in whatever they type.

The rule of the mode ``always``: no confirmed device, no login.
"""

from dataclasses import dataclass

from radius_mfa.policy.decision import RejectReason
from radius_mfa.policy.totp import Device


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What is known of a user's second factor; *version* grows with every change.

    *devices* are confirmed ones only: a half-finished enrolment changes nothing (rule 11).
    """

    version: int = 0
    known: bool = False
    suspended: bool = False
    devices: tuple[Device, ...] = ()

    @property
    def code_lengths(self) -> frozenset[int]:
        """The lengths that a code of this user may have."""
        return frozenset(device.digits for device in self.devices)


def refusal(enrolment: Enrolment) -> RejectReason | None:
    """Return why the user can't log in before anything they typed is looked at, or None."""
    if not enrolment.known:
        return RejectReason.UNKNOWN_USER
    if enrolment.suspended:
        return RejectReason.USER_SUSPENDED
    if not enrolment.devices:
        return RejectReason.NOT_ENROLLED
    return None

"""What admins ask of a user's second factor: required when, exempt until when, suspended.

Every change is a function from one Requirement to the next; *now* and all moments are Unix
seconds. One that changes nothing returns what it was given, so that nothing is written for it.
"""

from dataclasses import dataclass, replace

DAY_SECONDS = 86_400

DEFAULT_DAYS = 7
"""How long a user has to enrol, unless the admin says otherwise."""

MAX_DAYS = 365
"""The longest enrolment period, and the longest exemption: each ends by itself."""

MAX_REASON_CHARACTERS = 255
"""Of the reason of an exemption."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """The stored facts; None stands for a moment that was never set.

    *required_from* and *enrol_by* stand together. An exemption outlives neither *exempt_until*
    nor its reason. *factor_suspended* refuses every login that needs the second factor.
    """

    required_from: float | None = None
    enrol_by: float | None = None
    exempt_until: float | None = None
    factor_suspended: bool = False
    exempt_reason: str = ""

    def exempt(self, now: float) -> bool:
        """Return whether the user is exempt at *now*; the end itself is not part of it."""
        return self.exempt_until is not None and now < self.exempt_until


NOTHING_REQUIRED = Requirement()


def required(known: Requirement, now: float, days: int, starts: float | None = None) -> Requirement:
    """Return *known* with a period of *days* from *starts* (or *now*) on.

    Whoever is required already keeps their period: asking everyone again every week must not
    give anyone another week. ``extended`` is for that.
    """
    if known.enrol_by is not None:
        return known
    begins = now if starts is None else max(now, starts)
    return replace(known, required_from=begins, enrol_by=begins + days * DAY_SECONDS)


def withdrawn(known: Requirement) -> Requirement:
    """Return *known* without a requirement; an exemption, a suspension and devices stay."""
    return replace(known, required_from=None, enrol_by=None)


def extended(known: Requirement, now: float, days: int) -> Requirement:
    """Return *known* with *days* more to enrol, counted from the end or, if that is over, *now*."""
    if known.enrol_by is None:
        return known
    return replace(known, enrol_by=max(known.enrol_by, now) + days * DAY_SECONDS)


def exempted(known: Requirement, until: float, reason: str) -> Requirement:
    """Return *known* with an exemption, in place of an earlier one."""
    return replace(known, exempt_until=until, exempt_reason=reason)


def exemption_ended(known: Requirement) -> Requirement:
    """Return *known* without an exemption."""
    return replace(known, exempt_until=None, exempt_reason="")


def factor_suspended(known: Requirement, *, suspended: bool) -> Requirement:
    """Return *known* with the second factor suspended, or no longer."""
    return replace(known, factor_suspended=suspended)


def begun_anew(known: Requirement, now: float, days: int) -> Requirement:
    """Return *known* for a user who lost every device: a fresh period, nothing suspended.

    A later start that was set is kept no longer: whoever is reset is to enrol now.
    """
    end = now + days * DAY_SECONDS
    return replace(known, required_from=now, enrol_by=end, factor_suspended=False)

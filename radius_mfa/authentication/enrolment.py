"""What admins do about users' second factors, from the command line and the portal alike.

Judges what may be asked, and leaves to ``policy.requirement`` what comes of it. Knows no SQL: who
acts is bound where the process begins to act for somebody (``stores.audit.acting_as``).
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from radius_mfa.errors import Refused
from radius_mfa.policy import requirement
from radius_mfa.policy.access import State, state
from radius_mfa.policy.requirement import (
    DAY_SECONDS,
    DEFAULT_DAYS,
    MAX_DAYS,
    MAX_REASON_CHARACTERS,
    Requirement,
)
from radius_mfa.stores.interfaces import EnrolmentRecords, Identity, Prospect, Unlocking


class EnrolmentService:
    """One object serves every admin. *now* is Unix time in seconds, as all moments here.

    What is done to several users is done to all of them, or to none: where one is unknown, or a
    backend is away. Where that can't be, HalfDone says how far it came.
    Each method returns whom it changed. *newcomers* are users of other directories, put on record
    with the act where they are not; *group* says for the audit trail as whose members.
    """

    def __init__(self, records: EnrolmentRecords, unlocking: Unlocking) -> None:
        self._records = records
        self._unlocking = unlocking

    async def require(
        self,
        users: Iterable[str],
        now: float,
        days: int = DEFAULT_DAYS,
        starts: float | None = None,
        *,
        newcomers: Sequence[Identity] = (),
        group: str = "",
    ) -> list[str]:
        """Require a second factor within *days* (0: at once) of *starts*, or of now.

        Users who are required already keep their period.
        """
        _check_days(days, least=0)
        change = partial(requirement.required, now=now, days=days, starts=starts)
        detail = {"days": days} | ({} if starts is None else {"from": iso(starts)}) | _of(group)
        return await self._records.change_requirements(
            list(users), "requirement.require", change, newcomers, **detail
        )

    async def would_require(self, users: Sequence[str], days: int) -> Prospect:
        """Return how those stand whom ``require`` is about; Refused as it would be there."""
        _check_days(days, least=0)
        return await self._records.prospect(users)

    async def withdraw(self, users: Iterable[str], *, group: str = "") -> list[str]:
        """Require a second factor no longer; devices, exemptions and suspensions stay."""
        return await self._records.change_requirements(
            list(users), "requirement.withdraw", requirement.withdrawn, **_of(group)
        )

    async def extend(
        self, users: Iterable[str], now: float, days: int = DEFAULT_DAYS, *, group: str = ""
    ) -> list[str]:
        """Give *days* more to enrol; users of whom nothing is required are left alone."""
        _check_days(days, least=1)
        change = partial(requirement.extended, now=now, days=days)
        return await self._records.change_requirements(
            list(users), "requirement.extend", change, days=days, **_of(group)
        )

    async def exempt(
        self,
        users: Iterable[str],
        now: float,
        until: float,
        reason: str,
        *,
        newcomers: Sequence[Identity] = (),
        group: str = "",
    ) -> list[str]:
        """Exempt from enrolling until a moment, for a reason: there is none without the two."""
        reason = reason.strip()
        if not reason or len(reason) > MAX_REASON_CHARACTERS or not reason.isprintable():
            raise Refused(
                f"an exemption needs a reason of 1 to {MAX_REASON_CHARACTERS} printable characters",
                "say why, so that whoever finds it later knows",
            )
        if not now < until <= now + MAX_DAYS * DAY_SECONDS:
            raise Refused(
                f"an exemption ends in the future, and within {MAX_DAYS} days",
                "it can be given again when it ends",
            )
        change = partial(requirement.exempted, until=until, reason=reason)
        detail = {"until": iso(until), "reason": reason} | _of(group)
        return await self._records.change_requirements(
            list(users), "requirement.exempt", change, newcomers, **detail
        )

    async def end_exemption(self, users: Iterable[str], *, group: str = "") -> list[str]:
        """End exemptions now."""
        return await self._records.change_requirements(
            list(users), "requirement.end_exemption", requirement.exemption_ended, **_of(group)
        )

    async def suspend_factor(self, users: Iterable[str], *, suspended: bool) -> list[str]:
        """Refuse every login that needs the second factor, or no longer."""
        act = "factor.suspend" if suspended else "factor.resume"
        change = partial(requirement.factor_suspended, suspended=suspended)
        return await self._records.change_requirements(list(users), act, change)

    async def reset(self, users: Iterable[str], now: float, days: int = DEFAULT_DAYS) -> list[str]:
        """End all devices and recovery codes of *users*, who have *days* to enrol anew."""
        _check_days(days, least=0)
        change = partial(requirement.begun_anew, now=now, days=days)
        return await self._records.reset(list(users), change, days=days)

    async def suspend(self, users: Iterable[str], *, suspended: bool) -> list[str]:
        """Refuse every login of *users* from now on, or no longer."""
        return await self._records.suspend(list(users), suspended=suspended)

    async def unlock(self, users: Iterable[str]) -> list[str]:
        """End every lock of *users* and forget the failures.

        They are in Redis, which takes nothing back: HalfDone where it goes away on the way.
        """
        return await self._records.note_each(list(users), "user.unlock", self._unlocking.unlock)


def iso(moment: float) -> str:
    """Return *moment* as ISO 8601 in UTC, to the second."""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")


def days_left(asked: Requirement, now: float) -> int:
    """Return the days left to enrol, a begun one counted as whole."""
    seconds = max(0.0, (asked.enrol_by or now) - now)
    return -int(-seconds // DAY_SECONDS)


def totp_words(asked: Requirement, now: float, *, confirmed: bool, pending: bool) -> str:
    """Return the column MFA: TOTP of a user."""
    found = state(asked, now, confirmed=confirmed, pending=pending)
    if found is State.IN_ENROLLMENT:
        left = days_left(asked, now)
        return f"In enrolment ({left} {'day' if left == 1 else 'days'} left)"
    return _TOTP_WORDS[found]


_TOTP_WORDS = {
    State.NOT_ENROLLED: "Not enrolled",
    State.PRE_ENROLLMENT: "Not enrolled",
    State.PENDING_ACTIVATION: "Pending",
    State.ENROLLMENT_EXPIRED: "Expired",
    State.ENROLLED: "Enrolled",
    State.DISABLED: "Disabled",
}


def requirement_words(asked: Requirement, now: float) -> str:
    """Return the column MFA: User Requirement of a user."""
    if asked.exempt_until is not None and asked.exempt(now):
        return f"Exempt until {_day(asked.exempt_until)}"
    if asked.required_from is None:
        return "Not required"
    return (
        "Required" if asked.required_from <= now else f"Required from {_day(asked.required_from)}"
    )


def _day(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).astimezone().strftime("%Y-%m-%d %H:%M")


def _of(group: str) -> dict[str, Any]:
    return {"group": group} if group else {}


def _check_days(days: int, *, least: int) -> None:
    if not least <= days <= MAX_DAYS:
        raise Refused(f"{days} days: it must be {least} to {MAX_DAYS}")

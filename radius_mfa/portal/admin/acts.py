"""What admins do to users, one or many: a table of acts, each asked for, confirmed and done.

The services are those of the command line; what may be asked is judged there.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from fastapi import APIRouter, HTTPException
from fastapi.responses import Response

from radius_mfa.errors import BackendUnavailable, HalfDone, Refused
from radius_mfa.policy.requirement import (
    DAY_SECONDS,
    DEFAULT_DAYS,
    MAX_DAYS,
    MAX_REASON_CHARACTERS,
)
from radius_mfa.policy.roles import Right
from radius_mfa.portal.admin.desk import HOME, AdminVisit, Helping, user_page
from radius_mfa.portal.admin.filters import Listing
from radius_mfa.portal.visit import Go
from radius_mfa.stores.enrolments import USERS_AT_ONCE, NotOnRecord

router = APIRouter(prefix=f"{HOME}/acts")
log = structlog.get_logger()

MOST_AT_ONCE = USERS_AT_ONCE
"""Users of one act: one transaction, and the browser waits for it."""

SHOWN_NAMES = 10


@dataclass(frozen=True, slots=True)
class Asked:
    """What the form says beside whom: days, an end in Unix seconds, a reason."""

    days: int
    until: float
    reason: str


Work = Callable[[AdminVisit, list[str], Asked], Awaitable[list[str]]]


@dataclass(frozen=True, slots=True)
class Act:
    """An act. *wants* are the fields of its form; *warning* says what it ends."""

    label: str
    work: Work
    right: Right = Right.DECIDE
    wants: tuple[str, ...] = ()
    least_days: int = 0
    warning: str = ""
    not_oneself: bool = False


ACTS: Mapping[str, Act] = {
    "require": Act(
        "Require a second factor",
        lambda desk, users, asked: desk.office.service.require(users, desk.now, asked.days),
        wants=("days",),
    ),
    "extend": Act(
        "Give more days to enrol",
        lambda desk, users, asked: desk.office.service.extend(users, desk.now, asked.days),
        wants=("days",),
        least_days=1,
    ),
    "withdraw": Act(
        "Require it no longer", lambda desk, users, _: desk.office.service.withdraw(users)
    ),
    "exempt": Act(
        "Exempt until a date",
        lambda desk, users, asked: desk.office.service.exempt(
            users, desk.now, asked.until, asked.reason
        ),
        wants=("until", "reason"),
        warning="Until then the password alone is enough for who has not enrolled.",
    ),
    "end-exemption": Act(
        "End the exemption", lambda desk, users, _: desk.office.service.end_exemption(users)
    ),
    "unlock": Act("Unlock", lambda desk, users, _: desk.office.service.unlock(users), Right.HELP),
    "reset": Act(
        "Reset the second factor",
        lambda desk, users, asked: desk.office.service.reset(users, desk.now, asked.days),
        Right.HELP,
        wants=("days",),
        warning="All devices and recovery codes end, at once and everywhere. "
        "The password alone then opens the page where a new device is set up.",
    ),
    "suspend": Act(
        "Suspend",
        lambda desk, users, _: desk.office.service.suspend(users, suspended=True),
        warning="Every login is refused until somebody resumes.",
        not_oneself=True,
    ),
    "resume": Act(
        "Resume", lambda desk, users, _: desk.office.service.suspend(users, suspended=False)
    ),
    "suspend-factor": Act(
        "Suspend the second factor",
        lambda desk, users, _: desk.office.service.suspend_factor(users, suspended=True),
        warning="Every login that needs the second factor is refused until somebody resumes it.",
        not_oneself=True,
    ),
    "resume-factor": Act(
        "Resume the second factor",
        lambda desk, users, _: desk.office.service.suspend_factor(users, suspended=False),
    ),
}
"""By the word that forms send, in the order in which they are offered."""


@router.post("")
async def ask(desk: Helping) -> Response:
    """Show whom it would be done to, and ask for what the act wants."""
    word = desk.visit.field("act")
    return await _ask(desk, word, *await _meant(desk, word))


@router.post("/do")
async def do(desk: Helping) -> Response:
    """Do it, all of it or nothing; one user's page, or a list, says what was done.

    Of what can't be taken back the page says how far it came, and offers to go on from there.
    """
    word = desk.visit.field("act")
    users, total = await _meant(desk, word)
    act, asked = ACTS[word], _asked(desk)
    error = _unfit(users, total) or _fault(desk, act, asked, users)
    if error:
        return await _ask(desk, word, users, total, error=error)
    try:
        with desk.visit.acting():
            changed = await act.work(desk, users, asked)
    except NotOnRecord:
        return await _ask(desk, word, users, total, error="user_gone")
    except Refused:
        return await _ask(desk, word, users, total, error="act_refused")
    except HalfDone as half:
        return await _half_done(desk, word, half)
    if desk.visit.field("back") == "user" and len(users) == 1:
        notice = "act_done" if changed else "act_changed_nothing"
        return await desk.visit.go(user_page(users[0]), notice=notice)
    return await desk.page(
        "act_done.html",
        label=act.label,
        changed=len(changed),
        unchanged=len(users) - len(changed),
        listing=Listing.of_form(desk.visit.form),
    )


async def _half_done(desk: AdminVisit, word: str, half: HalfDone) -> Response:
    log.error("portal.half_done", act=word, backend=half.backend, cause=half.cause)
    shown = half.left[:SHOWN_NAMES]
    try:
        names = sorted((await desk.office.users.called(shown)).values())
    except BackendUnavailable:
        names = list(shown)
    return await desk.page(
        "act_half_done.html",
        503,
        label=ACTS[word].label,
        word=word,
        done=len(half.done),
        left=half.left,
        names=names,
        listing=Listing.of_form(desk.visit.form),
    )


async def _ask(
    desk: AdminVisit, word: str, users: list[str], total: int, error: str = ""
) -> Response:
    act = ACTS[word]
    error = error or _unfit(users, total)
    names = sorted((await desk.office.users.called(users[:SHOWN_NAMES])).values())
    return await desk.page(
        "act.html",
        422 if error else 200,
        act=act,
        few_enough=total <= MOST_AT_ONCE,
        word=word,
        users=users,
        names=names,
        total=total,
        everyone=desk.visit.field("everyone") == "yes",
        listing=Listing.of_form(desk.visit.form),
        back=desk.visit.field("back"),
        days=desk.visit.field("days") or str(DEFAULT_DAYS),
        until=desk.visit.field("until"),
        reason=desk.visit.field("reason"),
        max_days=MAX_DAYS,
        max_reason=MAX_REASON_CHARACTERS,
        error=error,
    )


async def _meant(desk: AdminVisit, word: str) -> tuple[list[str], int]:
    """Return the keys of who is meant, no more than the act takes, and how many there are.

    Raises HTTPException where the admin's role does not include it.
    """
    act = ACTS.get(word)
    if act is None:
        raise Go(f"{HOME}/users")
    if not desk.admin.may(act.right):
        raise HTTPException(403, "role")
    users = list(dict.fromkeys(desk.visit.form.get("user", [])))
    total = len(users)
    if desk.visit.field("everyone") == "yes":
        wanted = await Listing.of_form(desk.visit.form).wanted(desk)
        users = await desk.office.users.keys(wanted, desk.now, MOST_AT_ONCE)
        total = await desk.office.users.count(wanted, desk.now)
    if not desk.admin.may(Right.DECIDE):
        admins = {admin.user for admin in await desk.office.admins.all()}
        if not admins.isdisjoint(users):
            raise HTTPException(403, "admins")
    return users, total


def _asked(desk: AdminVisit) -> Asked:
    """Return what the form says; -1 stands for what can't be read."""
    try:
        end = datetime.fromisoformat(desk.visit.field("until")) + timedelta(days=1)
        until = end.astimezone().timestamp()
    except (ValueError, OverflowError):
        until = -1.0
    return Asked(days_of(desk), until, desk.visit.field("reason").strip())


def days_of(desk: AdminVisit) -> int:
    """Return the days that the form says, -1 for what can't be read."""
    days = desk.visit.field("days")
    readable = days.isascii() and days.isdigit() and len(days) <= len(str(MAX_DAYS))
    return int(days) if readable else -1


def _unfit(users: list[str], total: int) -> str:
    """Return why so many can't be meant, as a key of the texts."""
    if not users:
        return "nobody_ticked"
    return "too_many_users" if total > MOST_AT_ONCE else ""


def _fault(desk: AdminVisit, act: Act, asked: Asked, users: list[str]) -> str:
    """Return what is wrong with the form, as a key of the texts."""
    reason_fits = asked.reason.isprintable() and len(asked.reason) <= MAX_REASON_CHARACTERS
    latest = desk.now + MAX_DAYS * DAY_SECONDS
    faults = {
        "days_wrong": "days" in act.wants and not act.least_days <= asked.days <= MAX_DAYS,
        "until_wrong": "until" in act.wants and not desk.now < asked.until <= latest,
        "reason_wrong": "reason" in act.wants and not (asked.reason and reason_fits),
        "not_yourself": act.not_oneself and desk.session.user in users,
    }
    return next((name for name, found in faults.items() if found), "")

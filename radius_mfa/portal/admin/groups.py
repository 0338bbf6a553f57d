"""Requiring a second factor of a group: which one, who that is, and then it is done.

The members are looked up anew when it is done. Where they are not those whose number the admin
saw, the page asks again.
"""

import asyncio
from dataclasses import dataclass

from fastapi import APIRouter
from fastapi.responses import Response

from radius_mfa.errors import BackendUnavailable, Refused
from radius_mfa.policy.requirement import DEFAULT_DAYS, MAX_DAYS
from radius_mfa.portal.admin.acts import ACTS, MOST_AT_ONCE, SHOWN_NAMES, days_of
from radius_mfa.portal.admin.desk import HOME, AdminVisit, Deciding
from radius_mfa.portal.admin.filters import Listing
from radius_mfa.stores.enrolments import NotOnRecord
from radius_mfa.stores.group_members import (
    AmbiguousGroup,
    EmptyGroup,
    Members,
    UnknownGroup,
    members,
)
from radius_mfa.stores.interfaces import LOCAL, Prospect

router = APIRouter(prefix=f"{HOME}/groups")

ACT = ACTS["require"]

MAX_CHARACTERS = 1_024
"""Of a distinguished name in the form."""

LOOKING_UP_SECONDS = 8.0
"""For the directory; what is left of the request's time is for what is done."""


_WHY = {
    UnknownGroup: "group_unknown",
    AmbiguousGroup: "group_several",
    EmptyGroup: "group_empty",
}


@dataclass(frozen=True, slots=True)
class _Found:
    members: Members
    keys: list[str]
    prospect: Prospect

    @property
    def count(self) -> int:
        """How many it would be required of."""
        return self.prospect.users - self.prospect.required


class _NotYetError(Exception):
    """The form has to be shown again: *error* is a key of the texts, *shown* what goes with it."""

    def __init__(self, error: str, status: int = 422, **shown: object) -> None:
        super().__init__(error)
        self.status = status
        self.shown = {"error": error, **shown}


@router.get("")
async def show(desk: Deciding) -> Response:
    """Ask which group."""
    return await _form(desk)


@router.post("")
async def ask(desk: Deciding) -> Response:
    """Show who is in it, and of how many it would be required."""
    try:
        found = await _found(desk)
    except _NotYetError as fault:
        return await _form(desk, fault.status, **fault.shown)
    return await _confirm(desk, found)


@router.post("/do")
async def do(desk: Deciding) -> Response:
    """Require it of the members; who is not on record is put there."""
    try:
        found = await _found(desk)
    except _NotYetError as fault:
        return await _form(desk, fault.status, **fault.shown)
    if desk.visit.field("count") != str(found.count):
        return await _confirm(desk, found, "group_changed")
    group = f"{found.members.distinct} of {found.members.directory}"
    newcomers = [user for user in found.members.usable if user.dn]
    try:
        with desk.visit.acting():
            changed = await desk.office.service.require(
                found.keys, desk.now, days_of(desk), newcomers=newcomers, group=group
            )
    except NotOnRecord:  # of a group that is kept here
        return await _confirm(desk, found, "user_gone")
    return await desk.page(
        "act_done.html",
        label=ACT.label,
        changed=len(changed),
        unchanged=len(found.keys) - len(changed),
        listing=Listing(),
    )


async def _found(desk: AdminVisit) -> _Found:
    """Return the group that the form names; _NotYetError where it can't be had, or is too large."""
    visit, days = desk.visit, days_of(desk)
    name = visit.field("group").strip()[:MAX_CHARACTERS]
    if not name.isprintable() or not name:
        raise _NotYetError("group_unknown")
    if not 0 <= days <= MAX_DAYS:
        raise _NotYetError("days_wrong")
    try:
        async with asyncio.timeout(LOOKING_UP_SECONDS):
            found = await members(
                desk.office.directories, visit.services.enrolments, name, visit.field("directory")
            )
    except Refused as error:
        shown = {word: getattr(error, word) for word in ("near", "places") if hasattr(error, word)}
        raise _NotYetError(_WHY.get(type(error), "group_refused"), **shown) from None
    except TimeoutError:
        raise _NotYetError("directory_away", 503) from None
    except BackendUnavailable as error:
        if error.backend != "directory":
            raise
        raise _NotYetError("directory_away", 503) from None
    keys = [user.key for user in found.usable]
    if len(keys) > MOST_AT_ONCE:
        raise _NotYetError("group_refused")
    return _Found(found, keys, await desk.office.service.would_require(keys, days))


async def _form(desk: AdminVisit, status: int = 200, **shown: object) -> Response:
    return await desk.page(
        "group.html",
        status,
        group=desk.visit.field("group"),
        directory=desk.visit.field("directory"),
        directories=[LOCAL, *(one.name for one in desk.office.directories.ldap)],
        days=desk.visit.field("days") or str(DEFAULT_DAYS),
        max_days=MAX_DAYS,
        **{"error": "", "near": "", "places": ()} | shown,
    )


async def _confirm(desk: AdminVisit, found: _Found, error: str = "") -> Response:
    usable = found.members.usable
    return await desk.page(
        "group_confirm.html",
        422 if error else 200,
        error=error,
        found=found,
        names=[user.name for user in usable[:SHOWN_NAMES]],
        left_out=len(found.members.users) - len(usable),
        days=days_of(desk),
        max_days=MAX_DAYS,
    )

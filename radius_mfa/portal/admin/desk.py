"""Who sits at the admin portal: role, record, and what the role lets them do."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Depends, HTTPException
from fastapi.responses import Response

from radius_mfa.policy.roles import Right
from radius_mfa.portal.services import ADMINS, Office
from radius_mfa.portal.visit import Go, Visit, Visitor, outdated
from radius_mfa.stores.admins import Admin
from radius_mfa.stores.enrolments import NotOnRecord, UserOnRecord
from radius_mfa.stores.sessions import Session

HOME = ADMINS.home


def user_page(key: str) -> str:
    """Return the address of a user's page: a key may hold what a path can't."""
    return f"{HOME}/user?{urlencode({'key': key})}"


class AdminVisit:
    """The visit of somebody with a role whose password is proven."""

    def __init__(self, visit: Visit, session: Session, admin: Admin, record: UserOnRecord) -> None:
        self.visit = visit
        self.session = session
        self.admin = admin
        self.record = record

    @property
    def office(self) -> Office:
        """What admin pages work with."""
        return self.visit.services.office

    @property
    def now(self) -> float:
        """When the request came, in Unix seconds."""
        return self.visit.now

    def asked(self, name: str) -> str:
        """Return a parameter of the page's address, empty where there is none."""
        return self.visit.request.query_params.get(name, "")

    def may(self, right: str) -> bool:
        """Return whether the role includes a Right, by its name: templates ask that."""
        return self.admin.may(Right[right])

    async def page(self, template: str, status: int = 200, **context: Any) -> Response:  # noqa: ANN401 - a template's values
        """Render a page of the admin portal."""
        return await self.visit.page(
            f"admin/{template}", status, desk=self, user_page=user_page, **context
        )


async def beginning(visit: Visitor) -> AdminVisit:
    """Return who has signed in, also with nothing but the password: to choose one, or to enrol."""
    session = visit.session
    if session is None:
        raise Go(visit.sign_in_again)
    if session.half_way:
        raise Go(f"{visit.area.sign_in}/code")
    admin = await visit.services.office.admins.find(session.user)
    try:
        record = await visit.services.enrolments.user(session.user)
    except NotOnRecord:
        record = None
    if admin is None or record is None or outdated(session, record):
        await visit.end()
        raise Go(f"{visit.area.sign_in}?notice=session_over", forget=visit.token)
    return AdminVisit(visit, session, admin, record)


async def at_desk(desk: Annotated[AdminVisit, Depends(beginning)]) -> AdminVisit:
    """Return who has signed in with both factors and a password of their own choice."""
    if desk.admin.one_time_until is not None:
        raise Go(f"{HOME}/password")
    if desk.session.proved_at is None:
        raise Go(f"{HOME}/set-up")
    return desk


def _with(right: Right) -> Callable[[AdminVisit], Awaitable[AdminVisit]]:
    async def allowed(desk: Annotated[AdminVisit, Depends(at_desk)]) -> AdminVisit:
        if not desk.admin.may(right):
            raise HTTPException(403, "role")
        return desk

    return allowed


Beginning = Annotated[AdminVisit, Depends(beginning)]
Seeing = Annotated[AdminVisit, Depends(_with(Right.SEE))]
Helping = Annotated[AdminVisit, Depends(_with(Right.HELP))]
Deciding = Annotated[AdminVisit, Depends(_with(Right.DECIDE))]

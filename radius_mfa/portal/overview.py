"""The first page: where the user stands, and what is asked of them."""

from dataclasses import replace

from fastapi import APIRouter
from fastapi.responses import Response

from radius_mfa.authentication.enrolment import days_left
from radius_mfa.policy.access import State
from radius_mfa.portal.visit import SignedIn, UserVisit

router = APIRouter()

_PUT_OFF = "put_off"


@router.get("/")
async def overview(user: SignedIn) -> Response:
    """Show devices and recovery codes; to who has still to enrol, first that they have."""
    asked, now = user.record.requirement, user.visit.now
    template = "prompt.html" if _prompted(user) else "overview.html"
    return await user.page(template, days_left=days_left(asked, now), exempt=asked.exempt(now))


@router.post("/put-off")
async def put_off(user: SignedIn) -> Response:
    """Ask no more in this session; the period goes on."""
    session = user.session
    await user.visit.keep(replace(session, data={**session.data, _PUT_OFF: "yes"}))
    return await user.visit.go("/")


def _prompted(user: UserVisit) -> bool:
    if user.record.confirmed or _PUT_OFF in user.session.data:
        return False
    asked, now = user.record.requirement, user.visit.now
    return State.IN_ENROLLMENT is user.enrolment_state and not asked.exempt(now)

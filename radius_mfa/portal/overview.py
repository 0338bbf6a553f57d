"""The first page: where the user stands."""

from fastapi import APIRouter
from fastapi.responses import Response

from radius_mfa.authentication.enrolment import days_left
from radius_mfa.portal.visit import SignedIn

router = APIRouter()


@router.get("/")
async def overview(user: SignedIn) -> Response:
    """Show devices, recovery codes, and what is asked of the user."""
    left = days_left(user.record.requirement, user.visit.now)
    return await user.page("overview.html", days_left=left)

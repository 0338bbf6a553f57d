"""The user's own logins at the VPN, and a word to the admins where one was somebody else's."""

from fastapi import APIRouter
from fastapi.responses import Response

from radius_mfa.portal.visit import Go, SignedIn, UserVisit
from radius_mfa.stores.login_history import PastLogin

router = APIRouter(prefix="/logins")

LOGINS = 30
ONCE_SECONDS = 7 * 86_400
"""For so long it is known that a user has said so; the overview of admins looks back as far."""


@router.get("")
async def show(user: SignedIn) -> Response:
    """List the newest logins."""
    return await user.page("logins.html", logins=await _recent(user))


@router.post("/not-me")
async def not_me(user: SignedIn) -> Response:
    """Put on the audit trail that a login was not the user's; admins see it there, once."""
    wanted = user.visit.field("login")
    login = next((one for one in await _recent(user) if str(one.event_id) == wanted), None)
    if login is None:
        raise Go("/logins")
    owner = user.session.user
    said = await user.visit.services.sessions.tries("not-me", f"{wanted}:{owner}", ONCE_SECONDS)
    if said > 1:
        return await user.visit.go("/logins", notice="not_me")
    await user.visit.limit_changes(owner)
    with user.visit.acting():
        async with user.visit.services.enrolments.noted(
            owner,
            "login.not_me",
            at=login.at.isoformat(timespec="seconds"),
            result=login.result.value,
            client=login.client,
            station=login.station,
            request_id=login.request_id,
        ):
            pass
    return await user.visit.go("/logins", notice="not_me")


async def _recent(user: UserVisit) -> list[PastLogin]:
    return await user.visit.services.history.recent(user.session.user, LOGINS)

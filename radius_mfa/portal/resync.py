"""Two codes in a row, where the clock of a phone is off: at sign-in, and later."""

from fastapi import APIRouter
from fastapi.responses import Response

from radius_mfa.portal.proof import codes_in_a_row_proven
from radius_mfa.portal.sign_in import factor_was_right, half_way
from radius_mfa.portal.visit import Go, SignedIn, Visit, Visitor
from radius_mfa.stores.enrolments import DeviceGone
from radius_mfa.stores.sessions import Session

router = APIRouter()

_TEMPLATE = "resync.html"


@router.get("/sign-in/resync")
async def show_at_sign_in(visit: Visitor) -> Response:
    """Ask for two codes in place of one."""
    half_way(visit)
    return await visit.page(_TEMPLATE, back="/sign-in/code")


@router.post("/sign-in/resync")
async def at_sign_in(visit: Visitor) -> Response:
    """Take them: they prove more than one code does, so the user is in."""
    session = half_way(visit)
    error = await _fault(visit, session)
    if error:
        return await visit.page(_TEMPLATE, 422, back="/sign-in/code", error=error)
    return await factor_was_right(visit, session, "totp", "resynced")


@router.get("/resync")
async def show(user: SignedIn) -> Response:
    """Ask for two codes."""
    if not user.record.confirmed:
        raise Go("/")
    return await user.page(_TEMPLATE, back="/")


@router.post("/resync")
async def resync(user: SignedIn) -> Response:
    """Take them; the session goes on."""
    error = await _fault(user.visit, user.session)
    if error:
        return await user.page(_TEMPLATE, 422, back="/", error=error)
    return await user.visit.go("/", notice="resynced")


async def _fault(visit: Visit, session: Session) -> str:
    """Return why the two codes will not do, as a key of the texts; nothing where they do."""
    await visit.limit_tries()
    codes = [visit.field("first"), visit.field("next")]
    try:
        if await codes_in_a_row_proven(visit, session, codes):
            return ""
    except DeviceGone:
        return "device_gone"
    await visit.reject_delay()
    return "codes_refused"

"""What is on record of the installation: the audit trail, and the settings in force."""

from fastapi import APIRouter
from fastapi.responses import Response

from radius_mfa.portal.admin.dashboard import nodes
from radius_mfa.portal.admin.desk import HOME, Seeing
from radius_mfa.stores import audit

router = APIRouter(prefix=HOME)

ROWS = 50
MAX_TEXT = 253
MAX_DIGITS = 18


@router.get("/audit")
async def show_audit(desk: Seeing) -> Response:
    """Show a page of the audit trail, newest first, by who acted and whom it was done to."""
    asked = (desk.asked(name)[:MAX_TEXT].strip() for name in ("who", "whom", "before"))
    who, whom, before = asked
    numbered = before.isascii() and before.isdigit() and len(before) <= MAX_DIGITS
    entries = await audit.entries(
        desk.visit.services.enrolments.database,
        subject=whom or None,
        called=whom or None,
        who=who or None,
        before=int(before) if numbered else 0,
        limit=ROWS + 1,
    )
    page = entries[::-1][:ROWS]
    more = page[-1].number if len(entries) > ROWS else 0
    return await desk.page("audit.html", entries=page, who=who, whom=whom, more=more)


@router.get("/settings")
async def show_settings(desk: Seeing) -> Response:
    """Show the settings in force where the portal runs, secrets masked, and who has others."""
    office = desk.office
    return await desk.page(
        "settings.html",
        settings=office.settings,
        nodes=[(one.host, one.settings == office.settings_digest) for one in await nodes(desk)],
    )

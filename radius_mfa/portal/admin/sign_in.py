"""Signing in as an admin: password, then code, five failures at most; and out."""

import shlex

import structlog
from fastapi import APIRouter
from fastapi.responses import Response

from radius_mfa.policy.roles import SIGN_IN_FAILURES, SIGN_IN_LOCK_SECONDS
from radius_mfa.portal.proof import code_proven, password_tried
from radius_mfa.portal.sign_in import (
    factor_was_right,
    half_way,
    password_was_right,
    sign_out,
)
from radius_mfa.portal.visit import Go, Visit, Visitor
from radius_mfa.stores.admins import Admin

router = APIRouter(prefix="/admin")
log = structlog.get_logger()

_NOTICES = {"session_over", "signed_out"}


@router.get("/sign-in")
async def show_sign_in(visit: Visitor) -> Response:
    """Ask for name and password."""
    if visit.session is not None and not visit.session.half_way:
        raise Go("/admin")
    notice = visit.request.query_params.get("notice", "")
    return await visit.page(
        "admin/sign_in.html", name="", notice=notice if notice in _NOTICES else ""
    )


@router.post("/sign-in")
async def sign_in(visit: Visitor) -> Response:
    """Take name and password; whoever has no role is refused like a wrong password."""
    await visit.limit_tries()
    office, name = visit.services.office, visit.field("name")
    password = visit.field("password")
    identity, proven, code_due = await password_tried(visit, name, password, one_time=True)
    tries_left = await _counted(visit, identity.key)
    admin = await office.admins.find(identity.key) if proven and tries_left else None
    if admin is None or _too_late(visit, admin):
        await visit.reject_delay()
        return await visit.page("admin/sign_in.html", 422, name=name, error="sign_in_refused")
    await office.attempts.admin_try_was_right(identity.key, signed_in=False)
    return await password_was_right(visit, name, identity, code_due=code_due)


@router.get("/sign-in/code")
async def show_code(visit: Visitor) -> Response:
    """Ask for the second factor."""
    half_way(visit)
    return await visit.page("admin/sign_in_code.html")


@router.post("/sign-in/code")
async def sign_in_code(visit: Visitor) -> Response:
    """Take a code, or a recovery code; the session begins under a new token."""
    session = half_way(visit)
    await visit.limit_tries()
    proven = await code_proven(visit, session, visit.field("code"))
    if not (await _counted(visit, session.user) and proven):
        await visit.reject_delay()
        return await visit.page("admin/sign_in_code.html", 422, error="code_refused")
    await visit.services.office.attempts.admin_try_was_right(session.user, signed_in=True)
    return await factor_was_right(visit, session)


router.post("/sign-out")(sign_out)


async def _counted(visit: Visit, user: str) -> bool:
    """Count a try before its outcome shows; return whether there was one left."""
    tries = await visit.services.office.attempts.admin_try(user, SIGN_IN_LOCK_SECONDS)
    if tries == SIGN_IN_FAILURES + 1:
        unlock = f"radius-mfa user unlock {shlex.quote(user)}"
        log.warning(
            "admin.locked",
            user=user,
            source=visit.source,
            hint=f"for {SIGN_IN_LOCK_SECONDS // 60} minutes, or: {unlock}",
        )
    return tries <= SIGN_IN_FAILURES


def _too_late(visit: Visit, admin: Admin) -> bool:
    until = admin.one_time_until
    if until is None or visit.now < until.timestamp():
        return False
    log.warning(
        "admin.password_too_old",
        user=admin.name,
        hint=f"the one-time password is over: radius-mfa admin create {shlex.quote(admin.name)}",
    )
    return True

"""Signing in as an admin: password, then code, five failures at most; and out."""

import shlex

import structlog
from fastapi import APIRouter
from fastapi.responses import Response

from radius_mfa.authentication.login import Outcome, lock_hint
from radius_mfa.policy.decision import Reject, RejectReason
from radius_mfa.policy.roles import SIGN_IN_FAILURES, SIGN_IN_LOCK_SECONDS
from radius_mfa.portal.proof import code_proven, lines, password_tried
from radius_mfa.portal.sign_in import (
    factor_was_right,
    half_way,
    password_was_right,
    sign_out,
)
from radius_mfa.portal.visit import Go, Visit, Visitor
from radius_mfa.stores.admins import Admin
from radius_mfa.stores.interfaces import Identity

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
    tries = await office.attempts.admin_try(identity.key, SIGN_IN_LOCK_SECONDS)
    admin = await office.admins.find(identity.key)
    why = _closed(visit, admin, tries) if proven else ""
    if not proven or why:
        if why:
            lines(visit, identity, name, "password").info("portal.refused", reason=why)
        if admin is not None:
            _tell_lock(visit, identity, name, tries)
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
    attempts = visit.services.office.attempts
    identity, typed = Identity(session.user, session.name), session.data["login_name"]
    tries = await attempts.admin_try(session.user, SIGN_IN_LOCK_SECONDS)
    locked = tries > SIGN_IN_FAILURES  # a right code stays unused then
    method = "" if locked else await code_proven(visit, session, visit.field("code"))
    if not method:
        if locked:
            lines(visit, identity, typed, "code").info("portal.refused", reason=_TRIES)
        _tell_lock(visit, identity, typed, tries)
        await visit.reject_delay()
        return await visit.page("admin/sign_in_code.html", 422, error="code_refused")
    await attempts.admin_try_was_right(session.user, signed_in=True)
    return await factor_was_right(visit, session, method)


router.post("/sign-out")(sign_out)


_TRIES = RejectReason.ACCOUNT_LOCKED.value


def _closed(visit: Visit, admin: Admin | None, tries: int) -> str:
    """Return why the portal stays shut to a right password, as a reason of the log."""
    if tries > SIGN_IN_FAILURES:
        return _TRIES
    if admin is None:
        return "no_role"
    until = admin.one_time_until
    if until is None or visit.now < until.timestamp():
        return ""
    log.warning(
        "admin.password_too_old",
        user=admin.name,
        hint=f"the one-time password is over: radius-mfa admin create {shlex.quote(admin.name)}",
    )
    return "one_time_password_over"


def _tell_lock(visit: Visit, identity: Identity, typed: str, tries: int) -> None:
    """Tell, of the last try that there was, that it closed the door."""
    if tries != SIGN_IN_FAILURES:
        return
    until = int((visit.now + SIGN_IN_LOCK_SECONDS) * 1000)
    locked = Outcome(Reject(RejectReason.ACCOUNT_LOCKED), locked_until=until)
    visit.services.tell(locked, identity, visit.now)
    hint = f"of the admin portal alone; {lock_hint(identity.name, until)}"
    lines(visit, identity, typed, "admin").warning("admin.locked", hint=hint)

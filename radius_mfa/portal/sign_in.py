"""Signing in, in two steps, and out."""

from dataclasses import replace

from fastapi import APIRouter
from fastapi.responses import Response

from radius_mfa.portal.proof import code_proven, lines, password_proven
from radius_mfa.portal.visit import Go, Visit, Visitor
from radius_mfa.stores.interfaces import Identity
from radius_mfa.stores.sessions import Session

router = APIRouter()

_SIGN_IN_NOTICES = {"session_over", "signed_out", "signed_out_everywhere"}


@router.get("/sign-in")
async def show_sign_in(visit: Visitor) -> Response:
    """Ask for name and password."""
    if visit.session is not None and not visit.session.half_way:
        raise Go("/")
    notice = visit.request.query_params.get("notice", "")
    return await visit.page(
        "sign_in.html", name="", notice=notice if notice in _SIGN_IN_NOTICES else ""
    )


@router.post("/sign-in")
async def sign_in(visit: Visitor) -> Response:
    """Take name and password; every refusal looks and lasts the same."""
    await visit.limit_tries()
    name, password = visit.field("name"), visit.field("password")
    proven = await password_proven(visit, name, password)
    if proven is None:
        await visit.reject_delay()
        return await visit.page("sign_in.html", 422, name=name, error="sign_in_refused")
    identity, code_due = proven
    if identity.dn and not code_due:
        await visit.services.enrolments.know(identity)
    return await password_was_right(visit, name, identity, code_due=code_due)


@router.get("/sign-in/code")
async def show_code(visit: Visitor) -> Response:
    """Ask for the second factor."""
    half_way(visit)
    return await visit.page("sign_in_code.html")


@router.post("/sign-in/code")
async def sign_in_code(visit: Visitor) -> Response:
    """Take a code of a device, or a recovery code; the session begins under a new token."""
    session = half_way(visit)
    await visit.limit_tries()
    method = await code_proven(visit, session, visit.field("code"))
    if not method:
        await visit.reject_delay()
        return await visit.page("sign_in_code.html", 422, error="code_refused")
    return await factor_was_right(visit, session, method)


@router.post("/sign-out")
async def sign_out(visit: Visitor) -> Response:
    """End the session."""
    await visit.end()
    return await visit.go(f"{visit.area.sign_in}?notice=signed_out")


def half_way(visit: Visit) -> Session:
    """Return the session whose password is proven; Go where there is none such."""
    if visit.session is None:
        raise Go(visit.area.sign_in)
    if not visit.session.half_way:
        raise Go(visit.area.home)
    return visit.session


async def password_was_right(
    visit: Visit, name: str, identity: Identity, *, code_due: bool
) -> Response:
    """Begin the session of *identity*, who typed *name*; half-way where a code is due."""
    area, line = visit.area, lines(visit, identity, name, "password")
    if code_due:
        line.info("portal.challenged")
    else:
        line.info("portal.accepted", method="password")
    await visit.begin(
        Session(
            area.kind,
            identity.key,
            identity.name,
            visit.now,
            visit.source,
            visit.agent,
            half_way=code_due,
            data={"login_name": name},
        )
    )
    return await visit.go(f"{area.sign_in}/code" if code_due else area.home)


async def factor_was_right(
    visit: Visit, session: Session, method: str, notice: str = ""
) -> Response:
    """Let a session that was half-way go on under a new token, as one that is signed in."""
    identity, typed = Identity(session.user, session.name), session.data["login_name"]
    lines(visit, identity, typed, "code").info("portal.accepted", method=method)
    await visit.begin(replace(session, half_way=False, proved_at=visit.now))
    return await visit.go(visit.area.home, notice)

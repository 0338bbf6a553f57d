"""Recovery codes: made anew, shown once, taken along as a file; and proof that it is the user."""

from dataclasses import replace

from fastapi import APIRouter, HTTPException
from fastapi.responses import PlainTextResponse, Response

from radius_mfa.errors import Refused
from radius_mfa.policy import recovery
from radius_mfa.portal.pages import moment, render
from radius_mfa.portal.proof import code_proven
from radius_mfa.portal.visit import Go, SignedIn, UserVisit

router = APIRouter()

PAGES_THAT_WANT_PROOF = ("/devices/new", "/recovery-codes")


@router.get("/recovery-codes")
async def show(user: SignedIn) -> Response:
    """Say how many are left, and offer new ones."""
    _enrolled(user)
    return await user.page("recovery_codes.html", made=recovery.CODES)


@router.post("/recovery-codes")
async def renew(user: SignedIn) -> Response:
    """Make new ones in place of the old."""
    _enrolled(user)
    if not user.fresh:
        raise Go("/prove?next=/recovery-codes")
    await user.visit.limit_changes(user.session.user)
    with user.visit.acting():
        return await renewed(user)


async def renewed(user: UserVisit, device: str = "") -> Response:
    """Make recovery codes and show them, this once; *device* is what was set up just now."""
    try:
        codes = await user.visit.services.recovery_codes.renew(user.session.user)
    except Refused:  # a reset was faster
        raise Go("/") from None
    return await user.page(
        "recovery_codes_shown.html", codes=[recovery.shown(code) for code in codes], device=device
    )


@router.post("/recovery-codes/download")
async def download(user: SignedIn) -> Response:
    """Give back as a file what the page showed: the server itself knows the codes no more."""
    codes = user.visit.field("codes").split()
    if not 1 <= len(codes) <= recovery.CODES or not all(map(_like_a_code, codes)):
        raise HTTPException(400)
    text = render(
        "recovery_codes.txt", codes=codes, name=user.record.name, at=moment(user.visit.now)
    )
    headers = {"content-disposition": 'attachment; filename="recovery-codes.txt"'}
    return PlainTextResponse(text, headers=headers)


@router.get("/prove")
async def show_prove(user: SignedIn) -> Response:
    """Ask for a code before something that matters."""
    return await user.page("prove.html", after=_after(user.visit.request.query_params.get("next")))


@router.post("/prove")
async def prove(user: SignedIn) -> Response:
    """Take the code; the session goes on under a new token."""
    visit, after = user.visit, _after(user.visit.field("next"))
    await visit.limit_tries()
    if not await code_proven(visit, user.session, visit.field("code")):
        await visit.reject_delay()
        return await user.page("prove.html", 422, after=after, error="code_refused")
    await visit.begin(replace(user.session, proved_at=visit.now))
    return await visit.go(after)


def _after(path: str | None) -> str:
    return path if path in PAGES_THAT_WANT_PROOF else "/"


def _enrolled(user: UserVisit) -> None:
    if not user.record.confirmed:
        raise Go("/")


def _like_a_code(text: str) -> bool:
    """Return whether *text* is of the shape in which codes are shown."""
    code = text.replace("-", "", 1)
    letters = set(code) <= set(recovery.ALPHABET)
    return letters and len(code) == recovery.CODE_CHARACTERS and recovery.shown(code) == text

"""Where the user is signed in, and signing out from afar."""

from fastapi import APIRouter
from fastapi.responses import Response

from radius_mfa.portal.visit import Enrolling

router = APIRouter(prefix="/sessions")

_BROWSERS = {
    "Edg": "Edge",
    "OPR/": "Opera",
    "Firefox/": "Firefox",
    "Chrome/": "Chrome",
    "Safari/": "Safari",
    "curl/": "curl",
}
_SYSTEMS = {
    "iPhone": "iPhone",
    "iPad": "iPad",
    "Android": "Android",
    "Windows": "Windows",
    "Mac OS X": "macOS",
    "CrOS": "ChromeOS",
    "Linux": "Linux",
}
"""What browsers call themselves, the first that is met: most call themselves several names."""


@router.get("")
async def show(user: Enrolling) -> Response:
    """List the sessions of the user."""
    visit, mine = user.visit, user.session
    found = await visit.services.sessions.of(mine.kind, mine.user, visit.now)
    rows = [
        (session_id, called(session.agent), session, session_id == mine.session_id)
        for session_id, session in found
    ]
    return await user.page("sessions.html", rows=rows)


@router.post("/end")
async def end(user: Enrolling) -> Response:
    """End one of them."""
    visit, mine = user.visit, user.session
    await visit.services.sessions.end_by_id(mine.kind, mine.user, visit.field("session"))
    return await visit.go("/sessions", notice="session_ended")


@router.post("/end-all")
async def end_all(user: Enrolling) -> Response:
    """Sign out here and everywhere else."""
    visit, mine = user.visit, user.session
    await visit.services.sessions.end_all(mine.kind, mine.user)
    await visit.end()
    return await visit.go(f"{visit.area.sign_in}?notice=signed_out_everywhere")


def called(agent: str) -> str:
    """Return a browser in words, roughly, by what it calls itself."""
    browser = next((name for word, name in _BROWSERS.items() if word in agent), "")
    system = next((name for word, name in _SYSTEMS.items() if word in agent), "")
    return " on ".join(filter(None, (browser or "A browser", system)))

"""One request as a page sees it: who is there, what they sent, and how to answer."""

import hashlib
import hmac
import re
import time
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlsplit

from fastapi import Depends, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from radius_mfa.authentication.refusal import reject_delay
from radius_mfa.policy.access import State, state
from radius_mfa.portal.pages import render
from radius_mfa.portal.services import Area, Policy, Services, area_of
from radius_mfa.stores.audit import Actor, acting_as
from radius_mfa.stores.enrolments import DeviceOnRecord, NotOnRecord, UserOnRecord
from radius_mfa.stores.sessions import Session, fresh_token

FORM_OCTETS = 65_536
FORM_FIELDS = 1_100
"""Bounds of a form: what is ticked in a list of a thousand rows fits."""

FIELD_CHARACTERS = 1_024
AGENT_CHARACTERS = 200
FRESH_SECONDS = 600
"""For so long after the second factor was proven nobody is asked for it again."""

CHANGES_PER_HOUR = 60
"""Changes that a user may make of their own devices and codes."""

_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f]")
"""What nobody types into an address, and no database takes all of."""

_FORM_TYPE = "application/x-www-form-urlencoded"


class Go(Exception):
    """The browser has to go to *path* first; *cookie* false ends the session there."""

    def __init__(self, path: str, *, forget: str = "") -> None:
        super().__init__(path)
        self.path = path
        self.forget = forget


class Visit:
    """One request. *form* is empty but for a POST, which has met every check by then."""

    def __init__(
        self, request: Request, services: Services, token: str, session: Session | None
    ) -> None:
        self.request = request
        self.services = services
        self.token = token
        self.session = session
        self.form: dict[str, list[str]] = {}
        self.now = time.time()
        self._arrived = time.monotonic()

    @property
    def policy(self) -> Policy:
        """What the settings say."""
        return self.services.policy

    @property
    def area(self) -> Area:
        """The part of the portal that the page belongs to."""
        return area_of(self.request.url.path)

    @property
    def sign_in_again(self) -> str:
        """The page where one signs in; whoever has filled in a form is told why it is lost."""
        posted = self.request.method == "POST"
        return f"{self.area.sign_in}?notice=session_over" if posted else self.area.sign_in

    @property
    def source(self) -> str:
        """The address of the browser, as far as proxies can be believed."""
        return str(self.request.state.source)

    @property
    def agent(self) -> str:
        """What the browser calls itself."""
        text = self.request.headers.get("user-agent", "")[:AGENT_CHARACTERS]
        return text if text.isprintable() else ""

    @property
    def csrf(self) -> str:
        """The token that every form of this browser carries."""
        return csrf_token(self.policy.csrf_key, self.token)

    def field(self, name: str) -> str:
        """Return a field of the form, empty where there is none."""
        return self.form.get(name, [""])[0]

    def acting(self) -> AbstractContextManager[None]:
        """Let changes inside the block stand in the audit trail as this person's."""
        who = self.session.name if self.session else ""
        return acting_as(Actor(who, f"portal from {self.source}"))

    async def page(self, template: str, status: int = 200, **context: Any) -> Response:  # noqa: ANN401 - a template's values
        """Render a page; what the page before had to say is said once."""
        notice = ""
        if self.session is not None and "notice" in self.session.data:
            data = dict(self.session.data)
            notice = data.pop("notice")
            await self.keep(replace(self.session, data=data))
        known = {"csrf_token": self.csrf, "session": self.session, "notice": notice, "error": ""}
        html = render(template, **known | {"path": self.request.url.path} | context)
        response = HTMLResponse(html, status)
        self.set_cookie(response)
        return response

    async def go(self, path: str, notice: str = "") -> Response:
        """Send the browser to *path*, which will say *notice*, a key of ``texts.NOTICES``."""
        if notice and self.session is not None:
            await self.keep(replace(self.session, data={**self.session.data, "notice": notice}))
        response = RedirectResponse(path, 303)
        self.set_cookie(response)
        return response

    async def keep(self, session: Session) -> None:
        """Keep what has changed of the session."""
        self.session = session
        await self.services.sessions.save(session)

    async def begin(self, session: Session) -> None:
        """Begin *session* under a new token, in place of whatever the browser had."""
        if self.session is not None:
            await self.services.sessions.end(self.session)
        self.session = await self.services.sessions.begin(session)
        self.token = self.session.token

    async def end(self) -> None:
        """End the session, and let the browser go on as nobody."""
        if self.session is not None:
            await self.services.sessions.end(self.session)
        self.session, self.token = None, fresh_token()

    def set_cookie(self, response: Response) -> None:
        """Give the browser the token: for this host, over TLS, and out of reach of scripts."""
        set_token(response, self.area, self.token)

    async def limit_tries(self) -> None:
        """Count a try to sign in; raise HTTPException where the address had too many."""
        bucket = self.request.state.bucket
        tries = await self.services.sessions.tries("sign-in", bucket, 60)
        if tries > self.policy.sign_ins_per_minute:
            raise HTTPException(429, headers={"retry-after": "60"})

    async def limit_changes(self, user: str) -> None:
        """Count a change that *user* makes of their own; HTTPException where there were too many.

        Each is a row of the audit trail, for ever: nobody is to fill that.
        """
        if await self.services.sessions.tries("change", user, 3600) > CHANGES_PER_HOUR:
            raise HTTPException(429, "often", headers={"retry-after": "3600"})

    async def reject_delay(self) -> None:
        """Wait until a refusal is due."""
        await reject_delay(self._arrived, self.policy.reject_delay_seconds)

    async def read_form(self) -> None:
        """Read the form of a POST; HTTPException unless one of our pages has sent it."""
        headers = self.request.headers
        if not _same_origin(headers.get("origin"), headers.get("referer"), self.policy.origin):
            raise HTTPException(403)
        if headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM_TYPE:
            raise HTTPException(400)
        octets = b""
        async for chunk in self.request.stream():
            octets += chunk
            if len(octets) > FORM_OCTETS:
                raise HTTPException(413)
        for name, value in _fields(octets):
            self.form.setdefault(name, []).append(value)
        if not hmac.compare_digest(self.field("csrf").encode(), self.csrf.encode()):
            raise HTTPException(403)


def set_token(response: Response, area: Area, token: str) -> None:
    """Set the cookie of *area*; its prefix makes browsers insist on host, path and TLS."""
    response.set_cookie(area.cookie, token, path="/", secure=True, httponly=True, samesite="lax")


def csrf_token(key: bytes, token: str) -> str:
    """Return the token of forms that belongs to a session's *token*."""
    return hashlib.blake2b(token.encode(), key=key, digest_size=24, person=b"csrf").hexdigest()


def _check_address(request: Request) -> None:
    """Refuse, by HTTPException, an address with control characters in it."""
    if _CONTROLS.search(request.scope["path"]):
        raise HTTPException(404)
    asked = request.query_params.multi_items()
    if any(_CONTROLS.search(name + value) for name, value in asked):
        raise HTTPException(400)


def _same_origin(origin: str | None, referer: str | None, ours: str) -> bool:
    if origin is None and referer:
        parts = urlsplit(referer)
        origin = f"{parts.scheme}://{parts.netloc}"
    return origin == ours


def _fields(octets: bytes) -> list[tuple[str, str]]:
    """Return the fields of a form; HTTPException for what no browser sends."""
    try:
        found = parse_qsl(
            octets.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=FORM_FIELDS,
        )
    except ValueError:
        raise HTTPException(400) from None
    if any("\0" in name + value for name, value in found):
        raise HTTPException(400)
    if any(len(value) > FIELD_CHARACTERS for _, value in found):
        raise HTTPException(413)
    return found


async def visitor(request: Request) -> Visit:
    """Return the visit of anybody; every route of the app depends on it."""
    _check_address(request)
    services: Services = request.app.state.services
    area = area_of(request.url.path)
    token = request.cookies.get(area.cookie, "")
    given = bool(token)
    visit = Visit(request, services, token if given else fresh_token(), None)
    if request.method not in {"GET", "HEAD"}:
        if not given:
            raise HTTPException(403)
        await visit.read_form()
    if given:
        found = await services.sessions.find(
            token, visit.now, used=request.url.path not in area.unattended
        )
        if found is not None and found.kind == area.kind:
            visit.session = found
    return visit


Visitor = Annotated[Visit, Depends(visitor)]


class UserVisit:
    """The visit of a user who is signed in, and what is on record of them."""

    def __init__(self, visit: Visit, session: Session, record: UserOnRecord) -> None:
        self.visit = visit
        self.session = session
        self.record = record

    @property
    def enrolment_state(self) -> State:
        """How far the user is on the way to a second factor; one that is pending counts for none.

        So it is for a login: what is half done changes nothing.
        """
        return state(self.record.requirement, self.visit.now, confirmed=self.record.confirmed)

    @property
    def fresh(self) -> bool:
        """Whether the second factor, where there is one, was proven a short while ago."""
        proved_at = self.session.proved_at
        return proved_at is None or self.visit.now - proved_at < FRESH_SECONDS

    def device(self, device_id: str) -> DeviceOnRecord:
        """Return a device of the user; HTTPException where they have none such any more."""
        for device in self.record.devices:
            if device.device_id == device_id:
                return device
        raise HTTPException(404, "device_gone")

    @property
    def period_over(self) -> bool:
        """Whether nothing but enrolling is open to the user any more."""
        exempt = self.record.requirement.exempt(self.visit.now)
        return self.enrolment_state is State.ENROLLMENT_EXPIRED and not exempt

    async def page(self, template: str, status: int = 200, **context: Any) -> Response:  # noqa: ANN401 - a template's values
        """Render a page for the user."""
        return await self.visit.page(template, status, user=self, record=self.record, **context)


async def enrolling(visit: Visitor) -> UserVisit:
    """Return the visit of a signed-in user, also of one to whom only enrolling is open."""
    session = visit.session
    if session is None:
        raise Go(visit.sign_in_again)
    if session.half_way:
        raise Go("/sign-in/code")
    try:
        record = await visit.services.enrolments.user(session.user)
    except NotOnRecord:
        record = None
    if record is None or outdated(session, record):
        await visit.end()
        raise Go(f"{visit.area.sign_in}?notice=session_over", forget=visit.token)
    return UserVisit(visit, session, record)


async def signed_in(user: Annotated[UserVisit, Depends(enrolling)]) -> UserVisit:
    """Return the visit of a user to whom every page is open."""
    if user.period_over:
        raise Go("/devices/new")
    return user


Enrolling = Annotated[UserVisit, Depends(enrolling)]
SignedIn = Annotated[UserVisit, Depends(signed_in)]


def outdated(session: Session, record: UserOnRecord) -> bool:
    """Return whether something has happened to the user that ends sessions begun before.

    A session begun with the password alone ends once the user has a second factor, or else
    whoever knows the password could wait inside for it; one that proved a factor ends with it.
    """
    changed = record.password_changed_at
    return (
        record.suspended_at is not None
        or record.requirement.factor_suspended
        or (changed is not None and changed.timestamp() > session.began_at)
        or record.confirmed is not (session.proved_at is not None)
    )

"""What happens to logins on every node, as it happens: a page, and the stream behind it.

The stream is server-sent events. It ends after a while, and browsers begin it again where it
ended: so no request lasts for ever, and whoever has no role any more is out within that while.
"""

import asyncio
import time
from collections.abc import AsyncIterator

import orjson
from fastapi import APIRouter
from fastapi.responses import Response, StreamingResponse

from radius_mfa.errors import BackendUnavailable
from radius_mfa.policy.decision import RejectReason
from radius_mfa.portal.admin.desk import HOME, AdminVisit, Seeing
from radius_mfa.portal.pages import render
from radius_mfa.stores.events import (
    ADMIN_PORTAL,
    FOLLOW_SECONDS,
    PORTAL,
    Event,
    EventFilter,
    Result,
)

router = APIRouter(prefix=HOME)

LINES = 50
STREAM_SECONDS = 10.0
"""Shorter than the gate lets any request last."""

AGAIN_MS = 500
MAX_FILTER = 253
MAX_DIGITS = 20


@router.get("/live")
async def show(desk: Seeing) -> Response:
    """Show the newest events that are asked for; without a script, a link loads them anew."""
    wanted = _wanted(desk)
    since = await desk.office.events.last_id()
    events = [one for one in await desk.office.events.newest(LINES, wanted) if one.result]
    return await desk.page(
        "live.html",
        events=[_shown(one) for one in reversed(events)],
        since=since,
        wanted=wanted,
        clients=[*(client.name for client in desk.office.clients), PORTAL, ADMIN_PORTAL],
        results=list(Result),
        reasons=list(RejectReason),
    )


@router.get("/live/stream")
async def stream(desk: Seeing) -> Response:
    """Send events after the one that the browser had last, each as a row of the table."""
    last = desk.visit.request.headers.get("last-event-id") or desk.asked("after")
    readable = last.isascii() and last.isdigit() and len(last) < MAX_DIGITS
    after = int(last) if readable else await desk.office.events.last_id()
    return StreamingResponse(
        _rows(desk, after, _wanted(desk)),
        media_type="text/event-stream",
        headers={"x-accel-buffering": "no"},
    )


async def _rows(desk: AdminVisit, after: int, wanted: EventFilter) -> AsyncIterator[str]:
    ends = time.monotonic() + STREAM_SECONDS
    yield f"retry: {AGAIN_MS}\n\n"
    while time.monotonic() < ends:
        try:
            events = await desk.office.events.after(after)
        except BackendUnavailable:
            return  # the browser comes again
        for event in events:
            after = event.event_id
            if event.result and wanted.admits(event):
                row = render("admin/live_row.html", one=_shown(event))
                yield f"id: {after}\ndata: {orjson.dumps(row).decode()}\n\n"
        if events:
            yield f"id: {after}\n\n"
        else:
            await asyncio.sleep(FOLLOW_SECONDS)


def _wanted(desk: AdminVisit) -> EventFilter:
    result = desk.asked("result")
    return EventFilter(
        desk.asked("client")[:MAX_FILTER],
        desk.asked("user")[:MAX_FILTER].strip(),
        Result(result) if result in set(Result) else None,
        desk.asked("reason")[:MAX_FILTER],
    )


def _shown(event: Event) -> dict[str, str]:
    """Return what a row shows; every text of it is the log's, printable already."""
    return {
        "at": event.text("timestamp"),
        "result": event.result or "",
        "user": event.text("canonical_user") or event.text("user"),
        "key": event.text("user_key"),
        "client": event.client,
        "station": event.text("station"),
        "reason": event.reason,
        "hint": event.text("hint"),
        "method": event.text("method"),
        "node": event.node,
    }

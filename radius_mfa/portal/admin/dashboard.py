"""The first page of admins: where users and backends stand, and what failed of late."""

from collections import Counter
from datetime import UTC, datetime, timedelta

from fastapi import APIRouter
from fastapi.responses import Response

from radius_mfa.errors import BackendUnavailable
from radius_mfa.portal.admin.desk import HOME, AdminVisit, Seeing
from radius_mfa.stores import audit
from radius_mfa.stores.events import Result
from radius_mfa.stores.nodes import Node

router = APIRouter(prefix=HOME)

SHOWN = 20
LOOK_BACK = timedelta(hours=24)


@router.get("")
async def show(desk: Seeing) -> Response:
    """Show where everything stands."""
    office, now = desk.office, datetime.fromtimestamp(desk.now, UTC)
    services, now_ms = desk.visit.services, int(desk.now * 1000)
    counts = await services.history.counts(now - LOOK_BACK, now + timedelta(hours=1))
    results = Counter(dict.fromkeys((Result.ACCEPTED, Result.REJECTED), 0))
    failures: Counter[tuple[str, str]] = Counter()
    for one in counts:
        results[one.result] += one.count
        asked = one.result is Result.CHALLENGED and not one.reason  # for the first time
        if one.result not in {Result.ACCEPTED, Result.LOCKED} and not asked:
            failures[one.reason or one.result.value, one.client] += one.count
    locked = await office.attempts.locked(desk.now)
    names = await office.users.called(list(locked)[:SHOWN])
    return await desk.page(
        "dashboard.html",
        states=await office.users.states(desk.now),
        locked=[
            (key, names.get(key, ""), locked[key].everywhere(now_ms))
            for key in list(locked)[:SHOWN]
        ],
        locked_in_all=len(locked),
        exempt=await office.users.exempt(desk.now, SHOWN),
        results=results,
        failures=failures.most_common(SHOWN),
        not_me=await audit.entries(
            services.enrolments.database, act="login.not_me", limit=SHOWN, since=now - LOOK_BACK * 7
        ),
        redis=await _redis_answers(desk),
        nodes=await nodes(desk),
    )


async def _redis_answers(desk: AdminVisit) -> bool:
    try:
        await desk.office.attempts.clock()
    except BackendUnavailable:
        return False
    return True


async def nodes(desk: AdminVisit) -> list[Node]:
    """Return the processes that run; none while Redis is away."""
    try:
        return await desk.office.nodes.running()
    except BackendUnavailable:
        return []

"""The page of a user: where they stand, what they did, why it was refused, and what to do."""

from fastapi import APIRouter, HTTPException
from fastapi.responses import Response

from radius_mfa.authentication.enrolment import requirement_words, totp_words
from radius_mfa.policy.columns import asked_of
from radius_mfa.policy.reasons import explained
from radius_mfa.policy.roles import Right
from radius_mfa.portal.admin.acts import ACTS
from radius_mfa.portal.admin.desk import HOME, Seeing
from radius_mfa.portal.admin.users import standing_of
from radius_mfa.stores import audit
from radius_mfa.stores.attempts import Locks
from radius_mfa.stores.enrolments import NotOnRecord, UserOnRecord

router = APIRouter(prefix=HOME)

LOGINS = 20
AUDIT_ROWS = 10


@router.get("/user")
async def show(desk: Seeing) -> Response:
    """Show a user on record."""
    key, office = desk.asked("key"), desk.office
    try:
        record = await desk.visit.services.enrolments.user(key)
    except NotOnRecord:
        raise HTTPException(404, "user_gone") from None
    locks, admin = await office.attempts.locks(key), await office.admins.find(key)
    logins = await desk.visit.services.history.recent(key, LOGINS)
    asked, has = record.requirement, {"confirmed": record.confirmed, "pending": record.pending}
    touchable = admin is None or desk.admin.may(Right.DECIDE)
    acts = _acts(record, locks, desk.now)
    return await desk.page(
        "user.html",
        user=record,
        locks=locks,
        now_ms=int(desk.now * 1000),
        standing=standing_of(record.suspended_at is not None, locks, desk.now),
        totp=totp_words(asked, desk.now, **has),
        requirement=requirement_words(asked, desk.now),
        exempt=asked.exempt(desk.now),
        role=admin.role if admin else "",
        logins=[(one, explained(one.reason)) for one in logins],
        entries=reversed(
            await audit.entries(
                desk.visit.services.enrolments.database, subject=key, limit=AUDIT_ROWS
            )
        ),
        acts={word: ACTS[word] for word in acts if touchable and desk.admin.may(ACTS[word].right)},
    )


def _acts(record: UserOnRecord, locks: Locks, now: float) -> list[str]:
    """Return what makes sense for this user, in the order of the table."""
    asked, column = record.requirement, asked_of(record.requirement, now)
    failing = locks.consecutive or locks.user.failures or locks.anywhere(int(now * 1000))
    sensible = {
        "unlock": bool(failing),
        "require": asked.enrol_by is None,
        "extend": asked.enrol_by is not None and not record.confirmed,
        "withdraw": asked.enrol_by is not None,
        "exempt": column != "exempt",
        "end-exemption": column == "exempt",
        "reset": bool(record.devices or record.recovery_codes),
        "suspend": record.suspended_at is None,
        "resume": record.suspended_at is not None,
        "suspend-factor": not asked.factor_suspended,
        "resume-factor": asked.factor_suspended,
    }
    return [word for word in ACTS if sensible[word]]

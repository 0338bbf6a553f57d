"""Proving who one is: the one place where the portal asks ``authentication.login``.

What comes of it is an event like a login at the VPN, and a lock that it closes is told like one.
"""

import secrets
from collections.abc import Sequence
from dataclasses import replace
from random import getrandbits

import structlog
from structlog.typing import FilteringBoundLogger as BoundLogger

from radius_mfa.authentication.login import Attempt, CodeDue, Outcome, Trace, lock_hint
from radius_mfa.policy.decision import Accept, Reject
from radius_mfa.portal.visit import Visit
from radius_mfa.stores.events import PORTAL
from radius_mfa.stores.interfaces import Identity
from radius_mfa.stores.sessions import Session


def lines(visit: Visit, identity: Identity, typed: str, step: str) -> BoundLogger:
    """Return what writes lines about a *step* of *identity*, whose name was *typed* so."""
    log: BoundLogger = structlog.get_logger()
    return log.bind(
        request_id=f"{getrandbits(48):012x}",  # tells lines apart, protects nothing
        nas=visit.area.client,
        user=typed,
        canonical_user=identity.name,
        user_key="" if identity.key == identity.name else identity.key,
        directory=identity.directory,
        source=visit.source,
        station=visit.source,
        step=step,
    )


async def password_proven(visit: Visit, name: str, password: str) -> tuple[Identity, bool] | None:
    """Return whose password it is and whether a code is due; None where it is refused."""
    identity, proven, code_due = await password_tried(visit, name, password)
    return (identity, code_due) if proven else None


async def password_tried(
    visit: Visit, name: str, password: str, *, one_time: bool = False
) -> tuple[Identity, bool, bool]:
    """Return whose password was tried, whether it is theirs, and whether a code is due then.

    With *one_time* also one that has to be changed at once.
    """
    attempt = Attempt(
        client=PORTAL,
        user_name=name,
        typed=password.encode(),
        packet=secrets.token_bytes(16),
        mode=None,
        one_time=one_time,
        calling_station_id=visit.source,
    )
    trace = Trace()
    outcome = await visit.services.login.decide_password(attempt, visit.now, trace)
    if isinstance(outcome, CodeDue):
        return trace.identity, True, True
    return trace.identity, bool(_accepted(visit, outcome, trace, "password", name)), False


async def code_proven(visit: Visit, session: Session, code: str) -> str:
    """Return by which method *code* is one of the session's user, empty if it is none; uses it."""
    attempt = _second_step(visit, session, "".join(code.split()).encode())
    trace = Trace()
    outcome = await visit.services.login.decide(attempt, visit.now, trace)
    same = trace.identity.key == session.user
    accepted = _accepted(visit, outcome, trace, "code", session.data["login_name"])
    if accepted and same and not session.half_way:
        _say_proven(visit, trace, "code", session)
    return accepted if same else ""


def _second_step(visit: Visit, session: Session, typed: bytes) -> Attempt:
    return Attempt(
        client=PORTAL,
        user_name=session.data["login_name"],
        typed=typed,
        packet=secrets.token_bytes(16),
        mode=None,
        password_proven=True,
        calling_station_id=visit.source,
    )


async def codes_in_a_row_proven(visit: Visit, session: Session, codes: Sequence[str]) -> bool:
    """Return whether two codes show where the clock of a device of the user is; note it there.

    Raises DeviceGone where it was removed meanwhile.
    """
    typed = "".join("".join(codes).split()).encode()
    attempt = replace(_second_step(visit, session, typed), in_a_row=True)
    trace = Trace()
    outcome = await visit.services.login.decide(attempt, visit.now, trace)
    typed_name = session.data["login_name"]
    if not _accepted(visit, outcome, trace, "resync", typed_name) or trace.match is None:
        return False
    if not session.half_way:
        _say_proven(visit, trace, "resync", session)
    device, step = trace.match.device, trace.match.time_step
    drift = step - int(visit.now) // device.time_step_seconds
    with visit.acting():
        await visit.services.enrolments.resync_device(session.user, device.device_id, drift)
    return trace.identity.key == session.user


def _say_proven(visit: Visit, trace: Trace, step: str, session: Session) -> None:
    """Write that a session that was there already has proven a factor: no sign-in."""
    lines(visit, trace.identity, session.data["login_name"], step).info("portal.proven")


def _accepted(visit: Visit, outcome: Outcome, trace: Trace, step: str, name: str) -> str:
    """Return the method of an Accept, empty for a reject; write and tell what that came to.

    Whether an Accept is a sign-in, the caller knows.
    """
    decision, line = outcome.decision, lines(visit, trace.identity, name, step)
    visit.services.tell(outcome, trace.identity, visit.now)
    if isinstance(decision, Reject):
        line.info("portal.refused", reason=decision.reason.value, hint=decision.hint)
    if outcome.locked_until:
        line.warning("user.locked", hint=lock_hint(trace.identity.name, outcome.locked_until))
    return decision.method if isinstance(decision, Accept) else ""

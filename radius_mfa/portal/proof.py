"""Proving who one is: the one place where the portal asks ``authentication.login``."""

import secrets
from collections.abc import Sequence
from dataclasses import replace

import structlog

from radius_mfa.authentication.login import Attempt, CodeDue, Outcome, Trace, lock_hint
from radius_mfa.policy.decision import Accept, Reject
from radius_mfa.portal.visit import Visit
from radius_mfa.stores.interfaces import Identity
from radius_mfa.stores.sessions import Session

log = structlog.get_logger()

PORTAL = "(portal)"
"""What stands for the client's name; no ``[[client]]`` can bear it."""


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
    return trace.identity, _accepted(visit, outcome, trace, "password", name), False


async def code_proven(visit: Visit, session: Session, code: str) -> bool:
    """Return whether *code* is one of the session's user, of a device or for recovery; uses it."""
    attempt = _second_step(visit, session, "".join(code.split()).encode())
    trace = Trace()
    outcome = await visit.services.login.decide(attempt, visit.now, trace)
    same = trace.identity.key == session.user
    return _accepted(visit, outcome, trace, "code", session.name) and same


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
    """Return whether two codes show where the clock of a device of the user is; note it there."""
    typed = "".join("".join(codes).split()).encode()
    attempt = replace(_second_step(visit, session, typed), in_a_row=True)
    trace = Trace()
    outcome = await visit.services.login.decide(attempt, visit.now, trace)
    if not _accepted(visit, outcome, trace, "resync", session.name) or trace.match is None:
        return False
    device, step = trace.match.device, trace.match.time_step
    drift = step - int(visit.now) // device.time_step_seconds
    with visit.acting():
        await visit.services.enrolments.resync_device(session.user, device.device_id, drift)
    return trace.identity.key == session.user


def _accepted(visit: Visit, outcome: Outcome, trace: Trace, step: str, name: str) -> bool:
    """Write the line of what was decided; return whether it is an Accept."""
    decision, fields = outcome.decision, {"source": visit.source, "user": name, "step": step}
    if outcome.locked_until:
        hint = lock_hint(trace.identity.name, outcome.locked_until)
        log.warning(
            "user.locked", nas=PORTAL, canonical_user=trace.identity.name, hint=hint, **fields
        )
    if isinstance(decision, Accept):
        log.info("portal.accepted", method=decision.method, **fields)
        return True
    if isinstance(decision, Reject):
        log.info("portal.refused", reason=decision.reason.value, hint=decision.hint, **fields)
    return False

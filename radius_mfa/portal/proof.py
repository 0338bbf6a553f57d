"""Proving who one is: the one place where the portal asks ``authentication.login``."""

import secrets

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
    attempt = Attempt(
        client=PORTAL,
        user_name=name,
        typed=password.encode(),
        packet=secrets.token_bytes(16),
        mode=None,
        calling_station_id=visit.source,
    )
    trace = Trace()
    outcome = await visit.services.login.decide_password(attempt, visit.now, trace)
    if isinstance(outcome, Outcome) and not _accepted(visit, outcome, trace, "password", name):
        return None
    return (trace.identity, isinstance(outcome, CodeDue))


async def code_proven(visit: Visit, session: Session, code: str) -> bool:
    """Return whether *code* is one of the session's user, of a device or for recovery; uses it."""
    attempt = Attempt(
        client=PORTAL,
        user_name=session.data["login_name"],
        typed="".join(code.split()).encode(),
        packet=secrets.token_bytes(16),
        mode=None,
        password_proven=True,
        calling_station_id=visit.source,
    )
    trace = Trace()
    outcome = await visit.services.login.decide(attempt, visit.now, trace)
    same = trace.identity.key == session.user
    return _accepted(visit, outcome, trace, "code", session.name) and same


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

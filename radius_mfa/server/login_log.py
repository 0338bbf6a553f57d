"""The one line of a finished login: who, from where, what came of it, why, and how long it took.

Every field is documented in docs/reasons.md; text from outside is made printable by ``log``.
"""

import time
from random import getrandbits
from typing import Any

from structlog.typing import FilteringBoundLogger as BoundLogger

from radius_mfa.authentication.authorization import Case
from radius_mfa.authentication.login import Outcome, Trace, lock_hint
from radius_mfa.errors import BackendUnavailable
from radius_mfa.policy.decision import Accept, Challenge
from radius_mfa.protocol.access_request import AccessRequest
from radius_mfa.protocol.duplicates import Source
from radius_mfa.protocol.nas import Nas
from radius_mfa.server.faults import fault
from radius_mfa.server.outages import cure

UNDECODABLE = "(undecodable)"

MAX_REASONS_TOLD = 3


class LoginRecord:
    """Collects what the line of one login says."""

    __slots__ = ("_arrived", "_decided", "_log", "_nas", "_request", "source", "trace")

    def __init__(
        self, log: BoundLogger, nas: Nas, request: AccessRequest, source: Source, arrived: float
    ) -> None:
        """Take a bound logger, the request and the monotonic time of its arrival."""
        self.source = source
        self._log = log
        self.trace = Trace()
        self._nas = nas
        self._request = request
        self._arrived = self._decided = arrived

    def decided(self) -> float:
        """Note that the decision is made now; return the seconds it took."""
        self._decided = time.monotonic()
        return self._decided - self._arrived

    def answered(self, outcome: Outcome, duplicates: int, *, superseded: bool) -> None:
        """Write the line of an answered login, and one for a lock that it closed."""
        decision, fields = outcome.decision, self._fields()
        fields["duplicates"] = duplicates
        if outcome.shared:
            fields["verdict"] = "shared with an earlier packet of the same login"
        if superseded:
            fields["sent"] = "no: the NAS has reused the identifier"
        if self.trace.case is not None:
            fields["rule"] = self.trace.case.rule_name
            self._tell_left_out(self.trace.case, fields)
        if isinstance(decision, Accept):
            self._log.info("login.accepted", method=decision.method, **fields)
        elif isinstance(decision, Challenge):
            if decision.reason is not None:
                fields |= {"reason": decision.reason.value, "hint": decision.hint}
            self._log.info("login.challenged", **fields)
        else:
            fields |= {"reason": decision.reason.value, "hint": decision.hint}
            self._log.info("login.rejected", method=self._request.method.value, **fields)
        if outcome.locked_until:
            lock = {name: fields[name] for name in _OF_THE_LOCK}
            self._log.warning(
                "user.locked",
                hint=lock_hint(self.trace.identity.name, outcome.locked_until),
                **lock,
            )

    def _tell_left_out(self, case: Case, fields: dict[str, Any]) -> None:
        """Write which attributes the reply goes without, and why: one line however many."""
        left_out = case.grant.left_out
        if left_out:
            reasons = list(dict.fromkeys(one.why for one in left_out))
            self._log.warning(
                "reply.attribute_left_out",
                **{name: fields[name] for name in (*_OF_THE_LOCK, "rule")},
                attributes=sorted({one.attribute for one in left_out}),
                values=len(left_out),
                cause="; ".join(reasons[:MAX_REASONS_TOLD]),
            )

    def unanswered(self, error: BackendUnavailable, suppressed: int = 0) -> None:
        """Write the line of a login that no backend could decide.

        *suppressed* lines like it were held back before.
        """
        self._log.error(
            "login.unanswered",
            method=self._request.method.value,
            backend=error.backend,
            cause=error.cause,
            hint=cure(error),
            **self._fields(),
            **({"suppressed": suppressed} if suppressed else {}),
        )

    def failed(self, error: Exception) -> None:
        """Write where an unforeseen fault was; no reply was given."""
        self.decided()
        self._log.error("login.failed", **fault(error), **self._fields())

    def _fields(self) -> dict[str, Any]:
        request, source, trace = self._request, self.source, self.trace
        user = trace.identity
        return {
            "request_id": f"{getrandbits(48):012x}",  # tells lines apart, protects nothing
            "nas": self._nas.name,
            "user": UNDECODABLE if request.user_name is None else request.user_name,
            "canonical_user": user.name,
            "user_key": "" if user.key == user.name else user.key,
            "directory": user.directory,
            "source": f"{source[0]}:{source[1]}",
            "station": request.calling_station_id,
            "nas_identifier": request.nas_identifier,
            "identifier": source[2],
            "duration_ms": _milliseconds(self._decided - self._arrived),
            "redis_ms": _milliseconds(trace.redis.seconds),
            "database_ms": _milliseconds(trace.database.seconds),
            "directory_ms": _milliseconds(trace.directory.seconds),
        }


_OF_THE_LOCK = ("request_id", "nas", "canonical_user", "user_key", "source", "station")


def _milliseconds(seconds: float) -> float:
    return int(seconds * 10_000 + 0.5) / 10

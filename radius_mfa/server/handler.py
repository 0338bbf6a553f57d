"""THE STRAIGHT LINE: one datagram in, its reply out. docs/access-request-flow.md tells it in words.

Decides nothing by itself: the packet's fate is ``protocol``'s, the login's is
``authentication``'s. Any exception ends in silence, never in an Access-Accept (rule 4).
"""

import asyncio
import random
import secrets
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from radius_mfa.authentication.login import Attempt, Login, Outcome, Timing
from radius_mfa.errors import (
    BackendUnavailable,
    Overloaded,
    StatusServerRefused,
)
from radius_mfa.policy.decision import Accept, Decision, Reject, RejectReason
from radius_mfa.protocol import message_authenticator, wire
from radius_mfa.protocol.access_request import AccessRequest, access_request
from radius_mfa.protocol.duplicates import DuplicateCache, Entry, Source
from radius_mfa.protocol.nas import Nas, NasTable
from radius_mfa.protocol.reply import decision_reply, signed_reply
from radius_mfa.protocol.wire import Code, Packet
from radius_mfa.server.metrics import Metrics

log = structlog.get_logger()

Address = tuple[str, int]
"""IP address in text, and port."""

REJECT_JITTER = 0.1
"""The share of the reject delay that is random on top of it."""


@dataclass(frozen=True, slots=True)
class AnswerPolicy:
    """How replies are given, whoever asks."""

    reject_message: str = "Access denied"
    reject_delay_seconds: float = 1.0
    login_deadline_seconds: float = 4.0
    max_requests_in_flight: int = 4096


class Handler:
    """Answers datagrams. One object serves every transport of a process."""

    def __init__(
        self,
        nas_table: NasTable,
        login: Login,
        *,
        policy: AnswerPolicy = AnswerPolicy(),
        duplicates: DuplicateCache | None = None,
        metrics: Metrics | None = None,
        backends_up: Callable[[], bool] = lambda: True,
    ) -> None:
        self._nas_table = nas_table
        self._login = login
        self._policy = policy
        self._duplicates = DuplicateCache() if duplicates is None else duplicates
        self._metrics = Metrics() if metrics is None else metrics
        self._backends_up = backends_up
        self._in_flight = 0

    async def answer(
        self, octets: bytes, peer: Address, local: Address, now: float
    ) -> bytes | None:
        """Return the reply to a datagram, when it is due; None where none may be sent any more.

        *now* is the Unix time of arrival. Raises a Discard for a packet owed no reply.
        """
        arrived = time.monotonic()
        nas = self._nas_table.find(peer[0])
        packet = wire.parsed(octets)
        message_authenticator.check(packet, nas)
        if packet.code is Code.STATUS_SERVER:
            return self._status_reply(packet, nas)
        source = (*peer, packet.identifier, f"{local[0]}:{local[1]}")
        entry = self._duplicates.begin(source, packet.authenticator, arrived)
        if entry.reply is not None:
            self._metrics.duplicates.labels(nas.name).inc()
            log.info("reply.resent", nas=nas.name, source=peer[0], duplicates=entry.duplicates)
            return entry.reply
        try:
            return await self._answer_login(packet, nas, source, entry, now, arrived)
        finally:
            if entry.reply is None:
                self._duplicates.abandon(source, entry)

    def _status_reply(self, packet: Packet, nas: Nas) -> bytes:
        """Answer Status-Server (RFC 5997); silence when a backend is down makes a NAS fail over."""
        if not nas.status_server:
            raise StatusServerRefused("Status-Server is switched off for this client")
        if not self._backends_up():
            raise StatusServerRefused("a backend is down")
        self._metrics.status_server.labels(nas.name).inc()
        return signed_reply(packet, nas.shared_secret, Code.ACCESS_ACCEPT)

    async def _answer_login(  # noqa: PLR0917 - one call, in the order of the line
        self,
        packet: Packet,
        nas: Nas,
        source: Source,
        entry: Entry,
        now: float,
        arrived: float,
    ) -> bytes | None:
        request = access_request(packet, nas)
        record = _LogRecord(nas, request, source, arrived)
        with self._in_flight_mark():
            decision = await self._decided(packet, nas, request, record, now)
        if decision is None:
            return None
        reply = decision_reply(packet, nas.shared_secret, decision, self._policy.reject_message)
        if isinstance(decision, Reject):
            await self._reject_delay(arrived)
        may_be_sent = self._duplicates.finish(source, entry, reply, time.monotonic())
        record.write(decision, entry.duplicates, superseded=not may_be_sent)
        self._metrics.logins.labels(
            nas.name,
            "accept" if isinstance(decision, Accept) else "reject",
            decision.reason if isinstance(decision, Reject) else "",
        ).inc()
        return reply if may_be_sent else None

    @contextmanager
    def _in_flight_mark(self) -> Iterator[None]:
        if self._in_flight >= self._policy.max_requests_in_flight:
            raise Overloaded(f"{self._in_flight} requests are in flight")
        self._in_flight += 1
        self._metrics.in_flight.set(self._in_flight)
        try:
            yield
        finally:
            self._in_flight -= 1
            self._metrics.in_flight.set(self._in_flight)

    async def _decided(
        self, packet: Packet, nas: Nas, request: AccessRequest, record: "_LogRecord", now: float
    ) -> Decision | None:
        """Return the decision, or None where a backend has none and the NAS shall get no reply."""
        attempt = _attempt(packet, nas, request, record.source)
        try:
            async with asyncio.timeout(self._policy.login_deadline_seconds):
                outcome = await self._login.decide(attempt, now, record.timing)
        except (BackendUnavailable, TimeoutError) as error:
            return self._without_backend(nas, record, error)
        except Exception as error:  # noqa: BLE001 - rule 4: whatever it is, it is no Accept
            record.write_failure(error)
            return None
        record.outcome = outcome
        self._metrics.login_seconds.observe(time.monotonic() - record.arrived)
        if outcome.locked_until:
            self._metrics.locks.labels(nas.name).inc()
        return outcome.decision

    def _without_backend(
        self, nas: Nas, record: "_LogRecord", error: BackendUnavailable | TimeoutError
    ) -> Decision | None:
        if isinstance(error, TimeoutError):
            error = BackendUnavailable("deadline", "radius.login_deadline_seconds is over")
        self._metrics.unanswered.labels(nas.name, error.backend).inc()
        if nas.reject_on_backend_failure:
            hint = f"{error.backend}: {error.cause}"
            record.outcome = Outcome(Reject(RejectReason.BACKEND_UNAVAILABLE, hint))
            return record.outcome.decision
        record.write_unanswered(error)
        return None

    async def _reject_delay(self, arrived: float) -> None:
        """Wait until a reject is due: counted from arrival, so that no cause of it shows."""
        delay = self._policy.reject_delay_seconds * (1 + REJECT_JITTER * random.random())  # noqa: S311 - jitter
        await asyncio.sleep(arrived + delay - time.monotonic())


def _attempt(packet: Packet, nas: Nas, request: AccessRequest, source: Source) -> Attempt:
    return Attempt(
        client=nas.name,
        user_name=request.user_name,
        typed=request.user_password,
        packet=f"{source[0]} {packet.identifier} ".encode() + packet.authenticator,
        method=request.method,
        split=nas.split,
        calling_station_id=request.calling_station_id,
        session_id=request.acct_session_id,
        failover_grace_seconds=nas.failover_grace_seconds,
    )


class _LogRecord:
    """Collects what the one line of a finished login says."""

    def __init__(self, nas: Nas, request: AccessRequest, source: Source, arrived: float) -> None:
        self.source = source
        self.arrived = arrived
        self.timing = Timing()
        self.outcome = Outcome(Reject(RejectReason.BACKEND_UNAVAILABLE))
        self._request = request
        self._log = log.bind(
            request_id=secrets.token_hex(6),
            nas=nas.name,
            user=request.user_name if request.user_name is not None else "(undecodable)",
            source=f"{source[0]}:{source[1]}",
            station=request.calling_station_id,
            nas_identifier=request.nas_identifier,
            identifier=source[2],
        )

    def write(self, decision: Decision, duplicates: int, *, superseded: bool) -> None:
        """Write the line of an answered login, and one for a lock that it closed."""
        fields = {"canonical_user": self.outcome.user, **self._times(), "duplicates": duplicates}
        if self.outcome.shared:
            fields["verdict"] = "shared with an earlier packet of the same login"
        if superseded:
            fields["sent"] = "no: the NAS has reused the identifier"
        if isinstance(decision, Accept):
            self._log.info("login.accepted", method=decision.method, **fields)
        else:
            method, reason = str(self._request.method), str(decision.reason)
            self._log.info(
                "login.rejected", method=method, reason=reason, hint=decision.hint, **fields
            )
        if self.outcome.locked_until:
            self._log.warning("user.locked", canonical_user=self.outcome.user)

    def write_unanswered(self, error: BackendUnavailable) -> None:
        """Write the line of a login that no backend could decide."""
        self._log.error(
            "login.unanswered", backend=error.backend, cause=error.cause, **self._times()
        )

    def write_failure(self, error: Exception) -> None:
        """Write where an unforeseen fault was, and nothing of what it says (checklist L02)."""
        frames = traceback.extract_tb(error.__traceback__)
        self._log.error(
            "login.failed",
            error=type(error).__name__,
            at=" < ".join(f"{f.name}:{f.lineno}" for f in reversed(frames[-4:])),
            hint="a fault of radius-mfa: please report this line",
            **self._times(),
        )

    def _times(self) -> dict[str, float]:
        return {
            "duration_ms": round((time.monotonic() - self.arrived) * 1000, 1),
            "redis_ms": round(self.timing.redis_ms, 1),
            "database_ms": round(self.timing.database_ms, 1),
            "directory_ms": round(self.timing.directory_ms, 1),
        }

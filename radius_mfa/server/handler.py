"""THE STRAIGHT LINE: one datagram in, its reply out. docs/access-request-flow.md tells it in words.

Decides nothing by itself: the packet's fate is ``protocol``'s, the login's is
``authentication``'s. Any exception ends in silence, never in an Access-Accept (rule 4).
"""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from radius_mfa.authentication.login import Attempt, Login, Outcome
from radius_mfa.authentication.refusal import reject_delay
from radius_mfa.errors import (
    BackendUnavailable,
    Overloaded,
    StatusServerRefused,
)
from radius_mfa.policy.decision import Accept, Reject, RejectReason
from radius_mfa.protocol import message_authenticator, wire
from radius_mfa.protocol.access_request import (
    AccessRequest,
    access_request,
    method,
    nas_identifier,
)
from radius_mfa.protocol.duplicates import DuplicateCache, Entry, Source
from radius_mfa.protocol.nas import Nas, NasTable
from radius_mfa.protocol.reply import decision_reply, signed_reply
from radius_mfa.protocol.wire import Code, Packet
from radius_mfa.server.line_quota import LineQuota
from radius_mfa.server.login_log import LoginRecord
from radius_mfa.server.metrics import Metrics
from radius_mfa.server.notices import Notices
from radius_mfa.server.radsec import Link
from radius_mfa.server.sockets import Address
from radius_mfa.stores.clients_seen import ClientTraffic
from radius_mfa.tasks import Deadline

log = structlog.get_logger()

CONVERSATION_RESERVE = 8
"""One in so many places in flight is kept for requests with State: a login half done is worth
more than one not begun (RFC 5080 section 2.2.3; checklist D11). A State that is none of ours, or
too old, takes no such place; one of ours may be sent by anybody who saw it."""

STATUS_SERVER_PER_SECOND = 100
"""A client gets no more answers to Status-Server than this; watchdogs send one in 6 to 60 s."""

MAX_UNANSWERED_LINES = 50
"""So many unanswered logins of one backend get a line in an interval; the others are counted."""


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
        traffic: ClientTraffic | None = None,
        backends_up: Callable[[], bool] = lambda: True,
        notices: Notices | None = None,
    ) -> None:
        self._nas_table = nas_table
        self._login = login
        self._policy = policy
        self._duplicates = DuplicateCache() if duplicates is None else duplicates
        self._metrics = Metrics() if metrics is None else metrics
        self._traffic = ClientTraffic() if traffic is None else traffic
        self._backends_up = backends_up
        self._deadline = Deadline(policy.login_deadline_seconds)
        self._notices = notices
        self._unanswered_lines = LineQuota(MAX_UNANSWERED_LINES)
        self._log = log.bind()  # once: a logger costs a login a tenth of its line
        self._room = policy.max_requests_in_flight
        self._room_for_new = self._room - self._room // CONVERSATION_RESERVE
        self._status_second, self._status_answers = 0, Counter[str]()
        self.in_flight = 0
        self._metrics.in_flight.set_function(lambda: self.in_flight)

    def serve(self, nas_table: NasTable) -> None:
        """Go by another table from the next datagram on."""
        self._nas_table = nas_table

    async def answer(
        self, octets: bytes, peer: Address, local: Address, now: float, link: Link | None = None
    ) -> bytes | None:
        """Return the reply to a packet, when it is due; None where none may be sent any more.

        *now* is the Unix time of arrival; *link* is the connection it came by, None over UDP.
        Raises a Discard for a packet owed no reply.
        """
        arrived = time.monotonic()
        nas, duplicates = link or (self._nas_table.find(peer[0]), self._duplicates)
        packet = wire.parsed(octets)
        message_authenticator.check(packet, nas)
        if packet.code is Code.STATUS_SERVER:
            return self._status_reply(packet, nas, arrived)
        source = (*peer, packet.identifier, f"{local[0]}:{local[1]}")
        entry = duplicates.begin(source, packet.authenticator, arrived)
        if entry.reply is not None:
            self._metrics.duplicates.labels(nas.name).inc()
            self._traffic.of(nas.name, nas_identifier(packet), method(packet)).resent += 1
            log.info("reply.resent", nas=nas.name, source=peer[0], duplicates=entry.duplicates)
            return entry.reply
        try:
            return await self._answer_login(packet, nas, duplicates, source, entry, now, arrived)
        finally:
            if entry.reply is None:
                duplicates.abandon(source, entry)

    def _status_reply(self, packet: Packet, nas: Nas, arrived: float) -> bytes:
        """Answer Status-Server (RFC 5997); silence when a backend is down makes a NAS fail over."""
        if not nas.status_server:
            raise StatusServerRefused("Status-Server is switched off for this client")
        if not self._backends_up():
            raise StatusServerRefused("a backend is down")
        if int(arrived) != self._status_second:
            self._status_second, self._status_answers = int(arrived), Counter()
        self._status_answers[nas.name] += 1
        if self._status_answers[nas.name] > STATUS_SERVER_PER_SECOND:
            raise StatusServerRefused(f"more than {STATUS_SERVER_PER_SECOND} of them in a second")
        self._metrics.status_server.labels(nas.name).inc()
        return signed_reply(packet, nas.shared_secret, Code.ACCESS_ACCEPT)

    async def _answer_login(  # noqa: PLR0917 - one call, in the order of the line
        self,
        packet: Packet,
        nas: Nas,
        duplicates: DuplicateCache,
        source: Source,
        entry: Entry,
        now: float,
        arrived: float,
    ) -> bytes | None:
        request = access_request(packet, nas)
        traffic = self._traffic.of(nas.name, request.nas_identifier, request.method)
        traffic.requests += 1
        traffic.signed += wire.Attribute.MESSAGE_AUTHENTICATOR in packet.firsts or nas.over_tls
        traffic.proxied += wire.Attribute.PROXY_STATE in packet.firsts
        record = LoginRecord(self._log, nas, request, source, arrived)
        outcome = await self._outcome(packet, nas, request, record, now)
        if outcome is None:
            return None
        decision = outcome.decision
        reply = decision_reply(
            packet,
            nas.shared_secret,
            decision,
            self._policy.reject_message,
            granted=outcome.granted,
            challenge_text=nas.challenge_text,
        )
        if not isinstance(decision, Accept) and decision.reason:  # a challenge anew is a reject too
            await reject_delay(arrived, self._policy.reject_delay_seconds)
        may_be_sent = duplicates.finish(source, entry, reply, time.monotonic())
        if entry.duplicates:
            traffic = self._traffic.of(nas.name, request.nas_identifier, request.method)
            traffic.resent += entry.duplicates
        record.answered(outcome, entry.duplicates, superseded=not may_be_sent)
        self._metrics.count_login(nas.name, decision)
        return reply if may_be_sent else None

    async def _outcome(
        self, packet: Packet, nas: Nas, request: AccessRequest, record: LoginRecord, now: float
    ) -> Outcome | None:
        """Return the outcome, or None where a backend has none and the NAS shall get no reply."""
        attempt = _attempt(packet, nas, request, record.source)
        if self.in_flight >= self._room_for_new and (
            self.in_flight >= self._room or not self._login.gave(attempt.state or b"", now)
        ):
            raise Overloaded(f"{self.in_flight} requests are in flight")
        self.in_flight += 1
        try:
            outcome = await self._deadline.hold(self._login.decide(attempt, now, record.trace))
        except (BackendUnavailable, TimeoutError) as error:
            return self._without_backend(nas, record, error)
        except Exception as error:  # noqa: BLE001 - rule 4: whatever it is, it is no Accept
            record.failed(error)
            self._metrics.unanswered.labels(nas.name, "program").inc()
            return None
        finally:
            self.in_flight -= 1
        self._metrics.login_seconds.observe(record.decided())
        if outcome.locked_until:
            self._metrics.locks.labels(nas.name).inc()
        if self._notices is not None:
            self._notices.of(outcome, record.trace.identity, now)
        return outcome

    def _without_backend(
        self, nas: Nas, record: LoginRecord, error: BackendUnavailable | TimeoutError
    ) -> Outcome | None:
        record.decided()
        if isinstance(error, TimeoutError):
            error = BackendUnavailable("deadline", "radius.login_deadline_seconds is over")
        self._metrics.unanswered.labels(nas.name, error.backend).inc()
        if nas.reject_on_backend_failure:
            hint = f"{error.backend}: {error.cause}"
            return Outcome(Reject(RejectReason.BACKEND_UNAVAILABLE, hint))
        suppressed = self._unanswered_lines.take(error.backend, time.monotonic())
        if suppressed is not None:
            record.unanswered(error, suppressed)
        return None


def _attempt(packet: Packet, nas: Nas, request: AccessRequest, source: Source) -> Attempt:
    return Attempt(
        client=nas.name,
        user_name=request.user_name,
        typed=request.user_password,
        packet=f"{source[0]} {packet.identifier} ".encode() + packet.authenticator,
        method=request.method,
        split=nas.split,
        mode=nas.mfa,
        prompt=nas.prompt,
        state=request.state,
        calling_station_id=request.calling_station_id,
        session_id=request.acct_session_id,
        failover_grace_seconds=nas.failover_grace_seconds,
    )

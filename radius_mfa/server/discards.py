"""Packets owed no reply, and connections refused: each is counted, and told within bounds."""

import structlog

from radius_mfa.errors import Discard
from radius_mfa.server.line_quota import LineQuota
from radius_mfa.server.metrics import Metrics

MAX_SUBJECTS = 1024

MANY_SOURCES = "(many sources)"

_CURES = {
    "unknown_nas": "add it: radius-mfa client add NAME ADDRESS",
    "bad_message_authenticator": "compare the shared secret on both sides",
    "missing_message_authenticator": "switch it on at the NAS, or set "
    "require_message_authenticator = false for this client",
    "unsigned_proxy_state": "someone may be trying the BlastRADIUS attack; "
    "switch on Message-Authenticator at the NAS",
    "handshake_failed": "the gateway's certificate must be signed by one of radsec.client_ca_file "
    "and be in date, and the gateway must trust ours",
    "unknown_certificate": "set certificate_name of its [[client]] to the name in the certificate",
    "too_many_connections": "raise radsec.max_connections, or look who opens so many",
    "overloaded": "raise radius.max_requests_in_flight, or look at the backends",
}

_QUIET = frozenset({"duplicate_in_flight", "status_server_refused"})

log = structlog.get_logger()


class DiscardLog:
    """Counts discards; writes ``packet.discarded`` and ``connection.refused`` lines."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._quota = LineQuota(1)
        self._next_sweep = 0.0

    def write(self, discard: Discard, source: str, now: float) -> None:
        """Count *discard* of a packet from *source*; write it, unless a line like it is recent."""
        self._metrics.discards.labels(discard.reason).inc()
        if discard.reason in _QUIET:
            log.debug(discard.event, reason=discard.reason, source=source)
            return
        subject = self._subject(discard.reason, source, now)
        suppressed = self._quota.take(subject, now)
        if suppressed is None:
            return
        log.warning(
            discard.event,
            reason=discard.reason,
            source=subject[1],
            detail=str(discard),
            hint=_CURES.get(discard.reason, ""),
            suppressed=suppressed,
        )

    def _subject(self, reason: str, source: str, now: float) -> tuple[str, str]:
        """Return what the line is about: beyond MAX_SUBJECTS, all sources together."""
        subject = (reason, source)
        if subject in self._quota or len(self._quota) < MAX_SUBJECTS:
            return subject
        if now >= self._next_sweep:
            self._next_sweep = now + 1.0  # a flood must not pay a sweep for every packet
            self._quota.forget_past(now)
        return subject if len(self._quota) < MAX_SUBJECTS else (reason, MANY_SOURCES)

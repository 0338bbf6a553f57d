"""Log lines for packets owed no reply, at a bounded rate: a flood must not fill the disk."""

import structlog

from radius_mfa.errors import Discard

INTERVAL_SECONDS = 10.0
"""A (reason, source) is written once in this time; the next line says how many came between."""

MAX_SUBJECTS = 1024

MANY_SOURCES = "(many sources)"

_CURES = {
    "unknown_nas": "add it: radius-mfa client add NAME ADDRESS",
    "bad_message_authenticator": "compare the shared secret on both sides",
    "missing_message_authenticator": "switch it on at the NAS, or set "
    "require_message_authenticator = false for this client",
    "unsigned_proxy_state": "someone may be trying the BlastRADIUS attack; "
    "switch on Message-Authenticator at the NAS",
    "overloaded": "raise radius.max_requests_in_flight, or look at the backends",
}

_QUIET = frozenset({"duplicate_in_flight", "status_server_refused"})

log = structlog.get_logger()


class DiscardLog:
    """Writes ``packet.discarded`` lines."""

    def __init__(self) -> None:
        self._next_line: dict[tuple[str, str], float] = {}
        self._suppressed: dict[tuple[str, str], int] = {}
        self._next_sweep = 0.0

    def write(self, discard: Discard, source: str, now: float) -> None:
        """Write *discard* of a packet from *source*, unless a line like it is recent."""
        if discard.reason in _QUIET:
            log.debug("packet.discarded", reason=discard.reason, source=source)
            return
        subject = self._subject(discard.reason, source, now)
        if now < self._next_line.get(subject, 0.0):
            self._suppressed[subject] = self._suppressed.get(subject, 0) + 1
            return
        self._next_line[subject] = now + INTERVAL_SECONDS
        log.warning(
            "packet.discarded",
            reason=discard.reason,
            source=subject[1],
            detail=str(discard),
            hint=_CURES.get(discard.reason, ""),
            suppressed=self._suppressed.pop(subject, 0),
        )

    def _subject(self, reason: str, source: str, now: float) -> tuple[str, str]:
        """Return what the line is about: beyond MAX_SUBJECTS, all sources together."""
        subject = (reason, source)
        if subject in self._next_line or len(self._next_line) < MAX_SUBJECTS:
            return subject
        if now >= self._next_sweep:
            self._next_sweep = now + 1.0  # a flood must not pay a sweep for every packet
            self._forget_past(now)
        return subject if len(self._next_line) < MAX_SUBJECTS else (reason, MANY_SOURCES)

    def _forget_past(self, now: float) -> None:
        for subject in [s for s, at in self._next_line.items() if at <= now]:
            del self._next_line[subject]
            self._suppressed.pop(subject, None)

"""Lines about packets owed no reply: one tells as much as a thousand, and a flood fills no disk."""

from typing import Any

import pytest
from structlog.testing import capture_logs

from radius_mfa.errors import BadMessageAuthenticator, Discard, DuplicateInFlight, UnknownNas
from radius_mfa.server.discards import MANY_SOURCES, MAX_SUBJECTS, DiscardLog
from radius_mfa.server.line_quota import INTERVAL_SECONDS
from radius_mfa.server.metrics import Metrics

STRANGER, FORGED = UnknownNas("no [[client]] holds it"), BadMessageAuthenticator("forged")


def written(*discards: tuple[Discard, str, float], log: DiscardLog | None = None) -> list[Any]:
    """Return the lines of *discards*, each with its source and its time in seconds."""
    log = DiscardLog(Metrics()) if log is None else log
    with capture_logs() as lines:
        for discard, source, now in discards:
            log.write(discard, source, now)
    return lines


def test_a_line_names_reason_source_and_cure() -> None:
    """L04."""
    (line,) = written((STRANGER, "192.0.2.9", 0))
    assert line == {
        "event": "packet.discarded",
        "log_level": "warning",
        "reason": "unknown_nas",
        "source": "192.0.2.9",
        "detail": "no [[client]] holds it",
        "hint": "add it: radius-mfa client add NAME ADDRESS",
        "suppressed": 0,
    }


def test_the_same_again_is_counted_and_told_with_the_next_line() -> None:
    """L04, T01: one line in ten seconds for each reason of each source."""
    lines = written(
        *((STRANGER, "192.0.2.9", at / 100) for at in range(1000)),
        (FORGED, "192.0.2.9", 9.9),
        (STRANGER, "192.0.2.10", 9.9),
        (STRANGER, "192.0.2.9", INTERVAL_SECONDS),
        (STRANGER, "192.0.2.9", 2 * INTERVAL_SECONDS),
    )
    assert [(line["reason"], line["source"][-2:], line["suppressed"]) for line in lines] == [
        ("unknown_nas", ".9", 0),
        ("bad_message_authenticator", ".9", 0),
        ("unknown_nas", "10", 0),
        ("unknown_nas", ".9", 999),
        ("unknown_nas", ".9", 0),
    ]


def test_a_flood_from_ever_new_sources_is_bounded_and_then_told_as_one() -> None:
    """L04, T01: 20,000 forged sources within ten seconds; those known before keep their lines."""
    log = DiscardLog(Metrics())
    written((FORGED, "gateway", 0), log=log)
    flood = [(STRANGER, f"source {number}", number / 2000) for number in range(20_000)]
    lines = written(*flood, log=log)
    assert len(lines) <= MAX_SUBJECTS + 1
    assert lines[-1]["source"] == MANY_SOURCES
    (line,) = written((FORGED, "gateway", INTERVAL_SECONDS), log=log)
    assert line["source"] == "gateway"
    (line,) = written((STRANGER, "another", INTERVAL_SECONDS * 1.2), log=log)
    assert line["source"] in {MANY_SOURCES, "another"}
    written((STRANGER, "much later", 10 * INTERVAL_SECONDS), log=log)
    assert len(log._quota) < MAX_SUBJECTS / 2, "what is past is forgotten"


@pytest.mark.parametrize("count", [1, 3])
def test_what_is_everyday_is_told_at_debug_alone(count: int) -> None:
    """L04: retransmissions are no news, however many there are."""
    lines = written(*[(DuplicateInFlight("again"), "192.0.2.1", 0.0)] * count)
    assert [line["log_level"] for line in lines] == ["debug"] * count

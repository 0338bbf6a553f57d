"""Retransmissions: the same octets again, no second effect, and a bound on what is kept."""

import gc

import pytest

from radius_mfa.errors import DuplicateInFlight, Overloaded
from radius_mfa.protocol.duplicates import REPLY_CACHE_SECONDS, DuplicateCache, Entry, Source

NOW = 1_000.0
NAS: Source = ("192.0.2.1", 40_000, 7, "192.0.2.99:1812")
ONE, OTHER = b"1" * 16, b"2" * 16


def source(number: int) -> Source:
    return ("192.0.2.1", 40_000 + number, 7, "192.0.2.99:1812")


def answered(
    cache: DuplicateCache, asked: Source = NAS, authenticator: bytes = ONE, now: float = NOW
) -> Entry:
    entry = cache.begin(asked, authenticator, now)
    assert cache.finish(asked, entry, b"reply to " + authenticator, now)
    return entry


def is_known(
    cache: DuplicateCache, asked: Source = NAS, authenticator: bytes = ONE, now: float = NOW
) -> bool:
    """Return whether *asked* is a repeat; where it is not, nothing of the question is kept."""
    entry = cache.begin(asked, authenticator, now)
    if entry.reply is None:
        cache.abandon(asked, entry)
        return False
    assert entry.reply == b"reply to " + authenticator
    return True


def test_a_repeat_in_flight_is_silent_each_time() -> None:
    """D02: and the request is still answered once."""
    cache = DuplicateCache()
    entry = cache.begin(NAS, ONE, NOW)
    for later in (0, 3, 3600):
        with pytest.raises(DuplicateInFlight):
            cache.begin(NAS, ONE, NOW + later)
    assert entry.duplicates == 3
    assert cache.finish(NAS, entry, b"reply", NOW)


def test_a_repeat_after_the_reply_gets_the_same_octets() -> None:
    """D01, D06, D07: as often as it comes; the log can say how often that was."""
    cache = DuplicateCache()
    entry = answered(cache)
    for times in range(1, 4):
        again = cache.begin(NAS, ONE, NOW + times)
        assert again is entry
        assert again.reply == b"reply to " + ONE
        assert again.duplicates == times


@pytest.mark.parametrize(
    "stranger",
    [
        ("192.0.2.2", *NAS[1:]),
        (NAS[0], 40_001, *NAS[2:]),
        (*NAS[:2], 8, NAS[3]),
        (*NAS[:3], "192.0.2.98:1812"),
        (*NAS[:3], "192.0.2.99:1645"),
    ],
)
def test_another_address_port_identifier_or_socket_is_another_request(stranger: Source) -> None:
    """D01: RFC 5080 section 2.2.2: a repeat shares them all."""
    cache = DuplicateCache()
    answered(cache)
    assert not is_known(cache, stranger)
    assert is_known(cache)


@pytest.mark.parametrize(
    ("seconds", "known"), [(0, True), (10, True), (29.999, True), (30, False), (31, False)]
)
def test_a_reply_is_kept_for_30_seconds(seconds: float, known: bool) -> None:  # noqa: FBT001
    """D03: ocserv repeats after 20 s; RFC 5080 section 2.2.2 ends it at 30."""
    cache = DuplicateCache()
    answered(cache)
    assert is_known(cache, now=NOW + seconds) is known
    assert len(cache) == int(known)
    assert REPLY_CACHE_SECONDS == 30


def test_the_time_counts_from_the_reply() -> None:
    """D03: a slow backend does not use it up."""
    cache = DuplicateCache(reply_cache_seconds=10)
    entry = cache.begin(NAS, ONE, NOW)
    cache.finish(NAS, entry, b"reply to " + ONE, NOW + 100)
    assert is_known(cache, now=NOW + 109)
    assert not is_known(cache, now=NOW + 110)


def test_a_repeat_does_not_prolong_it() -> None:
    """D03."""
    cache = DuplicateCache()
    answered(cache)
    assert is_known(cache, now=NOW + 29)
    assert not is_known(cache, now=NOW + 31)


def test_replies_are_forgotten_each_in_its_time() -> None:
    cache = DuplicateCache()
    for number in range(5):
        answered(cache, source(number), now=NOW + number)
    cache.begin(NAS, OTHER, NOW + REPLY_CACHE_SECONDS + 2)
    known = [is_known(cache, source(number), now=NOW + 32) for number in range(1, 5)]
    assert known == [False, False, True, True]


def test_another_authenticator_replaces_the_request_in_flight() -> None:
    """D04: its late reply is not sent, and does not become that of the new request."""
    cache = DuplicateCache()
    old = cache.begin(NAS, ONE, NOW)
    new = cache.begin(NAS, OTHER, NOW)
    assert new is not old
    assert not cache.finish(NAS, old, b"late", NOW)
    assert old.reply is None
    with pytest.raises(DuplicateInFlight):
        cache.begin(NAS, OTHER, NOW)
    assert cache.finish(NAS, new, b"reply to " + OTHER, NOW)
    assert is_known(cache, authenticator=OTHER)


def test_another_authenticator_replaces_the_cached_reply() -> None:
    """D04: and the old reply's time does not end the new one's."""
    cache = DuplicateCache()
    answered(cache)
    answered(cache, authenticator=OTHER, now=NOW + 20)
    assert is_known(cache, authenticator=OTHER, now=NOW + 45)
    assert len(cache) == 1


def test_the_end_of_a_replaced_reply_leaves_a_request_in_flight_alone() -> None:
    """D02, D04."""
    cache = DuplicateCache()
    answered(cache)
    entry = cache.begin(NAS, OTHER, NOW + 20)
    with pytest.raises(DuplicateInFlight):
        cache.begin(NAS, OTHER, NOW + 40)
    assert cache.finish(NAS, entry, b"reply", NOW + 41)


def test_a_request_without_a_reply_leaves_nothing() -> None:
    """D05, rule 9: its repeat is a fresh try."""
    cache = DuplicateCache()
    entry = cache.begin(NAS, ONE, NOW)
    cache.abandon(NAS, entry)
    assert len(cache) == 0
    assert not cache.finish(NAS, entry, b"late", NOW)
    assert not is_known(cache)


def test_giving_up_a_replaced_request_leaves_the_new_one() -> None:
    """D04."""
    cache = DuplicateCache()
    old = cache.begin(NAS, ONE, NOW)
    new = cache.begin(NAS, OTHER, NOW)
    cache.abandon(NAS, old)
    assert cache.finish(NAS, new, b"reply to " + OTHER, NOW)
    assert is_known(cache, authenticator=OTHER)


def test_giving_up_an_answered_request_forgets_it_whole() -> None:
    cache = DuplicateCache()
    cache.abandon(NAS, answered(cache))
    answered(cache, source(1), now=NOW + 40)
    assert not is_known(cache, now=NOW + 80)
    assert len(cache) == 0


def test_a_flood_can_not_evict_what_is_in_flight() -> None:
    """D10: the flood is discarded instead, until something is finished."""
    cache = DuplicateCache(max_entries=3)
    entries = [cache.begin(source(number), ONE, NOW) for number in range(3)]
    for number in range(3, 50):
        with pytest.raises(Overloaded):
            cache.begin(source(number), ONE, NOW)
    for number in range(3):
        with pytest.raises(DuplicateInFlight):
            cache.begin(source(number), ONE, NOW)
    assert cache.finish(source(1), entries[1], b"reply", NOW)
    cache.begin(source(3), ONE, NOW)
    assert len(cache) == 3
    assert cache.finish(source(0), entries[0], b"reply", NOW)


def test_a_full_cache_forgets_the_oldest_reply_first() -> None:
    """D10."""
    cache = DuplicateCache(max_entries=3)
    for number in range(3):
        answered(cache, source(number), now=NOW + number)
    assert is_known(cache, source(0), now=NOW + 3), "asking again does not make it younger"
    answered(cache, source(3), now=NOW + 3)
    assert len(cache) == 3
    assert [is_known(cache, source(number), now=NOW + 4) for number in (1, 2, 3)] == [True] * 3
    assert not is_known(cache, source(0), now=NOW + 4)


def test_a_full_cache_still_lets_a_nas_reuse_its_identifier() -> None:
    """D04, D10: replacing needs no room."""
    cache = DuplicateCache(max_entries=2)
    old = cache.begin(source(0), ONE, NOW)
    cache.begin(source(1), ONE, NOW)
    new = cache.begin(source(0), OTHER, NOW)
    assert not cache.finish(source(0), old, b"late", NOW)
    assert cache.finish(source(0), new, b"reply", NOW)
    assert len(cache) == 2


def test_a_nas_that_reuses_its_identifiers_fills_no_memory() -> None:
    """D10: 256 Identifiers of one port last a busy NAS for milliseconds, a reply for 30 s."""
    cache = DuplicateCache()
    before = sum(isinstance(thing, Entry) for thing in gc.get_objects())
    for number in range(1_000):
        answered(cache, authenticator=number.to_bytes(16, "big"))
    after = sum(isinstance(thing, Entry) for thing in gc.get_objects())
    assert after - before == 1
    assert len(cache) == 1


def test_an_entry_does_not_show_its_octets() -> None:
    """L01: a reply holds attributes of the user."""
    shown = repr(answered(DuplicateCache()))
    assert "reply to" not in shown
    assert "111" not in shown

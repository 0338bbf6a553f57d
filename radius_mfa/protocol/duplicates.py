"""Retransmissions: in-flight marks and cached replies (RFC 5080 section 2.2.2).

One entry for each (source address, source port, Identifier, local address); the Request
Authenticator tells a retransmission from a new request. Checklist D01 to D05, D10.
"""

from collections import OrderedDict
from dataclasses import dataclass, field

from radius_mfa.errors import DuplicateInFlight, Overloaded

REPLY_CACHE_SECONDS = 30.0  # upper bound of RFC 5080 section 2.2.2; ocserv repeats after 20 s

Source = tuple[str, int, int, str]
"""Source address, source port, Identifier, local address and port."""


@dataclass(slots=True, eq=False)
class Entry:
    """A request that is being worked on (*reply* is None), or was answered."""

    authenticator: bytes = field(repr=False)
    reply: bytes | None = field(default=None, repr=False)
    duplicates: int = 0


class DuplicateCache:
    """Remembers every request until *reply_cache_seconds* after its reply.

    An in-flight entry never yields to a flood; a cached reply does, oldest first.
    """

    def __init__(
        self, reply_cache_seconds: float = REPLY_CACHE_SECONDS, max_entries: int = 65_536
    ) -> None:
        self._seconds = reply_cache_seconds
        self._max_entries = max_entries
        self._entries: dict[Source, Entry] = {}
        self._expiry_of_answered: OrderedDict[Source, float] = OrderedDict()  # soonest first

    def __len__(self) -> int:
        return len(self._entries)

    def begin(self, source: Source, authenticator: bytes, now: float) -> Entry:
        """Return the entry of a request: a new one to work on, or one that holds its reply.

        Raises DuplicateInFlight for a retransmission of a request still being worked on. A
        different authenticator replaces the entry: the NAS has given up on the old request, and
        its late reply will not be sent.
        """
        self._forget_expired(now)
        entry = self._entries.get(source)
        if entry is not None and entry.authenticator == authenticator:
            entry.duplicates += 1
            if entry.reply is None:
                raise DuplicateInFlight("retransmitted while the request is being worked on")
            return entry
        if entry is None and len(self._entries) >= self._max_entries:
            self._make_room()
        self._expiry_of_answered.pop(source, None)
        fresh = self._entries[source] = Entry(authenticator)
        return fresh

    def finish(self, source: Source, entry: Entry, reply: bytes, now: float) -> bool:
        """Cache *reply*; return whether it may be sent, that is, *entry* was not replaced."""
        if self._entries.get(source) is not entry:
            return False
        entry.reply = reply
        self._expiry_of_answered[source] = now + self._seconds
        return True

    def abandon(self, source: Source, entry: Entry) -> None:
        """Forget a request that gets no reply, so that its retransmission is a fresh try."""
        if self._entries.get(source) is entry:
            del self._entries[source]
            self._expiry_of_answered.pop(source, None)

    def _forget_expired(self, now: float) -> None:
        while self._expiry_of_answered and next(iter(self._expiry_of_answered.values())) <= now:
            self._forget_oldest()

    def _make_room(self) -> None:
        if not self._expiry_of_answered:
            raise Overloaded(f"{self._max_entries} requests are in flight")
        self._forget_oldest()

    def _forget_oldest(self) -> None:
        source, _ = self._expiry_of_answered.popitem(last=False)
        del self._entries[source]

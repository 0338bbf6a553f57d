"""A backend that fails: the cure in an operator's words, and as many lines as anyone reads."""

from collections import Counter

from radius_mfa.errors import BackendUnavailable

INTERVAL_SECONDS = 10.0
MAX_LINES = 50
"""So many unanswered logins of one backend get their line in this time; the others are counted."""

CURES = {
    "redis": "is redis.url right, and does the server run?",
    "redis TimeoutError": "no answer within redis.timeout_seconds: is it overloaded "
    "(redis-cli slowlog get), or the way to it cut?",
    "redis BusyLoadingError": "Redis is reading in its data, and answers by itself afterwards",
    "redis ReadOnlyError": "redis.url leads to a replica, which can't write: name the primary",
    "redis OutOfMemoryError": "Redis is full: raise its maxmemory, or see what else fills it",
    "redis MISCONF": "Redis can't write its file: make room on its disk",
    "redis AuthenticationError": "is redis.password right?",
    "database": "is database.url right, and does the server run?",
    "database TimeoutError": "no answer within database.timeout_seconds: is it overloaded, "
    "or the way to it cut?",
    "database SQLITE_FULL": "the disk is full: make room in the data folder",
    "database SQLITE_BUSY": "another program holds the file: a backup, or an open sqlite3 shell?",
    "hashing": "more logins than directory.local.hash_threads can hash",
    "directory": "see: radius-mfa directory test",
    "deadline": "a backend is slow: the times in this line say which",
    "keyring": "a device is encrypted under a key that the key ring does not hold",
}
"""By backend and cause; by backend alone for every other cause."""


def cure(error: BackendUnavailable) -> str:
    """Return what an operator can do about *error*, or nothing where it is anyone's guess."""
    return CURES.get(f"{error.backend} {error.cause}", CURES.get(error.backend, ""))


class Outage:
    """What was said of one backend's absence: each cause is news once, until it is back."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def is_news(self, error: BackendUnavailable) -> bool:
        """Note that the backend is away; return whether that should be said."""
        news = error.cause not in self._told
        self._told.add(error.cause)
        return news

    def ends(self) -> bool:
        """Note that the backend answers; return whether that is news."""
        news, self._told = bool(self._told), set()
        return news


class LineQuota:
    """Bounds how many lines say the same: a storm of repeats must not fill the disk."""

    def __init__(self) -> None:
        self._ends: dict[str, float] = {}
        self._lines: Counter[str] = Counter()
        self._suppressed: Counter[str] = Counter()

    def take(self, subject: str, now: float) -> int | None:
        """Return how many lines were held back before this one; None to hold this back too.

        *now* is monotonic, in seconds.
        """
        if now >= self._ends.get(subject, now):
            self._ends[subject] = now + INTERVAL_SECONDS
            self._lines[subject] = 0
        self._lines[subject] += 1
        if self._lines[subject] > MAX_LINES:
            self._suppressed[subject] += 1
            return None
        return self._suppressed.pop(subject, 0)

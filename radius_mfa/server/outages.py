"""A backend that fails: the cure in an operator's words, and each cause told once."""

from radius_mfa.errors import BackendUnavailable

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
    "mail": "see: radius-mfa mail test ADDRESS",
    "mail no answer in time": "is a firewall in the way, or mail.timeout_seconds too short?",
    "mail its name is not known": "is mail.host right, and does DNS answer?",
    "mail connection refused": "are mail.host and mail.port right, and does the server run?",
    "mail it offers no STARTTLS": "somebody may be in the way; if the server really has none: "
    'mail.tls = "tls" or "none"',
    "mail no TLS on this port": 'mail.tls = "starttls" is for ports 25 and 587, "tls" for 465',
    "mail its certificate is refused": "name its authority in mail.ca_file, and the server in "
    "mail.host as its certificate does",
    "mail the login is refused": "are mail.username and mail.password right?",
    "mail it offers no login": "remove mail.username, or let the server offer AUTH here",
    "mail the sender is refused": "may this account send as mail.from_address?",
    "deadline": "a backend is slow: the times in this line say which",
    "keyring": "a device is encrypted under a key that the key ring does not hold",
}
"""By backend and cause; by backend alone for every other cause."""


def cure(error: BackendUnavailable) -> str:
    """Return what an operator can do about *error*, or nothing where it is anyone's guess."""
    cause = error.cause.partition(":")[0]
    return CURES.get(f"{error.backend} {cause}", CURES.get(error.backend, ""))


class Outage:
    """What was said of one backend's absence: each cause is news once, until it is back."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    @property
    def over(self) -> bool:
        """Whether the backend answers, as far as anybody knows."""
        return not self._told

    def is_news(self, error: BackendUnavailable) -> bool:
        """Note that the backend is away; return whether that should be said."""
        news = error.cause not in self._told
        self._told.add(error.cause)
        return news

    def ends(self) -> bool:
        """Note that the backend answers; return whether that is news."""
        news, self._told = bool(self._told), set()
        return news

"""What the login asks of its backends; each method may raise BackendUnavailable."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import field
from enum import Enum, auto
from typing import Protocol

from radius_mfa.errors import BackendUnavailable
from radius_mfa.policy.access import Enrolment
from radius_mfa.policy.decision import Decision
from radius_mfa.policy.groups import Group
from radius_mfa.policy.requirement import Requirement
from radius_mfa.policy.totp import Match
from radius_mfa.values import value


@value
class VerdictKey:
    """A name under which the verdict on one login is shared, for *ttl_ms* milliseconds.

    *digest* is keyed, so that a copy of Redis tells nothing of the password in it.
    """

    digest: str
    ttl_ms: int


@value
class Subject:
    """Whose attempt this is: the canonical user, and the source they try from.

    *source* is ``client|station``. *state* is the keyed digest of the State that is answered.
    """

    user: str
    source: str
    state: str = ""


@value
class PendingChallenge:
    """A challenge on record: its password was right, its code is missing.

    *digest* is the keyed digest of its State. Void under another *generation* of the user; *tries*
    is how many codes may still be tried, 0 where it was answered. *verdicts* are the digests by
    which other packets than its own met it, until its answer. Kept for *ttl_ms* milliseconds.
    """

    digest: str
    generation: str
    tries: int
    source: str
    verdicts: tuple[str, ...] = ()
    ttl_ms: int = 0


@value
class Loaded:
    """All that Redis knows of a subject, from one round trip.

    *enrolment* is None where it is not cached; it may be cached again only under *generation*.
    *challenge* is the one that the subject's State names, if it is this user's; where the subject
    has no station, what is locked is that of the challenge's.
    *used_steps* maps a device id to its last accepted time step. *locked_until* is Unix
    milliseconds, 0 where nothing is locked, -1 until an admin unlocks. Codes of time steps up to
    *forgotten_until* (Unix seconds, 0 for never) may have been used before Redis lost its memory.
    """

    epoch: str
    generation: str
    enrolment: Enrolment | None
    used_steps: dict[str, int] = field(default_factory=dict)
    locked_until: int = 0
    forgotten_until: float = 0
    verdict: Decision | None = None
    challenge: PendingChallenge | None = None


@value
class RecoveryMatch:
    """A recovery code on record that was typed; *used* by another login than the present one."""

    code_id: str
    code: str = field(repr=False)
    used: bool = False


@value
class Settlement:
    """What the login has come to, to be made final atomically.

    *match* is the time step to consume and stands with an Accept by code alone. *counted* says
    whether a reject, also one that the settlement itself finds, counts as a failure;
    *wrong_value* is the keyed digest of the value that was typed. *recovery* is the recovery code
    that was consumed for it, to be given back should the settlement turn the Accept away.
    *answers* is the challenge that ends with it, *gives* the one that goes out with it.
    """

    decision: Decision
    match: Match | None = None
    counted: bool = False
    wrong_value: str = ""
    recovery: RecoveryMatch | None = None
    answers: PendingChallenge | None = None
    gives: PendingChallenge | None = None


@value
class Settled:
    """The final word. *shared* says that another node or an earlier packet had it first.

    *locked_until* is set where the user was found locked, or where this failure locked them.
    """

    decision: Decision
    shared: bool = False
    locked_until: int = 0


class Attempts(Protocol):
    """Working memory of the whole cluster: failures, locks, used time steps, verdicts."""

    async def load(
        self, subject: Subject, verdict_keys: Sequence[VerdictKey], now: float
    ) -> Loaded:
        """Return what is known of *subject*, in one round trip."""
        ...

    async def remember(self, user: str, enrolment: Enrolment, loaded: Loaded) -> None:
        """Cache *enrolment*, unless the user was changed since *loaded*."""
        ...

    async def settle(
        self,
        subject: Subject,
        settlement: Settlement,
        loaded: Loaded,
        verdict_keys: Sequence[VerdictKey],
        now: float,
    ) -> Settled:
        """Make *settlement* final in one atomic step, if nothing has come before it.

        An earlier verdict on the same login, a lock, a challenge answered already, or a time step
        already used wins. Where a failure closes a lock, no challenge is given.
        """
        ...


class Enrolments(Protocol):
    """Durable records of users' second factors."""

    async def fetch(self, user: str) -> Enrolment:
        """Return what is on record of *user*; an unknown user is an Enrolment not known."""
        ...


class RecoveryCodes(Protocol):
    """Recovery codes on record. *login* names one login, so that its retransmission is no other."""

    async def find(
        self, user: str, codes: Sequence[str], login: str, now: float
    ) -> RecoveryMatch | None:
        """Return the code of *user* that is one of *codes*, or None."""
        ...

    async def consume(self, match: RecoveryMatch, login: str, now: float) -> bool:
        """Use a code, in one atomic step; return False where another login was faster."""
        ...

    async def release(self, match: RecoveryMatch, login: str) -> None:
        """Give back a code that *login* used, and was refused all the same."""
        ...


@value
class Prospect:
    """Of how many *users* a second factor is *required* already, and how many are *new* here."""

    users: int
    required: int
    new: int


class EnrolmentRecords(Protocol):
    """What admins change of users' second factors; every change is on the audit trail.

    A *change* is one of ``policy.requirement``. *detail* is for the trail and holds no secret.
    """

    async def change_requirements(
        self,
        users: Sequence[str],
        act: str,
        change: Callable[[Requirement], Requirement],
        newcomers: Sequence["Identity"] = (),
        **detail: object,
    ) -> list[str]:
        """Apply *change* to each of *users*; return whom it changed. Refused for unknown ones.

        Those of *newcomers*, users of other directories, are put on record where they are not.
        """
        ...

    async def prospect(self, users: Sequence[str]) -> "Prospect":
        """Return how *users* stand before anything is asked of them."""
        ...

    async def reset(
        self, users: Sequence[str], change: Callable[[Requirement], Requirement], **detail: object
    ) -> list[str]:
        """End every device and recovery code of *users*, and apply *change* to each."""
        ...

    async def suspend(self, users: Sequence[str], *, suspended: bool) -> list[str]:
        """Refuse every login of *users* from now on, or no longer; return whom it changed."""
        ...

    async def note_each(
        self, users: Sequence[str], act: str, work: Callable[[str], Awaitable[None]]
    ) -> list[str]:
        """Do *work* to each of *users* elsewhere; put on the trail to whom, and return them."""
        ...


class Unlocking(Protocol):
    """Where failures are counted."""

    async def unlock(self, user: str) -> None:
        """Forget all failures of *user*."""
        ...


class PasswordVerdict(Enum):
    """A directory's definite answer."""

    RIGHT = auto()
    ONE_TIME = auto()  # right, and good for nothing but choosing another one
    WRONG = auto()
    UNKNOWN_USER = auto()
    AMBIGUOUS = auto()
    DISABLED = auto()
    EXPIRED = auto()
    LOCKED = auto()
    MUST_CHANGE = auto()
    PASSWORD_EXPIRED = auto()
    RESTRICTED = auto()


LOCAL = "local"
"""The name of the directory of this server itself."""


KEY_PREFIX = "LDAP/"
"""What keys of directory users begin with. In capitals: no name that can be typed is a key."""


@value
class Identity:
    """Who a name stands for.

    *key* is the one key of the user for seed, replay, lockout and cache, whatever was typed and
    however the user is renamed; *name* is for people. *directory* is empty for a name that nobody
    has. *state* says why the directory would let nobody in as this user.
    *mail* is the address that the directory gives, empty where it gives none that will do.
    *dn* is where the directory has the user, or had where it is *kept* from an earlier login.
    """

    key: str
    name: str
    directory: str = ""
    state: PasswordVerdict | None = None
    dn: str = ""
    kept: bool = False
    mail: str = ""


NOBODY = Identity("", "")
"""Whose login it is where what was typed is no name."""


class UserMoved(BackendUnavailable):
    """The entry that a user was known by stands elsewhere now, so nothing was proved."""


class Directory(Protocol):
    """Where passwords live."""

    async def identify(self, user_name: str) -> Identity:
        """Return whom *user_name* stands for; a name nobody has stands for itself.

        Raises InvalidUserNameError for what can't be a name.
        """
        ...

    async def verify(self, user: Identity, password: str, enrolment: Enrolment) -> PasswordVerdict:
        """Return whether *password* is the user's; an unknown user costs as much as a known one."""
        ...

    async def groups(self, user: Identity) -> Sequence[Group]:
        """Return the groups that the directory knows of *user*, nested ones too."""
        ...

    async def attributes(
        self, user: Identity, names: Collection[str]
    ) -> Mapping[str, Sequence[str]]:
        """Return the values of *names* (lower case) in the user's entry; what it lacks is left out.

        Octets that are no UTF-8 are lone surrogates (PEP 383).
        """
        ...

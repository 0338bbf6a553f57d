"""Which directory a user is in: by the realm that was typed, else in order until one knows them.

Found, not bound: a wrong password in one directory is never tried in the next. A name is asked
about once in a while, and what came of it is kept in this process's memory for a short time.
"""

from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from time import monotonic
from typing import TYPE_CHECKING, Generic, TypeVar

from radius_mfa.errors import BackendUnavailable
from radius_mfa.policy.access import Enrolment
from radius_mfa.policy.groups import Group
from radius_mfa.policy.identity import canonical_user, realm_split
from radius_mfa.stores.directory_local import LocalDirectory
from radius_mfa.stores.interfaces import LOCAL, Identity, PasswordVerdict, UserMoved

if TYPE_CHECKING:  # python-ldap is an extra
    from radius_mfa.stores.directory_ldap import LdapDirectory

T = TypeVar("T")

LOCAL_SECONDS = 60.0
"""How long it is kept that a name is a local user's."""

KEPT_USERS = 20_000
KEPT_STRANGERS = 2_000
"""Anyone can make up names: those that nobody has push out no user."""

DOUBTFUL_SECONDS = 5.0
"""How long nobody's names, and accounts that can't be used, are kept: somebody may mend them."""

MAX_KEPT_VALUES = 50_000
"""Groups of users, and values of their attributes, that are kept: some 20 MB at most."""

STALE_SECONDS = 86_400.0
"""How long an answer may stand in for a directory that does not answer."""


@dataclass(frozen=True, slots=True)
class _Kept:
    identity: Identity
    ends: float
    stale_ends: float


class _Memory(Generic[T]):
    """Answers for a while; the oldest make room where there would be more than *limit* in them."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        self._kept: OrderedDict[str, tuple[T, float, int]] = OrderedDict()

    def get(self, key: str, now: float) -> T | None:
        """Return what is kept under *key* and has not ended."""
        value, ends, _ = self._kept.get(key, (None, 0.0, 0))
        return value if now < ends else None

    def keep(self, key: str, value: T, ends: float, weight: int) -> None:
        """Keep *value*; an empty one weighs something too."""
        self._held -= self._kept.pop(key, (None, 0.0, 0))[2]
        self._kept[key] = value, ends, weight + 1
        self._held += weight + 1
        while self._held > self._limit:
            self._held -= self._kept.popitem(last=False)[1][2]


class Directories:
    """The Directory of production: the local one, and any number of LDAP ones."""

    def __init__(
        self,
        local: LocalDirectory,
        ldap: "Sequence[LdapDirectory]" = (),
        *,
        local_realms: Collection[str] = (),
    ) -> None:
        self.local = local
        self.ldap = ldap
        self._local_realms = frozenset(local_realms)
        self._by_name = {one.name: one for one in ldap}
        self._by_realm = {realm: one for one in ldap for realm in one.options.realms}
        self._seconds = {one.name: one.options.lookup_cache_seconds for one in ldap}
        self._seconds[LOCAL] = LOCAL_SECONDS
        self._users: OrderedDict[str, _Kept] = OrderedDict()
        self._strangers: OrderedDict[str, _Kept] = OrderedDict()
        self._groups = _Memory[Sequence[Group]](MAX_KEPT_VALUES)
        self._attributes = _Memory[Mapping[str, Sequence[str]]](MAX_KEPT_VALUES)

    async def identify(self, user_name: str) -> Identity:
        """Return whom *user_name* stands for.

        Raises InvalidUserNameError, and BackendUnavailable where a directory that may hold the
        user does not answer: to pass it over could take the user for somebody else.
        """
        name = canonical_user(user_name, self._local_realms)
        if not self.ldap:
            return Identity(name, name, LOCAL)
        typed = canonical_user(user_name)
        if typed != name:  # a realm of the local directory
            return Identity(name, name, LOCAL)
        now = monotonic()
        kept = self._users.get(typed) or self._strangers.get(typed)
        if kept is not None and now < kept.ends:
            return kept.identity
        try:
            identity = await self.looked_up(typed)
        except BackendUnavailable:
            if kept is None or now > kept.stale_ends:
                raise
            return kept.identity
        self._keep(typed, identity, now)
        return identity

    async def looked_up(self, name: str) -> Identity:
        """Return whom the canonical *name* stands for, without looking at what is kept."""
        owner = self._by_realm.get(realm_split(name)[1])
        if owner is None:
            return await self._in_order(name)
        return await owner.find(name) or Identity(name, name)

    async def _in_order(self, name: str) -> Identity:
        """Return whom a *name* without a realm stands for.

        The local directory comes first. Where it had no such name a while ago it is asked last,
        so that SQL is asked of those alone whom no other directory has.
        """
        asked_last, local = await self.local.lacked(name), Identity(name, name, LOCAL)
        if not asked_last and await self.local.holds(name):
            return local
        try:
            for directory in self.ldap:
                found = await directory.find(name)
                if found is not None:
                    return found
        except BackendUnavailable:
            if asked_last and await self.local.holds(name):
                return local
            raise
        return local if asked_last and await self.local.holds(name) else Identity(name, name)

    def _keep(self, name: str, identity: Identity, now: float) -> None:
        kept, others, limit = self._users, self._strangers, KEPT_USERS
        seconds, stale_seconds = self._seconds.get(identity.directory, 0.0), STALE_SECONDS
        if identity.directory not in self._seconds:
            kept, others, limit = self._strangers, self._users, KEPT_STRANGERS
            seconds, stale_seconds = DOUBTFUL_SECONDS, 0.0
        elif identity.state is not None:
            seconds = min(seconds, DOUBTFUL_SECONDS)
        others.pop(name, None)
        kept[name] = _Kept(replace(identity, kept=True), now + seconds, now + stale_seconds)
        kept.move_to_end(name)
        if len(kept) > limit:
            kept.popitem(last=False)

    async def verify(self, user: Identity, password: str, enrolment: Enrolment) -> PasswordVerdict:
        """Return whether *password* is the user's, by at most one bind."""
        directory = self._by_name.get(user.directory)
        if directory is None:
            return await self.local.verify(user.key, password, enrolment)
        with self._noticing_moves(user):
            return await directory.verify(user, password)

    async def groups(self, user: Identity) -> Sequence[Group]:
        """Return the groups that a directory knows of *user*; kept as long as who they are is."""
        directory = self._by_name.get(user.directory)
        if directory is None:
            return ()
        kept = self._groups.get(user.dn, monotonic())
        if kept is None:
            with self._noticing_moves(user):
                kept = await directory.groups(user)
            self._groups.keep(user.dn, kept, monotonic() + self._seconds[user.directory], len(kept))
        return kept

    async def attributes(
        self, user: Identity, names: Collection[str]
    ) -> Mapping[str, Sequence[str]]:
        """Return what a directory has of *user* under *names*; kept like the groups."""
        directory = self._by_name.get(user.directory)
        if directory is None:
            return {}
        key = "\0".join([user.dn, *sorted(names)])
        kept = self._attributes.get(key, monotonic())
        if kept is None:
            with self._noticing_moves(user):
                kept = await directory.attributes(user, names)
            weight = sum(map(len, kept.values()))
            self._attributes.keep(key, kept, monotonic() + self._seconds[user.directory], weight)
        return kept

    @contextmanager
    def _noticing_moves(self, user: Identity) -> Iterator[None]:
        """Forget where *user* stood if the block finds that they are there no more."""
        try:
            yield
        except UserMoved:
            for name in [name for name, kept in self._users.items() if kept.identity == user]:
                del self._users[name]
            raise

    async def close(self) -> None:
        """Close every connection."""
        for directory in self.ldap:
            await directory.close()

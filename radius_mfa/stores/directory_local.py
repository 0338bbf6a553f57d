"""The local directory: passwords in SQL, hashed with argon2id.

What is kept in memory is bound to the version of the user's record, which every login brings
from Redis: a changed password is noticed at once, and the warm path asks SQL nothing.
"""

import hashlib
import hmac
import secrets
import unicodedata
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from time import monotonic

from sqlalchemy import Select, select, update

from radius_mfa.errors import BackendUnavailable, Refused
from radius_mfa.policy.access import Enrolment
from radius_mfa.stores.enrolments import EnrolmentStore
from radius_mfa.stores.hashing import Hashing
from radius_mfa.stores.interfaces import PasswordVerdict
from radius_mfa.stores.records import AdminRecord, LocalUser, MfaUser, utc_now

REMEMBERED_USERS = 100_000

NAMES_SECONDS = 60.0
"""How long the names on record are kept where there are few of them."""

FEW_NAMES = 1_000


@dataclass(slots=True)
class _Remembered:
    """A user's hash at a version of their record, and the credential that last proved right.

    *right* is the verdict on the right password.
    """

    version: int
    password_hash: str | None
    right: PasswordVerdict
    proof: bytes = b""
    proof_ends: float = 0.0


class LocalDirectory:
    """The Directory over ``local_user``.

    *credential_cache_seconds* above 0 spares the hashing of a password proved right that
    recently: a keyed hash of it, bound to the stored hash, in this process's memory only.
    """

    def __init__(
        self, enrolments: EnrolmentStore, hashing: Hashing, *, credential_cache_seconds: float = 0
    ) -> None:
        self._enrolments = enrolments
        self.hashing = hashing
        self._cache_seconds = credential_cache_seconds
        self._cache_key = secrets.token_bytes(32)
        self._remembered: OrderedDict[str, _Remembered] = OrderedDict()
        self._names: frozenset[str] | None = None
        self._names_end = 0.0

    async def holds(self, user: str) -> bool:
        """Return whether *user* is on record here."""
        async with self._enrolments.database.session() as session:
            record = await session.get(MfaUser, user)
        return record is not None

    async def lacked(self, user: str) -> bool:
        """Return whether *user* was not on record within the last NAMES_SECONDS.

        False where that is not known: with more than FEW_NAMES, or without an answer so far.
        """
        now = monotonic()
        if now >= self._names_end:
            self._names_end = now + NAMES_SECONDS  # who comes meanwhile goes by the old ones
            with suppress(BackendUnavailable):
                self._names = await self._few_names()
        return self._names is not None and user not in self._names

    async def _few_names(self) -> frozenset[str] | None:
        query = select(MfaUser.name).where(MfaUser.directory.is_(None)).limit(FEW_NAMES + 1)
        async with self._enrolments.database.session() as session:
            names = frozenset(await session.scalars(query))
        return names if len(names) <= FEW_NAMES else None

    async def verify(self, user: str, password: str, enrolment: Enrolment) -> PasswordVerdict:
        """Return whether *password* is the user's; an unknown user costs as much as a known one."""
        password = normalised(password)
        known = await self._known(user, enrolment.version)
        proof = self._proof(user, known.password_hash, password)
        if monotonic() < known.proof_ends and hmac.compare_digest(proof, known.proof):
            return known.right
        right = await self.hashing.verified(known.password_hash, password)
        if known.password_hash is None:
            return PasswordVerdict.UNKNOWN_USER
        if not right:
            return PasswordVerdict.WRONG
        if self._cache_seconds:
            known.proof, known.proof_ends = proof, monotonic() + self._cache_seconds
        if self.hashing.outdated(known.password_hash):
            with suppress(BackendUnavailable):  # the login is right; the next one may rehash
                await self._rehash(user, known, password)
        return known.right

    async def add(
        self, user: str, password: str, groups: Sequence[str] = (), mail: str | None = None
    ) -> None:
        """Put a new user on record, in *groups*."""
        await self._enrolments.add_user(user, await self.hashed(password), groups, mail)

    async def hashed(self, password: str) -> str:
        """Return the hash of *password* as it is stored."""
        return await self.hashing.hashed(normalised(password))

    async def set_password(self, user: str, password: str) -> None:
        """Give *user* a new password; Refused where the password is not kept here."""
        password_hash = await self.hashed(password)
        async with self._enrolments.change(user, "user.password") as session:
            record = await session.get(LocalUser, user)
            if record is None:
                raise Refused(f"the password of {user} is not kept here", "change it where it is")
            record.password_hash, record.password_changed_at = password_hash, utc_now()

    async def _known(self, user: str, version: int) -> _Remembered:
        known = self._remembered.get(user)
        if known is None or known.version != version:
            async with self._enrolments.database.session() as session:
                found = (await session.execute(_of_user(user))).one_or_none()
            password_hash, one_time_until = found or (None, None)
            right = PasswordVerdict.RIGHT if one_time_until is None else PasswordVerdict.ONE_TIME
            known = _Remembered(version, password_hash, right)
            self._remembered[user] = known
            if len(self._remembered) > REMEMBERED_USERS:
                self._remembered.popitem(last=False)
        self._remembered.move_to_end(user)
        return known

    def _proof(self, user: str, password_hash: str | None, password: str) -> bytes:
        unambiguous = repr((user, password_hash, password)).encode()  # says where each part ends
        return hashlib.blake2b(unambiguous, key=self._cache_key, digest_size=32).digest()

    async def _rehash(self, user: str, known: _Remembered, password: str) -> None:
        """Store the hash anew under today's parameters, if it is still the one just verified."""
        fresh = await self.hashing.hashed(password)
        async with self._enrolments.database.session() as session, session.begin():
            await session.execute(
                update(LocalUser)
                .where(LocalUser.name == user, LocalUser.password_hash == known.password_hash)
                .values(password_hash=fresh)
            )
        self._remembered.pop(user, None)


def _of_user(user: str) -> Select[str, datetime | None]:
    """Return the query for the hash of a user, and until when the password is a one-time one."""
    columns = LocalUser.password_hash, AdminRecord.one_time_until
    joined = AdminRecord.user == LocalUser.name
    return select(*columns).outerjoin(AdminRecord, joined).where(LocalUser.name == user)


def normalised(password: str) -> str:
    """Return *password* in Unicode form NFC, as RFC 8265 section 4.2 has it for passwords.

    The same key pressed on two systems may arrive composed or decomposed.
    """
    return unicodedata.normalize("NFC", password)

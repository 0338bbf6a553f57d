"""Recovery codes on record: each used once, by the one login that the database lets have it.

They are kept as a salted hash under the key ring's encryption, as seeds are: a copy of the database
tells nothing, and a rotation of the key re-encrypts them without knowing them (ADR 13).
"""

import hmac
import secrets
import shlex
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import and_, or_, select, update

from radius_mfa.errors import BackendUnavailable, Refused
from radius_mfa.policy import recovery
from radius_mfa.policy.mail import Kind
from radius_mfa.stores import keys, mail_queue
from radius_mfa.stores.enrolments import EnrolmentStore, called, end_recovery_codes
from radius_mfa.stores.interfaces import RecoveryMatch
from radius_mfa.stores.keyring import KeyRing, WrongKeyError
from radius_mfa.stores.records import DeviceRecord, RecoveryCodeRecord

MAIL_WAIT_SECONDS = 10
"""How long the mail about a used code waits: the login may give the code back."""

SAME_LOGIN = timedelta(seconds=60)
"""For this long the login that used a code may use it again: its reply may have been lost."""


def code_owner(user: str, code_id: str) -> str:
    """Return the associated data that binds an encrypted digest to its user and code."""
    return f"recovery code {user} {code_id}"


class RecoveryCodeStore:
    """The RecoveryCodes of production."""

    def __init__(self, enrolments: EnrolmentStore, key_ring: KeyRing) -> None:
        self._enrolments = enrolments
        self._key_ring = key_ring

    async def renew(self, user: str) -> list[str]:
        """Return ten new codes of *user*, the only time that they are known; earlier ones end.

        Refused for a user without a confirmed device, whom they would not help.
        """
        codes = [
            "".join(secrets.choice(recovery.ALPHABET) for _ in range(recovery.CODE_CHARACTERS))
            for _ in range(recovery.CODES)
        ]
        async with self._enrolments.change(user, "recovery_codes.renew") as session:
            confirmed = select(DeviceRecord.device_id).where(
                DeviceRecord.user == user, DeviceRecord.confirmed_at.is_not(None)
            )
            if (await session.scalars(confirmed.limit(1))).one_or_none() is None:
                owner = await called(session, user)
                raise Refused(
                    f"{owner} has no device whose first code was confirmed",
                    f"recovery codes stand in for one: radius-mfa device add {shlex.quote(owner)}",
                )
            await end_recovery_codes(session, user)
            records = [self._record(user, code) for code in codes]
            await keys.hold(session, records[0].key_version)
            session.add_all(records)
        return codes

    def _record(self, user: str, code: str) -> RecoveryCodeRecord:
        code_id = str(uuid.uuid4())
        version, sealed = self._key_ring.encrypt(
            recovery.digest(code, code_id), code_owner(user, code_id)
        )
        return RecoveryCodeRecord(code_id=code_id, user=user, key_version=version, digest=sealed)

    async def find(
        self, user: str, codes: Sequence[str], login: str, now: float
    ) -> RecoveryMatch | None:
        """Return the code on record that is one of *codes*; all are compared, whatever matches."""
        query = select(RecoveryCodeRecord).where(RecoveryCodeRecord.user == user)
        async with self._enrolments.database.session() as session:
            records = (await session.scalars(query)).all()
        found = None
        for record in records:
            stored = self._digest(record)
            for code in codes:
                if hmac.compare_digest(recovery.digest(code, record.code_id), stored):
                    used = record.used_at is not None and not (
                        record.used_by == login and record.used_at >= _moment(now) - SAME_LOGIN
                    )
                    found = RecoveryMatch(record.code_id, code, used)
        return found

    def _digest(self, record: RecoveryCodeRecord) -> bytes:
        owner = code_owner(record.user, record.code_id)
        try:
            return self._key_ring.decrypt(record.key_version, record.digest, owner)
        except WrongKeyError as error:
            raise BackendUnavailable("keyring", str(error)) from None

    async def consume(self, match: RecoveryMatch, login: str, now: float) -> bool:
        """Use a code for *login*; return False where another login was faster."""
        at, table = _moment(now), RecoveryCodeRecord
        same_login = and_(table.used_by == login, table.used_at >= at - SAME_LOGIN)
        async with self._enrolments.database.session() as session, session.begin():
            consumed = await session.execute(
                update(table)
                .where(table.code_id == match.code_id, or_(table.used_at.is_(None), same_login))
                .values(used_at=at, used_by=login)
                .returning(table.user)
            )
            user = consumed.scalar_one_or_none()
            if user is not None:
                once = _once(match)
                await mail_queue.queue(
                    session,
                    Kind.RECOVERY_CODE_USED,
                    [user],
                    once=once,
                    wait_seconds=MAIL_WAIT_SECONDS,
                )
            return user is not None

    async def release(self, match: RecoveryMatch, login: str) -> None:
        """Give a code back that *login* used, and was refused all the same."""
        table = RecoveryCodeRecord
        async with self._enrolments.database.session() as session, session.begin():
            given_back = await session.execute(
                update(table)
                .where(table.code_id == match.code_id, table.used_by == login)
                .values(used_at=None, used_by=None)
                .returning(table.code_id)
            )
            if given_back.first() is not None:
                await mail_queue.withdraw(session, _once(match))


def _once(match: RecoveryMatch) -> str:
    """Return what its one mail is known by: the login that used a code may use it again."""
    return f"recovery code {match.code_id}"


def _moment(now: float) -> datetime:
    return datetime.fromtimestamp(now, UTC)

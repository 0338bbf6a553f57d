"""Many users and devices at once: all of them or none, and every node told.

One transaction, and around its end the same two calls to Redis for each user as any change makes
(ADR 0007). What can't be done is found inside the transaction, so no other change gets between.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from time import monotonic
from typing import Any

from sqlalchemy import delete, insert, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from radius_mfa.errors import BackendUnavailable, Refused
from radius_mfa.policy.new_device import unfit
from radius_mfa.policy.requirement import NOTHING_REQUIRED, Requirement
from radius_mfa.policy.totp import Algorithm
from radius_mfa.stores import audit, keys
from radius_mfa.stores.audit import Act
from radius_mfa.stores.enrolments import (
    NewDevice,
    device_values,
    devices_by_user,
    groups_by_user,
    requirement_of,
    requirement_values,
    seed_owner,
)
from radius_mfa.stores.keyring import KeyRing, WrongKeyError
from radius_mfa.stores.records import (
    Database,
    DeviceRecord,
    LocalUser,
    MfaUser,
    UserGroup,
    chunks,
    utc_now,
)

CHUNK = 1000
"""Rows of one statement: far below what any database takes, and far above what it costs."""

MAX_TELLING_SECONDS = 10.0
"""How long telling Redis may take before the commit: the barrier (15 s) must outlive that."""

_SNAPSHOT = {
    "postgresql": "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
    "sqlite": "BEGIN",  # Python's driver begins none for reading
}


class Existing(StrEnum):
    """What becomes of a user or a device that is on record already."""

    REFUSE = "refuse"
    SKIP = "skip"
    UPDATE = "update"


@dataclass(frozen=True, slots=True)
class BulkDevice:
    """A device to enrol, or one on record; *confirmed_at* is None while it does not count."""

    new: NewDevice
    place: str = ""
    created_at: datetime | None = None
    confirmed_at: datetime | None = None
    confirmed_step: int | None = None
    drift_steps: int = 0


@dataclass(frozen=True, slots=True)
class BulkUser:
    """A user to put on record, or one on record; *name* is the key.

    *described* is False where the source knows the user's devices alone. A user of another
    directory than the local one has a *directory*, and a *user_name* for people; one whom it
    still has is put on record whatever the source knows. *requirement*,
    *groups* and *mail* are None where the source knows nothing of them.
    """

    name: str
    place: str = ""
    described: bool = True
    created_at: datetime | None = None
    suspended: bool | None = None
    suspended_at: datetime | None = None
    password_hash: str | None = field(default=None, repr=False)
    password_changed_at: datetime | None = None
    devices: tuple[BulkDevice, ...] = ()
    directory: str | None = None
    user_name: str | None = None
    requirement: Requirement | None = None
    groups: tuple[str, ...] | None = None
    mail: str | None = None

    @property
    def called(self) -> str:
        """What people call the user."""
        return self.user_name or self.name


@dataclass(frozen=True, slots=True)
class Obstacle:
    """What stands against a user or device of the source."""

    place: str
    user: str
    what: str
    cure: str


@dataclass(slots=True)
class Outcome:
    """What was done, or would be; *obstacles* are what was not."""

    users_added: int = 0
    users_updated: int = 0
    users_skipped: int = 0
    devices_added: int = 0
    devices_replaced: int = 0
    devices_skipped: int = 0
    obstacles: list[Obstacle] = field(default_factory=list)


@dataclass(slots=True)
class _Plan:
    """Rows to write, and names whose records they change."""

    users: list[dict[str, Any]] = field(default_factory=list)
    changes: list[dict[str, Any]] = field(default_factory=list)
    passwords: list[dict[str, Any]] = field(default_factory=list)
    new_passwords: list[dict[str, Any]] = field(default_factory=list)
    devices: list[dict[str, Any]] = field(default_factory=list)
    groups: list[dict[str, Any]] = field(default_factory=list)
    regrouped: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    touched: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _OnRecord:
    """What the database knows of the users of a source."""

    users: frozenset[str]
    passwords: frozenset[str]
    devices: dict[str, list[DeviceRecord]]


class Bulk:
    """Takes in and gives out users by the thousand."""

    def __init__(
        self,
        database: Database,
        key_ring: KeyRing,
        invalidate: Callable[[str], Awaitable[None]],
    ) -> None:
        self._database = database
        self._key_ring = key_ring
        self._invalidate = invalidate

    async def take_in(
        self,
        users: Sequence[BulkUser],
        existing: Existing = Existing.REFUSE,
        *,
        create_users: bool = False,
        partial: bool = False,
        dry_run: bool = False,
    ) -> Outcome:
        """Put *users* on record with their devices, each name once.

        Nothing is changed where there are obstacles, unless *partial*, or with *dry_run*. With
        *create_users* a user of whom the source knows devices alone is put on record too. Raises
        Refused where somebody else changed the same users meanwhile.
        """
        names = [user.name for user in users]
        try:
            async with self._database.session() as session:
                plan, outcome = _Plan(), Outcome()
                known = await self._on_record(session, names, lock=not dry_run)
                for user in users:
                    self._plan(user, known, existing, plan, outcome, create_users=create_users)
                if dry_run or (outcome.obstacles and not partial):
                    return outcome
                for version in {row["key_version"] for row in plan.devices}:
                    await keys.hold(session, version)
                await _write(session, plan)
                await self._tell(plan.touched)
                await audit.append(session, [Act("import", "", _counts(outcome))])
                await session.commit()
        except IntegrityError:
            raise Refused(
                "somebody else added the same users or devices meanwhile", "try again"
            ) from None
        with suppress(BackendUnavailable):  # what is cached is safe already, see EnrolmentStore
            await self._told(plan.touched)
        return outcome

    async def everything(self) -> tuple[list[BulkUser], list[Obstacle]]:
        """Return every user on record with their devices, of one moment; and what can't be read."""
        found: list[BulkUser] = []
        obstacles: list[Obstacle] = []
        async with self._snapshot() as session:
            names = (await session.scalars(select(MfaUser.name).order_by(MfaUser.name))).all()
            for chunk in chunks(names, CHUNK):
                found += await self._users(session, chunk, obstacles)
                session.expunge_all()  # memory holds what is given out, and one chunk of records
        return found, obstacles

    async def _users(
        self, session: AsyncSession, names: Sequence[str], obstacles: list[Obstacle]
    ) -> list[BulkUser]:
        named = select(MfaUser).where(MfaUser.name.in_(names)).order_by(MfaUser.name)
        local = select(LocalUser).where(LocalUser.name.in_(names))
        passwords = {one.name: one for one in await session.scalars(local)}
        query = select(DeviceRecord).where(DeviceRecord.user.in_(names))
        devices = await devices_by_user(session, query.order_by(DeviceRecord.created_at))
        groups = await groups_by_user(session, UserGroup.user.in_(names))
        return [
            BulkUser(
                user.name,
                created_at=user.created_at,
                suspended=user.suspended_at is not None,
                suspended_at=user.suspended_at,
                password_hash=one.password_hash if one else None,
                password_changed_at=one.password_changed_at if one else None,
                devices=tuple(
                    self._readable(user.user_name or user.name, devices[user.name], obstacles)
                ),
                directory=user.directory,
                user_name=user.user_name,
                requirement=requirement_of(user),
                groups=tuple(groups.get(user.name, ())),
                mail=user.mail,
            )
            for user in await session.scalars(named)
            for one in [passwords.get(user.name)]
        ]

    @asynccontextmanager
    async def _snapshot(self) -> AsyncIterator[AsyncSession]:
        async with self._database.session() as session:
            connection = await session.connection()
            await session.execute(text(_SNAPSHOT[connection.dialect.name]))
            yield session

    def _readable(
        self, owner: str, records: Iterable[DeviceRecord], obstacles: list[Obstacle]
    ) -> Iterator[BulkDevice]:
        for record in records:
            try:
                seed = self._seed(record)
            except WrongKeyError as error:
                what = f"the seed of {record.name} can't be decrypted: {error}"
                obstacles.append(
                    Obstacle("database", owner, what, "remove it, or restore the key ring")
                )
                continue
            yield BulkDevice(
                NewDevice(
                    record.name,
                    seed,
                    Algorithm(record.algorithm),
                    record.digits,
                    record.time_step_seconds,
                ),
                created_at=record.created_at,
                confirmed_at=record.confirmed_at,
                confirmed_step=record.confirmed_step,
                drift_steps=record.drift_steps,
            )

    def _seed(self, record: DeviceRecord) -> bytes:
        owner = seed_owner(record.user, record.device_id)
        return self._key_ring.decrypt(record.key_version, record.seed, owner)

    async def _on_record(
        self, session: AsyncSession, names: Sequence[str], *, lock: bool
    ) -> _OnRecord:
        """Return what is known of *names*; with *lock* nobody else changes them any more."""
        users: set[str] = set()
        passwords: set[str] = set()
        devices: dict[str, list[DeviceRecord]] = defaultdict(list)
        for chunk in chunks(names, CHUNK):
            named = MfaUser.name.in_(chunk)
            if lock:
                bump = update(MfaUser).where(named).values(version=MfaUser.version + 1)
                raised = await session.execute(
                    bump.returning(MfaUser.name),
                    execution_options={"synchronize_session": False},
                )
                users.update(raised.scalars())
            else:
                users.update(await session.scalars(select(MfaUser.name).where(named)))
            local = select(LocalUser.name).where(LocalUser.name.in_(chunk))
            passwords.update(await session.scalars(local))
            query = select(DeviceRecord).where(DeviceRecord.user.in_(chunk))
            devices |= await devices_by_user(session, query)
        return _OnRecord(frozenset(users), frozenset(passwords), devices)

    def _plan(
        self,
        user: BulkUser,
        known: _OnRecord,
        existing: Existing,
        plan: _Plan,
        outcome: Outcome,
        *,
        create_users: bool,
    ) -> None:
        on_record = user.name in known.users
        wanted = user.described or create_users or user.directory is not None
        if not on_record and not wanted:
            outcome.obstacles += [
                Obstacle(
                    device.place,
                    user.called,
                    "there is no such user",
                    "add the user, or see --create-users; is the realm in directory.local.realms?",
                )
                for device in user.devices
            ]
            return
        if on_record and user.described and existing is Existing.REFUSE:
            outcome.obstacles.append(
                Obstacle(
                    user.place,
                    user.called,
                    "the user exists already",
                    "leave the row out, or see --existing skip and --existing update",
                )
            )
            return
        if on_record and user.described and existing is Existing.SKIP:
            outcome.users_skipped += 1
            return
        self._plan_user(user, plan, outcome, known)
        plan.touched.append(user.name)
        for device in user.devices:
            self._plan_device(user, device, known.devices[user.name], existing, plan, outcome)

    @staticmethod
    def _plan_user(user: BulkUser, plan: _Plan, outcome: Outcome, known: _OnRecord) -> None:
        now = utc_now()
        since = (user.suspended_at or now) if user.suspended else None
        if user.name not in known.users:
            outcome.users_added += 1
            created_at = user.created_at or now
            plan.users.append(
                {
                    "name": user.name,
                    "created_at": created_at,
                    "suspended_at": since,
                    "directory": user.directory,
                    "user_name": user.user_name,
                    "mail": user.mail,
                    **requirement_values(user.requirement or NOTHING_REQUIRED),
                }
            )
        elif user.described:
            outcome.users_updated += 1
            change: dict[str, Any] = {} if user.suspended is None else {"suspended_at": since}
            if user.user_name is not None:
                change["user_name"] = user.user_name
            if user.mail is not None:
                change["mail"] = user.mail
            if user.requirement is not None:
                change |= requirement_values(user.requirement)
            if change:
                plan.changes.append({"name": user.name, **change})
        if user.groups is not None:
            plan.regrouped.append(user.name)
            plan.groups += [{"user": user.name, "name": name} for name in user.groups]
        if user.password_hash is not None:
            changed_at = user.password_changed_at or now
            row = {"password_hash": user.password_hash, "password_changed_at": changed_at}
            rows = plan.passwords if user.name in known.passwords else plan.new_passwords
            rows.append({"name": user.name, **row})

    def _plan_device(  # noqa: PLR0917 - one step of _plan
        self,
        user: BulkUser,
        device: BulkDevice,
        on_record: list[DeviceRecord],
        existing: Existing,
        plan: _Plan,
        outcome: Outcome,
    ) -> None:
        new = device.new
        unfitness = unfit(new.name, new.seed, new.digits, new.time_step_seconds)
        if unfitness:
            outcome.obstacles += [
                Obstacle(device.place, user.called, *finding) for finding in unfitness
            ]
            return
        same = [record for record in on_record if self._is_same(record, new)]
        if same and existing is Existing.REFUSE:
            outcome.obstacles.append(
                Obstacle(
                    device.place,
                    user.called,
                    f"the user has this device, or one of its name, already: {same[0].name}",
                    "leave the row out, name it otherwise, or see --existing",
                )
            )
            return
        if same and existing is Existing.SKIP:
            outcome.devices_skipped += 1
            return
        plan.replaced += [record.device_id for record in same]
        if same:
            outcome.devices_replaced += 1
        else:
            outcome.devices_added += 1
        plan.devices.append(self._row(user.name, device))

    def _is_same(self, record: DeviceRecord, new: NewDevice) -> bool:
        if record.name == new.name:
            return True
        try:
            return self._seed(record) == new.seed
        except WrongKeyError:
            return False

    def _row(self, user: str, device: BulkDevice) -> dict[str, Any]:
        return {
            **device_values(self._key_ring, user, device.new),
            "created_at": device.created_at or utc_now(),
            "confirmed_at": device.confirmed_at,
            "confirmed_step": device.confirmed_step,
            "drift_steps": device.drift_steps,
        }

    async def _tell(self, names: Sequence[str]) -> None:
        """Make every node forget *names*, just before the commit; raises BackendUnavailable."""
        began = monotonic()
        await self._told(names)
        if monotonic() - began > MAX_TELLING_SECONDS:
            raise BackendUnavailable("redis", "too slow for so many users at once")

    async def _told(self, names: Sequence[str]) -> None:
        for chunk in chunks(names, CHUNK):
            await asyncio.gather(*map(self._invalidate, chunk))


def _counts(outcome: Outcome) -> dict[str, int]:
    """Return what was done, in numbers, for the audit trail: the file says to whom."""
    counts = asdict(outcome)
    del counts["obstacles"]
    return {name: count for name, count in counts.items() if count}


async def _write(session: AsyncSession, plan: _Plan) -> None:
    for ids in chunks(plan.replaced, CHUNK):
        await session.execute(
            delete(DeviceRecord).where(DeviceRecord.device_id.in_(ids)),
            execution_options={"synchronize_session": False},
        )
    for names in chunks(plan.regrouped, CHUNK):
        await session.execute(delete(UserGroup).where(UserGroup.user.in_(names)))
    for table, rows in (
        (MfaUser, plan.users),
        (LocalUser, plan.new_passwords),
        (DeviceRecord, plan.devices),
        (UserGroup, plan.groups),
    ):
        for chunk in chunks(rows, CHUNK):
            await session.execute(insert(table), chunk)
    for table, rows in ((MfaUser, plan.changes), (LocalUser, plan.passwords)):
        for chunk in chunks(rows, CHUNK):
            await session.execute(update(table), chunk)

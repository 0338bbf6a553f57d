"""Users and their devices on record, and every change to them.

A change tells Redis before and after it is committed, so that no node goes on with what was
cached: a revoked device stops working at once. Where Redis can't be told, nothing is changed.
"""

import asyncio
import secrets
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Select, delete, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from radius_mfa.errors import BackendUnavailable, HalfDone, Refused
from radius_mfa.policy.access import Enrolment
from radius_mfa.policy.groups import group_key, unfit_group
from radius_mfa.policy.mail import REMINDER_SECONDS, Kind
from radius_mfa.policy.new_device import MAX_NAME_CHARACTERS, SEED_OCTETS, unfit
from radius_mfa.policy.requirement import NOTHING_REQUIRED, Requirement
from radius_mfa.policy.totp import Algorithm, Device
from radius_mfa.stores import audit, keys, mail_queue
from radius_mfa.stores.audit import Act
from radius_mfa.stores.interfaces import LOCAL, Identity, Prospect
from radius_mfa.stores.keyring import KeyRing, WrongKeyError
from radius_mfa.stores.records import (
    Database,
    DeviceRecord,
    LocalUser,
    MfaUser,
    RecoveryCodeRecord,
    UserGroup,
    begin_writing,
    chunks,
    insert_of,
    utc_now,
)

USERS_AT_ONCE = 5_000
"""How many users one transaction changes: it ends long before the barrier in Redis does."""

CHUNK = 500
"""Users in one statement."""


Work = Callable[[AsyncSession, Sequence[MfaUser]], Awaitable[Sequence[MfaUser]]]
"""Changes the records of many users, and returns those that it changed."""


@dataclass(frozen=True, slots=True)
class NewDevice:
    """An authenticator to enrol; *seed* is random where none is given."""

    name: str
    seed: bytes = field(default_factory=lambda: secrets.token_bytes(SEED_OCTETS), repr=False)
    algorithm: Algorithm = Algorithm.SHA1
    digits: int = 6
    time_step_seconds: int = 30


@dataclass(frozen=True, slots=True)
class DeviceOnRecord:
    """What a list shows of a device."""

    device_id: str
    name: str
    algorithm: str
    digits: int
    time_step_seconds: int
    created_at: datetime
    confirmed_at: datetime | None


@dataclass(frozen=True, slots=True)
class UserOnRecord:
    """What a list shows of a user; *name* is for people, *key* for seed, replay and lockout."""

    key: str
    name: str
    directory: str
    suspended_at: datetime | None
    created_at: datetime
    password_changed_at: datetime | None
    devices: tuple[DeviceOnRecord, ...]
    requirement: Requirement = NOTHING_REQUIRED
    recovery_codes: int = 0
    groups: tuple[str, ...] = ()
    mail: str | None = None

    @property
    def confirmed(self) -> bool:
        """Whether any device counts."""
        return any(device.confirmed_at is not None for device in self.devices)

    @property
    def pending(self) -> bool:
        """Whether any device waits for its first code."""
        return any(device.confirmed_at is None for device in self.devices)


def seed_owner(user: str, device_id: str) -> str:
    """Return the associated data that binds an encrypted seed to its user and device."""
    return f"seed {user} {device_id}"


_GROUPS = 5  # theirs behind the devices, after recovery codes and a requirement


def device_values(key_ring: KeyRing, user: str, new: NewDevice) -> dict[str, Any]:
    """Return the columns of a device of *user* that follow from *new*, its seed encrypted."""
    device_id = str(uuid.uuid4())
    version, seed = key_ring.encrypt(new.seed, seed_owner(user, device_id))
    return {
        "device_id": device_id,
        "user": user,
        "name": new.name,
        "algorithm": new.algorithm,
        "digits": new.digits,
        "time_step_seconds": new.time_step_seconds,
        "key_version": version,
        "seed": seed,
    }


class EnrolmentCodec:
    """An Enrolment as octets for the cache in Redis; seeds stay encrypted in it."""

    def __init__(self, key_ring: KeyRing) -> None:
        self._key_ring = key_ring

    def encode(self, user: str, enrolment: Enrolment) -> bytes:
        """Return *enrolment* as octets."""
        devices = []
        for device in enrolment.devices:
            version, seed = self._key_ring.encrypt(device.seed, seed_owner(user, device.device_id))
            devices.append(
                [
                    device.device_id,
                    device.name,
                    version,
                    seed.hex(),
                    device.algorithm,
                    device.digits,
                    device.time_step_seconds,
                    device.confirmed_step,
                    *([device.drift_steps] if device.drift_steps else []),
                ]
            )
        asked = enrolment.requirement
        plain = asked == NOTHING_REQUIRED and not enrolment.groups  # of most users
        return orjson.dumps(
            [
                enrolment.version,
                enrolment.known,
                enrolment.suspended,
                devices,
                enrolment.recovery_codes,
                *([] if plain else _cached(asked)),
                *([enrolment.groups] if enrolment.groups else []),
            ]
        )

    def decode(self, user: str, octets: bytes) -> Enrolment | None:
        """Return the Enrolment in *octets*; None where its key has been retired since."""
        version, known, suspended, cached, *more = orjson.loads(octets)
        devices = []
        for device_id, name, key_version, seed, algorithm, *numbers in cached:
            if not self._key_ring.knows(key_version):
                return None
            plain = self.seed(user, device_id, key_version, bytes.fromhex(seed))
            devices.append(Device(device_id, name, plain, Algorithm(algorithm), *numbers))
        return Enrolment(
            version,
            known,
            suspended,
            tuple(devices),
            more[0] if more else 0,  # an entry that the release before this one cached has neither
            Requirement(*more[1:_GROUPS]) if more[1:] else NOTHING_REQUIRED,
            tuple(more[_GROUPS]) if more[_GROUPS:] else (),
        )

    def seed(self, user: str, device_id: str, key_version: int, stored: bytes) -> bytes:
        """Return the seed of a device; a key that does not fit is the operator's to mend."""
        try:
            return self._key_ring.decrypt(key_version, stored, seed_owner(user, device_id))
        except WrongKeyError as error:
            raise BackendUnavailable("keyring", str(error)) from None


class EnrolmentStore:
    """The Enrolments of production, and the changes that admins and users make."""

    def __init__(
        self,
        database: Database,
        key_ring: KeyRing,
        invalidate: Callable[[str], Awaitable[None]],
    ) -> None:
        self.database = database
        self._key_ring = key_ring
        self._codec = EnrolmentCodec(key_ring)
        self._invalidate = invalidate

    async def fetch(self, user: str) -> Enrolment:
        """Return what is on record of *user*; an unknown user is an Enrolment not known."""
        async with self.database.session() as session:
            record = await session.get(MfaUser, user)
            if record is None:
                return Enrolment()
            devices = await self._devices(session, user)
            codes = (await _unused_codes(session, user)).get(user, 0)
            groups = await _groups_of(session, user)
        return Enrolment(
            record.version,
            known=True,
            suspended=record.suspended_at is not None,
            devices=tuple(self._device(one) for one in devices if one.confirmed_at is not None),
            recovery_codes=codes,
            requirement=Requirement(*_cached(requirement_of(record))),
            groups=tuple(groups),
        )

    def _device(self, record: DeviceRecord) -> Device:
        return Device(
            record.device_id,
            record.name,
            self._codec.seed(record.user, record.device_id, record.key_version, record.seed),
            Algorithm(record.algorithm),
            record.digits,
            record.time_step_seconds,
            record.confirmed_step,
            record.drift_steps,
        )

    @staticmethod
    async def _devices(session: AsyncSession, user: str) -> list[DeviceRecord]:
        query = select(DeviceRecord).where(DeviceRecord.user == user)
        return list((await session.scalars(query.order_by(DeviceRecord.created_at))).all())

    @asynccontextmanager
    async def change(self, user: str, act: str, **detail: object) -> AsyncIterator[AsyncSession]:
        """Open a transaction that changes *user*, and make every node forget what it cached.

        The user's row is locked by the new version number until the end of the block; *act* and
        *detail* go into the audit trail with it. Raises Refused for a user who is not on record.
        """
        async with self.database.session() as session, session.begin():
            bumped = await session.execute(
                update(MfaUser)
                .where(MfaUser.name == user)
                .values(version=MfaUser.version + 1)
                .returning(MfaUser.user_name)
            )
            record = bumped.one_or_none()
            if record is None:
                raise NotOnRecord(user)
            yield session
            await session.flush()  # what is wrong with the change shows before anyone is told
            await self._invalidate(user)
            await audit.append(session, [Act(act, user, detail, record.user_name or "")])
        await self._invalidate_in_flight(user)

    @asynccontextmanager
    async def noted(self, user: str, act: str, **detail: object) -> AsyncIterator[None]:
        """Put on the audit trail what the block does to *user* elsewhere, such as in Redis.

        Raises Refused for a user who is not on record, before the block.
        """
        async with self.database.session() as session, session.begin():
            await begin_writing(session)
            record = await session.get(MfaUser, user)
            if record is None:
                raise NotOnRecord(user)
            await audit.append(session, [Act(act, user, detail, record.user_name or "")])
            yield

    async def note_each(
        self, users: Sequence[str], act: str, work: Callable[[str], Awaitable[None]]
    ) -> list[str]:
        """Do *work* to each of *users* elsewhere, such as in Redis; return to whom it was done.

        It is on the audit trail of these and of nobody else, even where the others were out of
        reach: then HalfDone. Refused, and nothing done, where one of them is not on record.
        """
        names, done = sorted(set(users)), list[str]()
        await self.all_on_record(names)
        for some in chunks(names, CHUNK):
            fault: BackendUnavailable | None = None
            reached: list[MfaUser] = []
            try:
                async with self.database.session() as session, session.begin():
                    await begin_writing(session)
                    for record in await session.scalars(_named(some)):
                        try:
                            await work(record.name)
                        except BackendUnavailable as error:
                            fault = error
                            break
                        reached.append(record)
                    acts = [Act(act, one.name, {}, one.user_name or "") for one in reached]
                    await audit.append(session, acts)
            except BackendUnavailable as error:
                fault, reached = error, []
            done += [record.name for record in reached]
            if fault is not None and not done:
                raise fault
            if fault is not None:
                raise HalfDone(fault, done, sorted(set(names) - set(done)))
        return done

    async def _invalidate_in_flight(self, *users: str) -> None:
        """Void logins that read the old state while the change was being committed.

        What is cached is safe already; so if Redis went away this very moment, all is well.
        """
        with suppress(BackendUnavailable):
            await self._invalidate_all(users)

    async def _invalidate_all(self, users: Iterable[str]) -> None:
        results = await asyncio.gather(*map(self._invalidate, users), return_exceptions=True)
        for fault in filter(None, results):
            raise fault

    async def change_requirements(
        self,
        users: Sequence[str],
        act: str,
        change: Callable[[Requirement], Requirement],
        newcomers: Sequence[Identity] = (),
        **detail: object,
    ) -> list[str]:
        """Apply *change* to what is required of each of *users*; return whom it changed.

        Those of *newcomers* who are not on record are put there with it, and the others' names
        and mail addresses are brought up to date. Refused where anybody else of *users* is not on
        record.
        """

        async def work(session: AsyncSession, records: Sequence[MfaUser]) -> list[MfaUser]:
            changed = [record for record in records if _apply(record, change)]
            if act == "requirement.require":
                await _tell(session, Kind.REQUIRED, changed)
            return changed

        return await self._change_all(users, act, work, detail, newcomers)

    async def reset(
        self, users: Sequence[str], change: Callable[[Requirement], Requirement], **detail: object
    ) -> list[str]:
        """End every device and recovery code of *users*, and apply *change* to what is required."""

        async def work(session: AsyncSession, records: Sequence[MfaUser]) -> Sequence[MfaUser]:
            for some in chunks([record.name for record in records], CHUNK):
                for table in (DeviceRecord, RecoveryCodeRecord):
                    await session.execute(delete(table).where(table.user.in_(some)))
            for record in records:
                _apply(record, change)
            await _tell(session, Kind.RESET, records)
            return records

        return await self._change_all(users, "user.reset", work, detail)

    async def suspend(self, users: Sequence[str], *, suspended: bool) -> list[str]:
        """Refuse every login of *users* from now on, or no longer; return whom it changed."""

        async def work(_session: AsyncSession, records: Sequence[MfaUser]) -> list[MfaUser]:
            changed = [one for one in records if (one.suspended_at is not None) is not suspended]
            for record in changed:
                record.suspended_at = utc_now() if suspended else None
            return changed

        return await self._change_all(
            users, "user.suspend" if suspended else "user.resume", work, {}
        )

    async def _change_all(
        self,
        users: Sequence[str],
        act: str,
        work: Work,
        detail: dict[str, object],
        newcomers: Sequence[Identity] = (),
    ) -> list[str]:
        """Let *work* change all of *users*, or none of them; return whom it changed.

        Refused where one of them is neither on record nor a newcomer. More than USERS_AT_ONCE
        users are several transactions: HalfDone where a backend goes away between two of them.
        """
        names = sorted(set(users))
        coming = {user.key: user for user in newcomers}
        await self.all_on_record([name for name in names if name not in coming])
        changed: list[str] = []
        for some in chunks(names, USERS_AT_ONCE):
            new = [coming[user] for user in some if user in coming]
            try:
                changed += await self._change_some(some, act, work, detail, new)
            except BackendUnavailable as error:
                if some[0] == names[0]:
                    raise
                raise HalfDone(error, changed, names[names.index(some[0]) :]) from None
        return changed

    async def _change_some(
        self,
        users: Sequence[str],
        act: str,
        work: Work,
        detail: dict[str, object],
        newcomers: Sequence[Identity],
    ) -> list[str]:
        async with self.database.session() as session, session.begin():
            await begin_writing(session)
            acts = await _put_on_record(session, newcomers)
            records = (await session.scalars(_named(users).with_for_update())).all()
            changed = await work(session, records)
            for record in changed:
                record.version += 1
            await session.flush()
            touched = sorted({one.name for one in changed} | {one.subject for one in acts})
            acts += [Act(act, one.name, detail, one.user_name or "") for one in changed]
            await audit.append(session, acts)
            names = [record.name for record in changed]
            await self._invalidate_all(touched)
        await self._invalidate_in_flight(*touched)
        return names

    async def all_on_record(self, users: Sequence[str]) -> None:
        """Raise Refused where one of *users* is not on record."""
        missing = set(users) - await self.known(users)
        if missing:
            raise NotOnRecord(min(missing))

    async def known(self, users: Sequence[str]) -> set[str]:
        """Return those of *users* who are on record."""
        found: set[str] = set()
        async with self.database.session() as session:
            for some in chunks(users, USERS_AT_ONCE):
                found |= set(
                    await session.scalars(select(MfaUser.name).where(MfaUser.name.in_(some)))
                )
        return found

    async def prospect(self, users: Sequence[str]) -> Prospect:
        """Return how *users* stand before anything is asked of them."""
        names, known, required = sorted(set(users)), 0, 0
        async with self.database.session() as session:
            for some in chunks(names, USERS_AT_ONCE):
                query = select(MfaUser.enrol_by).where(MfaUser.name.in_(some))
                ends = (await session.scalars(query)).all()
                known, required = known + len(ends), required + sum(map(bool, ends))
        return Prospect(len(names), required, len(names) - known)

    async def add_user(
        self,
        user: str,
        password_hash: str | None = None,
        groups: Sequence[str] = (),
        mail: str | None = None,
    ) -> None:
        """Put *user* on record, with a password of the local directory where one is given."""
        fresh = _fit_groups(groups)
        now, password = utc_now(), None
        if password_hash is not None:
            password = LocalUser(name=user, password_hash=password_hash, password_changed_at=now)
        try:
            record = MfaUser(name=user, created_at=now, mail=mail)
            await self._put_on_record(record, password, fresh)
        except IntegrityError:
            raise Refused(
                f"the user {user} exists already",
                f"to set a new password: radius-mfa user passwd {user}",
            ) from None

    async def _put_on_record(
        self,
        user: MfaUser,
        password: LocalUser | None = None,
        groups: Sequence[str] = (),
        **detail: object,
    ) -> None:
        """Put a new user on record; IntegrityError where somebody was faster."""
        if groups:
            detail["groups"] = groups
        act = Act("user.add", user.name, detail, user.user_name or "")
        async with self.database.session() as session, session.begin():
            session.add(user)
            await session.flush()
            if password is not None:
                session.add(password)
            session.add_all(UserGroup(user=user.name, name=name) for name in groups)
            await session.flush()
            await self._invalidate(act.subject)  # "unknown" may be cached
            await audit.append(session, [act])
        await self._invalidate_in_flight(act.subject)

    async def know(self, user: Identity) -> None:
        """Put a user whom another directory has on record, as they are called there now."""
        async with self.database.session() as session:
            record = await session.get(MfaUser, user.key)
        if record is not None:
            if record.user_name != user.name:
                async with self.change(user.key, "user.rename", to=user.name) as session:
                    (await session.get_one(MfaUser, user.key)).user_name = user.name
            await self._note_mail(record, user.mail or None)
            return
        fresh = MfaUser(
            name=user.key,
            directory=user.directory,
            user_name=user.name,
            created_at=utc_now(),
            mail=user.mail or None,
        )
        with suppress(IntegrityError):  # another node was quicker, and tells everybody itself
            await self._put_on_record(fresh, directory=user.directory)

    async def set_mail(self, user: str, mail: str | None) -> None:
        """Note the mail address of *user*, or that there is none; a directory's user has its."""
        async with self.database.session() as session:
            record = await session.get(MfaUser, user)
        if record is None:
            raise NotOnRecord(user)
        if record.directory is not None:
            raise Refused(
                f"the mail address of {record.user_name} is what {record.directory} says",
                f"change the attribute mail of the user in {record.directory}",
            )
        await self._note_mail(record, mail)

    async def refresh_mail(self, user: Identity) -> None:
        """Note the mail address that a directory gives of *user* now; strangers are left alone."""
        async with self.database.session() as session:
            record = await session.get(MfaUser, user.key)
        if record is not None:
            await self._note_mail(record, user.mail or None)

    async def without_mail(self, users: Sequence[str]) -> int:
        """Return how many of *users* have no mail address."""
        count = 0
        async with self.database.session() as session:
            for some in chunks(users, CHUNK):
                reachable = MfaUser.name.in_(some), MfaUser.mail.is_(None)
                query = select(func.count()).select_from(MfaUser).where(*reachable)
                count += await session.scalar(query) or 0
        return count

    async def _note_mail(self, record: MfaUser, mail: str | None) -> None:
        if record.mail == mail:
            return
        async with self.change(record.name, "user.mail", to=mail or "") as session:
            (await session.get_one(MfaUser, record.name)).mail = mail

    async def delete_user(self, user: str) -> None:
        """Delete *user* with password and devices."""
        async with self.change(user, "user.delete") as session:
            await session.delete(await session.get_one(MfaUser, user))

    async def join(self, user: str, groups: Sequence[str]) -> None:
        """Put *user* into groups kept here; those they are in already stay as they are written."""
        fit = _fit_groups(groups)
        async with self.change(user, "user.join", groups=fit) as session:
            known = {group_key(one) for one in await _groups_of(session, user)}
            fresh = [one for one in fit if group_key(one) not in known]
            session.add_all(UserGroup(user=user, name=name) for name in fresh)

    async def leave(self, user: str, groups: Sequence[str]) -> None:
        """Take *user* out of groups kept here; Refused where they are not in one of them."""
        async with self.change(user, "user.leave", groups=list(groups)) as session:
            known = {group_key(one): one for one in await _groups_of(session, user)}
            for name in groups:
                written = known.pop(group_key(name), None)
                if written is None:
                    raise Refused(
                        f"{await called(session, user)} is not in the group {name}",
                        f"groups kept here: {', '.join(known.values()) or 'none'}",
                    )
                record = await session.get_one(UserGroup, (user, written))
                await session.delete(record)

    async def members_of(self, group: str) -> list[Identity]:
        """Return who is in a group kept here, whatever the case of its name."""
        async with self.database.session() as session:
            names = await session.scalars(select(UserGroup.name).distinct())
            same = [one for one in names if group_key(one) == group_key(group)]
            query = select(MfaUser).join(UserGroup, UserGroup.user == MfaUser.name)
            records = await session.scalars(query.where(UserGroup.name.in_(same)).distinct())
        return [_identity(one) for one in sorted(records, key=lambda record: record.name)]

    async def group_names(self) -> list[str]:
        """Return the name of every group kept here that has a member."""
        async with self.database.session() as session:
            return list(await session.scalars(select(UserGroup.name).distinct()))

    async def users(self) -> list[UserOnRecord]:
        """Return every user on record, by name."""
        async with self.database.session() as session:
            users = (await session.scalars(select(MfaUser).order_by(MfaUser.name))).all()
            passwords = {
                row.name: row.password_changed_at
                for row in await session.scalars(select(LocalUser))
            }
            devices = await devices_by_user(
                session, select(DeviceRecord).order_by(DeviceRecord.created_at)
            )
            codes = await _unused_codes(session)
            groups = await groups_by_user(session)
        return [
            _user_on_record(
                user,
                passwords.get(user.name),
                devices.get(user.name, ()),
                codes.get(user.name, 0),
                groups.get(user.name, ()),
            )
            for user in users
        ]

    async def named(self, user_name: str) -> list[Identity]:
        """Return the users of other directories who were called *user_name* when last looked at."""
        query = select(MfaUser).where(
            MfaUser.user_name == user_name, MfaUser.directory.is_not(None)
        )
        async with self.database.session() as session:
            records = (await session.scalars(query.order_by(MfaUser.name))).all()
        return [_identity(one) for one in records]

    async def user(self, name: str) -> UserOnRecord:
        """Return *name*'s record, or raise Refused."""
        async with self.database.session() as session:
            user = await session.get(MfaUser, name)
            if user is None:
                raise NotOnRecord(name)
            local = await session.get(LocalUser, name)
            devices = await self._devices(session, name)
            codes = await _unused_codes(session, name)
            groups = await _groups_of(session, name)
        changed_at = local.password_changed_at if local else None
        return _user_on_record(user, changed_at, devices, codes.get(name, 0), groups)

    async def add_device(self, user: str, new: NewDevice, *, confirmed: bool = False) -> Device:
        """Enrol *new* for *user*; it counts once its first code is confirmed.

        A device of the same name that was never confirmed is replaced. Refused: the name of a
        confirmed one, a seed the user has already, which would let one code in twice, and what
        ``policy.new_device`` finds unfit.
        """
        for what, cure in unfit(new.name, new.seed, new.digits, new.time_step_seconds):
            raise Refused(what, cure)
        act = {"device": new.name, "confirmed": confirmed}
        async with self.change(user, "device.add", **act) as session:
            for record in await self._devices(session, user):
                if record.name == new.name and record.confirmed_at is None:
                    await session.delete(record)
                    await session.flush()
                elif record.name == new.name:
                    raise NameTaken(
                        f"{await called(session, user)} has a device named {new.name} already",
                        "choose another name with --name, or remove it first",
                    )
                elif self._device(record).seed == new.seed:
                    owner = await called(session, user)
                    raise Refused(
                        f"the seed is enrolled already, as {owner}'s device {record.name}"
                    )
            values = device_values(self._key_ring, user, new)
            await keys.hold(session, values["key_version"])
            now = utc_now()
            session.add(
                DeviceRecord(**values, created_at=now, confirmed_at=now if confirmed else None)
            )
            if confirmed:
                await self._tell_of_device(session, user, new.name)
        return Device(
            values["device_id"],
            new.name,
            new.seed,
            new.algorithm,
            new.digits,
            new.time_step_seconds,
        )

    async def pending_device(self, user: str, device_id: str) -> Device | None:
        """Return a device of *user* that waits for its first code, with its seed; else None."""
        async with self.database.session() as session:
            record = await session.get(DeviceRecord, device_id)
            waits = record is not None and record.user == user and record.confirmed_at is None
            return self._device(record) if record is not None and waits else None

    async def rename_device(self, user: str, device_id: str, name: str) -> None:
        """Give a device of *user* another name; Refused where it is taken, unfit, or none's."""
        async with self.change(user, "device.rename", device_id=device_id, to=name) as session:
            devices = {one.device_id: one for one in await self._devices(session, user)}
            renamed = devices.pop(device_id, None)
            fit = name.isprintable() and 1 <= len(name.strip()) <= MAX_NAME_CHARACTERS
            if renamed is None:
                raise DeviceGone("the device was removed meanwhile")
            if not fit:
                raise Refused(f"no device can be called {name!r}")
            if any(one.name == name for one in devices.values()):
                raise NameTaken(f"the user has a device named {name} already")
            renamed.name = name

    async def resync_device(self, user: str, device_id: str, drift_steps: int) -> None:
        """Note by how much the clock of a device is ahead; Refused where it is gone."""
        act = {"device_id": device_id, "drift_steps": drift_steps}
        async with self.change(user, "device.resync", **act) as session:
            record = await session.get(DeviceRecord, device_id)
            if record is None or record.user != user:
                raise DeviceGone("the device was removed meanwhile")
            record.drift_steps = drift_steps

    async def confirm_device(self, user: str, device_id: str, time_step: int) -> None:
        """Let a device count from now on; codes up to *time_step* are used."""
        async with self.change(user, "device.confirm", device_id=device_id) as session:
            record = await session.get(DeviceRecord, device_id)
            if record is None or record.user != user or record.confirmed_at is not None:
                owner = await called(session, user)
                raise Refused(
                    f"the device of {owner} was replaced or confirmed meanwhile",
                    f"see: radius-mfa device list {owner}",
                )
            record.confirmed_at, record.confirmed_step = utc_now(), time_step
            await self._tell_of_device(session, user, record.name)

    async def _tell_of_device(self, session: AsyncSession, user: str, name: str) -> None:
        """Queue the mail about a device that counts now; by the first one a user is enrolled."""
        await session.flush()
        counted = [one for one in await self._devices(session, user) if one.confirmed_at]
        kind = Kind.ENROLLED if len(counted) == 1 else Kind.DEVICE_ADDED
        await mail_queue.queue(session, kind, [user], device=name)

    async def remove_device(self, user: str, name: str) -> None:
        """Remove a device of *user* by name; with the last one that counts go recovery codes."""
        async with self.change(user, "device.remove", device=name) as session:
            devices = await self._devices(session, user)
            removed = next((record for record in devices if record.name == name), None)
            if removed is None:
                owner = await called(session, user)
                raise DeviceGone(
                    f"{owner} has no device named {name}", f"see: radius-mfa device list {owner}"
                )
            await session.delete(removed)
            if removed.confirmed_at is not None:
                await mail_queue.queue(session, Kind.DEVICE_REMOVED, [user], device=name)
            if not any(one.confirmed_at for one in devices if one is not removed):
                await end_recovery_codes(session, user)


async def _put_on_record(session: AsyncSession, users: Sequence[Identity]) -> list[Act]:
    """Put users of other directories on record, as they are called there now; return what changed.

    The rows of those who are on record are locked until the transaction ends.
    """
    keys = [user.key for user in users]
    known = {one.name: one for one in await session.scalars(_named(keys).with_for_update())}
    acts, rows, now = [], [], utc_now()
    for user in users:
        record, mail = known.get(user.key), user.mail or None
        if record is None:
            acts.append(Act("user.add", user.key, {"directory": user.directory}, user.name))
            rows.append(
                {
                    "name": user.key,
                    "version": int(now.timestamp() * 1000),
                    "directory": user.directory,
                    "user_name": user.name,
                    "created_at": now,
                    "mail": mail,
                }
            )
            continue
        if record.user_name != user.name:
            acts.append(Act("user.rename", user.key, {"to": user.name}, record.user_name or ""))
            record.user_name, record.version = user.name, record.version + 1
        if record.mail != mail:
            acts.append(Act("user.mail", user.key, {"to": mail or ""}, user.name))
            record.mail, record.version = mail, record.version + 1
    if rows:  # a portal may be quicker, and then tells everybody itself
        insert = await insert_of(session, MfaUser.__table__)
        await session.execute(insert.on_conflict_do_nothing(), rows)
    return acts


def _named(users: Sequence[str]) -> Select[MfaUser]:
    return select(MfaUser).where(MfaUser.name.in_(users)).order_by(MfaUser.name)


async def _tell(session: AsyncSession, kind: Kind, users: Sequence[MfaUser]) -> None:
    """Queue the mails about periods that begin; so short a one needs no reminder besides."""
    await mail_queue.queue(session, kind, [user.name for user in users])
    for user in users:
        if user.enrol_by and user.required_from:
            short = (user.enrol_by - user.required_from).total_seconds() <= REMINDER_SECONDS
            user.reminded_of = user.enrol_by if short else user.reminded_of


async def end_recovery_codes(session: AsyncSession, user: str) -> None:
    """Delete every recovery code of *user*, used or not."""
    await session.execute(delete(RecoveryCodeRecord).where(RecoveryCodeRecord.user == user))


async def called(session: AsyncSession, user: str) -> str:
    """Return what people call the user whose key is *user*."""
    return (await session.get_one(MfaUser, user)).user_name or user


class NotOnRecord(Refused):
    """The command is about a user of whom nothing is on record; *user* is their key."""

    def __init__(self, user: str) -> None:
        super().__init__(f"there is no user {user}", "see: radius-mfa user list")
        self.user = user


class DeviceGone(Refused):
    """The command is about a device that the user does not have, or has no more."""


class NameTaken(Refused):
    """The user has another device of that name."""


async def devices_by_user(session: AsyncSession, query: Any) -> dict[str, list[DeviceRecord]]:  # noqa: ANN401 - SQLAlchemy's Select of one entity
    """Return the devices that *query* selects, by their user."""
    found: dict[str, list[DeviceRecord]] = defaultdict(list)
    for record in await session.scalars(query):
        found[record.user].append(record)
    return found


def _user_on_record(
    user: MfaUser,
    password_changed_at: datetime | None,
    devices: Iterable[DeviceRecord],
    recovery_codes: int,
    groups: Iterable[str],
) -> UserOnRecord:
    return UserOnRecord(
        user.name,
        user.user_name or user.name,
        user.directory or LOCAL,
        user.suspended_at,
        user.created_at,
        password_changed_at,
        tuple(map(_on_record, devices)),
        requirement_of(user),
        recovery_codes,
        tuple(groups),
        user.mail,
    )


def _identity(user: MfaUser) -> Identity:
    return Identity(user.name, user.user_name or user.name, user.directory or LOCAL)


def _on_record(record: DeviceRecord) -> DeviceOnRecord:
    return DeviceOnRecord(
        record.device_id,
        record.name,
        record.algorithm,
        record.digits,
        record.time_step_seconds,
        record.created_at,
        record.confirmed_at,
    )


async def _unused_codes(session: AsyncSession, user: str | None = None) -> dict[str, int]:
    """Return how many recovery codes are left, by user."""
    query = (
        select(RecoveryCodeRecord.user, func.count())
        .where(RecoveryCodeRecord.used_at.is_(None))
        .group_by(RecoveryCodeRecord.user)
    )
    if user is not None:
        query = query.where(RecoveryCodeRecord.user == user)
    return {name: count for name, count in await session.execute(query)}  # noqa: C416 - typed rows


def _fit_groups(names: Iterable[str]) -> list[str]:
    """Return each of *names* once, whatever its case; Refused for one that no group can have."""
    fit: dict[str, str] = {}
    for name in names:
        why = unfit_group(name)
        if why:
            raise Refused(why, f"write {name!r} otherwise")
        fit.setdefault(group_key(name), name)
    return list(fit.values())


async def groups_by_user(
    session: AsyncSession, *where: ColumnElement[bool]
) -> dict[str, list[str]]:
    """Return the groups kept here of the users that *where* selects, by user."""
    found: dict[str, list[str]] = defaultdict(list)
    for row in await session.scalars(select(UserGroup).where(*where).order_by(UserGroup.name)):
        found[row.user].append(row.name)
    return found


async def _groups_of(session: AsyncSession, user: str) -> list[str]:
    return (await groups_by_user(session, UserGroup.user == user)).get(user, [])


def requirement_of(record: MfaUser) -> Requirement:
    """Return what is required of a user."""
    return Requirement(
        _seconds(record.required_from),
        _seconds(record.enrol_by),
        _seconds(record.exempt_until),
        record.factor_suspended_at is not None,
        record.exempt_reason or "",
    )


def _cached(asked: Requirement) -> tuple[float | None, float | None, float | None, bool]:
    """Return what a login needs of a requirement: the reason of an exemption is for people."""
    return asked.required_from, asked.enrol_by, asked.exempt_until, asked.factor_suspended


def _apply(record: MfaUser, change: Callable[[Requirement], Requirement]) -> bool:
    """Change what is required of a user; return whether that changed anything."""
    before = requirement_of(record)
    after = change(before)
    if after == before:
        return False
    for name, value in requirement_values(after, record.factor_suspended_at).items():
        setattr(record, name, value)
    return True


def requirement_values(
    asked: Requirement, factor_suspended_at: datetime | None = None
) -> dict[str, Any]:
    """Return the columns of MfaUser that hold *asked*; a suspension is from now on by default."""
    return {
        "required_from": _moment(asked.required_from),
        "enrol_by": _moment(asked.enrol_by),
        "exempt_until": _moment(asked.exempt_until),
        "exempt_reason": asked.exempt_reason or None,
        "factor_suspended_at": (factor_suspended_at or utc_now())
        if asked.factor_suspended
        else None,
    }


def _seconds(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)

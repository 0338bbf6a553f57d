"""Users and their devices on record, and every change to them.

A change tells Redis before and after it is committed, so that no node goes on with what was
cached: a revoked device stops working at once. Where Redis can't be told, nothing is changed.
"""

import secrets
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime

import orjson
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from radius_mfa.errors import BackendUnavailable, Refused
from radius_mfa.policy.access import Enrolment
from radius_mfa.policy.new_device import SEED_OCTETS, unfit
from radius_mfa.policy.totp import Algorithm, Device
from radius_mfa.stores import keys
from radius_mfa.stores.interfaces import LOCAL, Identity
from radius_mfa.stores.keyring import KeyRing, WrongKeyError
from radius_mfa.stores.records import Database, DeviceRecord, LocalUser, MfaUser, utc_now


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


def seed_owner(user: str, device_id: str) -> str:
    """Return the associated data that binds an encrypted seed to its user and device."""
    return f"seed {user} {device_id}"


_KEY_VERSION = 2  # its place among the fields of a device


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
                ]
            )
        return orjson.dumps([enrolment.version, enrolment.known, enrolment.suspended, devices])

    def decode(self, user: str, octets: bytes) -> Enrolment | None:
        """Return the Enrolment in *octets*; None where its key has been retired since."""
        version, known, suspended, devices = orjson.loads(octets)
        if not all(self._key_ring.knows(fields[_KEY_VERSION]) for fields in devices):
            return None
        return Enrolment(
            version, known, suspended, tuple(self._device(user, *fields) for fields in devices)
        )

    def _device(  # noqa: PLR0917 - the fields in their order in the octets
        self,
        user: str,
        device_id: str,
        name: str,
        key_version: int,
        seed: str,
        algorithm: str,
        *numbers: int,
    ) -> Device:
        octets = self.seed(user, device_id, key_version, bytes.fromhex(seed))
        return Device(device_id, name, octets, Algorithm(algorithm), *numbers)

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
        return Enrolment(
            record.version,
            known=True,
            suspended=record.suspended_at is not None,
            devices=tuple(self._device(one) for one in devices if one.confirmed_at is not None),
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
        )

    @staticmethod
    async def _devices(session: AsyncSession, user: str) -> list[DeviceRecord]:
        query = select(DeviceRecord).where(DeviceRecord.user == user)
        return list((await session.scalars(query.order_by(DeviceRecord.created_at))).all())

    @asynccontextmanager
    async def change(self, user: str) -> AsyncIterator[AsyncSession]:
        """Open a transaction that changes *user*, and make every node forget what it cached.

        The user's row is locked by the new version number until the end of the block. Raises
        Refused for a user who is not on record.
        """
        async with self.database.session() as session, session.begin():
            bumped = await session.execute(
                update(MfaUser)
                .where(MfaUser.name == user)
                .values(version=MfaUser.version + 1)
                .returning(MfaUser.version)
            )
            if bumped.one_or_none() is None:
                raise unknown_user(user)
            yield session
            await self._invalidate(user)
        await self._invalidate_in_flight(user)

    async def _invalidate_in_flight(self, user: str) -> None:
        """Void logins that read the old state while the change was being committed.

        What is cached is safe already; so if Redis went away this very moment, all is well.
        """
        with suppress(BackendUnavailable):
            await self._invalidate(user)

    async def add_user(self, user: str, password_hash: str | None = None) -> None:
        """Put *user* on record, with a password of the local directory where one is given."""
        try:
            async with self.database.session() as session, session.begin():
                now = utc_now()
                session.add(MfaUser(name=user, created_at=now))
                await session.flush()
                if password_hash is not None:
                    session.add(
                        LocalUser(name=user, password_hash=password_hash, password_changed_at=now)
                    )
                await session.flush()
                await self._invalidate(user)  # "unknown" may be cached
        except IntegrityError:
            raise Refused(
                f"the user {user} exists already",
                f"to set a new password: radius-mfa user passwd {user}",
            ) from None
        await self._invalidate_in_flight(user)

    async def know(self, user: Identity) -> None:
        """Put a user whom another directory has on record, under the name they have there now."""
        async with self.database.session() as session:
            record = await session.get(MfaUser, user.key)
            if record is not None and record.user_name == user.name:
                return
        if record is not None:
            async with self.change(user.key) as session:
                (await session.get_one(MfaUser, user.key)).user_name = user.name
            return
        with suppress(IntegrityError):  # another node was quicker
            async with self.database.session() as session, session.begin():
                session.add(
                    MfaUser(
                        name=user.key,
                        directory=user.directory,
                        user_name=user.name,
                        created_at=utc_now(),
                    )
                )
                await session.flush()
                await self._invalidate(user.key)
        await self._invalidate_in_flight(user.key)

    async def delete_user(self, user: str) -> None:
        """Delete *user* with password and devices."""
        async with self.change(user) as session:
            await session.delete(await session.get_one(MfaUser, user))

    async def suspend(self, user: str, *, suspended: bool) -> None:
        """Refuse every login of *user* from now on, or no longer."""
        async with self.change(user) as session:
            record = await session.get_one(MfaUser, user)
            record.suspended_at = utc_now() if suspended else None

    async def users(self) -> list[UserOnRecord]:
        """Return every user on record, by name."""
        async with self.database.session() as session:
            users = (await session.scalars(select(MfaUser).order_by(MfaUser.name))).all()
            passwords = {
                row.name: row.password_changed_at
                for row in await session.scalars(select(LocalUser))
            }
            devices: dict[str, list[DeviceOnRecord]] = {}
            for record in await session.scalars(
                select(DeviceRecord).order_by(DeviceRecord.created_at)
            ):
                devices.setdefault(record.user, []).append(_on_record(record))
        return [
            UserOnRecord(
                user.name,
                user.user_name or user.name,
                user.directory or LOCAL,
                user.suspended_at,
                user.created_at,
                passwords.get(user.name),
                tuple(devices.get(user.name, ())),
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
        return [Identity(one.name, user_name, one.directory or LOCAL) for one in records]

    async def user(self, name: str) -> UserOnRecord:
        """Return *name*'s record, or raise Refused."""
        async with self.database.session() as session:
            user = await session.get(MfaUser, name)
            if user is None:
                raise unknown_user(name)
            local = await session.get(LocalUser, name)
            devices = await self._devices(session, name)
        return UserOnRecord(
            name,
            user.user_name or name,
            user.directory or LOCAL,
            user.suspended_at,
            user.created_at,
            local.password_changed_at if local else None,
            tuple(map(_on_record, devices)),
        )

    async def add_device(self, user: str, new: NewDevice, *, confirmed: bool = False) -> Device:
        """Enrol *new* for *user*; it counts once its first code is confirmed.

        A device of the same name that was never confirmed is replaced. Refused: the name of a
        confirmed one, a seed the user has already, which would let one code in twice, and what
        ``policy.new_device`` finds unfit.
        """
        for what, cure in unfit(new.name, new.seed, new.digits, new.time_step_seconds):
            raise Refused(what, cure)
        device_id = str(uuid.uuid4())
        async with self.change(user) as session:
            for record in await self._devices(session, user):
                if record.name == new.name and record.confirmed_at is None:
                    await session.delete(record)
                    await session.flush()
                elif record.name == new.name:
                    raise Refused(
                        f"{await _called(session, user)} has a device named {new.name} already",
                        "choose another name with --name, or remove it first",
                    )
                elif self._device(record).seed == new.seed:
                    owner = await _called(session, user)
                    raise Refused(
                        f"the seed is enrolled already, as {owner}'s device {record.name}"
                    )
            version, seed = self._key_ring.encrypt(new.seed, seed_owner(user, device_id))
            await keys.hold(session, version)
            now = utc_now()
            session.add(
                DeviceRecord(
                    device_id=device_id,
                    user=user,
                    name=new.name,
                    algorithm=new.algorithm,
                    digits=new.digits,
                    time_step_seconds=new.time_step_seconds,
                    key_version=version,
                    seed=seed,
                    created_at=now,
                    confirmed_at=now if confirmed else None,
                )
            )
        return Device(
            device_id, new.name, new.seed, new.algorithm, new.digits, new.time_step_seconds
        )

    async def confirm_device(self, user: str, device_id: str, time_step: int) -> None:
        """Let a device count from now on; codes up to *time_step* are used."""
        async with self.change(user) as session:
            record = await session.get(DeviceRecord, device_id)
            if record is None or record.user != user or record.confirmed_at is not None:
                owner = await _called(session, user)
                raise Refused(
                    f"the device of {owner} was replaced or confirmed meanwhile",
                    f"see: radius-mfa device list {owner}",
                )
            record.confirmed_at, record.confirmed_step = utc_now(), time_step

    async def remove_device(self, user: str, name: str) -> None:
        """Remove the device of *user* that is called *name*."""
        async with self.change(user) as session:
            for record in await self._devices(session, user):
                if record.name == name:
                    await session.delete(record)
                    return
            owner = await _called(session, user)
            raise Refused(
                f"{owner} has no device named {name}", f"see: radius-mfa device list {owner}"
            )


async def _called(session: AsyncSession, user: str) -> str:
    """Return what people call the user whose key is *user*."""
    return (await session.get_one(MfaUser, user)).user_name or user


class NotOnRecord(Refused):
    """The command is about a user of whom nothing is on record."""


def unknown_user(user: str) -> NotOnRecord:
    """Return the refusal of a command about a user who is not on record."""
    return NotOnRecord(f"there is no user {user}", "see: radius-mfa user list")


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

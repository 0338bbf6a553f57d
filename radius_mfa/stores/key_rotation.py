"""Changing the key while servers run: make a new one, encrypt everything anew, retire the old one.

Every step may be repeated, so that a rotation that was killed is finished by the next one. No
login waits for it: the old key and the new one both decrypt, on every node, until it is done.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import bindparam, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from radius_mfa.errors import Refused
from radius_mfa.stores import audit, keyring, keys
from radius_mfa.stores.audit import Act
from radius_mfa.stores.enrolments import seed_owner
from radius_mfa.stores.keyring import KeyRing, WrongKeyError
from radius_mfa.stores.nodes import Node, Nodes
from radius_mfa.stores.records import (
    Database,
    DeviceRecord,
    Fact,
    RecoveryCodeRecord,
    begin_writing,
)
from radius_mfa.stores.recovery_codes import code_owner

BATCH_RECORDS = 100
"""Records in one transaction: it takes some milliseconds, for which a change may have to wait."""

NODE_SECONDS = 15.0
"""How long the running nodes have to take up a change of the keys; they look every two seconds."""

_LOOK_SECONDS = 0.2
_ALONE = 7261646976  # any number of our own, next to that of the migrations

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class KeyOnRecord:
    """What a list shows of a key; *records* is how many devices and secrets are under it."""

    version: int
    created_at: datetime | None
    retired_at: datetime | None
    records: int
    encrypts: bool
    in_ring: bool


@dataclass(frozen=True, slots=True)
class Rotated:
    """What a rotation came to: the *version* that encrypts, and how many records it moved."""

    version: int
    records: int


class KeyRotation:
    """Changes keys; *forget_cached* makes Redis drop what it holds of some users' devices."""

    def __init__(
        self,
        database: Database,
        key_ring: KeyRing,
        nodes: Nodes,
        forget_cached: Callable[[Sequence[str]], Awaitable[None]],
        *,
        node_seconds: float = NODE_SECONDS,
    ) -> None:
        if key_ring.file is None:
            raise ValueError("a key ring without a file can't be changed")
        self._database = database
        self._key_ring = key_ring
        self._file = key_ring.file
        self._nodes = nodes
        self._forget_cached = forget_cached
        self._node_seconds = node_seconds

    async def overview(self) -> list[KeyOnRecord]:
        """Return every key that this database has seen."""
        async with self._database.session() as session:
            known = await keys.known_keys(session)
            uses = await _uses(session)
        return [
            KeyOnRecord(
                key.version,
                key.created_at,
                key.retired_at,
                uses.get(key.version, 0),
                encrypts=key.version == self._key_ring.primary,
                in_ring=key.version in self._key_ring.versions,
            )
            for key in known
        ]

    async def rotate(self, tell: Tell) -> Rotated:
        """Make a new key, or go on with one that a rotation before has not finished.

        *tell* is given each step in words. Raises Refused where another rotation is at work, or
        where a running node does not take up the new key; run it again then.
        """
        async with self._alone():
            version = await self._new_key(tell)
            await self._everywhere(
                lambda node: version in node.knows,
                f"key version {version} is not known to {{hosts}}",
                f"copy {self._file} there, then run this again: nothing is lost",
            )
            async with self._database.session() as session, session.begin():
                await keys.make_primary(session, version)
                await audit.append(session, [Act("key.rotate", "", {"version": version})])
            self._key_ring.encrypt_with(version)
            tell(f"Key version {version} encrypts from now on.")
            await self._everywhere(
                lambda node: node.encrypts_with == version,
                f"key version {version} is not in use yet at {{hosts}}",
                "the log there says why; mend it, then run this again: nothing is lost",
            )
            return Rotated(version, await self._encrypt_anew(version, tell))

    async def retire(self, version: int) -> None:
        """Let nobody use the key of *version* any more, and take it out of the key ring.

        Raises Refused while it encrypts, while anything is encrypted under it, or while a node
        would still encrypt under it.
        """
        async with self._alone():
            async with self._database.session() as session, session.begin():
                known = {key.version: key for key in await keys.known_keys(session)}
                if version not in known:
                    raise Refused(f"there is no key version {version}", "see: radius-mfa key list")
                if version == self._key_ring.primary:
                    raise Refused(
                        f"key version {version} is the one that encrypts",
                        "make a new one first: radius-mfa key rotate",
                    )
                await self._refuse_users_of(version)
                await keys.retire(session, known[version])  # from here on nobody uses it anew
                records = (await _uses(session)).get(version, 0)
                if records:
                    raise Refused(
                        f"key version {version} is in use by {records} records",
                        "encrypt them anew first: radius-mfa key rotate",
                    )
                await audit.append(session, [Act("key.retire", "", {"version": version})])
            keyring.remove(self._file, version)

    async def _refuse_users_of(self, version: int) -> None:
        hosts = {node.host for node in await self._nodes.running() if node.encrypts_with == version}
        if hosts:
            raise Refused(
                f"key version {version} still encrypts at {', '.join(sorted(hosts))}",
                "the log there says why",
            )

    async def _new_key(self, tell: Tell) -> int:
        """Return the version to change to, making a key unless one waits to be used."""
        await keys.follow(self._database, self._key_ring)
        primary, newest = self._key_ring.primary, self._key_ring.newest
        if newest != primary:
            tell(f"Going on with key version {newest}, the last one in {self._file}.")
            return newest
        async with self._database.session() as session:
            used = set(await _uses(session))
            known = {key.version for key in await keys.known_keys(session)}
        if used - {primary}:
            tell(f"Going on with key version {primary}: not everything is under it yet.")
            return primary
        version = max(known) + 1
        keyring.append(self._file, keyring.new_key_line(version))
        await keys.follow(self._database, self._key_ring)
        tell(f"Made key version {version} in {self._file}.")
        return version

    async def _everywhere(self, fits: Callable[[Node], bool], what: str, cure: str) -> None:
        """Wait until every running node *fits*, or raise Refused."""
        deadline = time.monotonic() + self._node_seconds
        while True:
            hosts = sorted({node.host for node in await self._nodes.running() if not fits(node)})
            if not hosts:
                return
            if time.monotonic() > deadline:
                raise Refused(what.format(hosts=", ".join(hosts)), cure)
            await asyncio.sleep(_LOOK_SECONDS)

    async def _encrypt_anew(self, version: int, tell: Tell) -> int:
        """Put every record under the key of *version*; return how many were moved.

        Between batches it rests as long as it has worked: logins and changes go first.
        """
        moved, told, after, unreadable = 0, time.monotonic(), "", 0
        await self._digest_key_anew()
        moved += await self._recovery_codes_anew(version)
        while True:
            began = time.monotonic()
            async with self._database.session() as session:
                query = select(DeviceRecord).where(
                    DeviceRecord.key_version != version, DeviceRecord.device_id > after
                )
                query = query.order_by(DeviceRecord.device_id).limit(BATCH_RECORDS)
                batch = list(await session.scalars(query))
            if not batch:
                break
            after = batch[-1].device_id
            rows = [row for row in map(self._anew, batch) if row is not None]
            unreadable += len(batch) - len(rows)
            moved += await self._store(rows)
            if time.monotonic() - told > 1:
                told = time.monotonic()
                tell(f"Encrypted {moved} records anew ...")
            await asyncio.sleep(time.monotonic() - began)
        if unreadable:
            raise Refused(
                f"{unreadable} devices can't be decrypted under the key that they name",
                "restore their rows from a backup, or remove these devices; their users get no "
                "reply (login.unanswered in the log names them)",
            )
        return moved

    def _anew(self, record: DeviceRecord) -> dict[str, object] | None:
        owner = seed_owner(record.user, record.device_id)
        try:
            seed = self._key_ring.decrypt(record.key_version, record.seed, owner)
        except WrongKeyError:
            return None
        fresh_version, fresh = self._key_ring.encrypt(seed, owner)
        return {
            "of_user": record.user,
            "of_device": record.device_id,
            "stored": record.seed,
            "fresh_version": fresh_version,
            "fresh": fresh,
        }

    async def _store(self, rows: list[dict[str, object]]) -> int:
        """Store seeds that are still the ones that were read; whatever else changed stays."""
        if not rows:
            return 0
        await self._forget_cached([str(row["of_user"]) for row in rows])
        table = DeviceRecord.__table__
        statement = (
            update(DeviceRecord)
            .where(table.c.device_id == bindparam("of_device"), table.c.seed == bindparam("stored"))
            .values(key_version=bindparam("fresh_version"), seed=bindparam("fresh"))
        )
        async with self._database.session() as session, session.begin():
            connection = await session.connection()
            await connection.execute(
                statement, [{k: v for k, v in row.items() if k != "of_user"} for row in rows]
            )
        return len(rows)

    async def _recovery_codes_anew(self, version: int) -> int:
        """Put recovery codes under the key of *version*, a batch at a time; none are cached.

        What can't be decrypted ends: it could never be used, and its user can have new ones.
        """
        moved, table = 0, RecoveryCodeRecord
        while True:
            began = time.monotonic()
            async with self._database.session() as session, session.begin():
                await begin_writing(session)
                query = select(table).where(table.key_version != version).order_by(table.code_id)
                query = query.limit(BATCH_RECORDS).with_for_update()
                batch = list(await session.scalars(query))
                for record in batch:
                    owner = code_owner(record.user, record.code_id)
                    try:
                        plain = self._key_ring.decrypt(record.key_version, record.digest, owner)
                    except WrongKeyError:
                        await session.delete(record)
                    else:
                        record.key_version, record.digest = self._key_ring.encrypt(plain, owner)
                        moved += 1
            if not batch:
                return moved
            await asyncio.sleep(time.monotonic() - began)

    async def _digest_key_anew(self) -> None:
        async with self._database.session() as session, session.begin():
            fact = await session.get(Fact, keys.DIGEST_KEY)
            if fact is not None and _version_of(fact) != self._key_ring.primary:
                plain = keys.opened_digest_key(self._key_ring, fact.value)
                fact.value = keys.sealed_digest_key(self._key_ring, plain)

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """Keep others from changing keys: here by the file, elsewhere by the database.

        Both locks end with this process, so that one that was killed holds up nobody.
        """
        with keyring.locked(self._file):
            async with self._database.session() as session:
                if self._database.engine.dialect.name != "postgresql":
                    yield  # SQLite's nodes all have the same file
                    return
                connection = await session.connection(
                    execution_options={"isolation_level": "AUTOCOMMIT"}
                )
                lock = {"number": _ALONE}
                if not await connection.scalar(text("SELECT pg_try_advisory_lock(:number)"), lock):
                    raise keyring.keys_busy()
                try:
                    yield
                finally:
                    await connection.execute(text("SELECT pg_advisory_unlock(:number)"), lock)


def _version_of(fact: Fact) -> int:
    return int(fact.value.partition(" ")[0])


async def _uses(session: AsyncSession) -> dict[int, int]:
    """Return how many records are encrypted under each version."""
    query = select(DeviceRecord.key_version, func.count()).group_by(DeviceRecord.key_version)
    uses: dict[int, int] = {row[0]: row[1] for row in await session.execute(query)}
    codes = RecoveryCodeRecord.key_version
    for version, count in await session.execute(select(codes, func.count()).group_by(codes)):
        uses[version] = uses.get(version, 0) + count
    fact = await session.get(Fact, keys.DIGEST_KEY)
    if fact is not None:
        uses[_version_of(fact)] = uses.get(_version_of(fact), 0) + 1
    return uses

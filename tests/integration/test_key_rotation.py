"""Changing the key over real databases: nothing is lost, nobody waits, no old key is dropped early.

The register of nodes and the cache are a real Redis's; SQL is SQLite and PostgreSQL.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from radius_mfa import tasks
from radius_mfa.errors import BackendUnavailable, ConfigurationError, Refused
from radius_mfa.policy.access import Enrolment
from radius_mfa.stores import key_rotation, keyring, keys
from radius_mfa.stores.attempts import RedisAttempts
from radius_mfa.stores.enrolments import EnrolmentCodec, EnrolmentStore, NewDevice, seed_owner
from radius_mfa.stores.interfaces import Subject
from radius_mfa.stores.key_rotation import KeyRotation
from radius_mfa.stores.keyring import KeyRing
from radius_mfa.stores.nodes import Node, Nodes
from radius_mfa.stores.records import Database, DeviceRecord, RecoveryCodeRecord
from radius_mfa.stores.recovery_codes import RecoveryCodeStore
from tests.integration.conftest import Statements, Told
from tests.support.redis import RealRedis, scripts_over
from tests.support.server import eventually

USERS = 7
BATCH = 3
NODE_SECONDS = 0.5


@dataclass
class Machine:
    """A machine with a key ring file, and what a command line on it works with."""

    file: Path
    database: Database
    attempts: RedisAttempts
    nodes: Nodes
    key_ring: KeyRing
    told: list[str] = field(default_factory=list)

    @property
    def rotation(self) -> KeyRotation:
        return KeyRotation(
            self.database,
            self.key_ring,
            self.nodes,
            self.attempts.forget_enrolments,
            node_seconds=NODE_SECONDS,
        )

    @property
    def store(self) -> EnrolmentStore:
        return EnrolmentStore(self.database, self.key_ring, self.attempts.invalidate)

    async def rotate(self) -> key_rotation.Rotated:
        return await self.rotation.rotate(self.told.append)

    async def versions(self) -> list[int]:
        """Return the key versions of all devices, in no particular order."""
        async with self.database.session() as session:
            rows = await session.execute(DeviceRecord.__table__.select())
            return [row.key_version for row in rows]

    async def seeds(self) -> dict[str, bytes]:
        fetched = {user: await self.store.fetch(user) for user in names()}
        return {user: found.devices[0].seed for user, found in fetched.items()}

    async def announce(self, host: str, *knows: int, encrypts_with: int) -> None:
        """Say that a server runs on *host*."""
        await self.nodes.announce(Node(host, host, knows, encrypts_with, core_dumps=False))


def names() -> list[str]:
    return [f"user{number}" for number in range(USERS)]


@pytest.fixture
async def machine(
    tmp_path: Path, database: Database, real_redis: RealRedis, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Machine]:
    """A machine whose database holds a confirmed device of each user."""
    monkeypatch.setattr(key_rotation, "BATCH_RECORDS", BATCH)
    file = tmp_path / "keyring"
    keyring.create(file)
    key_ring = keyring.load(file)
    codec = EnrolmentCodec(key_ring)
    async with scripts_over(real_redis.url) as scripts:
        attempts = RedisAttempts(scripts, encode=codec.encode, decode=codec.decode)
        await attempts.open_epoch(0)
        made = Machine(file, database, attempts, Nodes(scripts, "radius-mfa:"), key_ring)
        await keys.check(database, key_ring)
        await keys.digest_key(database, key_ring)
        for name in names():
            await made.store.add_user(name)
            seed = name.encode().ljust(20, b"-")
            await made.store.add_device(name, NewDevice("phone", seed), confirmed=True)
        yield made


def twin(machine: Machine, database: Database | None = None) -> Machine:
    """Return another process of the same machine."""
    ring = keyring.load(machine.file)
    return Machine(
        machine.file, database or machine.database, machine.attempts, machine.nodes, ring
    )


async def cache(machine: Machine, user: str) -> None:
    """Let a login of *user* cache their devices."""
    attempts = machine.attempts
    await attempts._scripts.redis.delete(*attempts._keys(user, "barrier"))
    loaded = await attempts.load(Subject(user, "nas|"), [], 0)
    await attempts.remember(user, await machine.store.fetch(user), loaded)


async def cached(machine: Machine, user: str) -> Enrolment | None:
    return (await machine.attempts.load(Subject(user, "nas|"), [], 0)).enrolment


async def test_a_rotation_moves_everything_and_changes_nothing_that_is_told(
    machine: Machine,
) -> None:
    """Seeds and the secret of the digests are the same, under a key that the old one is not."""
    seeds = await machine.seeds()
    digest_key = await keys.digest_key(machine.database, machine.key_ring)
    done = await machine.rotate()
    assert done == key_rotation.Rotated(version=2, records=USERS)
    assert await machine.versions() == [2] * USERS
    afterwards = twin(machine)
    await keys.check(machine.database, afterwards.key_ring)
    assert afterwards.key_ring.primary == 2
    assert await afterwards.seeds() == seeds
    assert await keys.digest_key(machine.database, afterwards.key_ring) == digest_key
    overview = await machine.rotation.overview()
    assert [(key.version, key.records, key.encrypts) for key in overview] == [
        (1, 0, False),
        (2, USERS + 1, True),
    ]
    new_key = machine.file.read_text().splitlines()[-1].split()[1]
    assert not any(new_key in line for line in machine.told)


async def test_devices_in_the_cache_are_cached_anew_under_the_new_key(machine: Machine) -> None:
    """L05: whoever has the old key learns nothing from what Redis holds afterwards."""
    await cache(machine, "user0")
    assert await cached(machine, "user0") is not None
    await machine.rotate()
    assert await cached(machine, "user0") is None


async def test_a_cached_device_under_a_key_that_is_gone_is_read_from_the_database(
    machine: Machine,
) -> None:
    """A late copy in Redis costs a look into SQL, and not the login."""
    await cache(machine, "user0")
    codec = EnrolmentCodec(KeyRing({2: b"2" * 32}))
    enrolment = await machine.store.fetch("user0")
    octets = EnrolmentCodec(machine.key_ring).encode("user0", enrolment)
    assert codec.decode("user0", octets) is None


async def test_a_node_that_knows_only_the_old_key_reads_its_file_when_it_meets_the_new_one(
    machine: Machine,
) -> None:
    """A login there is answered, whenever it comes."""
    seeds = await machine.seeds()
    early = twin(machine)
    await machine.rotate()
    assert early.key_ring.versions == {1}
    assert await early.seeds() == seeds


# Nodes


async def test_nothing_is_encrypted_under_a_key_that_a_running_node_lacks(
    machine: Machine,
) -> None:
    """The node has a file of its own; after it was copied the same rotation goes on."""
    await machine.announce("vpn-b", 1, encrypts_with=1)
    with pytest.raises(Refused, match="key version 2 is not known to vpn-b") as refused:
        await machine.rotate()
    assert f"copy {machine.file} there" in refused.value.cure
    assert await machine.versions() == [1] * USERS
    assert machine.key_ring.primary == 1
    await machine.announce("vpn-b", 1, 2, encrypts_with=1)
    with pytest.raises(Refused, match="key version 2 is not in use yet at vpn-b"):
        await machine.rotate()
    assert await machine.versions() == [1] * USERS, "it might cache a seed under the old key yet"
    await machine.announce("vpn-b", 1, 2, encrypts_with=2)
    assert (await machine.rotate()).version == 2
    assert await machine.versions() == [2] * USERS
    assert keyring.load(machine.file).versions == {1, 2}, "no third key was made on the way"


async def test_a_node_that_has_stopped_is_not_waited_for(machine: Machine) -> None:
    await machine.announce("vpn-b", 1, encrypts_with=1)
    await machine.nodes.withdraw("vpn-b")
    await machine.announce("vpn-c", 1, encrypts_with=1)
    redis = machine.attempts._scripts.redis
    await redis.delete("radius-mfa:{nodes}:vpn-c")  # as when its time is over
    assert (await machine.rotate()).records == USERS
    assert await redis.smembers("radius-mfa:{nodes}:all") == set()


async def test_a_key_that_was_put_into_the_file_by_hand_is_the_one_to_change_to(
    machine: Machine,
) -> None:
    """For a key ring that this program may not write to."""
    keyring.append(machine.file, keyring.new_key_line(9))
    assert (await machine.rotate()).version == 9
    assert keyring.load(machine.file).versions == {1, 9}
    assert (await machine.rotate()).version == 10


async def test_a_machine_whose_file_lacks_the_key_in_use_makes_no_other(
    machine: Machine, tmp_path: Path
) -> None:
    stale = tmp_path / "stale"
    stale.write_bytes(machine.file.read_bytes())
    await machine.rotate()
    elsewhere = Machine(
        stale, machine.database, machine.attempts, machine.nodes, keyring.load(stale)
    )
    before = stale.read_bytes()
    with pytest.raises(ConfigurationError, match="lacks key version 2, which is in use"):
        await elsewhere.rotate()
    assert stale.read_bytes() == before


# Interrupted, and not alone


class KilledError(Exception):
    """Stands for the death of the process."""


@pytest.mark.parametrize("batches", [0, 1, 2])
async def test_a_rotation_that_was_killed_is_finished_by_the_next_one(
    machine: Machine, batches: int
) -> None:
    """In between every seed can be read; afterwards there is one new key and not two."""
    seeds = await machine.seeds()
    left = batches

    async def dies(_users: Any) -> None:
        nonlocal left
        if left == 0:
            raise KilledError
        left -= 1

    dying = machine.rotation
    dying._forget_cached = dies
    with pytest.raises(KilledError):
        await dying.rotate(machine.told.append)
    assert sorted(await machine.versions()) == [1] * (USERS - BATCH * batches) + [2] * (
        BATCH * batches
    )
    later = twin(machine)
    await keys.check(machine.database, later.key_ring)
    assert await later.seeds() == seeds
    assert await later.rotate() == key_rotation.Rotated(2, USERS - BATCH * batches)
    assert await later.versions() == [2] * USERS
    assert keyring.load(machine.file).versions == {1, 2}


async def test_of_two_rotations_at_once_the_second_is_refused(
    machine: Machine, other_database: Database
) -> None:
    other = twin(machine, other_database)
    async with machine.rotation._alone():
        for second in (other.rotate(), other.rotation.retire(1)):
            with pytest.raises(Refused, match="another radius-mfa key rotate"):
                await second
    assert (await other.rotate()).version == 2


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_nodes_with_files_of_their_own_refuse_the_second_rotation_too(
    machine: Machine, other_database: Database, tmp_path: Path
) -> None:
    """By a lock in the database; both would make a key version 2, and they would differ."""
    copy = tmp_path / "copy"
    copy.write_bytes(machine.file.read_bytes())
    other = Machine(copy, other_database, machine.attempts, machine.nodes, keyring.load(copy))
    async with machine.rotation._alone():
        with pytest.raises(Refused, match="another radius-mfa key rotate"):
            await other.rotate()
        assert copy.read_bytes() == machine.file.read_bytes()
    async with other.rotation._alone():
        pass


@pytest.mark.parametrize("change", ["removed", "replaced"])
async def test_a_device_that_is_changed_meanwhile_stays_as_it_was_changed(
    machine: Machine, change: str
) -> None:
    """What was read is written only over itself: no removed device comes back."""

    async def interfere(users: Any) -> None:
        if "user3" in users:
            await machine.store.remove_device("user3", "phone")
            if change == "replaced":
                new = NewDevice("phone", b"another seed of user3")
                await machine.store.add_device("user3", new, confirmed=True)

    rotation = machine.rotation
    rotation._forget_cached = interfere
    await rotation.rotate(machine.told.append)
    found = (await machine.store.fetch("user3")).devices
    assert [device.seed for device in found] == (
        [] if change == "removed" else [b"another seed of user3"]
    )
    assert set(await machine.versions()) == {2}


async def test_a_seed_that_was_put_back_meanwhile_is_not_written_over(machine: Machine) -> None:
    """An operator mends a row by hand: the next rotation moves it, and this one leaves it."""
    new_seed, key = b"put back by hand----", machine.key_ring

    async def interfere(users: Any) -> None:
        if "user3" not in users:
            return
        async with machine.database.session() as session, session.begin():
            record = (await machine.store._devices(session, "user3"))[0]
            record.seed = key.sealed(1, new_seed, seed_owner("user3", record.device_id))

    rotation = machine.rotation
    rotation._forget_cached = interfere
    await rotation.rotate(machine.told.append)
    assert (await machine.store.fetch("user3")).devices[0].seed == new_seed
    assert sorted(await machine.versions()) == [1] + [2] * (USERS - 1)
    assert (await machine.rotate()).version == 2
    assert await machine.versions() == [2] * USERS


async def test_a_seed_that_can_not_be_read_is_told_and_holds_up_no_other(machine: Machine) -> None:
    async with machine.database.session() as session, session.begin():
        damaged = update(DeviceRecord).where(DeviceRecord.user == "user2")
        await session.execute(damaged.values(seed=b"damaged"))
    with pytest.raises(Refused, match="1 devices can't be decrypted"):
        await machine.rotate()
    assert sorted(await machine.versions()) == [1] + [2] * (USERS - 1)
    with pytest.raises(Refused, match="key version 1 is in use by 1 record"):
        await machine.rotation.retire(1)


# Retiring


async def test_a_key_is_retired_when_nothing_is_under_it_and_never_used_again(
    machine: Machine,
) -> None:
    late = twin(machine)
    await machine.rotate()
    await machine.rotation.retire(1)
    assert keyring.load(machine.file).versions == {2}
    await keys.follow(machine.database, machine.key_ring)
    assert machine.key_ring.versions == {2}
    assert late.key_ring.primary == 1, "a process that read the key ring before"
    with pytest.raises(Refused, match="key version 1 was retired a moment ago"):
        await late.store.add_device("user0", NewDevice("late"))
    assert set(await machine.versions()) == {2}
    assert (await machine.rotate()).version == 3, "its number is not given again"
    retired = (await machine.rotation.overview())[0]
    assert (retired.version, retired.in_ring) == (1, False)
    assert retired.retired_at is not None


async def test_a_key_ring_that_still_has_a_retired_key_is_no_fault_and_does_not_use_it(
    machine: Machine, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    await machine.rotate()
    copy.write_bytes(machine.file.read_bytes())
    await machine.rotation.retire(1)
    elsewhere = keyring.load(copy)
    await keys.check(machine.database, elsewhere)
    assert (sorted(elsewhere.versions), elsewhere.primary) == ([2], 2)


def still_encrypts(machine: Machine) -> Any:
    return machine.announce("vpn-b", 1, 2, encrypts_with=1)


def late_device(machine: Machine) -> Any:
    machine.key_ring.encrypt_with(1)
    return machine.store.add_device("user0", NewDevice("late"))


async def nothing(_machine: Machine) -> None:
    return None


@pytest.mark.parametrize(
    ("version", "before", "why"),
    [
        (2, nothing, "key version 2 is the one that encrypts"),
        (3, nothing, "there is no key version 3"),
        (1, still_encrypts, "key version 1 still encrypts at vpn-b"),
        (1, late_device, "key version 1 is in use by 1 record"),
    ],
)
async def test_a_key_in_use_is_not_retired(
    machine: Machine, version: int, before: Callable[[Machine], Any], why: str
) -> None:
    await machine.rotate()
    await before(machine)
    machine.key_ring.encrypt_with(2)
    content = machine.file.read_text()
    with pytest.raises(Refused, match=f"^{why}"):
        await machine.rotation.retire(version)
    assert machine.file.read_text() == content
    await machine.announce("vpn-b", 1, 2, encrypts_with=2)
    if before is late_device:
        assert (await machine.rotate()).version == 2, "there is no need of another key"
    await machine.rotation.retire(1)


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_a_key_is_not_retired_under_a_writer_that_has_not_committed(
    machine: Machine, other_database: Database
) -> None:
    """It waits for the writer, and then sees what was written."""
    await machine.rotate()
    writer = twin(machine, other_database)
    statements = Statements()
    statements.watch(machine.database)
    async with writer.store.change("user0", "test") as session:
        await keys.hold(session, 1)
        retiring = tasks.spawn(machine.rotation.retire(1))
        await asyncio.to_thread(
            eventually, lambda: any("UPDATE fact" in sent for sent in statements.sent), "it to wait"
        )
        record = (await writer.store._devices(session, "user0"))[0]
        record.key_version = 1
    with pytest.raises(Refused, match="key version 1 is in use by 1 record"):
        await retiring
    assert keyring.load(machine.file).versions == {1, 2}


async def test_a_row_under_a_key_that_nobody_has_is_no_answer(machine: Machine) -> None:
    """Rule 9: the gateway tries another node; the user is not refused."""
    stranger = EnrolmentStore(machine.database, KeyRing({5: b"5" * 32}), Told())
    with pytest.raises(BackendUnavailable, match="no key of version 1"):
        await stranger.fetch("user0")


# Recovery codes


async def test_recovery_codes_are_moved_too_and_hold_their_key_until_then(
    machine: Machine,
) -> None:
    """More than a batch of them; each still lets its user in, and none is used up."""
    store = RecoveryCodeStore(machine.store, machine.key_ring)
    codes = {user: await store.renew(user) for user in ("user0", "user1")}
    await machine.rotate()
    async with machine.database.session() as session:
        versions = set(await session.scalars(select(RecoveryCodeRecord.key_version)))
    assert versions == {2}
    await machine.rotation.retire(1)
    fresh = twin(machine)
    assert fresh.key_ring.versions == {2}
    store = RecoveryCodeStore(fresh.store, fresh.key_ring)
    for user, known in codes.items():
        for code in known:
            match = await store.find(user, [code], "login", 0)
            assert match is not None
            assert not match.used


async def test_a_key_that_a_recovery_code_is_under_is_not_retired(machine: Machine) -> None:
    old = twin(machine)
    await machine.rotate()
    await RecoveryCodeStore(old.store, old.key_ring).renew("user0")
    with pytest.raises(Refused, match="key version 1 is in use by 10 records"):
        await machine.rotation.retire(1)


async def test_a_recovery_code_that_nothing_decrypts_ends(machine: Machine) -> None:
    store = RecoveryCodeStore(machine.store, machine.key_ring)
    await store.renew("user0")
    async with machine.database.session() as session, session.begin():
        await session.execute(update(RecoveryCodeRecord).values(digest=b"rubbish"))
    await machine.rotate()
    assert (await machine.store.user("user0")).recovery_codes == 0

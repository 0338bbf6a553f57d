"""Seeds at rest: never in plain, and readable in their own place alone (O10, L05)."""

import base64
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import update
from sqlalchemy.engine import URL

from radius_mfa.errors import BackendUnavailable
from radius_mfa.policy.access import Enrolment
from radius_mfa.policy.totp import base32
from radius_mfa.stores.enrolments import EnrolmentCodec, EnrolmentStore, NewDevice
from radius_mfa.stores.keyring import KEY_OCTETS, KeyRing
from radius_mfa.stores.records import Database, DeviceRecord
from tests.integration.conftest import Told
from tests.support.postgres import RealPostgres

SEED = b"canary-seed-of-alice"
FIRST_KEY, SECOND_KEY = bytes(range(KEY_OCTETS)), bytes(range(1, KEY_OCTETS + 1))


def traces(seed: bytes) -> list[bytes]:
    """Return the forms in which *seed* would be recognised in a dump."""
    texts = [seed.hex(), base32(seed), base64.b64encode(seed).decode()]
    return [seed, *(text.encode() for text in texts), *(text.lower().encode() for text in texts)]


async def stored(database: Database, name: str) -> tuple[int, bytes]:
    """Return key version and ciphertext of the device called *name*."""
    async with database.session() as session:
        query = DeviceRecord.__table__.select().where(DeviceRecord.name == name)
        row = (await session.execute(query)).one()
    return row.key_version, row.seed


async def overwrite(database: Database, name: str, seed: bytes) -> None:
    async with database.session() as session, session.begin():
        await session.execute(
            update(DeviceRecord).where(DeviceRecord.name == name).values(seed=seed)
        )


@pytest.fixture
def dump(url: URL, request: pytest.FixtureRequest) -> Callable[[], bytes]:
    """Take everything that a thief of the database, or of its backup, would have."""

    def run() -> bytes:
        assert url.database
        if url.get_backend_name() == "sqlite":
            files = sorted(Path(url.database).parent.glob("radius-mfa.db*"))
            assert [file.name for file in files][:3:2] == ["radius-mfa.db", "radius-mfa.db-wal"]
            return b"".join(file.read_bytes() for file in files)
        server: RealPostgres = request.getfixturevalue("postgres")
        return server.dump(url.database)

    return run


async def test_no_seed_is_in_the_database_in_any_form(
    store: EnrolmentStore, database: Database, dump: Callable[[], bytes]
) -> None:
    """O10, L05: confirmed, unconfirmed, replaced and removed ones alike."""
    other = b"canary-seed-number-2"
    await store.add_user("alice", "canary hash")
    await store.add_device("alice", NewDevice("phone", SEED), confirmed=True)
    await store.add_device("alice", NewDevice("tablet", other))
    await store.add_device("alice", NewDevice("tablet", other))
    _, kept = await stored(database, "phone")
    await store.add_user("bob")
    await store.add_device("bob", NewDevice("removed", SEED), confirmed=True)
    await store.remove_device("bob", "removed")
    octets = dump()
    assert kept in octets or kept.hex().encode() in octets, "the dump shows what is stored"
    for seed in (SEED, other):
        assert [trace for trace in traces(seed) if trace in octets] == []


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(lambda seed, _: seed[:-1] + bytes([seed[-1] ^ 1]), id="tampered tag"),
        pytest.param(lambda seed, _: bytes([seed[0] ^ 1]) + seed[1:], id="tampered nonce"),
        pytest.param(lambda seed, _: seed[:-1], id="cut"),
        pytest.param(lambda _seed, _: b"", id="empty"),
        pytest.param(lambda _seed, _: b"1234567", id="shorter than a nonce"),
        pytest.param(lambda _seed, other: other, id="of another device"),
    ],
)
@pytest.mark.parametrize("owner", ["alice", "bob"])
async def test_a_seed_that_is_not_the_devices_own_is_refused(
    store: EnrolmentStore, database: Database, owner: str, fault: Callable[[bytes, bytes], bytes]
) -> None:
    """The user and the device are associated data: a row copied elsewhere opens nothing."""
    for user in ("alice", "bob"):
        await store.add_user(user)
    await store.add_device("alice", NewDevice("victim", SEED), confirmed=True)
    await store.add_device(owner, NewDevice("other"), confirmed=True)
    _, seed = await stored(database, "victim")
    _, foreign = await stored(database, "other")
    await overwrite(database, "victim", fault(seed, foreign))
    with pytest.raises(BackendUnavailable, match=r"^keyring: key version 1 does not decrypt it$"):
        await store.fetch("alice")
    await overwrite(database, "victim", seed)
    assert SEED in {device.seed for device in (await store.fetch("alice")).devices}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({1: SECOND_KEY}, "key version 1 does not decrypt it"),
        ({2: FIRST_KEY}, "the key ring has no key of version 1"),
    ],
)
async def test_a_key_ring_that_does_not_fit_is_no_answer(
    store: EnrolmentStore, other_database: Database, keys: dict[int, bytes], message: str
) -> None:
    """Rule 9: it is the operator's fault, so the user is not rejected for it."""
    await store.add_user("alice")
    await store.add_device("alice", NewDevice("phone", SEED), confirmed=True)
    stranger = EnrolmentStore(other_database, KeyRing(keys), Told())
    with pytest.raises(BackendUnavailable, match=f"^keyring: {message}$"):
        await stranger.fetch("alice")


async def test_old_seeds_open_after_a_rotation_and_new_ones_are_under_the_new_key(
    store: EnrolmentStore, other_database: Database
) -> None:
    await store.add_user("alice")
    await store.add_device("alice", NewDevice("old", SEED), confirmed=True)
    rotated = EnrolmentStore(other_database, KeyRing({1: FIRST_KEY, 2: SECOND_KEY}), Told())
    new = await rotated.add_device("alice", NewDevice("new"), confirmed=True)
    assert [d.seed for d in (await rotated.fetch("alice")).devices] == [SEED, new.seed]
    assert (await stored(other_database, "old"))[0] == 1
    assert (await stored(other_database, "new"))[0] == 2
    with pytest.raises(BackendUnavailable, match="no key of version 2"):
        await store.fetch("alice")


async def test_what_redis_caches_shows_no_seed_and_opens_for_its_user_alone(
    store: EnrolmentStore, key_ring: KeyRing
) -> None:
    await store.add_user("alice")
    device = await store.add_device("alice", NewDevice("phone", SEED))
    await store.confirm_device("alice", device.device_id, 7)
    enrolment = await store.fetch("alice")
    codec = EnrolmentCodec(key_ring)
    octets = codec.encode("alice", enrolment)
    assert [trace for trace in traces(SEED) if trace in octets] == []
    assert codec.decode("alice", octets) == enrolment
    with pytest.raises(BackendUnavailable, match="keyring"):
        codec.decode("bob", octets)
    with pytest.raises(BackendUnavailable, match="keyring"):
        codec.decode("alice", octets.replace(device.device_id.encode(), b"x" * 36))
    nobody = Enrolment()
    assert codec.decode("nobody", codec.encode("nobody", nobody)) == nobody


def test_no_repr_shows_a_seed() -> None:
    """L01: neither of what is to be enrolled nor of what is on record."""
    new = NewDevice("phone", SEED)
    assert [trace for trace in traces(SEED) if trace in repr(new).encode()] == []


def test_a_seed_is_random_and_long_enough() -> None:
    """O10: 160 bits, as RFC 4226 section 4 recommends."""
    seeds = {NewDevice("phone").seed for _ in range(100)}
    assert len(seeds) == 100
    assert {len(seed) for seed in seeds} == {20}

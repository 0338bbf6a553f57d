"""The local directory: right, wrong and unknown passwords, and what is remembered of them."""

import asyncio
import hmac
import itertools
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import delete, update

from radius_mfa.errors import BackendUnavailable, Refused
from radius_mfa.policy.access import Enrolment
from radius_mfa.stores import directory_local
from radius_mfa.stores.directory_local import LocalDirectory
from radius_mfa.stores.enrolments import EnrolmentStore, NewDevice
from radius_mfa.stores.hashing import Hashing, HashParameters
from radius_mfa.stores.interfaces import Identity, PasswordVerdict
from radius_mfa.stores.records import Database, LocalUser
from tests.integration.conftest import Statements, Told, everything

PASSWORD = "canary-password"
NEW_PASSWORD = "canary-new-password"
RIGHT, WRONG, UNKNOWN = (
    PasswordVerdict.RIGHT,
    PasswordVerdict.WRONG,
    PasswordVerdict.UNKNOWN_USER,
)
LIGHT, HEAVIER = HashParameters(memory_kib=64, iterations=1), HashParameters(128, 2)


class CountedHashing(Hashing):
    """Notes every comparison, and what stood on record for it."""

    def __init__(self, parameters: HashParameters = LIGHT) -> None:
        super().__init__(parameters)
        self.compared: list[str | None] = []
        self.made = 0

    async def hashed(self, password: str) -> str:
        self.made += 1
        return await super().hashed(password)

    async def verified(self, stored: str | None, password: str) -> bool:
        self.compared.append(stored)
        return await super().verified(stored, password)


MakeHashing = Callable[[HashParameters], CountedHashing]


@pytest.fixture
def make_hashing() -> Iterator[MakeHashing]:
    made: list[CountedHashing] = []

    def make(parameters: HashParameters) -> CountedHashing:
        made.append(CountedHashing(parameters))
        return made[-1]

    yield make
    for hashing in made:
        hashing.close()


@pytest.fixture
def hashing(make_hashing: MakeHashing) -> CountedHashing:
    return make_hashing(LIGHT)


@pytest.fixture
def directory(store: EnrolmentStore, hashing: CountedHashing) -> LocalDirectory:
    return LocalDirectory(store, hashing)


@pytest.fixture
def caching(store: EnrolmentStore, hashing: CountedHashing) -> LocalDirectory:
    """A directory with the credential cache switched on."""
    return LocalDirectory(store, hashing, credential_cache_seconds=60)


@pytest.fixture
async def alice(store: EnrolmentStore, directory: LocalDirectory) -> Enrolment:
    await directory.add("alice", PASSWORD)
    await store.add_device("alice", NewDevice("phone"), confirmed=True)
    return await store.fetch("alice")


async def hash_of(database: Database, user: str) -> str:
    async with database.session() as session:
        return (await session.get_one(LocalUser, user)).password_hash


# Verdicts


@pytest.mark.parametrize(
    "password", ["", "canary-passwor", "canary-password ", "Canary-password", "canary-password\0"]
)
async def test_a_wrong_password_is_wrong(
    directory: LocalDirectory, alice: Enrolment, password: str
) -> None:
    assert await directory.verify("alice", password, alice) is WRONG
    assert await directory.verify("alice", PASSWORD, alice) is RIGHT


async def test_an_unknown_user_is_unknown_after_as_much_work(
    directory: LocalDirectory, hashing: CountedHashing, alice: Enrolment
) -> None:
    """A15: a hash is verified for them too; what their password is does not matter."""
    assert await directory.verify("nobody", PASSWORD, Enrolment()) is UNKNOWN
    assert await directory.verify("nobody", "the password of nobody", Enrolment()) is UNKNOWN
    assert await directory.verify("alice", "wrong", alice) is WRONG
    assert [stored is None for stored in hashing.compared] == [True, True, False]


async def test_a_user_whose_password_lives_elsewhere_is_unknown_here(
    directory: LocalDirectory, store: EnrolmentStore
) -> None:
    await store.add_user("bob")
    assert await directory.verify("bob", "", await store.fetch("bob")) is UNKNOWN
    with pytest.raises(Refused, match="the password of bob is not kept here"):
        await directory.set_password("bob", PASSWORD)


async def test_two_forms_of_one_password_are_one(
    directory: LocalDirectory, store: EnrolmentStore
) -> None:
    """NFC (RFC 8265 section 4.2), and no more: compatibility forms stay apart."""
    composed, decomposed = "caf\u00e9-\uac00", "cafe\u0301-\u1100\u1161"
    for user, password in (("one", composed), ("two", decomposed)):
        await directory.add(user, password)
        enrolment = await store.fetch(user)
        assert await directory.verify(user, composed, enrolment) is RIGHT
        assert await directory.verify(user, decomposed, enrolment) is RIGHT
        assert await directory.verify(user, "cafe-\uac00", enrolment) is WRONG
    await directory.add("three", "\ufb01sh")
    assert await directory.verify("three", "fish", await store.fetch("three")) is WRONG


@pytest.mark.parametrize(
    "password",
    ["x" * 128, "with spaces ", "a,b;c", "quotes '\"\\", "ends123456", "ümläut€", "\U0001f511" * 4],
)
async def test_any_password_works(
    directory: LocalDirectory, store: EnrolmentStore, password: str
) -> None:
    await directory.add("alice", password)
    enrolment = await store.fetch("alice")
    assert await directory.verify("alice", password, enrolment) is RIGHT
    assert await directory.verify("alice", password[:-1], enrolment) is WRONG


@pytest.mark.usefixtures("alice")
async def test_a_refused_password_changes_nothing(
    directory: LocalDirectory, database: Database
) -> None:
    before = await everything(database)
    with pytest.raises(Refused, match="alice exists already"):
        await directory.add("alice", NEW_PASSWORD)
    with pytest.raises(Refused, match="there is no user nobody"):
        await directory.set_password("nobody", NEW_PASSWORD)
    assert await everything(database) == before


@pytest.mark.usefixtures("alice")
@pytest.mark.parametrize("fail_on", [1, 2])
async def test_a_new_password_holds_only_where_redis_was_told_of_it_first(
    directory: LocalDirectory, store: EnrolmentStore, told: Told, fail_on: int
) -> None:
    told.users.clear()
    told.fail_on = fail_on
    if fail_on == 1:
        with pytest.raises(BackendUnavailable, match="redis"):
            await directory.set_password("alice", NEW_PASSWORD)
    else:
        await directory.set_password("alice", NEW_PASSWORD)
    holds = PASSWORD if fail_on == 1 else NEW_PASSWORD
    enrolment = await store.fetch("alice")
    for password in (PASSWORD, NEW_PASSWORD):
        expected = RIGHT if password == holds else WRONG
        assert await directory.verify("alice", password, enrolment) is expected


# What is remembered


async def test_a_password_changed_on_another_node_is_noticed_at_once(
    caching: LocalDirectory,
    other_store: EnrolmentStore,
    hashing: CountedHashing,
    alice: Enrolment,
) -> None:
    """The version that every login brings decides, whatever was remembered or cached."""
    assert await caching.verify("alice", PASSWORD, alice) is RIGHT
    await LocalDirectory(other_store, hashing).set_password("alice", NEW_PASSWORD)
    changed = await other_store.fetch("alice")
    assert changed.version > alice.version
    assert await caching.verify("alice", PASSWORD, changed) is WRONG
    assert await caching.verify("alice", NEW_PASSWORD, changed) is RIGHT
    assert await caching.verify("alice", PASSWORD, changed) is WRONG


async def test_a_user_made_anew_has_none_of_the_old_passwords(
    caching: LocalDirectory, store: EnrolmentStore, alice: Enrolment
) -> None:
    assert await caching.verify("alice", PASSWORD, alice) is RIGHT
    await store.delete_user("alice")
    assert await caching.verify("alice", PASSWORD, await store.fetch("alice")) is UNKNOWN
    await caching.add("alice", NEW_PASSWORD)
    anew = await store.fetch("alice")
    assert await caching.verify("alice", PASSWORD, anew) is WRONG
    assert await caching.verify("alice", NEW_PASSWORD, anew) is RIGHT


async def test_the_warm_path_asks_sql_nothing(
    directory: LocalDirectory, database: Database, alice: Enrolment
) -> None:
    statements = Statements()
    statements.watch(database)
    assert await directory.verify("alice", PASSWORD, alice) is RIGHT
    assert len(statements.sent) == 1
    for password, verdict in ((PASSWORD, RIGHT), ("wrong", WRONG), (PASSWORD, RIGHT)):
        assert await directory.verify("alice", password, alice) is verdict
    assert len(statements.sent) == 1


async def test_no_more_users_are_remembered_than_the_bound(
    directory: LocalDirectory, alice: Enrolment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those who logged in last are."""
    monkeypatch.setattr(directory_local, "REMEMBERED_USERS", 2)
    for name in ("alice", "one", "alice", "two"):
        await directory.verify(name, PASSWORD, alice)
    assert list(directory._remembered) == ["alice", "two"]


# The credential cache


async def test_few_names_are_known_without_asking_for_each(
    directory: LocalDirectory,
    store: EnrolmentStore,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Users of other directories are none of them; of many users nothing is said."""
    now = 1000.0
    monkeypatch.setattr(directory_local, "monotonic", lambda: now)
    monkeypatch.setattr(directory_local, "FEW_NAMES", 2)
    await store.add_user("alice")
    await store.know(Identity("LDAP/corp/1", "carol", "corp"))
    statements = Statements()
    statements.watch(database)
    assert [await directory.lacked(name) for name in ("alice", "bob", "LDAP/corp/1")] == [
        *(False, True, True)
    ]
    assert len(statements.sent) == 1
    await store.add_user("bob")
    assert await directory.lacked("bob"), "within a minute"
    now += directory_local.NAMES_SECONDS
    assert not await directory.lacked("bob")
    await store.add_user("third")
    now += directory_local.NAMES_SECONDS
    assert not await directory.lacked("nobody"), "too many to be kept"


async def test_without_the_database_the_names_of_a_while_ago_hold(
    directory: LocalDirectory, store: EnrolmentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose password and devices are elsewhere logs in all the same."""
    now = 1000.0
    monkeypatch.setattr(directory_local, "monotonic", lambda: now)

    def down(_database: Database) -> None:
        raise BackendUnavailable("database", "down")

    await store.add_user("alice")
    with monkeypatch.context() as patched:
        patched.setattr(Database, "session", down)
        assert not await directory.lacked("bob"), "nothing is known so far"
    now += directory_local.NAMES_SECONDS
    assert await directory.lacked("bob")
    now += directory_local.NAMES_SECONDS
    monkeypatch.setattr(Database, "session", down)
    assert await directory.lacked("bob")
    assert not await directory.lacked("alice")


async def test_by_default_every_login_is_hashed(
    directory: LocalDirectory, hashing: CountedHashing, alice: Enrolment
) -> None:
    for _ in range(3):
        assert await directory.verify("alice", PASSWORD, alice) is RIGHT
    assert len(hashing.compared) == 3


async def test_a_cached_credential_spares_the_hash_of_that_password_alone(
    caching: LocalDirectory, hashing: CountedHashing, alice: Enrolment
) -> None:
    for password, verdict in ((PASSWORD, RIGHT), (PASSWORD, RIGHT), (PASSWORD, RIGHT)):
        assert await caching.verify("alice", password, alice) is verdict
    assert len(hashing.compared) == 1
    for count, password in enumerate(("wrong", "wrong", "", PASSWORD + "\0"), start=2):
        assert await caching.verify("alice", password, alice) is WRONG
        assert len(hashing.compared) == count
    assert await caching.verify("alice", PASSWORD, alice) is RIGHT
    assert len(hashing.compared) == 5


async def test_a_cached_credential_is_compared_in_constant_time(
    caching: LocalDirectory, alice: Enrolment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B14: by keyed digests of one length, right or wrong."""
    await caching.verify("alice", PASSWORD, alice)
    lengths, compare = [], hmac.compare_digest

    def compare_digest(one: bytes, other: bytes) -> bool:
        lengths.append((len(one), len(other)))
        return compare(one, other)

    monkeypatch.setattr(hmac, "compare_digest", compare_digest)
    for password, verdict in ((PASSWORD, RIGHT), ("wrong", WRONG), (PASSWORD[:-1], WRONG)):
        assert await caching.verify("alice", password, alice) is verdict
    assert lengths == [(32, 32)] * 3


async def test_a_wrong_password_is_never_cached(caching: LocalDirectory, alice: Enrolment) -> None:
    for _ in range(2):
        assert await caching.verify("alice", "wrong", alice) is WRONG
        assert await caching.verify("nobody", "wrong", Enrolment()) is UNKNOWN


async def test_a_cached_credential_expires(
    caching: LocalDirectory,
    hashing: CountedHashing,
    alice: Enrolment,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It counts from the last hash, not from the last use."""
    for now, hashes in ((1000.0, 1), (1030.0, 1), (1059.9, 1), (1060.0, 2), (1119.9, 2), (1120, 3)):
        monkeypatch.setattr(directory_local, "monotonic", itertools.repeat(now).__next__)
        assert await caching.verify("alice", PASSWORD, alice) is RIGHT
        assert len(hashing.compared) == hashes


async def test_a_cached_credential_is_bound_to_user_and_hash(
    caching: LocalDirectory, hashing: CountedHashing, alice: Enrolment
) -> None:
    await caching.verify("alice", PASSWORD, alice)
    remembered = caching._remembered["alice"]
    caching._remembered["bob"] = remembered
    assert await caching.verify("bob", PASSWORD, alice) is RIGHT
    assert len(hashing.compared) == 2, "hashed: the proof was alice's"
    remembered.password_hash = await hashing.hashed(NEW_PASSWORD)
    for user in ("alice", "bob"):
        assert await caching.verify(user, PASSWORD, alice) is WRONG


async def test_what_is_remembered_shows_no_password(
    caching: LocalDirectory, alice: Enrolment
) -> None:
    """L01; and the cached proof is keyed: a table of passwords does not find it."""
    await caching.verify("alice", PASSWORD, alice)
    shown = f"{caching._remembered!r} {caching!r}"
    assert PASSWORD not in shown
    other = LocalDirectory(caching._enrolments, caching.hashing, credential_cache_seconds=60)
    await other.verify("alice", PASSWORD, alice)
    assert other._remembered["alice"].proof != caching._remembered["alice"].proof


# Rehashing


async def test_a_login_brings_an_old_hash_up_to_todays_parameters(
    store: EnrolmentStore, make_hashing: MakeHashing, database: Database, alice: Enrolment
) -> None:
    before, changed_at = await hash_of(database, "alice"), (await store.user("alice"))
    today = make_hashing(HEAVIER)
    directory = LocalDirectory(store, today)
    assert await directory.verify("alice", "wrong", alice) is WRONG
    assert await hash_of(database, "alice") == before
    assert await directory.verify("alice", PASSWORD, alice) is RIGHT
    after = await hash_of(database, "alice")
    assert (today.outdated(before), today.outdated(after)) == (True, False)
    assert await directory.verify("alice", PASSWORD, alice) is RIGHT
    assert today.made == 1, "the next login finds nothing to do"
    assert await directory.verify("alice", "wrong", alice) is WRONG
    assert await hash_of(database, "alice") == after
    assert await store.user("alice") == changed_at, "the password is the same"
    assert await store.fetch("alice") == alice


async def test_a_rehash_never_undoes_a_password_set_meanwhile(
    store: EnrolmentStore,
    other_store: EnrolmentStore,
    make_hashing: MakeHashing,
    alice: Enrolment,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    today = make_hashing(HEAVIER)
    directory, elsewhere = LocalDirectory(store, today), LocalDirectory(other_store, today)
    hashed = today.hashed

    async def overtaken(password: str) -> str:
        fresh = await hashed(password)
        if password == PASSWORD:
            await elsewhere.set_password("alice", NEW_PASSWORD)
        return fresh

    monkeypatch.setattr(today, "hashed", overtaken)
    await directory.verify("alice", PASSWORD, alice)
    changed = await store.fetch("alice")
    assert await directory.verify("alice", PASSWORD, changed) is WRONG
    assert await directory.verify("alice", NEW_PASSWORD, changed) is RIGHT


async def test_a_login_is_right_even_where_its_rehash_is_shed(
    store: EnrolmentStore,
    make_hashing: MakeHashing,
    database: Database,
    alice: Enrolment,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    today = make_hashing(HEAVIER)
    directory = LocalDirectory(store, today)
    before = await hash_of(database, "alice")

    async def shed(_password: str) -> str:
        raise BackendUnavailable("hashing", "the queue is full")

    with monkeypatch.context() as patch:
        patch.setattr(today, "hashed", shed)
        assert await directory.verify("alice", PASSWORD, alice) is RIGHT
    assert await hash_of(database, "alice") == before
    assert await directory.verify("alice", PASSWORD, alice) is RIGHT
    assert await hash_of(database, "alice") != before


async def test_many_first_logins_at_once_leave_one_good_hash(
    store: EnrolmentStore, make_hashing: MakeHashing, database: Database, alice: Enrolment
) -> None:
    today = make_hashing(HEAVIER)
    directory = LocalDirectory(store, today)
    verdicts = await asyncio.gather(
        *(directory.verify("alice", PASSWORD, alice) for _ in range(8)),
        *(directory.verify("alice", "wrong", alice) for _ in range(8)),
    )
    assert verdicts == [RIGHT] * 8 + [WRONG] * 8
    assert not today.outdated(await hash_of(database, "alice"))
    assert await directory.verify("alice", PASSWORD, alice) is RIGHT


async def test_a_hash_that_is_none_lets_nobody_in(
    directory: LocalDirectory, database: Database, alice: Enrolment
) -> None:
    for rubbish in ("", "canary-password", "$argon2id$v=19$m=64,t=1,p=1$"):
        async with database.session() as session, session.begin():
            await session.execute(update(LocalUser).values(password_hash=rubbish))
        directory._remembered.clear()
        assert await directory.verify("alice", PASSWORD, alice) is WRONG
    async with database.session() as session, session.begin():
        await session.execute(delete(LocalUser))
    directory._remembered.clear()
    assert await directory.verify("alice", PASSWORD, alice) is UNKNOWN

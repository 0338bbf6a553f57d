"""The audit trail: nothing without a row, no row without its place in the chain."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.engine import URL

from radius_mfa import tasks
from radius_mfa.authentication.enrolment import EnrolmentService
from radius_mfa.errors import BackendUnavailable, Refused
from radius_mfa.stores import audit
from radius_mfa.stores.audit import Actor, acting_as
from radius_mfa.stores.enrolments import EnrolmentStore, NewDevice
from radius_mfa.stores.interfaces import Identity
from radius_mfa.stores.records import Database
from tests.integration.conftest import Told

NOW = 1_800_000_000.0
ADMIN = Actor("mallory", "203.0.113.7")


class Redis:
    """Stands where failures are forgotten; down where *fails* says so."""

    def __init__(self, *, fails: bool = False) -> None:
        self.fails = fails

    async def unlock(self, user: str) -> None:
        assert user == "alice"
        if self.fails:
            raise BackendUnavailable("redis", "ConnectionError")


def service(store: EnrolmentStore, *, fails: bool = False) -> EnrolmentService:
    return EnrolmentService(store, Redis(fails=fails))


async def _confirm(store: EnrolmentStore) -> None:
    device = await store.add_device("alice", NewDevice("tablet"))
    await store.confirm_device("alice", device.device_id, 7)


Work = Callable[[EnrolmentStore], Coroutine[Any, Any, object]]

ACTS: dict[str, Work] = {
    "user.add": lambda s: s.add_user("bob", "hash"),
    "user.delete": lambda s: s.delete_user("alice"),
    "user.suspend": lambda s: s.suspend(["alice"], suspended=True),
    "user.resume": lambda s: s.suspend(["alice"], suspended=False),
    "user.unlock": lambda s: service(s).unlock(["alice"]),
    "user.reset": lambda s: service(s).reset(["alice"], NOW, 3),
    "device.add": lambda s: s.add_device("alice", NewDevice("third"), confirmed=True),
    "device.confirm": _confirm,
    "device.remove": lambda s: s.remove_device("alice", "phone"),
    "requirement.require": lambda s: service(s).require(["alice"], NOW, 3),
    "requirement.extend": lambda s: service(s).extend(["alice"], NOW, 3),
    "requirement.withdraw": lambda s: service(s).withdraw(["alice"]),
    "requirement.exempt": lambda s: service(s).exempt(["alice"], NOW, NOW + 9, "abroad"),
    "requirement.end_exemption": lambda s: service(s).end_exemption(["alice"]),
    "factor.suspend": lambda s: service(s).suspend_factor(["alice"], suspended=True),
    "factor.resume": lambda s: service(s).suspend_factor(["alice"], suspended=False),
}

FIRST: dict[str, Work] = {
    "requirement.extend": ACTS["requirement.require"],
    "requirement.withdraw": ACTS["requirement.require"],
    "requirement.end_exemption": ACTS["requirement.exempt"],
    "factor.resume": ACTS["factor.suspend"],
    "user.resume": ACTS["user.suspend"],
}
"""What has to be done before, for there to be anything to change."""


@pytest.fixture
async def alice(store: EnrolmentStore) -> None:
    await store.add_user("alice", "hash")
    await store.add_device("alice", NewDevice("phone", b"canary-seed-of-alice"), confirmed=True)


async def acts(database: Database) -> list[tuple[str, str]]:
    return [(entry.act, entry.subject) for entry in await audit.entries(database)]


# ---- What stands on it ---------------------------------------------------------------------------


async def test_a_mail_address_is_the_directory_s_or_one_s_own(
    store: EnrolmentStore, database: Database
) -> None:
    """It is read anew when somebody logs in; nothing is written where it is as it was."""
    ann = Identity("LDAP/corp/4711", "ann", "corp", dn="uid=ann", mail="ann@corp.example")
    moved = replace(ann, mail="ann@new.example")
    await store.refresh_mail(ann)
    assert await store.users() == [], "a login alone puts nobody on record"
    for identity in (ann, ann, moved):
        await store.know(identity)
    assert (await store.user(ann.key)).mail == "ann@new.example"
    for identity in (moved, moved, replace(ann, mail="")):
        await store.refresh_mail(identity)
    assert (await store.user(ann.key)).mail is None
    with pytest.raises(Refused, match="the mail address of ann is what corp says"):
        await store.set_mail(ann.key, "ann@evil.example")
    with pytest.raises(Refused, match="no user nobody"):
        await store.set_mail("nobody", "nobody@corp.example")
    await store.add_user("bob", mail="bob@corp.example")
    await store.set_mail("bob", None)
    entries = await audit.entries(database)
    assert [(e.act, e.subject, e.detail.get("to")) for e in entries if e.act != "user.add"] == [
        ("user.mail", ann.key, "ann@new.example"),
        ("user.mail", ann.key, ""),
        ("user.mail", "bob", ""),
    ]


@pytest.mark.usefixtures("alice")
@pytest.mark.parametrize("act", ACTS)
async def test_every_act_is_on_the_trail(
    store: EnrolmentStore, database: Database, act: str
) -> None:
    """With who, whom, when and from where, and no secret."""
    if act in FIRST:
        await FIRST[act](store)
    with acting_as(ADMIN):
        await ACTS[act](store)
    entry = (await audit.entries(database))[-1]
    subject = "bob" if act == "user.add" else "alice"
    assert (entry.act, entry.subject, entry.who, entry.origin) == (
        act,
        subject,
        "mallory",
        "203.0.113.7",
    )
    assert entry.at.utcoffset() is not None
    assert "canary" not in repr(await audit.entries(database))
    assert (await audit.verified(database)).broken is None


async def test_details_say_what_else_matters(store: EnrolmentStore, database: Database) -> None:
    await store.add_user("alice")
    await service(store).require(["alice"], NOW, 3, NOW + 86_400)
    await service(store).exempt(["alice"], NOW, NOW + 86_400, " abroad ")
    required, exempt = (await audit.entries(database))[-2:]
    assert required.detail == {"days": 3, "from": "2027-01-16T08:00:00+00:00"}
    assert exempt.detail == {"reason": "abroad", "until": "2027-01-16T08:00:00+00:00"}


async def test_a_directory_s_user_is_on_it_by_key_and_by_the_name_of_then(
    store: EnrolmentStore, database: Database
) -> None:
    """From being put on record on; a new name changes no row, and a deletion takes none away."""
    key, renamed = "LDAP/corp/4711", {"to": "ann-smith"}
    for name in ("ann", "ann", "ann-smith"):
        await store.know(Identity(key, name, "corp", dn=f"uid={name}"))
    await service(store).require([key], NOW, 3)
    await service(store).reset([key], NOW, 3)
    await store.suspend([key], suspended=True)
    async with store.noted(key, "user.unlock"):
        pass
    await store.delete_user(key)
    entries = await audit.entries(database, subject=key)
    assert [(e.act, e.called, e.detail) for e in entries] == [
        ("user.add", "ann", {"directory": "corp"}),
        ("user.rename", "ann", renamed),
        ("requirement.require", "ann-smith", {"days": 3}),
        ("user.reset", "ann-smith", {"days": 3}),
        ("user.suspend", "ann-smith", {}),
        ("user.unlock", "ann-smith", {}),
        ("user.delete", "ann-smith", {}),
    ]
    assert await audit.entries(database, subject="ann") == []
    assert await audit.entries(database, subject="ann", called="ann") == entries[:2]


@pytest.mark.usefixtures("alice")
@pytest.mark.parametrize(
    "work",
    [
        pytest.param(lambda s: s.add_user("alice"), id="exists"),
        pytest.param(lambda s: s.add_device("alice", NewDevice("phone")), id="name"),
        pytest.param(lambda s: s.remove_device("alice", "x"), id="no-device"),
        pytest.param(lambda s: service(s).unlock(["bob"]), id="unlock-nobody"),
        pytest.param(lambda s: service(s).require(["alice", "bob"], NOW), id="one-unknown"),
        pytest.param(lambda s: service(s).reset(["bob"], NOW), id="reset-nobody"),
    ],
)
async def test_what_is_refused_leaves_no_row(
    store: EnrolmentStore, database: Database, work: Work
) -> None:
    before = await acts(database)
    with pytest.raises(Refused):
        await work(store)
    assert await acts(database) == before


@pytest.mark.usefixtures("alice")
async def test_what_changes_nothing_leaves_no_row(
    store: EnrolmentStore, database: Database
) -> None:
    before = await acts(database)
    assert await service(store).withdraw(["alice"]) == []
    assert await service(store).extend(["alice"], NOW) == []
    assert await service(store).suspend_factor(["alice"], suspended=False) == []
    assert await acts(database) == before


@pytest.mark.usefixtures("alice")
async def test_what_redis_refuses_leaves_no_row(store: EnrolmentStore, database: Database) -> None:
    before = await acts(database)
    with pytest.raises(BackendUnavailable):
        await service(store, fails=True).unlock(["alice"])
    assert await acts(database) == before


async def test_tasks_act_for_whoever_began_them(store: EnrolmentStore, database: Database) -> None:
    """Two admins at once in one process, as in the portal, and the server itself."""

    async def add(who: str) -> None:
        with acting_as(Actor(who)):
            await asyncio.gather(*(store.add_user(f"{who}{n}") for n in range(3)))

    await asyncio.gather(tasks.spawn(add("ann")), tasks.spawn(add("ben")), store.add_user("zoe"))
    for entry in await audit.entries(database):
        assert entry.who == ("radius-mfa" if entry.subject == "zoe" else entry.subject[:3])


async def test_entries_are_found_by_subject_and_actor(
    store: EnrolmentStore, database: Database
) -> None:
    with acting_as(ADMIN):
        for number in range(4):
            await store.add_user(f"user{number}")
    await store.suspend(["user1"], suspended=True)
    assert [e.act for e in await audit.entries(database, subject="user1")] == [
        "user.add",
        "user.suspend",
    ]
    assert len(await audit.entries(database, who="mallory")) == 4
    assert [e.number for e in await audit.entries(database, limit=2)] == [4, 5]
    assert [e.subject for e in await audit.entries(database, who="mallory", limit=1)] == ["user3"]


# ---- The chain -----------------------------------------------------------------------------------


async def run(database: Database, *statements: str) -> None:
    async with database.session() as session, session.begin():
        for statement in statements:
            await session.execute(text(statement))


OFF = {
    "sqlite": ["DROP TRIGGER audit_no_update", "DROP TRIGGER audit_no_delete"],
    "postgresql": ["ALTER TABLE audit DISABLE TRIGGER USER"],
}
ON = {"sqlite": [], "postgresql": ["ALTER TABLE audit ENABLE TRIGGER USER"]}


async def without_rule(database: Database, statement: str) -> None:
    """Run *statement* as the owner of the database could."""
    backend = database.engine.dialect.name
    await run(database, *OFF[backend])
    try:
        await run(database, statement)
    finally:
        await run(database, *ON[backend])


@pytest.mark.parametrize(
    "statement", ["UPDATE audit SET who = 'nobody'", "DELETE FROM audit WHERE number = 2"]
)
async def test_the_database_refuses_to_change_a_row(
    store: EnrolmentStore, database: Database, statement: str
) -> None:
    for name in ("alice", "bob"):
        await store.add_user(name)
    with pytest.raises(Exception, match=r"IntegrityError|RaiseError|appended to"):
        await run(database, statement)
    assert len(await acts(database)) == 2


TAMPERED: dict[str, tuple[str, int, str]] = {
    "who": ("UPDATE audit SET who = 'nobody' WHERE number = 3", 3, "changed"),
    "when": ("UPDATE audit SET at = '2020-01-01 00:00:00+00' WHERE number = 1", 1, "changed"),
    "whom": ("UPDATE audit SET subject = 'x' WHERE number = 5", 5, "changed"),
    "whose name": ("UPDATE audit SET called = 'x' WHERE number = 5", 5, "changed"),
    "detail": ("UPDATE audit SET detail = '{}  ' WHERE number = 2", 2, "changed"),
    "from where": ("UPDATE audit SET origin = '::1' WHERE number = 2", 2, "changed"),
    "digest": ("UPDATE audit SET digest = substr(digest, 2) WHERE number = 4", 4, "changed"),
    "removed": ("DELETE FROM audit WHERE number = 2", 2, "row 2 is missing"),
    "several removed": ("DELETE FROM audit WHERE number IN (2, 3)", 2, "rows 2 to 3 are missing"),
    "the first removed": ("DELETE FROM audit WHERE number = 1", 1, "row 1 is missing"),
    "slipped in": (
        """INSERT INTO audit SELECT 6, at, who, origin, act, subject, called, detail, digest
        FROM audit WHERE number = 5""",
        6,
        "slipped in",
    ),
    "numbered anew": ("UPDATE audit SET number = 0 WHERE number = 1", 1, "missing|changed"),
}


@pytest.mark.parametrize(("statement", "broken", "why"), TAMPERED.values(), ids=TAMPERED)
async def test_the_first_row_that_does_not_fit_is_named(
    store: EnrolmentStore, database: Database, statement: str, broken: int, why: str
) -> None:
    for number in range(5):
        await store.add_user(f"user{number}")
    whole = await audit.verified(database)
    assert (whole.rows, whole.broken) == (5, None)
    await without_rule(database, statement)
    found = await audit.verified(database)
    assert found.broken == broken
    assert any(word in found.why for word in why.split("|")), found.why


async def test_rows_cut_off_at_the_end_show_against_a_noted_digest(
    store: EnrolmentStore, database: Database
) -> None:
    for number in range(3):
        await store.add_user(f"user{number}")
    noted = (await audit.verified(database)).digest
    await store.add_user("later")
    assert (await audit.verified(database, noted)).broken is None
    await without_rule(database, "DELETE FROM audit WHERE number >= 3")
    assert (await audit.verified(database)).broken is None, "a chain alone can't tell"
    found = await audit.verified(database, noted)
    assert found.broken == 3
    assert "noted" in found.why


async def test_an_empty_trail_is_whole(database: Database) -> None:
    assert await audit.verified(database) == audit.Verified(0, audit.FIRST)


async def test_a_trail_is_read_a_page_at_a_time(
    store: EnrolmentStore, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "PAGE_ROWS", 2)
    for number in range(4):
        assert (await audit.verified(database)).rows == number
        await store.add_user(f"user{number}")
    assert (await audit.verified(database)).rows == 4


WRITER = """
import asyncio, sys
from sqlalchemy import make_url
from radius_mfa.stores.audit import Actor, acting_as
from radius_mfa.stores.enrolments import EnrolmentStore
from radius_mfa.stores.keyring import KeyRing
from radius_mfa.stores.records import Database, open_engine

async def nobody_told(user):
    await asyncio.sleep(0)

async def main(url, name):
    database = Database(open_engine(make_url(url), pool_size=4, timeout_seconds=60))
    store = EnrolmentStore(database, KeyRing({1: bytes(32)}), nobody_told)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    for number in range(10):
        await asyncio.gather(
            store.join("alice", ["staff"]),
            store.add_user(f"{name}{number}"),
            store.change_requirements(["alice", "bob"], name, lambda known: bump(known)),
        )
    await database.close()

def bump(known):
    from dataclasses import replace
    return replace(known, exempt_until=(known.exempt_until or 0) + 1)

with acting_as(Actor(sys.argv[2])):
    asyncio.run(main(*sys.argv[1:]))
"""


async def test_processes_that_write_at_once_make_one_chain(
    store: EnrolmentStore, database: Database, url: URL
) -> None:
    """Each act once, in one order, none lost; and single changes and bulk ones never deadlock."""
    await store.add_user("alice")
    await store.add_user("bob")
    words = url.render_as_string(hide_password=False)
    pipe = asyncio.subprocess.PIPE
    writers = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", WRITER, words, name), stdin=pipe, stdout=pipe, stderr=pipe
        )
        for name in ("ann", "ben")
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert await writer.stdout.readline() == b"ready\n"
    results = await asyncio.gather(*(writer.communicate(b"go\n") for writer in writers))
    assert [errors.decode() for _, errors in results] == ["", ""]
    entries = await audit.entries(database)
    assert [entry.number for entry in entries] == list(range(1, 83))
    assert await audit.verified(database) == audit.Verified(82, entries[-1].digest)
    for name in ("ann", "ben"):
        assert sum(entry.who == name for entry in entries) == 40
    asked = (await store.user("alice")).requirement
    assert asked.exempt_until == 20, "no bulk change was lost"


async def test_a_writer_waits_for_the_one_before_it(
    store: EnrolmentStore, other_store: EnrolmentStore, database: Database, told: Told
) -> None:
    """Of two nodes: the second row is chained to the first, which is not committed yet."""
    await store.add_user("alice")
    await store.add_user("bob")
    inside, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        async with store.noted("alice", "slow"):
            inside.set()
            await go_on.wait()

    first = tasks.spawn(slow())
    await inside.wait()
    second = tasks.spawn(other_store.suspend(["bob"], suspended=True))
    done, _ = await asyncio.wait([second], timeout=0.3)
    assert not done
    go_on.set()
    await asyncio.gather(first, second)
    assert [act for act, _ in await acts(database)][-2:] == ["slow", "user.suspend"]
    assert (await audit.verified(database)).broken is None
    assert told.users

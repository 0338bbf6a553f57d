"""Which directory a user is in, and for how long that is kept."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from radius_mfa.config import LdapDirectorySettings
from radius_mfa.errors import BackendUnavailable
from radius_mfa.ldap_setup import options
from radius_mfa.policy.access import Enrolment
from radius_mfa.policy.groups import Group
from radius_mfa.policy.identity import InvalidUserNameError
from radius_mfa.stores import directories
from radius_mfa.stores.directories import Directories
from radius_mfa.stores.directory_ldap import LdapDirectory
from radius_mfa.stores.directory_local import LocalDirectory
from radius_mfa.stores.interfaces import Identity, PasswordVerdict, UserMoved
from tests.support.fake_ldap import SEARCH_DONE, FakeLdap, entry, result

DONE = result(SEARCH_DONE)


class Users(FakeLdap):
    """A fake server that finds the users in *known* and counts the searches for them."""

    def __init__(self, *known: str) -> None:
        super().__init__()
        self.known = set(known)
        self.searched: list[str] = []
        self.silent = False
        self.more: dict[str, list[bytes]] = {}

    def _answered(self, message: bytes) -> list[bytes]:
        for name in (b"alice", b"bob", b"carol", b"nobody"):
            if b"uid\x04" + bytes([len(name)]) + name in message:
                self.searched.append(name.decode())
                found = name.decode() in self.known
                dn = b"uid=%s,dc=fake" % name
                self.answers = [entry(dn, uid=[name], **self.more), DONE] if found else [DONE]
                return [] if self.silent else super()._answered(message)
        self.answers = [DONE]
        return super()._answered(message)


@dataclass
class Local:
    """Stands where the local directory is; *known* is what it had a while ago, if it knows."""

    users: set[str] = field(default_factory=lambda: {"bob", "local@corp.example"})
    known: set[str] | None = None
    asked: list[str] = field(default_factory=list)
    looked_for: list[str] = field(default_factory=list)

    async def lacked(self, user: str) -> bool:
        return self.known is not None and user not in self.known

    async def holds(self, user: str) -> bool:
        self.looked_for.append(user)
        return user in self.users

    async def verify(self, user: str, password: str, _enrolment: Enrolment) -> PasswordVerdict:
        self.asked.append(f"{user} {password}")
        return PasswordVerdict.RIGHT


@dataclass
class World:
    """Two LDAP directories and a local one; a clock that goes when it is told to."""

    first: Users
    second: Users
    local: Local
    known: Directories
    now: float = 1000.0

    async def whose(self, name: str) -> str:
        return (await self.known.identify(name)).directory


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(Users("alice"))
        second = await stack.enter_async_context(Users("alice", "bob", "carol"))
        made = []
        for name, server in (("first", first), ("second", second)):
            section: dict[str, Any] = server.section(
                name=name, realms=[name, f"{name}.example"], timeout_seconds=0.2
            )
            made.append(LdapDirectory(options(LdapDirectorySettings(**section))))
        local = Local()
        known = Directories(cast("LocalDirectory", local), made, local_realms=["here"])
        stack.push_async_callback(known.close)
        world = World(first, second, local, known)
        monkeypatch.setattr(directories, "monotonic", lambda: world.now)
        yield world


# Whose


@pytest.mark.parametrize(
    ("typed", "directory"),
    [
        ("alice", "first"),
        ("carol", "second"),
        ("bob", "local"),
        ("second\\bob", "second"),
        ("BOB@second.example", "second"),
        ("second\\alice", "second"),
        ("first\\carol", ""),
        ("here\\carol", "local"),
        ("carol@elsewhere.example", ""),
        ("nobody", ""),
        ("local@corp.example", "local"),
    ],
)
async def test_a_realm_decides_alone_else_the_order_does(
    world: World, typed: str, directory: str
) -> None:
    assert await world.whose(typed) == directory


@pytest.mark.parametrize("known", [{"bob"}, {"bob", "local@corp.example"}, {"alice"}])
async def test_the_local_directory_is_asked_last_about_a_name_it_lacked(
    world: World, known: set[str]
) -> None:
    """Who was added since is found all the same, whatever the others do; SQL is spared."""
    world.local.known = known
    expected = {"alice": "first", "local@corp.example": "local", "nobody": ""}
    assert {name: await world.whose(name) for name in expected} == expected
    assert ("alice" in world.local.looked_for) == ("alice" in known)
    world.first.silent = True
    world.local.users.add("dave")
    assert await world.whose("dave") == "local"
    with pytest.raises(BackendUnavailable):
        await world.known.identify("carol")


async def test_the_same_name_in_two_directories_is_two_users(world: World) -> None:
    """The directory is part of the key; and no name that can be typed is a key."""
    one, two = [await world.known.identify(name) for name in ("first\\alice", "second\\alice")]
    assert one.dn == two.dn
    assert one.key != two.key
    typed = await world.known.identify(one.key)
    assert typed.directory == ""
    assert typed.key not in {one.key, two.key}


@pytest.mark.parametrize("name", ["", "first\\", "@second.example", "a\x00b", "\u200balice"])
async def test_what_is_no_name_asks_nobody(world: World, name: str) -> None:
    with pytest.raises(InvalidUserNameError):
        await world.known.identify(name)
    assert world.first.searched == world.second.searched == []


async def test_a_password_goes_to_the_directory_that_has_the_user(world: World) -> None:
    for name, binds in (("alice", (1, 0)), ("carol", (1, 1)), ("bob", (1, 1))):
        await world.known.verify(await world.known.identify(name), "wrong", Enrolment())
        assert (len(world.first.binds), len(world.second.binds)) == binds
    assert world.local.asked == ["bob wrong"]
    stranger = await world.known.identify("nobody")
    await world.known.verify(stranger, "x", Enrolment())  # costs what a known one does
    assert world.local.asked[1:] == ["nobody x"]


# A directory that is silent


async def test_a_silent_directory_is_not_passed_over(world: World) -> None:
    """Carol of the second might be another one than the first has; what has a realm goes on."""
    world.first.silent = True
    with pytest.raises(BackendUnavailable, match="first"):
        await world.known.identify("carol")
    assert await world.whose("second\\carol") == "second"
    assert await world.whose("bob") == "local"


async def test_where_a_user_was_found_within_a_day_still_counts(world: World) -> None:
    """The password is still proved by the one who has it."""
    assert await world.whose("carol") == "second"
    world.first.silent = True
    world.now += directories.STALE_SECONDS - 1
    carol = await world.known.identify("carol")
    assert await world.known.verify(carol, "right", Enrolment()) is PasswordVerdict.RIGHT
    world.now += 2
    with pytest.raises(BackendUnavailable):
        await world.known.identify("carol")


# What is kept


async def test_a_user_is_looked_up_once_in_a_while(world: World) -> None:
    for _ in range(3):
        await world.known.identify("Alice")
    assert world.first.searched == ["alice"]
    world.now += 59
    await world.known.identify("alice")
    assert world.first.searched == ["alice"]
    world.now += 2
    await world.known.identify("alice")
    assert world.first.searched == ["alice"] * 2


@pytest.mark.parametrize("name", ["nobody", "alice"])
async def test_strangers_and_accounts_that_are_shut_are_asked_about_again_soon(
    world: World, name: str
) -> None:
    """An admin who has just mended it does not wait for a minute."""
    world.first.more = {"pwdReset": [b"TRUE"]}
    assert (await world.known.identify(name)).state in {None, PasswordVerdict.MUST_CHANGE}
    await world.known.identify(name)
    assert world.first.searched == [name]
    world.first.more = {}
    world.first.known.add(name)
    world.now += directories.DOUBTFUL_SECONDS + 1
    again = await world.known.identify(name)
    assert (again.directory, again.state) == ("first", None)


async def test_made_up_names_push_out_no_user(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is kept is bounded, users and strangers apart."""
    monkeypatch.setattr(directories, "KEPT_STRANGERS", 10)
    monkeypatch.setattr(directories, "KEPT_USERS", 2)
    await world.known.identify("alice")
    for number in range(30):
        await world.known.identify(f"made-up-{number}")
    assert len(world.known._strangers) == 10
    await world.known.identify("alice")
    assert world.first.searched == ["alice"]
    for name in ("bob", "carol"):
        await world.known.identify(name)
    assert len(world.known._users) == 2


async def test_a_kept_identity_says_so(world: World) -> None:
    fresh, kept = [await world.known.identify("alice") for _ in range(2)]
    assert (fresh.kept, kept.kept) == (False, True)
    assert Identity(fresh.key, fresh.name, "first", None, fresh.dn) == fresh


class Asked:
    """Answers for a directory, and keeps who was asked about."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: list[str] = []

    async def __call__(self, user: Identity, *_names: object) -> Any:
        self.asked.append(user.dn)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


WHAT_IS_KNOWN: list[tuple[str, Any, tuple[Any, ...]]] = [
    ("groups", [Group("staff")], ()),
    ("attributes", {"mail": ["a@corp.example"]}, (frozenset({"mail"}),)),
]
on_what_is_known = pytest.mark.parametrize(("what", "answer", "names"), WHAT_IS_KNOWN)


@on_what_is_known
async def test_groups_and_attributes_are_kept_as_long_as_the_user_is(
    world: World, monkeypatch: pytest.MonkeyPatch, what: str, answer: Any, names: tuple[Any, ...]
) -> None:
    """By where the user stands: who was moved is asked about anew, under the same key."""
    asked = Asked(answer)
    monkeypatch.setattr(world.known.ldap[0], what, asked)
    ask = getattr(world.known, what)
    alice = await world.known.identify("alice")
    for _ in range(3):
        assert await ask(alice, *names) == answer
    assert asked.asked == [alice.dn]
    world.now += 59
    await ask(alice, *names)
    world.now += 2
    await ask(alice, *names)
    await ask(replace(alice, dn="uid=alice,ou=moved"), *names)
    assert asked.asked == [alice.dn, alice.dn, "uid=alice,ou=moved"]


@on_what_is_known
async def test_nothing_stale_stands_in_for_a_directory_that_does_not_answer(
    world: World, monkeypatch: pytest.MonkeyPatch, what: str, answer: Any, names: tuple[Any, ...]
) -> None:
    """Rule 9: who a user is may be known for a day, what they may do not."""
    asked = Asked(answer)
    monkeypatch.setattr(world.known.ldap[0], what, asked)
    ask = getattr(world.known, what)
    alice = await world.known.identify("alice")
    await ask(alice, *names)
    world.now += 61
    asked.answer = BackendUnavailable("directory", "hangs")
    with pytest.raises(BackendUnavailable, match="hangs"):
        await ask(alice, *names)


@on_what_is_known
async def test_a_user_who_moved_is_looked_up_again(
    world: World, monkeypatch: pytest.MonkeyPatch, what: str, answer: Any, names: tuple[Any, ...]
) -> None:
    monkeypatch.setattr(world.known.ldap[0], what, Asked(UserMoved("directory", "moved")))
    alice = await world.known.identify("alice")
    kept = await world.known.identify("alice")
    with pytest.raises(UserMoved):
        await getattr(world.known, what)(kept, *names)
    assert world.first.searched == ["alice"]
    assert (await world.known.identify("alice")).key == alice.key
    assert world.first.searched == ["alice"] * 2
    assert answer


async def test_what_the_local_directory_s_users_have_is_asked_of_nobody(world: World) -> None:
    bob = await world.known.identify("bob")
    assert await world.known.groups(bob) == ()
    assert await world.known.attributes(bob, {"mail"}) == {}


async def test_users_of_thousands_of_groups_do_not_fill_the_memory(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bad input: at most 50,000 groups are kept, the newest users' ones."""
    asked = Asked([Group(f"group {number}") for number in range(9_999)])
    monkeypatch.setattr(world.known.ldap[0], "groups", asked)
    users = [Identity(f"LDAP/first/{n}", f"u{n}", "first", dn=f"uid=u{n}") for n in range(6)]
    for user in [*users, *users[1:], users[0]]:
        assert len(await world.known.groups(user)) == 9_999
    assert asked.asked == [*(user.dn for user in users), users[0].dn]
    assert world.known._groups._held == 50_000

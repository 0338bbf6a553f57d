"""Who is in a group of a directory, and all its users, as real servers tell."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from radius_mfa.errors import BackendUnavailable, Refused
from radius_mfa.stores import ldap_listing
from radius_mfa.stores.directory_ldap import LdapDirectory
from radius_mfa.stores.interfaces import PasswordVerdict
from radius_mfa.stores.ldap_connection import PAGE_ENTRIES
from tests.support.ldap_directory import directory, found
from tests.support.proxy import Proxy
from tests.support.slapd import SEARCH_DN, SUFFIX, RealSlapd, group, person

MANY = PAGE_ENTRIES + 20

PASSWORD = "canary-Passw0rd"


def group_dn(name: str) -> str:
    return f"cn={name},ou=groups,{SUFFIX}"


@pytest.fixture(scope="module")
def slapd() -> Iterator[RealSlapd]:
    crowd = [f"many{number:04}" for number in range(MANY)]
    outside = ("uid=out,dc=elsewhere,dc=example", f"uid=gone,ou=people,{SUFFIX}")
    with RealSlapd() as server:
        server.stop()
        server.load([person(name) for name in crowd] + [group("crowd", *crowd)])
        server.start()
        server.add(
            *(person(name, PASSWORD) for name in ("alice", "bob", "carol")),
            person("shut", PASSWORD),
            person("staffed", ou="staff"),
            (f"cn=printer,{SUFFIX}", {"objectClass": ["device"], "cn": ["printer"]}),
            group(
                "direct",
                "alice",
                "bob",
                "shut",
                f"uid=staffed,ou=staff,{SUFFIX}",
                *outside,
                f"cn=printer,{SUFFIX}",
            ),
            group("nested", "carol", group_dn("middle")),
            group("middle", "bob", group_dn("inner"), "alice"),
            group("inner", "alice", group_dn("nested")),
            group("deep", group_dn("nested")),
            group("empty", f"cn=printer,{SUFFIX}"),
            group("Grün & (Co)", "alice"),
            group("twin", "alice"),
        )
        twin, attributes = group("twin", "bob")
        server.add((twin.replace("ou=groups", "ou=staff"), attributes))
        server.modify(f"uid=shut,ou=people,{SUFFIX}", pwdAccountLockedTime=["000001010000Z"])
        yield server


@contextmanager
def configured(line: str, other: str) -> Iterator[RealSlapd]:
    """Run a server with a line of its configuration replaced."""
    with RealSlapd() as server:
        server.stop()
        config = server.folder / "slapd.conf"
        config.write_text(config.read_text("utf-8").replace(line, other))
        server.start()
        yield server


@pytest.fixture
async def corp(slapd: RealSlapd) -> AsyncIterator[LdapDirectory]:
    async with directory(slapd.section()) as opened:
        yield opened


async def names(known: LdapDirectory, group: str) -> list[str]:
    """Return who is in the one group of that name."""
    [one] = await known.groups_named(group)
    return [user.name for user in await known.members(one)]


# Refusals


async def test_a_group_with_more_members_than_the_most_is_refused_whole(
    corp: LdapDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By values, by memberOf and all users alike: never a part of them."""
    monkeypatch.setattr(ldap_listing, "MAX_MEMBERS", MANY - 1)
    monkeypatch.setattr(ldap_listing, "MAX_LISTED", MANY)
    with pytest.raises(Refused, match=f"the group crowd has more than {MANY - 1} members"):
        await names(corp, "crowd")
    with pytest.raises(Refused, match=f"corp has more than {MANY} users"):
        await corp.users()


async def test_a_server_that_lists_a_part_is_no_small_directory() -> None:
    """The search account's own limit, which counts over all pages."""
    limits = f'limits dn.exact="{SEARCH_DN}" size.soft=unlimited size.hard=unlimited size.prtotal=5'
    with configured("overlay ppolicy", f"{limits}\noverlay ppolicy") as server:
        server.add(*(person(f"user{number}") for number in range(10)))
        async with directory(server.section()) as limited:
            with pytest.raises(Refused, match=r"corp lists 5 entries .*, and has more") as refused:
                await limited.users()
    assert "raise its size limit" in refused.value.cure


@pytest.mark.parametrize("mode", ["reset", "hang"])
async def test_a_server_that_is_away_is_unavailable_not_empty(slapd: RealSlapd, mode: str) -> None:
    with Proxy((slapd.address, slapd.tls_port)) as proxy:
        uri = f"ldaps://127.0.0.1:{proxy.port}"
        proxy.mode = mode
        async with directory(slapd.section(servers=[uri], timeout_seconds=0.5)) as away:
            with pytest.raises(BackendUnavailable, match="corp: ldaps"):
                await away.groups_named("direct")
            with pytest.raises(BackendUnavailable, match="corp: ldaps"):
                await away.users()


async def test_what_is_no_group_is_none(corp: LdapDirectory) -> None:
    for name in ("nobody", "*", "alice", f"uid=alice,ou=people,{SUFFIX}", group_dn("gone"), ""):
        assert await corp.groups_named(name) == [], name


async def test_a_directory_without_groups_has_none(slapd: RealSlapd) -> None:
    async with directory(slapd.section(groups="none")) as blind:
        assert await blind.groups_named("direct") == []


# Members


async def test_the_members_are_the_users_that_logins_would_find(corp: LdapDirectory) -> None:
    """With their keys; neither who is gone, nor who is elsewhere, nor what is no user."""
    [one] = await corp.groups_named("DIRECT")
    users = await corp.members(one)
    assert [user.name for user in users] == ["alice", "bob", "shut", "staffed"]
    for user in users:
        assert user == await found(corp, user.name)
    assert users[2].state is PasswordVerdict.LOCKED


async def test_nested_groups_count_and_a_loop_ends(corp: LdapDirectory) -> None:
    assert await names(corp, "nested") == ["alice", "bob", "carol"]
    assert await names(corp, "inner") == ["alice", "bob", "carol"]


@pytest.mark.parametrize(
    ("depth", "members"),
    [(1, []), (2, ["carol"]), (3, ["alice", "bob", "carol"])],
)
async def test_the_depth_that_logins_search_is_the_depth_of_members(
    slapd: RealSlapd, depth: int, members: list[str]
) -> None:
    """The group's members are the users whose groups it is among: the other way round, the same."""
    async with directory(slapd.section(group_depth=depth)) as corp:
        assert await names(corp, "deep") == members
        for name in ("alice", "bob", "carol"):
            groups = await corp.groups(await found(corp, name))
            assert ("deep" in [one.name for one in groups]) is (name in members)


async def test_more_members_than_a_page_are_all_there(corp: LdapDirectory) -> None:
    assert len(await names(corp, "crowd")) == MANY
    assert len(await corp.users()) > MANY


async def test_a_group_is_found_by_name_in_any_case_and_by_its_distinguished_name(
    corp: LdapDirectory,
) -> None:
    for name in ("grün & (co)", f"CN=Grün & (Co), OU=groups,{SUFFIX}"):
        assert await names(corp, name) == ["alice"]
    assert len(await corp.groups_named("twin")) == 2
    assert await names(corp, f"cn=twin,ou=staff,{SUFFIX}") == ["bob"]


async def test_a_base_and_a_filter_narrow_who_is_a_user(slapd: RealSlapd) -> None:
    section: dict[str, Any] = {"base": f"ou=people, {SUFFIX}", "group_base": f"ou=groups,{SUFFIX}"}
    async with directory(slapd.section(**section, filter="(!(uid=bob))")) as narrow:
        assert await names(narrow, "direct") == ["alice", "shut"]
        assert "staffed" not in [user.name for user in await narrow.users()]


async def test_member_of_is_asked_where_it_is_kept() -> None:
    with configured("overlay ppolicy", "overlay memberof\noverlay ppolicy") as server:
        server.add(person("alice"), person("bob"), group("vpn", "alice"))
        async with directory(server.section(groups="member-of")) as corp:
            assert await names(corp, "vpn") == ["alice"]


async def test_another_server_is_asked_where_the_first_is_away(slapd: RealSlapd) -> None:
    async with directory(slapd.section(servers=["ldaps://127.0.0.1:1", slapd.tls_uri])) as corp:
        assert await names(corp, "direct") == ["alice", "bob", "shut", "staffed"]


async def test_a_list_takes_no_connection_from_logins(corp: LdapDirectory) -> None:
    """A server that is slow to list is no server that is down."""
    await corp.users()
    [server] = corp.servers
    assert server._searches._open == 0
    assert server.up

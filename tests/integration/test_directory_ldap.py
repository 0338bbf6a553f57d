"""An LDAP directory over a real slapd: users, states, groups, and what is wrong with either."""

import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import ldap
import pytest

from radius_mfa.errors import BackendUnavailable
from radius_mfa.policy.identity import InvalidUserNameError
from radius_mfa.stores import directory_ldap
from radius_mfa.stores.directory_ldap import LdapDirectory
from radius_mfa.stores.interfaces import Identity, PasswordVerdict, UserMoved
from tests.support.ldap_directory import directory, found
from tests.support.slapd import SUFFIX, RealSlapd, group, person

PASSWORD = "canary-password"

MANY_GROUPS = 10_000

PASSWORDS = ["a,b", "quotes '\"\\", "ends123456", "ümläut€", "x" * 128, " spaces ", "\x00nul"]


@pytest.fixture(scope="module")
def slapd() -> Iterator[RealSlapd]:
    with RealSlapd() as server:
        server.stop()
        server.load(
            [
                person("alice", PASSWORD, mail=["alice@corp.example"]),
                person("special", PASSWORD, uid=["special", "star*(x)\\5c"]),
                person("twin", PASSWORD),
                person("twin", PASSWORD, ou="staff"),
                person("mailed", PASSWORD, mail=["alice2@corp.example"]),
                person("alice2", PASSWORD),
                person("crowded", PASSWORD),
                person("odd", PASSWORD, mail=["nothing", "o d@corp.example", "odd@corp.example"]),
                person("twin2", PASSWORD),
                group("level1", "alice"),
                *(
                    group(f"level{number}", f"cn=level{number - 1},ou=groups,{SUFFIX}")
                    for number in range(2, 9)
                ),
                group("loop1", "twin", f"cn=loop3,ou=groups,{SUFFIX}"),
                group("loop2", f"cn=loop1,ou=groups,{SUFFIX}"),
                group("loop3", f"cn=loop2,ou=groups,{SUFFIX}"),
                group("odd, (one) * ü", "special"),
                *(group(f"many{number}", "crowded") for number in range(MANY_GROUPS)),
            ]
        )
        server.start()
        yield server


@pytest.fixture
async def corp(slapd: RealSlapd) -> AsyncIterator[LdapDirectory]:
    async with directory(slapd.section()) as opened:
        yield opened


async def test_the_first_mail_address_that_will_do_comes_with_the_user(
    corp: LdapDirectory,
) -> None:
    """Anything else that stands in the attribute is passed over, a header least of all."""
    for name, mail in (("alice", "alice@corp.example"), ("odd", "odd@corp.example"), ("twin2", "")):
        found = await corp.find(name)
        assert found is not None
        assert found.mail == mail


# What is wrong with the settings or the server


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"base": "dc=none"}, "the base 'dc=none' does not exist"),
        ({"base": "rubbish"}, "the base 'rubbish' is not a distinguished name"),
        ({"bind_password": "wrong"}, "the search account .* is refused: wrong bind_password"),
        ({"bind_dn": "cn=none,dc=none"}, "the search account .* is refused"),
        ({"bind_dn": "", "bind_password": ""}, "the search account may not search"),
        ({"ca_file": ""}, "its certificate is refused: self-signed certificate"),
        ({"servers": "ldaps://localhost.localdomain:{tls_port}"}, "certificate is refused|known"),
        ({"servers": "ldaps://127.0.0.1:{port}"}, "no TLS|has ended the connection"),
        ({"servers": "ldap://127.0.0.1:{tls_port}"}, "no TLS|no answer|contact"),
        ({"servers": "ldaps://127.0.0.1:1"}, "Connection refused"),
        ({"servers": "ldaps://none.invalid"}, "not known|resolution"),
        ({"id_attribute": "employeeNumber"}, "an entry has no usable employeeNumber"),
    ],
    ids=str,
)
async def test_each_fault_is_named_in_one_line(
    slapd: RealSlapd, change: dict[str, Any], cause: str
) -> None:
    """By the login's log line and by `directory test` alike; rule 9: it is no word on a user."""
    if "servers" in change:
        change = {
            **change,
            "servers": change["servers"].format(port=slapd.port, tls_port=slapd.tls_port),
        }
    async with directory(slapd.section(**change)) as faulty:
        with pytest.raises(BackendUnavailable) as error:
            await faulty.find("alice")
        assert error.value.backend == "directory"
        assert re.search(cause, error.value.cause)
        assert error.value.cause.startswith("corp: ")


async def test_plain_ldap_is_used_where_it_is_asked_for(slapd: RealSlapd) -> None:
    async with directory(slapd.section(servers=[slapd.uri], start_tls=False)) as plain:
        assert await plain.verify(await found(plain, "alice"), PASSWORD) is PasswordVerdict.RIGHT
        assert (await plain.inspect(plain.servers[0])).tls == ""
    async with directory(slapd.section(servers=[slapd.uri])) as upgraded:
        assert await upgraded.find("alice")
        assert (await upgraded.inspect(upgraded.servers[0])).tls.startswith("TLS")


# Users


@pytest.mark.parametrize(
    "name", ["*", "alice*", "a)(uid=*", "al\\69ce", "\\2a", "alice)(|(uid=*", "alice\\00", "nobody"]
)
async def test_a_name_finds_nobody_else(corp: LdapDirectory, name: str) -> None:
    """Filter characters are characters."""
    assert await corp.find(name) is None


async def test_a_name_of_special_characters_is_found(corp: LdapDirectory) -> None:
    user = await found(corp, "star*(x)\\5c")
    assert await corp.verify(user, PASSWORD) is PasswordVerdict.RIGHT
    assert [group.name for group in await corp.groups(user)] == ["odd, (one) * ü"]


async def test_two_entries_are_no_user(slapd: RealSlapd, corp: LdapDirectory) -> None:
    """Of one name, or of one name in two attributes."""
    assert (await found(corp, "twin")).state is PasswordVerdict.AMBIGUOUS
    async with directory(slapd.section(lookup=["uid", "mail"], realms=["corp.example"])) as by_mail:
        user = await found(by_mail, "alice2@corp.example")  # one's uid, another's mail
        assert user.state is PasswordVerdict.AMBIGUOUS
        assert (await found(by_mail, "alice@corp.example")).dn.startswith("uid=alice,")
        with pytest.raises(InvalidUserNameError):
            await by_mail.find("@corp.example")


async def test_one_user_of_two_is_found_where_the_base_holds_one(slapd: RealSlapd) -> None:
    async with directory(slapd.section(base=f"ou=staff,{SUFFIX}")) as staff:
        assert (await found(staff, "twin")).dn == f"uid=twin,ou=staff,{SUFFIX}"


async def test_states_of_the_password_policy(slapd: RealSlapd, corp: LdapDirectory) -> None:
    """Locked by slapd itself, locked for good by an admin, reset by an admin."""
    slapd.add(person("failing", PASSWORD), person("shut", PASSWORD), person("reset", PASSWORD))
    failing = await found(corp, "failing")
    slapd.modify(f"cn=policy,{SUFFIX}", pwdMaxFailure=["2"])
    for number in range(2):
        assert await corp.verify(failing, f"wrong {number}") is PasswordVerdict.WRONG
    assert await corp.verify(failing, PASSWORD) is PasswordVerdict.LOCKED
    slapd.modify(f"cn=policy,{SUFFIX}", pwdMaxFailure=["20"])

    slapd.modify(f"uid=shut,ou=people,{SUFFIX}", pwdAccountLockedTime=["000001010000Z"])
    shut = await found(corp, "shut")
    assert shut.state is PasswordVerdict.LOCKED
    assert await corp.verify(shut, PASSWORD) is PasswordVerdict.LOCKED

    slapd.modify(f"uid=reset,ou=people,{SUFFIX}", pwdReset=["TRUE"])
    reset = await found(corp, "reset")
    assert reset.state is PasswordVerdict.MUST_CHANGE
    assert await corp.verify(reset, PASSWORD) is PasswordVerdict.MUST_CHANGE


async def test_an_empty_password_reaches_no_bind(slapd: RealSlapd, corp: LdapDirectory) -> None:
    """A05: slapd takes a name with an empty password for a bind that proves nothing."""
    user = await found(corp, "alice")
    before = slapd.binds_of(user.dn)
    assert await corp.verify(user, "") is PasswordVerdict.WRONG
    assert slapd.binds_of(user.dn) == before
    server = corp.servers[0]
    connection = await server.taken_for_bind()
    for name, password in ((user.dn, ""), ("", PASSWORD)):
        with pytest.raises(ValueError, match="unauthenticated"):
            await connection.bind(name, password)
    server._binds.give(connection)


@pytest.mark.parametrize("password", PASSWORDS)
async def test_passwords_of_any_kind(slapd: RealSlapd, corp: LdapDirectory, password: str) -> None:
    name = f"typed{PASSWORDS.index(password)}"
    slapd.add(person(name, password))
    user = await found(corp, name)
    assert await corp.verify(user, password) is PasswordVerdict.RIGHT
    assert await corp.verify(user, password + " ") is PasswordVerdict.WRONG


# Groups


@pytest.mark.parametrize("depth", [1, 3, 5])
async def test_groups_are_searched_level_by_level_to_a_depth(slapd: RealSlapd, depth: int) -> None:
    async with directory(slapd.section(group_depth=depth)) as corp:
        groups = await corp.groups(await found(corp, "alice"))
    assert [one.name for one in groups] == [f"level{number}" for number in range(1, depth + 1)]
    assert groups[0].dn == f"cn=level1,ou=groups,{SUFFIX}"


async def test_a_loop_of_groups_ends(slapd: RealSlapd) -> None:
    async with directory(slapd.section(base=f"ou=people,{SUFFIX}", group_base=SUFFIX)) as corp:
        groups = await corp.groups(await found(corp, "twin"))
    assert [one.name for one in groups] == ["loop1", "loop2", "loop3"]


async def test_ten_thousand_groups_are_read_page_by_page(
    corp: LdapDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them, and one too many is an error, not a shorter list."""
    user = await found(corp, "crowded")
    groups = await corp.groups(user)
    assert {one.name for one in groups} == {f"many{number}" for number in range(MANY_GROUPS)}
    monkeypatch.setattr(directory_ldap, "MAX_GROUPS", MANY_GROUPS - 1)
    with pytest.raises(BackendUnavailable, match="more than 9999 groups"):
        await corp.groups(user)


@pytest.mark.parametrize(
    ("asked", "like"),
    [
        ("level1", ["level1"]),
        ("LEVEL2", ["level2"]),
        ("odd, (one) * ü", ["odd, (one) * ü"]),
        (f"CN=Level1, ou=groups,{SUFFIX}", [f"CN=Level1, ou=groups,{SUFFIX}"]),
        (f"cn=level1,ou=people,{SUFFIX}", []),
        ("lop1", ["level1", "level2", "level3", "level4", "level5", "level6", "level7", "level8"]),
        ("alice", []),
        ("*", []),
    ],
)
async def test_a_group_that_there_is_not_is_told_from_one_that_there_is(
    corp: LdapDirectory, asked: str, like: list[str]
) -> None:
    """Names that begin alike are for a hint; a user is no group, a filter character a character."""
    found = await corp.groups_like(asked)
    assert set(found) >= set(like)
    assert like or not found
    assert (asked.lower() in map(str.lower, found)) is (len(like) == 1)


async def test_attributes_come_as_they_are_and_what_is_not_there_is_left_out(
    slapd: RealSlapd, corp: LdapDirectory
) -> None:
    """Bad input: octets that are no UTF-8 pass, for an attribute of octets may take them."""
    user = await found(corp, "alice2")
    slapd.modify(user.dn, description=["Süd", "two"])
    slapd.admin.modify_s(user.dn, [(ldap.MOD_REPLACE, "jpegPhoto", [b"\xff\xd8"])])
    names = frozenset({"description", "jpegphoto", "telephonenumber", "userpassword"})
    attributes = await corp.attributes(user, names)
    assert set(attributes["description"]) == {"Süd", "two"}
    assert attributes["jpegphoto"] == ["\udcff\udcd8"]
    assert set(attributes) == {"description", "jpegphoto"}, "and no password is ever readable"


@pytest.mark.parametrize("groups", ["member-of", "attributes"])
async def test_an_entry_that_is_not_there_any_more_is_no_user_without_groups(
    slapd: RealSlapd, groups: str
) -> None:
    """Rule 9: or else a user who was moved would be in no group, and under no rule."""
    gone = Identity("LDAP/corp/x", "x", "corp", dn=f"uid=gone,ou=people,{SUFFIX}", kept=True)
    async with directory(slapd.section(groups="member-of")) as corp:
        with pytest.raises(UserMoved):
            await (corp.groups(gone) if groups == "member-of" else corp.attributes(gone, ["mail"]))


async def test_groups_can_be_left_alone(slapd: RealSlapd) -> None:
    async with directory(slapd.section(groups="none")) as corp:
        assert await corp.groups(await found(corp, "alice")) == []

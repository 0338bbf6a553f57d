"""Active Directory, played by a real Samba domain controller."""

import time
from collections.abc import AsyncIterator, Iterator

import ldap
import pytest

from radius_mfa.errors import BackendUnavailable
from radius_mfa.stores.directory_ldap import LdapDirectory
from radius_mfa.stores.interfaces import PasswordVerdict
from tests.support.ldap_directory import directory, found
from tests.support.samba import BASE, REALM, RealSamba

PASSWORD = "canary-Passw0rd"

LOCKOUT_THRESHOLD = 3

PASSWORDS = ["canary-Pä55 wörd€", 'canary-1"\\,;=+<>#', "canary-A1" + "x" * 100, " canary-A1 "]


@pytest.fixture(scope="module")
def samba() -> Iterator[RealSamba]:
    with RealSamba() as server:
        server.modify(
            BASE,
            lockoutThreshold=str(LOCKOUT_THRESHOLD),
            lockOutObservationWindow=str(-30 * 60 * 10_000_000),
            lockoutDuration=str(-30 * 60 * 10_000_000),
        )
        yield server


@pytest.fixture
async def ad(samba: RealSamba) -> AsyncIterator[LdapDirectory]:
    async with directory(samba.section()) as opened:
        yield opened


# Refusals


def filetime(seconds: float) -> str:
    return str(int((seconds + 11_644_473_600) * 10_000_000))


@pytest.mark.parametrize(
    ("name", "change", "verdict"),
    [
        ("disabled", {"userAccountControl": "514"}, PasswordVerdict.DISABLED),
        ("ended", {"accountExpires": filetime(time.time() - 86_400)}, PasswordVerdict.EXPIRED),
        ("reset", {"pwdLastSet": "0"}, PasswordVerdict.MUST_CHANGE),
    ],
)
async def test_an_account_s_state_is_seen_in_the_entry_and_said_by_the_bind(
    samba: RealSamba,
    ad: LdapDirectory,
    name: str,
    change: dict[str, str],
    verdict: PasswordVerdict,
) -> None:
    """Codes 533, 701, 773; a wrong password is wrong (52e) whatever the state."""
    samba.modify(samba.add_user(name, PASSWORD), **change)
    user = await found(ad, name)
    assert user.state is verdict
    assert await ad.verify(user, PASSWORD) is verdict
    assert await ad.verify(user, "wrong") is PasswordVerdict.WRONG


async def test_a_password_that_is_too_old_is_expired(samba: RealSamba, ad: LdapDirectory) -> None:
    """Code 532."""
    samba.age_password(samba.add_user("aged", PASSWORD))
    user = await found(ad, "aged")
    assert user.state is PasswordVerdict.PASSWORD_EXPIRED
    assert await ad.verify(user, PASSWORD) is PasswordVerdict.PASSWORD_EXPIRED


async def test_the_directory_s_own_lock_is_seen(samba: RealSamba, ad: LdapDirectory) -> None:
    """Code 775, also for the right password."""
    samba.add_user("locked", PASSWORD)
    user = await found(ad, "locked")
    assert user.state is None
    for number in range(LOCKOUT_THRESHOLD):
        assert await ad.verify(user, f"wrong {number}") is PasswordVerdict.WRONG
    assert await ad.verify(user, PASSWORD) is PasswordVerdict.LOCKED
    assert (await found(ad, "locked")).state is PasswordVerdict.LOCKED


async def test_an_empty_password_is_refused_before_any_bind(
    samba: RealSamba, ad: LdapDirectory
) -> None:
    """A05: Windows would take it for an unauthenticated bind, and say yes."""
    samba.add_user("empty", PASSWORD)
    user = await found(ad, "empty")
    for _ in range(LOCKOUT_THRESHOLD + 1):
        assert await ad.verify(user, "") is PasswordVerdict.WRONG
    assert await ad.verify(user, PASSWORD) is PasswordVerdict.RIGHT


async def test_without_tls_nothing_is_bound(samba: RealSamba) -> None:
    section = samba.section(servers=[f"ldap://{samba.address}"], start_tls=False)
    async with directory(section) as plain:
        with pytest.raises(BackendUnavailable, match="LDAP result 8"):
            await plain.find("alice")


# Users


async def test_a_user_is_one_in_every_form_and_after_a_rename(
    samba: RealSamba, ad: LdapDirectory
) -> None:
    """The key is objectGUID: of sAMAccountName, userPrincipalName, realm, letters, accents."""
    dn = samba.add_user("strasse", PASSWORD, cn="Smith, Eve (ümlaut) #1", mail="eve@example.net")
    forms = ["strasse", f"strasse@{REALM}", "corp\\strasse"]
    users = [await found(ad, form) for form in forms]
    [key] = {user.key for user in users}
    assert await ad.verify(users[0], PASSWORD) is PasswordVerdict.RIGHT
    admin = samba.admin
    admin.rename_s(dn, "CN=Jones\\, Eve")
    admin.modify_s(
        f"CN=Jones\\, Eve,CN=Users,{BASE}",
        [
            (ldap.MOD_REPLACE, "sAMAccountName", [b"ejones"]),
            (ldap.MOD_REPLACE, "userPrincipalName", [f"eve.jones@{REALM}".encode()]),
        ],
    )
    admin.unbind_s()
    assert await ad.find("strasse") is None
    for form in ("ejones", f"eve.jones@{REALM}"):
        user = await found(ad, form)
        assert (user.key, user.name) == (key, "ejones")
        assert await ad.verify(user, PASSWORD) is PasswordVerdict.RIGHT


@pytest.mark.parametrize("start_tls", [False, True], ids=["ldaps", "starttls"])
@pytest.mark.parametrize("password", PASSWORDS)
async def test_passwords_of_any_kind(samba: RealSamba, password: str, start_tls: bool) -> None:  # noqa: FBT001
    name = f"p{PASSWORDS.index(password)}{start_tls:d}"
    samba.add_user(name, password)
    servers = [f"ldap://{samba.address}" if start_tls else samba.uri]
    async with directory(samba.section(servers=servers)) as ad:
        user = await found(ad, name)
        assert await ad.verify(user, password) is PasswordVerdict.RIGHT
        assert await ad.verify(user, password + "x") is PasswordVerdict.WRONG


async def test_groups_are_found_through_groups_and_loops(
    samba: RealSamba, ad: LdapDirectory
) -> None:
    """By the matching rule in chain, with names that are special in a DN and in a filter."""
    member = samba.add_user("grouped", PASSWORD, cn="Müller, (Ann) *")
    inner = samba.add_group("inner, (one) *", member)
    middle = samba.add_group("mittlere Gruppe ü", inner)
    outer = samba.add_group("outer", middle)
    samba.add_group("foreign")
    admin = samba.admin
    admin.modify_s(inner, [(ldap.MOD_ADD, "member", [outer.encode()])])
    admin.unbind_s()
    groups = await ad.groups(await found(ad, "grouped"))
    nested = ["inner, (one) *", "mittlere Gruppe ü", "outer"]
    assert [group.name for group in groups] == ["Domain Users", "Users", *nested]


async def test_a_primary_group_counts_and_what_it_is_in(
    samba: RealSamba, ad: LdapDirectory
) -> None:
    """It stands in primaryGroupID alone, neither in memberOf nor among the group's members."""
    member = samba.add_user("primary", PASSWORD)
    main = samba.add_group("main", member)
    samba.add_group("around main", main)
    admin = samba.admin
    [(_, entry)] = admin.search_s(main, ldap.SCOPE_BASE, attrlist=["objectSid"])
    admin.unbind_s()
    samba.modify(member, primaryGroupID=str(int.from_bytes(entry["objectSid"][0][-4:], "little")))
    names = {group.name for group in await ad.groups(await found(ad, "primary"))}
    assert names >= {"main", "around main"}
    assert "foreign" not in names


# Who is in a group


async def test_active_directory_is_asked_in_chain(samba: RealSamba, ad: LdapDirectory) -> None:
    """Nested groups, a loop, a disabled account; each user by the key that a login has."""
    anna, bert, cleo = (samba.add_user(name, PASSWORD) for name in ("anna", "bert", "cleo"))
    samba.modify(cleo, userAccountControl="514")
    inner = samba.add_group("Inner, Group", bert, cleo)
    outer = samba.add_group("Outer (Group)", anna, inner)
    samba.join(inner, outer)
    samba.add_group("Top", outer)
    for name in ("outer (group)", "Inner, Group", outer, "top"):
        [group] = await ad.groups_named(name)
        users = await ad.members(group)
        assert [user.name for user in users] == ["anna", "bert", "cleo"], name
        for user in users:
            assert user == await found(ad, user.name)
            assert name == outer or group in await ad.groups(user)
    assert users[2].state is PasswordVerdict.DISABLED


async def test_whose_primary_group_it_is_is_a_member(samba: RealSamba, ad: LdapDirectory) -> None:
    """No member list has them, neither of the group itself nor of one that it is in."""
    dora = samba.add_user("dora", PASSWORD)
    staff = samba.add_group("Staff", dora)
    samba.modify(dora, primaryGroupID=str(rid(samba, staff)))
    samba.add_group("All staff", staff)
    for name in ("Staff", "all staff"):
        assert await members_of(ad, name) == ["dora"]
    assert "administrator" in await members_of(ad, "Domain Users")


def rid(samba: RealSamba, dn: str) -> int:
    admin = samba.admin
    [(_, values)] = admin.search_s(dn, ldap.SCOPE_BASE, attrlist=["objectSid"])
    admin.unbind_s()
    return int.from_bytes(values["objectSid"][0][-4:], "little")


async def test_all_users_of_a_domain_are_people(samba: RealSamba, ad: LdapDirectory) -> None:
    """Neither computers nor groups."""
    samba.add_user("erna", PASSWORD)
    listed = [user.name for user in await ad.users()]
    assert "erna" in listed
    assert not any(name.startswith("dc1") for name in listed)


async def members_of(ad: LdapDirectory, name: str) -> list[str]:
    [group] = await ad.groups_named(name)
    return [user.name for user in await ad.members(group)]

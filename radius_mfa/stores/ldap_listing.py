"""Who is in a group of an LDAP directory, and all users it has: for admins, never for a login.

Asked on a connection of its own, and with more patience: to list thousands takes no connection
from a login, and a slow list does not count against the server. Who is a member is what
``LdapDirectory.groups`` says, read the other way round; a user is who could be found by a name.
"""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import ldap
from ldap.dn import is_dn
from ldap.filter import escape_filter_chars

from radius_mfa.errors import Refused
from radius_mfa.policy.groups import Group
from radius_mfa.stores.interfaces import Identity
from radius_mfa.stores.ldap_answers import (
    ARE_GROUPS,
    GROUP_CLASSES,
    IN_CHAIN,
    NO_SUCH_OBJECT,
    SIZE_LIMIT_EXCEEDED,
    SUCCESS,
    Entry,
    Reply,
    primary_group_sid,
    rid_of,
)
from radius_mfa.stores.ldap_connection import LdapConnection, open_connection
from radius_mfa.stores.ldap_names import DnKey, dn_key, group_name, is_below
from radius_mfa.stores.ldap_transport import LdapFault
from radius_mfa.stores.records import chunks

if TYPE_CHECKING:
    from radius_mfa.stores.directory_ldap import LdapDirectory

MAX_MEMBERS = 20_000
"""Members of one group; more are refused, not a part of them taken."""

MAX_LISTED = 100_000
"""Users of one directory; more are refused likewise."""

PATIENCE_SECONDS = 30.0
"""How long a page may take: the rule in chain passes over many groups for one."""

_MANY = 20
"""Groups of one name that are told apart; there is hardly a second."""

_TERMS_PER_SEARCH = 50

_LIMITS_EXCEEDED = (SIZE_LIMIT_EXCEEDED, 11)  # 11: adminLimitExceeded


async def groups_named(directory: "LdapDirectory", name: str) -> list[Group]:
    """Return the groups called *name*, a name or a distinguished name, in any case.

    Raises BackendUnavailable without an answer.
    """
    if directory.options.schema.groups == "none":
        return []
    async with _connection(directory) as connection:
        if is_dn(name):
            reply = await connection.search(name, ldap.SCOPE_BASE, ARE_GROUPS, ["cn"])
            if reply.code == NO_SUCH_OBJECT:
                return []
        else:
            query = f"(&{ARE_GROUPS}(cn={escape_filter_chars(name)}))"
            base = _group_base(directory)
            reply = await connection.search(base, ldap.SCOPE_SUBTREE, query, ["cn"], _MANY)
        if reply.code != SIZE_LIMIT_EXCEEDED:
            directory.check(reply, name if is_dn(name) else _group_base(directory))
        return [Group(group_name(dn, values), dn) for dn, values in reply.entries]


async def members(directory: "LdapDirectory", group: Group) -> list[Identity]:
    """Return the users in *group*, also through groups in it, each once and whatever loops.

    Raises Refused for more than MAX_MEMBERS, BackendUnavailable without an answer.
    """
    entries = _MEMBERS[directory.options.schema.groups]
    async with _connection(directory) as connection:
        found = await entries(directory, connection, group)
    return _identities(directory, found)


async def users(directory: "LdapDirectory") -> list[Identity]:
    """Return every user of *directory*; raises as ``members``, for more than MAX_LISTED."""
    async with _connection(directory) as connection:
        found = await _pages(
            connection,
            directory,
            _users(directory),
            MAX_LISTED,
            Refused(
                f"{directory.name} has more than {MAX_LISTED:,} users",
                "narrow its base or its filter, or go group by group",
            ),
        )
    return _identities(directory, found)


def _identities(directory: "LdapDirectory", entries: Iterable[Entry]) -> list[Identity]:
    found = {one.key: one for one in [directory.identity(*entry) for entry in entries]}
    return sorted(found.values(), key=lambda user: user.name)


def _users(directory: "LdapDirectory", *terms: str) -> str:
    """Return the filter for users: what a name could find, as *terms* have it."""
    schema = directory.options.schema
    named = "".join(f"({attribute}=*)" for attribute in schema.lookup)
    return f"(&{schema.query}(|{named}){''.join(terms)})"


def _group_base(directory: "LdapDirectory") -> str:
    return directory.options.group_base or directory.options.base


def _too_many(group: Group) -> Refused:
    return Refused(
        f"the group {group.name} has more than {MAX_MEMBERS:,} members",
        "name the groups in it one by one",
    )


async def _in_chain(
    directory: "LdapDirectory", connection: LdapConnection, group: Group
) -> list[Entry]:
    """Ask for all levels at once; whose primary group it is, or one in it, is in no member list."""
    chained = f"(memberOf:{IN_CHAIN}:={escape_filter_chars(group.dn)})"
    found = await _pages(
        connection, directory, _users(directory, chained), MAX_MEMBERS, _too_many(group)
    )
    itself = f"(distinguishedName={escape_filter_chars(group.dn)})"
    reply = await connection.search_pages(
        _group_base(directory), f"(&{ARE_GROUPS}(|{itself}{chained}))", ["objectSid"], MAX_MEMBERS
    )
    directory.check(reply, _group_base(directory))
    sids = {sid for _, values in reply.entries for sid in values.get("objectsid", ())}
    numbers = sorted({rid_of(sid) for sid in sids})
    for some in chunks(numbers, _TERMS_PER_SEARCH):
        primary = "".join(f"(primaryGroupID={number})" for number in some)
        query = _users(directory, f"(|{primary})")
        entries = await _pages(connection, directory, query, MAX_MEMBERS, _too_many(group))
        found += [one for one in entries if primary_group_sid(one[1]) in sids]
    if len({dn for dn, _ in found}) > MAX_MEMBERS:
        raise _too_many(group)
    return found


async def _member_of(
    directory: "LdapDirectory", connection: LdapConnection, group: Group
) -> list[Entry]:
    query = _users(directory, f"(memberOf={escape_filter_chars(group.dn)})")
    return await _pages(connection, directory, query, MAX_MEMBERS, _too_many(group))


async def _by_values(
    directory: "LdapDirectory", connection: LdapConnection, group: Group
) -> list[Entry]:
    """Read the members of the group, then those of groups among them, ``group_depth`` levels."""
    options = directory.options
    attribute = options.group_member.lower()
    reply = await connection.search(group.dn, ldap.SCOPE_BASE, ARE_GROUPS, [options.group_member])
    directory.check(reply, group.dn)
    level, seen, found = _values(directory, reply.entries, attribute), {dn_key(group.dn)}, []
    for _ in range(options.group_depth):
        fresh = {dn_key(dn): dn for dn in level}
        fresh = {key: dn for key, dn in fresh.items() if key not in seen}
        seen |= fresh.keys()
        if len(seen) > MAX_MEMBERS + 1:
            raise _too_many(group)
        entries = await _read(directory, connection, fresh)
        found += [one for one in entries if not _is_group(one) and is_below(one[0], options.base)]
        level = _values(directory, filter(_is_group, entries), attribute)
    return found


async def _read(
    directory: "LdapDirectory", connection: LdapConnection, names: Mapping[DnKey, str]
) -> list[Entry]:
    """Return those of *names* that are users or groups.

    Many at a time by entryDN (RFC 5020), then one by one whom that did not find: not every server
    knows it. Servers keep names of who is gone.
    """
    options, found = directory.options, []
    either = f"(|{_users(directory)}{ARE_GROUPS})"
    wanted = [*directory.attributes_of_users, options.group_member, "objectClass"]
    for some in chunks(list(names.items()), _TERMS_PER_SEARCH):
        terms = "".join(f"(entryDN={escape_filter_chars(dn)})" for _, dn in some)
        query = f"(&(|{terms}){either})"
        reply = await connection.search(options.base, ldap.SCOPE_SUBTREE, query, wanted)
        entries = list(reply.entries) if reply.code == SUCCESS else []
        known = {dn_key(dn) for dn, _ in entries}
        for dn in [dn for key, dn in some if key not in known]:
            reply = await connection.search(dn, ldap.SCOPE_BASE, either, wanted)
            if reply.code != NO_SUCH_OBJECT:
                directory.check(reply, dn)
                entries += reply.entries
        found += entries
    return found


def _is_group(entry: Entry) -> bool:
    classes = {one.decode("utf-8", "replace").lower() for one in entry[1].get("objectclass", ())}
    return not classes.isdisjoint(GROUP_CLASSES)


def _values(directory: "LdapDirectory", groups: Iterable[Entry], attribute: str) -> list[str]:
    """Return the members that *groups* name; Refused where the server gave a part of them."""
    found: list[str] = []
    for _, values in groups:
        if any(name.startswith(f"{attribute};range=") for name in values):
            raise Refused(
                f"{directory.name} gives the members of a large group in parts",
                'set groups = "in-chain" for an Active Directory',
            )
        found += [one.decode("utf-8", "replace") for one in values.get(attribute, ())]
    return found


_MEMBERS = {"in-chain": _in_chain, "member-of": _member_of, "search": _by_values}


async def _pages(
    connection: LdapConnection, directory: "LdapDirectory", query: str, most: int, too_many: Refused
) -> list[Entry]:
    base = directory.options.base
    wanted = [*directory.attributes_of_users, "objectSid", "primaryGroupID"]
    reply: Reply = await connection.search_pages(base, query, wanted, most)
    if reply.code in _LIMITS_EXCEEDED and len(reply.entries) <= most:
        raise Refused(
            f"{directory.name} lists {len(reply.entries):,} entries for the search account, "
            "and has more",
            "raise its size limit at the server, also for pages in all: docs/directories.md",
        )
    if len(reply.entries) > most:
        raise too_many
    directory.check(reply, base)
    return list(reply.entries)


@asynccontextmanager
async def _connection(directory: "LdapDirectory") -> AsyncIterator[LdapConnection]:
    """Open a connection to the first server that takes one; any fault is BackendUnavailable."""
    servers = [one for one in directory.servers if one.up] or directory.servers[:1]
    for server in servers:
        try:
            connection = await open_connection(server.target, directory.options.account)
        except LdapFault as fault:
            if server is servers[-1]:
                raise directory.unavailable(server, fault) from None
            continue
        break
    connection.timeout_seconds = max(connection.timeout_seconds, PATIENCE_SECONDS)
    try:
        yield connection
    except LdapFault as fault:
        raise directory.unavailable(server, fault) from None
    finally:
        connection.close()

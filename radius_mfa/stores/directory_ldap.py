"""An LDAP directory: finds users with a search account, checks a password by one bind as the user.

Knows its servers in the order of the settings; which directory a user is looked for in is
``directories.py``'s business.
"""

import re
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from time import monotonic, time
from typing import TypeVar

import ldap
import structlog
from ldap.dn import is_dn
from ldap.filter import escape_filter_chars

from radius_mfa.errors import BackendUnavailable
from radius_mfa.policy.groups import Group
from radius_mfa.policy.identity import InvalidUserNameError, canonical_user, realm_split
from radius_mfa.policy.mail_address import InvalidMailAddressError, mail_address
from radius_mfa.stores import ldap_listing
from radius_mfa.stores.interfaces import KEY_PREFIX, Identity, PasswordVerdict, UserMoved
from radius_mfa.stores.ldap_answers import (
    ARE_GROUPS,
    IN_CHAIN,
    NO_SUCH_OBJECT,
    SIZE_LIMIT_EXCEEDED,
    SUCCESS,
    Attributes,
    Reply,
    Schema,
    account_state,
    immutable_id,
    primary_group_sid,
    verdict_of_bind,
)
from radius_mfa.stores.ldap_connection import Account, LdapConnection, open_connection
from radius_mfa.stores.ldap_names import first_value, group_name
from radius_mfa.stores.ldap_server import LdapServer
from radius_mfa.stores.ldap_transport import LdapFault, Target

log = structlog.get_logger()

T = TypeVar("T")

MAX_GROUPS = 20_000
"""Groups of one user that are read; more are an error, not a truncated list."""

GROUPS_PER_SEARCH = 50
"""How many groups one search of the next level asks for."""

_ALIKE, _SOME_GROUPS = (3, 1), 50  # letters that names alike may share; how many are read

MAIL = "mail"
"""The attribute that holds a user's mail address in every directory (RFC 4524 section 2.16)."""


@dataclass(frozen=True, slots=True)
class LdapOptions:
    """A ``[[directory.ldap]]``, presets filled in."""

    name: str
    targets: Sequence[Target]
    account: Account
    base: str
    schema: Schema
    realms: frozenset[str] = frozenset()
    group_base: str = ""
    group_member: str = "member"
    group_depth: int = 5
    pool_size: int = 32
    lookup_cache_seconds: float = 60


@dataclass(frozen=True, slots=True)
class ServerReport:
    """What a look at a server came to; *tls* is its version, empty for none."""

    uri: str
    tls: str = ""
    milliseconds: float = 0.0
    fault: str = ""


class LdapDirectory:
    """Users of one LDAP directory."""

    def __init__(self, options: LdapOptions) -> None:
        self.options = options
        self.name = options.name
        has_stand_in = len(options.targets) > 1
        self.servers = [
            LdapServer(
                options.name, target, options.account, options.pool_size, has_stand_in=has_stand_in
            )
            for target in options.targets
        ]
        schema = options.schema
        self.attributes_of_users = [
            one for one in {schema.identifier, schema.name, MAIL, *schema.state} if one != "dn"
        ]

    async def find(self, name: str) -> Identity | None:
        """Return the user whom the canonical *name* stands for, or None for nobody.

        More than one entry is an Identity in the state AMBIGUOUS. Raises InvalidUserNameError
        for a realm of this directory alone, BackendUnavailable without a definite answer.
        """
        reply = await self._searched(self._query(name), limit=2)
        if reply.code == SIZE_LIMIT_EXCEEDED or len(reply.entries) > 1:
            log.warning(
                "directory.ambiguous",
                directory=self.name,
                user=name,
                entries=[dn for dn, _ in reply.entries] or "more than 2",
                hint="one name, several entries: narrow base, filter or lookup",
            )
            key = f"{KEY_PREFIX}{self.name}/?{name}"
            return Identity(key, name, self.name, PasswordVerdict.AMBIGUOUS)
        return self.identity(*reply.entries[0]) if reply.entries else None

    def _query(self, name: str) -> str:
        r"""Return the filter for *name*.

        A realm of this directory is compared where attributes hold one, so that
        ``alice@corp.example`` may be a userPrincipalName as well as the uid ``alice``.
        """
        bare, realm = realm_split(name)
        if realm not in self.options.realms:
            bare = name
        elif not bare:
            raise InvalidUserNameError("the user name is a realm alone")
        whole = bare if "\\" in name else name
        values = {
            attribute: whole if _HOLDS_REALM.search(attribute) else bare
            for attribute in self.options.schema.lookup
        }
        terms = [f"({one}={escape_filter_chars(value)})" for one, value in values.items()]
        wanted = terms[0] if len(terms) == 1 else f"(|{''.join(terms)})"
        return f"(&{self.options.schema.query}{wanted})"

    def identity(self, dn: str, attributes: Attributes) -> Identity:
        """Return the user whose entry it is; BackendUnavailable where it lacks the identifier."""
        schema = self.options.schema
        identifier = immutable_id(schema.identifier, dn, attributes)
        if identifier is None:
            raise self._unusable(
                f"an entry has no usable {schema.identifier}: "
                "let the search account read it, or set id_attribute"
            )
        state = account_state(attributes, time())
        return Identity(
            f"{KEY_PREFIX}{self.name}/{identifier}",
            _readable_name(attributes.get(schema.name.lower(), ()), dn),
            self.name,
            state,
            dn,
            mail=_mail(attributes),
        )

    async def verify(self, user: Identity, password: str) -> PasswordVerdict:
        """Return what one bind as *user* says of *password*.

        Raises BackendUnavailable for anything but a definite answer.
        """
        if not password:
            return PasswordVerdict.WRONG
        server, connection = await self._first(LdapServer.taken_for_bind)
        try:
            reply = await server.bind(connection, user.dn, password)
        except LdapFault as fault:
            raise self.unavailable(server, fault) from None
        verdict = verdict_of_bind(reply)
        if verdict is None:
            raise self._unusable(f"a bind ends in LDAP result {reply.code} {reply.diagnostic}")
        if verdict in _MAY_BE_A_MOVE and await self._moved(user):
            raise UserMoved("directory", f"{self.name}: the user's entry has moved")
        return verdict

    async def _moved(self, user: Identity) -> bool:
        """Return whether an entry that was found a while ago stands elsewhere now."""
        if not user.kept:
            return False
        try:
            reply = await self._read(user.dn, ["1.1"])
        except BackendUnavailable:
            return False
        return reply.code == NO_SUCH_OBJECT

    async def groups(self, user: Identity) -> list[Group]:
        """Return the groups of *user*, nested ones too, by name; each once, whatever loops.

        Raises BackendUnavailable, also for more than MAX_GROUPS of them.
        """
        found = await _GROUPS[self.options.schema.groups](self, user.dn)
        return sorted(found.values(), key=lambda group: group.name)

    async def attributes(self, user: Identity, names: Collection[str]) -> dict[str, list[str]]:
        """Return the values of *names* in the entry of *user*; see ``interfaces.Directory``.

        Raises UserMoved where the entry is not where it was.
        """
        found = await self._entry(user.dn, sorted(names))
        return {
            name: [value.decode("utf-8", "surrogateescape") for value in found[name]]
            for name in names
            if found.get(name)
        }

    async def _entry(self, dn: str, attributes: Sequence[str]) -> Attributes:
        reply = await self._read(dn, attributes)
        if reply.code == NO_SUCH_OBJECT or (reply.code == SUCCESS and not reply.entries):
            raise UserMoved("directory", f"{self.name}: the user's entry has moved")
        self.check(reply, dn)
        return reply.entries[0][1]

    async def groups_named(self, name: str) -> list[Group]:
        """Return the groups called *name*; see ``ldap_listing``."""
        return await ldap_listing.groups_named(self, name)

    async def members(self, group: Group) -> list[Identity]:
        """Return the users in *group*, nested ones too; see ``ldap_listing``."""
        return await ldap_listing.members(self, group)

    async def users(self) -> list[Identity]:
        """Return every user; see ``ldap_listing``."""
        return await ldap_listing.users(self)

    async def groups_like(self, name: str) -> list[str]:
        """Return a group's name, or its distinguished name, where the directory has it.

        Else names that begin alike, for a hint. Raises BackendUnavailable without an answer.
        """
        if self.options.schema.groups == "none":
            return []
        if is_dn(name):
            reply = await self._read(name, ["1.1"])
            return [name] if reply.code == SUCCESS and reply.entries else []
        base = self.options.group_base or self.options.base
        alike = [escape_filter_chars(name[:letters]) + "*" for letters in _ALIKE]
        for pattern in (escape_filter_chars(name), *alike):
            query = f"(&{ARE_GROUPS}(cn={pattern}))"
            reply = await self._on_servers(partial(_search_some_groups, base=base, query=query))
            if reply.code != SIZE_LIMIT_EXCEEDED:
                self.check(reply, base)
            if reply.entries:
                return [group_name(dn, values) for dn, values in reply.entries]
        return []

    async def _no_groups(self, _dn: str) -> dict[str, Group]:
        return {}

    async def _groups_in_chain(self, dn: str) -> dict[str, Group]:
        """Ask for all levels at once; the primary group lists no members, and is one all the same.

        Active Directory alone knows this rule.
        """
        primary = await self._primary_group(dn)
        members = [dn, *(group.dn for group in primary.values())]
        return primary | await self._groups_by(
            f"({self.options.group_member}:{IN_CHAIN}:=", members
        )

    async def _primary_group(self, dn: str) -> dict[str, Group]:
        """Return the group whose SID is that of the user's domain with their primaryGroupID."""
        entry = await self._entry(dn, ["objectSid", "primaryGroupID"])
        sid = primary_group_sid(entry)
        if sid is None:
            return {}
        octets = "".join(f"\\{octet:02x}" for octet in sid)
        return await self._groups_matching(f"(objectSid={octets})")

    async def _groups_member_of(self, dn: str) -> dict[str, Group]:
        values = (await self._entry(dn, ["memberOf"])).get("memberof", ())
        names = [value.decode("utf-8", "replace") for value in values]
        if len(names) > MAX_GROUPS:
            raise self._too_many_groups()
        return {name.lower(): Group(first_value(name), name) for name in names}

    async def _groups_by_search(self, dn: str) -> dict[str, Group]:
        """Search level by level; a group that was seen is not looked at again."""
        found: dict[str, Group] = {}
        level = [dn]
        for _ in range(self.options.group_depth):
            fresh: dict[str, Group] = {}
            for start in range(0, len(level), GROUPS_PER_SEARCH):
                some = level[start : start + GROUPS_PER_SEARCH]
                fresh |= await self._groups_by(f"({self.options.group_member}=", some)
            level = [group.dn for key, group in fresh.items() if key not in found]
            found |= fresh
            if len(found) > MAX_GROUPS:
                raise self._too_many_groups()
            if not level:
                break
        return found

    async def _groups_by(self, opening: str, members: Sequence[str]) -> dict[str, Group]:
        terms = [f"{opening}{escape_filter_chars(member)})" for member in members]
        return await self._groups_matching(terms[0] if len(terms) == 1 else f"(|{''.join(terms)})")

    async def _groups_matching(self, query: str) -> dict[str, Group]:
        base = self.options.group_base or self.options.base
        reply = await self._on_servers(
            lambda connection: connection.search_pages(base, query, ["cn"], MAX_GROUPS)
        )
        self.check(reply, base)
        if len(reply.entries) > MAX_GROUPS:
            raise self._too_many_groups()
        return {dn.lower(): Group(group_name(dn, values), dn) for dn, values in reply.entries}

    def _too_many_groups(self) -> BackendUnavailable:
        return self._unusable(f"a user is in more than {MAX_GROUPS} groups")

    async def inspect(self, server: LdapServer) -> ServerReport:
        """Look at *server*, on a connection of its own: TLS, search account, base."""
        began = monotonic()
        try:
            connection = await open_connection(server.target, self.options.account)
        except LdapFault as fault:
            return ServerReport(server.uri, fault=str(fault))
        try:
            base = self.options.base
            reply = await connection.search(base, ldap.SCOPE_BASE, "(objectClass=*)", ["1.1"])
            self.check(reply, base)
        except (LdapFault, BackendUnavailable) as error:
            fault_text = error.cause if isinstance(error, BackendUnavailable) else str(error)
            return ServerReport(server.uri, connection.tls, fault=fault_text)
        finally:
            connection.close()
        return ServerReport(server.uri, connection.tls, round((monotonic() - began) * 1000, 1))

    async def _searched(self, query: str, limit: int) -> Reply:
        base = self.options.base
        reply = await self._on_servers(
            lambda connection: connection.search(
                base, ldap.SCOPE_SUBTREE, query, self.attributes_of_users, limit
            )
        )
        if reply.code != SIZE_LIMIT_EXCEEDED:
            self.check(reply, base)
        return reply

    async def _read(self, dn: str, attributes: Sequence[str]) -> Reply:
        return await self._on_servers(
            lambda connection: connection.search(dn, ldap.SCOPE_BASE, "(objectClass=*)", attributes)
        )

    async def _on_servers(self, ask: Callable[[LdapConnection], Awaitable[Reply]]) -> Reply:
        _, reply = await self._first(lambda server: server.search(ask))
        return reply

    async def _first(self, ask: Callable[[LdapServer], Awaitable[T]]) -> tuple[LdapServer, T]:
        """Return the first server that answers *ask*, and what it says.

        What is asked may be asked of several: a search, or a connection to bind on, never a bind.
        """
        first = self.servers[0]
        failed = first, LdapFault("down", first.fault)
        for server in [one for one in self.servers if one.up]:
            try:
                return server, await ask(server)
            except LdapFault as fault:
                failed = server, fault
        raise self.unavailable(*failed)

    def unavailable(self, server: LdapServer, fault: LdapFault) -> BackendUnavailable:
        """Return what to raise about *fault* of *server*."""
        return self._unusable(f"{server.uri}: {fault}")

    def _unusable(self, cause: str) -> BackendUnavailable:
        return BackendUnavailable("directory", f"{self.name}: {cause}")

    def check(self, reply: Reply, base: str) -> None:
        """Raise BackendUnavailable for a search that the server refuses, with the cure."""
        if reply.code == SUCCESS:
            return
        cause = _SEARCH_CAUSES.get(reply.code, "the search is refused")
        detail = f" ({reply.diagnostic})" if reply.diagnostic else ""
        raise self._unusable(f"{cause.format(base=base)}: LDAP result {reply.code}{detail}")

    async def close(self) -> None:
        """Close every connection."""
        for server in self.servers:
            await server.close()


_HOLDS_REALM = re.compile(r"mail|principal|proxyaddresses", re.IGNORECASE)
"""Attributes whose values are of the form ``alice@corp.example``."""

_MAY_BE_A_MOVE = {PasswordVerdict.WRONG, PasswordVerdict.UNKNOWN_USER}

_SEARCH_CAUSES = {
    1: "the server wants the search account to bind first: set bind_dn and bind_password",
    4: "the server's size limit is too small for the groups of a user",
    8: "the server wants stronger authentication: use ldaps:// or start_tls",
    32: "the base {base!r} does not exist, or the search account may not see it",
    34: "the base {base!r} is not a distinguished name",
    50: "the search account may not search {base!r}",
}

_GROUPS = {
    "none": LdapDirectory._no_groups,  # noqa: SLF001 - its own
    "in-chain": LdapDirectory._groups_in_chain,  # noqa: SLF001
    "member-of": LdapDirectory._groups_member_of,  # noqa: SLF001
    "search": LdapDirectory._groups_by_search,  # noqa: SLF001
}


async def _search_some_groups(connection: LdapConnection, base: str, query: str) -> Reply:
    return await connection.search(base, ldap.SCOPE_SUBTREE, query, ["cn"], _SOME_GROUPS)


def _readable_name(values: Sequence[bytes], dn: str) -> str:
    """Return what people call the user; a name that can't be shown is the entry's own."""
    for value in values:
        try:
            return canonical_user(value.decode())
        except (UnicodeDecodeError, InvalidUserNameError):
            continue
    return first_value(dn)


def _mail(attributes: Attributes) -> str:
    """Return the first mail address of an entry that will do; nothing where none does."""
    for value in attributes.get(MAIL, ()):
        try:
            return mail_address(value.decode())
        except (UnicodeDecodeError, InvalidMailAddressError):
            continue
    return ""

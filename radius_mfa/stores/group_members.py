"""Who is in a group now, whichever directory has it: for what is asked of a whole group at once.

A group is one entry of one directory, or one that is kept here. What is asked for must be one: a
name that stands for two groups is refused, for nobody can tell which of them was meant.
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from radius_mfa.errors import Refused
from radius_mfa.policy.groups import Group, group_key
from radius_mfa.stores.directories import Directories
from radius_mfa.stores.enrolments import EnrolmentStore
from radius_mfa.stores.interfaces import LOCAL, Identity, PasswordVerdict

if TYPE_CHECKING:  # python-ldap is an extra
    from radius_mfa.stores.directory_ldap import LdapDirectory

_ENDED = frozenset({PasswordVerdict.DISABLED, PasswordVerdict.EXPIRED})


@dataclass(frozen=True, slots=True)
class Members:
    """The users in a group of *directory*, also through groups in it."""

    directory: str
    group: Group
    users: Sequence[Identity]

    @property
    def usable(self) -> list[Identity]:
        """Those whose account the directory has neither disabled nor ended."""
        return usable(self.users)

    @property
    def distinct(self) -> str:
        """What tells the group from all others of the directory."""
        return self.group.dn or self.group.name


class UnknownGroup(Refused):
    """No directory that was asked has the group; *near* is one that may have been meant."""

    def __init__(self, message: str, cure: str, near: str = "") -> None:
        super().__init__(message, cure)
        self.near = near


class AmbiguousGroup(Refused):
    """Several groups are called so; *places* are their directories and distinguished names."""

    def __init__(self, name: str, places: Sequence[tuple[str, str]]) -> None:
        places_said = "; ".join(f"{dn} of {directory}" for directory, dn in places)
        directory, dn = places[0]
        super().__init__(
            f"{name} stands for {len(places)} groups: {places_said}",
            f"name one of them: --group {shlex.quote(dn)} --directory {directory}",
        )
        self.places = places


class EmptyGroup(Refused):
    """Nobody who could log in is in the group."""


def usable(users: Sequence[Identity]) -> list[Identity]:
    """Return those of *users* whose account is neither disabled nor ended in its directory."""
    return [user for user in users if user.state not in _ENDED]


async def members(
    directories: Directories, enrolments: EnrolmentStore, name: str, directory: str = ""
) -> Members:
    """Return who is in the group *name*, its name or distinguished name, in any case.

    With *directory*, ``local`` for what is kept here, the others are not asked. Raises Refused
    with the cure, and BackendUnavailable where a directory that may have it does not answer.
    """
    asked = _asked(directories, directory)
    own = await enrolments.members_of(name) if directory in ("", LOCAL) else []
    found = [(one, group) for one in asked for group in await one.groups_named(name)]
    places = [(one.name, group.dn) for one, group in found] + [(LOCAL, name)] * bool(own)
    if not places:
        raise await _unknown(name, asked, enrolments)
    if len(places) > 1:
        raise AmbiguousGroup(name, places)
    if own:
        return Members(LOCAL, Group(name), own)
    [(where, group)] = found
    users, place = await where.members(group), where.name
    if not users:
        raise EmptyGroup(
            f"nobody in the group {name} is a user of {place}",
            f"compare its members with base and filter of {place}",
        )
    return Members(place, group, users)


def _asked(directories: Directories, name: str) -> "list[LdapDirectory]":
    """Return the directories to ask beside this server itself."""
    asked = [one for one in directories.ldap if name in ("", one.name)]
    if not asked and name not in ("", LOCAL):
        known = ", ".join([LOCAL, *(one.name for one in directories.ldap)])
        raise Refused(f"there is no directory {name}", f"known: {known}")
    return asked


async def _unknown(
    name: str, asked: "Sequence[LdapDirectory]", enrolments: EnrolmentStore
) -> UnknownGroup:
    """Return what to say of a group that nobody has: what else may have been meant."""
    where, known = [LOCAL, *(one.name for one in asked)], await enrolments.group_names()
    for directory in asked:
        known += await directory.groups_like(name)
    by_key = {group_key(one): one for one in known}
    near = get_close_matches(group_key(name), by_key, n=1, cutoff=0.6)
    blind = [one.name for one in asked if one.options.schema.groups == "none"]
    meant = by_key[near[0]] if near else ""
    if meant:
        cure = f"did you mean {meant}?"
    elif blind:
        cure = f'{", ".join(blind)} has groups = "none": set it, and radius-mfa sees them'
    else:
        cure = "see which groups a user is in: radius-mfa directory test NAME --user USER"
    return UnknownGroup(f"there is no group {name} in {', '.join(where)}", cure, meant)

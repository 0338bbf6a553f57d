"""Which groups that the rules name nobody has: a typing error that no file shows."""

from collections.abc import Iterator
from dataclasses import dataclass

from radius_mfa.config import Settings
from radius_mfa.policy.groups import group_key
from radius_mfa.policy_setup import nearest
from radius_mfa.stores.directories import Directories
from radius_mfa.stores.enrolments import EnrolmentStore


@dataclass(frozen=True, slots=True)
class UnknownGroup:
    """A group that neither a directory nor this server has; *where* says who names it."""

    where: str
    group: str
    hint: str


async def unknown_groups(
    settings: Settings, directories: Directories, enrolments: EnrolmentStore
) -> list[UnknownGroup]:
    """Return the groups of rules and clients that are nowhere to be found.

    Raises BackendUnavailable where a directory that may have one does not answer.
    """
    named = list(_named(settings))
    if not named:
        return []
    own = await enrolments.group_names()
    unknown = []
    for where, group in named:
        known = list(own)
        for directory in directories.ldap:
            known += await directory.groups_like(group)
        if group_key(group) not in map(group_key, known):
            unknown.append(UnknownGroup(where, group, nearest(group, known)))
    return unknown


def _named(settings: Settings) -> Iterator[tuple[str, str]]:
    for rule in settings.rule:
        for group in rule.group:
            yield f"rule {rule.name}", group
    for client in settings.client:
        for group in client.group_map:
            yield f"client {client.name}", group

"""``radius-mfa user require`` and its kin: what admins ask of users' second factors."""

import shlex
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from time import time
from typing import Annotated, TypeVar

import typer

from radius_mfa.app import Stores
from radius_mfa.cli.bulk import DryRunOption
from radius_mfa.cli.common import (
    UserArgument,
    output,
    plural,
    settings,
    shown,
    with_stores,
    with_user,
    with_users,
)
from radius_mfa.errors import Refused
from radius_mfa.policy.requirement import DAY_SECONDS, DEFAULT_DAYS, MAX_DAYS
from radius_mfa.stores.group_members import members, usable
from radius_mfa.stores.interfaces import Identity, Prospect

T = TypeVar("T")

DATE_CHARACTERS = len("2026-12-31")

OptionalUsers = Annotated[
    list[str] | None,
    typer.Argument(metavar="USER...", help="Names of users, in any of their forms."),
]
GroupOption = Annotated[
    str | None,
    typer.Option(
        "--group", metavar="GROUP", help="The members of a group now, also through groups in it."
    ),
]
DirectoryOption = Annotated[
    str | None,
    typer.Option("--directory", metavar="NAME", help="Whose group, where several are called so."),
]
EveryoneOption = Annotated[bool, typer.Option("--everyone", help="All users on record.")]
DaysOption = Annotated[int, typer.Option(metavar="N", help=f"Days to enrol, to {MAX_DAYS}.")]


@dataclass(frozen=True, slots=True)
class Asked:
    """Whom the command line means: users by name, everyone, or the members of a group."""

    users: list[str] | None
    everyone: bool
    group: str | None
    directory: str | None


@dataclass(frozen=True, slots=True)
class Whom:
    """Who that is, by key. *newcomers* may be put on record; *group* tells the group from others.

    *left_out* are those of them whom it is not asked of.
    """

    keys: Sequence[str]
    newcomers: Sequence[Identity]
    group: str = ""
    left_out: int = 0


def require(
    ctx: typer.Context,
    users: OptionalUsers = None,
    everyone: Annotated[
        bool, typer.Option("--everyone", help="All users on record, and all of the directories.")
    ] = False,
    group: GroupOption = None,
    directory: DirectoryOption = None,
    days: DaysOption = DEFAULT_DAYS,
    starts: Annotated[
        str | None, typer.Option("--from", metavar="DATE", help="When it begins. Default: now.")
    ] = None,
    dry_run: DryRunOption = False,
) -> None:
    """Require a second factor of users, who have some days to enrol; 0 is at once."""
    now = time()
    begins = None if starts is None else moment(starts, "--from")

    async def work(stores: Stores, whom: Whom) -> tuple[Whom, Prospect, list[str]]:
        prospect = await stores.service.would_require(whom.keys, days)
        if dry_run:
            return whom, prospect, []
        changed = await stores.service.require(
            whom.keys, now, days, begins, newcomers=whom.newcomers, group=whom.group
        )
        return whom, prospect, changed

    asked = Asked(users, everyone, group, directory)
    whom, prospect, changed = _done(ctx, asked, work, newcomers=True)
    if whom.group:
        output.print(f"{whom.group}: {plural(len(whom.keys), 'user')}.")
    end = max(now, begins or now) + days * DAY_SECONDS
    until = f"who can enrol until {_day(end)}" if days else "at once"
    if dry_run:
        output.print("Dry run, nothing was changed. It would be:")
    count = prospect.users - prospect.required if dry_run else len(changed)
    output.print(f"Required of {plural(count, 'user')}, {until}.")
    if prospect.new:
        output.print(f"On record only now: {prospect.new} of them.")
    if prospect.required:
        output.print(
            f"It was required of {prospect.required} already, who keep their period. "
            "To give more time: radius-mfa user extend"
        )
    if whom.left_out:
        output.print(
            f"Left out: {plural(whom.left_out, 'account')}, disabled or ended in the directory."
        )
    if changed and settings(ctx).mail.host:
        unreachable = with_stores(ctx, lambda stores: stores.enrolments.without_mail(changed))
        if unreachable:
            output.print(f"{plural(unreachable, 'user')} of them can't be told: no mail address.")


def withdraw(
    ctx: typer.Context,
    users: OptionalUsers = None,
    everyone: EveryoneOption = False,
    group: GroupOption = None,
    directory: DirectoryOption = None,
) -> None:
    """Require a second factor no longer; devices stay, and enrolled users need their code."""
    _, changed = _changed(
        ctx,
        Asked(users, everyone, group, directory),
        lambda stores, whom: stores.service.withdraw(whom.keys, group=whom.group),
    )
    output.print(f"Withdrawn for {plural(len(changed), 'user')}.")


def extend(
    ctx: typer.Context,
    users: OptionalUsers = None,
    everyone: EveryoneOption = False,
    group: GroupOption = None,
    directory: DirectoryOption = None,
    days: DaysOption = DEFAULT_DAYS,
) -> None:
    """Give users more days to enrol: from the end of their period or, if it is over, from now."""
    now = time()
    whom, changed = _changed(
        ctx,
        Asked(users, everyone, group, directory),
        lambda stores, whom: stores.service.extend(whom.keys, now, days, group=whom.group),
    )
    if not changed:
        raise Refused(
            "nothing was extended: no second factor is required of them",
            "see: radius-mfa user require --help",
        )
    output.print(f"{plural(len(changed), 'user')} can enrol for {plural(days, 'more day')}.")
    if len(changed) < len(whom.keys):
        output.print(f"Of {len(whom.keys) - len(changed)} no second factor is required.")


def exempt(
    ctx: typer.Context,
    users: OptionalUsers = None,
    group: GroupOption = None,
    directory: DirectoryOption = None,
    until: Annotated[
        str | None,
        typer.Option(metavar="DATE", help="When it ends: a date (to its end) or DATE THH:MM."),
    ] = None,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why.")] = "",
    end: Annotated[bool, typer.Option("--end", help="End an exemption now.")] = False,
) -> None:
    """Let users in with the password alone until a date, for a reason; not if they are enrolled."""
    asked = Asked(users, False, group, directory)  # noqa: FBT003 - as it is on the command line
    if end:
        _, changed = _changed(
            ctx, asked, lambda s, whom: s.service.end_exemption(whom.keys, group=whom.group)
        )
        output.print(f"{plural(len(changed), 'exemption')} ended.")
        return
    if until is None or not reason.strip():
        raise Refused(
            "an exemption needs an end and a reason", "give both: --until DATE --reason TEXT"
        )
    now, ends = time(), moment(until, "--until", whole_day=True)

    async def work(stores: Stores, whom: Whom) -> list[str]:
        return await stores.service.exempt(
            whom.keys, now, ends, reason, newcomers=whom.newcomers, group=whom.group
        )

    _, changed = _changed(ctx, asked, work, newcomers=True)
    output.print(f"{plural(len(changed), 'user')} exempt until {_day(ends)}.")


def reset(
    ctx: typer.Context,
    user: UserArgument,
    days: DaysOption = DEFAULT_DAYS,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """End all devices and recovery codes of a user, who has some days to enrol anew."""
    record = with_user(ctx, user, lambda stores, found: stores.enrolments.user(found.key))
    name, count = record.name, plural(len(record.devices), "device")
    if not yes and not typer.confirm(f"End {count} and all recovery codes of {name}?"):
        raise Refused("nothing was changed")
    now = time()
    with_stores(ctx, lambda stores: stores.service.reset([record.key], now, days))
    output.print(
        f"{name} has no device any more, and can enrol until {_day(now + days * DAY_SECONDS)}. "
        f"Next: radius-mfa device add {shlex.quote(name)}"
    )


def moment(text: str, option: str, *, whole_day: bool = False) -> float:
    """Return a date or a date and time, local where it names no zone, as Unix seconds.

    With *whole_day* a date alone is the end of that day.
    """
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        raise typer.BadParameter(
            f"{text} is neither a date like 2026-12-31 nor one with a time like 2026-12-31T18:00",
            param_hint=option,
        ) from None
    if whole_day and len(text.strip()) == DATE_CHARACTERS:
        found += timedelta(days=1)
    return found.astimezone().timestamp()


def _changed(
    ctx: typer.Context,
    asked: Asked,
    work: Callable[[Stores, Whom], Awaitable[list[str]]],
    *,
    newcomers: bool = False,
) -> tuple[Whom, list[str]]:
    """Return who is meant, and the keys of those whom *work* changed."""

    async def both(stores: Stores, whom: Whom) -> tuple[Whom, list[str]]:
        return whom, await work(stores, whom)

    return _done(ctx, asked, both, newcomers=newcomers)


def _done(
    ctx: typer.Context,
    asked: Asked,
    work: Callable[[Stores, Whom], Awaitable[T]],
    *,
    newcomers: bool = False,
) -> T:
    """Run *work* over the open backends and who is meant.

    With *newcomers* users of other directories may be put on record with it.
    """
    if [bool(asked.users), asked.everyone, asked.group is not None].count(True) != 1:
        raise Refused(
            "name users, or say --everyone, or --group",
            "one of them: see radius-mfa user require --help",
        )
    if asked.directory is not None and asked.group is None:
        raise Refused("--directory says where a group is", "say --group as well")

    async def those(stores: Stores, found: list[Identity]) -> T:
        new = [user for user in found if newcomers and user.dn]
        for user in found if newcomers else ():
            if not user.dn:
                await stores.enrolments.user(user.key)
        return await work(stores, Whom([user.key for user in found], new))

    async def all_of_them(stores: Stores) -> T:
        find = _all if asked.group is None else partial(_members, asked=asked)
        return await work(stores, await find(stores, newcomers=newcomers))

    if asked.users:
        return with_users(ctx, asked.users, those)
    return with_stores(ctx, all_of_them)


async def _all(stores: Stores, *, newcomers: bool) -> Whom:
    """Return all users on record and, of *newcomers*, all whom a directory has."""
    keys = {user.key for user in await stores.enrolments.users()}
    found = []
    for directory in stores.directories.ldap if newcomers else ():
        found += await directory.users()
    there = usable(found)
    keys -= {user.key for user in found}
    keys |= {user.key for user in there}
    return Whom(sorted(keys), there, left_out=len(found) - len(there))


async def _members(stores: Stores, *, asked: Asked, newcomers: bool) -> Whom:
    """Return the members of a group; without *newcomers* those on record."""
    name = asked.group or ""
    found = await members(stores.directories, stores.enrolments, name, asked.directory or "")
    said = f"{found.distinct} of {found.directory}"
    if newcomers:
        users = found.usable
        keys = [user.key for user in users]
        return Whom(keys, [one for one in users if one.dn], said, len(found.users) - len(users))
    keys = sorted(await stores.enrolments.known([user.key for user in found.users]))
    if not keys:
        raise Refused(
            f"nobody of {said} is on record here, so nothing was asked of them",
            "a requirement puts them there: radius-mfa user require --group",
        )
    return Whom(keys, (), said)


def _day(seconds: float) -> str:
    return shown(datetime.fromtimestamp(seconds).astimezone())

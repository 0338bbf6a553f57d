"""``radius-mfa user require`` and its kin: what admins ask of users' second factors."""

import shlex
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from time import time
from typing import Annotated

import typer

from radius_mfa.app import Stores
from radius_mfa.cli.common import (
    UserArgument,
    UsersArgument,
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
from radius_mfa.stores.interfaces import Identity

DATE_CHARACTERS = len("2026-12-31")

OptionalUsers = Annotated[
    list[str] | None,
    typer.Argument(metavar="USER...", help="Names of users, in any of their forms."),
]
EveryoneOption = Annotated[bool, typer.Option("--everyone", help="All users on record.")]
DaysOption = Annotated[int, typer.Option(metavar="N", help=f"Days to enrol, to {MAX_DAYS}.")]


def require(
    ctx: typer.Context,
    users: OptionalUsers = None,
    everyone: EveryoneOption = False,
    days: DaysOption = DEFAULT_DAYS,
    starts: Annotated[
        str | None, typer.Option("--from", metavar="DATE", help="When it begins. Default: now.")
    ] = None,
) -> None:
    """Require a second factor of users, who have some days to enrol; 0 is at once."""
    now = time()
    begins = None if starts is None else moment(starts, "--from")
    named, changed = _changed(
        ctx,
        users,
        everyone,
        lambda stores, keys: stores.service.require(keys, now, days, begins),
        newcomers=True,
    )
    end = max(now, begins or now) + days * DAY_SECONDS
    until = f"who can enrol until {_day(end)}" if days else "at once"
    output.print(f"Required of {plural(len(changed), 'user')}, {until}.")
    if len(changed) < len(named):
        output.print(
            f"It was required of {len(named) - len(changed)} already, who keep their period. "
            "To give more time: radius-mfa user extend"
        )
    if changed and settings(ctx).mail.host:
        unreachable = with_stores(ctx, lambda stores: stores.enrolments.without_mail(changed))
        if unreachable:
            output.print(f"{plural(unreachable, 'user')} of them can't be told: no mail address.")


def withdraw(
    ctx: typer.Context, users: OptionalUsers = None, everyone: EveryoneOption = False
) -> None:
    """Require a second factor no longer; devices stay, and enrolled users need their code."""
    _, changed = _changed(ctx, users, everyone, lambda stores, keys: stores.service.withdraw(keys))
    output.print(f"Withdrawn for {plural(len(changed), 'user')}.")


def extend(
    ctx: typer.Context,
    users: OptionalUsers = None,
    everyone: EveryoneOption = False,
    days: DaysOption = DEFAULT_DAYS,
) -> None:
    """Give users more days to enrol: from the end of their period or, if it is over, from now."""
    now = time()
    named, changed = _changed(
        ctx, users, everyone, lambda stores, keys: stores.service.extend(keys, now, days)
    )
    if not changed:
        raise Refused(
            "nothing was extended: no second factor is required of them",
            "see: radius-mfa user require --help",
        )
    output.print(f"{plural(len(changed), 'user')} can enrol for {plural(days, 'more day')}.")
    if len(changed) < len(named):
        output.print(f"Of {len(named) - len(changed)} no second factor is required.")


def exempt(
    ctx: typer.Context,
    users: UsersArgument,
    until: Annotated[
        str | None,
        typer.Option(metavar="DATE", help="When it ends: a date (to its end) or DATE THH:MM."),
    ] = None,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why.")] = "",
    end: Annotated[bool, typer.Option("--end", help="End an exemption now.")] = False,
) -> None:
    """Let users in with the password alone until a date, for a reason; not if they are enrolled."""
    if end:
        _, changed = _changed(
            ctx, users, everyone=False, work=lambda s, keys: s.service.end_exemption(keys)
        )
        output.print(f"{plural(len(changed), 'exemption')} ended.")
        return
    if until is None or not reason.strip():
        raise Refused(
            "an exemption needs an end and a reason", "give both: --until DATE --reason TEXT"
        )
    now, ends = time(), moment(until, "--until", whole_day=True)
    _, changed = _changed(
        ctx,
        users,
        everyone=False,
        work=lambda stores, keys: stores.service.exempt(keys, now, ends, reason),
        newcomers=True,
    )
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
    with_stores(ctx, lambda stores: stores.service.reset(record.key, now, days))
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
    users: list[str] | None,
    everyone: bool,
    work: Callable[[Stores, list[str]], Awaitable[list[str]]],
    *,
    newcomers: bool = False,
) -> tuple[list[str], list[str]]:
    """Return the keys of the users who are meant, and of those whom *work* changed.

    With *newcomers* users of other directories are put on record where they are not.
    """
    if bool(users) == everyone:
        raise Refused("name users, or say --everyone", "one of the two")

    async def all_on_record(stores: Stores) -> tuple[list[str], list[str]]:
        keys = [user.key for user in await stores.enrolments.users()]
        return keys, await work(stores, keys)

    async def those(stores: Stores, found: list[Identity]) -> tuple[list[str], list[str]]:
        if newcomers:
            await _put_on_record(stores, found)
        keys = [user.key for user in found]
        return keys, await work(stores, keys)

    return with_stores(ctx, all_on_record) if everyone else with_users(ctx, users or (), those)


async def _put_on_record(stores: Stores, users: list[Identity]) -> None:
    """Put users of other directories on record; none of them where somebody is unknown."""
    for user in users:
        if not user.dn:
            await stores.enrolments.user(user.key)
    for user in users:
        if user.dn:
            await stores.enrolments.know(user)


def _day(seconds: float) -> str:
    return shown(datetime.fromtimestamp(seconds).astimezone())

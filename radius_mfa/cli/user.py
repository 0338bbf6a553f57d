"""``radius-mfa user``: users of the local directory, and what locks or suspends anyone."""

import shlex
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import time
from typing import Annotated, Any

import typer

from radius_mfa.app import Stores
from radius_mfa.authentication.enrolment import requirement_words, totp_words
from radius_mfa.cli import requirement
from radius_mfa.cli.common import (
    JsonOption,
    PasswordFileOption,
    UserArgument,
    UsersArgument,
    asks_on_terminal,
    canonical,
    output,
    print_fields,
    print_json,
    print_table,
    read_secret,
    shown,
    with_stores,
    with_user,
    with_users,
)
from radius_mfa.errors import HalfDone, Refused
from radius_mfa.policy import columns
from radius_mfa.policy.access import state
from radius_mfa.policy.columns import TOTP_OF_STATE, Asked, Standing, Totp, asked_of
from radius_mfa.policy.lockout import UNTIL_UNLOCKED
from radius_mfa.policy.mail_address import InvalidMailAddressError, mail_address
from radius_mfa.stores.attempts import Locks
from radius_mfa.stores.enrolments import UserOnRecord
from radius_mfa.stores.interfaces import Identity

app = typer.Typer(
    help="Users: add, list, require a second factor, unlock, suspend, delete.",
    no_args_is_help=True,
)

FactorOption = Annotated[
    bool, typer.Option("--factor", help="The second factor alone: logins that need it.")
]


GroupsArgument = Annotated[list[str], typer.Argument(metavar="GROUP...", help="Names of groups.")]


@app.command()
def add(
    ctx: typer.Context,
    user: UserArgument,
    password_file: PasswordFileOption = None,
    groups: Annotated[
        list[str] | None,
        typer.Option("--group", help="A group to put the user into; may be repeated."),
    ] = None,
    mail: Annotated[
        str | None, typer.Option("--mail", metavar="ADDRESS", help="Where mails to the user go.")
    ] = None,
) -> None:
    """Add a user with a password in the local directory."""
    name, address = canonical(ctx, user), None if mail is None else _address(mail)
    if asks_on_terminal(password_file):
        with_stores(ctx, lambda stores: _refuse_known(stores, name))
    password = _new_password(password_file)
    with_stores(ctx, lambda stores: stores.directory.add(name, password, groups or (), address))
    output.print(f"Added {name}. Next: radius-mfa device add {shlex.quote(name)}")


@app.command()
def passwd(
    ctx: typer.Context, user: UserArgument, password_file: PasswordFileOption = None
) -> None:
    """Set a user's password."""
    name = canonical(ctx, user)
    if asks_on_terminal(password_file):
        with_stores(ctx, lambda stores: stores.enrolments.user(name))
    password = _new_password(password_file)
    with_stores(ctx, lambda stores: stores.directory.set_password(name, password))
    output.print(f"The new password of {name} holds from now on.")


@app.command("set")
def set_user(
    ctx: typer.Context,
    user: UserArgument,
    mail: Annotated[
        str, typer.Option("--mail", metavar="ADDRESS", help='Where mails go; "" for nowhere.')
    ],
) -> None:
    """Change the mail address of a user of the local directory."""
    address = _address(mail) if mail else None

    async def work(stores: Stores, found: Identity) -> str:
        await stores.enrolments.set_mail(found.key, address)
        return found.name

    name = with_user(ctx, user, work)
    output.print(f"Mails to {name} go to {address}." if address else f"{name} gets no mails.")


@app.command("list")
def list_users(
    ctx: typer.Context,
    totp: Annotated[Totp | None, typer.Option(help="Only those whose MFA: TOTP is this.")] = None,
    asked: Annotated[
        Asked | None,
        typer.Option("--requirement", help="Only those whose MFA: User Requirement is this."),
    ] = None,
    standing: Annotated[
        Standing | None, typer.Option("--state", help="Only those in this state.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List users, their state, their second factor, and what is required of them."""

    async def work(stores: Stores) -> list[dict[str, Any]]:
        users = await stores.enrolments.users()
        return [_summary(one, await stores.attempts.locks(one.key)) for one in users]

    users = [
        user
        for user in with_stores(ctx, work)
        if (totp is None or TOTP_OF_STATE[user["mfa"]["state"]] is totp)
        and (asked is None or user["mfa"]["asked"] is asked)
        and (standing is None or user["state"] == _WORDS[standing])
    ]
    if as_json:
        print_json(users)
        return
    rows = [
        (
            user["name"],
            _state_line(user),
            user["mfa"]["totp"],
            user["mfa"]["requirement"],
            _devices(user),
            user["created_at"],
            user["directory"],
        )
        for user in users
    ]
    columns = (
        "USER",
        "STATE",
        "MFA: TOTP",
        "MFA: User Requirement",
        "DEVICES",
        "CREATED",
        "DIRECTORY",
    )
    filtered = totp or asked or standing
    print_table(columns, rows, "None." if filtered else "No users yet: radius-mfa user add NAME")


@app.command()
def show(ctx: typer.Context, user: UserArgument, as_json: JsonOption = False) -> None:
    """Show a user: state, devices, failures and locks."""

    async def work(stores: Stores, found: Identity) -> dict[str, Any]:
        record = await stores.enrolments.user(found.key)
        return _summary(record, await stores.attempts.locks(found.key))

    summary = with_user(ctx, user, work)
    if as_json:
        print_json(summary)
        return
    mfa = summary["mfa"]
    fields: list[tuple[str, object]] = [
        ("user", summary["name"]),
        ("directory", summary["directory"]),
        *([("key", summary["key"])] if summary["key"] != summary["name"] else []),
        ("mail", summary["mail"]),
        ("state", _state_line(summary)),
        ("created", summary["created_at"]),
        ("password changed", summary["password_changed_at"]),
        ("failures in a row", summary["consecutive_failures"]),
        ("MFA: TOTP", mfa["totp"]),
        ("MFA: User Requirement", mfa["requirement"]),
        ("enrol by", mfa["enrol_by"]),
        ("recovery codes left", summary["recovery_codes"]),
        ("groups", list(summary["groups"])),
    ]
    fields += [("exempt because", mfa["exempt_reason"])] * (mfa["asked"] is Asked.EXEMPT)
    fields += [("device", _device_line(device)) for device in summary["devices"]]
    fields += [("failing from", _source_line(source)) for source in summary["sources"]]
    print_fields(fields)


@app.command()
def join(ctx: typer.Context, user: UserArgument, groups: GroupsArgument) -> None:
    """Put a user into groups that are kept here, for the rules; a directory's stay as they are."""
    name = _with_groups(ctx, user, lambda stores, found: stores.enrolments.join(found.key, groups))
    output.print(f"{name} is in {', '.join(groups)}.")


@app.command()
def leave(ctx: typer.Context, user: UserArgument, groups: GroupsArgument) -> None:
    """Take a user out of groups that are kept here."""
    name = _with_groups(ctx, user, lambda stores, found: stores.enrolments.leave(found.key, groups))
    output.print(f"{name} is no longer in {', '.join(groups)}.")


def _with_groups(
    ctx: typer.Context, user: str, change: Callable[[Stores, Identity], Awaitable[None]]
) -> str:
    async def work(stores: Stores, found: Identity) -> str:
        await change(stores, found)
        return (await stores.enrolments.user(found.key)).name

    return with_user(ctx, user, work)


@app.command()
def suspend(ctx: typer.Context, user: UserArgument, factor: FactorOption = False) -> None:
    """Refuse every login of a user from now on, or every one that needs the second factor."""
    name = with_user(ctx, user, partial(_set_suspended, factor=factor, suspended=True))
    if factor:
        undo = f"radius-mfa user resume {shlex.quote(name)} --factor"
        output.print(f"The second factor of {name} is suspended. To undo: {undo}")
        return
    output.print(f"{name} is suspended. To undo: radius-mfa user resume {shlex.quote(name)}")


@app.command()
def resume(ctx: typer.Context, user: UserArgument, factor: FactorOption = False) -> None:
    """Let a suspended user log in again, or use the second factor again."""
    name = with_user(ctx, user, partial(_set_suspended, factor=factor, suspended=False))
    if factor:
        output.print(f"The second factor of {name} works again.")
        return
    output.print(f"{name} may log in again.")


@app.command()
def unlock(ctx: typer.Context, users: UsersArgument) -> None:
    """End every lock of users and forget the failures."""

    async def work(stores: Stores, found: list[Identity]) -> None:
        records = [await stores.enrolments.user(one.key) for one in found]
        names = {record.key: record.name for record in records}
        try:
            done = await stores.service.unlock(names)
        except HalfDone as half:
            _say_unlocked(names[key] for key in half.done)
            raise
        _say_unlocked(names[key] for key in done)

    with_users(ctx, users, work)


def _say_unlocked(names: Iterable[str]) -> None:
    for name in names:
        output.print(f"{name} is unlocked.")


for _command in (
    requirement.require,
    requirement.withdraw,
    requirement.extend,
    requirement.exempt,
    requirement.reset,
):
    app.command()(_command)


@app.command()
def delete(
    ctx: typer.Context,
    user: UserArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete a user with password and devices."""
    record = with_user(ctx, user, lambda stores, found: stores.enrolments.user(found.key))
    if not yes and not typer.confirm(f"Delete {record.name} with password and devices?"):
        raise Refused("nothing was deleted")

    async def work(stores: Stores) -> None:
        await stores.enrolments.delete_user(record.key)
        await stores.attempts.forget(record.key)

    with_stores(ctx, work)
    output.print(f"{record.name} is deleted.")


async def _set_suspended(stores: Stores, user: Identity, *, factor: bool, suspended: bool) -> str:
    record = await stores.enrolments.user(user.key)
    if factor:
        await stores.service.suspend_factor([user.key], suspended=suspended)
    else:
        await stores.service.suspend([user.key], suspended=suspended)
    return record.name


async def _refuse_known(stores: Stores, name: str) -> None:
    """Spare whoever types two passwords for a user who exists."""
    try:
        await stores.enrolments.user(name)
    except Refused:
        return
    raise Refused(
        f"the user {name} exists already",
        f"to set a new password: radius-mfa user passwd {shlex.quote(name)}",
    )


def _address(text: str) -> str:
    try:
        return mail_address(text)
    except InvalidMailAddressError as error:
        raise Refused(f"{text!r}: {error}", "correct the address") from None


def _new_password(file: Path | None) -> str:
    password = read_secret("New password", file, repeat=True)
    if not password:
        raise Refused("the password is empty", "type one, or give it with --password-file")
    return password


def _summary(user: UserOnRecord, locks: Locks) -> dict[str, Any]:
    now = int(time() * 1000)
    sources = [
        {
            "source": source,
            "failures": tally.failures,
            "locked_until": _moment(tally.lock_end(now)),
        }
        for source, tally in sorted(locks.sources.items())
    ]
    everywhere = _moment(locks.user.lock_end(now))
    somewhere = any(source["locked_until"] for source in sources)
    return {
        **_record(user),
        "mfa": _mfa(user, time()),
        "state": _WORDS[
            columns.standing(
                suspended=user.suspended_at is not None,
                everywhere=everywhere is not None,
                somewhere=somewhere,
            )
        ],
        "locked_until": everywhere,
        "consecutive_failures": locks.consecutive,
        "sources": sources,
    }


def _record(user: UserOnRecord) -> dict[str, Any]:
    fields = asdict(user)
    del fields["requirement"]  # told as "mfa"
    return fields


def _mfa(user: UserOnRecord, now: float) -> dict[str, Any]:
    asked, facts = user.requirement, {"confirmed": user.confirmed, "pending": user.pending}
    return {
        "state": state(asked, now, **facts),
        "totp": totp_words(asked, now, **facts),
        "requirement": requirement_words(asked, now),
        "asked": asked_of(asked, now),
        "required_from": _at(asked.required_from),
        "enrol_by": _at(asked.enrol_by),
        "exempt_until": _at(asked.exempt_until),
        "exempt_reason": asked.exempt_reason,
    }


def _at(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _devices(user: dict[str, Any]) -> str:
    waiting = sum(device["confirmed_at"] is None for device in user["devices"])
    counted = len(user["devices"]) - waiting
    return f"{counted}, {waiting} unconfirmed" if waiting else str(counted)


def _device_line(device: dict[str, Any]) -> str:
    if device["confirmed_at"] is None:
        return f"{device['name']}, waiting for its first code"
    return f"{device['name']}, since {shown(device['confirmed_at'])}"


_WORDS = {standing: standing.replace("-", " ") for standing in Standing}


def _state_line(user: dict[str, Any]) -> str:
    if user["state"] == "locked":
        return f"locked until {shown(user['locked_until'])}"
    return str(user["state"])


def _moment(milliseconds: int) -> datetime | str | None:
    if not milliseconds:
        return None
    if milliseconds == UNTIL_UNLOCKED:
        return "an admin unlocks"
    return datetime.fromtimestamp(milliseconds // 1000, UTC)


def _source_line(source: dict[str, Any]) -> str:
    client, _, station = source["source"].partition("|")
    place = f"{client} {station or '(no Calling-Station-Id)'}"
    until = source["locked_until"]
    return f"{place}, locked until {shown(until)}" if until else f"{place}: {source['failures']}"

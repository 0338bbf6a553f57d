"""``radius-mfa user``: users of the local directory, and what locks or suspends anyone."""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from time import time
from typing import Annotated, Any

import typer

from radius_mfa.app import Stores
from radius_mfa.cli.common import (
    JsonOption,
    PasswordFileOption,
    UserArgument,
    canonical,
    output,
    print_json,
    print_table,
    read_secret,
    shown,
    with_stores,
)
from radius_mfa.errors import Refused
from radius_mfa.policy.lockout import UNTIL_UNLOCKED, later_lock
from radius_mfa.stores.attempts import Locks
from radius_mfa.stores.enrolments import UserOnRecord

app = typer.Typer(help="Users: add, list, unlock, suspend.", no_args_is_help=True)


@app.command()
def add(ctx: typer.Context, user: UserArgument, password_file: PasswordFileOption = None) -> None:
    """Add a user with a password in the local directory."""
    name = canonical(ctx, user)
    password = _new_password(password_file)
    with_stores(ctx, lambda stores: stores.directory.add(name, password))
    output.print(f"Added {name}. Next: radius-mfa device add {name}")


@app.command()
def passwd(
    ctx: typer.Context, user: UserArgument, password_file: PasswordFileOption = None
) -> None:
    """Set a user's password."""
    name = canonical(ctx, user)
    password = _new_password(password_file)
    with_stores(ctx, lambda stores: stores.directory.set_password(name, password))
    output.print(f"The new password of {name} holds from now on.")


@app.command("list")
def list_users(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """List users, their devices and their state."""

    async def work(stores: Stores) -> list[dict[str, Any]]:
        users = await stores.enrolments.users()
        return [_summary(one, await stores.attempts.locks(one.name)) for one in users]

    users = with_stores(ctx, work)
    if as_json:
        print_json(users)
        return
    rows = [
        (user["name"], user["state"], len(user["devices"]), user["created_at"]) for user in users
    ]
    print_table(
        ("USER", "STATE", "DEVICES", "CREATED"), rows, "No users yet: radius-mfa user add NAME"
    )


@app.command()
def show(ctx: typer.Context, user: UserArgument, as_json: JsonOption = False) -> None:
    """Show a user: state, devices, failures and locks."""
    name = canonical(ctx, user)

    async def work(stores: Stores) -> dict[str, Any]:
        record = await stores.enrolments.user(name)
        return _summary(record, await stores.attempts.locks(name))

    summary = with_stores(ctx, work)
    if as_json:
        print_json(summary)
        return
    for label in ("name", "state", "created_at", "password_changed_at", "consecutive_failures"):
        output.print(f"{label.replace('_', ' ') + ':':<22}{shown(summary[label])}", markup=False)
    for device in summary["devices"]:
        state = "confirmed" if device["confirmed_at"] else "waiting for its first code"
        output.print(f"{'device:':<22}{device['name']} ({state})", markup=False)
    for source in summary["sources"]:
        output.print(f"{'failures from:':<22}{_source_line(source)}", markup=False)


@app.command()
def suspend(ctx: typer.Context, user: UserArgument) -> None:
    """Refuse every login of a user from now on."""
    name = canonical(ctx, user)
    with_stores(ctx, lambda stores: stores.enrolments.suspend(name, suspended=True))
    output.print(f"{name} is suspended. To undo: radius-mfa user resume {name}")


@app.command()
def resume(ctx: typer.Context, user: UserArgument) -> None:
    """Let a suspended user log in again."""
    name = canonical(ctx, user)
    with_stores(ctx, lambda stores: stores.enrolments.suspend(name, suspended=False))
    output.print(f"{name} may log in again.")


@app.command()
def unlock(ctx: typer.Context, user: UserArgument) -> None:
    """End every lock of a user and forget the failures."""
    name = canonical(ctx, user)

    async def work(stores: Stores) -> None:
        await stores.enrolments.user(name)
        await stores.attempts.unlock(name)

    with_stores(ctx, work)
    output.print(f"{name} is unlocked.")


@app.command()
def delete(
    ctx: typer.Context,
    user: UserArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete a user with password and devices."""
    name = canonical(ctx, user)
    if not yes and not typer.confirm(f"Delete {name} with password and devices?"):
        raise Refused("nothing was deleted")

    async def work(stores: Stores) -> None:
        await stores.enrolments.delete_user(name)
        await stores.attempts.unlock(name)

    with_stores(ctx, work)
    output.print(f"{name} is deleted.")


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
    ends = [locks.user.lock_end(now), *(t.lock_end(now) for t in locks.sources.values())]
    lock = 0
    for end in ends:
        lock = later_lock(lock, end)
    return {
        **asdict(user),
        "state": _state(user, locks.user.lock_end(now), lock),
        "consecutive_failures": locks.consecutive,
        "sources": sources,
    }


def _state(user: UserOnRecord, everywhere: int, somewhere: int) -> str:
    if user.suspended_at:
        return "suspended"
    if everywhere:
        return f"locked until {_moment(everywhere)}"
    return "locked from some sources" if somewhere else "active"


def _moment(milliseconds: int) -> str | None:
    if not milliseconds:
        return None
    if milliseconds == UNTIL_UNLOCKED:
        return "unlocked by an admin"
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _source_line(source: dict[str, Any]) -> str:
    client, _, station = source["source"].partition("|")
    text = f"{client} {station or '(no Calling-Station-Id)'}: {source['failures']} counted"
    return f"{text}, locked until {source['locked_until']}" if source["locked_until"] else text

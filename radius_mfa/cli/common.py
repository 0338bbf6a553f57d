"""What the commands share: settings, stores, secrets from a prompt or a file, output."""

import asyncio
import getpass
import json
import os
import pwd
import shlex
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.cells import cell_len
from rich.console import Console

from radius_mfa import log
from radius_mfa.app import Stores, backends_named, open_stores
from radius_mfa.config import Settings
from radius_mfa.config_file import Configuration, load
from radius_mfa.errors import BackendError, BackendUnavailable, ConfigurationError, Refused
from radius_mfa.policy.identity import InvalidUserNameError, canonical_user
from radius_mfa.stores.audit import Actor, acting_as
from radius_mfa.stores.enrolments import NotOnRecord
from radius_mfa.stores.interfaces import KEY_PREFIX, Identity, PasswordVerdict
from radius_mfa.stores.records import NAME_CHARACTERS

T = TypeVar("T")

# Names of users and devices are printed: nothing in them is markup or an emoji's name.
output = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
errors = Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)


class ExitCode(IntEnum):
    """What a script may rely on; documented in docs/command-line.md."""

    DONE = 0
    REFUSED = 1
    USAGE = 2
    CONFIGURATION = 3
    BACKEND_UNAVAILABLE = 4
    INTERNAL_FAULT = 70
    INTERRUPTED = 130


JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
PasswordFileOption = Annotated[
    Path | None,
    typer.Option(
        "--password-file",
        metavar="FILE",
        readable=False,
        help="File whose first line is the password; - is standard input. Default: ask.",
    ),
]
UserArgument = Annotated[
    str, typer.Argument(metavar="USER", help="Name of the user, in any of its forms.")
]
UsersArgument = Annotated[
    list[str], typer.Argument(metavar="USER...", help="Names of users, in any of their forms.")
]


def say_error(message: str, cure: str = "") -> None:
    """Print an error, and its cure where there is one."""
    errors.print("error: ", style="red", end="")
    errors.print(log.printable_lines(message))
    if cure:
        errors.print(log.printable_lines(cure), style="dim")


def configuration(ctx: typer.Context) -> Configuration:
    """Return the configuration that the command line names."""
    return load(ctx.obj)


def settings(ctx: typer.Context) -> Settings:
    """Return the settings in force."""
    return configuration(ctx).settings


def with_stores(ctx: typer.Context, work: Callable[[Stores], Awaitable[T]]) -> T:
    """Run *work* over the open backends; a backend that is down ends in exit code 4."""
    in_force = settings(ctx)
    quiet_log()
    actor = operator()
    act_as_owner(in_force.data_folder)

    async def run() -> T:
        with backends_named():
            async with open_stores(in_force, private_redis=True) as stores:
                return await work(stores)

    with acting_as(actor):
        return asyncio.run(run())


def operator() -> Actor:
    """Return who runs this command, for the audit trail: through sudo, who called it."""
    try:
        login = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user without a name
        login = str(os.getuid())
    origin = f"command line on {socket.gethostname()}"
    caller = os.environ.get("SUDO_USER", "")
    if caller and caller != login and caller.isprintable():
        return Actor(caller[:NAME_CHARACTERS], f"{origin}, as {login}")
    return Actor(login, origin)


def quiet_log() -> None:
    """Let nothing but errors through: a command speaks for itself."""
    log.configure("console", "error")


def act_as_owner(folder: Path) -> None:
    """Become the owner of the data folder where root runs the command.

    Files that root left there would keep the server, which runs as that owner, from starting.
    """
    if os.geteuid() != 0 or not folder.exists():
        return
    status = folder.stat()
    if status.st_uid == 0:
        return
    try:
        owner = pwd.getpwuid(status.st_uid)
    except KeyError:  # a container's user without a name
        os.setgroups([])
        os.environ["HOME"] = "/"
    else:
        os.initgroups(owner.pw_name, status.st_gid)
        os.environ["HOME"] = owner.pw_dir  # where the PostgreSQL driver looks for certificates
    os.setgid(status.st_gid)
    os.setuid(status.st_uid)


def canonical(ctx: typer.Context, user: str) -> str:
    """Return the canonical name of *user*, or raise Refused."""
    try:
        return canonical_user(user, settings(ctx).directory.local.realms)
    except InvalidUserNameError as error:
        raise Refused(str(error)) from None


def with_user(ctx: typer.Context, user: str, work: Callable[[Stores, Identity], Awaitable[T]]) -> T:
    """Run *work* over the open backends and the user whom *user* stands for."""

    async def run(stores: Stores, found: list[Identity]) -> T:
        return await work(stores, found[0])

    return with_users(ctx, [user], run)


def with_users(
    ctx: typer.Context,
    users: Sequence[str],
    work: Callable[[Stores, list[Identity]], Awaitable[T]],
) -> T:
    """Run *work* over the open backends and whom *users* stand for, each of them once."""

    async def run(stores: Stores) -> T:
        found = {one.key: one for one in [await identified(stores, user) for user in users]}
        try:
            return await work(stores, list(found.values()))
        except NotOnRecord as error:
            missing = found.get(error.user)
            if missing is None or missing.key == missing.name:
                raise
            name = shlex.quote(missing.name)
            raise Refused(
                f"{missing.name} of {missing.directory} is not on record here",
                f"a device puts them there, or a requirement: radius-mfa device add {name}, "
                f"radius-mfa user require {name}",
            ) from None

    return with_stores(ctx, run)


async def identified(stores: Stores, user: str) -> Identity:
    """Return whom *user*, a name in any form or a key, stands for; Refused for several.

    Somebody whom no directory knows any more, or whose directory does not answer, is found by
    the name they had.
    """
    if user.startswith(KEY_PREFIX):
        return Identity(user, user)
    silent: BackendUnavailable | None = None
    try:
        found = await stores.directories.identify(user)
    except InvalidUserNameError as error:
        raise Refused(str(error)) from None
    except BackendUnavailable as error:
        if error.backend != "directory":
            raise
        name, silent = canonical_user(user), error
        found = Identity(name, name)
    if found.state is PasswordVerdict.AMBIGUOUS:
        raise Refused(
            f"{user} stands for several entries of {found.directory}",
            f"see: radius-mfa directory test {found.directory} --user {shlex.quote(user)}",
        )
    if found.directory:
        return found
    recorded = await stores.enrolments.named(found.name)
    if len(recorded) > 1:
        keys = ", ".join(one.key for one in recorded)
        raise Refused(f"{user} was the name of several users", f"name one of them: {keys}")
    if not recorded and silent is not None:
        raise BackendError(f"{silent.backend} does not answer: {silent.cause}", "try again")
    return recorded[0] if recorded else found


def asks_on_terminal(file: Path | None) -> bool:
    """Return whether ``read_secret`` would ask a person."""
    return file is None and sys.stdin.isatty()


def read_secret(prompt: str, file: Path | None, *, repeat: bool = False, line: int = 0) -> str:
    """Return a secret from *file*, from a prompt, or from standard input that is no terminal.

    Never from an argument: those stand in the process list and in the shell's history. *line* is
    which one of a file; standard input is read line by line. What is not there is empty.
    """
    if asks_on_terminal(file):
        secret = getpass.getpass(f"{prompt}: ")
        if repeat and getpass.getpass(f"{prompt} again: ") != secret:
            raise Refused("the two do not agree", "nothing was changed: try again")
        return secret
    try:
        if file is None or str(file) == "-":
            text = sys.stdin.buffer.readline().decode("utf-8")
        else:
            text = file.read_text("utf-8")
    except UnicodeDecodeError:
        raise Refused(f"{_source(file)} can't be read: it is not UTF-8 text") from None
    except OSError as error:
        raise Refused(f"{_source(file)} can't be read: {error.strerror}") from None
    lines = text.split("\n")[0 if file is None or str(file) == "-" else line :]
    return lines[0].rstrip("\r") if lines else ""


def _source(file: Path | None) -> str:
    return "standard input" if file is None or str(file) == "-" else str(file)


def print_json(value: object) -> None:
    """Print *value* as JSON."""
    sys.stdout.write(json.dumps(value, indent=2, default=_plain, ensure_ascii=False) + "\n")


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], empty: str) -> None:
    """Print *rows* under *columns*, one line each however long, or *empty* where there are none."""
    if not rows:
        output.print(empty)
        return
    cells = [[shown(cell) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(columns, *cells, strict=True)]
    output.print(_aligned(columns, widths), style="bold")
    for row in cells:
        output.print(_aligned(row, widths))


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [
        cell + " " * (width - cell_len(cell)) for cell, width in zip(cells, widths, strict=True)
    ]
    return "  ".join(padded).rstrip()


def print_fields(fields: Sequence[tuple[str, object]]) -> None:
    """Print names and values, one pair a line, aligned."""
    width = max(len(name) for name, _ in fields) + 1
    for name, value in fields:
        output.print(f"{name + ':':<{width}}  {shown(value)}")


def shown(value: object) -> str:
    """Return *value* as people read it."""
    if value in (None, "", []):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M")
    if isinstance(value, list):
        return ", ".join(map(shown, value))
    return log.printable(str(value))


def plural(count: int, noun: str) -> str:
    """Return *count* with *noun*: 1 user, 2 users."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def write_private(path: Path, text: str) -> None:
    """Write a new file that its owner alone can read; Refused where it exists."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600, exist_ok=False)
    except FileExistsError:
        raise Refused(f"{path} exists already", "remove it first if it is of no use") from None
    except OSError as error:
        raise ConfigurationError(f"{path} can't be written: {error.strerror}") from None
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        path.unlink(missing_ok=True)
        raise ConfigurationError(f"{path} can't be written: {error.strerror}") from None

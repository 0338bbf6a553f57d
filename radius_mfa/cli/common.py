"""What the commands share: settings, stores, secrets from a prompt or a file, output."""

import asyncio
import getpass
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from radius_mfa import log
from radius_mfa.app import Stores, backends_named, open_stores
from radius_mfa.config import Settings
from radius_mfa.config_file import Configuration, load
from radius_mfa.errors import ConfigurationError, Refused
from radius_mfa.policy.identity import InvalidUserNameError, canonical_user

T = TypeVar("T")

output = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True)


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
        help="File whose first line is the password; - is standard input. Default: ask.",
    ),
]
UserArgument = Annotated[str, typer.Argument(metavar="USER", help="Name of the user.")]


def say_error(message: str, cure: str = "") -> None:
    """Print an error, and its cure where there is one."""
    errors.print(f"[red]error:[/red] {escape(log.printable_lines(message))}")
    if cure:
        errors.print(f"[dim]{escape(log.printable_lines(cure))}[/dim]")


def configuration(ctx: typer.Context) -> Configuration:
    """Return the configuration that the command line names; warnings go to standard error."""
    return load(ctx.obj)


def settings(ctx: typer.Context) -> Settings:
    """Return the settings in force."""
    return configuration(ctx).settings


def with_stores(ctx: typer.Context, work: Callable[[Stores], Awaitable[T]]) -> T:
    """Run *work* over the open backends; a backend that is down ends in exit code 4."""
    in_force = settings(ctx)
    log.configure("console", "error")

    async def run() -> T:
        with backends_named():
            async with open_stores(in_force, private_redis=True) as stores:
                return await work(stores)

    return asyncio.run(run())


def canonical(ctx: typer.Context, user: str) -> str:
    """Return the canonical name of *user*, or raise Refused."""
    try:
        return canonical_user(user, settings(ctx).directory.local.realms)
    except InvalidUserNameError as error:
        raise Refused(str(error)) from None


def read_secret(prompt: str, file: Path | None, *, repeat: bool = False) -> str:
    """Return a secret from *file*, from a prompt, or from standard input that is no terminal.

    Never from an argument: those stand in the process list and in the shell's history.
    """
    if file is not None and str(file) != "-":
        try:
            text = file.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise Refused(f"{file} can't be read: {why}") from None
        return text.partition("\n")[0].rstrip("\r")
    if file is not None or not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    secret = getpass.getpass(f"{prompt}: ")
    if repeat and getpass.getpass(f"{prompt} again: ") != secret:
        raise Refused("the two do not agree")
    return secret


def print_json(value: object) -> None:
    """Print *value* as JSON."""
    sys.stdout.write(json.dumps(value, indent=2, default=_plain, ensure_ascii=False) + "\n")


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], empty: str) -> None:
    """Print *rows* under *columns*, or *empty* where there are none."""
    if not rows:
        output.print(empty)
        return
    table = Table(*columns, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*(escape(shown(cell)) for cell in row))
    output.print(table, soft_wrap=False)


def shown(value: object) -> str:
    """Return *value* as people read it."""
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M")
    return str(value)


def write_private(path: Path, text: str) -> None:
    """Write a new file that its owner alone can read; Refused where it exists."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600, exist_ok=False)
        path.write_text(text, "utf-8")
    except FileExistsError:
        raise Refused(f"{path} exists already", "remove it first if it is of no use") from None
    except OSError as error:
        raise ConfigurationError(f"{path} can't be written: {error.strerror}") from None

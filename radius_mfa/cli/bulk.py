"""What imports and exports share: files in and out, and the report of what was not moved."""

import os
import stat
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, BinaryIO, Self

import typer

from radius_mfa import log
from radius_mfa.cli.common import errors, plural
from radius_mfa.config import Settings
from radius_mfa.errors import Refused
from radius_mfa.imports import text
from radius_mfa.imports.rows import Fault
from radius_mfa.stores.bulk import Existing, Obstacle, Outcome

MAX_FILE_BYTES = 64 * 1024 * 1024

ExistingOption = Annotated[
    Existing,
    typer.Option(case_sensitive=False, help="What to do about what is on record already."),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Check everything, change nothing.")]
ReportOption = Annotated[
    Path | None,
    typer.Option(
        "--report",
        metavar="FILE",
        readable=False,
        help="Write what is not moved, and why, to a new CSV file too.",
    ),
]
RealmOption = Annotated[
    list[str] | None,
    typer.Option(
        "--realm", metavar="NAME", help="Strip this realm from names; may be given repeatedly."
    ),
]


def read_file(path: Path, most: int = MAX_FILE_BYTES) -> bytes:
    """Return the octets of *path* (``-`` is standard input), *most* of them at most.

    Warns where others than the owner can read them.
    """
    try:
        if str(path) == "-":
            octets = sys.stdin.buffer.read(most + 1)
        else:
            with path.open("rb") as file:
                if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & (stat.S_IRGRP | stat.S_IROTH):
                    warn(f"{path} can be read by others than its owner: chmod 600, and delete it")
                octets = file.read(most + 1)
    except OSError as error:
        raise Refused(f"{path} can't be read: {error.strerror}") from None
    if len(octets) > most:
        raise Refused(f"{path} is larger than {most // 2**20} MiB", "split it")
    return octets


def new_file(path: Path) -> BinaryIO:
    """Open a new file that its owner alone can read; Refused where it exists.

    It is opened before the command becomes the owner of the data folder (``with_stores``), who
    may not write there.
    """
    try:
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
    except FileExistsError:
        raise Refused(f"{path} exists already", "choose another name, or remove it") from None
    except OSError as error:
        raise Refused(f"{path} can't be written: {error.strerror}") from None


def abandon(path: Path, file: BinaryIO) -> None:
    """Remove a new file that nothing came into."""
    file.close()
    with suppress(OSError):
        path.unlink()


def warn(message: str) -> None:
    """Print a warning."""
    errors.print("warning: ", style="yellow", end="")
    errors.print(log.printable_lines(message))


class Report:
    """What is not moved and why: printed at once, and written to a file where one was asked for.

    Use as a context manager.
    """

    def __init__(self, path: Path | None) -> None:
        self._file = None if path is None else new_file(path)
        self._rows: list[tuple[str, str, str, str, str]] = [
            ("what happened", "place", "user or token", "why", "what to do")
        ]

    def add(self, kind: str, faults: Iterable[Fault]) -> None:
        """Tell of *faults*; *kind* is ``refused`` or ``not kept``."""
        lines = []
        for fault in faults:
            self._rows.append((kind, fault.place, fault.subject, fault.what, fault.cure))
            where = ", ".join(filter(None, (fault.place, fault.subject)))
            cure = f" ({fault.cure})" if fault.cure else ""
            lines.append(f"{kind}: {log.printable(where)}: {log.printable(fault.what + cure)}\n")
        sys.stdout.write("".join(lines))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        """Write the file, whatever else went wrong."""
        if self._file is not None:
            with self._file as file:
                file.write(b"\xef\xbb\xbf" + text.written(self._rows).encode())


def refuse(count: int, what: str, cure: str) -> Refused:
    """Return the refusal of a source with *count* faults."""
    return Refused(f"nothing was changed: {plural(count, what)}, see above", cure)


def summary(outcome: Outcome, *, dry_run: bool) -> str:
    """Return what was done, or would be, in a line."""
    counts: Sequence[tuple[int, str, str]] = (
        (outcome.users_added, "user", "added"),
        (outcome.users_updated, "user", "updated"),
        (outcome.users_skipped, "user", "left as they were"),
        (outcome.devices_added, "device", "added"),
        (outcome.devices_replaced, "device", "replaced"),
        (outcome.devices_skipped, "device", "left as they were"),
    )
    parts = [f"{plural(count, noun)} {done}" for count, noun, done in counts if count]
    line = ", ".join(parts) or "nothing to do"
    return f"Dry run, nothing was changed. It would be: {line}." if dry_run else f"Done: {line}."


def faults_of(obstacles: Iterable[Obstacle]) -> list[Fault]:
    """Return what stood against users and devices, for the report."""
    return [Fault(one.place, one.user, one.what, one.cure) for one in obstacles]


def realms_of(in_force: Settings, more: Iterable[str] | None) -> set[str]:
    """Return the realms to strip from names: the local directory's, and those of ``--realm``."""
    return {*in_force.directory.local.realms, *map(str.lower, more or ())}

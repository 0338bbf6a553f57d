"""``radius-mfa user import``: users of the local directory from a CSV file, all or none."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from radius_mfa.app import Stores
from radius_mfa.cli.bulk import (
    DryRunOption,
    ExistingOption,
    RealmOption,
    Report,
    ReportOption,
    faults_of,
    read_file,
    realms_of,
    refuse,
    summary,
)
from radius_mfa.cli.common import errors, output, settings, with_stores
from radius_mfa.imports import users
from radius_mfa.imports.rows import UserRow
from radius_mfa.stores.bulk import BulkUser, Existing, Outcome

MEND = "mend the rows and try again"


def import_users(
    ctx: typer.Context,
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", readable=False, help="CSV file; - is standard input."),
    ],
    existing: ExistingOption = Existing.REFUSE,
    realm: RealmOption = None,
    dry_run: DryRunOption = False,
    report: ReportOption = None,
) -> None:
    """Add users from a CSV file: all of them, or none where a row is at fault."""
    in_force = settings(ctx)
    parsed = users.parse(read_file(file), realms_of(in_force, realm))
    threads = in_force.directory.local.hash_threads

    async def work(stores: Stores) -> Outcome:
        unhashed = [_bulk_user(row) for row in parsed.rows]
        look_only = dry_run or bool(parsed.faults)
        if look_only or any(row.password is not None for row in parsed.rows):
            looked = await stores.bulk.take_in(unhashed, existing, dry_run=True)
            if look_only or looked.obstacles:
                return looked  # hashing takes long, so it comes last
        hashes = await _hashed(stores, parsed.rows, threads)
        hashed = [
            replace(user, password_hash=hashes.get(user.name, user.password_hash))
            for user in unhashed
        ]
        return await stores.bulk.take_in(hashed, existing)

    with Report(report) as told:
        told.add("not kept", parsed.losses)
        told.add("refused", parsed.faults)
        outcome = with_stores(ctx, work)
        told.add("refused", faults_of(outcome.obstacles))
    faults = len(parsed.faults) + len(outcome.obstacles)
    if faults:
        raise refuse(faults, "fault", MEND)
    output.print(summary(outcome, dry_run=dry_run))


def _bulk_user(row: UserRow) -> BulkUser:
    return BulkUser(
        row.user,
        row.place,
        suspended=row.suspended,
        password_hash=row.password_hash,
        groups=row.groups,
        mail=row.mail,
    )


async def _hashed(stores: Stores, rows: Sequence[UserRow], threads: int) -> dict[str, str]:
    """Return the hashes of the passwords in *rows* by user, with a bar for whoever waits."""
    waiting = [(row.user, row.password) for row in rows if row.password is not None]
    hashes: dict[str, str] = {}
    if not waiting:
        return hashes
    columns = (TextColumn("hashing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors, transient=True) as progress:
        task = progress.add_task("", total=len(waiting))
        room = asyncio.Semaphore(threads)

        async def one(user: str, password: str) -> None:
            async with room:
                hashes[user] = await stores.directory.hashed(password)
            progress.advance(task)

        await asyncio.gather(*(one(user, password) for user, password in waiting))
    return hashes

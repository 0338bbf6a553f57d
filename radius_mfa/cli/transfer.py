"""``radius-mfa export`` and ``radius-mfa import``: users and devices in one encrypted file."""

from datetime import UTC, datetime
from pathlib import Path
from time import time
from typing import Annotated

import typer

from radius_mfa.cli.bulk import (
    DryRunOption,
    ExistingOption,
    Report,
    ReportOption,
    abandon,
    faults_of,
    new_file,
    read_file,
    refuse,
    summary,
)
from radius_mfa.cli.common import output, plural, read_secret, settings, with_stores
from radius_mfa.errors import Refused
from radius_mfa.imports import bundle
from radius_mfa.imports.bundle import ExportedDevice, ExportedUser, Lock
from radius_mfa.imports.rows import DeviceRow
from radius_mfa.policy.identity import canonical_user
from radius_mfa.policy.requirement import NOTHING_REQUIRED
from radius_mfa.stores.bulk import BulkDevice, BulkUser, Existing
from radius_mfa.stores.enrolments import NewDevice

MAX_EXPORT_BYTES = 256 * 1024 * 1024
"""About 800,000 users; all of it is in memory at once."""

PassphraseFileOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", readable=False, help="File with the passphrase; - is standard input."
    ),
]
KeyFileOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", readable=False, help="File with 32 octets in base64 as the key."),
]


def export(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", readable=False, help="A new file.")],
    passphrase_file: PassphraseFileOption = None,
    key_file: KeyFileOption = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Leave out devices whose seed can't be decrypted.")
    ] = False,
    report: ReportOption = None,
) -> None:
    """Write users and devices, seeds included, into one encrypted file."""
    lock = _lock(passphrase_file, key_file, repeat=True)
    target = new_file(file)
    try:
        with Report(report) as told:
            users = _everything(ctx, told, partial=partial)
        octets = bundle.sealed(map(_exported, users), lock)
    except BaseException:
        abandon(file, target)
        raise
    with target:
        target.write(octets)
    devices = sum(len(user.devices) for user in users)
    output.print(
        f"Wrote {plural(len(users), 'user')} and {plural(devices, 'device')} to {file}\n"
        "Not in it: failures and locks, used codes, recovery codes, the audit trail, "
        "configuration, clients, the key ring.\n"
        "Whoever opens it has every seed: keep passphrase or key apart from it."
    )


def _everything(ctx: typer.Context, told: Report, *, partial: bool) -> list[BulkUser]:
    users, unreadable = with_stores(ctx, lambda stores: stores.bulk.everything())
    told.add("refused", faults_of(unreadable))
    if unreadable and not partial:
        raise refuse(len(unreadable), "device", "or leave them out with --partial")
    return users


def import_everything(
    ctx: typer.Context,
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", readable=False, help="An export; - is standard input."),
    ],
    passphrase_file: PassphraseFileOption = None,
    key_file: KeyFileOption = None,
    existing: ExistingOption = Existing.REFUSE,
    dry_run: DryRunOption = False,
    report: ReportOption = None,
) -> None:
    """Read an export of another radius-mfa: all of it, or nothing."""
    octets = read_file(file, MAX_EXPORT_BYTES)
    kind = bundle.kind_of_lock(octets)
    if kind == "key-file" and key_file is None:
        raise Refused("the file is locked with a key file", "give it by --key-file")
    if str(file) == "-" and kind == "argon2id" and passphrase_file is None:
        raise Refused("standard input is the export itself", "give --passphrase-file")
    now, realms = time(), settings(ctx).directory.local.realms
    users = [
        _bulk_user(user, user.name if user.directory else canonical_user(user.name, realms), now)
        for user in bundle.opened(octets, _lock(passphrase_file, key_file))
    ]
    twice = len(users) - len({user.name for user in users})
    if twice:
        raise Refused(
            f"{plural(twice, 'user')} of the file would be the same as another one here",
            "directory.local.realms differs between the two: set it as it was there",
        )

    with Report(report) as told:
        outcome = with_stores(ctx, lambda s: s.bulk.take_in(users, existing, dry_run=dry_run))
        told.add("refused", faults_of(outcome.obstacles))
    if outcome.obstacles:
        raise refuse(len(outcome.obstacles), "fault", "see --existing skip and --existing update")
    output.print(summary(outcome, dry_run=dry_run))


def _lock(passphrase_file: Path | None, key_file: Path | None, *, repeat: bool = False) -> Lock:
    if passphrase_file is not None and key_file is not None:
        raise typer.BadParameter("a passphrase or a key file, not both", param_hint="--key-file")
    if key_file is not None:
        return bundle.key_file(read_file(key_file))
    return bundle.passphrase(read_secret("Passphrase", passphrase_file, repeat=repeat))


def _exported(user: BulkUser) -> ExportedUser:
    return ExportedUser(
        user.name,
        user.created_at or datetime.now(UTC),
        user.suspended_at,
        user.password_hash,
        user.password_changed_at,
        tuple(
            ExportedDevice(
                DeviceRow(
                    "database",
                    user.name,
                    one.new.name,
                    one.new.seed,
                    one.new.algorithm,
                    one.new.digits,
                    one.new.time_step_seconds,
                ),
                one.created_at or datetime.now(UTC),
                one.confirmed_at,
                one.confirmed_step,
                one.drift_steps,
            )
            for one in user.devices
        ),
        user.directory,
        user.user_name,
        user.requirement or NOTHING_REQUIRED,
        user.groups or (),
        user.mail,
    )


def _bulk_user(user: ExportedUser, name: str, now: float) -> BulkUser:
    return BulkUser(
        name,
        "export",
        created_at=user.created_at,
        suspended=user.suspended_at is not None,
        suspended_at=user.suspended_at,
        password_hash=user.password_hash,
        password_changed_at=user.password_changed_at,
        devices=tuple(_bulk_device(device, now) for device in user.devices),
        directory=user.directory,
        user_name=user.user_name,
        requirement=user.requirement,
        groups=user.groups,
        mail=user.mail,
    )


def _bulk_device(device: ExportedDevice, now: float) -> BulkDevice:
    """Return *device*; codes that the other installation may have taken are used up here too.

    They are those up to now by the device's own clock, however far that is off.
    """
    row = device.row
    present = int(now) // row.time_step_seconds + device.drift_steps
    step = max(device.confirmed_step or 0, present)
    return BulkDevice(
        NewDevice(row.name, row.seed, row.algorithm, row.digits, row.time_step_seconds),
        "export",
        device.created_at,
        device.confirmed_at,
        None if device.confirmed_at is None else step,
        device.drift_steps,
    )

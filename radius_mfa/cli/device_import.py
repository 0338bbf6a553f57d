"""``radius-mfa device import``: devices from the files of other systems and of token sellers."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from time import time
from typing import Annotated

import typer

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
from radius_mfa.cli.common import identified, output, read_secret, settings, with_stores
from radius_mfa.errors import Refused
from radius_mfa.imports import devices, formats
from radius_mfa.imports.devices import Entry
from radius_mfa.imports.formats import Format, Told
from radius_mfa.imports.oath_csv import SeedEncoding
from radius_mfa.imports.pskc import KeyNeededError
from radius_mfa.imports.rows import DeviceRow
from radius_mfa.policy.new_device import Finding
from radius_mfa.policy.totp import Algorithm
from radius_mfa.stores.bulk import BulkDevice, BulkUser, Existing, Outcome
from radius_mfa.stores.enrolments import NewDevice
from radius_mfa.stores.interfaces import Identity
from radius_mfa.stores.records import chunks

MEND = "mend them and try again, or move the others alone with --partial"

LOOKUPS_AT_ONCE = 8
"""Users looked up at a time: the default of a directory's pool."""


def import_devices(
    ctx: typer.Context,
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", readable=False, help="Files; - is standard input."),
    ],
    kind: Annotated[
        Format, typer.Option("--format", case_sensitive=False, help="Default: look at the file.")
    ] = Format.AUTO,
    user: Annotated[
        str, typer.Option(metavar="USER", help="Whose tokens these are, where no file says so.")
    ] = "",
    owners: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", readable=False, help="CSV file of serial,user for tokens of nobody."
        ),
    ] = None,
    realm: RealmOption = None,
    seed_encoding: Annotated[
        SeedEncoding, typer.Option(case_sensitive=False, help="How a CSV file writes seeds.")
    ] = SeedEncoding.AUTO,
    algorithm: Annotated[
        Algorithm, typer.Option(case_sensitive=False, help="Of CSV rows that name none.")
    ] = Algorithm.SHA1,
    key_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", readable=False, help="Key of PSKC (hex or base64) or of multiOTP."
        ),
    ] = None,
    passphrase_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", readable=False, help="Passphrase of PSKC. Default: ask."),
    ] = None,
    create_users: Annotated[
        bool, typer.Option("--create-users", help="Add users who are not on record.")
    ] = False,
    existing: ExistingOption = Existing.REFUSE,
    partial: Annotated[
        bool, typer.Option("--partial", help="Move what can be moved, and leave out the rest.")
    ] = False,
    dry_run: DryRunOption = False,
    report: ReportOption = None,
) -> None:
    """Enrol devices from files: all of them, or none where one is at fault."""
    now = time()
    told = Told(
        now,
        seed_encoding,
        algorithm,
        None if key_file is None else read_secret("Key", key_file),
        None if passphrase_file is None else read_secret("Passphrase", passphrase_file),
    )
    by_serial = {} if owners is None else devices.owners_of_serials(read_file(owners))
    entries = [
        entry for path in files for entry in _entries(path, kind, told, several=len(files) > 1)
    ]
    if user:
        entries = [
            replace(one, user=user) if one.serial not in by_serial and _of_nobody(one) else one
            for one in entries
        ]
    in_force = settings(ctx)
    realms = realms_of(in_force, realm)
    whose: dict[str, Identity | Finding] = {}
    if in_force.directory.ldap:
        realms -= set(in_force.directory.local.realms)  # a realm says which directory is meant
        names = devices.names(entries, realms=realms, owners=by_serial)
        whose = with_stores(ctx, lambda stores: _owners(stores, names))
    keys = {name: one.key if isinstance(one, Identity) else one for name, one in whose.items()}
    parsed = devices.judged(entries, realms=realms, owners=by_serial, keys=keys)
    known = {one.key: one for one in whose.values() if isinstance(one, Identity)}

    async def work(stores: Stores) -> Outcome:
        return await stores.bulk.take_in(
            _by_user(parsed.rows, known, now),
            existing,
            create_users=create_users,
            partial=partial,
            dry_run=dry_run or (bool(parsed.faults) and not partial),
        )

    with Report(report) as written:
        written.add("not kept", parsed.losses)
        written.add("refused", parsed.faults)
        outcome = with_stores(ctx, work)
        written.add("refused", faults_of(outcome.obstacles))
    left = len(parsed.faults) + len(outcome.obstacles)
    if left and not partial:
        raise refuse(left, "fault", MEND)
    output.print(summary(outcome, dry_run=dry_run))
    if left:
        output.print(f"Left out: {left}, see above.")
    if (outcome.devices_added or outcome.devices_replaced) and not dry_run:
        output.print("The codes shown now may have been used elsewhere: the next ones count.")


async def _owners(stores: Stores, names: Sequence[str]) -> dict[str, Identity | Finding]:
    """Return whom each of *names* stands for, or why that can't be told."""

    async def owner(name: str) -> Identity | Finding:
        try:
            return await identified(stores, name)
        except Refused as error:
            return error.message, error.cure

    found: dict[str, Identity | Finding] = {}
    for some in chunks(names, LOOKUPS_AT_ONCE):
        found |= zip(some, await asyncio.gather(*map(owner, some)), strict=True)
    return found


def _of_nobody(entry: Entry) -> bool:
    """Return whether no user is named; the name of a file is a guess that --user corrects."""
    return not entry.user or entry.place.endswith(formats.user_of(entry.place))


def _entries(path: Path, kind: Format, told: Told, *, several: bool) -> list[Entry]:
    octets = read_file(path)
    try:
        kind = formats.recognised(octets) if kind is Format.AUTO else kind
        try:
            entries = formats.entries(octets, kind, str(path), told)
        except KeyNeededError as needed:
            entries = formats.entries(octets, kind, str(path), _asked(path, told, needed.kind))
    except Refused as error:
        raise Refused(f"{path}: {error.message}", error.cure) from None
    if several:
        return [
            one if one.place == str(path) else replace(one, place=f"{path}, {one.place}")
            for one in entries
        ]
    return entries


def _asked(path: Path, told: Told, kind: str) -> Told:
    if str(path) == "-":
        raise Refused("it is encrypted", f"give --{kind}-file")
    secret = read_secret("Key in hexadecimal" if kind == "key" else "Passphrase", None)
    return replace(told, key=secret) if kind == "key" else replace(told, passphrase=secret)


def _by_user(
    rows: Sequence[DeviceRow], known: Mapping[str, Identity], now: float
) -> list[BulkUser]:
    moment = datetime.fromtimestamp(now, UTC)
    devices: dict[str, list[BulkDevice]] = defaultdict(list)
    for row in rows:
        new = NewDevice(row.name, row.seed, row.algorithm, row.digits, row.time_step_seconds)
        step = int(now) // row.time_step_seconds
        devices[row.user].append(
            BulkDevice(new, row.place, confirmed_at=moment, confirmed_step=step)
        )
    return [
        _owner_of(known.get(user) or Identity(user, user), own) for user, own in devices.items()
    ]


def _owner_of(user: Identity, own: Sequence[BulkDevice]) -> BulkUser:
    return BulkUser(
        user.key,
        own[0].place,
        described=False,
        devices=tuple(own),
        directory=user.directory if user.dn else None,
        user_name=user.name if user.name != user.key else None,
        mail=user.mail or None,
    )

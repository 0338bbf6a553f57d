"""``radius-mfa device``: authenticators of a user."""

import secrets
import shlex
import sys
from dataclasses import asdict
from time import time
from typing import Annotated

import segno
import typer

from radius_mfa.app import Stores, window
from radius_mfa.cli.common import (
    JsonOption,
    UserArgument,
    output,
    print_json,
    print_table,
    read_secret,
    settings,
    with_stores,
    with_user,
)
from radius_mfa.config import Settings
from radius_mfa.errors import Refused
from radius_mfa.imports.devices import seed_from_base32
from radius_mfa.policy import recovery
from radius_mfa.policy.new_device import DIGITS, MAX_NAME_CHARACTERS, SEED_OCTETS, TIME_STEPS
from radius_mfa.policy.totp import (
    Algorithm,
    Device,
    base32,
    in_groups,
    newest_match,
    otpauth_uri,
)
from radius_mfa.stores.enrolments import NewDevice
from radius_mfa.stores.interfaces import Identity

app = typer.Typer(help="Devices: enrol, list, remove.", no_args_is_help=True)

CODE_TRIES = 3


@app.command()
def add(
    ctx: typer.Context,
    user: UserArgument,
    name: Annotated[str, typer.Option(metavar="TEXT", help="What the user calls it.")] = "phone",
    seed: Annotated[
        str | None,
        typer.Option(
            metavar="BASE32",
            help="An existing seed; - reads it from standard input. Default: a new one.",
        ),
    ] = None,
    algorithm: Annotated[
        Algorithm | None, typer.Option(case_sensitive=False, help="Default: totp.algorithm.")
    ] = None,
    digits: Annotated[int | None, typer.Option(metavar="6|8", help="Default: totp.digits.")] = None,
    time_step: Annotated[
        int | None, typer.Option(metavar="30|60", help="Seconds. Default: totp.time_step_seconds.")
    ] = None,
    confirmed: Annotated[
        bool, typer.Option("--confirmed", help="Count at once, without a first code.")
    ] = False,
) -> None:
    """Enrol a device: show its QR code, and take its first code."""
    in_force = settings(ctx)
    new = NewDevice(
        _device_name(name),
        seed_octets(seed),
        algorithm or in_force.totp.algorithm,
        _one_of("--digits", in_force.totp.digits if digits is None else digits, DIGITS),
        _one_of(
            "--time-step",
            in_force.totp.time_step_seconds if time_step is None else time_step,
            TIME_STEPS,
        ),
    )

    async def work(stores: Stores, owner: Identity) -> tuple[Identity, Device]:
        if owner.dn:
            await stores.enrolments.know(owner)
        return owner, await stores.enrolments.add_device(owner.key, new, confirmed=confirmed)

    owner, device = with_user(ctx, user, work)
    print_enrolment(owner.name, device, in_force)
    if confirmed:
        output.print(f"{device.name} of {owner.name} counts from now on.")
        return
    step = _first_code(device, in_force, owner.name)

    async def confirm(stores: Stores) -> None:
        await stores.enrolments.confirm_device(owner.key, device.device_id, step)

    with_stores(ctx, confirm)
    output.print(f"Confirmed: {device.name} of {owner.name} counts from now on.")


@app.command("list")
def list_devices(ctx: typer.Context, user: UserArgument, as_json: JsonOption = False) -> None:
    """List the devices of a user."""
    record = with_user(ctx, user, lambda stores, owner: stores.enrolments.user(owner.key))
    name, devices = record.name, record.devices
    if as_json:
        print_json([asdict(device) for device in devices])
        return
    rows = [
        (d.name, d.algorithm, d.digits, f"{d.time_step_seconds} s", d.created_at, d.confirmed_at)
        for d in devices
    ]
    columns = ("DEVICE", "HASH", "DIGITS", "STEP", "ADDED", "CONFIRMED")
    print_table(
        columns, rows, f"{name} has no device yet: radius-mfa device add {shlex.quote(name)}"
    )


@app.command()
def remove(
    ctx: typer.Context,
    user: UserArgument,
    name: Annotated[str, typer.Argument(metavar="DEVICE", help="Name of the device.")],
) -> None:
    """Remove a device: its codes are refused from now on, on every node."""
    name = name.strip()

    async def work(stores: Stores, owner: Identity) -> str:
        await stores.enrolments.remove_device(owner.key, name)
        return owner.name

    output.print(f"{name} of {with_user(ctx, user, work)} is removed.")


@app.command("recovery-codes")
def recovery_codes(
    ctx: typer.Context,
    user: UserArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Make ten recovery codes for a user, shown this once; earlier ones end."""
    record = with_user(ctx, user, lambda stores, owner: stores.enrolments.user(owner.key))
    name, left = record.name, 0 if yes else record.recovery_codes
    if left and not typer.confirm(f"{name} has {left} recovery codes left. End them?"):
        raise Refused("nothing was changed")
    codes = with_stores(ctx, lambda stores: stores.recovery_codes.renew(record.key))
    output.print(f"Recovery codes of {name}, shown this once:\n")
    for code in codes:
        output.print(f"    {recovery.shown(code)}")
    output.print("\nEach works once, in place of a code from the phone.")


def print_enrolment(user: str, device: Device, in_force: Settings) -> None:
    """Print the QR code, the URI and the key of *device*."""
    uri = otpauth_uri(device, user, in_force.totp.issuer)
    output.print(f"Scan this with an authenticator app, as {user}:\n")
    try:
        segno.make(uri, error="l").terminal(out=sys.stdout, compact=True, border=2)
    except segno.DataOverflowError:
        output.print("(The name is too long for a QR code.)")
    output.print(f"\nor open  {uri}\nor type  {in_groups(base32(device.seed))}\n")


def seed_octets(text: str | None) -> bytes:
    """Return the octets of a base32 seed, or a fresh random one where none is given."""
    if text is None:
        return secrets.token_bytes(SEED_OCTETS)
    given = read_secret("Seed", None) if text == "-" else text
    seed = seed_from_base32(given) if given else b""  # too short, as the store will say
    if seed is None:
        raise Refused("the seed is not base32", "letters A to Z and digits 2 to 7, spaces are fine")
    return seed


def _first_code(device: Device, in_force: Settings, user: str) -> int:
    """Ask for the device's first code; return its time step, or raise Refused."""
    for _ in range(CODE_TRIES):
        try:
            typed = typer.prompt("First code")
        except typer.Abort:
            output.print()
            break
        step = newest_match(device, typed, time(), window(in_force))
        if step is not None:
            return step
        output.print("That is not its code now. Are the clocks of both right?")
    raise Refused(
        f"{device.name} of {user} is not confirmed and does not count",
        f"start again: radius-mfa device add {shlex.quote(user)} --name {shlex.quote(device.name)}",
    )


def _device_name(name: str) -> str:
    if not name.isprintable() or not 1 <= len(name.strip()) <= MAX_NAME_CHARACTERS:
        raise Refused(f"a device's name is 1 to {MAX_NAME_CHARACTERS} printable characters")
    return name.strip()


def _one_of(option: str, value: int, allowed: tuple[int, ...]) -> int:
    if value not in allowed:
        choices = " or ".join(map(str, allowed))
        raise typer.BadParameter(f"{value} is not {choices}", param_hint=option)
    return value

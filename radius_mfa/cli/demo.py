"""``radius-mfa demo``: a whole working server in one command, to look at and to log in to."""

import asyncio
import json
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path
from time import time
from typing import Annotated

import tomlkit
import typer
import uvloop

from radius_mfa import log
from radius_mfa.app import (
    Server,
    Stores,
    forbid_core_dumps,
    open_stores,
    prepare_data_folder,
    stop_signals,
)
from radius_mfa.cli.client import client_block, new_shared_secret
from radius_mfa.cli.common import output, write_private
from radius_mfa.cli.device import print_enrolment, seed_octets
from radius_mfa.cli.exchange import exchange
from radius_mfa.cli.init import configuration_text, make_key_ring
from radius_mfa.cli.test import print_reply
from radius_mfa.config import RADIUS_PORT, Settings, split_endpoint
from radius_mfa.config_file import load
from radius_mfa.errors import ConfigurationError
from radius_mfa.policy.totp import Device, base32, code_at
from radius_mfa.protocol.client import ClientRequest, Reply
from radius_mfa.protocol.wire import Code
from radius_mfa.stores.enrolments import NewDevice
from radius_mfa.stores.interfaces import Subject

app = typer.Typer(help="Try it: a server with one user, in one command.")

USER = "alice"
NAS = "localhost"
DEVICE = "demo phone"
DEFAULT_FOLDER = Path("demo-data")
REPLY_SECONDS = 6.0

DataOption = Annotated[Path, typer.Option("--data", help="Folder of the demo.")]


@dataclass(frozen=True, slots=True)
class Demo:
    """What the demo keeps about its user, so that it can print a code."""

    password: str
    seed: str

    @property
    def device(self) -> Device:
        """The authenticator that the demo plays."""
        return Device("", DEVICE, seed_octets(self.seed))


@app.callback(invoke_without_command=True)
def demo(
    ctx: typer.Context,
    data: DataOption = DEFAULT_FOLDER,
    port: Annotated[int | None, typer.Option(help="UDP port on 127.0.0.1; default 1812.")] = None,
) -> None:
    """Prepare a demo, log in once, and serve until Ctrl-C."""
    ctx.obj = data
    if ctx.invoked_subcommand is not None:
        return
    prepare(data, port)
    settings = load(data / "radius-mfa.toml").settings
    log.configure(settings.log.format, settings.log.level, settings.log.file)
    uvloop.run(_run(data, settings, _known(data)))


@app.command()
def code(ctx: typer.Context, data: DataOption = DEFAULT_FOLDER) -> None:
    """Print alice's current code, as her phone would show it."""
    folder = ctx.obj if data == DEFAULT_FOLDER else data
    device = _known(folder).device
    output.print(code_at(device, device.time_step(time())))


def prepare(folder: Path, port: int | None) -> None:
    """Write what is missing: configuration, key ring, and what the demo knows of alice."""
    folder = folder.absolute()
    prepare_data_folder(folder)
    path = folder / "radius-mfa.toml"
    if not path.exists():
        write_private(path, configuration_text({"data_folder": str(folder)}))
        _set(path, port or RADIUS_PORT, with_client=True)
        make_key_ring(folder)
    elif port is not None:
        _set(path, port, with_client=False)
    if not (folder / "demo.json").exists():
        known = {"password": secrets.token_urlsafe(9), "seed": base32(seed_octets(None))}
        write_private(folder / "demo.json", json.dumps(known))


def _set(path: Path, port: int, *, with_client: bool) -> None:
    document = tomlkit.parse(path.read_text("utf-8"))
    document["radius"]["listen"] = [f"127.0.0.1:{port}"]
    if with_client:
        clients = tomlkit.aot()
        clients.append(client_block(NAS, ["127.0.0.1"], new_shared_secret()))
        document["client"] = clients
    path.write_text(tomlkit.dumps(document), "utf-8")


def _known(folder: Path) -> Demo:
    try:
        known = json.loads((folder / "demo.json").read_text("utf-8"))
        return Demo(known["password"], known["seed"])
    except (OSError, ValueError, KeyError):
        raise ConfigurationError(
            f"there is no demo in {folder}", "start one: radius-mfa demo"
        ) from None


async def _run(folder: Path, settings: Settings, known: Demo) -> None:
    forbid_core_dumps()
    stopped = stop_signals()
    async with open_stores(settings) as stores:
        await _ensure_user(stores, known)
        async with Server(settings, stores).running() as server:
            device = known.device
            step = await _unused_step(stores, device)
            typed = known.password + code_at(device, step)
            output.print(f"\n{USER} logs in, as through a VPN gateway on this machine:")
            reply = await asyncio.to_thread(_login, settings, server.endpoints[0], typed)
            print_reply(reply)
            output.print()
            print_enrolment(USER, device, settings)
            _print_how_to(folder, settings, known)
            await stopped.wait()
    output.print("Stopped.")


async def _ensure_user(stores: Stores, known: Demo) -> None:
    if USER in {user.name for user in await stores.enrolments.users()}:
        return
    await stores.directory.add(USER, known.password)
    new = NewDevice(DEVICE, known.device.seed)
    await stores.enrolments.add_device(USER, new, confirmed=True)


async def _unused_step(stores: Stores, device: Device) -> int:
    """Return a time step of the window whose code is unused, waiting for one if need be.

    The oldest: so the code that the phone shows now stays free for whoever tries it.
    """
    loaded = await stores.attempts.load(Subject(USER, NAS), [], time())
    used = max(loaded.used_steps.values(), default=0)
    step = max(used + 1, device.time_step(time()) - 1)
    if step > device.time_step(time()) + 1:
        output.print("Every code up to the next one is used: waiting for a fresh one.")
    while step > device.time_step(time()) + 1:  # noqa: ASYNC110 - time has no event
        await asyncio.sleep(0.2)
    return step


def _login(settings: Settings, server: tuple[str, int], typed: str) -> Reply:
    secret = settings.client[0].secret.get_secret_value().encode()
    attributes = {"User-Name": USER, "NAS-Identifier": "demo"}
    request = ClientRequest(secret, Code.ACCESS_REQUEST, attributes, typed.encode())
    return exchange(request, server, REPLY_SECONDS)


def _print_how_to(folder: Path, settings: Settings, known: Demo) -> None:
    host, port = split_endpoint(settings.radius.listen[0])
    option = "" if folder == DEFAULT_FOLDER else f" --data {folder}"
    code_command = f"{sys.argv[0]} demo{option} code"
    secret = settings.client[0].secret.get_secret_value()
    attributes = (
        f"User-Name={USER},User-Password={known.password}$({code_command}),"
        "Message-Authenticator=0x00"
    )
    output.print(f"{USER}'s password        {known.password}", markup=False)
    output.print(f"{USER}'s current code    {code_command}", markup=False)
    output.print("a login by radclient    (each code works once)", markup=False)
    output.print(
        f'\n  echo "{attributes}" | radclient -x {host}:{port} auth {secret}\n', markup=False
    )
    output.print(f"Serving on {host} port {port}; its log follows. Ctrl-C stops it.", markup=False)

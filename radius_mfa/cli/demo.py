"""``radius-mfa demo``: a whole working server in one command, to look at and to log in to."""

import asyncio
import hashlib
import json
import secrets
import shlex
import shutil
import sys
from contextlib import suppress
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
    open_stores,
    prepare_data_folder,
    stop_signals,
)
from radius_mfa.cli.client import client_block, new_shared_secret
from radius_mfa.cli.client_file import with_client
from radius_mfa.cli.common import output, write_private
from radius_mfa.cli.device import print_enrolment, seed_octets
from radius_mfa.cli.exchange import exchange
from radius_mfa.cli.init import configuration_text, make_key_ring
from radius_mfa.cli.test import print_reply
from radius_mfa.config import RADIUS_PORT, Settings
from radius_mfa.config_file import load
from radius_mfa.errors import ConfigurationError
from radius_mfa.policy.new_device import SEED_OCTETS
from radius_mfa.policy.totp import Device, base32, code_at
from radius_mfa.protocol.client import ClientRequest, Reply
from radius_mfa.protocol.wire import Code
from radius_mfa.server import core_dumps
from radius_mfa.server.sockets import PortInUseError
from radius_mfa.stores.enrolments import NewDevice
from radius_mfa.stores.events import EventQueue
from radius_mfa.stores.interfaces import Subject

app = typer.Typer(help="Try it: a server with one user, in one command.")

USER = "alice"
NAS = "localhost"
PHONE = "demo phone"
ROBOT = "demo robot"
DEFAULT_FOLDER = Path("demo-data")
REPLY_SECONDS = 6.0

DataOption = Annotated[Path, typer.Option("--data", help="Folder of the demo.")]


@dataclass(frozen=True, slots=True)
class Demo:
    """What the demo keeps about its user, so that it can print a code."""

    password: str
    seed: str

    @property
    def phone(self) -> Device:
        """The authenticator whose codes are for whoever tries the demo."""
        return Device("", PHONE, seed_octets(self.seed))

    @property
    def robot(self) -> Device:
        """The one whose codes the demo's own login uses up, so that the phone's stay free."""
        seed = hashlib.sha256(f"{ROBOT} {self.seed}".encode()).digest()[:SEED_OCTETS]
        return Device("", ROBOT, seed)


@app.callback(invoke_without_command=True)
def demo(
    ctx: typer.Context,
    data: DataOption = DEFAULT_FOLDER,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65_535, help="UDP port on 127.0.0.1, kept for later; first 1812."),
    ] = None,
) -> None:
    """Prepare a demo, log in once, and serve until Ctrl-C."""
    ctx.obj = data
    if ctx.invoked_subcommand is not None:
        return
    prepare(data, port)
    settings = load(data / "radius-mfa.toml").settings
    events, in_force = EventQueue(), settings.log
    log.configure(in_force.format, in_force.level, in_force.file, publish=events.append)
    uvloop.run(_run(data, settings, _known(data), events))


@app.command()
def code(ctx: typer.Context, data: DataOption = DEFAULT_FOLDER) -> None:
    """Print alice's current code, as her phone would show it."""
    folder = ctx.obj if data == DEFAULT_FOLDER else data
    phone = _known(folder).phone
    output.print(code_at(phone, phone.time_step(time())))


def prepare(folder: Path, port: int | None) -> None:
    """Write what is missing: configuration, key ring, and what the demo knows of alice."""
    folder = folder.absolute()
    prepare_data_folder(folder)
    if not Settings(data_folder=folder).key_ring_file.exists():
        make_key_ring(folder)
    path = folder / "radius-mfa.toml"
    if not path.exists():
        text = configuration_text({"data_folder": str(folder)})
        text = _with_port(text, RADIUS_PORT if port is None else port)
        block = client_block(NAS, ["127.0.0.1"], new_shared_secret())
        write_private(path, with_client(text, block))
    elif port is not None:
        path.write_text(_with_port(path.read_text("utf-8"), port), "utf-8")
    if not (folder / "demo.json").exists():
        known = {"password": secrets.token_urlsafe(9), "seed": base32(seed_octets(None))}
        write_private(folder / "demo.json", json.dumps(known))


def _with_port(text: str, port: int) -> str:
    document = tomlkit.parse(text)
    document["radius"]["listen"] = [f"127.0.0.1:{port}"]
    return tomlkit.dumps(document)


def _known(folder: Path) -> Demo:
    try:
        known = json.loads((folder / "demo.json").read_text("utf-8"))
        return Demo(known["password"], known["seed"])
    except (OSError, ValueError, KeyError):
        raise ConfigurationError(
            f"there is no demo in {folder}", "start one: radius-mfa demo"
        ) from None


async def _run(folder: Path, settings: Settings, known: Demo, events: EventQueue) -> None:
    core_dumps.forbid()
    stopped = stop_signals()
    async with open_stores(settings) as stores:
        await _ensure_user(stores, known)
        try:
            async with Server(settings, stores, events).running() as server:
                await _show(folder, settings, known, stores, server.endpoints[0], stopped)
                await stopped.wait()
        except PortInUseError as error:
            raise ConfigurationError(
                error.message, "stop what serves there, or take another: radius-mfa demo --port N"
            ) from None
    output.print("Stopped.")


async def _ensure_user(stores: Stores, known: Demo) -> None:
    """Put the user and both devices on record, whatever of it an earlier run got to."""
    users = {user.name: user for user in await stores.enrolments.users()}
    if USER not in users:
        await stores.directory.add(USER, known.password)
    on_record = users[USER].devices if USER in users else ()
    confirmed = {device.name for device in on_record if device.confirmed_at}
    for device in (known.phone, known.robot):
        if device.name not in confirmed:
            new = NewDevice(device.name, device.seed)
            await stores.enrolments.add_device(USER, new, confirmed=True)


async def _show(
    folder: Path,
    settings: Settings,
    known: Demo,
    stores: Stores,
    endpoint: tuple[str, int],
    stopped: asyncio.Event,
) -> None:
    enrolment = await stores.enrolments.fetch(USER)
    robot = next(device for device in enrolment.devices if device.name == ROBOT)
    step = await _unused_step(stores, robot, stopped)
    if stopped.is_set():
        return
    typed = known.password + code_at(robot, step)
    output.print(f"\n{USER} logs in, as through a VPN gateway on this machine:")
    print_reply(await asyncio.to_thread(_login, settings, endpoint, typed))
    output.print()
    print_enrolment(USER, known.phone, settings)
    _print_how_to(folder, settings, known, endpoint)


async def _unused_step(stores: Stores, device: Device, stopped: asyncio.Event) -> int:
    """Return a time step of the window whose code is unused, waiting for one if need be."""
    loaded = await stores.attempts.load(Subject(USER, NAS), [], time())
    used = loaded.used_steps.get(device.device_id, 0)
    step = max(used + 1, device.time_step(time()) - 1)
    if step > device.time_step(time()) + 1:
        output.print("Every code up to the next one is used: waiting for a fresh one.")
    while step > device.time_step(time()) + 1 and not stopped.is_set():
        with suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                await stopped.wait()
    return step


def _login(settings: Settings, server: tuple[str, int], typed: str) -> Reply:
    secret = settings.client[0].secret.get_secret_value().encode()
    attributes = {"User-Name": USER, "NAS-Identifier": "demo"}
    request = ClientRequest(secret, Code.ACCESS_REQUEST, attributes, typed.encode())
    return exchange(request, server, REPLY_SECONDS)


def _print_how_to(folder: Path, settings: Settings, known: Demo, endpoint: tuple[str, int]) -> None:
    host, port = endpoint
    option = "" if folder == DEFAULT_FOLDER else f" --data {shlex.quote(str(folder))}"
    program = _program()
    code_command = f"{program} demo{option} code"
    secret = settings.client[0].secret.get_secret_value()
    attributes = (
        f"User-Name={USER},User-Password={known.password}$({code_command}),"
        "Message-Authenticator=0x00"
    )
    configuration = shlex.quote(str(folder / "radius-mfa.toml"))
    missing = "" if shutil.which("radclient") else "; apt install freeradius-utils"
    lines = (
        f"{USER}'s password        {known.password}",
        f"{USER}'s current code    {code_command}",
        f"a login by radclient    (each code works once{missing})",
        f'\n  echo "{attributes}" | radclient -x {host}:{port} auth {secret}\n',
        f"what the server knows   {program} -c {configuration} user show {USER}",
        f"the portal for phones   {program} -c {configuration} portal",
        f"Serving on {host} port {port}; its log follows. Ctrl-C stops it.",
    )
    for line in lines:
        output.print(line, markup=False)


def _program() -> str:
    """Return how this program was started, for a command line to paste."""
    if Path(sys.argv[0]).name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m radius_mfa"
    return shlex.quote(sys.argv[0])

"""The servers that are measured, each over a Redis of its own and the same users."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import tomlkit

from radius_mfa.app import Stores, open_stores
from radius_mfa.config_file import load
from radius_mfa.stores import keyring
from radius_mfa.stores.enrolments import seed_owner
from radius_mfa.stores.records import DeviceRecord, LocalUser, MfaUser, utc_now
from tests.bench import traffic
from tests.support.debian import find
from tests.support.redis import RealRedis
from tests.support.server import eventually


@dataclass(frozen=True)
class Measured:
    """A running server: where it listens, and the process whose CPU time counts."""

    address: tuple[str, int]
    pid: int


Contestant = Callable[[int], AbstractContextManager[Measured]]
"""Runs a server that knows so many users."""

FREERADIUS_MODULES = "/usr/lib/freeradius"


def free_port(kind: socket.SocketKind = socket.SOCK_DGRAM) -> int:
    """Return a port of 127.0.0.1 that was free a moment ago."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def tcp_redis() -> Iterator[int]:
    """Run a Redis with an append-only file on a port of 127.0.0.1; give the port."""
    port = free_port(socket.SOCK_STREAM)
    with RealRedis("--port", str(port), "--appendonly", "yes"):
        yield port


@contextlib.contextmanager
def process(command: list[str], folder: Path, **environ: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server in *folder* for as long as the block lasts."""
    with (folder / "output.log").open("wb") as output:
        started = subprocess.Popen(
            command, cwd=folder, stdout=output, stderr=output, env=os.environ | environ
        )
    try:
        yield started
    finally:
        started.send_signal(signal.SIGTERM)
        started.wait(30)


def wait_for_udp(port: int, started: subprocess.Popen[bytes], folder: Path) -> None:
    """Wait until the process that runs in *folder* has bound a UDP port."""
    wanted = f":{port:04X} "

    def bound() -> bool:
        if started.poll() is not None:
            words = "".join(path.read_text("utf-8") for path in folder.glob("*.log"))
            raise AssertionError(f"the server ended: {words}")
        return wanted in Path("/proc/net/udp").read_text("ascii")

    eventually(bound, "the server to listen")
    time.sleep(0.2)  # a bench may wait: some servers bind before they read


@contextlib.contextmanager
def radius_mfa(users: int) -> Iterator[Measured]:
    """Run ours with local users, their passwords in the credential cache."""
    local = {
        "credential_cache_seconds": 86_400,
        "argon2_memory_kib": 8_192,  # only the warm-up hashes
        "argon2_iterations": 1,
    }
    with ours({"local": local}, local_users(users)) as (measured, _):
        yield measured


@dataclass(frozen=True)
class Owner:
    """A user with the seed of number *index*, known by *key*; a local one has no *directory*."""

    index: int
    key: str
    directory: str | None = None


def local_users(users: int) -> list[Owner]:
    """Return so many users of the local directory."""
    return [Owner(index, traffic.user_name(index)) for index in range(users)]


@contextlib.contextmanager
def ours(directory: dict[str, Any], owners: Sequence[Owner]) -> Iterator[tuple[Measured, Path]]:
    """Run ours, everything switched on: replay, lockout, caches, JSON log, metrics.

    Gives the log's path as well.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as name, tcp_redis() as redis_port:
        folder = Path(name)
        config, log = folder / "radius-mfa.toml", folder / "auth.log"
        settings = {
            "data_folder": name,
            "radius": {"listen": [f"127.0.0.1:{free_port()}"]},
            "redis": {"url": f"redis://127.0.0.1:{redis_port}"},
            "directory": directory,
            "log": {"format": "json", "file": str(log)},
            "metrics": {"listen": f"127.0.0.1:{free_port(socket.SOCK_STREAM)}"},
            "client": [
                {"name": "bench", "address": "127.0.0.1", "secret": traffic.SECRET.decode()}
            ],
        }
        config.write_text(tomlkit.dumps(settings), "utf-8")
        keyring.create(folder / "keyring")
        asyncio.run(fill(config, owners))
        command = [sys.executable, "-m", "radius_mfa", "-c", str(config), "serve"]
        with process(command, folder, PYTHONPATH=str(Path.cwd())) as started:
            eventually(
                lambda: log.exists() and "server.started" in log.read_text("utf-8"), "the server"
            )
            port = load(config, {}).settings.radius.listen[0].rpartition(":")[2]
            yield Measured(("127.0.0.1", int(port)), started.pid), log


async def fill(config: Path, owners: Sequence[Owner]) -> None:
    """Put *owners* on record, each with a device, and with PASSWORD where they are local."""
    async with open_stores(load(config, {}).settings) as stores:
        password_hash = await _hash(stores)
        async with stores.database.session() as session, session.begin():
            now = utc_now()
            session.add_all(
                MfaUser(name=owner.key, created_at=now, directory=owner.directory)
                for owner in owners
            )
            await session.flush()
            for number, owner in enumerate(owners):
                device_id = f"device-{number}"
                version, seed = stores.key_ring.encrypt(
                    traffic.seed(owner.index), seed_owner(owner.key, device_id)
                )
                if owner.directory is None:
                    session.add(
                        LocalUser(
                            name=owner.key, password_hash=password_hash, password_changed_at=now
                        )
                    )
                session.add(
                    DeviceRecord(
                        device_id=device_id,
                        user=owner.key,
                        name="phone",
                        algorithm="SHA1",
                        digits=6,
                        time_step_seconds=30,
                        key_version=version,
                        seed=seed,
                        created_at=now,
                        confirmed_at=now,
                    )
                )


async def _hash(stores: Stores) -> str:
    return await stores.directory.hashing.hashed(traffic.PASSWORD)


@contextlib.contextmanager
def minimal_pyrad(users: int) -> Iterator[Measured]:
    """Run the minimal pyrad server of this folder."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name, tcp_redis() as redis_port:
        folder, port = Path(name), free_port()
        known = {
            traffic.user_name(index): [traffic.PASSWORD, traffic.base32_seed(index)]
            for index in range(users)
        }
        (folder / "users.json").write_text(json.dumps(known), "utf-8")
        command = [
            *(sys.executable, "-m", "tests.bench.pyrad_server", str(port)),
            *(str(folder / "users.json"), f"redis://127.0.0.1:{redis_port}"),
        ]
        with process(command, folder, PYTHONPATH=str(Path.cwd())) as started:
            wait_for_udp(port, started, folder)
            yield Measured(("127.0.0.1", port), started.pid)


@contextlib.contextmanager
def freeradius(users: int) -> Iterator[Measured]:
    """Run FreeRADIUS: users in rlm_files, rlm_totp, replay by SET NX in Redis."""
    with freeradius_with(users, f'Cleartext-Password := "{traffic.PASSWORD}", ') as measured:
        yield measured


@contextlib.contextmanager
def freeradius_with(
    users: int, check: str = "", *, module: str = "", search: str = "", proof: str = "pap"
) -> Iterator[Measured]:
    """Run FreeRADIUS with seeds in rlm_files, and what is said of the passwords.

    *check* stands before each user's seed, *module* is one more, *search* is called for who the
    user is and *proof* for the password.
    """
    binary = find("freeradius")
    assert binary is not None
    with tempfile.TemporaryDirectory(prefix="bench-") as name, tcp_redis() as redis_port:
        folder, port = Path(name), free_port()
        lines = [
            f'{traffic.user_name(i)} {check}TOTP-Secret := "{traffic.base32_seed(i)}"\n'
            for i in range(users)
        ]
        (folder / "users").write_text("".join(lines), "ascii")
        (folder / "dictionary").write_text("$INCLUDE /usr/share/freeradius/dictionary\n", "ascii")
        template = Template((Path(__file__).parent / "radiusd.conf").read_text("ascii"))
        text = template.substitute(
            libdir=FREERADIUS_MODULES,
            folder=name,
            secret=traffic.SECRET.decode(),
            redis_port=redis_port,
            port=port,
            module=module,
            search=search,
            proof=proof,
        )
        (folder / "radiusd.conf").write_text(text, "ascii")
        with process([binary, "-f", "-d", name, "-l", f"{name}/radius.log"], folder) as started:
            wait_for_udp(port, started, folder)
            yield Measured(("127.0.0.1", port), started.pid)


def contestants() -> dict[str, Contestant]:
    """Return the servers with users of their own that can run here, ours first."""
    found: dict[str, Contestant] = {"radius-mfa": radius_mfa, "minimal pyrad": minimal_pyrad}
    if find("freeradius"):
        found["FreeRADIUS + Redis"] = freeradius
    return found

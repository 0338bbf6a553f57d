"""Real radius-mfa processes over configuration files of their own."""

import asyncio
import base64
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import redis as redis_py
import tomlkit
from prometheus_client.parser import text_string_to_metric_families

from radius_mfa.app import Stores, open_stores
from radius_mfa.config import Settings
from radius_mfa.config_file import load
from radius_mfa.policy.totp import Algorithm
from radius_mfa.stores import keyring
from radius_mfa.stores.enrolments import NewDevice
from tests.support.radius import Nas
from tests.support.totp import SEED

SECRET = "canary-shared-secret-0123456789ab"
PASSWORD = "canary-password"

PATIENCE_SECONDS = 30.0

LIGHT_HASHES = {"argon2_memory_kib": 8192, "argon2_iterations": 1}
"""Cheap hashes for tests that are not about their cost."""


def eventually(condition: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS) -> Any:
    """Return the first true value of *condition*; AssertionError after *seconds*."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.01)


def cli(*words: str, config: Path | None = None, text: str = "", **environ: str) -> "Finished":
    """Run the command line and return what it did."""
    command = [sys.executable, "-m", "radius_mfa", *(["-c", str(config)] if config else []), *words]
    done = subprocess.run(
        command,
        input=text,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS * 2,
        env=os.environ | environ,
        check=False,
    )
    return Finished(done.returncode, done.stdout, done.stderr)


@dataclass(frozen=True)
class Finished:
    """A command that has ended."""

    exit_code: int
    out: str
    err: str

    def json(self) -> Any:
        assert self.exit_code == 0, self.err
        return json.loads(self.out)


@dataclass
class Site:
    """A configuration with its data folder, and the servers started over it.

    Use as a context manager: servers end with it, and their logs are searched for secrets.
    """

    folder: Path
    sections: Mapping[str, Any] = field(default_factory=dict)
    top: Mapping[str, Any] = field(default_factory=dict, kw_only=True)
    clients: list[Any] = field(
        default_factory=lambda: [{"name": "nas", "address": ["127.0.0.0/8", "::1"]}]
    )
    canaries: set[str] = field(default_factory=lambda: {SECRET, PASSWORD, SEED})
    servers: list["RunningServer"] = field(default_factory=list)
    _spare: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.data.mkdir(parents=True, exist_ok=True)
        if not (self.data / "keyring").exists():
            keyring.create(self.data / "keyring")
        self.write_config()

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def config(self) -> Path:
        return self.folder / "radius-mfa.toml"

    def serve_metrics(self) -> None:
        """Give the servers started from now on a port for their metrics."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            endpoint = f"127.0.0.1:{probe.getsockname()[1]}"
        self.sections = {**self.sections, "metrics": {"listen": endpoint}}
        self.write_config()

    @property
    def settings(self) -> Settings:
        return load(self.config, {}).settings

    def write_config(self) -> None:
        """Write the configuration file: test defaults, then *sections*, then *clients*."""
        values: dict[str, Any] = {
            "radius": {"listen": ["127.0.0.1:0"], "reject_delay_seconds": 0.05},
            "directory": {"local": LIGHT_HASHES},
            "log": {"format": "json", "level": "debug"},
        }
        for name, section in self.sections.items():
            values[name] = {**values.get(name, {}), **section}
        plain = {"secret": SECRET, "prompt": "append"}
        recipe = {"secret": SECRET}
        clients = [(recipe if "vendor" in one else plain) | one for one in self.clients]
        document = {"data_folder": str(self.data), **self.top, **values, "client": clients}
        self.config.write_text(tomlkit.dumps(document), "utf-8")

    def with_stores(self, work: Callable[[Stores], Any]) -> Any:
        """Run *work* over the stores, as a command line beside the server would."""

        async def run() -> Any:
            async with open_stores(self.settings, private_redis=True) as stores:
                return await work(stores)

        with ThreadPoolExecutor(1) as beside:  # a test that drives a browser has a loop here
            return beside.submit(lambda: asyncio.run(run())).result()

    def add_users(
        self, names: Iterable[str], password: str = PASSWORD, seed: str | None = SEED, **device: Any
    ) -> None:
        """Put users on record, each with a confirmed device unless *seed* is None."""

        async def work(stores: Stores) -> None:
            for name in names:
                await stores.directory.add(name, password)
                if seed is not None:
                    new = new_device("phone", seed, **device)
                    await stores.enrolments.add_device(name, new, confirmed=True)

        self.with_stores(work)

    def change_codes_every(self, seconds: int) -> None:
        """Give every device on record codes that no test has to wait for.

        Nobody can enrol such a device. Call it before the server starts; SQLite only.
        """
        with closing(sqlite3.connect(self.data / "radius-mfa.db")) as database:
            database.execute("UPDATE device SET time_step_seconds = ?", [seconds])
            database.commit()

    def add_spare_users(self, count: int) -> None:
        """Put *count* users on record for ``fresh_user``."""
        self._spare = [f"user{number:03}" for number in range(count)]
        self.add_users(self._spare)

    def fresh_user(self) -> str:
        """Return a user on record whom no test has touched."""
        return self._spare.pop()

    def failures(self, user: str) -> int:
        """Return how many failures in a row are counted against *user*."""
        locks = self.with_stores(lambda stores: stores.attempts.locks(user))
        return int(locks.consecutive)

    @property
    def redis(self) -> "redis_py.Redis":
        """A client of the embedded Redis of a running server."""
        return redis_py.Redis(unix_socket_path=str(self.data / "redis.sock"))

    def redis_processes(self) -> list[int]:
        """Return the process ids of the Redis servers in the data folder."""
        found = []
        for folder in Path("/proc").iterdir():
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
                working_folder = str((folder / "cwd").readlink())
            except OSError:
                continue
            if working_folder == str(self.data) and b"-server" in words[0]:
                found.append(int(folder.name))
        return found

    def start(self, program: str = "", **environ: str) -> "RunningServer":
        """Start a server and wait until it serves; *program* is Python to run before it."""
        server = RunningServer(self, environ, program)
        self.servers.append(server)
        server.wait_until_started()
        return server

    def cli(self, *words: str, text: str = "", **environ: str) -> Finished:
        return cli(*words, config=self.config, text=text, **environ)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        for server in self.servers:
            server.stop()
        for server in self.servers:
            for canary in self.canaries:
                assert canary not in server.text, f"{canary!r} stands in the log"


def new_device(name: str, seed: str, **fields: Any) -> NewDevice:
    """Return a device to enrol with a seed in base32."""
    if "algorithm" in fields:
        fields["algorithm"] = Algorithm(fields["algorithm"])
    return NewDevice(name, base64.b32decode(seed), **fields)


_STARTED = re.compile(r'server\.started.* ?"?listen"?[=:]"?([][0-9a-f.:]+(?:, [][0-9a-f.:]+)*)')
"""The line of a started server, as JSON or for people."""


def _module(program: str) -> list[str]:
    if not program:
        return ["-m", "radius_mfa"]
    return ["-c", f"{program}\nfrom radius_mfa.cli import main\nmain()"]


class RunningServer:
    """A ``radius-mfa serve`` process; its log goes to a file, ``log.file`` where that is set."""

    def __init__(self, site: Site, environ: Mapping[str, str], program: str = "") -> None:
        self.site = site
        self.log_file = site.folder / f"server-{len(site.servers)}.log"
        with self.log_file.open("wb") as output:
            file = site.sections.get("log", {}).get("file")
            if file:
                self.log_file = Path(file)
                self.log_file.touch()
            self.process = subprocess.Popen(
                [sys.executable, *_module(program), "-c", str(site.config), "serve"],
                stdout=output,
                stderr=output,
                env=os.environ | dict(environ),
                start_new_session=True,
            )
        self.endpoints: list[tuple[str, int]] = []

    def wait_until_started(self) -> None:
        eventually(
            lambda: _STARTED.search(self.text) or self.process.poll() is not None,
            "the server to start",
        )
        started = _STARTED.search(self.text)
        assert started is not None, f"the server ended: {self.text}"
        for endpoint in started[1].split(", "):
            host, _, port = endpoint.rpartition(":")
            self.endpoints.append((host.strip("[]"), int(port)))

    @property
    def text(self) -> str:
        """The log so far."""
        return self.log_file.read_text("utf-8")

    @property
    def address(self) -> tuple[str, int]:
        return self.endpoints[0]

    def nas(self, source: str = "", secret: str = SECRET, timeout: float = 10) -> Nas:
        """Return a NAS that asks this server; close it, or use it as a context manager."""
        return Nas(self.address, secret.encode(), source, timeout=timeout)

    def lines(self, event: str | None = None, **fields: Any) -> list[dict[str, Any]]:
        """Return the log lines so far, those of *event* and with *fields* only."""
        found = []
        for text in self.text.splitlines():
            try:
                line = json.loads(text)
            except ValueError:
                line = {"event": "not json", "text": text}
            if event in (None, line.get("event")) and fields.items() <= line.items():
                found.append(line)
        return found

    def line(self, event: str, **fields: Any) -> dict[str, Any]:
        """Wait for a log line and return the last one."""
        found = eventually(lambda: self.lines(event, **fields), f"{event} {fields} in the log")
        line: dict[str, Any] = found[-1]
        return line

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of the samples of a metric that bear *labels* (``serve_metrics``)."""
        url = f"http://{self.site.settings.metrics.listen}/metrics"
        with urllib.request.urlopen(url, timeout=PATIENCE_SECONDS) as page:
            families = list(text_string_to_metric_families(page.read().decode()))
        return sum(
            float(sample.value)
            for family in families
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def stop(self) -> int:
        """End the server as an operator would; return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_SECONDS)

    def kill(self) -> None:
        """End the server without warning."""
        self.process.kill()
        self.process.wait(PATIENCE_SECONDS)

"""One soak: rounds of mutated datagrams and of logins, and what must not grow meanwhile."""

import asyncio
import os
import re
import signal
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench import traffic
from tests.bench.servers import fill, local_users
from tests.soak.hostile import VICTIM, Storm
from tests.support.server import RunningServer, Site, eventually

SOCKETS = 32
WINDOW = 64
STEP_SECONDS = 1
"""Codes that change every second, so that a user can log in as often as that."""

BATCH_SECONDS = 1.5
"""How long a batch of logins may take, so that no code of it is too old in the end."""

GROWTH_MIB = 8.0
"""How much the server's memory may grow after the warm-up, whatever was sent."""

SPARE = 4
"""Threads that pools may still start after the warm-up."""

SPARE_DESCRIPTORS = 16
"""Connections that pools may still open: eight to Redis, and those to the database."""

SPARE_TASKS = 8

PROBE = """
import asyncio, os, pathlib, signal
def tell(*_):
    path = pathlib.Path(os.environ["SOAK_TASKS"])
    path.with_suffix(".new").write_text(str(len(asyncio.all_tasks())))
    path.with_suffix(".new").rename(path)
signal.signal(signal.SIGUSR1, tell)
"""

_CONTROL = re.compile(rb"[\x00-\x09\x0b-\x1f\x7f]")
_FAULTS = (b'"login.failed"', b'"packet.failed"', b'"watch.failed"', b"Traceback")


@dataclass(frozen=True)
class Sample:
    """What a server holds at one moment, between two rounds."""

    rss_mib: float
    descriptors: int
    tasks: int
    threads: int


@dataclass
class Report:
    """What was sent, what came of it, and what is wrong with it."""

    datagrams: int = 0
    replies: int = 0
    accepts: int = 0
    seconds: float = 0.0
    cpu_us_per_login: float = 0.0
    samples: list[Sample] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)

    @property
    def growth_mib(self) -> float:
        """Memory of the last fifth of the rounds less that of the first one."""
        fifth = max(1, len(self.samples) // 5)
        first, last = self.samples[:fifth], self.samples[-fifth:]
        median = statistics.median
        return median(s.rss_mib for s in last) - median(s.rss_mib for s in first)


class Soak:
    """A server, and the rounds over it."""

    sabotage = ""
    """Python that runs in the server first: what a soak must find."""

    def __init__(
        self,
        users: int,
        max_mib: float,
        seed: int,
        *,
        active: int = 6000,
        patience_seconds: float = 15,
    ) -> None:
        """Put *users* on record, the first *active* of whom log in."""
        self._users, self._max_mib = users, max_mib
        self._active = min(active, users)
        self._seed, self._patience = seed, patience_seconds
        self._next = self._in_step = 0
        self._step, self._rate = 0, 100.0
        self.report = Report()

    def run(self, rounds: int, datagrams: int, logins: int) -> Report:
        """Warm up, then send *datagrams* and *logins* in *rounds*."""
        with tempfile.TemporaryDirectory(prefix="soak-") as name:
            self._folder = Path(name)
            with Site(self._folder, canaries=set()) as site:
                self._server = self._started(site)
                self._storm = Storm(self._server.address, self._seed, self._patience)
                try:
                    self._rounds(rounds, datagrams, logins)
                finally:
                    self._storm.close()
                self.report.findings += self._storm.findings
                if self.report.findings:
                    self._server.kill()
                else:
                    code = self._server.stop()
                    self._find(code == 0, f"the server ended with exit code {code}")
        return self.report

    def _started(self, site: Site) -> RunningServer:
        log_file = self._folder / "auth.log"
        site.clients = [{"name": "soak", "address": "127.0.0.1", "secret": traffic.SECRET.decode()}]
        site.sections = {
            "radius": {
                "reject_delay_seconds": 0,
                "reply_cache_seconds": 5,
                "login_deadline_seconds": 10,
            },
            "redis": {"timeout_seconds": 8},
            "directory": {
                "local": {
                    "argon2_memory_kib": 8192,
                    "argon2_iterations": 1,
                    "credential_cache_seconds": 86_400,
                    "hash_queue": 1000,
                }
            },
            "totp": {"lookback_steps": 6, "lookforward_steps": 0},
            "log": {"level": "info", "file": str(log_file)},
        }
        site.serve_metrics()
        asyncio.run(fill(site.config, local_users(self._users)))
        site.add_users([VICTIM])
        site.change_codes_every(STEP_SECONDS)
        tasks = self._folder / "tasks"
        return site.start(PROBE + self.sabotage, SOAK_TASKS=str(tasks))

    def _rounds(self, rounds: int, datagrams: int, logins: int) -> None:
        report = self.report
        self._log_in(max(self._active, logins // 10))
        self._storm.send(datagrams // 10)
        self._look()
        report.samples.clear()
        report.accepts, before, began = 0, self._storm.sent, time.monotonic()
        self._cpu_of_logins = 0.0
        for number in range(1, rounds + 1):
            self._storm.send(datagrams * number // rounds - (self._storm.sent - before))
            if not self._alive() or self._storm.findings:
                break
            cpu = traffic.cpu_seconds(self._server.process.pid)
            self._log_in(logins * number // rounds - report.accepts)
            self._cpu_of_logins += traffic.cpu_seconds(self._server.process.pid) - cpu
            self._look()
        report.seconds = time.monotonic() - began
        report.datagrams, report.replies = self._storm.sent - before, self._storm.replies
        report.cpu_us_per_login = self._cpu_of_logins / max(1, report.accepts) * 1e6
        self._judge()

    def _alive(self) -> bool:
        return self._server.process.poll() is None

    def _log_in(self, count: int) -> None:
        """Let *count* users log in, each with a code that they have not used yet."""
        while count > 0 and self._alive() and not self.report.findings:
            size = min(count, self._active, int(self._rate * BATCH_SECONDS))
            if self._next + size > self._active:  # around: every user needs a new step
                eventually(lambda: int(time.time()) // STEP_SECONDS > self._step, "a new step")
                self._next = 0
            self._step = int(time.time()) // STEP_SECONDS
            users = range(self._next, self._next + size)
            self._next += size
            requests = traffic.encoded(users, self._step, SOCKETS)
            result = traffic.run(
                requests, self._server.address, WINDOW, SOCKETS, self._server.process.pid
            )
            self._rate = max(50.0, result.logins_per_second)
            self.report.accepts += result.accepts
            self._find(not result.rejects, f"{result.rejects} right logins were rejected")
            self._find(not result.lost, f"{result.lost} right logins got no reply")
            count -= size

    def _find(self, good: bool, finding: str) -> None:  # noqa: FBT001 - an assertion that is kept
        if not good and finding not in self.report.findings:
            self.report.findings.append(finding)

    def _look(self) -> None:
        """Take a sample, read what was logged, and make room for more."""
        eventually(lambda: self._server.metric("radius_mfa_requests_in_flight") == 0, "rest")
        process = self._server.process.pid
        self.report.samples.append(
            Sample(
                traffic.resident_mib(process),
                len(list(Path(f"/proc/{process}/fd").iterdir())),
                self._tasks(),
                len(list(Path(f"/proc/{process}/task").iterdir())),
            )
        )
        log_file = self._server.log_file
        lines = log_file.read_bytes()
        os.truncate(log_file, 0)
        self._find(not _CONTROL.search(lines), "a raw control character in the log")
        for fault in _FAULTS:
            at = lines.find(fault)
            line = lines[lines.rfind(b"\n", 0, at) + 1 : lines.find(b"\n", at)].decode()
            self._find(at < 0, f"a fault of the program: {line}")

    def _tasks(self) -> int:
        path = self._folder / "tasks"
        path.unlink(missing_ok=True)
        os.kill(self._server.process.pid, signal.SIGUSR1)
        eventually(path.exists, "the number of tasks")
        return int(path.read_text("ascii"))

    def _judge(self) -> None:
        report = self.report
        self._find(self._alive(), f"the server ended: {self._server.process.poll()}")
        if not report.samples:
            return
        first, last = report.samples[0], report.samples[-1]
        self._find(
            report.growth_mib <= GROWTH_MIB,
            f"memory grew by {report.growth_mib:.1f} MiB, more than {GROWTH_MIB:.0f}",
        )
        self._find(
            last.rss_mib <= self._max_mib,
            f"memory is {last.rss_mib:.0f} MiB, more than {self._max_mib:.0f}",
        )
        for what, spare in (
            ("descriptors", SPARE_DESCRIPTORS),
            ("threads", SPARE),
            ("tasks", SPARE_TASKS),
        ):
            before, after = getattr(first, what), getattr(last, what)
            self._find(after <= before + spare, f"{what} grew from {before} to {after}")

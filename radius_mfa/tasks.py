"""Background tasks that are kept: the event loop itself holds only weak references to them."""

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar, cast

CANCEL_AGAIN_SECONDS = 0.1

T = TypeVar("T")


class TaskSet:
    """Tasks that belong together, referenced until each is done."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run *coroutine* as a task of this set."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    def __len__(self) -> int:
        """Return how many tasks run now."""
        return len(self._running)

    def __iter__(self) -> Iterator[asyncio.Task[Any]]:
        """Go through the tasks that run now."""
        return iter(tuple(self._running))

    async def idle(self) -> None:
        """Wait until no task of this set runs."""
        while self._running:
            await asyncio.wait(self._running)

    async def stop(self) -> None:
        """Cancel what still runs, and wait until it has ended."""
        await stop(*self._running)


class Deadline:
    """One time limit for many tasks: what ``asyncio.timeout`` does, with one timer for them all.

    As every limit is equally long, the tasks stand in the order in which they run out of time.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ends: dict[asyncio.Task[Any], float] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def hold(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what *work* does in the present task; raise TimeoutError when its time is up."""
        loop, task = asyncio.get_running_loop(), cast("asyncio.Task[T]", asyncio.current_task())
        self._ends[task] = loop.time() + self._seconds
        if self._timer is None:
            self._timer = loop.call_later(self._seconds, self._look, loop)
        try:
            return await work
        except asyncio.CancelledError:
            if task in self._ends or task.uncancel() > 0:  # somebody else wants it to end
                raise
            raise TimeoutError from None
        finally:
            self._ends.pop(task, None)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Cancel the tasks whose time is up, and wait for the next."""
        self._timer = None
        for task, end in tuple(self._ends.items()):
            if end > loop.time():
                self._timer = loop.call_at(end, self._look, loop)
                return
            del self._ends[task]
            task.cancel()


_background = TaskSet()


def spawn(coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """Run *coroutine* as a task that belongs to nobody else."""
    return _background.spawn(coroutine)


async def stop(*tasks: asyncio.Task[Any]) -> None:
    """Cancel *tasks* and wait until each has ended, whatever it ends with.

    A library may swallow a cancellation that comes together with what it waits for, so it is
    said again.
    """
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=CANCEL_AGAIN_SECONDS)
    await asyncio.gather(*tasks, return_exceptions=True)  # an exception counts as seen

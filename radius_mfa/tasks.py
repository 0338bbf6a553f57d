"""Background tasks that are kept: the event loop itself holds only weak references to them."""

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any

CANCEL_AGAIN_SECONDS = 0.1


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

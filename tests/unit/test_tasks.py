"""Tasks are kept until they are done, and end when they are told to."""

import asyncio
import gc

from radius_mfa import tasks


async def test_a_task_nobody_refers_to_is_kept() -> None:
    done = asyncio.Event()

    async def work() -> None:
        await asyncio.sleep(0.01)
        done.set()

    tasks.spawn(work())
    gc.collect()
    await asyncio.wait_for(done.wait(), 5)


async def test_a_set_is_idle_once_all_of_it_has_ended() -> None:
    ended = []
    group = tasks.TaskSet()

    async def work(number: int) -> None:
        await asyncio.sleep(0.01 * number)
        ended.append(number)

    for number in range(3):
        group.spawn(work(number))
    await group.idle()
    assert sorted(ended) == [0, 1, 2]


async def test_stop_outlasts_a_task_that_swallows_its_cancellation() -> None:
    """As a client of Redis may do, when the reply comes together with the cancellation."""
    swallowed = 0

    async def stubborn() -> None:
        nonlocal swallowed
        while swallowed < 2:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                swallowed += 1
        await asyncio.sleep(60)

    async def broken() -> None:
        raise ValueError("seen")

    running = [tasks.spawn(stubborn()), tasks.spawn(broken())]
    await asyncio.sleep(0)
    await asyncio.wait_for(tasks.stop(*running), 5)
    assert swallowed == 2
    assert all(task.done() for task in running)

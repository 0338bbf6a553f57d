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


async def test_a_deadline_ends_what_takes_too_long_and_nothing_else() -> None:
    deadline = tasks.Deadline(0.05)
    ended: list[str] = []

    async def work(name: str, seconds: float) -> str:
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            ended.append(name)
            raise
        return name

    async def one(name: str, seconds: float, begin: float = 0) -> str:
        await asyncio.sleep(begin)
        return await deadline.hold(work(name, seconds))

    slow, quick, late = await asyncio.gather(
        one("slow", 60), one("quick", 0), one("late", 60, begin=0.02), return_exceptions=True
    )
    assert (type(slow), quick, type(late)) == (TimeoutError, "quick", TimeoutError)
    assert ended == ["slow", "late"]
    assert await deadline.hold(work("later", 0.01)) == "later"


async def test_whoever_cancels_a_task_before_its_deadline_is_heard() -> None:
    deadline = tasks.Deadline(60)
    task = tasks.spawn(deadline.hold(asyncio.sleep(60)))
    await asyncio.sleep(0)
    task.cancel()
    results = await asyncio.gather(task, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)


async def test_a_task_cancelled_by_its_deadline_and_by_somebody_else_is_cancelled() -> None:
    deadline = tasks.Deadline(0.01)
    stopped = asyncio.Event()

    async def stubborn() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            stopped.set()
            await asyncio.sleep(60)  # a library that tidies up

    task = tasks.spawn(deadline.hold(stubborn()))
    await asyncio.wait_for(stopped.wait(), 5)
    task.cancel()
    results = await asyncio.gather(task, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)

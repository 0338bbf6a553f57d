"""One code, or many, settled by four processes at once."""

import asyncio
import multiprocessing
import secrets
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier

import pytest

from radius_mfa.policy.decision import Accept, Reject, RejectReason
from radius_mfa.policy.lockout import LockoutPolicy
from radius_mfa.policy.totp import Device, Match
from radius_mfa.stores.interfaces import Settled, Settlement, Subject, VerdictKey
from tests.support.redis import RealRedis, attempts_over

PROCESSES = 4
EACH = 50
PATIENCE_SECONDS = 60

NOW = 1_700_000_000.0
PHONE = Device("d-phone", "phone", b"")
ACCEPT = Settled(Accept("totp"))
REPLAYED = Settled(Reject(RejectReason.CODE_REPLAYED))

_start: Barrier


@dataclass(frozen=True)
class Volley:
    """Settlements that one process makes at once: a match of each step, at a time of its own."""

    url: str
    steps: tuple[int, ...]
    nows: tuple[float, ...] = (NOW,)
    shared_key: bool = False


def _arm(start: Barrier) -> None:
    global _start  # noqa: PLW0603 - how a process pool hands a barrier down
    _start = start


def _fire(process: int, volley: Volley) -> list[tuple[int, Settled]]:
    return asyncio.run(_settled(process, volley))


async def _settled(process: int, volley: Volley) -> list[tuple[int, Settled]]:
    async with attempts_over(volley.url, LockoutPolicy()) as store:
        subjects = [Subject("alice", f"node{process}|{n}") for n in range(len(volley.steps))]
        loads = [await store.load(subject, [], NOW) for subject in subjects]
        await asyncio.to_thread(_start.wait, PATIENCE_SECONDS)
        answers = await asyncio.gather(
            *(
                store.settle(
                    subject,
                    Settlement(Accept("totp"), Match(PHONE, step), True, "bb"),  # noqa: FBT003 - counted
                    loaded,
                    [VerdictKey("aa" if volley.shared_key else secrets.token_hex(16), 60_000)],
                    volley.nows[n % len(volley.nows)],
                )
                for n, (subject, loaded, step) in enumerate(
                    zip(subjects, loads, volley.steps, strict=True)
                )
            )
        )
    return list(zip(volley.steps, answers, strict=True))


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPoolExecutor]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        PROCESSES, context, initializer=_arm, initargs=(context.Barrier(PROCESSES),)
    ) as pool:
        yield pool


def fire(pool: ProcessPoolExecutor, volleys: list[Volley]) -> Counter[tuple[int, Settled]]:
    """Let every process settle its volley at the same moment; return how often each came out."""
    answers = pool.map(_fire, range(PROCESSES), volleys, timeout=PATIENCE_SECONDS)
    return Counter(answer for process in answers for answer in process)


def used_step(redis: RealRedis) -> int:
    with redis.client as client:
        [key] = client.keys("*:alice:steps")
        return int(client.hget(key, PHONE.device_id) or -1)


@pytest.mark.parametrize("now", [NOW, NOW - 365 * 86_400, NOW + 365 * 86_400])
def test_of_200_settlements_of_one_code_exactly_one_is_accepted(
    processes: ProcessPoolExecutor, real_redis: RealRedis, now: float
) -> None:
    """O04, O05, O08, rule 1: again and again, at whatever time; and the used step only grows."""
    for step in (100, 101):
        answers = fire(processes, [Volley(real_redis.url, (step,) * EACH, (now,))] * PROCESSES)
        assert answers == {(step, ACCEPT): 1, (step, REPLAYED): PROCESSES * EACH - 1}
        assert used_step(real_redis) == step
    answers = fire(processes, [Volley(real_redis.url, (100,) * EACH, (now, NOW))] * PROCESSES)
    assert answers == {(100, REPLAYED): PROCESSES * EACH}
    assert used_step(real_redis) == 101


def test_of_one_login_at_four_nodes_one_settles_and_all_hear_its_verdict(
    processes: ProcessPoolExecutor, real_redis: RealRedis
) -> None:
    """D06, D09: a retransmission that meets every node at once is one login."""
    volley = Volley(real_redis.url, (100,) * EACH, shared_key=True)
    answers = fire(processes, [volley] * PROCESSES)
    shared = Settled(Accept("totp"), shared=True)
    assert answers == {(100, ACCEPT): 1, (100, shared): PROCESSES * EACH - 1}


def test_codes_settled_in_every_order_are_accepted_upwards_only(
    processes: ProcessPoolExecutor, real_redis: RealRedis
) -> None:
    """O04, O08: with clocks a day apart; each step at most once, and the last accepted stays."""
    steps = tuple(range(100, 100 + EACH))
    orders = [steps, steps[::-1], steps[::2] + steps[1::2], steps[25:] + steps[:25]]
    nows = [(NOW,), (NOW - 86_400,), (NOW + 86_400,), (NOW, NOW - 86_400)]
    volleys = [Volley(real_redis.url, order, now) for order, now in zip(orders, nows, strict=True)]
    answers = fire(processes, volleys)
    accepted = {step: count for (step, settled), count in answers.items() if settled == ACCEPT}
    assert set(accepted.values()) == {1}
    assert max(accepted) == max(steps) == used_step(real_redis)
    assert {settled for _, settled in answers} == {ACCEPT, REPLAYED}

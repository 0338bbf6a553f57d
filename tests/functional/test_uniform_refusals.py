"""Rejects of every cause are one to whoever waits for them: octets, and the time they take.

The bound on time: over 200 rejects of each cause, sent in a random order, the median of a cause is
within half an interquartile range of that of all the others together, and no share of its rejects
is ahead of theirs by more than a quarter (Kolmogorov-Smirnov distance). Both are free of a unit, so
that a busy machine, which slows every cause alike, changes nothing.
"""

import random
import time
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median, quantiles

import pytest

from radius_mfa.app import Stores
from tests.support import totp
from tests.support.radius import ACCESS_ACCEPT, ACCESS_REJECT, REPLY_MESSAGE, Nas, Reply, verified
from tests.support.server import PASSWORD, RunningServer, Site, new_device

SAMPLES = 200
USERS = 10
"""Failures of a cause are spread over so many users, lest they be locked."""

IN_FLIGHT = 14
DELAY, JITTER = 0.15, 0.1
"""Hashes end before it though the machine is busy."""

FAILURES_THAT_LOCK = 50

MAX_DISTANCE = 0.25
MAX_SHIFT = 0.5

CAUSES = {
    "unknown": "unknown_user",
    "new": "not_enrolled",
    "password": "wrong_password",
    "code": "wrong_code",
    "used": "code_replayed",
    "locked": "account_locked",
    "suspended": "user_suspended",
}
"""What the users of a cause are called, and why they are refused."""


def typed(cause: str, number: int, used: str) -> str:
    """Return what makes the refusal; for most of them it is what would let the user in."""
    return {
        "password": f"wrong-{number}{totp.code()}",
        "code": f"{PASSWORD}-{number}{totp.wrong_code()}",
        "used": PASSWORD + used,
    }.get(cause, PASSWORD + totp.code())


# The statistic


def distance(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the Kolmogorov-Smirnov distance of two samples, from 0 to 1."""
    first, second = sorted(one), sorted(other)
    return max(
        abs(bisect_right(first, at) / len(first) - bisect_right(second, at) / len(second))
        for at in (*first, *second)
    )


def shift(one: Sequence[float], other: Sequence[float]) -> float:
    """Return how far apart the medians are, in interquartile ranges of *other*."""
    low, _, high = quantiles(other, n=4)
    return abs(median(one) - median(other)) / (high - low)


def differs(one: Sequence[float], other: Sequence[float]) -> bool:
    return distance(one, other) > MAX_DISTANCE or shift(one, other) > MAX_SHIFT


def drawn(count: int, later: float = 0, seed: int = 0) -> list[float]:
    """Return times as the server takes them, *later* by so many seconds."""
    chance = random.Random(seed)  # noqa: S311 - not for a secret
    return [DELAY * (1 + JITTER * chance.random()) + later for _ in range(count)]


@pytest.mark.parametrize("later", [-0.006, 0.006, 0.06])
def test_the_statistic_sees_six_milliseconds(later: float) -> None:
    """A15: the test below can fail; and on equal samples it does not."""
    for seed in range(200):
        others = drawn(SAMPLES * (len(CAUSES) - 1), seed=-1 - seed)
        assert differs(drawn(SAMPLES, later, seed), others)
        assert not differs(drawn(SAMPLES, 0, seed), others)


# What a NAS sees


@dataclass
class Seen:
    """The rejects that one cause got, and how long each took, in seconds."""

    replies: list[Reply]
    seconds: list[float]


def rejects(nas: Nas, requests: list[tuple[str, bytes]]) -> dict[str, Seen]:
    """Send *requests*, some at a time, and return what each cause got."""
    seen = {cause: Seen([], []) for cause in CAUSES}
    waiting: dict[int, tuple[str, bytes, float]] = {}
    left = list(reversed(requests))
    while left or waiting:
        while left and len(waiting) < IN_FLIGHT:
            cause, request = left.pop()
            waiting[request[1]] = cause, request, time.perf_counter()
            nas.send(request)
        octets = nas.socket.recv(4096)
        arrived = time.perf_counter()
        cause, request, sent = waiting.pop(octets[1])
        seen[cause].seconds.append(arrived - sent)
        seen[cause].replies.append(verified(octets, request, nas.secret))
    return seen


@dataclass
class Asked:
    """A server that has refused every cause so often, and what came of it."""

    server: RunningServer
    seen: dict[str, Seen]


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    names = {cause: [f"{cause}{number}" for number in range(USERS)] for cause in CAUSES}

    async def add(stores: Stores) -> None:
        for cause in CAUSES.keys() - {"unknown"}:
            for name in names[cause]:
                await stores.directory.add(name, PASSWORD)
                if cause != "new":
                    phone = new_device("phone", totp.SEED)
                    await stores.enrolments.add_device(name, phone, confirmed=True)
                await stores.enrolments.suspend([name], suspended=cause == "suspended")

    sections = {
        "radius": {"reject_delay_seconds": DELAY},
        "lockout": {"failures_by_source": 0, "failures_by_user": FAILURES_THAT_LOCK},
        "totp": {"lookback_steps": 10},  # so that used codes stay used, and do not grow old
        # A hash that outlasts the delay would be seen, and rightly so.
        "directory": {"local": {"argon2_memory_kib": 8192, "argon2_iterations": 1}},
        "log": {"level": "info"},
    }
    with Site(tmp_path_factory.mktemp("uniform"), sections) as site:
        site.with_stores(add)
        server = site.start()
        with server.nas() as nas:
            used = totp.code()
            for name in names["used"]:
                assert nas.login(name, PASSWORD + used).code == ACCESS_ACCEPT
            lock = [
                ("locked", nas.access_request(names["locked"][0], f"wrong-{number}"))
                for number in range(FAILURES_THAT_LOCK)
            ]
            rejects(nas, lock)
            names["locked"] = names["locked"][:1]
            requests = []
            for number in range(SAMPLES):
                for cause in random.sample(list(CAUSES), len(CAUSES)):
                    name = names[cause][number % len(names[cause])]
                    field = typed(cause, number, used)
                    requests.append((cause, nas.access_request(name, field)))
            yield Asked(server, rejects(nas, requests))


def test_every_cause_was_met(asked: Asked) -> None:
    """A15: the log tells them apart, as many of each as were sent."""
    for cause, reason in CAUSES.items():
        lines = asked.server.lines("login.rejected", reason=reason)
        found = [line for line in lines if line["user"].startswith(cause)]
        assert len(found) == SAMPLES == len(asked.seen[cause].seconds)


def test_every_reject_has_the_same_octets(asked: Asked) -> None:
    """A15: code, length, text and attributes; the authenticators alone belong to their request."""
    shapes = {
        (reply.octets[0], len(reply.octets), tuple(reply.attributes[1:]))
        for seen in asked.seen.values()
        for reply in seen.replies
    }
    assert shapes == {(ACCESS_REJECT, 53, ((REPLY_MESSAGE, b"Access denied"),))}


def test_every_reject_takes_the_same_time(asked: Asked) -> None:
    """A15: though one alone asks the directory, and some ask nothing at all."""
    figures = {}
    for cause, seen in asked.seen.items():
        others = [at for name, each in asked.seen.items() if name != cause for at in each.seconds]
        figures[cause] = f"{distance(seen.seconds, others):.2f} {shift(seen.seconds, others):.2f}"
        if differs(seen.seconds, others):
            figures[cause] += f" differs: {median(seen.seconds):.4f} s, not {median(others):.4f}"
    assert not any("differs" in figure for figure in figures.values()), figures


def test_rejects_wait_for_their_delay_and_not_much_longer(asked: Asked) -> None:
    """A14: none is early, most are in time, whatever the cause."""
    for seen in asked.seen.values():
        assert min(seen.seconds) > DELAY - 0.002, "the loop's timers count in milliseconds"
        assert median(seen.seconds) < DELAY * (1 + JITTER) + 0.05


# Who need not wait


def test_accepts_do_not_wait_and_rejects_that_do_hold_up_nobody(site: Site) -> None:
    """A14, A16: 300 rejects are due in three seconds; logins that begin later end before them."""
    site.sections = {"radius": {"reject_delay_seconds": 3}}
    site.write_config()
    names = [f"user{number}" for number in range(20)]
    site.add_users(names)
    server = site.start()
    with server.nas() as slow, server.nas() as more, server.nas() as quick:
        waiting = [slow.access_request("nobody", "x") for _ in range(200)]
        waiting += [more.access_request(names[0], f"wrong-{number}") for number in range(100)]
        for nas, request in zip([slow] * 200 + [more] * 100, waiting, strict=True):
            nas.send(request)
        for name in names[1:]:
            assert quick.login(name, PASSWORD + totp.code()).code == ACCESS_ACCEPT
        assert quick.ask(quick.status_server()).code == ACCESS_ACCEPT
        for nas in (slow, more):
            nas.socket.settimeout(0)
            with pytest.raises(BlockingIOError):
                nas.socket.recv(4096)
            nas.socket.settimeout(nas.timeout)
        assert {slow.socket.recv(4096)[0] for _ in range(200)} == {ACCESS_REJECT}
        assert {more.socket.recv(4096)[0] for _ in range(100)} == {ACCESS_REJECT}


SLOW_DIRECTORY = """
import asyncio
from radius_mfa.stores.directory_local import LocalDirectory
at_once = LocalDirectory.verify
async def verify(self, user, password, enrolment):
    if user.startswith("slow"):
        await asyncio.sleep(3)
    return await at_once(self, user, password, enrolment)
LocalDirectory.verify = verify
"""


def test_a_slow_backend_holds_up_those_alone_who_wait_for_it(site: Site) -> None:
    """A16: logins that begin later, and need it not, end before; the slow ones end well too."""
    slow, quick = ([f"{kind}{number}" for number in range(20)] for kind in ("slow", "quick"))
    site.add_users([*slow, *quick])
    server = site.start(SLOW_DIRECTORY)
    with server.nas() as waiting, server.nas() as nas:
        for name in slow:
            waiting.send(waiting.access_request(name, PASSWORD + totp.code()))
        for name in quick:
            assert nas.login(name, PASSWORD + totp.code()).code == ACCESS_ACCEPT
        assert nas.login("nobody", PASSWORD).code == ACCESS_REJECT
        waiting.socket.settimeout(0)
        with pytest.raises(BlockingIOError):
            waiting.socket.recv(4096)
        waiting.socket.settimeout(waiting.timeout)
        assert {waiting.socket.recv(4096)[0] for _ in slow} == {ACCESS_ACCEPT}

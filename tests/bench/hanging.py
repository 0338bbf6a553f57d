"""What a directory whose server hangs costs the logins of another directory's users.

One server of ours, two slapds. Requests for users of the second keep coming all the time; in every
other run it hangs from the first request on, so that the run sees the timeouts as well as what
comes after them.
"""

import contextlib
import socket
import statistics
import sys
import threading
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

from tests.bench import traffic
from tests.bench.ldap_servers import FilledSlapd, owners, section
from tests.bench.servers import Measured, ours
from tests.bench.traffic import SOCKETS, Result
from tests.support.server import eventually
from tests.support.slapd import RealSlapd

ANSWERS, HANGS = "beside one that answers", "beside one that hangs"

ASIDE_USERS, ASIDE_A_SECOND, ASIDE_REALM = 1_000, 20, "@far"
"""The second directory's users and requests: none of them comes twice in a time step."""

WITHIN = 0.10


def measured(
    users: int, logins: int, window: int, rounds: int
) -> tuple[dict[str, list[Result]], dict[str, float]]:
    """Return what the rounds saw beside a directory that answers and one that hangs, and MiB."""
    print(f"Preparing {users} users, and {ASIDE_USERS} in the one that hangs ...", file=sys.stderr)
    runs: dict[str, list[Result]] = {ANSWERS: [], HANGS: []}
    with (
        FilledSlapd(users) as near,
        FilledSlapd(ASIDE_USERS) as far,
        ours(
            {"ldap": [section(near, "near"), section(far, "far") | {"realms": ["far"]}]},
            owners("near", users) + owners("far", ASIDE_USERS),
        ) as (server, log),
    ):
        traffic.warm_up(users, server.address, server.pid)
        traffic.warm_up(ASIDE_USERS, server.address, server.pid, ASIDE_REALM)
        turns = traffic.turns(users, logins)
        with _aside(server):
            for number in range(rounds):
                print(f"Round {number + 1} of {rounds}, hanging ...", file=sys.stderr)
                for name in (ANSWERS, HANGS) if number % 2 else (HANGS, ANSWERS):
                    chosen = next(turns)
                    traffic.room_in_step()
                    requests = traffic.encoded(chosen, traffic.time_step(), SOCKETS)
                    with _hung(far, log) if name is HANGS else contextlib.nullcontext():
                        result = traffic.run(requests, server.address, window, SOCKETS, server.pid)
                    runs[name].append(result)
        memory = dict.fromkeys(runs, traffic.resident_mib(server.pid))
    return runs, memory


@contextlib.contextmanager
def _hung(slapd: RealSlapd, log: Path) -> Iterator[None]:
    """Let *slapd* hang; afterwards wait until the server has taken it up again."""

    def times(event: str) -> int:
        return log.read_text("utf-8").count(event)

    slapd.hang()
    try:
        yield
    finally:
        slapd.go_on()
    eventually(lambda: times("server_up") == times("server_down"), "the directory to be used again")


@contextlib.contextmanager
def _aside(server: Measured) -> Iterator[None]:
    """Keep requests for the second directory's users coming, whatever becomes of them."""
    ended = threading.Event()

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect(server.address)
            for index in cycle(range(ASIDE_USERS)):
                if ended.wait(1 / ASIDE_A_SECOND):
                    return
                [request] = traffic.encoded([index], traffic.time_step(), 1, ASIDE_REALM)
                sock.send(request)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def verdict(answers: list[Result], hangs: list[Result]) -> str:
    """Return what a directory that hangs changes: medians of the rounds' own ratios."""
    pairs = list(zip(answers, hangs, strict=True))
    speed = statistics.median(h.logins_per_second / a.logins_per_second for a, h in pairs)
    p99 = statistics.median(h.percentile_ms(99) / a.percentile_ms(99) for a, h in pairs)
    word = "within" if speed >= 1 - WITHIN and p99 <= 1 + WITHIN else "NOT within"
    return (
        f"a directory that hangs: logins/s of the other's users x {speed:.2f}, p99 x {p99:.2f}: "
        f"{word} {WITHIN:.0%}\n"
    )

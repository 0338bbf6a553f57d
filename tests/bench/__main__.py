"""Runs the contestants in turn, round after round, and prints medians and ratios."""

import argparse
import contextlib
import json
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from tests.bench import traffic
from tests.bench.servers import Measured, contestants
from tests.bench.traffic import Result
from tests.support.debian import put_first_on_path

SOCKETS = 32
STEP_SECONDS = 30
SPARE_SECONDS = 12


def main() -> None:
    """Parse the command line, measure, print."""
    put_first_on_path()
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--logins", type=int, default=4000, help="distinct users in a run")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each server, in turn")
    parser.add_argument("--windows", default="64,16", help="requests kept open, one or several")
    parser.add_argument("--only", help="names of servers, by comma")
    parser.add_argument("--json", type=Path, help="file for every figure")
    options = parser.parse_args()
    windows = [int(window) for window in options.windows.split(",")]
    chosen = {
        name: server
        for name, server in contestants().items()
        if not options.only or name in options.only.split(",")
    }
    users = options.logins * options.rounds * len(windows)
    with contextlib.ExitStack() as stack:
        print(f"Preparing {users} users for {', '.join(chosen)} ...", file=sys.stderr)
        running = {name: stack.enter_context(server(users)) for name, server in chosen.items()}
        for name, server in running.items():
            _warm_up(name, server, users)
        results = _measured(running, windows, options.rounds, options.logins)
        memory = {name: traffic.resident_mib(server.pid) for name, server in running.items()}
    _print(results, memory, windows)
    if options.json:
        options.json.write_text(json.dumps(_figures(results, memory), indent=2), "utf-8")


def _warm_up(name: str, server: Measured, users: int) -> None:
    """Log everybody in once, with the code before the present one: caches are warm then."""
    print(f"Warming up {name} ...", file=sys.stderr)
    batch = 2000
    for first in range(0, users, batch):
        chosen = range(first, min(first + batch, users))
        requests = traffic.encoded(chosen, traffic.time_step(), SOCKETS)
        result = traffic.run(requests, server.address, 64, SOCKETS, server.pid)
        if result.accepts != len(chosen):
            sys.exit(f"{name}: {result.rejects} rejected, {result.lost} lost while warming up")
    _next_step()


def _next_step() -> None:
    """Wait for a time step that no login has used yet, and that has time enough."""
    step = traffic.time_step()
    while traffic.time_step() == step:
        time.sleep(0.05)


def _room_in_step() -> None:
    if STEP_SECONDS - time.time() % STEP_SECONDS < SPARE_SECONDS:
        _next_step()


def _measured(
    running: dict[str, Measured], windows: list[int], rounds: int, logins: int
) -> dict[tuple[str, int], list[Result]]:
    results: dict[tuple[str, int], list[Result]] = {}
    first = 0
    for round_number in range(rounds):
        for window in windows:
            print(f"Round {round_number + 1} of {rounds}, window {window} ...", file=sys.stderr)
            users = range(first, first + logins)
            for name, server in running.items():
                _room_in_step()
                requests = traffic.encoded(users, traffic.time_step(), SOCKETS)
                result = traffic.run(requests, server.address, window, SOCKETS, server.pid)
                results.setdefault((name, window), []).append(result)
            first += logins
    return results


def _row(runs: list[Result]) -> dict[str, float]:
    def median(figures: list[float]) -> float:
        return statistics.median(figures)

    return {
        "logins_per_second": median([run.logins_per_second for run in runs]),
        "cpu_us_per_login": median([run.cpu_us for run in runs]),
        "p50_ms": median([run.percentile_ms(50) for run in runs]),
        "p95_ms": median([run.percentile_ms(95) for run in runs]),
        "p99_ms": median([run.percentile_ms(99) for run in runs]),
        "rejected": sum(run.rejects for run in runs),
        "lost": sum(run.lost for run in runs),
    }


def _figures(
    results: dict[tuple[str, int], list[Result]], memory: dict[str, float]
) -> dict[str, Any]:
    return {
        "machine": {"python": platform.python_version(), "processor": platform.machine()},
        "memory_mib": memory,
        "runs": [
            {"server": name, "window": window, **_row(runs)}
            for (name, window), runs in results.items()
        ],
    }


def _print(
    results: dict[tuple[str, int], list[Result]], memory: dict[str, float], windows: list[int]
) -> None:
    print(f"{'server':<20}{'window':>7}{'logins/s':>10}{'ratio':>7}{'CPU us':>8}", end="")
    print(f"{'p50 ms':>8}{'p95 ms':>8}{'p99 ms':>8}{'refused':>9}{'lost':>6}{'MiB':>6}")
    for window in windows:
        ours = _row(results[next(iter(results))[0], window])["logins_per_second"]
        for (name, of_window), runs in results.items():
            if of_window != window:
                continue
            row = _row(runs)
            print(
                f"{name:<20}{window:>7}{row['logins_per_second']:>10,.0f}"
                f"{ours / row['logins_per_second']:>7.2f}{row['cpu_us_per_login']:>8.0f}"
                f"{row['p50_ms']:>8.2f}{row['p95_ms']:>8.2f}{row['p99_ms']:>8.2f}"
                f"{row['rejected']:>9.0f}{row['lost']:>6.0f}{memory[name]:>6.0f}"
            )
    print("ratio: logins/s of radius-mfa over that server's; medians of the rounds")


if __name__ == "__main__":
    main()

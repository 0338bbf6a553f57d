"""Runs the contestants in turn, round after round, and prints medians and ratios."""

import argparse
import contextlib
import json
import platform
import statistics
import sys
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from tests.bench import hanging, ldap_servers, servers, traffic
from tests.bench.servers import Contestant, Measured
from tests.bench.traffic import SOCKETS, Result
from tests.support.debian import find, put_first_on_path

Results = dict[int, dict[str, list[Result]]]
"""Window to the name of a server to what each round saw."""

LDAP_USERS, LDAP_LOGINS, LDAP_WINDOW = 5_000, 2_500, 64

GROUPS = ("local", "ldap", "ldaps", "hanging")

_NEEDED = {
    "freeradius": ("freeradius", "FreeRADIUS is left out"),
    f"{servers.FREERADIUS_MODULES}/rlm_ldap.so": ("freeradius-ldap", "FreeRADIUS has no LDAP"),
    "slapd": ("slapd", "all that needs a directory is left out"),
}
"""Program or file to its Debian package, and what it is like without."""


@dataclass(frozen=True)
class Group:
    """Servers that are compared with the first of them; each run is *logins* of *users*."""

    contestants: dict[str, Contestant]
    users: int
    logins: int
    windows: list[int]


def main() -> None:
    """Parse the command line, measure, print."""
    put_first_on_path()
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--groups", default=",".join(GROUPS), help="comparisons, by comma")
    parser.add_argument("--logins", type=int, default=4000, help="local users in a run")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each server, in turn")
    parser.add_argument("--windows", default="64,16", help="requests kept open, for local users")
    parser.add_argument("--only", help="names of servers, by comma")
    parser.add_argument("--json", type=Path, help="file for every figure")
    options = parser.parse_args()
    wanted = options.groups.split(",")
    if unknown := set(wanted) - set(GROUPS):
        parser.error(f"--groups: {', '.join(unknown)}: not one of {', '.join(GROUPS)}")
    for needed, (package, without) in _NEEDED.items():
        if not find(needed):
            print(f"{without}: apt install {package}", file=sys.stderr)
    windows = [int(window) for window in options.windows.split(",")]
    only = options.only.split(",") if options.only else None
    groups = _groups(options.logins, options.rounds, windows, only)
    tables = [
        _compared(group, options.rounds)
        for name, group in groups.items()
        if name in wanted and group.contestants
    ]
    verdict = ""
    if "hanging" in wanted and find("slapd") and only is None:
        runs, memory = hanging.measured(LDAP_USERS, LDAP_LOGINS, LDAP_WINDOW, options.rounds)
        tables.append(_rows({LDAP_WINDOW: runs}, memory))
        verdict = hanging.verdict(*runs.values())
    _print(tables)
    print(verdict, end="")
    if options.json:
        machine = {"python": platform.python_version(), "processor": platform.machine()}
        figures = {"machine": machine, "runs": list(chain(*tables)), "hanging": verdict}
        options.json.write_text(json.dumps(figures, indent=2), "utf-8")


def _groups(
    logins: int, rounds: int, windows: list[int], only: list[str] | None
) -> dict[str, Group]:
    """Return what is compared by itself: local users, users of a slapd, and those over TLS.

    Of the servers *only* those named, or all.
    """

    def chosen(contestants: dict[str, Contestant]) -> dict[str, Contestant]:
        return {name: one for name, one in contestants.items() if only is None or name in only}

    local = chosen(servers.contestants())
    groups = {"local": Group(local, logins * rounds * len(windows), logins, windows)}
    if find("slapd"):
        for name, tls in (("ldap", False), ("ldaps", True)):
            contestants = chosen(ldap_servers.contestants(tls=tls))
            groups[name] = Group(contestants, LDAP_USERS, LDAP_LOGINS, [LDAP_WINDOW])
    return groups


def _compared(group: Group, rounds: int) -> list[dict[str, Any]]:
    contestants = group.contestants
    with contextlib.ExitStack() as stack:
        print(f"Preparing {group.users} users for {', '.join(contestants)} ...", file=sys.stderr)
        running = {name: stack.enter_context(one(group.users)) for name, one in contestants.items()}
        for name, server in running.items():
            print(f"Warming up {name} ...", file=sys.stderr)
            traffic.warm_up(group.users, server.address, server.pid)
        results = _measured(running, group, rounds)
        memory = {name: traffic.resident_mib(server.pid) for name, server in running.items()}
    return _rows(results, memory)


def _measured(running: dict[str, Measured], group: Group, rounds: int) -> Results:
    results: Results = {window: {name: [] for name in running} for window in group.windows}
    turns = traffic.turns(group.users, group.logins)
    for round_number in range(rounds):
        for window, runs in results.items():
            print(f"Round {round_number + 1} of {rounds}, window {window} ...", file=sys.stderr)
            users = next(turns)
            for name, server in running.items():
                traffic.room_in_step()
                requests = traffic.encoded(users, traffic.time_step(), SOCKETS)
                result = traffic.run(requests, server.address, window, SOCKETS, server.pid)
                runs[name].append(result)
    return results


def _rows(results: Results, memory: dict[str, float]) -> list[dict[str, Any]]:
    """Return medians of the rounds; *ratio* is the first server's logins a second over this one's.

    *memory* is in MiB by server.
    """
    rows = []
    for window, of_window in results.items():
        speeds = {
            name: statistics.median(run.logins_per_second for run in runs)
            for name, runs in of_window.items()
        }
        ours = next(iter(speeds.values()))
        for name, runs in of_window.items():
            percentiles = {
                f"p{percent}_ms": statistics.median(run.percentile_ms(percent) for run in runs)
                for percent in (50, 95, 99)
            }
            rows.append(
                {
                    "server": name,
                    "window": window,
                    "logins_per_second": speeds[name],
                    "ratio": ours / speeds[name],
                    "cpu_us_per_login": statistics.median(run.cpu_us for run in runs),
                    **percentiles,
                    "refused": sum(run.rejects for run in runs),
                    "lost": sum(run.lost for run in runs),
                    "resident_mib": memory[name],
                }
            )
    return rows


_COLUMNS = {
    "server": ("server", "<24", ""),
    "window": ("window", ">7", ""),
    "logins_per_second": ("logins/s", ">10", ",.0f"),
    "ratio": ("ratio", ">7", ".2f"),
    "cpu_us_per_login": ("CPU us", ">8", ".0f"),
    "p50_ms": ("p50 ms", ">8", ".2f"),
    "p95_ms": ("p95 ms", ">8", ".2f"),
    "p99_ms": ("p99 ms", ">8", ".2f"),
    "refused": ("refused", ">9", ""),
    "lost": ("lost", ">6", ""),
    "resident_mib": ("MiB", ">6", ".0f"),
}
"""Figure to its heading, its width, and how it is written."""


def _print(tables: list[list[dict[str, Any]]]) -> None:
    print("".join(format(heading, width) for heading, width, _ in _COLUMNS.values()))
    for rows in tables:
        for row in rows:
            cells = [format(row[name], width + form) for name, (_, width, form) in _COLUMNS.items()]
            print("".join(cells))
        print()
    print("ratio: logins/s of the first over that server's; medians of the rounds")


if __name__ == "__main__":
    main()

"""Sends mutated datagrams and logins to a real server; fails where anything grows or breaks."""

import argparse
import sys

from tests.soak.run import GROWTH_MIB, Report, Soak
from tests.support.debian import put_first_on_path


def main() -> None:
    """Parse the command line, soak, print."""
    put_first_on_path()
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--datagrams", type=int, default=1_000_000, help="mutated ones")
    parser.add_argument("--logins", type=int, default=1_000_000, help="right ones")
    parser.add_argument("--users", type=int, default=100_000, help="on record")
    parser.add_argument("--active", type=int, default=6_000, help="of them, who log in")
    parser.add_argument("--rounds", type=int, default=50, help="in which they are sent")
    parser.add_argument("--max-mib", type=float, default=150, help="of the server, in the end")
    parser.add_argument("--seed", type=int, default=1, help="of the mutations")
    options = parser.parse_args()
    soak = Soak(options.users, options.max_mib, options.seed, active=options.active)
    report = soak.run(options.rounds, options.datagrams, options.logins)
    show(report)
    sys.exit(bool(report.findings))


def show(report: Report) -> None:
    """Print the figures as a table, and every finding."""
    first, last = (report.samples[0], report.samples[-1]) if report.samples else (None, None)
    rows = [
        ("mutated datagrams", f"{report.datagrams:,}", f"{report.replies:,} answered"),
        ("logins", f"{report.accepts:,}", "accepted, each reply verified"),
        ("seconds", f"{report.seconds:,.0f}", f"{report.cpu_us_per_login:.0f} us CPU a login"),
    ]
    if first and last:
        rows += [
            ("memory, MiB", f"{last.rss_mib:.1f}", f"{first.rss_mib:.1f} after the first round"),
            ("growth, MiB", f"{report.growth_mib:.1f}", f"at most {GROWTH_MIB:.0f}"),
            ("descriptors", f"{last.descriptors}", f"{first.descriptors} after the first round"),
            ("tasks", f"{last.tasks}", f"{first.tasks} after the first round"),
            ("threads", f"{last.threads}", f"{first.threads} after the first round"),
        ]
    for name, figure, remark in rows:
        print(f"{name:<20}{figure:>12}  {remark}")
    for finding in report.findings:
        print(f"FOUND: {finding}")
    print("FAILED" if report.findings else "passed")


if __name__ == "__main__":
    main()

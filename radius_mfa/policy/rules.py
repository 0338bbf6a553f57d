"""Policy rules: which one a login falls under, and why the others do not apply.

The first rule in order whose every condition holds is the one. A fact that is not known yet, the
groups before a directory was asked or the method before the login proved itself, rules nothing
out: so a rule can be told to match, or not to, before everything is known. docs/policy.md.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any

from radius_mfa.policy.access import Mode
from radius_mfa.policy.attributes import ReplyAttribute
from radius_mfa.values import value

Network = IPv4Network | IPv6Network

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MINUTES_OF_A_DAY = 24 * 60


class Proof(StrEnum):
    """How a login proved itself: ``method`` of a rule, and of an accepted login in the log."""

    PASSWORD = "password"  # noqa: S105 - the name of one
    TOTP = "totp"
    RECOVERY_CODE = "recovery_code"


@dataclass(frozen=True, slots=True)
class Period:
    """Some hours of some days (0 is Monday), in minutes from midnight.

    One that ends before it begins goes on into the next day; it belongs to the day it begins on.
    """

    days: frozenset[int]
    begins: int = 0
    ends: int = MINUTES_OF_A_DAY

    def holds(self, moment: datetime) -> bool:
        """Return whether *moment* is inside; the end itself is not."""
        day, minute = moment.weekday(), moment.hour * 60 + moment.minute
        if self.begins < self.ends:
            return day in self.days and self.begins <= minute < self.ends
        began_yesterday = (day - 1) % len(DAYS) in self.days and minute < self.ends
        return (day in self.days and self.begins <= minute) or began_yesterday


_PERIOD = re.compile(
    r"(?P<days>[a-z]{3}(?:[-,][a-z]{3})*)?"
    r"(?:(?(days)\ +)(?P<begins>\d\d:\d\d)-(?P<ends>\d\d:\d\d))?"
)


def period(text: str) -> Period:
    """Return the period that *text* names, such as ``mon-fri 07:00-19:00``; or raise ValueError."""
    found = _PERIOD.fullmatch(text.strip().lower())
    if found is None or not found[0]:
        raise ValueError(f"{text!r} is not of the form mon-fri 07:00-19:00, sat,sun or 22:00-06:00")
    days = _days(found["days"]) if found["days"] else frozenset(range(len(DAYS)))
    if not found["begins"]:
        return Period(days)
    begins, ends = _minutes(found["begins"]), _minutes(found["ends"])
    if begins == ends:
        raise ValueError(f"{text!r} begins when it ends: leave the hours out for whole days")
    return Period(days, begins, ends)


def _days(text: str) -> frozenset[int]:
    found: set[int] = set()
    for span in text.split(","):
        first, _, last = span.partition("-")
        for name in (first, last or first):
            if name not in DAYS:
                raise ValueError(f"{name!r} is not a day: {', '.join(DAYS)}")
        begins, ends = DAYS.index(first), DAYS.index(last or first)
        found |= {(begins + number) % 7 for number in range((ends - begins) % 7 + 1)}
    return frozenset(found)


def _minutes(text: str) -> int:
    hours, minutes = map(int, text.split(":"))
    if hours * 60 + minutes > MINUTES_OF_A_DAY or minutes > 59:  # noqa: PLR2004 - of an hour
        raise ValueError(f"{text} is not a time of day: 00:00 to 24:00")
    return hours * 60 + minutes


@value
class Facts:
    """What a login is judged by.

    *station* is a normalised Calling-Station-Id, *moment* local time where the rules are at home.
    *groups* are keys (``policy.groups``), None while nobody has asked for them; *method* is empty
    before the login has proved itself.
    """

    client: str
    directory: str
    moment: datetime
    station: str = ""
    groups: frozenset[str] | None = None
    method: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """A ``[[rule]]``: conditions, of which an empty one holds for everybody, and effects.

    *mfa* takes the place of the client's. *refuse* rejects. *required* are attributes of *reply*
    without which there is no Accept.
    """

    name: str
    client: frozenset[str] = frozenset()
    directory: frozenset[str] = frozenset()
    station: tuple[Network, ...] = ()
    time: tuple[Period, ...] = ()
    group: frozenset[str] = frozenset()
    method: frozenset[str] = frozenset()
    mfa: Mode | None = None
    refuse: bool = False
    reply: tuple[ReplyAttribute, ...] = ()
    required: frozenset[str] = frozenset()

    @property
    def decides_early(self) -> bool:
        """Whether what is typed can't be judged before it is known if this rule matches."""
        return not self.method and (self.refuse or self.mfa is not None)


def _in_networks(networks: Sequence[Network], facts: Facts) -> bool:
    try:
        address = ip_address(facts.station)
    except ValueError:  # none was sent, or a MAC address
        return False
    return any(address in network for network in networks)


CONDITIONS: Mapping[str, Callable[[Any, Facts], bool]] = {
    "client": lambda wanted, facts: facts.client in wanted,
    "directory": lambda wanted, facts: facts.directory in wanted,
    "station": _in_networks,
    "time": lambda wanted, facts: any(one.holds(facts.moment) for one in wanted),
    "group": lambda wanted, facts: facts.groups is None or not wanted.isdisjoint(facts.groups),
    "method": lambda wanted, facts: not facts.method or facts.method in wanted,
}
"""Setting of a rule, and whether what it names holds; the cheap ones come first."""


def unmet(rule: Rule, facts: Facts) -> list[str]:
    """Return the conditions of *rule* that do not hold, by setting."""
    return [
        name
        for name, holds in CONDITIONS.items()
        if (wanted := getattr(rule, name)) and not holds(wanted, facts)
    ]


def possible(rules: Sequence[Rule], facts: Facts) -> list[Rule]:
    """Return the rules that may be the first match, by what is known: at most one once all is."""
    found = []
    for rule in rules:
        if unmet(rule, facts):
            continue
        found.append(rule)
        waits_for_groups = rule.group and facts.groups is None
        waits_for_method = rule.method and not facts.method
        if not waits_for_groups and not waits_for_method:
            break
    return found


def mode(rules: Sequence[Rule], default: Mode) -> Mode:
    """Return what the first of *possible* rules asks for; one with a method has no say in it."""
    first = next((rule for rule in rules if not rule.method), None)
    return default if first is None or first.mfa is None else first.mfa


@dataclass(frozen=True, slots=True)
class ClientPolicy:
    """What rules and groups are to the logins at one client.

    *groups_as* carries the user's groups to it; *group_names* are what it calls them, by key.
    *zone* is where the hours of the rules are at home.
    """

    rules: tuple[Rule, ...] = ()
    groups_as: ReplyAttribute | None = None
    group_names: Mapping[str, str] = field(default_factory=dict)
    zone: tzinfo = UTC

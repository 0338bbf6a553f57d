"""Policy rules: each condition, the first match, and what is told before all is known."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from radius_mfa.policy.access import Mode
from radius_mfa.policy.groups import group_key
from radius_mfa.policy.rules import CONDITIONS, Facts, Period, Rule, mode, period, possible, unmet

MONDAY = datetime(2026, 11, 23, 12, 30, tzinfo=UTC)
FACTS = Facts(
    client="asa-hq",
    directory="corp",
    moment=MONDAY,
    station="192.0.2.7",
    groups=frozenset({"vpn staff", "cn=vpn staff,ou=g"}),
    method="totp",
)


def at(day: int, hours: int, minutes: int = 0) -> datetime:
    """Return a moment of the week of MONDAY; day 0 is that one."""
    return MONDAY.replace(hour=hours, minute=minutes) + timedelta(days=day)


# What does not match

CELLS: list[tuple[str, Any, bool]] = [
    ("client", {"asa-hq", "other"}, True),
    ("client", {"asa"}, False),
    ("client", {"ASA-HQ"}, False),
    ("directory", {"corp"}, True),
    ("directory", {"local"}, False),
    ("station", (ip_network("10.0.0.0/8"), ip_network("192.0.2.0/24")), True),
    ("station", (ip_network("192.0.2.8/29"),), False),
    ("station", (ip_network("2001:db8::/32"),), False),
    ("time", (period("mon 12:00-13:00"),), True),
    ("time", (period("tue"), period("12:30-12:31")), True),
    ("time", (period("mon 12:31-13:00"),), False),
    ("group", {"ops", group_key("VPN Staff")}, True),
    ("group", {group_key("CN=VPN Staff, OU=g")}, True),
    ("group", {"vpn"}, False),
    ("method", {"totp", "password"}, True),
    ("method", {"recovery_code"}, False),
]


@pytest.mark.parametrize(("setting", "wanted", "holds"), CELLS)
def test_each_condition_holds_or_does_not(setting: str, wanted: Any, holds: bool) -> None:  # noqa: FBT001 - a cell
    values: Any = wanted if isinstance(wanted, tuple) else frozenset(wanted)
    conditions: dict[str, Any] = {setting: values}
    rule = Rule("one", **conditions)
    assert unmet(rule, FACTS) == ([] if holds else [setting])
    assert possible([rule], FACTS) == ([rule] if holds else [])


def test_every_condition_has_its_cells() -> None:
    assert {setting for setting, _, _ in CELLS} == set(CONDITIONS)


def test_what_does_not_hold_is_told_in_full() -> None:
    rule = Rule("x", frozenset({"a"}), frozenset({"b"}), group=frozenset({"c"}))
    assert unmet(rule, FACTS) == ["client", "directory", "group"]


@pytest.mark.parametrize("station", ["", "02005e100001", "vpn-7", "192.0.2.7/32", "192.0.2"])
def test_a_station_that_is_no_address_is_in_no_network(station: str) -> None:
    """Or else a gateway that sends none would open what a network is to keep shut."""
    rule = Rule("inside", station=(ip_network("0.0.0.0/0"), ip_network("::/0")))
    assert unmet(rule, replace(FACTS, station=station)) == ["station"]
    assert unmet(rule, replace(FACTS, station="2001:db8::1")) == []


def test_the_first_match_in_order_is_the_one() -> None:
    rules = [
        Rule("other client", client=frozenset({"b"})),
        Rule("first", group=frozenset({"vpn staff"})),
        Rule("everybody"),
    ]
    assert [one.name for one in possible(rules, FACTS)] == ["first"]
    nobody = replace(FACTS, groups=frozenset())
    assert [one.name for one in possible(rules, nobody)] == ["everybody"]
    assert possible(rules[:2], nobody) == []
    assert possible([], FACTS) == []


def test_what_is_not_known_yet_rules_nothing_out() -> None:
    """So one knows whether the groups have to be asked for, and whether before the password."""
    staff = Rule("staff", group=frozenset({"staff"}), mfa=Mode.REQUIRED)
    lost = Rule("lost phone", method=frozenset({"recovery_code"}), refuse=True)
    rest, never = Rule("rest"), Rule("never")
    rules = [staff, lost, rest, never]
    early = replace(FACTS, groups=None, method="")
    assert possible(rules, early) == [staff, lost, rest]
    assert possible(rules, replace(early, groups=frozenset({"staff"}))) == [staff]
    assert possible(rules, replace(early, groups=frozenset())) == [lost, rest]
    assert possible(rules, replace(early, method="totp")) == [staff, rest]
    assert possible(rules, replace(FACTS, method="recovery_code")) == [lost]
    assert [rule.decides_early for rule in rules] == [True, False, False, False]


def test_the_mode_is_that_of_the_first_rule_that_does_not_wait_for_the_method() -> None:
    lost = Rule("lost phone", method=frozenset({"recovery_code"}))
    quiet, loud = Rule("quiet"), Rule("loud", mfa=Mode.OFF)
    assert mode([], Mode.ENROLLED) is Mode.ENROLLED
    assert mode([lost], Mode.ENROLLED) is Mode.ENROLLED
    assert mode([lost, loud], Mode.ENROLLED) is Mode.OFF
    assert mode([quiet, loud], Mode.ENROLLED) is Mode.ENROLLED


# Periods

PERIODS = [
    ("mon-fri 07:00-19:00", [at(0, 7), at(4, 18, 59)], [at(0, 6, 59), at(4, 19), at(5, 12)]),
    ("sat,sun", [at(5, 0), at(6, 23, 59)], [at(4, 23, 59), at(0, 0)]),
    ("22:00-06:00", [at(2, 22), at(3, 5, 59), at(0, 0)], [at(2, 21, 59), at(3, 6)]),
    ("fri 22:00-06:00", [at(4, 23), at(5, 5, 59)], [at(4, 5), at(5, 22), at(5, 6)]),
    ("sun 23:00-01:00", [at(6, 23), at(0, 0, 59)], [at(0, 23), at(6, 0)]),
    ("sat-mon 00:00-24:00", [at(5, 0), at(6, 12), at(0, 23, 59)], [at(1, 0), at(4, 23)]),
    ("MON,wed-thu 08:00-09:00", [at(0, 8), at(2, 8), at(3, 8)], [at(1, 8), at(4, 8)]),
    ("20:00-24:00", [at(0, 20), at(0, 23, 59)], [at(0, 19, 59), at(1, 0)]),
]


@pytest.mark.parametrize(("text", "inside", "outside"), PERIODS)
def test_a_period_holds_when_it_says(
    text: str, inside: list[datetime], outside: list[datetime]
) -> None:
    """Its end is not part of it; what goes past midnight belongs to the day it begins on."""
    made = period(text)
    assert [moment for moment in inside if not made.holds(moment)] == []
    assert [moment for moment in outside if made.holds(moment)] == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "monday",
        "mon-fri 7:00-19:00",
        "07:00",
        "mon 25:00-26:00",
        "mon 24:01-25:00",
        "mon 10:60-11:00",
        "mon 10:00-10:00",
        "xyz",
        "mon-",
        "mon fri",
        "mon07:00-08:00",
        "07:00-08:00 mon",
        "\u0660\u0667:00-08:00 x",
    ],
)
def test_what_is_no_period_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"mon|begins when it ends|not a time of day"):
        period(text)


def test_a_period_is_of_the_local_wall_clock() -> None:
    """The hours stay the same when the clocks change."""
    berlin, office = ZoneInfo("Europe/Berlin"), Period(frozenset(range(7)), 7 * 60, 19 * 60)
    winter = datetime(2026, 1, 5, 6, 30, tzinfo=UTC)
    summer = datetime(2026, 7, 6, 5, 30, tzinfo=UTC)
    assert office.holds(winter.astimezone(berlin))
    assert office.holds(summer.astimezone(berlin))
    assert not office.holds(winter.replace(hour=5).astimezone(berlin))

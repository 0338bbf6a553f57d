"""Requiring a second factor, whom a mode cuts off, and the audit trail, as an admin types."""

import getpass
import os
import pwd
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from radius_mfa.cli import common
from tests.functional.test_cli import Command, in_process, refused
from tests.support.server import Site

CLIENTS = [
    {"name": "hq", "address": "192.0.2.1"},
    {"name": "branch", "address": "192.0.2.2", "mfa": "required"},
    {"name": "lab", "address": "192.0.2.3", "mfa": "off"},
]


@pytest.fixture
def staff(tmp_path: Path) -> Iterator[Site]:
    """Alice has a device; bob and carol have none."""
    with Site(tmp_path, clients=CLIENTS) as site:
        site.add_users(["alice"])
        site.add_users(["bob", "carol"], seed=None)
        yield site


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], staff: Site
) -> Iterator[Command]:
    with in_process(monkeypatch, capsys, staff.config) as call:
        yield call


def columns(command: Command, *words: str) -> dict[str, tuple[str, str]]:
    """Return MFA: TOTP and MFA: User Requirement of each user that the list shows."""
    lines = command("user", "list", *words).out.splitlines()
    return {
        cells[0]: (cells[2], cells[3])
        for cells in (re.split(r" {2,}", line) for line in lines[1:])
        if len(cells) > 3
    }


def test_the_columns_follow_what_is_required(command: Command) -> None:
    assert columns(command) == {
        "alice": ("Enrolled", "Not required"),
        "bob": ("Not enrolled", "Not required"),
        "carol": ("Not enrolled", "Not required"),
    }
    done = command("user", "require", "BOB", "alice", "bob", "--days", "3")
    assert re.match(r"Required of 2 users, who can enrol until \d{4}-\d\d-\d\d", done.out)
    done = command("user", "require", "--everyone", "--days", "0")
    assert "Required of 1 user, at once." in done.out
    assert "required of 2 already, who keep their period" in done.out
    reason = ("--reason", "abroad")
    assert command("user", "exempt", "carol", "--until", "2099-01-01", *reason).exit_code == 1
    assert columns(command) == {
        "alice": ("Enrolled", "Required"),
        "bob": ("In enrolment (3 days left)", "Required"),
        "carol": ("Expired", "Required"),
    }
    assert command("user", "extend", "carol", "--days", "1").exit_code == 0
    assert command("user", "suspend", "alice", "--factor").exit_code == 0
    assert command("user", "withdraw", "bob").exit_code == 0
    assert columns(command) == {
        "alice": ("Disabled", "Required"),
        "bob": ("Not enrolled", "Not required"),
        "carol": ("In enrolment (1 day left)", "Required"),
    }
    assert command("user", "resume", "alice", "--factor").exit_code == 0
    assert command("user", "reset", "alice", "--yes").exit_code == 0
    assert columns(command)["alice"] == ("In enrolment (7 days left)", "Required")


def test_an_exemption_is_shown_with_its_end_and_reason(command: Command) -> None:
    day = f"{datetime.now().astimezone() + timedelta(days=30):%Y-%m-%d}"
    end = f"{datetime.fromisoformat(day) + timedelta(days=1):%Y-%m-%d} 00:00"
    done = command("user", "exempt", "bob", "carol", "--until", day, "--reason", "abroad")
    assert done.out == f"2 users exempt until {end}.\n", "to the end of that day"
    assert columns(command)["bob"] == ("Not enrolled", f"Exempt until {end}")
    shown = command("user", "show", "bob").out
    assert re.search(r"^exempt because: +abroad$", shown, re.MULTILINE)
    assert command("user", "exempt", "bob", "--end").out == "1 exemption ended.\n"
    assert "exempt because" not in command("user", "show", "bob").out
    assert command("user", "show", "bob", "--json").json()["mfa"]["exempt_until"] is None


@pytest.mark.parametrize(
    ("words", "exit_code", "message"),
    [
        ("require", 1, "name users, or say --everyone"),
        ("require bob --everyone", 1, "name users, or say --everyone"),
        ("require bob nobody", 1, "there is no user nobody"),
        ("require bob --days 366", 1, "366 days: it must be 0 to 365"),
        ("require bob --from soon", 2, "Invalid value for --from: soon is neither a date"),
        ("extend bob", 1, "nothing was extended: no second factor is required of them"),
        ("exempt bob --until 2027-01-01", 1, "an exemption needs an end and a reason"),
        ("exempt bob --reason abroad", 1, "an exemption needs an end and a reason"),
        ("exempt bob --reason x --until 2020-01-01", 1, "an exemption ends in the future, and"),
        ("reset nobody --yes", 1, "there is no user nobody"),
        ("suspend nobody --factor", 1, "there is no user nobody"),
        ("unlock alice nobody", 1, "there is no user nobody"),
    ],
)
def test_what_is_refused_changes_nothing(
    command: Command, words: str, exit_code: int, message: str
) -> None:
    before = command("user", "list", "--json").out, command("audit", "list", "--json").out
    assert refused(command("user", *words.split()), exit_code).startswith(message)
    assert (command("user", "list", "--json").out, command("audit", "list", "--json").out) == before


@pytest.mark.parametrize(
    ("words", "users"),
    [
        ("--totp enrolled", ["alice"]),
        ("--totp in-enrolment", ["bob"]),
        ("--totp not-enrolled", ["carol"]),
        ("--totp pending", []),
        ("--requirement required", ["alice", "bob"]),
        ("--requirement not-required", ["carol"]),
        ("--requirement exempt", []),
        ("--state suspended", ["carol"]),
        ("--state active --requirement required --totp enrolled", ["alice"]),
    ],
)
def test_the_list_is_filtered(command: Command, words: str, users: list[str]) -> None:
    command("user", "require", "alice", "bob")
    command("user", "suspend", "carol")
    assert list(columns(command, *words.split())) == users
    listed = command("user", "list", *words.split(), "--json").json()
    assert [user["name"] for user in listed] == users
    if not users:
        assert command("user", "list", *words.split()).out == "None.\n"


@pytest.mark.parametrize(
    ("words", "cut_off"),
    [
        ("branch --mode always", ["bob"]),
        ("branch --mode enrolled", []),
        ("branch --mode off", []),
        ("branch", ["carol"]),
        ("hq", ["bob", "carol"]),
        ("hq --mode required", []),
        ("lab --mode always", ["bob", "carol"]),
        ("lab --mode required", ["carol"]),
        ("lab --mode enrolled", []),
    ],
)
def test_preview_lists_whom_a_change_would_cut_off(
    command: Command, words: str, cut_off: list[str]
) -> None:
    """Alice is enrolled, bob in the period, carol never required; nothing is changed."""
    command("user", "require", "bob")
    found = command("client", "preview", *words.split(), "--json").json()
    assert [row["user"] for row in found["cut_off"]] == cut_off
    text = command("client", "preview", *words.split()).out
    assert f"{len(cut_off)} of 3 users" in text
    for row in found["cut_off"]:
        assert re.search(rf"^{row['user']} +.* +{row['then']}$", text, re.MULTILINE)
    clients = command("client", "list", "--json").json()
    assert [client["mfa"] for client in clients] == ["always", "required", "off"]


def test_preview_of_a_client_that_there_is_not(command: Command) -> None:
    assert "nowhere" in refused(command("client", "preview", "nowhere"))


def entries(command: Command, *words: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = command("audit", "list", "--json", *words).json()
    return found


def test_the_trail_says_who_did_it(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through sudo: who called it, and as whom."""
    monkeypatch.delenv("SUDO_USER", raising=False)
    login = getpass.getuser()
    command("user", "suspend", "bob")
    monkeypatch.setenv("SUDO_USER", "mallory")
    command("user", "resume", "bob")
    monkeypatch.setenv("SUDO_USER", "x\x1b[31m")
    command("user", "passwd", "bob", text="another\n")
    found = entries(command, "--user", "BOB")[-3:]
    assert [(one["who"], one["act"]) for one in found] == [
        (login, "user.suspend"),
        ("mallory", "user.resume"),
        (login, "user.password"),
    ]
    assert found[0]["origin"].startswith("command line on ")
    assert found[1]["origin"].endswith(f", as {login}")
    assert [one["act"] for one in entries(command, "--by", "mallory")] == ["user.resume"]
    assert len(entries(command, "--last", "2")) == 2
    assert len(entries(command, "--last", "0")) == entries(command)[-1]["number"]
    assert re.search(r"mallory +user\.resume +bob +- +command line", command("audit", "list").out)


def test_verify_names_the_row_that_was_changed(command: Command, staff: Site) -> None:
    done = command("audit", "verify")
    assert "none changed, removed or slipped in" in done.out
    digest = done.out.split()[-1]
    command("user", "suspend", "bob")
    assert command("audit", "verify", "--noted", digest).exit_code == 0
    assert command("audit", "verify", "--json").json()["broken"] is None
    with closing(sqlite3.connect(staff.data / "radius-mfa.db")) as database:
        with pytest.raises(sqlite3.IntegrityError, match="only appended to"):
            database.execute("UPDATE audit SET who = 'nobody'")
        database.execute("DROP TRIGGER audit_no_update")
        database.execute("UPDATE audit SET who = 'nobody' WHERE number = 2")
        database.commit()
    assert refused(command("audit", "verify")).startswith("the audit trail breaks at row 2: ")


def test_nobody_s_name_is_not_root_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container the user may have no name: then it is the number."""
    monkeypatch.delenv("SUDO_USER", raising=False)

    def unknown(_uid: int) -> None:
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    assert common.operator().who == "4711"

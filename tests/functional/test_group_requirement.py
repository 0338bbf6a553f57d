"""A second factor required of a directory's group, and of everyone in it, before they ever came."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from radius_mfa.app import Stores
from tests.functional.test_cli import Command, in_process, refused
from tests.support.radius import ACCESS_ACCEPT, ACCESS_REJECT
from tests.support.server import PASSWORD, RunningServer, Site
from tests.support.slapd import SEARCH_PASSWORD, SUFFIX, RealSlapd, group, person

TRAINEES = f"cn=trainees,ou=groups,{SUFFIX}"


@pytest.fixture(scope="module")
def slapd() -> Iterator[RealSlapd]:
    with RealSlapd() as server:
        server.add(
            *(person(name, PASSWORD, mail=[f"{name}@corp.example"]) for name in ("anna", "bert")),
            *(
                person(name, PASSWORD)
                for name in ("cleo", "dora", "eva", "finn", "gina", "hugo", "iris")
            ),
            person("left", PASSWORD, "people", **_SHADOW),
            group("trainees", "cleo"),
            group("vpn", "anna", "bert", "left", TRAINEES),
            group("growing", "eva"),
            group("kin", "gina", "hugo"),
            group("nobodies", f"cn=search,{SUFFIX}"),
            group("own", "anna"),
        )
        dn, attributes = group("twins", "anna")
        server.add((dn, attributes), (dn.replace("ou=groups", "ou=staff"), attributes))
        yield server


_SHADOW = {
    "objectClass": ["inetOrgPerson", "posixAccount", "shadowAccount"],
    "shadowExpire": ["1"],
    "uidNumber": ["1"],
    "gidNumber": ["1"],
    "homeDirectory": ["/"],
}


@pytest.fixture(scope="module")
def server(slapd: RealSlapd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One server for all; each test that changes something has a group of its own."""
    section = slapd.section(realms=["corp", "corp.example"])
    clients = [{"name": "nas", "address": "127.0.0.1", "mfa": "enrolled"}]
    sections = {"directory": {"ldap": [section]}}
    with Site(tmp_path_factory.mktemp("groups"), sections, clients=clients) as site:
        site.canaries.add(SEARCH_PASSWORD)
        site.add_users(["local"], seed=None)

        async def join(stores: Stores) -> None:
            await stores.enrolments.join("local", ["Own", "here"])

        site.with_stores(join)
        yield site.start()


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], server: RunningServer
) -> Iterator[Command]:
    with in_process(monkeypatch, capsys, server.site.config) as call:
        yield call


def required(command: Command) -> list[str]:
    users = command("user", "list", "--requirement", "required", "--json").json()
    return sorted(user["name"] for user in users)


# Refusals


@pytest.mark.parametrize(
    ("words", "message", "cure"),
    [
        ("--group vpm", "there is no group vpm in local, corp", "did you mean vpn?"),
        ("--group q", "there is no group q in local, corp", "radius-mfa directory test"),
        ("--group vpn --directory local", "there is no group vpn in local", "radius-mfa"),
        ("--group vpn --directory none", "there is no directory none", "known: local, corp"),
        ("--group nobodies", "nobody in the group nobodies is a user of corp", "base and filter"),
        ("--group twins", "twins stands for 2 groups: cn=twins,ou=", "--directory corp"),
        ("--group own", "own stands for 2 groups: cn=own,", f"cn=own,ou=groups,{SUFFIX}"),
        ("--group vpn anna", "name users, or say --everyone, or --group", ""),
        ("--group vpn --everyone", "name users, or say --everyone, or --group", ""),
        ("--directory corp anna", "--directory says where a group is", "say --group as well"),
        ("--group vpn --days 366", "366 days: it must be 0 to 365", ""),
        ("--group vpn --days 366 --dry-run", "366 days: it must be 0 to 365", ""),
    ],
)
def test_what_is_refused_changes_nothing_and_says_the_cure(
    command: Command, words: str, message: str, cure: str
) -> None:
    before = command("user", "list", "--json").out, command("audit", "list", "--json").out
    done = command("user", "require", *words.split())
    assert refused(done).startswith(message)
    assert cure in done.err
    assert (command("user", "list", "--json").out, command("audit", "list", "--json").out) == before


def test_a_directory_that_is_away_is_no_empty_one(command: Command, slapd: RealSlapd) -> None:
    """Neither for a group nor for everyone; what is kept here can be named."""
    slapd.hang()
    try:
        for words in ("--group vpn", "--group here", "--everyone"):
            done = command("user", "require", *words.split())
            assert done.exit_code == 4
            assert "directory does not answer: corp: ldaps://" in done.err
        assert "local" not in required(command)
        assert command("user", "require", "--group", "HERE", "--directory", "local").exit_code == 0
        assert "local" in required(command)
    finally:
        slapd.go_on()


# What it does


def test_the_members_of_a_group_are_required_before_they_ever_came(
    command: Command, server: RunningServer
) -> None:
    """Nested members too, by the key that every form of their name stands for at the NAS."""
    assert login(server, "anna") == ACCESS_ACCEPT
    dry = command("user", "require", "--group", "VPN", "--days", "0", "--dry-run").out
    assert "Dry run, nothing was changed. It would be:\nRequired of 3 users, at once." in dry
    assert login(server, "corp\\anna") == ACCESS_ACCEPT
    done = command("user", "require", "--group", "VPN", "--days", "0").out
    assert f"cn=vpn,ou=groups,{SUFFIX} of corp: 3 users.\nRequired of 3 users, at once." in done
    assert "On record only now: 3 of them." in done
    assert "Left out: 1 account, disabled or ended in the directory." in done
    for form in ("anna", "CORP\\Anna", "ANNA@corp.example", "cleo"):
        assert login(server, form) == ACCESS_REJECT, form
        name = form.lower().removeprefix("corp\\").removesuffix("@corp.example")
        assert server.line("login.rejected", user=name)["reason"] == "enrollment_expired"
    assert login(server, "dora") == ACCESS_ACCEPT
    assert {"anna", "bert", "cleo"} <= set(required(command))
    assert not {"left", "dora"} & set(required(command))
    shown = command("user", "show", "anna", "--json").json()
    assert (shown["directory"], shown["mail"]) == ("corp", "anna@corp.example")
    trail = [
        (one["act"], one["detail"].get("group", ""))
        for one in command("audit", "list", "--json").json()
        if one["called"] == "cleo"
    ]
    whose = f"cn=vpn,ou=groups,{SUFFIX} of corp"
    assert trail == [("user.add", ""), ("requirement.require", whose)]
    assert command("audit", "verify").exit_code == 0


def login(server: RunningServer, user: str) -> int:
    with server.nas() as nas:
        return nas.login(user, PASSWORD).code


def test_again_it_is_for_who_came_since(command: Command, slapd: RealSlapd) -> None:
    """A timer may say it every night: nobody's period begins anew."""
    dn = f"cn=growing,ou=groups,{SUFFIX}"
    command("user", "require", "--group", dn, "--days", "3")
    slapd.modify(dn, member=[f"uid={name},ou=people,{SUFFIX}" for name in ("eva", "finn")])
    done = command("user", "require", "--group", "growing", "--days", "30").out
    assert re.search(r"^Required of 1 user, who can enrol until", done, re.MULTILINE)
    assert "It was required of 1 already, who keep their period." in done
    shown = command("user", "list", "--requirement", "required").out
    assert re.search(r"eva .*\(3 days left\)", shown)
    assert re.search(r"finn .*\(30 days left\)", shown)


def test_a_group_is_extended_exempted_and_withdrawn_as_it_was_required(command: Command) -> None:
    """Of those on record; an exemption, like a requirement, is for who never came as well."""
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).date().isoformat()
    nothing = command("user", "withdraw", "--group", "kin")
    assert f"nobody of cn=kin,ou=groups,{SUFFIX} of corp is on record here" in refused(nothing)
    command("user", "require", "gina", "--days", "1")
    extended = command("user", "extend", "--group", "kin", "--days", "2").out
    assert extended == "1 user can enrol for 2 more days.\n"
    exempt = ("--group", "kin", "--until", tomorrow, "--reason", "move")
    assert command("user", "exempt", *exempt).out.startswith("2 users exempt until")
    assert command("user", "exempt", "--group", "kin", "--end").out == "2 exemptions ended.\n"
    assert command("user", "withdraw", "--group", "kin").out == "Withdrawn for 1 user.\n"
    assert not {"gina", "hugo"} & set(required(command))


def test_a_preview_names_those_who_never_came(command: Command, slapd: RealSlapd) -> None:
    """But whom the directory refuses anyway; one that can't be asked is named, not empty."""
    found = command("client", "preview", "nas", "--mode", "always", "--json").json()
    assert found["unlisted"] == {}
    [iris] = [row for row in found["cut_off"] if row["user"] == "iris"]
    assert (iris["directory"], iris["now"]) == ("corp", "password alone")
    assert iris["then"] == "not_enrolled"
    assert "left" not in [row["user"] for row in found["cut_off"]]
    refused_now = command("client", "preview", "nas").out
    assert re.search(r"^left .* expired in the directory +expired in", refused_now, re.MULTILINE)
    assert "iris" not in refused_now
    slapd.hang()
    try:
        away = command("client", "preview", "nas", "--mode", "always")
    finally:
        slapd.go_on()
    assert away.exit_code == 0
    assert "users of corp who are not on record here are left out: corp: ldaps://" in away.err
    assert "iris" not in away.out


def test_everyone_is_who_is_on_record_and_all_whom_a_directory_has(command: Command) -> None:
    """Withdrawing it from everyone puts nobody on record."""
    done = command("user", "require", "--everyone").out
    assert re.search(r"^Required of \d+ users, who can enrol until", done, re.MULTILINE)
    assert re.search(r"^On record only now: \d+ of them.$", done, re.MULTILINE)
    assert "Left out: 1 account" in done
    everyone = ["anna", "bert", "cleo", "dora", "eva", "finn", "gina", "hugo", "iris", "local"]
    assert required(command) == everyone
    assert command("user", "withdraw", "--everyone").out == "Withdrawn for 10 users.\n"
    assert required(command) == []

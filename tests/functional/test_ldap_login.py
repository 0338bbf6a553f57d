"""VPN logins of users whose passwords live in a real slapd."""

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from radius_mfa.app import Stores
from tests.functional.test_cli import in_process
from tests.support import totp
from tests.support.radius import ACCESS_ACCEPT, ACCESS_REJECT, Nas
from tests.support.server import PASSWORD, RunningServer, Site, eventually, new_device
from tests.support.slapd import (
    ROOT_PASSWORD,
    SEARCH_PASSWORD,
    SUFFIX,
    RealSlapd,
    group,
    person,
)

LOCAL_PASSWORD = "canary-local-password"
SEED = "MNQW4YLSPEWXGZLFMQWTEMBNN5RXIZLU"


@pytest.fixture(scope="module")
def slapd() -> Iterator[RealSlapd]:
    with RealSlapd() as server:
        server.add(
            *(person(f"user{number}", PASSWORD) for number in range(20)),
            person("grün", PASSWORD),
            person("twin", PASSWORD),
            person("twin", PASSWORD, ou="staff"),
            person("admin", PASSWORD),
            group("vpn", "user0"),
        )
        yield server


@pytest.fixture(scope="module")
def server(slapd: RealSlapd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    section = slapd.section(realms=["corp", "corp.example"], lookup_cache_seconds=300)
    sections = {
        "directory": {"ldap": [section]},
        "lockout": {"failures_by_source": 3, "failures_by_user": 0},
    }
    with Site(tmp_path_factory.mktemp("ldap"), sections) as site:
        site.canaries |= {SEARCH_PASSWORD, ROOT_PASSWORD, LOCAL_PASSWORD}
        site.add_users(["admin"], LOCAL_PASSWORD)
        enrol(site, "user1", "user2", *(f"user{number}" for number in range(4, 11)), "grün")
        yield site.start()


@pytest.fixture
def nas(server: RunningServer) -> Iterator[Nas]:
    with server.nas() as opened:
        yield opened


def enrol(site: Site, *users: str) -> None:
    """Do what ``device add`` does."""

    async def work(stores: Stores) -> None:
        for user in users:
            found = await stores.directories.identify(user)
            await stores.enrolments.know(found)
            await stores.enrolments.add_device(
                found.key, new_device("phone", totp.SEED), confirmed=True
            )

    site.with_stores(work)


def key_of(server: RunningServer, user: str) -> str:
    found = server.site.with_stores(lambda stores: stores.directories.identify(user))
    return str(found.key)


def unlock(server: RunningServer, user: str) -> None:
    key = key_of(server, user)
    server.site.with_stores(lambda stores: stores.attempts.unlock(key))


def dn(user: str) -> str:
    return f"uid={user},ou=people,{SUFFIX}"


def reason(server: RunningServer, user: str) -> str:
    return str(server.line("login.rejected", user=user)["reason"])


def test_a_login_brings_the_mail_address_that_the_directory_gives_now(
    server: RunningServer, slapd: RealSlapd
) -> None:
    """The login does not wait for it, and nothing is written where it is as it was."""
    site = server.site
    slapd.add(person("mailed", PASSWORD, mail=["mailed@corp.example"]))

    async def known_before(stores: Stores) -> None:
        found = replace(await stores.directories.identify("mailed"), mail="old@corp.example")
        await stores.enrolments.know(found)
        device = new_device("phone", totp.SEED)
        await stores.enrolments.add_device(found.key, device, confirmed=True)

    site.with_stores(known_before)
    key = key_of(server, "mailed")

    def address() -> str | None:
        record = site.with_stores(lambda stores: stores.enrolments.user(key))
        return str(record.mail)

    assert address() == "old@corp.example"
    with server.nas() as opened:
        assert opened.login("mailed", PASSWORD + totp.code()).code == ACCESS_ACCEPT
    eventually(lambda: address() == "mailed@corp.example", "the address to be noted")


# Refusals


def test_wrong_password_code_and_the_rest_are_refused(
    server: RunningServer, slapd: RealSlapd, nas: Nas
) -> None:
    """A06, A05, rule 3: a wrong code costs no bind, a wrong password one, nothing typed none."""
    before = slapd.binds_of(dn("user1"))
    for typed, why, binds in (
        (PASSWORD + totp.wrong_code(), "wrong_code", 0),
        (totp.code(), "empty_password", 0),
        ("", "empty_password", 0),
    ):
        assert nas.login("user1", typed).code == ACCESS_REJECT
        assert reason(server, "user1") == why
        assert slapd.binds_of(dn("user1")) == before + binds
    unlock(server, "user1")
    assert nas.login("user1", "wrong" + totp.code()).code == ACCESS_REJECT
    assert reason(server, "user1") == "wrong_password"
    assert slapd.binds_of(dn("user1")) == before + 1
    assert nas.login("user1", PASSWORD + totp.code()).code == ACCESS_ACCEPT


def test_a_locked_user_s_request_reaches_no_bind(
    server: RunningServer, slapd: RealSlapd, nas: Nas
) -> None:
    """O13, rule 2: in whatever form the name is typed, and the code is not used up."""
    for number, name in enumerate(("user2", "CORP\\USER2", "User2@corp.example")):
        assert nas.login(name, f"wrong{number}{totp.code()}").code == ACCESS_REJECT
    bound = slapd.binds_of(dn("user2"))
    assert nas.login("\uff55ser2", PASSWORD + totp.code()).code == ACCESS_REJECT
    assert reason(server, "\uff55ser2") == "account_locked"
    assert slapd.binds_of(dn("user2")) == bound
    unlock(server, "user2")
    assert nas.login("user2", PASSWORD + totp.code()).code == ACCESS_ACCEPT


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("twin", "ambiguous_user"),
        ("user3", "not_enrolled"),
        ("nobody", "unknown_user"),
        ("*", "unknown_user"),
        ("user0)(uid=*", "unknown_user"),
        ("user0\\", "unknown_user"),
        ("user0@elsewhere.example", "unknown_user"),
        ("corp\\", "invalid_user_name"),
        ("user0\x00", "invalid_user_name"),
    ],
    ids=ascii,
)
def test_names_that_are_nobody_s_are_refused(
    server: RunningServer, nas: Nas, name: str, why: str
) -> None:
    """P11: a filter character is a character, and two entries of one name are no user."""
    assert nas.login(name, PASSWORD + totp.code()).code == ACCESS_REJECT
    shown = name.replace("\x00", "\\x00")
    assert server.lines("login.rejected", user=shown)[-1]["reason"] == why


def test_the_local_directory_s_users_come_first(
    server: RunningServer, slapd: RealSlapd, nas: Nas
) -> None:
    """Found, not bound: a wrong password in one directory is not tried in the next."""
    assert nas.login("admin", PASSWORD + totp.code()).code == ACCESS_REJECT
    assert slapd.binds_of(dn("admin")) == 0
    assert nas.login("admin", LOCAL_PASSWORD + totp.code()).code == ACCESS_ACCEPT
    assert server.line("login.accepted", user="admin")["directory"] == "local"
    assert nas.login("corp\\admin", LOCAL_PASSWORD + totp.code()).code == ACCESS_REJECT
    assert reason(server, "corp\\admin") == "not_enrolled"


# Logins


@pytest.mark.parametrize(
    ("number", "name"), list(enumerate(["USER4", "corp\\user5", "user6@CORP.example", "grün"], 4))
)
def test_every_form_of_a_name_is_one_user(
    server: RunningServer, slapd: RealSlapd, nas: Nas, number: int, name: str
) -> None:
    """A07: one key for seed and replay; a login costs one bind."""
    user = name if name == "grün" else f"user{number}"
    typed = PASSWORD + totp.code()
    assert nas.login(name, typed).code == ACCESS_ACCEPT
    line = server.line("login.accepted", user=name)
    assert (line["canonical_user"], line["directory"]) == (user, "corp")
    assert slapd.binds_of(dn(user)) == 1 or name == "grün"  # which stands in base64 in its log
    assert nas.login(user, typed).code == ACCESS_REJECT
    assert reason(server, user) == "code_replayed"


def test_a_renamed_user_keeps_device_and_history(
    server: RunningServer, slapd: RealSlapd, nas: Nas
) -> None:
    """The key is entryUUID: the device stays, and so does the memory of the used code."""
    typed = PASSWORD + totp.code()
    assert nas.login("user8", typed).code == ACCESS_ACCEPT
    slapd.rename(dn("user8"), "uid=user8-smith")
    assert nas.login("user8-smith", typed).code == ACCESS_REJECT
    assert reason(server, "user8-smith") == "code_replayed"


def test_a_user_moved_while_the_lookup_is_cached_is_not_counted_a_failure(
    server: RunningServer, slapd: RealSlapd, nas: Nas
) -> None:
    """The bind to the old place proves nothing: no reply, and the NAS's repeat goes through."""
    assert nas.login("user9", PASSWORD + totp.wrong_code()).code == ACCESS_REJECT
    key = key_of(server, "user9")
    before = server.site.failures(key)
    slapd.rename(dn("user9"), "uid=user9", f"ou=staff,{SUFFIX}")
    request = nas.access_request("user9", PASSWORD + totp.code())
    nas.send(request)
    line = server.line("login.unanswered", user="user9")
    assert (line["backend"], line["cause"]) == ("directory", "corp: the user's entry has moved")
    assert server.site.failures(key) == before
    assert nas.ask(request).code == ACCESS_ACCEPT


def test_admins_see_and_steer_a_user_of_the_directory(
    server: RunningServer,
    nas: Nas,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """By name, by realm, by key: suspended, shown, deleted, and none of it in the directory."""
    with in_process(monkeypatch, capsys, server.site.config) as command:
        key = str(command("user", "show", "corp\\user10", "--json").json()["key"])
        assert key.startswith("LDAP/corp/")
        [row] = [one for one in command("user", "list", "--json").json() if one["key"] == key]
        assert (row["name"], row["directory"]) == ("user10", "corp")
        assert command("user", "suspend", "USER10").out.startswith("user10 is suspended")
        assert nas.login("user10", PASSWORD + totp.code()).code == ACCESS_REJECT
        assert reason(server, "user10") == "user_suspended"
        assert command("user", "resume", key).out.startswith("user10 may log in again")
        added = command("device", "add", "user10", "--name", "tablet", "--confirmed")
        assert "tablet of user10 counts from now on" in added.out
        again = command("device", "add", "user10", "--name", "tablet")
        assert "user10 has a device named tablet already" in again.err
        listed = command("device", "list", "user10@corp.example", "--json").json()
        assert [device["name"] for device in listed] == ["phone", "tablet"]
        removed = command("device", "remove", "user10", "tablet")
        assert removed.out == "tablet of user10 is removed.\n"
        assert nas.login("user10", PASSWORD + totp.code()).code == ACCESS_ACCEPT
        assert command("user", "unlock", "user10").out == "user10 is unlocked.\n"
        assert command("user", "delete", key, "--yes").out == "user10 is deleted.\n"
        assert "user10 of corp is not on record here" in command("user", "show", "user10").err
        assert "several entries of corp" in command("device", "add", "twin").err
    assert nas.login("user10", PASSWORD + totp.code()).code == ACCESS_REJECT
    assert reason(server, "user10") == "not_enrolled"


def test_tokens_are_imported_for_users_of_the_directory(
    server: RunningServer,
    nas: Nas,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """By name in any form, whoever was never on record here; two forms are one user."""
    tokens = tmp_path / "tokens.csv"
    tokens.touch(0o600)
    twice = f"user,name,seed\nUSER12,fob,{SEED}\nuser12@corp.example,fob,{totp.SEED}\n"
    with in_process(monkeypatch, capsys, server.site.config) as command:
        tokens.write_text(f"{twice}twin,fob,{SEED}\nnobody,fob,{SEED}\n")
        done = command("device", "import", str(tokens))
        assert done.exit_code == 1
        assert "user12@corp.example: a second device named fob: see" in done.out
        assert "twin: twin stands for several entries of corp" in done.out
        assert "nobody: there is no such user" in done.out
        assert "user12 of corp is not on record here" in command("user", "show", "user12").err

        tokens.write_text(f"user,name,seed\ncorp\\user12,fob,{SEED}\nuser13,fob,{SEED}\n")
        done = command("device", "import", str(tokens))
        assert done.out.startswith("Done: 2 users added, 2 devices added.")
        shown = command("user", "show", "user12", "--json").json()
        assert (shown["name"], shown["directory"]) == ("user12", "corp")
        assert shown["key"].startswith("LDAP/corp/")
        assert nas.login("user12", PASSWORD + totp.code(SEED, offset=1)).code == ACCESS_ACCEPT
        tokens.write_text(f"user,name,seed\nuser12,fob,{SEED}\n")
        again = command("device", "import", str(tokens))
        assert "user12: the user has this device, or one of its name, already: fob" in again.out


def test_a_second_factor_is_required_of_a_user_of_the_directory(
    server: RunningServer,
    nas: Nas,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """By name, before they were ever on record here; the trail has the key and shows the name."""
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).date().isoformat()
    with in_process(monkeypatch, capsys, server.site.config) as command:
        assert "no user nobody" in command("user", "require", "user11", "nobody").err
        assert "user11 of corp is not on record here" in command("user", "show", "user11").err
        assert "user11 of corp is not on record" in command("user", "withdraw", "user11").err
        assert nas.login("user11", PASSWORD).code == ACCESS_REJECT

        exempt = ("user", "exempt", "corp\\user11", "--until", tomorrow, "--reason", "new")
        assert command(*exempt).out.startswith("1 user exempt until")
        assert nas.login("user11", PASSWORD).code == ACCESS_ACCEPT
        assert command("user", "exempt", "user11", "--end").out == "1 exemption ended.\n"
        assert command("user", "require", "USER11", "--days", "0").exit_code == 0
        assert nas.login("user11", PASSWORD).code == ACCESS_REJECT
        assert reason(server, "user11") == "enrollment_expired"
        assert command("user", "extend", "user11", "--days", "2").exit_code == 0
        preview = command("client", "preview", "nas", "--json").json()["cut_off"]
        [row] = [one for one in preview if one["user"] == "user11"]
        assert row["then"] == "in_enrollment"

        assert "user11 has no device" in command("device", "recovery-codes", "user11").err
        assert command("device", "add", "user11", "--confirmed").exit_code == 0
        codes = command("device", "recovery-codes", "user11").out
        typed = PASSWORD + re.findall(r"^ {4}([a-z2-9-]{11})$", codes, re.MULTILINE)[0]
        assert nas.login("corp\\user11", typed).code == ACCESS_ACCEPT
        assert nas.login("user11", typed).code == ACCESS_REJECT
        assert reason(server, "user11") == "code_replayed"
        assert command("user", "show", "user11", "--json").json()["recovery_codes"] == 9
        done = command("user", "suspend", "user11", "--factor").out
        assert done.startswith("The second factor of user11 is suspended")
        assert command("user", "unlock", "user11", "user7").err == ""
        done = command("user", "reset", "user11", "--yes").out
        assert done.startswith("user11 has no device any more")
        shown = command("user", "show", "user11", "--json").json()
        assert (shown["devices"], shown["mfa"]["state"]) == ([], "IN_ENROLLMENT")
        assert command("user", "delete", "user11", "--yes").exit_code == 0

        trail = command("audit", "list", "--user", "user11", "--json").json()
        assert {(row["subject"], row["called"]) for row in trail} == {(shown["key"], "user11")}
        assert [row["act"] for row in trail] == [
            "user.add",
            "requirement.exempt",
            "requirement.end_exemption",
            "requirement.require",
            "requirement.extend",
            "device.add",
            "recovery_codes.renew",
            "factor.suspend",
            "user.unlock",
            "user.reset",
            "user.delete",
        ]
        table = command("audit", "list").out
        assert "user11" in table
        assert shown["key"] not in table

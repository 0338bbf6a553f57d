"""Failures and locks over UDP, and what admins do beside a running server."""

from collections.abc import Iterator

import pytest

from tests.support import totp
from tests.support.radius import ACCESS_ACCEPT, ACCESS_REJECT, CALLING_STATION_ID, Nas
from tests.support.server import PASSWORD, RunningServer, Site, eventually

BY_SOURCE, BY_USER = 3, 5

HASHES = "radius_mfa_hashing_seconds_count"

LOCKOUT = {"failures_by_source": BY_SOURCE, "failures_by_user": BY_USER}

REALMS = {"realms": ["corp", "corp.example"], "credential_cache_seconds": 600}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that locks soon, and that remembers right passwords."""
    sections = {"lockout": LOCKOUT, "directory": {"local": {"argon2_memory_kib": 8192, **REALMS}}}
    with Site(tmp_path_factory.mktemp("lockout"), sections) as site:
        site.add_spare_users(20)
        site.serve_metrics()
        yield site.start()


@pytest.fixture
def nas(server: RunningServer) -> Iterator[Nas]:
    with server.nas() as opened:
        yield opened


@pytest.fixture
def user(server: RunningServer) -> str:
    return server.site.fresh_user()


def station(number: int) -> tuple[int, bytes]:
    return CALLING_STATION_ID, b"198.51.100.%d" % number


def fail(nas: Nas, user: str, times: int, *stations: int, first: int = 0) -> None:
    """Send *times* wrong passwords, each another one, from *stations* in turn."""
    for number in range(first, first + times):
        attributes = [station(stations[number % len(stations)])] if stations else []
        reply = nas.login(user, f"wrong-{number}-{totp.code()}", attributes)
        assert reply.code == ACCESS_REJECT


def reason(server: RunningServer, user: str) -> str:
    """Return why *user* was rejected last."""
    return str(server.line("login.rejected", user=user)["reason"])


# What locks


def test_failures_lock_the_source_they_came_from_and_no_other(
    server: RunningServer, nas: Nas, user: str
) -> None:
    """O14, O13: the owner still gets in from home, and the very code was not consumed."""
    fail(nas, user, BY_SOURCE, 66)
    right = PASSWORD + totp.code()
    hashes = server.metric(HASHES)
    locked = nas.login(user, right, [station(66)])
    assert locked.code == ACCESS_REJECT
    assert server.metric(HASHES) == hashes
    line = server.line("login.rejected", user=user)
    assert line["reason"] == "account_locked"
    assert f"radius-mfa user unlock {user}" in line["hint"]
    assert server.line("user.locked")["canonical_user"] == user
    assert nas.login(user, right, [station(7)]).code == ACCESS_ACCEPT


def test_a_locked_user_gets_the_same_reject_as_a_wrong_password(
    server: RunningServer, nas: Nas, user: str
) -> None:
    """O13, A15."""
    wrong = nas.login(user, "wrong-password", [station(1)])
    fail(nas, user, BY_SOURCE, 66)
    locked = nas.login(user, PASSWORD + totp.code(), [station(66)])
    assert reason(server, user) == "account_locked"
    assert (locked.code, locked.attributes[1:]) == (wrong.code, wrong.attributes[1:])


def test_failures_from_anywhere_lock_the_user_everywhere(
    server: RunningServer, nas: Nas, user: str
) -> None:
    """O11, O14: a guess from each of many stations is stopped by the wide ceiling."""
    fail(nas, user, BY_USER, 1, 2, 3, 4, 5)
    assert nas.login(user, PASSWORD + totp.code(), [station(6)]).code == ACCESS_REJECT
    assert reason(server, user) == "account_locked"


def test_every_way_to_write_the_station_is_one_source(
    server: RunningServer, nas: Nas, user: str
) -> None:
    """../shared: nas-behaviour 8: an address with another port is the same address."""
    for number, text in enumerate((b"10.99.0.2", b"10.99.0.2[4500]", b"10.99.0.2:4501")):
        nas.login(user, f"wrong-{number}", [(CALLING_STATION_ID, text)])
    assert (
        nas.login(user, PASSWORD + totp.code(), [(CALLING_STATION_ID, b"::ffff:10.99.0.2")]).code
        == ACCESS_REJECT
    )
    assert reason(server, user) == "account_locked"


def test_every_way_to_write_the_name_is_one_user(
    server: RunningServer, nas: Nas, user: str
) -> None:
    """A07: and the right credentials under any of them are that user's, once."""
    forms = [user.upper(), f"CORP\\{user}", f"{user}@Corp.Example"]
    for number, form in enumerate(forms):
        assert nas.login(form, f"wrong-{number}").code == ACCESS_REJECT
    typed = PASSWORD + totp.code()
    assert nas.login(user, typed).code == ACCESS_REJECT
    assert reason(server, user) == "account_locked"
    assert nas.login(forms[1], typed, [station(1)]).code == ACCESS_ACCEPT
    assert nas.login(forms[2], typed, [station(1)]).code == ACCESS_REJECT


def test_the_same_wrong_value_again_is_counted_once(
    server: RunningServer, nas: Nas, user: str
) -> None:
    """A VPN client that repeats an old password by itself locks nobody out."""
    for _ in range(2 * BY_SOURCE):
        assert nas.login(user, "canary-old-password" + totp.wrong_code()).code == ACCESS_REJECT
    assert server.site.failures(user) == 1
    assert nas.login(user, PASSWORD + totp.code()).code == ACCESS_ACCEPT


def test_a_wrong_password_does_not_burn_the_code_but_counts(
    server: RunningServer, nas: Nas, user: str
) -> None:
    """O15: as a wrong code counts."""
    code = totp.code()
    assert nas.login(user, "wrong" + code).code == ACCESS_REJECT
    assert reason(server, user) == "wrong_password"
    assert nas.login(user, PASSWORD + totp.wrong_code()).code == ACCESS_REJECT
    assert reason(server, user) == "wrong_code"
    assert server.site.failures(user) == 2
    assert nas.login(user, PASSWORD + code).code == ACCESS_ACCEPT


def test_a_success_starts_the_counting_again(server: RunningServer, nas: Nas, user: str) -> None:
    """O12: one failure short of a lock, twice."""
    fail(nas, user, BY_SOURCE - 1)
    assert nas.login(user, PASSWORD + totp.code()).code == ACCESS_ACCEPT
    assert server.site.failures(user) == 0
    fail(nas, user, BY_SOURCE - 1, first=10)
    assert nas.login(user, PASSWORD + totp.code(offset=1)).code == ACCESS_ACCEPT


def test_failures_of_a_name_that_nobody_has_are_not_kept(server: RunningServer, nas: Nas) -> None:
    """A flood of invented names fills no memory and locks nobody."""
    fail(nas, "invented", 2 * BY_USER)
    assert reason(server, "invented") == "unknown_user"
    with server.site.redis as redis:
        assert list(redis.scan_iter("*:invented:tally")) == []


# What unlocks


def test_unlock_works_at_once_and_no_code_was_lost(
    server: RunningServer, nas: Nas, user: str
) -> None:
    """O13: the code that was refused while locked is accepted right after the unlock."""
    fail(nas, user, BY_USER, 1, 2, 3)
    right = PASSWORD + totp.code()
    assert nas.login(user, right).code == ACCESS_REJECT
    shown = server.site.cli("user", "show", user, "--json").json()
    assert shown["state"].startswith("locked")
    assert server.site.cli("user", "unlock", user).exit_code == 0
    assert nas.login(user, right).code == ACCESS_ACCEPT


def test_a_lock_survives_a_restart_and_ends_by_itself(site: Site) -> None:
    """O12, O14: two failures before the restart and one after it lock for two seconds."""
    site.sections = {"lockout": {**LOCKOUT, "lock_seconds": 2}}
    site.write_config()
    site.add_users(["alice"])
    server = site.start()
    with server.nas() as nas:
        fail(nas, "alice", BY_SOURCE - 1)
    assert server.stop() == 0
    server = site.start()
    with server.nas() as nas:
        fail(nas, "alice", 1, first=10)
        right = PASSWORD + totp.code()
        assert nas.login("alice", right).code == ACCESS_REJECT
        assert reason(server, "alice") == "account_locked"
        eventually(lambda: nas.login("alice", right).code == ACCESS_ACCEPT, "the lock to end", 10)


# What admins do beside a running server


def test_a_suspended_user_is_out_at_once_and_in_again_when_resumed(
    server: RunningServer, nas: Nas, user: str
) -> None:
    """Though enrolment and password are cached from a login a moment ago."""
    assert nas.login(user, PASSWORD + totp.code()).code == ACCESS_ACCEPT
    assert server.site.cli("user", "suspend", user).exit_code == 0
    right = PASSWORD + totp.code(offset=1)
    assert nas.login(user, right).code == ACCESS_REJECT
    assert reason(server, user) == "user_suspended"
    assert server.site.cli("user", "resume", user).exit_code == 0
    assert nas.login(user, right).code == ACCESS_ACCEPT


def test_a_removed_device_is_out_at_once(server: RunningServer, nas: Nas, user: str) -> None:
    assert nas.login(user, PASSWORD + totp.code()).code == ACCESS_ACCEPT
    assert server.site.cli("device", "remove", user, "phone").exit_code == 0
    assert nas.login(user, PASSWORD + totp.code(offset=1)).code == ACCESS_REJECT
    assert reason(server, user) == "not_enrolled"


def test_a_new_password_holds_at_once_and_the_old_one_no_longer(
    server: RunningServer, nas: Nas, user: str
) -> None:
    """Though the old one was proved right a moment ago, and is remembered for minutes."""
    new = "canary-new-password"
    server.site.canaries.add(new)
    assert nas.login(user, PASSWORD + totp.code()).code == ACCESS_ACCEPT
    assert server.site.cli("user", "passwd", user, text=f"{new}\n").exit_code == 0
    code = totp.code(offset=1)
    assert nas.login(user, PASSWORD + code).code == ACCESS_REJECT
    assert reason(server, user) == "wrong_password"
    assert nas.login(user, new + code).code == ACCESS_ACCEPT


def test_a_deleted_user_is_unknown_at_once(server: RunningServer, nas: Nas, user: str) -> None:
    assert nas.login(user, PASSWORD + totp.code()).code == ACCESS_ACCEPT
    assert server.site.cli("user", "delete", user, "--yes").exit_code == 0
    assert nas.login(user, PASSWORD + totp.code(offset=1)).code == ACCESS_REJECT
    assert reason(server, user) == "unknown_user"

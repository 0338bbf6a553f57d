"""What breaks around the server: Redis, the database, hashing, the process itself.

Rule 4: no fault ends in an Access-Accept. Rule 9: a backend that does not answer means no reply,
and is not a failure of the user.
"""

import contextlib
import os
import signal
import sqlite3
from collections import Counter
from contextlib import closing

import pytest

from tests.support import totp
from tests.support.radius import ACCESS_ACCEPT, ACCESS_REJECT
from tests.support.redis import RealRedis
from tests.support.server import PASSWORD, RunningServer, Site, eventually

SILENT, REJECTING = "127.0.0.1", "127.0.0.11"

CLIENTS = [
    {"name": "silent", "address": SILENT},
    {"name": "rejecting", "address": REJECTING, "on_backend_failure": "reject"},
]


def unanswered(server: RunningServer, count: int, **fields: str) -> list[dict[str, object]]:
    """Wait until *count* logins were left unanswered, and return their lines."""
    return list(
        eventually(
            lambda: len(found := server.lines("login.unanswered", **fields)) >= count and found,
            f"{count} unanswered logins",
        )
    )


# Redis


def test_redis_stopped_under_load_is_silence_and_then_recovery_by_itself(site: Site) -> None:
    """A13, S04, S05: right and wrong logins get no reply, nothing is counted, codes stay good.

    Status-Server tells the present state, not that of a moment ago. When Redis is back the very
    same packets, as a NAS repeats them, are answered.
    """
    names = [f"user{number}" for number in range(24)]
    with RealRedis("--appendonly", "yes") as redis:
        site.sections = {"redis": {"url": redis.url}}
        site.clients = CLIENTS
        site.write_config()
        site.add_users(names)
        server = site.start()
        with server.nas() as nas, server.nas() as watchdog, server.nas(REJECTING) as rejecting:
            wanted = [ACCESS_ACCEPT if number % 2 else ACCESS_REJECT for number in range(24)]
            requests = [
                nas.access_request(name, (PASSWORD if number % 2 else "wrong") + totp.code())
                for number, name in enumerate(names)
            ]
            for request in requests[:8]:
                nas.send(request)
            assert sorted(nas.socket.recv(4096)[0] for _ in range(8)) == sorted(wanted[:8])

            for request in requests[8:16]:  # these may be decided yet, or not any more
                nas.send(request)
            redis.stop()
            for request in requests[16:]:
                nas.send(request)
            lines = unanswered(server, 8, nas="silent")
            assert {line["backend"] for line in lines} == {"redis"}
            assert rejecting.login(names[20], "wrong").code == ACCESS_REJECT
            refused = server.line("login.rejected", nas="rejecting")
            assert refused["reason"] == "backend_unavailable"
            assert refused["hint"].startswith("redis: ")
            assert "redis.url" in server.line("redis.down")["hint"]
            watchdog.send(watchdog.status_server())
            assert watchdog.replies(0.2) == []
            number_of = {request[1]: number for number, request in enumerate(requests)}
            for reply in nas.replies(0.2):
                number = number_of[reply[1]]
                assert number < 16, "a reply without Redis"
                assert reply[0] == wanted[number]

            redis.start()
            server.line("redis.up")
            assert watchdog.ask(watchdog.status_server()).code == ACCESS_ACCEPT
            assert [nas.ask(request).code for request in requests] == wanted
        assert site.failures(names[20]) == 1, "the one after the recovery"
        assert server.lines("redis.memory_lost") == []


def test_a_start_without_redis_is_refused_with_the_cure(site: Site) -> None:
    site.sections = {"redis": {"url": f"unix://{site.folder}/none.sock"}}
    site.write_config()
    done = site.cli("serve")
    assert done.exit_code == 4
    assert "redis does not answer" in done.err
    assert "redis.url" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("redis_settings", "deadline", "backend"),
    [({"timeout_seconds": 0.3}, 4, "redis"), ({"timeout_seconds": 5}, 0.6, "deadline")],
)
def test_a_redis_that_hangs_is_silence_and_the_repeat_is_answered(
    site: Site, redis_settings: dict[str, float], deadline: float, backend: str
) -> None:
    """A13: by Redis's own timeout or by the login's deadline; one login and one code in the end."""
    with RealRedis() as redis:
        site.sections = {
            "redis": {"url": redis.url, **redis_settings},
            "radius": {"login_deadline_seconds": deadline},
        }
        site.write_config()
        site.add_users(["alice"])
        server = site.start()
        with server.nas() as nas:
            request = nas.access_request("alice", PASSWORD + totp.code())
            redis.hang()
            try:
                nas.send(request)
                unanswered(server, 1, backend=backend)
                assert nas.replies(0.1) == []
            finally:
                redis.go_on()
            assert nas.repeat(request).code == ACCESS_ACCEPT
        assert len(server.lines("login.accepted")) == 1
        assert site.failures("alice") == 0


def test_an_embedded_redis_that_is_killed_comes_back_with_its_memory(site: Site) -> None:
    """SIGKILL: started again by itself, logins go on, used codes and failures are remembered."""
    site.add_users(["alice", "bob"])
    server = site.start()
    used = PASSWORD + totp.code()
    with server.nas() as nas:
        assert nas.login("alice", used).code == ACCESS_ACCEPT
        assert nas.login("bob", "wrong").code == ACCESS_REJECT
        [before] = site.redis_processes()
        os.kill(before, signal.SIGKILL)
        assert server.line("redis.died")["exit_code"] == -signal.SIGKILL
        server.line("redis.restarted")
        [after] = site.redis_processes()
        assert after != before
        assert nas.repeat(nas.access_request("alice", used)).code == ACCESS_REJECT
        assert server.line("login.rejected", user="alice")["reason"] == "code_replayed"
        assert nas.login("alice", PASSWORD + totp.code(offset=1)).code == ACCESS_ACCEPT
    assert site.failures("bob") == 1
    assert server.lines("redis.memory_lost") == []


# The database


@pytest.fixture
def warm_and_cold(site: Site) -> RunningServer:
    """A server that has seen ``warm`` log in a moment ago, and never seen ``cold``."""
    site.sections = {
        "directory": {"local": {"argon2_memory_kib": 8192, "credential_cache_seconds": 600}},
        "database": {"timeout_seconds": 0.3},
    }
    site.clients = CLIENTS
    site.write_config()
    site.add_users(["warm", "cold"])
    server = site.start()
    with server.nas() as nas, site.redis as redis:
        barriers = redis.keys("*:barrier")  # nothing is cached for a while after a change
        assert len(barriers) == 2
        redis.delete(*barriers)
        assert nas.login("warm", PASSWORD + totp.code()).code == ACCESS_ACCEPT
    return server


def test_a_locked_database_stops_no_login(warm_and_cold: RunningServer) -> None:
    """A backup or a hanging writer holds SQLite's write lock: logins only read."""
    file = warm_and_cold.site.data / "radius-mfa.db"
    database = sqlite3.connect(file, isolation_level=None)  # transactions are ours to begin
    with closing(database), warm_and_cold.nas() as nas:
        database.execute("BEGIN EXCLUSIVE")
        assert nas.login("warm", PASSWORD + totp.code(offset=1)).code == ACCESS_ACCEPT
        assert nas.login("cold", PASSWORD + totp.code()).code == ACCESS_ACCEPT
        done = warm_and_cold.site.cli("user", "suspend", "warm")
        assert done.exit_code == 4, done.err
        assert "database does not answer" in done.err
        database.execute("ROLLBACK")


def test_a_broken_database_silences_cold_logins_and_no_warm_one(
    warm_and_cold: RunningServer,
) -> None:
    """A13: what is not known is not guessed; what is cached goes on. Nothing is counted."""
    server, file = warm_and_cold, warm_and_cold.site.data / "radius-mfa.db"
    with closing(sqlite3.connect(file)) as database:
        database.execute("ALTER TABLE mfa_user RENAME TO gone")
    with server.nas() as nas, server.nas(REJECTING) as rejecting:
        cold = nas.access_request("cold", PASSWORD + totp.code())
        nas.send(cold)
        [line] = unanswered(server, 1, user="cold")
        assert line["backend"] == "database"
        assert nas.login("warm", PASSWORD + totp.code(offset=1)).code == ACCESS_ACCEPT
        assert rejecting.login("cold", PASSWORD + totp.code()).code == ACCESS_REJECT
        assert server.line("login.rejected", user="cold")["reason"] == "backend_unavailable"
        with closing(sqlite3.connect(file)) as database:
            database.execute("ALTER TABLE gone RENAME TO mfa_user")
        assert nas.ask(cold).code == ACCESS_ACCEPT
    assert server.site.failures("cold") == 0


def test_a_removed_database_file_stops_no_warm_login_and_invents_no_user(
    warm_and_cold: RunningServer,
) -> None:
    """And never an Access-Accept for whom the file no longer knows."""
    server, site = warm_and_cold, warm_and_cold.site
    for file in site.data.glob("radius-mfa.db*"):
        file.unlink()
    with server.nas() as nas:
        assert nas.login("warm", PASSWORD + totp.code(offset=1)).code == ACCESS_ACCEPT
        nas.send(nas.access_request("nobody", PASSWORD + totp.code()))
        assert all(reply[0] == ACCESS_REJECT for reply in nas.replies(0.5))


# Hashing


def test_more_passwords_than_can_be_hashed_are_shed_and_the_repeat_is_answered(
    site: Site,
) -> None:
    """Overload is silence, not a reject, not a failure, and not a queue without end.

    Whoever needs no hash, because the password proved right a moment ago, logs in meanwhile.
    """
    local = {"argon2_memory_kib": 65_536, "argon2_iterations": 2, "credential_cache_seconds": 600}
    site.sections = {"directory": {"local": {**local, "hash_threads": 1, "hash_queue": 1}}}
    site.serve_metrics()
    names = [f"user{number}" for number in range(6)]
    site.add_users([*names, "known"])
    server = site.start()
    with server.nas() as nas, server.nas() as other:
        assert other.login("known", PASSWORD + totp.code(offset=-1)).code == ACCESS_ACCEPT
        requests = [nas.access_request(name, PASSWORD + totp.code()) for name in names]
        for request in requests:
            nas.send(request)
        shed = unanswered(server, 1)
        assert {line["backend"] for line in shed} == {"hashing"}
        assert "hash_threads" in str(shed[0]["hint"])
        assert server.metric("radius_mfa_logins_unanswered_total", backend="hashing") >= len(shed)
        assert other.login("known", PASSWORD + totp.code()).code == ACCESS_ACCEPT
        codes = [nas.repeat(request).code for request in requests]
        assert codes == [ACCESS_ACCEPT] * len(names)
    assert server.lines("login.rejected") == []
    assert len(server.lines("login.accepted")) == len(names) + 2


# The process


def test_sigterm_under_load_answers_what_was_taken_and_leaves_nothing_behind(site: Site) -> None:
    """Exit code 0; every login of the log has its reply on the wire; Redis has ended."""
    site.sections = {"radius": {"reject_delay_seconds": 0.8}}
    site.write_config()
    names = [f"user{number}" for number in range(60)]
    site.add_users(names)
    server = site.start()
    with server.nas() as nas:
        for number, name in enumerate(names):
            nas.send(nas.access_request(name, (PASSWORD if number % 2 else "wrong") + totp.code()))
        first = nas.socket.recv(4096)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0
        replies = [first, *nas.replies(0.1)]
    codes = Counter(reply[0] for reply in replies)
    assert codes[ACCESS_ACCEPT] == len(server.lines("login.accepted"))
    assert codes[ACCESS_REJECT] == len(server.lines("login.rejected"))
    assert codes[ACCESS_REJECT] > 0, "rejects were due when the signal came"
    assert server.lines("not json") == []
    assert server.lines()[-1]["event"] == "server.stopped"
    assert site.redis_processes() == []


def test_sigterm_ends_a_server_whose_redis_hangs(site: Site) -> None:
    """Exit code 0, though logins and the watch wait for Redis when the signal comes."""
    with RealRedis() as redis:
        site.sections = {"redis": {"url": redis.url}}
        site.write_config()
        site.add_users(["alice"])
        server = site.start()
        with server.nas() as nas:
            redis.hang()
            nas.assert_silent(
                *(nas.access_request("alice", f"{PASSWORD}{number:06}") for number in range(20)),
                seconds=0.1,
            )
            assert server.stop() == 0
            assert nas.replies(0.1) == []
            redis.go_on()
    assert len(server.lines("login.unanswered")) == 20
    assert server.lines("not json") == []


def test_sigterm_waits_for_a_reject_that_is_due(site: Site) -> None:
    """However long the configured delay: the NAS is not left to repeat a decided login."""
    site.sections = {"radius": {"reject_delay_seconds": 5.5, "login_deadline_seconds": 0.5}}
    site.write_config()
    site.add_users(["alice"])
    server = site.start()
    with server.nas() as nas:
        request = nas.access_request("alice", "wrong")
        nas.send(request)
        eventually(lambda: site.redis.keys("*:alice:tally"), "the failure to be counted")
        assert server.stop() == 0
        assert nas.receive(request).code == ACCESS_REJECT


def test_a_killed_server_takes_its_redis_along(site: Site) -> None:
    """SIGKILL: no orphan; the next start has everything, and refuses the used code."""
    site.add_users(["alice"])
    server = site.start()
    typed = PASSWORD + totp.code()
    with server.nas() as nas:
        assert nas.login("alice", typed).code == ACCESS_ACCEPT
    server.kill()
    eventually(lambda: not site.redis_processes(), "the embedded Redis to end")
    server = site.start()
    with server.nas() as nas:
        assert nas.login("alice", typed).code == ACCESS_REJECT
    assert server.line("login.rejected")["reason"] == "code_replayed"


def test_a_restart_waits_for_the_redis_of_a_killed_server(site: Site) -> None:
    """The old child, slow to end, must not take away the socket of the new one."""
    site.add_users(["alice"])
    first = site.start()
    [old] = site.redis_processes()
    os.kill(old, signal.SIGSTOP)
    first.kill()
    second = RunningServer(site, {})
    site.servers.append(second)
    try:
        with contextlib.suppress(AssertionError):  # the old Redis holds the folder
            eventually(lambda: second.lines("server.started"), "too early a start", 3)
    finally:
        os.kill(old, signal.SIGCONT)
    second.wait_until_started()
    eventually(lambda: old not in site.redis_processes(), "the old Redis to end")
    assert (site.data / "redis.sock").exists()
    assert site.cli("user", "list").exit_code == 0

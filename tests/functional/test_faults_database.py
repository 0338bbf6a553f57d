"""A PostgreSQL that is stopped or hangs under a running server.

What is cached goes on, what is not known is not guessed, and it costs a login one timeout.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from tests.support import totp
from tests.support.postgres import RealPostgres
from tests.support.radius import ACCESS_ACCEPT, ACCESS_REJECT
from tests.support.server import PASSWORD, Site, eventually

SILENT, REJECTING = "127.0.0.1", "127.0.0.11"
TIMEOUT_SECONDS = 1.5


@pytest.fixture(scope="module")
def postgres() -> Iterator[RealPostgres]:
    with RealPostgres() as server:
        yield server


@contextmanager
def stopped(postgres: RealPostgres) -> Iterator[None]:
    postgres.stop()
    yield
    postgres.start()


@pytest.mark.parametrize(
    ("broken", "causes", "cure"),
    [
        (stopped, {"ConnectionRefusedError", "FileNotFoundError"}, "does the server run"),
        (RealPostgres.hanging, {"TimeoutError"}, "database.timeout_seconds"),
    ],
    ids=["stopped", "hanging"],
)
def test_a_postgresql_that_is_away_silences_cold_logins_and_no_warm_one(
    site: Site,
    postgres: RealPostgres,
    broken: Callable[[RealPostgres], AbstractContextManager[None]],
    causes: set[str],
    cure: str,
) -> None:
    """A13, L04: nothing is counted against a user; recovery by itself, for the same packets."""
    database = postgres.new_database()
    site.sections = {
        "database": {
            "url": f"postgresql://postgres@/{database}?host={postgres.folder}",
            "timeout_seconds": TIMEOUT_SECONDS,
        },
        "directory": {"local": {"argon2_memory_kib": 8192, "credential_cache_seconds": 600}},
    }
    site.clients = [
        {"name": "silent", "address": SILENT},
        {"name": "rejecting", "address": REJECTING, "on_backend_failure": "reject"},
    ]
    site.serve_metrics()
    site.add_users(["warm", "cold", "wrong"])
    server = site.start()
    with server.nas() as nas, server.nas(REJECTING) as rejecting, site.redis as redis:
        redis.delete(*redis.keys("*:barrier"))  # nothing is cached for a while after a change
        assert nas.login("warm", PASSWORD + totp.code(offset=-1)).code == ACCESS_ACCEPT
        right = nas.access_request("cold", PASSWORD + totp.code())
        wrong = nas.access_request("wrong", "wrong")

        with broken(postgres):
            nas.send(right)
            nas.send(wrong)
            began = time.monotonic()
            assert nas.login("warm", PASSWORD + totp.code()).code == ACCESS_ACCEPT
            assert time.monotonic() - began < TIMEOUT_SECONDS, "it waited for the others"
            assert nas.ask(nas.status_server()).code == ACCESS_ACCEPT
            lines = eventually(
                lambda: len(found := server.lines("login.unanswered")) == 2 and found, "two lines"
            )
            for line in lines:
                assert (line["backend"], line["cause"] in causes) == ("database", True)
                assert line["database_ms"] < 1.8 * TIMEOUT_SECONDS * 1000, "met twice"
            assert rejecting.login("cold", PASSWORD + totp.code()).code == ACCESS_REJECT
            assert server.line("login.rejected", nas="rejecting")["reason"] == "backend_unavailable"
            assert cure in server.line("database.down")["hint"]
            eventually(
                lambda: server.metric("radius_mfa_backend_up", backend="database") == 0, "down"
            )
            assert server.metric("radius_mfa_backend_up", backend="redis") == 1
            counted = server.metric("radius_mfa_logins_unanswered_total", client="silent")
            assert counted == 2

        server.line("database.up")
        assert nas.ask(right).code == ACCESS_ACCEPT
        assert nas.ask(wrong).code == ACCESS_REJECT
        eventually(lambda: server.metric("radius_mfa_backend_up", backend="database") == 1, "up")
    told = [line["cause"] for line in server.lines("database.down")]
    assert len(told) == len(set(told)), "each cause once"
    assert server.lines("redis.down") == []
    assert server.stop() == 0
    assert site.failures("wrong") == 1, "the one after the recovery"
    assert site.failures("cold") == 0

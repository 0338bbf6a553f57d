"""A Redis that answers, and still can't decide a login: slow, loading, read-only, full.

Rule 4: never an Access-Accept. Rule 9: silence, and no failure of the user.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass

import pytest

from radius_mfa.server.handler import MAX_UNANSWERED_LINES
from tests.support import totp
from tests.support.radius import ACCESS_ACCEPT, ACCESS_REJECT
from tests.support.redis import Proxy, RealRedis, in_front_of
from tests.support.server import PASSWORD, Site, eventually

STORM = 200
SILENT, REJECTING = "127.0.0.1", "127.0.0.11"


@contextmanager
def slow(_redis: RealRedis, proxy: Proxy) -> Iterator[None]:
    proxy.delay_seconds = 2
    yield
    proxy.delay_seconds = 0


@contextmanager
def loading(redis: RealRedis, _proxy: Proxy) -> Iterator[None]:
    """A restart with much to read, 10 ms for each key; Redis looks up every 2 MiB."""
    with redis.client as client:
        for number in range(700):
            client.set(f"filler {number}", os.urandom(65_536))
        client.save()
    redis.stop()
    redis.start("--key-load-delay", "10000", until_it_answers=False)
    yield  # it ends by itself


@contextmanager
def read_only(redis: RealRedis, _proxy: Proxy) -> Iterator[None]:
    with redis.client as client:
        client.replicaof("127.0.0.1", "1")  # nobody there: it keeps what it has
        yield
        client.replicaof("NO", "ONE")


@contextmanager
def full(redis: RealRedis, _proxy: Proxy) -> Iterator[None]:
    with redis.client as client:
        client.config_set("maxmemory", 1)
        yield
        client.config_set("maxmemory", 0)


@dataclass(frozen=True)
class Fault:
    """How Redis is broken for as long as a block lasts, and what the log says of it."""

    broken: Callable[[RealRedis, Proxy], AbstractContextManager[None]]
    cause: str
    cure: str


FAULTS = [
    Fault(slow, "TimeoutError", "redis.timeout_seconds"),
    Fault(loading, "BusyLoadingError", "reading in its data"),
    Fault(read_only, "ReadOnlyError", "name the primary"),
    Fault(full, "OutOfMemoryError", "raise its maxmemory"),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.broken.__name__)
def test_a_redis_that_cannot_decide_is_silence_and_then_recovery_by_itself(
    site: Site, fault: Fault
) -> None:
    """A13, L04: no reply, nothing counted against a user, one line with the cure, and metrics.

    A storm of logins gets no more lines than anyone reads. The very same packets, as a NAS repeats
    them, are answered afterwards.
    """
    with ExitStack() as stack:
        redis = stack.enter_context(RealRedis())
        proxy = stack.enter_context(in_front_of(redis))
        site.sections = {"redis": {"url": proxy.url}}
        site.clients = [
            {"name": "silent", "address": SILENT},
            {"name": "rejecting", "address": REJECTING, "on_backend_failure": "reject"},
        ]
        site.serve_metrics()
        site.add_users(["alice", "bob", "carol"])
        server = site.start()
        nas = stack.enter_context(server.nas())
        rejecting = stack.enter_context(server.nas(REJECTING))
        assert nas.login("alice", PASSWORD + totp.code(offset=-1)).code == ACCESS_ACCEPT

        with fault.broken(redis, proxy):
            down = server.line("redis.down", cause=fault.cause)
            assert fault.cure in down["hint"]
            right = [nas.access_request(name, PASSWORD + totp.code()) for name in ("alice", "bob")]
            wrong = nas.access_request("carol", "wrong")
            with server.nas() as many:
                storm = [many.access_request(f"u{number}", "x") for number in range(STORM)]
                for request in storm:
                    many.send(request)
                for request in (*right, wrong):
                    nas.send(request)
                assert rejecting.login("carol", "wrong").code == ACCESS_REJECT
                eventually(
                    lambda: (
                        server.metric("radius_mfa_logins_unanswered_total", client="silent")
                        == STORM + 3
                    ),
                    "every login to be left without a reply",
                )
                assert many.replies(0.1) == []
            nas.send(nas.status_server())
            assert nas.replies(0.1) == []
            refused = server.line("login.rejected", nas="rejecting")
            assert refused["reason"] == "backend_unavailable"
            assert refused["hint"] == f"redis: {fault.cause}"
            assert len(server.lines("login.unanswered")) <= 2 * MAX_UNANSWERED_LINES
            assert server.metric("radius_mfa_backend_up", backend="redis") == 0
            assert server.metric("radius_mfa_backend_up", backend="database") == 1

        server.line("redis.up")
        assert [nas.ask(request).code for request in right] == [ACCESS_ACCEPT] * 2
        assert nas.ask(wrong).code == ACCESS_REJECT
        eventually(lambda: server.metric("radius_mfa_backend_up", backend="redis") == 1, "up")
        unanswered = server.lines("login.unanswered", backend="redis")
        assert {line["hint"] for line in unanswered if line["cause"] == fault.cause} == {
            down["hint"]
        }
        assert site.failures("carol") == 1, "the one after the recovery"
        assert site.failures("alice") == site.failures("bob") == 0
        told = [line["cause"] for line in server.lines("redis.down")]
        assert len(told) == len(set(told)), "each cause once"
        assert server.lines("redis.memory_lost") == []


def test_logins_over_a_slow_redis_wait_together_and_not_for_each_other(site: Site) -> None:
    """With every call 2 s, and patience for it: a login takes two calls, and so do twenty."""
    with RealRedis() as redis, in_front_of(redis) as proxy:
        site.sections = {
            "redis": {"url": proxy.url, "timeout_seconds": 10},
            "radius": {"login_deadline_seconds": 20, "reject_delay_seconds": 0},
        }
        site.write_config()
        names = [f"user{number}" for number in range(20)]
        site.add_users(names)
        server = site.start()
        with server.nas() as nas:
            for name in names:  # everything cached but what Redis must say
                assert nas.login(name, "wrong").code == ACCESS_REJECT
            proxy.delay_seconds = 2
            began = time.monotonic()
            for name in names:
                nas.send(nas.access_request(name, PASSWORD + totp.code()))
            codes = [nas.socket.recv(4096)[0] for _ in names]
            took = time.monotonic() - began
            proxy.delay_seconds = 0
    assert codes == [ACCESS_ACCEPT] * len(names)
    assert 4 <= took < 10


@pytest.mark.parametrize("lost", ["flushed", "replaced"])
def test_an_empty_redis_lets_no_used_code_in_again(site: Site, lost: str) -> None:
    """Rule 10, O08: neither the used code nor any up to now; the next one is accepted."""
    with RealRedis() as redis:
        site.sections = {
            "redis": {"url": redis.url},
            "totp": {"lookback_steps": 10, "lookforward_steps": 0},
        }
        site.write_config()
        site.add_users(["alice"])
        site.change_codes_every(1)
        server = site.start()
        with server.nas() as nas:
            used = PASSWORD + totp.code(step=1)
            assert nas.login("alice", used).code == ACCESS_ACCEPT
            if lost == "flushed":
                redis.flush()
            else:  # nothing of it is on disk
                redis.stop()
                redis.start()
            unused = PASSWORD + totp.code(step=1)
            for typed in (used, unused):
                assert nas.repeat(nas.access_request("alice", typed)).code == ACCESS_REJECT
                line = server.line("login.rejected")
                assert line["reason"] == "code_predates_redis"
            assert "Redis has lost its memory" in line["hint"]
            assert "flushed" in server.line("redis.memory_lost")["hint"]
            eventually(
                lambda: nas.login("alice", PASSWORD + totp.code(step=1)).code == ACCESS_ACCEPT,
                "the next code",
                5,
            )
            assert nas.login("alice", used).code == ACCESS_REJECT
        assert len(server.lines("redis.memory_lost")) == 1

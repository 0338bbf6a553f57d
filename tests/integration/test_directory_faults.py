"""Servers of a directory that hang, refuse, reset, drip and come back; a bounded harm each."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any, Self

import pytest

from radius_mfa.errors import BackendUnavailable
from radius_mfa.stores import ldap_server
from radius_mfa.stores.directory_ldap import LdapDirectory
from radius_mfa.stores.interfaces import PasswordVerdict
from tests.support.ldap_directory import directory, found
from tests.support.proxy import Proxy
from tests.support.server import PATIENCE_SECONDS
from tests.support.slapd import RealSlapd, person

PASSWORD = "canary-password"
TIMEOUT_SECONDS = 1.0


@pytest.fixture(scope="module")
def slapd() -> Iterator[RealSlapd]:
    with RealSlapd() as server:
        server.add(*(person(f"user{number}", PASSWORD) for number in range(40)))
        yield server


@pytest.fixture
def proxy(slapd: RealSlapd) -> Iterator[Proxy]:
    """In front of slapd's LDAPS."""
    with Proxy((slapd.address, slapd.tls_port)) as made:
        yield made


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look again sooner than in production."""
    monkeypatch.setattr(ldap_server, "FIRST_LOOK_SECONDS", 0.1)
    monkeypatch.setattr(ldap_server, "LONGEST_LOOK_SECONDS", 0.2)


def uri(proxy: Proxy) -> str:
    return f"ldaps://127.0.0.1:{proxy.port}"


@pytest.fixture
async def alone(slapd: RealSlapd, proxy: Proxy) -> AsyncIterator[LdapDirectory]:
    """A directory with one server, which is reached through the proxy."""
    section = slapd.section(servers=[uri(proxy)], timeout_seconds=TIMEOUT_SECONDS)
    async with directory(section) as made:
        yield made


@pytest.fixture
async def pair(slapd: RealSlapd, proxy: Proxy) -> AsyncIterator[LdapDirectory]:
    """A directory whose first server is reached through the proxy, the second one directly."""
    servers = [uri(proxy), slapd.tls_uri]
    async with directory(slapd.section(servers=servers, timeout_seconds=TIMEOUT_SECONDS)) as made:
        yield made


async def until(condition: Any) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


class Pulse:
    """Measures how long the loop was held up, at worst."""

    async def __aenter__(self) -> Self:
        self.worst = 0.0
        self._task = asyncio.get_running_loop().create_task(self._beat())
        return self

    async def _beat(self) -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.005)
            self.worst = max(self.worst, time.monotonic() - began - 0.005)

    async def __aexit__(self, *_exc: object) -> None:
        self._task.cancel()


def break_it(proxy: Proxy, how: str) -> None:
    if how == "refuse":
        proxy.refuse()
    elif how == "reset":
        proxy.reset()
    else:
        proxy.mode = how


def mend(proxy: Proxy) -> None:
    proxy.mode = "pass"
    if proxy._server is None:
        proxy.accept()


FAULTS = ["hang", "refuse", "reset", "slow"]


@pytest.mark.parametrize("how", FAULTS)
@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
async def test_a_server_without_a_stand_in_is_no_answer_and_then_used_again(
    alone: LdapDirectory, proxy: Proxy, how: str, *, warm: bool
) -> None:
    """A13, rule 9: in time, at once when it is known, and by itself when it is over."""
    if warm:
        assert await alone.verify(await found(alone, "user0"), PASSWORD) is PasswordVerdict.RIGHT
    break_it(proxy, how)
    proxy.delay = TIMEOUT_SECONDS * 3
    async with Pulse() as pulse:
        for _ in range(ldap_server.STRIKES):
            began = time.monotonic()
            with pytest.raises(BackendUnavailable):
                await alone.find("user0")
            assert time.monotonic() - began < TIMEOUT_SECONDS * 2 + 0.5
        assert not alone.servers[0].up
        began = time.monotonic()
        with pytest.raises(BackendUnavailable, match="corp: ldaps://"):
            await alone.find("user0")
        assert time.monotonic() - began < 0.1
    assert pulse.worst < TIMEOUT_SECONDS / 2
    mend(proxy)
    await until(lambda: alone.servers[0].up)
    assert await alone.verify(await found(alone, "user0"), PASSWORD) is PasswordVerdict.RIGHT


@pytest.mark.parametrize("how", FAULTS)
async def test_the_next_server_stands_in_and_the_first_one_is_used_again(
    pair: LdapDirectory, proxy: Proxy, how: str
) -> None:
    """The login that meets the fault is answered too: its search is asked again elsewhere."""
    user = await found(pair, "user1")
    break_it(proxy, how)
    proxy.delay = TIMEOUT_SECONDS * 3
    assert (await found(pair, "user2")).name == "user2"
    assert not pair.servers[0].up
    for number in range(3):
        began = time.monotonic()
        other = await found(pair, f"user{number}")
        assert await pair.verify(other, PASSWORD) is PasswordVerdict.RIGHT
        assert time.monotonic() - began < TIMEOUT_SECONDS
    mend(proxy)
    await until(lambda: pair.servers[0].up)
    before = proxy.connections
    assert await pair.verify(user, PASSWORD) is PasswordVerdict.RIGHT
    assert proxy.connections > before


async def test_a_bind_without_an_answer_is_not_sent_to_the_next_server(
    pair: LdapDirectory, proxy: Proxy, slapd: RealSlapd
) -> None:
    """Rule 3: what happened to it nobody knows, so it is not done twice."""
    user = await found(pair, "user3")
    assert await pair.verify(user, PASSWORD) is PasswordVerdict.RIGHT
    before = slapd.binds_of(user.dn)
    proxy.mode = "slow"
    proxy.delay = TIMEOUT_SECONDS * 2
    with pytest.raises(BackendUnavailable, match="no answer within"):
        await pair.verify(user, "wrong")
    assert slapd.binds_of(user.dn) == before + 1
    assert await pair.verify(user, PASSWORD) is PasswordVerdict.RIGHT


async def test_answers_that_drip_hold_nobody_up(alone: LdapDirectory, proxy: Proxy) -> None:
    """Half a TLS record, half a message: the loop goes on."""
    await found(alone, "user0")
    proxy.mode = "drip"
    async with Pulse() as pulse:
        user = await found(alone, "user1")
        assert user.name == "user1"
    assert pulse.worst < TIMEOUT_SECONDS / 2


async def test_a_hundred_logins_at_a_hung_server_cost_few_threads_and_one_timeout(
    alone: LdapDirectory, proxy: Proxy
) -> None:
    """Bounded: connections by the pool, threads by two for each of its pools."""
    proxy.mode = "hang"
    threads = threading.active_count()
    began = time.monotonic()
    asked = [asyncio.ensure_future(alone.find(f"user{n}")) for n in range(100)]  # noqa: TID251
    worst = 0
    while not all(one.done() for one in asked):
        worst = max(worst, threading.active_count() - threads)
        await asyncio.sleep(0.01)
    assert all(isinstance(one.exception(), BackendUnavailable) for one in asked)
    assert time.monotonic() - began < TIMEOUT_SECONDS * 3
    assert worst <= 2 * ldap_server.MAX_OPENING + 1
    assert proxy.connections <= 10


async def test_more_than_may_wait_are_turned_away_at_once(
    alone: LdapDirectory, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    await found(alone, "user0")
    monkeypatch.setattr(ldap_server, "MAX_WAITING", 5)
    proxy.mode = "hang"
    asked = await asyncio.gather(
        *(alone.find(f"user{number}") for number in range(40)), return_exceptions=True
    )
    assert all(isinstance(one, BackendUnavailable) for one in asked)
    assert any("5 operations wait" in str(one) for one in asked)


async def test_many_at_once_share_the_pool(alone: LdapDirectory) -> None:
    """Each gets the answer to its own question, over so many connections of each kind."""

    async def login(number: int) -> tuple[str, PasswordVerdict]:
        user = await found(alone, f"user{number % 40}")
        return user.name, await alone.verify(user, PASSWORD if number % 3 else "wrong")

    for number, (name, verdict) in enumerate(
        await asyncio.gather(*(login(number) for number in range(200)))
    ):
        assert name == f"user{number % 40}"
        assert verdict is (PasswordVerdict.RIGHT if number % 3 else PasswordVerdict.WRONG)
    server = alone.servers[0]
    assert server._searches._open <= alone.options.pool_size
    assert server._binds._open <= alone.options.pool_size


async def test_a_login_given_up_ends_its_connection_and_nothing_else(
    alone: LdapDirectory, proxy: Proxy
) -> None:
    """The answer that comes too late meets nobody; the server is not blamed."""
    user = await found(alone, "user5")
    assert await alone.verify(user, PASSWORD) is PasswordVerdict.RIGHT
    proxy.mode, proxy.delay = "slow", 0.2
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await alone.verify(user, "wrong")
    proxy.mode = "pass"
    assert alone.servers[0].up
    assert await alone.verify(user, PASSWORD) is PasswordVerdict.RIGHT


async def test_connections_that_the_server_has_closed_are_not_used(
    alone: LdapDirectory, proxy: Proxy, slapd: RealSlapd
) -> None:
    """A server that was started anew costs no login its answer."""
    user = await found(alone, "user6")
    assert await alone.verify(user, PASSWORD) is PasswordVerdict.RIGHT
    server = alone.servers[0]
    idle = [*server._searches._idle, *server._binds._idle]
    slapd.stop()
    slapd.start()
    await until(lambda: all(connection.fault for connection in idle))
    assert await alone.verify(user, PASSWORD) is PasswordVerdict.RIGHT
    assert (await found(alone, "user7")).name == "user7"
    assert proxy.connections >= 4


async def test_every_call_is_told(alone: LdapDirectory, proxy: Proxy) -> None:
    """What the metrics count."""
    told: list[tuple[str, str]] = []
    alone.servers[0].observe = lambda _server, operation, fault, _seconds: told.append(
        (operation, fault)
    )
    await alone.verify(await found(alone, "user8"), PASSWORD)
    assert told == [("search", ""), ("bind", "")]
    told.clear()
    proxy.mode = "hang"
    with pytest.raises(BackendUnavailable):
        await alone.find("user8")
    assert told == [("search", "timeout")]

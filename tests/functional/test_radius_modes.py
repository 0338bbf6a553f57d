"""Every mode of a client with every kind of user, as a gateway sees it: real UDP, Redis and SQL."""

from collections.abc import Iterator
from time import time
from typing import Any

import pytest

from radius_mfa.app import Stores
from radius_mfa.policy.access import Mode
from radius_mfa.stores.enrolments import NewDevice
from tests.support import totp
from tests.support.radius import ACCESS_ACCEPT, ACCESS_REJECT
from tests.support.server import PASSWORD, RunningServer, Site

SOURCES = {mode: f"127.0.0.{20 + number}" for number, mode in enumerate(Mode)}
CLIENTS = [
    {"name": f"gw-{mode}", "address": source, "mfa": str(mode)} for mode, source in SOURCES.items()
]

CODE, ALONE = "code", "password alone"
NOT, IN, EXPIRED = "not_enrolled", "in_enrollment", "enrollment_expired"

TABLE = {
    "enrolled": (CODE, CODE, CODE, ALONE),
    "running": (IN, ALONE, ALONE, ALONE),
    "never": (NOT, NOT, ALONE, ALONE),
    "later": (NOT, NOT, ALONE, ALONE),
    "expired": (EXPIRED, EXPIRED, EXPIRED, ALONE),
    "disabled": ("factor_suspended",) * 3 + (ALONE,),
    "pending": (IN, ALONE, ALONE, ALONE),
    "exempt": (ALONE,) * 4,
    "locked": ("account_locked",) * 4,
    "suspended": ("user_suspended",) * 4,
}
"""Users by name, and what the client of each mode makes of them."""


async def set_up(stores: Stores) -> None:
    now, service = time(), stores.service
    await service.require(["running", "pending", "enrolled"], now)
    await service.require(["later"], now, starts=now + 86_400)
    await service.require(["expired"], now, 0)
    await service.exempt(["exempt"], now, now + 3600, "a test")
    await service.suspend_factor(["disabled"], suspended=True)
    await stores.enrolments.suspend(["suspended"], suspended=True)
    await stores.enrolments.add_device("pending", NewDevice("phone"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Four clients, one of each mode, and a user of every kind."""
    sections = {"lockout": {"failures_by_source": 0, "failures_by_user": 1, "lock_seconds": 0}}
    with Site(tmp_path_factory.mktemp("modes"), sections, CLIENTS) as site:
        site.add_users(["enrolled", "disabled", "locked", "suspended"])
        site.add_users(["running", "never", "later", "expired", "pending", "exempt"], seed=None)
        site.with_stores(set_up)
        running = site.start()
        with running.nas(SOURCES[Mode.ALWAYS]) as nas:
            assert nas.login("locked", "x" + totp.wrong_code()).code == ACCESS_REJECT
        yield running


CELLS = [
    pytest.param(user, mode, expected, id=f"{user}-{mode}")
    for user, row in TABLE.items()
    for mode, expected in zip(Mode, row, strict=True)
]


@pytest.mark.parametrize(("user", "mode", "expected"), CELLS)
def test_each_cell_of_the_table(
    server: RunningServer, user: str, mode: Mode, expected: str
) -> None:
    """A password alone is accepted, asked to be more, or refused with the reason of the cell."""
    with server.nas(SOURCES[mode]) as nas:
        reply = nas.login(user, PASSWORD)
    here = {"nas": f"gw-{mode}", "canonical_user": user}
    if expected == ALONE:
        assert reply.code == ACCESS_ACCEPT
        assert server.line("login.accepted", **here)["method"] == "password"
        return
    assert reply.code == ACCESS_REJECT
    reason = "wrong_code" if expected == CODE else expected
    assert server.line("login.rejected", **here)["reason"] == reason
    if expected == CODE:
        server.site.with_stores(lambda stores: stores.service.unlock([user]))


def test_off_is_said_at_every_start(server: RunningServer) -> None:
    assert server.line("client.second_factor_off")["nas"] == "gw-off"
    assert len(server.lines("client.second_factor_off")) == 1


def test_a_change_holds_at_once_on_a_running_server(server: RunningServer) -> None:
    """Required, over, exempt, enrolled, reset: each from the next login on, whatever was cached."""
    site = server.site
    site.add_users(["carol"], seed=None)

    def login(typed: str, mode: Mode = Mode.REQUIRED) -> Any:
        with server.nas(SOURCES[mode]) as nas:
            accepted = nas.login("carol", typed).code == ACCESS_ACCEPT
        if accepted:
            return "in"
        return server.lines("login.rejected", canonical_user="carol")[-1]["reason"]

    assert login(PASSWORD) == NOT
    assert site.cli("user", "require", "carol").exit_code == 0
    assert login(PASSWORD) == "in"
    assert site.cli("user", "withdraw", "carol").exit_code == 0
    assert site.cli("user", "require", "carol", "--days", "0").exit_code == 0
    assert login(PASSWORD) == EXPIRED
    site.with_stores(lambda s: s.service.exempt(["carol"], time(), time() + 900, "a test"))
    assert login(PASSWORD, Mode.ALWAYS) == "in"
    device = ("device", "add", "carol", "--seed", "-", "--confirmed")
    assert site.cli(*device, text=totp.SEED + "\n").exit_code == 0
    assert login(PASSWORD) == "wrong_code"
    assert site.cli("user", "unlock", "carol").exit_code == 0
    assert login(PASSWORD + totp.code()) == "in"
    assert site.cli("user", "reset", "carol", "--yes").exit_code == 0
    assert login(PASSWORD) == "in"
    assert site.cli("audit", "verify").exit_code == 0

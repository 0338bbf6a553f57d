"""Events of real logins: what ``tail`` shows, and when."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import totp
from tests.support.radius import ACCESS_ACCEPT, ACCESS_REJECT, CALLING_STATION_ID, Nas
from tests.support.server import PASSWORD, SECRET, RunningServer, Site, eventually

pytestmark = pytest.mark.xdist_group("events")

WITHIN_SECONDS = 1.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with Site(tmp_path_factory.mktemp("events")) as site:
        site.add_spare_users(12)
        yield site.start()


@pytest.fixture
def nas(server: RunningServer) -> Iterator[Nas]:
    with server.nas() as opened:
        yield opened


@pytest.fixture
def user(server: RunningServer) -> str:
    return server.site.fresh_user()


def tailed(server: RunningServer, *words: str) -> list[dict[str, Any]]:
    """Return the events that ``tail`` shows."""
    done = server.site.cli("tail", "--json", *words)
    assert done.exit_code == 0, done.err
    return [json.loads(line) for line in done.out.splitlines()]


def published(server: RunningServer, user: str, count: int = 1) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []

    def enough() -> bool:
        found[:] = tailed(server, "--user", user)
        return len(found) >= count

    eventually(enough, "the events")
    return found


def test_tail_follows_a_login_within_a_second(
    server: RunningServer, nas: Nas, user: str, tmp_path: Path
) -> None:
    """From the reply at the NAS to the line on the admin's screen."""
    command = [sys.executable, "-m", "radius_mfa", "-c", str(server.site.config)]
    screen, before = tmp_path / "screen", server.site.fresh_user()
    nas.login(before, PASSWORD + totp.code())
    published(server, before)
    with screen.open("wb") as output:
        tail = subprocess.Popen([*command, "tail", "-f", "-n", "1"], stdout=output)
    try:
        eventually(lambda: before in screen.read_text("utf-8"), "tail to begin")
        nas.login(user, PASSWORD + totp.code())
        eventually(lambda: user in screen.read_text("utf-8"), "the login", WITHIN_SECONDS)
    finally:
        tail.kill()
        tail.wait()


def test_an_event_is_the_line_of_the_log_word_for_word(
    server: RunningServer, nas: Nas, user: str
) -> None:
    station = [(CALLING_STATION_ID, b"198.51.100.7\x1b[2J")]
    assert nas.login(user, PASSWORD + totp.wrong_code(), station).code == ACCESS_REJECT
    assert nas.login(user, PASSWORD + totp.code(), station).code == ACCESS_ACCEPT
    found = published(server, user, 2)
    assert [event.pop("node") for event in found] == [os.uname().nodename] * 2
    assert found == server.lines(canonical_user=user)
    assert [event["event"] for event in found] == ["login.rejected", "login.accepted"]


def test_tail_shows_what_fits_its_filters_in_the_form_of_the_log(
    server: RunningServer, nas: Nas, user: str
) -> None:
    nas.login(user, PASSWORD + totp.wrong_code())
    nas.login(user, PASSWORD + totp.code())
    published(server, user, 2)
    wanted = ("--user", user.upper(), "--reason", "wrong_code", "--result", "rejected")
    shown = server.site.cli("tail", *wanted, "--client", "nas").out
    [line] = shown.splitlines()
    assert "login.rejected" in line
    assert f"canonical_user={user}" in line
    assert "reason=wrong_code" in line
    assert tailed(server, "--user", user, "--client", "other") == []
    assert len(tailed(server, "--user", user, "-n", "1")) == 1


def test_a_packet_with_the_wrong_secret_is_an_event_too(server: RunningServer) -> None:
    """Who sets up a gateway and follows the events sees why it gets no reply."""
    with server.nas(secret=SECRET + "x") as stranger:
        stranger.send(stranger.access_request("alice", "x"))
        [event, *_] = eventually(
            lambda: tailed(server, "--reason", "bad_message_authenticator"), "the discard"
        )
    assert event["event"] == "packet.discarded"


def test_events_hold_no_secret_of_the_logins_they_tell_of(
    server: RunningServer, nas: Nas, user: str
) -> None:
    """L02: the stream in Redis, octet for octet."""
    right = totp.code()
    for typed in (f"canary-typed{totp.wrong_code()}", PASSWORD + right, PASSWORD + right):
        nas.login(user, typed)
    published(server, user, 3)
    with server.site.redis as redis:
        stored = repr(redis.xrange("radius-mfa:{events}:stream"))
    assert user in stored
    for canary in (PASSWORD, SECRET, totp.SEED, "canary-typed"):
        assert canary not in stored

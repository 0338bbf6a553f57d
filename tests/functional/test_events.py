"""Events of real logins: what ``tail`` shows, and when."""

import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.functional.test_cli import Command, in_process
from tests.support import totp
from tests.support.radius import (
    ACCESS_ACCEPT,
    ACCESS_REJECT,
    CALLING_STATION_ID,
    NAS_IDENTIFIER,
    PROXY_STATE,
    Nas,
)
from tests.support.server import PASSWORD, SECRET, RunningServer, Site, eventually

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


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], server: RunningServer
) -> Iterator[Command]:
    with in_process(monkeypatch, capsys, server.site.config) as call:
        yield call


def tailed(command: Command, *words: str) -> list[dict[str, Any]]:
    """Return the events that ``tail`` shows."""
    done = command("tail", "--json", *words)
    assert done.exit_code == 0, done.err
    return [json.loads(line) for line in done.out.splitlines()]


def published(server: RunningServer, user: str, count: int = 1) -> None:
    """Wait until *count* events of *user* are in the stream."""

    def there() -> bool:
        with server.site.redis as redis:
            entries = redis.xrange("radius-mfa:{events}:stream")
        found = [json.loads(fields[b"event"]) for _, fields in entries]
        names = [event.get("canonical_user") for event in found]
        return names.count(user) >= count

    eventually(there, "the events")


def recorded(server: RunningServer, user: str, count: int = 1) -> None:
    """Wait until *count* logins of *user* are in the history."""

    def there() -> bool:
        with closing(sqlite3.connect(server.site.data / "radius-mfa.db")) as database:
            query = "SELECT count(*) FROM login_event WHERE user = ?"
            return bool(database.execute(query, [user]).fetchone()[0] >= count)

    eventually(there, "the history")


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
    server: RunningServer, command: Command, nas: Nas, user: str
) -> None:
    station = [(CALLING_STATION_ID, b"198.51.100.7\x1b[2J")]
    assert nas.login(user, PASSWORD + totp.wrong_code(), station).code == ACCESS_REJECT
    assert nas.login(user, PASSWORD + totp.code(), station).code == ACCESS_ACCEPT
    published(server, user, 2)
    found = tailed(command, "--user", user)
    assert [event.pop("node") for event in found] == [os.uname().nodename] * 2
    assert found == server.lines(canonical_user=user)
    assert [event["event"] for event in found] == ["login.rejected", "login.accepted"]


def test_tail_shows_what_fits_its_filters_in_the_form_of_the_log(
    server: RunningServer, command: Command, nas: Nas, user: str
) -> None:
    nas.login(user, PASSWORD + totp.wrong_code())
    nas.login(user, PASSWORD + totp.code())
    published(server, user, 2)
    wanted = ("--user", user.upper(), "--reason", "wrong_code", "--result", "rejected")
    shown = command("tail", *wanted, "--client", "nas").out
    [line] = shown.splitlines()
    assert "login.rejected" in line
    assert f"canonical_user={user}" in line
    assert "reason=wrong_code" in line
    assert tailed(command, "--user", user, "--client", "other") == []
    assert len(tailed(command, "--user", user, "-n", "1")) == 1


def test_a_packet_with_the_wrong_secret_is_an_event_too(
    server: RunningServer, command: Command
) -> None:
    """Who sets up a gateway and follows the events sees why it gets no reply."""
    with server.nas(secret=SECRET + "x") as stranger:
        stranger.send(stranger.access_request("alice", "x"))
        server.line("packet.discarded", reason="bad_message_authenticator")
    [event, *_] = eventually(
        lambda: tailed(command, "--reason", "bad_message_authenticator"), "the discard"
    )
    assert event["event"] == "packet.discarded"


def test_events_hold_no_secret_of_the_logins_they_tell_of(
    server: RunningServer, nas: Nas, user: str
) -> None:
    """L01: in the stream in Redis, and in the database's history."""
    right = totp.code()
    for typed in (f"canary-typed{totp.wrong_code()}", PASSWORD + right, PASSWORD + right):
        nas.login(user, typed)
    published(server, user, 3)
    with server.site.redis as redis:
        stored = repr(redis.xrange("radius-mfa:{events}:stream"))
    recorded(server, user, 3)
    files = [path.read_bytes() for path in server.site.data.glob("radius-mfa.db*")]
    for kept in (stored.encode(), b"".join(files)):
        assert user.encode() in kept
        for canary in (PASSWORD, SECRET, totp.SEED, "canary-typed"):
            assert canary.encode() not in kept


def test_explain_says_in_plain_words_why_and_what_to_do(
    server: RunningServer, command: Command, nas: Nas, user: str
) -> None:
    station = [(CALLING_STATION_ID, b"198.51.100.7")]
    nas.login(user, PASSWORD + totp.code(offset=-6), station)
    nas.login(user.upper(), "wrong" + totp.code(), station)
    recorded(server, user, 2)
    said = command("explain", user).out
    head, code, password = re.split(r"\n(?:wrong_code|wrong_password) \(1 of 2\)\n", said)
    assert head.startswith(f"{user}: 2 logins")
    assert head.count("198.51.100.7") == 2
    assert re.search(r"the phone's clock seems about \d+ s slow", head)
    assert "switch automatic time on in the phone" in code
    assert f"user passwd {user}" in " ".join(password.split())
    [first, last] = command("explain", user, "--json").json()
    assert (first["reason"], last["typed"]) == ("wrong_code", user.upper())
    by_login = command("explain", "--login", first["request_id"], "--json").json()
    assert by_login == [first]


def test_explain_of_nobody_says_where_to_look(command: Command) -> None:
    done = command("explain", "stranger")
    assert done.exit_code == 1
    assert "there is nothing of stranger in the history" in done.err
    assert "--result discarded" in done.err
    assert command("explain").exit_code == 1


def test_what_stopped_servers_had_to_tell_is_in_the_history(site: Site) -> None:
    """One that is told to stop publishes to the last; one that is killed loses a moment at most."""
    site.add_users(["alice", "bob"])
    first = site.start()
    with first.nas() as nas:
        nas.login("alice", PASSWORD + totp.code())
        first.stop()
    second = site.start()
    with second.nas() as nas:
        nas.login("bob", PASSWORD + totp.code())
        published(second, "bob")
        second.kill()
    third = site.start()
    for user in ("alice", "bob"):
        recorded(third, user)


def test_client_seen_shows_what_gateways_send_and_what_may_be_required(
    site: Site, command: Command
) -> None:
    site.clients = [
        {"name": "strict", "address": "127.0.0.1"},
        {"name": "lax", "address": "127.0.0.2", "require_message_authenticator": False},
        {"name": "signing", "address": "127.0.0.3", "require_message_authenticator": False},
        {"name": "silent", "address": "192.0.2.1"},
    ]
    site.write_config()
    server = site.start()
    with server.nas() as strict, server.nas("127.0.0.2") as lax, server.nas("127.0.0.3") as signing:
        strict.login("alice", "x", [(NAS_IDENTIFIER, b"hq")])
        strict.send(strict.access_request("alice", "x", message_authenticator="none"))
        repeated = lax.access_request("alice", "x", [(PROXY_STATE, b"p")], identifier=9)
        lax.ask(repeated)
        lax.ask(repeated)
        lax.ask(lax.access_request("alice", "x", message_authenticator="none"))
        for _ in range(10):
            signing.login("alice", "x")
    server.stop()
    told = command("client", "seen", "--json", config=site.config).json()
    seen = {one["client"]: one for one in told["seen"]}
    numbers = {
        name: [seen[name][field] for field in ("requests", "signed", "proxied", "resent")]
        for name in seen
    }
    assert numbers == {"strict": [1, 1, 0, 0], "lax": [2, 1, 1, 1], "signing": [10, 10, 0, 0]}
    assert seen["strict"]["nas_identifier"] == "hq"
    assert seen["lax"]["methods"] == ["pap"]
    assert [name for name, line in told["advice"].items() if line] == ["signing"]
    shown = command("client", "seen", config=site.config).out
    assert re.search(r"^lax .* 1 of 2 +1 of 2 +1 +pap ", shown, re.MULTILINE)
    assert re.search(r"^silent .* never$", shown, re.MULTILINE)
    assert "set require_message_authenticator = true" in shown

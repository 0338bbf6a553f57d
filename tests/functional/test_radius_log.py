"""The auth log: one line for each finished request, that says why in an operator's words."""

import re
import socket
import sqlite3
import urllib.request
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.support import totp
from tests.support.radius import (
    ACCESS_ACCEPT,
    ACCESS_REJECT,
    CALLING_STATION_ID,
    NAS_IDENTIFIER,
    Nas,
)
from tests.support.server import PASSWORD, RunningServer, Site

ALWAYS = {
    "event",
    "level",
    "timestamp",
    "request_id",
    "nas",
    "user",
    "canonical_user",
    "directory",
    "source",
    "identifier",
    "method",
    "duration_ms",
    "redis_ms",
    "database_ms",
    "directory_ms",
    "duplicates",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with Site(tmp_path_factory.mktemp("log")) as site:
        site.add_spare_users(12)
        yield site.start()


@pytest.fixture
def nas(server: RunningServer) -> Iterator[Nas]:
    with server.nas() as opened:
        yield opened


@pytest.fixture
def user(server: RunningServer) -> str:
    return server.site.fresh_user()


def test_an_accepted_login_is_one_line_with_every_field(
    server: RunningServer, nas: Nas, user: str
) -> None:
    attributes = [(CALLING_STATION_ID, b"198.51.100.7"), (NAS_IDENTIFIER, b"asa-hq")]
    assert nas.login(user.upper(), PASSWORD + totp.code(), attributes).code == ACCESS_ACCEPT
    [line] = server.lines(canonical_user=user)
    assert set(line) == ALWAYS | {"station", "nas_identifier"}
    host, port = nas.socket.getsockname()
    told = {
        "event": "login.accepted",
        "level": "info",
        "nas": "nas",
        "user": user.upper(),
        "canonical_user": user,
        "source": f"{host}:{port}",
        "station": "198.51.100.7",
        "nas_identifier": "asa-hq",
        "identifier": 1,
        "method": "totp",
        "duplicates": 0,
    }
    assert told.items() <= line.items()
    parts = line["redis_ms"] + line["database_ms"] + line["directory_ms"]
    assert 0 < line["redis_ms"] < parts <= line["duration_ms"] + 0.3, "parts of one whole"
    assert line["directory_ms"] > 0


def test_a_rejected_login_is_one_line_with_reason_and_hint(
    server: RunningServer, nas: Nas, user: str
) -> None:
    assert nas.login(user, PASSWORD).code == ACCESS_REJECT
    [line] = server.lines(user=user)
    assert set(line) == ALWAYS | {"reason", "hint"}
    assert (line["event"], line["method"]) == ("login.rejected", "pap")
    assert line["reason"] == "wrong_code"
    assert line["hint"] == "no code of 6 digits where this client expects it"


def test_request_ids_tell_logins_apart(server: RunningServer, nas: Nas, user: str) -> None:
    for number in range(3):
        nas.login(user, f"wrong-{number}")
    lines = server.lines("login.rejected", user=user)
    assert len({line["request_id"] for line in lines}) == 3


@pytest.mark.parametrize(("offset", "clock"), [(-5, "slow"), (5, "fast")])
def test_a_code_of_a_wrong_clock_is_explained(
    server: RunningServer, nas: Nas, user: str, offset: int, clock: str
) -> None:
    """The reason is one, the hint says what to mend; nothing so found is ever accepted."""
    assert nas.login(user, PASSWORD + totp.code(offset=offset)).code == ACCESS_REJECT
    line = server.line("login.rejected", user=user)
    assert line["reason"] == "wrong_code"
    seconds = re.fullmatch(f"the phone's clock seems about (\\d+) s {clock}", line["hint"])
    assert seconds is not None, line["hint"]
    assert int(seconds[1]) in (120, 150, 180)  # the step may turn between the two


def test_a_code_far_from_any_clock_has_no_such_hint(
    server: RunningServer, nas: Nas, user: str
) -> None:
    nas.login(user, PASSWORD + totp.wrong_code())
    line = server.line("login.rejected", user=user)
    assert (line["reason"], "hint" in line) == ("wrong_code", False)


EVIL = "eve\r\n2026-01-01T00:00:00Z [info] login.accepted user=alice\x1b[2J\u202e\x9b\u2028end"


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_text_from_outside_stays_on_its_line_and_is_bounded(site: Site, log_format: str) -> None:
    """L03: no CR, LF, ESC or other control from a packet reaches the log."""
    site.sections = {"log": {"format": log_format}}
    site.write_config()
    server = site.start()
    with server.nas() as nas:
        before = server.text.count("\n")
        attributes = [(CALLING_STATION_ID, EVIL.encode()), (NAS_IDENTIFIER, b"\xff\0\x1b" * 80)]
        for name in (EVIL.encode(), b"\xff\xfe\n", b"x" * 253):
            assert nas.login(name, "x", attributes).code == ACCESS_REJECT
    assert server.stop() == 0
    octets = server.log_file.read_bytes()
    assert octets.count(b"\n") == before + 3 + 1  # the last says that the server stopped
    assert not any(octet < 32 and octet != 10 for octet in octets)
    assert not set(server.text) & set("\x7f\x9b\u202e\u2028")
    assert max(map(len, server.text.splitlines())) < 1500


def test_the_console_form_says_the_same_for_people(site: Site) -> None:
    site.sections = {"log": {"format": "console", "level": "info"}}
    site.write_config()
    site.add_users(["alice"])
    server = site.start()
    with server.nas() as nas:
        assert nas.login("alice", PASSWORD + totp.code()).code == ACCESS_ACCEPT
        assert nas.login("alice", PASSWORD).code == ACCESS_REJECT
    accepted, rejected = (
        next(line for line in server.text.splitlines() if f" login.{what} " in line)
        for what in ("accepted", "rejected")
    )
    for part in ("info", "nas=nas", "user=alice", "method=totp", "directory_ms="):
        assert part in accepted
    assert 'reason=wrong_code hint="no code of 6 digits where this client expects it"' in rejected


def test_a_stored_value_that_breaks_a_login_is_logged_without_it(site: Site) -> None:
    """L02, A09: an exception nobody foresaw is silence on the wire, and its text goes nowhere."""
    site.add_users(["alice"])
    poison = "canary-algorithm"
    site.canaries.add(poison)
    with closing(sqlite3.connect(site.data / "radius-mfa.db")) as database:
        database.execute("UPDATE device SET algorithm = ?", [poison])
        database.commit()
    server = site.start()
    with server.nas() as nas:
        nas.assert_silent(nas.access_request("alice", PASSWORD + totp.code()))
    line = server.line("login.failed")
    assert line["error"] == "ValueError"
    assert line["user"] == "alice"
    assert "report" in line["hint"]
    assert server.lines("not json") == []


def test_metrics_count_what_happened_and_name_no_user(site: Site) -> None:
    """L04: logins by result and reason, discards by reason, the backends' health."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
    site.sections = {"metrics": {"listen": f"127.0.0.1:{port}"}}
    site.write_config()
    site.add_users(["alice"])
    server = site.start()
    with server.nas() as nas:
        request = nas.access_request("alice", PASSWORD + totp.code())
        nas.ask(request)
        nas.ask(request)
        nas.login("alice", PASSWORD)
        nas.assert_silent(nas.access_request("alice", "x", message_authenticator="wrong"))
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
        text = page.read().decode()
    for line in (
        'radius_mfa_logins_total{client="nas",reason="",result="accept"} 1.0',
        'radius_mfa_logins_total{client="nas",reason="wrong_code",result="reject"} 1.0',
        'radius_mfa_replies_resent_total{client="nas"} 1.0',
        'radius_mfa_packets_discarded_total{reason="bad_message_authenticator"} 1.0',
        'radius_mfa_status_server_total{client="nas"} 1.0',
        'radius_mfa_backend_up{backend="redis"} 1.0',
        "radius_mfa_requests_in_flight 0.0",
    ):
        assert line in text.splitlines()
    assert "alice" not in text
    assert server.stop() == 0

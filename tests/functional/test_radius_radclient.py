"""FreeRADIUS's radclient, a client written by others, against a real server process."""

import re
from collections.abc import Iterator

import pytest

from tests.support import totp
from tests.support.radius import Radclient, radclient
from tests.support.server import PASSWORD, SECRET, RunningServer, Site

CLIENTS = [
    {"name": "gateway", "address": ["127.0.0.1", "::1"]},
    {"name": "quiet", "address": "127.0.0.11", "status_server": False},
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server on 127.0.0.1 and ::1 that radclient reaches from addresses of two clients."""
    radius = {"listen": ["127.0.0.1:0", "[::1]:0"]}
    with Site(tmp_path_factory.mktemp("radclient"), {"radius": radius}, CLIENTS) as site:
        site.add_spare_users(8)
        yield site.start()


def login(
    server: RunningServer, user: str, typed: str, *options: str, secret: str = SECRET
) -> Radclient:
    request = f'User-Name = "{user}", User-Password = "{typed}"'
    return radclient(server.address, request, secret, *options)


def test_password_and_code_are_accepted_with_no_attribute_but_the_signature(
    server: RunningServer,
) -> None:
    done = login(server, server.site.fresh_user(), PASSWORD + totp.code())
    assert done.received == ["Access-Accept"], done.out
    assert (done.attributes, done.exit_code) == ([], 0)


def test_a_reject_holds_the_fixed_text_and_nothing_else(server: RunningServer) -> None:
    """A08, B10: whatever the user typed, the reply says the same."""
    done = login(server, server.site.fresh_user(), "wrong" + totp.code())
    assert done.received == ["Access-Reject"], done.out
    assert done.attributes == ['Reply-Message = "Access denied"']


def test_a_secret_of_64_octets_works_whole(site: Site) -> None:
    """T03: as the RFCs ask, and none of its octets is left out."""
    secret = "canary-".ljust(64, "x")
    site.canaries.add(secret)
    site.clients = [{"name": "gateway", "address": "127.0.0.1", "secret": secret}]
    site.write_config()
    site.add_users(["alice"])
    server, typed = site.start(), PASSWORD + totp.code()
    for wrong in (secret[:-1], secret + "x", secret[:-1] + "y"):
        assert login(server, "alice", typed, "-r", "1", "-t", "0.3", secret=wrong).received == []
    assert login(server, "alice", typed, secret=secret).received == ["Access-Accept"]


def test_ipv6_is_served(server: RunningServer) -> None:
    """T05."""
    user = server.site.fresh_user()
    request = f'User-Name = "{user}", User-Password = "{PASSWORD}{totp.code()}"'
    done = radclient(server.endpoints[1], request, SECRET)
    assert done.received == ["Access-Accept"], done.out
    assert server.line("login.accepted", user=user)["source"].startswith("::1:")


def test_a_wrong_shared_secret_gets_no_reply_and_changes_nothing(server: RunningServer) -> None:
    """B01: the code is not consumed and no failure counted: the login itself then succeeds."""
    user, typed = server.site.fresh_user(), PASSWORD + totp.code()
    secret = "another-shared-secret-of-32-chars"
    done = login(server, user, typed, "-r", "1", "-t", "0.5", secret=secret)
    assert done.received == [], done.out
    assert "No reply" in done.out
    line = server.line("packet.discarded", reason="bad_message_authenticator")
    assert "shared secret" in line["hint"]
    assert server.site.failures(user) == 0
    assert login(server, user, typed).received == ["Access-Accept"]


def test_status_server_is_answered(server: RunningServer) -> None:
    """S01: with an Access-Accept; S05: it is no login."""
    before = len(server.lines("login.accepted"))
    done = radclient(server.address, "", SECRET, command="status")
    assert done.received == ["Access-Accept"], done.out
    assert done.attributes == []
    assert len(server.lines("login.accepted")) == before


def test_status_server_switched_off_for_a_client_is_silent(server: RunningServer) -> None:
    """S03."""
    source = "Packet-Src-IP-Address = 127.0.0.11"
    done = radclient(server.address, source, SECRET, "-r", "1", "-t", "0.5", command="status")
    assert done.received == [], done.out
    assert server.line("packet.discarded", reason="status_server_refused")["source"] == "127.0.0.11"


def test_a_real_retransmission_in_the_reject_delay_is_one_login(site: Site) -> None:
    """D02, D07: while the reject is due, repeats are silent; the failure is counted once."""
    site.sections = {"radius": {"reject_delay_seconds": 1.5}}
    site.write_config()
    site.add_users(["alice"])
    server = site.start()
    done = login(server, "alice", "wrong" + totp.code(), "-r", "5", "-t", "0.4")
    assert done.received == ["Access-Reject"], done.out
    assert len(done.sent) >= 2, done.out
    assert len(set(done.sent)) == 1, "radclient's repeats bear one Identifier and one port"
    assert len(server.lines("login.rejected")) == 1
    line = server.line("login.rejected", reason="wrong_password")
    assert line["duplicates"] == len(done.sent) - 1
    assert line["duration_ms"] < 1500, "the delay of the reject is not the login's"
    assert site.failures("alice") == 1


def test_a_user_name_with_control_characters_is_one_tame_line(server: RunningServer) -> None:
    r"""L03: radclient sends \r, \n and ESC; the log shows them escaped."""
    done = login(server, r"eve\r\n\033[2Jalice", "x" + totp.code())
    assert done.received == ["Access-Reject"], done.out
    line = server.line("login.rejected", reason="invalid_user_name")
    assert re.fullmatch(r"eve\\r\\n\\x1b\[2Jalice", line["user"])

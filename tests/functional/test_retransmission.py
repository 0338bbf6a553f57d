"""The same login again: the same octets, the same login as a new packet, another node."""

import select
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Self

import pytest

from tests.support import totp
from tests.support.radius import (
    ACCESS_ACCEPT,
    ACCESS_REJECT,
    ACCT_SESSION_ID,
    CALLING_STATION_ID,
    Nas,
    radclient,
)
from tests.support.redis import RealRedis
from tests.support.server import PASSWORD, SECRET, RunningServer, Site, eventually

PLAIN, OTHER, GRACE, OTHER_GRACE, SHORT_GRACE = (f"127.0.0.{n}" for n in (1, 11, 12, 13, 14))

CLIENTS = [
    {"name": "plain", "address": [PLAIN, "127.0.0.2"]},
    {"name": "other", "address": OTHER},
    {"name": "grace", "address": GRACE, "failover_grace_seconds": 15},
    {"name": "other-grace", "address": OTHER_GRACE, "failover_grace_seconds": 15},
    {"name": "short-grace", "address": SHORT_GRACE, "failover_grace_seconds": 1},
]

REJECT_DELAY = 0.4

HOME = (CALLING_STATION_ID, b"198.51.100.7")
SESSION = (ACCT_SESSION_ID, b"8C6F1A20")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that takes its time with rejects."""
    radius = {"reject_delay_seconds": REJECT_DELAY}
    with Site(tmp_path_factory.mktemp("again"), {"radius": radius}, CLIENTS) as site:
        site.add_spare_users(30)
        yield site.start()


@pytest.fixture
def user(server: RunningServer) -> str:
    return server.site.fresh_user()


def lines(server: RunningServer, user: str) -> list[str]:
    """Return the events of the login lines of *user*."""
    return [
        line["event"]
        for line in server.lines(user=user)
        if line["event"] in ("login.accepted", "login.rejected")
    ]


# The same packet


def test_an_accept_is_resent_octet_by_octet(server: RunningServer, user: str) -> None:
    """D01, D06: though the first reply was lost; one login, one code, one line."""
    with server.nas() as nas:
        request = nas.access_request(user, PASSWORD + totp.code())
        nas.send(request)
        lost = nas.socket.recv(4096)
        replies = {nas.ask(request).octets for _ in range(3)}
        assert replies == {lost}
        assert lost[0] == ACCESS_ACCEPT
    assert lines(server, user) == ["login.accepted"]
    resent = [line["duplicates"] for line in server.lines("reply.resent")][-3:]
    assert resent == [1, 2, 3]


def test_a_reject_is_sent_once_while_it_is_due_and_then_resent(
    server: RunningServer, user: str
) -> None:
    """D02, D07: three packets at once get one reply; the failure is counted once."""
    with server.nas() as nas:
        request = nas.access_request(user, "wrong" + totp.code())
        for _ in range(3):
            nas.send(request)
        in_time = nas.replies(2 * REJECT_DELAY)
        assert len(in_time) == 1
        later = nas.ask(request)
        assert (later.code, later.octets) == (ACCESS_REJECT, in_time[0])
    assert lines(server, user) == ["login.rejected"]
    assert server.line("login.rejected", user=user)["duplicates"] == 2
    assert server.site.failures(user) == 1


def test_a_reused_identifier_supersedes_the_old_request(server: RunningServer, user: str) -> None:
    """D04: the late reply of the old request is not sent; that of the new one is kept."""
    with server.nas() as nas:
        old = nas.access_request(user, "wrong", identifier=7)
        new = nas.access_request(user, PASSWORD + totp.code(), identifier=7)
        nas.send(old)
        reply = nas.ask(new)
        assert reply.code == ACCESS_ACCEPT
        assert nas.replies(2 * REJECT_DELAY) == []
        assert nas.ask(new).octets == reply.octets
    superseded = server.line("login.rejected", user=user)
    assert superseded["sent"].startswith("no")


def test_a_forged_packet_does_not_displace_a_cached_reply(server: RunningServer, user: str) -> None:
    """D05: same port and Identifier, another authenticator, wrong Message-Authenticator."""
    with server.nas() as nas:
        request = nas.access_request(user, PASSWORD + totp.code(), identifier=7)
        reply = nas.ask(request)
        forged = nas.access_request(user, "x", identifier=7, message_authenticator="wrong")
        nas.assert_silent(forged, seconds=2 * REJECT_DELAY)
        assert nas.ask(request).octets == reply.octets
    assert lines(server, user) == ["login.accepted"]


class LossyPath:
    """Carries datagrams between a client and a server, and loses the first reply."""

    def __init__(self, server: tuple[str, int]) -> None:
        self._near = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._near.bind(("127.0.0.1", 0))
        self._far = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._far.connect(server)
        self.address: tuple[str, int] = self._near.getsockname()
        self.replies: list[bytes] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._carry)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._ended.set()
        self._thread.join()
        self._near.close()
        self._far.close()

    def _carry(self) -> None:
        client = ("", 0)
        while not self._ended.is_set():
            ready, _, _ = select.select([self._near, self._far], [], [], 0.05)
            if self._near in ready:
                request, client = self._near.recvfrom(4096)
                self._far.send(request)
            if self._far in ready:
                self.replies.append(self._far.recv(4096))
                if len(self.replies) > 1:
                    self._near.sendto(self.replies[-1], client)


def test_radclient_gets_the_accept_that_was_lost_on_the_way(
    server: RunningServer, user: str
) -> None:
    """D06: a real client's repeat; the code is consumed once."""
    with LossyPath(server.address) as path:
        request = f'User-Name = "{user}", User-Password = "{PASSWORD}{totp.code()}"'
        done = radclient(path.address, request, SECRET, "-r", "3", "-t", "0.5")
    assert done.received == ["Access-Accept"], done.out
    assert path.replies[0] == path.replies[1]
    assert lines(server, user) == ["login.accepted"]


# The same login as a new packet (../shared: nas-behaviour 1; D09)


def test_a_repeat_of_the_same_session_as_a_new_packet_shares_the_accept(
    server: RunningServer, user: str
) -> None:
    """OpenVPN repeats from a new port, radsecproxy with a new Identifier, and both sign anew."""
    typed = PASSWORD + totp.code()
    for _ in range(3):
        with server.nas() as nas:
            assert nas.login(user, typed, [SESSION]).code == ACCESS_ACCEPT
    shared = [line.get("verdict", "") for line in server.lines("login.accepted", user=user)]
    assert [bool(verdict) for verdict in shared] == [False, True, True]


def test_a_repeat_of_the_same_session_shares_the_reject_too(
    server: RunningServer, user: str
) -> None:
    typed = PASSWORD + totp.wrong_code()
    for _ in range(2):
        with server.nas() as nas:
            assert nas.login(user, typed, [SESSION]).code == ACCESS_REJECT
    assert server.site.failures(user) == 1
    assert "verdict" in server.lines("login.rejected", user=user)[1]


@pytest.mark.parametrize(
    ("source", "attributes"),
    [
        pytest.param(PLAIN, [], id="without Acct-Session-Id"),
        pytest.param(PLAIN, [(ACCT_SESSION_ID, b"")], id="with an empty one"),
        pytest.param(PLAIN, [(ACCT_SESSION_ID, b"8C6F1A21")], id="of another session"),
        pytest.param(OTHER, [SESSION], id="from another client"),
    ],
)
def test_what_is_not_the_same_session_is_refused(
    server: RunningServer, user: str, source: str, attributes: list[tuple[int, bytes]]
) -> None:
    """D09, O04: RFC 6238 section 5.2, a code is used once."""
    typed = PASSWORD + totp.code()
    with server.nas(PLAIN) as nas:
        assert nas.login(user, typed, [SESSION]).code == ACCESS_ACCEPT
    with server.nas(source) as nas:
        assert nas.login(user, typed, attributes).code == ACCESS_REJECT
    assert server.line("login.rejected", user=user)["reason"] == "code_replayed"


def test_two_logins_without_session_or_with_an_empty_one_share_nothing(
    server: RunningServer, user: str
) -> None:
    """An empty Acct-Session-Id is none: it does not tie logins together."""
    typed = PASSWORD + totp.code()
    with server.nas() as nas:
        empty = [(ACCT_SESSION_ID, b"")]
        assert nas.login(user, typed, empty).code == ACCESS_ACCEPT
        assert nas.login(user, typed, empty).code == ACCESS_REJECT


def test_the_same_session_with_another_password_is_judged_anew(
    server: RunningServer, user: str
) -> None:
    code = totp.code()
    with server.nas() as nas:
        assert nas.login(user, "wrong" + code, [SESSION]).code == ACCESS_REJECT
        assert nas.login(user, PASSWORD + code, [SESSION]).code == ACCESS_ACCEPT
        assert nas.login(user, "wrong" + code, [SESSION]).code == ACCESS_REJECT


def test_the_same_session_of_another_user_is_judged_anew(server: RunningServer, user: str) -> None:
    typed, other = PASSWORD + totp.code(), server.site.fresh_user()
    with server.nas() as nas:
        assert nas.login(user, typed, [SESSION]).code == ACCESS_ACCEPT
        assert nas.login(other, "x" + typed, [SESSION]).code == ACCESS_REJECT
        assert nas.login(other, typed, [SESSION]).code == ACCESS_ACCEPT


# failover_grace_seconds


def test_within_the_grace_the_same_station_shares_the_accept(
    server: RunningServer, user: str
) -> None:
    """D09: pam_radius fails over from the same port with a new Identifier, without a session."""
    typed = PASSWORD + totp.code()
    with server.nas(GRACE) as nas:
        assert nas.login(user, typed, [HOME]).code == ACCESS_ACCEPT
        assert nas.login(user, typed, [HOME]).code == ACCESS_ACCEPT


@pytest.mark.parametrize(
    ("source", "station"),
    [
        pytest.param(GRACE, [(CALLING_STATION_ID, b"203.0.113.9")], id="another station"),
        pytest.param(GRACE, [], id="no station"),
        pytest.param(OTHER_GRACE, [HOME], id="another client"),
        pytest.param(PLAIN, [HOME], id="a client without grace"),
    ],
)
def test_the_grace_is_for_the_same_client_and_station_only(
    server: RunningServer, user: str, source: str, station: list[tuple[int, bytes]]
) -> None:
    """D09."""
    typed = PASSWORD + totp.code()
    with server.nas(GRACE) as nas:
        assert nas.login(user, typed, [HOME]).code == ACCESS_ACCEPT
    with server.nas(source) as nas:
        assert nas.login(user, typed, station).code == ACCESS_REJECT
    assert server.line("login.rejected", user=user)["reason"] == "code_replayed"


def test_the_grace_ends(server: RunningServer, user: str) -> None:
    """D09: counted from the first login, so that repeats do not stretch it."""
    typed = PASSWORD + totp.code()
    with server.nas(SHORT_GRACE) as nas:
        assert nas.login(user, typed, [HOME]).code == ACCESS_ACCEPT
        eventually(
            lambda: nas.login(user, typed, [HOME]).code == ACCESS_REJECT,
            "the grace of one second to end",
            5,
        )


# Another node


def test_a_node_killed_after_consuming_the_code_leaves_the_accept_to_the_other(
    site: Site, real_redis: RealRedis
) -> None:
    """D06, D09: SIGKILL before the reply was cared for; the NAS sends the same packet elsewhere."""
    site.sections = {"redis": {"url": real_redis.url}}
    site.write_config()
    site.add_users(["alice"])
    with ExitStack() as stack:
        first, second = site.start(), site.start()
        redis = stack.enter_context(real_redis.client)
        nas = stack.enter_context(first.nas())
        elsewhere = stack.enter_context(Nas(second.address, SECRET.encode()))
        typed = PASSWORD + totp.code()
        request = nas.access_request("alice", typed)
        nas.send(request)
        eventually(lambda: list(redis.scan_iter("*:alice:steps")), "the code to be consumed")
        first.kill()
        reply = elsewhere.ask(request)
        assert reply.code == ACCESS_ACCEPT
        assert elsewhere.ask(request).octets == reply.octets
        assert "verdict" in second.line("login.accepted")
        assert elsewhere.login("alice", typed).code == ACCESS_REJECT, "in a new packet it is used"


def test_a_packet_sent_to_both_nodes_at_once_is_one_login(
    site: Site, real_redis: RealRedis
) -> None:
    """D06, D07: both give the same verdict, the code is consumed once, the failure counted once."""
    site.sections = {"redis": {"url": real_redis.url}}
    site.write_config()
    site.add_users(["alice", "bob"])
    first, second = site.start(), site.start()
    with first.nas() as nas, Nas(second.address, SECRET.encode()) as elsewhere:
        for user, password, code in (
            ("alice", PASSWORD, ACCESS_ACCEPT),
            ("bob", "wrong", ACCESS_REJECT),
        ):
            request = nas.access_request(user, password + totp.code())
            nas.send(request)
            elsewhere.send(request)
            assert [nas.receive(request).code, elsewhere.receive(request).code] == [code, code]
    assert site.failures("bob") == 1
    assert site.failures("alice") == 0

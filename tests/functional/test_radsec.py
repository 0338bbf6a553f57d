"""RADIUS over TLS: whose connection it is, what breaks it, and what it shares with none other."""

import hashlib
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support import totp
from tests.support.certificates import Authority
from tests.support.debian import tool
from tests.support.radius import (
    ACCESS_ACCEPT,
    ACCESS_REJECT,
    PROXY_STATE,
    Nas,
    encode,
    radclient,
    request_authenticator,
    verified,
)
from tests.support.radsec import SECRET, TlsNas, trust
from tests.support.server import PASSWORD, RunningServer, Site, eventually

GATEWAY = "vpn1.corp.example"

CLIENTS = [
    {"name": "gateway", "certificate_name": GATEWAY.upper(), "limit_proxy_state": True},
    {"name": "both", "certificate_name": ["vpn2.corp.example", "192.0.2.7"], "address": "::1"},
    {"name": "here", "address": "127.0.0.1"},
]


EVERY_LINE = "import radius_mfa.server.line_quota as quota; quota.INTERVAL_SECONDS = 0"
IMPATIENT = """
import radius_mfa.server.radsec as radsec
radsec.PACKET_SECONDS = radsec.HANDSHAKE_SECONDS = 0.3
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the certificates of the server and of gateways."""
    folder = tmp_path_factory.mktemp("certificates")
    authority = Authority(folder)
    authority.issue("server", ["127.0.0.1"])
    authority.issue("gateway", [GATEWAY, "other.corp.example"])
    authority.issue("second", ["192.0.2.7"])
    authority.issue("stranger", ["vpn9.corp.example"])
    authority.issue("expired", [GATEWAY], days=-1)
    authority.issue("two", [GATEWAY, "vpn2.corp.example"])
    (folder / "elsewhere").mkdir()
    Authority(folder / "elsewhere").issue("forged", [GATEWAY])
    return folder


@contextmanager
def serving_tls(
    at: Path, folder: Path, program: str = "", **limits: Any
) -> Iterator[RunningServer]:
    """A server that serves TLS beside UDP."""
    radsec = {
        "listen": ["127.0.0.1:0"],
        "certificate_file": str(folder / "server.pem"),
        "certificate_key_file": str(folder / "server.key"),
        "client_ca_file": str(folder / "ca.pem"),
        **limits,
    }
    with Site(at, {"radsec": radsec}, list(CLIENTS)) as site:
        site.serve_metrics()
        site.add_spare_users(32)
        yield site.start(program)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Iterator[RunningServer]:
    with serving_tls(tmp_path_factory.mktemp("radsec"), folder, EVERY_LINE) as started:
        yield started


@pytest.fixture
def user(server: RunningServer) -> str:
    """A user nobody has logged in as."""
    return server.site.fresh_user()


def endpoint(server: RunningServer) -> tuple[str, int]:
    """Return where the server takes connections."""
    host, port = server.line("server.started")["listen_tls"].rsplit(":", 1)
    return host, int(port)


def refused(server: RunningServer) -> list[dict[str, Any]]:
    """Return the connections refused so far, as the log has them."""
    return server.lines("connection.refused")


@pytest.fixture
def nas(server: RunningServer, folder: Path) -> Iterator[TlsNas]:
    with TlsNas(endpoint(server), trust(folder, "gateway")) as connected:
        yield connected


def again(nas: TlsNas, folder: Path, shows: str = "gateway") -> TlsNas:
    """Return another connection to the same server."""
    return TlsNas(nas.socket.getpeername(), trust(folder, shows))


# Whose connection it is


@pytest.mark.parametrize(
    ("shows", "reason", "says"),
    [
        (None, "handshake_failed", "certificate"),
        ("elsewhere/forged", "handshake_failed", "certificate verify failed"),
        ("expired", "handshake_failed", "certificate verify failed"),
        ("stranger", "unknown_certificate", "vpn9.corp.example"),
        ("two", "unknown_certificate", "two clients: both, gateway"),
    ],
)
def test_a_certificate_that_is_no_clients_gets_no_reply(
    server: RunningServer, folder: Path, shows: str | None, reason: str, says: str
) -> None:
    """R02: no login is even begun, and the log says which certificate it was and what to do."""
    before, accepted = len(refused(server)), len(server.lines("login.accepted"))
    counted = server.metric("radius_mfa_packets_discarded_total", reason=reason)
    # TLS 1.3 ends its handshake for the client before the server has seen a certificate
    with TlsNas(endpoint(server), trust(folder, shows)) as nas:
        with suppress(ssl.SSLError, ConnectionError):
            nas.send(nas.access_request(server.site.fresh_user(), PASSWORD + totp.code()))
        assert nas.is_closed
    line = eventually(lambda: refused(server)[before:], "the line")[0]
    assert (line["reason"], line["source"]) == (reason, "127.0.0.1")
    assert says in line["detail"]
    assert line["hint"]
    assert server.metric("radius_mfa_packets_discarded_total", reason=reason) == counted + 1
    assert len(server.lines("login.accepted")) == accepted


def test_what_is_no_tls_gets_no_reply(server: RunningServer) -> None:
    """R02: nor does a gateway that speaks RADIUS over TCP."""
    before = len(refused(server))
    with socket.create_connection(endpoint(server), 10) as plain, server.nas() as packets:
        plain.sendall(packets.status_server())
        assert not plain.recv(4096).startswith(b"\x02")
    assert eventually(lambda: refused(server)[before:], "the line")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1])
def test_old_tls_is_refused(server: RunningServer, folder: Path, version: ssl.TLSVersion) -> None:
    """R03: TLS 1.2 is the oldest."""
    before = len(refused(server))
    context = trust(folder, "gateway")
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLS"):
        context.minimum_version = context.maximum_version = version
    with pytest.raises((ssl.SSLError, ConnectionError)):
        TlsNas(endpoint(server), context)
    line = eventually(lambda: refused(server)[before:], "the line")[0]
    assert line["detail"] == "unsupported protocol"


def test_a_gateway_is_known_by_its_certificate(
    server: RunningServer, nas: TlsNas, folder: Path, user: str
) -> None:
    """R01, R02: two gateways at one address are two clients, and each is logged by its name."""
    assert nas.login(user, PASSWORD + totp.wrong_code()).code == ACCESS_REJECT
    with again(nas, folder, "second") as second:
        assert second.login(user, PASSWORD + totp.code()).code == ACCESS_ACCEPT
        assert server.metric("radius_mfa_tls_connections", client="both") == 1
    assert server.line("login.accepted", user=user)["nas"] == "both"
    rejected = server.line("login.rejected", user=user)
    assert (rejected["nas"], rejected["reason"]) == ("gateway", "wrong_code")
    closed = eventually(lambda: server.lines("connection.closed", nas="both"), "its leave")
    assert closed[0]["cause"] == "the gateway closed it"
    assert server.metric("radius_mfa_tls_connections", client="both") == 0


def test_a_gateway_of_tls_is_nobody_over_udp(server: RunningServer, user: str) -> None:
    """R02: and the secret that everybody knows opens nothing there."""
    before = len(server.lines("packet.discarded"))
    with server.nas(secret="radsec") as nas:
        nas.send(nas.access_request(user, PASSWORD + totp.code()))
        found = eventually(lambda: server.lines("packet.discarded")[before:], "the discard")
    assert found[0]["reason"] == "bad_message_authenticator"


# What a packet must be


def test_b12_signatures_are_not_asked_for_and_one_that_is_there_must_be_right(
    server: RunningServer, nas: TlsNas, user: str
) -> None:
    """B12: neither require_message_authenticator nor limit_proxy_state counts over TLS."""
    proxied = [(PROXY_STATE, b"proxy")]
    request = nas.access_request(
        user, PASSWORD + totp.code(), proxied, message_authenticator="none"
    )
    reply = nas.ask(request)
    assert reply.code == ACCESS_ACCEPT
    assert reply.all(PROXY_STATE) == [b"proxy"]
    other = server.site.fresh_user()
    nas.send(nas.access_request(other, PASSWORD + totp.code(), message_authenticator="wrong"))
    assert nas.is_closed
    assert server.lines("packet.discarded")[-1]["reason"] == "bad_message_authenticator"
    assert not server.lines("login.accepted", user=other)


BROKEN = {
    "too short": bytes.fromhex("01010013") + bytes(15),
    "too long": bytes.fromhex("01011001") + bytes(4093),
    "an attribute of length 1": encode(1, 1, bytes(16), [])[:2]
    + b"\x00\x16"
    + bytes(16)
    + b"\x01\x01",
    "attribute 0": encode(1, 1, bytes(16), [(0, b"x")]),
    "an unsigned Status-Server": encode(12, 1, bytes(16), []),
    "a forged Accounting-Request": encode(4, 1, bytes(16), []),
    "a forged CoA-Request": encode(43, 1, bytes(16), []),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN.keys())
def test_a_packet_that_breaks_the_protocol_breaks_the_connection(
    server: RunningServer, nas: TlsNas, folder: Path, user: str, broken: bytes
) -> None:
    """R04, R11: what follows it is not read; other connections go on."""
    with again(nas, folder) as other:
        before = len(server.lines("packet.discarded"))
        nas.send(broken + nas.access_request(user, PASSWORD + totp.code()))
        assert nas.is_closed
        assert other.ask(other.status_server()).code == ACCESS_ACCEPT
    assert len(server.lines("packet.discarded")) == before + 1
    assert not server.lines("login.accepted", user=user)


def test_a_code_that_nobody_serves_is_passed_over(server: RunningServer, nas: TlsNas) -> None:
    """R04: the connection goes on."""
    nas.send(encode(255, 7, bytes(16), []))
    assert nas.ask(nas.status_server()).code == ACCESS_ACCEPT
    assert server.lines("packet.discarded")[-1]["reason"] == "unexpected_code"


@pytest.mark.parametrize(("asked", "answered"), [(4, 5), (40, 42), (43, 45)])
def test_what_is_not_served_is_said_so(nas: TlsNas, asked: int, answered: int) -> None:
    """R01: accounting, Disconnect and CoA get Error-Cause 406, for they have no other port."""
    request = request_authenticator(encode(asked, 9, bytes(16), []), SECRET)
    nas.send(request)
    reply = nas.packet()
    assert (reply[0], reply[1], reply[20:]) == (answered, 9, bytes([101, 6, 0, 0, 1, 150]))
    unsigned = reply[:4] + request[4:20] + reply[20:] + SECRET
    assert reply[4:20] == hashlib.md5(unsigned).digest()  # noqa: S324 - the protocol's
    assert nas.ask(nas.status_server()).code == ACCESS_ACCEPT


# The stream


def test_replies_come_as_they_are_ready(server: RunningServer, nas: TlsNas, user: str) -> None:
    """R05, R07: a reject waits, later requests do not; packets may share a record, or be torn."""
    wrong = nas.access_request(server.site.fresh_user(), PASSWORD + totp.wrong_code())
    right = nas.access_request(user, PASSWORD + totp.code())
    nas.send(wrong + right[:30])
    for octet in right[30:]:
        nas.send(bytes([octet]))
    assert verified(nas.packet(), right, SECRET).code == ACCESS_ACCEPT
    assert verified(nas.packet(), wrong, SECRET).code == ACCESS_REJECT


def test_d12_duplicates_belong_to_a_connection(
    server: RunningServer, nas: TlsNas, folder: Path, user: str
) -> None:
    """D12: a packet again gets its cached reply; on another connection it is decided anew.

    Anew is by the verdict that all nodes share: the code is good for this packet alone.
    """
    request = nas.access_request(user, PASSWORD + totp.code())
    resent = len(server.lines("reply.resent"))
    first = nas.ask(request)
    assert first.code == ACCESS_ACCEPT
    assert nas.ask(request).octets == first.octets
    assert len(server.lines("reply.resent")) == resent + 1
    with again(nas, folder) as other:
        assert other.ask(request).code == ACCESS_ACCEPT
        assert len(server.lines("reply.resent")) == resent + 1
        assert other.login(user, PASSWORD + totp.code()).code == ACCESS_REJECT
    decided = server.lines("login.accepted", user=user)
    assert ["verdict" in line for line in decided] == [False, True]


def test_an_idle_connection_stays(nas: TlsNas) -> None:
    """R06: Status-Server is the watchdog of a connection, answered as long as it lasts."""
    for _ in range(3):
        assert nas.ask(nas.status_server()).code == ACCESS_ACCEPT


def test_who_dawdles_is_sent_away(tmp_path: Path, folder: Path) -> None:
    """R07: in a handshake and in a packet; between packets there is all the time."""
    with (
        serving_tls(tmp_path, folder, IMPATIENT) as server,
        socket.create_connection(endpoint(server), 10) as silent,
        TlsNas(endpoint(server), trust(folder, "gateway")) as nas,
        TlsNas(endpoint(server), trust(folder, "gateway")) as quiet,
    ):
        assert silent.recv(1) == b""
        nas.send(nas.status_server()[:25])
        assert nas.is_closed
        assert quiet.ask(quiet.status_server()).code == ACCESS_ACCEPT
        line = eventually(lambda: refused(server), "the line")[0]
        assert line["reason"] == "handshake_failed"
        cause = "a packet took more than 0.3 s"
        assert eventually(lambda: server.lines("connection.closed", cause=cause), "the line")


def test_there_is_a_limit_to_connections(tmp_path: Path, folder: Path) -> None:
    """R07: those that are open go on; one that ends makes room."""
    context = trust(folder, "gateway")
    with (
        serving_tls(tmp_path, folder, max_connections=2) as server,
        TlsNas(endpoint(server), context) as first,
    ):
        with TlsNas(endpoint(server), context), pytest.raises((ConnectionError, ssl.SSLError)):
            TlsNas(endpoint(server), context)
        line = eventually(lambda: refused(server), "the line")[0]
        assert line["reason"] == "too_many_connections"
        assert first.ask(first.status_server()).code == ACCESS_ACCEPT
        eventually(lambda: server.lines("connection.closed"), "the second to be gone")
        with TlsNas(endpoint(server), context) as later:
            assert later.ask(later.status_server()).code == ACCESS_ACCEPT


def test_a_stopping_server_answers_what_it_has_taken(tmp_path: Path, folder: Path) -> None:
    """A16: a reject that is due later leaves before the connection ends."""
    with (
        serving_tls(tmp_path, folder) as server,
        TlsNas(endpoint(server), trust(folder, "gateway")) as nas,
    ):
        request = nas.access_request(server.site.fresh_user(), PASSWORD + totp.wrong_code())
        status = nas.status_server()
        nas.send(request + status)
        assert verified(nas.packet(), status, SECRET).code == ACCESS_ACCEPT  # both were taken
        server.process.send_signal(signal.SIGTERM)
        assert nas.receive(request).code == ACCESS_REJECT
        assert nas.is_closed
        assert server.process.wait(10) == 0
        assert server.line("connection.closed")["cause"] == "the server stops"


# With a real proxy

RADSECPROXY = """
ListenUDP 127.0.0.1:{udp}
LogLevel 2
LogDestination file://{folder}/proxy.log
tls default {{
    CACertificateFile {folder}/ca.pem
    CertificateFile {folder}/gateway.pem
    CertificateKeyFile {folder}/gateway.key
}}
client 127.0.0.1 {{
    type udp
    secret {secret}
}}
server 127.0.0.1 {{
    type tls
    port {port}
    StatusServer on
}}
realm * {{
    server 127.0.0.1
}}
"""


def test_logins_through_radsecproxy(
    server: RunningServer, folder: Path, tmp_path: Path, user: str
) -> None:
    """R01, R05, R06: radclient speaks UDP to a real radsecproxy, and that TLS to us."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        udp = probe.getsockname()[1]
    config = tmp_path / "radsecproxy.conf"
    secret = "between-radclient-and-proxy"
    config.write_text(
        RADSECPROXY.format(udp=udp, folder=folder, secret=secret, port=endpoint(server)[1])
    )
    before = len(server.lines("connection.opened"))
    command = [tool("radsecproxy"), "-f", "-c", str(config)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as proxy:
        try:
            eventually(lambda: server.lines("connection.opened")[before:], "the proxy")
            with Nas(("127.0.0.1", udp), secret.encode()) as nas:
                assert nas.login(user, PASSWORD + totp.wrong_code()).code == ACCESS_REJECT
            words = f'User-Name = "{user}", User-Password = "{PASSWORD}{totp.code()}"'
            done = radclient(("127.0.0.1", udp), words, secret)
            assert done.received == ["Access-Accept"]
        finally:
            proxy.terminate()
    assert server.line("login.accepted", nas="gateway", user=user)

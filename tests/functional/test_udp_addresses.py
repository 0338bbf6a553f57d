"""Sockets: who may ask, which address answers, bursts, and ports that can't be had."""

import contextlib
import random
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import totp
from tests.support.radius import ACCESS_ACCEPT, ACCESS_REJECT, Nas
from tests.support.server import PASSWORD, SECRET, RunningServer, Site, cli

NAS_IP_ADDRESS = 4

WIDE, NARROW, HOST = "secret-of-the-wide-network", "secret-of-the-narrow-one", "secret-of-one-host"

CLIENTS = [
    {"name": "wide", "address": "127.0.1.0/24", "secret": WIDE},
    {"name": "host", "address": "127.0.1.130", "secret": HOST},
    {"name": "narrow", "address": "127.0.1.128/25", "secret": NARROW},
    {"name": "here", "address": ["127.0.0.1", "::1"]},
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server on both wildcards at one port, with clients whose networks overlap."""
    port = free_port()
    radius = {"listen": [f"0.0.0.0:{port}", f"[::]:{port}"]}
    with Site(tmp_path_factory.mktemp("addresses"), {"radius": radius}, CLIENTS) as site:
        site.add_spare_users(12)
        yield site.start()


@pytest.fixture(scope="module")
def dual_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server on the IPv6 wildcard alone, which serves IPv4 too."""
    radius = {"listen": ["[::]:0"]}
    with Site(tmp_path_factory.mktemp("dual-stack"), {"radius": radius}) as site:
        site.add_spare_users(4)
        yield site.start()


def free_port() -> int:
    """Return a port that is free in both families, and that the kernel gives to nobody else."""
    for port in random.sample(range(20_000, 32_000), 100):  # below the ephemeral ports
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as dual:
            dual.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            with contextlib.suppress(OSError):
                dual.bind(("::", port))
                return port
    raise AssertionError("no free port")


def asked_at(server: RunningServer, address: str, source: str = "", secret: str = SECRET) -> Nas:
    """Return a NAS that asks *address*; its socket takes replies from there alone."""
    return Nas((address, server.address[1]), secret.encode(), source)


# Who may ask


def test_an_unknown_source_is_silent_and_logged_once(server: RunningServer) -> None:
    """T01: three packets, one line, with the cure."""
    user, code = server.site.fresh_user(), totp.code()
    with asked_at(server, "127.0.0.1", "127.0.0.9") as stranger, server.nas() as nas:
        for _ in range(3):
            stranger.send(stranger.access_request(user, PASSWORD + code))
        stranger.send(stranger.status_server())
        nas.assert_silent()
        assert stranger.replies(0.1) == []
        assert nas.login(user, PASSWORD + code).code == ACCESS_ACCEPT
    lines = server.lines("packet.discarded", reason="unknown_nas", source="127.0.0.9")
    assert len(lines) == 1
    assert "radius-mfa client add" in lines[0]["hint"]


@pytest.mark.parametrize(
    ("source", "secret", "client"),
    [
        ("127.0.1.127", WIDE, "wide"),
        ("127.0.1.129", NARROW, "narrow"),
        ("127.0.1.130", HOST, "host"),
    ],
)
def test_the_longest_prefix_decides_whatever_the_order(
    server: RunningServer, source: str, secret: str, client: str
) -> None:
    """T02: and no secret of another network that holds the address opens it.

    Whatever NAS-IP-Address says: that of the network whose secret is used.
    """
    user, code = server.site.fresh_user(), totp.code()
    own_address = {WIDE: "127.0.1.1", NARROW: "127.0.1.129", HOST: "127.0.1.130"}
    for other in {WIDE, NARROW, HOST} - {secret}:
        with asked_at(server, "127.0.0.1", source, other) as nas:
            told = [(NAS_IP_ADDRESS, socket.inet_aton(own_address[other]))]
            nas.send(nas.access_request(user, PASSWORD + code, told))
            assert nas.replies(0.15) == []
    with asked_at(server, "127.0.0.1", source, secret) as nas:
        assert nas.login(user, PASSWORD + code).code == ACCESS_ACCEPT
    assert server.line("login.accepted", user=user)["nas"] == client


# Which address answers


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.5", "::1"])
def test_a_wildcard_replies_from_the_address_asked(server: RunningServer, address: str) -> None:
    """T04, T05."""
    user = server.site.fresh_user()
    with asked_at(server, address, "127.0.0.1" if "." in address else "") as nas:
        request = nas.access_request(user, PASSWORD + totp.code())
        reply = nas.ask(request)
        assert reply.code == ACCESS_ACCEPT
        assert nas.ask(request).octets == reply.octets, "a resent reply leaves from there too"


@pytest.mark.parametrize(("address", "source"), [("127.0.0.5", "127.0.0.1"), ("::1", "")])
def test_a_dual_stack_socket_serves_both_from_the_address_asked(
    dual_stack: RunningServer, address: str, source: str
) -> None:
    """T04, T05: an IPv4 peer matches the IPv4 client, and the log shows its IPv4 address."""
    user = dual_stack.site.fresh_user()
    with asked_at(dual_stack, address, source) as nas:
        assert nas.login(user, PASSWORD + totp.code()).code == ACCESS_ACCEPT
    shown = dual_stack.line("login.accepted", user=user)["source"]
    assert shown.rpartition(":")[0] == (source or "::1")


def test_several_addresses_are_served_each_by_its_own_socket(site: Site) -> None:
    site.sections = {"radius": {"listen": ["127.0.0.1:0", "127.0.0.2:0", "[::1]:0"]}}
    site.write_config()
    server = site.start()
    assert len(server.endpoints) == 3
    for endpoint in server.endpoints:
        with Nas(endpoint, SECRET.encode()) as nas:
            assert nas.ask(nas.status_server()).code == ACCESS_ACCEPT


# Bursts


def test_a_burst_of_every_identifier_from_several_ports_loses_nothing(
    server: RunningServer,
) -> None:
    """T11: 1024 requests at once, while the server has no time to read a single one."""
    with contextlib.ExitStack() as stack:
        nases = [stack.enter_context(server.nas()) for _ in range(4)]
        padding = [(200, bytes(250))]  # the kernel counts such a datagram as over 1 KiB
        server.process.send_signal(signal.SIGSTOP)
        try:
            for nas in nases:
                for _ in range(256):
                    nas.send(nas.access_request("nobody", "x", padding))
        finally:
            server.process.send_signal(signal.SIGCONT)
        for nas in nases:
            assert {nas.socket.recv(4096)[1] for _ in range(256)} == set(range(256))


# Ports that can't be had


def test_a_busy_port_ends_the_start_with_the_cure(site: Site, tmp_path: Path) -> None:
    """T10: loudly, with exit code 3, and nothing is left running."""
    first = site.start()
    port = first.address[1]
    other = Site(tmp_path / "other", {"radius": {"listen": [f"127.0.0.1:{port}"]}})
    done = other.cli("serve")
    assert done.exit_code == 3
    assert f"UDP port {port} on 127.0.0.1 is in use" in done.err
    assert "radius.listen" in done.err
    assert "Traceback" not in done.err
    assert other.redis_processes() == []
    with first.nas() as nas:
        assert nas.ask(nas.status_server()).code == ACCESS_ACCEPT


def test_an_address_of_another_machine_ends_the_start_with_the_cure(site: Site) -> None:
    site.sections = {"radius": {"listen": ["127.0.0.1:0", "192.0.2.1:0"]}}
    site.write_config()
    done = site.cli("serve")
    assert done.exit_code == 3
    assert "192.0.2.1" in done.err
    assert "not this machine's" in done.err
    assert site.redis_processes() == []


def test_two_servers_on_one_data_folder_are_refused(site: Site) -> None:
    """The second ends with exit code 3 and the cure; the first serves on."""
    site.add_users(["alice"])
    first = site.start()
    done = cli("serve", config=site.config)
    assert done.exit_code == 3
    assert f"(process {first.process.pid}) uses the data folder" in done.err
    with first.nas() as nas:
        assert nas.login("alice", PASSWORD + totp.code()).code == ACCESS_ACCEPT
        assert nas.login("alice", "wrong").code == ACCESS_REJECT

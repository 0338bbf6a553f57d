"""Which NAS a packet comes from: by its source address alone."""

import dataclasses
import ipaddress
from itertools import permutations

import pytest

from radius_mfa.errors import UnknownCertificate, UnknownNas
from radius_mfa.protocol import nas as nas_module
from radius_mfa.protocol.nas import CertificateTable, Nas, NasTable


def nas(name: str, *networks: str) -> Nas:
    found = tuple(ipaddress.ip_network(network) for network in networks)
    return Nas(name, found, b"secret of " + name.encode())


HOST = nas("host", "192.0.2.7")
SMALL = nas("small", "192.0.2.0/29")
WIDE = nas("wide", "192.0.2.0/24", "2001:db8::/32")
SITE = nas("site", "2001:db8:7::/48")
LOCAL = nas("local", "fe80::/64", "::1")
ALL = [HOST, SMALL, WIDE, SITE, LOCAL]


@pytest.mark.parametrize(
    "source",
    [
        "192.0.3.0",
        "192.0.1.255",
        "127.0.0.1",
        "0.0.0.0",  # noqa: S104 - a source address
        "255.255.255.255",
        "2001:db9::1",
        "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff",
        "fe80:0:0:1::1",
        "::",
        "::2",
        "::192.0.2.7",  # compatible is not mapped
        "64:ff9b::c000:207",
        "::ffff:198.51.100.1",
    ],
)
def test_an_address_that_no_client_holds_is_unknown(source: str) -> None:
    """T01: every time it asks; no IPv6 address is taken for the IPv4 number inside it."""
    table = NasTable(ALL)
    for _ in range(2):
        with pytest.raises(UnknownNas):
            table.find(source)


def test_an_empty_table_knows_nobody() -> None:
    for source in ("127.0.0.1", "::1"):
        with pytest.raises(UnknownNas):
            NasTable([]).find(source)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("192.0.2.7", HOST),
        ("192.0.2.6", SMALL),
        ("192.0.2.0", SMALL),
        ("192.0.2.8", WIDE),
        ("192.0.2.255", WIDE),
        ("2001:db8::1", WIDE),
        ("2001:db8:6:ffff::1", WIDE),
        ("2001:db8:7::1", SITE),
        ("2001:DB8:7:0:0::1", SITE),
        ("::1", LOCAL),
        ("::ffff:192.0.2.7", HOST),  # T05: an IPv4 peer of a dual-stack socket
        ("::ffff:c000:0206", SMALL),
        ("fe80::1", LOCAL),
        ("fe80::1%eth0", LOCAL),  # T05: link-local, with the zone it came from
        ("fe80::1%2", LOCAL),
    ],
)
def test_the_longest_prefix_wins_whatever_the_order(source: str, found: Nas) -> None:
    """T02, T05."""
    for order in permutations(ALL):
        assert NasTable(order).find(source) is found


def test_a_default_route_is_the_last_resort_of_its_family() -> None:
    four, six = nas("four", "0.0.0.0/0"), nas("six", "::/0")
    table = NasTable([four, six, HOST])
    assert table.find("192.0.2.7") is HOST
    assert table.find("203.0.113.9") is four
    assert table.find("::ffff:203.0.113.9") is four
    assert table.find("2001:db8::1") is six
    with pytest.raises(UnknownNas):
        NasTable([six]).find("203.0.113.9")


def test_what_was_found_is_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory of sources is bounded, and forgetting changes no answer."""
    monkeypatch.setattr(nas_module, "_REMEMBERED_SOURCES", 4)
    table = NasTable(ALL)
    for _ in range(3):
        for host in range(16):
            expected = HOST if host == 7 else SMALL if host < 8 else WIDE
            for _ in range(2):
                assert table.find(f"192.0.2.{host}") is expected
            assert len(table._found) <= 4


def test_a_source_is_looked_up_once() -> None:
    """However many networks there are."""
    table = NasTable(ALL)
    for source in ("192.0.2.7", "::ffff:192.0.2.7", "192.0.2.7", "::1"):
        table.find(source)
    table._prefixes.clear()
    assert table.find("192.0.2.7") is table.find("::ffff:192.0.2.7") is HOST
    assert table.find("::1") is LOCAL


def test_strangers_are_not_remembered() -> None:
    """T01: a flood from forged addresses costs no memory."""
    table = NasTable(ALL)
    for host in range(256):
        with pytest.raises(UnknownNas):
            table.find(f"203.0.113.{host}")
    assert not table._found


def test_a_nas_left_at_its_defaults_is_a_careful_one() -> None:
    """B13, S03, A13, D09: every softer way is a setting of its own."""
    assert HOST.require_message_authenticator
    assert not HOST.limit_proxy_state
    assert HOST.status_server
    assert HOST.failover_grace_seconds == 0
    assert not HOST.reject_on_backend_failure


def test_a_nas_does_not_show_its_secret() -> None:
    """Rule 8, L01."""
    assert "secret of" not in repr(HOST)
    assert "secret of" not in str(NasTable([HOST]).find("192.0.2.7"))


CERTIFICATES = CertificateTable({"vpn1.corp": HOST, "192.0.2.9": HOST, "vpn2.corp": SMALL})


@pytest.mark.parametrize(
    "names", [["VPN1.corp"], ["other", "192.0.2.9"], ["vpn1.corp", "192.0.2.9"]]
)
def test_b12_over_tls_a_certificate_is_enough(names: list[str]) -> None:
    """B12, R02: a name of it tells the client, and neither secret nor signature is asked for."""
    strict = dataclasses.replace(HOST, limit_proxy_state=True)
    found = CertificateTable({"vpn1.corp": strict, "192.0.2.9": strict}).find(names)
    assert found == dataclasses.replace(
        HOST, shared_secret=b"radsec", over_tls=True, require_message_authenticator=False
    )


@pytest.mark.parametrize("names", [[], ["vpn3.corp"], ["*.corp"], ["corp"], [""]])
def test_a_certificate_without_a_known_name_is_unknown(names: list[str]) -> None:
    """R02: a name counts as a whole."""
    with pytest.raises(UnknownCertificate, match="has its certificate_name"):
        CERTIFICATES.find(names)


def test_a_certificate_of_two_clients_is_neithers() -> None:
    """R02: nobody could say whose settings count."""
    with pytest.raises(UnknownCertificate, match="two clients: host, small"):
        CERTIFICATES.find(["vpn2.corp", "vpn1.corp"])

"""Rules and reply attributes as a gateway sees them: real UDP, a real slapd, radclient's eyes."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.functional.test_cli import in_process
from tests.functional.test_ldap_login import dn, enrol
from tests.support import totp
from tests.support.radius import ACCESS_ACCEPT, ACCESS_REJECT, CALLING_STATION_ID, Reply, radclient
from tests.support.server import PASSWORD, SECRET, RunningServer, Site
from tests.support.slapd import (
    ROOT_PASSWORD,
    SEARCH_PASSWORD,
    SUFFIX,
    RealSlapd,
    group,
    person,
)

CROWD = 300
"""Groups of one user: more than a reply holds."""

TUNNEL_PASSWORD = "canary-tunnel-password"

CLIENTS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "rules": ("127.0.0.41", {"mfa": "enrolled"}),
    "all-groups": ("127.0.0.42", {"group_attribute": "Cisco-AVPair", "group_value": "g={group}"}),
    "mapped": (
        "127.0.0.43",
        {
            "group_attribute": "Fortinet-Group-Name",
            "group_map": {"Crowd 7": "seven", f"CN=top, ou=groups,{SUFFIX}": "Süd", "ops": "ops"},
        },
    ),
    "plain": ("127.0.0.44", {}),
}

RULES: list[dict[str, Any]] = [
    {"name": "night", "client": "rules", "group": "loop3", "station": "10.0.0.0/8", "refuse": True},
    {"name": "admins", "client": "rules", "group": "admins", "mfa": "always"},
    {
        "name": "fixed",
        "client": "rules",
        "group": "fixed",
        "reply": {"Framed-IP-Address": "{ldap:employeeNumber}", "Filter-Id": "{ldap:mail}"},
        "required": ["Framed-IP-Address"],
    },
    {
        "name": "top",
        "client": "rules",
        "group": "TOP",
        "reply": {
            "Filter-Id": ["123", "Gruppe Süd"],
            "Class": ["0xAB", "u={user}", "{hex:00ff}"],
            "Session-Timeout": 28800,
            "Framed-IP-Address": "192.0.2.9",
            "Framed-IPv6-Prefix": "2001:db8:1::/56",
            "Tunnel-Type:1": "VLAN",
            "Tunnel-Private-Group-Id:1": "42",
            "Tunnel-Password:1": TUNNEL_PASSWORD,
            "PaloAlto-User-Group": "{groups:,}",
            "Reply-Message": "ü" * 200,
            "Login-IP-Host": "{ldap:departmentNumber}",
        },
    },
    {"name": "misspelt", "client": "rules", "group": "lopo1", "refuse": True},
]

TOP = [
    'Filter-Id = "123"',
    'Filter-Id = "Gruppe Süd"',
    "Class = 0x30784142",
    "Class = 0x753d7573657231",
    "Class = 0x00ff",
    "Session-Timeout = 28800",
    "Framed-IP-Address = 192.0.2.9",
    "Framed-IPv6-Prefix = 2001:db8:1::/56",
    "Tunnel-Type:1 = VLAN",
    'Tunnel-Private-Group-Id:1 = "42"',
    f'Tunnel-Password:1 = "{TUNNEL_PASSWORD}"',
    'PaloAlto-User-Group = "low,middle,top"',
    f'Reply-Message = "{"ü" * 126}"',
    f'Reply-Message = "{"ü" * 74}"',
]
"""What radclient reads of the rule of that name, in its order."""


def nested(name: str, member: str) -> Any:
    return group(name, f"cn={member},ou=groups,{SUFFIX}")


@pytest.fixture(scope="module")
def slapd() -> Iterator[RealSlapd]:
    with RealSlapd() as server:
        server.add(
            *(person(f"user{number}", PASSWORD) for number in range(9)),
            person("fixed", PASSWORD, employeeNumber=["192.0.2.77"], mail=["a@corp.example"]),
            person("unfixed", PASSWORD, employeeNumber=["seven"], mail=["x" * 254]),
            person("crowded", PASSWORD),
            group("low", "user1", "user4"),
            nested("middle", "low"),
            nested("top", "middle"),
            group("loop1", "user2", f"cn=loop3,ou=groups,{SUFFIX}"),
            nested("loop2", "loop1"),
            nested("loop3", "loop2"),
            group("admins", "user3", "user7"),
            group("fixed", "fixed", "unfixed"),
            *(group(f"Crowd {number}", "crowded") for number in range(CROWD)),
        )
        server.modify(dn("user1"), departmentNumber=["none of an address"])
        yield server


@pytest.fixture(scope="module")
def server(slapd: RealSlapd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    sections = {"directory": {"ldap": [slapd.section(lookup_cache_seconds=0)]}}
    clients = [
        {"name": name, "address": source, **more} for name, (source, more) in CLIENTS.items()
    ]
    folder = tmp_path_factory.mktemp("policy")
    with Site(folder, sections, clients=clients, top={"rule": RULES}) as site:
        site.canaries |= {SEARCH_PASSWORD, ROOT_PASSWORD, TUNNEL_PASSWORD}
        enrol(site, "user2", "user3", "crowded", *(f"user{number}" for number in range(5, 9)))
        yield site.start()


def login(
    server: RunningServer, client: str, user: str, typed: str = "", station: str = ""
) -> Reply:
    with server.nas(CLIENTS[client][0]) as nas:
        stations = [(CALLING_STATION_ID, station.encode())] if station else []
        return nas.login(user, typed or PASSWORD + totp.code(), stations)


def vendor(octets: bytes) -> bytes:
    """Return the value inside a Vendor-Specific attribute."""
    return octets[6:]


def reason(server: RunningServer, user: str) -> str:
    return str(server.line("login.rejected", user=user)["reason"])


# Refusals


def test_a_rule_s_refusal_is_a_reject_like_any_other(server: RunningServer) -> None:
    """A08, A15: through a loop of groups, before the directory is asked for the password."""
    refused = login(server, "rules", "user2", station="10.9.8.7:4500")
    wrong = login(server, "plain", "user2", "wrong" + totp.code())
    assert refused.code == ACCESS_REJECT
    assert refused.attributes[1:] == wrong.attributes[1:]
    line = server.line("login.rejected", user="user2", reason="refused_by_rule")
    assert (line["rule"], line["station"]) == ("night", "10.9.8.7:4500")
    assert line["hint"] == "rule night: see radius-mfa policy explain user2 --client rules"
    assert login(server, "rules", "user2", station="192.0.2.1").code == ACCESS_ACCEPT


def test_a_value_that_is_required_and_does_not_fit_is_a_reject(server: RunningServer) -> None:
    assert login(server, "rules", "unfixed", PASSWORD).code == ACCESS_REJECT
    line = server.line("login.rejected", user="unfixed")
    assert (line["reason"], line["rule"]) == ("attribute_missing", "fixed")
    assert line["hint"] == (
        "rule fixed requires Framed-IP-Address: a value of the user is not an IPv4 address"
    )
    told = server.line("reply.attribute_left_out", canonical_user="unfixed")
    assert told["attributes"] == ["Filter-Id", "Framed-IP-Address"]
    assert "seven" not in str(told)


def test_more_groups_than_a_reply_holds_are_a_reject_and_a_map_mends_it(
    server: RunningServer,
) -> None:
    """Bad input: thousands of groups; T08: never a reply over 4096 octets."""
    typed = PASSWORD + totp.code()
    assert login(server, "all-groups", "crowded", typed).code == ACCESS_REJECT
    assert reason(server, "crowded") == "attributes_too_long"
    accepted = login(server, "mapped", "crowded", typed)
    assert accepted.code == ACCESS_ACCEPT, "the code is not used up by the reject"
    assert [vendor(one) for one in accepted.all(26)] == [b"seven"]


# What goes out


def test_radclient_reads_every_attribute_of_the_rule(server: RunningServer) -> None:
    """A17: of every kind, in order, for a user who is in the group through two others."""
    source = CLIENTS["rules"][0]
    request = f'User-Name = "USER1", User-Password = "{PASSWORD}"'
    read = radclient(server.address, f"{request}, Packet-Src-IP-Address = {source}", SECRET)
    assert read.attributes == TOP
    told = server.line("reply.attribute_left_out", canonical_user="user1")
    assert (told["attributes"], told["rule"]) == (["Login-IP-Host"], "top")
    assert told["cause"] == "a value of the user is not an IPv4 address"
    assert server.line("login.accepted", user="USER1")["rule"] == "top"


def test_a_retransmission_gets_the_very_octets_again(server: RunningServer) -> None:
    """D01: a hidden value has a new salt in every reply, but not in the same one."""
    with server.nas(CLIENTS["rules"][0]) as nas:
        request = nas.access_request("user4", PASSWORD)
        first = nas.ask(request)
        assert first.code == ACCESS_ACCEPT
        assert nas.ask(request).octets == first.octets
        other = nas.login("user4", PASSWORD)
    assert other.code == ACCESS_ACCEPT
    assert other.all(69) != first.all(69)


def test_attributes_come_from_the_directory(server: RunningServer) -> None:
    accepted = login(server, "rules", "fixed", PASSWORD)
    assert accepted.code == ACCESS_ACCEPT
    assert (accepted.all(8), accepted.all(11)) == ([bytes((192, 0, 2, 77))], [b"a@corp.example"])


def test_the_mode_of_a_rule_takes_the_place_of_the_client_s(server: RunningServer) -> None:
    """Admins need a code even where the client lets those in who have no device."""
    assert login(server, "rules", "user5", PASSWORD).code == ACCESS_REJECT
    assert login(server, "rules", "user0", PASSWORD).code == ACCESS_ACCEPT
    assert login(server, "rules", "user3", PASSWORD).code == ACCESS_REJECT
    assert reason(server, "user3") == "wrong_code"
    assert login(server, "rules", "user3").code == ACCESS_ACCEPT
    assert server.line("login.accepted", user="user3")["rule"] == "admins"


def test_a_client_gets_the_groups_by_the_names_that_it_knows(
    server: RunningServer, slapd: RealSlapd
) -> None:
    """By distinguished name and by name, of the directory and kept here; a change holds next."""
    assert login(server, "mapped", "user6").all(26) == []
    slapd.modify(f"cn=low,ou=groups,{SUFFIX}", member=[dn("user1"), dn("user4"), dn("user6")])
    key = server.site.with_stores(lambda stores: stores.directories.identify("user6")).key
    server.site.with_stores(lambda stores: stores.enrolments.join(key, ["OPS"]))
    with server.nas(CLIENTS["mapped"][0]) as nas:
        later = nas.login("user6", PASSWORD + totp.code(offset=1))
    assert [vendor(one).decode() for one in later.all(26)] == ["Süd", "ops"]


def test_without_rules_at_a_client_nothing_is_asked_and_nothing_sent(
    server: RunningServer, slapd: RealSlapd
) -> None:
    searches = slapd.log.count("(member=")
    accepted = login(server, "plain", "user8")
    assert accepted.code == ACCESS_ACCEPT
    assert len(accepted.attributes) == 1
    assert "rule" not in server.line("login.accepted", user="user8")
    assert slapd.log.count("(member=") == searches


# What operators are told


def test_what_can_t_be_checked_at_start_and_what_is_risky_is_told(tmp_path: Path) -> None:
    """With a directory that is down the server starts all the same."""
    down = {
        "name": "corp",
        "preset": "openldap",
        "servers": ["ldap://127.0.0.1:9"],
        "start_tls": False,
        "base": SUFFIX,
    }
    rules = [{"name": "office", "station": "10.0.0.0/8", "group": "x", "mfa": "off"}]
    clients = [{"name": "one", "address": "127.0.0.1"}]
    sections = {"directory": {"ldap": [down]}}
    with Site(tmp_path, sections, clients=clients, top={"rule": rules}) as site:
        server = site.start()
        assert server.line("rule.second_factor_off")["rule"] == "office"
        line = server.line("rule.groups_not_checked")
        assert line["backend"] == "directory"
        previewed = site.cli("client", "preview", "one")
    assert "Rules may say otherwise for some of them: office." in previewed.out


def test_a_group_that_nobody_has_is_told_at_start_and_by_policy_check(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bad input: with the nearest name; those of the directory, by name or DN, are not told of."""
    line = server.line("rule.unknown_group", group="lopo1")
    assert (line["named_by"], line["hint"]) == ("rule misspelt", "did you mean loop1?")
    with in_process(monkeypatch, capsys, server.site.config) as command:
        done = command("policy", "check", "--json")
        assert done.exit_code == 1
        unknown = {one["group"]: one["hint"] for one in json.loads(done.out)}
    assert unknown["lopo1"] == "did you mean loop1?"
    assert set(unknown) <= {"lopo1", "ops"}, "ops is kept here as soon as somebody is in it"


def test_explain_says_which_rule_and_why_the_others_do_not_match(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And never a hidden value."""
    words = ("policy", "explain", "User1", "--client", "rules")
    with in_process(monkeypatch, capsys, server.site.config) as command:
        text = command(*words, "--source", "10.1.2.3").out
        told = command(*words, "--json").json()
        refused = command("policy", "explain", "user2", "--client", "rules", "--source", "10.1.1.1")
        nobody = command("policy", "explain", "nobody", "--client", "rules", "--json").json()
        plain = command("policy", "explain", "user8", "--client", "plain").out
        other = command("policy", "explain", "user8", "--client", "palin")
    assert "top       yes" in text
    assert "night     no       the user is not in loop3" in text
    assert "misspelt  -        a rule before it matches" in text
    assert "Tunnel-Password:1 = ***" in text
    assert TUNNEL_PASSWORD not in text + str(told)
    assert told["groups"] == ["low", "middle", "top"]
    assert (told["rule"], told["mfa"], told["takes"]) == ("top", "enrolled", "the password alone")
    assert told["rules"][0]["because"] == [
        "no Calling-Station-Id is sent",
        "the user is not in loop3",
    ]
    values = [one["value"] for one in told["attributes"] if one["attribute"] == "Class"]
    assert values == ["0xAB", "u=user1", "\0\\xff"]
    assert told["left_out"] == [
        {"attribute": "Login-IP-Host", "why": "a value of the user is not an IPv4 address"}
    ]
    assert "refused:  refused_by_rule" in refused.out
    assert nobody["refused"] == "unknown_user"
    assert "it is for other clients: rules" in plain
    assert "the login takes:  password and code" in plain
    assert "there is no client palin" in other.err

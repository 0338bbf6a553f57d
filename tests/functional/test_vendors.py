"""Vendor recipes as a gateway sees them: what it must send, and where its groups stand."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from radius_mfa.app import Stores
from radius_mfa.vendors import VENDORS
from tests.functional.test_cli import in_process
from tests.support import totp
from tests.support.radius import (
    ACCESS_ACCEPT,
    ACCESS_CHALLENGE,
    ACCESS_REJECT,
    PROXY_STATE,
    radclient,
)
from tests.support.server import PASSWORD, SECRET, RunningServer, Site

SOURCES = {name: f"127.0.0.{100 + number}" for number, name in enumerate(VENDORS)}

GROUPS = {
    "cisco-asa": ['ASA-Group-Policy = "admins"', 'ASA-Group-Policy = "süd"'],
    "fortigate": ['Fortinet-Group-Name = "admins"', 'Fortinet-Group-Name = "süd"'],
    "palo-alto": ['PaloAlto-User-Group = "admins"', 'PaloAlto-User-Group = "süd"'],
    "juniper": ['Juniper-Local-Group-Name = "admins"', 'Juniper-Local-Group-Name = "süd"'],
    "mikrotik": ['Mikrotik-Group = "admins"', 'Mikrotik-Group = "süd"'],
    "pfsense": ["Class = 0x" + "admins;süd".encode().hex()],
    "checkpoint": ["Class = 0x" + b"admins".hex(), "Class = 0x" + "süd".encode().hex()],
    "sonicwall": ['SonicWall-User-Group = "admins"', 'SonicWall-User-Group = "süd"'],
    "citrix-adc": ['Citrix-User-Groups = "CTXSUserGroups=admins;süd"'],
    "f5": ["Class = 0x" + "|admins|süd|".encode().hex()],
    "ocserv": ["Class = 0x" + "OU=admins;süd".encode().hex()],
    "openvpn": [],
    "strongswan": ["Class = 0x" + b"admins".hex(), "Class = 0x" + "süd".encode().hex()],
    "pam-radius": [],
}
"""What radclient reads at each, of a user in two of three groups that are mapped, and one more."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    def block(name: str) -> dict[str, object]:
        client: dict[str, object] = {"name": name, "address": SOURCES[name], "vendor": name}
        if VENDORS[name].group_attribute:
            named = {"VPN Admins": "admins", "Others": "others", "VPN Süd": "süd"}
            client |= {"group_attribute": "auto", "group_map": named}
        return client

    async def join(stores: Stores) -> None:
        for name in VENDORS:
            key = (await stores.directories.identify(name)).key
            await stores.enrolments.join(key, ["VPN Admins", "vpn süd", "full"])

    folder = tmp_path_factory.mktemp("vendors")
    with Site(folder, clients=[block(name) for name in VENDORS]) as site:
        site.add_users(
            [*VENDORS, *(f"{of}-{name}" for of in ("unsigned", "tested") for name in VENDORS)]
        )
        site.with_stores(join)
        yield site.start()


@pytest.mark.parametrize("name", VENDORS)
def test_message_authenticator_is_asked_of_all_but_those_that_never_send_it(
    server: RunningServer, name: str
) -> None:
    """B04: and of these, too, where the request has come through a proxy."""
    with server.nas(SOURCES[name]) as nas:
        typed = PASSWORD + totp.code()
        fields = (f"unsigned-{name}", typed)
        proxied = nas.access_request(*fields, [(PROXY_STATE, b"1")], message_authenticator="none")
        unsigned = nas.access_request(*fields, message_authenticator="none")
        never_signs = "limit_proxy_state" in VENDORS[name].defaults
        nas.assert_silent(proxied, *([] if never_signs else [unsigned]))
        reply = nas.ask(unsigned) if never_signs else nas.login(*fields)
        assert reply.code == ACCESS_ACCEPT


@pytest.mark.parametrize("name", VENDORS)
def test_the_code_is_asked_for_only_where_the_gateway_can_ask(
    server: RunningServer, name: str
) -> None:
    """The others would take the question for a reject, and users would not know why."""
    with server.nas(SOURCES[name]) as nas:
        reply = nas.login(f"unsigned-{name}", PASSWORD)
    one_field = VENDORS[name].defaults.get("prompt") == "append"
    assert reply.code == (ACCESS_REJECT if one_field else ACCESS_CHALLENGE)
    assert one_field == (name in {"mikrotik", "pfsense", "openvpn", "strongswan"})


@pytest.mark.parametrize("name", VENDORS)
def test_mapped_groups_stand_in_the_vendor_s_own_attribute(
    server: RunningServer, name: str
) -> None:
    """And no group that is not mapped, whatever right its name would grant there."""
    request = f'User-Name = "{name}", User-Password = "{PASSWORD}{totp.code()}"'
    source = f"Packet-Src-IP-Address = {SOURCES[name]}"
    read = radclient(server.address, f"{request}, {source}", SECRET)
    assert read.received == ["Access-Accept"]
    assert read.attributes == GROUPS[name]


def test_what_a_recipe_sets_is_shown_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    site = Site(tmp_path)
    with in_process(monkeypatch, capsys, site.config) as command:
        before = site.config.read_text("utf-8")
        wrong = command("client", "add", "vpn", "192.0.2.1", "--vendor", "forti")
        assert "did you mean fortigate?" in wrong.err
        assert site.config.read_text("utf-8") == before
        added = command("client", "add", "ssh", "192.0.2.2", "--vendor", "pam-radius")
        assert added.exit_code == 0, added.err
        words = ("--vendor", "ocserv", "--require-message-authenticator")
        assert command("client", "add", "vpn", "192.0.2.1", *words).exit_code == 0
        text = site.config.read_text("utf-8") + 'group_attribute = "auto"\n'
        site.config.write_text(text, "utf-8")

        shown = command("client", "show", "vpn", "--json").json()
        assert shown["vendor"] == "ocserv"
        assert shown["by_vendor"] == ["limit_proxy_state", "group_attribute"]
        assert (shown["group_attribute"], shown["group_value"]) == ("Class", "OU={groups:;}")
        text = command("client", "show", "ssh").out
        assert re.search(r"^require message authenticator: +no \(by vendor\)$", text, re.MULTILINE)
        assert re.search(r"^failover grace seconds: +10 \(by vendor\)$", text, re.MULTILINE)
        assert re.search(r"^status server: +yes$", text, re.MULTILINE)
        listed = command("client", "list").out
        assert re.search(r"^ssh +192\.0\.2\.2 +pam-radius +optional ", listed, re.MULTILINE)
        assert re.search(r"^vpn +192\.0\.2\.1 +ocserv +required ", listed, re.MULTILINE)
        in_force = command("config", "show", "--json").json()["client"]
        assert in_force[1]["failover_grace_seconds"] == 10


@pytest.mark.parametrize("name", ["fortigate", "openvpn", "pam-radius"])
def test_client_test_prints_what_the_pages_say(server: RunningServer, name: str) -> None:
    """Of each kind of recipe one; on the pages of one kind stands the same."""
    user, (host, port) = f"tested-{name}", server.address
    words = ("--user", user, "--password-file", "-", "--source", SOURCES[name])
    where = ("--server", f"{host}:{port}")
    done = server.site.cli(
        "client", "test", name, *words, *where, text=f"{PASSWORD}{totp.code()}\n"
    )
    assert done.exit_code == 0, done.out + done.err
    [*_, shown] = re.findall(r"^```text\n(\$ radius-mfa client test .*?)^```", page(name), _LINES)
    assert shown.partition("\n\n")[2] == done.out.partition("\n\n")[2]


def page(name: str) -> str:
    return (Path(__file__).parents[2] / "docs" / "vendors" / f"{name}.md").read_text("utf-8")


_LINES = re.MULTILINE | re.DOTALL

"""A real OpenVPN server that asks through openvpn-auth-radius, and its real clients."""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import totp
from tests.support.certificates import Authority
from tests.support.debian import tool
from tests.support.namespaces import Namespace
from tests.support.relay import RADIUS_PORT, Relay
from tests.support.server import PASSWORD, SECRET, RunningServer, Site, eventually
from tests.support.terminal import dialogue

GATEWAY, USER = "10.99.0.1", "10.99.0.2"
TUNNEL_UP = "Initialization Sequence Completed"
REFUSED = "AUTH_FAILED"

SERVER = """\
dev vpns
dev-type tun
local {gateway}
topology subnet
server 10.97.0.0 255.255.255.0
ca {folder}/ca.pem
cert {folder}/server.pem
key {folder}/server.key
dh none
verify-client-cert none
username-as-common-name
duplicate-cn
keepalive 10 60
status {folder}/status 1
status-version 1
tmp-dir {folder}
auth-gen-token
plugin {plugin} {folder}/radius.cnf
"""

PLUGIN = """\
NAS-Identifier=openvpn
Service-Type=5
Framed-Protocol=1
NAS-Port-Type=5
NAS-IP-Address={gateway}
OpenVPNConfig={folder}/server.conf
subnet=255.255.255.0
useauthcontrolfile=true
server
{{
    acctport={port}
    authport={port}
    name={gateway}
    retry=3
    wait=1
    sharedsecret={secret}
}}
"""

CLIENT = """\
client
dev vpnc
dev-type tun
remote {gateway} 1194
nobind
ca {folder}/ca.pem
verify-x509-name {gateway} name
connect-retry-max 1
"""


@dataclass
class Vpn:
    """The gateway's server, the way to it, and the network that users come from."""

    server: RunningServer
    relay: Relay
    users: Namespace
    folder: Path

    def connect(self, user: str, typed: str, code: str = "") -> str:
        """Return what a client shows until it is in or refused; *code* is for its own prompt."""
        credentials = self.folder / "credentials"
        credentials.write_text(f"{user}\n{typed}\n", "utf-8")
        credentials.chmod(0o600)
        words = ["--config", str(self.folder / "client.conf"), "--auth-user-pass", str(credentials)]
        answers = []
        if code:
            words += ["--static-challenge", "Code", "1"]
            answers = [("CHALLENGE: Code", code)]
        command = [*self.users.prefix, tool("openvpn"), *words]
        return dialogue(command, answers, f"{TUNNEL_UP}|{REFUSED}")


@pytest.fixture(scope="module")
def vpn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vpn]:
    folder = tmp_path_factory.mktemp("openvpn")
    client = {"name": "vpn", "address": GATEWAY, "vendor": "openvpn"}
    radius = {"listen": [f"{GATEWAY}:0"]}
    with Namespace() as gateway, Namespace() as users:
        gateway.join(users, f"{GATEWAY}/24", f"{USER}/24")
        with Site(tmp_path_factory.mktemp("site"), {"radius": radius}, [client]) as site:
            site.add_spare_users(8)
            server = site.start(gateway.program)
            prepare(folder)
            log = folder / "log"
            words = ["--config", str(folder / "server.conf")]
            with Relay(gateway, GATEWAY, server.address, SECRET.encode()) as relay:
                with log.open("wb") as output:
                    process = subprocess.Popen(
                        [*gateway.prefix, tool("openvpn"), *words], stdout=output, stderr=output
                    )
                try:
                    eventually(lambda: TUNNEL_UP.encode() in log.read_bytes(), "OpenVPN to start")
                    yield Vpn(server, relay, users, folder)
                finally:
                    process.terminate()
                    process.wait()


def prepare(folder: Path) -> None:
    """Write what OpenVPN, its plugin and its clients read."""
    Authority(folder).issue("server", [GATEWAY])
    values = {
        "folder": folder,
        "gateway": GATEWAY,
        "port": RADIUS_PORT,
        "plugin": tool("/usr/lib/openvpn/radiusplugin.so"),
        "secret": SECRET,
    }
    for name, text in (("server.conf", SERVER), ("radius.cnf", PLUGIN), ("client.conf", CLIENT)):
        (folder / name).write_text(text.format_map(values), "ascii")


def test_what_is_not_right_is_refused(vpn: Vpn) -> None:
    """And the password alone, too: OpenVPN can't ask a second time, so no challenge is sent."""
    user = vpn.server.site.fresh_user()
    wrong = totp.wrong_code()
    for typed, code, reason in (
        (PASSWORD, "", "wrong_code"),
        (PASSWORD + wrong, "", "wrong_code"),
        (PASSWORD, wrong, "wrong_code"),
        ("wrong", totp.code(), "wrong_password"),
    ):
        assert REFUSED in vpn.connect(user, typed, code)
        assert vpn.server.lines("login.rejected", user=user)[-1]["reason"] == reason
    assert not vpn.server.lines("login.challenged", user=user)


@pytest.mark.parametrize("lost", [0, 2])
@pytest.mark.parametrize("asked", ["in one", "by static-challenge"])
def test_password_and_code(vpn: Vpn, asked: str, lost: int) -> None:
    """Also where the first replies are lost: the plugin then asks anew, from another port.

    D09: the code is used once, and never again.
    """
    user, code = vpn.server.site.fresh_user(), totp.code()
    typed = (PASSWORD + code, "") if asked == "in one" else (PASSWORD, code)
    vpn.relay.losing = lost
    before = len(vpn.relay.requests)
    shown = vpn.connect(user, *typed)
    assert TUNNEL_UP in shown, shown
    assert "10.97.0." in shown

    asks = vpn.relay.requests[before:]
    assert len({port for port, _ in asks}) == len(asks) == 1 + lost
    assert len({octets[4:20] for _, octets in asks}) == len(asks), "Request Authenticators"
    accepted = vpn.server.lines("login.accepted", user=user)
    assert [line["method"] for line in accepted] == ["totp"] * len(asks)
    assert ["verdict" in line for line in accepted] == [False] + [True] * lost
    assert accepted[0]["station"] == USER

    assert REFUSED in vpn.connect(user, *typed)
    assert vpn.server.line("login.rejected", user=user)["reason"] == "code_replayed"

"""A real ocserv that asks through radcli, and a real openconnect, in networks of their own."""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import totp
from tests.support.certificates import Authority
from tests.support.debian import tool
from tests.support.namespaces import Namespace
from tests.support.server import PASSWORD, SECRET, RunningServer, Site, eventually
from tests.support.terminal import dialogue

GATEWAY, USER = "10.99.0.1", "10.99.0.2"
PASSWORD_PROMPT, CODE_PROMPT = r"Password:", r"Password1:"
TUNNEL_UP = r"Configured as 10\.98\.0\.\d+"

OCSERV = """\
auth = "radius[config={folder}/radius.conf]"
tcp-port = 4443
listen-host = {gateway}
run-as-user = root
run-as-group = root
socket-file = {folder}/socket
server-cert = {folder}/server.pem
server-key = {folder}/server.key
isolate-workers = false
max-clients = 16
max-same-clients = 4
device = vpns
ipv4-network = 10.98.0.0/24
auth-timeout = 60
max-ban-score = 0
use-occtl = false
"""

RADCLI = """\
authserver {gateway}:{port}
acctserver {gateway}:{port}
servers {folder}/servers
dictionary /etc/radcli/dictionary
radius_timeout 10
radius_retries 3
nas-identifier ocserv
bindaddr *
"""


@dataclass
class Vpn:
    """The gateway's server, and the network that users come from."""

    server: RunningServer
    users: Namespace
    folder: Path

    def connect(self, user: str, *answers: tuple[str, str], token: str = "") -> str:
        words = ["--cafile", str(self.folder / "ca.pem"), "--script", "/bin/true", "--no-dtls"]
        words += ["--user", user, "--interface", "tun0"]
        if token:
            words += ["--token-mode", "totp", "--token-secret", f"base32:{token}"]
        command = [*self.users.prefix, tool("openconnect"), *words, f"https://{GATEWAY}:4443"]
        return dialogue(command, answers, TUNNEL_UP)


@pytest.fixture(scope="module")
def vpn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vpn]:
    folder = tmp_path_factory.mktemp("ocserv")
    client = {
        "name": "vpn",
        "address": GATEWAY,
        "prompt": "auto",
        "require_message_authenticator": False,
        "limit_proxy_state": True,
    }
    radius = {"listen": [f"{GATEWAY}:0"]}
    with Namespace() as gateway, Namespace() as users:
        gateway.join(users, f"{GATEWAY}/24", f"{USER}/24")
        with Site(tmp_path_factory.mktemp("site"), {"radius": radius}, [client]) as site:
            site.add_users(["alice", "bob", "carol"])
            server = site.start(gateway.program)
            prepare(folder, server)
            log = folder / "log"
            with log.open("wb") as output:
                process = subprocess.Popen(
                    [*gateway.prefix, tool("ocserv"), "-f", "-c", str(folder / "ocserv.conf")],
                    stdout=output,
                    stderr=output,
                )
            try:
                eventually(lambda: b"listening (TCP)" in log.read_bytes(), "ocserv to start")
                yield Vpn(server, users, folder)
            finally:
                process.terminate()
                process.wait()


def prepare(folder: Path, server: RunningServer) -> None:
    """Write what ocserv and radcli read."""
    Authority(folder).issue("server", [GATEWAY])
    port = server.address[1]
    files = {
        "ocserv.conf": OCSERV.format(folder=folder, gateway=GATEWAY),
        "radius.conf": RADCLI.format(folder=folder, gateway=GATEWAY, port=port),
        "servers": f"{GATEWAY} {SECRET}\n",
    }
    for name, text in files.items():
        (folder / name).write_text(text, "ascii")


def test_password_and_then_code(vpn: Vpn) -> None:
    """The question is shown, and the tunnel comes up; C02: ocserv brings the State back whole."""
    code = totp.code()
    shown = vpn.connect("alice", (PASSWORD_PROMPT, PASSWORD), (CODE_PROMPT, code))
    assert "Configured as 10.98.0." in shown, shown
    assert "Enter the code from your authenticator app" in shown
    assert code not in shown
    line = vpn.server.line("login.accepted", user="alice")
    assert (line["method"], line["station"], line["nas_identifier"]) == ("totp", USER, "ocserv")


def test_a_wrong_code_is_asked_for_again(vpn: Vpn) -> None:
    """C06: ocserv goes on for as many rounds as there are tries."""
    shown = vpn.connect(
        "bob",
        (PASSWORD_PROMPT, PASSWORD),
        (CODE_PROMPT, totp.wrong_code()),
        (CODE_PROMPT, totp.code()),
    )
    assert "Configured as 10.98.0." in shown, shown
    assert vpn.server.line("login.challenged", user="bob", reason="wrong_code")


def test_openconnects_own_token_answers(vpn: Vpn) -> None:
    """`--token-mode=totp` needs nobody for the second round."""
    shown = vpn.connect("carol", (PASSWORD_PROMPT, PASSWORD), token=totp.SEED)
    assert "Configured as 10.98.0." in shown, shown
    assert vpn.server.lines("login.challenged", user="carol")


def test_password_and_code_in_one(vpn: Vpn) -> None:
    """With prompt = "auto" there is no second question."""
    shown = vpn.connect("carol", (PASSWORD_PROMPT, PASSWORD + totp.code(offset=1)))
    assert "Configured as 10.98.0." in shown, shown

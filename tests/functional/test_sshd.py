"""A real sshd whose PAM asks by pam_radius_auth, and a real ssh: password, then code."""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import totp
from tests.support.debian import tool
from tests.support.server import PASSWORD, SECRET, RunningServer, Site, eventually
from tests.support.terminal import dialogue

UID = 61_234
PASSWORD_PROMPT, CODE_PROMPT = r"Password:", r"authenticator app:"

PAM = """\
auth required pam_radius_auth.so conf={folder}/radius.conf prompt_attribute
account required pam_permit.so
session required pam_permit.so
"""

SSHD = """\
ListenAddress 127.0.0.1:{port}
HostKey {folder}/key
PidFile none
UsePAM yes
PasswordAuthentication no
PubkeyAuthentication no
KbdInteractiveAuthentication yes
AuthenticationMethods keyboard-interactive
PrintMotd no
MaxAuthTries 3
"""

START = """\
set -e
mount --bind {folder}/passwd /etc/passwd
mount --bind {folder}/shadow /etc/shadow
mount --bind {folder}/pam.d /etc/pam.d
mount -t tmpfs tmpfs /run
mkdir /run/sshd
exec {sshd} -D -e -f {folder}/sshd_config
"""
"""In a mount namespace: nobody else sees the user that is added, or that PAM asks us."""


@dataclass
class Host:
    """The sshd, and the server that it asks."""

    server: RunningServer
    port: int
    log: Path

    def ssh(self, user: str, *answers: tuple[str, str]) -> str:
        options = {
            "StrictHostKeyChecking": "no",
            "UserKnownHostsFile": "/dev/null",
            "LogLevel": "ERROR",
            "NumberOfPasswordPrompts": "1",
            "PreferredAuthentications": "keyboard-interactive",
        }
        words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        where = ["-F", "none", "-p", str(self.port), f"{user}@127.0.0.1", "echo", "let", "in"]
        return dialogue([tool("ssh"), *words, *where], answers)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    folder = tmp_path_factory.mktemp("sshd")
    folder.chmod(0o755)
    client = {
        "name": "host",
        "address": "127.0.0.1",
        "prompt": "auto",
        "require_message_authenticator": False,
        "limit_proxy_state": True,
    }
    with Site(tmp_path_factory.mktemp("site"), clients=[client]) as site:
        site.add_users(["alice", "bob", "stranger"])
        server = site.start()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        prepare(folder, port, server)
        with running_sshd(folder) as log:
            yield Host(server, port, log)
        assert PASSWORD not in log.read_text("utf-8")


def prepare(folder: Path, port: int, server: RunningServer) -> None:
    """Write what sshd, PAM and pam_radius_auth are to find in place of the machine's own."""
    passwd, shadow = Path("/etc/passwd").read_text("utf-8"), Path("/etc/shadow").read_text("utf-8")
    for number, user in enumerate(("alice", "bob")):
        passwd += f"{user}:x:{UID + number}:{UID}::/:/bin/sh\n"
        shadow += f"{user}:*:19000:0:99999:7:::\n"
    address = f"{server.address[0]}:{server.address[1]}"
    files = {
        "passwd": passwd,
        "shadow": shadow,
        "radius.conf": f"{address} {SECRET} 10\n",
        "sshd_config": SSHD.format(folder=folder, port=port),
        "pam.d/sshd": PAM.format(folder=folder),
        "start": START.format(folder=folder, sshd=tool("sshd")),
    }
    (folder / "pam.d").mkdir()
    for name, text in files.items():
        (folder / name).write_text(text, "utf-8")
    for name in ("shadow", "radius.conf"):
        (folder / name).chmod(0o600)
    key = ["-q", "-t", "ed25519", "-N", "", "-f", str(folder / "key")]
    subprocess.run([tool("ssh-keygen"), *key], check=True)


@contextmanager
def running_sshd(folder: Path) -> Iterator[Path]:
    """Run sshd in a mount namespace of its own; give its log."""
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [tool("unshare"), "--mount", "sh", str(folder / "start")],
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        eventually(lambda: b"Server listening" in log.read_bytes(), "sshd to listen")
        yield log
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def test_password_and_then_code(host: Host) -> None:
    """The question is ours; what is typed stays hidden, by Prompt = No-Echo."""
    code = totp.code()
    shown = host.ssh("alice", (PASSWORD_PROMPT, PASSWORD), (CODE_PROMPT, code))
    assert "let in" in shown, shown
    assert "Enter the code from your authenticator app" in shown
    assert code not in shown
    assert PASSWORD not in shown
    first = host.server.line("login.challenged", user="alice")
    second = host.server.line("login.accepted", user="alice")
    assert (first["station"], first["nas_identifier"]) == ("127.0.0.1", "sshd")
    assert second["method"] == "totp"
    assert second["source"] == first["source"]
    assert second["identifier"] != first["identifier"], "C05"


def test_a_wrong_code_is_asked_for_again(host: Host) -> None:
    """C06: pam_radius_auth answers the fresh State, as often as there are tries."""
    wrong = (CODE_PROMPT, totp.wrong_code())
    shown = host.ssh("bob", (PASSWORD_PROMPT, PASSWORD), wrong, (CODE_PROMPT, totp.code()))
    assert "let in" in shown, shown
    again = host.server.line("login.challenged", user="bob", reason="wrong_code")
    assert again["nas"] == "host"
    shown = host.ssh("bob", (PASSWORD_PROMPT, PASSWORD), wrong, wrong, wrong)
    assert "let in" not in shown
    assert host.server.line("login.rejected", user="bob")["reason"] == "wrong_code"


def test_password_and_code_in_one(host: Host) -> None:
    """With prompt = "auto" there is no second question."""
    shown = host.ssh("alice", (PASSWORD_PROMPT, PASSWORD + totp.code(offset=1)))
    assert "let in" in shown, shown


def test_a_user_whom_sshd_does_not_know(host: Host) -> None:
    """It sends INCORRECT in place of the right password: no challenge, and no failure."""
    shown = host.ssh("stranger", (PASSWORD_PROMPT, PASSWORD))
    assert "let in" not in shown
    assert host.server.line("login.rejected", user="stranger")["reason"] == "refused_by_nas"
    assert host.server.lines("login.challenged", user="stranger") == []
    assert host.server.site.failures("stranger") == 0

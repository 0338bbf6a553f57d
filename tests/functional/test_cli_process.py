"""The command line as a process: beside a running server, on a terminal, with odd streams."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pexpect
import pytest

from tests.functional.test_cli import Command, in_process
from tests.support import totp
from tests.support.server import PASSWORD, SECRET, Finished, RunningServer, Site, eventually

PROGRAM = [sys.executable, "-m", "radius_mfa"]


# Beside a running server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that logs to a file, and its configuration, which names the port it got."""
    folder = tmp_path_factory.mktemp("beside")
    with Site(folder, {"log": {"file": str(folder / "auth.log")}}) as site:
        site.servers.append(running := RunningServer(site, {}))
        [started] = eventually(
            lambda: (folder / "auth.log").exists() and log_of(running, "server.started"),
            "the server to start",
        )
        site.sections = {**site.sections, "radius": {"listen": [started["listen"]]}}
        site.write_config()
        yield running


def log_of(server: RunningServer, event: str) -> list[dict[str, Any]]:
    """Return the lines of *event*, or whose event begins with it and a full stop."""
    text = (server.site.folder / "auth.log").read_text("utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    return [line for line in lines if f"{line['event']}.".startswith(f"{event}.")]


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], server: RunningServer
) -> Iterator[Command]:
    with in_process(monkeypatch, capsys, server.site.config) as call:
        yield call


def test_a_user_made_beside_a_running_server_logs_in_at_once(
    server: RunningServer, command: Command
) -> None:
    """Nothing is cached in the way: unknown, added, suspended, resumed."""

    def login(code: str, *words: str) -> Finished:
        return command("test", "bob", *words, text=f"{PASSWORD}{code}\n")

    unknown = login(totp.code())
    rejected = "Access-Reject\n  Reply-Message = Access denied\n"
    assert (unknown.exit_code, unknown.out) == (1, rejected)
    assert command("user", "add", "bob", text=f"{PASSWORD}\n").exit_code == 0
    seeded = command("device", "add", "bob", "--seed", totp.SEED, "--confirmed")
    assert seeded.exit_code == 0, seeded.err
    assert command("user", "suspend", "bob").exit_code == 0
    assert login(totp.code(offset=1)).exit_code == 1
    assert command("user", "resume", "bob").exit_code == 0
    accepted = login(totp.code(), "--json", "--calling-station-id", "10.9.8.7")
    assert accepted.json() == {"code": "Access-Accept", "attributes": {}}
    lines = log_of(server, "login")
    assert [line.get("reason") for line in lines] == ["unknown_user", "user_suspended", None]
    assert lines[-1]["station"] == "10.9.8.7"


def test_a_lock_that_the_server_closed_is_shown_and_ended(command: Command) -> None:
    """O13: until when, and from where; everybody else may go on."""
    command("user", "add", "carol", text=f"{PASSWORD}\n")
    command("device", "add", "carol", "--seed", totp.SEED, "--confirmed")
    for number in range(5):
        wrong = f"wrong-{number}{totp.code()}\n"
        assert command("test", "carol", "--calling-station-id", "10.1.1.1", text=wrong).exit_code
    shown = command("user", "show", "carol", "--json").json()
    assert (shown["state"], shown["locked_until"]) == ("partly locked", None)
    [source] = shown["sources"]
    assert source["source"] == "nas|10.1.1.1"
    assert datetime.fromisoformat(source["locked_until"]) > datetime.now(UTC)
    assert re.search(
        r"\nfailing from: +nas 10.1.1.1, locked until \d{4}-\d\d-\d\d \d\d:\d\d\n",
        command("user", "show", "carol").out,
    )
    assert re.search(
        r"\ncarol +partly locked +Enrolled +Not required +1 ", command("user", "list").out
    )
    right = f"{PASSWORD}{totp.code()}\n"
    assert command("test", "carol", "--calling-station-id", "10.1.1.1", text=right).exit_code == 1
    assert command("user", "unlock", "carol").exit_code == 0
    assert command("test", "carol", "--calling-station-id", "10.1.1.1", text=right).exit_code == 0


def test_status_asks_the_server_and_counts(server: RunningServer, command: Command) -> None:
    parts = command("status", "--json").json()
    assert {name: part["up"] for name, part in parts.items()} == {
        "server": True,
        "redis": True,
        "database": True,
        "nodes": True,
    }
    done = command("status", "--server-only")
    assert done.out.split() == [
        *("server", "up", "answers", "Status-Server", "on", "127.0.0.1"),
        *("port", server.site.settings.radius.listen[0].rpartition(":")[2]),
    ]


def test_a_second_server_is_refused(server: RunningServer, command: Command) -> None:
    """T10: two servers on one folder would each forget what the other knows."""
    done = command("serve")
    assert done.exit_code == 3
    holder = f"another radius-mfa (process {server.process.pid}) uses the data folder"
    assert f"error: {holder} {server.site.data}\n" in done.err


def test_a_busy_port_is_named_with_its_cure(
    server: RunningServer, command: Command, tmp_path: Path
) -> None:
    """T10."""
    port = server.site.settings.radius.listen[0].rpartition(":")[2]
    site = Site(tmp_path, {"radius": {"listen": [f"127.0.0.1:{port}"]}})
    done = command("serve", config=site.config)
    assert done.exit_code == 3
    assert f"error: UDP port {port} on 127.0.0.1 is in use\n" in done.err
    assert "change radius.listen" in done.err


@pytest.mark.parametrize(
    ("words", "exit_code", "error"),
    [
        (("--server", "127.0.0.1:1"), 4, "no answer from 127.0.0.1 port 1: nothing listens there"),
        (("--client", "nobody"), 1, "there is no client nobody"),
        (("--secret-file", "wrong", "--timeout", "0.3"), 4, "no reply in 0.3 s"),
        (("--secret-file", "none"), 1, "none can't be read: No such file or directory"),
    ],
)
def test_a_login_that_gets_no_answer_says_why(  # noqa: PLR0917 - pytest calls by name
    command: Command,
    words: tuple[str, ...],
    exit_code: int,
    error: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("wrong").write_text("another secret\n", "utf-8")
    done = command("test", "bob", *words, text="x\n")
    assert done.exit_code == exit_code
    assert error in done.err
    assert len(done.err.splitlines()) <= 2, "the error and the cure"


@pytest.mark.parametrize(
    ("user", "typed", "words", "error"),
    [
        ("", "x", (), "User-Name must have 1 to 253 octets"),
        ("ä" * 127, "x", (), "User-Name must have 1 to 253 octets"),
        ("a\udcff", "x", (), "User-Name is not UTF-8 text"),
        ("bob", "ä" * 65, (), "password and code are 130 octets long: RADIUS carries 128"),
        ("bob", "x", ("--calling-station-id", "9" * 254),
         "Calling-Station-Id must have 1 to 253 octets"),
    ],
)  # fmt: skip
def test_what_no_packet_can_carry_is_refused(
    command: Command, user: str, typed: str, words: tuple[str, ...], error: str
) -> None:
    done = command("test", user, *words, text=f"{typed}\n")
    assert (done.exit_code, done.err.splitlines()[0]) == (1, f"error: {error}")


def test_the_log_file_is_opened_again_on_sighup(server: RunningServer, command: Command) -> None:
    log, rotated = server.site.folder / "auth.log", server.site.folder / "auth.log.1"
    log.rename(rotated)
    server.process.send_signal(signal.SIGHUP)
    eventually(log.exists, "the new log file")
    assert command("test", "nobody", text="x\n").exit_code == 1
    [line] = log_of(server, "login.rejected")
    assert line["user"] == "nobody"
    assert '"nobody"' not in rotated.read_text("utf-8")
    assert SECRET not in rotated.read_text("utf-8") + log.read_text("utf-8")


def test_the_server_warns_at_start_of_what_is_unwise(server: RunningServer) -> None:
    """The file of the test's site is readable by everyone, and holds the shared secret."""
    texts = [path.read_text("utf-8").splitlines() for path in server.site.folder.glob("auth.log*")]
    lines = [json.loads(line) for text in texts for line in text]
    warning = next(line for line in lines if line["event"] == "configuration.unwise")
    assert warning["detail"] == "holds secrets, and every user of this machine can read it"
    assert warning["hint"] == f"chmod o= {server.site.config}"


# On a terminal


class Terminal:
    """A command in a pseudo-terminal, answered as a person would."""

    def __init__(self, site: Site, *words: str) -> None:
        command = [*PROGRAM[1:], "--config", str(site.config), *words]
        self.child = pexpect.spawn(PROGRAM[0], command, encoding="utf-8", timeout=30)
        self.child.delaybeforesend = None

    def answer(self, prompt: str, text: str) -> None:
        self.await_prompt(prompt)
        self.child.sendline(text)

    def await_prompt(self, prompt: str) -> None:
        """Wait until *prompt* is there and takes input, a password's unseen."""
        self.child.expect_exact(prompt)
        seen = "assword" not in prompt
        eventually(lambda: self.child.getecho() is seen, "the prompt to take input")

    def end(self) -> tuple[int | None, str]:
        """Return the exit code and what was written since the last prompt, without colours."""
        out = self.child.read()
        self.child.close()
        assert "Traceback" not in out
        return self.child.exitstatus, re.sub(r"\x1b\[\d*m", "", out).replace("\r\n", "\n")


def test_a_password_is_asked_twice_and_never_shown(site: Site) -> None:
    terminal = Terminal(site, "user", "add", "alice")
    terminal.answer("New password: ", "canary one")
    terminal.answer("New password again: ", "canary one")
    exit_code, out = terminal.end()
    assert (exit_code, out.strip()) == (0, "Added alice. Next: radius-mfa device add alice")
    assert "canary" not in out


def test_two_different_passwords_change_nothing(site: Site) -> None:
    terminal = Terminal(site, "user", "add", "alice")
    terminal.answer("New password: ", "one")
    terminal.answer("New password again: ", "two")
    exit_code, out = terminal.end()
    assert exit_code == 1
    assert "the two do not agree" in out
    assert site.cli("user", "list", "--json").json() == []


def test_nobody_types_a_password_for_nothing(site: Site) -> None:
    """A user who exists, or who does not, is said before the prompt."""
    site.add_users(["alice"], seed=None)
    for words, said in (
        (("add", "alice"), "the user alice exists already"),
        (("passwd", "bob"), "there is no user bob"),
        (("delete", "bob"), "there is no user bob"),
    ):
        exit_code, out = Terminal(site, "user", *words).end()
        assert exit_code == 1
        assert said in out
        assert "New password" not in out


LEFT = "the input ended before the answer"


@pytest.mark.parametrize(
    ("key", "exit_code", "said"),
    [("\x03", 130, []), ("\x04", 1, [f"error: {LEFT}", "nothing was changed"])],
    ids=["Ctrl-C", "Ctrl-D"],
)
@pytest.mark.parametrize(
    ("words", "prompt"),
    [(("passwd", "alice"), "New password: "), (("delete", "alice"), "[y/N]: ")],
    ids=["password", "question"],
)
def test_a_prompt_that_is_left_ends_quietly(  # noqa: PLR0917 - pytest calls by name
    site: Site, words: tuple[str, ...], prompt: str, key: str, exit_code: int, said: list[str]
) -> None:
    site.add_users(["alice"], seed=None)
    terminal = Terminal(site, "user", *words)
    terminal.await_prompt(prompt)
    terminal.child.send(key)
    got, out = terminal.end()
    assert (got, [line for line in out.replace("^C", "").splitlines() if line]) == (exit_code, said)

    async def still_there(stores: Any) -> Any:
        return await stores.enrolments.user("alice")

    assert site.with_stores(still_there).name == "alice"


def test_the_first_code_is_asked_on_the_terminal(site: Site) -> None:
    site.add_users(["alice"], seed=None)
    terminal = Terminal(site, "device", "add", "alice", "--seed", totp.SEED)
    terminal.answer("First code: ", totp.wrong_code())
    terminal.answer("First code: ", totp.code())
    exit_code, out = terminal.end()
    assert exit_code == 0
    assert "Confirmed: phone of alice counts from now on." in out


# Odd streams


def shell(site: Site, line: str) -> Finished:
    """Run *line* in a shell, ``$R`` being the command."""
    environ = os.environ | {"R": " ".join([*PROGRAM, "--config", str(site.config)])}
    done = subprocess.run(
        ["/bin/bash", "-c", line], capture_output=True, text=True, env=environ, check=False
    )
    assert "Traceback" not in done.stdout + done.stderr
    assert "Exception ignored" not in done.stderr
    return Finished(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize(
    ("line", "exit_code", "err"),
    [
        ("$R config show | head -1; exit ${PIPESTATUS[1]}", 0, ""),
        ("$R config schema | true; exit ${PIPESTATUS[1]}", 0, ""),
        ("$R config show >/dev/full", 1,
         "error: the output can't be written: No space left on device\n"),
        ("$R client list >/dev/full", 1,
         "error: the output can't be written: No space left on device\n"),
        ("$R client list >&-", 0, ""),
        ("$R nonsense 2>&-", 2, ""),
        ("$R nonsense >&- 2>&- <&-", 2, ""),
        ("$R user show alice <&-", 1,
         "error: there is no user alice\nsee: radius-mfa user list\n"),
        ("$R user add alice <&-", 1,
         "error: the password is empty\ntype one, or give it with --password-file\n"),
        ("LC_ALL=C PYTHONIOENCODING=ascii $R client show nas", 0, ""),
    ],
)  # fmt: skip
def test_streams_that_are_closed_or_full_end_in_one_line(
    site: Site, line: str, exit_code: int, err: str
) -> None:
    done = shell(site, line)
    assert (done.exit_code, done.err) == (exit_code, err)


AS_NOBODY = """
import encodings.ascii, encodings.idna, os, sys
from radius_mfa.cli import main
os.setgroups([]); os.setgid(65534); os.setuid(65534)
main()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root to become somebody else")
def test_what_another_user_may_not_read_or_write_ends_in_3() -> None:
    """Without root's rights: an unreadable configuration, a data folder that can't be written."""

    def nobody(*words: str) -> Finished:
        command = [sys.executable, "-c", AS_NOBODY, "--config", str(site.config), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return Finished(done.returncode, done.stdout, done.stderr)

    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        site = Site(Path(folder))
        site.data.chmod(0o700)
        unwritable = nobody("user", "list")
        addition = nobody("client", "add", "new", "192.0.2.1")
        site.config.chmod(0o600)
        unreadable = nobody("client", "list")
    folder_error = f"the data folder {site.data} can't be written: permission denied"
    file_error = f"the configuration file {site.config} can't be read: Permission denied"
    for done, error in (
        (unwritable, folder_error),
        (unreadable, file_error),
        (addition, f"{site.config} can't be written: Permission denied"),
    ):
        assert (done.exit_code, done.err.splitlines()[0]) == (3, f"error: {error}")

"""``make run``: the demo, driven in a terminal as someone who tries it would."""

import os
import re
import resource
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path

import pexpect
import segno

from tests.support import totp
from tests.support.debian import tool
from tests.support.server import eventually

CHECKOUT = Path(__file__).parents[2]
PROGRAM = Path(sys.executable).parent / "radius-mfa"

READY = "Ctrl-C stops it."


class Terminal:
    """A program in a pseudo-terminal, and what it has shown."""

    def __init__(self, folder: Path, command: str, *arguments: str) -> None:
        self._child = pexpect.spawn(
            command,
            list(arguments),
            cwd=str(folder),
            dimensions=(80, 400),
            encoding="utf-8",
            timeout=30,
            env=os.environ | {"TERM": "xterm"},
        )
        self._shown = StringIO()
        self._child.logfile_read = self._shown

    @property
    def text(self) -> str:
        """What was shown so far, without colours."""
        return re.sub(r"\x1b\[[0-9;]*m", "", self._shown.getvalue()).replace("\r\n", "\n")

    def wait_for(self, text: str) -> None:
        """Wait until *text* is shown after all that was waited for before."""
        self._child.expect_exact(text)

    def line(self, pattern: str) -> str:
        """Return what the group of *pattern*, a line, matches in what was shown."""
        found = re.search(f"^{pattern}$", self.text, re.MULTILINE)
        assert found is not None, f"no line {pattern!r} in:\n{self.text}"
        return found[1]

    def interrupt(self) -> int | None:
        """Press Ctrl-C, wait for the end, and return the exit code."""
        self._child.sendintr()
        self._child.expect(pexpect.EOF)
        return self.exit_code()

    def exit_code(self) -> int | None:
        """Wait for the end, and return the exit code; None where a signal ended it."""
        self._child.expect(pexpect.EOF)
        self._child.wait()
        code: int | None = self._child.exitstatus
        return code

    def close(self) -> None:
        self._child.close(force=True)


@contextmanager
def terminal(folder: Path, command: str | Path, *arguments: str) -> Iterator[Terminal]:
    opened = Terminal(folder, str(command), *arguments)
    try:
        yield opened
    finally:
        opened.close()


def pasted(folder: Path, command: str) -> str:
    """Run a line as if pasted into a shell; return what it printed."""
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.stdout + done.stderr


def result(radclient: str) -> str:
    found = re.search(r"^Received (\S+)", radclient, re.MULTILINE)
    return found[1] if found else radclient


def redis_ended(folder: Path) -> bool:
    """Return whether no process has its working folder in the demo's."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink() == folder / "demo-data":
                return False
        except OSError:
            continue
    return True


def processor_seconds() -> float:
    """Return what the programs that have ended by now took: a busy machine does not count."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_the_demo_shows_a_login_and_how_to_make_ones_own(tmp_path: Path) -> None:
    """Reply, log line, QR code, password, code command, a radclient line that works as printed."""
    tool("radclient")
    with terminal(tmp_path, PROGRAM, "demo", "--port", "0") as demo:
        demo.wait_for(READY)
        assert "\nAccess-Accept\n" in demo.text
        assert demo.line(r".* login\.accepted .*method=totp .*(user=alice) .*") == "user=alice"

        uri = demo.line(r"or open +(otpauth://totp/\S+)")
        qr_code = StringIO()
        segno.make(uri, error="l").terminal(out=qr_code, compact=True, border=2)
        assert qr_code.getvalue() in demo.text
        seed = re.search("secret=([A-Z2-7]+)", uri)
        assert seed is not None
        assert demo.line(r"or type +([A-Z2-7 ]+)").replace(" ", "") == seed[1]

        shown = pasted(tmp_path, demo.line(r"alice's current code +(.+)")).strip()
        assert shown in {totp.code(seed[1], offset=offset) for offset in (-1, 0)}

        line = demo.line(r" +(echo .*\| radclient .*)")
        assert demo.line(r"alice's password +(.+)") in line
        results = [result(pasted(tmp_path, line)) for _ in range(3)]
        assert results[0] == "Access-Accept"
        assert "Access-Reject" in results[1:], "a code works once (it may turn meanwhile)"
        demo.wait_for("code_replayed")

        assert demo.interrupt() == 0
        assert demo.text.endswith("Stopped.\n")
        assert "Traceback" not in demo.text
    eventually(lambda: redis_ended(tmp_path), "the embedded Redis to end")


def test_make_run_a_second_time_finds_everything_in_place_and_is_quick(tmp_path: Path) -> None:
    """Under five seconds of a processor for all of it, and nothing is made anew."""
    make = shutil.which("make")
    assert make is not None
    with terminal(tmp_path, PROGRAM, "demo", "--port", "0") as first:
        first.wait_for(READY)
        password = first.line(r"alice's password +(.+)")
        uri = first.line(r"or open +(otpauth://totp/\S+)")
        assert first.interrupt() == 0
    kept = [tmp_path / "demo-data" / name for name in ("radius-mfa.toml", "keyring", "demo.json")]
    before = [path.read_bytes() for path in kept]
    for path in kept:
        assert path.stat().st_mode & 0o077 == 0, f"{path} is for its owner only"

    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(CHECKOUT / name, tmp_path)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "bin").symlink_to(Path(sys.executable).parent)
    (tmp_path / ".venv" / ".installed").touch()
    spent = processor_seconds()
    with terminal(tmp_path, make, "run") as second:
        second.wait_for(READY)
        assert "\nAccess-Accept\n" in second.text
        assert "Made the key ring" not in second.text
        assert second.line(r"alice's password +(.+)") == password
        assert second.line(r"or open +(otpauth://totp/\S+)") == uri
        line = second.line(r" +(echo .*\| radclient .*)")
        assert result(pasted(tmp_path, line)) == "Access-Accept", (
            "the demo's own login used no code"
        )
        second.interrupt()
        assert "\nStopped.\n" in second.text
        assert "Traceback" not in second.text
    assert processor_seconds() - spent < 5
    assert [path.read_bytes() for path in kept] == before
    eventually(lambda: redis_ended(tmp_path), "the embedded Redis to end")


def test_a_busy_port_is_named_with_the_way_out(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        with terminal(tmp_path, PROGRAM, "demo", "--port", str(port)) as demo:
            assert demo.exit_code() == 3
            assert f"UDP port {port} on 127.0.0.1 is in use" in demo.text
            assert "radius-mfa demo --port" in demo.text
            assert "Traceback" not in demo.text
    eventually(lambda: redis_ended(tmp_path), "the embedded Redis to end")
    with terminal(tmp_path, PROGRAM, "demo", "--port", "0") as demo:
        demo.wait_for(READY)
        assert "\nAccess-Accept\n" in demo.text
        assert demo.interrupt() == 0


def test_the_code_of_a_demo_that_is_not_there_is_an_error_with_the_cure(tmp_path: Path) -> None:
    with terminal(tmp_path, PROGRAM, "demo", "code") as command:
        assert command.exit_code() == 3
        assert "radius-mfa demo" in command.text

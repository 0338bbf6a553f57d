"""A disk that is full, under Redis, under the database, under the log."""

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.exceptions import RedisError

from tests.support import totp
from tests.support.radius import ACCESS_ACCEPT, ACCESS_REJECT
from tests.support.server import PASSWORD, Site, eventually


class SmallDisk:
    """A file system of a few MiB; ``fill`` leaves no room, ``free`` makes some."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"

    def fill(self) -> None:
        with self._filler.open("ab", buffering=0) as file:
            for size in (65_536, 1):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError:
                    continue

    def free(self) -> None:
        self._filler.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m,mode=700", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root, with the right to mount, can make a small disk")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_under_redis_is_silence_and_then_recovery_by_itself(
    tmp_path: Path, disk: SmallDisk
) -> None:
    """A13, rule 1: what Redis can't keep is not decided; used codes stay used."""
    (tmp_path / "data").symlink_to(disk.folder)
    with Site(tmp_path) as site:
        site.serve_metrics()
        site.add_users(["alice", "bob"])
        server = site.start()
        with server.nas() as nas:
            used = PASSWORD + totp.code()
            assert nas.login("alice", used).code == ACCESS_ACCEPT
            disk.fill()
            with site.redis as redis, contextlib.suppress(RedisError):
                redis.set("filler", bytes(8192))  # what is left of a block
            down = server.line("redis.down")
            assert (down["cause"], "make room" in down["hint"]) == ("MISCONF", True)
            request = nas.access_request("bob", PASSWORD + totp.code())
            nas.send(request)
            line = server.line("login.unanswered")
            assert (line["backend"], line["cause"]) == ("redis", "MISCONF")
            assert nas.replies(0.1) == []
            assert server.metric("radius_mfa_backend_up", backend="redis") == 0
            assert server.metric("radius_mfa_logins_unanswered_total", backend="redis") == 1
            disk.free()
            server.line("redis.up")
            assert nas.ask(request).code == ACCESS_ACCEPT
            assert nas.login("alice", used).code == ACCESS_REJECT
            assert server.line("login.rejected")["reason"] == "code_replayed"
        assert len(server.lines("redis.down")) == 1
        assert server.stop() == 0


def test_a_full_disk_under_sqlite_stops_no_login(disk: SmallDisk, site: Site) -> None:
    """Logins only read. A command that changes something says what is wrong, and works later."""
    site.sections = {"database": {"url": f"sqlite:///{disk.folder}/radius-mfa.db"}}
    site.serve_metrics()
    site.add_users(["alice", "bob"])
    server = site.start()
    with server.nas() as nas:
        disk.fill()
        for name in ("alice", "bob"):
            assert nas.login(name, PASSWORD + totp.code()).code == ACCESS_ACCEPT
        done = eventually(
            lambda: (found := site.cli("user", "suspend", "bob")).exit_code and found,
            "a change without room",
        )
        assert (done.exit_code, "SQLITE_FULL" in done.err) == (4, True), done.err
        assert "make room" in done.err
        assert "Traceback" not in done.err
        disk.free()
        assert site.cli("user", "suspend", "bob").exit_code == 0
        assert nas.login("bob", PASSWORD + totp.code(offset=1)).code == ACCESS_REJECT
    assert server.line("login.rejected")["reason"] == "user_suspended"
    assert server.lines("database.down") == []


def test_a_full_disk_under_the_log_stops_no_login_and_is_told_afterwards(
    disk: SmallDisk, site: Site
) -> None:
    """The metrics say it at once; afterwards every line is whole again."""
    path = disk.folder / "auth.log"
    site.sections = {"log": {"file": str(path)}}
    site.serve_metrics()
    site.add_users(["alice", "bob"])
    server = site.start()
    with server.nas() as nas:
        disk.fill()
        for number in range(30):
            assert nas.login("alice", f"wrong-{number}").code == ACCESS_REJECT
        assert nas.login("bob", PASSWORD + totp.code()).code == ACCESS_ACCEPT
        lost = server.metric("radius_mfa_log_lines_lost")
        assert lost >= 10  # what is left of a block takes the first
        assert server.metric("radius_mfa_logins_total", result="accept") == 1
        disk.free()
        assert nas.login("bob", PASSWORD + totp.code(offset=1)).code == ACCESS_ACCEPT
        line = server.line("log.lines_lost")
        assert line["lost"] == server.metric("radius_mfa_log_lines_lost") == lost
        assert "full" in line["hint"]
    assert server.line("login.accepted")["user"] == "bob"
    whole = [text for text in path.read_text("utf-8").splitlines() if text.endswith("}")]
    assert len(path.read_text("utf-8").splitlines()) - len(whole) <= 1, "one may be cut short"
    assert all(json.loads(text) for text in whole)

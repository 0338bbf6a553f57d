"""``radius-mfa key`` beside running servers: logins go on, whatever happens to the rotation."""

import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from radius_mfa.app import Stores
from radius_mfa.policy.totp import Algorithm
from radius_mfa.stores import keyring
from radius_mfa.stores.enrolments import seed_owner
from radius_mfa.stores.records import DeviceRecord, MfaUser, utc_now
from tests.support import totp
from tests.support.radius import ACCESS_ACCEPT
from tests.support.server import PASSWORD, RunningServer, Site, eventually

LOGINS = 100
DEVICES = 4000
"""So many that a rotation takes a few seconds, and can be caught in the middle."""


def fill(site: Site, devices: int) -> None:
    """Put a user with many devices on record, as a company's worth of them."""

    async def work(stores: Stores) -> None:
        async with stores.database.session() as session, session.begin():
            session.add(MfaUser(name="company", created_at=utc_now()))
            await session.flush()
            for number in range(devices):
                device_id = f"{number:036}"
                version, seed = stores.key_ring.encrypt(
                    b"%020d" % number, seed_owner("company", device_id)
                )
                session.add(
                    DeviceRecord(
                        device_id=device_id,
                        user="company",
                        name=str(number),
                        algorithm=Algorithm.SHA1,
                        digits=6,
                        time_step_seconds=30,
                        key_version=version,
                        seed=seed,
                        created_at=utc_now(),
                    )
                )

    site.with_stores(work)


def under(site: Site, version: int) -> int:
    """Return how many devices are encrypted under the key of *version*."""
    with sqlite3.connect(f"file:{site.data}/radius-mfa.db?mode=ro", uri=True) as connection:
        query = "SELECT count(*) FROM device WHERE key_version = ?"
        return int(connection.execute(query, (version,)).fetchone()[0])


@contextmanager
def rotating(site: Site) -> Iterator[subprocess.Popen[str]]:
    """Run ``radius-mfa key rotate`` beside the block."""
    words = [sys.executable, "-m", "radius_mfa", "-c", str(site.config), "key", "rotate"]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@dataclass
class Logins:
    """Users who log in one after the other, each once, until told to stop."""

    server: RunningServer
    users: list[str]
    codes: list[int] = field(default_factory=list)
    slowest: float = 0.0
    _enough: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._enough.set()
        self._thread.join()

    def _run(self) -> None:
        with self.server.nas() as nas:
            while self.users and not self._enough.is_set():
                began = time.monotonic()
                typed = PASSWORD + totp.code()
                self.codes.append(nas.login(self.users.pop(), typed).code)
                self.slowest = max(self.slowest, time.monotonic() - began)
                self._enough.wait(0.2)


def test_logins_go_on_through_a_rotation_a_kill_and_a_second_one(site: Site) -> None:
    """Kill -9 in the middle: nobody is refused, nobody waits, and the next rotation finishes it."""
    users = [f"user{number}" for number in range(LOGINS)]
    site.add_users(users)
    fill(site, DEVICES)
    server = site.start()
    old_key = (site.data / "keyring").read_text("ascii").split()[-1]
    with Logins(server, users[10:]) as logins:
        with rotating(site) as killed:
            eventually(lambda: 0 < under(site, 2) < DEVICES, "the middle of the rotation")
            killed.send_signal(signal.SIGSTOP)
            second = site.cli("key", "rotate")
            killed.kill()
            killed.wait()
        assert second.exit_code == 1
        assert "another radius-mfa key rotate or key retire is at work" in second.err
        assert under(site, 1) > 0, "it was killed in the middle"
        still_in_use = site.cli("key", "retire", "1")
        assert still_in_use.exit_code == 1
        assert re.match(r"error: key version 1 is in use by \d+ records\n", still_in_use.err)
        done = site.cli("key", "rotate")
        assert done.exit_code == 0, done.err
        assert "Going on with key version 2" in done.out
        assert under(site, 1) == 0
        assert site.cli("key", "retire", "1").exit_code == 0
        server.line("keyring.changed", knows=[2], encrypts_with=2)
    with server.nas() as nas:
        for user in users[1:10]:
            logins.codes.append(nas.login(user, PASSWORD + totp.code()).code)
    assert set(logins.codes) == {ACCESS_ACCEPT}
    assert logins.slowest < 2
    assert not server.lines("login.unanswered")
    server.line("keyring.changed", knows=[1, 2], encrypts_with=2)
    keys = keyring.load(site.data / "keyring")
    assert keys.versions == {2}
    assert server.stop() == 0
    again = site.start()
    with again.nas() as nas:
        assert nas.login(users[0], PASSWORD + totp.code()).code == ACCESS_ACCEPT
    site.canaries |= {old_key, (site.data / "keyring").read_text("ascii").split()[-1]}
    database = (site.data / "radius-mfa.db").read_bytes()
    assert not [key for key in site.canaries if key.encode() in database]


def test_a_second_node_with_a_file_of_its_own_is_waited_for(site: Site, tmp_path: Path) -> None:
    """It answers all the while, what it lacks is shown, and copying the file is all to do."""
    users = [f"user{number}" for number in range(40)]
    site.add_users(users)
    here = site.start()
    elsewhere = Site(
        tmp_path / "elsewhere",
        {
            "redis": {"url": f"unix://{site.data}/redis.sock"},
            "database": {"url": f"sqlite:///{site.data}/radius-mfa.db"},
        },
    )
    with elsewhere:
        shutil.copy(site.data / "keyring", elsewhere.data / "keyring")
        there = elsewhere.start()
        with there.nas() as nas, rotating(site) as rotation, Logins(here, users[:20]) as logins:
            assert rotation.stdout is not None
            assert rotation.stdout.readline().startswith("Made key version 2 in ")
            listed = site.cli("key", "list")
            assert "does not know key version 2: copy " in listed.out
            for user in users[20:30]:
                assert nas.login(user, PASSWORD + totp.code()).code == ACCESS_ACCEPT
            assert under(site, 1) == len(users)
            shutil.copy(site.data / "keyring", elsewhere.data / "keyring")
            out, _ = rotation.communicate()
            assert rotation.returncode == 0, out
            assert under(site, 2) == len(users)
            for user in users[30:]:
                assert nas.login(user, PASSWORD + totp.code()).code == ACCESS_ACCEPT
        assert set(logins.codes) == {ACCESS_ACCEPT}
        nodes = site.cli("key", "list", "--json").json()["nodes"]
        assert [(node["knows"], node["encrypts_with"]) for node in nodes] == [([1, 2], 2)] * 2


def test_a_wrong_key_is_noticed_at_start(site: Site) -> None:
    """And not at the first login: the right number with another key in it."""
    site.add_users(["alice"])
    path = site.data / "keyring"
    path.write_text(keyring.new_key_line(1), "ascii")
    for words in (("serve",), ("user", "list"), ("key", "rotate")):
        done = site.cli(*words)
        assert done.exit_code == 3
        assert done.err.endswith(
            "error: key version 1 in the key ring is not the one this database was made with\n"
            "restore the key ring that belongs to this database\n"
        )


def test_a_key_ring_that_is_swapped_under_a_running_server_stops_no_login(site: Site) -> None:
    """It is told, with the cure, and the server goes on with the keys it has."""
    site.add_users(["alice", "bob"])
    server = site.start()
    path = site.data / "keyring"
    right = path.read_bytes()
    path.write_text(keyring.new_key_line(1), "ascii")
    told = server.line("keyring.unfit")
    assert "is not the one that was there before" in told["cause"]
    with server.nas() as nas:
        assert nas.login("alice", PASSWORD + totp.code()).code == ACCESS_ACCEPT
    path.write_bytes(right)
    keyring.append(path, keyring.new_key_line(2))
    server.line("keyring.changed", knows=[1, 2], encrypts_with=1)


def test_keys_are_listed_without_a_server_and_without_a_key(site: Site) -> None:
    site.add_users(["alice"])
    listed = site.cli("key", "list")
    assert re.fullmatch(
        r"KEY  CREATED           STATE     IN USE BY\n"
        r"1    \d{4}-\d\d-\d\d \d\d:\d\d  encrypts  2 records\n",
        listed.out,
    )
    shown = site.cli("key", "list", "--json")
    assert shown.json()["nodes"] == []
    key = (site.data / "keyring").read_text("ascii").split()[-1]
    assert key not in shown.out + listed.out

"""A directory that hangs, beside users who are not in it; what operators see of directories."""

import re
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from radius_mfa.app import Stores
from tests.functional.test_cli import in_process
from tests.support import totp
from tests.support.proxy import Proxy
from tests.support.radius import ACCESS_ACCEPT
from tests.support.server import PASSWORD, RunningServer, Site, new_device
from tests.support.slapd import SEARCH_PASSWORD, SUFFIX, RealSlapd, free_port, group, person

LOCAL_USERS = 12


@pytest.fixture(scope="module")
def slapd() -> Iterator[RealSlapd]:
    with RealSlapd() as server:
        server.add(person("alice", PASSWORD), group("vpn", "alice"), person("shut", PASSWORD))
        server.modify(f"uid=shut,ou=people,{SUFFIX}", pwdAccountLockedTime=["000001010000Z"])
        yield server


@pytest.fixture
def proxy(slapd: RealSlapd) -> Iterator[Proxy]:
    with Proxy((slapd.address, slapd.tls_port)) as made:
        yield made


@pytest.fixture
def server(slapd: RealSlapd, proxy: Proxy, site: Site) -> RunningServer:
    servers = [f"ldaps://127.0.0.1:{proxy.port}"]
    section = slapd.section(servers=servers, realms=["corp"], timeout_seconds=0.5)
    metrics = f"127.0.0.1:{free_port('127.0.0.1')}"
    site.sections = {
        "directory": {"ldap": [section], "local": {"realms": ["here"]}},
        "metrics": {"listen": metrics},
    }
    site.write_config()
    site.canaries.add(SEARCH_PASSWORD)
    site.add_spare_users(LOCAL_USERS)

    async def work(stores: Stores) -> None:
        alice = await stores.directories.identify("alice")
        await stores.enrolments.know(alice)
        device = new_device("phone", totp.SEED)
        await stores.enrolments.add_device(alice.key, device, confirmed=True)

    site.with_stores(work)
    return site.start()


def test_a_directory_that_hangs_stalls_only_its_own_logins(
    server: RunningServer, proxy: Proxy
) -> None:
    """A13: its users get silence, the log a cause; others log in as ever; then it is over."""
    proxy.mode = "hang"
    with ThreadPoolExecutor(LOCAL_USERS * 2) as pool, server.nas() as stalled:
        for number in range(20):
            stalled.send(stalled.access_request(f"corp\\user{number}", "x" + totp.code()))

        def login(_number: int) -> float:
            began = time.monotonic()
            with server.nas() as nas:
                user = f"here\\{server.site.fresh_user()}"
                assert nas.login(user, PASSWORD + totp.code()).code == ACCESS_ACCEPT
            return time.monotonic() - began

        assert max(pool.map(login, range(LOCAL_USERS))) < 3
        stalled.assert_silent()
    line = server.line("login.unanswered", backend="directory")
    assert re.match(r"corp: ldaps://127\.0\.0\.1:\d+: no answer within 0\.5 s", line["cause"])
    down = server.line("directory.server_down")
    assert down["hint"] == "see: radius-mfa directory test corp"
    assert 'radius_mfa_directory_server_up{directory="corp"' in metrics(server)
    assert re.search(r"directory_server_up\{.*\} 0\.0", metrics(server))
    assert re.search(r'directory_faults_total\{.*kind="timeout".*\} [1-9]', metrics(server))
    proxy.mode = "pass"
    server.line("directory.server_up")
    with server.nas() as nas:
        assert nas.login("alice", PASSWORD + totp.code()).code == ACCESS_ACCEPT
    assert re.search(r"directory_server_up\{.*\} 1\.0", metrics(server))
    assert re.search(r'directory_seconds_count\{.*operation="bind".*\} 1\.0', metrics(server))


def metrics(server: RunningServer) -> str:
    url = f"http://{server.site.settings.metrics.listen}/metrics"
    with urllib.request.urlopen(url) as answer:
        text: str = answer.read().decode()
    return text


def test_directory_test_shows_what_the_server_sees(
    slapd: RealSlapd,
    site: Site,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Servers with TLS and fault; of a user entry, key, state and groups; exit codes."""
    site.sections = {
        "directory": {
            "ldap": [
                slapd.section(),
                slapd.section(name="half", servers=[slapd.tls_uri, "ldaps://127.0.0.1:1"]),
                slapd.section(name="wrong", bind_password="canary-wrong"),
            ]
        }
    }
    site.write_config()
    with in_process(monkeypatch, capsys, site.config) as command:
        found = command("directory", "test", "corp", "--user", "ALICE", "--json").json()
        assert found["servers"][0]["tls"].startswith("TLSv1.")
        user = found["user"]
        assert (user["name"], user["state"]) == ("alice", "active")
        assert user["dn"] == f"uid=alice,ou=people,{SUFFIX}"
        assert user["key"].startswith("LDAP/corp/")
        assert [one["name"] for one in user["groups"]] == ["vpn"]
        shown = command("directory", "test", "corp", "--user", "alice")
        assert shown.exit_code == 0
        assert re.search(r"^group: +vpn  \(cn=vpn,", shown.out, re.MULTILINE)
        shut = command("directory", "test", "corp", "--user", "shut")
        assert (shut.exit_code, "locked" in shut.out) == (1, True)
        nobody = command("directory", "test", "corp", "--user", "nobody")
        assert (nobody.exit_code, "nobody is not found" in nobody.out) == (1, True)
        half = command("directory", "test", "half")
        assert (half.exit_code, "works, " in half.out) == (4, True)
        assert "Connection refused" in half.out
        wrong = command("directory", "test", "wrong")
        assert wrong.exit_code == 4
        assert "wrong bind_password?" in wrong.out
        assert "canary-wrong" not in wrong.out + wrong.err
        missing = command("directory", "test", "none")
        assert missing.exit_code == 1
        assert "known: corp, half, wrong" in missing.err

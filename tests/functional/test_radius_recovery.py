"""Recovery codes at the VPN: made on the command line, typed behind the password (O17)."""

import re
from concurrent.futures import ThreadPoolExecutor

from tests.support import totp
from tests.support.radius import ACCESS_ACCEPT
from tests.support.server import PASSWORD, RunningServer, Site


def made(site: Site, user: str) -> list[str]:
    """Return the codes that the command line shows, which no log may hold."""
    done = site.cli("device", "recovery-codes", user, "--yes")
    assert done.exit_code == 0, done.err
    codes = re.findall(r"^ {4}([a-z2-9]{5}-[a-z2-9]{5})$", done.out, re.MULTILINE)
    assert len(codes) == 10
    site.canaries |= {*codes, *(code.replace("-", "") for code in codes)}
    return codes


def login(server: RunningServer, typed: str) -> bool:
    with server.nas() as nas:
        return nas.login("alice", PASSWORD + typed).code == ACCESS_ACCEPT


def test_a_recovery_code_lets_one_login_in(site: Site) -> None:
    """One of twenty at once, over real UDP; the log says how, and the list how many are left."""
    site.add_users(["alice"])
    server = site.start()
    assert login(server, totp.code()), "so that the devices are cached before there are codes"
    first, second, third, *_ = made(site, "alice")
    with ThreadPoolExecutor(20) as pool:
        assert sum(pool.map(lambda _: login(server, first), range(20))) == 1
    assert server.line("login.accepted", method="recovery_code")["canonical_user"] == "alice"
    assert server.line("login.rejected")["reason"] in {"code_replayed", "account_locked"}
    assert site.cli("user", "unlock", "alice").exit_code == 0
    assert login(server, second.upper().replace("-", ""))
    shown = site.cli("user", "show", "alice").out
    assert re.search(r"^recovery codes left: +8$", shown, re.MULTILINE)
    assert site.cli("device", "recovery-codes", "alice", text="n\n").exit_code == 1
    assert login(server, third), "they were not ended"
    made(site, "alice")
    assert not login(server, first)
    assert not login(server, third)


def test_a_user_without_a_device_gets_none(site: Site) -> None:
    site.add_users(["alice"], seed=None)
    done = site.cli("device", "recovery-codes", "alice")
    assert done.exit_code == 1
    assert "alice has no device whose first code was confirmed" in done.err

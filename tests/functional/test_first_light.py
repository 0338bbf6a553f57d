"""A VPN login end to end: a real server process, real UDP, Redis and SQL."""

from tests.support import totp
from tests.support.radius import ACCESS_ACCEPT, ACCESS_REJECT
from tests.support.server import PASSWORD, Site


def test_password_and_code_are_accepted_and_the_code_works_once(site: Site) -> None:
    """O04: the second use of an accepted code is refused, whatever packet it comes in."""
    site.add_users(["alice"])
    server = site.start()
    with server.nas() as nas:
        typed = PASSWORD + totp.code()
        assert nas.login("alice", typed).code == ACCESS_ACCEPT
        assert nas.login("alice", typed).code == ACCESS_REJECT
    assert server.line("login.accepted")["method"] == "totp"
    assert server.line("login.rejected")["reason"] == "code_replayed"

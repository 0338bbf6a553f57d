"""What happens at the portals is told like what happens at the VPN: events, history, mails."""

from collections.abc import Iterator
from typing import Any

import pytest

from radius_mfa.app import Stores
from radius_mfa.policy.roles import SIGN_IN_FAILURES
from tests.support.admin import add_admins, sign_in
from tests.support.portal import PortalProcess, text_of
from tests.support.server import PASSWORD, Site, eventually
from tests.support.smtp import RealSmtp
from tests.support.smtp_server import Behaviour
from tests.support.totp import code, wrong_code

USERS = ["pw-locked", "code-locked", "at-home", "teased"]
ADMINS = ["chief", "guessed"]


@pytest.fixture(scope="module")
def smtp() -> Iterator[RealSmtp]:
    with RealSmtp(Behaviour()) as server:
        yield server


@pytest.fixture(scope="module")
def telling(smtp: RealSmtp, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site with a mail server, whose users have an address and a device each."""
    sections: dict[str, Any] = {"mail": smtp.settings(), "lockout": {"failures_by_source": 3}}
    with Site(tmp_path_factory.mktemp("telling"), sections) as site:
        site.add_users(USERS)
        add_admins(site, *ADMINS)
        site.with_stores(_with_addresses)
        site.start()
        yield site


async def _with_addresses(stores: Stores) -> None:
    for name in (*USERS, *ADMINS):
        await stores.enrolments.set_mail(name, f"{name}@corp.example")


@pytest.fixture(scope="module")
def portal(telling: Site) -> Iterator[PortalProcess]:
    with PortalProcess(telling, RADIUS_MFA_PORTAL__SIGN_INS_PER_MINUTE="10000") as running:
        yield running


def events(site: Site, user: str, *words: str) -> list[dict[str, Any]]:
    """Return the events about *user*, oldest first, once there are as many as *words*."""

    def found() -> list[dict[str, Any]] | None:
        newest = site.with_stores(lambda stores: stores.events.newest(1000))
        mine = [event.fields for event in newest if event.text("canonical_user") == user]
        return mine if len(mine) >= len(words) else None

    told: list[dict[str, Any]] = eventually(found, f"the events about {user}")
    assert [event["event"] for event in told] == list(words)
    return told


def mails(site: Site, user: str) -> list[str]:
    listed = site.with_stores(lambda stores: stores.outbox.listed(everything=True))
    return [mail.kind for mail in listed if mail.user == user and mail.fate == "sent"]


def wrong_codes(count: int) -> list[str]:
    return [f"{int(wrong_code()) + number:06}" for number in range(count)]


def tried(portal: PortalProcess, user: str, wrong: str) -> None:
    """Type the right password, and a wrong code."""
    browser = portal.browser()
    page = browser.sign_in(user, PASSWORD)
    assert browser.send(page, "/sign-in/code", code=wrong).status_code == 422


def test_a_lock_that_the_portal_closes_is_mailed_and_in_the_stream_like_any_other(
    telling: Site, portal: PortalProcess, smtp: RealSmtp
) -> None:
    """By passwords or by codes."""
    for number in range(4):
        portal.browser().sign_in("pw-locked", f"wrong {number}")
    for wrong in wrong_codes(3):
        tried(portal, "code-locked", wrong)
    refused = ["portal.refused"]
    *first, lock, last = events(telling, "pw-locked", *refused * 3, "user.locked", *refused)
    assert {event["reason"] for event in first} == {"wrong_password"}
    assert last["reason"] == "account_locked"
    assert (lock["nas"], lock["station"]) == ("(portal)", "127.0.0.1")
    assert "radius-mfa user unlock pw-locked" in lock["hint"]
    events(telling, "code-locked", *["portal.challenged", *refused] * 3, "user.locked")
    eventually(lambda: mails(telling, "pw-locked") == ["locked"], "the mail about passwords")
    eventually(lambda: mails(telling, "code-locked") == ["locked"], "the mail about codes")
    assert {str(mail["To"]) for mail in smtp.wait_for(2)} >= {"pw-locked@corp.example"}


def test_an_admin_is_told_that_the_admin_portal_is_shut(
    telling: Site, portal: PortalProcess
) -> None:
    """Once, by the fifth failure; a user without a role has no such door, and hears nothing."""
    for name in ("guessed", "teased"):
        for number in range(SIGN_IN_FAILURES + 2):
            browser = portal.browser()
            page = browser.get("/admin/sign-in")
            page = browser.send(page, "/admin/sign-in", name=name, password=f"wrong {number % 2}")
            assert page.status_code == 422
    [shut] = [
        one
        for one in eventually(lambda: _of(telling, "guessed", "admin.locked"), "the lock")
        if one["event"] == "admin.locked"
    ]
    assert shut["nas"] == "(admin portal)"
    assert "radius-mfa user unlock guessed" in shut["hint"]
    eventually(lambda: "locked" in mails(telling, "guessed"), "the mail")
    assert not _of(telling, "teased", "admin.locked")
    assert mails(telling, "teased") == []


def _of(site: Site, user: str, word: str) -> list[dict[str, Any]]:
    newest = site.with_stores(lambda stores: stores.events.newest(1000))
    return [
        event.fields
        for event in newest
        if event.text("canonical_user") == user and event.text("event") == word
    ]


def test_sign_ins_are_among_ones_own_logins_and_in_the_live_log(
    telling: Site, portal: PortalProcess
) -> None:
    """Good ones, refused ones, a password without its code; not a proof in between."""
    browser = portal.browser()
    portal.browser().sign_in("at-home", "not this one")
    browser.sign_in("at-home", PASSWORD, code())
    browser.send(browser.get("/prove?next=/devices/new"), "/prove", code=code(offset=1))
    events(telling, "at-home", "portal.refused", "portal.challenged", "portal.accepted")
    page = eventually(
        lambda: ">let in<" in (page := browser.get("/logins")).text and page, "the history"
    )
    results = (">let in<", ">refused<", ">asked for a code<")
    assert [page.text.count(one) for one in results] == [1, 1, 1]
    assert "this portal" in text_of(page)
    assert browser.send(page, "/logins/not-me").status_code == 200
    desk = sign_in(portal, "chief")
    live = desk.get("/admin/live?client=(portal)&user=at-home")
    assert text_of(live).count("at-home") == 3
    assert "(admin portal)" in text_of(desk.get("/admin/live?user=chief&result=accepted"))
    assert "this portal" in text_of(desk.get("/admin/user?key=at-home"))


def test_a_sign_in_is_no_login_at_the_vpn(telling: Site, portal: PortalProcess) -> None:
    """The column of last logins says when somebody last came in there."""
    portal.browser().sign_in("teased", PASSWORD, code(offset=-1))
    key = "teased"

    def kept() -> bool:
        recent = telling.with_stores(lambda stores: stores.history.recent(key))
        return any(one.result.value == "accepted" for one in recent)

    eventually(kept, "the history")
    assert telling.with_stores(lambda stores: stores.history.last_logins([key])) == {}

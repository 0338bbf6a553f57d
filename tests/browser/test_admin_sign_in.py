"""Signing in to the admin portal: who is let in, the first time and later, and who is not."""

import re
from datetime import timedelta

import pytest

from radius_mfa.app import Stores
from radius_mfa.policy.roles import SIGN_IN_FAILURES, Role
from radius_mfa.stores.records import utc_now
from tests.support.admin import add_admin, add_admins, new_admin
from tests.support.portal import Browser, PortalProcess, forms, text_of
from tests.support.radius import ACCESS_REJECT
from tests.support.server import PASSWORD, Site, new_device
from tests.support.totp import SEED, code

OWN_PASSWORD = "correct horse battery"


def first_step(browser: Browser, name: str, password: str = PASSWORD) -> str:
    page = browser.send(
        browser.get("/admin/sign-in"), "/admin/sign-in", name=name, password=password
    )
    return text_of(page)


def one_time_password(site: Site, name: str, *words: str) -> str:
    done = site.cli("admin", "create", name, *words)
    assert done.exit_code == 0, done.err
    found = re.search(r"shown this once: (\S+)", done.out)
    assert found, done.out
    site.canaries.add(found[1])
    return found[1]


def test_the_first_admin_chooses_a_password_then_enrols_and_nothing_opens_before(
    portal_site: Site, portal: PortalProcess
) -> None:
    password = one_time_password(portal_site, "first")
    browser = portal.browser()
    assert "Choose your password" in first_step(browser, "first", password)
    for path in ("/admin", "/admin/set-up", "/admin/set-up/confirm"):
        assert "Choose your password" in text_of(browser.get(path))
    page = browser.get("/admin/password")
    for chosen, again, why in [
        ("short", "short", "at least 12 characters"),
        (OWN_PASSWORD, OWN_PASSWORD + "!", "do not agree"),
        (password, password, "Choose another one"),
    ]:
        refused = browser.send(page, "/admin/password", password=chosen, again=again)
        assert refused.status_code == 422
        assert why in text_of(refused)
    page = browser.send(page, "/admin/password", password=OWN_PASSWORD, again=OWN_PASSWORD)
    assert "Set up your second factor" in text_of(page)
    assert "Set up your second factor" in text_of(browser.get("/admin"))
    page = browser.send(page, "/admin/set-up")
    key = re.search(r'class="key"[^>]*>([A-Z2-7 ]+)<', page.text)
    assert key is not None
    seed = key[1].replace(" ", "")
    portal_site.canaries.add(seed)
    refused = browser.send(page, "/admin/set-up/confirm", code="000000")
    assert "not the code" in text_of(refused)
    page = browser.send(page, "/admin/set-up/confirm", code=code(seed=seed))
    assert len(re.findall(r"<li>\w{5}-\w{5}</li>", page.text)) == 10
    assert "Overview" in text_of(browser.get("/admin"))
    other = portal.browser()
    assert "did not work" in first_step(other, "first", password)  # it was good for once
    assert "Your code" in first_step(other, "first", OWN_PASSWORD)


def test_a_one_time_password_that_waited_too_long_opens_nothing_until_it_is_made_anew(
    portal_site: Site, portal: PortalProcess
) -> None:
    portal_site.add_users(["tardy"], "an old one", seed=None)

    async def appoint(stores: Stores) -> None:
        await stores.admins.appoint("tardy", Role.ADMIN, utc_now() - timedelta(seconds=1))

    portal_site.with_stores(appoint)
    browser = portal.browser()
    assert "did not work" in first_step(browser, "tardy", "an old one")
    assert "admin.password_too_old" in portal.text
    password = one_time_password(portal_site, "tardy", "--role", "helpdesk")
    assert "Choose your password" in first_step(browser, "tardy", password)
    removed = portal_site.cli("admin", "remove", "tardy", "--yes")
    assert "is deleted" in removed.out  # or the password that was printed would stay
    assert portal_site.cli("user", "show", "tardy").exit_code == 1


@pytest.mark.parametrize("known", ["user", "nobody"])
def test_whoever_has_no_role_is_refused_like_a_wrong_password(
    portal_site: Site, portal: PortalProcess, known: str
) -> None:
    name = portal_site.fresh_user() if known == "user" else "nobody-here"
    add_admin(portal_site, f"admin-beside-{known}")
    refused = first_step(portal.browser(), name)
    wrong = first_step(portal.browser(), f"admin-beside-{known}", "a wrong one")
    assert refused == wrong


def test_a_users_session_opens_no_admin_page_and_an_admins_no_page_of_users(
    portal_site: Site, portal: PortalProcess
) -> None:
    add_admin(portal_site, "doors")
    user = portal.browser()
    user.sign_in("doors", PASSWORD, code())
    assert "Sign in as an admin" in text_of(user.get("/admin"))
    user.cookies["__Host-radius-mfa-admin"] = user.cookies["__Host-radius-mfa"]
    assert "Sign in as an admin" in text_of(user.get("/admin"))
    admin = new_admin(portal, "doors-too")
    admin.cookies["__Host-radius-mfa"] = admin.cookies["__Host-radius-mfa-admin"]
    assert "Here you set up the second factor" in text_of(admin.get("/"))


def test_after_five_failures_the_door_is_shut_though_the_lockout_is_off(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Of either step. Right values do not open it, until somebody unlocks; others come in.

    A right code is not used up at a shut door.
    """
    lockout = {"failures_by_source": 0, "failures_by_user": 0}
    with Site(tmp_path_factory.mktemp("five"), {"lockout": lockout}) as site:
        site.start()
        add_admins(site, "guessed", "peeped", "other")
        with PortalProcess(site) as portal:
            browser, half_way = portal.browser(), portal.browser()
            first_step(half_way, "peeped")
            right = code()
            for number in range(SIGN_IN_FAILURES):
                assert "did not work" in first_step(browser, "guessed", f"wrong {number}")
                browser = portal.browser()
                assert "Your code" in first_step(browser, "peeped")
                page = browser.get("/admin/sign-in/code")
                page = browser.send(page, "/admin/sign-in/code", code=f"00000{number}")
                assert "did not work" in text_of(page)
            browser = portal.browser()
            for name in ("guessed", "peeped"):
                assert "did not work" in first_step(browser, name)
                shut = rf'"event":"admin.locked",[^\n]*"user":"{name}"'
                assert len(re.findall(shut, portal.text)) == 1
            assert "Your code" in first_step(portal.browser(), "other")
            page = half_way.get("/admin/sign-in/code")
            page = half_way.send(page, "/admin/sign-in/code", code=right)
            assert "did not work" in text_of(page)
            site.with_stores(lambda stores: stores.service.unlock(["guessed", "peeped"]))
            assert "Your code" in first_step(browser, "guessed")
            half_way.send(page, "/admin/sign-in/code", code=right)
            assert "peeped, admin" in text_of(half_way.get("/admin"))


def test_an_admin_whose_role_is_taken_away_is_out_with_the_next_click(
    portal_site: Site, portal: PortalProcess
) -> None:
    browser = new_admin(portal, "former")
    assert portal_site.cli("admin", "role", "former", "auditor").exit_code == 0
    assert "former, auditor" in text_of(browser.get("/admin"))
    assert portal_site.cli("admin", "remove", "former", "--yes").exit_code == 0
    page = browser.get("/admin")
    assert "Your session is over" in text_of(page)
    assert "Sign in as an admin" in text_of(page)


def test_a_reset_ends_the_session_and_the_next_sign_in_enrols_anew(
    portal_site: Site, portal: PortalProcess
) -> None:
    browser = new_admin(portal, "phoneless")
    assert portal_site.cli("user", "reset", "phoneless", "--yes").exit_code == 0
    assert "Your session is over" in text_of(browser.get("/admin"))
    assert "Set up your second factor" in first_step(browser, "phoneless")
    assert "/admin/set-up" in forms(browser.get("/admin"))


def test_a_one_time_password_opens_nothing_but_the_admin_portal(
    portal_site: Site, portal: PortalProcess
) -> None:
    """Neither the users' portal, where a device could be set up with it, nor the VPN."""
    password = one_time_password(portal_site, "elsewhere")
    browser = portal.browser()
    assert "did not work" in text_of(browser.sign_in("elsewhere", password))
    assert '"reason":"password_must_change"' in portal.text
    portal_site.with_stores(
        lambda stores: stores.enrolments.add_device(
            "elsewhere", new_device("phone", SEED), confirmed=True
        )
    )
    server = portal_site.servers[0]
    with server.nas() as nas:
        reply = nas.login("elsewhere", password + code())
    assert reply.code == ACCESS_REJECT
    assert server.line("login.rejected", user="elsewhere")["reason"] == "password_must_change"
    page = browser.send(
        browser.get("/admin/sign-in"), "/admin/sign-in", name="elsewhere", password=password
    )
    assert "Your code" in text_of(page)  # there it is the password

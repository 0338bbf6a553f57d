"""The pages of admins: live log, clients, audit trail, settings, and how all of them look."""

import re
import time

import pytest
from playwright.sync_api import expect

from radius_mfa.policy.roles import Role
from radius_mfa.portal.admin.live import STREAM_SECONDS
from radius_mfa.portal.gate import REQUEST_SECONDS
from radius_mfa.stores.clients_seen import Traffic
from radius_mfa.stores.sessions import token_digest
from tests.browser.conftest import Tab
from tests.browser.test_admin_users import redis_fails_at
from tests.browser.test_enrolment import looked_at
from tests.support.admin import add_admins, new_admin, sign_in
from tests.support.portal import Browser, PortalProcess, forms, text_of
from tests.support.server import PASSWORD, SECRET, RunningServer, Site, eventually
from tests.support.totp import code, wrong_code

COOKIE = "__Host-radius-mfa-admin"


@pytest.fixture(scope="module")
def auditor(portal_site: Site, portal: PortalProcess) -> Browser:
    """The least of the roles: these pages are for all of them."""
    add_admins(portal_site, "page-see", role=Role.AUDITOR)
    return sign_in(portal, "page-see")


def signed_in(tab: Tab, name: str) -> None:
    """Put an admin on record, and sign in as them."""
    add_admins(tab.portal.site, name)
    tab.open("/admin/sign-in")
    tab.fill("Name", name)
    tab.fill("Password", PASSWORD)
    tab.press("Sign in")
    tab.fill("Code", code())
    tab.press("Go on")


def test_the_live_log_shows_a_login_within_a_second_pauses_and_filters(
    tab: Tab, portal_site: Site, server: RunningServer
) -> None:
    user, other = portal_site.fresh_user(), portal_site.fresh_user()
    signed_in(tab, "watcher")
    tab.open("/admin/live")
    expect(tab.page.locator("#live-state")).to_have_text(re.compile("^Live"))
    with server.nas() as nas:
        nas.login(user, PASSWORD + code())
        began = time.monotonic()
        row = tab.page.get_by_role("row", name=user)
        expect(row).to_contain_text("let in", timeout=5_000)
        assert time.monotonic() - began < 1
        tab.press("Pause")
        nas.login(other, PASSWORD + wrong_code())
        expect(tab.page.locator("#live-state")).to_have_text("Paused: 1 new.")
        assert tab.page.get_by_role("row", name=other).count() == 0
        tab.press("Pause")
        expect(tab.page.get_by_role("row", name=other)).to_contain_text("wrong code")
        tab.page.get_by_label("Result").select_option("rejected")
        tab.fill("User", other)
        tab.press("Show")
        expect(tab.page.get_by_role("row", name=other)).to_be_visible()
        assert tab.page.get_by_role("row", name=user).count() == 0
        expect(tab.page.locator("#live-state")).to_have_text(re.compile("^Live"))
        nas.login(user, PASSWORD + wrong_code())
        nas.login(other, PASSWORD + "1" + wrong_code())
        expect(tab.page.get_by_role("row", name=other)).to_have_count(2)
        assert tab.page.get_by_role("row", name=user).count() == 0


def test_without_a_script_the_live_log_is_loaded_anew(
    tab_without_scripts: Tab, server: RunningServer
) -> None:
    tab = tab_without_scripts
    signed_in(tab, "scriptless")
    tab.open("/admin/live?user=not-there-at-first")
    assert tab.page.get_by_role("button", name="Pause").count() == 0
    with server.nas() as nas:
        nas.login("not-there-at-first", "whatever")

    def shown() -> int:
        tab.page.get_by_role("link", name="Load anew").click()
        return tab.page.get_by_role("row", name="not-there-at-first").count()

    eventually(shown, "the event")


def test_a_stream_escapes_what_was_typed_ends_by_itself_and_keeps_no_session_alive(
    portal_site: Site, portal: PortalProcess, server: RunningServer, auditor: Browser
) -> None:
    """It goes on where the browser had left off; nonsense in its address is nobody's fault."""
    hostile = "<img src=x onerror=alert(1)>"
    session = f"radius-mfa:portal:session:{token_digest(auditor.cookies[COOKIE])}"
    portal_site.redis.expire(session, 100)
    headers = {**auditor.headers, "cookie": f"{COOKIE}={auditor.cookies[COOKIE]}"}
    with server.nas() as nas:
        nas.login(hostile, "whatever")
    found, last, path = [], "", "/admin/live/stream"
    for after in ("0", "²", "9" * 30):
        asked = {"after": after, "user": hostile}
        began = time.monotonic()
        with portal.client.stream("GET", path, params=asked, headers=headers) as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            for line in stream.iter_lines():
                found += [line] if line.startswith("data:") else []
                last = line if line.startswith("id:") else last
                if after != "0" or found:
                    break
        assert time.monotonic() - began < STREAM_SECONDS
    assert "&lt;img src=x" in found[-1]
    assert "<img" not in found[-1]
    assert portal_site.redis.ttl(session) <= 100
    resumed = {**headers, "last-event-id": last.partition(": ")[2] or "0"}
    began = time.monotonic()
    with portal.client.stream("GET", path, headers=resumed) as stream:
        assert not [line for line in stream.iter_lines() if "<img" in line]
    assert STREAM_SECONDS <= time.monotonic() - began < REQUEST_SECONDS


def test_settings_are_shown_without_secrets(auditor: Browser) -> None:
    page = auditor.get("/admin/settings")
    assert "failures_by_source" in page.text
    assert 'secret = "***"' in page.text.replace("&#34;", '"')
    assert SECRET not in page.text


def test_processes_with_other_settings_are_named(portal_site: Site, auditor: Browser) -> None:
    """Where it listens is each one's own affair; another limit is not."""
    assert "has others" in text_of(auditor.get("/admin/settings")), "the server, beside this portal"
    with Site(portal_site.folder / "alike") as site:
        site.start()
        with PortalProcess(site) as alike:
            desk = new_admin(alike, "settled")
            shown = eventually(
                lambda: "have the same" in (text := text_of(desk.get("/admin/settings"))) and text,
                "both processes",
            )
            assert "has others" not in shown


def test_the_audit_trail_is_found_by_who_and_whom_and_goes_by_pages(
    portal_site: Site, auditor: Browser
) -> None:
    user = portal_site.fresh_user()
    for word in ("suspend", "resume"):
        assert portal_site.cli("user", word, user).exit_code == 0
    page = auditor.get(f"/admin/audit?whom={user}")
    acts = re.findall(r'data-label="What">([^<]+)<', page.text)
    assert acts[:2] == ["user.resume", "user.suspend"]
    assert auditor.get("/admin/audit?whom=nobody-at-all").text.count("<td") == 0
    first = auditor.get("/admin/audit")
    older = re.search(r'rel="next" href="([^"]+)"', first.text)
    assert older
    second = auditor.get(older[1].replace("&amp;", "&"))
    assert second.text.count("<tr>") > 1
    assert "user.resume" not in re.findall(r'data-label="What">([^<]+)<', second.text)
    for hostile in ("before=²", "before=" + "9" * 40, "who=%FF&whom=%3Cb%3E"):
        assert auditor.get(f"/admin/audit?{hostile}").status_code == 200


def test_every_client_is_shown_with_what_is_set(auditor: Browser) -> None:
    assert "nas Address 127.0.0.0/8, ::1/128" in text_of(auditor.get("/admin/clients"))


def test_a_click_requires_the_signature_of_a_client_that_always_signs_and_of_no_other(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Within seconds, also after a restart, whatever the file says; another click undoes it."""
    clients = [
        {
            "name": name,
            "address": [address],
            "require_message_authenticator": False,
            "limit_proxy_state": False,
        }
        for name, address in (("signing", "127.0.0.1"), ("other", "127.0.0.2"))
    ]
    with Site(tmp_path_factory.mktemp("signed"), clients=clients) as site:
        add_admins(site, "chief")
        site.add_users(["alice"])
        site.with_stores(lambda s: s.clients_seen.add({("signing", "", "pap"): Traffic(20, 20)}))
        site.start()
        with PortalProcess(site) as portal:
            desk = sign_in(portal, "chief")
            page = desk.get("/admin/clients")
            assert "/admin/clients/leave-signature" not in forms(page)
            csrf = forms(page)["/admin/sign-out"]["csrf"]
            for name, why in [("other", "was not seen to sign"), ("no\x01ne", "Clients")]:
                fields = {"csrf": csrf, "client": name}
                refused = desk.post("/admin/clients/require-signature", fields)
                assert why in text_of(refused)
            assert site.with_stores(lambda stores: stores.signed_clients.all()) == set()
            done = desk.send(page, "/admin/clients/require-signature")
            assert "discarded on every node" in text_of(done)
            site.servers[0].line("client.signature", nas="signing", required=True)
            _assert_discards_unsigned(site.servers[0])
            site.servers[0].stop()
            _assert_discards_unsigned(site.start())
            assert "client.leave_signature" not in desk.get("/admin/audit").text
            page = desk.get("/admin/clients")
            desk.send(page, "/admin/clients/leave-signature")
            site.servers[1].line("client.signature", nas="signing", required=False)
            with site.servers[1].nas() as nas:
                unsigned = nas.access_request("alice", "wrong", message_authenticator="none")
                assert nas.ask(unsigned).code == 3
            acts = re.findall("client.[a-z]+_signature", desk.get("/admin/audit").text)
            assert acts == ["client.leave_signature", "client.require_signature"]


def _assert_discards_unsigned(server: RunningServer) -> None:
    with server.nas() as nas:
        nas.assert_silent(nas.access_request("alice", "wrong", message_authenticator="none"))
        server.line("packet.discarded", reason="missing_message_authenticator")
    with server.nas("127.0.0.2") as other:
        unsigned = other.access_request("alice", "wrong", message_authenticator="none")
        assert other.ask(unsigned).code == 3


def test_every_admin_page_is_clean_at_both_widths(
    tab: Tab, portal_site: Site, server: RunningServer
) -> None:
    """Axe finds nothing, nothing scrolls sideways at 390 and 1280 px, light and dark."""
    user = portal_site.fresh_user()
    with server.nas() as nas:
        nas.login(user, PASSWORD + code(), [(31, b"198.51.100.8")])
        nas.login(user, PASSWORD + wrong_code(), [(31, b"198.51.100.8")])
    tab.open("/admin/sign-in")
    looked_at(tab, "admin-sign-in")
    signed_in(tab, "looker")
    for path, name in [
        ("/admin", "admin-overview"),
        ("/admin/users", "admin-users"),
        (f"/admin/user?key={user}", "admin-user"),
        ("/admin/groups", "admin-group"),
        ("/admin/live", "admin-live"),
        ("/admin/clients", "admin-clients"),
        ("/admin/audit", "admin-audit"),
        ("/admin/settings", "admin-settings"),
    ]:
        tab.open(path)
        looked_at(tab, name)
    tab.open(f"/admin/user?key={user}")
    tab.press("Exempt until a date …")
    looked_at(tab, "admin-act")
    others = [portal_site.fresh_user() for _ in range(3)]
    with redis_fails_at(portal_site, max(others)):
        tab.page.evaluate(_SEND, others)
        tab.page.get_by_role("alert").wait_for()
    looked_at(tab, "admin-act-half-done")
    tab.faults = [fault for fault in tab.faults if "status of 503" not in fault]
    tab.open("/admin/user?key=no-such-user")
    looked_at(tab, "admin-user-gone")
    tab.faults = [fault for fault in tab.faults if "status of 404" not in fault]


_SEND = """users => {
    const form = document.querySelector("form[action='/admin/acts/do']");
    form.elements.act.value = "unlock";
    form.querySelectorAll("[name=user]").forEach(one => one.remove());
    for (const user of users) {
        const field = document.createElement("input");
        Object.assign(field, {type: "hidden", name: "user", value: user});
        form.append(field);
    }
    HTMLFormElement.prototype.submit.call(form);
}"""
"""Fills in the form of an act as the list of users would."""


def test_users_are_ticked_and_required_by_keyboard_alone(tab: Tab, portal_site: Site) -> None:
    portal_site.add_users(["keyed-1", "keyed-2"], seed=None)
    signed_in(tab, "typist")
    tab.open("/admin/users?q=keyed-")
    keyboard = tab.page.keyboard
    tab.page.get_by_label("keyed-1", exact=True).focus()
    keyboard.press("Space")
    tab.page.get_by_label("What", exact=True).focus()
    keyboard.type("Require a")
    tab.page.get_by_role("button", name="Go on").focus()
    keyboard.press("Enter")
    expect(tab.page.get_by_role("heading", level=1)).to_contain_text("keyed-1")
    tab.page.get_by_label("Days to enrol").focus()
    keyboard.press("Control+A")
    keyboard.type("3")
    keyboard.press("Enter")
    expect(tab.page.get_by_role("status")).to_contain_text("Done for 1 user")
    assert portal_site.cli("user", "list", "--totp", "in-enrolment").out.count("keyed-") == 1

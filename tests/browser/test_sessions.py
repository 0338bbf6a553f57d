"""The portal's sign-in and sessions, over plain HTTP against the real process."""

import re
import sqlite3
import time
from contextlib import closing
from functools import partial

import orjson
import pytest

from radius_mfa.stores.sessions import token_digest
from tests.support.portal import PortalProcess, forms, text_of
from tests.support.server import PASSWORD, RunningServer, Site
from tests.support.totp import code, wrong_code

COOKIE = "__Host-radius-mfa"


def test_cookie_is_for_this_host_over_tls_and_out_of_reach_of_scripts(
    portal: PortalProcess,
) -> None:
    """Host-only by its prefix: Secure, Path=/, no Domain; HttpOnly, SameSite=Lax; no lifetime."""
    [cookie] = portal.browser().get("/sign-in").headers.get_list("set-cookie")
    name, *attributes = [part.strip() for part in cookie.split(";")]
    assert name.startswith(f"{COOKIE}=")
    assert {one.lower() for one in attributes} == {"httponly", "path=/", "samesite=lax", "secure"}


def test_every_page_carries_the_security_headers(portal: PortalProcess) -> None:
    """Also a page that stands for a fault, and a file. Inline scripts are neither there nor run."""
    browser = portal.browser()
    for path in ("/sign-in", "/nowhere", "/static/portal.css"):
        page = browser.get(path)
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert page.headers["x-content-type-options"] == "nosniff"
        assert page.headers["referrer-policy"] == "same-origin"
        assert "server" not in page.headers
        assert not re.search(r"<script(?![^>]*\ssrc=)|\son\w+=|\sstyle=|javascript:", page.text)
    assert browser.get("/sign-in").headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost", "127.0.0.1:1", "", "localhost:{port}."]
)
def test_another_host_is_refused(portal: PortalProcess, host: str) -> None:
    port = portal.listen.rpartition(":")[2]
    page = portal.browser().get("/sign-in", headers={"host": host.format(port=port)})
    assert page.status_code == 421
    assert "set-cookie" not in page.headers


def test_token_changes_at_each_step_and_the_old_one_is_worth_nothing(
    portal_site: Site, portal: PortalProcess
) -> None:
    """So a token that somebody planted before (session fixation) never becomes a session."""
    browser = portal.browser()
    user, tokens = portal_site.fresh_user(), []
    page = browser.get("/sign-in")
    tokens.append(browser.cookies[COOKIE])
    page = browser.send(page, "/sign-in", name=user, password=PASSWORD)
    tokens.append(browser.cookies[COOKIE])
    page = browser.send(page, "/sign-in/code", code=code())
    tokens.append(browser.cookies[COOKIE])
    assert f"Hello, {user}" in text_of(page)
    assert len(set(tokens)) == 3
    browser.send(page, "/sign-out")
    for token in tokens:
        thief = portal.browser()
        thief.cookies[COOKIE] = token
        assert thief.get("/", follow=False).headers["location"] == "/sign-in"
        assert thief.get("/sign-in/code", follow=False).headers["location"] == "/sign-in"


def test_redis_holds_no_token_and_no_password(portal_site: Site, portal: PortalProcess) -> None:
    """A copy of Redis opens no session."""
    browser = portal.browser()
    browser.sign_in(portal_site.fresh_user(), PASSWORD, code())
    with portal_site.redis as redis:
        kinds = {key: redis.type(key) for key in redis.scan_iter("*portal:*")}
        everything = b" ".join(
            [*kinds, *(redis.get(k) for k, t in kinds.items() if t == b"string")]
        )
    assert b"session" in everything
    assert browser.cookies[COOKIE].encode() not in everything
    assert PASSWORD.encode() not in everything


def test_a_proven_password_opens_no_page_before_the_code(
    portal_site: Site, portal: PortalProcess
) -> None:
    browser = portal.browser()
    browser.sign_in(portal_site.fresh_user(), PASSWORD)
    assert browser.get("/", follow=False).headers["location"] == "/sign-in/code"


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": ""},
        {"origin": "{origin}.evil.example"},
        {"origin": "", "referer": "https://evil.example/sign-in"},
    ],
)
def test_a_form_from_elsewhere_is_refused(
    portal_site: Site, portal: PortalProcess, headers: dict[str, str]
) -> None:
    """Whatever token it carries; nothing is tried, and the session stays."""
    browser = portal.browser()
    page = browser.sign_in(portal_site.fresh_user(), PASSWORD, code())
    sent = {name: value.format(origin=portal.origin) for name, value in headers.items()}
    refused = browser.post("/sign-out", forms(page)["/sign-out"], headers=sent)
    assert refused.status_code == 403
    assert browser.get("/", follow=False).status_code == 200


def test_a_form_needs_the_token_of_its_own_browser(
    portal_site: Site, portal: PortalProcess
) -> None:
    """None, a wrong one, another browser's, and the one from before the sign-in: all refused."""
    user, stranger = portal_site.fresh_user(), portal.browser()
    foreign = forms(stranger.get("/sign-in"))["/sign-in"]["csrf"]
    browser = portal.browser()
    before = forms(browser.get("/sign-in"))["/sign-in"]["csrf"]
    browser.sign_in(user, PASSWORD, code())
    for token in ("", "0" * 48, foreign, before):
        assert browser.post("/sign-out", {"csrf": token}).status_code == 403
    assert browser.post("/sign-out", {"other": "field"}).status_code == 403
    nobody = portal.browser()
    assert nobody.post("/sign-in", {"csrf": foreign}).status_code == 403  # no cookie at all
    assert browser.get("/", follow=False).status_code == 200


HOSTILE = [
    "",
    "\x01",
    "a" * 1024,
    "<script>alert(1)</script>",
    "' OR 1=1 --",
    "{{ 7 * 7 }}",
    "../../etc/passwd",
    "\u202eabc",
    "a\r\nSet-Cookie: x=y",
    "\N{PILE OF POO}" * 100,
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names_and_passwords_are_refused_alike_and_come_back_as_text(
    portal: PortalProcess, text: str
) -> None:
    browser = portal.browser()
    page = browser.sign_in(text, text)
    assert page.status_code == 422
    assert "That did not work." in text_of(page)
    assert "<script>alert" not in page.text
    assert "49" not in forms(page)["/sign-in"]["name"]
    assert "x" not in browser.cookies


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"csrf=%FF%FE", "application/x-www-form-urlencoded", 400),
        (b"name=%00", "application/x-www-form-urlencoded", 400),
        (b"%00=name", "application/x-www-form-urlencoded", 400),
        (b"\xff\xfe", "application/x-www-form-urlencoded", 400),
        (b"&".join([b"a=1"] * 2000), "application/x-www-form-urlencoded", 400),
        (b"a=" + b"b" * 70_000, "application/x-www-form-urlencoded", 413),
        (b"a=" + b"b" * 2_000, "application/x-www-form-urlencoded", 413),
        (b"{}", "application/json", 400),
        (b"", "", 400),
    ],
)
def test_what_no_browser_sends_is_refused(
    portal: PortalProcess, body: bytes, kind: str, status: int
) -> None:
    browser = portal.browser()
    browser.get("/sign-in")
    headers = {"origin": portal.origin, "content-type": kind}
    assert browser.request("POST", "/sign-in", content=body, headers=headers).status_code == status


@pytest.mark.parametrize(
    ("path", "status"), [("/sign-in", 200), ("/", 303), ("/static/portal.css", 200), ("/no", 404)]
)
def test_head_is_answered_as_get_without_what_it_says(
    portal: PortalProcess, path: str, status: int
) -> None:
    """Monitors ask so."""
    browser = portal.browser()
    browser.cookies = {"__Host-radius-mfa": "a" * 43}
    get, head = (browser.request(method, path, follow=False) for method in ("GET", "HEAD"))
    assert (get.status_code, head.status_code, head.content) == (status, status, b"")
    kept = [name for name in get.headers if name not in {"date", "last-modified"}]
    assert [get.headers[name] for name in kept] == [head.headers[name] for name in kept]


@pytest.mark.parametrize("path", ["/devices/new", "/recovery-codes", "/logins/not-me"])
def test_a_form_whose_session_is_over_says_so(
    portal_site: Site, portal: PortalProcess, path: str
) -> None:
    browser = portal.browser()
    page = browser.sign_in(portal_site.fresh_user(), PASSWORD, code())
    sent = {**forms(page)["/sign-out"], "name": "phone", "login": "1"}
    digest = token_digest(browser.cookies["__Host-radius-mfa"])
    with portal_site.redis as redis:
        assert redis.delete(f"radius-mfa:portal:session:{digest}") == 1
    assert "Your session is over" in text_of(browser.post(path, sent))


def test_refusals_tell_nobody_apart(portal_site: Site, portal: PortalProcess) -> None:
    """Unknown user, wrong password, locked and suspended user: status, text, headers, time."""
    locked, suspended, known = (portal_site.fresh_user() for _ in range(3))
    portal_site.with_stores(lambda s: s.enrolments.suspend([suspended], suspended=True))
    for number in range(5):
        portal.browser().sign_in(locked, f"wrong {number}")
    pages, seconds = {}, {}
    for who, password in {
        "nobody": PASSWORD,
        known: "wrong",
        locked: PASSWORD,
        suspended: PASSWORD,
    }.items():
        browser = portal.browser()
        form = browser.get("/sign-in")
        began = time.monotonic()
        page = browser.send(form, "/sign-in", name=who, password=password)
        seconds[who] = time.monotonic() - began
        headers = {n for n in page.headers if n != "date"}
        text = page.text.replace(forms(page)["/sign-in"]["csrf"], "").replace(who, "")
        pages[who] = (page.status_code, tuple(sorted(headers)), text)
    assert len(set(pages.values())) == 1
    assert min(seconds.values()) >= 0.05  # the delay of this site's rejects, counted from arrival
    assert max(seconds.values()) - min(seconds.values()) < 0.5


def test_lockout_is_the_vpn_s(
    portal_site: Site, portal: PortalProcess, server: RunningServer
) -> None:
    """Failures here count where those of RADIUS do, and a lock by one holds at the other."""
    user = portal_site.fresh_user()
    for number in range(3):
        portal.browser().sign_in(user, f"wrong {number}")
    assert portal_site.failures(user) == 3
    with server.nas() as nas:
        for number in range(17):
            nas.login(user, f"wrong {number}{wrong_code()}", [(31, b"198.51.100.%d" % number)])
    page = portal.browser().sign_in(user, PASSWORD)
    assert "That did not work." in text_of(page)
    assert '"reason":"account_locked"' in portal.text


def test_a_right_password_starts_no_count_again(portal_site: Site, portal: PortalProcess) -> None:
    """Or else whoever has the password could guess codes for ever; five wrong ones lock."""
    user = portal_site.fresh_user()
    wrong = [f"{int(wrong_code()) + number:06}" for number in range(5)]
    for guess in wrong:
        browser = portal.browser()
        page = browser.sign_in(user, PASSWORD)
        assert "/sign-in/code" in forms(page)
        page = browser.send(page, "/sign-in/code", code=guess)
        assert page.status_code == 422
    page = portal.browser().sign_in(user, PASSWORD)
    assert "That did not work." in text_of(page)


def test_a_code_of_the_vpn_is_used_up_here_too(
    portal_site: Site, portal: PortalProcess, server: RunningServer
) -> None:
    user, used = portal_site.fresh_user(), code()
    with server.nas() as nas:
        assert nas.login(user, PASSWORD + used).code == 2
    browser = portal.browser()
    page = browser.send(browser.sign_in(user, PASSWORD), "/sign-in/code", code=used)
    assert "That code did not work." in text_of(page)
    assert '"reason":"code_replayed"' in portal.text


def test_tries_of_one_address_are_bounded(portal_site: Site) -> None:
    """A proxy that is trusted says whose; anybody else who says so is not believed."""
    with PortalProcess(
        portal_site,
        RADIUS_MFA_PORTAL__SIGN_INS_PER_MINUTE="3",
        RADIUS_MFA_PORTAL__TRUSTED_PROXIES='["127.0.0.1"]',
    ) as portal:
        here = portal.browser(**{"x-forwarded-for": "203.0.113.9, 198.51.100.7"})
        statuses = [here.sign_in("nobody", f"{number}").status_code for number in range(3)]
        assert statuses == [422, 422, 422]
        refused = here.send(here.get("/sign-in"), "/sign-in", name="nobody", password="4")
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "60"
        forged = portal.browser(**{"x-forwarded-for": "203.0.113.10, 198.51.100.7"})
        assert forged.send(forged.get("/sign-in"), "/sign-in", name="x").status_code == 429
        for way in ("198.51.100.8", "::ffff:198.51.100.9", "::ffff:198.51.100.10"):
            other = portal.browser(**{"x-forwarded-for": way})
            statuses = [other.sign_in("nobody", f"{number}").status_code for number in range(2)]
            assert statuses == [422, 422]


def test_sessions_end_by_themselves_and_whatever_is_clicked(
    portal_site: Site, portal: PortalProcess
) -> None:
    """The idle limit is Redis's own; the absolute one counts from the sign-in."""
    with closing(sqlite3.connect(portal_site.data / "radius-mfa.db")) as database:
        database.execute("UPDATE local_user SET password_changed_at = '2020-01-01 00:00:00'")
        database.commit()
    browser = portal.browser()
    browser.sign_in(portal_site.fresh_user(), PASSWORD, code())
    [key] = _session_keys(portal_site, browser.cookies[COOKIE])
    with portal_site.redis as redis:
        assert 890 < redis.ttl(key) <= 900
        redis.set(key, _older(redis.get(key), 28_300), ex=60)
        assert browser.get("/", follow=False).status_code == 200
        assert redis.ttl(key) <= 500
        redis.set(key, _older(redis.get(key), 600), ex=60)
        assert browser.get("/", follow=False).headers["location"] == "/sign-in"
        assert not redis.exists(key)


def _session_keys(site: Site, token: str) -> list[bytes]:
    with site.redis as redis:
        return list(redis.scan_iter(f"*portal:session:{token_digest(token)}"))


def _older(octets: bytes, seconds: int) -> bytes:
    fields = orjson.loads(octets)
    return orjson.dumps({**fields, "began_at": fields["began_at"] - seconds})


def test_changes_by_an_admin_end_sessions(portal_site: Site, portal: PortalProcess) -> None:
    """Suspended, given a new password, reset: the next click asks to sign in again."""
    for act in (
        lambda stores, user: stores.enrolments.suspend([user], suspended=True),
        lambda stores, user: stores.service.suspend_factor([user], suspended=True),
        lambda stores, user: stores.service.reset([user], time.time()),
        lambda stores, user: stores.directory.set_password(user, "another password"),
        lambda stores, user: stores.enrolments.delete_user(user),
    ):
        user, browser = portal_site.fresh_user(), portal.browser()
        browser.sign_in(user, PASSWORD, code())
        assert browser.get("/", follow=False).status_code == 200
        portal_site.with_stores(partial(act, user=user))
        assert "Your session is over" in text_of(browser.get("/"))


def test_a_password_changed_between_the_two_steps_opens_nothing(
    portal_site: Site, portal: PortalProcess
) -> None:
    """The old one was proven, but the session that it began is older than the new one."""
    user, browser = portal_site.fresh_user(), portal.browser()
    page = browser.sign_in(user, PASSWORD)
    portal_site.with_stores(lambda stores: stores.directory.set_password(user, "another one"))
    page = browser.send(page, "/sign-in/code", code=code())
    assert "Your session is over" in text_of(page)

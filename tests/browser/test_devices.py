"""Devices, recovery codes and sessions of the portal, over plain HTTP against the real process."""

import re
import time

import httpx
import orjson
import pytest

from radius_mfa.portal.visit import CHANGES_PER_HOUR
from radius_mfa.stores import audit
from radius_mfa.stores.sessions import token_digest
from tests.support.portal import Browser, PortalProcess, forms, text_of
from tests.support.radius import ACCESS_ACCEPT, ACCESS_REJECT
from tests.support.server import PASSWORD, RunningServer, Site, eventually
from tests.support.totp import SEED, code, wrong_code


@pytest.fixture
def newcomer(portal_site: Site) -> str:
    """A user with a password and nothing else."""
    name = f"new-{time.monotonic_ns()}"
    portal_site.add_users([name], seed=None)
    return name


def seed_on(page: httpx.Response) -> str:
    """Return the key that a page shows, in base32."""
    found = re.search(r'<p class="key"[^>]*>([A-Z2-7 ]+)</p>', page.text)
    assert found, text_of(page)
    return found[1].replace(" ", "")


def begun(browser: Browser, name: str = "Phone") -> tuple[httpx.Response, str]:
    """Begin to set up a device; return the page that shows it, and its seed."""
    page = browser.send(browser.get("/devices/new"), "/devices/new", name=name)
    return page, seed_on(page)


def finished(browser: Browser, page: httpx.Response, seed: str) -> tuple[httpx.Response, list[str]]:
    """Type the first code; return the next page and the recovery codes on it."""
    page = browser.send(page, "/devices/confirm", code=code(seed))
    return page, re.findall(r"<li>([a-z2-9]{5}-[a-z2-9]{5})</li>", page.text)


def links(page: httpx.Response, what: str) -> list[str]:
    return re.findall(rf'href="(/devices/[^"]+/{what})"', page.text)


def test_seed_is_shown_to_the_session_that_began_it_and_until_it_is_confirmed(
    portal: PortalProcess, newcomer: str
) -> None:
    """Another session, of whoever else knows the password, must not copy the phone to be."""
    browser, other = portal.browser(), portal.browser()
    browser.sign_in(newcomer, PASSWORD)
    other.sign_in(newcomer, PASSWORD)
    page, seed = begun(browser)
    assert seed_on(browser.get("/devices/confirm")) == seed
    assert "key" not in other.get("/devices/confirm").text.partition("<main")[2]
    assert "not finished" in text_of(other.get("/"))
    page, codes = finished(browser, page, seed)
    assert len(codes) == 10
    assert seed not in browser.get("/devices/confirm").text.replace(" ", "")
    assert browser.get("/devices/confirm", follow=False).status_code == 303


def test_a_session_by_password_alone_ends_when_the_user_enrols(
    portal: PortalProcess, newcomer: str
) -> None:
    """Or else whoever knew the password would be inside, and could remove the device again."""
    browser, other = portal.browser(), portal.browser()
    browser.sign_in(newcomer, PASSWORD)
    other.sign_in(newcomer, PASSWORD)
    finished(browser, *begun(browser))
    assert browser.get("/", follow=False).status_code == 200
    assert "Your session is over" in text_of(other.get("/"))


def test_seeds_that_nobody_confirms_do_not_pile_up(
    portal_site: Site, portal: PortalProcess, newcomer: str
) -> None:
    """Of sessions that were left: the oldest gives way. The newest one can be confirmed."""
    for number in range(5):
        browser = portal.browser()
        browser.sign_in(newcomer, PASSWORD)
        for name in ("phone", "tablet"):
            page, seed = begun(browser, f"{name}-{number}")
    record = portal_site.with_stores(lambda s: s.enrolments.user(newcomer))
    assert [one.name for one in record.devices] == ["tablet-2", "tablet-3", "tablet-4"]
    assert len(finished(browser, page, seed)[1]) == 10


def test_changes_of_ones_own_are_bounded(portal_site: Site, portal: PortalProcess) -> None:
    """In an hour, for they stay on the audit trail for ever; other users go on."""
    user, other = portal_site.fresh_user(), portal_site.fresh_user()
    browser = portal.browser()
    page = browser.sign_in(user, PASSWORD, code())
    [rename] = links(page, "rename")
    hidden = forms(browser.get(rename))[rename]
    for number in range(CHANGES_PER_HOUR):
        answer = browser.post(rename, {**hidden, "name": f"name {number}"}, follow=False)
        assert answer.status_code == 303
    sent = {**hidden, "name": "one too many"}
    for path in (rename, "/devices/new", "/recovery-codes"):
        page = browser.post(path, sent)
        assert page.status_code == 429
        assert page.headers["retry-after"] == "3600"
        assert "Come back in an hour" in text_of(page)
    rows = portal_site.with_stores(lambda s: audit.entries(s.database, who=user))
    assert len(rows) == CHANGES_PER_HOUR
    browser = portal.browser()
    browser.sign_in(other, PASSWORD, code())
    assert begun(browser, "tablet")


def test_first_code_is_asked_for_until_it_is_right(portal: PortalProcess, newcomer: str) -> None:
    browser = portal.browser()
    browser.sign_in(newcomer, PASSWORD)
    page, seed = begun(browser)
    for wrong in ("", wrong_code(seed), "12345", "\N{ARABIC-INDIC DIGIT ONE}" * 6, "<b>", "a" * 16):
        page = browser.send(page, "/devices/confirm", code=wrong)
        assert page.status_code == 422
        assert seed_on(page) == seed
    spaced = code(seed)[:3] + " " + code(seed)[3:]
    page = browser.send(page, "/devices/confirm", code=spaced)
    assert "Keep your recovery codes" in text_of(page)


@pytest.mark.parametrize("name", ["", "   ", "a" * 65, "a\tb", "a\x01b", "\u202e"])
def test_names_that_can_not_be_seen_are_refused(
    portal: PortalProcess, newcomer: str, name: str
) -> None:
    browser = portal.browser()
    browser.sign_in(newcomer, PASSWORD)
    page = browser.send(browser.get("/devices/new"), "/devices/new", name=name)
    assert page.status_code == 422
    assert "A name has 1 to 64 characters" in text_of(page)


def test_a_name_is_text_wherever_it_is_shown(portal_site: Site, portal: PortalProcess) -> None:
    """Renamed to markup and to a template, it comes back as it was typed."""
    browser = portal.browser()
    page = browser.sign_in(portal_site.fresh_user(), PASSWORD, code())
    for name in ("<img src=x onerror=alert(1)>", "{{ 7 * 7 }}", '" autofocus onfocus="alert(1)'):
        [rename] = links(page, "rename")
        page = browser.send(browser.get(rename), rename, name=name)
        assert "The device has its new name." in text_of(page)
        assert "<img" not in page.text.partition("<main")[2]
        assert 'onfocus="' not in page.text
        assert forms(browser.get(rename))[rename]["name"] == name


def test_names_of_one_user_s_devices_differ(portal_site: Site, portal: PortalProcess) -> None:
    browser = portal.browser()
    page = browser.sign_in(portal_site.fresh_user(), PASSWORD, code())
    page, seed = begun(browser, "Tablet")
    page, codes = finished(browser, page, seed)
    assert "The device is set up." in text_of(page)
    assert codes == []  # the second one leaves the recovery codes as they are
    [first, second] = links(page, "rename")
    page = browser.send(browser.get(first), first, name="Tablet")
    assert "You have a device of that name already." in text_of(page)
    page = browser.send(browser.get("/devices/new"), "/devices/new", name="Tablet")
    assert "You have a device of that name already." in text_of(page)
    page = browser.send(browser.get(second), second, name="Tablet")
    assert "The device has its new name." in text_of(page)


def test_removing_takes_a_code_of_any_device(
    portal_site: Site, portal: PortalProcess, server: RunningServer
) -> None:
    """A wrong one removes nothing; afterwards the VPN takes the other device alone."""
    user, browser = portal_site.fresh_user(), portal.browser()
    browser.sign_in(user, PASSWORD, code())
    _, tablet = begun(browser, "Tablet")
    page, _ = finished(browser, browser.get("/devices/confirm"), tablet)
    phone = links(page, "remove")[0]
    for wrong in (wrong_code(tablet), code(), code(tablet), ""):  # the second and third are used
        refused = browser.send(browser.get(phone), phone, code=wrong)
        assert refused.status_code == 422
    page = browser.send(browser.get(phone), phone, code=code(tablet, offset=1))
    assert "The device is removed." in text_of(page)
    assert len(links(page, "remove")) == 1
    with server.nas() as nas:
        assert nas.login(user, PASSWORD + code(offset=1)).code == ACCESS_REJECT


def test_nobody_touches_devices_of_others(portal_site: Site, portal: PortalProcess) -> None:
    """An id that is another user's, or nobody's, leads back to the first page."""
    mine, yours = portal_site.fresh_user(), portal_site.fresh_user()
    owner, thief = portal.browser(), portal.browser()
    page = owner.sign_in(yours, PASSWORD, code())
    [remove], [rename] = links(page, "remove"), links(page, "rename")
    own = forms(thief.sign_in(mine, PASSWORD, code()))["/sign-out"]
    for path in (remove, rename, "/devices/0/remove", "/devices/..%2f/rename"):
        assert thief.get(path, follow=False).status_code in (303, 404)
        sent = {**own, "name": "mine now", "code": code(offset=1)}
        assert thief.post(path, sent, follow=False).status_code in (303, 404)
    assert "phone" in text_of(owner.get("/"))


def test_last_device_may_go_and_takes_recovery_codes_and_the_proof_along(
    portal: PortalProcess, newcomer: str
) -> None:
    browser = portal.browser()
    browser.sign_in(newcomer, PASSWORD)
    _, codes = finished(browser, *begun(browser))
    [remove] = links(browser.get("/"), "remove")
    page = browser.get(remove)
    assert "It is your only device." in text_of(page)
    page = browser.send(page, remove, code=codes[0])
    assert "You have none yet." in text_of(page)
    again = portal.browser()
    assert "You have none yet." in text_of(again.sign_in(newcomer, PASSWORD))


def test_recovery_codes_work_here_and_at_the_vpn_once_each(
    portal: PortalProcess, newcomer: str, server: RunningServer
) -> None:
    """Typed in capitals and without hyphen too (checklist O17)."""
    browser = portal.browser()
    browser.sign_in(newcomer, PASSWORD)
    _, codes = finished(browser, *begun(browser))
    with server.nas() as nas:
        assert nas.login(newcomer, PASSWORD + codes[0]).code == ACCESS_ACCEPT
        other = portal.browser()
        page = other.send(other.sign_in(newcomer, PASSWORD), "/sign-in/code", code=codes[0])
        assert "That code did not work." in text_of(page)
        bare = codes[1].upper().replace("-", "")
        page = other.send(page, "/sign-in/code", code=bare)
        assert "8 are left." in text_of(page)
        assert nas.login(newcomer, PASSWORD + codes[1]).code == ACCESS_REJECT


def test_new_recovery_codes_end_the_old_and_can_be_taken_along(
    portal: PortalProcess, newcomer: str, server: RunningServer
) -> None:
    """Shown once: no page has them afterwards; the file holds the ten and nothing that was not."""
    browser = portal.browser()
    browser.sign_in(newcomer, PASSWORD)
    _, old = finished(browser, *begun(browser))
    page = browser.send(browser.get("/recovery-codes"), "/recovery-codes")
    new = re.findall(r"<li>([a-z2-9]{5}-[a-z2-9]{5})</li>", page.text)
    assert len(set(new) | set(old)) == 20
    file = browser.send(page, "/recovery-codes/download")
    assert file.headers["content-disposition"].startswith("attachment")
    assert file.headers["content-type"].startswith("text/plain")
    assert re.findall(r"^  (\S+)$", file.text, re.MULTILINE) == new
    for path in ("/", "/recovery-codes"):
        assert not any(one in browser.get(path).text for one in new)
    with server.nas() as nas:
        assert nas.login(newcomer, PASSWORD + old[0]).code == ACCESS_REJECT
        assert nas.login(newcomer, PASSWORD + new[0]).code == ACCESS_ACCEPT
    token = forms(page)["/recovery-codes/download"]["csrf"]
    for forged in ("", "<script>", " ".join(new + old[:1]), "abcde-fghij" * 2, "ABCDE-fghij"):
        sent = browser.post("/recovery-codes/download", {"csrf": token, "codes": forged})
        assert sent.status_code == 400


def test_what_matters_asks_again_after_ten_minutes(
    portal_site: Site, portal: PortalProcess
) -> None:
    """Adding a device and new recovery codes; whoever finds an open browser gets no further."""
    browser = portal.browser()
    browser.sign_in(portal_site.fresh_user(), PASSWORD, code())
    make_older(portal_site, browser, proved_at=601)
    sent = forms(browser.get("/recovery-codes"))["/recovery-codes"]
    page = browser.post("/recovery-codes", sent)
    assert "Is it still you?" in text_of(page)
    assert "Is it still you?" in text_of(browser.get("/devices/new"))
    page = browser.send(page, "/prove", code=wrong_code())
    assert page.status_code == 422
    page = browser.send(page, "/prove", code=code(offset=1))
    assert page.url.path == "/recovery-codes"
    assert "key" in begun(browser, "Tablet")[0].text
    elsewhere = {**forms(browser.get("/prove"))["/prove"], "next": "https://evil.example"}
    make_older(portal_site, browser, proved_at=601)
    assert 'value="/"' in browser.get("/prove?next=//evil.example").text
    assert browser.post("/prove", elsewhere).status_code == 422


def make_older(site: Site, browser: Browser, **fields: float) -> None:
    """Let moments of a session be so many seconds further back."""
    with site.redis as redis:
        name = token_digest(browser.cookies["__Host-radius-mfa"])
        [key] = redis.scan_iter(f"*portal:session:{name}")
        session = orjson.loads(redis.get(key))
        session |= {name: session[name] - seconds for name, seconds in fields.items()}
        redis.set(key, orjson.dumps(session), keepttl=True)


def test_sessions_are_listed_and_ended_from_afar(portal_site: Site, portal: PortalProcess) -> None:
    """One of them, and all: the browser meant has to sign in again, nobody else."""
    user, stranger = portal_site.fresh_user(), portal.browser()
    stranger.sign_in(portal_site.fresh_user(), PASSWORD, code())
    iphone = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Version/18.0 Safari/604.1"
    browsers = [portal.browser(), portal.browser(**{"user-agent": iphone})]
    for offset, browser in enumerate(browsers):
        browser.sign_in(user, PASSWORD, code(offset=offset))
    page = browsers[0].get("/sessions")
    assert "Safari on iPhone" in text_of(page)
    assert text_of(page).count("127.0.0.1, since") == 2
    foreign = forms(stranger.get("/sessions"))["/sign-out"]
    sent = {**foreign, "session": forms(page)["/sessions/end"]["session"]}
    stranger.post("/sessions/end", sent)  # not theirs: nothing ends
    assert browsers[1].get("/", follow=False).status_code == 200
    page = browsers[0].send(page, "/sessions/end")
    assert "That session is ended." in text_of(page)
    assert browsers[1].get("/", follow=False).status_code == 303
    assert browsers[0].get("/", follow=False).status_code == 200
    page = browsers[0].send(page, "/sessions/end-all")
    assert "here and everywhere else" in text_of(page)
    assert browsers[0].get("/", follow=False).status_code == 303
    assert stranger.get("/", follow=False).status_code == 200


def test_enrolment_period_is_counted_down_and_then_leaves_nothing_else(
    portal_site: Site, portal: PortalProcess, newcomer: str
) -> None:
    """Put off while it runs; over, only enrolling is open, and enrolling opens the rest again."""
    portal_site.with_stores(lambda s: s.service.require([newcomer], time.time(), 3))
    browser = portal.browser()
    page = browser.sign_in(newcomer, PASSWORD)
    assert "3 days left" in text_of(page)
    page = browser.send(page, "/put-off")
    assert "You have none yet." in text_of(page)
    assert "3 days left" in text_of(page)
    assert "Not now" in text_of(portal.browser().sign_in(newcomer, PASSWORD))
    portal_site.with_stores(lambda s: s.service.withdraw([newcomer]))
    portal_site.with_stores(lambda s: s.service.require([newcomer], time.time(), 0))
    for path in ("/", "/recovery-codes", "/prove"):
        page = browser.get(path)
        assert page.url.path == "/devices/new"
        assert "The time to set it up ended" in text_of(page)
    page, seed = begun(browser)
    page, codes = finished(browser, page, seed)
    assert len(codes) == 10
    assert "in use" in text_of(browser.get("/"))


def test_what_users_do_stands_in_the_audit_trail_as_theirs(
    portal_site: Site, portal: PortalProcess, newcomer: str
) -> None:
    browser = portal.browser()
    browser.sign_in(newcomer, PASSWORD)
    finished(browser, *begun(browser))
    rows = portal_site.with_stores(lambda s: audit.entries(s.database, who=newcomer))
    assert [row.act for row in rows] == ["device.add", "device.confirm", "recovery_codes.renew"]
    assert {row.origin for row in rows} == {"portal from 127.0.0.1"}
    assert {row.subject for row in rows} == {newcomer}


def test_seeds_and_codes_are_in_no_log(portal: PortalProcess, newcomer: str) -> None:
    """The log of the portal, at its most talkative (checklist L01)."""
    browser = portal.browser()
    browser.sign_in(newcomer, PASSWORD)
    page, seed = begun(browser)
    _, codes = finished(browser, page, seed)
    browser.send(browser.get("/"), "/sign-out")
    for secret in (seed, *codes, browser.cookies["__Host-radius-mfa"], SEED, PASSWORD):
        assert secret not in portal.text


def test_own_logins_are_listed_and_one_that_was_not_me_is_on_the_trail(
    portal_site: Site, portal: PortalProcess, server: RunningServer
) -> None:
    """Nobody else's; what the VPN calls itself and its user's place comes back as text."""
    user, other = portal_site.fresh_user(), portal_site.fresh_user()
    with server.nas() as nas:
        assert nas.login(user, PASSWORD + code(), [(31, b"<b>198.51.100.7</b>")]).code == 2
        nas.login(user, PASSWORD + wrong_code(), [(31, b"198.51.100.8")])
        nas.login(other, PASSWORD + wrong_code(), [(31, b"198.51.100.9")])
    browser = portal.browser()
    browser.sign_in(user, PASSWORD, code(offset=1))
    page = eventually(
        lambda: ">refused<" in (page := browser.get("/logins")).text and page, "the history"
    )
    assert "let in" in text_of(page)
    assert "198.51.100.8" in text_of(page)
    assert "198.51.100.9" not in page.text
    assert "<b>" not in page.text
    page = browser.send(page, "/logins/not-me")
    assert "Your admins can see" in text_of(page)
    browser.post("/logins/not-me", {**forms(page)["/sign-out"], "login": "1"})  # nobody's
    assert "Your admins can see" in text_of(browser.send(page, "/logins/not-me"))  # once more
    rows = portal_site.with_stores(lambda s: audit.entries(s.database, who=user))
    [row] = [row for row in rows if row.act == "login.not_me"]
    assert row.subject == user
    assert row.detail["client"] == "nas"
    assert row.detail["result"] == "accepted"


def test_two_codes_in_a_row_set_a_wrong_clock_right_for_the_vpn_too(
    portal_site: Site, portal: PortalProcess, server: RunningServer
) -> None:
    """O07: a phone ten minutes fast; afterwards its codes open the VPN, those of now do not."""
    user, browser = portal_site.fresh_user(), portal.browser()
    with server.nas() as nas:
        assert nas.login(user, PASSWORD + code(offset=20)).code == ACCESS_REJECT
        browser.sign_in(user, PASSWORD)
        page = browser.get("/sign-in/resync")
        for first, following in ((20, 22), (21, 20), (20, 20), (300, 301)):
            codes = {"first": code(offset=first), "next": code(offset=following)}
            page = browser.send(page, "/sign-in/resync", **codes)
            assert page.status_code == 422
        codes = {"first": code(offset=20), "next": code(offset=21)}
        page = browser.send(page, "/sign-in/resync", **codes)
        assert "The codes of that device work again." in text_of(page)
        assert nas.login(user, PASSWORD + code(offset=22)).code == ACCESS_ACCEPT
        assert nas.login(user, PASSWORD + code(offset=1)).code == ACCESS_REJECT
        page = browser.send(browser.get("/resync"), "/resync", **codes)  # used by now
        assert page.status_code == 422
    rows = portal_site.with_stores(lambda s: audit.entries(s.database, who=user))
    assert [row.act for row in rows] == ["device.resync"]

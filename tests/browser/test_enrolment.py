"""A user sets up the second factor by themselves, in a real browser."""

import io
import re
from datetime import datetime
from itertools import count
from typing import Literal

import pyotp
import pytest
import zxingcpp
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Page

from tests.browser.conftest import DESKTOP, PHONE, Tab
from tests.support.portal import screenshots
from tests.support.radius import ACCESS_ACCEPT, ACCESS_REJECT
from tests.support.server import PASSWORD, RunningServer, Site
from tests.support.totp import wrong_code

COLOURS: tuple[Literal["dark"], Literal["light"]] = ("dark", "light")

names = (f"person{number}" for number in count())


@pytest.fixture
def user(portal_site: Site) -> str:
    """A user with a password and nothing else."""
    name = next(names)
    portal_site.add_users([name], seed=None)
    return name


def scanned(page: Page) -> "pyotp.TOTP":
    """Return the generator that an app makes of the QR code in a picture of the page."""
    picture = Image.open(io.BytesIO(page.screenshot(full_page=True)))
    [found] = zxingcpp.read_barcodes(picture)
    totp = pyotp.parse_uri(found.text)
    assert isinstance(totp, pyotp.TOTP)
    return totp


def enrolled(tab: Tab, user: str, device: str = "Phone") -> "tuple[pyotp.TOTP, list[str]]":
    """Set up the first device of *user*; return its generator and the recovery codes."""
    tab.sign_in(user, PASSWORD)
    tab.page.get_by_role("link", name="Set up a device").click()
    tab.fill("Name of the device", device)
    tab.press("Show the QR code")
    phone = scanned(tab.page)
    tab.fill("First code", phone.now())
    tab.press("Finish")
    return phone, tab.page.locator("ol.codes li").all_inner_texts()


def test_scanned_code_enrols_and_opens_the_vpn(tab: Tab, user: str, server: RunningServer) -> None:
    """What an app reads from the picture is the user's seed: issuer, name, and codes that work."""
    tab.sign_in(user, PASSWORD)
    tab.page.get_by_role("link", name="Set up a device").click()
    tab.fill("Name of the device", "Work phone")
    tab.press("Show the QR code")
    phone = scanned(tab.page)
    assert (phone.issuer, phone.name) == ("radius-mfa", user)
    assert phone.secret == re.sub(r"\s", "", tab.page.locator(".key").text_content() or "")
    tab.fill("First code", wrong_code())
    tab.press("Finish")
    assert "not the code this device shows" in tab.page.get_by_role("alert").inner_text()
    assert scanned(tab.page).secret == phone.secret  # shown until it is confirmed ...
    with server.nas() as nas:
        assert nas.login(user, PASSWORD + phone.now()).code == ACCESS_REJECT  # and counts not yet
    tab.fill("First code", phone.now())
    tab.press("Finish")
    assert tab.page.get_by_role("status").inner_text().startswith("Work phone is set up.")
    assert len(tab.page.locator("ol.codes li").all_inner_texts()) == 10
    tab.open("/devices/confirm")  # ... and not a moment longer
    assert phone.secret not in tab.page.content().replace(" ", "")
    with server.nas() as nas:
        step = phone.timecode(datetime.now().astimezone()) + 1
        assert nas.login(user, PASSWORD + phone.generate_otp(step)).code == ACCESS_ACCEPT


def looked_at(tab: Tab, name: str) -> None:
    """Check the page at both widths, light and dark: nothing is cut off, axe finds nothing serious.

    With PORTAL_PICTURES set to a folder a picture of each goes there.
    """
    tab.page.wait_for_load_state()
    for width, size in {"390": PHONE, "1280": DESKTOP}.items():
        tab.page.set_viewport_size(size)
        overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert tab.page.evaluate(overflow) == 0, f"{name} scrolls sideways at {width} px"
        for colours in COLOURS:
            tab.page.emulate_media(color_scheme=colours)
            folder = screenshots()
            if folder:
                tab.page.screenshot(path=folder / f"{name}-{width}-{colours}.png", full_page=True)
    for colours in COLOURS:
        tab.page.emulate_media(color_scheme=colours)
        found = Axe().run(tab.page).response["violations"]
        assert not found, f"{name}: {[(one['id'], one['help']) for one in found]}"


def test_every_page_is_clean_at_both_widths(
    tab: Tab, portal_site: Site, user: str, server: RunningServer
) -> None:
    """Axe finds nothing, nothing scrolls sideways at 390 and 1280 px, light and dark."""
    tab.open("/sign-in")
    looked_at(tab, "sign-in")
    tab.sign_in(user, "wrong")
    looked_at(tab, "sign-in-refused")
    assert portal_site.cli("user", "require", user, "--days", "7").exit_code == 0
    tab.sign_in(user, PASSWORD)
    looked_at(tab, "prompt")
    tab.press("Not now")
    looked_at(tab, "overview-nothing-yet")
    tab.page.get_by_role("link", name="Set up a device").click()
    looked_at(tab, "device-new")
    tab.fill("Name of the device", "Work phone")
    tab.press("Show the QR code")
    looked_at(tab, "device-confirm")
    tab.page.get_by_text("You can't scan?").click()
    looked_at(tab, "device-confirm-key")
    phone = scanned(tab.page)
    tab.fill("First code", wrong_code())
    tab.press("Finish")
    looked_at(tab, "device-confirm-refused")
    tab.fill("First code", phone.now())
    tab.press("Finish")
    looked_at(tab, "recovery-codes-shown")
    [code, *_] = tab.page.locator("ol.codes li").all_inner_texts()
    tab.page.get_by_role("link", name="I have kept them").click()
    looked_at(tab, "overview")
    with server.nas() as nas:
        nas.login(user, PASSWORD + wrong_code(), [(31, b"198.51.100.8")])
    for link, name in [
        ("Rename Work phone", "device-rename"),
        ("Remove Work phone", "device-remove"),
        ("Make new ones", "recovery-codes"),
        ("Sessions", "sessions"),
        ("Logins", "logins"),
    ]:
        tab.open("/")
        tab.page.get_by_role("link", name=link).click()
        looked_at(tab, name)
    tab.open("/resync")
    looked_at(tab, "resync")
    tab.open("/prove?next=/recovery-codes")
    looked_at(tab, "prove")
    tab.press(f"Sign out {user}")
    looked_at(tab, "signed-out")
    tab.sign_in(user, PASSWORD)
    looked_at(tab, "sign-in-code")
    tab.fill("Code", code)
    tab.press("Go on")
    tab.page.goto(f"{tab.portal.origin}/nowhere")
    looked_at(tab, "fault")
    tab.faults.clear()  # the browser tells of the 404


def test_everything_works_without_javascript(tab_without_scripts: Tab, user: str) -> None:
    """On a phone: enrol, save the codes, rename, sign out, sign in with a recovery code."""
    tab = tab_without_scripts
    _, codes = enrolled(tab, user)
    with tab.page.expect_download() as download:
        tab.press("Save as a file")
    assert codes[0] in download.value.path().read_text("utf-8")
    assert not tab.page.get_by_text("Print", exact=True).is_visible()
    tab.page.get_by_role("link", name="I have kept them").click()
    tab.page.get_by_role("link", name="Rename Phone").click()
    tab.fill("New name", "My \N{MOBILE PHONE}")
    tab.press("Rename")
    assert tab.page.get_by_role("link", name="Remove My \N{MOBILE PHONE}").is_visible()
    tab.press("Sign out")
    tab.sign_in(user, PASSWORD)
    tab.fill("Code", codes[0])
    tab.press("Go on")
    assert tab.page.get_by_text("9 are left.").is_visible()


def test_keyboard_alone_is_enough(tab: Tab, user: str) -> None:
    """The first field has the focus, tab and enter do the rest, the first stop skips the bar."""
    tab.open("/sign-in")
    tab.page.keyboard.type(user)
    tab.page.keyboard.press("Tab")
    tab.page.keyboard.type(PASSWORD)
    tab.page.keyboard.press("Enter")
    tab.page.get_by_role("heading", name=f"Hello, {user}").wait_for()
    tab.page.keyboard.press("Tab")
    assert tab.page.evaluate("document.activeElement.textContent") == "Skip to the content"
    tab.page.keyboard.press("Enter")
    tab.page.keyboard.press("Tab")
    assert tab.page.evaluate("document.activeElement.textContent") == "Set up a device"


def test_two_clicks_send_a_form_once(tab: Tab, user: str) -> None:
    """A second click on Finish would find the code used: the first one's answer is what counts."""
    tab.sign_in(user, PASSWORD)
    tab.open("/devices/new")
    tab.press("Show the QR code")
    tab.fill("First code", scanned(tab.page).now())
    tab.page.get_by_role("button", name="Finish").dblclick()
    tab.page.get_by_role("heading", name="Keep your recovery codes").wait_for()

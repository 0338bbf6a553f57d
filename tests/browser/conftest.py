"""One server and one portal for every test here, and Debian's Chromium where pages are seen."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import BrowserContext, ConsoleMessage, Page, sync_playwright

from tests.support.debian import tool
from tests.support.portal import PortalProcess
from tests.support.server import RunningServer, Site

if TYPE_CHECKING:
    from playwright.sync_api import ViewportSize

CHROMIUM_OPTIONS = [
    "--no-sandbox",  # tests run as root in containers
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

PHONE: "ViewportSize" = {"width": 390, "height": 844}
DESKTOP: "ViewportSize" = {"width": 1280, "height": 900}


@pytest.fixture(scope="session")
def portal_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site with a running server, and users to spare who have a device each."""
    with Site(tmp_path_factory.mktemp("portal")) as site:
        site.add_spare_users(50)
        site.start()
        yield site


@pytest.fixture(scope="session")
def server(portal_site: Site) -> RunningServer:
    """The RADIUS server."""
    return portal_site.servers[0]


@pytest.fixture(scope="session")
def portal(portal_site: Site) -> Iterator[PortalProcess]:
    """The portal beside it."""
    with PortalProcess(portal_site, RADIUS_MFA_PORTAL__SIGN_INS_PER_MINUTE="10000") as running:
        yield running


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    """Debian's Chromium, without a window. While it is there, asyncio.run works in threads only."""
    executable = tool("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable, headless=True, args=CHROMIUM_OPTIONS
        )
        yield browser
        browser.close()


class Tab:
    """A browser of its own, without cookies, and its one page."""

    def __init__(self, context: BrowserContext, portal: PortalProcess) -> None:
        self.context = context
        self.portal = portal
        self.page: Page = context.new_page()
        self.faults: list[str] = []
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("console", self._heard)

    def _heard(self, line: ConsoleMessage) -> None:
        """Keep what is wrong with a page; a form that is shown again is not."""
        if line.type == "error" and "status of 422" not in line.text:
            self.faults.append(line.text)

    def open(self, path: str) -> None:
        """Open a page of the portal."""
        self.page.goto(self.portal.origin + path)

    def press(self, name: str) -> None:
        """Press the button that bears *name*, as it is read out."""
        self.page.get_by_role("button", name=name, exact=True).click()

    def fill(self, label: str, value: str) -> None:
        """Type into a field."""
        self.page.get_by_label(label, exact=True).fill(value)

    def sign_in(self, name: str, password: str) -> None:
        """Take the first step of signing in."""
        self.open("/sign-in")
        self.fill("Name", name)
        self.fill("Password", password)
        self.press("Sign in")


@pytest.fixture
def tab(chromium: Chromium, portal: PortalProcess) -> Iterator[Tab]:
    """A browser tab on a desktop; a script of ours that fails fails the test."""
    context = chromium.new_context(viewport=DESKTOP)
    opened = Tab(context, portal)
    yield opened
    context.close()
    assert not opened.faults


@pytest.fixture
def tab_without_scripts(chromium: Chromium, portal: PortalProcess) -> Iterator[Tab]:
    """A browser tab on a phone, with JavaScript switched off."""
    context = chromium.new_context(viewport=PHONE, java_script_enabled=False)
    yield Tab(context, portal)
    context.close()

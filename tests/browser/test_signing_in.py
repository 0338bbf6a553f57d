"""Signing in to the portal in a real browser."""

from tests.browser.conftest import Tab
from tests.support.server import PASSWORD, Site
from tests.support.totp import code


def test_password_then_code_opens_the_portal(portal_site: Site, tab: Tab) -> None:
    """The cookie holds on http://localhost too, where browsers take Secure and __Host-."""
    portal_site.add_users(["petra"])
    tab.sign_in("petra", PASSWORD)
    assert tab.page.title().startswith("Your code")
    tab.fill("Code", code())
    tab.press("Go on")
    assert tab.page.get_by_role("heading", name="Hello, petra").is_visible()
    tab.press("Sign out petra")
    assert tab.page.get_by_role("status").inner_text() == "You are signed out."

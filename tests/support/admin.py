"""Admins of the portal for tests, signed in with both factors."""

from radius_mfa.app import Stores
from radius_mfa.policy.roles import Role
from tests.support.portal import Browser, PortalProcess
from tests.support.server import PASSWORD, Site, new_device
from tests.support.totp import SEED, code


def add_admin(site: Site, name: str, role: Role = Role.ADMIN) -> None:
    """Put an admin on record who has a device."""
    add_admins(site, name, role=role)


def add_admins(site: Site, *names: str, role: Role = Role.ADMIN) -> None:
    """Put several on record at once."""

    async def appoint(stores: Stores) -> None:
        for name in names:
            await stores.directory.add(name, PASSWORD)
            device = new_device("phone", SEED)
            await stores.enrolments.add_device(name, device, confirmed=True)
            await stores.admins.appoint(name, role)

    site.with_stores(appoint)


def sign_in(portal: PortalProcess, name: str, password: str = PASSWORD) -> Browser:
    """Return a browser in which the admin has signed in; a user's code is good for it once."""
    browser = portal.browser()
    page = browser.send(
        browser.get("/admin/sign-in"), "/admin/sign-in", name=name, password=password
    )
    page = browser.send(page, "/admin/sign-in/code", code=code())
    assert "Overview" in page.text
    return browser


def new_admin(portal: PortalProcess, name: str, role: Role = Role.ADMIN) -> Browser:
    """Put an admin on record and sign in."""
    add_admin(portal.site, name, role)
    return sign_in(portal, name)

"""Forms about what is there no more, and values that a database does not take: a page that says so.

What happens between the look at a form and the change itself is played by triggers in the database.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import product
from typing import Any
from urllib.parse import quote

import pytest

from radius_mfa.stores.enrolments import NewDevice
from tests.browser.test_devices import begun, links
from tests.support.admin import new_admin
from tests.support.portal import Browser, PortalProcess, forms, text_of
from tests.support.postgres import RealPostgres
from tests.support.server import PASSWORD, Site
from tests.support.totp import code

FASTER = "Somebody was faster"
GONE = "not there any more"
MEANWHILE = {
    "device": "AFTER UPDATE OF version ON mfa_user WHEN NEW.name = '{user}'"
    " BEGIN DELETE FROM device WHERE user = NEW.name; END",
    "user": "BEFORE UPDATE OF version ON mfa_user WHEN OLD.name = '{user}'"
    " BEGIN DELETE FROM mfa_user WHERE name = OLD.name; END",
}
"""What an admin does while the user's form is on its way."""


@contextmanager
def meanwhile(site: Site, what: str, user: str) -> Iterator[None]:
    with closing(sqlite3.connect(site.data / "radius-mfa.db", timeout=10)) as database:
        database.execute(f"CREATE TRIGGER meanwhile {MEANWHILE[what].format(user=user)}")
        try:
            yield
        finally:
            database.execute("DROP TRIGGER meanwhile")


@pytest.mark.parametrize(
    ("action", "fields", "device", "user"),
    [
        ("/devices/new", {"name": "tablet"}, "session is over", FASTER),
        ("rename", {"name": "mine"}, GONE, FASTER),
        ("remove", {"code": code}, GONE, FASTER),
        ("/recovery-codes", {}, "Hello", "Hello"),
        ("/resync", {"first": code, "next": lambda: code(offset=1)}, "removed", FASTER),
    ],
)
def test_a_form_about_what_was_removed_meanwhile_says_so(  # noqa: PLR0917 - a row of the table
    portal_site: Site,
    portal: PortalProcess,
    action: str,
    fields: dict[str, Any],
    device: str,
    user: str,
) -> None:
    """A device, or the whole user, between the checks of a form and what it changes."""
    for what, said in (("device", device), ("user", user)):
        name = portal_site.fresh_user()
        browser = portal.browser()
        page = browser.sign_in(name, PASSWORD, code(offset=-1))
        path = action if action.startswith("/") else links(page, action)[0]
        page = browser.get(path)
        typed = {key: value() if callable(value) else value for key, value in fields.items()}
        with meanwhile(portal_site, what, name):
            page = browser.send(page, path, **typed)
        assert page.status_code < 500, what
        assert said in text_of(page), what


def test_a_removed_device_and_a_deleted_user_have_a_page_that_says_so(
    portal_site: Site, portal: PortalProcess
) -> None:
    """In another window, where the list is old; a seed that was reset away is not confirmed."""
    name = portal_site.fresh_user()
    browser = portal.browser()
    page = browser.sign_in(name, PASSWORD, code())
    [remove], [rename] = links(page, "remove"), links(page, "rename")
    renaming = browser.get(rename)
    begun(browser, "tablet")
    waiting = browser.get("/devices/confirm")
    portal_site.cli("device", "remove", name, "tablet")
    page = browser.send(waiting, "/devices/confirm", code=code())
    assert page.status_code == 200
    portal_site.with_stores(
        lambda s: s.enrolments.add_device(name, NewDevice("other"), confirmed=True)
    )
    portal_site.cli("device", "remove", name, "phone")
    for page in (browser.get(remove), browser.send(renaming, rename, name="new")):
        assert page.status_code == 404
        assert GONE in text_of(page)
    desk = new_admin(portal, f"desk-{name}")
    portal_site.cli("user", "delete", name, "--yes")
    page = desk.get(f"/admin/user?key={name}")
    assert page.status_code == 404
    assert "not on record" in text_of(page)
    assert '<a href="/admin">' in page.text


# Values that a database does not take

ADDRESSES = {
    "/sign-in": ["notice"],
    "/prove": ["next"],
    "/admin/users": ["q", "totp", "asked", "state", "directory", "sort", "after", "before"],
    "/admin/users.csv": ["q", "directory"],
    "/admin/user": ["key"],
    "/admin/live": ["client", "user", "result", "reason"],
    "/admin/audit": ["who", "whom", "before"],
}
"""Every page that takes parameters, and those that it takes."""

CONTROLS = ["\0", "a\0b", "\x1b[31m", "a\r\nb", "\x7f", "\x85"]
ODD = [
    "%ED%A0%80",
    "%FF%FE",
    "%C0%80",
    quote("\N{PILE OF POO}" * 60),
    "9" * 18,
    "-1",
    "%5B2147483648%2C%22a%22%2C%22b%22%5D",
    "%5B4611686018427387903%2C%22a%22%2C%22b%22%5D",
    "%5B0%2C%22%5Cu0000%22%2C%22b%22%5D",
    "%5B0%2C%22%5Cud800%22%2C%22b%22%5D",
    quote("'; DROP TABLE mfa_user; --"),
    quote("a\\%_"),
    "x" * 4000,
]
"""As they stand in an address."""

FORMS: dict[str, list[str]] = {
    "/sign-in": ["name", "password"],
    "/admin/sign-in": ["name", "password"],
    "/devices/new": ["name"],
    "/recovery-codes/download": ["codes"],
    "/prove": ["code", "next"],
    "/resync": ["first", "next"],
    "/sessions/end": ["session"],
    "/logins/not-me": ["login"],
    "/admin/acts": ["act", "user", "q", "directory", "back"],
    "/admin/acts/do": ["act", "user", "days", "until", "reason"],
    "/admin/clients/require-signature": ["client"],
    "/admin/groups": ["group", "directory", "days"],
    "/admin/groups/do": ["group", "directory", "days", "count"],
}


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Browser, Browser]]:
    """A user and an admin, signed in where the database is PostgreSQL."""
    with RealPostgres() as postgres:
        url = f"postgresql://postgres@/{postgres.new_database()}?host={postgres.folder}"
        sections = {"database": {"url": url}}
        with Site(tmp_path_factory.mktemp("strict"), sections) as site:
            site.add_users(["ann"])
            site.start()
            with PortalProcess(site, RADIUS_MFA_PORTAL__SIGN_INS_PER_MINUTE="10000") as portal:
                user = portal.browser()
                user.sign_in("ann", PASSWORD, code())
                yield user, new_admin(portal, "chief")


def test_control_characters_are_refused_at_the_door(strict: tuple[Browser, Browser]) -> None:
    """In any parameter of any page, known or not, in paths, and a NUL in any field of a form."""
    user, admin = strict
    for path, names in ADDRESSES.items():
        browser = admin if path.startswith("/admin") else user
        for name in (*names, "no-such"):
            for text in CONTROLS:
                page = browser.get(f"{path}?{name}={quote(text)}")
                assert (page.status_code, text_of(page)[-9:]) == (400, "Error 400"), (path, name)
    for path in ("/%00", "/devices/%00/rename", "/devices/%1b%5b/remove", "/static/%00"):
        assert user.get(path).status_code == 404, path
    for action, names in FORMS.items():
        browser = admin if action.startswith("/admin") else user
        sign_out = "/admin/sign-out" if action.startswith("/admin") else "/sign-out"
        csrf = forms(browser.get("/admin" if browser is admin else "/"))[sign_out]["csrf"]
        for name in names:
            sent = {"csrf": csrf, "act": "unlock", name: "a\0b"}
            assert browser.post(action, sent).status_code == 400, (action, name)


def test_no_parameter_makes_postgresql_fail(strict: tuple[Browser, Browser]) -> None:
    """A page that finds nothing; never one that says a backend is away."""
    user, admin = strict
    faults = []
    for path, names in ADDRESSES.items():
        browser = admin if path.startswith("/admin") else user
        in_order = ["", "&sort=last-login", "&sort=-totp"] if path == "/admin/users" else [""]
        for name, text, order in product(names, ODD, in_order):
            status = browser.get(f"{path}?{name}={text}{order}").status_code
            if status >= 500:
                faults.append((path, name, text[:40], order, status))
    assert not faults


@pytest.mark.parametrize(
    "text", ["\N{PILE OF POO}" * 200, "x" * 1024, "\x1b[31m", "'", "\ud7ff\ue000"], ids=range(5)
)
def test_no_field_makes_postgresql_fail(strict: tuple[Browser, Browser], text: str) -> None:
    """Of what admins do to users, whom they name as they like."""
    _, admin = strict
    csrf = forms(admin.get("/admin"))["/admin/sign-out"]["csrf"]
    sent: dict[str, Any] = {"csrf": csrf, "days": "1", "user": ["chief", text]}
    sent |= dict.fromkeys(("q", "reason", "until", "back", "group", "directory", "count"), text)
    for word in ("unlock", "reset", "suspend", "exempt"):
        for action in ("/admin/acts", "/admin/acts/do"):
            assert admin.post(action, sent | {"act": word}).status_code < 500, (action, word)
    for action in ("/admin/groups", "/admin/groups/do"):
        assert admin.post(action, sent).status_code < 500, action

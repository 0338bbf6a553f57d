"""Requiring a second factor of a directory's group in the admin portal."""

import re
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import expect

from radius_mfa.app import Stores
from radius_mfa.portal.admin.acts import MOST_AT_ONCE
from tests.browser.conftest import PHONE, Tab
from tests.browser.test_admin_pages import signed_in
from tests.browser.test_enrolment import looked_at
from tests.support.admin import add_admins, sign_in
from tests.support.portal import Browser, PortalProcess, forms, text_of
from tests.support.radius import ACCESS_ACCEPT, ACCESS_REJECT
from tests.support.server import PASSWORD, Site
from tests.support.slapd import SEARCH_PASSWORD, SUFFIX, RealSlapd, group, person

CROWD = MOST_AT_ONCE + 1


@pytest.fixture(scope="module")
def slapd() -> Iterator[RealSlapd]:
    crowd = [f"many{number:04}" for number in range(CROWD)]
    with RealSlapd() as server:
        server.stop()
        server.load([*map(person, crowd), group("crowd", *crowd), group("all but one", *crowd[1:])])
        server.start()
        staff = [f"user{number}" for number in range(14)]
        server.add(
            *(person(name, PASSWORD) for name in (*staff, "anna", "bert", "cleo", "dora", "emil")),
            group("inner", "bert"),
            group("vpn", "anna", f"cn=inner,ou=groups,{SUFFIX}"),
            group("growing", "cleo"),
            group("staff", *staff),
            group("nobodies", f"cn=search,{SUFFIX}"),
        )
        dn, attributes = group("twins <b>", "emil")
        server.add((dn, attributes), (dn.replace("ou=groups", "ou=staff"), attributes))
        yield server


@pytest.fixture(scope="module")
def site(slapd: RealSlapd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    sections = {"directory": {"ldap": [slapd.section(realms=["corp"])]}}
    clients = [{"name": "nas", "address": "127.0.0.1", "mfa": "enrolled"}]
    with Site(tmp_path_factory.mktemp("groups"), sections, clients=clients) as made:
        made.canaries.add(SEARCH_PASSWORD)
        add_admins(made, "chief")
        made.add_users(["local"], seed=None)

        async def join(stores: Stores) -> None:
            await stores.enrolments.join("local", ["here"])

        made.with_stores(join)
        made.start()
        yield made


@pytest.fixture(scope="module")
def groups_portal(site: Site) -> Iterator[PortalProcess]:
    with PortalProcess(site, RADIUS_MFA_PORTAL__SIGN_INS_PER_MINUTE="10000") as running:
        yield running


@pytest.fixture(scope="module")
def chief(groups_portal: PortalProcess) -> Browser:
    return sign_in(groups_portal, "chief")


def asked(browser: Browser, name: str, directory: str = "", days: str = "7") -> httpx.Response:
    page = browser.get("/admin/groups")
    csrf = forms(page)["/admin/groups"]["csrf"]
    fields = {"csrf": csrf, "group": name, "directory": directory, "days": days}
    return browser.post("/admin/groups", fields)


def login(site: Site, user: str) -> int:
    with site.servers[0].nas() as nas:
        return nas.login(user, PASSWORD).code


@pytest.mark.parametrize(
    ("name", "directory", "days", "why"),
    [
        ("", "", "7", "No directory has a group of that name"),
        ("a\x01b", "", "7", "No directory has a group of that name"),
        ("*", "", "7", "No directory has a group of that name"),
        ("vpm", "", "7", "There is a group called vpn ."),
        ("vpn", "local", "7", "No directory has a group of that name"),
        ("vpn", "no\x01ne", "7", "not: radius-mfa user require --group"),
        ("nobodies", "", "7", "Nobody in that group is a user who could log in"),
        ("twins <b>", "", "7", "Several groups are called so"),
        ("crowd", "", "7", "The command line takes more"),
        ("vpn", "", "366", "Days are a number"),
        ("vpn", "", "²", "Days are a number"),
    ],
)
def test_what_can_t_be_asked_of_a_group_is_said(
    chief: Browser, name: str, directory: str, days: str, why: str
) -> None:
    page = asked(chief, name, directory, days)
    assert page.status_code == 422
    assert why in text_of(page)
    assert "<b>" not in page.text
    assert "/admin/groups/do" not in forms(page)


def test_a_directory_that_is_away_is_no_group_that_is_not_there(
    chief: Browser, slapd: RealSlapd
) -> None:
    """A group that is kept here can be had all the same, by saying so."""
    slapd.hang()
    try:
        page = asked(chief, "vpn")
        assert page.status_code == 503
        assert "does not answer" in text_of(page)
        assert "1 member : local" in text_of(asked(chief, "here", "local"))
    finally:
        slapd.go_on()


def test_a_group_is_required_in_two_steps(chief: Browser, site: Site) -> None:
    """Those who never came too: the next login of theirs, in any form, meets it; it is audited."""
    assert login(site, "anna") == ACCESS_ACCEPT
    page = asked(chief, "VPN")
    assert "2 members : anna, bert" in text_of(page)
    assert "Will be required of 2 New here 2 of them" in text_of(page)
    assert login(site, "anna") == ACCESS_ACCEPT, "nothing happens before the second step"
    done = chief.send(page, "/admin/groups/do", days="0")
    assert "Done for 2 users." in text_of(done)
    assert login(site, "corp\\ANNA") == login(site, "bert") == ACCESS_REJECT
    trail = site.cli("audit", "list", "--json").json()
    mine = [one for one in trail if one["called"] == "anna" and one["who"] == "chief"]
    assert [one["act"] for one in mine] == ["user.add", "requirement.require"]
    assert mine[1]["detail"] == {"days": 0, "group": f"cn=vpn,ou=groups,{SUFFIX} of corp"}
    again = asked(chief, "vpn")
    assert "There is nobody left of whom it is not required." in text_of(again)


def test_a_group_that_changed_meanwhile_is_asked_about_again(
    chief: Browser, slapd: RealSlapd, site: Site
) -> None:
    page = asked(chief, "growing")
    members = [f"uid={name},ou=people,{SUFFIX}" for name in ("cleo", "dora")]
    slapd.modify(f"cn=growing,ou=groups,{SUFFIX}", member=members)
    refused = chief.send(page, "/admin/groups/do")
    assert "has changed meanwhile" in text_of(refused)
    assert "cleo" not in site.cli("user", "list").out
    assert "Done for 2 users." in text_of(chief.send(refused, "/admin/groups/do"))


def test_a_group_as_large_as_a_page_takes_is_done_within_a_request(chief: Browser) -> None:
    page = asked(chief, "all but one")
    assert f"{CROWD - 1:,} members" in text_of(page)
    assert f"Done for {CROWD - 1:,} users." in text_of(chief.send(page, "/admin/groups/do"))


def test_it_works_by_hand_on_a_phone_without_scripts_and_every_page_is_clean(
    chromium: Chromium, groups_portal: PortalProcess
) -> None:
    """From the list of users to the end; of two groups of one name one is taken."""
    context = chromium.new_context(viewport=PHONE, java_script_enabled=False)
    tab = Tab(context, groups_portal)
    signed_in(tab, "walker")
    tab.open("/admin/users")
    tab.page.get_by_role("link", name="Require a second factor of a group").click()
    tab.fill("Group", "twins <b>")
    tab.page.get_by_label("Directory", exact=True).select_option("corp")
    tab.press("Go on")
    tab.page.get_by_role("button", name=re.compile("ou=staff")).click()
    expect(tab.page.get_by_role("heading", level=1)).to_contain_text("of twins <b>?")
    tab.fill("Days to enrol", "3")
    tab.press("Require a second factor")
    expect(tab.page.get_by_role("status")).to_contain_text("Done for")
    context.close()


def test_the_pages_of_groups_are_clean_at_both_widths(
    chromium: Chromium, groups_portal: PortalProcess
) -> None:
    context = chromium.new_context()
    tab = Tab(context, groups_portal)
    signed_in(tab, "group-looker")
    for name, picture in [
        ("twins <b>", "admin-group-several"),
        ("vpm", "admin-group-near"),
        ("staff", "admin-group-confirm"),
    ]:
        tab.open("/admin/groups")
        tab.fill("Group", name)
        tab.press("Go on")
        looked_at(tab, picture)
    tab.press("Require a second factor")
    looked_at(tab, "admin-group-done")
    context.close()
    assert not tab.faults

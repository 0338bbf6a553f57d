"""Vendor recipes: what they set, what wins over them, and that the documents say the same.

``python -m tests.unit.test_vendors`` writes the table of docs/vendors/README.md anew.
"""

import json
import re
from pathlib import Path

import pytest

from radius_mfa.app import nas
from radius_mfa.config import ClientSettings, Settings
from radius_mfa.config_file import FaultyConfiguration, load
from radius_mfa.policy.attributes import reply_attribute
from radius_mfa.policy_setup import group_attribute
from radius_mfa.protocol.reply_attributes import encoder
from radius_mfa.vendors import AUTO, VENDORS

FOLDER = Path(__file__).parents[2] / "docs" / "vendors"
INDEX = FOLDER / "README.md"
MARK = "<!-- The table below is made from radius_mfa/vendors.py"

SECRET = "0123456789abcdef0123456789abcdef"
HEAD = f'[[client]]\nname = "gw"\naddress = "192.0.2.1"\nsecret = "{SECRET}"\n'

each_vendor = pytest.mark.parametrize("name", VENDORS)


def loaded(text: str, tmp_path: Path) -> Settings:
    path = tmp_path / "r.toml"
    path.write_text(text, "utf-8")
    path.chmod(0o600)
    return load(path, {}).settings


def fault(text: str, tmp_path: Path) -> str:
    """Return the one fault of a client with *text* in its block."""
    with pytest.raises(FaultyConfiguration) as refused:
        loaded(HEAD + text, tmp_path)
    [found] = refused.value.faults
    return str(found).removeprefix(f"{tmp_path}/r.toml:")


def client(text: str, tmp_path: Path) -> ClientSettings:
    [one] = loaded(HEAD + text, tmp_path).client
    return one


# What can't be


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            'vendor = "cisco"',
            "5: client[1].vendor: 'cisco' is not a vendor with a recipe; did you mean cisco-asa?",
        ),
        (
            'vendor = "Fortinet"',
            (
                "5: client[1].vendor: 'Fortinet' is not a vendor with a recipe; "
                "did you mean fortigate?"
            ),
        ),
        (
            'vendor = "xyz"',
            (
                "5: client[1].vendor: 'xyz' is not a vendor with a recipe; "
                f"known are: {', '.join(VENDORS)}"
            ),
        ),
        ("vendor = 7", "5: client[1].vendor: must be text in quotes"),
        ('vendor = ["f5"]', "5: client[1].vendor: must be text in quotes"),
        (
            'group_attribute = "auto"',
            (
                '5: client[1].group_attribute: "auto" is the attribute of a vendor '
                "(set vendor, or name the attribute)"
            ),
        ),
        (
            'vendor = "openvpn"\ngroup_attribute = "auto"',
            (
                "6: client[1].group_attribute: openvpn reads no groups "
                "(leave it out, or name an attribute)"
            ),
        ),
        (
            'vendor = "f5"\ngroup_attribute = "auto"\ngroup_value = "vpn"',
            "7: client[1].group_value: names no group (write {group} where one stands)",
        ),
        (
            'vendor = "f5"\ngroup_attribute = "Automatic"',
            "6: client[1].group_attribute: no attribute is called Automatic ()",
        ),
    ],
)
def test_what_can_t_be_is_a_fault_with_its_line_and_cure(
    text: str, expected: str, tmp_path: Path
) -> None:
    assert fault(text, tmp_path).startswith(expected.removesuffix(" ()"))


# What a recipe sets


@each_vendor
def test_a_recipe_sets_what_there_is_to_set(name: str, tmp_path: Path) -> None:
    """Each of its defaults is a setting, valid, and other than without a vendor."""
    made, plain = client(f'vendor = "{name}"', tmp_path), client("", tmp_path)
    for setting in VENDORS[name].defaults:
        assert getattr(made, setting) != getattr(plain, setting), setting
    same = set(ClientSettings.model_fields) - {"vendor", *VENDORS[name].defaults}
    for setting in same:
        assert getattr(made, setting) == getattr(plain, setting), setting


def test_a_setting_that_is_written_wins(tmp_path: Path) -> None:
    """Also where it says what would hold without a vendor."""
    text = 'vendor = "pam-radius"\n'
    recipe = client(text, tmp_path)
    assert nas(recipe, Settings()).require_message_authenticator is False
    assert (recipe.limit_proxy_state, recipe.failover_grace_seconds) == (True, 10)
    written = client(
        text + "require_message_authenticator = true\nfailover_grace_seconds = 0", tmp_path
    )
    assert nas(written, Settings()).require_message_authenticator is True
    assert (written.limit_proxy_state, written.failover_grace_seconds) == (True, 0)


def test_the_environment_s_clients_have_recipes_too(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text("")
    block = {"name": "gw", "address": "192.0.2.1", "secret": SECRET, "vendor": "fortigate"}
    [one] = load(path, {"RADIUS_MFA_CLIENT": json.dumps([block])}).settings.client
    assert one.password_charsets == ["utf-8", "iso8859-1"]


def test_only_vendors_known_never_to_sign_may_leave_message_authenticator_out() -> None:
    """B04: and then what has come through a proxy without it is discarded."""
    unsigned = {
        name
        for name, one in VENDORS.items()
        if one.defaults.get("require_message_authenticator") is False
    }
    assert unsigned == {"ocserv", "openvpn", "pam-radius"}
    assert all(VENDORS[name].defaults["limit_proxy_state"] for name in unsigned)


# Groups


@each_vendor
def test_the_vendor_s_own_attribute_carries_groups(name: str, tmp_path: Path) -> None:
    """It is in the dictionaries, may stand in an Accept, and several groups fit into it."""
    vendor = VENDORS[name]
    if not vendor.group_attribute:
        assert name in {"openvpn", "pam-radius"}
        return
    text = f'vendor = "{name}"\ngroup_attribute = "{AUTO}"\n'
    made = client(text, tmp_path)
    assert group_attribute(made) == (vendor.group_attribute, vendor.group_value)
    found = encoder(vendor.group_attribute)
    assert reply_attribute(found.name, [vendor.group_value], found).needs_groups
    assert "{groups" in vendor.group_value or not found.single
    own = client(text + 'group_value = "vpn-{group}"', tmp_path)
    assert group_attribute(own) == (vendor.group_attribute, "vpn-{group}")


def test_no_groups_are_sent_unless_they_are_asked_for(tmp_path: Path) -> None:
    """A directory's group that happens to be called as one of the gateway's grants nothing."""
    for name in VENDORS:
        assert group_attribute(client(f'vendor = "{name}"', tmp_path))[0] == ""


# The documents


SECTIONS = [
    "Our side",
    "The device",
    "Timeouts",
    "Quirks",
    "What `radius-mfa client test` prints",
    "How this is known",
]
PROVEN = {"ocserv", "openvpn", "pam-radius"}
"""Those that a test of ours has a real client of."""


def page(name: str) -> str:
    return (FOLDER / f"{name}.md").read_text("utf-8")


def section(text: str, heading: str) -> str:
    return text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def fence(text: str, language: str) -> str:
    [found] = re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return str(found)


def title(name: str) -> str:
    return page(name).partition("\n")[0].removeprefix("# ")


def table() -> str:
    """Return the table of recipes as Markdown."""
    lines = [
        "| `vendor` | Page | Proven here | Its defaults | Groups with `auto` |",
        "|---|---|---|---|---|",
    ]
    for name, one in VENDORS.items():
        defaults = [f"`{key} = {json.dumps(value)}`" for key, value in one.defaults.items()]
        value = one.group_value.replace("|", "\\|")
        groups = f"`{one.group_attribute}`: `{value}`" if one.group_attribute else "none"
        proven = "yes" if name in PROVEN else "no: from documentation"
        told = [f"`{name}`", f"[{title(name)}]({name}.md)", proven]
        lines.append(f"| {' | '.join(told)} | {', '.join(defaults) or 'as without'} | {groups} |")
    return "\n".join(lines) + "\n"


@each_vendor
def test_each_vendor_has_a_page_of_one_shape(name: str) -> None:
    """With what it is based on: a test of ours that there is, or documents by title."""
    text = page(name)
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == SECTIONS
    status = re.match(r"# \S.*\n\n\*\*(.*)\*\*\n", text)
    assert status, "what is proven stands on top"
    assert status[1].startswith("Proven here with ") == (name in PROVEN)
    known = section(text, "How this is known")
    tests = re.findall(r"\(\.\./\.\./(tests/\S+\.py)\)", known)
    assert bool(tests) == (name in PROVEN)
    assert all((FOLDER.parents[1] / one).exists() for one in tests)
    assert tests or re.search(r"\*[^*]+\*", known), "documents by title"
    assert "`radius.login_deadline_seconds`" in text or name == "ocserv"


def test_there_are_no_other_pages() -> None:
    assert {one.stem for one in FOLDER.glob("*.md")} == {"README", *VENDORS}


@each_vendor
def test_the_block_of_each_page_can_be_copied(name: str, tmp_path: Path) -> None:
    """As it stands, with the secret in its file; and groups go where the page says."""
    (tmp_path / f"{name}.secret").write_text(SECRET, "ascii")
    text = fence(section(page(name), "Our side"), "toml")
    [made] = loaded(text, tmp_path).client
    assert made.vendor == made.name == name
    assert group_attribute(made)[0] == VENDORS[name].group_attribute


def test_pages_of_one_kind_expect_the_same_of_client_test() -> None:
    """tests/functional/test_vendors.py holds one of each against what is printed."""
    printed: dict[tuple[bool, bool], set[str]] = {}
    for name, one in VENDORS.items():
        text = fence(section(page(name), "What `radius-mfa client test` prints"), "text")
        assert text.startswith(f"$ radius-mfa client test {name} ")
        kind = ("limit_proxy_state" in one.defaults, "failover_grace_seconds" in one.defaults)
        printed.setdefault(kind, set()).add(text.partition("\n\n")[2])
    assert sorted(printed) == [(False, False), (True, False), (True, True)]
    assert all(len(texts) == 1 for texts in printed.values())


def test_the_table_of_recipes_is_the_one_in_force() -> None:
    _, mark, rest = INDEX.read_text("utf-8").partition(MARK)
    assert mark, "the mark of the generated part"
    assert rest.partition("\n\n")[2] == table(), "python -m tests.unit.test_vendors"


def test_the_default_configuration_names_every_vendor() -> None:
    text = (FOLDER.parents[1] / "config" / "radius-mfa.toml").read_text("utf-8")
    [comment] = re.findall(
        r"^# What kind of gateway it is: (.*?)\. ", text, re.DOTALL | re.MULTILINE
    )
    assert set(re.findall(r"[a-z0-9-]+", comment.replace(" or ", " "))) == set(VENDORS)


if __name__ == "__main__":
    before, found, after = INDEX.read_text("utf-8").partition(MARK)
    INDEX.write_text(f"{before}{found}{after.partition(chr(10) * 2)[0]}\n\n{table()}", "utf-8")

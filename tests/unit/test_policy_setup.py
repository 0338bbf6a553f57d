"""What ``config check`` finds in rules and reply attributes: each fault with line and cure."""

import re
from pathlib import Path

import pytest

from radius_mfa.config_file import Configuration, FaultyConfiguration, load
from radius_mfa.config_view import masked, toml_text
from radius_mfa.policy.access import Mode
from radius_mfa.policy_setup import policies

HEAD = """\
[[client]]
name = "asa-hq"
address = "192.0.2.1"
secret = "0123456789abcdef0123456789abcdef"
"""
LDAP = """\
[[directory.ldap]]
name = "corp"
preset = "openldap"
servers = ["ldaps://ldap.corp.example"]
base = "dc=corp"
"""
RULE = '[[rule]]\nname = "staff"\n'


def loaded(text: str, tmp_path: Path) -> Configuration:
    path = tmp_path / "r.toml"
    path.write_text(text, "utf-8")
    path.chmod(0o600)
    return load(path, {})


def faults(text: str, tmp_path: Path) -> list[str]:
    """Return the faults of HEAD and *text*, by line of *text*."""
    with pytest.raises(FaultyConfiguration) as refused:
        loaded(HEAD + text, tmp_path)
    lines = []
    for fault in refused.value.faults:
        number = int(fault.place.rpartition(":")[2]) - HEAD.count("\n")
        lines.append(f"{number} {fault.setting}: {fault.message} ({fault.cure})")
    return lines


FAULTS = {
    'reply = { Filter-ID = "x" }': (
        "rule[1].reply.Filter-ID: no attribute is called Filter-ID (did you mean Filter-Id?)"
    ),
    'reply = { User-Password = "x" }': (
        "rule[1].reply.User-Password: User-Password does not stand in an Access-Accept "
        "(leave it out)"
    ),
    'reply = { Session-Timeout = "8h" }': (
        "rule[1].reply.Session-Timeout: '8h' is neither a whole number from 0 to 4294967295 ()"
    ),
    'reply = { Service-Type = "Framed" }': (
        "rule[1].reply.Service-Type: 'Framed' is neither a whole number from 0 to 4294967295, "
        "nor a name such as Framed-User ()"
    ),
    "reply = { Session-Timeout = [1, 2] }": (
        "rule[1].reply.Session-Timeout: an Access-Accept holds one Session-Timeout at most "
        "(leave one value)"
    ),
    'reply = { "Tunnel-Password:1" = "" }': (
        "rule[1].reply.Tunnel-Password:1: the value is empty, "
        "and an attribute without a value may not be sent ()"
    ),
    'reply = { "Filter-Id:1" = "x" }': (
        "rule[1].reply.Filter-Id:1: Filter-Id takes no tag (write Filter-Id)"
    ),
    'reply = { Filter-Id = "{mail}" }': (
        "rule[1].reply.Filter-Id: '{mail}' has no placeholder in {mail}: they are {user}, {group}, "
        "{groups}, {ldap:attribute} and {hex:00ff}; a brace itself is {{ or }} ()"
    ),
    'reply = { Filter-Id = "{ldap:mail}" }': (
        "rule[1].reply.Filter-Id: takes a value from a directory, and no [[directory.ldap]] is "
        "configured (local users have no such attributes)"
    ),
    f'reply = {{ Class = ["{"x" * 250}{{hex:ff}}", "{"y" * 254}"] }}': (
        f"rule[1].reply.Class: {'y' * 254!r} would make an attribute of 256 octets, of which 255 "
        "fit ()"
    ),
    f'reply = {{ Reply-Message = "{"x" * 4080}" }}': (
        "rule[1].reply: takes 4114 octets, and a reply holds 4058 (send less)"
    ),
    "reply = { Filter-Id = true }": "rule[1].reply: must be text in quotes ()",
    "reply = { Filter-Id = [] }": "rule[1].reply: must not be empty ()",
    'reply = "Filter-Id"': "rule[1].reply: must be a table of names and values ()",
    'reply = { Filter-Id = "x" }\nrequired = "Filter-ID"': (
        "2 rule[1].required: Filter-ID is not among the attributes of reply "
        "(did you mean Filter-Id?)"
    ),
    'client = "asa-hp"': ("rule[1].client: no client is called asa-hp (did you mean asa-hq?)"),
    'client = ["asa-hq", "xyz"]': "rule[1].client[2]: no client is called xyz (known are: asa-hq)",
    'directory = "corp"': "rule[1].directory: no directory is called corp (known are: local)",
    'time = "9 to 5"': (
        "rule[1].time[1]: '9 to 5' is not of the form mon-fri 07:00-19:00, sat,sun or "
        "22:00-06:00 ()"
    ),
    'station = "192.0.2.1/24"': (
        "rule[1].station[1]: '192.0.2.1/24' has bits set to the right of its prefix; "
        "did you mean 192.0.2.0/24? ()"
    ),
    'method = "pap"': (
        'rule[1].method[1]: must be one of "password", "totp" or "recovery_code" ()'
    ),
    'refuse = true\nmfa = "off"': (
        "rule[1].refuse: a rule that refuses neither sets mfa nor sends attributes "
        "(leave mfa and reply out, or refuse)"
    ),
    'method = "totp"\nmfa = "off"': (
        "2 rule[1].mfa: how a login proves itself is known only after mfa has said what it takes "
        "(leave out method or mfa)"
    ),
    'grop = "staff"': "rule[1].grop: there is no such setting (did you mean group?)",
}


RECIPES = re.findall(
    r"^```toml\n(.*?)^```",
    (Path(__file__).parents[2] / "docs" / "policy.md").read_text("utf-8"),
    re.MULTILINE | re.DOTALL,
)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda text: text.split('"')[1])
def test_every_recipe_of_the_documentation_can_be_copied(recipe: str, tmp_path: Path) -> None:
    secret = 'secret = "0123456789abcdef"'
    text = re.sub("^secret_file = .*$", secret, recipe, flags=re.MULTILINE)
    known = loaded(f"{text}\n{HEAD}{LDAP}", tmp_path)
    assert known.settings.rule or known.settings.client[0].group_attribute
    assert known.warnings == []
    assert policies(known.settings)


def test_rules_may_come_from_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text(HEAD, "utf-8")
    rule = '[{"name": "x", "client": "asa-hq", "reply": {"Session-Timeout": 60, "Clas": "a"}}]'
    with pytest.raises(FaultyConfiguration) as refused:
        load(path, {"RADIUS_MFA_RULE": rule, "RADIUS_MFA_TIME_ZONE": "Europe/Berlin"})
    assert str(refused.value) == (
        "environment variable RADIUS_MFA_RULE: rule[1].reply.Clas: no attribute is called Clas "
        "(did you mean Class?)"
    )


@pytest.mark.parametrize("text", FAULTS, ids=lambda text: text[:40])
def test_what_can_t_work_is_a_fault_with_its_line_and_cure(text: str, tmp_path: Path) -> None:
    """Bad input: an unknown attribute among it; the line is that of the setting."""
    expected = FAULTS[text]
    if not expected[0].isdigit():
        expected = f"1 {expected}"
    number, _, rest = expected.partition(" ")
    assert faults(RULE + text, tmp_path) == [f"{int(number) + 2} {rest}"]


def test_an_attribute_in_a_table_of_its_own_is_named_by_its_line(tmp_path: Path) -> None:
    text = RULE + '[rule.reply]\nFilter-Id = "x"\n"Tunnel-Typ:1" = "VLAN"\n'
    assert faults(text, tmp_path) == [
        (
            "5 rule[1].reply.Tunnel-Typ:1: no attribute is called Tunnel-Typ "
            "(did you mean Tunnel-Type?)"
        )
    ]


def test_every_fault_is_told_at_once(tmp_path: Path) -> None:
    text = f'{RULE}client = "x"\nreply = {{ Clas = "a", Filter-Id = "" }}\n{RULE}'
    assert [line.partition(":")[0] for line in faults(text, tmp_path)] == [
        "3 rule[1].client",
        "4 rule[1].reply.Clas",
        "4 rule[1].reply.Filter-Id",
        "6 rule[2].name",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            'group_attribute = "Fortinet-Group"',
            (
                "1 client[1].group_attribute: no attribute is called Fortinet-Group "
                "(did you mean Fortinet-Group-Name?)"
            ),
        ),
        (
            'group_attribute = "Class"\ngroup_value = "vpn"',
            "2 client[1].group_value: names no group (write {group} where one stands)",
        ),
        (
            'group_attribute = "Class"\ngroup_value = "{group"',
            (
                "2 client[1].group_value: '{group' has a brace without a partner: placeholders are "
                "{user}, {group}, {groups}, {ldap:attribute} and {hex:00ff}; a brace itself is "
                "{{ or }} ()"
            ),
        ),
        (
            'group_map = { Staff = "a", staff = "b" }',
            "1 client[1].group_map.staff: 'staff' and 'Staff' are one group (remove one)",
        ),
        ("group_map = { Staff = 7 }", "1 client[1].group_map: must be text in quotes ()"),
    ],
)
def test_what_can_t_work_of_a_client_s_groups_is_a_fault(
    text: str, expected: str, tmp_path: Path
) -> None:
    assert faults(text, tmp_path) == [expected]


def test_a_rule_lets_no_wide_network_in_with_the_password_alone(tmp_path: Path) -> None:
    """As mfa = "off" of a client, and unless that client accepts the risk."""
    wide = HEAD.replace("192.0.2.1", "10.0.0.0/8").replace("asa-hq", "all")
    off = f'{RULE}mfa = "off"\n'
    assert faults(wide + off, tmp_path) == [
        (
            '7 rule[1].mfa: "off" would reach client all, all of 10.0.0.0/8 '
            "(name other clients; or, if that is right: accept_risk = true for all)"
        )
    ]
    for fine in (wide + "accept_risk = true\n" + off, wide + off + 'client = "asa-hq"\n'):
        assert loaded(HEAD + fine, tmp_path).warnings == []


def test_a_time_zone_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    for name in ("Europe/Berlni", "../etc/passwd", "", "/etc/passwd"):
        with pytest.raises(FaultyConfiguration, match="is not a time zone of this machine"):
            loaded(f'time_zone = "{name}"\n', tmp_path)


def test_a_rule_that_no_login_reaches_is_warned_of(tmp_path: Path) -> None:
    text = f'{HEAD}{RULE}[[rule]]\nname = "late"\ngroup = "x"\n'
    [warning] = loaded(text, tmp_path).warnings
    assert warning.setting == "rule[2].name"
    assert warning.message == "is never reached: staff before it holds for everybody"
    assert warning.cure == "put the more special rule first"


def test_only_clients_that_something_is_said_of_have_a_policy(tmp_path: Path) -> None:
    """A login at another one costs what it did without rules."""
    other = HEAD.replace("asa-hq", "other").replace("192.0.2.1", "192.0.2.2")
    grouped = HEAD.replace("asa-hq", "grouped").replace("192.0.2.1", "192.0.2.3")
    text = (
        f'{LDAP}{HEAD}{other}{grouped}group_attribute = "Class"\n'
        'group_map = { "VPN Staff" = "staff" }\n'
        f'{RULE}client = "asa-hq"\nmfa = "required"\ngroup = "CN=A, OU=b"\n'
    )
    found = policies(loaded(f'time_zone = "Europe/Berlin"\n{text}', tmp_path).settings)
    assert set(found) == {"asa-hq", "grouped"}
    [rule] = found["asa-hq"].rules
    assert (rule.mfa, rule.group) == (Mode.REQUIRED, frozenset({"cn=a,ou=b"}))
    assert found["grouped"].rules == ()
    assert found["grouped"].group_names == {"vpn staff": "staff"}
    assert str(found["grouped"].zone) == "Europe/Berlin"
    assert policies(loaded(HEAD, tmp_path).settings) == {}


def test_the_settings_in_force_show_no_hidden_value(tmp_path: Path) -> None:
    """Rule 8: what travels hidden is masked, the rest of a reply is not."""
    text = f'{HEAD}{RULE}reply = {{ Tunnel-Password = ["canary", "canary2"], Class = "seen" }}\n'
    settings = loaded(text, tmp_path).settings
    shown = toml_text(masked(settings))
    assert "canary" not in shown
    assert "seen" in shown

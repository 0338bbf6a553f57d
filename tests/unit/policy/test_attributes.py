"""Templates of reply attributes: what they refuse, and what values they give for whom."""

import pytest

from radius_mfa.policy.attributes import (
    MAX_VALUES,
    Encoded,
    LeftOut,
    Person,
    expanded,
    granted,
    mapped_groups,
    reply_attribute,
    template,
)
from radius_mfa.policy.groups import Group

ALICE = Person(
    "alice",
    groups=["staff", "ops"],
    directory={"mail": ["a@corp.example", "b@corp.example"], "empty": []},
)
NOBODY = Person("bob")


def encode(text: str) -> Encoded:
    if "unfit" in text:
        raise ValueError("is unfit")
    return Encoded(text.encode("utf-8", "surrogateescape"))


# Refusals


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "has a brace without a partner"),
        ("a}b", "has a brace without a partner"),
        ("{}", "has no placeholder in {}"),
        ("{0}", "has no placeholder in {0}"),
        ("{password}", "has no placeholder in {password}"),
        ("{user!r}", "has no placeholder in {user!r}"),
        ("{user:x}", "has no placeholder in {user:x}"),
        ("{group:,}", "has no placeholder in {group:,}"),
        ("{user.__class__}", "has no placeholder in {user.__class__}"),
        ("{ldap}", "names no attribute of the directory"),
        ("{ldap:mail)(uid=*}", "names no attribute of the directory"),
        ("{hex:0}", "has no pairs of hexadecimal digits"),
        ("{hex:xy}", "has no pairs of hexadecimal digits"),
    ],
)
def test_a_placeholder_that_there_is_not_is_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=r"\{") as refused:
        template(text)
    assert why in str(refused.value)


@pytest.mark.parametrize("values", [["unfit"], ["{user}", "unfit"]])
def test_a_value_that_never_fits_is_refused_when_it_is_read(values: list[str]) -> None:
    """Not at the first login of somebody, and beside a template as well."""
    with pytest.raises(ValueError, match="is unfit"):
        reply_attribute("Class", values, encode)


# Values


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("plain", ["plain"]),
        ("{{user}}", ["{user}"]),
        ("u={user};", ["u=alice;"]),
        ("{group}", ["staff", "ops"]),
        ("OU={group};", ["OU=staff;", "OU=ops;"]),
        ("{groups}", ["staff;ops"]),
        ("{groups:, }", ["staff, ops"]),
        ("{ldap:mail}", ["a@corp.example", "b@corp.example"]),
        ("{ldap:MAIL}", ["a@corp.example", "b@corp.example"]),
        ("{ldap:none}", []),
        ("x{ldap:empty}", []),
        ("{hex:41c3bc}", ["Aü"]),
        ("{hex:ff}", ["\udcff"]),
    ],
)
def test_a_template_gives_a_value_for_each_of_what_it_stands_for(
    text: str, values: list[str]
) -> None:
    assert expanded(template(text), ALICE) == values


def test_several_placeholders_are_combined() -> None:
    assert expanded(template("{user}:{group}:{ldap:mail}"), ALICE) == [
        "alice:staff:a@corp.example",
        "alice:staff:b@corp.example",
        "alice:ops:a@corp.example",
        "alice:ops:b@corp.example",
    ]


@pytest.mark.parametrize("text", ["{group}", "x{groups}"])
def test_who_is_in_no_group_has_no_value_rather_than_an_empty_one(text: str) -> None:
    assert expanded(template(text), NOBODY) == []


def test_an_attribute_tells_what_has_to_be_known_of_the_user() -> None:
    """Nothing for one that is the same for everybody: it is encoded once."""
    fixed = reply_attribute("Class", ["a", "b"], encode)
    assert (fixed.templates, fixed.fixed) == ((), (Encoded(b"a"), Encoded(b"b")))
    assert (fixed.needs_groups, fixed.directory_attributes) == (False, frozenset())
    both = reply_attribute("Class", ["{group}", "{ldap:Mail}"], encode)
    assert (both.needs_groups, both.directory_attributes) == (True, frozenset({"mail"}))


def test_what_has_no_fitting_value_is_left_out_and_told_without_the_value() -> None:
    attributes = [
        reply_attribute("Filter-Id", ["static"], encode),
        reply_attribute("Class", ["{user}", "{ldap:none}", "{groups}"], encode),
        reply_attribute("Reply-Message", ["{group}"], encode),
    ]
    person = Person("bob", groups=["ok", "unfit canary"])
    grant = granted(attributes, person)
    assert [one.octets for one in grant.attributes] == [b"static", b"bob", b"ok"]
    assert grant.names == {"Filter-Id", "Class", "Reply-Message"}
    assert grant.left_out == [
        LeftOut("Class", "the directory has no none of the user"),
        LeftOut("Class", "a value of the user is unfit"),
        LeftOut("Reply-Message", "a value of the user is unfit"),
    ]
    none = granted(attributes[2:], NOBODY)
    assert none.names == set()
    assert none.left_out == [
        LeftOut("Reply-Message", "the user is in no group that this client knows")
    ]


def test_no_repr_shows_a_value() -> None:
    """Rule 8: it may be a Tunnel-Password."""
    shown = repr(granted([reply_attribute("Class", ["canary"], encode)], ALICE))
    assert "canary" not in shown
    assert "canary" not in repr(Encoded(b"", b"canary"))


# Groups by the names that a client knows

GROUPS = [Group("ops", "cn=ops,ou=g"), Group("VPN Staff", "CN=VPN Staff,OU=g"), Group("ops")]


def test_without_a_map_all_groups_go_each_once() -> None:
    assert mapped_groups(GROUPS, {}) == ["ops", "VPN Staff"]


def test_with_a_map_those_in_it_alone_go_under_its_names_in_its_order() -> None:
    names = {"vpn staff": "staff", "admins": "root", "cn=ops,ou=g": "ops-vpn", "ops": "staff"}
    assert mapped_groups(GROUPS, names) == ["staff", "ops-vpn"]
    assert mapped_groups([], names) == []


def test_many_groups_beside_many_addresses_stall_nobody() -> None:
    many = [str(number) for number in range(10_000)]
    person = Person("alice", groups=many, directory={"mail": many})
    assert len(expanded(template("{group} {ldap:mail}"), person)) == MAX_VALUES

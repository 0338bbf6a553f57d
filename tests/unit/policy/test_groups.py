"""Names of groups: which spellings are one group, and which are none."""

import pytest

from radius_mfa.policy.groups import Group, group_key, group_keys, unfit_group


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("VPN Staff", "vpn staff"),
        ("Süd", "su\u0308d"),
        ("STRASSE", "straße"),
        (" staff ", "staff"),
        ("CN=VPN Staff, OU=Groups,DC=corp", "cn=vpn staff,ou=groups , dc=corp"),
        (r"CN=Sales\, EMEA,OU=g", r"cn=sales\,emea,ou=g"),
    ],
)
def test_spellings_of_one_group_are_one(one: str, other: str) -> None:
    assert group_key(one) == group_key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("staff", "staffs"), ("vpn staff", "vpnstaff"), ("cn=a,ou=b", "cn=a,ou=c"), ("a", "á")],
)
def test_other_groups_are_others(one: str, other: str) -> None:
    assert group_key(one) != group_key(other)


def test_a_group_is_known_by_name_and_by_distinguished_name() -> None:
    groups = [Group("VPN Staff", "CN=VPN Staff,OU=g"), Group("ops")]
    assert group_keys(groups) == {"vpn staff", "cn=vpn staff,ou=g", "ops"}


@pytest.mark.parametrize("name", ["", " ", " a", "a ", "a\nb", "a\0", "a\u200bb", "x" * 129])
def test_what_no_group_is_called(name: str) -> None:
    assert unfit_group(name)


@pytest.mark.parametrize("name", ["a", "VPN Staff", "Süd; Ost", "x" * 128, "0xAB", "123"])
def test_what_a_group_may_be_called(name: str) -> None:
    assert unfit_group(name) == ""

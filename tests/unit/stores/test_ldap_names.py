"""Which distinguished names are the same, and what a list of members may not be."""

import pytest

from radius_mfa.config import LdapDirectorySettings
from radius_mfa.errors import Refused
from radius_mfa.ldap_setup import options
from radius_mfa.stores import ldap_listing
from radius_mfa.stores.directory_ldap import LdapDirectory
from radius_mfa.stores.ldap_names import dn_key, is_below


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("uid=alice,dc=corp", "UID=Alice, DC=CORP", True),
        ("cn=Sales\\, EMEA,dc=corp", "cn=Sales\\2c EMEA,dc=corp", True),
        ("uid=alice,dc=corp", "uid=alice,dc=corp,dc=example", False),
        ("uid=alice,dc=corp", "cn=alice,dc=corp", False),
        ("no name", "NO NAME", True),
        ("no name", "uid=alice", False),
    ],
)
def test_names_are_compared_part_by_part(one: str, other: str, *, same: bool) -> None:
    assert (dn_key(one) == dn_key(other)) is same


@pytest.mark.parametrize(
    ("dn", "base", "below"),
    [
        ("uid=alice,ou=people,dc=corp", "ou=People, dc=corp", True),
        ("dc=corp", "dc=corp", True),
        ("uid=alice,dc=corp", "", True),
        ("uid=alice,ou=otherpeople,dc=corp", "ou=people,dc=corp", False),
        ("dc=corp", "ou=people,dc=corp", False),
        ("uid=dc\\=corp", "dc=corp", False),
    ],
)
def test_what_is_below_a_base_ends_with_all_its_parts(dn: str, base: str, *, below: bool) -> None:
    assert is_below(dn, base) is below


def test_members_that_come_in_parts_are_refused_not_cut_off() -> None:
    """As Active Directory does it beyond 1,500 values (MS-ADTS 3.1.1.3.1.3.3)."""
    section = {
        "name": "ad",
        "preset": "active-directory",
        "servers": ["ldaps://dc1"],
        "base": "dc=a",
    }
    directory = LdapDirectory(options(LdapDirectorySettings(**section)))
    part = ("cn=vpn,dc=a", {"member": [], "member;range=0-1499": [b"cn=alice,dc=a"]})
    with pytest.raises(Refused, match="ad gives the members of a large group in parts") as refused:
        ldap_listing._values(directory, [part], "member")
    assert "in-chain" in refused.value.cure

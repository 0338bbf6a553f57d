"""What an LDAP server's answers mean; refusals first."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from radius_mfa.stores.interfaces import PasswordVerdict as Verdict
from radius_mfa.stores.ldap_answers import (
    Reply,
    account_state,
    immutable_id,
    verdict_of_bind,
)

NOW = datetime(2026, 3, 1, tzinfo=UTC).timestamp()


class Control:
    def __init__(self, value: bytes | None) -> None:
        self.value = value


def bound(code: int, diagnostic: str = "", *controls: bytes | None) -> Verdict | None:
    return verdict_of_bind(Reply(code, diagnostic, controls=[Control(one) for one in controls]))


def ad(data: str) -> str:
    return (
        "80090308: LdapErr: DSID-0C09042A, comment: AcceptSecurityContext error, "
        f"data {data}, v4563"
    )


@pytest.mark.parametrize(
    ("data", "verdict"),
    [
        ("525", Verdict.UNKNOWN_USER),
        ("52e", Verdict.WRONG),
        ("530", Verdict.RESTRICTED),
        ("531", Verdict.RESTRICTED),
        ("532", Verdict.PASSWORD_EXPIRED),
        ("533", Verdict.DISABLED),
        ("701", Verdict.EXPIRED),
        ("773", Verdict.MUST_CHANGE),
        ("775", Verdict.LOCKED),
        ("57", Verdict.WRONG),
        ("", Verdict.WRONG),
    ],
)
def test_active_directory_s_codes(data: str, verdict: Verdict) -> None:
    assert bound(49, ad(data)) is verdict


@pytest.mark.parametrize("code", [1, 2, 3, 7, 8, 10, 11, 13, 14, 51, 52, 80])
def test_what_is_no_answer_is_none(code: int) -> None:
    """Rule 9: a directory that is busy says nothing about a password."""
    assert bound(code) is None


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        (32, Verdict.UNKNOWN_USER),
        (34, Verdict.UNKNOWN_USER),
        (48, Verdict.DISABLED),
        (49, Verdict.WRONG),
        (50, Verdict.RESTRICTED),
        (53, Verdict.DISABLED),
        (0, Verdict.RIGHT),
    ],
)
def test_result_codes(code: int, verdict: Verdict) -> None:
    assert bound(code) is verdict


@pytest.mark.parametrize(
    ("control", "after_49", "after_0"),
    [
        ("3003810100", Verdict.PASSWORD_EXPIRED, Verdict.PASSWORD_EXPIRED),
        ("3003810101", Verdict.LOCKED, Verdict.LOCKED),
        ("3003810102", Verdict.MUST_CHANGE, Verdict.MUST_CHANGE),
        ("3008a003800103810102", Verdict.MUST_CHANGE, Verdict.MUST_CHANGE),
        ("3005a003800103", Verdict.WRONG, Verdict.RIGHT),  # a warning alone
        ("3000", Verdict.WRONG, Verdict.RIGHT),
        ("3003810108", Verdict.WRONG, Verdict.RIGHT),  # an error of a change
        ("30", Verdict.WRONG, Verdict.RIGHT),
        ("30058101", Verdict.WRONG, Verdict.RIGHT),
        ("3001a0", Verdict.WRONG, Verdict.RIGHT),
        ("0403810101", Verdict.WRONG, Verdict.RIGHT),
        ("", Verdict.WRONG, Verdict.RIGHT),
        (None, Verdict.WRONG, Verdict.RIGHT),
    ],
)
def test_the_password_policy_control(
    control: str | None, after_49: Verdict, after_0: Verdict
) -> None:
    """Also after a bind that succeeds: a password that was reset is for changing it alone."""
    octets = None if control is None else bytes.fromhex(control)
    assert bound(49, "", octets) is after_49
    assert bound(0, "", octets) is after_0


def filetime(moment: datetime) -> str:
    return str(int((moment.timestamp() + 11_644_473_600) * 10_000_000))


@pytest.mark.parametrize(
    ("attribute", "value", "state"),
    [
        ("userAccountControl", "514", Verdict.DISABLED),
        ("userAccountControl", "512", None),
        ("userAccountControl", "66048", None),
        ("msDS-User-Account-Control-Computed", "16", Verdict.LOCKED),
        ("msDS-User-Account-Control-Computed", "8388608", Verdict.PASSWORD_EXPIRED),
        ("msDS-User-Account-Control-Computed", "0", None),
        ("accountExpires", "0", None),
        ("accountExpires", "9223372036854775807", None),
        ("accountExpires", filetime(datetime(2026, 2, 28, tzinfo=UTC)), Verdict.EXPIRED),
        ("accountExpires", filetime(datetime(2026, 3, 2, tzinfo=UTC)), None),
        ("pwdLastSet", "0", Verdict.MUST_CHANGE),
        ("pwdLastSet", "133000000000000000", None),
        ("nsAccountLock", "TRUE", Verdict.DISABLED),
        ("nsAccountLock", "true", Verdict.DISABLED),
        ("nsAccountLock", "FALSE", None),
        ("krbPasswordExpiration", "20260228235959Z", Verdict.PASSWORD_EXPIRED),
        ("krbPasswordExpiration", "20260301000001Z", None),
        ("krbPrincipalExpiration", "20200101000000Z", Verdict.EXPIRED),
        ("pwdAccountLockedTime", "000001010000Z", Verdict.LOCKED),
        ("pwdAccountLockedTime", "20260301000000Z", None),  # it may have ended: the bind knows
        ("pwdReset", "TRUE", Verdict.MUST_CHANGE),
        ("shadowExpire", "20000", Verdict.EXPIRED),
        ("shadowExpire", "-1", None),
        ("shadowExpire", "30000", None),
        ("userAccountControl", "rubbish", None),
        ("accountExpires", "9" * 400, None),
        ("krbPasswordExpiration", "", None),
        ("shadowExpire", "\N{ARABIC-INDIC DIGIT ONE}", None),
    ],
)
def test_the_state_of_an_account(attribute: str, value: str, state: Verdict | None) -> None:
    assert account_state({attribute.lower(): [value.encode()]}, NOW) is state


def test_disabled_outweighs_the_rest_and_rubbish_hides_nothing() -> None:
    attributes: dict[str, list[bytes]] = {
        "pwdlastset": [b"0"],
        "accountexpires": [b"\xff"],
        "useraccountcontrol": [b"514"],
    }
    assert account_state(attributes, NOW) is Verdict.DISABLED
    del attributes["useraccountcontrol"]
    assert account_state(attributes, NOW) is Verdict.MUST_CHANGE
    assert account_state({}, NOW) is None


GUID = UUID("9f0ad2f1-54a6-4c9b-9d8e-5d0a8a2c6f5e")


@pytest.mark.parametrize(
    ("attribute", "values", "found"),
    [
        ("objectGUID", [GUID.bytes_le], str(GUID)),
        ("objectGUID", [b"ABCDEFGHIJKLMNOP"], "44434241-4645-4847-494a-4b4c4d4e4f50"),
        ("objectGUID", [b"short"], None),
        ("objectGUID", [], None),
        ("entryUUID", [str(GUID).upper().encode()], str(GUID)),
        (
            "nsUniqueId",
            [b"66446001-1dd211b2-8c6df5d7-61c5a2e3"],
            "66446001-1dd211b2-8c6df5d7-61c5a2e3",
        ),
        ("entryUUID", [b"one", b"two"], None),
        ("entryUUID", [b""], None),
        ("entryUUID", [b"\xff\xfe"], None),
        ("entryUUID", [b"a b"], None),
        ("entryUUID", [b"a\nb"], None),
        ("entryUUID", [b"x" * 129], None),
    ],
)
def test_what_never_changes_of_an_entry(
    attribute: str, values: list[bytes], found: str | None
) -> None:
    """One value, printable, or nothing: two users never share a key for want of one."""
    assert immutable_id(attribute, "uid=a,dc=x", {attribute.lower(): values}) == found


def test_the_name_of_the_entry_can_be_its_key() -> None:
    """However long: 64 KB of it fit, and the case of its letters does not matter."""
    keys: list[Any] = [
        immutable_id("dn", dn, {}) for dn in ("uid=A,dc=x", "UID=a,DC=X", "uid=b,dc=x", "x" * 65536)
    ]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3
    assert all(len(key) < 64 for key in keys)

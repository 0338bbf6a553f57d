"""What an LDAP server's answers mean: result codes, Active Directory's data codes, account state.

Pure: octets and texts in, verdicts out.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any
from uuid import UUID

from radius_mfa.stores.interfaces import PasswordVerdict as Verdict

Attributes = Mapping[str, Sequence[bytes]]
"""Attribute name in lower case to its values."""

Entry = tuple[str, Attributes]
"""Distinguished name, and attributes."""

PASSWORD_POLICY_OID = "1.3.6.1.4.1.42.2.27.8.5.1"  # noqa: S105 - no password

SUCCESS, SIZE_LIMIT_EXCEEDED, NO_SUCH_OBJECT, INVALID_DN_SYNTAX = 0, 4, 32, 34
INVALID_CREDENTIALS, BUSY, UNAVAILABLE = 49, 51, 52


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to one operation: an LDAP result code (RFC 4511 appendix A) and what came."""

    code: int
    diagnostic: str = ""
    entries: Sequence[Entry] = ()
    controls: Sequence[Any] = field(default=(), repr=False)


_DATA_CODE = re.compile(r"\bdata ([0-9a-f]+)\b")

_OF_DATA_CODE = {
    "525": Verdict.UNKNOWN_USER,
    "52e": Verdict.WRONG,
    "530": Verdict.RESTRICTED,
    "531": Verdict.RESTRICTED,
    "532": Verdict.PASSWORD_EXPIRED,
    "533": Verdict.DISABLED,
    "701": Verdict.EXPIRED,
    "773": Verdict.MUST_CHANGE,
    "775": Verdict.LOCKED,
}
"""Active Directory's reasons for error 49 (Windows system error codes 1317 to 1909)."""

_OF_POLICY_ERROR = {0: Verdict.PASSWORD_EXPIRED, 1: Verdict.LOCKED, 2: Verdict.MUST_CHANGE}
"""The errors of draft-behera-ldap-password-policy-11 section 6.2 that a bind can have."""

_OF_RESULT_CODE = {
    NO_SUCH_OBJECT: Verdict.UNKNOWN_USER,
    INVALID_DN_SYNTAX: Verdict.UNKNOWN_USER,
    48: Verdict.DISABLED,  # inappropriateAuthentication: the entry has no password
    50: Verdict.RESTRICTED,  # insufficientAccessRights
    53: Verdict.DISABLED,  # unwillingToPerform: 389 Directory Server says so of a locked account
}


def verdict_of_bind(reply: Reply) -> Verdict | None:
    """Return what the answer to a user's bind says, or None where it is no definite answer."""
    policy = _OF_POLICY_ERROR.get(_policy_error(reply.controls))
    if reply.code == SUCCESS:
        # A password that was reset binds, so that it can be changed; it is no login.
        return policy or Verdict.RIGHT
    if reply.code == INVALID_CREDENTIALS:
        found = _DATA_CODE.search(reply.diagnostic)
        return policy or _OF_DATA_CODE.get(found[1] if found else "", Verdict.WRONG)
    return _OF_RESULT_CODE.get(reply.code)


def _policy_error(controls: Sequence[Any]) -> int:
    """Return the error in a password policy response, -1 for none.

    It is ``SEQUENCE { warning [0] CHOICE OPTIONAL, error [1] ENUMERATED OPTIONAL }`` in BER.
    """
    for control in controls:
        value = control.value or b""
        if len(value) < 2 or value[0] != 0x30:  # noqa: PLR2004 - tag, length
            continue
        rest = value[2:]
        if rest[:1] == b"\xa0" and len(rest) > 1:
            rest = rest[2 + rest[1] :]
        if rest[:2] == b"\x81\x01" and len(rest) > 2:  # noqa: PLR2004 - tag, length, value
            return rest[2]
    return -1


# The state of an account, as its entry tells it

_DISABLED, _LOCKED, _PASSWORD_EXPIRED = 0x2, 0x10, 0x80_0000  # MS-SAMR 2.2.1.12
_FILETIME_EPOCH_SECONDS = 11_644_473_600  # from 1601 to 1970
_FILETIME_PER_SECOND = 10_000_000
_NEVER = 0x7FFF_FFFF_FFFF_FFFF
_DAY_SECONDS = 86_400
_LOCKED_FOR_GOOD = "000001010000Z"  # draft-behera-ldap-password-policy-11 section 5.3.3


def _flag(bit: int, verdict: Verdict) -> Callable[[str, float], Verdict | None]:
    return lambda value, _now: verdict if int(value) & bit else None


def _equal(text: str, verdict: Verdict) -> Callable[[str, float], Verdict | None]:
    return lambda value, _now: verdict if value.upper() == text.upper() else None


def _expired_filetime(value: str, now: float) -> Verdict | None:
    ticks = int(value)
    if ticks in (0, _NEVER):
        return None
    return Verdict.EXPIRED if _of_filetime(ticks) <= now else None


def _of_filetime(ticks: int) -> float:
    return ticks / _FILETIME_PER_SECOND - _FILETIME_EPOCH_SECONDS


def _before_now(verdict: Verdict) -> Callable[[str, float], Verdict | None]:
    def check(value: str, now: float) -> Verdict | None:
        moment = datetime.strptime(value[:14], "%Y%m%d%H%M%S").replace(tzinfo=UTC)
        return verdict if moment.timestamp() <= now else None

    return check


def _expired_day(value: str, now: float) -> Verdict | None:
    return Verdict.EXPIRED if 0 <= int(value) * _DAY_SECONDS <= now else None


_CHECKS: tuple[tuple[str, Callable[[str, float], Verdict | None]], ...] = (
    ("useraccountcontrol", _flag(_DISABLED, Verdict.DISABLED)),
    ("nsaccountlock", _equal("TRUE", Verdict.DISABLED)),
    ("accountexpires", _expired_filetime),
    ("krbprincipalexpiration", _before_now(Verdict.EXPIRED)),
    ("shadowexpire", _expired_day),
    ("msds-user-account-control-computed", _flag(_LOCKED, Verdict.LOCKED)),
    ("pwdaccountlockedtime", _equal(_LOCKED_FOR_GOOD, Verdict.LOCKED)),
    ("pwdlastset", _equal("0", Verdict.MUST_CHANGE)),
    ("pwdreset", _equal("TRUE", Verdict.MUST_CHANGE)),
    ("msds-user-account-control-computed", _flag(_PASSWORD_EXPIRED, Verdict.PASSWORD_EXPIRED)),
    ("krbpasswordexpiration", _before_now(Verdict.PASSWORD_EXPIRED)),
)
"""Attribute, and what its value says; the first that says something counts."""


def account_state(attributes: Attributes, now: float) -> Verdict | None:
    """Return why the account can't be used at Unix time *now*, or None.

    A value that can't be read says nothing: the bind has the last word.
    """
    for attribute, check in _CHECKS:
        for value in attributes.get(attribute, ()):
            try:
                verdict = check(value.decode("ascii"), now)
            except (ValueError, OverflowError):
                continue
            if verdict is not None:
                return verdict
    return None


# What a kind of directory calls things

GROUP_CLASSES = frozenset(
    {
        "group",
        "groupofnames",
        "groupofuniquenames",
        "groupofmembers",
        "posixgroup",
        "ipausergroup",
    }
)
"""Object classes of groups, in lower case."""

ARE_GROUPS = f"(|{''.join(f'(objectClass={one})' for one in sorted(GROUP_CLASSES))})"

IN_CHAIN = "1.2.840.113556.1.4.1941"  # LDAP_MATCHING_RULE_IN_CHAIN (MS-ADTS 3.1.1.3.4.4.3)


@dataclass(frozen=True, slots=True)
class Schema:
    """How users stand in a directory.

    *query* narrows every search; a name is looked up in the attributes of *lookup*. *identifier*
    is what never changes of an entry, *name* what people call it. *groups* is one of ``none``,
    ``in-chain``, ``member-of``, ``search``; *state* are the attributes that tell of the account.
    """

    query: str
    lookup: tuple[str, ...]
    identifier: str
    name: str
    groups: str
    state: tuple[str, ...]


SCHEMAS = {
    "active-directory": Schema(
        "(&(objectCategory=person)(objectClass=user))",
        ("sAMAccountName", "userPrincipalName"),
        "objectGUID",
        "sAMAccountName",
        "in-chain",
        (
            "userAccountControl",
            "accountExpires",
            "pwdLastSet",
            "msDS-User-Account-Control-Computed",
        ),
    ),
    "openldap": Schema(
        "(objectClass=*)",
        ("uid",),
        "entryUUID",
        "uid",
        "search",
        ("pwdAccountLockedTime", "pwdReset", "shadowExpire"),
    ),
    "freeipa": Schema(
        "(objectClass=person)",
        ("uid",),
        "ipaUniqueID",
        "uid",
        "member-of",
        ("nsAccountLock", "krbPrincipalExpiration", "krbPasswordExpiration"),
    ),
    "389ds": Schema(
        "(objectClass=person)",
        ("uid",),
        "nsUniqueId",
        "uid",
        "member-of",
        ("nsAccountLock",),
    ),
}
"""The presets of the configuration."""

_DIGEST_OCTETS = 20
_GUID_OCTETS = 16
_MAX_ID_CHARACTERS = 128  # with the directory's name it has to fit into a key


def immutable_id(attribute: str, dn: str, attributes: Attributes) -> str | None:
    """Return what never changes of an entry as text, or None where the entry does not have it.

    *attribute* ``dn`` stands for the distinguished name. An objectGUID is 16 octets, the first
    three parts of them little-endian (MS-DTYP 2.3.4.2).
    """
    if attribute == "dn":
        return "dn-" + blake2b(dn.lower().encode(), digest_size=_DIGEST_OCTETS).hexdigest()
    values = attributes.get(attribute.lower(), ())
    if len(values) != 1:
        return None
    [value] = values
    if attribute.lower() == "objectguid":
        return str(UUID(bytes_le=value)) if len(value) == _GUID_OCTETS else None
    try:
        text = value.decode("ascii")
    except UnicodeDecodeError:
        return None
    fits = text.isprintable() and 0 < len(text) <= _MAX_ID_CHARACTERS and " " not in text
    return text.lower() if fits else None


_SID_HEAD_OCTETS, _RID_OCTETS = 8, 4


def primary_group_sid(attributes: Attributes) -> bytes | None:
    """Return the SID of an entry's primary group, or None where the entry does not tell.

    It is the entry's own with primaryGroupID as its last part, 32 bits little-endian (MS-DTYP
    2.4.2.2).
    """
    sids, numbers = attributes.get("objectsid", ()), attributes.get("primarygroupid", ())
    if len(sids) != 1 or len(numbers) != 1 or len(sids[0]) < _SID_HEAD_OCTETS + _RID_OCTETS:
        return None
    try:
        return sids[0][:-_RID_OCTETS] + int(numbers[0]).to_bytes(_RID_OCTETS, "little")
    except (ValueError, OverflowError):
        return None


def rid_of(sid: bytes) -> int:
    """Return the last part of *sid*: what a primaryGroupID says of a group's."""
    return int.from_bytes(sid[-_RID_OCTETS:], "little")

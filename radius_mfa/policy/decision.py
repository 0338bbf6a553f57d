"""What a login ends in, and why."""

from dataclasses import dataclass, field
from enum import StrEnum


class RejectReason(StrEnum):
    """Why a login was rejected. It goes to the log, never to the user's side (docs/reasons.md)."""

    ACCOUNT_DISABLED = "account_disabled"
    ACCOUNT_EXPIRED = "account_expired"
    ACCOUNT_LOCKED = "account_locked"
    AMBIGUOUS_USER = "ambiguous_user"
    ATTRIBUTE_MISSING = "attribute_missing"
    ATTRIBUTES_TOO_LONG = "attributes_too_long"
    CODE_PREDATES_REDIS = "code_predates_redis"
    CODE_REPLAYED = "code_replayed"
    DIRECTORY_LOCKED = "directory_locked"
    EMPTY_PASSWORD = "empty_password"
    ENROLLMENT_EXPIRED = "enrollment_expired"
    FACTOR_SUSPENDED = "factor_suspended"
    IN_ENROLLMENT = "in_enrollment"
    INVALID_USER_NAME = "invalid_user_name"
    LOGON_RESTRICTED = "logon_restricted"
    NO_PASSWORD = "no_password"
    NOT_ENROLLED = "not_enrolled"
    PASSWORD_EXPIRED = "password_expired"
    PASSWORD_MUST_CHANGE = "password_must_change"
    REFUSED_BY_NAS = "refused_by_nas"
    REFUSED_BY_RULE = "refused_by_rule"
    STATE_EXPIRED = "state_expired"
    STATE_FOREIGN = "state_foreign"
    STATE_FORGED = "state_forged"
    STATE_USED = "state_used"
    STATE_VOID = "state_void"
    UNDECODABLE_PASSWORD = "undecodable_password"
    UNKNOWN_USER = "unknown_user"
    UNSUPPORTED_METHOD = "unsupported_method"
    USER_SUSPENDED = "user_suspended"
    WRONG_CODE = "wrong_code"
    WRONG_PASSWORD = "wrong_password"
    BACKEND_UNAVAILABLE = "backend_unavailable"


class Factor(StrEnum):
    """The factor a failure is counted against; `lockout.count` chooses among them."""

    PASSWORD = "password"
    CODE = "code"


FACTOR_AT_FAULT = {
    RejectReason.CODE_REPLAYED: Factor.CODE,
    RejectReason.EMPTY_PASSWORD: Factor.PASSWORD,
    RejectReason.UNDECODABLE_PASSWORD: Factor.PASSWORD,
    RejectReason.WRONG_CODE: Factor.CODE,
    RejectReason.WRONG_PASSWORD: Factor.PASSWORD,
}
"""Only a wrong factor counts towards the lockout; every other reject leaves the counters alone."""


@dataclass(frozen=True, slots=True)
class Accept:
    """The user is who they say they are."""

    method: str


@dataclass(frozen=True, slots=True)
class Reject:
    """The login is refused; *hint* tells the operator what to look at."""

    reason: RejectReason
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Challenge:
    """The password is right, and now a code is asked for: the answer brings *state* back.

    *reason* and *hint* say why the code before was refused; None where this is the first question.
    """

    state: str = field(repr=False)
    reason: RejectReason | None = None
    hint: str = ""


Decision = Accept | Reject | Challenge

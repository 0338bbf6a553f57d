"""What a login ends in, and which factor it is counted against."""

import dataclasses
import inspect

import pytest

from radius_mfa.policy.decision import FACTOR_AT_FAULT, Accept, Factor, Reject, RejectReason

PASSWORD, CODE = Factor.PASSWORD, Factor.CODE
COUNTED_AGAINST = {
    RejectReason.ACCOUNT_DISABLED: None,  # what the directory says of an account is no guess
    RejectReason.ACCOUNT_EXPIRED: None,
    RejectReason.ACCOUNT_LOCKED: None,
    RejectReason.AMBIGUOUS_USER: None,
    RejectReason.ATTRIBUTE_MISSING: None,  # both factors were right, in this and the next
    RejectReason.ATTRIBUTES_TOO_LONG: None,
    RejectReason.BACKEND_UNAVAILABLE: None,  # rule 9: not a failure of the user
    RejectReason.CODE_PREDATES_REDIS: None,  # rule 10: nor this
    RejectReason.CODE_REPLAYED: CODE,
    RejectReason.DIRECTORY_LOCKED: None,
    RejectReason.EMPTY_PASSWORD: PASSWORD,
    RejectReason.ENROLLMENT_EXPIRED: None,  # nothing typed was looked at, in this and the next two
    RejectReason.FACTOR_SUSPENDED: None,
    RejectReason.IN_ENROLLMENT: None,
    RejectReason.INVALID_USER_NAME: None,  # or the empty name counts failures for everyone
    RejectReason.LOGON_RESTRICTED: None,
    RejectReason.NOT_ENROLLED: None,
    RejectReason.NO_PASSWORD: None,
    RejectReason.PASSWORD_EXPIRED: None,
    RejectReason.PASSWORD_MUST_CHANGE: None,
    RejectReason.REFUSED_BY_RULE: None,  # whatever was typed
    RejectReason.REFUSED_BY_NAS: None,  # nobody typed that
    RejectReason.STATE_EXPIRED: None,  # the code beside a State that is no good was not looked at
    RejectReason.STATE_FOREIGN: None,
    RejectReason.STATE_FORGED: None,
    RejectReason.STATE_USED: None,
    RejectReason.STATE_VOID: None,
    RejectReason.UNDECODABLE_PASSWORD: PASSWORD,
    RejectReason.UNKNOWN_USER: None,
    RejectReason.UNSUPPORTED_METHOD: None,
    RejectReason.USER_SUSPENDED: None,
    RejectReason.WRONG_CODE: CODE,  # O15
    RejectReason.WRONG_PASSWORD: PASSWORD,
}


@pytest.mark.parametrize("reason", RejectReason)
def test_only_a_wrong_factor_counts(reason: RejectReason) -> None:
    """O11, O15: a new reason has to be judged here before it can be merged."""
    assert FACTOR_AT_FAULT.get(reason) is COUNTED_AGAINST[reason]


@pytest.mark.parametrize("decision", [Accept("totp"), Reject(RejectReason.WRONG_CODE)])
def test_a_decision_is_final(decision: Accept | Reject) -> None:
    """Rule 4: nothing turns a decision into another one on its way."""
    for field in dataclasses.fields(decision):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(decision, field.name, "")


def test_an_accept_says_by_what_and_a_reject_why() -> None:
    """Rule 4: there is no default that a fault could end in."""
    assert inspect.signature(Accept).bind("totp")
    with pytest.raises(TypeError):
        inspect.signature(Accept).bind()
    with pytest.raises(TypeError):
        inspect.signature(Reject).bind()

"""Every reason has its words, and what is no reason has none."""

import pytest

from radius_mfa.policy.decision import RejectReason
from radius_mfa.policy.reasons import EXPLANATIONS, explained


@pytest.mark.parametrize("reason", RejectReason)
def test_a_reason_is_explained(reason: RejectReason) -> None:
    assert explained(reason.value) is EXPLANATIONS[reason]


@pytest.mark.parametrize("reason", ["", "redis", "a_reason_of_a_newer_release"])
def test_what_is_no_reason_is_not(reason: str) -> None:
    assert explained(reason) is None

"""The words of the user list's columns."""

import pytest

from radius_mfa.policy.columns import Asked, asked_of
from radius_mfa.policy.requirement import NOTHING_REQUIRED, Requirement

NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("requirement", "word"),
    [
        (NOTHING_REQUIRED, Asked.NOT_REQUIRED),
        (Requirement(NOW, NOW + 5), Asked.REQUIRED),
        (Requirement(NOW - 9, NOW - 5), Asked.REQUIRED),
        (Requirement(NOW, NOW + 5, exempt_until=NOW + 1), Asked.EXEMPT),
        (Requirement(exempt_until=NOW), Asked.NOT_REQUIRED),
        (Requirement(NOW, NOW + 5, exempt_until=NOW), Asked.REQUIRED),
    ],
)
def test_what_is_required_of_a_user_in_a_word(requirement: Requirement, word: Asked) -> None:
    assert asked_of(requirement, NOW) is word

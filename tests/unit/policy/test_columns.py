"""The words of the user list's columns."""

import pytest

from radius_mfa.policy.columns import Asked, Standing, asked_of, standing
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


@pytest.mark.parametrize(
    ("suspended", "everywhere", "somewhere", "word"),
    [
        (False, False, False, Standing.ACTIVE),
        (False, False, True, Standing.PARTLY_LOCKED),
        (False, True, True, Standing.LOCKED),
        (True, True, True, Standing.SUSPENDED),
        (True, False, False, Standing.SUSPENDED),
    ],
)
def test_the_state_of_a_user_in_a_word(
    *, suspended: bool, everywhere: bool, somewhere: bool, word: Standing
) -> None:
    found = standing(suspended=suspended, everywhere=everywhere, somewhere=somewhere)
    assert found is word

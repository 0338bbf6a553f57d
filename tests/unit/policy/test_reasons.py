"""Every reason has its words, and what is no reason has none."""

import shlex

import pytest

from radius_mfa.policy.decision import RejectReason
from radius_mfa.policy.reasons import EXPLANATIONS, explained


@pytest.mark.parametrize("reason", RejectReason)
def test_a_reason_is_explained(reason: RejectReason) -> None:
    assert explained(reason.value) is EXPLANATIONS[reason]


@pytest.mark.parametrize("name", ["alice", "o'neil; reboot", "$(id)", "a b"])
@pytest.mark.parametrize("reason", RejectReason)
def test_commands_in_what_to_do_take_the_name_as_one_word(reason: RejectReason, name: str) -> None:
    """They are there to be copied into a shell, and anyone can try to log in as anybody."""
    cure = EXPLANATIONS[reason].cure_of(name)
    for command in cure.split("`")[1::2]:
        if command.startswith("radius-mfa user") and "{user}" in EXPLANATIONS[reason].cure:
            assert shlex.split(command)[3] == name


def test_a_name_with_a_backtick_ends_no_command() -> None:
    """Pages and the terminal would show it without; so no name stands there."""
    cure = EXPLANATIONS[RejectReason.ACCOUNT_LOCKED].cure_of("tick`ed")
    assert "`radius-mfa user unlock USER`" in cure


@pytest.mark.parametrize("reason", ["", "redis", "a_reason_of_a_newer_release"])
def test_what_is_no_reason_is_not(reason: str) -> None:
    assert explained(reason) is None

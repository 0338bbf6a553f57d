"""What an authenticator must be, whichever way it comes in."""

import pytest

from radius_mfa.policy.new_device import unfit


@pytest.mark.parametrize(
    ("name", "seed_octets", "digits", "step"),
    [("phone", 16, 6, 30), ("x" * 64, 20, 8, 60), ("Zoës Gerät", 128, 6, 60)],
)
def test_what_standards_and_apps_agree_on_is_fit(
    name: str, seed_octets: int, digits: int, step: int
) -> None:
    assert unfit(name, bytes(seed_octets), digits, step) == []


@pytest.mark.parametrize(
    ("name", "seed_octets", "digits", "step", "what"),
    [
        ("phone", 0, 6, 30, "the seed is 0 bits long: 128 at least"),
        ("phone", 10, 6, 30, "the seed is 80 bits long: 128 at least"),
        ("phone", 15, 6, 30, "the seed is 120 bits long: 128 at least"),
        ("phone", 129, 6, 30, "the seed is 1032 bits long: 1024 at most"),
        ("phone", 20, 7, 30, "codes of 7 digits"),
        ("phone", 20, 0, 30, "codes of 0 digits"),
        ("phone", 20, 10, 30, "codes of 10 digits"),
        ("phone", 20, 6, 0, "a new code every 0 s"),
        ("phone", 20, 6, 45, "a new code every 45 s"),
        ("", 20, 6, 30, "a device's name"),
        ("  ", 20, 6, 30, "a device's name"),
        ("x" * 65, 20, 6, 30, "a device's name"),
        ("a\nb", 20, 6, 30, "a device's name"),
    ],
)
def test_what_is_unfit_is_named_with_a_cure(
    name: str, seed_octets: int, digits: int, step: int, what: str
) -> None:
    """RFC 4226 section 4 (R6): 128 bits at least."""
    [(found, cure)] = unfit(name, bytes(seed_octets), digits, step)
    assert found.startswith(what)
    assert cure


def test_everything_that_is_wrong_is_told_at_once() -> None:
    assert len(unfit("", b"", 5, 5)) == 4

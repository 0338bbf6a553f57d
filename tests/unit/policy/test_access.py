"""Who can't be let in whatever they type."""

import pytest

from radius_mfa.policy.access import Enrolment, refusal
from radius_mfa.policy.decision import RejectReason
from radius_mfa.policy.totp import Device

PHONE = Device("d-phone", "phone", b"12345678901234567890")
TOKEN = Device("d-token", "token", b"09876543210987654321", digits=8)


@pytest.mark.parametrize(
    ("enrolment", "reason"),
    [
        (Enrolment(), RejectReason.UNKNOWN_USER),
        (Enrolment(devices=(PHONE,)), RejectReason.UNKNOWN_USER),
        (Enrolment(suspended=True, devices=(PHONE,)), RejectReason.UNKNOWN_USER),
        (Enrolment(known=True, suspended=True, devices=(PHONE,)), RejectReason.USER_SUSPENDED),
        (Enrolment(known=True, suspended=True), RejectReason.USER_SUSPENDED),
        (Enrolment(known=True), RejectReason.NOT_ENROLLED),
    ],
)
def test_refused_whatever_they_type(enrolment: Enrolment, reason: RejectReason) -> None:
    """Mode `always`: unknown, suspended, or without a confirmed device."""
    assert refusal(enrolment) is reason


@pytest.mark.parametrize("devices", [(PHONE,), (TOKEN,), (PHONE, TOKEN)])
def test_a_known_user_with_a_confirmed_device_may_try(devices: tuple[Device, ...]) -> None:
    assert refusal(Enrolment(known=True, devices=devices)) is None


@pytest.mark.parametrize(
    ("devices", "lengths"),
    [((), set()), ((PHONE,), {6}), ((PHONE, PHONE), {6}), ((PHONE, TOKEN), {6, 8})],
)
def test_a_code_is_as_long_as_the_users_devices_make_it(
    devices: tuple[Device, ...], lengths: set[int]
) -> None:
    """A06: nobody's password is cut by a length that none of their devices has."""
    assert Enrolment(known=True, devices=devices).code_lengths == lengths

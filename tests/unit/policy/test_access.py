"""Who needs a second factor, now: every state, every cell of the table of modes."""

import pytest

from radius_mfa.policy.access import ACCESS, PORTAL, Enrolment, Mode, Need, State, needed, state
from radius_mfa.policy.decision import RejectReason
from radius_mfa.policy.requirement import Requirement
from radius_mfa.policy.totp import Device

PHONE = Device("d-phone", "phone", b"12345678901234567890")
TOKEN = Device("d-token", "token", b"09876543210987654321", digits=8)

NOW = 1_000_000.0
LATER, EARLIER = NOW + 1, NOW - 1

RUNNING = Requirement(EARLIER, LATER)
OVER = Requirement(EARLIER, NOW)
AHEAD = Requirement(LATER, LATER + 5)

# ---- The seven states ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("requirement", "confirmed", "pending", "expected"),
    [
        (Requirement(), False, False, State.NOT_ENROLLED),
        (Requirement(), False, True, State.PENDING_ACTIVATION),
        (Requirement(), True, False, State.ENROLLED),
        (Requirement(), True, True, State.ENROLLED),
        (AHEAD, False, False, State.PRE_ENROLLMENT),
        (AHEAD, False, True, State.PENDING_ACTIVATION),
        (AHEAD, True, False, State.ENROLLED),
        (Requirement(NOW, LATER), False, False, State.IN_ENROLLMENT),
        (RUNNING, False, False, State.IN_ENROLLMENT),
        (RUNNING, False, True, State.PENDING_ACTIVATION),
        (RUNNING, True, True, State.ENROLLED),
        (OVER, False, False, State.ENROLLMENT_EXPIRED),
        (Requirement(NOW, NOW), False, False, State.ENROLLMENT_EXPIRED),
        (OVER, False, True, State.PENDING_ACTIVATION),
        (OVER, True, False, State.ENROLLED),
        (Requirement(factor_suspended=True), False, False, State.DISABLED),
        (Requirement(factor_suspended=True), True, True, State.DISABLED),
        (Requirement(EARLIER, LATER, factor_suspended=True), False, True, State.DISABLED),
        (Requirement(exempt_until=LATER), False, False, State.NOT_ENROLLED),
        (Requirement(EARLIER, NOW, exempt_until=LATER), False, False, State.ENROLLMENT_EXPIRED),
    ],
)
def test_the_state_of_a_user(
    requirement: Requirement, *, confirmed: bool, pending: bool, expected: State
) -> None:
    """Zero days are over at once; what waits for its first code counts as little as nothing."""
    assert state(requirement, NOW, confirmed=confirmed, pending=pending) is expected


# ---- The table of modes --------------------------------------------------------------------------

CODE, ALONE = "code", "password alone"
NOT, IN, EXPIRED = "not_enrolled", "in_enrollment", "enrollment_expired"
OFF_FACTOR, UNKNOWN, SUSPENDED = "factor_suspended", "unknown_user", "user_suspended"

TABLE = {
    "enrolled": (Enrolment(1, known=True, devices=(PHONE,)), (CODE, CODE, CODE, ALONE)),
    "enrolled, with a token": (
        Enrolment(1, known=True, devices=(PHONE, TOKEN), requirement=OVER),
        (CODE, CODE, CODE, ALONE),
    ),
    "in the enrolment period": (
        Enrolment(1, known=True, requirement=RUNNING),
        (IN, ALONE, ALONE, ALONE),
    ),
    "never required": (Enrolment(1, known=True), (NOT, NOT, ALONE, ALONE)),
    "required later": (Enrolment(1, known=True, requirement=AHEAD), (NOT, NOT, ALONE, ALONE)),
    "expired": (
        Enrolment(1, known=True, requirement=OVER),
        (EXPIRED, EXPIRED, EXPIRED, ALONE),
    ),
    "second factor suspended": (
        Enrolment(1, known=True, devices=(PHONE,), requirement=Requirement(factor_suspended=True)),
        (OFF_FACTOR, OFF_FACTOR, OFF_FACTOR, ALONE),
    ),
    "second factor suspended, no device": (
        Enrolment(1, known=True, requirement=Requirement(factor_suspended=True)),
        (OFF_FACTOR, OFF_FACTOR, OFF_FACTOR, ALONE),
    ),
    "exempt, never required": (
        Enrolment(1, known=True, requirement=Requirement(exempt_until=LATER)),
        (ALONE, ALONE, ALONE, ALONE),
    ),
    "exempt, in the period": (
        Enrolment(1, known=True, requirement=Requirement(EARLIER, LATER, LATER)),
        (ALONE, ALONE, ALONE, ALONE),
    ),
    "exempt, expired": (
        Enrolment(1, known=True, requirement=Requirement(EARLIER, NOW, LATER)),
        (ALONE, ALONE, ALONE, ALONE),
    ),
    "exemption just ended": (
        Enrolment(1, known=True, requirement=Requirement(EARLIER, NOW, NOW)),
        (EXPIRED, EXPIRED, EXPIRED, ALONE),
    ),
    "exempt, but enrolled": (
        Enrolment(1, known=True, devices=(PHONE,), requirement=Requirement(exempt_until=LATER)),
        (CODE, CODE, CODE, ALONE),
    ),
    "exempt, but the second factor suspended": (
        Enrolment(
            1,
            known=True,
            devices=(PHONE,),
            requirement=Requirement(exempt_until=LATER, factor_suspended=True),
        ),
        (OFF_FACTOR, OFF_FACTOR, OFF_FACTOR, ALONE),
    ),
    "suspended": (
        Enrolment(1, known=True, suspended=True, devices=(PHONE,)),
        (SUSPENDED, SUSPENDED, SUSPENDED, SUSPENDED),
    ),
    "suspended and exempt": (
        Enrolment(1, known=True, suspended=True, requirement=Requirement(exempt_until=LATER)),
        (SUSPENDED, SUSPENDED, SUSPENDED, SUSPENDED),
    ),
    "unknown": (Enrolment(), (UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN)),
    "unknown, whatever is cached": (
        Enrolment(devices=(PHONE,), requirement=Requirement(exempt_until=LATER)),
        (UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN),
    ),
}

CELLS = [
    pytest.param(enrolment, mode, expected, id=f"{name}-{mode}")
    for name, (enrolment, row) in TABLE.items()
    for mode, expected in zip(Mode, row, strict=True)
]


def word(answer: Need | RejectReason) -> str:
    if isinstance(answer, Need):
        return CODE if answer is Need.CODE else ALONE
    return answer.value


@pytest.mark.parametrize(("enrolment", "mode", "expected"), CELLS)
def test_every_cell_of_the_table_of_modes(enrolment: Enrolment, mode: Mode, expected: str) -> None:
    assert word(needed(enrolment, mode, NOW)) == expected


def test_the_table_has_every_state_but_the_one_that_counts_as_nothing() -> None:
    """PENDING_ACTIVATION can't be met by a login: an Enrolment holds confirmed devices alone."""
    assert set(ACCESS) == set(State) - {State.PENDING_ACTIVATION}
    for row in ACCESS.values():
        assert set(row) == set(Mode)


def test_a_laxer_mode_never_asks_for_more() -> None:
    """From `always` to `off`: what a user may do in one mode they may do in the next."""
    for enrolment, _ in TABLE.values():
        answers = [needed(enrolment, mode, NOW) for mode in Mode]
        ease = [{CODE: 1, ALONE: 2}.get(word(answer), 0) for answer in answers]
        assert ease == sorted(ease)


# ---- Devices -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("devices", "lengths"),
    [((), set()), ((PHONE,), {6}), ((PHONE, PHONE), {6}), ((PHONE, TOKEN), {6, 8})],
)
def test_a_code_is_as_long_as_the_users_devices_make_it(
    devices: tuple[Device, ...], lengths: set[int]
) -> None:
    """A06: nobody's password is cut by a length that none of their devices has."""
    assert Enrolment(known=True, devices=devices).code_lengths == lengths


# ---- The portal ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("enrolment", "expected"),
    [
        (Enrolment(known=True), Need.PASSWORD),
        (Enrolment(known=True, requirement=RUNNING), Need.PASSWORD),
        (Enrolment(known=True, requirement=OVER), Need.PASSWORD),
        (Enrolment(known=True, requirement=AHEAD), Need.PASSWORD),
        (Enrolment(known=True, devices=(PHONE,)), Need.CODE),
        (Enrolment(known=True, devices=(PHONE,), requirement=OVER), Need.CODE),
        (
            Enrolment(known=True, devices=(PHONE,), requirement=Requirement(exempt_until=LATER)),
            Need.CODE,
        ),
        (
            Enrolment(known=True, requirement=Requirement(factor_suspended=True)),
            RejectReason.FACTOR_SUSPENDED,
        ),
        (Enrolment(known=True, suspended=True), RejectReason.USER_SUSPENDED),
        (Enrolment(), RejectReason.UNKNOWN_USER),
    ],
)
def test_the_portal_opens_to_who_has_still_to_enrol(
    enrolment: Enrolment, expected: Need | RejectReason
) -> None:
    """Also after the period: it is the way out. Whoever has a device needs it, exempt or not."""
    assert needed(enrolment, None, NOW) is expected
    assert set(PORTAL) == set(ACCESS)

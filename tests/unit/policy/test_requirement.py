"""What admins ask of a user: each change alone, and any sequence of them beside a plain model."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from radius_mfa.policy import requirement as req
from radius_mfa.policy.access import Enrolment, Mode, Need, State, needed, state
from radius_mfa.policy.decision import RejectReason
from radius_mfa.policy.requirement import DAY_SECONDS, Requirement
from radius_mfa.policy.totp import Device

NOW = 1_000_000.0
DAY = float(DAY_SECONDS)
PHONE = Device("d-phone", "phone", b"12345678901234567890")


def state_of(known: Requirement, now: float = NOW, *, confirmed: bool = False) -> State:
    return state(known, now, confirmed=confirmed)


def enrolment(devices: tuple[Device, ...], known: Requirement) -> Enrolment:
    return Enrolment(1, known=True, devices=devices, requirement=known)


@pytest.mark.parametrize(
    ("days", "states"),
    [
        (7, {0: State.IN_ENROLLMENT, 7 * DAY - 1: State.IN_ENROLLMENT, 7 * DAY: "expired"}),
        (1, {0: State.IN_ENROLLMENT, DAY: "expired"}),
        (0, {0: "expired"}),
    ],
)
def test_required_now(days: int, states: dict[float, object]) -> None:
    known = req.required(Requirement(), NOW, days)
    for after, expected in states.items():
        found = State.ENROLLMENT_EXPIRED if expected == "expired" else expected
        assert state_of(known, NOW + after) is found


def test_required_from_a_date_on() -> None:
    """And a date in the past is now: nobody's period is over before they hear of it."""
    known = req.required(Requirement(), NOW, 7, NOW + DAY)
    assert state_of(known) is State.PRE_ENROLLMENT
    assert state_of(known, NOW + DAY) is State.IN_ENROLLMENT
    assert state_of(known, NOW + 8 * DAY) is State.ENROLLMENT_EXPIRED
    assert req.required(Requirement(), NOW, 7, NOW - 30 * DAY) == req.required(
        Requirement(), NOW, 7
    )


@pytest.mark.parametrize("known", [Requirement(NOW, NOW + DAY), Requirement(NOW - DAY, NOW)])
def test_who_is_required_keeps_their_period(known: Requirement) -> None:
    """Requiring everyone again does not give anyone another week."""
    assert req.required(known, NOW, 30) is known


def test_withdrawn() -> None:
    known = Requirement(NOW, NOW + DAY, NOW + 2 * DAY, exempt_reason="new phone ordered")
    assert req.withdrawn(known) == Requirement(
        exempt_until=NOW + 2 * DAY, exempt_reason="new phone ordered"
    )
    assert state_of(req.withdrawn(known)) is State.NOT_ENROLLED
    assert req.withdrawn(Requirement()) == Requirement()


@pytest.mark.parametrize(
    ("enrol_by", "expected"),
    [(NOW + DAY, NOW + 4 * DAY), (NOW, NOW + 3 * DAY), (NOW - 90 * DAY, NOW + 3 * DAY)],
)
def test_extended_from_the_end_or_from_now(enrol_by: float, expected: float) -> None:
    known = req.extended(Requirement(NOW - 99 * DAY, enrol_by), NOW, 3)
    assert known.enrol_by == expected
    assert state_of(known) is State.IN_ENROLLMENT


def test_nothing_to_extend() -> None:
    assert req.extended(Requirement(), NOW, 3) == Requirement()


def test_an_exemption_ends_by_itself_and_can_be_ended() -> None:
    known = req.exempted(Requirement(), NOW + DAY, "abroad")
    assert known.exempt(NOW)
    assert known.exempt(NOW + DAY - 1)
    assert not known.exempt(NOW + DAY)
    assert req.exempted(known, NOW + 5, "x").exempt_until == NOW + 5
    assert req.exemption_ended(known) == Requirement()


def test_a_reset_begins_anew() -> None:
    """From the start of a running, an ended or a later period, and out of a suspension."""
    for known in (
        Requirement(),
        Requirement(NOW - 9 * DAY, NOW - DAY, factor_suspended=True),
        Requirement(NOW + DAY, NOW + 2 * DAY),
    ):
        assert req.begun_anew(known, NOW, 7) == Requirement(NOW, NOW + 7 * DAY)


def test_a_suspension_of_the_factor_opens_no_door() -> None:
    """Whatever else is on record, in any mode: at most what was let in before."""
    for known in (Requirement(), Requirement(NOW, NOW + DAY), Requirement(exempt_until=NOW + DAY)):
        for devices in ((), (PHONE,)):
            for mode in Mode:
                before = needed(enrolment(devices, known), mode, NOW)
                less = req.factor_suspended(known, suspended=True)
                after = needed(enrolment(devices, less), mode, NOW)
                assert after in {before, RejectReason.FACTOR_SUSPENDED}


# ---- Any sequence of changes ---------------------------------------------------------------------


@dataclass
class Plain:
    """What the documentation says in words, in the dullest form."""

    period: tuple[float, float] | None = None
    exempt_until: float = 0.0
    off: bool = False
    devices: int = 0
    waiting: int = 0
    notes: list[str] = field(default_factory=list)

    def state(self, now: float) -> str:
        if self.off:
            return "DISABLED"
        if self.devices:
            return "ENROLLED"
        if self.waiting:
            return "PENDING_ACTIVATION"
        if self.period is None:
            return "NOT_ENROLLED"
        begins, ends = self.period
        if now < begins:
            return "PRE_ENROLLMENT"
        return "IN_ENROLLMENT" if now < ends else "ENROLLMENT_EXPIRED"


days = st.integers(0, 9)


class Changes(RuleBasedStateMachine):
    """One user under admins' changes while time goes by."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.known = Requirement()
        self.plain = Plain()

    @rule(seconds=st.sampled_from([1.0, DAY / 2, DAY, 3 * DAY]))
    def time_goes_by(self, seconds: float) -> None:
        self.now += seconds

    @rule(days=days, ahead=st.sampled_from([None, -DAY, DAY]))
    def require(self, days: int, ahead: float | None) -> None:
        starts = None if ahead is None else self.now + ahead
        self.known = req.required(self.known, self.now, days, starts)
        if self.plain.period is None:
            begins = self.now + max(0.0, ahead or 0.0)
            self.plain.period = (begins, begins + days * DAY)

    @rule()
    def withdraw(self) -> None:
        self.known = req.withdrawn(self.known)
        self.plain.period = None

    @rule(days=days)
    def extend(self, days: int) -> None:
        self.known = req.extended(self.known, self.now, days)
        if self.plain.period is not None:
            begins, ends = self.plain.period
            self.plain.period = (begins, max(ends, self.now) + days * DAY)

    @rule(days=days)
    def exempt(self, days: int) -> None:
        self.known = req.exempted(self.known, self.now + days * DAY, "reason")
        self.plain.exempt_until = self.now + days * DAY

    @rule()
    def end_exemption(self) -> None:
        self.known = req.exemption_ended(self.known)
        self.plain.exempt_until = 0.0

    @rule(suspended=st.booleans())
    def suspend(self, *, suspended: bool) -> None:
        self.known = req.factor_suspended(self.known, suspended=suspended)
        self.plain.off = suspended

    @rule()
    def show_seed(self) -> None:
        self.plain.waiting += 1

    @rule()
    def confirm(self) -> None:
        if self.plain.waiting:
            self.plain.waiting -= 1
            self.plain.devices += 1

    @rule()
    def remove(self) -> None:
        self.plain.devices = max(0, self.plain.devices - 1)

    @rule(days=days)
    def reset(self, days: int) -> None:
        self.known = req.begun_anew(self.known, self.now, days)
        self.plain.period = (self.now, self.now + days * DAY)
        self.plain.off, self.plain.devices, self.plain.waiting = False, 0, 0

    @invariant()
    def the_state_is_the_plain_one(self) -> None:
        facts: dict[str, Any] = {
            "confirmed": self.plain.devices > 0,
            "pending": self.plain.waiting > 0,
        }
        assert state(self.known, self.now, **facts) == self.plain.state(self.now)
        assert self.known.exempt(self.now) == (self.now < self.plain.exempt_until)

    @invariant()
    def no_code_no_entry_but_where_an_admin_said_so(self) -> None:
        """Mode `always` lets the password alone in for an exemption that runs, and nothing else."""
        devices = (PHONE,) * self.plain.devices
        answer = needed(enrolment(devices, self.known), Mode.ALWAYS, self.now)
        if answer is Need.PASSWORD:
            assert self.now < self.plain.exempt_until
            assert not self.plain.devices
            assert not self.plain.off


Changes.TestCase.settings = settings(max_examples=150, stateful_step_count=25, deadline=None)
TestChanges = Changes.TestCase

"""The order of the steps of a login: what is asked, what is consumed, what is counted."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from radius_mfa.authentication.login import Attempt, Login, Outcome, Trace, lock_hint
from radius_mfa.errors import BackendUnavailable
from radius_mfa.policy.access import Enrolment, Mode
from radius_mfa.policy.credentials import CodePosition, SplitPolicy
from radius_mfa.policy.decision import (
    Accept,
    Challenge,
    Decision,
    Factor,
    Reject,
    RejectReason,
)
from radius_mfa.policy.lockout import UNTIL_UNLOCKED, LockoutPolicy
from radius_mfa.policy.requirement import NOTHING_REQUIRED, Requirement
from radius_mfa.policy.rules import ClientPolicy
from radius_mfa.policy.totp import Device, Window
from radius_mfa.stores.interfaces import Identity, Loaded, PasswordVerdict, Settled
from radius_mfa.stores.memory import (
    MemoryAttempts,
    MemoryDirectory,
    MemoryEnrolments,
    MemoryRecoveryCodes,
)
from tests.support import totp

NOW = 1_700_000_000.0
PASSWORD = "correct horse"
PHONE = Device("d-phone", "phone", base64.b32decode(totp.SEED))
OTHER_SEED = "KRSXG5CTMVRXEZLUKRSXG5CTMVRXEZLU"
TOKEN = Device("d-token", "token", base64.b32decode(OTHER_SEED), digits=8, time_step_seconds=60)

ACCEPT = Accept("totp")


def wrong() -> str:
    return totp.wrong_code(at=NOW)


def code(offset: int = 0, at: float = NOW) -> str:
    return totp.code(offset=offset, at=at)


@dataclass
class World:
    """A login over memory stores; every attempt is a packet of its own unless it says not."""

    devices: tuple[Device, ...] = (PHONE,)
    suspended: bool = False
    lockout: LockoutPolicy = LockoutPolicy()
    counted: frozenset[Factor] = frozenset(Factor)
    window: Window = Window()
    requirement: Requirement = NOTHING_REQUIRED
    codes: tuple[str, ...] = ()
    policies: dict[str, ClientPolicy] = field(default_factory=dict)
    packets: int = 0
    outcomes: list[Outcome] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.attempts: Any = MemoryAttempts(self.lockout)
        known = Enrolment(
            1,
            known=True,
            suspended=self.suspended,
            devices=self.devices,
            recovery_codes=len(self.codes),
            requirement=self.requirement,
        )
        self.enrolments = MemoryEnrolments({"alice": known})
        self.directory: Any = MemoryDirectory({"alice": PASSWORD}, ("corp.example", "corp"))
        self.recovery_codes: Any = MemoryRecoveryCodes({"alice": list(self.codes)})
        self.trace = Trace()

    async def login(self, *typed: Any, **more: Any) -> Accept | RejectReason:
        """Return Accept, or the reason of the reject."""
        decision = await self.decided(*typed, **more)
        assert not isinstance(decision, Challenge)
        return decision.reason if isinstance(decision, Reject) else decision

    async def decided(
        self, typed: str | bytes | None, user: str | None = "alice", now: float = NOW, **more: Any
    ) -> Decision:
        """Return the decision on an attempt."""
        self.packets += 1
        more = {"client": "asa", "packet": b"packet %d" % self.packets} | more
        octets = typed.encode() if isinstance(typed, str) else typed
        login = Login(
            self.attempts,
            self.enrolments,
            self.directory,
            self.recovery_codes,
            digest_key=b"k" * 32,
            window=self.window,
            counted_factors=self.counted,
            policies=self.policies,
        )
        outcome = await login.decide(Attempt(user_name=user, typed=octets, **more), now, self.trace)
        self.outcomes.append(outcome)
        return outcome.decision

    @property
    def hint(self) -> str:
        decision = self.outcomes[-1].decision
        assert isinstance(decision, Reject)
        return decision.hint


@pytest.mark.parametrize(
    ("typed", "reason"),
    [
        (None, RejectReason.NO_PASSWORD),
        ("", RejectReason.EMPTY_PASSWORD),
        (PASSWORD, RejectReason.WRONG_CODE),
        (PASSWORD + wrong(), RejectReason.WRONG_CODE),
        (PASSWORD + code(-2), RejectReason.WRONG_CODE),
        (PASSWORD + code(2), RejectReason.WRONG_CODE),
        (PASSWORD + code()[:5], RejectReason.WRONG_CODE),
        (code() + PASSWORD, RejectReason.WRONG_CODE),
        (code(), RejectReason.EMPTY_PASSWORD),
        (b"\xff\xfe" + code().encode(), RejectReason.UNDECODABLE_PASSWORD),
    ],
)
async def test_refused_before_the_directory_is_asked(
    typed: str | bytes | None, reason: RejectReason
) -> None:
    """Rule 3, A05, O03: no bind without a matching code and a password beside it."""
    world = World()
    assert await world.login(typed) is reason
    assert world.directory.asked == []


async def test_wrong_password_is_refused_and_the_code_still_works() -> None:
    """Rule 2, O15: a wrong password consumes nothing, and costs one bind."""
    world = World()
    assert await world.login("wrong" + code()) is RejectReason.WRONG_PASSWORD
    assert len(world.directory.asked) == 1
    assert await world.login(PASSWORD + code()) == ACCEPT


async def test_a_code_works_once() -> None:
    """O04: and a code of an earlier step than the last accepted is as good as used."""
    world = World()
    assert await world.login(PASSWORD + code()) == ACCEPT
    assert await world.login(PASSWORD + code()) is RejectReason.CODE_REPLAYED
    assert await world.login(PASSWORD + code(-1)) is RejectReason.CODE_REPLAYED
    assert await world.login(PASSWORD + code(1)) == ACCEPT
    assert [user for user, _ in world.directory.asked] == ["alice"] * 2, "no bind for a used code"


async def test_a_clock_that_steps_back_re_admits_nothing() -> None:
    """O08."""
    world = World()
    assert await world.login(PASSWORD + code()) == ACCEPT
    earlier = NOW - 30
    assert await world.login(PASSWORD + code(), now=earlier) is RejectReason.CODE_REPLAYED
    assert await world.login(PASSWORD + code(-1), now=earlier) is RejectReason.CODE_REPLAYED


async def test_the_code_that_confirmed_a_device_is_used() -> None:
    """Rule 1 holds from the first code on."""
    step = PHONE.time_step(NOW)
    device = Device(PHONE.device_id, PHONE.name, PHONE.seed, confirmed_step=step)
    world = World(devices=(device,))
    assert await world.login(PASSWORD + code()) is RejectReason.CODE_REPLAYED
    assert await world.login(PASSWORD + code(1)) == ACCEPT


async def test_each_device_has_its_own_last_step() -> None:
    """O06; six and eight digits side by side."""
    world = World(devices=(PHONE, TOKEN))
    eight = totp.code(OTHER_SEED, at=NOW, digits=8, step=60)
    assert await world.login(PASSWORD + code()) == ACCEPT
    assert await world.login(PASSWORD + eight) == ACCEPT
    assert await world.login(PASSWORD + eight) is RejectReason.CODE_REPLAYED
    assert await world.login(PASSWORD + code()) is RejectReason.CODE_REPLAYED


async def test_the_newest_of_two_steps_with_one_code_is_consumed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Or else the same digits would work twice."""
    world = World()

    def same(_device: Device, steps: Sequence[int]) -> list[bytes]:
        return [b"123456" for _ in steps]

    monkeypatch.setattr("radius_mfa.policy.totp.codes", same)
    assert await world.login(PASSWORD + "123456") == ACCEPT
    assert await world.login(PASSWORD + "123456") is RejectReason.CODE_REPLAYED


@pytest.mark.parametrize(
    ("world", "user", "reason"),
    [
        (World(devices=()), "alice", RejectReason.NOT_ENROLLED),
        (World(suspended=True), "alice", RejectReason.USER_SUSPENDED),
        (World(), "mallory", RejectReason.UNKNOWN_USER),
        (World(), "", RejectReason.INVALID_USER_NAME),
        (World(), None, RejectReason.INVALID_USER_NAME),
        (World(), "alice\0", RejectReason.INVALID_USER_NAME),
        (World(), "a" * 254, RejectReason.INVALID_USER_NAME),
    ],
)
async def test_who_can_not_log_in_at_all(world: World, user: str, reason: RejectReason) -> None:
    """Nothing typed matters, no directory is asked, and nothing is counted."""
    for _ in range(30):
        assert await world.login(PASSWORD + code(), user=user) is reason
    assert world.directory.asked == []


@pytest.mark.parametrize("method", ["chap", "eap", "none"])
async def test_other_methods_are_refused(method: str) -> None:
    """A11, P16: a one-time code can only come beside a clear password."""
    world = World()
    expected = RejectReason.UNSUPPORTED_METHOD
    assert await world.login(PASSWORD + code(), method=method) is expected
    assert await world.login(None, method=method) is expected


async def test_a_user_the_directory_has_lost_is_refused() -> None:
    world = World()
    world.directory = MemoryDirectory({})
    assert await world.login(PASSWORD + code()) is RejectReason.UNKNOWN_USER


@pytest.mark.parametrize("name", ["ALICE", "Alice@corp.example", "CORP\\alice", "alice"])
async def test_one_user_whatever_form_was_typed(name: str) -> None:
    """A07: seed, replay and lockout have one key."""
    world = World()
    assert await world.login(PASSWORD + code(), user=name) == ACCEPT
    assert await world.login(PASSWORD + code()) is RejectReason.CODE_REPLAYED


async def test_locked_after_too_many_failures_even_with_the_right_credentials() -> None:
    """O11, O13: the same reject, no bind, no code consumed; then it opens by itself."""
    world = World(lockout=LockoutPolicy(failures_by_source=2, lock_ms=60_000))
    bad = wrong()
    await world.login("x" + bad)
    assert world.outcomes[-1].locked_until == 0
    await world.login("y" + bad)
    assert world.outcomes[-1].locked_until == (NOW + 60) * 1000, "this one closed the lock"
    assert await world.login(PASSWORD + code()) is RejectReason.ACCOUNT_LOCKED
    assert "radius-mfa user unlock alice" in world.hint
    assert "UTC" in world.hint
    assert world.outcomes[-1].locked_until == 0
    assert world.directory.asked == []
    later = NOW + 61
    assert await world.login(PASSWORD + code(at=later), now=later) == ACCEPT


async def test_another_source_is_not_locked() -> None:
    """O14: an attacker elsewhere does not lock the user out."""
    world = World(lockout=LockoutPolicy(failures_by_source=2))
    for n in range(5):
        await world.login(f"x{n}" + wrong(), calling_station_id="192.0.2.66:1")
    right = PASSWORD + code()
    locked = RejectReason.ACCOUNT_LOCKED
    assert await world.login(right, calling_station_id="192.0.2.66[2]") is locked
    assert await world.login(right, calling_station_id="192.0.2.1") == ACCEPT


async def test_a_lock_that_closes_during_the_login_wins() -> None:
    """O13: a right guess among many at once does not slip through."""
    world = World(lockout=LockoutPolicy(failures_by_source=1))

    class Slow(MemoryDirectory):
        async def verify(
            self, user: Identity, password: str, enrolment: Enrolment
        ) -> PasswordVerdict:
            world.directory = MemoryDirectory({})
            await world.login("guess" + wrong())
            return await super().verify(user, password, enrolment)

    world.directory = Slow({"alice": PASSWORD})
    assert await world.login(PASSWORD + code()) is RejectReason.ACCOUNT_LOCKED
    assert "locked until" in world.hint


@pytest.mark.parametrize(
    ("counted", "typed", "locks"),
    [
        (Factor.PASSWORD, "wrong{code}", True),
        (Factor.PASSWORD, PASSWORD + "{wrong}", False),
        (Factor.CODE, "wrong{code}", False),
        (Factor.CODE, PASSWORD + "{wrong}", True),
    ],
)
async def test_the_factor_that_counts_is_a_setting(
    counted: Factor, typed: str, *, locks: bool
) -> None:
    world = World(lockout=LockoutPolicy(failures_by_source=1), counted=frozenset({counted}))
    await world.login(typed.format(code=code(), wrong=wrong()))
    expected = RejectReason.ACCOUNT_LOCKED if locks else ACCEPT
    assert await world.login(PASSWORD + code()) == expected


async def test_the_same_wrong_value_is_counted_once_in_a_minute() -> None:
    """A VPN client that repeats itself does not lock its user out."""
    world = World(lockout=LockoutPolicy(failures_by_source=2))
    typed = "x" + wrong()
    for _ in range(10):
        assert await world.login(typed) is RejectReason.WRONG_CODE
    await world.login("y" + wrong())
    assert await world.login(typed) is RejectReason.ACCOUNT_LOCKED


async def test_a_retransmission_elsewhere_meets_its_own_verdict() -> None:
    """D06, D09: the same packet, or the same login by its Acct-Session-Id, once in the cluster."""
    world = World()
    typed = PASSWORD + code()
    assert await world.login(typed, packet=b"p", session_id=b"s1") == ACCEPT
    assert await world.login(typed, packet=b"p", session_id=None) == ACCEPT
    assert await world.login(typed, session_id=b"s1") == ACCEPT
    assert world.outcomes[-1].shared
    assert len(world.directory.asked) == 1
    replayed = RejectReason.CODE_REPLAYED
    assert await world.login(typed, session_id=b"s2") is replayed
    assert await world.login(typed, session_id=b"s1", client="other") is replayed
    assert await world.login(typed) is replayed
    assert await world.login("x" + typed, session_id=b"s1") is RejectReason.CODE_REPLAYED
    assert await world.login(typed, session_id=b"s1", now=NOW + 61) is RejectReason.WRONG_CODE


async def test_a_shared_verdict_costs_no_second_bind() -> None:
    """Rule 3: a wrong password sent again as the same login is not tried again."""
    world = World()
    for _ in range(3):
        assert await world.login("wrong" + code(), session_id=b"s") is RejectReason.WRONG_PASSWORD
    assert len(world.directory.asked) == 1


async def test_failover_grace_shares_a_verdict_for_its_seconds_only() -> None:
    """D09: the same client, user, station and value; nobody else."""
    world = World()
    grace: dict[str, Any] = {"failover_grace_seconds": 5, "calling_station_id": "192.0.2.1"}
    typed = PASSWORD + code()
    assert await world.login(typed, **grace) == ACCEPT
    assert await world.login(typed, now=NOW + 4, **grace) == ACCEPT
    replayed = RejectReason.CODE_REPLAYED
    elsewhere = grace | {"calling_station_id": "192.0.2.2"}
    assert await world.login(typed, now=NOW + 4, **elsewhere) is replayed
    assert await world.login(typed, now=NOW + 5, **grace) is replayed


async def test_a_verdict_is_void_once_the_user_was_changed() -> None:
    """A cached authentication never outlives a suspension or a removed device."""
    world = World()
    typed = PASSWORD + code()
    assert await world.login(typed, session_id=b"s") == ACCEPT
    await world.attempts.invalidate("alice")
    assert await world.login(typed, session_id=b"s") is RejectReason.CODE_REPLAYED


async def test_the_warm_path_asks_the_database_nothing() -> None:
    world = World()
    for offset in (-1, 0, 1):
        assert await world.login(PASSWORD + code(offset)) == ACCEPT
    assert world.enrolments.fetches == 1


class _Forgetful(MemoryAttempts):
    """A Redis that lost its memory at *moment*."""

    moment = NOW

    async def load(self, *args: Any) -> Loaded:
        loaded = await super().load(*args)
        return Loaded(
            loaded.epoch, loaded.generation, loaded.enrolment, forgotten_until=self.moment
        )


async def test_codes_from_before_redis_lost_its_memory_are_refused() -> None:
    """Rule 10: also those that may have been used ahead of their time; not counted."""
    world = World(lockout=LockoutPolicy(failures_by_source=1))
    world.attempts = _Forgetful(world.lockout)
    predates = RejectReason.CODE_PREDATES_REDIS
    for offset in (-1, 0, 1):
        assert await world.login(PASSWORD + code(offset)) is predates
    assert world.directory.asked == []
    later = NOW + 60
    assert await world.login(PASSWORD + code(at=later), now=later) == ACCEPT


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        (PASSWORD, "no code of 6 digits where this client expects it"),
        (PASSWORD + code(-4), "the phone's clock seems about 120 s slow"),
        (PASSWORD + code(4), "the phone's clock seems about 120 s fast"),
        (PASSWORD + wrong(), ""),
    ],
)
async def test_the_hint_of_a_wrong_code(typed: str, hint: str) -> None:
    world = World()
    await world.login(typed)
    assert hint in world.hint


async def test_the_client_says_how_users_type() -> None:
    """Code first, a separator, a Latin-1 password."""
    split = SplitPolicy(CodePosition.START, ",", ("utf-8", "latin-1"))
    world = World()
    world.directory = MemoryDirectory({"alice": "grün"})
    typed = b"%b,%b" % (code().encode(), "grün".encode("latin-1"))
    assert await world.login(typed, split=split) == ACCEPT


# Recovery codes

CODES = ("abcdefghjk", "mnpqrstuvw")
RECOVERED = Accept("recovery_code")


@pytest.mark.parametrize("typed", ["abcdefghjk", "abcde-fghjk", "ABCDE-FGHJK", "AbCdEfGhJk"])
async def test_a_recovery_code_stands_in_for_a_code_once(typed: str) -> None:
    """O17: with the hyphen or without, in capitals or not; the others stay."""
    world = World(codes=CODES)
    assert await world.login(PASSWORD + typed) == RECOVERED
    assert await world.login(PASSWORD + typed) is RejectReason.CODE_REPLAYED
    assert len(world.directory.asked) == 1, "no bind for a used code"
    assert await world.login(PASSWORD + CODES[1]) == RECOVERED
    assert await world.login(PASSWORD + code()) == ACCEPT, "the device works on"


@pytest.mark.parametrize(
    ("typed", "reason"),
    [
        (PASSWORD + "abcdefghjm", RejectReason.WRONG_CODE),
        (PASSWORD + "abcd-efghjk", RejectReason.WRONG_CODE),
        (PASSWORD + "abcdefghj", RejectReason.WRONG_CODE),
        ("abcdefghjk" + PASSWORD, RejectReason.WRONG_CODE),
        ("abcdefghjk", RejectReason.EMPTY_PASSWORD),
        ("wrong abcdefghjk", RejectReason.WRONG_PASSWORD),
    ],
)
async def test_a_recovery_code_is_not_used_up_by_a_reject(typed: str, reason: RejectReason) -> None:
    """Rule 2: and each of these is a failure that counts."""
    world = World(codes=CODES, lockout=LockoutPolicy(failures_by_source=2))
    assert await world.login(typed) is reason
    assert world.recovery_codes.used == {}
    assert await world.login(PASSWORD + CODES[0]) == RECOVERED


async def test_a_recovery_code_is_given_back_where_a_lock_closed_meanwhile() -> None:
    """Rule 2, O13."""
    world = World(codes=CODES, lockout=LockoutPolicy(failures_by_source=1))

    class Slow(MemoryDirectory):
        async def verify(
            self, user: Identity, password: str, enrolment: Enrolment
        ) -> PasswordVerdict:
            await world.login("guess" + wrong())
            return await super().verify(user, password, enrolment)

    world.directory = Slow({"alice": PASSWORD})
    assert await world.login(PASSWORD + CODES[0]) is RejectReason.ACCOUNT_LOCKED
    assert world.recovery_codes.used == {}


async def test_a_recovery_code_whose_reply_was_lost_lets_its_own_login_in_again() -> None:
    """Redis went away between the two steps: the very packet, sent again, is no second login."""
    world = World(codes=CODES)
    intact = world.attempts

    class Away(MemoryAttempts):
        async def settle(self, *_args: Any) -> Settled:
            raise BackendUnavailable("redis", "down")

    world.attempts = Away()
    with pytest.raises(BackendUnavailable):
        await world.login(PASSWORD + CODES[0], packet=b"p")
    world.attempts = intact
    assert await world.login(PASSWORD + CODES[0], packet=b"q") is RejectReason.CODE_REPLAYED
    assert await world.login(PASSWORD + CODES[0], packet=b"p") == RECOVERED


async def test_a_recovery_code_goes_where_the_client_has_its_codes() -> None:
    split = SplitPolicy(CodePosition.START, ",")
    world = World(codes=CODES)
    assert await world.login(f"ABCDE-FGHJK,{PASSWORD}", split=split) == RECOVERED
    assert await world.login(f"{CODES[1]}{PASSWORD}", split=split) is RejectReason.WRONG_CODE


@pytest.mark.parametrize(
    ("world", "typed"),
    [
        pytest.param(World(), PASSWORD + CODES[0], id="user-without-any"),
        pytest.param(World(codes=CODES), PASSWORD + wrong(), id="field-without-one"),
        pytest.param(World(codes=CODES), PASSWORD + code(), id="right-code"),
    ],
)
async def test_recovery_codes_are_looked_up_only_where_one_may_have_been_typed(
    world: World, typed: str
) -> None:
    """The way of nearly every login asks the database nothing."""
    world.recovery_codes = None
    await world.login(typed)


async def test_two_logins_with_one_recovery_code_at_once() -> None:
    """Rule 1: the store lets one of them have it, whatever both have seen."""
    world = World(codes=CODES)

    class Slow(MemoryDirectory):
        async def verify(
            self, user: Identity, password: str, enrolment: Enrolment
        ) -> PasswordVerdict:
            world.directory = MemoryDirectory({"alice": PASSWORD})
            assert await world.login(PASSWORD + CODES[0]) == RECOVERED
            return await super().verify(user, password, enrolment)

    world.directory = Slow({"alice": PASSWORD})
    assert await world.login(PASSWORD + CODES[0]) is RejectReason.CODE_REPLAYED


# Modes: the table itself is tested in tests/unit/policy/test_access.py

ALONE = Accept("password")
RUNNING = Requirement(NOW - 1, NOW + 1)


def newcomer(**facts: Any) -> World:
    return World(devices=(), requirement=RUNNING, **facts)


async def test_the_password_alone_is_the_whole_field() -> None:
    """A password that ends in digits is not cut, and no code is consumed."""
    world = World(devices=(), requirement=Requirement(exempt_until=NOW + 1))
    world.directory = MemoryDirectory({"alice": "horse 123456"})
    assert await world.login("horse 123456") == ALONE
    assert await world.login("horse ") is RejectReason.WRONG_PASSWORD
    assert "whole field was taken as the password" in world.hint


async def test_off_asks_an_enrolled_user_for_no_code_and_consumes_none() -> None:
    world = World()
    assert await world.login(PASSWORD, mode=Mode.OFF) == ALONE
    assert await world.login(PASSWORD + code(), mode=Mode.OFF) is RejectReason.WRONG_PASSWORD
    assert await world.login(PASSWORD + code()) == ACCEPT, "the code is as good as new"


@pytest.mark.parametrize("mode", [Mode.ALWAYS, Mode.REQUIRED, Mode.ENROLLED])
@pytest.mark.parametrize("requirement", [RUNNING, Requirement(exempt_until=NOW + 1)])
async def test_the_password_alone_never_lets_an_enrolled_user_in(
    mode: Mode, requirement: Requirement
) -> None:
    world = World(requirement=requirement)
    assert await world.login(PASSWORD, mode=mode) is RejectReason.WRONG_CODE
    assert world.directory.asked == []
    assert await world.login(PASSWORD + code(), mode=mode) == ACCEPT


async def test_a_mode_that_refuses_asks_no_directory_and_says_its_name() -> None:
    world = newcomer()
    assert await world.login(PASSWORD) is RejectReason.IN_ENROLLMENT
    assert 'mfa = "always"' in world.hint
    assert world.directory.asked == []
    assert await world.login(PASSWORD, mode=Mode.REQUIRED) == ALONE


async def test_the_period_ends_without_anybody_touching_the_record() -> None:
    """The enrolment is cached by then: what it comes to depends on the time of each login."""
    world = newcomer()
    assert await world.login(PASSWORD, mode=Mode.REQUIRED) == ALONE
    expired = RejectReason.ENROLLMENT_EXPIRED
    assert await world.login(PASSWORD, mode=Mode.REQUIRED, now=NOW + 1) is expired
    assert "radius-mfa user extend" in world.hint
    assert world.enrolments.fetches == 1


async def test_wrong_passwords_alone_lock_and_a_right_one_starts_again() -> None:
    """O11, O12: as with a code."""
    world = newcomer(lockout=LockoutPolicy(failures_by_source=2))
    here: dict[str, Any] = {"mode": Mode.REQUIRED}
    assert await world.login("wrong", **here) is RejectReason.WRONG_PASSWORD
    assert await world.login(PASSWORD, **here) == ALONE
    assert await world.login("wrong too", **here) is RejectReason.WRONG_PASSWORD
    assert await world.login("wrong three", **here) is RejectReason.WRONG_PASSWORD
    assert await world.login(PASSWORD, **here) is RejectReason.ACCOUNT_LOCKED


@pytest.mark.parametrize("mode", Mode)
async def test_a_lock_a_suspension_and_an_unknown_name_hold_in_every_mode(mode: Mode) -> None:
    world = World(lockout=LockoutPolicy(failures_by_source=1))
    await world.login("x" + wrong())
    assert await world.login(PASSWORD, mode=mode) is RejectReason.ACCOUNT_LOCKED
    assert await world.login(PASSWORD, "mallory", mode=mode) is RejectReason.UNKNOWN_USER
    gone = World(suspended=True)
    assert await gone.login(PASSWORD, mode=mode) is RejectReason.USER_SUSPENDED


@pytest.mark.parametrize(
    ("typed", "method", "reason"),
    [
        ("", "pap", RejectReason.EMPTY_PASSWORD),
        (None, "pap", RejectReason.NO_PASSWORD),
        (b"\xff", "pap", RejectReason.UNDECODABLE_PASSWORD),
        (PASSWORD, "chap", RejectReason.UNSUPPORTED_METHOD),
    ],
)
async def test_the_password_alone_is_no_laxer_with_the_field(
    typed: str | bytes | None, method: str, reason: RejectReason
) -> None:
    """O03: above all no empty password, which a directory may take for an anonymous bind."""
    world = World()
    assert await world.login(typed, method=method, mode=Mode.OFF) is reason
    assert world.directory.asked == []


@pytest.mark.parametrize("backend", ["attempts", "enrolments", "directory"])
async def test_a_backend_that_does_not_answer_decides_nothing(backend: str) -> None:
    """Rule 9, A13: no decision, nothing counted, nothing consumed."""
    world = World(lockout=LockoutPolicy(failures_by_source=1))
    intact = getattr(world, backend)

    class Down:
        def __getattr__(self, _name: str) -> Any:
            raise BackendUnavailable(backend, "down")

    setattr(world, backend, Down())
    with pytest.raises(BackendUnavailable):
        await world.login(PASSWORD + code())
    setattr(world, backend, intact)
    assert await world.login(PASSWORD + code()) == ACCEPT


async def test_the_settlement_has_the_last_word() -> None:
    """Rule 1: a step that another node consumed in between is refused."""

    class Raced(MemoryAttempts):
        async def settle(self, *_args: Any) -> Settled:
            return Settled(Reject(RejectReason.CODE_REPLAYED))

    world = World()
    world.attempts = Raced()
    assert await world.login(PASSWORD + code()) is RejectReason.CODE_REPLAYED


def test_lock_hint_until_an_admin() -> None:
    assert lock_hint("alice", UNTIL_UNLOCKED) == (
        "locked until an admin runs: radius-mfa user unlock alice"
    )


def test_a_command_in_a_hint_runs_nothing_that_stands_in_a_name() -> None:
    assert lock_hint("a;reboot", UNTIL_UNLOCKED).endswith("user unlock 'a;reboot'")


async def test_time_is_kept_by_backend() -> None:
    world = World()
    await world.login(PASSWORD + code())
    assert world.trace.identity.name == "alice"
    assert world.trace.redis.seconds > 0
    assert world.trace.database.seconds > 0
    assert world.trace.directory.seconds > 0

"""A login in two steps, as the portal asks for it: the password, then the code alone."""

import pytest

from radius_mfa.authentication.login import Attempt, CodeDue, Login, Trace
from radius_mfa.policy.decision import Accept, Reject, RejectReason
from radius_mfa.policy.lockout import LockoutPolicy
from radius_mfa.policy.requirement import Requirement
from radius_mfa.stores.interfaces import Subject
from tests.unit.authentication.test_login import ACCEPT, NOW, PASSWORD, World, code, wrong

RECOVERY = "abcdefghij"


async def password(
    world: World, typed: str, user: str = "alice"
) -> CodeDue | Accept | RejectReason:
    """Take the first step at the portal; return what came of it."""
    login = Login(
        world.attempts,
        world.enrolments,
        world.directory,
        world.recovery_codes,
        digest_key=b"k" * 32,
    )
    world.packets += 1
    packet = b"packet %d" % world.packets
    attempt = Attempt("(portal)", user, typed.encode(), packet, mode=None)
    found = await login.decide_password(attempt, NOW, Trace())
    if isinstance(found, CodeDue):
        return found
    decision = found.decision
    assert isinstance(decision, Accept | Reject)
    return decision.reason if isinstance(decision, Reject) else decision


async def second(world: World, typed: str) -> Accept | RejectReason:
    """Take the second step."""
    return await world.login(typed, client="(portal)", mode=None, password_proven=True)


async def failures(world: World) -> int:
    subject = Subject("alice", "x")
    await world.attempts.load(subject, [], NOW)
    return int(world.attempts._user("alice").consecutive)


async def test_a_right_password_asks_for_the_code_and_consumes_none() -> None:
    world = World()
    assert isinstance(await password(world, PASSWORD), CodeDue)
    assert await second(world, code()) == ACCEPT
    assert len(world.directory.asked) == 1
    assert await second(world, code()) is RejectReason.CODE_REPLAYED


async def test_a_right_password_leaves_the_count_of_failures() -> None:
    """Guesses at the code add up to a lock, whatever stands between them."""
    world = World(lockout=LockoutPolicy(failures_by_source=3))
    for number in range(3):
        assert isinstance(await password(world, PASSWORD), CodeDue)
        assert await second(world, f"{int(wrong()) + number:06}") is RejectReason.WRONG_CODE
    assert await password(world, PASSWORD) is RejectReason.ACCOUNT_LOCKED
    assert len(world.directory.asked) == 3


@pytest.mark.parametrize("typed", ["wrong", PASSWORD + code(), " " + PASSWORD])
async def test_a_wrong_password_counts(typed: str) -> None:
    """The whole field is the password; a code behind it makes it a wrong one."""
    world = World()
    assert await password(world, typed) is RejectReason.WRONG_PASSWORD
    assert await failures(world) == 1


@pytest.mark.parametrize("typed", ["", "12345", PASSWORD + code(), "x" + code(), wrong()])
async def test_the_second_step_takes_a_code_and_nothing_else(typed: str) -> None:
    world = World()
    assert await second(world, typed) in {RejectReason.WRONG_CODE, RejectReason.EMPTY_PASSWORD}
    assert world.directory.asked == []
    assert await second(world, code()) == ACCEPT


async def test_a_recovery_code_is_a_second_step_too() -> None:
    """Checklist O17: once, and with nothing in front of it."""
    world = World(codes=(RECOVERY,))
    assert await second(world, "x" + RECOVERY) is RejectReason.WRONG_CODE
    assert await second(world, RECOVERY) == Accept("recovery_code")
    assert await second(world, RECOVERY) is RejectReason.CODE_REPLAYED


@pytest.mark.parametrize(
    "requirement",
    [Requirement(), Requirement(NOW - 1, NOW + 1), Requirement(NOW - 2, NOW - 1)],
    ids=["never required", "in enrolment", "expired"],
)
async def test_who_has_no_device_signs_in_by_the_password_alone(requirement: Requirement) -> None:
    """The portal is where they enrol. What was right as a second step a moment ago is not."""
    world = World(devices=(), requirement=requirement)
    assert await password(world, PASSWORD) == Accept("password")
    assert await second(world, PASSWORD) is RejectReason.NOT_ENROLLED
    assert await second(world, code()) is RejectReason.NOT_ENROLLED


@pytest.mark.parametrize(
    ("world", "user", "reason"),
    [
        (World(), "nobody", RejectReason.UNKNOWN_USER),
        (World(), "a\0b", RejectReason.INVALID_USER_NAME),
        (World(suspended=True), "alice", RejectReason.USER_SUSPENDED),
        (
            World(requirement=Requirement(factor_suspended=True)),
            "alice",
            RejectReason.FACTOR_SUSPENDED,
        ),
        (
            World(devices=(), requirement=Requirement(factor_suspended=True)),
            "alice",
            RejectReason.FACTOR_SUSPENDED,
        ),
    ],
)
async def test_who_may_not_sign_in_is_refused_whatever_is_typed(
    world: World, user: str, reason: RejectReason
) -> None:
    assert await password(world, PASSWORD, user) is reason
    assert world.directory.asked == []


async def in_a_row(world: World, first: int, second: int) -> Accept | RejectReason:
    """Type the codes of two steps away from now."""
    return await world.login(
        code(first) + code(second),
        client="(portal)",
        mode=None,
        password_proven=True,
        in_a_row=True,
    )


async def test_two_codes_in_a_row_are_accepted_beyond_the_window_and_used_up() -> None:
    """O07: and the trace says whose they are, and of when."""
    world = World()
    assert await second(world, code(40)) is RejectReason.WRONG_CODE
    assert await in_a_row(world, 40, 41) == ACCEPT
    assert world.trace.match is not None
    assert world.trace.match.time_step == int(NOW) // 30 + 41
    assert await in_a_row(world, 40, 41) is RejectReason.CODE_REPLAYED
    assert await in_a_row(world, 41, 42) is RejectReason.CODE_REPLAYED
    assert await in_a_row(world, 42, 43) == ACCEPT


async def test_guesses_at_two_codes_in_a_row_count_and_lock() -> None:
    """O07: each is a wrong code, also one that shares its first half with another."""
    world = World(lockout=LockoutPolicy(failures_by_source=3))
    assert await in_a_row(world, 40, 42) is RejectReason.WRONG_CODE
    assert await in_a_row(world, 40, 43) is RejectReason.WRONG_CODE
    assert await in_a_row(world, 40, 44) is RejectReason.WRONG_CODE
    assert await in_a_row(world, 40, 41) is RejectReason.ACCOUNT_LOCKED


async def test_a_code_that_was_used_is_half_of_no_two_in_a_row() -> None:
    world = World()
    assert await second(world, code()) == ACCEPT
    assert await in_a_row(world, 0, 1) is RejectReason.CODE_REPLAYED
    assert await in_a_row(world, 1, 2) == ACCEPT

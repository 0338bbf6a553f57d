"""Two rounds of one login: the password, and then the code by the State that came for it."""

from typing import Any

import pytest

from radius_mfa.policy.access import Mode
from radius_mfa.policy.challenge import Prompt
from radius_mfa.policy.credentials import CodePosition, SplitPolicy
from radius_mfa.policy.decision import Accept, Challenge, Factor, Reject, RejectReason
from radius_mfa.policy.lockout import LockoutPolicy
from radius_mfa.stores.interfaces import PasswordVerdict
from tests.unit.authentication.test_login import ACCEPT, NOW, PASSWORD, World, code, wrong

RECOVERY = "abcde23456"


class Talk(World):
    """A world whose client prompts; ``state`` is the last that was given."""

    state = b""

    async def first(self, typed: str | bytes = PASSWORD, **more: Any) -> Any:
        """Return the decision on a first round."""
        return await self.decision(typed, **{"prompt": Prompt.AUTO, **more})

    async def answer(self, typed: str | bytes | None, state: bytes = b"", **more: Any) -> Any:
        """Return the decision on an answer by *state*, the last one by default."""
        more = {"prompt": Prompt.AUTO, "state": state or self.state, **more}
        return await self.decision(typed, **more)

    async def decision(self, typed: str | bytes | None, **more: Any) -> Any:
        """Return Accept, the reason of a reject, or a challenge whose State is kept."""
        decision = await self.decided(typed, **more)
        if isinstance(decision, Challenge):
            self.state = decision.state.encode()
        return decision.reason if isinstance(decision, Reject) else decision

    @property
    def why(self) -> str:
        """The hint of the last decision, whatever it is."""
        return getattr(self.outcomes[-1].decision, "hint", "")

    async def consecutive(self) -> int:
        """Return the failures in a row."""
        failures: int = self.attempts._users["alice"].consecutive
        return failures


@pytest.mark.parametrize("prompt", [Prompt.AUTO, Prompt.CHALLENGE])
async def test_a_right_password_is_asked_for_the_code(prompt: Prompt) -> None:
    """One bind in the first round, none in the second; nothing is counted in between."""
    talk = Talk()
    given = await talk.first(prompt=prompt)
    assert isinstance(given, Challenge)
    assert (given.reason, await talk.consecutive()) == (None, 0)
    assert talk.directory.asked == [("alice", PASSWORD)]
    assert await talk.answer(code(), prompt=prompt) == ACCEPT
    assert len(talk.directory.asked) == 1
    assert talk.trace.identity.name == "alice"


async def test_in_auto_a_split_whose_code_matches_is_a_whole_login() -> None:
    """And its bind is of the password alone."""
    talk = Talk()
    assert await talk.first(PASSWORD + code()) == ACCEPT
    assert talk.directory.asked == [("alice", PASSWORD)]


async def test_in_challenge_the_whole_field_is_the_password() -> None:
    """Also where its end is a right code; which stays good."""
    talk = Talk()
    reason = await talk.first(PASSWORD + code(), prompt=Prompt.CHALLENGE)
    assert reason is RejectReason.WRONG_PASSWORD
    assert talk.directory.asked == [("alice", PASSWORD + code())]
    await talk.first(prompt=Prompt.CHALLENGE)
    assert await talk.answer(code()) == ACCEPT


async def test_a_password_that_ends_in_digits_is_one() -> None:
    """Six digits that are no code of now: the whole field is bound, once."""
    talk = Talk()
    talk.directory._passwords["alice"] = "winter123456"
    assert isinstance(await talk.first("winter123456"), Challenge)
    assert talk.directory.asked == [("alice", "winter123456")]


@pytest.mark.parametrize(
    "typed", ["wrong", PASSWORD + wrong(), "wrong" + wrong(), "wrong" + code()]
)
@pytest.mark.parametrize("prompt", [Prompt.AUTO, Prompt.CHALLENGE])
async def test_c08_a_wrong_password_is_rejected_and_never_challenged(
    prompt: Prompt, typed: str
) -> None:
    """C08, rule 3: one bind, one failure, and no State to tell that a password is right."""
    talk = Talk()
    assert await talk.first(typed, prompt=prompt) is RejectReason.WRONG_PASSWORD
    assert (len(talk.directory.asked), await talk.consecutive()) == (1, 1)


async def test_the_hint_says_how_the_field_was_read() -> None:
    """An operator sees a clock that is off in auto, too."""
    talk = Talk()
    await talk.first(PASSWORD + code(-3))
    assert talk.why.startswith("the whole field was taken as the password: the phone's clock")
    await talk.first("wrong")
    assert "no code of 6 digits" in talk.why


async def test_a_used_code_is_refused_without_a_bind() -> None:
    """In auto its field is not tried as a password: that would cost one of AD's tries."""
    talk = Talk()
    await talk.first(PASSWORD + code())
    assert await talk.first(PASSWORD + code()) is RejectReason.CODE_REPLAYED
    assert len(talk.directory.asked) == 1


@pytest.mark.parametrize(
    ("counted", "typed", "failures"),
    [
        ({Factor.CODE}, PASSWORD + wrong(), 1),  # the code may be what is wrong
        ({Factor.CODE}, "wrong", 0),
        ({Factor.PASSWORD}, PASSWORD + wrong(), 1),
        ({Factor.PASSWORD}, "wrong", 1),
    ],
)
async def test_what_may_be_either_factors_fault_counts_for_either(
    counted: set[Factor], typed: str, failures: int
) -> None:
    """O15: lockout.count = ["code"] lets nobody guess codes behind a right password."""
    talk = Talk(counted=frozenset(counted), lockout=LockoutPolicy(failures_by_source=1))
    await talk.first(typed)
    locked = await talk.first() is RejectReason.ACCOUNT_LOCKED
    assert locked == bool(failures)


@pytest.mark.parametrize(
    "typed", ["", "12345", "1234567", PASSWORD + code(), f"{code()} ", wrong(), code(-2), PASSWORD]
)
async def test_c06_a_wrong_answer_counts_and_brings_a_fresh_state(typed: str) -> None:
    """C06: no directory is asked, and the next answer goes by the new State alone."""
    talk = Talk()
    await talk.first()
    old = talk.state
    again = await talk.answer(typed)
    assert isinstance(again, Challenge)
    assert again.reason is RejectReason.WRONG_CODE
    assert (len(talk.directory.asked), await talk.consecutive()) == (1, 1)
    assert talk.state != old
    assert await talk.answer(code(), old) is RejectReason.STATE_USED
    assert await talk.answer(code()) == ACCEPT
    assert await talk.consecutive() == 0


async def test_c06_retries_are_bounded() -> None:
    """C06: the third wrong answer to one right password is the last."""
    talk = Talk()
    await talk.first()
    for _ in range(2):
        assert isinstance(await talk.answer(wrong()), Challenge)
    assert await talk.answer(wrong()) is RejectReason.WRONG_CODE
    assert await talk.answer(code()) is RejectReason.STATE_USED


async def test_a_wrong_answer_that_locks_is_rejected() -> None:
    """A locked user gets no State, and the right code after it is refused."""
    talk = Talk(lockout=LockoutPolicy(failures_by_source=2))
    await talk.first()
    assert isinstance(await talk.answer(wrong()), Challenge)
    assert await talk.answer("000001") is RejectReason.WRONG_CODE
    assert talk.outcomes[-1].locked_until
    assert await talk.answer(code()) is RejectReason.ACCOUNT_LOCKED


async def test_a_used_code_as_an_answer_may_be_tried_again() -> None:
    """The next code does: O04 holds in the second round as in the first."""
    talk = Talk()
    assert await talk.first(PASSWORD + code()) == ACCEPT
    await talk.first()
    again = await talk.answer(code())
    assert isinstance(again, Challenge)
    assert again.reason is RejectReason.CODE_REPLAYED
    assert await talk.answer(code(1)) == ACCEPT


async def test_c03_a_state_ends() -> None:
    """C03: a second before its end it is good."""
    for seconds, expected in ((119, ACCEPT), (121, RejectReason.STATE_EXPIRED)):
        talk = Talk()
        await talk.first()
        now = NOW + seconds
        assert await talk.answer(code(at=now), now=now) == expected


async def test_c03_a_state_is_used_once() -> None:
    """C03: also with the code after it."""
    talk = Talk()
    await talk.first()
    used = talk.state
    assert await talk.answer(code()) == ACCEPT
    assert await talk.answer(code(1), used) is RejectReason.STATE_USED
    assert await talk.first(PASSWORD + code(1)) == ACCEPT, "nothing was lost"


@pytest.mark.parametrize(
    "more",
    [
        {"client": "forti"},
        {"user": "bob"},
        {"calling_station_id": "203.0.113.9"},
    ],
    ids=["client", "user", "station"],
)
async def test_c04_a_foreign_state_is_rejected(more: dict[str, Any]) -> None:
    """C04: no fresh login either, though the field is one; and it stays good for its owner."""
    talk = Talk()
    talk.enrolments.enrolments["bob"] = talk.enrolments.enrolments["alice"]
    talk.directory._passwords["bob"] = PASSWORD
    place: dict[str, Any] = {"calling_station_id": "203.0.113.7"}
    await talk.first(**place)
    for typed in (code(), PASSWORD + code()):
        assert await talk.answer(typed, **{**place, **more}) is RejectReason.STATE_FOREIGN
    assert await talk.consecutive() == 0
    assert await talk.answer(code(), **place) == ACCEPT


async def test_c04_a_forged_state_is_rejected_before_anybody_is_asked() -> None:
    """C04, D11: it costs neither Redis nor the directory anything."""
    talk = Talk()
    await talk.first()
    talk.attempts = talk.directory = None
    for state in (b"x", b"\0" * 52, talk.state[:-1] + b"~", talk.state.swapcase()):
        assert await talk.answer(PASSWORD + code(), state) is RejectReason.STATE_FORGED


async def test_an_answer_without_a_state_is_a_login_of_its_own() -> None:
    """The code alone is no password."""
    talk = Talk()
    await talk.first()
    assert await talk.first(code()) is RejectReason.EMPTY_PASSWORD
    assert await talk.answer(code()) == ACCEPT


async def test_the_answer_may_lack_the_station_and_counts_at_the_firsts() -> None:
    """pam_radius_auth sends Calling-Station-Id in the first round alone."""
    talk = Talk(lockout=LockoutPolicy(failures_by_source=1))
    place: dict[str, Any] = {"calling_station_id": "203.0.113.7[4500]"}
    await talk.first(**place)
    assert await talk.answer(wrong()) is RejectReason.WRONG_CODE, "which locks"
    assert await talk.first(**place) is RejectReason.ACCOUNT_LOCKED
    assert isinstance(await talk.first(), Challenge), "no other source is locked"


async def test_a_lock_of_the_first_rounds_source_holds_in_the_second() -> None:
    """Also where the answer says nothing of its station."""
    talk = Talk(lockout=LockoutPolicy(failures_by_source=1))
    place: dict[str, Any] = {"calling_station_id": "203.0.113.7"}
    await talk.first(**place)
    assert await talk.first("wrong", **place) is RejectReason.WRONG_PASSWORD
    assert await talk.answer(code()) is RejectReason.ACCOUNT_LOCKED


async def test_a_change_of_the_user_in_between_wins() -> None:
    """A device that was reset is not asked for: the password has to come again."""
    talk = Talk()
    await talk.first()
    await talk.attempts.invalidate("alice")
    assert await talk.answer(code()) is RejectReason.STATE_VOID
    await talk.first()
    assert await talk.answer(code()) == ACCEPT


async def test_a_state_is_no_password_where_the_password_would_do() -> None:
    """A client that now asks for the password alone takes no code in its place."""
    talk = Talk()
    await talk.first()
    assert await talk.answer(code(), mode=Mode.OFF) is RejectReason.STATE_VOID
    assert await talk.answer(PASSWORD, mode=Mode.OFF) is RejectReason.STATE_VOID


async def test_a_user_who_needs_no_code_is_not_asked_for_one() -> None:
    """The table of modes stands above the prompt."""
    for prompt in Prompt:
        talk = Talk(devices=())
        accepted = await talk.first(prompt=prompt, mode=Mode.ENROLLED)
        assert accepted == Accept("password")
        assert await talk.first(prompt=prompt) is RejectReason.NOT_ENROLLED


async def test_o17_a_recovery_code_answers_a_challenge_once() -> None:
    """O17: with the hyphen and without; used, it is a wrong answer."""
    for typed in (RECOVERY, "ABCDE-23456"):
        talk = Talk(codes=(RECOVERY,))
        await talk.first()
        assert await talk.answer(typed) == Accept("recovery_code")
        assert len(talk.directory.asked) == 1
        await talk.first()
        again = await talk.answer(typed)
        assert isinstance(again, Challenge)
        assert again.reason is RejectReason.CODE_REPLAYED


async def test_d08_a_retransmission_gets_the_same_state() -> None:
    """D08: of either round, as another packet of the same login too; a new login a new one."""
    talk = Talk()
    same = {"packet": b"round 1", "session_id": b"s1"}
    first = await talk.first(**same)
    assert await talk.first(**same) == first
    assert await talk.first(session_id=b"s1") == first, "the same login as a new packet"
    assert await talk.first(session_id=b"s2") != first
    assert len(talk.directory.asked) == 2
    again = await talk.answer(wrong(), first.state.encode(), packet=b"round 2")
    repeated = await talk.answer(wrong(), first.state.encode(), packet=b"round 2")
    assert repeated == Challenge(again.state, RejectReason.WRONG_CODE, repeated.hint)
    assert (await talk.consecutive(), talk.outcomes[-1].shared) == (1, True)


async def test_an_answered_challenge_is_shared_no_more() -> None:
    """Who begins anew within the minute gets a State that can be answered."""
    talk = Talk()
    more: dict[str, Any] = {"session_id": b"s1", "failover_grace_seconds": 15}
    first = await talk.first(**more)
    assert isinstance(await talk.answer(wrong(), **more), Challenge)
    assert await talk.first(**more) != first
    assert await talk.answer(code(), **more) == ACCEPT


async def test_the_same_wrong_answer_by_another_state_is_another_packet() -> None:
    """Its verdict is not the earlier one, whose State is used; it is not counted twice."""
    talk = Talk()
    await talk.first(session_id=b"s1")
    one = await talk.answer(wrong(), session_id=b"s1")
    other = await talk.answer(wrong(), session_id=b"s1")
    assert one.state != other.state
    assert await talk.consecutive() == 1
    assert await talk.answer(code(), session_id=b"s1") == ACCEPT


@pytest.mark.parametrize(
    "typed", [b"\x08\n\r\x7fINCORRECT", b"\x08\n\r\x7fINCORRECT\x08\n", b"\x08\n\r"]
)
async def test_what_sshd_sends_for_a_user_it_refuses_is_not_counted(typed: bytes) -> None:
    """No directory is asked, in either round; the State stays good."""
    talk = Talk()
    for prompt in Prompt:
        assert await talk.first(typed, prompt=prompt) is RejectReason.REFUSED_BY_NAS
    await talk.first()
    assert await talk.answer(typed) is RejectReason.REFUSED_BY_NAS
    assert (len(talk.directory.asked), await talk.consecutive()) == (1, 0)
    assert await talk.answer(code()) == ACCEPT


def scrv1(password: str, answer: str) -> str:
    from base64 import b64encode  # noqa: PLC0415 - of this helper alone

    return f"SCRV1:{b64encode(password.encode()).decode()}:{b64encode(answer.encode()).decode()}"


OPENVPN = SplitPolicy(static_challenge=True, code_position=CodePosition.START, separator="+")


@pytest.mark.parametrize("prompt", Prompt)
async def test_a_static_challenge_is_taken_apart(prompt: Prompt) -> None:
    """OpenVPN: no guess where the code begins, and no challenge, which it could not answer."""
    talk = Talk(codes=(RECOVERY,))
    more = {"prompt": prompt, "split": OPENVPN}
    assert await talk.first(scrv1("p:w" + PASSWORD, code()), **more) is RejectReason.WRONG_PASSWORD
    assert talk.directory.asked == [("alice", "p:w" + PASSWORD)]
    assert await talk.first(scrv1(PASSWORD, wrong()), **more) is RejectReason.WRONG_CODE
    assert await talk.first(scrv1(PASSWORD, ""), **more) is RejectReason.WRONG_CODE
    assert await talk.first(scrv1("", code()), **more) is RejectReason.EMPTY_PASSWORD
    assert len(talk.directory.asked) == 1
    assert await talk.first(scrv1(PASSWORD, code()), **more) == ACCEPT
    assert await talk.first(scrv1(PASSWORD, RECOVERY), **more) == Accept("recovery_code")


@pytest.mark.parametrize(
    "typed", ["SCRV1:x", "SCRV1:%:%", "SCRV1:cGFzcw==", "CRV1:cA==:cA==", "SCRV1"]
)
async def test_what_is_no_static_challenge_is_a_field_like_any_other(typed: str) -> None:
    """A password may begin like one."""
    talk = Talk()
    talk.directory._passwords["alice"] = typed
    assert await talk.first(f"{code()}+{typed}", split=OPENVPN) == ACCEPT


async def test_a_static_challenge_is_a_password_at_any_other_client() -> None:
    """The setting takes it apart, not its look."""
    talk = Talk()
    typed = scrv1(PASSWORD, code())
    assert await talk.first(typed) is RejectReason.WRONG_PASSWORD
    assert talk.directory.asked == [("alice", typed)]


@pytest.mark.parametrize("verdict", [v for v in PasswordVerdict if v is not PasswordVerdict.RIGHT])
async def test_a_directory_that_lets_nobody_in_gives_no_challenge(verdict: PasswordVerdict) -> None:
    """Whatever is wrong with the account: Reject, and no code is asked for."""
    talk = Talk()

    async def verify(*_: Any) -> PasswordVerdict:
        return verdict

    talk.directory.verify = verify
    assert isinstance(await talk.first(), RejectReason)
    assert isinstance(talk.outcomes[-1].decision, Reject)

"""Attempt to decision: one load, at most one directory bind, one atomic settlement.

Knows no packet and no SQL. The order of the steps is the security of the product
(docs/access-request-flow.md); a rule that decides something stands in ``policy``.
"""

import hashlib
import shlex
from collections.abc import Collection, Mapping
from dataclasses import field, replace
from datetime import UTC, datetime
from time import perf_counter
from types import MappingProxyType
from typing import TypeGuard

from radius_mfa.authentication.authorization import Case
from radius_mfa.authentication.challenge import FORGED, VOID, Challenges, of_round_one
from radius_mfa.policy import access, credentials, recovery, totp
from radius_mfa.policy.access import Enrolment, Mode, Need
from radius_mfa.policy.attributes import Encoded
from radius_mfa.policy.challenge import ChallengePolicy, Prompt
from radius_mfa.policy.credentials import Candidate, SplitPolicy
from radius_mfa.policy.decision import FACTOR_AT_FAULT, Accept, Challenge, Decision, Factor, Reject
from radius_mfa.policy.decision import RejectReason as Reason
from radius_mfa.policy.identity import InvalidUserNameError, normalised_station
from radius_mfa.policy.lockout import UNTIL_UNLOCKED
from radius_mfa.policy.rules import ClientPolicy
from radius_mfa.policy.totp import Match, Window
from radius_mfa.stores.interfaces import (
    NOBODY,
    Attempts,
    Directory,
    Enrolments,
    Identity,
    Loaded,
    PasswordVerdict,
    RecoveryCodes,
    RecoveryMatch,
    Settled,
    Settlement,
    Subject,
    VerdictKey,
)
from radius_mfa.values import value

SESSION_VERDICT_MS = 60_000
"""How long the verdict on one (client, user, Acct-Session-Id, typed value) is shared (D09)."""

PACKET_VERDICT_MS = 60_000
"""How long the verdict on one packet is kept for its retransmissions, on every node."""

_DIGEST_OCTETS = 16


@value
class Attempt:
    """One login as it arrived. *typed* is the whole password field, None where there is none.

    *packet* identifies the very packet, so that a retransmission finds its verdict even where
    the node that gave it is gone. *session_id* is the NAS's Acct-Session-Id. *mode* is None at the
    portal, which is no client. *state* is there where the attempt answers a challenge. With
    *password_proven* the field is the code and nothing else; with *in_a_row* it is two codes of one
    device, one after the other, by whatever time its clock shows. *one_time* takes also a password
    that is good for nothing but choosing another one.
    """

    client: str
    user_name: str | None
    typed: bytes | None = field(repr=False)
    packet: bytes = field(repr=False)
    method: str = "pap"
    split: SplitPolicy = SplitPolicy()
    mode: Mode | None = Mode.ALWAYS
    prompt: Prompt = Prompt.APPEND
    state: bytes | None = field(default=None, repr=False)
    password_proven: bool = False
    in_a_row: bool = False
    one_time: bool = False
    calling_station_id: str = ""
    session_id: bytes | None = None
    failover_grace_seconds: int = 0


class Stopwatch:
    """Adds up the time of the blocks it is entered for, also of those that raise."""

    __slots__ = ("_began", "seconds")

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> None:
        self._began = perf_counter()

    def __exit__(self, *_exc: object) -> None:
        self.seconds += perf_counter() - self._began


class Trace:
    """What the log should know of a login, however it ends: whose it is, and where time went.

    *identity* is NOBODY where the name typed is no name. *match* says whose code was typed, and of
    when. *case* is what the rules made of the login, None where the client has none.
    """

    __slots__ = ("case", "database", "directory", "identity", "match", "redis")

    def __init__(self) -> None:
        self.identity = NOBODY
        self.case: Case | None = None
        self.match: Match | None = None
        self.redis, self.database, self.directory = Stopwatch(), Stopwatch(), Stopwatch()


@value
class CodeDue:
    """The password is right and a code is asked for: no login yet, and no word on the wire."""


@value
class Outcome:
    """The decision on an attempt; *shared* says that an earlier packet of it had it first.

    *locked_until* is set (Unix milliseconds, or -1) where this very attempt closed a lock.
    *granted* are the attributes that go with an Accept.
    """

    decision: Decision
    shared: bool = False
    locked_until: int = 0
    granted: tuple[Encoded, ...] = ()


class Login:
    """Decides attempts. One object serves every transport."""

    def __init__(
        self,
        attempts: Attempts,
        enrolments: Enrolments,
        directory: Directory,
        recovery_codes: RecoveryCodes,
        *,
        digest_key: bytes,
        window: Window = Window(),
        counted_factors: Collection[Factor] = frozenset(Factor),
        policies: Mapping[str, ClientPolicy] = MappingProxyType({}),
        challenges: ChallengePolicy = ChallengePolicy(),
    ) -> None:
        """*policies* are by name of the client; one without rules and attributes has none."""
        self._attempts = attempts
        self._enrolments = enrolments
        self._directory = directory
        self._recovery_codes = recovery_codes
        self._digest_key = digest_key
        self._window = window
        self._counted_factors = counted_factors
        self._policies = policies
        self._challenges = Challenges(challenges, digest_key)

    def gave(self, state: bytes, now: float) -> bool:
        """Return whether *state* is one of this cluster's that has not ended, at no cost."""
        return self._challenges.gave(state, now)

    async def decide(self, attempt: Attempt, now: float, trace: Trace) -> Outcome:
        """Return the outcome of *attempt* at Unix time *now*.

        Raises BackendUnavailable where a backend has no definite answer: then nothing was
        decided, and the NAS gets no reply.
        """
        begun = await self._begun(attempt, now, trace)
        if isinstance(begun, Outcome):
            return begun
        if attempt.state is None:
            settlement = await self._judged(attempt, begun.user, begun.loaded, now, trace)
        else:
            settlement = await self._answered(attempt, begun, now, trace)
        return await self._final(attempt, begun, settlement, now, trace)

    async def decide_password(
        self, attempt: Attempt, now: float, trace: Trace
    ) -> Outcome | CodeDue:
        """Return what comes of a password typed alone, its code to follow where one is needed.

        A right one whose code is due changes nothing, not even the count of failures: or else
        whoever has the password could start that count again between guesses at the code.
        """
        begun = await self._begun(attempt, now, trace)
        if isinstance(begun, Outcome):
            return begun
        user, loaded = begun.user, begun.loaded
        enrolment, need = await self._need(attempt, user, loaded, now, trace)
        if isinstance(need, Reject):
            return await self._final(attempt, begun, Settlement(need), now, trace)
        settlement = await self._tried(attempt, user, enrolment, Need.PASSWORD, loaded, now, trace)
        if need is Need.CODE and isinstance(settlement.decision, Accept):
            return CodeDue()
        return await self._final(attempt, begun, settlement, now, trace)

    async def _begun(self, attempt: Attempt, now: float, trace: Trace) -> "_Begun | Outcome":
        """Return whose attempt it is and what is known of them, or the verdict it had before."""
        state = ""
        if attempt.state is not None:
            if not self._challenges.is_ours(attempt.state):
                return Outcome(FORGED)
            state = self._digest("state", attempt.state)
        try:
            with trace.directory:
                user = await self._directory.identify(attempt.user_name or "")
        except InvalidUserNameError as error:
            return Outcome(Reject(Reason.INVALID_USER_NAME, str(error)))
        trace.identity = user
        station = normalised_station(attempt.calling_station_id)
        subject = Subject(user.key, f"{attempt.client}|{station}", state)
        keys = self._verdict_keys(attempt, user.key, station)
        with trace.redis:
            loaded = await self._attempts.load(subject, keys, now)
        if loaded.verdict is not None:
            settled = Settled(loaded.verdict, shared=True)
            return await self._outcome(attempt, user, settled, loaded, now, trace)
        return _Begun(user, of_round_one(subject, loaded), keys, loaded)

    async def _final(
        self, attempt: Attempt, begun: "_Begun", settlement: Settlement, now: float, trace: Trace
    ) -> Outcome:
        user, subject, keys, loaded = begun.user, begun.subject, begun.keys, begun.loaded
        decision = settlement.decision
        if isinstance(decision, Challenge):
            state = self._digest("state", decision.state.encode())
            gives = self._challenges.on_record(state, subject, loaded, keys, settlement.answers)
            settlement = replace(settlement, gives=gives)
        with trace.redis:
            settled = await self._attempts.settle(subject, settlement, loaded, keys, now)
        if settlement.recovery is not None and isinstance(settled.decision, Reject):
            login = self._recovery_login(attempt, user)
            with trace.database:
                await self._recovery_codes.release(settlement.recovery, login)
        return await self._outcome(attempt, user, settled, loaded, now, trace)

    async def _answered(
        self, attempt: Attempt, begun: "_Begun", now: float, trace: Trace
    ) -> Settlement:
        """Return what the answer to a challenge comes to; one more try is a new challenge."""
        user, loaded = begun.user, begun.loaded
        pending = self._challenges.answered(attempt.state or b"", begun.subject, loaded, now)
        if isinstance(pending, Reject):
            return Settlement(_closed(user, loaded) or pending)
        attempt = replace(attempt, split=_CODE_ALONE, password_proven=True)
        judged = await self._judged(attempt, user, loaded, now, trace)
        return self._challenges.settlement(judged, pending, now)

    async def _judged(
        self, attempt: Attempt, user: Identity, loaded: Loaded, now: float, trace: Trace
    ) -> Settlement:
        """Return what the attempt comes to; the settlement may still turn an Accept away."""
        enrolment, need = await self._need(attempt, user, loaded, now, trace)
        if isinstance(need, Reject):
            return Settlement(need)
        return await self._tried(attempt, user, enrolment, need, loaded, now, trace)

    async def _need(
        self, attempt: Attempt, user: Identity, loaded: Loaded, now: float, trace: Trace
    ) -> tuple[Enrolment, Need | Reject]:
        """Return the user's second factor, and what the login takes or why nothing would do."""
        closed = _closed(user, loaded)
        if closed is not None:
            return Enrolment(), closed
        enrolment = await self._enrolment(user, loaded, trace)
        mode, policy = attempt.mode, self._policy(attempt)
        if policy is not None and mode is not None and enrolment.known and not enrolment.suspended:
            trace.case = self._case(policy, attempt, user, enrolment, now)
            with trace.directory:
                opened = await trace.case.opened(mode)
            if isinstance(opened, Reject):
                return enrolment, opened
            mode = opened
        need = access.needed(enrolment, mode, now)
        if trace.case is not None:
            trace.case.code_due = need is Need.CODE
        if not isinstance(need, Need):
            return enrolment, Reject(need, _mode_hint(need, mode, trace.case))
        if attempt.password_proven and need is Need.PASSWORD:
            gone = Reject(Reason.NOT_ENROLLED, "the last device went meanwhile")
            return enrolment, gone if attempt.state is None else VOID
        return enrolment, need

    async def _tried(  # noqa: PLR0917 - all that is known by now
        self,
        attempt: Attempt,
        user: Identity,
        enrolment: Enrolment,
        need: Need,
        loaded: Loaded,
        now: float,
        trace: Trace,
    ) -> Settlement:
        """Return what comes of what was typed."""
        chosen = self._chosen(attempt, enrolment, need, loaded, now)
        if _is_wrong_code(chosen) and enrolment.recovery_codes and not attempt.in_a_row:
            chosen = await self._recovery(attempt, user, now, trace) or chosen
        if _is_wrong_code(chosen) and attempt.prompt is Prompt.AUTO and _may_be_password(attempt):
            chosen = _whole_field(attempt, enrolment, chosen)
        if isinstance(chosen, Reject):
            return self._rejected(chosen, attempt, user.key)
        refused = await self._password_refused(attempt, user, enrolment, need, chosen, trace)
        if refused is not None:
            return self._rejected(refused, attempt, user.key, or_code=chosen.or_code)
        if chosen.method == _FIRST_FACTOR:  # by which way it ends, and what it gets, is still open
            return Settlement(self._challenges.new(now))
        if trace.case is not None and not (trace.case.code_due and chosen.method == "password"):
            with trace.directory:
                refused = await trace.case.closed(chosen.method)
            if refused is not None:
                return Settlement(refused)
        if chosen.recovery is not None:
            login = self._recovery_login(attempt, user)
            with trace.database:
                consumed = await self._recovery_codes.consume(chosen.recovery, login, now)
            if not consumed:
                return self._rejected(_USED_RECOVERY_CODE, attempt, user.key)
        trace.match = chosen.match
        counted = Factor.CODE in self._counted_factors  # should the code turn out to be used
        wrong_value = self._digest("wrong", user.key, attempt.typed or b"")
        return Settlement(
            Accept(chosen.method),
            chosen.match,
            counted=counted,
            wrong_value=wrong_value,
            recovery=chosen.recovery,
        )

    async def _password_refused(  # noqa: PLR0917 - as _tried
        self,
        attempt: Attempt,
        user: Identity,
        enrolment: Enrolment,
        need: Need,
        chosen: "_Chosen",
        trace: Trace,
    ) -> Reject | None:
        """Return why the password is none of the user's, or None where it is or was proven."""
        if attempt.password_proven:
            return _MORE_THAN_A_CODE if chosen.password else None
        password = credentials.decoded(chosen.password, attempt.split.password_charsets)
        if not password:
            return _no_password(password)
        with trace.directory:
            verdict = await self._directory.verify(user, password, enrolment)
        if verdict is PasswordVerdict.RIGHT or (
            verdict is PasswordVerdict.ONE_TIME and attempt.one_time
        ):
            return None
        whole_field = need is Need.PASSWORD and attempt.mode is not None
        return _reject_of_verdict(verdict, chosen.no_code, whole_field=whole_field)

    def _policy(self, attempt: Attempt) -> ClientPolicy | None:
        """Return what holds at the client, None for nothing; the portal is no client."""
        return None if attempt.mode is None else self._policies.get(attempt.client)

    def _case(
        self,
        policy: ClientPolicy,
        attempt: Attempt,
        user: Identity,
        enrolment: Enrolment,
        now: float,
    ) -> Case:
        return Case(
            policy,
            self._directory,
            user,
            enrolment,
            client=attempt.client,
            station=normalised_station(attempt.calling_station_id),
            now=now,
        )

    async def _outcome(  # noqa: PLR0917 - all that is known by now
        self,
        attempt: Attempt,
        user: Identity,
        settled: Settled,
        loaded: Loaded,
        now: float,
        trace: Trace,
    ) -> Outcome:
        """Return what goes out; the attributes of an Accept on every path that leads to one."""
        outcome = _outcome(user.name, settled)
        policy, decision = self._policy(attempt), settled.decision
        if policy is None or not isinstance(decision, Accept):
            return outcome
        if trace.case is None:  # another packet of this login was decided before, perhaps elsewhere
            enrolment = await self._enrolment(user, loaded, trace)
            trace.case = self._case(policy, attempt, user, enrolment, now)
        with trace.directory:
            refused = await trace.case.closed(decision.method)
        if refused is not None:
            return Outcome(refused, settled.shared)
        return replace(outcome, granted=trace.case.granted)

    async def _enrolment(self, user: Identity, loaded: Loaded, trace: Trace) -> Enrolment:
        enrolment = loaded.enrolment
        if enrolment is None:
            with trace.database:
                enrolment = await self._enrolments.fetch(user.key)
            with trace.redis:
                await self._attempts.remember(user.key, enrolment, loaded)
        if not enrolment.known and user.dn:
            return replace(enrolment, known=True)  # to a directory, if not on record here
        return enrolment

    def _chosen(  # noqa: PLR0911 - one for each kind of field
        self, attempt: Attempt, enrolment: Enrolment, need: Need, loaded: Loaded, now: float
    ) -> "_Chosen | Reject":
        """Return the reading of the field to go by, or why there is none."""
        if attempt.method != "pap":
            return Reject(
                Reason.UNSUPPORTED_METHOD, f"the NAS sends {attempt.method}: set it to PAP"
            )
        if attempt.typed is None:
            return Reject(Reason.NO_PASSWORD)
        if credentials.of_refused_user(attempt.typed):
            return _REFUSED_BY_NAS
        if not attempt.typed and attempt.state is None:
            return Reject(Reason.EMPTY_PASSWORD)
        if need is Need.PASSWORD:
            return _Chosen(attempt.typed, "password")
        if attempt.in_a_row:
            return self._in_a_row(attempt.typed, enrolment, loaded, now)
        if attempt.prompt is Prompt.CHALLENGE and _may_be_password(attempt):
            return _Chosen(attempt.typed, _FIRST_FACTOR)
        return self._split(attempt.typed, attempt.split, enrolment, loaded, now)

    def _in_a_row(
        self, typed: bytes, enrolment: Enrolment, loaded: Loaded, now: float
    ) -> "_Chosen | Reject":
        """Return the second of two codes in a row, both unused, or why it is none."""
        found = (
            totp.matches_in_a_row(enrolment.devices, typed.decode("ascii"), now)
            if typed.isdigit()  # of octets: ASCII digits alone
            else []
        )
        unused = [
            match
            for match in found
            if self._unused(Match(match.device, match.time_step - 1), loaded)
        ]
        if unused:
            return _Chosen(b"", "totp", max(unused, key=lambda match: match.time_step))
        if found:
            return self._used_code(found[0], loaded)
        return Reject(Reason.WRONG_CODE, "no two codes in a row of one device")

    def _split(
        self, typed: bytes, policy: SplitPolicy, enrolment: Enrolment, loaded: Loaded, now: float
    ) -> "_Chosen | Reject":
        """Return the reading of the field whose code is right and unused, or why there is none."""
        readings = credentials.candidates(typed, enrolment.code_lengths, policy)
        found = [
            (reading, match)
            for reading in readings
            for match in totp.matches(enrolment.devices, reading.code, now, self._window)
        ]
        unused = [pair for pair in found if self._unused(pair[1], loaded)]
        if unused:
            # The newest step: consuming it also ends an older one that shows the same code.
            reading, match = max(unused, key=lambda pair: pair[1].time_step)
            return _Chosen(reading.password, "totp", match)
        if found:
            return self._used_code(found[0][1], loaded)
        return Reject(Reason.WRONG_CODE, _wrong_code_hint(readings, enrolment, policy, now))

    async def _recovery(
        self, attempt: Attempt, user: Identity, now: float, trace: Trace
    ) -> "_Chosen | Reject | None":
        """Return the reading of the field whose end is a recovery code; None where none is.

        Only the database knows them: it is asked where a field has the shape of one.
        """
        readings = recovery.candidates(attempt.typed or b"", attempt.split)
        if not readings:
            return None
        login = self._recovery_login(attempt, user)
        with trace.database:
            codes = [reading.code for reading in readings]
            match = await self._recovery_codes.find(user.key, codes, login, now)
        if match is None:
            return None
        if match.used:
            return _USED_RECOVERY_CODE
        password = next(one.password for one in readings if one.code == match.code)
        return _Chosen(password, "recovery_code", recovery=match)

    def _recovery_login(self, attempt: Attempt, user: Identity) -> str:
        """Return the name of this login beside the code it uses: its retransmissions share it."""
        packet, typed = attempt.packet, attempt.typed or b""
        return self._digest("recovery", attempt.client, user.key, packet, typed)

    def _unused(self, match: Match, loaded: Loaded) -> bool:
        return match.time_step > max(
            loaded.used_steps.get(match.device.device_id, -1),
            -1 if match.device.confirmed_step is None else match.device.confirmed_step,
            self._forgotten_step(match, loaded),
        )

    def _forgotten_step(self, match: Match, loaded: Loaded) -> int:
        """Return the last step that may have been used before Redis lost its memory (rule 10).

        A code may be used ahead of its time, so the window's reach is added.
        """
        if not loaded.forgotten_until:
            return -1
        return match.device.time_step(loaded.forgotten_until) + self._window.lookforward_steps

    def _used_code(self, match: Match, loaded: Loaded) -> Reject:
        if match.time_step <= self._forgotten_step(match, loaded):
            return Reject(
                Reason.CODE_PREDATES_REDIS,
                "Redis has lost its memory, so a code from before may have been used; "
                "one that the phone shows a minute later will do",
            )
        return Reject(Reason.CODE_REPLAYED, f"device {match.device.name}: each code works once")

    def _rejected(
        self, reject: Reject, attempt: Attempt, user: str, *, or_code: bool = False
    ) -> Settlement:
        """Return what a reject comes to; *or_code* says that the code may be what was wrong."""
        factor = FACTOR_AT_FAULT.get(reject.reason)
        counted = factor in self._counted_factors or (
            or_code and factor is not None and Factor.CODE in self._counted_factors
        )
        wrong_value = self._digest("wrong", user, attempt.typed or b"")
        return Settlement(reject, counted=counted, wrong_value=wrong_value)

    def _verdict_keys(self, attempt: Attempt, user: str, station: str) -> list[VerdictKey]:
        """Return the names under which this login may meet its own verdict again."""
        said, client = [attempt.typed or b""], attempt.client
        if attempt.state is not None:
            said.append(attempt.state)
        keys = [
            VerdictKey(
                self._digest("packet", client, user, attempt.packet, *said), PACKET_VERDICT_MS
            )
        ]
        if attempt.session_id:
            digest = self._digest("session", client, user, attempt.session_id, *said)
            keys.append(VerdictKey(digest, SESSION_VERDICT_MS))
        if attempt.failover_grace_seconds:
            digest = self._digest("failover", client, user, station, *said)
            keys.append(VerdictKey(digest, attempt.failover_grace_seconds * 1000))
        return keys

    def _digest(self, purpose: str, *parts: str | bytes) -> str:
        unambiguous = repr((purpose, *parts)).encode()  # quotes, and says where each part ends
        hasher = hashlib.blake2b(unambiguous, key=self._digest_key, digest_size=_DIGEST_OCTETS)
        return hasher.hexdigest()


@value
class _Begun:
    """An attempt that has no verdict yet: whose it is, and all that Redis knows of them."""

    user: Identity
    subject: Subject
    keys: list[VerdictKey]
    loaded: Loaded


@value
class _Chosen:
    """The password octets to verify, how the login will have been made, the step to consume.

    *no_code* says why the whole field is the password; *or_code* that a code may be in it after
    all.
    """

    password: bytes = field(repr=False)
    method: str
    match: Match | None = None
    recovery: RecoveryMatch | None = None
    no_code: str = ""
    or_code: bool = False


_CODE_ALONE = SplitPolicy(code_alone=True)

_FIRST_FACTOR = "first_factor"
"""The method of a whole field that is the password: right, it is answered by a challenge."""


def _is_wrong_code(chosen: _Chosen | Reject) -> TypeGuard[Reject]:
    return isinstance(chosen, Reject) and chosen.reason is Reason.WRONG_CODE


def _may_be_password(attempt: Attempt) -> bool:
    """Return whether the whole field may be the password: the code did not come beside it."""
    beside = attempt.split.static_challenge and credentials.unpacked(attempt.typed or b"")
    return attempt.state is None and not beside


def _whole_field(attempt: Attempt, enrolment: Enrolment, wrong_code: Reject) -> _Chosen:
    """Return the reading of a field without a right code as the password alone."""
    typed = attempt.typed or b""
    like_a_code = bool(credentials.candidates(typed, enrolment.code_lengths, attempt.split))
    why = wrong_code.hint or "the code in it is wrong"
    return _Chosen(typed, _FIRST_FACTOR, no_code=why, or_code=like_a_code)


_REFUSED_BY_NAS = Reject(
    Reason.REFUSED_BY_NAS,
    "sshd sends this in place of what was typed where it would let the user in by no password",
)


_MORE_THAN_A_CODE = Reject(Reason.WRONG_CODE, "more than a code was typed")
_USED_RECOVERY_CODE = Reject(Reason.CODE_REPLAYED, "each recovery code works once")

_REFUSED_BY_MODE = {
    Reason.NOT_ENROLLED: '{} has mfa = "{}"',
    Reason.IN_ENROLLMENT: 'the enrolment period still runs, but {} has mfa = "{}"',
    Reason.ENROLLMENT_EXPIRED: "the enrolment period is over: see radius-mfa user extend",
    Reason.FACTOR_SUSPENDED: "an admin suspended the second factor",
}
"""Hints; in braces stand who has the mode, and the mode."""


def _mode_hint(reason: Reason, mode: Mode | None, case: Case | None) -> str:
    by_rule = case is not None and case.rule is not None and case.rule.mfa is not None
    who = f"rule {case.rule_name}" if case is not None and by_rule else "this client"
    return _REFUSED_BY_MODE.get(reason, "").format(who, mode)


def _reject_of_verdict(verdict: PasswordVerdict, no_code: str, *, whole_field: bool) -> Reject:
    if verdict is PasswordVerdict.WRONG and whole_field:
        return Reject(Reason.WRONG_PASSWORD, _WHOLE_FIELD)
    if verdict is PasswordVerdict.WRONG and no_code:
        return Reject(
            Reason.WRONG_PASSWORD, f"the whole field was taken as the password: {no_code}"
        )
    return _REASON_OF_VERDICT[verdict]


_WHOLE_FIELD = "no code is asked of this user here, so the whole field was taken as the password"

_REASON_OF_VERDICT = {
    PasswordVerdict.WRONG: Reject(Reason.WRONG_PASSWORD),
    PasswordVerdict.ONE_TIME: Reject(
        Reason.PASSWORD_MUST_CHANGE, "a one-time password is for signing in at /admin alone"
    ),
    PasswordVerdict.UNKNOWN_USER: Reject(
        Reason.UNKNOWN_USER, "enrolled here, but the directory does not know the name"
    ),
    PasswordVerdict.AMBIGUOUS: Reject(
        Reason.AMBIGUOUS_USER, "the name stands for several entries: directory.ambiguous has them"
    ),
    PasswordVerdict.DISABLED: Reject(Reason.ACCOUNT_DISABLED, "disabled in the directory"),
    PasswordVerdict.EXPIRED: Reject(
        Reason.ACCOUNT_EXPIRED, "the account's end is in the directory"
    ),
    PasswordVerdict.LOCKED: Reject(Reason.DIRECTORY_LOCKED, "locked by the directory, not here"),
    PasswordVerdict.MUST_CHANGE: Reject(
        Reason.PASSWORD_MUST_CHANGE, "the directory wants a new password before any login"
    ),
    PasswordVerdict.PASSWORD_EXPIRED: Reject(
        Reason.PASSWORD_EXPIRED, "the user has to change it where the directory lets them"
    ),
    PasswordVerdict.RESTRICTED: Reject(
        Reason.LOGON_RESTRICTED, "the directory forbids it: logon hours, or workstations allowed"
    ),
}


def _closed(user: Identity, loaded: Loaded) -> Reject | None:
    """Return why nobody can log in as *user*, by what is known here or by the directory's word."""
    if loaded.locked_until:
        return Reject(Reason.ACCOUNT_LOCKED, lock_hint(user.name, loaded.locked_until))
    return None if user.state is None else _REASON_OF_VERDICT[user.state]


def lock_hint(user: str, locked_until: int) -> str:
    """Return when the lock of *user* ends and how to end it now."""
    unlock = f"radius-mfa user unlock {shlex.quote(user)}"
    if locked_until == UNTIL_UNLOCKED:
        return f"locked until an admin runs: {unlock}"
    until = datetime.fromtimestamp(locked_until / 1000, UTC)
    return f"locked until {until:%Y-%m-%d %H:%M:%S} UTC; to end it now: {unlock}"


def _no_password(password: str | None) -> Reject:
    if password is None:
        return Reject(Reason.UNDECODABLE_PASSWORD, "the octets fit no charset in password_charsets")
    return Reject(Reason.EMPTY_PASSWORD, "a code alone was typed")


def _wrong_code_hint(
    readings: list[Candidate], enrolment: Enrolment, policy: SplitPolicy, now: float
) -> str:
    if not readings:
        lengths = " or ".join(map(str, sorted(enrolment.code_lengths)))
        if policy.code_alone:
            return f"the answer to a challenge is a code of {lengths} digits, and nothing else"
        return f"no code of {lengths} digits where this client expects it"
    for reading in readings:
        offset = totp.clock_offset_seconds(enrolment.devices, reading.code, now)
        if offset:
            direction = "slow" if offset < 0 else "fast"
            return f"the phone's clock seems about {abs(offset)} s {direction}"
    return ""


def _outcome(user: str, settled: Settled) -> Outcome:
    decision, locked_until = settled.decision, settled.locked_until
    if isinstance(decision, Reject) and decision.reason is Reason.ACCOUNT_LOCKED:
        return Outcome(Reject(decision.reason, lock_hint(user, locked_until)))
    return Outcome(decision, settled.shared, locked_until)

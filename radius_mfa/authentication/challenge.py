"""The second round of a login: the challenge that goes out, and which answers are any good.

Knows no password and no code: what was typed is for ``login`` to judge.
"""

import secrets
from collections.abc import Sequence
from dataclasses import replace

from radius_mfa.policy import challenge
from radius_mfa.policy.challenge import ChallengePolicy
from radius_mfa.policy.decision import FACTOR_AT_FAULT, Accept, Challenge, Reject
from radius_mfa.policy.decision import RejectReason as Reason
from radius_mfa.stores.interfaces import Loaded, PendingChallenge, Settlement, Subject, VerdictKey

FORGED = Reject(Reason.STATE_FORGED, "no server of this cluster gave that State to anybody")
VOID = Reject(
    Reason.STATE_VOID,
    "since the password was right, the user was changed or unlocked: the login starts again",
)
_EXPIRED = Reject(
    Reason.STATE_EXPIRED, "the answer came too late: challenge.lifetime_seconds is how long one has"
)
_FOREIGN = Reject(
    Reason.STATE_FOREIGN,
    "given to another user, client or Calling-Station-Id, or Redis has lost its memory since",
)
_USED = Reject(Reason.STATE_USED, "each State is answered once")


class Challenges:
    """Gives challenges and takes their answers, sealed by the one key of the cluster."""

    def __init__(self, policy: ChallengePolicy, digest_key: bytes) -> None:
        self._policy = policy
        self._digest_key = digest_key

    def is_ours(self, state: bytes) -> bool:
        """Return whether a server of this cluster gave *state*, however long ago."""
        return challenge.expiry(state, self._digest_key) is not None

    def gave(self, state: bytes, now: float) -> bool:
        """Return whether *state* is ours and has not ended."""
        ends = challenge.expiry(state, self._digest_key)
        return ends is not None and now < ends

    def new(self, now: float, reason: Reason | None = None, hint: str = "") -> Challenge:
        """Return a challenge with a State of its own; *reason* is why the code before it failed."""
        ends = int(now) + self._policy.lifetime_seconds
        nonce = secrets.token_bytes(challenge.NONCE_OCTETS)
        return Challenge(challenge.new_state(nonce, ends, self._digest_key), reason, hint)

    def on_record(
        self,
        digest: str,
        subject: Subject,
        loaded: Loaded,
        keys: Sequence[VerdictKey],
        answers: PendingChallenge | None,
    ) -> PendingChallenge:
        """Return what is to be known of a challenge that is given, its State's digest *digest*.

        *keys* are those of the packet that it answers; *answers* is the challenge before it.
        """
        return PendingChallenge(
            digest=digest,
            generation=loaded.generation,
            tries=self._policy.tries if answers is None else answers.tries - 1,
            source=subject.source,
            verdicts=tuple(key.digest for key in keys[1:]),  # the packet's own may stay
            ttl_ms=self._policy.lifetime_seconds * 1000,
        )

    def answered(
        self, state: bytes, subject: Subject, loaded: Loaded, now: float
    ) -> PendingChallenge | Reject:
        """Return what *subject* answers by *state*, or why it is no good whatever the answer is."""
        pending = loaded.challenge
        if not self.gave(state, now):
            return _EXPIRED
        if pending is None or pending.source != subject.source:
            return _FOREIGN
        if not pending.tries:
            return _USED
        return pending if pending.generation == loaded.generation else VOID

    def settlement(self, judged: Settlement, pending: PendingChallenge, now: float) -> Settlement:
        """Return what *judged*, the code in an answer to *pending*, comes to: perhaps a new try."""
        decision = judged.decision
        if isinstance(decision, Accept):
            return replace(judged, answers=pending)
        if decision.reason not in FACTOR_AT_FAULT:
            return judged
        if pending.tries > 1:
            judged = replace(judged, decision=self.new(now, decision.reason, decision.hint))
        return replace(judged, answers=pending)


def of_round_one(subject: Subject, loaded: Loaded) -> Subject:
    """Return *subject* with the station of the first round where the answer came without one."""
    pending = loaded.challenge
    if pending and subject.source.endswith("|") and pending.source.startswith(subject.source):
        return replace(subject, source=pending.source)
    return subject

"""What each reason of a reject means and what to do about it: the one place of these words.

They are for operators and admins; users never see them. docs/reasons.md is checked against them.
"""

import shlex
from dataclasses import dataclass

from radius_mfa.policy.decision import RejectReason


@dataclass(frozen=True, slots=True)
class Explanation:
    """Sentences with `names of the program` in backticks; ``{user}`` stands for the user's name."""

    means: str
    cure: str

    def cure_of(self, user: str) -> str:
        """Return what to do about it where it happened to *user*, quoted for a shell.

        A backtick would end the command where it is shown: USER stands for such a name.
        """
        return self.cure.replace("{user}", "USER" if "`" in user else shlex.quote(user))


EXPLANATIONS = {
    RejectReason.ACCOUNT_DISABLED: Explanation(
        "The account is disabled in the directory.",
        "Enable it there, if that is right.",
    ),
    RejectReason.ACCOUNT_EXPIRED: Explanation(
        "The account's end, which stands in the directory, is past.",
        "Give it a later end there, if that is right.",
    ),
    RejectReason.ACCOUNT_LOCKED: Explanation(
        "Too many failures. Even the right password and code are refused, and no code is used up.",
        "Wait until the time in the hint, or `radius-mfa user unlock {user}`. Look at the "
        "failures before it: `radius-mfa user show {user}`.",
    ),
    RejectReason.AMBIGUOUS_USER: Explanation(
        "The name stands for several entries of the directory. The line `directory.ambiguous` "
        "has them.",
        "Narrow `base`, `filter` or `lookup` of that `[[directory.ldap]]`, or rename one of "
        "the two.",
    ),
    RejectReason.ATTRIBUTES_TOO_LONG: Explanation(
        "Password and code were right, and what rule and groups would send does not fit into a "
        "reply of 4096 octets. The code is not used up.",
        "Mostly a user of thousands of groups: let `group_map` of the client name those that it "
        "needs.",
    ),
    RejectReason.ATTRIBUTE_MISSING: Explanation(
        "Password and code were right, and an attribute that the rule requires has no fitting "
        "value; the hint says which and why. The code is not used up.",
        "Enter the value in the directory, or take the attribute out of `required`.",
    ),
    RejectReason.CODE_PREDATES_REDIS: Explanation(
        "Redis has lost its memory (`redis.memory_lost`), so a code from before may have been "
        "used.",
        "Nothing: the code after the next one works. Find out why Redis forgot: see "
        "docs/operations.md.",
    ),
    RejectReason.CODE_REPLAYED: Explanation(
        "The code is right, and was used before, or an even newer one was; or it is a "
        "recovery code that was used before.",
        "Wait for the next code: each works once. If it happens without anybody typing twice, "
        "the gateway repeats logins as new packets: set `failover_grace_seconds` for this "
        "client, or look for a renegotiation that sends the old code again.",
    ),
    RejectReason.DIRECTORY_LOCKED: Explanation(
        "The directory itself has locked the account, after wrong passwords here or anywhere else.",
        "Unlock it there. `radius-mfa user unlock` does not help.",
    ),
    RejectReason.EMPTY_PASSWORD: Explanation(
        "The field was empty, or held a code and nothing else.",
        "The user types password and code. Some gateways probe with an empty password: then "
        "it is the gateway's setting.",
    ),
    RejectReason.ENROLLMENT_EXPIRED: Explanation(
        "The user was told to enrol and the period is over.",
        "`radius-mfa device add {user}`, or give more time: `radius-mfa user extend {user}`.",
    ),
    RejectReason.FACTOR_SUSPENDED: Explanation(
        "An admin has suspended the user's second factor, and this login needs it.",
        "`radius-mfa user resume {user} --factor`, if that is right. A lost phone: "
        "`radius-mfa user reset {user}`.",
    ),
    RejectReason.IN_ENROLLMENT: Explanation(
        'The user\'s enrolment period still runs, but this client has `mfa = "always"`.',
        'The user enrols now, or `mfa = "required"` for this client: see docs/enrolment.md.',
    ),
    RejectReason.INVALID_USER_NAME: Explanation(
        "The name is missing, longer than 253 characters, undecodable, or holds control or "
        "invisible characters.",
        "The hint says which. Undecodable: see `password_charsets`, which is for names too.",
    ),
    RejectReason.LOGON_RESTRICTED: Explanation(
        "The password is right, and the directory forbids this login: logon hours, the "
        "workstations allowed, or the entry may not bind.",
        "Change that in the directory.",
    ),
    RejectReason.NO_PASSWORD: Explanation(
        "User-Password has an impossible length.",
        "The gateway's fault, or somebody plays with packets.",
    ),
    RejectReason.NOT_ENROLLED: Explanation(
        "The user is on record, has no device whose first code was confirmed, and was never "
        "told to enrol; this client's `mfa` lets only enrolled users in (docs/enrolment.md).",
        "`radius-mfa device add {user}`",
    ),
    RejectReason.PASSWORD_EXPIRED: Explanation(
        "The password is too old by the directory's rules.",
        "The user sets a new one at a workstation or in the directory's own portal: RADIUS "
        "with PAP can't carry it.",
    ),
    RejectReason.PASSWORD_MUST_CHANGE: Explanation(
        "An admin has set the password, and the directory wants another one before any login; or "
        "it is a one-time password of `radius-mfa admin create`.",
        "As for `password_expired`; a one-time password is changed at `/admin`.",
    ),
    RejectReason.UNDECODABLE_PASSWORD: Explanation(
        "The password's octets fit none of the client's `password_charsets`.",
        "The gateway sends another character set: add it, such as `password_charsets = "
        '["utf-8", "latin-1"]`.',
    ),
    RejectReason.UNKNOWN_USER: Explanation(
        "No directory has a user of this name.",
        "A typing error, or somebody who guesses names, or a realm (`CORP\\alice`, "
        "`alice@corp.example`) that `directory.local.realms` does not list. A real user: "
        "`radius-mfa user add {user}`.",
    ),
    RejectReason.UNSUPPORTED_METHOD: Explanation(
        "The gateway sent CHAP, MS-CHAP, EAP or nothing in place of a password, or both, or "
        "asked for a service that is no login (Call-Check, Authorize-Only); the hint says "
        "which.",
        "Set the gateway to PAP: no other method can carry a password and a code.",
    ),
    RejectReason.USER_SUSPENDED: Explanation(
        "An admin has suspended the user.",
        "`radius-mfa user resume {user}`, if that is right.",
    ),
    RejectReason.WRONG_CODE: Explanation(
        'Nothing at the end of the field (or at its start, with `code_position = "start"`) is '
        "a code of this user's devices in the time window. The password was not looked at and "
        "may be wrong as well.",
        'Read the hint. A clock that is off: switch automatic time on in the phone. "no code '
        'of 6 digits": the user typed the password alone, or the gateway cut the field. No '
        "hint: a typing error, or an app that shows the code of another account.",
    ),
    RejectReason.REFUSED_BY_NAS: Explanation(
        "sshd sends a text of its own (`INCORRECT`) in place of the password of a user whom it "
        "lets in by none: no such local user, or shut out by its configuration.",
        "Nothing here: make the user on that host, or look at `AllowUsers`, `PermitRootLogin` "
        "and the shell there.",
    ),
    RejectReason.STATE_EXPIRED: Explanation(
        "The answer to a challenge came later than `challenge.lifetime_seconds` after the "
        "question.",
        "The user logs in again. If it happens often: a longer life, or a gateway that lets its "
        "users wait.",
    ),
    RejectReason.STATE_FOREIGN: Explanation(
        "The State is one of ours, but not of this user at this client and Calling-Station-Id; or "
        "Redis has lost its memory since.",
        "The user logs in again. If it repeats: the gateway changes User-Name between the "
        "rounds, or somebody plays with packets.",
    ),
    RejectReason.STATE_FORGED: Explanation(
        "No server with this database gave such a State.",
        "A gateway that talks to two installations, or somebody who makes packets up.",
    ),
    RejectReason.STATE_USED: Explanation(
        "This State was answered before: by another packet, or by a wrong code, after which the "
        "gateway has to send the new State.",
        "The user logs in again. If it repeats: the gateway keeps an old State, or somebody "
        "replays packets.",
    ),
    RejectReason.STATE_VOID: Explanation(
        "Between password and code the user was changed (a device, a suspension) or unlocked, or "
        "no code is needed any more.",
        "The user logs in again.",
    ),
    RejectReason.WRONG_PASSWORD: Explanation(
        "The password was not right; a code beside it is not used up. The hint says where the "
        "whole field was taken as the password: where no code is needed, with "
        '`prompt = "challenge"`, and with `"auto"` where no right code was found in it. What ends '
        "like a code counts then as a failure of either factor.",
        "The user types the password again, or an admin sets a new one: `radius-mfa user "
        "passwd {user}`.",
    ),
    RejectReason.BACKEND_UNAVAILABLE: Explanation(
        'A backend had no answer, and this client has `on_backend_failure = "reject"`. The '
        "hint says which.",
        "Look at `radius-mfa status`, and at `login.unanswered` in docs/reasons.md.",
    ),
    RejectReason.REFUSED_BY_RULE: Explanation(
        "A `[[rule]]` with `refuse = true` matched; the hint names it. Mostly nothing typed was "
        "looked at.",
        "`radius-mfa policy explain {user} --client NAME` shows why the rules before it did not "
        "match: docs/policy.md.",
    ),
    RejectReason.ATTRIBUTE_MISSING: Explanation(
        "Password and code were right, and an attribute that the rule requires has no fitting "
        "value; the hint says which and why. The code is not used up.",
        "Enter the value in the directory, or take the attribute out of `required`.",
    ),
    RejectReason.ATTRIBUTES_TOO_LONG: Explanation(
        "Password and code were right, and what rule and groups would send does not fit into a "
        "reply of 4096 octets. The code is not used up.",
        "Mostly a user of thousands of groups: let `group_map` of the client name those that it "
        "needs.",
    ),
}

_KNOWN = {reason.value: words for reason, words in EXPLANATIONS.items()}


def explained(reason: str) -> Explanation | None:
    """Return the words for *reason*; None for what is none, or one of a newer release."""
    return _KNOWN.get(reason)

"""What admins of the portal may do, by role."""

from collections.abc import Mapping
from enum import Enum, StrEnum, auto


class Role(StrEnum):
    """What somebody is in the admin portal."""

    ADMIN = "admin"
    HELPDESK = "helpdesk"
    AUDITOR = "auditor"


class Right(Enum):
    """What a page or an action of the admin portal asks for."""

    SEE = auto()
    HELP = auto()  # unlock, reset
    DECIDE = auto()  # whatever else changes something, and all that is done to admins


RIGHTS: Mapping[Role, frozenset[Right]] = {
    Role.ADMIN: frozenset(Right),
    Role.HELPDESK: frozenset({Right.SEE, Right.HELP}),
    Role.AUDITOR: frozenset({Right.SEE}),
}

SIGN_IN_FAILURES = 5
"""Failures of an admin to sign in until that is closed to them, whatever ``[lockout]`` says."""

SIGN_IN_LOCK_SECONDS = 900
"""How long it is closed, from the first of the failures on."""

ONE_TIME_SECONDS = 86_400
"""How long a password that was made for a new admin waits for its one use."""

MIN_PASSWORD_CHARACTERS = 12

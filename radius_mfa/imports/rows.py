"""What a file held: rows that can be taken over, and what can't, by place, with the cure."""

import re
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from radius_mfa.policy.totp import Algorithm

T = TypeVar("T")

_LIKE_A_SECRET = re.compile(r"[$&{].*|[A-Z2-7]{26,}=*|[0-9a-f]{32,}|[0-9A-F]{32,}", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that can't be taken over. No text in it quotes a secret."""

    place: str
    subject: str
    what: str
    cure: str = ""


@dataclass(frozen=True, slots=True)
class UserRow:
    """A user of the local directory, with a hash or a password still to be hashed."""

    place: str
    user: str
    password_hash: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    suspended: bool | None = None
    groups: tuple[str, ...] | None = None
    mail: str | None = None


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """A device of a user, fit to be enrolled."""

    place: str
    user: str
    name: str
    seed: bytes = field(repr=False)
    algorithm: Algorithm = Algorithm.SHA1
    digits: int = 6
    time_step_seconds: int = 30


@dataclass(slots=True)
class Parsed(Generic[T]):
    """Rows that can be taken over, faults that keep others out, and losses of those that can."""

    rows: list[T] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    losses: list[Fault] = field(default_factory=list)


def subject(text: str) -> str:
    """Return *text* to name a row by, hidden where it may be a secret in the wrong column."""
    return "(hidden)" if _LIKE_A_SECRET.fullmatch(text) else text

"""Which time step a code belongs to (RFC 6238). Replay is the caller's business."""

import base64
import hashlib
import hmac
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import pyotp

from radius_mfa.hmacs import Hmac
from radius_mfa.values import value

MAX_LOOK_STEPS = 10
"""The widest window that may be configured, in steps to either side."""

RESYNC_STEPS = 120
"""How far around now two codes in a row are looked for: an hour with codes of 30 seconds.

Two six-digit codes are right by accident once in 4 * 10^9 tries (RFC 4226 section 7.4).
"""

HINT_STEPS = 20
"""How far around now a refused code is looked for, to tell the operator of a wrong clock."""


class Algorithm(StrEnum):
    """The HMAC hash of a device, in the spelling of the otpauth URI."""

    SHA1 = "SHA1"
    SHA256 = "SHA256"
    SHA512 = "SHA512"


@value
class Device:
    """An enrolled authenticator, its first code confirmed.

    *confirmed_step* is the time step of that first code: it was used, and so was all before it.
    *drift_steps* is by how much its clock was ahead (behind is negative) when it was resynced.
    """

    device_id: str
    name: str
    seed: bytes = field(repr=False)
    algorithm: Algorithm = Algorithm.SHA1
    digits: int = 6
    time_step_seconds: int = 30
    confirmed_step: int | None = None
    drift_steps: int = 0

    def time_step(self, now: float) -> int:
        """Return the time step (RFC 6238 T) of Unix time *now* by the device's own clock."""
        return int(now) // self.time_step_seconds + self.drift_steps


@dataclass(frozen=True, slots=True)
class Window:
    """How many time steps before and after the present one are accepted (RFC 6238 section 5.2)."""

    lookback_steps: int = 1
    lookforward_steps: int = 1

    def steps(self, device: Device, now: float) -> Sequence[int]:
        """Return the acceptable time steps of *device*, oldest first."""
        present = device.time_step(now)
        return range(max(present - self.lookback_steps, 0), present + self.lookforward_steps + 1)


@value
class Match:
    """A code belongs to this time step of this device."""

    device: Device
    time_step: int


def code_at(device: Device, time_step: int) -> str:
    """Return the code of *device* in *time_step*, leading zeros kept (RFC 4226 section 5.3)."""
    return next(codes(device, [time_step])).decode("ascii")


def codes(device: Device, time_steps: Iterable[int]) -> Iterator[bytes]:
    """Yield the code of *device* in each of *time_steps*, as ASCII digits.

    pyotp's generator takes many times as long, and a login needs every code of the window; the
    tests hold the two together.
    """
    keyed, digits, modulus = Hmac(device.seed, device.algorithm), device.digits, 10**device.digits
    for time_step in time_steps:
        digest = keyed.digest(time_step.to_bytes(8, "big"))
        offset = digest[-1] & 0xF
        number = int.from_bytes(digest[offset : offset + 4], "big") & 0x7FFF_FFFF
        yield b"%0*d" % (digits, number % modulus)


def base32(seed: bytes) -> str:
    """Return *seed* as authenticator apps take it, without padding."""
    return base64.b32encode(seed).decode().rstrip("=")


def in_groups(key: str) -> str:
    """Return *key* in groups of four characters, as people type it."""
    return " ".join(key[at : at + 4] for at in range(0, len(key), 4))


def otpauth_uri(device: Device, account: str, issuer: str) -> str:
    """Return the URI that authenticator apps scan (the Key Uri Format of Google Authenticator)."""
    totp = pyotp.TOTP(
        base32(device.seed),
        digits=device.digits,
        digest=getattr(hashlib, device.algorithm.lower()),
        interval=device.time_step_seconds,
    )
    return totp.provisioning_uri(name=account, issuer_name=issuer)


def matches(devices: Iterable[Device], code: str, now: float, window: Window) -> list[Match]:
    """Return every (device, time step) inside the window whose code is *code*.

    *code* is ASCII digits. All codes are computed and compared in constant time, whatever
    matches: time tells nothing (checklist O16).
    """
    found = []
    given = code.encode("ascii")
    for device in devices:
        if device.digits != len(code):
            continue
        steps = window.steps(device, now)
        for step, right in zip(steps, codes(device, steps), strict=True):
            if hmac.compare_digest(right, given):
                found.append(Match(device, step))
    return found


def newest_match(device: Device, typed: str, now: float, window: Window) -> int | None:
    """Return the newest time step whose code was *typed*, with or without spaces, or None."""
    code = "".join(typed.split())
    if not (code.isascii() and code.isdecimal()):
        return None
    found = matches([device], code, now, window)
    return max((match.time_step for match in found), default=None)


def matches_in_a_row(devices: Iterable[Device], codes: str, now: float) -> list[Match]:
    """Return every (device, time step) at which *codes*, two of equal length, end one by the other.

    *codes* is ASCII digits. The step is that of the second code.
    """
    first, second = codes[: len(codes) // 2], codes[len(codes) // 2 :].encode("ascii")
    firsts = matches(devices, first, now, Window(RESYNC_STEPS, RESYNC_STEPS))
    return [
        Match(one.device, one.time_step + 1)
        for one in firsts
        if hmac.compare_digest(code_at(one.device, one.time_step + 1).encode("ascii"), second)
    ]


def clock_offset_seconds(devices: Iterable[Device], code: str, now: float) -> int | None:
    """Return by how much the clock that made *code* seems off (behind is negative), or None.

    For the operator's hint only: nothing that this finds is ever accepted.
    """
    wide = Window(HINT_STEPS, HINT_STEPS)
    offsets = [
        (match.time_step - match.device.time_step(now)) * match.device.time_step_seconds
        for match in matches(devices, code, now, wide)
    ]
    return min(offsets, key=abs, default=None)

"""What an authenticator must be to be enrolled, whichever way it comes in."""

SEED_OCTETS = 20
"""160 bits, as RFC 4226 section 4 recommends, for new seeds."""

MIN_SEED_OCTETS = 16
"""128 bits, the least that RFC 4226 section 4 allows."""

MAX_SEED_OCTETS = 128
"""HMAC gains nothing beyond its block, 128 octets at most; a longer one is a mistake."""

DIGITS = (6, 8)
TIME_STEPS = (30, 60)
MAX_NAME_CHARACTERS = 64

Finding = tuple[str, str]
"""What is wrong, and the cure. Neither quotes a seed."""


def unfit(name: str, seed: bytes, digits: int, time_step_seconds: int) -> list[Finding]:
    """Return everything that keeps a device from being enrolled; nothing where it is fit."""
    found = []
    if not name.isprintable() or not 1 <= len(name.strip()) <= MAX_NAME_CHARACTERS:
        found.append(
            (
                f"a device's name is 1 to {MAX_NAME_CHARACTERS} printable characters",
                "choose another",
            )
        )
    if not MIN_SEED_OCTETS <= len(seed) <= MAX_SEED_OCTETS:
        bound = (
            f"{MIN_SEED_OCTETS * 8} at least (RFC 4226 section 4)"
            if len(seed) < MIN_SEED_OCTETS
            else f"{MAX_SEED_OCTETS * 8} at most"
        )
        found.append(
            (
                f"the seed is {len(seed) * 8} bits long: {bound}",
                "enrol a new one of 160 bits: radius-mfa device add",
            )
        )
    if digits not in DIGITS:
        found.append((f"codes of {digits} digits: 6 or 8 are possible", "enrol another device"))
    if time_step_seconds not in TIME_STEPS:
        found.append(
            (
                f"a new code every {time_step_seconds} s: every 30 or 60 s are possible",
                "enrol another device",
            )
        )
    return found

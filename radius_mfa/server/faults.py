"""How an unforeseen fault is told: its kind and where it was, nothing of what it says (L02)."""

import traceback

HINT = "a fault of radius-mfa: please report this line"
_FRAMES = 4


def fault(error: BaseException) -> dict[str, str]:
    """Return the fields of a log line about *error*; its text may quote a packet or a password."""
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    return {
        "error": type(error).__name__,
        "at": " < ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(frames)),
        "hint": HINT,
    }

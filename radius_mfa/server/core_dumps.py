"""Core dumps: one would hold seeds, passwords and the keys (checklist L05)."""

import ctypes
import resource

_PR_SET_DUMPABLE = 4


def forbid() -> None:
    """Keep the memory of this process from files and from other processes of its user.

    The limit alone does not do: a kernel that pipes core dumps to a program does not ask it. A
    process that is not dumpable can't be traced by its own user either, and its ``/proc`` entries
    are root's.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_DUMPABLE) failed")


def word(*, allowed: bool) -> str:
    """Return how the log and ``radius-mfa status`` call the setting."""
    return "allowed" if allowed else "off"

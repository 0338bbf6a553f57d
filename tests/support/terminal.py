"""Programs that ask on a terminal, and a user who answers them."""

import os
import pty
import re
import select
import signal
import time
from collections.abc import Sequence

PATIENCE_SECONDS = 30.0


def dialogue(command: Sequence[str], answers: Sequence[tuple[str, str]], until: str = "") -> str:
    """Run *command* on a terminal and return all that it showed, line ends as on paper.

    Each of *answers* is typed once what the program has shown since the last one ends in its
    prompt, a pattern. The program is ended where *until*, a pattern, is shown.
    """
    process, terminal = pty.fork()
    if process == 0:
        os.execv(command[0], list(command))  # noqa: S606 - no shell is wanted
    shown, read_from, waiting = "", 0, list(answers)
    deadline = time.monotonic() + PATIENCE_SECONDS
    try:
        while not (until and re.search(until, shown)) and (octets := _read(terminal, deadline)):
            shown += octets.decode("utf-8", "replace")
            if waiting and re.search(waiting[0][0] + r"\s*\Z", shown[read_from:]):
                read_from = len(shown)
                os.write(terminal, f"{waiting.pop(0)[1]}\n".encode())
    finally:
        os.kill(process, signal.SIGTERM)
        os.close(terminal)  # ends one that still asks
        os.waitpid(process, 0)
    assert not waiting, f"it never asked {waiting[0][0]}: {shown}"
    return shown.replace("\r", "")


def _read(terminal: int, deadline: float) -> bytes:
    """Return what the program shows next; nothing at its end or at the *deadline*."""
    ready, _, _ = select.select([terminal], [], [], max(0, deadline - time.monotonic()))
    try:
        return os.read(terminal, 4096) if ready else b""
    except OSError:  # Linux: the other side has closed it
        return b""

"""How long a refusal takes: the same for every cause of it, over RADIUS and at the portal."""

import asyncio
import random
from time import monotonic

REJECT_JITTER = 0.1
"""The share of the reject delay that is random on top of it."""


async def reject_delay(arrived: float, seconds: float) -> None:
    """Wait until a reject is due: *seconds* from its arrival, so that no cause of it shows.

    *arrived* is monotonic time.
    """
    delay = seconds * (1 + REJECT_JITTER * random.random())  # noqa: S311 - jitter
    await asyncio.sleep(arrived + delay - monotonic())

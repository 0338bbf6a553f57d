"""Work beside the logins, step after step: a step that fails is told of, and the next one tried."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from radius_mfa.errors import BackendUnavailable
from radius_mfa.server.faults import fault

AFTER_A_FAULT_SECONDS = 1.0

log = structlog.get_logger()


async def keep_doing(step: Callable[[], Awaitable[float]], work: str) -> None:
    """Do *step* for ever, resting between two for as many seconds as it returns.

    A backend that is away is no news here: the watches tell of it.
    """
    while True:
        try:
            pause = await step()
        except BackendUnavailable:
            pause = AFTER_A_FAULT_SECONDS
        except Exception as error:  # noqa: BLE001 - work that ended would be missed too late
            log.error("background.failed", work=work, **fault(error))  # noqa: TRY400 - no traceback for an operator
            pause = AFTER_A_FAULT_SECONDS
        await asyncio.sleep(pause)

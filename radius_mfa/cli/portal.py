"""``radius-mfa portal``: run the web portal."""

import asyncio
import signal

import typer
import uvloop

from radius_mfa import log
from radius_mfa.cli.common import configuration
from radius_mfa.stores.events import EventQueue


def portal(ctx: typer.Context) -> None:
    """Run the web portal until SIGTERM or Ctrl-C. SIGHUP opens the log file again."""
    from radius_mfa import portal_process  # noqa: PLC0415 - serve must not load the web framework

    settings = configuration(ctx).settings
    events = EventQueue()
    file = log.configure(
        settings.log.format, settings.log.level, settings.log.file, publish=events.append
    )

    async def main() -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, file.reopen)
        await portal_process.serve(settings, events)

    uvloop.run(main())

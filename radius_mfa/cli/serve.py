"""``radius-mfa serve``: run the server."""

import asyncio
import signal

import typer
import uvloop

from radius_mfa import app, log
from radius_mfa.cli.common import configuration
from radius_mfa.stores.events import EventQueue


def serve(ctx: typer.Context) -> None:
    """Run the server until SIGTERM or Ctrl-C. SIGHUP opens the log file again."""
    loaded = configuration(ctx)
    settings = loaded.settings
    events = EventQueue()
    file = log.configure(
        settings.log.format, settings.log.level, settings.log.file, publish=events.append
    )
    for warning in loaded.warnings:
        app.log.warning(
            "configuration.unwise",
            place=warning.place,
            setting=warning.setting,
            detail=warning.message,
            hint=warning.cure,
        )

    async def main() -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, file.reopen)
        await app.serve(settings, lambda: file.lines_lost, events)

    uvloop.run(main())

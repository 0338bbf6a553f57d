"""The command line: one module per noun. Errors are one line and the cure."""

import contextlib
import os
import sys
from pathlib import Path
from traceback import extract_tb
from typing import Annotated

import typer

from radius_mfa import __version__
from radius_mfa.cli import client, config, demo, device, init, serve, status, test, user
from radius_mfa.cli.common import ExitCode, say_error
from radius_mfa.config_file import DEFAULT_PATH, PATH_VARIABLE, configuration_path
from radius_mfa.errors import BackendUnavailable, OperatorError

app = typer.Typer(
    name="radius-mfa",
    help="A RADIUS server that adds a second factor to VPN logins.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(init.init)
app.command()(serve.serve)
app.add_typer(demo.app, name="demo")
app.add_typer(user.app, name="user")
app.add_typer(device.app, name="device")
app.add_typer(client.app, name="client")
app.add_typer(config.app, name="config")
app.command("test")(test.test_login)
app.command()(status.status)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"radius-mfa {__version__}")  # noqa: T201 - what was asked for
        raise typer.Exit


@app.callback()
def root(
    ctx: typer.Context,
    config_file: Annotated[
        Path | None,
        typer.Option(
            "--config",
            "-c",
            help=f"Configuration file. Default: ${PATH_VARIABLE}, or {DEFAULT_PATH}.",
        ),
    ] = None,
    version: Annotated[  # noqa: ARG001 - acts by its callback
        bool,
        typer.Option("--version", help="Show the version.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """Take what every command shares."""
    ctx.obj = configuration_path(config_file)


def main() -> None:
    """Run the command line; whatever goes wrong ends in one line and an exit code."""
    try:
        app()
    except OperatorError as error:
        say_error(error.message, error.cure)
        sys.exit(error.exit_code)
    except BackendUnavailable as error:
        say_error(f"{error.backend} does not answer: {error.cause}", "see: radius-mfa status")
        sys.exit(ExitCode.BACKEND_UNAVAILABLE)
    except BrokenPipeError:  # the reader, such as head, has seen enough
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(ExitCode.DONE)
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)
    except Exception as error:  # noqa: BLE001 - no traceback ever reaches a user
        frame = extract_tb(error.__traceback__)[-1]
        say_error(
            f"a fault of radius-mfa itself: {type(error).__name__} "
            f"in {frame.name}, {Path(frame.filename).name}:{frame.lineno}",
            "please report this line",
        )
        sys.exit(ExitCode.INTERNAL_FAULT)

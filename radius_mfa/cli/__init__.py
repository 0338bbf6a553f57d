"""The command line: one module per noun. Errors are one line and the cure."""

import contextlib
import errno
import io
import os
import sys
from pathlib import Path
from traceback import extract_tb
from typing import Annotated, Any

import typer

from radius_mfa import __version__
from radius_mfa.cli import (
    admin,
    audit,
    client,
    config,
    demo,
    device,
    device_import,
    directory,
    explain,
    init,
    key,
    mail,
    policy,
    portal,
    serve,
    status,
    tail,
    test,
    transfer,
    user,
    user_import,
)
from radius_mfa.cli.common import ExitCode, errors, say_error
from radius_mfa.config_environment import PATH_VARIABLE
from radius_mfa.config_file import DEFAULT_PATH, configuration_path
from radius_mfa.errors import BackendError, BackendUnavailable, OperatorError, Refused

app = typer.Typer(
    name="radius-mfa",
    help="A RADIUS server that adds a second factor to VPN logins.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(init.init)
app.command()(serve.serve)
app.command()(portal.portal)
user.app.command("import")(user_import.import_users)
app.add_typer(user.app, name="user")
device.app.command("import")(device_import.import_devices)
app.add_typer(device.app, name="device")
app.add_typer(admin.app, name="admin")
app.add_typer(client.app, name="client")
app.add_typer(key.app, name="key")
app.add_typer(directory.app, name="directory")
app.add_typer(policy.app, name="policy")
app.add_typer(config.app, name="config")
app.add_typer(audit.app, name="audit")
app.add_typer(mail.app, name="mail")
app.command("test")(test.test_login)
app.command()(status.status)
app.command()(tail.tail)
app.command()(explain.explain)
app.command()(transfer.export)
app.command("import")(transfer.import_everything)
app.add_typer(demo.app, name="demo")


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
            metavar="FILE",
            readable=False,  # an error of ours says more
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
    os.umask(0o027)  # database and append-only file hold what others must not read
    _open_closed_streams()
    code = run()
    if code == ExitCode.INTERRUPTED:
        errors.print()  # the shell's prompt begins a line
    try:
        sys.stdout.flush()
    except OSError as error:
        code = code or _not_written(error)
    sys.exit(code)


def run(words: list[str] | None = None) -> int:
    """Run the command in *words*, or the process's own, and return its exit code."""
    try:
        result = app(words, prog_name="radius-mfa", standalone_mode=False)
    except SystemExit as exit_:
        result = exit_.code
    except KeyboardInterrupt:
        result = ExitCode.INTERRUPTED
    except Exception as error:  # noqa: BLE001 - no traceback ever reaches a user
        result = _failed(error)
    return result if isinstance(result, int) else ExitCode.DONE


def _failed(error: Exception) -> int:
    if isinstance(error, typer.Abort) and isinstance(error.__context__, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    if isinstance(error, typer.Abort):
        if error.__cause__ is None:  # the prompt's own line is still open
            errors.print()
        error = Refused("the input ended before the answer", "nothing was changed")
    if isinstance(error, BackendUnavailable):
        what = f"{error.backend} does not answer: {error.cause}"
        error = BackendError(what, "see: radius-mfa status")
    if isinstance(error, OperatorError):
        say_error(error.message, error.cure)
        return error.exit_code
    return _misused(error) if isinstance(error, typer.TyperException) else _not_foreseen(error)


def _misused(error: Any) -> int:  # noqa: ANN401 - Typer does not export its kinds
    """Say what is wrong with the words of the command line; no words at all showed the help."""
    message = error.format_message()
    if message:
        context = getattr(error, "ctx", None)
        say_error(message, f"see: {context.command_path} --help" if context else "")
    return int(error.exit_code)


def _not_foreseen(error: Exception) -> int:
    if isinstance(error, OSError) and error.filename is None and error.errno in _OF_OUTPUT:
        return _not_written(error)
    if isinstance(error, OSError) and error.filename:
        say_error(f"{error.filename} can't be used: {error.strerror}", "let this user use it")
        return ExitCode.CONFIGURATION
    frame = extract_tb(error.__traceback__)[-1]
    say_error(
        f"a fault of radius-mfa itself: {type(error).__name__} "
        f"in {frame.name}, {Path(frame.filename).name}:{frame.lineno}",
        "please report this line",
    )
    return ExitCode.INTERNAL_FAULT


_OF_OUTPUT = {errno.EPIPE, errno.ENOSPC, errno.EIO}


def _not_written(error: OSError) -> int:
    """End in silence where the reader, such as head, has seen enough; else say what is wrong."""
    with contextlib.suppress(OSError, io.UnsupportedOperation):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if not isinstance(error, BrokenPipeError):
        say_error(f"the output can't be written: {error.strerror}")
    return ExitCode.REFUSED


def _open_closed_streams() -> None:
    """Give a process that was started without standard streams (``<&-``) some of its own."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - stays
        elif mode == "w":
            stream.reconfigure(errors="backslashreplace")

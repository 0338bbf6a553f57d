"""``radius-mfa config``: check, show, and the schema for editors."""

import sys
from dataclasses import asdict

import typer

from radius_mfa.cli.common import (
    ExitCode,
    JsonOption,
    configuration,
    errors,
    output,
    plural,
    print_json,
    settings,
)
from radius_mfa.config_file import Configuration, FaultyConfiguration
from radius_mfa.config_view import json_schema, masked, toml_text
from radius_mfa.config_words import Fault
from radius_mfa.errors import ConfigurationError
from radius_mfa.log import printable

app = typer.Typer(help="The configuration: check, show, schema.", no_args_is_help=True)


@app.command()
def check(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """Check the configuration; name every fault with its line and cure."""
    faults: list[Fault] = []
    warnings: list[Fault] = []
    summary = ""
    try:
        known = configuration(ctx)
    except FaultyConfiguration as error:
        faults = error.faults
    else:
        warnings = known.warnings
        faults = _mail_faults(known)
        summary = (
            ""
            if faults
            else (f"{known.path} is fine: {plural(len(known.settings.client), 'client')}.")
        )
    if as_json:
        print_json([*_plain("error", faults), *_plain("warning", warnings)])
    else:
        for fault in faults:
            errors.print(f"error: {printable(str(fault))}")
        for warning in warnings:
            errors.print(f"warning: {printable(str(warning))}")
        if summary:
            output.print(summary)
    sys.exit(ExitCode.CONFIGURATION if faults else ExitCode.DONE)


def _mail_faults(known: Configuration) -> list[Fault]:
    """Return what is wrong with the files that ``[mail]`` names: they are tried out."""
    if not known.settings.mail.host:
        return []
    from radius_mfa import mail_setup  # noqa: PLC0415 - a library that others can do without

    faults = []
    for name, part in (("template_folder", mail_setup.writer), ("ca_file", mail_setup.smtp_server)):
        try:
            part(known.settings)
        except ConfigurationError as error:
            faults.append(Fault(str(known.path), f"mail.{name}", error.message, error.cure))
    return faults


def _plain(severity: str, faults: list[Fault]) -> list[dict[str, str]]:
    return [{"severity": severity, **asdict(fault)} for fault in faults]


@app.command()
def show(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """Show the settings in force, defaults filled in, secrets masked."""
    values = masked(settings(ctx))
    if as_json:
        print_json(values)
    else:
        sys.stdout.write(toml_text(values))


@app.command()
def schema() -> None:
    """Print the JSON Schema of the configuration file, so that editors complete."""
    print_json(json_schema())

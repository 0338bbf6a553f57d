"""``radius-mfa config``: check, show, and the schema for editors."""

import sys
from typing import Any

import typer

from radius_mfa.cli.common import (
    ExitCode,
    JsonOption,
    configuration,
    errors,
    output,
    print_json,
    settings,
)
from radius_mfa.config_file import FaultyConfiguration, json_schema, masked, toml_text
from radius_mfa.log import printable

app = typer.Typer(help="The configuration: check, show, schema.", no_args_is_help=True)


@app.command()
def check(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """Check the configuration; name every fault with its line and cure."""
    try:
        known = configuration(ctx)
    except FaultyConfiguration as error:
        if as_json:
            print_json([_fields(fault) for fault in error.faults])
        for fault in error.faults if not as_json else ():
            errors.print(printable(str(fault)), markup=False)
        sys.exit(ExitCode.CONFIGURATION)
    if as_json:
        print_json([])
        return
    for warning in known.warnings:
        errors.print(f"warning: {printable(str(warning))}", markup=False)
    output.print(f"{known.path} is fine: {len(known.settings.client)} clients.", markup=False)


def _fields(fault: Any) -> dict[str, str]:  # noqa: ANN401
    return {name: getattr(fault, name) for name in ("place", "setting", "message", "cure")}


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

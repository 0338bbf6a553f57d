"""docs/command-line.md tells of every command, option and exit code, and of no other."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from radius_mfa.cli import app
from radius_mfa.cli.common import ExitCode

TEXT = (Path(__file__).parents[2] / "docs" / "command-line.md").read_text("utf-8")
SECTIONS: dict[str, str] = dict(
    re.findall(r"^### `radius-mfa ([a-z -]+)`\n(.*?)(?=^##|\Z)", TEXT, re.MULTILINE | re.DOTALL)
)


def commands(command: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every command that does something, with its name."""
    inner = getattr(command, "commands", {})
    if not inner or getattr(command, "invoke_without_command", False):
        yield path, command
    for name, one in inner.items():
        yield from commands(one, f"{path} {name}".strip())


COMMANDS = dict(commands(typer.main.get_command(app)))


def test_the_documentation_names_exactly_the_commands_there_are() -> None:
    assert set(SECTIONS) == set(COMMANDS)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_the_documentation_names_the_command_s_arguments_and_options(name: str) -> None:
    section = SECTIONS[name]
    options = set()
    for parameter in COMMANDS[name].params:
        if parameter.param_type_name == "argument":
            assert f"`radius-mfa {name} " in section
            assert parameter.metavar in section
        elif "--help" not in parameter.opts:
            options |= {*parameter.opts, *parameter.secondary_opts}
    told = set(re.findall(r"`(--?[a-z][a-z-]*)", section))
    assert options == told


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_and_parameter_has_a_help_text(name: str) -> None:
    command = COMMANDS[name]
    assert command.help
    assert command.help.strip().endswith(".")
    for parameter in command.params:
        if parameter.name != "help":
            assert parameter.help, parameter.name


def test_the_documentation_tells_every_exit_code() -> None:
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", TEXT, re.MULTILINE)} == set(ExitCode)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_help_holds_no_brackets_that_rich_would_take_for_markup(name: str) -> None:
    for text in [COMMANDS[name].help, *(getattr(one, "help", "") for one in COMMANDS[name].params)]:
        assert not re.search(r"(?<!\\)\[[a-z]", text or ""), text

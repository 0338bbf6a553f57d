"""How clients get into the configuration file and out of it: comments, mode and owner are kept."""

import fcntl
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.items import AoT

from radius_mfa.config_file import FaultyConfiguration, load
from radius_mfa.errors import ConfigurationError, Refused
from radius_mfa.toml_lines import Location, table_span


def edited(path: Path, change: Callable[[str], str]) -> None:
    """Change the text of the file: checked first, in one step, never half written."""
    path = path.resolve()  # a link stays a link
    try:
        with _locked(path.parent), _draft(path) as draft:
            draft.write_text(change(path.read_text("utf-8")), "utf-8")
            _check(draft, path)
            with draft.open("rb") as file:
                os.fsync(file)
            draft.replace(path)
    except OSError as error:
        raise ConfigurationError(
            f"{path} can't be written: {error.strerror}",
            "its folder must be writable too, for a new file takes its place",
        ) from None


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one command at a time change files in *folder*."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _draft(path: Path) -> Iterator[Path]:
    """Make a file beside *path*, of the same mode and owner; what is left of it goes away."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    draft = Path(name)
    try:
        status = path.stat()
        if os.geteuid() == 0:
            os.fchown(descriptor, status.st_uid, status.st_gid)
        os.fchmod(descriptor, status.st_mode & 0o777)
        os.close(descriptor)
        yield draft
    finally:
        draft.unlink(missing_ok=True)


def _check(draft: Path, path: Path) -> None:
    """Raise Refused where the changed file would have faults: the file itself had none."""
    try:
        load(draft)
    except FaultyConfiguration as error:
        fault = error.faults[0]
        message, cure = (
            text.replace(draft.name, path.name) for text in (fault.message, fault.cure)
        )
        if message.startswith("must"):
            message = f"the {fault.setting.rpartition('.')[2]} {message}"
        raise Refused(message, cure) from None


def with_client(text: str, block: Any) -> str:  # noqa: ANN401 - tomlkit's table
    """Return *text*, TOML, with the client in *block* at its end."""
    document = tomlkit.parse(text)
    clients = document.get("client")
    if clients is None or isinstance(clients, AoT):
        addition = tomlkit.document()
        addition["client"] = tomlkit.aot()
        addition["client"].append(block)
        return f"{text.rstrip()}\n\n{tomlkit.dumps(addition)}".lstrip()
    inline = tomlkit.inline_table()
    inline.update(block)
    clients.append(inline)
    return tomlkit.dumps(document)


def without_client(text: str, name: str) -> str:
    """Return *text*, TOML, without the client called *name* and the comment right above it."""
    document = tomlkit.parse(text)
    clients = document.get("client", [])
    index = next((i for i, one in enumerate(clients) if one.get("name") == name), None)
    if index is None:
        raise Refused(f"{name} is set in the environment, not in the file", "remove it there")
    if isinstance(clients, AoT):
        return _without_table(text, ("client", index))
    del clients[index]
    return tomlkit.dumps(document)


def _without_table(text: str, location: Location) -> str:
    """Return *text* without one table.

    tomlkit counts the comments above the next table as part of this one, and would drop them.
    """
    lines = text.splitlines()
    header, following = table_span(text, location)
    first, end = header - 1, following - 1
    while end > first and (not lines[end - 1].strip() or lines[end - 1].lstrip().startswith("#")):
        end -= 1
    while end < len(lines) and lines[end].startswith("#"):  # right below its last setting
        end += 1
    first = _comment_above(lines, first)
    while first > 0 and not lines[first - 1].strip():
        first -= 1
    return "\n".join([*lines[:first], *lines[end:]]).strip("\n") + "\n"


def _comment_above(lines: list[str], header: int) -> int:
    """Return where the comment right above *header* begins, or *header* where there is none.

    A comment that goes on from a setting, or holds one (``#name = value``), is not of this table.
    """
    first = header
    while first > 0 and lines[first - 1].startswith("#"):
        first -= 1
    settings = any(re.match(r"#[\[a-z]", line) for line in lines[first:header])
    belongs = first == 0 or not lines[first - 1].strip()
    return first if belongs and not settings else header

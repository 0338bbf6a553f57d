"""The log: structlog's set-up, one form for our own lines and those of the libraries.

Text from outside is made printable and bounded here, once, for every field of every line; what
may quote a secret, like the text of an exception, never gets in.
"""

import json
import logging
import os
import re
import sys
import time
import unicodedata
from collections.abc import Callable, MutableMapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from traceback import extract_tb
from types import TracebackType
from typing import Any

import orjson
import structlog

from radius_mfa.errors import ConfigurationError
from radius_mfa.stores.events import RESULTS

MAX_FIELD_CHARACTERS = 256
MAX_ITEMS = 32
EVENT_WIDTH = 24

LOG_FILE_MODE = 0o640
"""The log names users and where they log in from."""

MASK = "***"

_SECRET_WORDS = ("password", "secret", "seed", "typed", "code", "state", "token")
_NOT_SECRET = frozenset({"exit_code", "packet_code"})

_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_MAX_NUMBER = 2**63  # what JSON readers can be trusted with
_FRAMES = 4

Event = MutableMapping[str, Any]


def printable(text: str) -> str:
    """Return *text* without control or invisible characters, at most 256 characters long."""
    if not text.isprintable():
        text = "".join(
            character.encode("unicode_escape").decode()
            if unicodedata.category(character) in _UNPRINTABLE
            else character
            for character in text[: MAX_FIELD_CHARACTERS + 1]
        )
    return text if len(text) <= MAX_FIELD_CHARACTERS else text[:MAX_FIELD_CHARACTERS] + "..."


def printable_lines(text: str) -> str:
    """Return *text* with every line made printable, for errors of several lines."""
    return "\n".join(map(printable, text.split("\n")))


def _tame(_logger: object, method: str, event: Event) -> Event:
    """Put the line in order: when, how, what it is, nothing empty, secret or unprintable."""
    tamed: Event = {
        "timestamp": _timestamp(time.time()),
        "level": method,
        "event": printable(str(event.pop("event", None))),
    }
    for name, value in event.items():
        if type(value) is float:
            tamed[name] = value
        elif value or value == 0:  # false and 0 say something
            plain = type(value) is str and value.isprintable() and not _is_secret(name)
            short = plain and len(value) <= MAX_FIELD_CHARACTERS
            tamed[name] = value if short else _value(name, value)
    return tamed


def _timestamp(now: float) -> str:
    """Return Unix time as ISO 8601 in UTC, to the microsecond."""
    return f"{_second(int(now))}.{int(now % 1 * 1e6):06d}Z"


@lru_cache(1)
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _value(name: str, value: object) -> object:
    if _is_secret(name):
        return MASK
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        items = list(value.items())[:MAX_ITEMS]
        return {printable(str(key)): _value(str(key), item) for key, item in items}
    if isinstance(value, (list, tuple)):
        return [_value("", item) for item in value[:MAX_ITEMS]]
    number = isinstance(value, (int, float)) and abs(value) < _MAX_NUMBER
    return value if number else printable(_text(value))


@lru_cache(1024)
def _is_secret(name: str) -> bool:
    return name not in _NOT_SECRET and any(word in name.lower() for word in _SECRET_WORDS)


def _text(value: object) -> str:
    if isinstance(value, (bytes, bytearray)):
        return f"({len(value)} octets)"
    return type(value).__name__ if isinstance(value, BaseException) else str(value)


def _without_traceback(_logger: object, _method: str, event: Event) -> Event:
    """Say which exception it was and where, and nothing of what it says (checklist L02)."""
    given = event.pop("exc_info", None)
    event.pop("stack_info", None)
    error = given if isinstance(given, BaseException) else None
    if isinstance(given, tuple):
        error = given[1]
    elif given is True:
        error = sys.exc_info()[1]
    if error is not None:
        event["error"] = type(error).__name__
        event["at"] = _frames(error.__traceback__)
    return event


def _frames(traceback: TracebackType | None) -> str:
    frames = reversed(extract_tb(traceback)[-_FRAMES:])
    return " < ".join(f"{frame.name}:{frame.lineno}" for frame in frames)


class LogFile:
    """Where lines go: a file, which can be opened again after it was rotated away."""

    def __init__(self, path: Path | None) -> None:
        """Append to *path*, or write to standard error; raises ConfigurationError."""
        self._path = path
        self._descriptor = None if path is None else _opened(path)
        self._mid_line = False
        self._untold = 0
        self.lines_lost = 0
        """Lines that could not be written, or not wholly, since the start."""

    def write(self, line: str | bytes) -> None:
        """Write a line, or drop it where it can't be: a full disk must not stop a login.

        The first line that can be written again is followed by one that says how many are lost.
        """
        try:
            if self._descriptor is None:
                sys.stderr.write((line if isinstance(line, str) else line.decode()) + "\n")
                sys.stderr.flush()
            else:
                if isinstance(line, str):
                    line = line.encode("utf-8", "backslashreplace")
                self._append(self._descriptor, line + b"\n")
        except (OSError, ValueError, AttributeError):  # standard error may be closed, or None
            self._lost()
            return
        if self._untold and not self._mid_line:
            lost, self._untold = self._untold, 0
            structlog.get_logger().error(
                "log.lines_lost", lost=lost, hint="the log could not be written: is its disk full?"
            )

    def _lost(self) -> None:
        self._untold += 1
        self.lines_lost += 1

    def _append(self, descriptor: int, line: bytes) -> None:
        octets = b"\n" + line if self._mid_line else line
        written = os.write(descriptor, octets)
        self._mid_line = written < len(octets)
        if self._mid_line:
            self._lost()

    def reopen(self) -> None:
        """Open the file anew and close the old one; standard error stays."""
        if self._path is None or self._descriptor is None:
            return
        try:
            fresh = _opened(self._path)
        except ConfigurationError as error:
            structlog.get_logger().error("log.not_reopened", cause=error.message)
            return
        stale, self._descriptor, self._mid_line = self._descriptor, fresh, False
        os.close(stale)

    def close(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    # structlog calls its logger by the name of the level
    debug = info = warning = error = critical = write


class _OfLibraries(logging.Handler):
    """Writes what libraries log, as lines like ours.

    Of a library's line it takes what its author wrote, and not what was put in.
    """

    def __init__(self, file: LogFile, processors: Sequence[structlog.typing.Processor]) -> None:
        super().__init__(logging.WARNING)
        self._file = file
        self._processors = processors

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line; libraries quote what they handle, so only from warnings on."""
        wording = re.split(r"[\n<(\"'`]", str(record.msg), maxsplit=1)[0].strip(" :")
        line: Any = {
            "event": wording or "library.message",
            "logger": record.name,
            "exc_info": record.exc_info,
        }
        for process in self._processors:
            line = process(None, record.levelname.lower(), line)
        self._file.write(line)

    def close(self) -> None:
        """Close the file too: it has no other owner."""
        self._file.close()
        super().close()


def _opened(path: Path) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, LOG_FILE_MODE)
    except OSError as error:
        raise ConfigurationError(
            f"the log file {path} can't be written: {error.strerror}",
            "let the server's user write there, or set log.file",
        ) from None


def configure(
    log_format: str,
    level: str,
    file: Path | None = None,
    publish: Callable[[bytes], None] | None = None,
) -> LogFile:
    """Set up logging for the process, and return where the lines go.

    *publish* takes the lines about logins as JSON, whatever *level* keeps out of the log.
    """
    destination = LogFile(file)
    renderer = _renderer(log_format, colors=file is None and _is_terminal())
    last, lowest = renderer, level
    if publish is not None:
        last = _publishing(publish, renderer, _LEVELS[level])
        lowest = min(level, "info", key=_LEVELS.__getitem__)
    structlog.configure(
        processors=[_without_traceback, _tame, last],
        logger_factory=lambda *_: destination,
        wrapper_class=structlog.make_filtering_bound_logger(lowest),
    )
    root = logging.getLogger()
    root.handlers[:] = [_OfLibraries(destination, [_without_traceback, _tame, renderer])]
    root.setLevel(logging.WARNING)
    return destination


_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}


def _publishing(
    publish: Callable[[bytes], None], renderer: structlog.typing.Processor, least: int
) -> structlog.typing.Processor:
    """Return what publishes a tamed line and renders it, if it did not come for the one alone."""

    def processor(logger: object, method: str, event: Event) -> Any:  # noqa: ANN401 - as renderer
        line = None
        if event["event"] in RESULTS:
            line = _json(logger, method, event)
            publish(line)
        if _LEVELS[method] < least:
            raise structlog.DropEvent
        return line if line is not None and renderer is _json else renderer(logger, method, event)

    return processor


def _is_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


def _renderer(log_format: str, *, colors: bool) -> structlog.typing.Processor:
    return _json if log_format == "json" else _console(colors=colors)


def _json(_logger: object, _method: str, event: Event) -> bytes:
    return orjson.dumps(event)


def console_lines(*, colors: bool) -> Callable[[Event], str]:
    """Return what turns the fields of a line, as JSON has them, into a line for people."""
    renderer = _console(colors=colors)
    return lambda event: str(renderer(None, event.get("level", ""), event))


def _console(*, colors: bool) -> structlog.dev.ConsoleRenderer:
    """Return structlog's renderer with values that show where they end."""
    styles = structlog.dev.ConsoleRenderer.get_default_column_styles(colors)
    levels = structlog.dev.ConsoleRenderer.get_default_level_styles(colors)

    def bare(style: str, width: int = 0) -> structlog.dev.KeyValueColumnFormatter:
        return structlog.dev.KeyValueColumnFormatter(
            None, style, styles.reset, value_repr=str, width=width
        )

    field = structlog.dev.KeyValueColumnFormatter(
        styles.kv_key, styles.kv_value, styles.reset, value_repr=_shown
    )
    return structlog.dev.ConsoleRenderer(
        sort_keys=False,
        columns=[
            structlog.dev.Column("", field),
            structlog.dev.Column("timestamp", bare(styles.timestamp)),
            structlog.dev.Column(
                "level", structlog.dev.LogLevelColumnFormatter(levels, styles.reset)
            ),
            structlog.dev.Column("event", bare(styles.bright, EVENT_WIDTH)),
        ],
    )


def _shown(value: object) -> str:
    """Return *value* so that nothing in it looks like the next field."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    plain = text and not re.search(r"[\s=\"\[\]{}]", text)
    return text if plain or not isinstance(value, str) else json.dumps(text, ensure_ascii=False)

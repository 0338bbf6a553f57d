"""The log: structlog's set-up, one form for our own lines and those of the libraries.

Text from outside is made printable and bounded here, once, for every field of every line.
"""

import logging
import sys
import unicodedata
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any, TextIO

import orjson
import structlog

from radius_mfa.errors import ConfigurationError

MAX_FIELD_CHARACTERS = 256

_SECRET_WORDS = ("password", "secret", "seed", "typed", "code", "state", "token")
_NOT_SECRET = frozenset({"exit_code", "packet_code"})

_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})

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


def _tame(_logger: object, _method: str, event: Event) -> Event:
    """Mask what is named like a secret, and make every text printable."""
    for name, value in event.items():
        if name.startswith("_"):  # structlog's own
            continue
        if name not in _NOT_SECRET and any(word in name for word in _SECRET_WORDS):
            event[name] = "***"
        elif isinstance(value, str):
            event[name] = printable(value)
    return event


class _LogFile(logging.StreamHandler[TextIO]):
    """A handler that can open its file again, after it was rotated away."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        super().__init__(self._opened())

    def _opened(self) -> TextIO:
        if self._path is None:
            return sys.stderr
        try:
            return self._path.open("a", encoding="utf-8")
        except OSError as error:
            raise ConfigurationError(
                f"the log file {self._path} can't be written: {error.strerror}",
                "let the server's user write there, or set log.file",
            ) from None

    def reopen(self) -> None:
        """Open the file anew and close the old one; standard error stays."""
        if self._path is not None:
            old = self.setStream(self._opened())
            if old is not None:
                old.close()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Drop a line that can't be written: a full disk must not stop a login."""


def configure(log_format: str, level: str, file: Path | None = None) -> _LogFile:
    """Set up logging for the process; call once."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _tame,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = _LogFile(file)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _renderer(log_format, colors=file is None and sys.stderr.isatty()),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)  # libraries quote what they handle at lower levels
    logging.getLogger("radius_mfa").setLevel(level.upper())
    return handler


def _renderer(log_format: str, *, colors: bool) -> structlog.typing.Processor:
    if log_format == "json":
        return structlog.processors.JSONRenderer(serializer=_json)
    return structlog.dev.ConsoleRenderer(colors=colors, pad_event_to=24, sort_keys=False)


def _json(event: Event, **_options: object) -> str:
    return orjson.dumps(event, default=str).decode()

"""What mails say: the texts that the package brings, or those of an admin's folder in their place.

Knows no address and no header. Texts are plain; what shows them in HTML escapes all of it.
"""

import textwrap
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from radius_mfa.errors import ConfigurationError
from radius_mfa.policy.mail import Kind

TEXTS, PLAIN, HTML = "texts.toml", "layout.txt", "layout.html"
FILES = (TEXTS, PLAIN, HTML)
"""What a folder of templates may hold."""

WIDTH = 72

CURE = "docs/mail.md says what a template may hold"

Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Content:
    """What one mail says."""

    subject: str
    text: str
    html: str
    language: str


class Texts:
    """All texts, in one language, tried out: a mistake shows before a mail is due."""

    def __init__(self, folder: Path | None = None) -> None:
        """Take what *folder* holds in place of our own; ConfigurationError names a mistake."""
        files = {name: _ours(name) for name in FILES}
        own = _parsed(files[TEXTS], TEXTS)
        if folder is not None:
            files |= _given(folder)
        self._catalogue = _merged(own, _parsed(files[TEXTS], TEXTS))
        self._files = files
        self._words = self._environment()
        self._plain = self._environment(trim_blocks=True)
        self._html = self._environment(trim_blocks=True, autoescape=True)
        self._try_out()

    def content(self, kind: Kind, values: Values) -> Content:
        """Return what a mail of *kind* says; see ``texts.toml`` for the values."""
        texts = self._catalogue[kind.value]

        def words(text: str) -> str:
            return self._words.from_string(text).render(values)

        fields = {
            **values,
            "language": self._catalogue["language"],
            "subject": _one_line(words(texts["subject"])),
            "paragraphs": _paragraphs(words(f"{self._catalogue['greeting']}\n\n{texts['text']}")),
            "button": _one_line(words(texts["button"])) if values["portal"] else "",
            "closing": _one_line(words(self._catalogue["closing"])),
        }
        return Content(
            fields["subject"],
            self._plain.from_string(self._files[PLAIN]).render(fields),
            self._html.from_string(self._files[HTML]).render(fields),
            fields["language"],
        )

    def _environment(self, *, trim_blocks: bool = False, autoescape: bool = False) -> Environment:
        environment = Environment(
            autoescape=autoescape,  # noqa: S701 - plain text has nothing to escape
            undefined=StrictUndefined,
            trim_blocks=trim_blocks,
            keep_trailing_newline=True,
        )
        for name in ("day", "moment"):
            environment.filters[name] = self._moment_filter(name)
        environment.filters["wrapped"] = _wrapped
        return environment

    def _moment_filter(self, name: str) -> Any:  # noqa: ANN401 - Jinja2 takes any function
        pattern, months = self._catalogue[name], self._catalogue["months"]
        plain = Environment(undefined=StrictUndefined)  # noqa: S701 - what uses it escapes

        def shown(moment: datetime) -> str:
            local = moment.astimezone()
            return plain.from_string(pattern).render(
                day=local.day,
                month=months[local.month - 1],
                year=local.year,
                time=f"{local:%H:%M}",
                zone=local.tzname(),
            )

        return shown

    def _try_out(self) -> None:
        """Make every mail once, in each of the forms that it can have."""
        for kind in Kind:
            for values in _samples():
                try:
                    self.content(kind, values)
                except Exception as error:  # noqa: BLE001 - a template can fail in any way
                    why = f"{type(error).__name__}: {error}"
                    raise ConfigurationError(
                        f"with these templates the mail {kind.value} can't be made: {why}", CURE
                    ) from None


def _samples() -> list[Values]:
    now = datetime(2027, 1, 15, 12, tzinfo=UTC)
    later = now + timedelta(days=7)
    common = {"name": "alice", "service": "VPN", "at": now, "now": now, "device": "phone"}
    return [
        {**common, "portal": portal, "starts": at, "enrol_by": at, "codes_left": 0} | lock
        for portal in ("", "https://mfa.corp.example")
        for at, lock in ((now, {"locked_until": ""}), (later, {"locked_until": later}))
    ]


def _ours(name: str) -> str:
    return (resources.files("radius_mfa.mails") / name).read_text("utf-8")


def _given(folder: Path) -> dict[str, str]:
    """Return the files of an admin's folder; one that is none of ours is a mistake in its name."""
    try:
        present = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
        found = {name: (folder / name).read_text("utf-8") for name in present if name in FILES}
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ConfigurationError(f"{folder} can't be read: {why}", CURE) from None
    strange = [name for name in present if name not in FILES]
    if strange or not found:
        what = f"{strange[0]} is none of them" if strange else "it holds none of them"
        raise ConfigurationError(f"{folder}: the files are {', '.join(FILES)}; {what}", CURE)
    return found


def _parsed(text: str, place: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{place} is not TOML: {error}", CURE) from None


def _merged(own: Mapping[str, Any], given: Mapping[str, Any], place: str = "") -> dict[str, Any]:
    """Return *own* texts with those of *given* in their place, each of the same kind."""
    for name, value in given.items():
        if name not in own:
            raise ConfigurationError(f"{TEXTS}: there is no text {place}{name}", CURE)
        if type(value) is not type(own[name]) or (
            isinstance(value, list) and list(map(type, value)) != list(map(type, own[name]))
        ):
            raise ConfigurationError(
                f"{TEXTS}: {place}{name} is not of the form that ours has", CURE
            )
    return {
        name: _merged(value, given.get(name, {}), f"{name}.")
        if isinstance(value, dict)
        else given.get(name, value)
        for name, value in own.items()
    }


def _paragraphs(text: str) -> list[str]:
    return [one for one in map(_one_line, text.split("\n\n")) if one]


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _wrapped(text: str) -> str:
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)

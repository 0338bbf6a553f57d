"""On which line a TOML file sets what: tomllib gives the values, and forgets where they stood."""

import re
import tomllib
from collections.abc import Iterator

Location = tuple[str | int, ...]
"""Where a setting stands: names of tables and keys, and numbers (from 0) inside lists."""

_TOKEN = re.compile(
    r"""
    (?P<newline>\n)
  | (?P<comment>\#[^\n]*)
  | (?P<text>\"{3}(?:\\.|[^\\])*?\"{3,5} | '{3}.*?'{3,5} | "(?:\\.|[^"\\\n])*" | '[^'\n]*')
  | (?P<mark>[\[\]{}=,.])
  | (?P<word>[^\s\[\]{}=,.\#"']+)
    """,
    re.VERBOSE | re.DOTALL,
)


def lines_by_location(text: str) -> dict[Location, int]:
    """Return the line (from 1) of everything that *text*, valid TOML, sets.

    A table counts from its header, a value from its key, an element of a list from itself.
    """
    return _Scan(text).lines


def line_of(lines: dict[Location, int], location: Location) -> int:
    """Return the line of *location*, or of the nearest table or list around it."""
    for length in range(len(location), 0, -1):
        if location[:length] in lines:
            return lines[location[:length]]
    return 1


def table_span(text: str, location: Location) -> tuple[int, int]:
    """Return the line of the header of a table in *text*, and that of the next header."""
    scan = _Scan(text)
    first = scan.lines[location]
    end = len(text.splitlines()) + 1
    return first, min((line for line in scan.headers if line > first), default=end)


class _Scan:
    """One pass over the tokens of a document."""

    def __init__(self, text: str) -> None:
        self.lines: dict[Location, int] = {}
        self.headers: list[int] = []
        self._elements: dict[Location, int] = {}  # last index of each array of tables
        self._tokens = list(_tokens(text))
        self._at = 0
        self._document()

    def _document(self) -> None:
        table: Location = ()
        while self._kind != "end":
            if self._kind == "newline":
                self._at += 1
            elif self._mark == "[":
                table = self._header()
            else:
                self._setting(table)

    def _header(self) -> Location:
        line, start = self._line, self._at
        self.headers.append(line)
        while self._mark == "[":
            self._at += 1
        is_element = self._at - start > 1
        location = self._key((), "]")
        while self._mark == "]":
            self._at += 1
        if is_element:
            self._elements[location] = self._elements.get(location, -1) + 1
            self._note(location, line)
            location = (*location, self._elements[location])
        self._note(location, line)
        return location

    def _setting(self, table: Location) -> None:
        line = self._line
        location = self._key(table, "=")
        self._at += 1
        self._note(location, line)
        self._value(location)

    def _key(self, table: Location, end: str) -> Location:
        """Return the location that a dotted key names inside *table*."""
        location, line = table, self._line
        while self._mark != end:
            if self._mark != ".":
                if location in self._elements:
                    location = (*location, self._elements[location])
                location = (*location, _name(self._mark))
                self._note(location, line)
            self._at += 1
        return location

    def _value(self, location: Location) -> None:
        if self._mark == "[":
            self._list(location)
        elif self._mark == "{":
            self._at += 1
            while self._mark != "}":
                if self._mark == "," or self._kind == "newline":
                    self._at += 1
                else:
                    self._setting(location)
            self._at += 1
        else:
            while self._kind not in ("end", "newline") and self._mark not in (",", "]", "}"):
                self._at += 1

    def _list(self, location: Location) -> None:
        self._at += 1
        index = 0
        while self._mark != "]":
            if self._mark == "," or self._kind == "newline":
                self._at += 1
            else:
                self._note((*location, index), self._line)
                self._value((*location, index))
                index += 1
        self._at += 1

    def _note(self, location: Location, line: int) -> None:
        self.lines.setdefault(location, line)

    @property
    def _kind(self) -> str:
        return self._tokens[self._at][0]

    @property
    def _mark(self) -> str:
        return self._tokens[self._at][1]

    @property
    def _line(self) -> int:
        return self._tokens[self._at][2]


def _tokens(text: str) -> Iterator[tuple[str, str, int]]:
    line = 1
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or ""
        if kind != "comment":
            yield kind, match[0], line
        line += match[0].count("\n")
    yield "end", "", line


def _name(token: str) -> str:
    if token[0] not in "\"'":
        return token
    name: str = tomllib.loads(f"name = {token}")["name"]
    return name

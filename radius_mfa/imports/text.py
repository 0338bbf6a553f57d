"""Text and CSV as programs write them: Excel with BOM, semicolons and Latin-1 among them."""

import codecs
import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from radius_mfa.errors import Refused

MAX_ROWS = 250_000
"""A change of more users at once would outlast the barrier around it (ADR 0007)."""

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
_DELIMITERS = ",;\t|"


@dataclass(frozen=True, slots=True)
class Decoded:
    """A file's text; *guessed* where it was not in Unicode."""

    text: str
    guessed: bool = False


def decoded(octets: bytes) -> Decoded:
    """Return *octets* as text: UTF-16 and UTF-8 by their marks, else UTF-8, else Windows-1252."""
    if octets.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding, guessed = "utf-16", False
    else:
        encoding, guessed = "utf-8-sig", False
        try:
            octets.decode(encoding)
        except UnicodeDecodeError:
            encoding, guessed = "cp1252", True
    try:
        text = octets.decode(encoding)
    except UnicodeDecodeError:
        raise Refused("the file is no text", "save it as CSV in UTF-8") from None
    if "\0" in text:
        raise Refused("the file is no text: it holds NUL characters", "save it as CSV in UTF-8")
    return Decoded(text, guessed)


def records(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the cells of each row that is not empty, as a spreadsheet counts.

    The delimiter is the one that the first row has most of, or what Excel's ``sep=;`` says.
    """
    first, _, rest = text.lstrip("\r\n").partition("\n")
    skipped = len(text) - len(text.lstrip("\r\n"))
    number = text[:skipped].count("\n")
    if first.strip().lower().startswith("sep=") and len(first.strip()) == len("sep=;"):
        delimiter, text, number = first.strip()[-1], rest, number + 1
    else:
        delimiter, text = max(_DELIMITERS, key=first.count), text[skipped:]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    while True:
        number += 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error:
            raise Refused(
                f"row {number} is no CSV: a quote is not closed, or a cell is far too long",
                'write quotes inside a cell twice: ""',
            ) from None
        if number > MAX_ROWS:
            raise Refused(f"the file has more than {MAX_ROWS:,} rows", "split it")
        if any(cell.strip() for cell in cells):
            yield number, cells


def harmless(cell: str) -> str:
    """Return *cell* so that a spreadsheet takes it for text, never for a formula."""
    return "'" + cell if cell.startswith(_FORMULA_STARTS) else cell


def written(rows: Sequence[Sequence[str]]) -> str:
    """Return *rows* as CSV that is safe to open in a spreadsheet."""
    target = io.StringIO(newline="")
    csv.writer(target).writerows([harmless(cell) for cell in row] for row in rows)
    return target.getvalue()

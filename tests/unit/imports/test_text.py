"""CSV as Excel and others write it."""

import codecs

import pytest

from radius_mfa.errors import Refused
from radius_mfa.imports import text

ROWS = [(1, ["user", "hash"]), (2, ["zoë", "a,b"]), (4, ["bob", ""])]


@pytest.mark.parametrize(
    "octets",
    [
        'user,hash\nzoë,"a,b"\n\nbob,\n'.encode(),
        'user,hash\r\nzoë,"a,b"\r\n\r\nbob,\r\n'.encode(),
        'user;hash\r\nzoë;"a,b"\r\n;\r\nbob;\r\n'.encode(),
        codecs.BOM_UTF8 + "user;hash\r\nzoë;a,b\r\n\r\nbob;".encode(),
        "user;hash\r\nzoë;a,b\r\n\r\nbob;\r\n".encode("cp1252"),
        codecs.BOM_UTF16_LE + "user\thash\r\nzoë\ta,b\r\n\r\nbob\t\r\n".encode("utf-16-le"),
        codecs.BOM_UTF16_BE + "user\thash\r\nzoë\ta,b\r\n\r\nbob\t\r\n".encode("utf-16-be"),
        'user|hash\nzoë|"a,b"\n\nbob|\n'.encode(),
    ],
    ids=["plain", "crlf", "semicolons", "bom", "windows-1252", "utf-16-le", "utf-16-be", "bars"],
)
def test_rows_are_the_same_whatever_wrote_them(octets: bytes) -> None:
    """Rows are counted as the spreadsheet counts them, empty ones too."""
    assert list(text.records(text.decoded(octets).text)) == ROWS


def test_excels_separator_line_is_obeyed_and_counted() -> None:
    rows = list(text.records('sep=;\r\nuser;hash\r\n"a,b,c";x\r\n'))
    assert rows == [(2, ["user", "hash"]), (3, ["a,b,c", "x"])]


def test_only_a_guess_is_called_one() -> None:
    assert text.decoded("zoë".encode("latin-1")).guessed
    assert not text.decoded("zoë".encode()).guessed


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        (b"user,hash\nalice,x\0y\n", "NUL"),
        (codecs.BOM_UTF16_LE + b"a", "the file is no text"),
        (b"\x81\x8d", "the file is no text"),
        (b'user,hash\nalice,"open\n', "row 2 is no CSV"),
        (b'user,hash\nalice,"a"b\n', "row 2 is no CSV"),
        (b"user\n" + b"x" * 200_000 + b"\n", "row 2 is no CSV"),
        (b"a\n" * (text.MAX_ROWS + 1), "more than 250,000 rows"),
    ],
)
def test_what_is_no_table_is_refused(octets: bytes, why: str) -> None:
    with pytest.raises(Refused, match=why):
        list(text.records(text.decoded(octets).text))


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_a_cell_that_a_spreadsheet_would_run_is_neutralised(start: str) -> None:
    cell = f'{start}HYPERLINK("http://attacker.example")'
    [(_, [written, other])] = text.records(text.written([[cell, "alice"]]))
    assert written == "'" + cell
    assert other == "alice"

"""The log: lines that parse, hide what is secret, and stop nothing."""

import errno
import io
import json
import logging
import os
import shlex
import sys
import unicodedata
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from radius_mfa import log
from radius_mfa.errors import ConfigurationError

Lines = Callable[[], list[str]]
Configure = Callable[..., Lines]


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Put the process's logging back as it was."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    for handler in root.handlers:
        if handler not in handlers:
            handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def configured(tmp_path: Path) -> Configure:
    """Set up logging into a file; the result returns its lines so far."""

    def configure(log_format: str = "json", level: str = "debug") -> Lines:
        path = tmp_path / "log"
        log.configure(log_format, level, path)
        return lambda: path.read_text("utf-8").splitlines()

    return configure


def logger() -> Any:
    return structlog.get_logger("radius_mfa.test")


def only(lines: Lines) -> dict[str, Any]:
    [line] = lines()
    parsed = json.loads(line)
    assert isinstance(parsed, dict)
    return parsed


class Reason(StrEnum):
    WRONG = "wrong_code"


def test_a_json_line_begins_with_when_how_and_what(configured: Configure) -> None:
    lines = configured()
    logger().bind(nas="asa").warning("login.rejected", user="alice", reason=Reason.WRONG, ms=1.5)
    line = only(lines)
    assert list(line)[:3] == ["timestamp", "level", "event"]
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "level": "warning",
        "event": "login.rejected",
        "nas": "asa",
        "user": "alice",
        "reason": "wrong_code",
        "ms": 1.5,
    }


def test_a_console_line_can_be_split_as_a_shell_would(configured: Configure) -> None:
    """An operator reads reason=code_replayed hint="the phone's clock is 65 s slow"."""
    lines = configured("console")
    logger().info("login.rejected", reason="wrong_code", hint="the phone's clock", user='a"b', n=0)
    [line] = lines()
    assert line.split()[1:4] == ["[info", "]", "login.rejected"]
    assert shlex.split(line)[-4:] == [
        "reason=wrong_code",
        "hint=the phone's clock",
        'user=a"b',
        "n=0",
    ]
    assert "\x1b" not in line, "no colours in a file"


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_empty_fields_are_left_out_and_zero_is_not(configured: Configure, log_format: str) -> None:
    lines = configured(log_format)
    logger().info("x", hint="", station=None, items=[], table={}, count=0, fine=False, ms=0.0)
    [line] = lines()
    assert [word in line for word in ("hint", "station", "items", "table")] == [False] * 4
    assert [word in line for word in ("count", "fine", "ms")] == [True] * 3


NASTY = {
    "CR and LF": ("a\r\nb", r"a\r\nb"),
    "ESC": ("\x1b[31mred", r"\x1b[31mred"),
    "C1 controls": ("a\x85\x9bb", r"a\x85\x9bb"),
    "bidi marks": ("a\u202eb\u2066c\u200fd", r"a\u202eb\u2066c\u200fd"),
    "line separators": ("a\u2028b\u2029c", r"a\u2028b\u2029c"),
    "zero width": ("a\u200bb\ufeff", r"a\u200bb\ufeff"),
    "tags": ("a\U000e0041", r"a\U000e0041"),
    "NUL": ("a\0b", r"a\x00b"),
    "undecodable octets": ("a\udcff", r"a\udcff"),
    "umlauts stay": ("Zoë Müßig 山田", "Zoë Müßig 山田"),
    "as long as may be": ("a" * 256, "a" * 256),
    "longer": ("a" * 257, "a" * 256 + "..."),
    "longer when printable": ("\n" * 256, r"\n" * 128 + "..."),
    "a megabyte": ("\u202e" * 1_000_000, (r"\u202e" * 43)[:256] + "..."),
}


@pytest.mark.parametrize("name", NASTY)
def test_text_from_outside_is_printable_and_bounded(configured: Configure, name: str) -> None:
    """L03."""
    given, expected = NASTY[name]
    lines = configured()
    logger().info("x", user=given, nested={"k": [given]}, event_="y")
    line = only(lines)
    assert line["user"] == expected
    assert line["nested"] == {"k": [expected]}


@pytest.mark.parametrize("log_format", ["json", "console"])
@given(text=st.text(st.characters()), key=st.text(st.characters(), min_size=1))
@settings(max_examples=80, deadline=None)
def test_whatever_comes_from_outside_a_line_stays_one_line(
    tmp_path_factory: pytest.TempPathFactory, log_format: str, text: str, key: str
) -> None:
    """L03: no text can end a line, colour a terminal or turn its direction."""
    path = tmp_path_factory.getbasetemp() / f"log-{log_format}"
    path.unlink(missing_ok=True)
    handler = log.configure(log_format, "info", path)
    logger().info("x", user=text, table={key: text}, items=[text])
    handler.close()
    written = path.read_bytes().decode("utf-8")
    assert written.endswith("\n")
    line = written[:-1]
    assert not [c for c in line if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")]
    if log_format == "json":
        assert json.loads(line)["event"] == "x"


def test_a_value_cannot_pass_for_another_field(configured: Configure) -> None:
    lines = configured("console")
    logger().info("login.rejected", user='alice reason=ok "', nas="a=b", brackets="[x]")
    [line] = lines()
    assert line.endswith(r'user="alice reason=ok \"" nas="a=b" brackets="[x]"')


@pytest.mark.parametrize(
    "name",
    ["password", "user_password", "shared_secret", "seed", "typed", "code", "State", "api_token"],
)
def test_what_is_named_like_a_secret_is_masked(configured: Configure, name: str) -> None:
    """L01: at any level, at any depth."""
    lines = configured()
    logger().debug("x", **{name: "canary"}, table={name: "canary", "list": [{name: b"canary"}]})
    assert "canary" not in "".join(lines())
    assert only(lines)[name] == "***"


@pytest.mark.parametrize("name", ["exit_code", "packet_code"])
def test_what_only_sounds_like_a_secret_is_shown(configured: Configure, name: str) -> None:
    lines = configured()
    logger().info("x", **{name: 3})
    assert only(lines)[name] == 3


def test_octets_are_counted_and_not_shown(configured: Configure) -> None:
    lines = configured()
    logger().info("x", packet=b"canary", copy=bytearray(b"canary"))
    line = only(lines)
    assert (line["packet"], line["copy"]) == ("(6 octets)", "(6 octets)")


def test_values_that_json_does_not_know_make_a_line_all_the_same(configured: Configure) -> None:
    lines = configured()
    logger().info(
        "x", big=2**70, nan=float("nan"), path=Path("/x"), keys={1: 2}, many=list(range(99))
    )
    line = only(lines)
    assert line["big"] == str(2**70)
    assert line["path"] == "/x"
    assert line["keys"] == {"1": 2}
    assert len(line["many"]) == log.MAX_ITEMS


FIELDS: dict[str, Any] = {
    "plain": "alice",
    "empty": "",
    "control": "a\x1b[31m\nb",
    "long": "x" * 300,
    "zero": 0,
    "big": -(2**63),
    "nan": float("nan"),
    "huge": 1e300,
    "false": False,
    "password": "canary",
    "tries_of_code": 3,
    "octets": b"canary",
    "items": ["a\0", 2**70],
    "nothing": None,
}


@pytest.mark.parametrize("name", FIELDS)
def test_a_field_comes_out_the_same_whatever_stands_beside_it(
    configured: Configure, name: str
) -> None:
    """L03: lines whose fields are all harmless are looked at as a whole, others field by field."""
    lines = configured()
    logger().info("x", **{name: FIELDS[name]})
    for other, beside in FIELDS.items():
        logger().info("x", **({other: beside} | {name: FIELDS[name]}))
    alone, *together = [json.loads(line) for line in lines()]
    assert [line.get(name) for line in together] == [alone.get(name)] * len(FIELDS)
    assert "canary" not in "".join(lines())


def test_many_short_fields_are_bounded_each_by_itself(configured: Configure) -> None:
    """A line may be longer than a field."""
    lines = configured()
    logger().info("x", **{f"f{number}": "y" * 200 for number in range(5)}, last="z" * 257)
    line = only(lines)
    assert [len(line[f"f{number}"]) for number in range(5)] == [200] * 5
    assert line["last"] == "z" * 256 + "..."


def fail() -> None:
    raise ValueError("canary")


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_an_exception_tells_its_kind_and_place_and_no_word_more(
    configured: Configure, log_format: str
) -> None:
    """L02: its text may quote what came from outside."""
    lines = configured(log_format)
    try:
        fail()
    except ValueError as error:
        logger().exception("x")
        logger().error("x", exc_info=error)
        logger().error("x", exc_info=True, stack_info=True)
        logger().error("x", error=error)
        logging.getLogger("library").exception("it failed")
    assert len(lines()) == 5
    for line in lines():
        assert "canary" not in line
        assert "ValueError" in line
    for line in lines()[:3] + lines()[4:]:
        assert "fail:" in line


def test_of_a_library_s_line_only_its_wording_is_kept(configured: Configure) -> None:
    """L02: asyncio quotes the arguments of a callback, others what they were given."""
    lines = configured()
    library = logging.getLogger("asyncio")
    library.error(
        "Task exception was never retrieved\nfuture: <Task exception=ValueError('canary')>"
    )
    library.error("Exception in callback serve(b'canary')")
    library.error("could not parse %s", "canary")
    library.error("%s", "canary")
    library.error("'canary'")
    parsed = [json.loads(line) for line in lines()]
    assert [line["event"] for line in parsed] == [
        "Task exception was never retrieved",
        "Exception in callback serve",
        "could not parse %s",
        "%s",
        "library.message",
    ]
    assert {line["logger"] for line in parsed} == {"asyncio"}


@pytest.mark.parametrize("level", ["debug", "info", "warning"])
def test_libraries_are_never_heard_below_warning(configured: Configure, level: str) -> None:
    """L01: at lower levels they quote what they handle; one that sets its own level too."""
    lines = configured(level=level)
    for name in ("redis", "sqlalchemy.engine", "radius_mfa_other"):
        library = logging.getLogger(name)
        library.setLevel(logging.DEBUG)
        library.debug("quiet")
        library.info("quiet")
        library.warning("heard")
        library.setLevel(logging.NOTSET)
    assert [json.loads(line)["event"] for line in lines()] == ["heard"] * 3


@pytest.mark.parametrize(
    ("level", "heard"),
    [("debug", "diwe"), ("info", "iwe"), ("warning", "we"), ("error", "e")],
)
def test_the_level_is_the_least_that_is_written(
    configured: Configure, level: str, heard: str
) -> None:
    lines = configured(level=level)
    for name in ("debug", "info", "warning", "error"):
        getattr(logger(), name)(name[0])
    assert [json.loads(line)["event"] for line in lines()] == list(heard)


# The file


def test_a_rotated_file_is_left_alone_and_a_new_one_begun(tmp_path: Path) -> None:
    path = tmp_path / "log"
    handler = log.configure("json", "info", path)
    logger().info("before")
    path.rename(tmp_path / "log.1")
    logger().info("between")
    handler.reopen()
    logger().info("after")

    def events(file: Path) -> list[str]:
        return [json.loads(line)["event"] for line in file.read_text("utf-8").splitlines()]

    assert events(tmp_path / "log.1") == ["before", "between"]
    assert events(path) == ["after"]


def test_a_log_is_appended_to_and_not_for_everyone_to_read(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for _ in range(2):
        handler = log.configure("json", "info", path)
        logger().info("x")
        handler.close()
    assert len(path.read_text("utf-8").splitlines()) == 2
    assert path.stat().st_mode & 0o007 == 0


def test_a_file_that_cannot_be_opened_again_is_written_on(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    handler = log.configure("json", "info", folder / "log")
    (folder / "log").rename(tmp_path / "moved")
    folder.rmdir()
    handler.reopen()
    logger().info("after")
    lines = [json.loads(line) for line in (tmp_path / "moved").read_text("utf-8").splitlines()]
    assert [line["event"] for line in lines] == ["log.not_reopened", "after"]
    assert "No such file or directory" in lines[0]["cause"]


def test_a_log_file_that_cannot_be_written_is_the_operators_to_mend(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        log.configure("json", "info", tmp_path / "nowhere" / "log")
    assert caught.value.message.endswith("log can't be written: No such file or directory")
    assert caught.value.cure


def test_a_full_disk_stops_nothing() -> None:
    handler = log.configure("json", "info", Path("/dev/full"))
    for _ in range(3):
        logger().info("x", user="a" * 10_000)
    handler.reopen()
    logger().info("x")
    assert handler.lines_lost == 4


def test_a_line_cut_short_by_a_full_disk_does_not_spoil_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log"
    log.configure("json", "info", path)
    write = os.write
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", lambda descriptor, octets: write(descriptor, octets[:20]))
        logger().info("cut")
    logger().info("whole")
    cut, whole, lost = path.read_text("utf-8").splitlines()
    assert len(cut) == 20
    assert json.loads(whole)["event"] == "whole"
    assert json.loads(lost).items() >= {"event": "log.lines_lost", "lost": 1}.items()


class FullStream(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, f"no room for {len(text)} characters")


class ClosedStream(io.StringIO):
    def isatty(self) -> bool:
        self.close()
        return False


@pytest.mark.parametrize(
    "stream", [None, FullStream(), ClosedStream()], ids=["closed", "full", "shut"]
)
def test_standard_error_that_is_gone_or_full_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, stream: io.StringIO | None
) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    handler = log.configure("console", "info")
    logger().info("x")
    handler.reopen()
    logger().info("x")


def test_standard_error_gets_colours_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for terminal in (False, True):
        stream = io.StringIO()
        stream.isatty = lambda terminal=terminal: terminal  # type: ignore[method-assign,misc]
        monkeypatch.setattr(sys, "stderr", stream)
        log.configure("console", "info")
        logger().info("x", user="alice")
        assert ("\x1b" in stream.getvalue()) is terminal
        assert "alice" in stream.getvalue()


@pytest.mark.parametrize(
    ("text", "expected"),
    [("two\nlines", "two\nlines"), ("a\x1b\nb\x07", "a\\x1b\nb\\x07"), ("", "")],
)
def test_errors_of_several_lines_keep_them(text: str, expected: str) -> None:
    assert log.printable_lines(text) == expected


@pytest.mark.parametrize("log_format", ["json", "console"])
@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_lines_about_logins_are_published_whatever_the_level_of_the_log(
    level: str, log_format: str, tmp_path: Path
) -> None:
    """In the words of the log: made printable, and free of secrets."""
    published: list[bytes] = []
    handler = log.configure(log_format, level, tmp_path / "log", publish=published.append)
    logger().info("login.rejected", user="al\x1bice", password="canary", nas="")
    logger().info("server.started", clients=1)
    logger().error("login.failed", user="bob")
    logging.getLogger("library").warning("odd")
    handler.close()
    written = (tmp_path / "log").read_text("utf-8")
    assert ("login.rejected" in written) == ("server.started" in written)
    assert ("login.rejected" in written) == (level in ("debug", "info"))
    assert "login.failed" in written
    assert "odd" in written
    first, second = map(json.loads, published)
    assert first.pop("timestamp")
    assert first == {
        "level": "info",
        "event": "login.rejected",
        "user": "al\\x1bice",
        "password": log.MASK,
    }
    assert second["user"] == "bob"

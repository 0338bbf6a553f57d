"""The documents say what the program does: names, commands, settings, links, and no secret."""

import ast
import importlib
import pkgutil
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

import radius_mfa
from radius_mfa.cli import app
from radius_mfa.config import EXAMPLE_SECRET, Settings
from radius_mfa.errors import Discard
from radius_mfa.policy.access import ACCESS, Mode, Need, State
from radius_mfa.policy.decision import FACTOR_AT_FAULT, RejectReason
from radius_mfa.policy.reasons import EXPLANATIONS
from radius_mfa.server.metrics import Metrics
from radius_mfa.server.outages import CURES

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "radius_mfa").rglob("*.py"))
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
SHIPPED = [
    *PAGES,
    ROOT / "Dockerfile",
    ROOT / "docker-compose.yml",
    *sorted((ROOT / "config").glob("*.toml")),
    *sorted((ROOT / "docker").glob("*.toml")),
    *sorted((ROOT / "docker").glob("*.sh")),
]

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def text_of(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def section(text: str, heading: str) -> str:
    """Return what stands under ``## heading``."""
    found = re.search(rf"^## {heading}$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"no section {heading}"
    return found[1]


def table(text: str) -> dict[str, list[str]]:
    """Return the rows of the tables in *text* whose first cell is code, by that code."""
    rows = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells and re.fullmatch(r"`[^`]+`", cells[0]):
            assert cells[0].strip("`") not in rows, f"{cells[0]} stands twice"
            rows[cells[0].strip("`")] = cells[1:]
    return rows


def fences(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def without_fences(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def inline_code(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", without_fences(text))


# ---- Reasons, log lines, metrics -----------------------------------------------------------------


def test_every_reject_reason_says_what_it_means_and_what_to_do() -> None:
    """In the words that the command line and the portal use."""
    rows = table(section(text_of("docs/reasons.md"), "Rejects"))
    assert set(rows) == set(RejectReason) == set(EXPLANATIONS)
    for reason, (counts, *words) in rows.items():
        factor = FACTOR_AT_FAULT.get(RejectReason(reason))
        assert counts == (str(factor) if factor else "no")
        told = EXPLANATIONS[RejectReason(reason)]
        meaning, cure = (re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", cell) for cell in words)
        assert (meaning, cure) == (told.means, told.cure_of("alice"))
        assert len(meaning) > 20
        assert len(cure) > 10


def test_the_table_of_modes_is_the_one_in_force() -> None:
    """Each cell of docs/enrolment.md, against the table that logins are judged by."""
    text = text_of("docs/enrolment.md")
    told = table(section(text, "What a client asks"))
    words = {Need.CODE: "code", Need.PASSWORD: "password alone"}
    assert told == {
        state: [
            words[cell] if isinstance(cell, Need) else f"`{cell}`"
            for cell in ACCESS[state].values()
        ]
        for state in ACCESS
    }
    heading = " | ".join(f"`{mode}`" for mode in Mode)
    assert f"| User | {heading} |" in text
    assert set(table(section(text, "States of a user"))) == set(State)


def every_discard(kind: type[Discard] = Discard) -> Iterator[type[Discard]]:
    for module in pkgutil.walk_packages(radius_mfa.__path__, "radius_mfa."):
        if not module.name.endswith(("__main__", ".env")):
            importlib.import_module(module.name)  # a Discard may be defined anywhere
    for child in kind.__subclasses__():
        if "reason" in vars(child):
            yield child
        yield from every_discard(child)


def test_every_discard_reason_says_what_it_means_and_what_to_do() -> None:
    rows = table(section(text_of("docs/reasons.md"), "Discards"))
    assert set(rows) == {discard.reason for discard in every_discard()}
    for meaning, cure in rows.values():
        assert len(meaning) > 20
        assert len(cure) > 10


@cache
def log_events() -> dict[str, set[str]]:
    """Return every event that the source writes, with its levels."""
    found: dict[str, set[str]] = {}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            match node:
                case ast.Call(
                    func=ast.Attribute(attr="debug" | "info" | "warning" | "error" as level),
                    args=[ast.Constant(value=str(event)), *_],
                ):
                    found.setdefault(event, set()).add(level)
    return found | {discard.event: {"debug", "warning"} for discard in every_discard()}


def test_every_line_of_the_log_is_explained() -> None:
    rows = table(section(text_of("docs/reasons.md"), "Other lines of the log"))
    events = log_events()
    assert {"login.unanswered", "login.failed", "user.locked", "redis.memory_lost"} <= set(events)
    assert set(rows) == set(events)
    for event, (level, meaning, _) in rows.items():
        assert level in events[event]
        assert len(meaning) > 15


def test_every_metric_is_listed_with_type_and_labels() -> None:
    rows = table(section(text_of("docs/operations.md"), "Metrics"))
    metrics = Metrics()
    expected = {}
    for metric in metrics.registry.collect():
        name = metric.name + ("_total" if metric.type == "counter" else "")
        expected[name] = metric.type
    assert {name: cells[0].partition(";")[0] for name, cells in rows.items()} == expected
    declared = {
        collector._name: collector._labelnames
        for collector in vars(metrics).values()
        if hasattr(collector, "_labelnames")
    }
    for name, cells in rows.items():
        labels = tuple(re.findall(r"`(\w+)`", cells[0]))
        assert labels == tuple(declared[name.removesuffix("_total")])


def test_table_of_faults_names_lines_metrics_and_causes_that_exist() -> None:
    """And each cause that has a cure of its own, and each line about a backend, is in it."""
    text = section(text_of("docs/operations.md"), "When something breaks")
    rows = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 15
    known = {family.name for family in Metrics().registry.collect()}
    events = set(log_events())
    for _, seen, logged, counted, cure in rows:
        assert seen.strip().startswith(("no reply", "replies", "Access-Reject", "the same"))
        lines = {word for word in inline_code(logged) if "." in word}
        assert lines <= events
        metrics = {w.removesuffix("_total") for w in inline_code(counted) if "radius_mfa" in w}
        assert metrics <= known
        assert lines or "the same" in logged or "nothing" in logged or "afterwards" in logged
        assert cure.strip()
    words = set(inline_code(text))
    assert words >= {cause.partition(" ")[2] or cause for cause in CURES} - {"redis", "database"}
    assert words >= {event for event in events if event.endswith((".down", ".up", ".died"))}


# ---- Names of the program ------------------------------------------------------------------------


def names_in_source() -> set[str]:
    """Return ``Class.member`` and ``module.function`` of the package."""
    names = set()
    for path in SOURCES:
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.ClassDef):
                members = (n.name for n in node.body if hasattr(n, "name"))
                names |= {f"{node.name}.{member}" for member in members}
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                names.add(f"{path.stem}.{node.name}")
    return names


def test_walk_through_names_functions_that_exist() -> None:
    """docs/access-request-flow.md follows the code; a step that was renamed must be found."""
    words = re.findall(r"`(\w+\.\w+)`", text_of("docs/access-request-flow.md"))
    modules = {path.stem for path in SOURCES}
    named = {
        word
        for word in words
        if word[0].isupper() or (word.partition(".")[0] in modules and word[-3:] != ".py")
    }
    functions = named - set(setting_names()) - set(log_events())
    assert len(functions) > 15
    assert functions <= names_in_source()


@each_page
def test_files_that_are_named_exist(page: Path) -> None:
    pattern = re.compile(r"^(?:radius_mfa|docs|docker|config|dictionaries|tests)/[\w./-]*\w/?$")
    for word in inline_code(page.read_text("utf-8")):
        if pattern.match(word) and not word.startswith("docker/site"):
            assert (ROOT / word).exists(), f"{word} is gone"


def setting_names() -> list[str]:
    """Return every setting as documents write it, like ``radius.listen``."""
    schema = Settings.model_json_schema()
    found = []

    def walk(properties: dict[str, Any], prefix: str) -> None:
        for name, value in properties.items():
            found.append(prefix + name)
            target = value.get("items", value).get("$ref", "")
            if target:
                inner = schema["$defs"][target.rpartition("/")[2]].get("properties", {})
                walk(inner, f"{prefix}{name}.")

    walk(schema["properties"], "")
    return found


@each_page
def test_settings_that_are_named_exist(page: Path) -> None:
    known, events = set(setting_names()), set(log_events())
    sections = {name.partition(".")[0] for name in known if "." in name}
    assert {"radius", "client", "redis"} <= sections
    for word in inline_code(page.read_text("utf-8")):
        setting = re.fullmatch(r"([a-z_]+\.[a-z_.]+)(?: = .*)?", word)
        if (
            not setting
            or setting[1] in events
            or setting[1].endswith((".py", ".lua", ".log", ".md"))
        ):
            continue
        if setting[1].partition(".")[0] in sections and page.name != "access-request-flow.md":
            named = {setting[1], setting[1].removesuffix("_file")}
            assert named & known, f"there is no setting {setting[1]}"


# ---- Commands ------------------------------------------------------------------------------------

_OPERATORS = {"|", "||", "&&", ";", ">", ">>", "<", "&"}


def commands(text: str) -> Iterator[tuple[list[str], bool]]:
    """Yield the words of each radius-mfa command, and whether they must be complete."""
    for block in fences(text, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            yield from ((words, True) for words in _ours(shlex.split(line, comments=True)))
    for word in inline_code(text):
        if word.startswith(("radius-mfa ", "docker compose run ")):
            yield from ((words, False) for words in _ours(word.split()))


def _ours(words: list[str]) -> Iterator[list[str]]:
    for at, word in enumerate(words[:-1]):
        before = words[at - 1] if at else ""
        named = Path(word).name == "radius-mfa" and not before.startswith("-")
        program = named and Path(before).name != "install.sh"  # which takes a folder
        admin = word == "admin" and before == "--rm"
        if (program or admin) and Path(words[at + 1]).name != "radius-mfa":
            rest = words[at + 1 :]
            end = next((i for i, w in enumerate(rest) if w in _OPERATORS), len(rest))
            yield rest[:end]


def refusal(words: list[str], *, complete: bool) -> str:
    """Return why the command line would refuse *words*; nothing is run."""
    command: Any = typer.main.get_command(app)
    while words and words[0] in {"-c", "--config"}:
        words = words[2:]
    path = "radius-mfa"
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        if words[0] not in command.commands:
            return f"{path} has no command {words[0]}"
        path, command = f"{path} {words[0]}", command.commands[words[0]]
        words = words[1:]
    words = [word for word in words if not word.startswith(("--install-", "--show-"))]  # they act
    try:
        command.make_context(path, list(words))
    except typer.Exit:  # --help, --version
        return ""
    except typer.TyperException as error:
        if "is not readable" in str(error):  # a data folder of this machine, and another user's
            return ""
        incomplete = type(error).__name__ in {"MissingParameter", "NoArgsIsHelpError"}
        return "" if incomplete and not complete else f"{path}: {error}"
    return ""


def test_wrong_commands_would_be_found() -> None:
    """The check below can fail."""
    assert "no command usr" in refusal(["usr", "add"], complete=False)
    assert "no command ad" in refusal(["user", "ad", "alice"], complete=False)
    assert "--pasword" in refusal(["user", "add", "alice", "--pasword"], complete=False)
    assert refusal(["user", "add"], complete=True)
    assert not refusal(["user", "add"], complete=False)
    assert list(_ours(shlex.split("sudo -u radius-mfa radius-mfa user add alice"))) == [
        ["user", "add", "alice"]
    ]


@each_page
def test_commands_that_are_shown_exist(page: Path) -> None:
    for words, complete in commands(page.read_text("utf-8")):
        if "..." not in words:
            why = refusal(list(words), complete=complete)
            assert not why, f"radius-mfa {' '.join(words)}: {why}"


def test_readme_shows_commands_and_targets_that_exist() -> None:
    readme = text_of("README.md")
    targets = re.findall(r"^make (\w+)", "\n".join(fences(readme, "sh")), re.MULTILINE)
    assert targets == ["run", "test"]
    for target in targets:
        assert re.search(rf"^{target}:", text_of("Makefile"), re.MULTILINE)
    shown = [words for words, complete in commands(readme) if complete]
    assert [words[0] for words in shown] == ["init", "client", "user", "device", "serve"]
    assert len(fences(readme, "mermaid")) == 1


# ---- Links ---------------------------------------------------------------------------------------


def links(page: Path) -> list[str]:
    return re.findall(r"\]\(([^()\s]+)\)", without_fences(page.read_text("utf-8")))


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as code hosts make them."""
    found = set()
    for heading in re.findall(r"^#+ (.*)$", without_fences(page.read_text("utf-8")), re.MULTILINE):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)|`", r"\1", heading).lower()
        found.add(re.sub(r"[^\w\- ]", "", plain).replace(" ", "-"))
    return found


def target_of(page: Path, link: str) -> Path:
    path = link.partition("#")[0]
    return (page.parent / path).resolve() if path else page


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        if re.match(r"https?://", link):
            continue
        target = target_of(page, link)
        assert target.exists(), f"{link} leads nowhere"
        assert target.is_relative_to(ROOT)
        anchor = link.partition("#")[2]
        if anchor:
            assert anchor in anchors(target), f"{link}: no such heading"


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached = {ROOT / "README.md"}
    while True:
        pages = [page for page in reached if page.suffix == ".md"]
        further = {
            target_of(page, link) for page in pages for link in links(page) if "://" not in link
        }
        if further <= reached:
            break
        reached |= further
    assert set(PAGES) <= reached


# ---- Secrets -------------------------------------------------------------------------------------

_ASSIGNED = re.compile(
    r"(?:^\s*[\w-]*(?:secret|password|seed)[\"']?\s*:|(?:secret|password|seed)[\"']?\s*=)"
    r"\s*[\"']?(?P<value>[\w+/$<.-]{4,})",
    re.IGNORECASE | re.MULTILINE,
)
_ON_A_COMMAND_LINE = re.compile(
    r"rad(?:client|test)\b(?!\.py).*\b(?:auth|status)\s+(?P<value>[^\s`]+)"
)
_WELL_KNOWN = re.compile(r"testing123|xyzzy5461|s3cr3t|hunter2|passw0rd|changeme", re.IGNORECASE)
_LOOKS_RANDOM = re.compile(
    r"\b(?:[A-Z2-7]{16,}|(?=\w*\d)(?=\w*[a-z])(?=\w*[A-Z])[A-Za-z0-9]{16,}|[0-9a-f]{32,})\b"
)


def published_secrets(text: str) -> list[str]:
    """Return what in *text* somebody might copy and then share with every other reader."""
    found = []
    for pattern in (_ASSIGNED, _ON_A_COMMAND_LINE):
        for match in pattern.finditer(text.replace(EXAMPLE_SECRET, "")):
            value = match["value"]
            placeholder = value[0] in "$</." or value.isupper()
            if not placeholder and not re.fullmatch(r"[a-z]+_[a-z_]+", value):
                found.append(match[0])
    found += _WELL_KNOWN.findall(text)
    return found + _LOOKS_RANDOM.findall(text)


@pytest.mark.parametrize(
    "text",
    [
        'secret = "a-shared-secret-0815"',
        "POSTGRES_PASSWORD: postgres",
        "echo ... | radclient 127.0.0.1 auth mysecret",
        "use testing123 for now",
        "otpauth://totp/x?secret=JBSWY3DPEHPK3PXP",
        "Its shared secret: UmGDTIb5SwsGqiWMHZ9ma554bv7Um1ZQ",
    ],
)
def test_secrets_would_be_found(text: str) -> None:
    """The check below can fail."""
    assert published_secrets(text)


@pytest.mark.parametrize(
    "text",
    [
        'secret_file = "/run/secrets/asa-hq"',
        "secret: $(cat secret)",
        "radclient HOST auth SECRET",
        f'#secret = "{EXAMPLE_SECRET}"',
    ],
)
def test_placeholders_are_no_secrets(text: str) -> None:
    assert not published_secrets(text)


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_example_holds_a_secret(file: Path) -> None:
    """A shared secret that is printed in a manual is no secret, and someone will use it."""
    assert not published_secrets(file.read_text("utf-8"))


# ---- The rest ------------------------------------------------------------------------------------


def test_every_decision_is_listed_once_and_in_order() -> None:
    pages = sorted(page.name for page in (ROOT / "docs" / "adr").glob("0*.md"))
    assert [int(name[:4]) for name in pages] == list(range(1, len(pages) + 1))
    assert links(ROOT / "docs" / "adr" / "README.md") == pages
    for name in pages:
        text = text_of(f"docs/adr/{name}")
        assert re.match(rf"# {int(name[:4])}\. \S", text)
        for part in ("Context", "Decision", "Consequences", "Not chosen"):
            assert f"**{part}.**" in text


def test_changelog_begins_with_what_is_not_released_yet() -> None:
    """Keep a Changelog: newest first, and changes by kind."""
    releases = re.findall(r"^## \[?([^\]\n]+)", text_of("CHANGELOG.md"), re.MULTILINE)
    assert releases[0] == "Unreleased"
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security", "Known limits"}
    assert set(re.findall(r"^### (.*)$", text_of("CHANGELOG.md"), re.MULTILINE)) <= kinds

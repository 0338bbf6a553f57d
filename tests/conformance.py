"""docs/conformance.md, made of the checklist and of the tests that cite its items.

A test cites an item in its name (``test_p05_...``) or in its docstring (``P05, B01: ...``).
``python -m tests.conformance`` writes the page; tests/unit/test_conformance.py holds it to both.
"""

import ast
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "conformance.md"
NOT_YET = "not yet"

HEAD = """# Conformance

What a RADIUS server for VPN logins owes its gateways, users and operators, item by item, with the
tests that prove it. The tests run on every change; an item holds while they pass.

Written by `make conformance` from `tests/checklist.toml` and from the tests that cite its items;
changes by hand are lost. *deprecating-radius* is draft-ietf-radext-deprecating-radius.
"""


@dataclass(frozen=True)
class Item:
    """One line of the checklist."""

    id: str
    requirement: str
    source: str
    state: str = "holds"

    @property
    def holds(self) -> bool:
        return not self.state.startswith(NOT_YET)


@dataclass(frozen=True)
class Proof:
    """A test function and what it cites."""

    path: str
    name: str
    docstring: str

    @property
    def cited(self) -> set[str]:
        """What looks like ids of items: in the name, and in the docstring."""
        in_name = re.findall(r"_([a-z]\d\d)(?=_|$)", self.name)
        return {found.upper() for found in in_name} | set(
            re.findall(r"\b[A-Z]\d\d\b", self.docstring)
        )

    @property
    def promise(self) -> str:
        """The name as a sentence."""
        return re.sub(r"^test_(?:[a-z]\d\d_)?", "", self.name).replace("_", " ")


def checklist() -> dict[str, list[Item]]:
    """Return the items by section."""
    document = tomllib.loads((ROOT / "tests" / "checklist.toml").read_text("utf-8"))
    return {
        section: [Item(name, *fields) for name, fields in lines.items()]
        for section, lines in document.items()
    }


def proofs() -> Iterator[Proof]:
    """Yield the test functions of the repository, in the order of files and lines."""
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.parse(path.read_text("utf-8")).body:
            if (
                isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
                and node.name[:5] == "test_"
            ):
                relative = path.relative_to(ROOT).as_posix()
                yield Proof(relative, node.name, ast.get_docstring(node) or "")


def citing(items: Iterable[Item], found: Iterable[Proof]) -> dict[str, list[Proof]]:
    """Return the tests of each item."""
    by_item: dict[str, list[Proof]] = {item.id: [] for item in items}
    for test in found:
        for name in test.cited & by_item.keys():
            by_item[name].append(test)
    return by_item


def faults(items: Sequence[Item], found: Sequence[Proof]) -> list[str]:
    """Return what is wrong: items that no test cites, and citations of what is no item."""
    by_item = citing(items, found)
    kinds = {item.id[0] for item in items}
    untested = [
        f"{item.id} has no test: {item.requirement}"
        for item in items
        if item.holds and not by_item[item.id]
    ]
    unknown = [
        f"{test.path}: {test.name} cites {name}, which is no item"
        for test in found
        for name in sorted(test.cited - by_item.keys())
        if name[0] in kinds
    ]
    return untested + unknown


def page(sections: Mapping[str, Sequence[Item]], found: Sequence[Proof]) -> str:
    """Return docs/conformance.md."""
    by_item = citing((item for items in sections.values() for item in items), found)
    lines = [HEAD]
    for section, items in sections.items():
        lines += [f"## {section}", "", "| | Requirement | Source | State | Tests |"]
        lines += ["|---|---|---|---|---|"]
        for item in items:
            tests = "<br>".join(f"[{test.promise}](../{test.path})" for test in by_item[item.id])
            cells = (item.id, item.requirement, item.source, item.state, tests)
            lines.append(f"| {' | '.join(cells)} |".replace("  |", " |"))
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(checklist(), list(proofs())), "utf-8")


if __name__ == "__main__":
    main()

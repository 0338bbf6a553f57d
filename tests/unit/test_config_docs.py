"""docs/configuration.md tells of every setting, in the words and with the limits of config.py.

``python -m tests.unit.test_config_docs`` writes its reference anew.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from radius_mfa.config import PATTERN_IN_WORDS, Settings
from radius_mfa.config_view import json_schema

DOCUMENT = Path(__file__).parents[2] / "docs" / "configuration.md"
MARK = "<!-- The tables below are made from radius_mfa/config.py"

SECTIONS = {
    "": "At the top of the file",
    "client": "`[[client]]`: one for each gateway",
    "directory.ldap": "`[[directory.ldap]]`: one for each directory",
    "rule": "`[[rule]]`: policy rules, in order",
}


def reference() -> str:
    """Return the reference of all settings as Markdown."""
    schema = json_schema()
    lines: list[str] = []
    for section, node in _sections(schema, schema, ""):
        settings = {
            name: one for name, one in node["properties"].items() if _section(schema, one) is None
        }
        if settings:
            lines += ["", f"### {SECTIONS.get(section, f'`[{section}]`')}", ""]
            lines += [node["description"], ""] if section else []
            lines += ["| Setting | Default | Values | What it does |", "|---|---|---|---|"]
            lines += [_row(schema, node, name, one) for name, one in settings.items()]
    return "\n".join(lines) + "\n"


def _sections(
    schema: dict[str, Any], node: dict[str, Any], path: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, node
    for name, one in node["properties"].items():
        inner = _section(schema, one)
        if inner is not None:
            yield from _sections(schema, inner, f"{path}.{name}".lstrip("."))


def _section(schema: dict[str, Any], one: dict[str, Any]) -> dict[str, Any] | None:
    found = _resolved(schema, one.get("items", one))
    return found if "properties" in found else None


def _resolved(schema: dict[str, Any], one: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in one:
        return {**schema["$defs"][one["$ref"].rpartition("/")[2]], **one}
    return one


def _row(schema: dict[str, Any], node: dict[str, Any], name: str, one: dict[str, Any]) -> str:
    one = _resolved(schema, one)
    default = json.dumps(one["default"], ensure_ascii=False) if "default" in one else ""
    default = f"`{default}`" if default else _without_default(node, name)
    return f"| `{name}` | {default} | {_values(schema, one)} | {one['description']} |"


def _without_default(node: dict[str, Any], name: str) -> str:
    for form in (node, *node.get("anyOf", ())):
        choices = [choice["required"][0] for choice in form.get("oneOf", ())]
        if name in choices:
            return f"this or `{next(choice for choice in choices if choice != name)}`"
        if name in form.get("required", ()):
            return "required"
    return "not set"


def _values(schema: dict[str, Any], one: dict[str, Any]) -> str:
    one = _resolved(schema, one)
    if "enum" in one:
        return ", ".join(f"`{json.dumps(value)}`" for value in one["enum"])
    if "anyOf" in one:
        return " or ".join(_values(schema, form) for form in one["anyOf"])
    if one["type"] == "object":
        texts = one["additionalProperties"].get("type") == "string"
        return "table of texts" if texts else "table"
    if one["type"] == "array":
        items = _values(schema, one["items"])
        return "list of texts" if items == "text" else f"list of {items}"
    return _scalar_values(one)


def _scalar_values(one: dict[str, Any]) -> str:
    if one["type"] == "boolean":
        return "`true`, `false`"
    if one["type"] in ("integer", "number"):
        return f"{one['minimum']} to {one['maximum']}"
    if "maxLength" in one:
        return f"text of at most {one['maxLength']} characters"
    if "pattern" in one:
        return PATTERN_IN_WORDS[one["pattern"]].removeprefix("must be ")
    return {"path": "path"}.get(one.get("format", ""), "text")


def test_the_reference_in_the_documentation_is_up_to_date() -> None:
    """A new setting, limit or default that the documentation does not tell of fails here."""
    before, mark, tables = DOCUMENT.read_text("utf-8").partition(MARK)
    assert mark, "the mark of the generated part"
    assert tables.partition("\n")[2] == reference(), "python -m tests.unit.test_config_docs"
    assert "## Where a setting comes from" in before


def test_the_reference_names_every_setting() -> None:
    """The generator itself leaves nothing out."""
    text = reference()

    def check(model: type[BaseModel]) -> None:
        for name, field in model.model_fields.items():
            inner = [
                one
                for one in (field.annotation, *getattr(field.annotation, "__args__", ()))
                if isinstance(one, type) and issubclass(one, BaseModel)
            ]
            for section in inner:
                check(section)
            assert inner or f"| `{name}` |" in text, name

    check(Settings)


if __name__ == "__main__":
    old, mark, rest = DOCUMENT.read_text("utf-8").partition(MARK)
    DOCUMENT.write_text(f"{old}{mark}{rest.partition(chr(10))[0]}\n{reference()}", "utf-8")

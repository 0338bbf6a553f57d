"""What is wrong with a setting, and the cure, in an operator's words.

pydantic finds most faults; its own wording is for programmers.
"""

import difflib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from radius_mfa.config import PATTERN_IN_WORDS, Settings
from radius_mfa.toml_lines import Location

Table = dict[str, Any]

FILE_SUFFIX = "_file"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong: where, which setting, what, and the cure."""

    place: str
    setting: str
    message: str
    cure: str = ""

    def __str__(self) -> str:
        """Return the fault as one line."""
        setting = f"{self.setting}: " if self.setting else ""
        cure = f" ({self.cure})" if self.cure else ""
        return f"{self.place}: {setting}{self.message}{cure}"


def dotted(location: Location) -> str:
    """Return a location as an operator writes it, like ``client[2].secret`` (from 1)."""
    text = ""
    for step in location:
        text += f"[{step + 1}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def in_words(detail: ErrorDetails) -> tuple[str, str]:
    """Return what is wrong, and the cure or nothing, for a fault that pydantic found."""
    location = setting_part(detail["loc"])
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        return "there is no such setting", nearest(location)
    if kind == "missing":
        return "is missing", _missing_cure(location)
    if kind == "list_type":
        return _list_words(location)
    if kind.startswith("model"):
        return "must be a table of settings", _table_cure(location)
    message = _words_by_kind(kind, context, location) or detail["msg"]
    quoted = isinstance(detail["input"], str) and not isinstance(scalar(detail["input"]), str)
    return message + (", without quotes" if quoted and kind in _PLAIN_KINDS else ""), ""


def _words_by_kind(kind: str, context: dict[str, Any], location: Location) -> str:
    if kind == "value_error":
        return str(context["error"])
    if kind in ("literal_error", "enum"):
        return f"must be {'one of ' if ',' in context['expected'] else ''}{_quoted(context)}"
    if kind == "string_pattern_mismatch":
        return PATTERN_IN_WORDS[context["pattern"]]
    if kind == "string_too_long":
        return f"must be at most {context['max_length']} characters long"
    if kind in ("greater_than_equal", "less_than_equal"):
        return f"must be {_range(field_at(location))}"
    return _WORDS.get(kind, "")


_PLAIN_KINDS = {"bool_type", "float_type", "int_type", "literal_error"}

_WORDS = {
    "bool_type": "must be true or false",
    "dict_type": "must be a table of names and values",
    "finite_number": "must be a number",
    "float_type": "must be a number",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a smaller number",
    "int_type": "must be a whole number",
    "path_type": "must be the path of a file, in quotes",
    "string_too_short": "must not be empty",
    "string_type": "must be text in quotes",
    "too_short": "must not be empty",
}


def scalar(text: str) -> object:
    """Return *text* as the number or the truth value that it stands for, or as it is."""
    words = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
    if text.strip().lower() in words:
        return words[text.strip().lower()]
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text


def _must_be_tables(location: Location) -> tuple[str, str]:
    names = tuple(step for step in location if isinstance(step, str))
    one = {"ldap": "directory"}.get(names[-1], names[-1])
    return (
        f"must be one table for each {one}",
        f"write [[{dotted(names)}]], in two pairs of brackets, on a line above each one's settings",
    )


def _list_words(location: Location) -> tuple[str, str]:
    field = field_at(location)
    if field is not None and section_of(field) is not None:
        return _must_be_tables(location)
    return "must be a list", f"write {location[-1]} = {example_of_list(field)}"


def example_of_list(field: FieldInfo | None) -> str:
    """Return a list as TOML and JSON have it: the default of *field* where there is one."""
    return json.dumps((field.default if field else None) or ["...", "..."], default=str)


def _quoted(context: dict[str, Any]) -> str:
    return str(context["expected"]).replace("'", '"')


def _range(field: FieldInfo | None) -> str:
    limits = field.metadata if field else []
    low = next((limit.ge for limit in limits if hasattr(limit, "ge")), None)
    high = next((limit.le for limit in limits if hasattr(limit, "le")), None)
    if high is None:
        return f"{low} or more"
    return f"{high} or less" if low is None else f"from {low} to {high}"


def _missing_cure(location: Location) -> str:
    name, field = location[-1], field_at(location)
    if field is not None and holds(field, SecretStr):
        return f"set {name}, or name its file with {name}{FILE_SUFFIX}"
    return f"set {name}"


def _table_cure(location: Location) -> str:
    if any(isinstance(step, int) for step in location):
        return _must_be_tables(location)[1]
    return f"write [{dotted(location)}], in one pair of brackets, on a line above its settings"


def nearest(location: Location) -> str:
    """Return a hint at the setting that *location*, which does not exist, may stand for."""
    *table, name = location
    model = model_at(tuple(table))
    if model is None:
        return ""
    known = _names(model)
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]}?"
    elsewhere = [dotted(place) for place in _places(Settings, ()) if place[-1] == name]
    if elsewhere:
        return f"did you mean {' or '.join(elsewhere)}?"
    return f"known here: {', '.join(known)}"


def nearest_variable(name: str, variable: Callable[[Location], str]) -> str:
    """Return a hint at the environment variable that *name*, which sets nothing, may stand for."""
    prefix = variable(())
    known = [variable(place).removeprefix(prefix) for place in _places(Settings, ())]
    near = difflib.get_close_matches(name.upper().removeprefix(prefix), known, n=1, cutoff=0.7)
    return f"did you mean {prefix}{near[0]}?" if near else f"names are like {variable(_EXAMPLE)}"


_EXAMPLE: Location = ("log", "level")


def _names(model: type[BaseModel]) -> list[str]:
    names = []
    for name, field in model.model_fields.items():
        names.append(name)
        if holds(field, SecretStr):
            names.append(name + FILE_SUFFIX)
    return names


def _places(model: type[BaseModel], location: Location) -> Iterator[Location]:
    """Yield the location of every setting and section, lists of sections without an index."""
    for name in _names(model):
        yield (*location, name)
        field = model.model_fields.get(name)
        inner = section_of(field) if field else None
        if inner is not None:
            yield from _places(inner, (*location, name))


def section_of(field: FieldInfo) -> type[BaseModel] | None:
    """Return the model of a field that is a table, or a list of tables."""
    for candidate in (field.annotation, *get_args(field.annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def holds(field: FieldInfo, kind: type) -> bool:
    """Return whether *kind* stands anywhere in the type of *field*."""
    return kind in leaves(field.annotation)


def leaves(annotation: Any) -> Iterator[Any]:  # noqa: ANN401 - a type form
    """Yield the plain types and literal values that a type form is made of."""
    inner = get_args(annotation)
    if not inner:
        yield annotation
    for one in inner:
        yield from leaves(one)


def model_at(location: Location) -> type[BaseModel] | None:
    """Return the model whose fields stand in the table at *location*."""
    model: type[BaseModel] | None = Settings
    for step in location:
        if isinstance(step, str):
            field = model.model_fields.get(step) if model else None
            model = section_of(field) if field else None
    return model


def field_at(location: Location) -> FieldInfo | None:
    """Return the field at *location*; an element of a list is part of its field."""
    names = [step for step in location if isinstance(step, str)]
    model = model_at(tuple(names[:-1]))
    return model.model_fields.get(names[-1]) if model and names else None


def setting_part(location: Location) -> Location:
    """Return *location* without what pydantic adds below a setting, like a union's member."""
    kept: Location = ()
    for step in location:
        if isinstance(step, str) and kept and model_at(kept) is None:
            break
        kept = (*kept, step)
    return kept


def fields_in(
    model: type[BaseModel], table: Table, location: Location
) -> Iterator[tuple[Table, Location, str, FieldInfo]]:
    """Yield every field of *model* and its sections, with the table that may set it."""
    for name, field in model.model_fields.items():
        section = section_of(field)
        value = table.get(name)
        if section is None:
            yield table, location, name, field
        elif isinstance(value, dict):
            yield from fields_in(section, value, (*location, name))
        elif isinstance(value, list):
            for index, item in enumerate(value):
                if isinstance(item, dict):
                    yield from fields_in(section, item, (*location, name, index))

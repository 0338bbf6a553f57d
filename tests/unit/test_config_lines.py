"""Where a TOML file sets what: the line in every fault of the configuration is right."""

import json
import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radius_mfa.toml_lines import Location, line_of, lines_by_location, table_span

AWKWARD = r'''# a comment = [1]
a = 1
"quoted.key" = 'x' # = [y]
d.e.f = 1.5
list = [
  1, 2.5, # a comment ]
  "a#b", [ "n",
  "m" ],
  { x = 1, y = [1,
  2] },
]
date = 1979-05-27 07:32:00Z
basic = """
[[client]]
x = 1 \""" "" """""
literal = @@@
[t]@@@
[radius]
[ a1 . "b.c" ]
z = {}
[[client]] # [[x]]
name = "a"
[client.sub]
q = 1
[[client.list]]
[[ client ]]
name = "b"
[client.sub]
q=2
last = 1'''.replace("@@@", "'''")

PLACES: dict[Location, str] = {
    ("a",): "a = 1",
    ("quoted.key",): "\"quoted.key\" = 'x' # = [y]",
    ("d", "e", "f"): "d.e.f = 1.5",
    ("list",): "list = [",
    ("list", 1): "  1, 2.5, # a comment ]",
    ("list", 2): '  "a#b", [ "n",',
    ("list", 3, 1): '  "m" ],',
    ("list", 4, "y", 1): "  2] },",
    ("date",): "date = 1979-05-27 07:32:00Z",
    ("literal",): "literal = '''",
    ("radius",): "[radius]",
    ("a1", "b.c", "z"): "z = {}",
    ("client", 0): "[[client]] # [[x]]",
    ("client", 0, "sub", "q"): "q = 1",
    ("client", 0, "list", 0): "[[client.list]]",
    ("client", 1): "[[ client ]]",
    ("client", 1, "sub", "q"): "q=2",
    ("client", 1, "sub", "last"): "last = 1",
}


@pytest.mark.parametrize("location", PLACES, ids=str)
def test_every_form_of_toml_is_found_on_its_line(location: Location) -> None:
    line = line_of(lines_by_location(AWKWARD), location)
    assert AWKWARD.splitlines()[line - 1] == PLACES[location]


def test_what_is_not_there_stands_where_its_table_or_list_does() -> None:
    lines = lines_by_location(AWKWARD)
    assert line_of(lines, ("client", 1, "secret")) == lines["client", 1]
    assert line_of(lines, ("list", 99)) == lines["list",]
    assert line_of(lines, ("nowhere", 0, "x")) == 1
    assert line_of({}, ("a",)) == 1


def test_a_table_spans_from_its_header_to_the_next() -> None:
    text = 'a = 1\n[[client]]\nname = "a"\n# b\n\n[log]\nlevel = "x"\n'
    assert table_span(text, ("client", 0)) == (2, 6)
    assert table_span(text, ("log",)) == (6, 8)


def locations(node: Any, at: Location = ()) -> set[Location]:
    """Return the location of everything in *node*."""
    found = {at} - {()}
    pairs = node.items() if isinstance(node, dict) else enumerate(node)
    for step, value in pairs:
        found |= locations(value if isinstance(value, (dict, list)) else [], (*at, step))
    return found


def test_all_that_tomllib_finds_is_located_and_nothing_else() -> None:
    assert locations(tomllib.loads(AWKWARD)) == set(lines_by_location(AWKWARD))


text = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), max_size=12)
values = st.recursive(
    st.integers(-9, 9) | st.booleans() | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)


def quoted(name: str) -> str:
    """Return a key as TOML; JSON's strings are TOML's too."""
    return json.dumps(name, ensure_ascii=False)


def toml(value: Any) -> str:
    """Return *value* as inline TOML."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{quoted(k)} = {toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list):
        return "[" + "".join(f"\n  {toml(one)}, # ] }}" for one in value) + "\n]"
    return json.dumps(value, ensure_ascii=False)


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(text, values, max_size=3),
    st.lists(st.dictionaries(text, values, max_size=3), max_size=3),
)
def test_any_document_is_located_completely(
    table: dict[str, Any], elements: list[dict[str, Any]]
) -> None:
    """Whatever the keys and texts hold, nothing is missed, invented or put on a later line."""
    parts = [("[t]", table), *(("[[e]]", element) for element in elements)]
    document = "\n".join(
        line
        for header, settings in parts
        for line in (header, *(f"{quoted(k)} = {toml(v)}" for k, v in settings.items()))
    )
    lines = lines_by_location(document)
    assert set(lines) == locations(tomllib.loads(document))
    rows = document.split("\n")
    for (*_, name), line in lines.items():
        if isinstance(name, str) and name not in ("t", "e"):
            assert quoted(name) in rows[line - 1]

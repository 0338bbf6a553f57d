"""Whatever stands in the file or the environment, the answer is settings or faults in words."""

import re
from pathlib import Path
from typing import Any

import pytest
import tomlkit
from hypothesis import given, settings
from hypothesis import strategies as st

from radius_mfa.config import Settings
from radius_mfa.config_file import FaultyConfiguration, load
from radius_mfa.config_view import json_schema

text = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=12)
scalars = (
    text
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.booleans()
    | st.dates()
    | st.sampled_from(["embedded", "192.0.2.1", "10.0.0.0/8", "debug", "redis://h", "/x", "~x"])
)
values = st.recursive(
    scalars, lambda v: st.lists(v, max_size=3) | st.dictionaries(text, v, max_size=3), max_leaves=6
)

SCHEMA = json_schema()


def names() -> list[list[str]]:
    """Return the path of every section and setting, twins included."""
    found = []
    for name, one in SCHEMA["properties"].items():
        found.append([name])
        reference = one.get("$ref") or one.get("items", {}).get("$ref")
        if reference:
            inner = SCHEMA["$defs"][reference.rpartition("/")[2]]["properties"]
            found += [[name, key] for key in inner]
    return [*found, ["directory", "local", "realms"], ["directory", "local", "hash_queue"]]


places = st.sampled_from(names()) | st.lists(text, min_size=1, max_size=3)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "r.toml"


def check(path: Path, environ: dict[str, str]) -> None:
    """Load; every fault has a place that exists, says what is wrong, and not as pydantic does."""
    try:
        known = load(path, environ)
    except FaultyConfiguration as error:
        lines = len(path.read_text("utf-8").split("\n"))
        for fault in error.faults:
            variable = fault.place.removeprefix("environment variable ")
            if variable == fault.place:
                assert 1 <= int(fault.place.removeprefix(f"{path}:")) <= lines
            else:
                assert variable in environ
            assert fault.message
            assert not re.search(r"Input|should|valid |instance|Settings", fault.message)
        return
    assert isinstance(known.settings, Settings)


@given(st.lists(st.tuples(places, values), max_size=4))
@settings(max_examples=150, deadline=None)
def test_any_value_anywhere_in_the_file(path: Path, changes: list[tuple[list[str], Any]]) -> None:
    document: dict[str, Any] = {"client": [{"name": "a", "address": "::1", "secret": "x" * 16}]}
    for place, value in changes:
        node: Any = document
        for step in place[:-1]:
            inner = node.setdefault(step, {})
            node = inner[0] if isinstance(inner, list) and inner else inner
            if not isinstance(node, dict):
                break
        else:
            node[place[-1]] = value
    path.write_text(tomlkit.dumps(document), "utf-8")
    check(path, {})


words = st.sampled_from(sorted({word.upper() for place in names() for word in place}))
variable = st.lists(words | st.text("AZ_19", max_size=4), min_size=1, max_size=4).map(
    lambda parts: "RADIUS_MFA_" + "__".join(parts)
)
value = text | st.sampled_from(
    ["", "[]", "{}", "[1]", '["x"]', '{"x": 1}', "null", "true", "1", "1.5", "nan", "[", "\udcff"]
)


@given(st.dictionaries(variable, value, max_size=4))
@settings(max_examples=250, deadline=None)
def test_any_variable_of_any_value(path: Path, environ: dict[str, str]) -> None:
    path.write_text("[radius]\n", "utf-8")
    check(path, environ)

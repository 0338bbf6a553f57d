"""Columns by the names that people and other products give them."""

import re
from collections.abc import Mapping, Sequence

from radius_mfa.errors import Refused


def named(cells: Sequence[str], aliases: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Return which column holds what, for the columns of a header that *aliases* knows.

    Case, spaces and punctuation of a heading do not matter. Raises Refused where two columns
    hold the same.
    """
    of_alias = {_plain(alias): name for name, all_of in aliases.items() for alias in all_of}
    found: dict[str, int] = {}
    for at, cell in enumerate(cells):
        name = of_alias.get(_plain(cell))
        if name is None:
            continue
        if name in found:
            raise Refused(
                f"columns {found[name] + 1} and {at + 1} are both for {name}", "remove one"
            )
        found[name] = at
    return found


def cell(cells: Sequence[str], where: Mapping[str, int], name: str) -> str:
    """Return the cell of column *name*, as it was written; empty where there is none."""
    at = where.get(name, len(cells))
    return cells[at] if at < len(cells) else ""


def _plain(heading: str) -> str:
    return re.sub(r"[^a-z0-9]", "", heading.lower())

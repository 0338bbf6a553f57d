"""One form of a group's name, so that neither case nor spelling decides who is in it."""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

MAX_GROUP_CHARACTERS = 128

_UNFIT_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_AROUND_DN_SEPARATORS = re.compile(r"\s*([,=])\s*")


@dataclass(frozen=True, slots=True)
class Group:
    """A group that a user is in, directly or through others; *dn* is empty for one kept here."""

    name: str
    dn: str = ""


def group_key(text: str) -> str:
    """Return a group's name, or its distinguished name, in the form to compare it by."""
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
    return _AROUND_DN_SEPARATORS.sub(r"\1", folded.strip())


def group_keys(groups: Iterable[Group]) -> frozenset[str]:
    """Return the keys of *groups*: each by name, and by distinguished name where it has one."""
    return frozenset(group_key(text) for group in groups for text in (group.name, group.dn) if text)


def unfit_group(name: str) -> str:
    """Return why *name* can't be the name of a group kept here, or nothing where it can."""
    if not name or name != name.strip():
        return "a group's name is not empty, and neither begins nor ends with a space"
    if len(name) > MAX_GROUP_CHARACTERS:
        return f"a group's name has at most {MAX_GROUP_CHARACTERS} characters"
    if any(unicodedata.category(character) in _UNFIT_CATEGORIES for character in name):
        return "a group's name holds no control or invisible characters"
    return ""

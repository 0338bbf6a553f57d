"""The RADIUS dictionary: attribute names and types, from ``dictionaries/``."""

from functools import cache
from importlib import resources
from pathlib import Path

from pyrad.dictionary import Dictionary


@cache
def dictionary() -> Dictionary:
    """Return the dictionary that the package brings, read once."""
    installed = Path(str(resources.files("radius_mfa"))) / "dictionaries"
    folder = installed if installed.is_dir() else Path(__file__).parents[2] / "dictionaries"
    return Dictionary(str(folder / "dictionary"))

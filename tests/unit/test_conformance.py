"""docs/conformance.md: every item has its test, and the page is made of both as they are now."""

import re

from tests.conformance import PAGE, Item, Proof, checklist, faults, page, proofs

ITEMS = [item for items in checklist().values() for item in items]


def test_every_item_of_the_checklist_has_a_test_and_every_citation_an_item() -> None:
    assert faults(ITEMS, list(proofs())) == []


def test_the_page_is_not_stale() -> None:
    assert PAGE.read_text("utf-8") == page(checklist(), list(proofs())), "run: make conformance"


def test_items_are_short_and_say_where_they_come_from() -> None:
    assert len({item.id for item in ITEMS}) == len(ITEMS)
    for item in ITEMS:
        assert re.fullmatch(r"[A-Z]\d\d", item.id)
        assert 10 < len(item.requirement) <= 100
        assert re.match(r"RFC \d|SP 800-63B|deprecating-radius|this project", item.source)
        assert re.match(r"holds|not yet: \w", item.state)


def test_what_is_missing_would_be_found() -> None:
    """The checks above can fail."""
    item, later = Item("X01", "it holds", "RFC 1"), Item("X02", "it will", "RFC 1", "not yet: soon")
    by_name, by_docstring = (
        Proof("t.py", "test_x01_holds", ""),
        Proof("t.py", "test_it", "Y07, X01."),
    )
    assert faults([item, later], [by_name]) == faults([item, later], [by_docstring]) == []
    assert faults([item], []) == ["X01 has no test: it holds"]
    assert faults([item], [by_name, Proof("t.py", "test_a", "X99")]) == [
        "t.py: test_a cites X99, which is no item"
    ]
    assert "| X01 | it holds | RFC 1 | holds | [holds](../t.py)<br>[it](../t.py) |" in page(
        {"All": [item]}, [by_name, by_docstring]
    )

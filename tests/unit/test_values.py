"""Values are compared and hashed by their fields, and hold no other."""

from dataclasses import field

import pytest

from radius_mfa.values import value


@value
class Point:
    x: int
    y: int = 0
    secret: bytes = field(default=b"", repr=False)


def test_values_are_what_their_fields_are() -> None:
    assert Point(1, 2) == Point(1, y=2) != Point(1, 3)
    assert len({Point(1, 2), Point(1, 2), Point(2, 1)}) == 2
    assert repr(Point(1, secret=b"canary")) == "Point(x=1, y=0)"


def test_a_value_takes_no_field_more() -> None:
    with pytest.raises(AttributeError):
        Point(1).z = 3  # type: ignore[attr-defined]

"""Values: frozen dataclasses for the type checker, and cheap to make at run time.

A frozen dataclass sets its fields the long way round, which costs three times as much; a login
makes some twenty values. The type checker refuses every assignment to a field all the same.
"""

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def value(cls: type[T]) -> type[T]:
    """Make *cls* a dataclass with slots that is compared and hashed by its fields."""
    return dataclass(slots=True, unsafe_hash=True)(cls)

"""The order of a read model's rows, computed from their JSON exactly as Postgres computes it.

Postgres sorts text by code point (COLLATE "C"), nulls last in either direction, ties by id; timestamps and dates
are fixed-width ISO text, whose text order is time order.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import Raw

SortKey = tuple[Any, ...]


class _Descending:
    """A text that sorts the other way round."""

    __slots__ = ("value",)

    def __init__(self, value: str) -> None:
        self.value = value

    def __lt__(self, other: "_Descending") -> bool:
        return other.value < self.value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Descending) and other.value == self.value

    def __hash__(self) -> int:
        return hash(self.value)


class Ordering:
    """Turns a row into (id, sort key). `terms` are (column, descending)."""

    def __init__(self, terms: Sequence[tuple[str, bool]]) -> None:
        self._directions = [descending for _, descending in terms]
        fields: list[tuple[str, Any] | tuple[str, Any, Any]] = [("id", str)]
        names = {"id": "id"}
        for index, (column, _) in enumerate(terms):
            fields.append((f"term_{index}", Any, None))
            names[f"term_{index}"] = column
        row_type = msgspec.defstruct("OrderedRow", fields, rename=names)
        # Decimal, because two numerics that differ behind the 17th digit are not a tie for Postgres.
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(row_type, float_hook=Decimal)

    def sort_key(self, row: Raw) -> tuple[str, SortKey]:
        """The row's id and its place in the order. msgspec.ValidationError when it has no id."""
        decoded = self._decoder.decode(row)
        key: list[Any] = []
        for index, descending in enumerate(self._directions):
            value = getattr(decoded, f"term_{index}")
            if value is None:
                key.append((1, 0))
            elif not descending:
                key.append((0, value))
            else:
                key.append((0, _Descending(value) if isinstance(value, str) else -value))
        row_id: str = decoded.id
        key.append(row_id)
        return row_id, tuple(key)

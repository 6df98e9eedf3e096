"""Values that several frames share: positions and row patches."""

from typing import Annotated, Any

from msgspec import Meta, Raw, Struct

ClientId = Annotated[str, Meta(min_length=1, max_length=128)]
"""An id that the client makes: of a subscription, a query, a mutation."""

FunctionName = Annotated[str, Meta(min_length=1, max_length=128)]
"""`<group>.<function>`, such as `notes.listByPatient`."""

WirePosition = Annotated[str, Meta(pattern="^[0-9A-F]{1,8}/[0-9A-F]{1,8}$")]
"""A commit's place in Postgres' commit order, spelled as Postgres spells an LSN: `0/16B3748`."""

Json = dict[str, Any]


def format_position(position: int) -> str:
    """The wire spelling of a position (an unsigned 64-bit integer)."""
    return f"{position >> 32:X}/{position & 0xFFFFFFFF:X}"


def parse_position(text: str) -> int:
    """The inverse of `format_position`; ValueError when the text is no position."""
    high, separator, low = text.partition("/")
    if not separator or len(high) > 8 or len(low) > 8:
        raise ValueError("a position is two hexadecimal numbers of up to 8 digits joined by '/'")
    return (int(high, 16) << 32) | int(low, 16)


class PutRow(Struct, frozen=True):
    """Row `row` now stands at index `at` of the result. `row.id` is its identity."""

    at: int
    row: Raw

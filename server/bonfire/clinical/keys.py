"""A read model's key as one text: its columns' values joined by a character that no id holds."""

from collections.abc import Sequence

from bonfire_protocol.faults import Fault, FaultCode

SEPARATOR = "\x1f"


def join_key(parts: Sequence[str]) -> str:
    """The key of these column values; "" for a model without a key. Fault bad_arguments when a value holds the
    separator: with it one key could be written as another's."""
    if any(SEPARATOR in part for part in parts):
        raise Fault(FaultCode.bad_arguments, "a key can't hold the character U+001F")
    return SEPARATOR.join(parts)

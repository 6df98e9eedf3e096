"""JSON text <-> values, with numbers kept as they were written.

R4 says that the precision of a decimal is part of its value: `2.50` is not `2.5`. So decimals are `Decimal` here,
never float. A property given twice is refused, because nobody can tell which of the two was meant.
"""

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, NoReturn

import msgspec

from bonfire.fhir.outcome import Refusal

JsonObject = dict[str, Any]

_encoder = msgspec.json.Encoder(decimal_format="number")


def decode(data: bytes) -> Any:
    """The JSON value in `data` (UTF-8). Refusal with the line and column where it is malformed, none of its text."""
    try:
        return json.loads(
            data.decode("utf-8-sig"),
            parse_float=Decimal,
            parse_constant=_no_constant,
            object_pairs_hook=_object,
        )
    except json.JSONDecodeError as error:
        # The parser's own message names what it expected and where, never what it found.
        place = f"line {error.lineno}, column {error.colno}"
        raise Refusal.of(f"Malformed JSON at {place}: {error.msg}", "structure") from None
    except UnicodeDecodeError as error:
        raise Refusal.of(f"Malformed JSON: byte {error.start} is not UTF-8", "structure") from None
    except RecursionError:
        raise Refusal.of("The JSON is nested too deeply", "too-long") from None
    except ValueError as error:
        # _NotJson carries our own words; else it is a whole number beyond what Python converts.
        reason = str(error) if isinstance(error, _NotJson) else "a number has too many digits"
        raise Refusal.of(f"Malformed JSON: {reason}", "structure") from None


def encode(value: Any, *, pretty: bool = False) -> bytes:
    """The JSON text of `value`, decimals spelled with the digits they came with."""
    text = _encoder.encode(value)
    return msgspec.json.format(text, indent=2) if pretty else text


def same(one: Any, other: Any) -> bool:
    """Whether two decoded values say the same: properties in any order, but `2.50` and `2.5` differ.

    Exponents do not count (`1e2` is `100`): the database spells numbers out.
    """
    match one, other:
        case Mapping(), Mapping():
            return one.keys() == other.keys() and all(same(value, other[name]) for name, value in one.items())
        case (list(), list()):
            return len(one) == len(other) and all(map(same, one, other))
        case (bool(), _) | (_, bool()):
            return one is other
        case (int() | Decimal(), int() | Decimal()):
            return _spelled_out(one) == _spelled_out(other)
        case _:
            return bool(one == other)


def _spelled_out(number: int | Decimal) -> str:
    return format(number, "f") if isinstance(number, Decimal) else str(number)


class _NotJson(ValueError):
    """A value that Python's reader would take but that is no JSON, or no FHIR JSON."""


def _no_constant(name: str) -> NoReturn:
    raise _NotJson(f"{name} is not a JSON number")


def _object(pairs: Sequence[tuple[str, Any]]) -> JsonObject:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise _NotJson("an object has the same property twice")
    return result

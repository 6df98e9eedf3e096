"""What a function gives back -> the JSON of an answer, checked against the type that it declares."""

from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin

import msgspec
from msgspec import Struct

from bonfire.clinical.errors import RegistrationError, shape_problem
from bonfire_protocol.down import Shape
from bonfire_protocol.faults import Fault, FaultCode

# Numbers of a chart are decimals; they travel as JSON numbers with their spelling kept.
_encoder = msgspec.json.Encoder(decimal_format="number")


class Codec:
    """One declared type: values of it to JSON, checked. RegistrationError where JSON can't carry the type."""

    def __init__(self, name: str, declared: Any) -> None:
        self.name = name
        self.declared = declared
        try:
            self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(declared)
            msgspec.json.schema_components((declared,))
        except (TypeError, ValueError) as error:
            raise RegistrationError(f"{name}: the result's type can't be written as JSON: {error}") from None

    def encode(self, value: Any) -> bytes:
        """The JSON of `value`; Fault internal, naming the place in it, when it is not of the declared type."""
        try:
            return self.check(_encoder.encode(value))
        except (TypeError, ValueError, RecursionError) as error:
            raise self.fault(f"{type(error).__name__}: a value that JSON can't carry") from None

    def check(self, data: bytes) -> bytes:
        """`data`, JSON already; Fault internal, naming the place in it, when it is not of the declared type."""
        try:
            self._decoder.decode(data)
        except msgspec.MsgspecError as error:
            raise self.fault(shape_problem(error)) from None
        return data

    def fault(self, problem: str) -> Fault:
        return Fault(FaultCode.internal, f"{self.name} gave a result that is not of its declared type: {problem}")


@dataclass(frozen=True)
class Rows:
    """A query's result as rows. `shape` is `list` for `list[T]`, else `one` (a single row, the value itself).

    `identity` is the wire name of the field that tells the rows of a list apart (`id`, where T is a struct that has
    one as text), or None: then a changed list is sent whole. `row` is the codec of T.
    """

    row: Codec
    shape: Shape
    identity: str | None

    def encode(self, value: Any) -> list[bytes]:
        """Each row's JSON; Fault internal when the value is not what was declared."""
        if self.shape == "one":
            return [self.row.encode(value)]
        if not isinstance(value, list):
            raise self.row.fault(f"Expected a list, got {type(value).__name__}")
        return [self.row.encode(row) for row in value]


def rows_of(name: str, declared: Any) -> Rows:
    """How a query that declares result type `declared` is sent."""
    if get_origin(declared) is list:
        row = get_args(declared)[0]
        return Rows(Codec(name, row), "list", identity_of(row))
    return Rows(Codec(name, declared), "one", None)


def identity_of(row: Any) -> str | None:
    """The wire name of the field that identifies a row: the struct's `id`, where it is text; else None."""
    if not (isinstance(row, type) and issubclass(row, Struct)):
        return None
    for field in msgspec.structs.fields(row):
        if field.encode_name == "id":
            text = get_args(field.type)[0] if get_origin(field.type) is Annotated else field.type
            return "id" if text is str else None
    return None

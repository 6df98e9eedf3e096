"""A function's signature -> the struct that its arguments arrive in.

Python's snake_case parameters are camelCase on the wire; unknown fields are refused; a parameter's default is the
field's. Equal calls have equal canonical bytes, whatever their spelling: defaults filled in, keys sorted.
"""

import inspect
import re
from collections.abc import Callable
from typing import Any, get_type_hints

import msgspec
from msgspec import Struct

from bonfire.clinical.errors import RegistrationError, bad_arguments
from bonfire_protocol.faults import Fault, FaultCode

_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_canonical = msgspec.json.Encoder(order="sorted")


class Value(Struct, frozen=True, rename="camel"):
    """The base of app-shaped values: snake_case here, camelCase on the wire, never changed after they are made."""


def signature_of(name: str, function: Callable[..., Any]) -> tuple[type[Struct], Any]:
    """The struct of `function`'s parameters behind the first one (its context), called `<Group><Function>Args`; and
    the type of its result.

    RegistrationError when it is not `async`, declares no result, or a parameter has no type, is positional-only, or
    is of the kind `*args` or `**kwargs`.
    """
    if not inspect.iscoroutinefunction(function):
        raise RegistrationError(f"{name}: write `async def`: the function waits for the database")
    parameters = list(inspect.signature(function).parameters.values())
    if not parameters:
        raise RegistrationError(f"{name}: its first parameter is the context: `{function.__name__}(ctx, ...)`")
    try:
        hints = get_type_hints(function, include_extras=True)
    except NameError as error:
        raise RegistrationError(f"{name}: a type in the signature can't be found: {error}") from None
    if "return" not in hints:
        raise RegistrationError(f"{name}: declare the type of the result: `-> list[Task]`, `-> None`")
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    for parameter in parameters[1:]:
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise RegistrationError(f"{name}: parameter `{parameter.name}` must be a plain, named one")
        if parameter.name not in hints:
            raise RegistrationError(f"{name}: parameter `{parameter.name}` needs a type: `{parameter.name}: str`")
        hint = hints[parameter.name]
        if parameter.default is parameter.empty:
            fields.append((parameter.name, hint))
        else:
            fields.append((parameter.name, hint, parameter.default))
    return define(name, fields), hints["return"]


def define(name: str, fields: list[tuple[str, Any] | tuple[str, Any, Any]]) -> type[Struct]:
    """A struct of arguments for function `name`. RegistrationError when a field's type is none that JSON can carry."""
    title = struct_name(name, "Args")
    try:
        arguments = msgspec.defstruct(
            title, fields, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True
        )
        msgspec.json.Decoder(arguments)
        msgspec.json.schema_components((arguments,))
    except (TypeError, ValueError) as error:
        raise RegistrationError(f"{name}: an argument's type can't be read from JSON: {error}") from None
    return arguments


def struct_name(name: str, suffix: str) -> str:
    """`notes.listByPatient`, `Args` -> `NotesListByPatientArgs`."""
    return "".join(part[:1].upper() + part[1:] for part in name.split(".")) + suffix


def wire_name(arguments: type[Struct], field: str) -> str | None:
    """The wire's spelling of Python field `field`; None where there is no such field."""
    for candidate in msgspec.structs.fields(arguments):
        if candidate.name == field:
            return candidate.encode_name
    return None


def decode(decoder: msgspec.json.Decoder[Any], data: bytes) -> Struct:
    """The arguments in `data`; Fault bad_arguments that names the field, what was expected and what kind came."""
    if _NUL.search(data):
        # Postgres has no place for it in text or jsonb: refused here, where the client can be told so.
        raise Fault(
            FaultCode.bad_arguments,
            "text can't hold the character U+0000",
            field=_first_with_nul(data),
            expected="other characters",
        )
    try:
        arguments: Struct = decoder.decode(data)
    except (ValueError, RecursionError) as error:
        raise bad_arguments(error, decoder.type) from None
    return arguments


def _first_with_nul(data: bytes) -> str | None:
    try:
        arguments = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    except (ValueError, RecursionError):
        return None
    return next((name[:80] for name, value in arguments.items() if _NUL.search(bytes(value))), None)


def canonical(arguments: Struct) -> bytes:
    """The one spelling of equal arguments."""
    return _canonical.encode(arguments)


def keywords(arguments: Struct) -> dict[str, Any]:
    """The arguments as keywords for the Python function: values as they are, nested structs left whole."""
    return {field: getattr(arguments, field) for field in arguments.__struct_fields__}

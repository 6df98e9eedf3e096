"""Errors at this room's borders: a module's mistakes at start, a client's and a function's at run time."""

import logging
import re
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from traceback import extract_tb

import asyncpg
import msgspec
from msgspec import inspect

from bonfire_protocol.faults import Fault, FaultCode

_log = logging.getLogger(__name__)

DATABASE_LOST = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
)
"""What a connection that is gone looks like from inside a transaction."""

AGAIN = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)
"""What two transactions that met look like: nothing was done, and running it again helps."""


TOO_LONG = (asyncpg.QueryCanceledError, asyncpg.LockNotAvailableError)
"""What a statement looks like that has taken, or waited for, longer than it may: nothing was done."""


class RegistrationError(ValueError):
    """A function, query or read model was declared wrongly. The message names it and says what to write instead.

    Raised when the module that declares it is imported (or prepared against the database): never while serving.
    """


_MISSING = re.compile(r"Object missing required field `(?P<field>[^`]*)`")
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<field>[^`]*)`")
_FORM = re.compile(r"Invalid (?P<form>RFC3339 encoded \w+|ISO8601 duration|UUID|decimal string|base64 encoded string)$")
_EXPECTED = re.compile(r"Expected (?P<expected>.*?)(?:, got (?P<got>.*))?$", re.DOTALL)
_MAX_FIELD = 80


def bad_arguments(error: Exception, arguments: type[msgspec.Struct]) -> Fault:
    """The refusal for arguments that `arguments` could not be decoded from.

    It names the field, what was expected and the kind of what came; never a value: msgspec's own texts hold one
    where an enumeration or a tag did not match, so those are said anew.
    """
    if isinstance(error, UnicodeError):
        return _refusal("the arguments are not UTF-8", "", "JSON text in UTF-8", "other bytes")
    text, _, path = str(error).partition(" - at `$")
    path = path.rstrip("`").lstrip(".")
    if found := _MISSING.match(text):
        return _refusal("a required argument is missing", _join(path, found["field"]), "a value", "nothing")
    if found := _UNKNOWN.match(text):
        known = ", ".join(field.encode_name for field in msgspec.structs.fields(arguments)) or "no arguments"
        expected = known if not path else "the fields of this object"
        return _refusal("there is no such argument", _join(path, found["field"]), expected, "an unknown field")
    if text.startswith(("Invalid enum value", "Invalid value")):
        return _refusal("the value is not one of those allowed", path, _allowed(arguments, path), "another value")
    if found := _FORM.match(text):
        return _refusal("the argument has the wrong form", path, f"a valid {found['form']}", "other text")
    if found := _EXPECTED.match(text):
        got = found["got"]
        return _refusal("the argument has the wrong type or size", path, found["expected"], got or "something else")
    return _refusal(text[:200], path, "arguments as a JSON object", "something else")


def _refusal(message: str, field: str, expected: str, got: str) -> Fault:
    return Fault(
        FaultCode.bad_arguments,
        message,
        field=field[:_MAX_FIELD] or None,
        expected=expected.replace("`", ""),
        got=got.replace("`", ""),
    )


def _join(path: str, field: str) -> str:
    return f"{path}.{field}" if path else field


def _allowed(arguments: type[msgspec.Struct], path: str) -> str:
    for field in msgspec.structs.fields(arguments):
        if field.encode_name == path:
            values = _values(inspect.type_info(field.type))
            if values:
                return "one of " + ", ".join(values)
    return "one of the values that the function's description lists"


def _values(info: inspect.Type) -> list[str]:
    if isinstance(info, inspect.LiteralType):
        return [str(value) for value in info.values]
    if isinstance(info, inspect.EnumType):
        return [str(member.value) for member in info.cls]
    if isinstance(info, inspect.UnionType):
        return [value for part in info.types for value in _values(part)]
    return []


def failure(code: FaultCode, function: str, error: Exception) -> Fault:
    """The refusal for a function that failed by itself; the log says where, so that its author can find it.

    Neither says what the error says: its text may quote what was being written.
    """
    kind = type(error).__name__
    if isinstance(error, asyncpg.PostgresError):
        kind += f" (SQLSTATE {error.sqlstate})"
    frames = extract_tb(error.__traceback__)
    place = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames[-4:]))
    _log.error("%s failed: %s at %s", function, kind, place)
    return Fault(code, f"{function} failed: {kind}")


def shape_problem(error: msgspec.MsgspecError) -> str:
    """What is wrong with a value that a function gave, by path and kind only."""
    text, _, path = str(error).partition(" - at `")
    if text.startswith(("Invalid enum value", "Invalid value")):
        text = "a value that is not one of those declared"
    place = path.rstrip("`") or "$"
    return f"{text[:200]} at {place}".replace("`", "")


def near_misses(name: str, names: Iterable[str]) -> list[str]:
    """Up to three of `names` that somebody who wrote `name` may have meant, the nearest first."""
    by_lower = {known.lower(): known for known in names}
    return [by_lower[found] for found in get_close_matches(name.lower(), by_lower, n=3, cutoff=0.6)]

"""The refusals that the socket itself has for what a client asks."""

import json

from bonfire_protocol.faults import Fault, FaultCode
from bonfire_protocol.version import PROTOCOL_VERSION


def hello_expected() -> Fault:
    return Fault(
        FaultCode.bad_frame, "the first frame must be hello", field="type", expected="hello", got="another frame type"
    )


def another_version(got: int) -> Fault:
    return Fault(
        FaultCode.unsupported,
        "this version of the protocol is not spoken here",
        field="protocol",
        expected=str(PROTOCOL_VERSION),
        got=str(got),
    )


def too_many(what: str, limit: int) -> Fault:
    return Fault(FaultCode.too_many, f"too many {what} on this connection", expected=f"at most {limit}")


def too_large(field: str, limit: int, got: int) -> Fault:
    message = "a subscription's arguments are kept, so they must be short"
    return Fault(FaultCode.too_large, message, field=field, expected=f"at most {limit} bytes", got=f"{got} bytes")


def duplicate_id() -> Fault:
    return Fault(
        FaultCode.duplicate_id,
        "this connection has an open subscription with that id",
        field="id",
        expected="an id that is not in use on this connection",
    )


def expired() -> Fault:
    return Fault(
        FaultCode.unauthenticated, "the token has ended", field="token", expected="a new one: `renew` before the end"
    )


def another_caller() -> Fault:
    return Fault(
        FaultCode.forbidden,
        "a token is renewed by one of the same user of the same tenant, who acts for the same person",
        field="token",
        expected="a token of this connection's user",
    )


def internal(error: Exception) -> Fault:
    """The class of the error alone: its text may quote a patient."""
    return Fault(FaultCode.internal, f"the server failed at this ({type(error).__name__}); it is in its log")


def id_of(data: bytes) -> str | None:
    """The id of a frame that is wrong otherwise, so that its sender can tell which one was refused."""
    try:
        # The standard library's parser: it reads on over text that is no Unicode, which may be what is wrong.
        named = json.loads(data)
        found = named.get("id") if isinstance(named, dict) else None
        return found if isinstance(found, str) and found.isprintable() and len(found) <= 128 else None
    except (UnicodeError, ValueError, RecursionError):
        return None

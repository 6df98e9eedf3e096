"""Bytes <-> frames: the only encoder and decoder of the live protocol.

JSON text frames are the default. The MessagePack subprotocol carries the same frames: each is the
MessagePack spelling of the same JSON value, so that there is one contract and two spellings of it.
"""

import re
from enum import Enum

import msgspec

from bonfire_protocol.down import DownFrame
from bonfire_protocol.faults import Fault, FaultCode
from bonfire_protocol.up import UpFrame
from bonfire_protocol.version import JSON_SUBPROTOCOL, MSGPACK_SUBPROTOCOL


class Format(Enum):
    """How frames are spelled on one connection. JSON travels in text messages, MessagePack in binary ones."""

    json = JSON_SUBPROTOCOL
    msgpack = MSGPACK_SUBPROTOCOL


_encoder = msgspec.json.Encoder()
_up: msgspec.json.Decoder[UpFrame] = msgspec.json.Decoder(UpFrame)
_down: msgspec.json.Decoder[DownFrame] = msgspec.json.Decoder(DownFrame)


def encode(frame: DownFrame | UpFrame, format: Format = Format.json) -> bytes:
    """The bytes of one frame."""
    text = _encoder.encode(frame)
    if format is Format.json:
        return text
    return msgspec.msgpack.encode(msgspec.json.decode(text))


def decode_up(data: bytes | str, format: Format = Format.json) -> UpFrame:
    """The client frame in `data`. Fault `bad_frame` says which field is wrong and what it should be."""
    try:
        return _up.decode(data if format is Format.json else _json(data))
    except (msgspec.DecodeError, UnicodeError, ValueError, TypeError, RecursionError) as error:
        raise _bad_frame(error) from None


def decode_down(data: bytes | str, format: Format = Format.json) -> DownFrame:
    """The server frame in `data`: for clients and tests."""
    return _down.decode(data if format is Format.json else _json(data))


def _json(data: bytes | str) -> bytes:
    return _encoder.encode(msgspec.msgpack.decode(data if isinstance(data, bytes) else data.encode()))


_FIELD = re.compile(r"(?:missing required|contains unknown) field `([^`]{1,64})`")


def _bad_frame(error: Exception) -> Fault:
    # msgspec's messages name types and paths ("Expected `str`, got `int` - at `$.id`"), and the value of `type`
    # only where it is unknown: nothing of a patient's is in them, but the tag's value is cut to a sane length.
    text, _, path = str(error).partition(" - at `$")
    named = _FIELD.search(text)
    parent = path.rstrip("`").lstrip(".")
    field = ".".join(part for part in (parent, named[1] if named else "") if part)
    return Fault(
        FaultCode.bad_frame,
        text[:200],
        field=field or None,
        expected="a client frame of the protocol",
    )

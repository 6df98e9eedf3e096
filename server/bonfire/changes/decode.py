"""The text that `bonfire.emit` was given, as the engine's `Message`."""

import msgspec

from bonfire.engine.commit import Message

PREFIX = b"bonfire"
"""Whose messages count among all that a database's programs may write."""


class UnreadableMessage(Exception):
    """A message that this version of bonfire can't read: somebody else's, or a newer version's. What it would have told
    is unknown, so whoever meets one must read everything afresh. Says where it went wrong, never what it holds."""


class _KnownMessage(Message, frozen=True, forbid_unknown_fields=True):
    """A field that this version does not know may be the one that matters."""


_decoder = msgspec.json.Decoder(_KnownMessage)


def decode_message(text: bytes | str) -> Message:
    """The message in `text`; UnreadableMessage when it is none."""
    try:
        return _decoder.decode(text)
    except msgspec.ValidationError as error:
        # The path holds names of this version's own fields; the text before it may hold a name from the message.
        _, _, path = str(error).partition(" - at ")
        raise UnreadableMessage(f"a message of another shape, at {path or 'its root'}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise UnreadableMessage("a message that is no JSON") from None

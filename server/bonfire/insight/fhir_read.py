"""Reading FHIR that nobody has checked: anybody may write records, and what is not as it should be reads as absent."""

import base64
import binascii
from collections.abc import Iterator

from bonfire_protocol.values import Json


def dig(value: object, *path: str | int) -> object:
    """What stands at `path` below `value`; None where the way there breaks."""
    for step in path:
        if isinstance(step, str) and isinstance(value, dict):
            value = value.get(step)
        elif isinstance(step, int) and isinstance(value, list) and 0 <= step < len(value):
            value = value[step]
        else:
            return None
    return value


def text_at(value: object, *path: str | int) -> str | None:
    """The text at `path`, on one line; None where there is no text, or an empty one."""
    found = dig(value, *path)
    return " ".join(found.split()) or None if isinstance(found, str) else None


def items_at(value: object, *path: str | int) -> Iterator[object]:
    """The items of the list at `path`; none where there is no list."""
    found = dig(value, *path)
    if isinstance(found, list):
        yield from found


def concept_text(concept: object) -> str | None:
    """What people read of a CodeableConcept or Coding."""
    codings = [concept, *items_at(concept, "coding")]
    readable = (text_at(coding, name) for name in ("text", "display", "code") for coding in codings)
    return next((text for text in readable if text), None)


def plain_text(document: Json) -> str:
    """The plain text in a DocumentReference: of all its attachments that are such, a blank line between them."""
    parts = []
    for content in items_at(document, "content"):
        if (text_at(content, "attachment", "contentType") or "").startswith("text/plain"):
            data = dig(content, "attachment", "data")
            try:
                text = base64.b64decode(data).decode() if isinstance(data, str) else ""
            except (binascii.Error, UnicodeDecodeError):
                text = ""
            parts.append(text.strip())
    return "\n\n".join(part for part in parts if part)


def document_title(document: Json) -> str:
    """What people call a DocumentReference."""
    return (
        text_at(document, "description")
        or text_at(document, "content", 0, "attachment", "title")
        or concept_text(dig(document, "type"))
        or "Note"
    )

"""Records as tests write them."""

import base64
import json

import asyncpg

from bonfire.store import resources
from bonfire.store.resources import Version
from bonfire_protocol.values import Json


async def write(conn: asyncpg.Connection, resource_type: str, id: str, resource: Json) -> Version:
    """Create or replace a record."""
    text = json.dumps({"resourceType": resource_type, **resource})
    if await resources.read(conn, resource_type, id) is None:
        return await resources.create(conn, resource_type, text, id=id)
    return await resources.update(conn, resource_type, id, text)


def of(patient: str) -> Json:
    """The subject element of a patient's record."""
    return {"reference": f"Patient/{patient}"}


def note(patient: str, text: str, *, title: str = "Visit", **more: object) -> Json:
    """A DocumentReference."""
    data = base64.b64encode(text.encode()).decode()
    return {
        "status": "current",
        "docStatus": "final",
        "subject": of(patient),
        "description": title,
        "date": "2024-05-06T07:08:09Z",
        "content": [{"attachment": {"contentType": "text/plain", "data": data}}],
        **more,
    }

"""Do the read models hold what their sources give? Each is computed afresh, past all triggers, and compared."""

from collections.abc import Sequence
from typing import Literal

import asyncpg
from msgspec import Struct

from bonfire.store.compile_model import SETTINGS, differences_sql, fingerprint, set_local
from bonfire.store.model import ModelError, ReadModel
from bonfire.store.statements import read_statements


class Difference(Struct, frozen=True):
    """A row of read model `model` that is not as its source gives it: `missing` from the table, `extra` there, or
    `different`. `total` is how many there are in this model."""

    model: str
    tenant: str
    id: str
    kind: Literal["missing", "extra", "different"]
    total: int


async def check(conn: asyncpg.Connection, models: Sequence[ReadModel], *, limit: int = 100) -> list[Difference]:
    """Compute each model from its sources and compare, all at one moment and for all tenants; returns what differs, at
    most `limit` rows of each model, sorted by tenant and id. An empty list means that every model is true.

    `conn` is an owner's connection, in no transaction. ModelError when a model is not installed as declared.
    """
    found: list[Difference] = []
    async with conn.transaction(isolation="repeatable_read", readonly=True):
        await conn.execute(set_local({**SETTINGS, "statement_timeout": "0"}))
        rows = await conn.fetch(read_statements("read_models")["installed_models"])
        installed = {row["name"]: row["fingerprint"] for row in rows}
        for model in models:
            if installed.get(model.name) != fingerprint(model):
                raise ModelError(f"read model `{model.name}` is not installed as declared: run `bonfire migrate`")
            for row in await conn.fetch(differences_sql(model), limit):
                found.append(Difference(model.name, *row))
    return found

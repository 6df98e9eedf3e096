"""What a clinical function is given: the transaction it runs in, who asks, and when it is.

A function's reads and writes all happen in one transaction of one tenant; row-level security keeps it there.
"""

from collections.abc import Callable, Hashable
from datetime import datetime
from functools import lru_cache
from typing import Any, TypeVar

import asyncpg
import msgspec
from msgspec import Struct

from bonfire.access.principal import Principal
from bonfire.clinical.fhir_json import parse, spell, validate
from bonfire.clinical.keys import join_key
from bonfire.clinical.named_sql import Numbered, as_json, columns_of, number
from bonfire.clinical.state import State, WritableState
from bonfire.clinical.stated import Stated, patient_place
from bonfire.clinical.times import instant
from bonfire.store import resources
from bonfire.store.model import ReadModel
from bonfire.store.readmodels import select_rows_sql
from bonfire_protocol.faults import Fault, FaultCode
from bonfire_protocol.values import Json

_Row = TypeVar("_Row", bound=Struct)


@lru_cache(maxsize=256)
def _compiled(row: Hashable, sql: str) -> tuple[Numbered, str, msgspec.json.Decoder[Any]]:
    query = number(sql)
    name = getattr(row, "__name__", "rows")
    return query, as_json(query.text, columns_of(name, row)), msgspec.json.Decoder(row)


class QueryContext:
    """For queries. `now` is the time of the call; `conn` the asyncpg connection, inside the transaction.

    A query that is not declared `personal` gives everybody the same result, so it can't ask who asks.
    """

    def __init__(self, conn: asyncpg.Connection, principal: Principal, now: datetime, *, personal: bool) -> None:
        self.conn = conn
        self.now = now
        self._principal = principal
        self._personal = personal

    @property
    def tenant(self) -> str:
        return self._principal.tenant

    @property
    def principal(self) -> Principal:
        """Who asks. RuntimeError in a query that is shared."""
        if not self._personal:
            raise RuntimeError("this query's result is shared: declare it `personal=True` to know who asks")
        return self._principal

    @property
    def state(self) -> State:
        """App state, as the caller may see it; in a shared query, what the whole tenant may see."""
        return State(self.conn, self._principal.user if self._personal else None)

    async def read(self, resource_type: str, id: str) -> Json | None:
        """The current version of a resource; None where there is none."""
        version = await resources.read(self.conn, resource_type, id)
        return None if version is None else parse(version.resource)

    async def require(self, resource_type: str, id: str, *, field: str) -> Json:
        """The current version of a resource; Fault not_found, naming argument `field`, where there is none."""
        resource = await self.read(resource_type, id)
        if resource is None:
            raise Fault(FaultCode.not_found, f"there is no such {resource_type}", field=field)
        return resource

    async def rows(self, row: type[_Row], sql: str, /, **parameters: Any) -> list[_Row]:
        """The rows of a SELECT with `:named` parameters, as structs: its columns are the struct's Python names."""
        query, text, decoder = _compiled(row, sql)
        missing = [name for name in query.names if name not in parameters]
        unknown = [name for name in parameters if name not in query.names]
        if missing or unknown:
            raise TypeError(f"the SQL's parameters are {', '.join(query.names) or 'none'}")
        records = await self.conn.fetch(text, *(parameters[name] for name in query.names))
        return [decoder.decode(record[0]) for record in records]

    async def view(self, model: ReadModel, *key: str, limit: int = 500) -> list[Json]:
        """Rows of a read model under `key` (its key columns' values), in its order."""
        records = await self.conn.fetch(select_rows_sql(model), join_key(key), limit)
        return [parse(record[0]) for record in records]


class MutationContext(QueryContext):
    """For mutations: what a query has, and writes. All of it is committed together, or nothing is.

    Resources are dicts of FHIR JSON. An update or delete of a record that the caller stated the version of finds that
    version, or is refused with version_conflict; a write to another patient's record than the stated one is
    refused with wrong_patient. SQL sent over `conn` itself is not checked so.
    """

    def __init__(
        self,
        conn: asyncpg.Connection,
        principal: Principal,
        now: datetime,
        *,
        new_id: Callable[[], str],
        stated: Stated,
    ) -> None:
        super().__init__(conn, principal, now, personal=True)
        self.new_id = new_id
        self.stated = stated

    @property
    def state(self) -> WritableState:
        return WritableState(self.conn, self._principal.user, self.stated)

    async def create(self, resource: Json) -> Json:
        """Creates a resource under its `id`, or a new one, and gives it back with `id` and `meta`.

        Fault bad_arguments when it breaks FHIR's structure.
        """
        resource = {**resource, "id": resource.get("id") or self.new_id()}
        validate(resource)
        await self._check_patient(resource)
        version = await resources.create(self.conn, resource["resourceType"], spell(resource), id=resource["id"])
        return _stamped(resource, version)

    async def update(self, resource: Json) -> Json:
        """Writes a new version of a resource that was read: Fault version_conflict when another was written since."""
        resource_type, id = resource["resourceType"], resource["id"]
        if_match = self.stated.version_of(resource_type, id)
        if if_match is None:
            if_match = int(resource["meta"]["versionId"])
        validate(resource)
        await self._check_stored_patient(resource_type, id)
        await self._check_patient(resource)
        version = await resources.update(self.conn, resource_type, id, spell(resource), if_match=if_match)
        return _stamped(resource, version)

    async def delete(self, resource_type: str, id: str) -> None:
        """Deletes a resource; its history stays. Nothing happens where there is none."""
        await self._check_stored_patient(resource_type, id)
        if_match = self.stated.version_of(resource_type, id)
        await resources.delete(self.conn, resource_type, id, if_match=if_match)

    async def _check_patient(self, resource: Json) -> None:
        if self.stated.patient is None:
            return
        # The database's own rule says whose a record is, so that this check can't differ from what subscribers see.
        patient = await self.conn.fetchval(
            "select bonfire.patient_of($1, $2, $3::jsonb)", resource["resourceType"], resource["id"], spell(resource)
        )
        self.stated.check_patient(patient_place(resource), patient)

    async def _check_stored_patient(self, resource_type: str, id: str) -> None:
        if self.stated.patient is None:
            return
        stored = await self.read(resource_type, id)
        if stored is not None:
            await self._check_patient(stored)


def _stamped(resource: Json, version: resources.Version) -> Json:
    meta = {
        **resource.get("meta", {}),
        "versionId": str(version.version),
        "lastUpdated": instant(version.last_updated),
    }
    return {**resource, "id": version.id, "meta": meta}

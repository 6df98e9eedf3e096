"""What a clinical function is given: the transaction it runs in, who asks, and when it is.

A function's reads and writes all happen in one transaction of one tenant; row-level security keeps it there.
"""

import re
from collections.abc import Callable, Hashable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, TypeVar

import asyncpg
import msgspec
from msgspec import Struct

from bonfire.access.acts import Act, Decided, Kept, Told, decide, patient_of
from bonfire.access.gate import Access
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
from bonfire.store.types import RESOURCE_TYPES
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


_VERSION = re.compile(r"([A-Z][A-Za-z]+)/([A-Za-z0-9.-]{1,64})/_history/([0-9]{1,18})")


class MutationContext(QueryContext):
    """For mutations: what a query has, and writes. All of it is committed together, or nothing is.

    Resources are dicts of FHIR JSON. Each write is decided by the caller's policies, with the record as it was and as
    it shall be: Fault forbidden where they do not permit it; what the caller can't see is not there to be written. An
    update or delete of a record that the caller stated the version of finds that version, or is refused with
    version_conflict; a write to another patient's record than the stated one is refused with wrong_patient. SQL sent
    over `conn` itself is bound by what the caller may see, and is not checked otherwise.
    """

    def __init__(
        self,
        conn: asyncpg.Connection,
        access: Access,
        now: datetime,
        *,
        new_id: Callable[[], str],
        stated: Stated,
    ) -> None:
        super().__init__(conn, access.principal, now, personal=True)
        self.access = access
        self.new_id = new_id
        self.stated = stated
        self.acts: list[Act] = []
        """The records that were written so far, in order: what provenance and the trail are made from."""
        self.kept: list[Kept] = []
        """The documents of app state that were."""
        self.told: list[Told] = []
        """What else the trail is to know."""
        self._read: dict[tuple[str, str], tuple[int, str]] = {}

    @property
    def state(self) -> WritableState:
        return WritableState(self.conn, self.access, self.stated, self.kept)

    async def read(self, resource_type: str, id: str) -> Json | None:
        version = await resources.read(self.conn, resource_type, id)
        if version is None:
            return None
        # As text: a function changes what it has read before it writes it back.
        self._read[resource_type, id] = (version.version, version.resource)
        return parse(version.resource)

    async def create(self, resource: Json, *, derived_from: Sequence[str] = ()) -> Json:
        """Creates a resource under its `id`, or a new one, and gives it back with `id` and `meta`.

        `derived_from`: what it was made from, as references to versions (`DocumentReference/n1/_history/4`), for its
        provenance. Fault bad_arguments when it breaks FHIR's structure.
        """
        resource = {**resource, "id": resource.get("id") or self.new_id()}
        resource_type, id = resource["resourceType"], resource["id"]
        validate(resource)
        decided = self._decide(resource_type, id, None, resource)
        sources = await self._sources(derived_from)
        version = await resources.create(self.conn, resource_type, spell(resource), id=id)
        self.acts.append(Act(decided, version.version, None, sources))
        return _stamped(resource, version)

    async def update(self, resource: Json, *, derived_from: Sequence[str] = ()) -> Json:
        """Writes a new version of a resource that was read: Fault version_conflict when another was written since.

        `derived_from` as `create` takes it.
        """
        resource_type, id = resource["resourceType"], resource["id"]
        if_match = self.stated.version_of(resource_type, id)
        if if_match is None:
            if_match = int(resource["meta"]["versionId"])
        validate(resource)
        before = await self._before(resource_type, id, if_match)
        if before is None:
            raise await resources.refusal(self.conn, resource_type, id, if_match)
        decided = self._decide(resource_type, id, before, resource)
        sources = await self._sources(derived_from)
        version = await resources.update(self.conn, resource_type, id, spell(resource), if_match=if_match)
        self.acts.append(Act(decided, version.version, if_match, sources))
        return _stamped(resource, version)

    async def delete(self, resource_type: str, id: str) -> None:
        """Deletes a resource; its history stays. Nothing happens where there is none."""
        if_match = self.stated.version_of(resource_type, id)
        stored = await self.read(resource_type, id)
        if stored is None:
            if if_match is not None:
                raise await resources.refusal(self.conn, resource_type, id, if_match)
            return
        current = int(stored["meta"]["versionId"])
        decided = self._decide(resource_type, id, stored, None)
        tombstone = await resources.delete(
            self.conn, resource_type, id, if_match=current if if_match is None else if_match
        )
        if tombstone is not None:
            self.acts.append(Act(decided, tombstone.version, current))

    def _decide(self, resource_type: str, id: str, before: Json | None, after: Json | None) -> Decided:
        if self.stated.patient is not None:
            for resource in (before, after):
                if resource is not None:
                    self.stated.check_patient(patient_place(resource), patient_of(resource_type, id, resource))
        return decide(self.access, resource_type, id, before, after)

    async def _before(self, resource_type: str, id: str, version: int) -> Json | None:
        """The version that an update is to find: that it is still the current one, the update itself sees to."""
        known = self._read.get((resource_type, id))
        if known is None or known[0] != version:
            found = await resources.read(self.conn, resource_type, id)
            if found is None or found.version != version:
                return None
            known = (found.version, found.resource)
        return parse(known[1])

    async def _sources(self, references: Sequence[str]) -> tuple[str, ...]:
        """Fault bad_arguments for what names no version, not_found for one that the caller can't see."""
        for reference in references:
            found = _VERSION.fullmatch(reference)
            if found is None or found[1] not in RESOURCE_TYPES:
                raise Fault(
                    FaultCode.bad_arguments,
                    "what a record is derived from is named by its version",
                    field="derivedFrom",
                    expected="a reference as DocumentReference/<id>/_history/<version>",
                )
            if await resources.vread(self.conn, found[1], found[2], int(found[3])) is None:
                raise Fault(FaultCode.not_found, f"there is no such version of a {found[1]}", field="derivedFrom")
        return tuple(references)


def _stamped(resource: Json, version: resources.Version) -> Json:
    meta = {
        **resource.get("meta", {}),
        "versionId": str(version.version),
        "lastUpdated": instant(version.last_updated),
    }
    return {**resource, "id": version.id, "meta": meta}

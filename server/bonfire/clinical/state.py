"""App state as one user may see and change it.

A document with an owner is its owner's alone; one without is the whole tenant's. Another's document is as good as
absent when it is read; writing to it is refused.
"""

import asyncpg
from msgspec import Raw

from bonfire.clinical.fhir_json import spell
from bonfire.clinical.stated import Stated
from bonfire.store import app_state
from bonfire.store.app_state import Document
from bonfire.store.model import APP_STATE
from bonfire_protocol.faults import Fault, FaultCode
from bonfire_protocol.values import Json

_VISIBLE = """
    select collection, id, owner, patient, version, data::text as data, updated_at
    from bonfire.app_state
    where tenant = bonfire.current_tenant() and collection = $1
      and (owner is null or owner = $2) and ($3::text is null or patient = $3)
    order by updated_at desc, id
    limit $4
"""


class State:
    """Reading. `user` None: only what the whole tenant may see."""

    def __init__(self, conn: asyncpg.Connection, user: str | None) -> None:
        self._conn = conn
        self._user = user

    async def get(self, collection: str, id: str) -> Document | None:
        """The document; None where there is none that the user may see."""
        document = await app_state.get(self._conn, collection, id)
        return document if document is not None and self._sees(document) else None

    async def list(self, collection: str, *, patient: str | None = None, limit: int = 500) -> list[Document]:
        """What the user may see of a collection (of one patient, where given), the last saved first."""
        rows = await self._conn.fetch(_VISIBLE, collection, self._user, patient, limit)
        return [
            Document(
                collection=row["collection"],
                id=row["id"],
                owner=row["owner"],
                patient=row["patient"],
                version=row["version"],
                data=Raw(row["data"].encode()),
                updated_at=row["updated_at"],
            )
            for row in rows
        ]

    def _sees(self, document: Document) -> bool:
        return document.owner is None or document.owner == self._user


class WritableState(State):
    """Reading and writing, for a mutation by `user`."""

    def __init__(self, conn: asyncpg.Connection, user: str, stated: Stated) -> None:
        super().__init__(conn, user)
        self._stated = stated

    async def put(
        self,
        collection: str,
        id: str,
        data: Json | Raw,
        *,
        private: bool = False,
        patient: str | None = None,
    ) -> Document:
        """Saves a document: a new one (the user's own where `private`), or the data of the one that is there.

        A document's owner never changes; its patient only where one is given. Faults: forbidden for another's document;
        version_conflict when the caller stated its version and it is another; wrong_patient; the store's own.
        """
        text = bytes(data) if isinstance(data, Raw) else spell(data).encode()
        self._stated.check_patient(f"{APP_STATE}/{collection}", patient)
        if_version = self._stated.version_of(f"{APP_STATE}/{collection}", id)
        found = await app_state.get(self._conn, collection, id)
        if found is not None:
            self._check(found)
            if private and found.owner is None:
                raise Fault(
                    FaultCode.bad_arguments,
                    "the document is the whole tenant's already",
                    field="private",
                    expected="false",
                )
            saved = await app_state.put(self._conn, collection, id, text, patient=patient, if_version=if_version)
        else:
            owner = self._user if private else None
            saved = await app_state.put(
                self._conn, collection, id, text, owner=owner, patient=patient, if_version=if_version or 0
            )
        # Somebody may have put another one there in between: then all of this is rolled back.
        self._check(saved)
        return saved

    async def remove(self, collection: str, id: str) -> Document | None:
        """Takes a document away; None where there was none. Faults as `put`."""
        found = await app_state.get(self._conn, collection, id)
        if found is not None:
            self._check(found)
        removed = await app_state.remove(
            self._conn, collection, id, if_version=self._stated.version_of(f"{APP_STATE}/{collection}", id)
        )
        if removed is not None:
            self._check(removed)
        return removed

    def _check(self, document: Document) -> None:
        if not self._sees(document):
            raise Fault(FaultCode.forbidden, "this id is in use for another user's document", field="id")
        self._stated.check_patient(f"{APP_STATE}/{document.collection}", document.patient)

"""App state as one user may see and change it.

A document with an owner is its owner's alone; one without is the whole tenant's. Another's document is as good as
absent when it is read; writing to it is refused.
"""

import asyncpg
from msgspec import Raw

from bonfire.access.acts import Done, Kept
from bonfire.access.facets import app_state_facets
from bonfire.access.gate import Access
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
    """Reading and writing, for a mutation by the caller whom `access` is of. Each write is decided by their policies,
    of the document as it was and as it shall be: Fault forbidden where they do not permit it."""

    def __init__(self, conn: asyncpg.Connection, access: Access, stated: Stated, kept: list[Kept]) -> None:
        """`kept` is added to: what was written."""
        super().__init__(conn, access.principal.user)
        self._access = access
        self._stated = stated
        self._kept = kept

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
            kept = self._decide("update", collection, id, found.owner, found.patient)
            if patient is not None and patient != found.patient:
                kept = self._decide("update", collection, id, found.owner, patient)
            saved = await app_state.put(self._conn, collection, id, text, patient=patient, if_version=if_version)
        else:
            owner = self._user if private else None
            kept = self._decide("create", collection, id, owner, patient)
            try:
                saved = await app_state.put(
                    self._conn, collection, id, text, owner=owner, patient=patient, if_version=if_version or 0
                )
            except Fault as fault:
                if fault.code is FaultCode.not_found and if_version is None:
                    # It is there, and not to be seen.
                    raise _in_use() from None
                raise
        # Somebody may have put another one there in between: then all of this is rolled back.
        self._check(saved)
        self._kept.append(kept)
        return saved

    async def remove(self, collection: str, id: str) -> Document | None:
        """Takes a document away; None where there was none. Faults as `put`."""
        found = await app_state.get(self._conn, collection, id)
        kept = None
        if found is not None:
            self._check(found)
            kept = self._decide("delete", collection, id, found.owner, found.patient)
        removed = await app_state.remove(
            self._conn, collection, id, if_version=self._stated.version_of(f"{APP_STATE}/{collection}", id)
        )
        if removed is not None:
            self._check(removed)
            # One that was put there in between was not decided about: whoever removes it comes again.
            if kept is None:
                raise Fault(FaultCode.busy, "this document was put there just now: send it again")
            self._kept.append(kept)
        return removed

    def _decide(self, done: Done, collection: str, id: str, owner: str | None, patient: str | None) -> Kept:
        facets = app_state_facets(collection, owner, patient)
        decision = self._access.check(done, APP_STATE, id, facets)
        if done != "delete" and not self._access.reach.fits(facets):
            # Postgres would refuse it: who writes a row reads it back.
            raise Fault(FaultCode.forbidden, "you may not see this document, so you may not write it", field="id")
        return Kept(done, f"{APP_STATE}/{collection}/{id}", patient, decision.policies)

    def _check(self, document: Document) -> None:
        if not self._sees(document):
            raise _in_use()
        self._stated.check_patient(f"{APP_STATE}/{document.collection}", document.patient)


def _in_use() -> Fault:
    return Fault(FaultCode.forbidden, "this id is in use for another user's document", field="id")

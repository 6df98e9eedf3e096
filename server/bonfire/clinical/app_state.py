"""App state from a client: documents of JSON in collections, one's own or the whole tenant's."""

from typing import Annotated

from msgspec import Meta, Raw

from bonfire.clinical.contexts import MutationContext, QueryContext
from bonfire.clinical.depends import Depends
from bonfire.clinical.drafts import COLLECTION as DRAFTS
from bonfire.clinical.registry import Registry
from bonfire.store.app_state import Document
from bonfire_protocol.faults import Fault, FaultCode

Collection = Annotated[str, Meta(pattern="^[A-Za-z][A-Za-z0-9_.-]{0,62}$")]
DocumentId = Annotated[str, Meta(min_length=1, max_length=128)]

app_state = Registry()


@app_state.mutation("appState.put")
async def put(
    ctx: MutationContext,
    collection: Collection,
    id: DocumentId,
    data: Raw,
    private: bool = False,
    patient_id: str | None = None,
) -> Document:
    """Saves a document: a new one (the caller's own where `private`), or the data of the one that is there.

    Ids are unique in a collection, whoever owns the document: for state of one's own, make the user's id a part of it.
    """
    _check_not_drafts(collection)
    return await ctx.state.put(collection, id, data, private=private, patient=patient_id)


@app_state.mutation("appState.remove")
async def remove(ctx: MutationContext, collection: Collection, id: DocumentId) -> bool:
    """Takes a document away; false where there was none."""
    _check_not_drafts(collection)
    return await ctx.state.remove(collection, id) is not None


@app_state.query("appState.get", depends=[Depends("AppState/{collection}")], personal=True)
async def get(ctx: QueryContext, collection: Collection, id: DocumentId) -> Document | None:
    """One document; null where there is none that the caller may see."""
    return await ctx.state.get(collection, id)


@app_state.query("appState.list", depends=[Depends("AppState/{collection}", patient="patient_id")], personal=True)
async def list_(
    ctx: QueryContext,
    collection: Collection,
    patient_id: str | None = None,
    limit: Annotated[int, Meta(ge=1, le=500)] = 100,
) -> list[Document]:
    """The documents of a collection that the caller may see, the last saved first; of one patient, where given."""
    return await ctx.state.list(collection, patient=patient_id, limit=limit)


def _check_not_drafts(collection: str) -> None:
    if collection == DRAFTS:
        raise Fault(
            FaultCode.forbidden, "drafts have functions of their own", field="collection", expected="drafts.save"
        )

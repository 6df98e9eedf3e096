import asyncpg
import pytest

from bonfire.insight.embeddings import Embedder, ProviderError, Vector
from bonfire.insight.semantic_search import SemanticSearchIndex, Unavailable, find_vectors
from bonfire.store import resources
from bonfire.store.pool import Database
from bonfire.store.reach import EVERYTHING, NOTHING, Clause, Reach
from support import toy_embeddings
from support.records import note, write


class Counting:
    """The toy provider, which notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, texts: list[str]) -> list[Vector]:
        self.asked += texts
        return toy_embeddings.embed(texts)


@pytest.fixture
def provider() -> Counting:
    return Counting()


@pytest.fixture
async def index(database: Database, provider: Counting) -> SemanticSearchIndex:
    embedder = Embedder(provider, name="toy", dimensions=toy_embeddings.DIMENSIONS)
    async with database.owner() as conn:
        found = SemanticSearchIndex(embedder, await find_vectors(conn))
        await found.begin(conn)
    return found


async def indexed(database: Database, index: SemanticSearchIndex, patient: str, tenant: str = "default") -> None:
    """What the lane does after a touch of `patient`."""
    done = await index.prepare(database, tenant, patient)
    async with database.transaction(tenant, reach=EVERYTHING) as conn:
        await done(conn)


async def search(
    database: Database, index: SemanticSearchIndex, text: str, *, patient: str | None = None, limit: int = 10
) -> list[str]:
    async with database.transaction("default", reach=EVERYTHING) as conn:
        return [hit.note for hit in await index.search(conn, text, patient=patient, limit=limit)]


async def test_the_nearest_note_comes_first(database: Database, index: SemanticSearchIndex) -> None:
    async with database.transaction("default", reach=EVERYTHING) as conn:
        await write(conn, "DocumentReference", "n1", note("p1", "Wheezing at night, asthma is worse."))
        version = await write(conn, "DocumentReference", "n2", note("p1", "Broken wrist after a fall."))
        await write(conn, "DocumentReference", "n3", note("p2", "A wrist that hurts."))
    await indexed(database, index, "p1")
    await indexed(database, index, "p2")
    async with database.transaction("default", reach=EVERYTHING) as conn:
        hits = await index.search(conn, "wrist broken fall", limit=2)
    assert [hit.note for hit in hits] == ["n2", "n3"]
    assert (hits[0].patient, hits[0].version) == ("p1", version.version)
    assert hits[0].text == "Visit\nBroken wrist after a fall."
    assert 0.0 <= hits[0].distance < hits[1].distance < 1.0


async def test_a_search_can_be_of_one_patient(database: Database, index: SemanticSearchIndex) -> None:
    async with database.transaction("default", reach=EVERYTHING) as conn:
        await write(conn, "DocumentReference", "n1", note("p1", "Asthma."))
        await write(conn, "DocumentReference", "n2", note("p2", "Asthma."))
    await indexed(database, index, "p1")
    await indexed(database, index, "p2")
    assert await search(database, index, "asthma") == ["n1", "n2"]
    assert await search(database, index, "asthma", patient="p2") == ["n2"]


async def test_only_what_has_changed_is_embedded_again(
    database: Database, index: SemanticSearchIndex, provider: Counting
) -> None:
    async with database.transaction("default", reach=EVERYTHING) as conn:
        await write(conn, "DocumentReference", "n1", note("p1", "Asthma."))
        await write(conn, "DocumentReference", "n2", note("p1", "Wrist."))
    await indexed(database, index, "p1")
    provider.asked.clear()
    async with database.transaction("default", reach=EVERYTHING) as conn:
        await write(conn, "DocumentReference", "n2", note("p1", "Ankle."))
    await indexed(database, index, "p1")
    assert provider.asked == ["Visit\nAnkle."]
    assert await search(database, index, "ankle", limit=1) == ["n2"]
    async with database.transaction("default", reach=EVERYTHING) as conn:
        assert await conn.fetchval("select count(*) from bonfire.note_chunk") == 2


async def test_a_note_that_goes_is_found_no_more(database: Database, index: SemanticSearchIndex) -> None:
    async with database.transaction("default", reach=EVERYTHING) as conn:
        await write(conn, "DocumentReference", "n1", note("p1", "Asthma."))
        await write(conn, "DocumentReference", "n2", note("p1", "Asthma."))
    await indexed(database, index, "p1")
    async with database.transaction("default", reach=EVERYTHING) as conn:
        await resources.delete(conn, "DocumentReference", "n1")
        await write(conn, "DocumentReference", "n2", note("p1", "Asthma.", status="entered-in-error"))
    await indexed(database, index, "p1")
    assert await search(database, index, "asthma") == []


@pytest.mark.parametrize("order", [["p1", "p2"], ["p2", "p1"]])
async def test_a_note_can_move_to_another_patient(
    database: Database, index: SemanticSearchIndex, order: list[str]
) -> None:
    async with database.transaction("default", reach=EVERYTHING) as conn:
        await write(conn, "DocumentReference", "n1", note("p1", "Asthma."))
    await indexed(database, index, "p1")
    async with database.transaction("default", reach=EVERYTHING) as conn:
        await write(conn, "DocumentReference", "n1", note("p2", "Asthma."))
    for patient in order:
        await indexed(database, index, patient)
    assert await search(database, index, "asthma", patient="p1") == []
    assert await search(database, index, "asthma", patient="p2") == ["n1"]


async def test_a_long_note_is_found_by_any_of_its_parts(database: Database, index: SemanticSearchIndex) -> None:
    text = "\n\n".join(["filler " * 130, "wheezing " * 110, "filler " * 130])
    async with database.transaction("default", reach=EVERYTHING) as conn:
        await write(conn, "DocumentReference", "n1", note("p1", text))
    await indexed(database, index, "p1")
    async with database.transaction("default", reach=EVERYTHING) as conn:
        [hit, *_] = await index.search(conn, "wheezing")
        assert "wheezing" in hit.text
        assert await conn.fetchval("select count(*) from bonfire.note_chunk") == 3


async def test_tenants_are_apart(database: Database, index: SemanticSearchIndex) -> None:
    async with database.transaction("clinic-a", reach=EVERYTHING) as conn:
        await write(conn, "DocumentReference", "n1", note("p1", "Asthma."))
    await indexed(database, index, "p1", "clinic-a")
    assert await search(database, index, "asthma") == []
    async with database.transaction("default", reach=EVERYTHING) as conn:
        assert await conn.fetchval("select count(*) from bonfire.note_chunk") == 0


async def test_a_provider_that_fails_changes_nothing(
    database: Database, index: SemanticSearchIndex, provider: Counting
) -> None:
    async with database.transaction("default", reach=EVERYTHING) as conn:
        await write(conn, "DocumentReference", "n1", note("p1", "Asthma."))
    await indexed(database, index, "p1")
    async with database.transaction("default", reach=EVERYTHING) as conn:
        await write(conn, "DocumentReference", "n1", note("p1", "Ankle."))
    failing = SemanticSearchIndex(Embedder(toy_embeddings.fail, name="toy", dimensions=64), "public")
    with pytest.raises(ProviderError):
        await failing.prepare(database, "default", "p1")
    assert await search(database, index, "asthma") == ["n1"]


async def test_the_extension_may_live_in_any_schema(database: Database, provider: Counting) -> None:
    async with database.owner() as conn:
        await conn.execute('create schema "My extensions"; create extension vector schema "My extensions"')
        index = SemanticSearchIndex(Embedder(provider, name="toy", dimensions=64), await find_vectors(conn))
        await index.begin(conn)
    async with database.transaction("default", reach=EVERYTHING) as conn:
        await write(conn, "DocumentReference", "n1", note("p1", "Asthma."))
    await indexed(database, index, "p1")
    assert await search(database, index, "asthma") == ["n1"]


async def test_a_database_without_the_extension_says_so(database: Database) -> None:
    async with database.owner() as conn:
        await forbid_extensions(conn)
        with pytest.raises(Unavailable, match="CREATE EXTENSION vector"):
            await find_vectors(conn)


async def forbid_extensions(conn: asyncpg.Connection) -> None:
    """As in a database whose owner may not create any."""
    await conn.execute(
        """create function forbid() returns event_trigger language plpgsql as $$
             begin raise insufficient_privilege; end $$;
           create event trigger forbid on ddl_command_start when tag in ('CREATE EXTENSION')
             execute function forbid()"""
    )


async def test_a_piece_is_found_by_whoever_sees_its_note_as_it_is_now(
    database: Database, index: SemanticSearchIndex
) -> None:
    async with database.transaction("default", reach=EVERYTHING) as conn:
        await write(conn, "DocumentReference", "n1", note("p1", "Broken wrist after a fall."))
        await write(conn, "DocumentReference", "n2", note("p2", "A wrist that hurts."))
    await indexed(database, index, "p1")
    await indexed(database, index, "p2")

    async def found(reach: Reach, patient: str | None = None) -> list[str]:
        async with database.transaction("default", reach=reach) as conn:
            return sorted(hit.note for hit in await index.search(conn, "wrist", patient=patient))

    unrestricted = Reach.of([Clause(without=frozenset(["label:R"]))])
    assert await found(unrestricted) == ["n1", "n2"]
    assert await found(EVERYTHING.about("p1")) == await found(EVERYTHING.about("p1"), "p1") == ["n1"]
    assert await found(EVERYTHING.about("p1"), "p2") == await found(NOTHING) == []
    async with database.transaction("default", reach=EVERYTHING) as conn:
        restricted = note("p1", "Broken wrist after a fall.", meta={"security": [{"code": "R"}]})
        await write(conn, "DocumentReference", "n1", restricted)
    # The lane has not come to it yet.
    assert await found(unrestricted) == ["n2"]
    assert await found(EVERYTHING) == ["n1", "n2"]

"""Reach: what its algebra says is what comparing one row after the other says, in Python as in Postgres."""

import itertools
from collections.abc import Iterable
from random import Random

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bonfire.store.pool import Database
from bonfire.store.reach import EVERYTHING, NOTHING, Clause, Reach
from bonfire.store.relations import facts_of
from support.psql import psql
from support.records import of, write

PATIENTS = ("patient:a", "patient:b", "patient:")
TYPES = ("type:Observation", "type:Condition")
LABELS = ("label:R", "label:V", "label:")
DRAFTS = ("draft:true", "draft:false")
AUTHORS = ("author:u1", 'author:"\\é')
WORDS = (*PATIENTS, *TYPES, *LABELS, *DRAFTS, *AUTHORS)

ROWS = [
    frozenset([patient, type_, draft, *labels, *authors])
    for patient, type_, draft in itertools.product(PATIENTS, TYPES, DRAFTS)
    for labels in (["label:"], ["label:R"], ["label:R", "label:V"])
    for authors in ([], ["author:u1"], list(AUTHORS))
]
"""Each row that can be, of these words: one patient or nobody, one type, draft or not, labels or none."""

words = st.frozensets(st.sampled_from(WORDS), max_size=4)
clauses = st.builds(Clause, st.frozensets(words, max_size=3), words)
some = st.lists(clauses, max_size=4)


def fits_any(made_of: Iterable[Clause], row: frozenset[str]) -> bool:
    """What a reach means, word by word."""
    return any(
        all(any(word in row for word in group) for group in clause.groups)
        and not any(word in row for word in clause.without)
        for clause in made_of
    )


@given(some)
def test_a_reach_is_what_its_clauses_say(made_of: list[Clause]) -> None:
    reach = Reach.of(made_of)
    for row in ROWS:
        assert reach.fits(row) == fits_any(made_of, row)
    assert reach == Reach.of(reversed(made_of))
    assert not reach.nothing or not any(reach.fits(row) for row in ROWS)
    assert not reach.everything or all(reach.fits(row) for row in ROWS)


@given(some, some)
def test_a_union_is_what_either_says(one: list[Clause], other: list[Clause]) -> None:
    both = Reach.of(one).union(Reach.of(other))
    for row in ROWS:
        assert both.fits(row) == fits_any([*one, *other], row)


@given(some, st.sampled_from(["a", "b", "stranger"]))
def test_about_a_patient_it_is_that_patients_and_nobodys(made_of: list[Clause], patient: str) -> None:
    narrowed = Reach.of(made_of).about(patient)
    for row in ROWS:
        allowed = f"patient:{patient}" in row or "patient:" in row
        assert narrowed.fits(row) == (allowed and fits_any(made_of, row))


@given(some, st.sampled_from(ROWS), st.sampled_from([("patient",), ("type", "patient"), ("label", "author"), ()]))
def test_within_what_is_known_it_decides_the_rest(
    made_of: list[Clause], like: frozenset[str], kinds: tuple[str, ...]
) -> None:
    def of_kinds(row: frozenset[str]) -> frozenset[str]:
        return frozenset(word for word in row if word.partition(":")[0] in kinds)

    known = of_kinds(like)
    left = Reach.of(made_of).within(known)
    for row in ROWS:
        # A kind of which a row has no word at all can't be told from one that is not known.
        if of_kinds(row) == known and {word.partition(":")[0] for word in known} == set(kinds):
            assert left.fits(row) == fits_any(made_of, row)


def test_who_may_see_the_same_of_a_patient_has_the_same_reach() -> None:
    def team(*patients: str) -> Reach:
        return Reach.of([Clause(frozenset([frozenset(f"patient:{one}" for one in patients)]), frozenset(["label:R"]))])

    assert team("a", "b", "c").about("a") == team("x", "a").about("a")
    assert team("a", "b").about("a").fingerprint == team("a").about("a").fingerprint
    assert team("a").about("a") != EVERYTHING.about("a")
    assert team("b").about("a").nothing
    assert EVERYTHING.about("a").within(["patient:a"]) == EVERYTHING


@given(some, some)
def test_equal_reaches_and_no_others_have_equal_fingerprints(one: list[Clause], other: list[Clause]) -> None:
    left, right = Reach.of(one), Reach.of(other)
    assert (left.fingerprint == right.fingerprint) == (left == right or (left.everything and right.everything))


def test_everything_and_nothing() -> None:
    assert (EVERYTHING.spelled, EVERYTHING.fingerprint) == ("all", "all")
    assert (NOTHING.spelled, NOTHING.fingerprint) == ("[]", "[]")
    assert Reach.of([Clause(), Clause(frozenset([frozenset(["type:X"])]))]) == EVERYTHING


def random_reach(random: Random) -> Reach:
    def group() -> frozenset[str]:
        return frozenset(random.sample(WORDS, random.randint(1, 4)))

    return Reach.of(
        Clause(
            frozenset(group() for _ in range(random.randint(0, 3))), group() if random.random() < 0.5 else frozenset()
        )
        for _ in range(random.randint(0, 4))
    )


@pytest.mark.parametrize("seed", range(3))
async def test_postgres_says_the_same(database: Database, seed: int) -> None:
    random = Random(seed)
    answers: set[bool] = set()
    for reach in [EVERYTHING, NOTHING, *(random_reach(random) for _ in range(60))]:
        async with database.transaction("default", reach=reach) as conn:
            rows = await conn.fetch(
                """select bonfire.in_reach(f.facets) as alone,
                          bonfire.sees_all() or bonfire.in_reach(f.facets, (select bonfire.reach())) as together
                   from (
                     select string_to_array(line, chr(10)) as facets, n
                     from unnest($1::text[]) with ordinality l (line, n)
                   ) f order by f.n""",
                ["\n".join(sorted(row)) for row in ROWS],
            )
        said = [reach.fits(row) for row in ROWS]
        assert [row["alone"] for row in rows] == said
        assert [row["together"] for row in rows] == said
        answers.update(said)
    assert answers == {True, False}


async def test_a_list_has_what_its_reach_has(database: Database) -> None:
    async with database.transaction("default", reach=EVERYTHING) as conn:
        for patient in ("a", "b"):
            await write(conn, "Patient", patient, {})
            await write(conn, "Observation", f"{patient}1", {"status": "final", "subject": of(patient)})
            restricted = {"meta": {"security": [{"code": "R"}]}, "status": "final", "subject": of(patient)}
            await write(conn, "Observation", f"{patient}2", restricted)
        await write(conn, "Observation", "nobody", {"status": "final"})
    everybody = "select array_agg(id order by id) from public.observation"
    about_a = EVERYTHING.about("a")
    async with database.transaction("default", reach=about_a) as conn:
        assert await conn.fetchval(everybody) == ["a1", "a2", "nobody"]
        assert await conn.fetchval("select array_agg(id) from public.patient") == ["a"]
        assert await conn.fetchval("delete from public.observation where id = 'b1' returning id") is None
        assert (
            await conn.fetchval("update public.observation set status = 'updated' where id = 'b1' returning id") is None
        )
    unrestricted = Reach.of([Clause(without=frozenset(["label:R"]))])
    async with database.transaction("default", reach=unrestricted) as conn:
        assert await conn.fetchval(everybody) == ["a1", "b1", "nobody"]
    async with database.transaction("default", reach=NOTHING) as conn:
        assert await conn.fetchval(everybody) is None
        assert await conn.fetchval("select count(*) from public.observation_history") == 0
    async with database.transaction("default", reach=EVERYTHING) as conn:
        assert await conn.fetchval(everybody) == ["a1", "a2", "b1", "b2", "nobody"]


async def test_the_past_and_the_chart_are_in_reach_too(database: Database) -> None:
    medication = {"status": "active", "subject": of("a"), "medicationReference": {"reference": "Medication/m"}}
    note = {"status": "current", "subject": of("a"), "meta": {"security": [{"code": "R"}]}}
    async with database.transaction("default", reach=EVERYTHING) as conn:
        await write(conn, "Patient", "a", {})
        await write(conn, "Medication", "m", {"code": {"text": "Aspirin"}})
        await write(conn, "MedicationRequest", "r", medication)
        await write(conn, "DocumentReference", "d", note)
        await write(conn, "Condition", "c", {"subject": of("a"), "meta": {"security": [{"code": "R"}]}})
        await write(conn, "Condition", "c", {"subject": of("a")})
    chart = "select array_agg(id order by id) from bonfire.chart('a', 10, 10)"
    documents = "select count(*) from bonfire.patient_documents('a')"
    unrestricted = Reach.of([Clause(without=frozenset(["label:R"]))])
    async with database.transaction("default", reach=unrestricted) as conn:
        assert await conn.fetchval(chart) == ["a", "c", "r"]
        assert await conn.fetchval(documents) == 0
        # Each version has its own labels.
        assert await conn.fetchval("select count(*) from public.condition_history") == 0
    async with database.transaction(
        "default", reach=Reach.of([Clause(without=frozenset(["type:Medication"]))])
    ) as conn:
        assert await conn.fetchval(chart) == ["a", "c", "d", "r"]
        assert await conn.fetchval("select medication from bonfire.chart('a', 10, 10) where id = 'r'") is None
        assert await conn.fetchval(documents) == 1
        assert await conn.fetchval("select count(*) from public.condition_history") == 1
    async with database.transaction("default", reach=EVERYTHING.about("b")) as conn:
        assert await conn.fetchval(chart) is None


async def test_without_a_reach_nothing_is_seen(database_url: str, database: Database) -> None:
    async with database.transaction("default", reach=EVERYTHING) as conn:
        await write(conn, "Patient", "a", {})
    count = "set role bonfire_app; {} select count(*) from public.patient;"
    assert psql(database_url, count.format("")) == "0"
    for unset in ("", "everything", "{}", "All"):
        assert psql(database_url, count.format(f"set bonfire.reach to '{unset}';")) == "0"
    assert psql(database_url, count.format("set bonfire.reach to 'all';")) == "1"


async def test_a_record_can_be_made_that_its_maker_does_not_see(database: Database) -> None:
    """What may be written is decided before; a row that comes back must be seen."""
    async with database.transaction("default", reach=NOTHING) as conn:
        await conn.execute("insert into public.patient (id, resource) values ('a', '{}')")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with database.transaction("default", reach=NOTHING) as conn:
            await conn.execute("insert into public.patient (id, resource) values ('b', '{}') returning id")
    async with database.transaction("default", reach=NOTHING) as conn:
        assert await facts_of(conn, "u") == '{"relations" : [], "policies" : 0}'


@pytest.mark.parametrize(
    "resource",
    ["null", "1", "true", '"meta"', "[]", '["meta", "author", "docStatus", "category"]', '[{"meta": {}}]', "{}"],
)
async def test_what_is_no_resource_has_facets_too(database_url: str, resource: str) -> None:
    conn = await asyncpg.connect(database_url)
    words = await conn.fetchval("select bonfire.facets('Basic', 'x', $1)", resource)
    await conn.close()
    assert set(words) == {"type:Basic", "patient:", "label:", "author:", "draft:false"}


async def test_who_sees_all_reads_by_the_same_indexes_as_the_owner(database: Database) -> None:
    by_id = "explain (costs off) select resource from public.observation where tenant = 'default' and id = 'x'"
    by_xid = """
    explain (costs off) select id from public.observation
    where tenant = bonfire.current_tenant() and (xid, txid) > ('0'::xid8, 0) order by xid, txid limit 10
    """
    for reach in (EVERYTHING, EVERYTHING.about("p")):
        async with database.transaction("default", reach=reach) as conn:
            await conn.execute("set local enable_seqscan = off; set local enable_bitmapscan = off")
            for statement in (by_id, by_xid):
                plan = "\n".join(row[0] for row in await conn.fetch(statement))
                assert "Index Scan using observation_" in plan
                (conditions,) = (line for line in plan.splitlines() if "Index Cond" in line)
                assert "tenant" in conditions
                assert "id" in conditions
                assert "Sort" not in plan

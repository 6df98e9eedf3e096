"""Windows and rows that move, on two nodes at once: what each client is shown is looked at in every transition."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial

import psycopg
import pytest

from support.live_client import LiveClient
from support.pair import Pair, as_tenant, insert_notes, move_notes, set_in_notes
from support.psql import psql
from support.watcher import Watcher, watching

pytestmark = pytest.mark.acceptance


@pytest.fixture
async def watchers(pair: Pair, tenant: str) -> AsyncIterator[list[Watcher]]:
    """One client of each node."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(watching(address, tenant=tenant)) for address in pair.addresses]


@pytest.fixture
def write(pair: Pair, tenant: str) -> Callable[[str], Awaitable[None]]:
    """Run a script by psql, as one transaction."""

    async def run(script: str) -> None:
        await asyncio.to_thread(psql, pair.database_url, f"{as_tenant(tenant)} begin; {script} commit;")

    return run


Write = Callable[[str], Awaitable[None]]


def titles(client: LiveClient, name: str) -> list[str]:
    return [row["title"] for row in client.rows(name)]


async def all_show(watchers: list[Watcher], name: str, wanted: list[str]) -> None:
    for watcher in watchers:
        await watcher.until_shown(lambda one: titles(one, name) == wanted)


def numbered(*numbers: int) -> list[str]:
    return [f"Note {number}" for number in numbers]


async def test_load_more_while_the_smaller_window_lives(watchers: list[Watcher], write: Write) -> None:
    """The larger window comes as a subscription of its own; in no transition do the two disagree."""
    await write(insert_notes("p", 1, 40))
    for watcher in watchers:
        await watcher.subscribe("notes.listByPatient", "first", patientId="p", limit=10)
        assert (titles(watcher, "first"), watcher.more("first")) == (numbered(*range(40, 30, -1)), True)
    storm = asyncio.create_task(_write_in_turn(write, [insert_notes("p", n, n) for n in range(41, 56)]))
    for watcher in watchers:

        def agree(watcher: Watcher = watcher) -> None:
            if watcher.queries.keys() >= {"first", "more"}:
                assert watcher.rows("more")[:10] == watcher.rows("first")

        watcher.always(agree)
        await watcher.subscribe("notes.listByPatient", "more", patientId="p", limit=50)
    await storm
    await all_show(watchers, "more", numbered(*range(55, 5, -1)))
    for watcher in watchers:
        assert (watcher.more("first"), watcher.more("more")) == (True, True)
        await watcher.send({"type": "unsubscribe", "id": "first"})
    await write("delete from documentreference where id in ('n1', 'n2', 'n3', 'n4', 'n5', 'n55');")
    await all_show(watchers, "more", numbered(*range(54, 5, -1)))
    for watcher in watchers:
        await watcher.until_shown(lambda one: not one.more("more"))
        assert list(watcher.queries) == ["more"]


async def _write_in_turn(write: Write, scripts: list[str]) -> None:
    for script in scripts:
        await write(script)


async def test_rows_move_in_and_out_of_a_window(watchers: list[Watcher], write: Write) -> None:
    """By their own place in the order, by those before them, and when more is taken away than is kept behind."""
    await write(insert_notes("p", 1, 100))
    for watcher in watchers:
        await watcher.subscribe("notes.listByPatient", "notes", patientId="p", limit=5)
    await write(set_in_notes("id = 'n1'", date="2030-01-01T00:00:00Z"))
    await all_show(watchers, "notes", numbered(1, 100, 99, 98, 97))
    await write(set_in_notes("id = 'n99'", date="2010-01-01T00:00:00Z"))
    await all_show(watchers, "notes", numbered(1, 100, 98, 97, 96))
    await write(set_in_notes("id = 'n98'", description="Renamed") + insert_notes("p", 101, 102))
    await all_show(watchers, "notes", ["Note 1", "Note 102", "Note 101", "Note 100", "Renamed"])
    await write("delete from documentreference where id <> 'n99' and substr(id, 2)::int > 10;")
    await all_show(watchers, "notes", numbered(1, 10, 9, 8, 7))
    await write("delete from documentreference where id not in ('n2', 'n99');")
    await all_show(watchers, "notes", numbered(2, 99))
    for watcher in watchers:
        assert not watcher.more("notes")


async def test_a_merge_moves_rows_from_one_patient_to_the_other_in_one_step(
    watchers: list[Watcher], write: Write
) -> None:
    """A row is never in both charts, never in none; the windows of the one that gains keep their size."""
    await write(insert_notes("kept", 1, 10) + insert_notes("merged", 11, 30))
    for watcher in watchers:
        for patient in ("kept", "merged"):
            await watcher.subscribe("notes.listByPatient", patient, patientId=patient)
            await watcher.subscribe("timeline.list", f"{patient} timeline", patientId=patient)
        await watcher.subscribe("notes.listByPatient", "window", patientId="kept", limit=7)

        def whole(watcher: Watcher = watcher) -> None:
            shown = [row["id"] for patient in ("kept", "merged") for row in watcher.rows(patient)]
            assert sorted(shown) == sorted(f"n{number}" for number in range(1, 31))
            for patient in ("kept", "merged"):
                assert {row["resourceId"] for row in watcher.rows(f"{patient} timeline")} == {
                    row["id"] for row in watcher.rows(patient)
                }
            assert watcher.rows("window") == watcher.rows("kept")[:7]

        watcher.always(whole)
    for number in range(11, 21):
        await write(move_notes(f"id = 'n{number}'", "kept"))
    await write(move_notes("resource #>> '{subject,reference}' = 'Patient/merged'", "kept"))
    await all_show(watchers, "merged", [])
    await all_show(watchers, "kept", numbered(*range(30, 0, -1)))
    for watcher in watchers:
        assert [await watcher.check(name) for name in watcher.queries] == ["same"] * 5


async def test_a_transaction_that_touches_many_views_is_one_step(watchers: list[Watcher], write: Write) -> None:
    """Keyed queries, app queries and a window: before it, all are as they were; after it, all have changed."""
    await write('insert into patient (id, resource) values (\'p\', \'{"name": [{"family": "Before"}]}\');')
    counted = {"notes": 1, "timeline": 4, "encounters": 1, "scores": 1, "window": 1}
    seen: list[list[tuple[str, dict[str, int]]]] = [[], []]
    for watcher, states in zip(watchers, seen, strict=True):
        await watcher.subscribe("patients.list", "patients")
        await watcher.subscribe("patients.get", "patient", patientId="p")
        await watcher.subscribe("notes.listByPatient", "notes", patientId="p")
        await watcher.subscribe("notes.listByPatient", "window", patientId="p", limit=1)
        await watcher.subscribe("timeline.list", "timeline", patientId="p")
        await watcher.subscribe("encounters.listByPatient", "encounters", patientId="p")
        await watcher.subscribe("scores.latest", "scores", patientId="p")

        def note(watcher: Watcher = watcher, states: list[tuple[str, dict[str, int]]] = states) -> None:
            (one,), (listed,) = watcher.rows("patient"), watcher.rows("patients")
            assert one["family"] == listed["family"]
            states.append((one["family"], {name: len(watcher.rows(name)) for name in counted}))

        watcher.always(note)
    await write(
        'update patient set resource = \'{"name": [{"family": "After"}]}\', txid = nextval(\'transaction_id_seq\');'
        + insert_notes("p", 1, 1)
        + """
        insert into encounter (id, resource) values ('e', '{"status": "finished", "class": {"code": "AMB"},
          "subject": {"reference": "Patient/p"}, "period": {"start": "2024-01-01T00:00:00Z"}}');
        insert into condition (id, resource) values ('c', '{"subject": {"reference": "Patient/p"},
          "recordedDate": "2024-01-02", "code": {"text": "Asthma"}}');
        insert into observation (id, resource) values ('o', '{"status": "final", "valueInteger": 7,
          "subject": {"reference": "Patient/p"}, "effectiveDateTime": "2024-01-03",
          "code": {"coding": [{"system": "http://loinc.org", "code": "44261-6"}]}}');
        """
    )
    for watcher, states in zip(watchers, seen, strict=True):
        await watcher.until_shown(lambda one: one.rows("patients")[0]["family"] == "After")
        none = dict.fromkeys(counted, 0)
        assert all(state in [("Before", none), ("After", counted)] for state in states)


async def test_truncate_empties_every_result_at_once(watchers: list[Watcher], write: Write) -> None:
    """For every tenant and key; what the same transaction writes after it is there."""
    await write(insert_notes("p", 1, 30) + insert_notes("q", 31, 60))
    for watcher in watchers:
        for patient in ("p", "q"):
            await watcher.subscribe("notes.listByPatient", patient, patientId=patient, limit=20)
            await watcher.subscribe("timeline.list", f"{patient} timeline", patientId=patient)

        def together(watcher: Watcher = watcher) -> None:
            assert len({len(watcher.rows(patient)) for patient in ("p", "q")}) == 1

        watcher.always(together)
    await write("reset role; truncate documentreference;")
    for patient in ("p", "q"):
        await all_show(watchers, patient, [])
        await all_show(watchers, f"{patient} timeline", [])
    await write(insert_notes("p", 61, 62) + insert_notes("q", 63, 64))
    await all_show(watchers, "p", numbered(62, 61))
    await write("reset role; truncate documentreference;" + insert_notes("p", 65, 65) + insert_notes("q", 66, 66))
    await all_show(watchers, "p", numbered(65))
    await all_show(watchers, "q", numbered(66))


async def test_subscribing_and_letting_go_in_one_breath(
    pair: Pair, tenant: str, watchers: list[Watcher], write: Write
) -> None:
    """Under the same id and others, before any of it has come, while the query changes: what is held at last is right,
    and what was let go is gone."""
    await write(insert_notes("p", 1, 20))
    storm = asyncio.create_task(_write_in_turn(write, [insert_notes("p", n, n) for n in range(21, 51)]))
    chance = random.Random(3)
    for turn in range(60):
        for watcher in watchers:
            limit = chance.choice([3, 10, 100])
            args = {"patientId": "p", "limit": limit}
            watcher._asked["again"] = ("notes.listByPatient", args)
            await watcher.send({"type": "subscribe", "id": "again", "query": "notes.listByPatient", "args": args})
            if turn % 4 == 0:
                twin = {"type": "subscribe", "id": "twin", "query": "notes.listByPatient", "args": args}
                await watcher.send(twin)
                await watcher.send({"type": "unsubscribe", "id": "twin"})
            if chance.random() < 0.3:
                await watcher._ask({"type": "ping", "id": f"{turn}"})
            await watcher.send({"type": "unsubscribe", "id": "again"})
    await storm
    for watcher in watchers:
        await watcher._ask({"type": "ping", "id": "end"})
        assert (watcher.queries, watcher.results) == ({}, {})
        assert not [frame for frame in watcher.frames if frame["type"] == "refused"]
        await watcher.subscribe("notes.listByPatient", "last", patientId="p", limit=3)
    await all_show(watchers, "last", numbered(50, 49, 48))


async def test_clients_that_come_in_mid_storm_see_whole_transactions_only(
    pair: Pair, tenant: str, watchers: list[Watcher]
) -> None:
    """Each transaction moves notes between two charts and counts itself in a third record: at each position that
    anybody is shown, all of that agrees, whatever moment they came at."""
    chance = random.Random(9)
    setup = insert_notes("a", 1, 20) + insert_notes("b", 21, 40)
    count = 'insert into patient (id, resource) values (\'count\', \'{"name": [{"family": "0"}]}\');'
    await asyncio.to_thread(psql, pair.database_url, as_tenant(tenant) + setup + count)
    done = asyncio.Event()

    def agree(client: Watcher) -> None:
        a, b, window = client.rows("a"), client.rows("b"), client.rows("window")
        assert sorted(row["id"] for row in [*a, *b]) == sorted(f"n{number}" for number in range(1, 41))
        assert window == a[:6]
        (counted,) = client.rows("count")
        assert max(row["title"] for row in [*a, *b]) == f"Turn {int(counted['family']):04}"

    async def visit(address: str) -> int:
        visits = 0
        while not done.is_set():
            async with watching(address, tenant=tenant) as client:
                await hold(client)
                client.always(partial(agree, client))
                await client.until_at(client.position + 1)
                agree(client)
                visits += 1
        return visits

    async def hold(client: Watcher) -> None:
        for patient in ("a", "b"):
            await client.subscribe("notes.listByPatient", patient, patientId=patient)
        await client.subscribe("notes.listByPatient", "window", patientId="a", limit=6)
        await client.subscribe("patients.get", "count", patientId="count")

    turns = 80
    async with await psycopg.AsyncConnection.connect(pair.database_url, autocommit=True) as conn:
        await conn.execute(as_tenant(tenant).encode())

        async def turn(number: int) -> None:
            moved = chance.sample(range(1, 41), chance.choice([1, 2, 15]))
            ids = ", ".join(f"'n{one}'" for one in moved)
            script = (
                set_in_notes(f"id in ({ids})", description=f"Turn {number:04}")
                + move_notes(f"id in ({ids})", chance.choice("ab"))
                + "update patient set txid = nextval('transaction_id_seq'),"
                + f' resource = \'{{"name": [{{"family": "{number}"}}]}}\' where id = \'count\';'
            )
            async with conn.transaction():
                await conn.execute(script.encode())

        await turn(0)
        for watcher in watchers:
            await hold(watcher)
            watcher.always(partial(agree, watcher))
        visitors = [asyncio.create_task(visit(address)) for address in pair.addresses * 2]
        for number in range(1, turns):
            await turn(number)
        done.set()
        assert sum(await asyncio.gather(*visitors)) > 4
    for watcher in watchers:
        await watcher.until_shown(lambda one: one.rows("count")[0]["family"] == str(turns - 1))
        assert [await watcher.check(name) for name in watcher.queries] == ["same"] * 4
    async with watching(pair.addresses[0], tenant=tenant) as fresh:
        await fresh.subscribe("notes.listByPatient", "a", patientId="a")
        for watcher in watchers:
            assert watcher.rows("a") == fresh.rows("a")

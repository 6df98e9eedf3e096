"""The hand-off from a snapshot to the stream (promise L3) with either one late: on two nodes, by WAL and by LISTEN."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from websockets.exceptions import ConnectionClosed

from bonfire_protocol.values import parse_position
from support.live_client import LiveClient
from support.pair import Pair, as_tenant, insert_notes, set_in_notes
from support.psql import psql
from support.unseen import streams_halted, unseen_commit
from support.watcher import Watcher, watching

pytestmark = pytest.mark.acceptance

FAMILY = 'update patient set txid = nextval(\'transaction_id_seq\'), resource = \'{"name": [{"family": "After"}]}\';'


@pytest.fixture
async def watchers(pair: Pair, tenant: str) -> AsyncIterator[list[Watcher]]:
    """One client of each node, which hold the notes of `p`: three of them."""
    script = as_tenant(tenant) + insert_notes("p", 1, 3)
    script += 'insert into patient (id, resource) values (\'p\', \'{"name": [{"family": "Before"}]}\');'
    await asyncio.to_thread(psql, pair.database_url, script)
    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(watching(address, tenant=tenant)) for address in pair.addresses]
        for watcher in opened:
            await watcher.subscribe("notes.listByPatient", "notes", patientId="p")
        yield opened


def changes(tenant: str) -> str:
    """One transaction that adds a note, changes one, and takes one away."""
    return (
        as_tenant(tenant)
        + insert_notes("p", 4, 4)
        + set_in_notes("id = 'n2'", description="Changed")
        + "delete from documentreference where id = 'n1';"
    )


CHANGED = ["Note 4", "Note 3", "Changed"]


def titles(client: LiveClient, name: str = "notes") -> list[str]:
    return [row["title"] for row in client.rows(name)]


async def arrive(client: LiveClient, limit: int) -> None:
    """Hold a live query that nobody holds yet, so that it is read now."""
    await client.subscribe("notes.listByPatient", "notes", patientId="p", limit=limit)


async def test_a_commit_is_streamed_before_any_snapshot_sees_it(
    pair: Pair, tenant: str, watchers: list[Watcher]
) -> None:
    """By WAL, who comes meanwhile gets it all the same, once, though no read finds it. By LISTEN a commit has its place
    in the order when it is seen: who comes meanwhile waits, because what they are shown is in the trail first, and the
    trail's commit takes its turn behind that one."""
    by_wal = pair.source == "wal"
    async with AsyncExitStack() as stack:
        async with unseen_commit(pair.database_url, changes(tenant)):
            if by_wal:
                for watcher in watchers:
                    await watcher.until_shown(lambda one: titles(one) == CHANGED)
            here = [await stack.enter_async_context(watching(one, tenant=tenant)) for one in pair.addresses]
            for limit, client in enumerate(here, start=10):
                if by_wal:
                    await arrive(client, limit)
                    assert titles(client) == CHANGED
                else:
                    args = {"patientId": "p", "limit": limit}
                    client._asked["notes"] = ("notes.listByPatient", args)
                    await client.send(
                        {"type": "subscribe", "id": "notes", "query": "notes.listByPatient", "args": args}
                    )
            found = await asyncio.to_thread(psql, pair.database_url, _COUNT.format(tenant=tenant))
            assert found == "3", "nobody sees it yet"
        for client in [*here, *watchers]:
            await client.until_shown(lambda one: "notes" in one.queries and titles(one) == CHANGED)
            assert await client.check("notes") == "same"


_COUNT = "select count(*) from documentreference where tenant = '{tenant}' and id in ('n1', 'n2', 'n3')"


async def test_an_app_query_is_not_read_again_before_it_can_see_why(
    pair: Pair, tenant: str, watchers: list[Watcher]
) -> None:
    """It is held back until the commit can be seen, together with all else that its client holds."""
    states: list[list[tuple[str, list[str]]]] = [[], []]
    for watcher, seen in zip(watchers, states, strict=True):
        await watcher.subscribe("patients.get", "patient", patientId="p")

        def note(watcher: Watcher = watcher, seen: list[tuple[str, list[str]]] = seen) -> None:
            seen.append((watcher.rows("patient")[0]["family"], titles(watcher)))

        watcher.always(note)
    script = f"begin; {changes(tenant)} {FAMILY} commit;"
    async with watching(pair.addresses[0], tenant=tenant) as visitor:
        async with unseen_commit(pair.database_url, script):
            await visitor.send(
                {"type": "subscribe", "id": "patient", "query": "patients.get", "args": {"patientId": "p"}}
            )
            if pair.source == "wal":
                # By LISTEN an answer waits: see above.
                assert (await visitor.query("patients.get", patientId="p"))["family"] == "Before"
            assert all(state == ("Before", ["Note 3", "Note 2", "Note 1"]) for seen in states for state in seen)
        for watcher, seen in zip(watchers, states, strict=True):
            await watcher.until_shown(lambda one: titles(one) == CHANGED)
            assert {state[0] for state in seen} <= {"Before", "After"}
            assert all((family == "After") == (notes == CHANGED) for family, notes in seen)
        await visitor.until(lambda: "patient" in visitor.queries and visitor.rows("patient")[0]["family"] == "After")


async def test_a_snapshot_sees_a_commit_before_it_is_streamed(pair: Pair, tenant: str, watchers: list[Watcher]) -> None:
    """Who comes meanwhile is told nothing as live before the stream has come as far as what the snapshot saw."""
    async with AsyncExitStack() as stack:
        here = [await stack.enter_async_context(watching(one, tenant=tenant)) for one in pair.addresses]
        async with streams_halted(pair.database_url, pair.source):
            await asyncio.to_thread(psql, pair.database_url, f"begin; {changes(tenant)} commit;")
            for limit, client in enumerate(here, start=10):
                args = {"patientId": "p", "limit": limit}
                client._asked["notes"] = ("notes.listByPatient", args)
                await client.send({"type": "subscribe", "id": "notes", "query": "notes.listByPatient", "args": args})
                read = await client.query("notes.listByPatient", patientId="p")
                assert [note["title"] for note in read] == CHANGED, "a snapshot sees it"
                assert "notes" not in client.queries
            assert all(titles(watcher) == ["Note 3", "Note 2", "Note 1"] for watcher in watchers)
        for client in here:
            await client.until_shown(lambda one: "notes" in one.queries)
            assert titles(client) == CHANGED
        for watcher in watchers:
            await watcher.until_shown(lambda one: titles(one) == CHANGED)
        at = _position_of_change(watchers[0])
        for client in here:
            (came,) = [frame for frame in client.frames if frame["type"] == "subscribed"]
            assert parse_position(came["position"]) >= at
            assert not [frame for frame in client.frames if frame["type"] == "patch"], "it is not told twice"
            assert await client.check("notes") == "same"


def _position_of_change(client: LiveClient) -> int:
    """That of the transition which brought the first patch."""
    types = [frame["type"] for frame in client.frames]
    at = types.index("transition", types.index("patch"))
    return parse_position(client.frames[at]["position"])


async def test_both_at_once_in_a_storm(pair: Pair, tenant: str, watchers: list[Watcher]) -> None:
    """One commit that is not seen, others that are, and clients that come in between."""
    if pair.source == "listen":
        pytest.skip("by LISTEN, commits become visible in the order of their positions, so none can pass the one held")
    hidden = as_tenant(tenant) + insert_notes("p", 50, 50) + set_in_notes("id = 'n3'", description="Changed unseen")
    async with AsyncExitStack() as stack:
        async with unseen_commit(pair.database_url, hidden):
            visitors: list[Watcher] = []
            for number in range(4, 24):
                await asyncio.to_thread(psql, pair.database_url, as_tenant(tenant) + insert_notes("p", number, number))
                visitor = await stack.enter_async_context(watching(pair.addresses[number % 2], tenant=tenant))
                await arrive(visitor, 5 + number)
                assert "Note 50" in titles(visitor)
                visitors.append(visitor)
        wanted = ["Note 50", *(f"Note {number}" for number in range(23, 3, -1)), "Changed unseen", "Note 2", "Note 1"]
        for watcher in watchers:
            await watcher.until_shown(lambda one: titles(one) == wanted)
        for limit, visitor in enumerate(visitors, start=9):
            await visitor.until_at(watchers[0].position)
            assert titles(visitor) == wanted[:limit]
            assert await visitor.check("notes") == "same"


async def test_a_node_that_lags_does_not_take_who_has_seen_more(
    pair: Pair, tenant: str, watchers: list[Watcher]
) -> None:
    """It sends them elsewhere; once it has caught up it takes them, and they never go back."""
    if pair.source == "listen":
        pytest.skip("one node's stream alone is told from the other's by its walsender")
    async with streams_halted(pair.database_url, pair.source, all_nodes=False):
        await asyncio.to_thread(psql, pair.database_url, f"begin; {changes(tenant)} commit;")
        seeing = [asyncio.create_task(watcher.until_shown(lambda one: titles(one) == CHANGED)) for watcher in watchers]
        await asyncio.wait(seeing, return_when=asyncio.FIRST_COMPLETED)
        lagging = next(number for number, task in enumerate(seeing) if not task.done())
        held = watchers[1 - lagging].hold()
        with pytest.raises(ConnectionClosed) as refused:
            await LiveClient.come_back(pair.addresses[lagging], held, tenant=tenant)
        assert refused.value.rcvd is not None
        assert refused.value.rcvd.code == 4601
    back = await LiveClient.come_back(pair.addresses[lagging], held, tenant=tenant)
    try:
        assert titles(back) == CHANGED
        assert back.frames[1]["type"] == "resumed"
    finally:
        await back.close()
    await asyncio.gather(*seeing)

"""A node on a replica, which writes to the primary: exact, true to its own writes, and never fresh when it is not."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from acceptance.conftest import Running, Start, run_bonfire
from bonfire.store.cluster import Cluster
from bonfire_protocol.values import parse_position
from support.live_client import Held, LiveClient, Refusal, live_client
from support.standby import Standby, promote, standby_of

pytestmark = pytest.mark.acceptance


@pytest.fixture
def pair(own_cluster: Cluster, data_folder: Path) -> Iterator[tuple[Cluster, Standby]]:
    """A primary, migrated, and its standby."""
    assert run_bonfire("migrate", DATABASE_URL=own_cluster.url).returncode == 0
    with standby_of(own_cluster, data_folder / "standby") as standby:
        yield own_cluster, standby


@pytest.fixture
def node(start: Start, pair: tuple[Cluster, Standby]) -> Running:
    """A node on the replica."""
    primary, standby = pair
    return start(
        DATABASE_URL=primary.url,
        BONFIRE_READ_URL=standby.url,
        BONFIRE_HEARTBEAT_MS="200",
        BONFIRE_STALE_AFTER_MS="1000",
    )


def ask(cluster: Cluster, sql: str) -> object:
    with psycopg.connect(cluster.url, autocommit=True) as connection:
        found = connection.execute(sql.encode()).fetchone()
    return None if found is None else found[0]


async def pause(standby: Standby) -> None:
    ask(standby, "select pg_wal_replay_pause()")
    while ask(standby, "select pg_get_wal_replay_pause_state()") != "paused":
        await asyncio.sleep(0.01)


async def new_patient(client: LiveClient) -> str:
    answer = await client.mutate("patients.create", given="Ada", family="Okafor")
    patient: str = answer["value"]["id"]
    return patient


async def until_at(client: LiveClient, position: int) -> None:
    await client.until(lambda: client.position >= position)


def texts(client: LiveClient, name: str) -> list[str]:
    return sorted(row["text"] for row in client.rows(name))


async def test_what_one_writes_is_shown_and_read_at_once(pair: tuple[Cluster, Standby], node: Running) -> None:
    primary, standby = pair
    assert ask(primary, "select count(*) from pg_replication_slots where slot_type = 'logical'") == 0
    assert ask(standby, "select count(*) from pg_replication_slots where slot_type = 'logical'") == 1
    async with live_client(node.url) as client, live_client(node.url) as other:
        patient = await new_patient(client)
        mine = await client.subscribe("notes.listByPatient", patientId=patient)
        theirs = await other.subscribe("notes.listByPatient", patientId=patient)
        for number in range(10):
            answer = await client.mutate("notes.create", patientId=patient, text=f"{number}")
            # By whatever way one asks: what has been answered is there.
            read = await client.query("notes.listByPatient", patientId=patient)
            assert sorted(row["text"] for row in read) == [str(n) for n in range(number + 1)]
            await until_at(client, parse_position(answer["position"]))
            assert len(texts(client, mine)) == number + 1
        await other.until(lambda: len(texts(other, theirs)) == 10)
        assert await client.check(mine) == "same"


async def test_a_lagging_replica_is_stale_and_answers(pair: tuple[Cluster, Standby], node: Running) -> None:
    _, standby = pair
    async with live_client(node.url) as client:
        patient = await new_patient(client)
        mine = await client.subscribe("notes.listByPatient", patientId=patient)
        await client.mutate("notes.create", patientId=patient, text="shown")
        await client.until(lambda: texts(client, mine) == ["shown"])
        await pause(standby)
        answer = await client.mutate("notes.create", patientId=patient, text="not yet")
        written = parse_position(answer["position"])
        heard = len(client.frames)
        async with live_client(node.url) as late:
            # Whoever comes now is shown what there is, at the position that it is true at.
            theirs = await late.subscribe("notes.listByPatient", patientId=patient)
            assert texts(late, theirs) == ["shown"]
            assert late.position < written
        # Its own write is not there yet, and it is not told that it were not: it is told to come again.
        with pytest.raises(Refusal) as refused:
            await client.query("notes.listByPatient", patientId=patient)
        assert refused.value.frame["code"] == "unavailable"
        # Nothing came meanwhile that would let old data pose as current.
        fresh = [frame for frame in client.frames[heard:] if frame["type"] in ("watermark", "transition")]
        assert all(parse_position(frame["position"]) < written for frame in fresh)
        assert len(fresh) <= 2
        ask(standby, "select pg_wal_replay_resume()")
        await client.until(lambda: texts(client, mine) == ["not yet", "shown"])
        # The answer waited for the stream in vain, and told a position behind its commit.
        await until_at(client, written)
        assert len(await client.query("notes.listByPatient", patientId=patient)) == 2


async def test_a_lost_replica_is_told_and_made_up_for(pair: tuple[Cluster, Standby], node: Running) -> None:
    _, standby = pair
    async with live_client(node.url) as client:
        patient = await new_patient(client)
        mine = await client.subscribe("notes.listByPatient", patientId=patient)
        await asyncio.to_thread(standby.stop)
        await client.until(lambda: client.stale)
        # Writes go on.
        await client.mutate("notes.create", patientId=patient, text="meanwhile")
        with pytest.raises(Refusal) as refused:
            await client.query("notes.listByPatient", patientId=patient)
        assert refused.value.frame["code"] == "unavailable"
        await asyncio.to_thread(standby.start)
        await client.until(lambda: texts(client, mine) == ["meanwhile"] and not client.stale)


async def test_a_promoted_replica_is_not_taken_for_the_primary(pair: tuple[Cluster, Standby], node: Running) -> None:
    _, standby = pair
    async with live_client(node.url) as client:
        patient = await new_patient(client)
        mine = await client.subscribe("notes.listByPatient", patientId=patient)
        await promote(standby)
        await client.until(lambda: client.stale)
        await client.mutate("notes.create", patientId=patient, text="on the primary")
        await asyncio.sleep(1)
        assert client.stale
        assert texts(client, mine) == []


async def test_a_client_goes_from_the_primary_to_the_replica_and_back(
    pair: tuple[Cluster, Standby], node: Running, start: Start
) -> None:
    """Their positions are the same, so it holds what it held."""
    primary, _ = pair
    direct = start(DATABASE_URL=primary.url, BONFIRE_HEARTBEAT_MS="200")
    async with live_client(direct.url) as client:
        patient = await new_patient(client)
        await client.subscribe("notes.listByPatient", "notes", patientId=patient)
        await client.mutate("notes.create", patientId=patient, text="a")
        await client.until(lambda: texts(client, "notes") == ["a"])

    async def go_on(held: Held, place: Running, told: list[str]) -> Held:
        async with live_client(direct.url) as writer:
            await writer.mutate("notes.create", patientId=patient, text=told[-1])
        back = await LiveClient.come_back(place.url.replace("http", "ws", 1) + "/live", held)
        try:
            await back.until(lambda: texts(back, "notes") == told and not back.stale)
            assert back.welcome["stream"] == held.stream
            assert [frame["type"] for frame in back.frames if frame.get("id") == "notes"] == ["resumed"]
        finally:
            await back.close()
        return back.hold()

    there = await go_on(client.hold(), node, ["a", "b"])
    await go_on(there, direct, ["a", "b", "c"])

"""What two people at two screens see: promises L1 to L6, L11 and L13 over the real socket, on a real Postgres."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from websockets.asyncio.client import connect
from websockets.typing import Origin, Subprotocol

from acceptance.conftest import Running, Start
from bonfire_protocol.codec import Format, decode_down
from bonfire_protocol.down import Committed, Transition, Welcome
from bonfire_protocol.values import parse_position
from support.live_client import LiveClient, Refusal, live_client
from support.psql import psql

pytestmark = pytest.mark.acceptance


@pytest.fixture
async def client(server: Running) -> AsyncIterator[LiveClient]:
    async with live_client(server.url) as connected:
        yield connected


async def new_patient(client: LiveClient, family: str = "Okafor") -> str:
    answer = await client.mutate("patients.create", given="Ada", family=family)
    patient: str = answer["value"]["id"]
    return patient


async def test_a_write_in_one_window_is_seen_in_the_other(server: Running, client: LiveClient) -> None:
    patient = await new_patient(client)
    async with live_client(server.url) as other:
        notes = await other.subscribe("notes.listByPatient", patientId=patient)
        timeline = await other.subscribe("timeline.list", patientId=patient)
        assert other.rows(notes) == []
        written = await client.mutate("notes.create", patientId=patient, text="Sleeping better.")
        await other.until(lambda: other.position >= parse_position(written["position"]))
        (note,) = other.rows(notes)
        assert (note["text"], note["status"]) == ("Sleeping better.", "draft")
        assert [row["resourceId"] for row in other.rows(timeline)] == [note["id"]]


async def test_the_freshness_object_names_exactly_the_views_that_were_touched(client: LiveClient) -> None:
    answer = await client.mutate("patients.create", given="Ada", family="Okafor")
    assert answer["status"] == "committed"
    assert answer["views"] == {"patients": "fresh"}
    assert set(answer["indexes"]) == {"semanticSearch", "agentContext"}
    assert answer["indexes"]["semanticSearch"] == "off"
    patient = answer["value"]["id"]
    note = await client.mutate("notes.create", patientId=patient, text="First words.")
    assert note["views"] == {"notesByPatient": "fresh", "timeline": "fresh"}


async def test_a_pending_index_is_told_when_it_has_caught_up(client: LiveClient) -> None:
    patient = await new_patient(client)
    note = await client.mutate("notes.create", id="the-note", patientId=patient, text="Allergic to penicillin.")
    assert note["indexes"]["agentContext"] == "pending"
    told = {"type": "indexed", "id": "the-note", "index": "agentContext", "state": "fresh"}
    await client.until(lambda: told in client.frames)
    assert client.frames.index(told) > [frame.get("id") for frame in client.frames].index("the-note")


async def test_the_writers_own_write_comes_by_the_same_road(client: LiveClient) -> None:
    patient = await new_patient(client)
    notes = await client.subscribe("notes.listByPatient", patientId=patient)
    written = await client.mutate("notes.create", patientId=patient, text="Mine.")
    await client.until(lambda: client.position >= parse_position(written["position"]))
    assert [row["text"] for row in client.rows(notes)] == ["Mine."]


async def test_all_queries_of_a_connection_move_together(server: Running, client: LiveClient) -> None:
    """A draft that becomes a note leaves one list and enters the other in one transition."""
    patient = await new_patient(client)
    async with live_client(server.url) as other:
        drafts = await other.subscribe("drafts.listByPatient", patientId=patient)
        notes = await other.subscribe("notes.listByPatient", patientId=patient)
        seen: list[tuple[int, int]] = []

        def look() -> bool:
            seen.append((len(other.rows(drafts)), len(other.rows(notes))))
            return seen[-1] == (0, 3)

        for number in range(3):
            await client.mutate("drafts.save", patientId=patient, draftId=f"d{number}", text=f"Draft {number}")
            await client.mutate("drafts.promote", draftId=f"d{number}")
        await other.until(look)
        totals = [drafts_seen + notes_seen for drafts_seen, notes_seen in seen]
        assert totals == sorted(totals), "a draft is never gone before its note is there"


async def test_psql_and_a_copy_of_ten_thousand_rows_arrive_live(server: Running, database_url: str) -> None:
    async with live_client(server.url) as client:
        patient = await new_patient(client)
        people = await client.subscribe("patients.list")
        latest = await client.subscribe("timeline.list", patientId=patient)
        await asyncio.to_thread(
            psql,
            database_url,
            f"update patient set resource = resource || '{{\"gender\": \"female\"}}' where id = '{patient}'",
        )
        await client.until(lambda: client.rows(people)[0]["gender"] == "female")
        lines = "".join(
            f"obs-{n}\t{n + 1_000_000}\tcreated\t"
            + json.dumps(
                {
                    "status": "final",
                    "code": {"text": f"Reading {n}"},
                    "subject": {"reference": f"Patient/{patient}"},
                    "effectiveDateTime": f"2024-01-01T00:00:00.{n:06d}Z",
                }
            )
            + "\n"
            for n in range(10_000)
        )
        script = f"copy observation (id, txid, status, resource) from stdin;\n{lines}\\.\n"
        await asyncio.to_thread(psql, database_url, script)
        await client.until(lambda: bool(client.rows(latest)) and client.rows(latest)[0]["title"] == "Reading 9999")
        shown = client.rows(latest)
        assert [row["title"] for row in shown] == [f"Reading {n}" for n in range(9999, 9999 - len(shown), -1)]
        await asyncio.to_thread(psql, database_url, "truncate observation")
        await client.until(lambda: client.rows(latest) == [])


async def test_a_subscription_in_a_storm_of_commits_is_exact(server: Running) -> None:
    """Many writers write while many clients come; each ends with what the database has, and never shows a row twice."""
    async with live_client(server.url) as first:
        patient = await new_patient(first)
        done = asyncio.Event()

        async def write(writer: LiveClient, number: int) -> None:
            for turn in range(30):
                note = await writer.mutate("notes.create", patientId=patient, text=f"{number}/{turn}")
                if turn % 3 == 0:
                    await writer.mutate("notes.edit", noteId=note["value"]["id"], text=f"{number}/{turn} again")

        async def come_and_go() -> None:
            while not done.is_set():
                async with live_client(server.url) as visitor:
                    name = await visitor.subscribe("notes.listByPatient", patientId=patient)
                    await asyncio.sleep(0.05)
                    assert len({row["id"] for row in visitor.rows(name)}) == len(visitor.rows(name))

        writers = [await LiveClient.open(server.url.replace("http", "ws") + "/live") for _ in range(6)]
        watchers = [await LiveClient.open(server.url.replace("http", "ws") + "/live") for _ in range(6)]
        visitors = [asyncio.create_task(come_and_go()) for _ in range(3)]
        writing = [asyncio.create_task(write(writer, number)) for number, writer in enumerate(writers)]
        names = [await watcher.subscribe("notes.listByPatient", patientId=patient) for watcher in watchers]
        await asyncio.gather(*writing)
        done.set()
        await asyncio.gather(*visitors)
        truth = await first.query("notes.listByPatient", patientId=patient)
        assert len(truth) == 180
        for watcher, name in zip(watchers, names, strict=True):
            await watcher.until(lambda watcher=watcher, name=name: watcher.rows(name) == truth)  # type: ignore[misc]  # bound early on purpose
        for one in [*writers, *watchers]:
            await one.close()


async def test_a_mutation_sent_twice_is_done_once(server: Running, client: LiveClient) -> None:
    patient = await new_patient(client)
    words = {
        "type": "mutate",
        "id": str(uuid4()),
        "mutation": "notes.create",
        "args": {"patientId": patient, "text": "Once."},
    }
    async with live_client(server.url) as other:
        first, second = await asyncio.gather(client._ask(words), other._ask(words))
    assert first["value"] == second["value"]
    assert len(await client.query("notes.listByPatient", patientId=patient)) == 1
    with pytest.raises(Refusal) as refused:
        await client._ask({**words, "args": {"patientId": patient, "text": "Something else."}})
    assert refused.value.frame["code"] == "mutation_id_reused"


async def test_mutations_of_one_connection_are_done_in_order(client: LiveClient) -> None:
    patient = await new_patient(client)
    ids = [str(uuid4()) for _ in range(20)]
    for number, one in enumerate(ids):
        args = {"patientId": patient, "text": f"{number}"}
        await client.send({"type": "mutate", "id": one, "mutation": "notes.create", "args": args})
    await client.until(lambda: all(one in client._answers for one in ids))
    positions = [parse_position(client._answers[one]["position"]) for one in ids]
    assert positions == sorted(positions)
    assert [client._answers[one]["value"]["text"] for one in ids] == [str(number) for number in range(20)]


async def test_a_write_for_another_patient_than_the_one_on_the_screen_is_refused(client: LiveClient) -> None:
    shown, other = await new_patient(client), await new_patient(client, "Banda")
    with pytest.raises(Refusal) as refused:
        await client._ask(
            {
                "type": "mutate",
                "id": str(uuid4()),
                "mutation": "notes.create",
                "args": {"patientId": other, "text": "x"},
                "patient": shown,
            }
        )
    assert (refused.value.frame["code"], refused.value.frame["next"]) == ("wrong_patient", "resync")
    assert await client.query("notes.listByPatient", patientId=other) == []


async def test_two_tenants_never_see_each_others_rows(server: Running) -> None:
    async with live_client(server.url, tenant="north") as north, live_client(server.url, tenant="south") as south:
        lists = [await one.subscribe("patients.list") for one in (north, south)]
        patient = await new_patient(north, "North")
        await new_patient(south, "South")
        await north.until(lambda: len(north.rows(lists[0])) == 1)
        await south.until(lambda: len(south.rows(lists[1])) == 1)
        assert [row["family"] for row in north.rows(lists[0])] == ["North"]
        assert [row["family"] for row in south.rows(lists[1])] == ["South"]
        assert await south.query("patients.get", patientId=patient) is None
        notes = await south.subscribe("notes.listByPatient", patientId=patient)
        await north.mutate("notes.create", patientId=patient, text="Secret.")
        with pytest.raises(Refusal) as refused:
            await south.mutate("notes.create", patientId=patient, text="Not mine to write.")
        assert refused.value.frame["code"] == "not_found"
        await new_patient(south, "Later")
        await south.until(lambda: len(south.rows(lists[1])) == 2)
        assert south.rows(notes) == []
        everything = json.dumps(south.frames)
        assert "North" not in everything
        assert "Secret." not in everything


async def test_a_result_says_how_far_it_is_true_when_nothing_changes(server: Running, client: LiveClient) -> None:
    await client.subscribe("patients.list")
    before = client.position
    async with live_client(server.url, tenant="elsewhere") as other:
        written = await other.mutate("patients.create", given="Ada", family="Okafor")
    await client.until(lambda: client.position >= parse_position(written["position"]))
    assert client.position > before


@pytest.mark.parametrize(
    ("frame", "code", "field"),
    [
        ("{", "bad_frame", None),
        ('{"type":"dance"}', "bad_frame", None),
        ('{"type":"subscribe","id":"a"}', "bad_frame", None),
        ('{"type":"subscribe","id":"a","query":"patients.list","args":{},"extra":1}', "bad_frame", None),
        ('{"type":"subscribe","id":"a","query":"patients.lits","args":{}}', "unknown_function", None),
        (
            '{"type":"subscribe","id":"a","query":"notes.listByPatient","args":{"patientId":7}}',
            "bad_arguments",
            "patientId",
        ),
        ('{"type":"mutate","id":"a","mutation":"notes.create","args":{"text":"x"}}', "bad_arguments", None),
        ('{"type":"unsubscribe","id":"nobody"}', "not_found", "id"),
        ('{"type":"hello"}', "bad_frame", "type"),
    ],
)
async def test_a_refusal_says_what_was_wrong_and_the_connection_lives(
    client: LiveClient, frame: str, code: str, field: str | None
) -> None:
    await client._socket.send(frame)
    await client.until(lambda: any(each["type"] == "refused" for each in client.frames))
    refused = next(each for each in client.frames if each["type"] == "refused")
    assert refused["code"] == code
    assert refused["next"] in ("retry", "resync", "stop")
    if field is not None:
        assert refused["field"] == field
    assert await client.query("patients.list") == []


async def test_messagepack_carries_the_same_frames(server: Running) -> None:
    import msgspec

    url = server.url.replace("http", "ws") + "/live"
    async with connect(url, subprotocols=[Subprotocol("bonfire.v3.msgpack")]) as socket:
        assert socket.subprotocol == "bonfire.v3.msgpack"

        async def say(frame: dict[str, Any]) -> None:
            await socket.send(msgspec.msgpack.encode(frame))

        async def hear() -> object:
            return decode_down(await socket.recv(decode=False), Format.msgpack)

        await say({"type": "hello"})
        assert isinstance(await hear(), Welcome)
        await say({"type": "mutate", "id": "1", "mutation": "patients.create", "args": {"given": "A", "family": "B"}})
        heard: list[object] = []
        while not any(isinstance(frame, Committed) for frame in heard):
            heard.append(await hear())
        await say({"type": "subscribe", "id": "s", "query": "patients.list", "args": {}})
        while not any(isinstance(frame, Transition) for frame in heard):
            heard.append(await hear())


async def test_a_page_of_another_origin_may_not_open_the_socket(server: Running) -> None:
    url = server.url.replace("http", "ws") + "/live"
    async with connect(url, origin=Origin("http://evil.example")) as socket:
        await socket.send('{"type":"hello"}')
        assert json.loads(await socket.recv())["code"] == "forbidden"
        await socket.wait_closed()
        assert socket.close_code == 4701


async def test_stopping_drains_the_clients(server: Running) -> None:
    async with live_client(server.url) as client:
        await asyncio.to_thread(server.stop)
        async with asyncio.timeout(10):
            while not client.closed:
                await asyncio.sleep(0.01)
        assert client.frames[-1]["type"] == "drain"
        assert client._socket.close_code == 4600
    assert server.process.returncode == 0


async def test_serve_wants_a_token_and_takes_a_minted_one(start: Start, database_url: str) -> None:
    from acceptance.conftest import run_bonfire

    key = {"BONFIRE_TOKEN_KEY": "k" * 40, "DATABASE_URL": database_url}
    assert run_bonfire("migrate", **key).returncode == 0
    served = start("serve", **key)
    with pytest.raises(Refusal) as refused:
        await LiveClient.open(served.url.replace("http", "ws") + "/live")
    assert refused.value.frame["code"] == "unauthenticated"
    token = run_bonfire("token", "--tenant", "north", "--user", "dr-ada", **key).stdout.strip()
    async with live_client(served.url, token=token) as client:
        assert (client.welcome["tenant"], client.welcome["user"]) == ("north", "dr-ada")
    with pytest.raises(Refusal):
        await LiveClient.open(served.url.replace("http", "ws") + "/live", token=token, tenant="south")


def test_health_tells_the_truth(server: Running, database_url: str, tmp_path: Path) -> None:
    import httpx

    assert httpx.get(server.url + "/healthz").json() == {"status": "ok"}
    assert httpx.get(server.url + "/readyz").status_code == 200
    metrics = httpx.get(server.url + "/metrics").text
    assert "bonfire_change_stream_up 1" in metrics
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute("select pg_terminate_backend(pid) from pg_stat_replication")

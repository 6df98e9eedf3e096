"""A patient whom one would recognise goes through errors and refusals of all kinds: nothing of her is in what a node
logs, counts or traces, at its most talkative."""

import asyncio
import gc
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect

from bonfire.clinical import Depends, MutationContext, QueryContext, Registry, Value
from support.live_client import LiveClient, Refusal, live_client
from support.node import serving
from telemetry.conftest import Configure, Traced

GIVEN, FAMILY, SECRET = "Zebedina", "Quackenbush", "ZQ-4711-PLANETARIUM"
WORDS = (GIVEN, FAMILY, SECRET)

clinic = Registry()


class Diagnosis(Value, frozen=True):
    id: str
    text: str


@clinic.mutation("diagnoses.raise")
async def fails(ctx: MutationContext, patient_id: str, text: str) -> Diagnosis:
    raise ValueError(f"can't diagnose {text}")


@clinic.mutation("diagnoses.constraint")
async def breaks_a_constraint(ctx: MutationContext, patient_id: str, text: str) -> Diagnosis:
    """Postgres says, in the detail of the error, which row was not to its liking."""
    await ctx.rows(Diagnosis, "select 'x' as id, (:text::text)::int::text as text", text=text)
    raise AssertionError


@clinic.mutation("diagnoses.leave")
async def leaves_a_task(ctx: MutationContext, patient_id: str, text: str) -> Diagnosis:
    """An error in a task that nobody waits for is told by asyncio, with the task as Python spells it."""

    async def work() -> None:
        raise LookupError(text)

    task = asyncio.create_task(work(), name="left behind")
    await asyncio.wait([task])
    return Diagnosis("x", text)


@clinic.mutation("diagnoses.nonsense")
async def gives_another_shape(ctx: MutationContext, patient_id: str, text: str) -> Diagnosis:
    return Diagnosis("x", {"text": text})  # type: ignore[arg-type]  # that is the point


@clinic.query("diagnoses.list", depends=[Depends("Patient", patient="patient_id")])
async def reads(ctx: QueryContext, patient_id: str, text: str) -> list[Diagnosis]:
    raise ValueError(f"can't read {text}")


@clinic.query("diagnoses.cast", depends=[Depends("Patient", patient="patient_id")])
async def casts(ctx: QueryContext, patient_id: str, text: str) -> list[Diagnosis]:
    return await ctx.rows(Diagnosis, "select 'x' as id, (:text::text)::int::text as text", text=text)


async def refused(client: LiveClient, kind: str, name: str, **args: Any) -> None:
    with pytest.raises(Refusal):
        await (client.mutate(name, **args) if kind == "mutate" else client.query(name, **args))


def refusals(client: LiveClient) -> int:
    return sum(frame["type"] == "refused" for frame in client.frames)


async def misuse(client: LiveClient) -> None:
    """A session in which hardly anything goes well."""
    created = await client.mutate("patients.create", given=GIVEN, family=FAMILY)
    patient = created["value"]["id"]
    await client.subscribe("patients.list")
    note = (await client.mutate("notes.create", patientId=patient, text=SECRET))["value"]
    known = {"patientId": patient, "text": SECRET}
    await refused(client, "mutate", "diagnoses.raise", **known)
    await refused(client, "mutate", "diagnoses.constraint", **known)
    await refused(client, "mutate", "diagnoses.nonsense", **known)
    await client.mutate("diagnoses.leave", **known)
    gc.collect()
    await refused(client, "query", "diagnoses.list", **known)
    await refused(client, "query", "diagnoses.cast", **known)
    await refused(client, "mutate", f"notes.{SECRET}", **known)
    await refused(client, "mutate", "notes.create", patientId=patient, text=7, **{SECRET: FAMILY})
    await refused(client, "query", FAMILY, text=SECRET)
    with pytest.raises(Refusal):
        await client.subscribe("diagnoses.list", **known)
    with pytest.raises(Refusal):
        await client.subscribe("diagnoses.cast", **known)
    before = refusals(client)
    wrong = {
        "type": "mutate",
        "id": SECRET,
        "mutation": "notes.sign",
        "args": {"noteId": note["id"]},
        "patient": FAMILY,
    }
    await client.send(wrong)
    await client.send({**wrong, "version": FAMILY})
    await client.send({"type": FAMILY, "id": SECRET})
    await client.until(lambda: refusals(client) == before + 3)


async def misuse_the_socket(url: str) -> None:
    """Frames that no client of ours would send, to a connection that ends by them."""
    live = url.replace("http", "ws") + "/live"
    for frames in (
        [SECRET],
        [json.dumps({"type": "hello", "token": SECRET, "tenant": FAMILY})],
        [b"\xff" + SECRET.encode()],
    ):
        async with connect(f"{live}?token={SECRET}", user_agent_header=FAMILY) as socket:
            for frame in frames:
                await socket.send(frame)
            await socket.wait_closed()


async def misuse_http(url: str) -> None:
    async with httpx.AsyncClient(base_url=url, timeout=30) as http:
        name = {"name": [{"family": FAMILY, "given": [GIVEN]}]}
        for body in (
            json.dumps({"resourceType": "Patient", **name, SECRET: FAMILY}),
            f"{{{SECRET}",
            "[" * 3000 + SECRET,
        ):
            answer = await http.post("/fhir/Patient", content=body, headers={"content-type": "application/fhir+json"})
            assert 400 <= answer.status_code < 500
        for path in (f"/fhir/Patient/{SECRET}", f"/fhir/{FAMILY}", f"/{SECRET}", f"/fhir/Patient/x/_history/{SECRET}"):
            assert (await http.get(path, headers={"x-bonfire-tenant": FAMILY})).status_code >= 400
        await http.get("/fhir/metadata", headers={"authorization": f"Bearer {SECRET}"})


@asynccontextmanager
async def seen(url: str) -> AsyncIterator[list[str]]:
    """The metrics page at the end."""
    pages: list[str] = []
    yield pages
    async with httpx.AsyncClient(base_url=url) as http:
        pages += [(await http.get(path)).text for path in ("/metrics", "/readyz")]


@pytest.mark.parametrize("form", ["text", "json"])
async def test_nothing_of_a_patient_is_seen_from_outside(
    form: str, configure: Configure, traced: Traced, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bonfire.app.open_tracing", lambda *settings: traced.tracing)
    log: io.StringIO = configure(form, level="debug")
    async with serving(database_url, clinic) as url, seen(url) as pages:
        async with live_client(url) as client:
            await misuse(client)
        await misuse_the_socket(url)
        await misuse_http(url)
    logged = log.getvalue()
    spans = "".join(span.to_json() for ended in traced.spans.values() for span in ended)
    # All of it was there to be told.
    assert "diagnoses.raise failed" in logged
    assert "Task exception was never retrieved" in logged
    assert 'bonfire_mutations_total{mutation="diagnoses.constraint",outcome="internal"} 1.0' in pages[0]
    assert 'bonfire_mutations_total{mutation="unknown",outcome="unknown_function"} 1.0' in pages[0]
    assert "mutation diagnoses.raise" in spans
    for told in (logged, spans, *pages):
        assert [line for line in told.splitlines() if any(word.lower() in line.lower() for word in WORDS)] == []

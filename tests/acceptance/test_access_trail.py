"""The trail that a real server wrote: it names all who were shown a patient's rows, and tampering with it is found."""

import asyncio
import os
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from acceptance.conftest import run_bonfire
from support.callers import CALLERS, Hospital, hospital
from support.live_client import Refusal, live_client
from support.psql import psql

pytestmark = pytest.mark.acceptance


@pytest.fixture
def running(cluster: str, template: str) -> Iterator[Hospital]:
    with hospital(cluster, template, f"bonfire_trail_{os.getpid()}") as started:
        yield started


async def read(http: httpx.AsyncClient, caller: str, path: str) -> int:
    return (await http.get(path, headers=CALLERS[caller].bearer)).status_code


async def test_whoever_was_shown_a_patient_is_named_and_who_was_refused_too(running: Hospital) -> None:
    """By each road one caller who sees something of p1, and some who do not."""
    async with httpx.AsyncClient(base_url=running.url) as http:
        assert await read(http, "desk", "/fhir/Patient/p1") == 200
        assert await read(http, "srvc", "/fhir/Patient?_id=p1") == 200
        assert await read(http, "anly", "/fhir/Patient/p1/_history") == 200
        assert await read(http, "pat2", "/fhir/Patient/p1") == 404
        async with live_client(running.url, token=CALLERS["nurs"].token) as nurse:
            await nurse.subscribe("notes.listByPatient", patientId="p1")
        async with live_client(running.url, token=CALLERS["self"].token) as patient:
            assert await patient.query("notes.get", patientId="p1", noteId="n1") is not None
        async with live_client(running.url, token=CALLERS["nrs2"].token) as other:
            with pytest.raises(Refusal, match="forbidden"):
                await other.subscribe("notes.listByPatient", patientId="p1")
        async with live_client(running.url, token=CALLERS["scrb"].token) as scribe:
            await scribe.mutate("notes.create", patientId="p1", text="Draft.")
        async with live_client(running.url, token=CALLERS["admn"].token) as admin:
            name = await admin.subscribe("audit.byPatient", patientId="p1", limit=1000)
            # A refusal is in the trail soon, not before its answer.
            await admin.until(lambda: any(row["user"] == "bo" for row in admin.rows(name)))
            rows = admin.rows(name)
        shown = {row["user"] for row in rows if row["outcome"] == 0}
        assert shown >= {"amara", "frank", "feed", "anna", "nia", "pat-one", "sam"}
        assert not shown & {"pat-two", "bo", "zoe"}
        assert "bo" in {row["user"] for row in rows if row["outcome"] == 4}
        reads = [row for row in rows if row["outcome"] == 0 and row["subtype"] in ("query", "subscribe")]
        assert [(row["user"], row["subtype"], row["what"]) for row in reads if not row["policies"]] == []
        # The same as FHIR, for whoever may read the trail, and for nobody else.
        found = (await http.get("/fhir/AuditEvent?patient=p1&_count=1000", headers=CALLERS["admn"].bearer)).json()
        agents = set().union(*(_users(entry["resource"]) for entry in found["entry"]))
        assert agents >= {"amara", "frank", "feed", "anna", "nia", "pat-one", "sam"}
        assert await read(http, "clin", "/fhir/AuditEvent?patient=p1") == 403


def _users(event: dict[str, Any]) -> set[str]:
    """The users among an AuditEvent's agents: a server is one too, by its name alone."""
    return {agent["who"]["identifier"]["value"] for agent in event["agent"] if "identifier" in agent.get("who", {})}


async def test_a_row_that_was_tampered_with_is_found(running: Hospital) -> None:
    async with httpx.AsyncClient(base_url=running.url) as http:
        assert await read(http, "nurs", "/fhir/Patient/p1") == 200
    await asyncio.to_thread(seal_and_tamper, running.database_url)


def seal_and_tamper(url: str) -> None:
    assert run_bonfire("audit", "seal", DATABASE_URL=url).returncode == 0
    head = run_bonfire("audit", "head", DATABASE_URL=url).stdout.strip()
    whole = run_bonfire("audit", "verify", "--published", head, DATABASE_URL=url)
    assert whole.returncode == 0, whole.stdout
    one = "(select id from bonfire.audit where user_id = 'nia' and subtype = 'read' order by at limit 1)"
    id = psql(url, f"select id from bonfire.audit where id = {one}")
    # As whoever owns the database could: the server's own role can't.
    psql(
        url,
        "alter table bonfire.audit disable trigger append_only;"
        f" update bonfire.audit set user_id = 'bo' where id = '{id}'",
    )
    found = run_bonfire("audit", "verify", DATABASE_URL=url)
    assert found.returncode == 1
    assert "altered" in found.stdout
    assert id in found.stdout

"""`/fhir/AuditEvent`: the trail for whoever may read it, and for nobody to write."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request

from bonfire.access.audit import Trail, event_of
from bonfire.access.facts import Facts
from bonfire.access.gate import Access, Gate
from bonfire.access.policies import PolicyBook
from bonfire.fhir.validate import check
from bonfire.store.pool import Database
from bonfire.web.audit import audit_routes
from bonfire_protocol.faults import Fault, FaultCode
from support.clinic import ADMIN, AMARA, BEN, NIA, SOUTH

BASE = "http://clinic.example/fhir"
CALLERS = {principal.user: principal for principal in (ADMIN, AMARA, NIA)}


@pytest.fixture
async def client(database: Database) -> AsyncIterator[httpx.AsyncClient]:
    gate = Gate(PolicyBook())
    trail = Trail(database)

    async def admit(request: Request) -> Access:
        principal = CALLERS.get(request.headers.get("x-user", ""))
        if principal is None:
            raise Fault(FaultCode.unauthenticated, "a token is needed here")
        return gate.access(principal, Facts())

    await trail.record(event_of(AMARA, "read", "http", patient="p1", what="Patient/p1", address="192.0.2.1"))
    await trail.record(event_of(AMARA, "vread", "http", patient="p1", what="Observation/o1/_history/2"))
    await trail.record(event_of(BEN, "search", "http", query="Patient?name", count=2))
    await trail.record(event_of(NIA, "deny", "socket", patient="p2", outcome=4))
    await trail.record(event_of(SOUTH, "read", "http", patient="p1"))
    app = Starlette(routes=audit_routes(database, admit, trail, base_url=BASE))
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url=BASE, headers={"x-user": ADMIN.user}
    ) as connected:
        yield connected


async def search(client: httpx.AsyncClient, query: str = "") -> list[dict[str, Any]]:
    response = await client.get(f"/AuditEvent?{query}")
    assert response.status_code == 200, response.text
    bundle = response.json()
    assert check(bundle, "Bundle") == []
    return [entry["resource"] for entry in bundle.get("entry", [])]


def subtypes(found: list[dict[str, Any]]) -> list[str]:
    return [resource["subtype"][0]["code"] for resource in found]


async def test_the_trail_is_a_searchset_the_newest_first(client: httpx.AsyncClient) -> None:
    assert subtypes(await search(client)) == ["deny", "search-type", "vread", "read"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("patient=p1", ["vread", "read"]),
        ("patient=Patient/p2", ["deny"]),
        ("agent=amara", ["vread", "read"]),
        ("agent:identifier=urn:bonfire:user|ben", ["search-type"]),
        ("action=R&patient=p1", ["vread", "read"]),
        ("outcome=4", ["deny"]),
        ("subtype=search-type", ["search-type"]),
        ("entity=Observation/o1", ["vread"]),
        ("entity=Observation/o1/_history/2", ["vread"]),
        ("entity=Observation/o", []),
        ("date=ge2020", ["deny", "search-type", "vread", "read"]),
        ("date=ge2020&date=lt2021", []),
        ("date=le2020-05-06", []),
        ("date=gt2200", []),
        ("date=2020", []),
    ],
)
async def test_it_is_searched(client: httpx.AsyncClient, query: str, expected: list[str]) -> None:
    assert subtypes(await search(client, query)) == expected


@pytest.mark.parametrize(
    "query",
    ["date=zz2020", "date=x", "outcome=5", "_count=x", "_before=x", "_id=1", "name=Ada", "_include=AuditEvent:patient"],
)
async def test_what_it_is_not_searched_by_is_refused(client: httpx.AsyncClient, query: str) -> None:
    response = await client.get(f"/AuditEvent?{query}")
    assert response.status_code == 400
    assert response.json()["resourceType"] == "OperationOutcome"


async def test_pages_hold_each_event_once(client: httpx.AsyncClient) -> None:
    url, seen = "/AuditEvent?_count=1&date=lt2200", []
    for _ in range(4):
        bundle = (await client.get(url)).json()
        seen += subtypes([entry["resource"] for entry in bundle["entry"]])
        url = next(link["url"] for link in bundle["link"] if link["relation"] == "next")
    # Each page is an event itself, newer than the first page.
    assert seen == ["deny", "search-type", "vread", "read"]
    assert "entry" not in (await client.get(url)).json()


async def test_one_event_is_read(client: httpx.AsyncClient) -> None:
    [found] = await search(client, "subtype=read")
    response = await client.get(f"/AuditEvent/{found['id']}")
    assert response.json() == found
    assert check(response.json(), "AuditEvent") == []
    for id in ("x", "00000000-0000-0000-0000-000000000000", f"{found['id']}/_history/1"):
        assert (await client.get(f"/AuditEvent/{id}")).status_code == 404


async def test_who_looks_at_the_trail_is_in_it(client: httpx.AsyncClient) -> None:
    [found] = await search(client, "subtype=read")
    await client.get(f"/AuditEvent/{found['id']}")
    read, searched = await search(client, "agent=root")
    assert read["entity"][1]["what"]["reference"] == f"AuditEvent/{found['id']}"
    assert read["entity"][0]["what"]["reference"] == "Patient/p1"
    assert searched["subtype"][0]["code"] == "search-type"


@pytest.mark.parametrize("user", ["amara", "nia"])
async def test_it_is_not_for_everybody(client: httpx.AsyncClient, user: str) -> None:
    for path in ("", "?patient=p1", "?patient=nobody", "/00000000-0000-0000-0000-000000000000"):
        response = await client.get(f"/AuditEvent{path}", headers={"x-user": user})
        assert response.status_code == 403
    assert (await client.get("/AuditEvent", headers={"x-user": ""})).status_code == 401
    # Nobody waits for a refusal's event, but this search's own one is behind it.
    await search(client)
    refusals = await search(client, f"agent={user}&subtype=deny&entity=AuditEvent")
    assert [refusal["outcome"] for refusal in refusals] == ["4"] * 4


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("path", ["", "/x", "/x/_history"])
async def test_nobody_writes_it(client: httpx.AsyncClient, method: str, path: str) -> None:
    response = await client.request(method, f"/AuditEvent{path}", json={"resourceType": "AuditEvent"})
    assert response.status_code == 405
    assert response.headers["allow"] == "GET"
    assert "written by this server alone" in response.text

"""FHIR over HTTP for callers of every kind: what may not be seen is not there, in no answer, count or status."""

import json
from datetime import UTC, datetime
from itertools import count
from random import Random
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import HTTPConnection

from bonfire.access.audit import Trail
from bonfire.access.gate import Access
from bonfire.access.principal import Principal
from bonfire.fhir.validate import check
from bonfire.store.pool import Database
from bonfire.store.reach import EVERYTHING
from bonfire.web.fhir import fhir_routes
from support.clinic import ADMIN, AGENT, AMARA, ANALYST, FRONT, NIA, NOBODY, SCRIBE
from support.gatekeeper import Gatekeeper

BASE = "http://clinic.example/fhir"
RESTRICTED = {"security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R"}]}
CALLERS = {each.user: each for each in (AMARA, NIA, FRONT, SCRIBE, AGENT, ANALYST, ADMIN, NOBODY)}


def patient(id: str, **more: Any) -> dict[str, Any]:
    name = [{"family": f"Family-{id}"}]
    return {"resourceType": "Patient", "id": id, "name": name, "identifier": [{"system": "mrn", "value": id}], **more}


def note(id: str, of: str, status: str = "preliminary", **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "DocumentReference",
        "id": id,
        "status": "current",
        "docStatus": status,
        "subject": {"reference": f"Patient/{of}"},
        "content": [{"attachment": {"contentType": "text/plain", "title": f"About {of}"}}],
        **more,
    }


def score(id: str, of: str, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": id,
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "44261-6"}]},
        "subject": {"reference": f"Patient/{of}", "display": f"Family-{of}"},
        "valueInteger": 12,
        **more,
    }


def team(*users: str) -> dict[str, Any]:
    members = [{"member": {"identifier": {"system": "urn:bonfire:user", "value": user}}} for user in users]
    return {
        "resourceType": "CareTeam",
        "id": "t1",
        "status": "active",
        "subject": {"reference": "Patient/p1"},
        "participant": members,
    }


def bundle(kind: str, *entries: tuple[str, str, Any]) -> dict[str, Any]:
    spelled = [
        {"request": {"method": method, "url": url}, **({"resource": resource} if resource is not None else {})}
        for method, url, resource in entries
    ]
    return {"resourceType": "Bundle", "type": kind, "entry": spelled}


class Hospital:
    """Two patients, of whom the nurse, the scribe and the agent look after the first."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.gatekeeper = Gatekeeper(database)
        self.trail = Trail(database)
        self.stale: list[Access] = []
        ids = count(1)

        async def admit(connection: HTTPConnection) -> Access:
            if self.stale:
                return self.stale.pop()
            return await self.gatekeeper.access(CALLERS[connection.headers["x-user"]])

        routes = fhir_routes(
            database,
            admit,
            self.trail,
            lambda: datetime(2026, 1, 1, tzinfo=UTC),
            new_id=lambda: f"new-{next(ids)}",
            random=Random(0),
            base_url=BASE,
        )
        self.app = Starlette(routes=routes)

    def client(self, by: Principal) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=True)
        headers = {"x-user": by.user, "content-type": "application/fhir+json"}
        return httpx.AsyncClient(transport=transport, base_url=BASE, headers=headers)

    async def call(self, by: Principal, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        content = None if body is None else json.dumps(body)
        async with self.client(by) as client:
            return await client.request(method, path, content=content, headers=named)

    async def events(self, *, user: str | None = None) -> list[dict[str, Any]]:
        async with self.database.transaction("north", reach=EVERYTHING) as conn:
            rows = await conn.fetch(
                "select subtype, user_id, patient, what, query, outcome, count, policies, surface, address"
                " from bonfire.audit where $1::text is null or user_id = $1 order by at, id",
                user,
            )
        return [dict(row) for row in rows]


@pytest.fixture
async def hospital(database: Database) -> Hospital:
    made = Hospital(database)
    start = bundle(
        "transaction",
        ("PUT", "Patient/p1", patient("p1")),
        ("PUT", "Patient/p2", patient("p2")),
        ("PUT", "Patient/p3", patient("p3", meta=RESTRICTED)),
        ("PUT", "DocumentReference/n1", note("n1", "p1")),
        ("PUT", "DocumentReference/n2", note("n2", "p2")),
        ("PUT", "Observation/o1", score("o1", "p1")),
        ("PUT", "Observation/o2", score("o2", "p2")),
        ("PUT", "Observation/r1", score("r1", "p1", meta=RESTRICTED)),
        ("PUT", "Practitioner/d1", {"resourceType": "Practitioner", "id": "d1"}),
        ("PUT", "CareTeam/t1", team("nia", "sam", "ambient")),
    )
    response = await made.call(AMARA, "POST", "/", start)
    assert response.status_code == 200, response.text
    return made


# What is asked for, and what each is answered: 403 where the role sees nothing of the type at all, 404 where it is as
# if there were no such record.
READS: list[tuple[str, dict[str, int]]] = [
    ("/Patient/p1", {"amara": 200, "nia": 200, "frank": 200, "sam": 200, "ambient": 200, "anna": 200}),
    ("/Patient/p2", {"amara": 200, "nia": 404, "frank": 200, "sam": 404, "ambient": 404, "anna": 200}),
    ("/Patient/p3", {"amara": 200, "nia": 404, "frank": 404, "sam": 404, "ambient": 404}),
    ("/Patient/nobody", {"amara": 404, "nia": 404, "frank": 404, "sam": 404, "ambient": 404, "anna": 404}),
    ("/DocumentReference/n1", {"amara": 200, "nia": 200, "sam": 200, "ambient": 200}),
    ("/DocumentReference/n2", {"amara": 200, "nia": 404, "sam": 404, "ambient": 404}),
    ("/Observation/o1", {"amara": 200, "nia": 200, "sam": 200, "ambient": 200, "anna": 200}),
    ("/Observation/r1", {"amara": 200, "nia": 404, "sam": 404, "ambient": 404}),
    ("/Practitioner/d1", {"amara": 200, "nia": 200, "frank": 200, "sam": 200, "ambient": 200, "root": 200}),
    ("/AuditEvent/x", {"root": 404}),
]


@pytest.mark.parametrize("suffix", ["", "/_history"])
@pytest.mark.parametrize(("path", "expected"), READS, ids=lambda each: each if isinstance(each, str) else "")
async def test_who_reads_what(hospital: Hospital, path: str, expected: dict[str, int], suffix: str) -> None:
    for user, caller in CALLERS.items():
        answer = await hospital.call(caller, "GET", path + suffix)
        status = expected.get(user)
        if status is None:
            # Not in the table: it is as good as absent, or nothing of the type is there for them.
            assert answer.status_code in (403, 404), (user, path)
        else:
            assert answer.status_code == status, (user, path)
        if answer.status_code >= 400:
            assert "Family" not in answer.text
            assert "p1" not in answer.text


async def test_what_is_hidden_and_what_is_absent_are_answered_alike(hospital: Hospital) -> None:
    for template in ("/Patient/{}", "/Patient/{}/_history", "/Patient/{}/_history/1", "/Patient?_id={}"):
        answers = []
        for id in ("p2", "px"):
            answer = await hospital.call(NIA, "GET", template.format(id))
            answers.append((answer.status_code, answer.text.replace(id, "?"), answer.headers.get("etag")))
        assert answers[0] == answers[1]


async def test_a_deletion_of_what_is_hidden_does_nothing_and_says_nothing(hospital: Hospital) -> None:
    answers = [await hospital.call(NIA, "DELETE", f"/Patient/{id}") for id in ("p2", "px")]
    assert [answer.status_code for answer in answers] == [204, 204]
    assert (await hospital.call(AMARA, "GET", "/Patient/p2")).status_code == 200
    for id in ("p2", "px"):
        conditional = await hospital.call(NIA, "DELETE", f"/Patient/{id}", If_Match='W/"1"')
        assert conditional.status_code == 404


async def test_searches_and_totals_count_what_is_seen(hospital: Hospital) -> None:
    for by, seen in ((AMARA, ["p1", "p2", "p3"]), (FRONT, ["p1", "p2"]), (NIA, ["p1"])):
        found = (await hospital.call(by, "GET", "/Patient?_id=p1,p2,p3,px")).json()
        assert found["total"] == len(seen)
        assert [entry["resource"]["id"] for entry in found["entry"]] == seen
    by_name = (await hospital.call(NIA, "GET", "/Patient?identifier=mrn|p2")).json()
    assert (by_name["total"], "entry" in by_name) == (0, False)
    assert (await hospital.call(NOBODY, "GET", "/Patient?_id=p1")).status_code == 403


async def test_versions_from_before_a_label_are_seen_and_those_after_are_not(hospital: Hospital) -> None:
    labelled = await hospital.call(AMARA, "PUT", "/Observation/o1", score("o1", "p1", meta=RESTRICTED))
    assert labelled.status_code == 200
    assert (await hospital.call(AMARA, "GET", "/Observation/o1/_history")).json()["total"] == 2
    history = (await hospital.call(NIA, "GET", "/Observation/o1/_history")).json()
    assert (history["total"], len(history["entry"])) == (1, 1)
    assert (await hospital.call(NIA, "GET", "/Observation/o1")).status_code == 404
    version = labelled.json()["meta"]["versionId"]
    assert (await hospital.call(NIA, "GET", f"/Observation/o1/_history/{version}")).status_code == 404


async def test_an_unchanged_version_of_what_is_hidden_is_not_confirmed(hospital: Hospital) -> None:
    etag = (await hospital.call(AMARA, "GET", "/Patient/p2")).headers["etag"]
    assert (await hospital.call(NIA, "GET", "/Patient/p2", If_None_Match=etag)).status_code == 404
    assert (await hospital.call(AMARA, "GET", "/Patient/p2", If_None_Match=etag)).status_code == 304


async def test_conditions_find_only_what_is_seen(hospital: Hospital) -> None:
    answers = []
    for of in ("p2", "px"):
        body = note("n9", "p1") | {"context": {"related": [{"reference": f"Patient?identifier=mrn|{of}"}]}}
        answer = await hospital.call(NIA, "POST", "/", bundle("transaction", ("POST", "DocumentReference", body)))
        answers.append((answer.status_code, answer.text))
    assert answers[0] == answers[1]
    assert answers[0][0] == 400
    # p3 is restricted: to the front desk its number is free.
    made = await hospital.call(FRONT, "POST", "/Patient", patient("x"), If_None_Exist="identifier=mrn|p3")
    assert made.status_code == 201
    kept = await hospital.call(FRONT, "POST", "/Patient", patient("x"), If_None_Exist="identifier=mrn|p2")
    assert (kept.status_code, kept.json()["id"]) == (200, "p2")


# method, path, body: who may (the others are refused)
WRITES: list[tuple[str, str, Any, str]] = [
    ("POST", "/Patient", patient("x"), "amara frank"),
    ("PUT", "/Patient/p1", patient("p1", gender="female"), "amara nia frank"),
    ("POST", "/DocumentReference", note("x", "p1"), "amara nia sam ambient"),
    ("POST", "/DocumentReference", note("x", "p2"), "amara"),
    ("PUT", "/DocumentReference/n1", note("n1", "p1", description="x"), "amara nia sam ambient"),
    ("PUT", "/DocumentReference/n1", note("n1", "p1", "final"), "amara"),
    ("POST", "/DocumentReference", note("x", "p1", "final"), "amara"),
    ("PUT", "/DocumentReference/n1", note("n1", "p2"), "amara"),
    ("PUT", "/DocumentReference/n2", note("n2", "p2"), "amara"),
    ("POST", "/Observation", score("x", "p1"), "amara nia"),
    ("POST", "/Practitioner", {"resourceType": "Practitioner"}, "amara root"),
    ("POST", "/Observation", score("x", "p1", meta=RESTRICTED), "amara"),
    ("DELETE", "/Observation/o1", None, "amara nia"),
]


@pytest.mark.parametrize(("method", "path", "body", "may"), WRITES)
async def test_who_writes_what(hospital: Hospital, method: str, path: str, body: Any, may: str) -> None:
    for user, caller in CALLERS.items():
        answer = await hospital.call(caller, method, path, body)
        if user in may.split():
            assert answer.status_code in (200, 201, 204), (user, answer.text)
            # As it was, for the next one.
            await hospital.call(AMARA, "PUT", "/DocumentReference/n1", note("n1", "p1"))
            await hospital.call(AMARA, "PUT", "/Observation/o1", score("o1", "p1"))
        elif method == "DELETE":
            assert answer.status_code in (204, 403), user
            assert (await hospital.call(AMARA, "GET", path)).status_code == 200
        else:
            assert answer.status_code == 403, (user, answer.text)
            assert check(answer.json()) == []


async def test_one_entry_that_may_not_be_written_undoes_a_transaction_and_no_batch(hospital: Hospital) -> None:
    entries = (("PUT", "Observation/a", score("a", "p1")), ("PUT", "Observation/b", score("b", "p2")))
    refused = await hospital.call(NIA, "POST", "/", bundle("transaction", *entries))
    assert refused.status_code == 403
    assert refused.json()["issue"][0]["expression"] == ["Bundle.entry[1]"]
    assert (await hospital.call(AMARA, "GET", "/Observation/a")).status_code == 404
    tried = await hospital.call(NIA, "POST", "/", bundle("batch", *entries, ("GET", "Patient/p2", None)))
    statuses = [entry["response"]["status"][:3] for entry in tried.json()["entry"]]
    assert statuses == ["201", "403", "404"]


async def test_an_id_that_is_hidden_is_not_overwritten(hospital: Hospital) -> None:
    refused = await hospital.call(FRONT, "PUT", "/Patient/p3", patient("p3"))
    assert refused.status_code == 403
    assert (await hospital.call(AMARA, "GET", "/Patient/p3")).json()["meta"]["security"]


async def test_an_analyst_is_shown_nobody(hospital: Hospital) -> None:
    for path in ("/Patient/p1", "/Patient?_id=p1,p2", "/Patient/p1/_history", "/Observation/o1", "/Observation?_id=o1"):
        answer = await hospital.call(ANALYST, "GET", path)
        assert answer.status_code == 200
        assert "Family" not in answer.text
        assert "mrn" not in answer.text
        assert "REDACTED" in answer.text
    assert (await hospital.call(ANALYST, "GET", "/Observation/o1")).json()["valueInteger"] == 12
    # What is masked is not found by what the mask hides.
    assert (await hospital.call(ANALYST, "GET", "/Patient?identifier=mrn|p1")).json()["total"] == 0
    version = (await hospital.call(AMARA, "GET", "/Patient/p1")).json()["meta"]["versionId"]
    assert "Family" not in (await hospital.call(ANALYST, "GET", f"/Patient/p1/_history/{version}")).text
    answers = await hospital.call(ANALYST, "POST", "/", bundle("batch", ("GET", "Patient/p1", None)))
    assert "REDACTED" in answers.text
    assert "Family" not in answers.text


async def test_what_is_shown_is_in_the_trail_before_it_is(hospital: Hospital) -> None:
    await hospital.call(NIA, "GET", "/Patient/p1")
    await hospital.call(NIA, "GET", "/Observation?_id=o1,r1")
    await hospital.call(NIA, "GET", "/Observation/o1/_history")
    await hospital.call(AMARA, "GET", "/Patient?_id=p1,p2")
    shown = [
        (event["user_id"], event["subtype"], event["patient"], event["query"], event["count"])
        for event in await hospital.events()
        if event["subtype"] in ("read", "search", "history")
    ]
    assert shown == [
        ("nia", "read", "p1", None, 1),
        ("nia", "search", "p1", "_id", 1),
        ("nia", "history", "p1", None, 1),
        ("amara", "search", "p1", "_id", 1),
        ("amara", "search", "p2", "_id", 1),
    ]
    reasons = {
        event["user_id"]: set(event["policies"])
        for event in await hospital.events()
        if event["subtype"] in ("read", "search", "history")
    }
    assert reasons["nia"] == {"nurse-reads"}
    assert reasons["amara"] == {"clinician-reads"}


async def test_refusals_and_what_was_looked_for_are_in_the_trail(hospital: Hospital) -> None:
    await hospital.call(NIA, "GET", "/Patient/p2")
    await hospital.call(NIA, "POST", "/Observation", score("x", "p2"))
    await hospital.trail.close()
    told = [(event["subtype"], event["what"], event["outcome"]) for event in await hospital.events(user="nia")]
    assert told == [("read", "Patient/p2", 4), ("deny", "Observation", 4)]


async def test_what_is_written_has_its_provenance_and_its_place_in_the_trail(hospital: Hospital) -> None:
    signed = await hospital.call(AMARA, "PUT", "/DocumentReference/n1", note("n1", "p1", "final"))
    version = signed.json()["meta"]["versionId"]
    target = {"reference": f"DocumentReference/n1/_history/{version}"}
    async with hospital.database.transaction("north", reach=EVERYTHING) as conn:
        ids = await conn.fetch("select id from public.provenance order by cts, id")
    found = []
    for row in ids:
        provenance = (await hospital.call(AMARA, "GET", f"/Provenance/{row['id']}")).json()
        assert check(provenance) == []
        found.append(provenance)
    [of_signature] = [each for each in found if target in each["target"]]
    assert of_signature["signature"][0]["who"]["identifier"]["value"] == "amara"
    assert of_signature["activity"]["text"] == "FHIR update"
    # The first transaction wrote records of three patients, restricted ones too, and one that is nobody's.
    assert len(found) == 6
    [event] = [each for each in await hospital.events() if each["subtype"] == "sign"]
    assert (event["patient"], event["what"]) == ("p1", target["reference"])
    assert "clinician-writes" in event["policies"]


async def test_provenance_is_seen_by_who_sees_the_patient(hospital: Hospital) -> None:
    await hospital.call(AMARA, "PUT", "/DocumentReference/n2", note("n2", "p2", "final"))
    async with hospital.database.transaction("north", reach=EVERYTHING) as conn:
        rows = await conn.fetch(
            "select id, bonfire.patient_of('Provenance', id, resource) as patient, resource ? 'meta' as labelled"
            " from public.provenance"
        )
    for row in rows:
        answer = await hospital.call(NIA, "GET", f"/Provenance/{row['id']}")
        assert (answer.status_code == 200) is (row["patient"] == "p1" and not row["labelled"])


async def test_nobody_writes_provenance(hospital: Hospital) -> None:
    made = {
        "resourceType": "Provenance",
        "target": [{"reference": "Patient/p1"}],
        "recorded": "2026-01-01T00:00:00Z",
        "agent": [{"who": {"display": "Somebody else"}}],
    }
    assert (await hospital.call(AMARA, "POST", "/Provenance", made)).status_code == 403


async def test_rights_that_end_in_mid_request_count(hospital: Hospital) -> None:
    stale = await hospital.gatekeeper.access(NIA)
    assert (await hospital.call(AMARA, "PUT", "/CareTeam/t1", team("sam"))).status_code == 200
    hospital.stale.append(stale)
    refused = await hospital.call(NIA, "POST", "/Observation", score("x", "p1"))
    assert refused.status_code == 403
    assert hospital.stale == []

"""FHIR over HTTP, on a real database."""

import asyncio
import json
from collections.abc import AsyncIterator
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
from bonfire.web.fhir import fhir_routes
from bonfire_protocol.faults import Fault, FaultCode
from support.gatekeeper import Gatekeeper

BASE = "http://clinic.example/fhir"
TYPE = {"content-type": "application/fhir+json"}
PATIENT: dict[str, Any] = {"resourceType": "Patient", "name": [{"family": "Lovelace"}]}
PRACTITIONER: dict[str, Any] = {"resourceType": "Practitioner", "identifier": [{"system": "npi", "value": "1"}]}
MAX_BODY = 200_000


def application(database: Database, base_url: str | None = BASE) -> Starlette:
    ids = count(1)
    gatekeeper = Gatekeeper(database)

    async def admit(connection: HTTPConnection) -> Access:
        tenant = connection.headers.get("x-tenant")
        if tenant is None:
            raise Fault(FaultCode.unauthenticated, "no token")
        return await gatekeeper.access(Principal(tenant, "u", "User", roles=frozenset({"clinician"})))

    routes = fhir_routes(
        database,
        admit,
        Trail(database),
        lambda: datetime(2026, 1, 1, tzinfo=UTC),
        new_id=lambda: f"new-{next(ids)}",
        random=Random(0),
        base_url=base_url,
        max_body=MAX_BODY,
    )
    return Starlette(routes=routes)


def client_of(app: Starlette, tenant: str) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=True)
    return httpx.AsyncClient(transport=transport, base_url=BASE, headers={"x-tenant": tenant})


@pytest.fixture
async def app(database: Database) -> Starlette:
    return application(database)


@pytest.fixture
async def client(app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app, "north") as connected:
        yield connected


async def post(client: httpx.AsyncClient, path: str, value: Any, **headers: str) -> httpx.Response:
    return await send(client, "POST", path, value, **headers)


async def put(client: httpx.AsyncClient, path: str, value: Any, **headers: str) -> httpx.Response:
    return await send(client, "PUT", path, value, **headers)


async def send(client: httpx.AsyncClient, method: str, path: str, value: Any, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return await client.request(method, path, content=json.dumps(value), headers={**TYPE, **named})


def issues(response: httpx.Response) -> list[tuple[str, str]]:
    outcome = response.json()
    assert outcome["resourceType"] == "OperationOutcome", outcome
    assert check(outcome) == []
    return [(issue["code"], *issue.get("expression", [""])) for issue in outcome["issue"]]


def bundle(kind: str, *entries: tuple[str, str, Any]) -> dict[str, Any]:
    spelled = []
    for method, url, resource in entries:
        entry: dict[str, Any] = {"request": {"method": method, "url": url}}
        if resource is not None:
            entry |= {"resource": resource, "fullUrl": f"urn:uuid:{resource.get('id', 'none')}"}
        spelled.append(entry)
    return {"resourceType": "Bundle", "type": kind, "entry": spelled}


async def test_create_and_read_back(client: httpx.AsyncClient) -> None:
    made = await post(client, "/Patient", PATIENT | {"id": "ignored"})
    assert made.status_code == 201
    assert made.headers["content-type"] == "application/fhir+json; charset=utf-8"
    version = made.json()["meta"]["versionId"]
    assert made.headers["location"] == f"{BASE}/Patient/new-1/_history/{version}"
    read = await client.get("/Patient/new-1")
    assert read.status_code == 200
    assert read.headers["etag"] == f'W/"{version}"' == made.headers["etag"]
    assert read.headers["last-modified"].endswith("GMT")
    assert read.json() == made.json()
    assert read.json()["name"] == PATIENT["name"]


async def test_numbers_come_back_as_they_went_in(client: httpx.AsyncClient) -> None:
    text = (
        '{"resourceType":"Observation","status":"final","code":{"text":"x"},"valueQuantity":{"value":235.40},'
        '"issued":"2015-02-07T13:28:17.239+00:00"}'
    )
    made = await client.post("/Observation", content=text, headers=TYPE)
    assert '"value": 235.40' in made.text
    assert "13:28:17.239+00:00" in (await client.get(made.headers["location"])).text
    pretty = await client.get("/Observation/new-1?_pretty=true")
    assert '\n  "' in pretty.text
    assert "235.40" in pretty.text


async def test_update_keeps_every_version(client: httpx.AsyncClient) -> None:
    first = await put(client, "/Patient/p", PATIENT | {"id": "p"})
    assert first.status_code == 201
    second = await put(client, "/Patient/p", PATIENT | {"id": "p", "active": True}, If_Match=first.headers["etag"])
    assert second.status_code == 200
    stale = await put(client, "/Patient/p", PATIENT | {"id": "p"}, If_Match=first.headers["etag"])
    assert (stale.status_code, issues(stale)) == (412, [("conflict", "")])
    old = await client.get(first.headers["location"])
    assert (old.status_code, old.headers["etag"]) == (200, first.headers["etag"])
    assert "active" not in old.json()
    assert (await client.get(f"/Patient/p/_history/{10**17}")).status_code == 404
    assert (await client.get("/Patient/p/_history/x")).status_code == 404


async def test_delete_and_recreate(client: httpx.AsyncClient) -> None:
    await put(client, "/Patient/p", PATIENT | {"id": "p"})
    gone = await client.delete("/Patient/p")
    assert (gone.status_code, gone.content) == (204, b"")
    read = await client.get("/Patient/p")
    assert (read.status_code, issues(read)) == (410, [("deleted", "")])
    tombstone = gone.headers["etag"].strip('W/"')
    assert (await client.get(f"/Patient/p/_history/{tombstone}")).status_code == 410
    assert (await client.delete("/Patient/p")).status_code == 204
    assert (await client.delete("/Patient/never")).status_code == 204
    assert (await client.delete("/Patient/p", headers={"If-Match": 'W/"999999"'})).status_code == 410
    assert (await put(client, "/Patient/p", PATIENT | {"id": "p"})).status_code == 201
    assert (await client.get("/Patient/p")).status_code == 200
    assert (await client.get("/Patient/never")).status_code == 404


async def test_a_delete_may_expect_a_version(client: httpx.AsyncClient) -> None:
    made = await put(client, "/Patient/p", PATIENT | {"id": "p"})
    assert (await client.delete("/Patient/p", headers={"If-Match": 'W/"999999"'})).status_code == 412
    assert (await client.delete("/Patient/p", headers={"If-Match": made.headers["etag"]})).status_code == 204


async def test_an_update_of_nothing_with_a_version_creates_nothing(client: httpx.AsyncClient) -> None:
    assert (await put(client, "/Patient/p", PATIENT | {"id": "p"}, If_Match='W/"999999"')).status_code == 404
    assert (await client.get("/Patient/p")).status_code == 404


async def test_conditional_reads(client: httpx.AsyncClient) -> None:
    made = await put(client, "/Patient/p", PATIENT | {"id": "p"})
    same = await client.get("/Patient/p", headers={"If-None-Match": made.headers["etag"]})
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", made.headers["etag"])
    unchanged = await client.get("/Patient/p", headers={"If-Modified-Since": made.headers["last-modified"]})
    assert unchanged.status_code == 304
    for headers in (
        {"If-None-Match": 'W/"999999"'},
        {"If-Modified-Since": "Tue, 01 Jan 2019 00:00:00 GMT"},
        {"If-Modified-Since": "nonsense"},
    ):
        assert (await client.get("/Patient/p", headers=headers)).status_code == 200


async def test_preferences(client: httpx.AsyncClient) -> None:
    minimal = await post(client, "/Patient", PATIENT, Prefer="return=minimal")
    assert (minimal.status_code, minimal.content) == (201, b"")
    assert minimal.headers["location"]
    outcome = await post(client, "/Patient", PATIENT, Prefer="handling=strict; return=OperationOutcome")
    assert issues(outcome) == [("informational", "")]
    whole = await post(client, "/Patient", PATIENT, Prefer="return=representation")
    assert whole.json()["name"] == PATIENT["name"]


async def test_history(client: httpx.AsyncClient) -> None:
    for active in (True, False):
        await put(client, "/Patient/p", PATIENT | {"id": "p", "active": active})
    await client.delete("/Patient/p")
    await put(client, "/Patient/p", PATIENT | {"id": "p"})
    found = (await client.get("/Patient/p/_history")).json()
    assert check(found) == []
    assert (found["type"], found["total"]) == ("history", 4)
    assert [entry["request"]["method"] for entry in found["entry"]] == ["PUT", "DELETE", "PUT", "POST"]
    assert [entry["response"]["status"] for entry in found["entry"]] == [
        "201 Created",
        "204 No Content",
        "200 OK",
        "201 Created",
    ]
    assert ["resource" in entry for entry in found["entry"]] == [True, False, True, True]
    assert {entry["fullUrl"] for entry in found["entry"]} == {f"{BASE}/Patient/p"}
    assert all(entry["response"]["etag"].startswith("W/") for entry in found["entry"])
    missing = await client.get("/Patient/never/_history")
    assert missing.status_code == 404


async def test_history_in_pages(client: httpx.AsyncClient) -> None:
    for _ in range(5):
        await put(client, "/Patient/p", PATIENT | {"id": "p"})
    url = f"{BASE}/Patient/p/_history?_count=2"
    versions: list[str] = []
    sizes: list[int] = []
    while url:
        page = (await client.get(url)).json()
        assert page["total"] == 5
        versions += [entry["resource"]["meta"]["versionId"] for entry in page["entry"]]
        sizes.append(len(page["entry"]))
        url = next((link["url"] for link in page["link"] if link["relation"] == "next"), "")
    assert sizes == [2, 2, 1]
    assert versions == sorted(set(versions), key=int, reverse=True)
    nothing = (await client.get("/Patient/p/_history?_count=0")).json()
    assert (nothing["total"], "entry" in nothing) == (5, False)


async def test_history_by_time(client: httpx.AsyncClient) -> None:
    first = (await put(client, "/Patient/p", PATIENT | {"id": "p"})).json()["meta"]
    second = (await put(client, "/Patient/p", PATIENT | {"id": "p"})).json()["meta"]
    await client.delete("/Patient/p")

    async def versions(query: dict[str, str]) -> list[str]:
        found = (await client.get("/Patient/p/_history", params=query)).json()
        assert found["total"] == len(found.get("entry", []))
        return [entry.get("resource", {"meta": {"versionId": "gone"}})["meta"]["versionId"] for entry in found["entry"]]

    assert await versions({"_since": second["lastUpdated"]}) == ["gone", second["versionId"]]
    assert await versions({"_at": first["lastUpdated"]}) == [first["versionId"]]
    assert await versions({"_at": first["lastUpdated"][:4]}) == [second["versionId"], first["versionId"]]
    early = (await client.get("/Patient/p/_history?_at=2001")).json()
    assert (early["total"], "entry" in early) == (0, False)
    for query in ("_at=yesterday", "_since=1", "_count=-1", "_sort=x", "_since=0001-01-01T00:00:00%2B14:00"):
        assert (await client.get(f"/Patient/p/_history?{query}")).status_code == 400


async def test_search_by_id_and_identifier(client: httpx.AsyncClient) -> None:
    for id_ in ("a", "b"):
        await put(client, f"/Practitioner/{id_}", PRACTITIONER | {"id": id_})
    found = (await client.get("/Practitioner?identifier=npi|1&_id=b,c")).json()
    assert check(found) == []
    assert (found["type"], found["total"]) == ("searchset", 1)
    assert found["entry"][0]["fullUrl"] == f"{BASE}/Practitioner/b"
    assert found["entry"][0]["search"] == {"mode": "match"}
    assert (await client.get("/Practitioner?identifier=1")).json()["total"] == 2
    assert (await client.get("/Practitioner?identifier=|1")).json()["total"] == 0
    for query in ("", "?name=x", "?identifier=npi|1&name=x", "?_count=3"):
        refused = await client.get(f"/Practitioner{query}")
        assert (refused.status_code, issues(refused)) == (400, [("not-supported", "")])


async def test_conditional_create(client: httpx.AsyncClient) -> None:
    condition = "identifier=npi|1"
    made = await post(client, "/Practitioner", PRACTITIONER, If_None_Exist=condition)
    again = await post(client, "/Practitioner", PRACTITIONER, If_None_Exist=condition)
    assert (made.status_code, again.status_code) == (201, 200)
    assert again.headers["location"] == made.headers["location"]
    await post(client, "/Practitioner", PRACTITIONER)
    several = await post(client, "/Practitioner", PRACTITIONER, If_None_Exist=condition)
    assert (several.status_code, issues(several)) == (412, [("multiple-matches", "")])


async def test_conditional_creates_at_the_same_moment_make_one(client: httpx.AsyncClient) -> None:
    made = await asyncio.gather(
        *(post(client, "/Practitioner", PRACTITIONER, If_None_Exist="identifier=npi|1") for _ in range(8))
    )
    assert sorted(response.status_code for response in made) == [200] * 7 + [201]
    assert len({response.json()["id"] for response in made}) == 1


async def test_puts_at_the_same_moment_make_one_and_update_it(client: httpx.AsyncClient) -> None:
    made = await asyncio.gather(*(put(client, "/Patient/p", PATIENT | {"id": "p"}) for _ in range(8)))
    assert sorted(response.status_code for response in made) == [200] * 7 + [201]
    assert (await client.get("/Patient/p/_history")).json()["total"] == 8


@pytest.mark.parametrize(
    ("method", "path", "value", "status", "found"),
    [
        ("POST", "/Patient", {"resourceType": "Observation"}, 400, ("invalid", "Observation")),
        ("POST", "/Patient", PATIENT | {"active": "yes"}, 400, ("structure", "Patient.active")),
        ("POST", "/Nobody", PATIENT, 404, ("not-supported", "")),
        ("POST", "/Patient", [], 400, ("structure", "")),
        ("PUT", "/Patient/p", PATIENT, 400, ("invalid", "Patient.id")),
        ("PUT", "/Patient/p", PATIENT | {"id": "q"}, 400, ("invalid", "Patient.id")),
        ("PUT", "/Patient/a b", PATIENT | {"id": "a b"}, 400, ("value", "")),
        ("PATCH", "/Patient/p", [], 405, ("not-supported", "")),
        ("POST", "/Patient/_search", {}, 501, ("not-supported", "")),
        ("POST", "/Patient/p/$everything", {}, 404, ("not-found", "")),
        ("GET", "/Patient/$everything", None, 501, ("not-supported", "")),
        ("GET", "/_history", None, 501, ("not-supported", "")),
        ("GET", "/Patient/_history", None, 501, ("not-supported", "")),
        ("GET", "/Patient/a%20b", None, 404, ("not-found", "")),
        ("GET", "/Nobody/1", None, 404, ("not-supported", "")),
        ("GET", "/Patient/1/2/3/4/5", None, 404, ("not-found", "")),
        ("DELETE", "/Patient", None, 405, ("not-supported", "")),
        ("POST", "", PATIENT, 400, ("invalid", "Patient")),
        ("POST", "", {"resourceType": "Bundle", "type": "collection"}, 400, ("value", "Bundle.type")),
    ],
)
async def test_refusals_are_operation_outcomes(
    client: httpx.AsyncClient, method: str, path: str, value: Any, status: int, found: tuple[str, str]
) -> None:
    response = await send(client, method, path, value)
    assert (response.status_code, issues(response)[0]) == (status, found)
    if status == 405:
        assert response.headers["allow"]


async def test_formats(client: httpx.AsyncClient) -> None:
    await put(client, "/Patient/p", PATIENT | {"id": "p"})
    for accept in ("application/fhir+json", "application/json;q=0.9", "text/html, */*;q=0.1", ""):
        assert (await client.get("/Patient/p", headers={"Accept": accept})).status_code == 200
    assert (await client.get("/Patient/p", headers={"Accept": "application/fhir+xml"})).status_code == 406
    xml = {"Accept": "application/fhir+xml"}
    assert (await client.get("/Patient/p?_format=application/fhir+json", headers=xml)).status_code == 200
    assert (await client.get("/Patient/p?_format=xml")).status_code == 406
    for content_type in (
        "application/x-www-form-urlencoded",
        "application/fhir+xml",
        "application/fhir+json; charset=latin-1",
        "application/fhir+json; fhirVersion=5.0",
    ):
        refused = await client.post("/Patient", content=json.dumps(PATIENT), headers={"content-type": content_type})
        assert (refused.status_code, issues(refused)) == (415, [("not-supported", "")])
    plain = {"content-type": "application/json; charset=UTF-8; fhirVersion=4.0"}
    assert (await client.post("/Patient", content=json.dumps(PATIENT), headers=plain)).status_code == 201


async def test_malformed_json_is_placed_but_not_quoted(client: httpx.AsyncClient) -> None:
    refused = await client.post("/Patient", content=b'{"resourceType":\n "Lovelace', headers=TYPE)
    assert (refused.status_code, issues(refused)) == (400, [("structure", "")])
    assert "line 2, column 2" in refused.text
    assert "Lovelace" not in refused.text


async def test_a_body_has_a_limit(client: httpx.AsyncClient) -> None:
    text = "x" * (MAX_BODY // 2)
    large = {"resourceType": "Basic", "code": {"text": text}}
    assert (await post(client, "/Basic", large)).status_code == 201
    refused = await post(client, "/Basic", large | {"language": text})
    assert (refused.status_code, issues(refused)) == (413, [("too-long", "")])


async def test_a_transaction_rewrites_what_refers_within_it(client: httpx.AsyncClient) -> None:
    encounter = {
        "resourceType": "Encounter",
        "id": "e",
        "status": "finished",
        "class": {"code": "AMB"},
        "subject": {"reference": "urn:uuid:p"},
        "participant": [{"individual": {"reference": "Practitioner?identifier=npi|1"}}],
    }
    made = await post(
        client,
        "",
        bundle(
            "transaction",
            ("GET", "Patient?_id=new-2", None),
            ("POST", "Encounter", encounter),
            ("POST", "Patient", PATIENT | {"id": "p"}),
            ("POST", "Practitioner", PRACTITIONER | {"id": "d"}),
        ),
    )
    assert made.status_code == 200
    answer = made.json()
    assert check(answer) == []
    assert answer["type"] == "transaction-response"
    assert [entry["response"]["status"] for entry in answer["entry"]] == ["200 OK"] + ["201 Created"] * 3
    assert answer["entry"][0]["resource"]["total"] == 1
    assert all("etag" in entry["response"] for entry in answer["entry"][1:])
    stored = (await client.get(f"/{answer['entry'][1]['response']['location']}")).json()
    patient, practitioner = (entry["fullUrl"].removeprefix(f"{BASE}/") for entry in answer["entry"][2:])
    assert stored["subject"]["reference"] == patient == "Patient/new-2"
    assert stored["participant"][0]["individual"]["reference"] == practitioner


async def test_a_transaction_that_fails_leaves_nothing(client: httpx.AsyncClient) -> None:
    await put(client, "/Patient/there", PATIENT | {"id": "there"})
    dangling = {"resourceType": "Basic", "id": "x", "code": {"text": "x"}, "subject": {"reference": "urn:uuid:nobody"}}
    refused = await post(
        client,
        "",
        bundle(
            "transaction",
            ("PUT", "Patient/p", PATIENT | {"id": "p"}),
            ("DELETE", "Patient/there", None),
            ("POST", "Basic", dangling),
        ),
    )
    assert refused.status_code == 400
    assert issues(refused) == [("not-found", "Bundle.entry[2].resource.subject.reference")]
    assert (await client.get("/Patient/p")).status_code == 404
    assert (await client.get("/Patient/there")).status_code == 200


@pytest.mark.parametrize(
    ("second", "status", "found"),
    [
        (("PUT", "Patient/q", PATIENT | {"id": "p"}), 400, ("invalid", "Bundle.entry[1].resource.id")),
        (("PUT", "Patient/p", PATIENT | {"id": "p"}), 400, ("duplicate", "Bundle.entry[1].fullUrl")),
        (("DELETE", "Patient/p", None), 400, ("duplicate", "Bundle.entry[1].request.url")),
        (("GET", "Patient/nobody", None), 404, ("not-found", "Bundle.entry[1]")),
        (("PATCH", "Patient/p", PATIENT), 400, ("not-supported", "Bundle.entry[1].request.url")),
        (("POST", "Patient", PATIENT | {"x": 1}), 400, ("structure", "Bundle.entry[1].resource.x")),
    ],
)
async def test_a_transaction_names_the_entry_that_is_wrong(
    client: httpx.AsyncClient, second: tuple[str, str, Any], status: int, found: tuple[str, str]
) -> None:
    refused = await post(client, "", bundle("transaction", ("PUT", "Patient/p", PATIENT | {"id": "p"}), second))
    assert (refused.status_code, issues(refused)[0]) == (status, found)
    assert (await client.get("/Patient/p")).status_code == 404


async def test_a_transaction_expects_versions(client: httpx.AsyncClient) -> None:
    made = await put(client, "/Patient/p", PATIENT | {"id": "p"})
    await put(client, "/Patient/q", PATIENT | {"id": "q"})
    asked = bundle("transaction", *(("PUT", f"Patient/{id_}", PATIENT | {"id": id_}) for id_ in ("p", "q", "r")))
    asked["entry"][0]["request"]["ifMatch"] = 'W/"999999"'
    refused = await post(client, "", asked)
    assert (refused.status_code, issues(refused)) == (412, [("conflict", "Bundle.entry[0]")])
    asked["entry"][0]["request"]["ifMatch"] = made.headers["etag"]
    answer = (await post(client, "", asked, Prefer="return=representation")).json()
    assert [entry["response"]["status"] for entry in answer["entry"]] == ["200 OK", "200 OK", "201 Created"]
    assert answer["entry"][2]["resource"]["id"] == "r"


async def test_a_conditional_create_in_a_transaction_is_what_the_others_refer_to(client: httpx.AsyncClient) -> None:
    await put(client, "/Practitioner/there", PRACTITIONER | {"id": "there"})
    role = {"resourceType": "PractitionerRole", "id": "r", "practitioner": {"reference": "urn:uuid:d"}}
    other = {"resourceType": "Practitioner", "id": "o", "identifier": [{"value": "2"}]}
    asked = bundle(
        "transaction",
        ("POST", "Practitioner", PRACTITIONER | {"id": "d"}),
        ("POST", "Practitioner", other),
        ("POST", "Practitioner", other | {"id": "again"}),
        ("POST", "PractitionerRole", role),
    )
    asked["entry"][0]["request"]["ifNoneExist"] = "identifier=npi|1"
    for entry in asked["entry"][1:3]:
        entry["request"]["ifNoneExist"] = "identifier=2"
    answer = (await post(client, "", asked, Prefer="return=representation")).json()
    assert [entry["response"]["status"] for entry in answer["entry"]] == [
        "200 OK",
        "201 Created",
        "200 OK",
        "201 Created",
    ]
    assert answer["entry"][1]["fullUrl"] == answer["entry"][2]["fullUrl"]
    assert answer["entry"][3]["resource"]["practitioner"]["reference"] == "Practitioner/there"


async def test_transactions_that_meet_are_all_done(client: httpx.AsyncClient) -> None:
    ids = [f"p{number}" for number in range(12)]

    def asked(order: list[str]) -> dict[str, Any]:
        entries = [("PUT", f"Patient/{id_}", PATIENT | {"id": id_}) for id_ in order]
        found = bundle("transaction", *entries, ("POST", "Practitioner", PRACTITIONER))
        found["entry"][-1]["request"]["ifNoneExist"] = "identifier=npi|1"
        return found

    orders = [ids, ids[::-1], ids[6:] + ids[:6]] * 3
    answers = await asyncio.gather(*(post(client, "", asked(order)) for order in orders))
    assert [answer.status_code for answer in answers] == [200] * 9
    assert (await client.get("/Practitioner?identifier=npi|1")).json()["total"] == 1
    for id_ in ids:
        assert (await client.get(f"/Patient/{id_}/_history")).json()["total"] == 9


async def test_a_batch_does_what_it_can(client: httpx.AsyncClient) -> None:
    answer = await post(
        client,
        "",
        bundle(
            "batch",
            ("GET", "Patient/p", None),
            ("PUT", "Patient/p", PATIENT | {"id": "p"}),
            ("POST", "Patient", PATIENT | {"x": 1}),
            ("GET", "Patient/nobody", None),
            ("DELETE", "Patient/nobody", None),
        ),
    )
    assert answer.status_code == 200
    found = answer.json()
    assert check(found) == []
    assert [entry["response"]["status"][:3] for entry in found["entry"]] == ["200", "201", "400", "404", "204"]
    assert found["entry"][0]["resource"]["id"] == "p"
    assert found["entry"][2]["response"]["outcome"]["issue"][0]["expression"] == ["Bundle.entry[2].resource.x"]


async def test_tenants_never_meet(app: Starlette, client: httpx.AsyncClient) -> None:
    async with client_of(app, "south") as south:
        made = await put(client, "/Practitioner/d", PRACTITIONER | {"id": "d"})
        assert (await south.get("/Practitioner/d")).status_code == 404
        assert (await south.get(made.headers["location"])).status_code == 404
        assert (await south.get("/Practitioner/d/_history")).status_code == 404
        assert (await south.get("/Practitioner?identifier=npi|1")).json()["total"] == 0
        assert (await south.delete("/Practitioner/d")).status_code == 204
        foreign = {"resourceType": "Basic", "id": "b", "code": {"text": "x"}}
        foreign["subject"] = {"reference": "Practitioner?identifier=npi|1"}
        refused = await post(south, "", bundle("transaction", ("POST", "Basic", foreign)))
        assert issues(refused) == [("not-found", "Bundle.entry[0].resource.subject.reference")]
        own = await post(south, "/Practitioner", PRACTITIONER, If_None_Exist="identifier=npi|1")
        assert own.status_code == 201
        assert (await put(south, "/Practitioner/d", PRACTITIONER | {"id": "d", "active": False})).status_code == 201
        assert (await south.get("/Practitioner/d/_history")).json()["total"] == 1
    assert (await client.get("/Practitioner/d")).json() == made.json()


async def test_strangers_are_refused(app: Starlette) -> None:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url=BASE) as stranger:
        for method, path in (("GET", "/Patient/p"), ("POST", ""), ("GET", "/Nobody"), ("PUT", "/Patient/p")):
            refused = await stranger.request(method, path)
            assert (refused.status_code, issues(refused)) == (401, [("login", "")])
            assert refused.headers["www-authenticate"] == "Bearer"
        assert (await stranger.get("/metadata")).status_code == 200


async def test_the_capability_statement_is_valid_and_true(client: httpx.AsyncClient) -> None:
    statement = (await client.get("/metadata")).json()
    assert check(statement, "CapabilityStatement") == []
    assert statement["fhirVersion"] == "4.0.1"
    [rest] = statement["rest"]
    assert len(rest["resource"]) == 146
    assert {each["code"] for each in rest["interaction"]} == {"transaction", "batch"}
    # What is stated per type was there in the tests above; here, that it is there for each type.
    for each in rest["resource"]:
        type_ = each["type"]
        # A clinician may see no AuditEvent, whether or not there is one.
        expected = 403 if type_ == "AuditEvent" else 404
        assert (await client.get(f"/{type_}/nobody")).status_code == expected
        for parameter in each["searchParam"] if expected == 404 else ():
            assert (await client.get(f"/{type_}?{parameter['name']}=x")).json()["total"] == 0


async def test_without_a_public_url_a_client_is_answered_under_the_name_that_it_used(database: Database) -> None:
    async with client_of(application(database, None), "north") as client:
        made = await post(client, "/Patient", PATIENT, Host="chart.example:8000")
        assert made.headers["location"].startswith("http://chart.example:8000/fhir/Patient/new-1/_history/")
        for no_host in ("[", "a]b", "x@y"):
            assert (await client.get("/Patient/new-1", headers={"Host": no_host})).status_code == 200


@pytest.mark.parametrize("url", ["//[", "http://[x/Patient", "?", "", "Patient/p/_history", "Patient/../p"])
async def test_a_bundle_may_name_any_nonsense(client: httpx.AsyncClient, url: str) -> None:
    answer = await post(client, "", bundle("batch", ("GET", url or "/", None)))
    assert [entry["response"]["status"] for entry in answer.json()["entry"]] == ["400 Bad Request"]

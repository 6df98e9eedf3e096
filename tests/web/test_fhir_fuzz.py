"""Whatever arrives at the FHIR surface, the answer is an answer: never a 500, and never a resource that is not R4.

The read models are installed, because their triggers see every value that is let in; at the end they must be true.
"""

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import UTC, datetime
from random import Random
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import HTTPConnection

from bonfire.access.activation import activate_as_operator
from bonfire.access.audit import Trail
from bonfire.access.gate import Access
from bonfire.access.principal import Principal
from bonfire.clinical.builtin import builtin_registry
from bonfire.fhir.codec import decode
from bonfire.fhir.definitions.structure import ANY_RESOURCE, Property, resource_structures, structures
from bonfire.fhir.outcome import Refusal
from bonfire.fhir.validate import check
from bonfire.store.pool import Database
from bonfire.store.reach import EVERYTHING
from bonfire.store.readmodels import check as differences
from bonfire.store.readmodels import install
from bonfire.web.fhir import fhir_routes
from support.gatekeeper import Gatekeeper

POLICIES = """
@id("all") permit (principal, action, resource);
@id("but") forbid (principal, action, resource is Record) when { resource.labels.contains("unheard-of") };
"""
TYPE = {"content-type": "application/fhir+json"}

fuzz = settings(
    max_examples=120,
    deadline=None,
    derandomize=True,
    # One database for all examples of a test: they are meant to meet what the others left.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
strings = st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=20) | st.sampled_from(
    ["x" * 5000, "🩺", "Patient/1", "Patient/" + "y" * 4000, "urn:uuid:a", "#a", "http://x/Patient/2/_history/3"]
)
uris = st.sampled_from(["http://loinc.org", "urn:uuid:a", "x", "y" * 4000, "Patient/1"])
good: Mapping[str, st.SearchStrategy[Any]] = {
    "base64Binary": st.sampled_from(["QUJD", "QUI="]),
    "boolean": st.booleans(),
    "canonical": uris,
    "code": st.sampled_from(["final", "x", "completed", "active", "male", "44261-6"]),
    "date": st.sampled_from(["2020", "2020-02", "2020-02-29", "0001-01-01", "9999-12-31"]),
    "dateTime": st.sampled_from(
        ["2020", "9999-12-31T23:59:60.999999999999-14:00", "0001-01-01T00:00:00+14:00", "2016-12-31T23:59:60Z"]
    ),
    "decimal": st.sampled_from([0, -1, 10**30, 1e300, 1e-300]) | st.floats(allow_nan=False, allow_infinity=False),
    "id": st.sampled_from(["a", "x" * 64]),
    "instant": st.sampled_from(["2020-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:60.9Z"]),
    "integer": st.sampled_from([0, -(2**31), 2**31 - 1]),
    "markdown": strings,
    "oid": st.just("urn:oid:1.2"),
    "positiveInt": st.sampled_from([1, 2**31 - 1]),
    "string": strings,
    "time": st.sampled_from(["10:00:00", "23:59:60"]),
    "unsignedInt": st.sampled_from([0, 2**31 - 1]),
    "uri": uris,
    "url": uris,
    "uuid": st.just("urn:uuid:c757873d-ec9a-4326-a141-556f43239520"),
    "xhtml": st.just('<div xmlns="http://www.w3.org/1999/xhtml"><a href="urn:uuid:a">x</a></div>'),
}


@st.composite
def resources(draw: st.DrawFn, names: tuple[str, ...] = tuple(sorted(resource_structures()))) -> dict[str, Any]:
    """A valid resource, and every third time one with something else in one place."""
    name = draw(st.sampled_from(names))
    resource = {"resourceType": name, "id": draw(st.sampled_from(["a", "b", "c"])), **draw(elements(name, 3))}
    if draw(st.sampled_from([False, False, True])):
        owner, key = draw(st.sampled_from(list(places(resource))))
        owner[key] = draw(anything | st.sampled_from(["\x00", "\ud800", "", 10**2000, "1e400"]))
    return resource


@st.composite
def elements(draw: st.DrawFn, name: str, depth: int) -> dict[str, Any]:
    structure = structures()[name]
    chosen = {each.element: draw(st.sampled_from(sorted(each.properties))) for each in structure.required}
    if depth:
        others = [each for each in structure.properties.values() if each.type not in (ANY_RESOURCE, "Meta")]
        for each in draw(st.lists(st.sampled_from(others), max_size=4)):
            if each.element != "id":
                chosen.setdefault(each.element, each.name)
    if not chosen:
        return {"id": "x"}
    return {each: draw(one(structure.properties[each], depth)) for each in chosen.values()}


def one(found: Property, depth: int) -> st.SearchStrategy[Any]:
    if found.codes is not None:
        value: st.SearchStrategy[Any] = st.sampled_from(sorted(found.codes))
    elif found.primitive:
        value = good[found.type]
    elif found.type == ANY_RESOURCE:
        value = st.just({"resourceType": "Basic", "code": {"text": "x"}})
    else:
        value = elements(found.type, max(depth - 1, 0))
    return value.map(lambda each: [each]) if found.repeated else value


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, dict | list):
        for key, child in value.items() if isinstance(value, dict) else enumerate(value):
            if key not in ("resourceType", "id"):
                yield value, key
                yield from places(child)
    if isinstance(value, dict):
        yield value, "surprise"


@pytest.fixture
async def client(database: Database) -> AsyncIterator[httpx.AsyncClient]:
    models = builtin_registry().models
    async with database.owner() as conn:
        await install(conn, models)
    async with database.transaction("north", reach=EVERYTHING) as conn:
        await activate_as_operator(conn, POLICIES, "fuzz", "all but a label, so that each record is looked at")
    random = Random(0)
    gatekeeper = Gatekeeper(database)
    trail = Trail(database)

    async def admit(connection: HTTPConnection) -> Access:
        return await gatekeeper.access(Principal("north", "u", "User"))

    routes = fhir_routes(
        database,
        admit,
        trail,
        lambda: datetime(2026, 1, 1, tzinfo=UTC),
        new_id=lambda: f"{random.getrandbits(64):x}",
        random=random,
        max_body=100_000,
    )
    transport = httpx.ASGITransport(Starlette(routes=routes))
    async with httpx.AsyncClient(transport=transport, base_url="http://x/fhir") as connected:
        yield connected
    await trail.close()
    async with database.owner() as conn:
        assert await differences(conn, models) == []


def spell(value: Any) -> bytes:
    """JSON, with what JSON has no spelling for left to the server: NaN, lone surrogates."""
    return json.dumps(value).encode()


def answered(response: httpx.Response) -> None:
    """An answer: a resource that is R4, or an OperationOutcome, or nothing."""
    assert response.status_code < 500 or response.status_code == 501, response.text
    if response.content:
        assert check(decode(response.content)) == []
    else:
        assert response.status_code < 400 or response.request.method == "HEAD"


@fuzz
@given(st.binary(max_size=200) | anything.map(spell), st.sampled_from(["/Patient", "/Bundle", ""]))
async def test_any_body(client: httpx.AsyncClient, body: bytes, path: str) -> None:
    answered(await client.post(path, content=body, headers=TYPE))


@fuzz
@given(resources())
async def test_any_resource(client: httpx.AsyncClient, resource: dict[str, Any]) -> None:
    path = f"/{resource['resourceType']}/{resource['id']}"
    response = await client.put(path, content=spell(resource), headers=TYPE)
    answered(response)
    try:
        valid = check(decode(spell(resource))) == []
    except Refusal:
        valid = False
    assert (response.status_code in (200, 201)) == valid, response.text


CHARTED = (
    "Patient",
    "Encounter",
    "DocumentReference",
    "Observation",
    "Condition",
    "MedicationRequest",
    "MedicationStatement",
    "Procedure",
    "Immunization",
    "Media",
    "QuestionnaireResponse",
)


@fuzz
@given(resources(CHARTED))
async def test_any_resource_that_read_models_show(client: httpx.AsyncClient, resource: dict[str, Any]) -> None:
    path = f"/{resource['resourceType']}/{resource['id']}"
    answered(await client.put(path, content=spell(resource), headers=TYPE))


urls = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=30) | st.sampled_from(
    [
        "Patient",
        "Patient/a",
        "Patient?identifier=a|b",
        "Patient?_id=a",
        "Patient/a/_history/1",
        "Observation/b",
        "/",
        "//x",
    ]
)
methods = st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "PATCH"])


@st.composite
def entries(draw: st.DrawFn) -> dict[str, Any]:
    resource = draw(st.none() | resources(("Patient", "Observation", "Basic", "Practitioner")))
    method = draw(methods)
    own = {"POST": "{resourceType}", "PUT": "{resourceType}/{id}", "DELETE": "{resourceType}/{id}"}.get(method)
    url = own.format(**resource) if own and resource and draw(st.booleans()) else draw(urls)
    entry: dict[str, Any] = {"request": {"method": method, "url": url}}
    if resource:
        entry["resource"] = resource
    for name, strategy in {"ifNoneExist": urls, "ifMatch": st.sampled_from(['W/"1"', "x"])}.items():
        if draw(st.integers(0, 5)) == 0:
            entry["request"][name] = draw(strategy)
    if draw(st.booleans()):
        entry["fullUrl"] = draw(st.sampled_from(["urn:uuid:a", "urn:uuid:b", "http://x/Patient/a", "x"]))
    return entry


@fuzz
@given(st.sampled_from(["batch", "transaction"]), st.lists(entries(), max_size=4))
async def test_any_bundle(client: httpx.AsyncClient, kind: str, given_entries: list[dict[str, Any]]) -> None:
    bundle = {"resourceType": "Bundle", "type": kind} | ({"entry": given_entries} if given_entries else {})
    answered(await client.post("", content=spell(bundle), headers=TYPE))


dates = st.just("Tue, 01 Jan 2019 00:00:00 GMT")
headers = st.dictionaries(
    st.sampled_from(
        ["if-match", "if-none-match", "if-none-exist", "if-modified-since", "prefer", "accept", "content-type"]
    ),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)
    | st.sampled_from(['W/"1"', "*", "return=minimal", "identifier=a|b", "application/fhir+json"])
    | dates,
    max_size=3,
)
# The router itself answers for a path with a line break, in plain text.
segments = st.text(st.characters(exclude_characters="\n"), max_size=8) | st.sampled_from(
    ["Patient", "Observation", "a", "_history", "1", "metadata", "$x", "_search", "\x00", "é"]
)
parameters = st.dictionaries(
    st.sampled_from(["_id", "identifier", "_count", "_since", "_at", "_before", "_format", "_pretty", "x"]),
    st.text(max_size=40) | strings | st.sampled_from(["1", "a,b", "s|1", "2020", "json", "true"]),
    max_size=3,
)


@fuzz
@given(methods, st.lists(segments, max_size=5), parameters, headers)
async def test_any_request(
    client: httpx.AsyncClient, method: str, path: list[str], query: dict[str, str], sent: dict[str, str]
) -> None:
    steps = "/".join(map(_quoted, path))
    pairs = "&".join(f"{name}={_quoted(value)}" for name, value in query.items())
    response = await client.request(
        method, f"http://x/fhir/{steps}?{pairs}", headers=sent, content=b'{"resourceType":"Patient"}'
    )
    answered(response)


def _quoted(text: str) -> str:
    return quote(text.encode(errors="surrogatepass"), safe="")

"""The edge of HTTP: what each answer says of itself, which pages may write, who is known, and how much is taken."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from bonfire.access.claims import Rules
from bonfire.access.identity import Identifier, Provider
from bonfire.access.keys import FRESH_SECONDS, MINIMUM_INTERVAL, HttpFetch, KeySet
from bonfire.access.limiter import BURST_SECONDS, Limiter
from bonfire.access.minting import mint
from bonfire.access.origins import Origins, Proxies
from bonfire.web.faults import guarded
from bonfire.web.security import address_of, bearer_of, edge, identity_of
from support.issuer import issuing, jwk, signed

KEY = "a key of the operator of some forty characters"
NOW = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)
PORTAL = "https://portal.example"


def token(user: str = "ada", tenant: str = "north") -> str:
    return mint(KEY, tenant=tenant, user=user, name=user, now=NOW, roles=["clinician"])


def bearer(user: str = "ada", tenant: str = "north") -> dict[str, str]:
    return {"Authorization": f"Bearer {token(user, tenant)}"}


async def _who(request: Request) -> Response:
    who = identity_of(request.scope)
    body = await request.body()
    told = {"user": who.user, "tenant": who.tenant, "address": address_of(request.scope), "bytes": len(body)}
    return JSONResponse({**told, "scheme": request.url.scheme})


async def _kept(request: Request) -> Response:
    return PlainTextResponse("", headers={"Cache-Control": "no-cache", "Content-Security-Policy": "default-src 'self'"})


async def _public(request: Request) -> Response:
    return PlainTextResponse("for everybody")


@asynccontextmanager
async def edged(
    *,
    clock: Callable[[], float] = lambda: 0.0,
    development: bool = False,
    caller_rate: float = 0,
    tenant_rate: float = 0,
    failures: float = 0,
    hsts: int = 0,
    peer: str = "192.0.2.1",
    identifier: Identifier | None = None,
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a small app behind the edge, which connects from `peer`."""
    made = (lambda: None) if development else None
    app = Starlette(
        routes=[
            Route("/fhir/who", guarded(_who), methods=["GET", "POST", "DELETE"]),
            Route("/fhir/kept", _kept),
            Route("/fhir/metadata", _public),
            Route("/fhirly", _public),
        ],
        middleware=edge(
            api=("/fhir",),
            identifier=identifier or Identifier(lambda: NOW, shared_keys=[KEY], development_key=made),
            limiter=Limiter(clock, caller_rate=caller_rate, tenant_rate=tenant_rate, failures_per_minute=failures),
            origins=Origins(frozenset({PORTAL}), development=development),
            proxies=Proxies([ip_network("10.0.0.0/8")]),
            hsts_seconds=hsts,
        ),
    )
    transport = httpx.ASGITransport(app, client=(peer, 4711))
    async with httpx.AsyncClient(transport=transport, base_url="http://clinic.example") as client:
        yield client


# ---- headers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/fhir/who", "/fhir/metadata", "/fhirly", "/nowhere", "/fhir/nowhere"])
async def test_every_answer_says_that_it_loads_nothing_and_is_framed_by_nobody(path: str) -> None:
    async with edged() as client:
        answer = await client.get(path, headers=bearer())
    assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert "geolocation=()" in answer.headers["permissions-policy"]
    assert "strict-transport-security" not in answer.headers
    assert answer.headers.get("cache-control") == ("no-store" if path.startswith("/fhir/") else None)


async def test_what_an_answer_says_itself_goes_first() -> None:
    async with edged() as client:
        answer = await client.get("/fhir/kept", headers=bearer())
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["content-security-policy"] == "default-src 'self'"


async def test_behind_tls_browsers_are_told_to_stay_there() -> None:
    async with edged(hsts=3600) as client:
        assert (await client.get("/fhirly")).headers["strict-transport-security"] == "max-age=3600"


# ---- origins ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["POST", "DELETE"])
@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://clinic.example.evil.example"])
async def test_a_foreign_page_does_not_write_even_with_a_token(method: str, origin: str) -> None:
    async with edged() as client:
        answer = await client.request(method, "/fhir/who", headers={**bearer(), "Origin": origin})
    assert answer.status_code == 403
    assert answer.json()["issue"][0]["code"] == "forbidden"
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("origin", [None, "http://clinic.example", PORTAL])
async def test_our_own_pages_and_programs_write(origin: str | None) -> None:
    async with edged() as client:
        headers = bearer() | ({"Origin": origin} if origin else {})
        assert (await client.post("/fhir/who", headers=headers, content=b"{}")).status_code == 200


async def test_a_page_that_the_operator_names_may_ask_and_read() -> None:
    async with edged() as client:
        asked = {"Origin": PORTAL, "Access-Control-Request-Method": "PUT"}
        wanted = {**asked, "Access-Control-Request-Headers": "authorization,content-type,if-match,prefer"}
        preflight = await client.options("/fhir/who", headers=wanted)
        answer = await client.get("/fhir/who", headers={**bearer(), "Origin": PORTAL})
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == PORTAL
    assert "PUT" in preflight.headers["access-control-allow-methods"]
    assert answer.headers["access-control-allow-origin"] == PORTAL
    assert "ETag" in answer.headers["access-control-expose-headers"]
    assert "access-control-allow-credentials" not in answer.headers
    assert "Origin" in answer.headers["vary"]


async def test_another_page_may_not_even_ask() -> None:
    async with edged() as client:
        asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "PUT"}
        preflight = await client.options("/fhir/who", headers=asked)
        answer = await client.get("/fhir/who", headers={**bearer(), "Origin": "https://evil.example"})
    assert preflight.status_code == 400
    for one in (preflight, answer):
        assert "access-control-allow-origin" not in one.headers


async def test_development_is_not_reached_by_a_name_that_was_made_to_point_here() -> None:
    async with edged(development=True) as client:
        assert (await client.get("/fhir/who", headers={"Host": "evil.example:8000"})).status_code == 403
        welcome = await client.get("/fhir/who", headers={"Host": "localhost:8000"})
    assert welcome.json()["user"] == "demo"


# ---- who --------------------------------------------------------------------------------------------------------


async def test_a_caller_is_told_by_the_token() -> None:
    async with edged() as client:
        answer = await client.get("/fhir/who", headers={"authorization": f"bearer  {token()}"})
        other = await client.get("/fhir/who", headers={**bearer(), "X-Bonfire-Tenant": "south"})
    assert (answer.json()["user"], answer.json()["tenant"]) == ("ada", "north")
    assert other.status_code == 403


@pytest.mark.parametrize("sent", [{}, {"Authorization": "Bearer"}, {"Authorization": "Basic YTpi"}])
async def test_who_is_not_known_is_refused_by_the_route_and_may_read_what_is_for_everybody(
    sent: dict[str, str],
) -> None:
    async with edged() as client:
        refused = await client.get("/fhir/who", headers=sent)
        public = await client.get("/fhir/metadata", headers=sent)
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"] == "Bearer"
    assert public.text == "for everybody"


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("Bearer abc", "abc"),
        ("BEARER abc ", "abc"),
        ("Bearer", None),
        ("Bearer ", None),
        ("abc", None),
        ("Basic abc", None),
        ("", None),
        (None, None),
    ],
)
def test_a_bearer_token_is_read_from_its_header(header: str | None, found: str | None) -> None:
    assert bearer_of(header) == found


@pytest.mark.parametrize(
    ("peer", "address", "scheme"), [("192.0.2.1", "192.0.2.1", "http"), ("10.0.0.1", "198.51.100.7", "https")]
)
async def test_proxies_that_are_trusted_say_who_is_behind_them(peer: str, address: str, scheme: str) -> None:
    async with edged(peer=peer) as client:
        said = {"X-Forwarded-For": "1.1.1.1, 198.51.100.7", "X-Forwarded-Proto": "https"}
        told = (await client.get("/fhir/who", headers={**bearer(), **said})).json()
    assert (told["address"], told["scheme"]) == (address, scheme)


async def test_the_providers_callers_are_known_as_it_rotates_its_keys() -> None:
    now = 0.0
    fetch = HttpFetch()
    async with issuing() as issuer:
        keys = KeySet(issuer.url, None, fetch, lambda: now)
        identifier = Identifier(lambda: NOW, provider=Provider(Rules(issuer.url, "bonfire"), keys))
        claims: dict[str, Any] = {"iss": issuer.url, "aud": "bonfire", "sub": "ada", "tenant": "north"}
        claims |= {"iat": int(NOW.timestamp()), "exp": int(NOW.timestamp()) + 60}
        old, new = (signed(claims, "P-256", name, "ES256") for name in ("old", "new"))
        issuer.publish(jwk("P-256", "old"))
        async with edged(identifier=identifier) as client:

            async def ask(token: str) -> int:
                return (await client.get("/fhir/who", headers={"Authorization": f"Bearer {token}"})).status_code

            assert await ask(old) == 200
            issuer.publish(jwk("P-256", "new"))
            now = MINIMUM_INTERVAL
            assert [await ask(new), await ask(old)] == [200, 401]
            issuer.status = 500
            now += FRESH_SECONDS
            unknown = signed(claims, "P-256", "third", "ES256")
            assert [await ask(new), await ask(unknown)] == [200, 503]
        await identifier.close()
    await fetch.close()


# ---- how much ---------------------------------------------------------------------------------------------------


async def statuses(client: httpx.AsyncClient, times: int, path: str = "/fhir/who", **more: Any) -> list[int]:
    return [(await client.get(path, **more)).status_code for _ in range(times)]


async def test_who_asks_for_too_much_is_told_when_to_come_back() -> None:
    async with edged(caller_rate=0.2) as client:
        assert await statuses(client, 2, headers=bearer()) == [200, 200]
        refused = await client.get("/fhir/who", headers=bearer())
        assert await statuses(client, 1, headers=bearer("ben")) == [200]
        assert await statuses(client, 3, "/fhirly") == [200] * 3
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "5"
    assert refused.json()["issue"][0]["code"] == "throttled"
    assert refused.headers["cache-control"] == "no-store"


async def test_a_tenant_has_a_limit_of_its_own() -> None:
    async with edged(tenant_rate=0.2) as client:
        assert [(await client.get("/fhir/who", headers=bearer(user))).status_code for user in "abc"] == [200, 200, 429]
        assert await statuses(client, 1, headers=bearer(tenant="south")) == [200]


async def test_bodies_count_by_what_came_not_by_what_was_announced() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b"x" * 65536

    async with edged(caller_rate=1) as client:
        answer = await client.post("/fhir/who", headers=bearer(), content=pieces())
        assert answer.json()["bytes"] == 655360
        assert await statuses(client, 1, headers=bearer()) == [429]


async def test_strangers_have_a_limit_too() -> None:
    async with edged(caller_rate=1) as client:
        assert await statuses(client, 12, "/fhir/metadata") == [200] * int(BURST_SECONDS) + [429, 429]


async def test_one_bad_token_after_the_other_is_not_looked_at_for_ever() -> None:
    now = 0.0
    async with edged(clock=lambda: now, failures=6) as client:
        bad = {"Authorization": "Bearer made.up.thing"}
        assert await statuses(client, 7, headers=bad) == [401] * 6 + [429]
        # Whatever it holds: an answer would tell which ones are good.
        assert await statuses(client, 1, headers=bearer()) == [429]
        assert await statuses(client, 1) == [401]
        now = 10.0
        assert await statuses(client, 1, headers=bearer()) == [200]


async def test_a_tenant_that_is_not_ones_own_is_no_bad_token() -> None:
    async with edged(failures=1) as client:
        assert await statuses(client, 3, headers={**bearer(), "X-Bonfire-Tenant": "south"}) == [403] * 3

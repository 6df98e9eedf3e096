"""Who a server lets in, seen from outside: an identity provider's callers, and nobody with a developer's token."""

import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from acceptance.conftest import Start, run_bonfire
from support.issuer import Issuer, issuing, jwk, signed
from support.live_client import LiveClient, Refusal, live_client


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with issuing() as running:
        running.publish(jwk("P-256", "ec"))
        yield running


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def of_the_provider(issuer: Issuer, **changes: object) -> str:
    now = int(time.time())
    claims = {"iss": issuer.url, "aud": "clinic", "sub": "dr-ada", "org": "north", "iat": now, "exp": now + 300}
    return signed({**claims, "groups": ["clinician"], **changes}, "P-256", "ec", "ES256")


async def test_an_identity_providers_callers_come_in_by_either_door(
    start: Start, database_url: str, issuer: Issuer, tmp_path: Path
) -> None:
    settings = {
        "DATABASE_URL": database_url,
        "BONFIRE_DATA_DIR": str(tmp_path),
        "BONFIRE_OIDC_ISSUER": issuer.url,
        "BONFIRE_OIDC_AUDIENCE": "clinic",
        "BONFIRE_CLAIM_TENANT": "org",
        "BONFIRE_CLAIM_ROLES": "groups",
    }
    assert run_bonfire("migrate", **settings).returncode == 0
    served = start("serve", **settings)
    socket = served.url.replace("http", "ws") + "/live"
    good, other = of_the_provider(issuer), of_the_provider(issuer, aud="elsewhere")
    developers = run_bonfire("token", "--user", "ada", BONFIRE_DATA_DIR=str(tmp_path)).stdout.strip()
    # The first who comes brings a key that nobody has fetched yet.
    async with live_client(served.url, token=good) as client:
        assert (client.welcome["tenant"], client.welcome["user"]) == ("north", "dr-ada")
    for token, reason in ((other, "`aud`"), (developers, "development token"), (None, "a token is needed")):
        with pytest.raises(Refusal) as refused:
            await LiveClient.open(socket, token=token)
        assert refused.value.frame["code"] == "unauthenticated"
        assert reason in refused.value.frame["message"]
    async with httpx.AsyncClient(base_url=served.url) as http:
        assert (await http.get("/fhir/Patient/none", headers=bearer(good))).status_code == 404
        for token in (other, developers):
            answer = await http.get("/fhir/Patient/none", headers=bearer(token))
            assert answer.status_code == 401
            assert token not in answer.text
        forged = await http.post("/fhir/Patient", headers={**bearer(good), "Origin": "https://evil.example"})
        assert forged.status_code == 403
    said = "".join(served.log)
    assert all(part not in said for token in (good, other, developers) for part in token.split("."))


async def test_development_takes_its_own_tokens_and_this_machines_names_only(
    start: Start, database_url: str, tmp_path: Path
) -> None:
    settings = {"DATABASE_URL": database_url, "BONFIRE_DATA_DIR": str(tmp_path)}
    served = start("dev", "--no-demo", **settings)
    # Made while it runs, as one does.
    token = run_bonfire("token", "--user", "jo", "--role", "nurse", "--tenant", "north", **settings).stdout.strip()
    async with live_client(served.url, token=token) as client:
        assert (client.welcome["tenant"], client.welcome["user"]) == ("north", "jo")
    async with live_client(served.url) as client:
        assert client.welcome["user"] == "demo"
    async with httpx.AsyncClient(base_url=served.url) as http:
        assert (await http.get("/fhir/Patient/none")).status_code == 404
        assert (await http.get("/fhir/Patient/none", headers={"Host": "evil.example"})).status_code == 403

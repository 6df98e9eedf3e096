"""The end of a token, from a client's side of the socket: it is told ahead, a new one takes its place without a cut,
and whoever has none goes. What the new one says is what holds from then on."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from acceptance.conftest import Running, Start, run_bonfire
from bonfire.access.minting import mint
from bonfire_protocol.values import parse_position
from support.live_client import LiveClient, Refusal, live_client
from support.psql import psql

pytestmark = pytest.mark.acceptance

KEY = "a key of this test and of nothing else"
RESTRICT = """update documentreference set resource = jsonb_set(resource, '{meta}',
'{"security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R"}]}')"""


@pytest.fixture
def clinic(start: Start, database_url: str) -> Running:
    assert run_bonfire("migrate", DATABASE_URL=database_url).returncode == 0
    return start("serve", BONFIRE_TOKEN_KEY=KEY, BONFIRE_TOKEN_LEEWAY_SECONDS="0")


def token(user: str = "nia", role: str = "clinician", *, seconds: int = 3600) -> str:
    lifetime = timedelta(seconds=seconds)
    return mint(
        KEY, tenant="north", user=user, name=user.title(), now=datetime.now(UTC), lifetime=lifetime, roles=[role]
    )


def frames(client: LiveClient, *kinds: str) -> list[dict[str, Any]]:
    return [frame for frame in client.frames if frame["type"] in kinds]


async def test_a_token_is_renewed_without_a_cut(clinic: Running) -> None:
    begun = time.monotonic()
    async with live_client(clinic.url, token=token(seconds=4)) as client:
        assert 0 < client.welcome["expiresInMs"] <= 4000
        patient = (await client.mutate("patients.create", given="Ada", family="Okafor"))["value"]["id"]
        notes = await client.subscribe("notes.listByPatient", patientId=patient)
        await client.until(lambda: client.expiring is not None)
        left = await client.renew(token())
        assert left is not None
        assert 3_500_000 < left <= 3_600_000
        await asyncio.sleep(max(0.0, begun + 5 - time.monotonic()))
        written = await client.mutate("notes.create", patientId=patient, text="Still here.")
        await client.until(lambda: client.position >= parse_position(written["position"]))
        assert [row["text"] for row in client.rows(notes)] == ["Still here."]
        assert len(frames(client, "subscribed")) == 1
        assert frames(client, "access", "unsubscribed") == [], "the same may be seen as before"


async def test_a_token_of_somebody_else_renews_nothing_and_the_end_is_kept(clinic: Running) -> None:
    async with live_client(clinic.url, token=token(seconds=3)) as client:
        for other, code in ((token("bo"), "forbidden"), ("no token", "unauthenticated")):
            with pytest.raises(Refusal) as refused:
                await client.renew(other)
            assert refused.value.frame["code"] == code
        assert await client.query("patients.list") == []
        async with asyncio.timeout(10):
            while not client.closed:
                await asyncio.sleep(0.05)
        assert client.close_code == 4701
        (last,) = [frame for frame in frames(client, "refused") if "id" not in frame]
        assert last["code"] == "unauthenticated"


async def test_what_a_new_token_does_not_let_its_user_see_is_gone(clinic: Running, database_url: str) -> None:
    async with (
        live_client(clinic.url, token=token("amara")) as amara,
        live_client(clinic.url, token=token()) as nia,
    ):
        patient, stranger = [
            (await amara.mutate("patients.create", given="Ada", family=family))["value"]["id"]
            for family in ("Okafor", "Lind")
        ]
        await amara.mutate("careTeam.add", patientId=patient, userId="nia", name="Nia")
        await amara.mutate("notes.create", patientId=patient, text="For few.")
        await asyncio.to_thread(psql, database_url, RESTRICT)
        written = await amara.mutate("notes.create", patientId=patient, text="For the team.")
        notes = await nia.subscribe("notes.listByPatient", patientId=patient)
        others = await nia.subscribe("notes.listByPatient", patientId=stranger)
        await nia.until(lambda: nia.position >= parse_position(written["position"]))
        assert {row["text"] for row in nia.rows(notes)} == {"For few.", "For the team."}
        await nia.renew(token(role="nurse"))
        await nia.until(lambda: len(frames(nia, "access")) == 1 and others in nia.denied)
        await nia.until(lambda: [row["text"] for row in nia.rows(notes)] == ["For the team."])
        # From here on by the nurse's rights: live, and where the client comes back.
        more = await amara.mutate("notes.create", patientId=patient, text="More.")
        await nia.until(lambda: nia.position >= parse_position(more["position"]))
        assert {row["text"] for row in nia.rows(notes)} == {"For the team.", "More."}
        held = nia.hold()
        address = clinic.url.replace("http", "ws", 1) + "/live"
        back = await LiveClient.come_back(address, held, token=token(role="nurse"))
        try:
            assert back.welcome["stream"] == held.stream
            assert back.rows(notes) == nia.rows(notes)
        finally:
            await back.close()
        await nia.renew(token())
        await nia.until(lambda: len(nia.rows(notes)) == 3)

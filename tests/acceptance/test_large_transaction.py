"""One transaction of 60,000 notes, more than a node carries: applied whole, in place, by a node that stays small."""

import psycopg
import pytest

from acceptance.conftest import Running, Start
from support.live_client import LiveClient, live_client

pytestmark = pytest.mark.acceptance

NOTES = """
insert into documentreference (id, resource)
select
  'large-' || n,
  jsonb_build_object(
    'status', 'current', 'docStatus', 'final', 'description', 'Large',
    'subject', jsonb_build_object(
      'reference', 'Patient/' || case when mod(n, 100) = 0 then %s else 'p' || mod(n, 5000) end),
    'date', to_char(timestamptz '2024-01-01 00:00Z' + n * interval '1 minute', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
    'content', jsonb_build_array(jsonb_build_object('attachment', jsonb_build_object(
      'contentType', 'text/plain', 'data', encode(convert_to(repeat(md5(n::text), 8), 'utf8'), 'base64'))))
  )
from generate_series(1, 60000) as n
"""


@pytest.fixture(params=["wal", "listen"])
def node(request: pytest.FixtureRequest, start: Start) -> Running:
    return start(BONFIRE_CHANGE_SOURCE=request.param, BONFIRE_HEARTBEAT_MS="200")


def memory(running: Running) -> float:
    """The most that the process has held, in megabytes."""
    with open(f"/proc/{running.process.pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 1024


async def new_patient(client: LiveClient) -> str:
    answer = await client.mutate("patients.create", given="Ada", family="Okafor")
    patient: str = answer["value"]["id"]
    return patient


async def test_it_is_shown_whole_and_in_its_place(node: Running, database_url: str) -> None:
    async with live_client(node.url) as client:
        patient, other = await new_patient(client), await new_patient(client)
        mine = await client.subscribe("notes.listByPatient", patientId=patient, limit=500)
        await client.subscribe("notes.listByPatient", "theirs", patientId=other)
        await client.mutate("notes.create", patientId=patient, text="before")
        await client.until(lambda: len(client.rows(mine)) == 1)
        before = memory(node)
        with psycopg.connect(database_url) as connection:
            connection.execute(NOTES, [patient])
        await client.mutate("notes.create", patientId=other, text="after")
        await client.until(lambda: len(client.rows("theirs")) == 1, 60)
        # What came after it is not shown before it, and of it all or nothing.
        assert len(client.rows(mine)) == 500
        assert await client.check(mine) == "same"
        assert memory(node) - before < 100

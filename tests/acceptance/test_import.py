"""Real patients: the whole of Synthea in, every read model equal to its source, the charts to be seen."""

import os
from pathlib import Path

import pytest

from acceptance.conftest import ROOT, Start, run_bonfire
from support.live_client import live_client

pytestmark = pytest.mark.acceptance

DATA = Path(os.environ.get("BONFIRE_TEST_DATA", ROOT.parent / "shared" / "data"))


@pytest.mark.skipif(not DATA.exists(), reason=f"no Synthea patients at {DATA}: set BONFIRE_TEST_DATA")
async def test_all_of_synthea_comes_in_and_check_finds_no_difference(start: Start, database_url: str) -> None:
    for folder, resources in (("synthea", 5075), ("synthea-conditional", 6069)):
        done = run_bonfire("import", str(DATA / folder), DATABASE_URL=database_url)
        assert done.returncode == 0, done.stderr
        assert f"{resources} resources" in done.stdout, done.stdout
    checked = run_bonfire("check", DATABASE_URL=database_url)
    assert checked.returncode == 0, checked.stderr
    async with live_client(start().url) as client:
        people = await client.subscribe("patients.list")
        assert len(client.rows(people)) == 24
        for person in client.rows(people):
            timeline = await client.subscribe("timeline.list", patientId=person["id"])
            assert client.rows(timeline), "everybody has a history"


def test_a_bad_file_is_named_and_the_others_come_in(database_url: str, tmp_path: Path) -> None:
    (tmp_path / "good.json").write_text('{"resourceType":"Patient","id":"good","name":[{"family":"Okafor"}]}')
    (tmp_path / "bad.json").write_text(
        '{"resourceType":"Bundle","type":"transaction","entry":['
        '{"fullUrl":"urn:uuid:6f1f2a5e-4f0a-4b58-9f43-0d9e2a1f7a11","resource":{"resourceType":"Patient","gender":"f"},'
        '"request":{"method":"POST","url":"Patient"}}]}'
    )
    done = run_bonfire("import", str(tmp_path), DATABASE_URL=database_url)
    assert done.returncode == 1
    assert "bad.json" in done.stderr
    assert "gender" in done.stderr
    assert run_bonfire("check", DATABASE_URL=database_url).returncode == 0

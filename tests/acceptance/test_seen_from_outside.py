"""What an operator sees: readiness with its reasons, the numbers of all processes, lines for machines."""

import asyncio
import json
import re
import signal

import httpx
import pytest

from acceptance.conftest import Start
from bonfire.store.cluster import Cluster
from bonfire.store.migrate import migrate

pytestmark = pytest.mark.acceptance

KEY = "a key that is long enough for anybody"


async def page(url: str) -> str:
    async with httpx.AsyncClient(base_url=url, timeout=10) as http:
        answer = await http.get("/metrics")
    assert answer.status_code == 200
    return answer.text


async def test_all_processes_of_a_port_are_on_one_page(start: Start) -> None:
    running = start("serve", "--workers", "2", BONFIRE_TOKEN_KEY=KEY, BONFIRE_LOG_FORMAT="json")
    told = await page(running.url)
    for worker in ("0", "1"):
        assert f'bonfire_worker_up{{worker="{worker}"}} 1.0' in told
        assert f'bonfire_ready{{worker="{worker}"}} 1.0' in told
    # Told once: it is the database's.
    assert told.count('bonfire_jobs{index="agentContext",state="waiting"}') == 1
    started = {name: float(at) for name, at in re.findall(r'process_start_time_seconds\{worker="(\d)"\} (\S+)', told)}
    assert len(started) == 2

    running.process.send_signal(signal.SIGHUP)
    async with asyncio.timeout(60):
        while not any("all workers are replaced" in line for line in running.log):
            await asyncio.sleep(0.05)
    told = await page(running.url)
    renewed = {name: float(at) for name, at in re.findall(r'process_start_time_seconds\{worker="(\d)"\} (\S+)', told)}
    assert all(renewed[name] > started[name] for name in started)

    lines = [json.loads(line) for line in running.log if line.startswith("{")]
    assert {line.get("worker") for line in lines} == {0, 1, None}
    assert all({"time", "level", "logger", "message"} <= set(line) for line in lines)


async def readiness(url: str) -> tuple[int, dict[str, str]]:
    async with httpx.AsyncClient(base_url=url, timeout=10) as http:
        answer = await http.get("/readyz")
    checks: dict[str, str] = answer.json()["checks"]
    return answer.status_code, {name: reason for name, reason in checks.items() if reason != "ok"}


async def until_found(url: str, expected: tuple[int, dict[str, str]]) -> None:
    found = await readiness(url)
    try:
        async with asyncio.timeout(60):
            while found != expected:
                await asyncio.sleep(0.05)
                found = await readiness(url)
    except TimeoutError:
        raise AssertionError(f"{found}, not {expected}") from None


async def test_a_node_whose_database_goes_away_says_so_and_is_ready_again(start: Start, own_cluster: Cluster) -> None:
    await migrate(own_cluster.url)
    running = start(DATABASE_URL=own_cluster.url)
    await until_found(running.url, (200, {}))
    await asyncio.to_thread(own_cluster.stop)
    try:
        away = {"postgres": "the database does not answer", "changes": "the change stream is cut"}
        await until_found(running.url, (503, away))
        async with httpx.AsyncClient(base_url=running.url) as http:
            assert (await http.get("/healthz")).status_code == 200
        told = (await page(running.url)).splitlines()
        assert "bonfire_ready 0.0" in told
        assert 'bonfire_check{check="postgres"} 0.0' in told
        assert "bonfire_change_stream_up 0.0" in told
        assert not any(line.startswith("bonfire_replication_lag") for line in told)
    finally:
        await asyncio.to_thread(own_cluster.start)
    await until_found(running.url, (200, {}))
    assert "bonfire_resyncs_total 1.0" in (await page(running.url)).splitlines()

"""A node's own numbers, after a session whose traffic is known."""

import asyncio

import httpx
from prometheus_client.parser import text_string_to_metric_families

from bonfire.clinical import Depends, QueryContext, Registry, Value
from bonfire.config import Settings
from support.live_client import LiveClient, Refusal, live_client
from support.node import serving

Page = dict[str, float]


async def scrape(url: str) -> Page:
    """Each line of the page by its name and labels, as Prometheus spells them."""
    async with httpx.AsyncClient(base_url=url) as http:
        answer = await http.get("/metrics")
    assert answer.status_code == 200
    return {
        sample.name + "".join(f" {name}={value}" for name, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


class Count(Value, frozen=True):
    patients: int


async def how_many(ctx: QueryContext) -> Count:
    return (await ctx.rows(Count, "select count(*)::int as patients from patient"))[0]


async def refused(client: LiveClient) -> None:
    try:
        await client.mutate("patients.create", given=7)
    except Refusal:
        return
    raise AssertionError("it was not refused")


async def test_a_session_is_counted(database_url: str) -> None:
    async with serving(database_url) as url, live_client(url) as doctor, live_client(url) as nurse:
        before = await scrape(url)
        for client in (doctor, nurse):
            await client.subscribe("patients.list")
        await nurse.subscribe("patients.list", limit=5)
        await doctor.mutate("patients.create", id="m1", given="Ada", family="Lovelace")
        await doctor.mutate("patients.create", id="m1", given="Ada", family="Lovelace")
        await refused(doctor)
        await nurse.until(lambda: all(len(rows) == 1 for rows in nurse.results.values()))
        after = await scrape(url)

    def grown(line: str) -> float:
        return after[line] - before.get(line, 0.0)

    assert after["bonfire_ready"] == 1
    assert after["bonfire_connections"] == 2
    assert after["bonfire_live_queries"] == 2
    assert after["bonfire_subscriptions"] == 3
    assert after["bonfire_change_stream_up"] == 1
    assert after["bonfire_watermark_age_seconds"] < 5
    assert after["bonfire_replication_lag_seconds"] < 5
    assert after["bonfire_pool_limit pool=postgres"] == Settings().pool_size
    assert after["bonfire_position"] > before["bonfire_position"]
    assert grown("bonfire_mutations_total mutation=patients.create outcome=committed") == 1
    assert grown("bonfire_mutations_total mutation=patients.create outcome=replayed") == 1
    assert grown("bonfire_mutations_total mutation=patients.create outcome=bad_arguments") == 1
    assert grown("bonfire_mutation_seconds_count mutation=patients.create") == 3
    assert grown("bonfire_refused_frames_total code=bad_arguments") == 1
    assert grown("bonfire_commits_total") >= 1
    # The replay commits nothing that is told, the refusal nothing at all.
    assert grown("bonfire_commit_to_send_seconds_count") == 1
    assert 0 < grown("bonfire_commit_to_send_seconds_sum") < 5
    assert grown("bonfire_read_seconds_count") >= 1
    # Two clients, and three subscriptions that the trail knows of.
    assert grown("bonfire_audit_recorded_total") >= 3
    assert 1 <= grown("bonfire_audit_batches_total") <= grown("bonfire_audit_recorded_total")
    assert after["bonfire_audit_failed_total"] == after["bonfire_audit_lost_total"] == 0
    assert after["bonfire_audit_keeper_failing"] == after["bonfire_doubted_users"] == 0
    assert after["bonfire_facts_reads_total"] >= 1
    # 3 subscriptions and 3 mutations, as they were sent.
    assert grown("bonfire_received_frames_total") == 6
    assert grown("bonfire_received_bytes_total") > 300


async def test_a_query_that_is_run_again_is_timed_from_the_commit(database_url: str) -> None:
    clinic = Registry()
    clinic.query("patients.howMany", depends=[Depends("Patient")])(how_many)
    async with serving(database_url, clinic) as url, live_client(url) as client:
        count = await client.subscribe("patients.howMany")
        assert (await scrape(url))["bonfire_commit_to_reread_seconds_count"] == 0
        await client.mutate("patients.create", given="Ada", family="Lovelace")
        await client.until(lambda: client.rows(count) == [{"patients": 1}])
        page = await scrape(url)
    assert page["bonfire_commit_to_reread_seconds_count"] == 1
    assert 0 < page["bonfire_commit_to_reread_seconds_sum"] < 5


async def test_what_was_sent_is_what_has_come(database_url: str) -> None:
    async with serving(database_url) as url, live_client(url) as client:
        await client.subscribe("patients.list")
        page = await scrape(url)
        # What was sent before the page was made has come by the time that an answer to a later frame has.
        await client.query("patients.list")
        later = await scrape(url)
    assert page["bonfire_sent_frames_total"] <= len(client.frames) <= later["bonfire_sent_frames_total"] + 5
    assert page["bonfire_sent_bytes_total"] < later["bonfire_sent_bytes_total"]


async def test_the_jobs_of_the_lanes_are_counted(database_url: str) -> None:
    async with serving(database_url, settings=Settings(agent_context="on")) as url, live_client(url) as client:
        await client.mutate("patients.create", given="Ada", family="Lovelace")
        async with asyncio.timeout(20):
            while True:
                page = await scrape(url)
                if (
                    not page["bonfire_jobs index=agentContext state=waiting"]
                    + page["bonfire_oldest_job_seconds index=agentContext"]
                ):
                    break
    assert page["bonfire_jobs index=agentContext state=failed"] == 0

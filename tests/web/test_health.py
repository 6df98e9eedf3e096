"""The operator's pages: what each says, and by which status."""

import asyncio

import httpx
from starlette.applications import Starlette

from bonfire.web.health import Check, health_routes, run_checks


def check(reason: str | None) -> Check:
    async def found() -> str | None:
        return reason

    return found


async def broken() -> str | None:
    raise ValueError("Ada Lovelace")


async def page(accept: str) -> tuple[bytes, str]:
    return f"asked for {accept}".encode(), "text/plain; version=0.0.4"


async def get(path: str, worker: int | None = None, accept: str = "*/*", **checks: Check) -> httpx.Response:
    app = Starlette(routes=list(health_routes(checks, page, worker=worker)))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://node") as client:
        return await client.get(path, headers={"accept": accept})


async def test_a_node_is_ready_when_every_check_is_content() -> None:
    answer = await get("/readyz", postgres=check(None), changes=check(None))
    assert answer.status_code == 200
    assert answer.json() == {"status": "ready", "checks": {"postgres": "ok", "changes": "ok"}}


async def test_one_reason_is_enough_and_is_told() -> None:
    answer = await get("/readyz", postgres=check(None), changes=check("the change stream is cut"))
    assert answer.status_code == 503
    assert answer.json() == {
        "status": "not ready",
        "checks": {"postgres": "ok", "changes": "the change stream is cut"},
    }


async def test_a_check_that_fails_is_no_good_sign_and_quotes_nothing() -> None:
    answer = await get("/readyz", postgres=broken)
    assert answer.status_code == 503
    assert answer.json()["checks"] == {"postgres": "can't be checked (ValueError)"}


async def test_a_process_that_is_alive_says_so_whatever_it_lacks() -> None:
    answer = await get("/healthz", postgres=check("gone"))
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


async def test_one_of_several_processes_says_which_it_is() -> None:
    assert (await get("/healthz", worker=2)).json() == {"status": "ok", "worker": 2}
    assert (await get("/readyz", worker=2, postgres=check(None))).json()["worker"] == 2


async def test_the_metrics_come_in_the_form_that_is_asked_for() -> None:
    answer = await get("/metrics", accept="application/openmetrics-text")
    assert answer.text == "asked for application/openmetrics-text"
    assert answer.headers["content-type"] == "text/plain; version=0.0.4"


async def test_checks_wait_beside_each_other() -> None:
    both = asyncio.Barrier(2)

    async def waits() -> str | None:
        await both.wait()
        return None

    async with asyncio.timeout(5):
        assert await run_checks({"one": waits, "two": waits}) == {"one": None, "two": None}

"""Faults over HTTP: the same on every surface, and nothing of the data in them."""

import json
import logging

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from bonfire.web.faults import fault_response, guarded
from bonfire_protocol.faults import Fault, FaultCode


@pytest.mark.parametrize(
    ("code", "status", "headers"),
    [
        (FaultCode.bad_arguments, 400, {}),
        (FaultCode.unauthenticated, 401, {"www-authenticate": "Bearer"}),
        (FaultCode.forbidden, 403, {}),
        (FaultCode.not_found, 404, {}),
        (FaultCode.gone, 410, {}),
        (FaultCode.version_conflict, 412, {}),
        (FaultCode.too_large, 413, {}),
        (FaultCode.too_many, 429, {"retry-after": "1"}),
        (FaultCode.unavailable, 503, {"retry-after": "1"}),
        (FaultCode.internal, 500, {}),
    ],
)
def test_a_fault_has_its_status_and_headers(code: FaultCode, status: int, headers: dict[str, str]) -> None:
    response = fault_response(Fault(code, "said"))
    assert response.status_code == status
    assert response.headers["content-type"] == "application/fhir+json; charset=utf-8"
    assert headers.items() <= dict(response.headers).items()
    outcome = json.loads(bytes(response.body))
    assert outcome["resourceType"] == "OperationOutcome"
    assert outcome["issue"][0]["details"]["text"] == "said"


async def _get(handler: Route) -> httpx.Response:
    transport = httpx.ASGITransport(Starlette(routes=[handler]))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return await client.get("/chart/ada-lovelace?_pretty=true")


async def test_a_fault_becomes_a_response() -> None:
    async def handler(request: Request) -> Response:
        raise Fault(FaultCode.gone, "deleted")

    response = await _get(Route("/chart/{name}", guarded(handler)))
    assert response.status_code == 410
    assert b"\n  " in response.content


async def test_a_bug_becomes_a_500_that_holds_no_data_and_a_log_line_that_holds_none(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def handler(request: Request) -> Response:
        raise RuntimeError("Ada Lovelace was here")

    with caplog.at_level(logging.ERROR):
        response = await _get(Route("/chart/{name}", guarded(handler)))
    assert response.status_code == 500
    assert response.json()["issue"][0]["code"] == "exception"
    assert "RuntimeError" in caplog.text
    assert "/chart/{name}" in caplog.text
    for text in (response.text, caplog.text):
        assert "lovelace" not in text.lower()


async def test_what_goes_well_is_left_alone() -> None:
    async def handler(request: Request) -> Response:
        return PlainTextResponse("well")

    assert (await _get(Route("/chart/{name}", guarded(handler)))).text == "well"

"""`/healthz`, `/readyz` and `/metrics`: the truth about this node, with nothing of a patient's in it.

`/healthz`: this process runs and its loop turns; who gets no answer should start it again. `/readyz`: it can serve now,
and if not, why; who gets a 503 should send clients elsewhere. `/metrics`: numbers for Prometheus.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

Check = Callable[[], Awaitable[str | None]]
"""None when all is well, else the reason why not, for an operator."""

MetricsPage = Callable[[str], Awaitable[tuple[bytes, str]]]
"""From the header `Accept` to the page and its content type."""


async def run_checks(checks: Mapping[str, Check]) -> dict[str, str | None]:
    """What each check finds, all at once. One that fails finds that it could not be made."""
    found = await asyncio.gather(*(check() for check in checks.values()), return_exceptions=True)
    return {
        name: f"can't be checked ({type(reason).__name__})" if isinstance(reason, BaseException) else reason
        for name, reason in zip(checks, found, strict=True)
    }


def health_routes(checks: Mapping[str, Check], page: MetricsPage, *, worker: int | None = None) -> list[Route]:
    """`checks` decide readiness, by name. `worker`: which one of several processes on this port answers; each answers
    for itself."""
    who = {} if worker is None else {"worker": worker}

    async def healthz(request: Request) -> Response:
        return JSONResponse({"status": "ok", **who})

    async def readyz(request: Request) -> Response:
        found = await run_checks(checks)
        ready = all(reason is None for reason in found.values())
        body = {
            "status": "ready" if ready else "not ready",
            **who,
            "checks": {name: reason or "ok" for name, reason in found.items()},
        }
        return JSONResponse(body, status_code=200 if ready else 503)

    async def metrics(request: Request) -> Response:
        body, content_type = await page(request.headers.get("accept", ""))
        return Response(body, headers={"content-type": content_type})

    return [
        Route("/healthz", healthz, methods=["GET"]),
        Route("/readyz", readyz, methods=["GET"]),
        Route("/metrics", metrics, methods=["GET"]),
    ]

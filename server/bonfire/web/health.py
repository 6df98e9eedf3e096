"""`/healthz`, `/readyz` and `/metrics`: the truth about this node, with nothing of a patient's in it.

`/healthz`: this process runs and its loop turns. `/readyz`: it can serve now (the database answers, the change stream
is live, it is not draining). `/metrics`: Prometheus text.
"""

from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

Check = Callable[[], Awaitable[str | None]]
"""None when all is well, else the reason why not, for an operator."""


def health_routes(checks: Mapping[str, Check], gauges: Callable[[], Mapping[str, tuple[str, float]]]) -> list[Route]:
    """`checks` decide readiness, by name; `gauges` gives each metric's name -> (help, value)."""

    async def healthz(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(request: Request) -> Response:
        found = {name: await check() for name, check in checks.items()}
        ready = all(reason is None for reason in found.values())
        body = {
            "status": "ready" if ready else "not ready",
            "checks": {name: reason or "ok" for name, reason in found.items()},
        }
        return JSONResponse(body, status_code=200 if ready else 503)

    async def metrics(request: Request) -> Response:
        lines: list[str] = []
        for name, (meaning, value) in gauges().items():
            kind = "counter" if name.endswith("_total") else "gauge"
            lines += [f"# HELP bonfire_{name} {meaning}", f"# TYPE bonfire_{name} {kind}", f"bonfire_{name} {value}"]
        return PlainTextResponse("\n".join(lines) + "\n", media_type="text/plain; version=0.0.4")

    return [
        Route("/healthz", healthz, methods=["GET"]),
        Route("/readyz", readyz, methods=["GET"]),
        Route("/metrics", metrics, methods=["GET"]),
    ]

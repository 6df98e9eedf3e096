"""Faults -> HTTP: a status, the headers that go with it, and an OperationOutcome. The same on every surface."""

import logging
from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from bonfire.fhir.codec import encode
from bonfire.fhir.outcome import issues_of, operation_outcome, status_of
from bonfire_protocol.faults import Fault, FaultCode

FHIR_JSON = "application/fhir+json; charset=utf-8"

RETRY_AFTER_SECONDS = 1

_log = logging.getLogger(__name__)

Handler = Callable[[Request], Awaitable[Response]]


def fault_response(fault: Fault, *, headers: Mapping[str, str] | None = None, pretty: bool = False) -> Response:
    """The response that says what `fault` says: to people in its OperationOutcome, to clients in its status."""
    status = status_of(fault)
    headers = {"X-Content-Type-Options": "nosniff", **(headers or {})}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if fault.next == "retry" or status == 429:
        headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    body = encode(operation_outcome(issues_of(fault)), pretty=pretty)
    return Response(body, status, headers, FHIR_JSON)


def guarded(handler: Handler) -> Handler:
    """`handler`, whose faults become responses, and whose bugs a 500 that tells the client nothing of the data."""

    async def guard(request: Request) -> Response:
        try:
            return await handler(request)
        except Fault as fault:
            return fault_response(fault, pretty=request.query_params.get("_pretty") == "true")
        except ClientDisconnect:
            # Nobody is there to read it.
            return Response(status_code=400)
        except Exception as error:
            # Not its text, nor its chain: a driver's error quotes the values that it was about.
            _log.error(
                "%s on %s failed: %s at %s", request.method, _shape(request), type(error).__name__, _place(error)
            )
            return fault_response(Fault(FaultCode.internal, "The server failed. Its operator finds why in the log."))

    return guard


def _shape(request: Request) -> str:
    """The route's pattern, not the URL: that holds ids and identifiers."""
    route = request.scope.get("route")
    return str(getattr(route, "path", "an unknown route"))


def _place(error: BaseException) -> str:
    trace = error.__traceback__
    places: list[str] = []
    while trace is not None:
        places.append(f"{trace.tb_frame.f_globals.get('__name__', '?')}:{trace.tb_lineno}")
        trace = trace.tb_next
    return " > ".join(places[-6:])

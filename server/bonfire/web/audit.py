"""`/fhir/AuditEvent`: the audit trail, to be read and searched by whoever may, and written by nobody.

These routes stand before those of `web/fhir.py`. What others have sent as AuditEvents in a Bundle or an import are
records like all others, apart from the trail: they are nobody's proof here, and are not shown at this address.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final
from urllib.parse import urlencode
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bonfire.access.audit import Event, Trail, event_of
from bonfire.access.audit_event import audit_event
from bonfire.access.gate import Access
from bonfire.fhir.moments import parse_period
from bonfire.fhir.outcome import Refusal
from bonfire.store.audit_search import Criteria, find
from bonfire.store.pool import Database
from bonfire.web.faults import fault_response, guarded
from bonfire.web.fhir_exchange import ROOT, Exchange
from bonfire_protocol.faults import Fault, FaultCode

Admit = Callable[[Request], Awaitable[Access]]
"""What the caller may do. Fault `unauthenticated` when that can't be told."""

MAX_COUNT: Final = 1000

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_WRITTEN_BY = "The audit trail is written by this server alone, and never changed"
_PARAMETERS = ("_id", "patient", "date", "agent", "agent:identifier", "action", "subtype", "entity", "outcome")


def audit_routes(database: Database, admit: Admit, trail: Trail, *, base_url: str | None = None) -> list[Route]:
    """The routes, to be put before those of FHIR. `base_url` as there."""

    async def search(request: Request) -> Response:
        if refused := _not_read(request):
            return refused
        access = await admit(request)
        exchange = Exchange(request, base_url)
        criteria = _criteria(exchange.query)
        try:
            _check(access)
            policies = access.may("search").policies
        except Fault as fault:
            trail.later(_denied(access, request, fault))
            raise
        async with database.transaction(access.principal.tenant, reach=access.reach, readonly=True) as conn:
            found = await find(conn, criteria)
        names = "&".join(sorted({name for name, _ in exchange.query if name in _PARAMETERS}))
        await trail.record(
            event_of(
                access.principal,
                "search",
                "http",
                patient=criteria.patient,
                what="AuditEvent",
                query=f"AuditEvent?{names}",
                policies=policies,
                address=_address(request),
                count=len(found),
            )
        )
        bundle: dict[str, Any] = {
            "resourceType": "Bundle",
            "type": "searchset",
            "link": _links(exchange, found[-1].event.id if len(found) == criteria.limit else None),
        }
        entries = [
            {
                "fullUrl": f"{exchange.base}/AuditEvent/{each.event.id}",
                "resource": audit_event(each),
                "search": {"mode": "match"},
            }
            for each in found
        ]
        return exchange.respond(bundle | ({"entry": entries} if entries else {}))

    async def read(request: Request) -> Response:
        if refused := _not_read(request):
            return refused
        access = await admit(request)
        exchange = Exchange(request, base_url)
        try:
            _check(access)
        except Fault as fault:
            trail.later(_denied(access, request, fault))
            raise
        id = _uuid(request.path_params["id"])
        found = []
        if id is not None:
            async with database.transaction(access.principal.tenant, reach=access.reach, readonly=True) as conn:
                found = await find(conn, Criteria(id=id, limit=1))
        if not found:
            raise Fault(FaultCode.not_found, "there is no such AuditEvent")
        event = found[0].event
        await trail.record(
            event_of(
                access.principal,
                "read",
                "http",
                patient=event.patient,
                what=f"AuditEvent/{event.id}",
                address=_address(request),
            )
        )
        return exchange.respond(audit_event(found[0]))

    async def beyond(request: Request) -> Response:
        if refused := _not_read(request):
            return refused
        raise Refusal.of("An AuditEvent has one version and nothing below it", "not-found", code=FaultCode.not_found)

    return [
        Route(f"{ROOT}/AuditEvent", guarded(search), methods=_METHODS),
        Route(f"{ROOT}/AuditEvent/{{id}}", guarded(read), methods=_METHODS),
        Route(f"{ROOT}/AuditEvent/{{path:path}}", guarded(beyond), methods=_METHODS),
    ]


def _links(exchange: Exchange, last: UUID | None) -> list[dict[str, str]]:
    """This page and, where there may be one, the next: what is older than the `last` one shown."""
    url = f"{exchange.base}/AuditEvent"
    links = [{"relation": "self", "url": f"{url}?{urlencode(exchange.query)}" if exchange.query else url}]
    if last is not None:
        kept = [(name, value) for name, value in exchange.query if name != "_before"]
        links.append({"relation": "next", "url": f"{url}?{urlencode([*kept, ('_before', str(last))])}"})
    return links


def _not_read(request: Request) -> Response | None:
    if request.method in ("GET", "HEAD"):
        return None
    return fault_response(Refusal.unsupported(_WRITTEN_BY, status=405), headers={"Allow": "GET"})


def _check(access: Access) -> None:
    """Fault forbidden for whoever may see nothing of the trail, whether or not there is anything."""
    if access.reach.within(frozenset({"type:AuditEvent"})).nothing:
        raise Fault(FaultCode.forbidden, "you may not read the audit trail")


def _denied(access: Access, request: Request, fault: Fault) -> Event:
    return event_of(
        access.principal,
        "deny",
        "http",
        what="AuditEvent",
        outcome=4,
        address=_address(request),
        detail={"fault": fault.code.value},
    )


def _criteria(query: list[tuple[str, str]]) -> Criteria:
    asked: dict[str, Any] = {}
    for name, value in query:
        match name:
            case "_id" | "_before":
                id = _uuid(value)
                if id is None:
                    raise Refusal.of(f"{name}: the id of an event is expected", "value")
                asked["id" if name == "_id" else "before"] = id
            case "_count":
                if not (value.isascii() and value.isdigit() and len(value) < 10):
                    raise Refusal.of("_count: a whole number is expected", "value")
                asked["limit"] = max(1, min(int(value), MAX_COUNT))
            case "patient":
                asked["patient"] = value.removeprefix("Patient/")
            case "agent" | "agent:identifier":
                asked["user"] = value.rpartition("|")[2]
            case "entity":
                asked["what"] = value
            case "action":
                asked["action"] = value
            case "subtype":
                asked["subtype"] = _SUBTYPES.get(value.rpartition("|")[2], value.rpartition("|")[2])
            case "outcome":
                if value not in ("0", "4", "8", "12"):
                    raise Refusal.of("outcome: expected 0, 4, 8 or 12", "value")
                asked["outcome"] = int(value)
            case "date":
                _date(asked, value)
            case _:
                known = ", ".join(_PARAMETERS)
                raise Refusal.unsupported(f"AuditEvent is searched by {known}, _count and _before only", status=400)
    return Criteria(**asked)


_SUBTYPES: Mapping[str, str] = {"history-instance": "history", "search-type": "search"}


def _date(asked: dict[str, Any], value: str) -> None:
    prefix = value[:2] if value[:2].isalpha() else "eq"
    period = parse_period(value[2:] if value[:2].isalpha() else value, "date")
    match prefix:
        case "eq":
            bounds = {"since": period.start, "until": period.end}
        case "ge":
            bounds = {"since": period.start}
        case "gt" | "sa":
            bounds = {"since": period.end}
        case "le":
            bounds = {"until": period.end}
        case "lt" | "eb":
            bounds = {"until": period.start}
        case _:
            raise Refusal.of("date: expected a date, after one of eq, ge, gt, le, lt, sa, eb", "value")
    for name, at in bounds.items():
        narrower = max if name == "since" else min
        asked[name] = narrower(asked.get(name, at), at)


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _address(request: Request) -> str | None:
    return request.client.host if request.client is not None else None

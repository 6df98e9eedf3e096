"""FHIR over HTTP, under `/fhir`: requests -> interactions -> responses. What FHIR means is in `bonfire.fhir`."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import version as version_of
from random import Random
from typing import TypeVar, assert_never
from uuid import uuid4

from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import Route

from bonfire.access.audit import Trail
from bonfire.access.gate import Access
from bonfire.fhir.answers import created, history_bundle, location, response_bundle, searchset, written_outcome
from bonfire.fhir.bundle import Create, Delete, Entry, Read, Search, Update
from bonfire.fhir.capability import capability_statement
from bonfire.fhir.criteria import parse_criteria, parse_query
from bonfire.fhir.definitions.primitives import is_id
from bonfire.fhir.definitions.structure import resource_structures
from bonfire.fhir.done import Deleted, Done, Found, Shown, Wrote
from bonfire.fhir.etag import etag, etag_matches, parse_etag
from bonfire.fhir.moments import http_date, parse_instant, parse_period
from bonfire.fhir.outcome import Refusal
from bonfire.fhir.prepare import Batch, Transaction, prepare_bundle, prepare_lone
from bonfire.fhir.process import Caller, Process
from bonfire.fhir.retry import Transactions
from bonfire.fhir.transact import NewId
from bonfire.store.pool import Database
from bonfire.store.resources import Version
from bonfire.web.faults import fault_response, guarded
from bonfire.web.fhir_exchange import ROOT, Exchange
from bonfire_protocol.faults import FaultCode

Result = TypeVar("Result")

Admit = Callable[[HTTPConnection], Awaitable[Access]]
"""Who asks, and what they may do as the database has it now. Fault `unauthenticated` when that can't be told."""

Action = Callable[[Exchange, Caller], Awaitable[Response]]
"""One interaction, for a caller."""

MAX_BODY = 64 * 1024 * 1024
DEFAULT_COUNT = 100
MAX_COUNT = 1000

_OPERATION = "Operations, searches by POST, and histories of many resources are not supported"
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


def fhir_routes(
    database: Database,
    admit: Admit,
    trail: Trail,
    clock: Callable[[], datetime],
    *,
    new_id: NewId = lambda: str(uuid4()),
    random: Random | None = None,
    base_url: str | None = None,
    max_body: int = MAX_BODY,
) -> list[Route]:
    """The routes of the FHIR surface, all under `/fhir`.

    `admit` says who asks and what they may do; `trail` is told of all that is answered, before it is.
    `base_url` is the public URL that ends in `/fhir`; without it, each client is answered under the name that it used.
    `new_id` makes the ids of new resources; `random` spreads attempts that met; `max_body` is in bytes.
    """
    process = Process(Transactions(database, random or Random()), new_id, clock)
    surface = _Surface(process, admit, trail, clock(), base_url, max_body)
    return [
        surface.metadata(),
        surface.route("", POST=surface.bundle),
        surface.route("/", POST=surface.bundle),
        surface.route("/{type}", GET=surface.search, POST=surface.create),
        surface.route("/{type}/{id}", GET=surface.read, PUT=surface.update, DELETE=surface.delete),
        surface.route("/{type}/{id}/_history", GET=surface.history),
        surface.route("/{type}/{id}/_history/{version}", GET=surface.vread),
        surface.route("/{path:path}"),
    ]


@dataclass(frozen=True, slots=True)
class _Surface:
    process: Process
    admit: Admit
    trail: Trail
    started: datetime
    base_url: str | None
    max_body: int

    def route(self, path: str, **actions: Action) -> Route:
        """A route of known callers, whose other methods are refused, with an OperationOutcome as everything is."""

        async def handle(request: Request) -> Response:
            caller = await self._caller(request)
            exchange = Exchange(request, self.base_url)
            action = actions.get("GET" if request.method == "HEAD" else request.method)
            if action is None:
                return _not_offered(request, actions)
            return await action(exchange, caller)

        return Route(ROOT + path, guarded(handle), methods=_METHODS)

    def metadata(self) -> Route:
        """What this server can do: for everybody, as R4 asks."""

        async def handle(request: Request) -> Response:
            exchange = Exchange(request, self.base_url)
            return exchange.respond(
                capability_statement(exchange.base, since=self.started, version=version_of("bonfire"))
            )

        return Route(f"{ROOT}/metadata", guarded(handle), methods=["GET"])

    async def read(self, exchange: Exchange, caller: Caller) -> Response:
        done = await self._look(caller, Read(_type(exchange), _id(exchange)))
        if isinstance(done, Shown) and _not_modified(exchange, done.version):
            return exchange.respond(None, 304, _version_headers(done.version))
        return _answer(exchange, done)

    async def vread(self, exchange: Exchange, caller: Caller) -> Response:
        number = exchange.request.path_params["version"]
        return _answer(exchange, await self._look(caller, Read(_type(exchange), _id(exchange), number)))

    async def search(self, exchange: Exchange, caller: Caller) -> Response:
        criteria = parse_criteria(_type(exchange), exchange.query)
        return _answer(exchange, await self._look(caller, Search(criteria)))

    async def history(self, exchange: Exchange, caller: Caller) -> Response:
        type_, id_ = _type(exchange), _id(exchange)
        asked = dict(exchange.query)
        if asked.keys() - {"_count", "_since", "_at", "_before"}:
            raise Refusal.unsupported("A history takes _count, _since and _at only", status=400)
        count = min(_whole(asked.get("_count", str(DEFAULT_COUNT)), "_count"), MAX_COUNT)
        before = _whole(asked["_before"], "_before") if "_before" in asked else None
        since = parse_instant(asked["_since"], "_since") if "_since" in asked else None
        at = parse_period(asked["_at"], "_at") if "_at" in asked else None
        page = await self.process.history(caller, type_, id_, count=count, before=before, since=since, at=at)
        return exchange.respond(history_bundle(page, exchange.base, f"{type_}/{id_}/_history", exchange.query))

    async def create(self, exchange: Exchange, caller: Caller) -> Response:
        type_ = _type(exchange)
        condition = exchange.request.headers.get("if-none-exist")
        unless = parse_query(type_, condition.removeprefix("?")) if condition else None
        entry = await exchange.body(self.max_body, lambda resource: prepare_lone(Create(type_, resource, unless)))
        return await self._one(exchange, caller, entry)

    async def update(self, exchange: Exchange, caller: Caller) -> Response:
        type_, id_, if_match = _type(exchange), _new_id(exchange), _if_match(exchange)
        if "if-none-match" in exchange.request.headers:
            raise Refusal.unsupported("If-None-Match is not supported on writes; If-Match is", status=400)
        entry = await exchange.body(
            self.max_body, lambda resource: prepare_lone(Update(type_, id_, resource, if_match))
        )
        return await self._one(exchange, caller, entry)

    async def delete(self, exchange: Exchange, caller: Caller) -> Response:
        asked = Delete(_type(exchange), _id(exchange), _if_match(exchange))
        return await self._one(exchange, caller, Entry(0, asked, lone=True))

    async def bundle(self, exchange: Exchange, caller: Caller) -> Response:
        prefer = exchange.prefer or "minimal"
        match await exchange.body(self.max_body, prepare_bundle):
            case Transaction() as transaction:
                done = await self.process.transaction(caller, transaction, "FHIR transaction")
                return exchange.respond(response_bundle("transaction", done, exchange.base, prefer))
            case Batch() as batch:
                tried = await self.process.batch(caller, batch)
                return exchange.respond(response_bundle("batch", tried, exchange.base, prefer))

    async def _one(self, exchange: Exchange, caller: Caller, entry: Entry) -> Response:
        activity = f"FHIR {type(entry.operation).__name__.lower()}"
        [done] = await self.process.transaction(caller, Transaction([entry]), activity)
        return _answer(exchange, done)

    async def _look(self, caller: Caller, operation: Read | Search) -> Done:
        [done] = await self.process.transaction(caller, Transaction([Entry(0, operation, lone=True)]), "FHIR read")
        return done

    async def _caller(self, request: Request) -> Caller:
        address = None if request.client is None else request.client.host
        name = request.headers.get("x-request-id", "")[:128] or None
        return await Caller.of(lambda: self.admit(request), self.trail, address, name)


def _answer(exchange: Exchange, done: Done) -> Response:
    """The response to one interaction."""
    match done:
        case Shown(version):
            return exchange.respond(version, headers=_version_headers(version))
        case Found(resource_type, versions):
            query = exchange.request.url.query
            return exchange.respond(searchset(versions, exchange.base, f"{exchange.base}/{resource_type}?{query}"))
        case Deleted(tombstone):
            return exchange.respond(None, 204, {"ETag": etag(tombstone.version)} if tombstone else None)
        case Wrote(version, changed):
            headers = {**_version_headers(version), "Location": f"{exchange.base}/{location(version)}"}
            status = 201 if changed and created(version) else 200
            match exchange.prefer:
                case "minimal":
                    return exchange.respond(None, status, headers)
                case "OperationOutcome":
                    return exchange.respond(written_outcome(version), status, headers)
                case "representation" | None:
                    return exchange.respond(version, status, headers)
        case _:
            assert_never(done)


def _not_offered(request: Request, actions: Mapping[str, Action]) -> Response:
    if not actions:
        raise Refusal.of("There is nothing at this URL", "not-found", code=FaultCode.not_found)
    if any(part.startswith(("$", "_")) for part in request.path_params.values()):
        raise Refusal.unsupported(_OPERATION)
    allowed = ", ".join(sorted(actions))
    refusal = Refusal.unsupported(f"{request.method} is not supported here; these are: {allowed}", status=405)
    return fault_response(refusal, headers={"Allow": allowed})


def _type(exchange: Exchange) -> str:
    name = str(exchange.request.path_params["type"])
    if name.startswith(("$", "_")):
        raise Refusal.unsupported(_OPERATION)
    if name not in resource_structures():
        raise Refusal.of("This is no resource type of FHIR R4", "not-supported", code=FaultCode.not_found)
    return name


def _id(exchange: Exchange) -> str:
    text = str(exchange.request.path_params["id"])
    if text.startswith(("$", "_")):
        raise Refusal.unsupported(_OPERATION)
    if not is_id(text):
        raise Refusal.of("There can't be a resource with this id", "not-found", code=FaultCode.not_found)
    return text


def _new_id(exchange: Exchange) -> str:
    text = str(exchange.request.path_params["id"])
    if not is_id(text):
        raise Refusal.of("The id in the URL is no FHIR id: 1 to 64 of A-Z a-z 0-9 - .", "value")
    return text


def _if_match(exchange: Exchange) -> int | None:
    header = exchange.request.headers.get("if-match")
    return None if header is None else parse_etag(header)


def _whole(text: str, parameter: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise Refusal.of(f"{parameter}: a whole number is expected", "value")
    return int(text)


def _version_headers(version: Version) -> dict[str, str]:
    return {"ETag": etag(version.version), "Last-Modified": http_date(version.last_updated)}


def _not_modified(exchange: Exchange, version: Version) -> bool:
    tags = exchange.request.headers.get("if-none-match")
    if tags is not None:
        return etag_matches(tags, version.version)
    since = exchange.request.headers.get("if-modified-since")
    try:
        # HTTP's times are whole seconds: the version of 10:00:00.5 is not newer than 10:00:00 to it.
        return since is not None and version.last_updated.replace(microsecond=0) <= parsedate_to_datetime(since)
    except (ValueError, TypeError):
        # No date, or one without a zone: RFC 9110 has it passed over.
        return False

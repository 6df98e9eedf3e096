"""The edge of HTTP: what every request passes on its way in, and every answer on its way out.

From the outside in: `ClientAddress` (who is behind the proxies), `SecurityHeaders`, Starlette's CORS for the operator's
origins, `OwnOrigins` (no foreign page writes), `Admission` (who calls, and whether they ask for too much). They are
plain ASGI: nothing is buffered, and streams stay streams.
"""

from collections.abc import Mapping
from math import ceil

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bonfire.access.identity import Identifier
from bonfire.access.limiter import Limiter, Throttled
from bonfire.access.origins import Origins, Proxies
from bonfire.access.principal import Principal
from bonfire.web.faults import fault_response
from bonfire_protocol.faults import Fault, FaultCode

BODY_UNIT = 64 * 1024
"""So many bytes of a request's body are worth a request."""

_IDENTITY = "bonfire.identity"
_READING = frozenset({"GET", "HEAD", "OPTIONS"})
# What has no policy of its own is data, and loads nothing.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin-allow-popups",
    "Cross-Origin-Resource-Policy": "same-origin",
    # An app may listen to a dictation and take a picture; a page that it embeds may not.
    "Permissions-Policy": "camera=(self), microphone=(self), geolocation=(), payment=(), usb=(), browsing-topics=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_ASKED_HEADERS = (
    "Authorization",
    "Content-Type",
    "If-Match",
    "If-Modified-Since",
    "If-None-Exist",
    "If-None-Match",
    "Prefer",
    "X-Bonfire-Tenant",
)
_SHOWN_HEADERS = ("Content-Location", "ETag", "Last-Modified", "Location", "Retry-After")


def edge(
    *,
    api: tuple[str, ...],
    identifier: Identifier,
    limiter: Limiter,
    origins: Origins,
    proxies: Proxies,
    hsts_seconds: int = 0,
) -> list[Middleware]:
    """The middleware of a node, outermost first. `api`: the paths (`/fhir`) below which callers are identified, data
    are answered, and limits hold."""
    cors = Middleware(
        CORSMiddleware,
        allow_origins=sorted(origins.allowed),
        allow_methods=("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"),
        allow_headers=_ASKED_HEADERS,
        expose_headers=_SHOWN_HEADERS,
        allow_credentials=False,
    )
    return [
        Middleware(ClientAddress, proxies=proxies),
        Middleware(SecurityHeaders, api=api, hsts_seconds=hsts_seconds),
        *([cors] if origins.allowed else []),
        Middleware(OwnOrigins, origins=origins),
        Middleware(Admission, api=api, identifier=identifier, limiter=limiter),
    ]


def address_of(scope: Scope) -> str | None:
    """The client's address, as `ClientAddress` has found it; None where the transport has none."""
    client = scope.get("client")
    return client[0] if client else None


def identity_of(scope: Scope) -> Principal:
    """Who calls, as `Admission` has found. Fault unauthenticated, forbidden or unavailable: why that is not known."""
    found = scope[_IDENTITY]
    if isinstance(found, Fault):
        raise found
    assert isinstance(found, Principal)
    return found


class ClientAddress:
    """Has the scope say who the client is and how they came, where a trusted proxy knows better."""

    def __init__(self, app: ASGIApp, *, proxies: Proxies) -> None:
        self._app = app
        self._proxies = proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope.get("client"):
            headers = Headers(scope=scope)
            peer, port = scope["client"]
            address = self._proxies.address(peer, ", ".join(headers.getlist("x-forwarded-for")) or None)
            scope = {**scope, "client": (address, port if address == peer else 0)}
            scheme = headers.get("x-forwarded-proto", "").strip().lower()
            if scheme in ("http", "https") and self._proxies.trusts(peer):
                scope["scheme"] = scheme
        await self._app(scope, receive, send)


class SecurityHeaders:
    """Adds what an answer does not say itself."""

    def __init__(self, app: ASGIApp, *, api: tuple[str, ...], hsts_seconds: int = 0) -> None:
        self._app = app
        self._api = api
        self._pages = dict(_HEADERS)
        if hsts_seconds:
            self._pages["Strict-Transport-Security"] = f"max-age={hsts_seconds}"
        # A patient's data are kept by no cache that is not told how.
        self._data = {**self._pages, "Cache-Control": "no-store"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        added: Mapping[str, str] = self._data if _is_under(scope["path"], self._api) else self._pages

        async def add(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in added.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, add)


class OwnOrigins:
    """Refuses what a page of another origin wants to change, whatever token it has."""

    def __init__(self, app: ASGIApp, *, origins: Origins) -> None:
        self._app = app
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            try:
                if scope["method"] in _READING:
                    self._origins.check_host(headers.get("host"))
                else:
                    self._origins.check(headers.get("origin"), headers.get("host"))
            except Fault as fault:
                await fault_response(fault)(scope, receive, send)
                return
        await self._app(scope, receive, send)


class Admission:
    """Tells who calls, once for each request: `identity_of` has it. Refuses with 429 who asks for too much, and who
    shows one bad token after the other.

    A caller who is not known goes on: whether that is refused is the route's to say, since some are for everybody.
    """

    def __init__(self, app: ASGIApp, *, api: tuple[str, ...], identifier: Identifier, limiter: Limiter) -> None:
        self._app = app
        self._api = api
        self._identifier = identifier
        self._limiter = limiter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _is_under(scope["path"], self._api):
            await self._app(scope, receive, send)
            return
        address = address_of(scope)
        try:
            found = await self._identify(Headers(scope=scope), address)
            principal = found if isinstance(found, Principal) else None
            self._limiter.request(principal, address)
        except Throttled as throttled:
            await _too_many(throttled)(scope, receive, send)
            return

        async def count() -> Message:
            message = await receive()
            if message["type"] == "http.request":
                self._limiter.spend(principal, address, len(message.get("body", b"")) / BODY_UNIT)
            return message

        await self._app({**scope, _IDENTITY: found}, count, send)

    async def _identify(self, headers: Headers, address: str | None) -> Principal | Fault:
        token = bearer_of(headers.get("authorization"))
        if token is not None:
            self._limiter.hello(address)
        try:
            principal = await self._identifier.identify(token, headers.get("x-bonfire-tenant"))
        except Fault as fault:
            if token is not None and fault.code is FaultCode.unauthenticated:
                self._limiter.failed(address)
            return fault
        if token is not None:
            self._limiter.succeeded(address)
        return principal


def bearer_of(authorization: str | None) -> str | None:
    """The token in a header `Authorization: Bearer ...` (RFC 6750, section 2.1)."""
    scheme, _, token = (authorization or "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def _is_under(path: str, api: tuple[str, ...]) -> bool:
    return any(path == root or path.startswith(f"{root}/") for root in api)


def _too_many(throttled: Throttled) -> Response:
    response = fault_response(throttled)
    response.headers["Retry-After"] = str(max(1, ceil(throttled.wait)))
    return response

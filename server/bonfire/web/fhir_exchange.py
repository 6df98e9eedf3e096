"""One HTTP request in FHIR's terms: formats, preferences, parameters, the body; and the response to it."""

import asyncio
from collections.abc import Callable, Mapping
from email.message import Message
from typing import Any, TypeVar, get_args

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from bonfire.fhir.answers import Preference
from bonfire.fhir.codec import decode, encode
from bonfire.fhir.outcome import Refusal
from bonfire.store.resources import Version
from bonfire.web.faults import FHIR_JSON
from bonfire_protocol.faults import Fault, FaultCode

Result = TypeVar("Result")

ROOT = "/fhir"

LARGE_BODY = 64 * 1024
"""Bytes from which on a body is worked on in a thread, so that live clients do not wait for it."""

_JSON_TYPES = frozenset({"application/fhir+json", "application/json", "text/json"})
_ACCEPTED = _JSON_TYPES | {"application/*", "*/*"}
_FORMATS = _JSON_TYPES | {"json"}
_GENERAL = ("_format", "_pretty")


class Exchange:
    """A request whose format is one that we speak, and the way to answer it."""

    def __init__(self, request: Request, base_url: str | None) -> None:
        """`base_url` is the service's public URL, without a slash at its end; None: what the client has called it.

        Refusal where the client asks for another format than JSON.
        """
        self.request = request
        self.base = base_url or f"{request.url.scheme}://{request.url.netloc}{ROOT}"
        self.pretty = request.query_params.get("_pretty") == "true"
        self.query = [(name, value) for name, value in request.query_params.multi_items() if name not in _GENERAL]
        _check_accepted(request)

    @property
    def prefer(self) -> Preference | None:
        """What the response to a write is to hold; None where the client does not care."""
        stated = {name.strip(): value.strip() for name, _, value in self._preferences()}
        wanted = stated.get("return", "").strip('"')
        return next((each for each in get_args(Preference) if each == wanted), None)

    async def body(self, limit: int, prepare: Callable[[Any], Result]) -> Result:
        """What `prepare` makes of the JSON value in the body, which has at most `limit` bytes."""
        _check_content_type(self.request)
        data = await self._read(limit)
        if len(data) < LARGE_BODY:
            return prepare(decode(data))
        return await asyncio.to_thread(lambda: prepare(decode(data)))

    def respond(
        self, body: Mapping[str, Any] | Version | None, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> Response:
        """A response with `body` as FHIR JSON, or without any."""
        sent = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache", **(headers or {})}
        if body is None:
            return Response(status_code=status, headers=sent)
        if isinstance(body, Version):
            text = body.resource.encode()
            return Response(msgspec.json.format(text, indent=2) if self.pretty else text, status, sent, FHIR_JSON)
        return Response(encode(body, pretty=self.pretty), status, sent, FHIR_JSON)

    def _preferences(self) -> list[tuple[str, str, str]]:
        header = ",".join(self.request.headers.getlist("prefer"))
        return [each.partition("=") for each in header.replace(";", ",").split(",")]

    async def _read(self, limit: int) -> bytes:
        parts: list[bytes] = []
        size = 0
        async for part in self.request.stream():
            size += len(part)
            if size > limit:
                raise Fault(FaultCode.too_large, f"The body is larger than {limit} bytes")
            parts.append(part)
        return b"".join(parts)


def _check_accepted(request: Request) -> None:
    wanted = request.query_params.get("_format")
    if wanted is not None:
        # A + that was not encoded has come as a space.
        if _media_type(wanted.replace(" ", "+")) not in _FORMATS:
            raise Refusal.unsupported("_format: this server speaks JSON (application/fhir+json) only", status=406)
        return
    stated = ",".join(request.headers.getlist("accept"))
    if stated.strip() and not any(_media_type(each) in _ACCEPTED for each in stated.split(",")):
        raise Refusal.unsupported("Accept: this server speaks JSON (application/fhir+json) only", status=406)


def _check_content_type(request: Request) -> None:
    header = Message()
    header["content-type"] = request.headers.get("content-type", "")
    if header.get_content_type() not in _JSON_TYPES:
        raise Refusal.unsupported("Content-Type: application/fhir+json is expected", status=415)
    if str(header.get_param("charset", "utf-8")).lower() not in ("utf-8", "utf8"):
        raise Refusal.unsupported("Content-Type: the charset of FHIR is UTF-8", status=415)
    if str(header.get_param("fhirVersion", "4.0")) not in ("4.0", "4.0.1"):
        raise Refusal.unsupported("Content-Type: this server speaks fhirVersion 4.0", status=415)


def _media_type(text: str) -> str:
    return text.partition(";")[0].strip().lower()

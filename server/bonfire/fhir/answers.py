"""The Bundles that answer: history, searchset, and the response to a transaction or batch. Pure.

`base` is the service's base URL without a slash at its end.
"""

from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any, Literal, assert_never
from urllib.parse import urlencode

from msgspec import Raw

from bonfire.clinical.times import instant
from bonfire.fhir.done import Deleted, Done, Found, Shown, Wrote
from bonfire.fhir.etag import etag
from bonfire.fhir.interactions import HistoryPage
from bonfire.fhir.outcome import Issue, issues_of, operation_outcome, status_of
from bonfire.store.resources import Version
from bonfire_protocol.faults import Fault

BundleKind = Literal["transaction", "batch"]

Preference = Literal["minimal", "representation", "OperationOutcome"]


def location(version: Version) -> str:
    """The URL of a version, relative to the base."""
    return f"{version.resource_type}/{version.id}/_history/{version.version}"


def raw(version: Version) -> Raw:
    """The version's resource, to be put into a larger JSON text as it is."""
    return Raw(version.resource.encode())


def created(version: Version) -> bool:
    """Whether this version made the record: for the first time, or anew after a deletion."""
    return version.status in ("created", "recreated")


def written_outcome(version: Version) -> dict[str, Any]:
    """What `Prefer: return=OperationOutcome` asks for."""
    issue = Issue("informational", f"{location(version)} is committed")
    return operation_outcome([issue], severity="information")


def searchset(found: Sequence[Version], base: str, self_url: str) -> dict[str, Any]:
    """The Bundle of all that a search found."""
    return {
        "resourceType": "Bundle",
        "type": "searchset",
        "total": len(found),
        "link": [{"relation": "self", "url": self_url}],
        **_entries(
            {"fullUrl": _full_url(each, base), "resource": raw(each), "search": {"mode": "match"}} for each in found
        ),
    }


def history_bundle(page: HistoryPage, base: str, path: str, query: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """A page of a record's history. `path` and `query` are those of the request; the next page is named by the
    same query with `_before`, the last version shown."""
    links = [{"relation": "self", "url": _url(f"{base}/{path}", query)}]
    if page.more and page.versions:
        kept = [(name, value) for name, value in query if name != "_before"]
        last = str(page.versions[-1].version)
        links.append({"relation": "next", "url": _url(f"{base}/{path}", [*kept, ("_before", last)])})
    return {
        "resourceType": "Bundle",
        "type": "history",
        "total": page.total,
        "link": links,
        **_entries(_history_entry(each, base) for each in page.versions),
    }


def response_bundle(kind: BundleKind, done: Iterable[Done | Fault], base: str, prefer: Preference) -> dict[str, Any]:
    """The answer to a transaction or batch, entry for entry."""
    return {
        "resourceType": "Bundle",
        "type": f"{kind}-response",
        **_entries(_response_entry(each, base, prefer) for each in done),
    }


def _entries(entries: Iterable[dict[str, Any]]) -> dict[str, Any]:
    # An empty list is not allowed in FHIR's JSON.
    found = list(entries)
    return {"entry": found} if found else {}


def _url(url: str, query: Sequence[tuple[str, str]]) -> str:
    return f"{url}?{urlencode(query)}" if query else url


def _history_entry(version: Version, base: str) -> dict[str, Any]:
    address = f"{version.resource_type}/{version.id}"
    entry: dict[str, Any] = {"fullUrl": _full_url(version, base)}
    match version.status:
        case "deleted":
            request, status = {"method": "DELETE", "url": address}, HTTPStatus.NO_CONTENT
        case "created":
            request, status = {"method": "POST", "url": version.resource_type}, HTTPStatus.CREATED
        case "recreated":
            request, status = {"method": "PUT", "url": address}, HTTPStatus.CREATED
        case _:
            request, status = {"method": "PUT", "url": address}, HTTPStatus.OK
    if version.status != "deleted":
        entry["resource"] = raw(version)
    return entry | {"request": request, "response": _response(status, version)}


def _response_entry(done: Done | Fault, base: str, prefer: Preference) -> dict[str, Any]:
    match done:
        case Fault():
            outcome = operation_outcome(issues_of(done))
            return {"response": {"status": _status(HTTPStatus(status_of(done))), "outcome": outcome}}
        case Deleted(tombstone):
            return {"response": _response(HTTPStatus.NO_CONTENT, tombstone)}
        case Found(resource_type, versions):
            found = searchset(versions, base, f"{base}/{resource_type}")
            return {"resource": found, "response": {"status": _status(HTTPStatus.OK)}}
        case Shown(version):
            shown = {"fullUrl": _full_url(version, base), "resource": raw(version)}
            return shown | {"response": _response(HTTPStatus.OK, version)}
        case Wrote(version, changed):
            status = HTTPStatus.CREATED if changed and created(version) else HTTPStatus.OK
            spelled: dict[str, Any] = {"fullUrl": _full_url(version, base), "response": _response(status, version)}
            if prefer == "representation":
                spelled["resource"] = raw(version)
            elif prefer == "OperationOutcome":
                spelled["response"]["outcome"] = written_outcome(version)
            return spelled
        case _:
            assert_never(done)


def _full_url(version: Version, base: str) -> str:
    return f"{base}/{version.resource_type}/{version.id}"


def _response(status: HTTPStatus, version: Version | None) -> dict[str, Any]:
    response: dict[str, Any] = {"status": _status(status)}
    if version is not None:
        if version.status != "deleted":
            response["location"] = location(version)
        response |= {"etag": etag(version.version), "lastModified": instant(version.last_updated)}
    return response


def _status(status: HTTPStatus) -> str:
    return f"{status.value} {status.phrase}"

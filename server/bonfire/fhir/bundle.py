"""A transaction or batch Bundle, taken apart: what each entry asks for, in which order, and how links are renamed.

Pure: ids are given out and conditions are looked up by the caller, who then has the links renamed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, assert_never
from urllib.parse import parse_qsl

from bonfire.fhir.criteria import Criteria, parse_conditional, parse_criteria, parse_query
from bonfire.fhir.definitions.primitives import is_id
from bonfire.fhir.definitions.structure import resource_structures
from bonfire.fhir.etag import parse_etag
from bonfire.fhir.outcome import Issue, Refusal
from bonfire.fhir.references import Link, links, renamer

_URNS = ("urn:uuid:", "urn:oid:")


@dataclass(frozen=True, slots=True)
class Create:
    """POST `resource_type`: make `resource`, unless `unless` finds one already (ifNoneExist). `id` is the id that it
    gets; a new one, where that is None."""

    resource_type: str
    resource: dict[str, Any]
    unless: Criteria | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Update:
    """PUT `resource_type/id`: `resource` is its next version, or its first; only over version `if_match`, if given."""

    resource_type: str
    id: str
    resource: dict[str, Any]
    if_match: int | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """DELETE `resource_type/id`; only of version `if_match`, if given."""

    resource_type: str
    id: str
    if_match: int | None = None


@dataclass(frozen=True, slots=True)
class Read:
    """GET `resource_type/id`, or a version of it."""

    resource_type: str
    id: str
    version: str | None = None


@dataclass(frozen=True, slots=True)
class Search:
    """GET `resource_type?...`."""

    criteria: Criteria


Operation = Create | Update | Delete | Read | Search


@dataclass(frozen=True, slots=True)
class Entry:
    """Entry number `index` of the Bundle, counted from 0. `links` are those of the resource that it writes.

    A `lone` entry is a request of its own: its resource may hold a urn: that only others know.
    """

    index: int
    operation: Operation
    full_url: str | None = None
    links: Sequence[Link] = ()
    lone: bool = False

    @property
    def place(self) -> str:
        """The entry's FHIRPath; empty for a lone one."""
        return "" if self.lone else entry_place(self.index)


def entry_place(index: int) -> str:
    """The FHIRPath of an entry."""
    return f"Bundle.entry[{index}]"


def parse_entry(index: int, entry: Mapping[str, Any]) -> Entry:
    """What `entry` (of a Bundle whose own structure is valid) asks for. Refusal names the element that is wrong."""
    place = entry_place(index)
    request = entry.get("request")
    if request is None:
        raise Refusal.of("request is missing", "required", expression=f"{place}.request")
    operation = _operation(request, entry.get("resource"), place)
    written = operation.resource if isinstance(operation, Create | Update) else None
    return Entry(index, operation, entry.get("fullUrl"), links(written, f"{place}.resource"))


def refuse_overlaps(entries: Iterable[Entry]) -> None:
    """Refusal where two entries of a transaction write the same resource or have the same fullUrl."""
    seen: dict[str, int] = {}
    issues: list[Issue] = []

    def note(identity: str, entry: Entry, element: str) -> None:
        first = seen.setdefault(identity, entry.index)
        if first != entry.index:
            details = f"The same resource is written by entry {first} of this transaction"
            issues.append(Issue("duplicate", details, f"{entry.place}.{element}"))

    for entry in entries:
        if entry.full_url is not None and not isinstance(entry.operation, Read | Search):
            note(entry.full_url, entry, "fullUrl")
        if isinstance(entry.operation, Create | Update | Delete) and entry.operation.id is not None:
            note(f"{entry.operation.resource_type}/{entry.operation.id}", entry, "request.url")
    if issues:
        raise Refusal(issues)


def in_order(entries: Iterable[Entry]) -> list[Entry]:
    """The order of processing: DELETE, POST, PUT, GET; within these by type and id, so that two transactions lock the
    same records in the same order."""
    return sorted(entries, key=_order)


def conditional_creates(entries: Iterable[Entry]) -> list[Criteria]:
    """The criteria of all conditional creates."""
    operations = (entry.operation for entry in entries)
    return [each.unless for each in operations if isinstance(each, Create) and each.unless is not None]


def conditional_references(entries: Iterable[Entry]) -> list[Criteria]:
    """The criteria of all conditional references, each once. Refusal for one that asks for more than `_id` and
    `identifier`."""
    found = (
        parse_conditional(link.value, link.path)
        for entry in entries
        for link in entry.links
        if link.kind == "reference"
    )
    return list(dict.fromkeys(criteria for criteria in found if criteria is not None))


def rename_links(entry: Entry, targets: Mapping[str, str], matches: Mapping[Criteria, Sequence[str]]) -> list[Issue]:
    """Spell the links of the entry's resource anew: full URLs by `targets`, conditional references by `matches`.

    The issues are the references that are left without a target: conditional ones that find no resource or several, and
    a `urn:uuid:` or `urn:oid:` that no entry of the Bundle has.
    """
    rename = renamer(targets, entry.full_url)
    issues: list[Issue] = []
    for link in entry.links:
        criteria = parse_conditional(link.value, link.path) if link.kind == "reference" else None
        if criteria is None:
            link.spell(rename)
            if _dangles(entry, link, targets):
                issues.append(
                    Issue("not-found", "No entry of the Bundle has the fullUrl that this refers to", link.path)
                )
        elif len(ids := matches[criteria]) == 1:
            link.point_to(f"{criteria.resource_type}/{ids[0]}")
        elif ids:
            issues.append(Issue("multiple-matches", "The conditional reference finds several resources", link.path))
        else:
            issues.append(Issue("not-found", "The conditional reference finds no resource", link.path))
    return issues


def _dangles(entry: Entry, link: Link, targets: Mapping[str, str]) -> bool:
    urn = link.kind == "reference" and link.value.startswith(_URNS)
    return urn and link.value not in targets and not entry.lone


def _order(entry: Entry) -> tuple[int, str, str, int]:
    match entry.operation:
        case Delete(resource_type, id_):
            return (0, resource_type, id_, entry.index)
        case Create(resource_type):
            return (1, resource_type, "", entry.index)
        case Update(resource_type, id_):
            return (2, resource_type, id_, entry.index)
        case Read(resource_type, id_):
            return (3, resource_type, id_, entry.index)
        case Search(criteria):
            return (3, criteria.resource_type, "", entry.index)
        case _:
            assert_never(entry.operation)


def _operation(request: Mapping[str, Any], resource: Any, place: str) -> Operation:
    path, _, encoded = _text(request, "url").partition("?")
    segments = path.strip("/").split("/")
    query = parse_qsl(encoded, keep_blank_values=True)
    at = f"{place}.request"
    if segments[0] not in resource_structures():
        raise Refusal.of("The URL begins with no resource type of FHIR R4", "not-supported", expression=f"{at}.url")
    method = _text(request, "method")
    if method != "GET" and query:
        raise Refusal.unsupported(f"A conditional {method} is not supported", status=400, expression=f"{at}.url")
    match method, segments:
        case "POST", [type_]:
            return Create(type_, _resource(resource, type_, place), _unless(request, type_, at))
        case "PUT", [type_, id_]:
            return Update(type_, _id(id_, at), _resource(resource, type_, place, id_), _if_match(request, at))
        case "DELETE", [type_, id_]:
            return Delete(type_, _id(id_, at), _if_match(request, at))
        case "GET", [type_, id_]:
            return Read(type_, _id(id_, at))
        case "GET", [type_, id_, "_history", version]:
            return Read(type_, _id(id_, at), version)
        case "GET", [type_]:
            return Search(parse_criteria(type_, query, place=f"{at}.url"))
        case _:
            raise Refusal.unsupported(f"{method} is not supported at this URL", status=400, expression=f"{at}.url")


def _resource(resource: Any, type_: str, place: str, id_: str | None = None) -> dict[str, Any]:
    at = f"{place}.resource"
    if not isinstance(resource, dict):
        raise Refusal.of("resource is missing", "required", expression=at)
    if resource.get("resourceType") != type_:
        raise Refusal.of(f"The URL asks for a {type_}", "invalid", expression=f"{at}.resourceType")
    if id_ is not None and resource.get("id") != id_:
        raise Refusal.of("The resource's id is not that of the URL", "invalid", expression=f"{at}.id")
    return resource


def _id(text: str, at: str) -> str:
    if not is_id(text):
        raise Refusal.of("The id in the URL is no FHIR id", "value", expression=f"{at}.url")
    return text


def _unless(request: Mapping[str, Any], type_: str, at: str) -> Criteria | None:
    query = request.get("ifNoneExist")
    return None if query is None else parse_query(type_, query.removeprefix("?"), place=f"{at}.ifNoneExist")


def _if_match(request: Mapping[str, Any], at: str) -> int | None:
    text = request.get("ifMatch")
    return None if text is None else parse_etag(text, place=f"{at}.ifMatch")


def _text(request: Mapping[str, Any], name: str) -> str:
    return str(request.get(name, ""))

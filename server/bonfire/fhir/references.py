"""The links of a resource to others, and how they are rewritten when ids are given out.

R4 (http.html, "transaction") names where links stand: in references, in elements of type uri, url, oid and uuid, and
in the `href` and `src` of a narrative. Canonicals, strings and all other text are never touched.
"""

import html
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from bonfire.fhir.definitions.structure import ANY_RESOURCE, Property, resource_structures, structures

_URI_TYPES = frozenset({"uri", "url", "oid", "uuid"})
_NARRATIVE_LINK = re.compile(r"""(<(?:a|img)\b[^>]*?\s(?:href|src)\s*=\s*)("[^"]*"|'[^']*')""", re.IGNORECASE)
_RELATIVE = re.compile(r"(?P<type>[A-Z][A-Za-z]+)/(?P<id>[A-Za-z0-9\-.]{1,64})(/_history/[A-Za-z0-9\-.]{1,64})?")
_RESTFUL = re.compile(rf"(?P<base>\S*?/)(?={_RELATIVE.pattern}$)(?P<target>\S+)")


@dataclass(frozen=True, slots=True)
class Reference:
    """One `Reference.reference` of a resource. `path` is its FHIRPath; `owner["reference"]` is where it stands."""

    owner: dict[str, Any]
    path: str

    @property
    def target(self) -> str:
        return str(self.owner["reference"])

    def point_to(self, target: str) -> None:
        self.owner["reference"] = target


@dataclass(frozen=True, slots=True)
class FullUrl:
    """A RESTful URL in its parts: `http://example.org/fhir/` + `Patient` + `p1`."""

    base: str
    resource_type: str
    id: str

    @classmethod
    def parse(cls, url: str) -> "FullUrl | None":
        """None where `url` is of another kind, such as `urn:uuid:`."""
        match = _RESTFUL.fullmatch(url)
        if match is None or match["type"] not in resource_structures():
            return None
        return cls(match["base"], match["type"], match["id"])


def references(resource: dict[str, Any]) -> Iterator[Reference]:
    """Every literal reference in `resource`, those of contained resources too; `resource` need not be valid."""
    for place in _places(resource, str(resource.get("resourceType", ""))):
        if place.kind == "reference":
            yield Reference(place.owner, place.path)


def relink(resource: dict[str, Any], rename: Callable[[str], str | None]) -> None:
    """Put `rename(link)` in place of each link of `resource`, changing it in place; None leaves the link as it is."""
    for place in _places(resource, ""):
        value = place.owner[place.key]
        renamed = _relink_narrative(value, rename) if place.kind == "narrative" else rename(value)
        if renamed is not None:
            place.owner[place.key] = renamed


def renamer(targets: dict[str, str], full_url: str | None) -> Callable[[str], str | None]:
    """How the links of an entry at `full_url` are renamed, where `targets` maps full URLs to `Type/id`.

    A relative link means the entry under the same base as the entry that holds it (R4, "Resolving references in
    Bundles").
    """
    own = FullUrl.parse(full_url) if full_url else None
    base = own.base if own else None

    def rename(link: str) -> str | None:
        if link in targets:
            return targets[link]
        match = _RELATIVE.fullmatch(link)
        if match is not None:
            return targets.get(f"{base}{match['type']}/{match['id']}") if base else None
        versioned = FullUrl.parse(link)
        return targets.get(f"{versioned.base}{versioned.resource_type}/{versioned.id}") if versioned else None

    return rename


def _relink_narrative(text: str, rename: Callable[[str], str | None]) -> str:
    def replace(match: re.Match[str]) -> str:
        quote, link = match[2][0], html.unescape(match[2][1:-1])
        renamed = rename(link)
        return match[0] if renamed is None else f"{match[1]}{quote}{html.escape(renamed)}{quote}"

    return _NARRATIVE_LINK.sub(replace, text)


@dataclass(frozen=True, slots=True)
class _Place:
    """A string that is a link: `owner[key]`."""

    owner: Any
    key: Any
    kind: str
    path: str


def _places(value: Any, path: str) -> Iterator[_Place]:
    if isinstance(value, dict):
        structure = resource_structures().get(str(value.get("resourceType")))
        if structure is not None:
            yield from _inner(value, structure.name, path)


def _inner(value: dict[str, Any], type_: str, path: str) -> Iterator[_Place]:
    if type_ == "Reference" and isinstance(value.get("reference"), str):
        yield _Place(value, "reference", "reference", f"{path}.reference")
    properties = structures()[type_].properties
    for name, child in value.items():
        found = properties.get(name)
        if found is None:
            continue
        if isinstance(child, list):
            for index, item in enumerate(child):
                yield from _at(child, index, item, found, f"{path}.{found.element}[{index}]")
        else:
            yield from _at(value, name, child, found, f"{path}.{found.element}")


def _at(owner: Any, key: Any, value: Any, found: Property, path: str) -> Iterator[_Place]:
    if isinstance(value, str):
        if found.type in _URI_TYPES:
            yield _Place(owner, key, "uri", path)
        elif found.type == "xhtml":
            yield _Place(owner, key, "narrative", path)
    elif isinstance(value, dict) and not found.primitive:
        if found.type == ANY_RESOURCE:
            yield from _places(value, path)
        else:
            yield from _inner(value, found.type, path)

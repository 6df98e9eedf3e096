"""The links of a resource to others, and how they are renamed when ids are given out.

R4 (http.html, "transaction") names where links stand: in references, in elements of type uri, url, oid and uuid, and
in the `href` and `src` of a narrative. Canonicals, strings and all other text are never touched.
"""

import html
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bonfire.fhir.definitions.structure import ANY_RESOURCE, Property, resource_structures, structures

Rename = Callable[[str], str | None]
"""The new spelling of a link, or None to leave it as it is."""

_URI_TYPES = frozenset({"uri", "url", "oid", "uuid"})
_NARRATIVE_LINK = re.compile(r"""(<(?:a|img)\b[^>]*?\s(?:href|src)\s*=\s*)("[^"]*"|'[^']*')""", re.IGNORECASE)
_RELATIVE = re.compile(r"(?P<type>[A-Z][A-Za-z]+)/(?P<id>[A-Za-z0-9\-.]{1,64})(/_history/[A-Za-z0-9\-.]{1,64})?")
_RESTFUL = re.compile(rf"(?P<base>\S*?/){_RELATIVE.pattern}")


@dataclass(frozen=True, slots=True)
class Link:
    """A link as it came: `value`, at the FHIRPath `path`. It stands in `owner[key]`; a narrative may hold several."""

    kind: Literal["reference", "uri", "narrative"]
    value: str
    path: str
    owner: Any
    key: str | int

    def spell(self, rename: Rename) -> None:
        """Write the link into the resource as `rename` spells `value`: so it may be done again, with other ids."""
        renamed = _in_narrative(self.value, rename) if self.kind == "narrative" else rename(self.value)
        self.owner[self.key] = self.value if renamed is None else renamed

    def point_to(self, target: str) -> None:
        """Write `target` into the resource in place of the whole link."""
        self.owner[self.key] = target


@dataclass(frozen=True, slots=True)
class FullUrl:
    """A RESTful URL in its parts, without its version: `http://example.org/fhir/`, `Patient`, `p1`."""

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


def links(resource: Any, path: str = "") -> list[Link]:
    """Every link in `resource`, those in contained resources too. `resource` need not be valid; `path` is where it
    stands, where that is not its type."""
    return list(_in_resource(resource, path))


def renamer(targets: Mapping[str, str], full_url: str | None) -> Rename:
    """How the links of an entry at `full_url` are renamed, where `targets` maps full URLs to `Type/id`.

    A relative link means the entry under the same base as the entry that holds it (R4, "Resolving references in
    Bundles"). A link to a version of an entry becomes one to the entry: its versions are counted anew here.
    """
    own = FullUrl.parse(full_url) if full_url else None
    base = own.base if own else None

    def rename(link: str) -> str | None:
        if link in targets:
            return targets[link]
        match = _RELATIVE.fullmatch(link)
        if match is not None:
            return targets.get(f"{base}{match['type']}/{match['id']}") if base else None
        absolute = FullUrl.parse(link)
        return targets.get(f"{absolute.base}{absolute.resource_type}/{absolute.id}") if absolute else None

    return rename


def _in_narrative(text: str, rename: Rename) -> str:
    def replace(match: re.Match[str]) -> str:
        quote, link = match[2][0], html.unescape(match[2][1:-1])
        renamed = rename(link)
        return match[0] if renamed is None else f"{match[1]}{quote}{html.escape(renamed)}{quote}"

    return _NARRATIVE_LINK.sub(replace, text)


def _in_resource(value: Any, path: str) -> Iterator[Link]:
    if isinstance(value, dict):
        structure = resource_structures().get(str(value.get("resourceType")))
        if structure is not None:
            yield from _in_object(value, structure.name, path or structure.name)


def _in_object(value: dict[str, Any], type_: str, path: str) -> Iterator[Link]:
    if type_ == "Reference" and isinstance(value.get("reference"), str):
        yield Link("reference", value["reference"], f"{path}.reference", value, "reference")
    properties = structures()[type_].properties
    for name, child in value.items():
        found = properties.get(name)
        if found is None:
            continue
        if isinstance(child, list):
            for index, item in enumerate(child):
                yield from _in_place(child, index, item, found, f"{path}.{found.element}[{index}]")
        else:
            yield from _in_place(value, name, child, found, f"{path}.{found.element}")


def _in_place(owner: Any, key: str | int, value: Any, found: Property, path: str) -> Iterator[Link]:
    if isinstance(value, str):
        if found.type in _URI_TYPES:
            yield Link("uri", value, path, owner, key)
        elif found.type == "xhtml":
            yield Link("narrative", value, path, owner, key)
    elif isinstance(value, dict) and not found.primitive:
        if found.type == ANY_RESOURCE:
            yield from _in_resource(value, path)
        else:
            yield from _in_object(value, found.type, path)

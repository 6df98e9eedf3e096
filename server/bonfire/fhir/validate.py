"""Whether a resource is what R4 says: its elements, their types, cardinalities and formats, and the codes of elements
of type code (`Patient.gender`) that R4 lists.

Invariants, other terminology and profiles are not looked at. What is valid is stored as it came; nothing here
changes or completes a value. Messages name elements and kinds, never values.
"""

import re
from typing import Any

from bonfire.fhir.definitions.primitives import PRIMITIVES
from bonfire.fhir.definitions.structure import ANY_RESOURCE, Property, Structure, resource_structures, structures
from bonfire.fhir.outcome import MAX_ISSUES, Issue, IssueCode, Refusal

MAX_DEPTH = 64
"""Objects within objects. Deep questionnaires and nested extensions stay below 20."""

_FEW = 16
"""Up to so many codes are listed in a message."""

_ELEMENT_NAME = re.compile(r"_?[A-Za-z][A-Za-z0-9]{0,63}")


def validate(resource: Any, resource_type: str | None = None) -> None:
    """Refusal, naming up to 20 issues, unless `resource` is a valid R4 resource (of type `resource_type`, if given)."""
    issues = check(resource, resource_type)
    if issues:
        raise Refusal(issues)


def check(resource: Any, resource_type: str | None = None, path: str = "") -> list[Issue]:
    """What is wrong with `resource`: up to 20 issues, none when it is valid.

    `path` is where it stands (`Bundle.entry[3].resource`); else expressions begin with its type.
    """
    walk = _Walk()
    try:
        walk.resource(resource, path, resource_type, 0)
    except _EnoughIssues:
        pass
    return walk.issues


def check_shell(bundle: Any) -> list[Issue]:
    """What is wrong with a Bundle itself, its entries' resources aside."""
    walk = _Walk(into_entries=False)
    try:
        walk.resource(bundle, "", "Bundle", 0)
    except _EnoughIssues:
        pass
    return walk.issues


class _EnoughIssues(Exception):
    """The list is as long as anybody reads."""


class _Walk:
    """One pass over one resource. `path` is carried as text, extended only where a child is an object or is wrong."""

    def __init__(self, *, into_entries: bool = True) -> None:
        self.issues: list[Issue] = []
        self._structures = structures()
        self._resources = resource_structures()
        self._into_entries = into_entries

    def resource(self, value: Any, path: str, expected: str | None, depth: int) -> None:
        if not isinstance(value, dict):
            self._add("structure", f"A resource is a JSON object, not {kind(value)}", path)
            return
        type_ = value.get("resourceType")
        if type_ is None:
            self._add("required", "resourceType is missing", path)
            return
        if not isinstance(type_, str) or type_ not in self._resources:
            self._add("invalid", "resourceType names no resource type of FHIR R4", path)
            return
        if expected is not None and type_ != expected:
            self._add("invalid", f"resourceType is {type_}, but {expected} is expected here", path or type_)
            return
        self._object(value, self._resources[type_], path or type_, depth, is_resource=True)

    def _object(
        self, value: dict[str, Any], structure: Structure, path: str, depth: int, *, is_resource: bool = False
    ) -> None:
        if depth > MAX_DEPTH:
            self._add("too-long", f"Nested more than {MAX_DEPTH} levels deep", path)
            return
        if not value:
            self._add("structure", "An element must not be empty", path)
            return
        choices: dict[str, Property] = {}
        properties = structure.properties
        for name, child in value.items():
            found = properties.get(name)
            if found is None:
                if not (is_resource and name == "resourceType"):
                    self._unknown(name, structure, path)
                continue
            if found.choice:
                first = choices.setdefault(found.element, found)
                if first.name.lstrip("_") != name.lstrip("_"):
                    self._add("structure", f"{first.name} and {name} exclude each other", f"{path}.{found.element}")
            if found.repeated:
                self._list(value, child, found, path, depth)
            elif found.primitive:
                expected = _expected(child, found)
                if expected is not None:
                    self._mismatch(child, found, expected, f"{path}.{found.element}")
            else:
                self._single(child, found, f"{path}.{found.element}", depth)
        for required in structure.required:
            if required.properties.isdisjoint(value):
                self._add("required", f"{required.name} is missing", f"{path}.{required.element}")

    def _list(self, owner: dict[str, Any], value: Any, found: Property, path: str, depth: int) -> None:
        path = f"{path}.{found.element}"
        if not isinstance(value, list):
            self._add("structure", f"{found.name}: expected a list, got {kind(value)}", path)
            return
        if not value:
            self._add("structure", f"{found.name}: a list must not be empty", path)
        for index, item in enumerate(value):
            if item is None and (found.primitive or found.companion):
                if not _has_beside(owner, found, index):
                    self._add("structure", f"{found.name}: null without a value beside it", f"{path}[{index}]")
            elif found.primitive:
                expected = _expected(item, found)
                if expected is not None:
                    self._mismatch(item, found, expected, f"{path}[{index}]")
            else:
                self._single(item, found, f"{path}[{index}]", depth)

    def _single(self, value: Any, found: Property, path: str, depth: int) -> None:
        if found.type == ANY_RESOURCE:
            if self._into_entries or found.name != "resource":
                self.resource(value, path, None, depth + 1)
        elif not isinstance(value, dict):
            self._add("structure", f"{found.name}: expected {_article(found)} object, got {kind(value)}", path)
        else:
            self._object(value, self._structures[found.type], path, depth + 1)

    def _mismatch(self, value: Any, found: Property, expected: str, path: str) -> None:
        right_kind = isinstance(value, str) and found.type not in ("boolean", "integer", "decimal")
        self._add("value" if right_kind else "structure", f"{found.name}: expected {expected}, got {kind(value)}", path)

    def _unknown(self, name: str, structure: Structure, path: str) -> None:
        if _ELEMENT_NAME.fullmatch(name):
            self._add("structure", f"{structure.name} has no element {name}", f"{path}.{name.removeprefix('_')}")
        else:
            self._add("structure", f"A property's name is no name of an element of {structure.name}", path)

    def _add(self, code: IssueCode, details: str, path: str) -> None:
        self.issues.append(Issue(code, details, path))
        if len(self.issues) >= MAX_ISSUES:
            raise _EnoughIssues


def _expected(value: object, found: Property) -> str | None:
    expected = PRIMITIVES[found.type](value)
    if expected is None and found.codes is not None and value not in found.codes:
        some = sorted(found.codes) if len(found.codes) <= _FEW else ()
        return f"a code of {found.value_set}" + (f" ({', '.join(some)})" if some else "")
    return expected


def _has_beside(owner: dict[str, Any], found: Property, index: int) -> bool:
    beside = owner.get(found.name[1:] if found.companion else "_" + found.name)
    return isinstance(beside, list) and index < len(beside) and beside[index] is not None


def _article(found: Property) -> str:
    return "an" if found.companion or found.type[0] in "AEIOU" else f"a {found.type}"


def kind(value: object) -> str:
    """The kind of a JSON value in words, for messages."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case str():
            return "an empty string" if not value else "a string"
        case list():
            return "a list"
        case dict():
            return "an object"
        case _:
            return "a number"

"""What is decided about, as Cedar's entities: the caller, and a record by its facets."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from bonfire.access.facts import Facts
from bonfire.access.principal import Principal
from bonfire.store.reach import PATIENT

SYSTEM = {"type": "System", "id": "bonfire"}

_SETS = {"label": "labels", "category": "categories", "author": "authors"}


def user_entity(principal: Principal, facts: Facts) -> dict[str, Any]:
    """The caller, as the schema's `User`. What the database does not say of them, they are not."""
    related: dict[str, list[dict[str, Any]]] = {"careTeam": [], "breakGlass": [], "refused": []}
    for relation in facts.relations:
        if relation.kind in related:
            related[relation.kind].append(_reference("Patient", relation.patient))
    attributes: dict[str, Any] = {
        "tenant": principal.tenant,
        "roles": sorted(principal.roles),
        "kind": principal.kind,
        "purpose": principal.purpose,
        "patients": related["careTeam"],
        "brokenGlass": related["breakGlass"],
        "refusedBy": related["refused"],
        "suspended": any(relation.kind == "suspended" for relation in facts.relations),
    }
    if principal.patient is not None:
        attributes["self"] = _reference("Patient", principal.patient)
    if principal.behalf_of is not None:
        attributes["behalfOf"] = _reference("User", principal.behalf_of)
    return {"uid": {"type": "User", "id": principal.user}, "attrs": attributes, "parents": []}


def record_entity(id: str, facets: Iterable[str]) -> dict[str, Any]:
    """The record with these facets (docs/access.md), as the schema's `Record`."""
    attributes: dict[str, Any] = {"type": "", "labels": [], "categories": [], "authors": [], "draft": False}
    for word in facets:
        kind, _, text = word.partition(":")
        if kind in _SETS:
            # The word without a text says that there is none.
            if text:
                attributes[_SETS[kind]].append(_reference("User", text) if kind == "author" else text)
        elif word == "draft:true":
            attributes["draft"] = True
        elif kind == "type":
            attributes["type"] = text
        elif word.startswith(PATIENT) and text:
            attributes["patient"] = _reference("Patient", text)
    return {"uid": {"type": "Record", "id": id}, "attrs": attributes, "parents": []}


def function_entity(name: str, kind: str) -> dict[str, Any]:
    """A clinical function, as the schema's `Function`."""
    attributes = {"name": name, "kind": kind, "room": name.rpartition(".")[0]}
    return {"uid": {"type": "Function", "id": name}, "attrs": attributes, "parents": []}


def spelled(entities: Iterable[Mapping[str, Any]]) -> str:
    return json.dumps(list(entities))


def uid_text(type: str, id: str) -> str:
    """`Type::"id"`, escaped as Cedar itself spells it, which it insists on."""
    return f'{type}::"{"".join(_escaped(character) for character in id)}"'


def _escaped(character: str) -> str:
    known = {'"': '\\"', "'": "\\'", "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\0": "\\0"}
    if character in known:
        return known[character]
    return character if character.isprintable() else f"\\u{{{ord(character):x}}}"


def _reference(type: str, id: str) -> dict[str, Any]:
    return {"__entity": {"type": type, "id": id}}

"""Which resources are meant by `_id` and `identifier`: the two search parameters that writes need.

They stand in searches (`GET Patient?identifier=...`), in conditional creates (`ifNoneExist`) and in conditional
references (`Practitioner?identifier=system|value`). Every other parameter is refused by name: a filter that is
silently ignored would answer with other people's records.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from bonfire.fhir.definitions.structure import resource_structures
from bonfire.fhir.outcome import Refusal

_CONDITIONAL = re.compile(r"(?P<type>[A-Z][A-Za-z]+)\?(?P<query>.+)", re.DOTALL)
# A separator counts unless a backslash stands before it (R4, "Escaping Search Parameters").
_COMMA = re.compile(r"(?<!\\),")
_BAR = re.compile(r"(?<!\\)\|")
_ESCAPED = re.compile(r"\\([\\,|$])")


@dataclass(frozen=True, slots=True)
class Token:
    """An identifier sought: `value` in `system`; in any system where that is None, in none where it is empty."""

    system: str | None
    value: str


@dataclass(frozen=True, slots=True)
class Criteria:
    """Resources of `resource_type` that have one of each group of `ids` and one of each group of `identifiers`."""

    resource_type: str
    ids: tuple[frozenset[str], ...] = ()
    identifiers: tuple[frozenset[Token], ...] = ()

    @property
    def key(self) -> str:
        """Equal for equal criteria, in every process: what their lock is named after."""
        ids = [sorted(group) for group in self.ids]
        tokens = [sorted((token.system or "", token.value) for token in group) for group in self.identifiers]
        return repr((self.resource_type, ids, tokens))

    @property
    def names(self) -> str:
        """The parameters that were asked by, without their values."""
        return ",".join([*(["_id"] if self.ids else []), *(["identifier"] if self.identifiers else [])])

    def met_by(self, id_: str, resource: Mapping[str, Any]) -> bool:
        """Whether the resource of this type under `id_` is meant."""
        found = _identifiers(resource)
        return all(id_ in group for group in self.ids) and all(
            any(_is(token, each) for token in group for each in found) for group in self.identifiers
        )


def _identifiers(resource: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    stated = resource.get("identifier") or []
    # Most types have a list of them, some (Bundle, Composition) a single one.
    return [each for each in (stated if isinstance(stated, list) else [stated]) if isinstance(each, dict)]


def _is(token: Token, identifier: Mapping[str, Any]) -> bool:
    return identifier.get("value") == token.value and token.system in (None, identifier.get("system", ""))


class Brought:
    """What a transaction is about to write: looked up by the same criteria as what is there already."""

    def __init__(self) -> None:
        self._resources: dict[tuple[str, str], Mapping[str, Any]] = {}
        self._by_value: defaultdict[tuple[str, object], set[str]] = defaultdict(set)

    def add(self, resource_type: str, id_: str, resource: Mapping[str, Any]) -> None:
        """`resource` will be the current version under this id."""
        self._resources[resource_type, id_] = resource
        for each in _identifiers(resource):
            self._by_value[resource_type, each.get("value")].add(id_)

    def meeting(self, criteria: Criteria) -> set[str]:
        """The ids of what meets `criteria`."""
        type_ = criteria.resource_type
        if criteria.identifiers:
            candidates = {
                id_ for token in criteria.identifiers[0] for id_ in self._by_value.get((type_, token.value), ())
            }
        else:
            candidates = {id_ for ids in criteria.ids for id_ in ids if (type_, id_) in self._resources}
        return {id_ for id_ in candidates if criteria.met_by(id_, self._resources[type_, id_])}

    def others(self, resource_type: str, ids: Iterable[str]) -> set[str]:
        """Those of `ids` that are not written."""
        return {id_ for id_ in ids if (resource_type, id_) not in self._resources}


def parse_criteria(resource_type: str, pairs: Sequence[tuple[str, str]], *, place: str = "") -> Criteria:
    """The criteria in decoded query `pairs`. Refusal for any parameter but `_id` and `identifier`, for an identifier
    without a value, and where there is none at all. `place` is the element that holds the query, for the refusal."""
    ids: list[frozenset[str]] = []
    identifiers: list[frozenset[Token]] = []
    for name, value in pairs:
        match name:
            case "_id":
                # Postgres takes no NUL, and no record's id holds one.
                ids.append(frozenset(_unescape(each) for each in _COMMA.split(value) if "\0" not in each))
            case "identifier" if "identifier" in resource_structures()[resource_type].properties:
                identifiers.append(frozenset(_token(each, place) for each in _COMMA.split(value)))
            case _:
                raise Refusal.of(
                    f"Search by anything but _id and identifier is not supported yet for {resource_type}",
                    "not-supported",
                    expression=place,
                )
    if not ids and not identifiers:
        raise Refusal.of("A search needs the parameter _id or identifier", "not-supported", expression=place)
    return Criteria(resource_type, tuple(ids), tuple(identifiers))


def parse_query(resource_type: str, query: str, *, place: str = "") -> Criteria:
    """The criteria in the URL query `identifier=system|value`."""
    return parse_criteria(resource_type, parse_qsl(query, keep_blank_values=True), place=place)


def parse_conditional(reference: str, place: str) -> Criteria | None:
    """The criteria of the conditional reference `Practitioner?identifier=system|value`; None for any other link."""
    match = _CONDITIONAL.fullmatch(reference)
    if match is None or match["type"] not in resource_structures():
        return None
    return parse_query(match["type"], match["query"], place=place)


def _token(text: str, place: str) -> Token:
    head, *rest = _BAR.split(text, maxsplit=1)
    system, value = (_unescape(head), _unescape(rest[0])) if rest else (None, _unescape(head))
    if not value:
        raise Refusal.of("An identifier is sought by its value: system|value", "value", expression=place)
    if "\0" in value or "\0" in (system or ""):
        raise Refusal.of("An identifier holds no control characters", "value", expression=place)
    return Token(system, value)


def _unescape(text: str) -> str:
    return _ESCAPED.sub(r"\1", text)

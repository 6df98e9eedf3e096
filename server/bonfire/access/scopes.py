"""SMART scopes as a bound: what a token's scopes do not allow is refused, whatever the policies say.

`patient/Observation.rs`, `user/*.cruds`, `system/*.rs?category=laboratory`, and the first version's `.read`, `.write`
and `.*` (https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html). A scope that can't be read, or that
asks for what can't be told here, allows nothing; nor do those of other kinds (`openid`, `launch/patient`).
"""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Literal
from urllib.parse import parse_qsl

from msgspec import Struct

from bonfire.access.formula import TooComplex, intersection, union
from bonfire.access.principal import Principal
from bonfire.store.reach import EVERYTHING, NOTHING, PATIENT, Clause, Reach

Level = Literal["patient", "user", "system"]

_LEVELS: Mapping[str, Level] = {"patient": "patient", "user": "user", "system": "system"}
_SCOPE = re.compile(r"(patient|user|system)/(\*|[A-Z][A-Za-z]+)\.([a-z*]+)(?:\?(.+))?")
_OLD = {"read": "rs", "write": "cud", "*": "cruds"}
_LETTERS = re.compile(r"c?r?u?d?s?")

# What an action takes. To sign is to update; what is downloaded is read.
_LETTER = {"read": "r", "create": "c", "update": "u", "delete": "d", "sign": "u", "download": "r"}
# What a road takes, of any type at least. No scope speaks of the others.
_ROADS = {"search": "s", "subscribe": "rs", "upload": "c", "sql": "rs", "export": "rs"}


class Scope(Struct, frozen=True):
    """`type`: a FHIR type, or "*". `letters`: those of c, r, u, d, s. `categories`: codes, of which a record must have
    one; empty: any record."""

    level: Level
    type: str
    letters: frozenset[str]
    categories: frozenset[str] = frozenset()


def parse_scope(text: str) -> Scope | None:
    """The scope; None for what is none about records, or none that can be kept exactly."""
    match = _SCOPE.fullmatch(text)
    if match is None:
        return None
    level, type, access, query = match.groups()
    letters = _OLD.get(access, access)
    if not letters or not _LETTERS.fullmatch(letters):
        return None
    categories: frozenset[str] = frozenset()
    if query is not None:
        try:
            parameters = parse_qsl(query, keep_blank_values=True, strict_parsing=True)
        except ValueError:
            return None
        # More than one parameter must all hold, and of all parameters a record's facets know but this one.
        if len(parameters) != 1 or parameters[0][0] != "category":
            return None
        # `system|code`: a facet is the code alone.
        categories = frozenset(value.rpartition("|")[2] for value in parameters[0][1].split(","))
        if "" in categories:
            return None
    return Scope(_LEVELS[level], type, frozenset(letters), categories)


class Bound:
    """What a caller's scopes leave of what they may do. Without scopes (None) that is all."""

    def __init__(self, principal: Principal) -> None:
        self._patient = principal.patient
        self._scopes: list[Scope] | None = None
        if principal.scopes is not None:
            parsed = [parse_scope(text) for text in sorted(principal.scopes)]
            self._scopes = [scope for scope in parsed if scope is not None and _is_for(scope, principal)]

    def reach(self, action: str) -> Reach:
        """The records that this action on records may be about."""
        if self._scopes is None:
            return EVERYTHING
        reach = NOTHING
        try:
            for scope in self._scopes:
                if _LETTER[action] in scope.letters:
                    reach = union(reach, Reach(frozenset([self._clause(scope, action)])))
        except TooComplex:
            return NOTHING
        return reach

    def cut(self, reach: Reach) -> Reach:
        """Of what may be read, what these scopes let be read."""
        try:
            return intersection(reach, self.reach("read"))
        except TooComplex:
            return NOTHING

    def allows(self, action: str, facets: Collection[str]) -> bool:
        """Whether an action on a record with these facets is within the scopes."""
        return self._scopes is None or self.reach(action).fits(facets)

    def allows_road(self, action: str) -> bool:
        """Whether the way itself is within the scopes; what is found there is bounded by `reach`."""
        if self._scopes is None or action == "call":
            return True
        letters = _ROADS.get(action)
        return letters is not None and any(set(letters) <= scope.letters for scope in self._scopes)

    def _clause(self, scope: Scope, action: str) -> Clause:
        groups: list[Iterable[str]] = []
        if scope.type != "*":
            groups.append([f"type:{scope.type}"])
        if scope.categories:
            groups.append(f"category:{code}" for code in scope.categories)
        if scope.level == "patient":
            # What is nobody's (a practitioner, a place) is read along with the patient's, and never written.
            own = [PATIENT + self._patient] if self._patient else []
            groups.append([*own, PATIENT] if own and action in ("read", "download") else own)
        return Clause(frozenset(frozenset(group) for group in groups))


def _is_for(scope: Scope, principal: Principal) -> bool:
    match scope.level:
        case "patient":
            return bool(principal.patient)
        case "user":
            return principal.kind != "service"
        case "system":
            return principal.kind == "service"

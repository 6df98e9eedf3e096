"""Which rows a transaction sees: plain data that row-level security compares with each row's facets.

A facet is a short word about a row (`patient:p1`, `label:R`): docs/access.md lists them. A row is seen when one of the
clauses fits it. Nobody sees anything that no clause names.
"""

import hashlib
import json
from collections.abc import Collection, Iterable

from msgspec import Struct

PATIENT = "patient:"
"""Begins the facet that says whose a record is; alone it is the facet of those that are nobody's."""


class Clause(Struct, frozen=True):
    """Fits a row that has a facet of each group in `groups`, and none of `without`."""

    groups: frozenset[frozenset[str]] = frozenset()
    without: frozenset[str] = frozenset()

    @property
    def impossible(self) -> bool:
        return any(group <= self.without for group in self.groups)

    def fits(self, facets: Collection[str]) -> bool:
        return self.without.isdisjoint(facets) and not any(group.isdisjoint(facets) for group in self.groups)

    def implies(self, other: "Clause") -> bool:
        """Whether the other fits wherever this one does, as far as can be told by their words alone."""
        return other.without <= self.without and all(any(own <= group for own in self.groups) for group in other.groups)


class Reach(Struct, frozen=True):
    """Clauses, of which one must fit. Two that say the same in the same words are equal."""

    clauses: frozenset[Clause] = frozenset()

    @staticmethod
    def of(clauses: Iterable[Clause]) -> "Reach":
        """A reach without the clauses that can't fit, and without those that another one covers."""
        possible = list(dict.fromkeys(clause for clause in clauses if not clause.impossible))
        return Reach(
            frozenset(
                clause
                for clause in possible
                if not any(other != clause and clause.implies(other) for other in possible)
            )
        )

    @property
    def everything(self) -> bool:
        return any(not clause.groups and not clause.without for clause in self.clauses)

    @property
    def nothing(self) -> bool:
        return not self.clauses

    def fits(self, facets: Collection[str]) -> bool:
        return any(clause.fits(facets) for clause in self.clauses)

    def union(self, other: "Reach") -> "Reach":
        return Reach.of([*self.clauses, *other.clauses])

    def about(self, patient: str) -> "Reach":
        """What of it is this patient's records or nobody's: equal for all who may see the same of them."""
        own, nobodys = PATIENT + patient, PATIENT
        narrowed: list[Clause] = []
        for clause in self.clauses:
            for word in (own, nobodys):
                if word not in clause.without:
                    narrowed.append(_assume(clause, word))
        return Reach.of(narrowed)

    def within(self, known: Collection[str]) -> "Reach":
        """What is left to ask of rows of which these facets, all that begin as they do, are known. It holds for such
        rows alone, so nothing may be read with it."""
        kinds = {word.partition(":")[0] for word in known}
        left: list[Clause] = []
        for clause in self.clauses:
            groups: list[frozenset[str]] = []
            if not clause.without.isdisjoint(known):
                continue
            for group in clause.groups:
                if not group.isdisjoint(known):
                    continue
                groups.append(frozenset(word for word in group if word.partition(":")[0] not in kinds))
            without = frozenset(word for word in clause.without if word.partition(":")[0] not in kinds)
            if all(groups):
                left.append(Clause(frozenset(groups), without))
        return Reach.of(left)

    @property
    def spelled(self) -> str:
        """As the setting `bonfire.reach` has it: `all`, or JSON: a list of {"groups": [[word]], "without": [word]}."""
        if self.everything:
            return "all"
        clauses = [
            {"groups": sorted(sorted(group) for group in clause.groups), "without": sorted(clause.without)}
            for clause in self.clauses
        ]
        return json.dumps(sorted(clauses, key=json.dumps), separators=(",", ":"), ensure_ascii=False)

    @property
    def fingerprint(self) -> str:
        """Equal for equal reaches, and for no others."""
        spelled = self.spelled
        return spelled if spelled in ("all", "[]") else hashlib.sha256(spelled.encode()).hexdigest()[:16]


EVERYTHING = Reach(frozenset([Clause()]))
"""All of the tenant: for the server's own work (workers, imports, checks), which no caller's rights are to bound."""

NOTHING = Reach()


def _assume(clause: Clause, patient: str) -> Clause:
    """The clause for rows with this patient facet: that word as a condition, in place of others of its kind."""
    groups: list[frozenset[str]] = [frozenset([patient])]
    for group in clause.groups:
        if patient in group:
            continue
        # A row has one patient facet, so the other words of this kind can't be met.
        groups.append(frozenset(word for word in group if not word.startswith(PATIENT)) or _NEVER)
    without = frozenset(word for word in clause.without if not word.startswith(PATIENT))
    if _NEVER in groups:
        return Clause(frozenset([_NEVER]), _NEVER)
    return Clause(frozenset(groups), without)


_NEVER = frozenset(["never:"])

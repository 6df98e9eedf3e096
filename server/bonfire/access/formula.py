"""Conditions on a record as clauses: the algebra that policies are compiled with.

A `Truth` says of a boolean expression for which records it is certainly true and for which certainly false. For the
rest it is an error (an attribute that the record does not have) or nobody can say in facets. So whoever permits by
`true`, and denies unless `false`, never shows too much.

A record has exactly one word of each of the kinds in `EXCLUSIVE`; what follows from that is made use of.
"""

from collections.abc import Iterable
from functools import lru_cache
from itertools import combinations

from msgspec import Struct

from bonfire.store.reach import NOTHING, PATIENT, Clause, Reach

EXCLUSIVE = ("type", "patient", "draft")

MOST_CLAUSES = 64
"""More than a policy that people write needs. Row-level security tries them all for a row that none fits."""
_MOST_PAIRS = 512

_ANYTHING = Clause()
_ALL = Reach(frozenset([_ANYTHING]))


class TooComplex(Exception):
    """A condition has more than MOST_CLAUSES alternatives."""


class Truth(Struct, frozen=True):
    """`total`: each record is in one of the two. `said`: facets say all of it, and what is in neither is an error."""

    true: Reach
    false: Reach
    total: bool = False
    said: bool = True

    def inverted(self) -> "Truth":
        return Truth(self.false, self.true, self.total, self.said)


ALWAYS = Truth(_ALL, NOTHING, total=True)
NEVER = Truth(NOTHING, _ALL, total=True)
UNKNOWN = Truth(NOTHING, NOTHING, said=False)


def has_one_of(words: Iterable[str]) -> Truth:
    """True of the records with one of these words."""
    some = frozenset(words)
    if not some:
        return NEVER
    true, false = Clause(frozenset([some])), Clause(without=some)
    return Truth(Reach(frozenset([true])), Reach(frozenset([false])), total=True)


def of_patient(patients: Iterable[str]) -> Truth:
    """True of these patients' records, false of other patients'; an error for those that are nobody's."""
    words = frozenset(PATIENT + patient for patient in patients if patient)
    true = Reach(frozenset([Clause(frozenset([words]))])) if words else NOTHING
    return Truth(true, Reach(frozenset([Clause(without=words | {PATIENT})])))


def both(one: Truth, other: Truth) -> Truth:
    """`one && other`: the second is not looked at where the first is false."""
    true = intersection(one.true, other.true)
    false = union(one.false, other.false if one.total else intersection(one.true, other.false))
    return _joined(true, false, one, other)


def either(one: Truth, other: Truth) -> Truth:
    """`one || other`."""
    return both(one.inverted(), other.inverted()).inverted()


def chosen(condition: Truth, then: Truth, otherwise: Truth) -> Truth:
    """`if condition then ... else ...`."""
    return _joined(
        union(intersection(condition.true, then.true), intersection(condition.false, otherwise.true)),
        union(intersection(condition.true, then.false), intersection(condition.false, otherwise.false)),
        condition,
        then,
        otherwise,
    )


def same(one: Truth, other: Truth) -> Truth:
    """`one == other`: an error in either is an error of the whole."""
    return _joined(
        union(intersection(one.true, other.true), intersection(one.false, other.false)),
        union(intersection(one.true, other.false), intersection(one.false, other.true)),
        one,
        other,
    )


def union(one: Reach, other: Reach) -> Reach:
    return simplified([*one.clauses, *other.clauses])


def intersection(one: Reach, other: Reach) -> Reach:
    """What both fit. TooComplex where it has too many clauses."""
    if one.everything:
        return other
    if other.everything:
        return one
    if len(one.clauses) * len(other.clauses) > _MOST_PAIRS:
        raise TooComplex
    return simplified(
        Clause(left.groups | right.groups, left.without | right.without)
        for left in one.clauses
        for right in other.clauses
    )


def simplified(clauses: Iterable[Clause]) -> Reach:
    """The same rows in as few clauses as are found easily, so that equal conditions tend to be equal reaches."""
    found = {tidy for clause in clauses if (tidy := _tidy(clause)) is not None}
    while True:
        found = {one for one in found if not any(one != other and _implies(one, other) for other in found)}
        merged = _merge(found)
        if merged is None:
            break
        found = merged
    if len(found) > MOST_CLAUSES:
        raise TooComplex
    return Reach(frozenset(found))


def _joined(true: Reach, false: Reach, *parts: Truth) -> Truth:
    total = all(part.total for part in parts) or _complementary(true, false)
    return Truth(true, false, total, all(part.said for part in parts))


def _complementary(true: Reach, false: Reach) -> bool:
    """Whether the two are each other's negation, where that is plain: `any of these words` and `none of these`."""
    if len(true.clauses) != 1 or len(false.clauses) != 1:
        return False
    one, other = *true.clauses, *false.clauses
    return any(
        len(left.groups) == 1 and not left.without and not right.groups and left.groups == {right.without}
        for left, right in ((one, other), (other, one))
    )


# A care team of a thousand is looked at a hundred times while one policy is compiled.
@lru_cache(maxsize=256)
def _kind(words: frozenset[str]) -> str | None:
    """The exclusive kind that all of these words are of."""
    kinds = {word.partition(":")[0] for word in words}
    return next(iter(kinds)) if len(kinds) == 1 and kinds <= set(EXCLUSIVE) else None


def _tidy(clause: Clause) -> Clause | None:
    """The clause with what follows from its other conditions left out; None where it fits no record."""
    exact: dict[str, frozenset[str]] = {}
    groups: set[frozenset[str]] = set()
    for group in clause.groups:
        # The words of a group that `without` excludes can't be what makes it fit.
        left = group - clause.without
        kind = _kind(left)
        if kind is None:
            groups.add(left)
        else:
            exact[kind] = exact.get(kind, left) & left
    groups |= set(exact.values())
    if not all(groups):
        return None
    without = frozenset(word for word in clause.without if word.partition(":")[0] not in exact)
    # A group that holds another one whole asks for less.
    least = frozenset(group for group in groups if not any(other < group for other in groups))
    return Clause(least, without)


def _implies(one: Clause, other: Clause) -> bool:
    """Whether the other fits wherever this one does, with what is known of words that exclude each other."""
    if not all(any(own <= group for own in one.groups) for group in other.groups):
        return False
    exact = {kind: group for group in one.groups if (kind := _kind(group)) is not None}
    for word in other.without - one.without:
        group = exact.get(word.partition(":")[0])
        if group is None or word in group:
            return False
    return True


def _merge(clauses: set[Clause]) -> set[Clause] | None:
    """The clauses with two of them made one; None where none can be."""
    if len(clauses) < 2:
        return None
    for one, other in combinations(sorted(clauses, key=_order), 2):
        for left, right in ((one, other), (other, one)):
            joined = _either_word(left, right) or _either_way(left, right)
            if joined is not None:
                return (clauses - {one, other}) | {joined}
    return None


@lru_cache(maxsize=256)
def _order(clause: Clause) -> tuple[list[list[str]], list[str]]:
    return sorted(sorted(group) for group in clause.groups), sorted(clause.without)


def _either_word(one: Clause, other: Clause) -> Clause | None:
    """(A and x) or (A and y) is A and (x or y)."""
    if one.without != other.without or len(one.groups) != len(other.groups):
        return None
    shared = one.groups & other.groups
    if len(shared) != len(one.groups) - 1:
        return None
    (left,), (right,) = one.groups - shared, other.groups - shared
    return _tidy(Clause(shared | {left | right}, one.without))


def _either_way(one: Clause, other: Clause) -> Clause | None:
    """(A and x) or (B and not x) is B where A and B are the same given x."""
    for group in one.groups:
        if group <= other.without:
            rest = Clause(other.groups, other.without - group)
            if _tidy(Clause(rest.groups | {group}, rest.without)) == one:
                return _tidy(rest)
    return None

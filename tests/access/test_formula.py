"""The algebra of conditions: three ways that an expression can come out, and the fewest clauses that say so."""

import pytest

from bonfire.access.formula import (
    ALWAYS,
    NEVER,
    UNKNOWN,
    TooComplex,
    Truth,
    both,
    chosen,
    either,
    has_one_of,
    intersection,
    of_patient,
    same,
    simplified,
    union,
)
from bonfire.store.reach import EVERYTHING, NOTHING, Clause, Reach

R, V, DRAFT = has_one_of(["label:R"]), has_one_of(["label:V"]), has_one_of(["draft:true"])
HERS = of_patient(["p1"])
HAS_PATIENT = has_one_of(["patient:"]).inverted()


def clause(*groups: str, without: str = "") -> Clause:
    return Clause(frozenset(frozenset(group.split()) for group in groups), frozenset(without.split()))


def reach(*clauses: Clause) -> Reach:
    return Reach(frozenset(clauses))


@pytest.mark.parametrize(
    ("truth", "true", "false"),
    [
        (ALWAYS, EVERYTHING, NOTHING),
        (NEVER, NOTHING, EVERYTHING),
        (both(R, V), reach(clause("label:R", "label:V")), reach(clause(without="label:R"), clause(without="label:V"))),
        (either(R, V), reach(clause("label:R label:V")), reach(clause(without="label:R label:V"))),
        (R.inverted(), reach(clause(without="label:R")), reach(clause("label:R"))),
        (both(R, NEVER), NOTHING, EVERYTHING),
        (either(NEVER, R), R.true, R.false),
        (
            chosen(DRAFT, R, ALWAYS),
            reach(clause("draft:true", "label:R"), clause(without="draft:true")),
            reach(clause("draft:true", without="label:R")),
        ),
        (same(DRAFT, ALWAYS), DRAFT.true, DRAFT.false),
        (has_one_of([]), NOTHING, EVERYTHING),
    ],
)  # fmt: skip
def test_conditions_that_never_fail(truth: Truth, true: Reach, false: Reach) -> None:
    assert (truth.true, truth.false) == (true, false)
    assert truth.total
    assert truth.said


def test_what_is_nobodys_has_no_patient_to_ask_for() -> None:
    nobodys = ["patient:"]
    assert not HERS.true.fits(nobodys)
    assert not HERS.false.fits(nobodys)
    assert not HERS.total
    guarded = both(HAS_PATIENT, HERS)
    assert guarded.false.fits(nobodys)
    assert guarded.total
    # The second is not looked at where the first decides, and the first is always looked at.
    assert either(HAS_PATIENT.inverted(), HERS).true.fits(nobodys)
    assert not either(HERS, ALWAYS).true.fits(nobodys)
    assert not both(HERS, NEVER).false.fits(nobodys)


def test_what_nobody_can_say_is_neither_true_nor_false() -> None:
    assert both(UNKNOWN, R) == Truth(NOTHING, NOTHING, said=False)
    assert both(R, UNKNOWN) == Truth(NOTHING, R.false, said=False)
    assert either(R, UNKNOWN).true == R.true
    assert not either(R, UNKNOWN).said
    assert same(UNKNOWN, R) == Truth(NOTHING, NOTHING, said=False)


@pytest.mark.parametrize(
    ("clauses", "fewest"),
    [
        ([clause("type:A"), clause("type:B")], [clause("type:A type:B")]),
        ([clause("type:A type:B", "type:B type:C")], [clause("type:B")]),
        ([clause("type:A", "type:B")], []),
        ([clause("type:A", without="type:B label:R")], [clause("type:A", without="label:R")]),
        ([clause("type:A type:B", without="type:B")], [clause("type:A")]),
        ([clause("label:R", without="label:R")], []),
        ([clause("label:R", "label:R label:V")], [clause("label:R")]),
        ([clause("label:R"), clause("label:R", "type:A")], [clause("label:R")]),
        ([clause("patient:"), clause(without="patient: patient:p1")], [clause(without="patient:p1")]),
        ([clause("label:R"), clause(without="label:R")], [clause()]),
        ([clause("label:R", "type:A"), clause("type:A", without="label:R")], [clause("type:A")]),
        ([clause("l:R", "type:A"), clause("l:V", "type:B")], [clause("l:R", "type:A"), clause("l:V", "type:B")]),
    ],
)  # fmt: skip
def test_the_fewest_clauses(clauses: list[Clause], fewest: list[Clause]) -> None:
    assert simplified(clauses) == reach(*fewest)


def test_union_and_intersection() -> None:
    assert union(R.true, V.true) == reach(clause("label:R label:V"))
    assert intersection(EVERYTHING, R.true) == intersection(R.true, EVERYTHING) == R.true
    assert intersection(NOTHING, R.true) == NOTHING


def test_too_many_alternatives_are_refused_before_they_are_made() -> None:
    many = Reach(frozenset(clause(f"label:{n}", f"category:{n}") for n in range(40)))
    with pytest.raises(TooComplex):
        intersection(many, many)
    with pytest.raises(TooComplex):
        union(many, Reach(frozenset(clause(f"label:{n}", f"author:{n}") for n in range(40, 80))))

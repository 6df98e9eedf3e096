"""Which live query a call is for whom: who shares it, who has one of their own, and who is refused."""

from itertools import combinations

import pytest

from bonfire.access.facts import Facts, Relation
from bonfire.access.gate import Access
from bonfire.access.principal import Principal
from bonfire.clinical import Depends, QueryContext, Registry, Value
from bonfire.clinical.read_models import notes_by_patient
from bonfire.engine.query import AppPlan, KeyedPlan, Plan, QueryIdentity
from bonfire.sync.planning import AppHandle, BoundHandle, KeyedHandle, about, plan, plan_again, reasons
from bonfire_protocol.faults import Fault, FaultCode
from support.admitting import GATE, access_of


class Row(Value, frozen=True):
    id: str


registry = Registry()
registry.live("notes.list", notes_by_patient, limit=5)


@registry.query("labs.list", depends=[Depends("Observation", patient="patient_id")])
async def labs(ctx: QueryContext, patient_id: str) -> list[Row]:
    raise AssertionError("nothing is read here")


@registry.query("labs.one", depends=[Depends("Observation", patient="patient_id")])
async def lab(ctx: QueryContext, patient_id: str) -> Row | None:
    raise AssertionError("nothing is read here")


@registry.query("labs.all", depends=[Depends("Observation")])
async def all_labs(ctx: QueryContext) -> list[Row]:
    raise AssertionError("nothing is read here")


@registry.query("now.list", depends=[])
async def now(ctx: QueryContext) -> list[Row]:
    raise AssertionError("nothing is read here")


def facts(*kinds: str, patient: str = "p1") -> Facts:
    return Facts(tuple(Relation(kind, patient) for kind in kinds))


CLINICIAN = access_of("amara")
NURSE = access_of("nia", "nurse", facts("careTeam"))
P1 = b'{"patientId":"p1"}'
P2 = b'{"patientId":"p2"}'


def planned(name: str, access: Access, args: bytes = P1) -> tuple[QueryIdentity, Plan]:
    return plan(registry.find_query(name), args, access)


# ---- read models -----------------------------------------------------------------------------------------------------


def test_who_may_see_all_rows_under_a_key_shares_one_that_is_kept_by_patches() -> None:
    glass_broken = access_of("nia", "nurse", facts("breakGlass"))
    identity, kept = planned("notes.list", CLINICIAN)
    assert isinstance(kept, KeyedPlan)
    assert isinstance(kept.handle, KeyedHandle)
    assert identity.access == "all"
    for same in (access_of("bo"), glass_broken, access_of("amara", facts=facts("refused", patient="p9"))):
        assert planned("notes.list", same)[0] == identity


def test_who_may_not_see_some_rows_shares_one_with_who_may_see_the_same() -> None:
    identity, bound = planned("notes.list", NURSE)
    assert identity.access != "all"
    assert isinstance(bound, AppPlan)
    assert isinstance(bound.handle, BoundHandle)
    assert (bound.shape, bound.identified, bound.view, bound.limit) == ("list", True, "notesByPatient", 5)
    assert bound.dependencies == (("DocumentReference", "p1"),)
    assert not bound.handle.reach.fits({"type:DocumentReference", "patient:p1", "label:R", "draft:false"})
    assert not bound.handle.reach.fits({"type:DocumentReference", "patient:p2", "label:", "draft:false"})
    other_patients_too = access_of("ola", "nurse", Facts((Relation("careTeam", "p1"), Relation("careTeam", "p2"))))
    assert planned("notes.list", other_patients_too)[0] == identity
    assert planned("notes.list", access_of("sam", "scribe", facts("careTeam")))[0] == identity


def test_who_may_see_something_else_shares_nothing() -> None:
    patient = Principal("t", "pat", "Pat", frozenset({"patient"}), patient="p1")
    callers = [CLINICIAN, NURSE, GATE.access(patient, Facts()), access_of("amara", tenant="another")]
    for one, other in combinations(callers, 2):
        assert planned("notes.list", one)[0] != planned("notes.list", other)[0]


def test_who_may_see_nothing_of_it_is_refused_whether_or_not_there_is_anything() -> None:
    for access, args in (
        (NURSE, P2),
        (access_of("nia", "nurse"), P1),
        (access_of("frank", "frontDesk"), P1),
        (access_of("amara", facts=facts("refused")), P1),
    ):
        with pytest.raises(Fault, match="nothing of what this query shows") as refused:
            planned("notes.list", access, args)
        assert refused.value.code is FaultCode.forbidden
        assert "p1" not in f"{refused.value.args}{refused.value.expected}{refused.value.got}"


def test_who_may_not_call_it_is_refused() -> None:
    for access in (access_of("zoe", "nobody"), access_of("amara", facts=Facts((Relation("suspended", "*"),)))):
        with pytest.raises(Fault, match=r"you may not call notes\.list"):
            planned("notes.list", access)


# ---- app queries -----------------------------------------------------------------------------------------------------


def test_a_query_about_one_patient_is_run_under_a_reach_that_shows_no_other() -> None:
    identity, run = planned("labs.list", CLINICIAN)
    assert isinstance(run, AppPlan)
    assert isinstance(run.handle, AppHandle)
    assert run.handle.reach.fits({"type:Observation", "patient:p1", "label:R"})
    assert not run.handle.reach.fits({"type:Observation", "patient:p2", "label:"})
    assert run.handle.principal is CLINICIAN.principal
    assert planned("labs.list", access_of("bo"))[0] == identity
    assert planned("labs.list", NURSE)[0] != identity
    others = access_of("ola", "nurse", Facts((Relation("careTeam", "p1"), Relation("careTeam", "p2"))))
    assert planned("labs.list", others)[0] == planned("labs.list", NURSE)[0]


def test_a_query_about_nobody_in_particular_is_run_under_the_callers_whole_reach() -> None:
    _, run = planned("labs.all", NURSE, b"{}")
    assert isinstance(run, AppPlan)
    assert isinstance(run.handle, AppHandle)
    assert run.handle.reach == NURSE.reach
    assert planned("labs.all", CLINICIAN, b"{}")[0] != planned("labs.all", NURSE, b"{}")[0]


def test_one_row_is_no_list() -> None:
    shapes = [planned(name, CLINICIAN)[1] for name in ("labs.list", "labs.one")]
    assert [(one.shape, one.identified) for one in shapes if isinstance(one, AppPlan)] == [
        ("list", True),
        ("one", False),
    ]


def test_a_query_that_reads_no_records_is_for_whoever_may_call_it() -> None:
    planned("now.list", access_of("nia", "nurse"), b"{}")
    with pytest.raises(Fault, match="you may not call"):
        planned("now.list", access_of("zoe", "nobody"), b"{}")


# ---- again, and for the trail ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["notes.list", "labs.list"])
def test_planned_again_it_is_what_its_caller_would_be_given_now(name: str) -> None:
    before, held = planned(name, CLINICIAN)
    assert plan_again(held.handle, access_of("amara"))[0] == before
    narrowed, bound = plan_again(held.handle, NURSE)
    assert narrowed == planned(name, NURSE)[0]
    assert plan_again(bound.handle, CLINICIAN)[0] == before, "and back"
    with pytest.raises(Fault, match="nothing of what this query shows"):
        plan_again(held.handle, access_of("nia", "nurse"))


def test_the_trail_is_told_whom_it_is_about_and_which_policies_let_it() -> None:
    for name in ("notes.list", "labs.list"):
        handle = planned(name, NURSE)[1].handle
        assert about(handle) == "p1"
        assert reasons(handle, NURSE) == ("nurse-calls", "nurse-reads")
    handle = planned("labs.all", CLINICIAN, b"{}")[1].handle
    assert about(handle) is None
    assert reasons(handle, CLINICIAN) == ("clinician-calls", "clinician-reads")

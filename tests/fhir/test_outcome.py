"""Faults as HTTP statuses and OperationOutcomes."""

import pytest

from bonfire.fhir.outcome import MAX_ISSUES, Issue, Refusal, issues_of, operation_outcome, status_of
from bonfire.fhir.validate import check
from bonfire_protocol.faults import Fault, FaultCode


@pytest.mark.parametrize("code", list(FaultCode))
def test_every_fault_has_a_status_and_an_issue(code: FaultCode) -> None:
    fault = Fault(code, "said", field="a.b", expected="this", got="that")
    assert 400 <= status_of(fault) < 600
    outcome = operation_outcome(issues_of(fault))
    assert check(outcome) == []
    assert "said" in outcome["issue"][0]["details"]["text"]
    assert "this" in outcome["issue"][0]["details"]["text"]


def test_a_refusal_names_all_its_issues_and_may_choose_its_status() -> None:
    issues = [Issue("required", "code is missing", "Observation.code"), Issue("value", "no date")]
    refusal = Refusal(issues, status=422)
    assert status_of(refusal) == 422
    assert refusal.field == "Observation.code"
    assert operation_outcome(issues_of(refusal))["issue"] == [
        {
            "severity": "error",
            "code": "required",
            "details": {"text": "code is missing"},
            "expression": ["Observation.code"],
        },
        {"severity": "error", "code": "value", "details": {"text": "no date"}},
    ]


def test_a_refusal_holds_a_bounded_number_of_issues() -> None:
    assert len(Refusal([Issue("value", str(n)) for n in range(100)]).issues) == MAX_ISSUES

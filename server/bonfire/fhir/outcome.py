"""What went wrong, as FHIR says it: faults -> HTTP status and OperationOutcome.

`Refusal` is a `Fault` that can hold several issues, each with the element it is about. Every other fault has one.
"""

from collections.abc import Sequence
from typing import Any, Literal

from msgspec import Struct

from bonfire_protocol.faults import Fault, FaultCode

IssueCode = Literal[
    "invalid",
    "structure",
    "required",
    "value",
    "security",
    "login",
    "forbidden",
    "processing",
    "not-supported",
    "duplicate",
    "multiple-matches",
    "not-found",
    "deleted",
    "too-long",
    "conflict",
    "transient",
    "throttled",
    "exception",
    "informational",
]

MAX_ISSUES = 20
"""An OperationOutcome names at most so many issues: enough to mend a form, too few to drown in."""


class Issue(Struct, frozen=True):
    """One thing that is wrong. `expression` is the element's FHIRPath (`Observation.component[2].code`), or empty.

    `details` says what was expected and the kind of what came, never a value.
    """

    code: IssueCode
    details: str
    expression: str = ""


class Refusal(Fault):
    """A request refused for `issues` (at least one). `status` is the HTTP status where the fault code's own is too
    coarse."""

    def __init__(
        self, issues: Sequence[Issue], *, code: FaultCode = FaultCode.bad_arguments, status: int | None = None
    ) -> None:
        first = issues[0]
        super().__init__(code, first.details, field=first.expression or None)
        self.issues = tuple(issues[:MAX_ISSUES])
        self.status = status

    @classmethod
    def of(
        cls,
        details: str,
        issue: IssueCode,
        *,
        expression: str = "",
        code: FaultCode = FaultCode.bad_arguments,
        status: int | None = None,
    ) -> "Refusal":
        """A refusal for one issue."""
        return cls([Issue(issue, details, expression)], code=code, status=status)

    @classmethod
    def unsupported(cls, details: str, *, status: int = 501, expression: str = "") -> "Refusal":
        """A refusal of what this server does not do."""
        return cls.of(details, "not-supported", expression=expression, code=FaultCode.unsupported, status=status)


_STATUS: dict[FaultCode, tuple[int, IssueCode]] = {
    FaultCode.bad_frame: (400, "structure"),
    FaultCode.bad_arguments: (400, "invalid"),
    FaultCode.unknown_function: (404, "not-supported"),
    FaultCode.unauthenticated: (401, "login"),
    FaultCode.forbidden: (403, "forbidden"),
    FaultCode.not_found: (404, "not-found"),
    FaultCode.gone: (410, "deleted"),
    FaultCode.version_conflict: (412, "conflict"),
    FaultCode.wrong_patient: (409, "conflict"),
    FaultCode.duplicate_id: (409, "duplicate"),
    FaultCode.mutation_id_reused: (409, "duplicate"),
    FaultCode.too_large: (413, "too-long"),
    FaultCode.too_many: (429, "throttled"),
    FaultCode.unsupported: (501, "not-supported"),
    FaultCode.busy: (503, "transient"),
    FaultCode.unavailable: (503, "transient"),
    FaultCode.query_failed: (500, "exception"),
    FaultCode.internal: (500, "exception"),
}


def status_of(fault: Fault) -> int:
    """The HTTP status that says what `fault` says."""
    if isinstance(fault, Refusal) and fault.status is not None:
        return fault.status
    return _STATUS[fault.code][0]


def issues_of(fault: Fault) -> tuple[Issue, ...]:
    """The issues of `fault`: several only where it is a `Refusal`."""
    if isinstance(fault, Refusal):
        return fault.issues
    details = fault.message
    if fault.expected is not None:
        details += f" (expected: {fault.expected}; got: {fault.got or 'something else'})"
    return (Issue(_STATUS[fault.code][1], details, fault.field or ""),)


def operation_outcome(issues: Sequence[Issue], *, severity: str = "error") -> dict[str, Any]:
    """The OperationOutcome resource that lists `issues`."""
    return {"resourceType": "OperationOutcome", "issue": [_issue(issue, severity) for issue in issues]}


def _issue(issue: Issue, severity: str) -> dict[str, Any]:
    spelled: dict[str, Any] = {"severity": severity, "code": issue.code, "details": {"text": issue.details}}
    if issue.expression:
        spelled["expression"] = [issue.expression]
    return spelled

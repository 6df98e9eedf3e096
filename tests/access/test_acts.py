"""Which writes are signatures, and who may do which."""

from typing import Any

import pytest

from bonfire.access.acts import decide, signing
from bonfire.access.facts import Facts, Relation
from bonfire.access.gate import Access, Gate
from bonfire.access.policies import PolicyBook
from bonfire.access.principal import Principal
from bonfire_protocol.faults import Fault, FaultCode

GATE = Gate(PolicyBook())
TEAM = Facts((Relation("careTeam", "p1"),))


def access(role: str, kind: Any = "person", behalf_of: str | None = None, facts: Facts = TEAM) -> Access:
    return GATE.access(Principal("north", role, role, frozenset({role}), kind, behalf_of=behalf_of), facts)


def note(doc_status: str | None = "preliminary", status: str = "current", **more: Any) -> dict[str, Any]:
    resource = {"resourceType": "DocumentReference", "status": status, "subject": {"reference": "Patient/p1"}, **more}
    return resource if doc_status is None else {**resource, "docStatus": doc_status}


SIGNER: dict[str, Any] = {"authenticator": {"display": "Dr. A"}}
SIGNINGS: list[tuple[dict[str, Any] | None, dict[str, Any], bool]] = [
    (None, note(), False),
    (None, note("final"), True),
    (None, note("amended"), True),
    (None, note(**SIGNER), True),
    (None, note(None), False),
    (note(), note(description="x"), False),
    (note(), note("final", **SIGNER), True),
    (note(), note("amended"), True),
    # A document without a status counts as signed.
    (note(), note(None), True),
    (note(), note("entered-in-error", "entered-in-error"), False),
    (note("final", **SIGNER), note("final", status="superseded", **SIGNER), False),
    (note("final", **SIGNER), note("entered-in-error", "entered-in-error", **SIGNER), False),
    (note("final", **SIGNER), note("final", authenticator={"display": "Dr. B"}), True),
    (note("final", **SIGNER), note("final"), True),
    (note("final", **SIGNER), note("amended", **SIGNER), True),
]


@pytest.mark.parametrize(("before", "after", "signs"), SIGNINGS)
def test_what_signs_a_document(before: dict[str, Any] | None, after: dict[str, Any], signs: bool) -> None:
    assert signing("DocumentReference", before, after) is signs


def test_a_composition_says_so_in_its_status_and_others_are_not_signed() -> None:
    assert signing("Composition", {"status": "preliminary"}, {"status": "final"})
    assert not signing("Composition", {"status": "preliminary"}, {"status": "preliminary", "title": "x"})
    assert not signing("Observation", {"status": "preliminary"}, {"status": "final"})


# role, kind, on whose behalf: may they create a draft, edit it, sign it, create it signed, delete it?
RIGHTS: list[tuple[str, Any, str | None, str]] = [
    ("clinician", "person", None, "draft edit sign signed delete"),
    ("nurse", "person", None, "draft edit delete"),
    ("scribe", "person", None, "draft edit"),
    ("agent", "agent", "amara", "draft edit"),
    ("agent", "agent", None, ""),
    # The role of a person does not make one.
    ("clinician", "agent", "amara", "draft edit delete"),
    ("clinician", "service", None, "draft edit delete"),
    ("frontDesk", "person", None, ""),
    ("analyst", "person", None, ""),
    ("patient", "person", None, ""),
    ("administrator", "person", None, ""),
    ("nobody", "person", None, ""),
]
WRITES: dict[str, tuple[dict[str, Any] | None, dict[str, Any] | None]] = {
    "draft": (None, note()),
    "edit": (note(), note(description="x")),
    "sign": (note(), note("final", **SIGNER)),
    "signed": (None, note("final", **SIGNER)),
    "delete": (note(), None),
}


@pytest.mark.parametrize(("role", "kind", "behalf_of", "may"), RIGHTS)
@pytest.mark.parametrize("write", WRITES)
def test_who_may_write_what(role: str, kind: Any, behalf_of: str | None, may: str, write: str) -> None:
    before, after = WRITES[write]
    caller = access(role, kind, behalf_of)
    if write in may.split():
        decided = decide(caller, "DocumentReference", "n1", before, after)
        assert decided.policies
        assert decided.patient == "p1"
        assert decided.signs is (write in ("sign", "signed"))
    else:
        with pytest.raises(Fault) as refused:
            decide(caller, "DocumentReference", "n1", before, after)
        assert refused.value.code is FaultCode.forbidden
        assert "p1" not in str(refused.value.message)


def test_a_record_is_decided_as_it_was_and_as_it_shall_be() -> None:
    nurse = access("nurse")
    hers, others = note(), {**note(), "subject": {"reference": "Patient/p2"}}
    decide(nurse, "DocumentReference", "n1", hers, hers)
    for before, after in ((hers, others), (others, hers), (others, None), (None, others)):
        with pytest.raises(Fault) as refused:
            decide(nurse, "DocumentReference", "n1", before, after)
        assert refused.value.code is FaultCode.forbidden


def test_nobody_labels_a_record_out_of_their_own_sight() -> None:
    restricted = note(meta={"security": [{"code": "R"}]})
    with pytest.raises(Fault) as refused:
        decide(access("nurse"), "DocumentReference", "n1", note(), restricted)
    assert refused.value.code is FaultCode.forbidden

"""What a write does to a record, in the policy's words, and the decision whether it may be done.

The gate of all writes: clinical functions and FHIR over HTTP ask the same question here, with the record as it was and
as it shall be.
"""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from bonfire.access.audit import Subtype
from bonfire.access.facets import facets_of
from bonfire.access.gate import Access
from bonfire.store.reach import PATIENT
from bonfire_protocol.faults import Fault, FaultCode
from bonfire_protocol.values import Json

Done = Literal["create", "update", "delete"]

# Where a document says whether it is signed, and by whom.
_STATUS = {"DocumentReference": "docStatus", "Composition": "status"}
_SIGNERS = {"DocumentReference": "authenticator", "Composition": "attester"}
_UNSIGNED = frozenset({"preliminary", "entered-in-error", None})
_SIGNED = frozenset({"final", "amended"})


class Decided(Struct, frozen=True):
    """A write that may be done: what it does to which record. `signs`: it puts a signature to it too. `patient`: whose
    the record is, or was when it was deleted; None where it is nobody's. `labels`: the codings of its `meta.security`.
    `policies`: those that decided."""

    done: Done
    resource_type: str
    id: str
    signs: bool
    patient: str | None
    labels: tuple[Json, ...]
    policies: tuple[str, ...]


class Act(Struct, frozen=True):
    """A write that was done. `version` is the one that it made, a tombstone's for a deletion; `before` the one that was
    there. `derived_from`: what it was made from, as version-specific references."""

    decided: Decided
    version: int
    before: int | None = None
    derived_from: tuple[str, ...] = ()

    @property
    def reference(self) -> str:
        """The version that was written, or for a deletion made."""
        return f"{self.decided.resource_type}/{self.decided.id}/_history/{self.version}"


class Kept(Struct, frozen=True):
    """A document of app state that was written or removed."""

    done: Done
    what: str
    patient: str | None
    policies: tuple[str, ...]


class Told(Struct, frozen=True):
    """What a function has to say to the trail besides the records that it wrote."""

    subtype: Subtype
    what: str
    patient: str | None = None
    reason: str | None = None
    policies: tuple[str, ...] = ()
    detail: Mapping[str, str | int | bool] = {}


def decide(access: Access, resource_type: str, id: str, before: Json | None, after: Json | None) -> Decided:
    """Whether this record may become `after` (None: be deleted), which was `before` (None: was not there).

    Fault forbidden, in which nothing is of the record: where a policy does not permit it, of the record as it was as
    well as of what it shall be; where anybody but a person signs; where an agent writes for nobody.
    """
    principal = access.principal
    if principal.kind == "agent" and principal.behalf_of is None:
        raise Fault(
            FaultCode.forbidden,
            "an agent writes for somebody who answers for it, and this one's token names nobody",
            expected="a token that says on whose behalf the agent acts",
        )
    was = None if before is None else facets_of(resource_type, id, before)
    becomes = None if after is None else facets_of(resource_type, id, after)
    done: Done = "create" if was is None else "delete" if becomes is None else "update"
    facets = becomes if becomes is not None else was
    assert facets is not None
    policies: dict[str, None] = {}
    for words in (was, becomes):
        if words is not None:
            policies |= dict.fromkeys(access.check(done, resource_type, id, words).policies)
    if becomes is not None and not access.reach.fits(becomes):
        # Postgres would refuse it: who writes a row reads it back.
        raise Fault(
            FaultCode.forbidden,
            f"you may not see the {resource_type} that this would be, so you may not write it",
            expected="a record that you may read",
        )
    signs = after is not None and signing(resource_type, before, after)
    if signs:
        if principal.kind != "person":
            raise Fault(FaultCode.forbidden, f"only a person signs a {resource_type}", expected="a person's signature")
        signed = was if was is not None else facets
        policies |= dict.fromkeys(access.check("sign", resource_type, id, signed).policies)
    written = after if after is not None else before
    labels = (written or {}).get("meta", {}).get("security", ())
    return Decided(done, resource_type, id, signs, _patient(facets), tuple(labels), tuple(policies))


def signing(resource_type: str, before: Json | None, after: Json) -> bool:
    """Whether a document that was `before` is signed by becoming `after`: it ceases to be a draft, is signed from the
    start, or who has signed it is not who had."""
    element = _STATUS.get(resource_type)
    if element is None:
        return False
    signers = _SIGNERS[resource_type]
    if after.get(signers) != (before or {}).get(signers):
        return True
    status = after.get(element)
    if before is None:
        return status in _SIGNED
    if before.get(element) == "preliminary":
        # A document without a status counts as signed.
        return status not in (_UNSIGNED - {None})
    return before.get(element) != status and status in _SIGNED


def patient_of(resource_type: str, id: str, resource: Json) -> str | None:
    """Whose record it is; None where it is nobody's."""
    return _patient(facets_of(resource_type, id, resource))


def _patient(facets: frozenset[str]) -> str | None:
    return next((word.removeprefix(PATIENT) for word in facets if word.startswith(PATIENT)), None) or None

"""The gate of FHIR interactions: which reach they run with, what is shown masked, what may be written, what is told.

A guard is one caller's, for one request. What may not be seen is as if it were not there: row-level security leaves it
out, so neither a status nor a total tells of it.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import TypeVar

import asyncpg
import msgspec
from msgspec import structs

from bonfire.access import audit, provenance
from bonfire.access.acts import Act, Decided, decide
from bonfire.access.audit import Event, Subtype, event_of
from bonfire.access.facets import facets_of, patient_of
from bonfire.access.facts import Facts
from bonfire.access.gate import Access, Denied
from bonfire.access.masking import mask
from bonfire.clinical.fhir_json import parse, spell
from bonfire.fhir.bundle import Create, Delete, Entry, Operation, Read, Search, Update
from bonfire.fhir.criteria import Criteria
from bonfire.fhir.done import Deleted, Done, Found, Shown, Wrote
from bonfire.fhir.retry import Overtaken
from bonfire.store.reach import Reach
from bonfire.store.relations import facts_of_many
from bonfire.store.resources import Version
from bonfire_protocol.faults import Fault, FaultCode
from bonfire_protocol.values import Json

_TRIES = 3
_FEW = 50

Result = TypeVar("Result")


class FactsChanged(Exception):
    """The database says something else of the caller than the access was made of: make a new one, and begin again."""


class Guard:
    """What `access` lets its caller do. `address`: where the caller is; `request`: the request's name in the trail."""

    def __init__(self, access: Access, *, address: str | None, request: str | None) -> None:
        self.access = access
        self._address = address
        self._request = request
        self._acts: list[Act] = []
        self._denied_by: tuple[str, ...] = ()
        self._taken = 0

    # ---- what is seen -----------------------------------------------------------------------------------------------

    def reach_of(self, operations: Sequence[Operation]) -> Reach:
        """What these run with, together: all that may be seen, masked or not, if they only read. What is masked can be
        neither written nor found by what the mask hides."""
        if all(_shows_only(each) for each in operations):
            reach = self.access.reach
            for _, masked in self.access.masked:
                reach = reach.union(masked)
            return reach
        return self.access.reach

    def may_read(self, resource_type: str) -> None:
        """Fault forbidden where the caller may see no record of this type, whatever is there."""
        if self.reach_of(()).within({f"type:{resource_type}"}).nothing:
            raise Fault(FaultCode.forbidden, f"you may not read any {resource_type}")

    def may_search(self, criteria: Criteria) -> None:
        """Fault forbidden where the caller may not search, or sees no record of the type."""
        self.access.may("search")
        self.may_read(criteria.resource_type)

    def shown(self, version: Version) -> Version:
        """The version as the caller may see it: in clear, or masked. Fault not_found where neither."""
        if self.access.reach.everything:
            return version
        resource: Json = parse(version.resource)
        facets = facets_of(version.resource_type, version.id, resource)
        if self.access.reach.fits(facets):
            return version
        for name, reach in self.access.masked:
            if reach.fits(facets):
                return structs.replace(version, resource=spell(mask(name, resource)))
        raise Fault(FaultCode.not_found, f"There is no {version.resource_type} with this id")

    async def shown_all(self, versions: Sequence[Version]) -> list[Version]:
        """The same for many, which are worked on in a thread, so that others do not wait for them."""
        if self.access.reach.everything:
            return list(versions)
        return await aside(len(versions), lambda: [self.shown(version) for version in versions])

    # ---- what is written --------------------------------------------------------------------------------------------

    async def check_facts(self, conn: asyncpg.Connection) -> None:
        """FactsChanged when the access is not of what this transaction sees."""
        _, spelled = await facts_of_many(conn, self.access.principal.answering)
        facts, *behind = (msgspec.json.decode(each, type=Facts) for each in spelled)
        for person in behind:
            facts = facts.bounded_by(person)
        if facts != self.access.facts:
            raise FactsChanged

    def begin(self) -> None:
        """Of an attempt that came before, nothing was done."""
        self._acts.clear()

    def decide(self, resource_type: str, id: str, before: Version | None, after: Json | None) -> Decided:
        """Whether this may be written; Fault forbidden where not."""
        was = None if before is None else parse(before.resource)
        try:
            return decide(self.access, resource_type, id, was, after)
        except Denied as denied:
            self._denied_by = denied.decision.policies
            raise

    def taken(self) -> Exception:
        """What is to be raised where an id is taken that the caller does not see: somebody has just made that record,
        or it is hidden from the caller, and stays so however often this is tried."""
        self._taken += 1
        if self._taken < _TRIES:
            return Overtaken()
        return Fault(FaultCode.forbidden, "you may not write a resource with this id")

    def wrote(self, decided: Decided, before: Version | None, after: Version) -> None:
        """It was."""
        self._acts.append(Act(decided, after.version, None if before is None else before.version))

    async def finish(self, conn: asyncpg.Connection, now: datetime, new_id: Callable[[], str], activity: str) -> None:
        """Writes where what was written came from, and tells the trail, in the transaction of `conn`."""
        principal = self.access.principal
        await provenance.record(conn, provenance.provenances(principal, self._acts, now, activity), new_id)
        await audit.write(
            conn,
            [
                self.event(
                    "sign" if act.decided.signs else act.decided.done,
                    patient=act.decided.patient,
                    what=act.reference,
                    policies=act.decided.policies,
                )
                for act in self._acts
            ],
        )

    # ---- what is told -----------------------------------------------------------------------------------------------

    def event(
        self,
        subtype: Subtype,
        *,
        patient: str | None = None,
        what: str | None = None,
        query: str | None = None,
        policies: Sequence[str] = (),
        outcome: audit.Outcome = 0,
        count: int | None = None,
    ) -> Event:
        return event_of(
            self.access.principal,
            subtype,
            "http",
            patient=patient,
            what=what,
            query=query,
            policies=policies,
            outcome=outcome,
            address=self._address,
            request=self._request,
            count=count,
        )

    def read_events(
        self, subtype: Subtype, resource_type: str, versions: Sequence[Version], query: str | None = None
    ) -> list[Event]:
        """What the trail is told before several records are shown: an event for each patient whose they are, with the
        policies by which they are seen."""
        counts: dict[str | None, int] = {}
        policies: dict[str | None, dict[str, None]] = {}
        for version in versions:
            patient = _patient(version)
            counts[patient] = counts.get(patient, 0) + 1
            policies.setdefault(patient, {}).update(dict.fromkeys(self._seen_by(version)))
        if not counts:
            counts[None] = 0
        return [
            self.event(
                subtype,
                patient=patient,
                what=resource_type,
                query=query,
                policies=tuple(policies.get(patient, ())),
                count=count,
            )
            for patient, count in counts.items()
        ]

    def _shown_one(self, subtype: Subtype, version: Version) -> Event:
        policies = self._seen_by(version)
        return self.event(subtype, patient=_patient(version), what=_address(version), policies=policies, count=1)

    def _seen_by(self, version: Version) -> tuple[str, ...]:
        """The policies by which the caller may see this version, in clear or masked."""
        facets = facets_of(version.resource_type, version.id, parse(version.resource))
        return self.access.allows("read", version.resource_type, version.id, facets).policies

    def events(self, entries: Iterable[Entry], done: Iterable[Done]) -> list[Event]:
        """What the trail is told before these are answered, besides of what was written."""
        return [
            event for entry, each in zip(entries, done, strict=True) for event in self._events(entry.operation, each)
        ]

    def refused(self, fault: Fault, what: str | None) -> Event:
        """A refusal by the gate, or the search for what is not there, or not to be seen."""
        # Whose chart was tried is known where a Patient was asked for; of another record nobody has looked.
        kind, _, id = (what or "").partition("/")
        patient = id.partition("/")[0] if kind == "Patient" and id else None
        if fault.code is not FaultCode.forbidden:
            return self.event("read", patient=patient, what=what, outcome=4)
        policies = fault.decision.policies if isinstance(fault, Denied) else self._denied_by
        return self.event("deny", patient=patient, what=what, policies=policies, outcome=4)

    def _events(self, operation: Operation, done: Done) -> list[Event]:
        match done:
            case Shown(version):
                subtype: Subtype = "vread" if isinstance(operation, Read) and operation.version is not None else "read"
                return [self._shown_one(subtype, version)]
            case Found(resource_type, versions):
                query = operation.criteria.names if isinstance(operation, Search) else None
                return self.read_events("search", resource_type, versions, query)
            case Wrote(version, changed=False):
                return [self._shown_one("read", version)]
            case Wrote() | Deleted():
                return []


async def aside(records: int, work: Callable[[], Result]) -> Result:
    """What `work` makes of so many records: where they are many, in a thread, which leaves the loop to others."""
    return work() if records <= _FEW else await asyncio.to_thread(work)


def _shows_only(operation: Operation) -> bool:
    match operation:
        case Read():
            return True
        case Search(criteria):
            return not criteria.identifiers
        case Create() | Update() | Delete():
            return False


def place_of(operation: Operation) -> str:
    """What an operation is about: a type, or a record."""
    match operation:
        case Create(resource_type):
            return resource_type
        case Update(resource_type, id_) | Delete(resource_type, id_) | Read(resource_type, id_):
            return f"{resource_type}/{id_}"
        case Search(criteria):
            return criteria.resource_type


def _patient(version: Version) -> str | None:
    return patient_of(version.resource_type, version.id, parse(version.resource))


def _address(version: Version) -> str:
    return f"{version.resource_type}/{version.id}/_history/{version.version}"

"""Which rows a query may read: what is known of the records that it is about, and the caller's reach.

A query that is about one patient is run under the reach that is narrowed to that patient, which is equal for everybody
who may see the same of them: so they share one live query. This is the one place where that is decided.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import assert_never

from bonfire.access.gate import Access
from bonfire.clinical.depends import OF_ACCESS
from bonfire.clinical.queries import AppCall, KeyedCall
from bonfire.store.model import APP_STATE, Source
from bonfire.store.reach import PATIENT, Reach
from bonfire_protocol.faults import Fault, FaultCode


class Unseen(Fault):
    """`forbidden`: the caller may see nothing of what a query shows. `patient`, whom it was about, is for the trail."""

    def __init__(self, patient: str | None) -> None:
        super().__init__(
            FaultCode.forbidden,
            "you may see nothing of what this query shows",
            expected="a query of records that your role and your relation to the patient let you see",
        )
        self.patient = patient


@dataclass(frozen=True)
class Scope:
    """What a call reads. `patient`: the one patient whom it is about; None where it is about several, or about none.
    `known`: for each of its sources, the facets that every record has from which its rows are made; of each kind of
    facet that is there, all. `administers`: it is for those who may administer, and for nobody else."""

    patient: str | None
    known: tuple[frozenset[str], ...]
    administers: bool = False

    @property
    def types(self) -> frozenset[str]:
        """The types of the records that it reads: FHIR types and `AppState`."""
        return frozenset(
            word.removeprefix("type:") for facets in self.known for word in facets if word.startswith("type:")
        )

    def reach(self, access: Access) -> Reach:
        """What the call is run with. Fault forbidden when that is nothing at all, whether or not there is anything,
        or when it is for administrators and the caller is none."""
        if self.administers:
            access.administer()
        reach = access.reach if self.patient is None else access.reach.about(self.patient)
        if self.known and all(reach.within(facets).nothing for facets in self.known):
            raise Unseen(self.patient)
        return reach


def scope(call: KeyedCall | AppCall) -> Scope:
    """What `call` reads: of a read model by how its key's columns are made, of an app query by what it declares."""
    match call:
        case KeyedCall(model=model):
            given = dict(zip(model.key, call.parts, strict=True))
            known = [_type_facets(source.of) | _key_facets(source, given) for source in model.sources]
        case AppCall():
            known = [
                _type_facets(source) | ({PATIENT + patient} if patient is not None else frozenset())
                for source, patient in call.dependencies
                if source not in OF_ACCESS
            ]
        case _:
            assert_never(call)
    patients = {next((word for word in facets if word.startswith(PATIENT)), None) for facets in known}
    named = patients.pop() if len(patients) == 1 else None
    patient = None if named is None else named.removeprefix(PATIENT)
    administers = isinstance(call, AppCall) and call.administers
    return Scope(patient, tuple(dict.fromkeys(known)), administers)


def _type_facets(source: str) -> frozenset[str]:
    kind, _, collection = source.partition("/")
    category = {f"category:{collection}"} if kind == APP_STATE and collection else set[str]()
    return frozenset({f"type:{kind}", *category})


def _key_facets(source: Source, given: Mapping[str, str]) -> frozenset[str]:
    """What the key's values say of this source's records. A column tells a record's patient only if it is made as the
    facet is: what it is called proves nothing."""
    words: set[str] = set()
    for column, value in given.items():
        kind = _facet_kinds(source.table).get(source.select.get(column, ""))
        if kind is not None and value:
            words.add(kind + value)
    return frozenset(words)


def _facet_kinds(table: str) -> Mapping[str, str]:
    if table == APP_STATE:
        return {"r.patient": PATIENT, "r.owner": "author:"}
    made = {f"bonfire.patient_of('{table}', r.id, r.resource)": PATIENT}
    return made | {"r.id": PATIENT} if table == "Patient" else made

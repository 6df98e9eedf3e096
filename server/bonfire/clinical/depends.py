"""What an app query's result depends on."""

import re
from typing import Any

import msgspec
from msgspec import Struct

from bonfire.clinical.errors import RegistrationError, near_misses
from bonfire.store.model import APP_STATE
from bonfire.store.types import RESOURCE_TYPES

RELATION = "Relation"
"""The source as which it is told how users are related to patients: care teams, broken glass, suspension."""

POLICY = "Policy"
"""The source as which a tenant's policies are told."""

OF_ACCESS = frozenset({RELATION, POLICY})
"""What is no record, and bound by the tenant alone: a function that reads it shows users their own, what is on a chart
that they may see, or what is an administrator's to see."""

_COLLECTION = re.compile(rf"{APP_STATE}/(?:\{{(?P<argument>\w+)\}}|(?P<name>[^{{}}/\x1f]+))")


class Depends(Struct, frozen=True):
    """Run the query again when a commit touches `source`: a FHIR type, `AppState/<collection>`, `Relation` or `Policy`.

    `patient` names the argument (as Python spells it) that holds a patient's id: then only commits that touch that
    patient count, which is what keeps a busy clinic cheap. `AppState/{argument}` takes the collection from an argument.
    """

    source: str
    patient: str | None = None

    def check(self, query: str, arguments: type[Struct]) -> None:
        """RegistrationError when the source is none, or names an argument that the query does not have."""
        if self.source not in RESOURCE_TYPES and self.source not in OF_ACCESS:
            found = _COLLECTION.fullmatch(self.source)
            if found is None:
                near = near_misses(self.source, RESOURCE_TYPES)
                hint = f" Did you mean {' or '.join(near)}?" if near else ""
                raise RegistrationError(
                    f"{query}: depends on `{self.source}`, no FHIR R4 type and no `AppState/<collection>`.{hint}"
                )
            if found["argument"]:
                _require(query, arguments, found["argument"])
        if self.patient is not None:
            _require(query, arguments, self.patient)

    def of(self, arguments: Struct) -> tuple[str, str | None]:
        """(source, patient's id or None for any) for one call."""
        found = _COLLECTION.fullmatch(self.source)
        source = self.source
        if found is not None and found["argument"]:
            source = f"{APP_STATE}/{getattr(arguments, found['argument'])}"
        patient: Any = getattr(arguments, self.patient) if self.patient is not None else None
        return source, patient


def _require(query: str, arguments: type[Struct], argument: str) -> None:
    names = [field.name for field in msgspec.structs.fields(arguments)]
    if argument not in names:
        known = ", ".join(names) or "none"
        raise RegistrationError(f"{query}: `Depends` names argument `{argument}`; the arguments are: {known}")

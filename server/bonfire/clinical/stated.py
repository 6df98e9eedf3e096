"""What the caller had on the screen, and the refusals when it is not what is there."""

from dataclasses import dataclass

import asyncpg

from bonfire.clinical.fhir_json import parse
from bonfire.store import app_state, resources
from bonfire.store.model import APP_STATE
from bonfire_protocol.faults import Fault, FaultCode
from bonfire_protocol.values import Json

_PATIENT_ELEMENTS = (
    "subject",
    "patient",
    "beneficiary",
    "for",
    "individual",
    "candidate",
    "actor",
    "deliverTo",
    "participant",
)


@dataclass(frozen=True)
class Stated:
    """`patient`: whose chart it was; nothing of another patient's may be written. `version`: of the record that the
    mutation is about, `subject` (source, id); it may be changed only while that is still its version."""

    patient: str | None = None
    version: int | None = None
    subject: tuple[str, str] | None = None

    def version_of(self, source: str, id: str) -> int | None:
        """The version that a write to this record must find; None where none was stated."""
        return self.version if self.subject == (source, id) else None

    def check_patient(self, place: str, patient: str | None) -> None:
        """Fault wrong_patient when `place` (`DocumentReference.subject`) names another patient than the stated one.

        What belongs to nobody may be written whoever was on the screen.
        """
        if self.patient is not None and patient is not None and patient != self.patient:
            raise Fault(
                FaultCode.wrong_patient,
                f"{place} is another patient's than the one stated: nothing was written",
                field="patient",
                expected="the patient whose record this is",
                got="another patient",
            )


def patient_place(resource: Json) -> str:
    """Where a resource says whose it is, in words for a refusal: `DocumentReference.subject`."""
    resource_type = str(resource.get("resourceType"))
    if resource_type == "Patient":
        return "Patient.id"
    element = next((name for name in _PATIENT_ELEMENTS if name in resource), "subject")
    return f"{resource_type}.{element}"


def changed_elements(stated: Json, current: Json) -> list[str]:
    """The top-level elements in which two versions differ: names only."""
    names = sorted({*stated, *current} - {"meta"})
    return [name for name in names if stated.get(name) != current.get(name)]


async def check_version(conn: asyncpg.Connection, stated: Stated) -> None:
    """Fault version_conflict when the subject is there, and of another version than the stated one.

    The answer names the elements that differ, so that an app can say what changed; what they hold, the app reads anew.
    """
    if stated.version is None or stated.subject is None:
        return
    source, id = stated.subject
    if source.startswith(f"{APP_STATE}/"):
        document = await app_state.get(conn, source.removeprefix(f"{APP_STATE}/"), id)
        if document is not None and document.version != stated.version:
            raise _conflict(source, [], stated.version, document.version)
        return
    current = await resources.read(conn, source, id)
    if current is None or current.version == stated.version:
        return
    earlier = await resources.vread(conn, source, id, stated.version)
    changed = changed_elements(parse(earlier.resource), parse(current.resource)) if earlier is not None else []
    raise _conflict(source, changed, stated.version, current.version)


def _conflict(source: str, changed: list[str], stated: int, current: int) -> Fault:
    what = f": {', '.join(changed)}" if changed else ""
    return Fault(
        FaultCode.version_conflict,
        f"this {source} has changed since{what}",
        field="version",
        expected=str(stated),
        got=str(current),
    )

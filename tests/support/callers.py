"""Callers of every kind, with tokens as a server in production takes them, and the two tenants that they come from."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx

from acceptance.conftest import Running, run_bonfire
from bonfire.access.minting import mint
from bonfire.access.principal import Kind
from support.databases import create_database, drop_database, in_database

KEY = "a key of these tests and of nothing else"

OWN, OTHER, SOUTH = "Olmsteadt", "Hiddlestone", "Southmarker"
"""In the records of the team's patient, of the other patient, and of the other tenant, and nowhere else."""

RESTRICTED = {"security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R"}]}
FHIR = {"content-type": "application/fhir+json"}


@dataclass(frozen=True)
class Caller:
    """What a token says."""

    user: str
    role: str | None = None
    kind: Kind = "person"
    patient: str | None = None
    behalf_of: str | None = None
    tenant: str = "north"

    @property
    def token(self) -> str:
        return mint(
            KEY,
            tenant=self.tenant,
            user=self.user,
            name=self.user.title(),
            now=datetime.now(UTC),
            roles=[self.role] if self.role else [],
            kind=self.kind,
            patient=self.patient,
            behalf_of=self.behalf_of,
        )

    @property
    def bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


CALLERS: Mapping[str, Caller] = {
    "clin": Caller("amara", "clinician"),
    "nurs": Caller("nia", "nurse"),
    "nrs2": Caller("bo", "nurse"),
    "desk": Caller("frank", "frontDesk"),
    "self": Caller("pat-one", "patient", patient="p1"),
    "pat2": Caller("pat-two", "patient", patient="p2"),
    "scrb": Caller("sam", "scribe"),
    "anly": Caller("anna", "analyst"),
    "admn": Caller("root", "administrator"),
    "agnt": Caller("ambient", "agent", kind="agent", behalf_of="amara"),
    "srvc": Caller("feed", "service", kind="service"),
    "none": Caller("zoe"),
    "sout": Caller("amara", "clinician", tenant="south"),
}
"""By the names of the tables' columns, short as they have to be there. The nurse, the scribe and the agent are on the
care team of `p1`; `nrs2` is a nurse on none, `self` and `pat2` are the patients `p1` and `p2`."""

TEAM = ("nia", "sam", "ambient")


def patient(id: str, family: str, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Patient",
        "id": id,
        "name": [{"family": family, "given": ["Ada"]}],
        "identifier": [{"system": "mrn", "value": f"{family}-{id}"}],
        **more,
    }


def note(id: str, of: str, text: str, status: str = "final", **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "DocumentReference",
        "id": id,
        "status": "current",
        "docStatus": status,
        "subject": {"reference": f"Patient/{of}"},
        "date": "2026-01-01T00:00:00Z",
        "description": text,
        "content": [{"attachment": {"contentType": "text/plain", "title": text}}],
        **more,
    }


def finding(id: str, of: str, text: str, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": id,
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "44261-6"}], "text": text},
        "subject": {"reference": f"Patient/{of}"},
        "valueInteger": 12,
        **more,
    }


def team(of: str, *users: str) -> dict[str, Any]:
    members = [{"member": {"identifier": {"system": "urn:bonfire:user", "value": user}}} for user in users]
    return {
        "resourceType": "CareTeam",
        "id": f"team-{of}",
        "status": "active",
        "subject": {"reference": f"Patient/{of}"},
        "participant": members,
    }


def bundle(*resources: dict[str, Any]) -> dict[str, Any]:
    entries = [
        {"request": {"method": "PUT", "url": f"{each['resourceType']}/{each['id']}"}, "resource": each}
        for each in resources
    ]
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


NORTH_RECORDS = bundle(
    patient("p1", OWN),
    patient("p2", OTHER),
    note("n1", "p1", f"About {OWN}"),
    note("d1", "p1", f"Draft about {OWN}", "preliminary"),
    note("r1", "p1", f"Restricted about {OWN}", meta=RESTRICTED),
    note("n2", "p2", f"About {OTHER}"),
    finding("o1", "p1", f"Finding of {OWN}"),
    finding("o2", "p2", f"Finding of {OTHER}"),
    {"resourceType": "Practitioner", "id": "d1"},
    team("p1", *TEAM),
    *(finding(f"x-{name}", "p1", "to be deleted") for name in CALLERS),
)
SOUTH_RECORDS = bundle(
    patient("s1", SOUTH), note("sn1", "s1", f"About {SOUTH}"), finding("so1", "s1", f"Finding of {SOUTH}")
)


@dataclass(frozen=True)
class Hospital:
    """A server in production with both tenants' records. `database_url` is its owner's."""

    running: Running
    database_url: str

    @property
    def url(self) -> str:
        return self.running.url

    def log(self) -> str:
        return "".join(self.running.log)


@contextmanager
def hospital(cluster: str, template: str, name: str, **settings: str) -> Iterator[Hospital]:
    """A database and a `bonfire serve` of its own, with no limit on how much a caller may ask."""
    create_database(cluster, name, template)
    url = in_database(cluster, name)
    environment = {
        "DATABASE_URL": url,
        "BONFIRE_TOKEN_KEY": KEY,
        "BONFIRE_CALLER_REQUESTS": "0",
        "BONFIRE_TENANT_REQUESTS": "0",
        "BONFIRE_AGENT_CONTEXT": "off",
        **settings,
    }
    migrated = run_bonfire("migrate", DATABASE_URL=url)
    assert migrated.returncode == 0, migrated.stdout + migrated.stderr
    running = Running(["serve", "--port", "0"], environment)
    try:
        for caller, records in (("clin", NORTH_RECORDS), ("sout", SOUTH_RECORDS)):
            answer = httpx.post(
                f"{running.url}/fhir", json=records, headers={**CALLERS[caller].bearer, **FHIR}, timeout=30
            )
            assert answer.status_code == 200, answer.text
        yield Hospital(running, url)
    finally:
        running.stop()
        drop_database(cluster, name)

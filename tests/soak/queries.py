"""What each live query must give, computed from the records themselves: the product's own code has no part in it."""

import base64
import json
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

from soak.rows import MORE, Key, Result, row_text

SLIPS, NOTES = "Task", "DocumentReference"
EVERYBODY = ""
"""Stands for the patient of a query that is about all of them."""


class Change(NamedTuple):
    """One record as one statement left it; `resource` is None where it deleted it. `version` is the record's txid,
    `at` when it was written."""

    source: str
    tenant: str
    id: str
    version: int
    at: datetime
    resource: dict[str, Any] | None


Board = tuple[str, str]
"""(tenant, patient)."""


class Records:
    """The records of all tenants, at one position."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str, str], tuple[str, dict[str, Any]]] = {}
        self._boards: dict[str, dict[Board, dict[str, dict[str, Any]]]] = {
            SLIPS: defaultdict(dict),
            NOTES: defaultdict(dict),
        }

    def apply(self, change: Change) -> set[Board]:
        """Take a change in; the boards that it may have changed."""
        place = (change.source, change.tenant, change.id)
        boards = self._boards[change.source]
        touched: set[Board] = set()
        old = self._rows.pop(place, None)
        if old is not None:
            touched.add((change.tenant, old[0]))
            del boards[change.tenant, old[0]][change.id]
        row = None if change.resource is None else _PROJECTIONS[change.source](change)
        if row is not None:
            patient = row["patientId"]
            self._rows[place] = (patient, row)
            boards[change.tenant, patient][change.id] = row
            touched.add((change.tenant, patient))
        return touched

    def slips(self, tenant: str, patient: str) -> list[dict[str, Any]]:
        """In the order of rank, then id."""
        return sorted(self._boards[SLIPS][tenant, patient].values(), key=lambda row: (row["rank"], row["id"]))

    def notes(self, tenant: str, patient: str) -> list[dict[str, Any]]:
        """The newest first, then in the order of id."""
        by_id = sorted(self._boards[NOTES][tenant, patient].values(), key=lambda row: str(row["id"]))
        return sorted(by_id, key=lambda row: str(row["date"]), reverse=True)

    def totals(self, tenant: str) -> Iterator[dict[str, Any]]:
        found = [(patient, rows) for (whose, patient), rows in self._boards[SLIPS].items() if whose == tenant and rows]
        for patient, rows in sorted(found):
            yield {"id": patient, "slips": len(rows), "ranks": sum(row["rank"] for row in rows.values())}

    def result(self, key: Key) -> Result:
        """What the live query gives here."""
        args = json.loads(key.args)
        patient = args.get("patientId", EVERYBODY)
        match key.query:
            case "slips.list":
                return _window(self.slips(key.tenant, patient), args["limit"])
            case "slips.highest":
                rows = self._highest(key.tenant, patient)
            case "notes.listByPatient":
                return _window(self.notes(key.tenant, patient), args["limit"])
            case "slips.totals":
                rows = list(self.totals(key.tenant))
            case "slips.summary":
                slips = self.slips(key.tenant, patient)
                notes = len(self._boards[NOTES][key.tenant, patient])
                rows = [{"slips": len(slips), "ranks": sum(row["rank"] for row in slips), "notes": notes}]
            case other:
                raise ValueError(f"no query {other} here")
        return tuple(row_text(row) for row in rows)

    def _highest(self, tenant: str, patient: str) -> list[dict[str, Any]]:
        best: dict[str, dict[str, Any]] = {}
        for row in self.slips(tenant, patient):
            held = best.get(row["kind"])
            if held is None or row["rank"] > held["rank"]:
                best[row["kind"]] = row
        return [
            {**row, "id": f"{_escaped(patient)}/{_escaped(kind)}", "slipId": row["id"]}
            for kind, row in sorted(best.items())
        ]


def board_of(key: Key) -> Board:
    """Whose board a live query is about."""
    return key.tenant, json.loads(key.args).get("patientId", EVERYBODY)


def _window(rows: list[dict[str, Any]], limit: int) -> Result:
    return (*(row_text(row) for row in rows[:limit]), *([MORE] if len(rows) > limit else []))


def _escaped(value: str) -> str:
    return value.replace("%", "%25").replace("/", "%2F")


def _slip(change: Change) -> dict[str, Any] | None:
    resource = change.resource or {}
    if resource["status"] != "requested":
        return None
    return {
        "id": change.id,
        "patientId": resource["for"]["reference"].removeprefix("Patient/"),
        "kind": resource["code"]["text"],
        "title": resource["description"],
        "rank": resource["restriction"]["repetitions"],
        "version": str(change.version),
    }


_NOTE_KINDS = {"11506-3": "progress"}


def _note(change: Change) -> dict[str, Any] | None:
    """Drafts and signed notes, as `notes.create` and the soak's own SQL write them."""
    resource = change.resource or {}
    coding = resource["type"]["coding"][0]
    attachment = resource["content"][0]["attachment"]
    return {
        "id": change.id,
        "patientId": resource["subject"]["reference"].removeprefix("Patient/"),
        "version": str(change.version),
        "status": {"preliminary": "draft", "final": "signed"}[resource["docStatus"]],
        "kind": _NOTE_KINDS[coding["code"]],
        "title": resource["description"],
        "text": base64.b64decode(attachment["data"]).decode(),
        "date": _instant(datetime.fromisoformat(resource["date"])),
        "author": resource["author"][0]["display"],
        "signedBy": None,
        "replaces": None,
        "encounterId": None,
        "code": coding["code"],
        "display": resource["type"].get("text") or coding["display"],
        "updatedAt": _instant(change.at),
    }


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


_PROJECTIONS = {SLIPS: _slip, NOTES: _note}

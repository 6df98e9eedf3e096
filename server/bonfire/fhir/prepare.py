"""A request's resource or Bundle, checked and taken apart, before any transaction begins. Pure, and the costly part:
a caller with an event loop to keep free runs it in a thread."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bonfire.fhir.bundle import Create, Entry, Update, entry_place, parse_entry, refuse_overlaps
from bonfire.fhir.outcome import MAX_ISSUES, Issue, Refusal
from bonfire.fhir.references import links
from bonfire.fhir.validate import check, check_shell, validate


def prepare_lone(operation: Create | Update) -> Entry:
    """The entry for a POST or PUT of one resource; Refusal unless that is valid."""
    validate(operation.resource, operation.resource_type)
    if isinstance(operation, Update) and operation.resource.get("id") != operation.id:
        raise Refusal.of(
            "The resource's id must be that of the URL", "invalid", expression=f"{operation.resource_type}.id"
        )
    return Entry(0, operation, links=links(operation.resource), lone=True)


@dataclass(frozen=True, slots=True)
class Transaction:
    """Entries that are done together or not at all."""

    entries: Sequence[Entry]


@dataclass(frozen=True, slots=True)
class Batch:
    """Entries that are done one by one, or why an entry can't be done."""

    entries: Sequence[Entry | Refusal]


def prepare_bundle(value: Any) -> Transaction | Batch:
    """A transaction or batch Bundle; Refusal, naming up to 20 issues, where the Bundle itself or any part of a
    transaction is wrong."""
    issues = check_shell(value)
    if issues:
        raise Refusal(issues)
    spelled = value.get("entry", ())
    match value["type"]:
        case "batch":
            return Batch([_tried(index, each) for index, each in enumerate(spelled)])
        case "transaction":
            return Transaction(_all_of(spelled))
        case _:
            raise Refusal.of("A Bundle of type transaction or batch is expected", "value", expression="Bundle.type")


def prepare_entry(index: int, spelled: dict[str, Any]) -> Entry:
    """Entry `index` of a Bundle whose own structure is valid; Refusal unless its resource and request are right."""
    issues = check(spelled["resource"], path=f"{entry_place(index)}.resource") if "resource" in spelled else []
    if issues:
        raise Refusal(issues)
    return parse_entry(index, spelled)


def _tried(index: int, spelled: dict[str, Any]) -> Entry | Refusal:
    try:
        return prepare_entry(index, spelled)
    except Refusal as refusal:
        return refusal


def _all_of(spelled: Sequence[dict[str, Any]]) -> list[Entry]:
    entries: list[Entry] = []
    issues: list[Issue] = []
    for index, each in enumerate(spelled):
        match _tried(index, each):
            case Refusal() as refusal:
                issues += refusal.issues
                if len(issues) >= MAX_ISSUES:
                    break
            case Entry() as entry:
                entries.append(entry)
    if issues:
        raise Refusal(issues)
    refuse_overlaps(entries)
    return entries

"""Files of FHIR JSON, read as what an import writes: transactions of entries with ids that stay the same.

A resource keeps the id that its file gives it: the one in its fullUrl (`urn:uuid:X` is id X), else its own. So the same
file read again means the same records.
"""

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bonfire.fhir.bundle import Create, Entry, Update, entry_place, parse_entry, refuse_overlaps
from bonfire.fhir.codec import decode
from bonfire.fhir.definitions.primitives import is_id
from bonfire.fhir.outcome import MAX_ISSUES, Issue, Refusal
from bonfire.fhir.references import FullUrl, links
from bonfire.fhir.validate import check, check_shell, validate

SUFFIXES = (".json", ".ndjson", ".jsonl")

CHUNK = 500
"""Lines of NDJSON that are written in one transaction, as long as none of them is refused."""

_UNPACKED = frozenset({"transaction", "batch", "collection", "searchset"})
_KEPT_WHOLE = frozenset({"document", "message"})
_URN = re.compile(r"urn:(uuid|oid):(?P<id>.+)")


@dataclass(frozen=True, slots=True)
class Unit:
    """Entries that are written together. Where they came from lines of their own, `lines` numbers these (from 1)."""

    entries: Sequence[Entry]
    lines: Sequence[int] = ()

    def only(self, lines: Collection[int]) -> "Unit":
        """The entries of these lines."""
        kept = [(entry, line) for entry, line in zip(self.entries, self.lines, strict=True) if line in lines]
        return Unit([entry for entry, _ in kept], [line for _, line in kept])

    def split(self) -> list["Unit"]:
        """Each line by itself."""
        return [Unit([entry], [line]) for entry, line in zip(self.entries, self.lines, strict=True)]


@dataclass(frozen=True, slots=True)
class Refused:
    """Part of a file that can't be a unit: the whole file, or a line of it."""

    refusal: Refusal
    line: int | None = None


def find_files(paths: Sequence[Path]) -> list[Path]:
    """The files named, and those with one of our suffixes in the folders named, in the order of their paths."""
    found: dict[Path, None] = {}
    for path in paths:
        inner = sorted(each for each in path.rglob("*") if each.suffix in SUFFIXES and each.is_file())
        found |= dict.fromkeys(inner if path.is_dir() else [path])
    return list(found)


def read_units(path: Path, new_id: Callable[[], str]) -> Iterator[Unit | Refused]:
    """What is in the file. A JSON file is one unit; NDJSON is read as it is asked for. OSError where it can't be."""
    if path.suffix in (".ndjson", ".jsonl"):
        yield from _read_lines(path, new_id)
        return
    try:
        yield Unit(_entries(decode(path.read_bytes()), new_id))
    except Refusal as refusal:
        yield Refused(refusal)


def _read_lines(path: Path, new_id: Callable[[], str]) -> Iterator[Unit | Refused]:
    entries: list[Entry] = []
    lines: list[int] = []
    written: set[tuple[str, str]] = set()
    with path.open("rb") as file:
        for line, text in enumerate(file, start=1):
            if not text.strip():
                continue
            try:
                update = _update(decode(text), new_id)
            except Refusal as refusal:
                yield Refused(refusal, line)
                continue
            # One transaction writes a record once: a later line about the same one goes into the next.
            if len(entries) == CHUNK or (update.resource_type, update.id) in written:
                yield Unit(entries, lines)
                entries, lines, written = [], [], set()
            entries.append(_lone(len(entries), update))
            lines.append(line)
            written.add((update.resource_type, update.id))
    if entries:
        yield Unit(entries, lines)


def _entries(value: Any, new_id: Callable[[], str]) -> list[Entry]:
    if not isinstance(value, dict) or value.get("resourceType") != "Bundle" or value.get("type") in _KEPT_WHOLE:
        return [_lone(0, _update(value, new_id))]
    issues = check_shell(value)
    if issues:
        raise Refusal(issues)
    if value["type"] not in _UNPACKED:
        raise Refusal.unsupported(f"Bundles are loaded of these types: {', '.join(sorted(_UNPACKED))}")
    entries: list[Entry] = []
    for index, spelled in enumerate(value.get("entry", ())):
        try:
            entries.append(_entry(index, spelled, new_id))
        except Refusal as refusal:
            issues += refusal.issues
            if len(issues) >= MAX_ISSUES:
                break
    if issues:
        raise Refusal(issues)
    refuse_overlaps(entries)
    return entries


def _update(resource: Any, new_id: Callable[[], str]) -> Update:
    validate(resource)
    return Update(resource["resourceType"], resource.get("id") or new_id(), resource)


def _lone(index: int, update: Update) -> Entry:
    return Entry(index, update, links=links(update.resource), lone=True)


def _entry(index: int, spelled: dict[str, Any], new_id: Callable[[], str]) -> Entry:
    place = entry_place(index)
    resource = spelled.get("resource")
    if resource is not None:
        issues = check(resource, path=f"{place}.resource")
        if issues:
            raise Refusal(issues)
    full_url = spelled.get("fullUrl")
    if "request" in spelled:
        entry = parse_entry(index, spelled)
        match entry.operation:
            case Create() as create:
                id_ = _id(create.resource, full_url, place) or new_id()
                # Without a condition it is an update: so it changes nothing when it is read again.
                again = Update(create.resource_type, id_, create.resource)
                return replace(entry, operation=again if create.unless is None else replace(create, id=id_))
            case Update():
                return entry
            case _:
                raise Refusal([Issue("not-supported", "An import takes POST and PUT", f"{place}.request.method")])
    if resource is None:
        raise Refusal([Issue("required", "resource is missing", f"{place}.resource")])
    update = Update(resource["resourceType"], _id(resource, full_url, place) or new_id(), resource)
    return Entry(index, update, full_url, links(resource, f"{place}.resource"))


def _id(resource: dict[str, Any], full_url: str | None, place: str) -> str | None:
    urn = _URN.fullmatch(full_url or "")
    if urn is not None:
        if not is_id(urn["id"]):
            raise Refusal([Issue("value", "The fullUrl holds no FHIR id", f"{place}.fullUrl")])
        return urn["id"]
    restful = FullUrl.parse(full_url or "")
    return restful.id if restful is not None else resource.get("id")

"""Load files of FHIR JSON into a tenant: each Bundle all or nothing, the same file again a change of nothing.

Files may come in any order: one whose conditional references find nothing yet is put back until the others are
loaded, and refused only when a whole round has brought nothing new.
"""

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from uuid import uuid4

import asyncpg
from msgspec import Struct

from bonfire.access import audit
from bonfire.access.audit import Event
from bonfire.access.facets import patient_of
from bonfire.clinical.fhir_json import parse
from bonfire.fhir.answers import created
from bonfire.fhir.done import Done, Wrote
from bonfire.fhir.import_files import Refused, Unit, find_files, read_units
from bonfire.fhir.outcome import Issue, issues_of
from bonfire.fhir.retry import Transactions
from bonfire.fhir.transact import NewId, transact
from bonfire.store.pool import Database
from bonfire.store.reach import EVERYTHING
from bonfire_protocol.faults import Fault

Progress = Callable[[int, int, int], None]
"""Called with the number of files done, of all files, and of the resources in the files done."""

_ENTRY = re.compile(r"Bundle\.entry\[(?P<index>[0-9]+)\]\.?(?P<field>.*)")


class Failure(Struct, frozen=True):
    """Something that was not loaded: a file (`entry` and `line` None), a Bundle for what is wrong with its entry number
    `entry` (from 0), or a line (from 1). `field` is the element's FHIRPath, within the entry where there is one."""

    file: str
    details: str
    field: str = ""
    entry: int | None = None
    line: int | None = None

    @property
    def message(self) -> str:
        """All but the file, in a line of text. It names elements, never values."""
        place = [f"line {self.line}"] if self.line is not None else []
        place += [f"entry {self.entry}"] if self.entry is not None else []
        place += [self.field] if self.field else []
        return f"{', '.join(place)}: {self.details}" if place else self.details


@dataclass(slots=True)
class ImportReport:
    """What an import has done: how many files were loaded whole, and what became of their resources. `failed` says what
    was not loaded, and why."""

    files: int = 0
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    failed: list[Failure] = field(default_factory=list)

    @property
    def resources(self) -> int:
        """All that was loaded, or was there already."""
        return self.created + self.updated + self.unchanged

    @property
    def summary(self) -> str:
        """The report in one line."""
        counts = f"{self.created} created, {self.updated} updated, {self.unchanged} unchanged"
        failed = len({failure.file for failure in self.failed})
        wrong = f"; {failed} files not loaded whole" if failed else ""
        return f"{self.files} files, {self.resources} resources: {counts}{wrong}"


async def import_folder(
    database: Database,
    tenant: str,
    paths: Sequence[Path],
    progress: Progress = lambda done, total, resources: None,
    *,
    new_id: NewId = lambda: str(uuid4()),
    random: Random | None = None,
) -> ImportReport:
    """Load the files, and the `.json` and `.ndjson` files in the folders, at `paths` into `tenant`.

    A file may be a Bundle (transaction, batch, collection, searchset: loaded all or nothing), a single resource, or
    NDJSON (line by line). Resources keep their ids, and get a new version only where they differ from what is there.
    What is wrong with a file is reported, and the others go on; a Fault is raised only where the database is lost.
    `new_id` is for resources that have no id.
    """
    importer = _Importer(Transactions(database, random or Random()), tenant, new_id, ImportReport())
    report = importer.report
    waiting = [_Source(path) for path in find_files(paths)]
    total = len(waiting)
    done = 0
    progress(done, total, 0)
    while waiting:
        before = (done, report.resources)
        put_back: list[_Source] = []
        for source in waiting:
            later = await importer.load(source)
            if later is None:
                done += 1
            else:
                put_back.append(later)
            progress(done, total, report.resources)
        if (done, report.resources) == before:
            report.failed += [failure for source in put_back for failure in source.failures]
            progress(total, total, report.resources)
            break
        waiting = put_back
    report.files = total - len({failure.file for failure in report.failed})
    return report


@dataclass(frozen=True, slots=True)
class _Source:
    """A file, or those of its lines that are still to be loaded; `failures` say why that was put off."""

    path: Path
    lines: frozenset[int] | None = None
    failures: Sequence[Failure] = ()


@dataclass(frozen=True, slots=True)
class _Importer:
    transactions: Transactions
    tenant: str
    new_id: NewId
    report: ImportReport

    async def load(self, source: _Source) -> _Source | None:
        """Load a file. None when it is done, well or not; else what is to be tried again after the others."""
        put_off: list[Failure] = []
        units = read_units(source.path, self.new_id)
        try:
            # Reading and checking in a thread leaves the loop to the progress bar and to whoever shares it.
            while (unit := await asyncio.to_thread(next, units, None)) is not None:
                match unit:
                    case Refused(refusal, line):
                        # What is wrong with the text itself was told in the first round.
                        if source.lines is None:
                            self.report.failed += _failures(source.path, refusal, line)
                    case Unit():
                        left = unit if source.lines is None else unit.only(source.lines)
                        if left.entries:
                            put_off += await self._load_unit(source.path, left)
        except OSError as error:
            self.report.failed.append(Failure(str(source.path), f"The file can't be read: {error.strerror}"))
        if not put_off:
            return None
        lines = frozenset(each.line for each in put_off if each.line is not None)
        return _Source(source.path, lines or None, put_off)

    async def _load_unit(self, path: Path, unit: Unit) -> list[Failure]:
        """Load a unit, by lines where it can't be as a whole. Returns what may be tried again later."""
        try:
            done = await self.transactions.run(self.tenant, lambda conn: self._transact(conn, unit), reach=EVERYTHING)
        except (Fault, asyncpg.PostgresError) as error:
            if isinstance(error, Fault) and error.next == "retry":
                raise
            if len(unit.lines) > 1:
                return [each for part in unit.split() for each in await self._load_unit(path, part)]
            line = unit.lines[0] if unit.lines else None
            failures = _failures(path, error, line)
            if _may_come_yet(error):
                return failures
            self.report.failed += failures
        else:
            self._count(done)
        return []

    async def _transact(self, conn: asyncpg.Connection, unit: Unit) -> list[Done]:
        done = await transact(conn, unit.entries, self.new_id, leave_unchanged=True)
        await audit.write(conn, _told(self.tenant, done))
        return done

    def _count(self, done: Sequence[Done]) -> None:
        for each in done:
            if isinstance(each, Wrote) and each.changed:
                self.report.created += created(each.version)
                self.report.updated += not created(each.version)
            else:
                self.report.unchanged += 1


def _told(tenant: str, done: Sequence[Done]) -> list[Event]:
    """What the trail is told of a transaction of an import: how much it has written, and of whom, where it is one
    patient's. Not from which file: that may be called after the patient."""
    written = [each.version for each in done if isinstance(each, Wrote) and each.changed]
    if not written:
        return []
    patients = {patient_of(version.resource_type, version.id, parse(version.resource)) for version in written} - {None}
    return [
        Event(
            tenant=tenant,
            action="E",
            subtype="import",
            surface="cli",
            outcome=0,
            patient=patients.pop() if len(patients) == 1 else None,
            count=len(written),
            detail={"created": sum(created(version) for version in written)},
        )
    ]


def _may_come_yet(error: Fault | asyncpg.PostgresError) -> bool:
    """Whether all that is wrong is that something was not found: another file may bring it."""
    return isinstance(error, Fault) and all(issue.code == "not-found" for issue in issues_of(error))


def _failures(path: Path, error: Fault | asyncpg.PostgresError, line: int | None) -> list[Failure]:
    if not isinstance(error, Fault):
        # Its message may quote a value.
        return [Failure(str(path), f"The database refused it (SQLSTATE {error.sqlstate})", line=line)]
    return [_failure(path, issue, line) for issue in issues_of(error)]


def _failure(path: Path, issue: Issue, line: int | None) -> Failure:
    in_entry = _ENTRY.fullmatch(issue.expression)
    if in_entry is None:
        return Failure(str(path), issue.details, issue.expression, line=line)
    return Failure(str(path), issue.details, in_entry["field"], int(in_entry["index"]), line)

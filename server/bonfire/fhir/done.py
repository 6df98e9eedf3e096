"""What became of an entry of a transaction: a closed union, which `answers` spells as FHIR does."""

from collections.abc import Awaitable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from bonfire.fhir.bundle import Entry
from bonfire.fhir.outcome import Issue, Refusal, issues_of
from bonfire.store.resources import Version
from bonfire_protocol.faults import Fault

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Wrote:
    """An entry that creates or updates left `version` as the current one; not `changed` when that was so before."""

    version: Version
    changed: bool


@dataclass(frozen=True, slots=True)
class Deleted:
    """`tombstone` is None where there was nothing to delete."""

    tombstone: Version | None


@dataclass(frozen=True, slots=True)
class Shown:
    """The version that was read."""

    version: Version


@dataclass(frozen=True, slots=True)
class Found:
    """All that a search for `resource_type` found."""

    resource_type: str
    versions: Sequence[Version]


Done = Wrote | Deleted | Shown | Found


@contextmanager
def naming_fault(entry: Entry) -> Iterator[None]:
    """A fault in it says which entry it was."""
    try:
        yield
    except Refusal:
        raise
    except Fault as fault:
        issues = [Issue(issue.code, issue.details, entry.place) for issue in issues_of(fault)]
        raise Refusal(issues, code=fault.code) from None


async def naming(entry: Entry, work: Awaitable[Result]) -> Result:
    """The result of `work`; a fault says which entry it was."""
    with naming_fault(entry):
        return await work

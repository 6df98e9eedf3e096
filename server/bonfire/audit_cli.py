"""`bonfire audit`: look at the trail, make sure of it, and let go of what is too old."""

import argparse
import getpass
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import asyncpg
from rich.console import Console
from rich.markup import escape

from bonfire.access.identity import DEFAULT_TENANT
from bonfire.clinical.times import instant
from bonfire.store import audit
from bonfire.store.audit import Event, Recorded
from bonfire.store.audit_chain import verify
from bonfire.store.audit_search import Criteria, find
from bonfire.store.pool import Database
from bonfire.store.reach import EVERYTHING
from bonfire_protocol.faults import Fault, FaultCode

InDatabase = Callable[[Callable[[Database], Awaitable[int]]], int]
"""Runs a piece of work with a database that it connects to."""

_AGE = re.compile(r"([1-9][0-9]{0,4})([dmy])")
_DAYS = {"d": 1, "m": 31, "y": 366}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The subcommands of `bonfire audit`. What was chosen is in the attribute `audit`."""
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, dest="audit")

    verifying = commands.add_parser(
        "verify", help="compute the chain of seals anew, and name what is not as it was sealed"
    )
    verifying.add_argument(
        "--published",
        type=_link,
        action="append",
        default=[],
        metavar="N:HASH",
        help="a link as `bonfire audit head` or a log once told it; it must still be there",
    )

    commands.add_parser(
        "head", help="print where the chain ends, N:HASH: to be kept where the database's owner can't write"
    )
    commands.add_parser("seal", help="seal now what the nodes would seal within seconds")

    listing = commands.add_parser("list", help="print events, the newest first; that you did is an event too")
    listing.add_argument("--tenant", default=DEFAULT_TENANT, help=f"whose trail ({DEFAULT_TENANT})")
    listing.add_argument("--patient", metavar="ID", help="whose record it was about")
    listing.add_argument("--user", metavar="ID", help="whose doing it was")
    listing.add_argument("--limit", type=int, default=50, help="how many at most (50)")

    pruning = commands.add_parser("prune", help="drop whole months of all tenants, and say so in the chain")
    pruning.add_argument("--older-than", type=_age, required=True, metavar="AGE", help="90d, 18m, 6y...")


def run(arguments: argparse.Namespace, out: Console, in_database: InDatabase) -> int:
    """Do what was chosen: 0, or 1 where the trail is not as it was sealed. Faults say what can't be done."""
    match arguments.audit:
        case "verify":
            return in_database(lambda database: _verify(database, arguments.published, out))
        case "head":
            return in_database(lambda database: _head(database, out))
        case "seal":
            return in_database(lambda database: _seal(database, out))
        case "list":
            return in_database(lambda database: _list(database, arguments, out))
        case _:
            return in_database(lambda database: _prune(database, arguments.older_than, out))


def _link(text: str) -> tuple[int, str]:
    number, _, hash = text.partition(":")
    if not number.isdecimal() or re.fullmatch("[0-9a-f]{64}", hash) is None:
        raise argparse.ArgumentTypeError("expected a number, a colon and 64 hexadecimal digits")
    return int(number), hash


def _age(text: str) -> timedelta:
    found = _AGE.fullmatch(text)
    if found is None:
        raise argparse.ArgumentTypeError("expected a number and d, m or y: 90d, 18m, 6y")
    return timedelta(days=int(found[1]) * _DAYS[found[2]])


async def _verify(database: Database, published: list[tuple[int, str]], out: Console) -> int:
    async with database.owner() as conn:
        found = await verify(conn, published=published)
    for month, at in found.dropped:
        out.print(f"{month} was dropped by retention at {instant(at)}", highlight=False)
    for finding in found.findings:
        place = [finding.month, finding.seal and f"link {finding.seal}", finding.id]
        where = ", ".join(str(part) for part in place if part)
        out.print(f"[red]{finding.kind}[/]: {escape(finding.message)} ({where})", highlight=False)
    if found.findings:
        out.print("The trail is not as it was sealed: see docs/audit.md for what to do.", highlight=False)
        return 1
    out.print(
        f"{found.rows} events are as they were sealed, under {found.seals} seals; {found.unsealed} are too new to be "
        f"sealed. The chain ends with {found.seq}:{found.hash}",
        highlight=False,
    )
    return 0


async def _head(database: Database, out: Console) -> int:
    async with database.owner() as conn:
        head = await audit.head(conn)
    out.print(f"{head.seq}:{head.hash}", highlight=False)
    return 0


async def _seal(database: Database, out: Console) -> int:
    total = 0
    async with database.owner() as conn:
        while sealed := await audit.seal(conn):
            total += sealed
    out.print(f"Sealed {total} events.", highlight=False)
    return 0


async def _list(database: Database, arguments: argparse.Namespace, out: Console) -> int:
    criteria = Criteria(patient=arguments.patient, user=arguments.user, limit=max(1, arguments.limit))
    async with database.transaction(arguments.tenant, reach=EVERYTHING) as conn:
        found = await find(conn, criteria)
        await audit.insert(conn, [_told(arguments.tenant, arguments.patient, "audit list", len(found))])
    for each in found:
        out.print(escape(_line(each)), highlight=False)
    return 0


async def _prune(database: Database, older_than: timedelta, out: Console) -> int:
    before = datetime.now(UTC) - older_than
    try:
        async with database.owner() as conn:
            dropped = await audit.prune(conn, before)
    except (asyncpg.ObjectNotInPrerequisiteStateError, asyncpg.InvalidParameterValueError) as error:
        hint = f" {error.hint}" if error.hint else ""
        raise Fault(FaultCode.bad_arguments, f"Nothing was dropped: {error.message}.{hint}") from None
    for month, rows in dropped:
        out.print(f"Dropped {month}: {rows} events.", highlight=False)
    if not dropped:
        out.print("No whole month is older than that.", highlight=False)
    return 0


def _told(tenant: str, patient: str | None, query: str, count: int) -> Event:
    # Whoever has the database's owner needs no policy: all that can be said is which account it was.
    return Event(
        tenant=tenant,
        action="E",
        subtype="administer",
        surface="cli",
        user=f"operator:{getpass.getuser()}",
        patient=patient,
        query=query,
        count=count,
    )


def _line(recorded: Recorded) -> str:
    event = recorded.event
    parts = [
        instant(recorded.at),
        event.user or "nobody",
        f"for {event.behalf_of}" if event.behalf_of else "",
        event.subtype if event.outcome == 0 else f"{event.subtype} ({_OUTCOMES[event.outcome]})",
        event.what or event.query or "",
        f"of Patient/{event.patient}" if event.patient else "",
        f"by {', '.join(event.policies)}" if event.policies else "",
        f"because: {event.reason}" if event.reason else "",
    ]
    return "  ".join(part for part in parts if part)


_OUTCOMES = {4: "refused", 8: "failed", 12: "failed badly"}

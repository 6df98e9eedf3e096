"""`bonfire policy`: look at policies, try them, and put them in force."""

import argparse
import getpass
import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, get_args

from msgspec import convert
from rich.console import Console
from rich.markup import escape

from bonfire.access.activation import Version, activate_as_operator, newest, read_version
from bonfire.access.entities import SYSTEM, function_entity, record_entity
from bonfire.access.explain import Finding, explain
from bonfire.access.facts import Facts, Relation
from bonfire.access.gate import Access, Action
from bonfire.access.identity import DEFAULT_TENANT
from bonfire.access.policies import Policies, check, default_text
from bonfire.access.principal import Kind, Principal
from bonfire.access.rights import Decision, FunctionKind, RecordAction, Rights
from bonfire.store.pool import Database
from bonfire.store.reach import NOTHING
from bonfire.store.relations import facts_of
from bonfire_protocol.faults import Fault, FaultCode

InDatabase = Callable[[Callable[[Database], Awaitable[int]]], int]
"""Runs a piece of work with a database that it connects to."""

_NEAREST = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The subcommands of `bonfire policy`. What was chosen is in the attribute `policy`."""
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, dest="policy")

    checking = commands.add_parser("check", help="say what is wrong with a text of policies")
    checking.add_argument("file", type=Path, help="the policies, in Cedar")

    showing = commands.add_parser("show", help="print the policies that are in force")
    showing.add_argument("--tenant", default=DEFAULT_TENANT, help=f"whose ({DEFAULT_TENANT})")
    showing.add_argument("--version", type=int, help="an earlier version; 0 is what bonfire comes with")

    activating = commands.add_parser("activate", help="put policies in force, at once and for the whole tenant")
    activating.add_argument("file", type=Path, help="the policies, in Cedar")
    activating.add_argument("--tenant", default=DEFAULT_TENANT, help=f"whose ({DEFAULT_TENANT})")
    activating.add_argument("--reason", required=True, help="what the change is for; it is kept")
    activating.add_argument("--author", default=f"operator:{getpass.getuser()}", help="who made it (%(default)s)")

    why = commands.add_parser("explain", help="say who may do what, by which policy, and if not, why not")
    why.add_argument("--file", type=Path, help="policies to try (those that bonfire comes with)")
    why.add_argument("--stored", action="store_true", help="the tenant's policies and the user's relations as stored")
    why.add_argument("--tenant", default=DEFAULT_TENANT, help=f"the caller's tenant ({DEFAULT_TENANT})")
    why.add_argument("--user", default="somebody", help="the caller's id (%(default)s)")
    why.add_argument("--roles", type=_words, default=[], metavar="A,B", help="the caller's roles")
    why.add_argument("--kind", choices=get_args(Kind), default="person", help="what the caller is (%(default)s)")
    why.add_argument("--purpose", default="TREAT", help="why they ask (%(default)s)")
    why.add_argument("--self", dest="self_", metavar="ID", help="the patient that the caller is")
    why.add_argument("--behalf-of", metavar="USER", help="for whom the caller acts")
    why.add_argument("--scopes", type=_words, metavar="A,B", help="SMART scopes that bound the token")
    why.add_argument("--patients", type=_words, default=[], metavar="A,B", help="whose care team they are on")
    why.add_argument("--broken-glass", type=_words, default=[], metavar="A,B", help="whose glass they have broken")
    why.add_argument("--refused", type=_words, default=[], metavar="A,B", help="who refuses them by consent")
    why.add_argument("--suspended", action="store_true", help="the caller is suspended")
    why.add_argument("--action", choices=get_args(Action), default="read", help="what they would do (%(default)s)")
    why.add_argument("--type", help="of a record: its FHIR type, or AppState")
    why.add_argument("--id", default="it", help="of a record: its id (%(default)s)")
    why.add_argument("--patient", default="", help="of a record, an export or broken glass: whose")
    why.add_argument("--label", action="append", default=[], help="of a record: a code of meta.security")
    why.add_argument("--category", action="append", default=[], help="of a record: a code of category")
    why.add_argument("--author", action="append", default=[], help="of a record: a user who wrote it")
    why.add_argument("--draft", action="store_true", help="of a record: it is not signed yet")
    why.add_argument("--function", help="of a call: the function's name")
    why.add_argument("--mutation", action="store_true", help="of a call: the function is no query")


def run(arguments: argparse.Namespace, out: Console, in_database: InDatabase) -> int:
    """Do what was chosen: 0, or 1 where a text is refused or the answer is no. Faults say what can't be done."""
    match arguments.policy:
        case "check":
            return _check(_read(arguments.file), out)
        case "show":
            return in_database(lambda database: _show(database, arguments, out))
        case "activate":
            return in_database(lambda database: _activate(database, arguments, out))
        case _ if arguments.stored:
            return in_database(lambda database: _explain_stored(database, arguments, out))
        case _:
            text = default_text() if arguments.file is None else _read(arguments.file)
            return _explain(text, _given(arguments), arguments, out)


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Fault(FaultCode.bad_arguments, f"{file} can't be read: {error}") from None


def _check(text: str, out: Console) -> int:
    problems = check(text)
    for problem in problems:
        colour = "red" if problem.level == "error" else "yellow"
        where = "" if problem.policy is None else f" in `{problem.policy}`"
        out.print(f"[{colour}]{problem.level}[/]{escape(where)}: {escape(problem.message)}", highlight=False)
    if any(problem.level == "error" for problem in problems):
        return 1
    out.print(f"{len(Policies(text).by_number)} policies can be put in force.", highlight=False)
    return 0


async def _show(database: Database, arguments: argparse.Namespace, out: Console) -> int:
    found = await _stored(database, arguments.tenant, arguments.version)
    if found is not None:
        at = found.at.isoformat(timespec="seconds")
        out.print(
            f"// Version {found.version}, by {found.author} at {at}: {found.reason}", markup=False, highlight=False
        )
    else:
        out.print("// What bonfire comes with.", markup=False, highlight=False)
    out.print(default_text() if found is None else found.text, markup=False, highlight=False)
    return 0


async def _stored(database: Database, tenant: str, version: int | None = None) -> Version | None:
    """The version, or what is in force; None for what bonfire comes with."""
    if version == 0:
        return None
    # Neither policies nor relations are records: the tenant alone bounds them.
    async with database.transaction(tenant, reach=NOTHING, readonly=True) as conn:
        found = await newest(conn) if version is None else await read_version(conn, version)
    if found is None and version is not None:
        raise Fault(FaultCode.not_found, f"tenant {tenant} has no policies of version {version}")
    return found


async def _activate(database: Database, arguments: argparse.Namespace, out: Console) -> int:
    text = _read(arguments.file)
    if _check(text, out) != 0:
        return 1
    async with database.transaction(arguments.tenant, reach=NOTHING) as conn:
        version = await activate_as_operator(conn, text, arguments.author, arguments.reason)
    out.print(f"Version {version} is in force for tenant {escape(arguments.tenant)}.", highlight=False)
    return 0


async def _explain_stored(database: Database, arguments: argparse.Namespace, out: Console) -> int:
    found = await _stored(database, arguments.tenant)
    async with database.transaction(arguments.tenant, reach=NOTHING, readonly=True) as conn:
        facts = convert(json.loads(await facts_of(conn, arguments.user)), Facts)
    return _explain(default_text() if found is None else found.text, facts, arguments, out)


def _given(arguments: argparse.Namespace) -> Facts:
    related = {"careTeam": arguments.patients, "breakGlass": arguments.broken_glass, "refused": arguments.refused}
    relations = [Relation(kind, patient) for kind, patients in related.items() for patient in patients]
    if arguments.suspended:
        relations.append(Relation("suspended", "*"))
    return Facts(tuple(relations))


def _explain(text: str, facts: Facts, arguments: argparse.Namespace, out: Console) -> int:
    errors = [problem for problem in check(text) if problem.level == "error"]
    if errors:
        return _check(text, out)
    policies = Policies(text)
    principal = Principal(
        arguments.tenant,
        arguments.user,
        arguments.user,
        roles=frozenset(arguments.roles),
        kind=arguments.kind,
        patient=arguments.self_,
        purpose=arguments.purpose,
        scopes=None if arguments.scopes is None else frozenset(arguments.scopes),
        behalf_of=arguments.behalf_of,
    )
    access = Access(principal, facts, Rights(policies, principal, facts))
    decision, resource = _decide(access, arguments)
    _tell(decision, explain(policies, principal, facts, arguments.action, resource), out)
    return 0 if decision.allowed else 1


def _decide(access: Access, arguments: argparse.Namespace) -> tuple[Decision, Mapping[str, Any]]:
    """The decision on what was asked, and the entity that it is about."""
    action = arguments.action
    if action in get_args(RecordAction):
        if arguments.type is None:
            raise Fault(FaultCode.bad_arguments, f"`{action}` is done with a record: say its --type", field="type")
        facets = frozenset(
            [
                f"type:{arguments.type}",
                f"patient:{arguments.patient}",
                "draft:true" if arguments.draft else "draft:false",
                *([f"label:{label}" for label in arguments.label] or ["label:"]),
                *(f"category:{code}" for code in arguments.category),
                *(f"author:{user}" for user in arguments.author),
            ]
        )
        decision = access.allows(action, arguments.type, arguments.id, facets)
        return decision, record_entity(f"{arguments.type}/{arguments.id}", facets)
    if action == "call":
        if arguments.function is None:
            raise Fault(FaultCode.bad_arguments, "`call` is done with a --function: say its name", field="function")
        kind: FunctionKind = "mutation" if arguments.mutation else "query"
        return access.allows_call(arguments.function, kind), function_entity(arguments.function, kind)
    patient = arguments.patient or None
    uid = SYSTEM if patient is None else {"type": "Patient", "id": patient}
    return access.allows_road(action, patient), {"uid": uid, "attrs": {}, "parents": []}


def _tell(decision: Decision, findings: list[Finding], out: Console) -> None:
    permits = [finding for finding in findings if finding.effect == "permit"]
    if decision.allowed:
        out.print("[green]allowed[/]")
    elif decision.mask is not None:
        out.print(f"[yellow]only with the mask {decision.mask}[/]: by roads that can mask")
    elif decision.beyond_scopes:
        out.print("[red]denied[/]: policies permit it, but not the scopes of the token")
    elif any(finding.holds for finding in findings if finding.effect == "forbid"):
        out.print("[red]denied[/]: it is forbidden")
    else:
        out.print("[red]denied[/]: no policy permits it")
    for finding in findings:
        if finding.holds:
            verb = "forbids" if finding.effect == "forbid" else "permits"
            out.print(f"  {escape(finding.id)} {verb} it{_says(finding)}", highlight=False)
    if not any(finding.holds for finding in permits):
        # The others end at the caller's role already.
        for finding in [finding for finding in permits if finding.after > 0][:_NEAREST]:
            ends = "it is about something else" if finding.ends_at is None else f"not so: {finding.ends_at}"
            out.print(f"  {escape(finding.id)} does not{_says(finding)}", highlight=False)
            out.print(f"    {escape(ends)}", highlight=False)


def _says(finding: Finding) -> str:
    return "" if finding.says is None else f": {escape(finding.says)}"

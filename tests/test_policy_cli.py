"""`bonfire policy`: what it prints, and its exit status."""

import argparse
import io
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from rich.console import Console

from bonfire.access.policies import default_text
from bonfire.policy_cli import add_arguments, run
from bonfire.store import relations
from bonfire.store.pool import Database
from bonfire.store.reach import NOTHING
from bonfire_protocol.faults import Fault

OWN = """@id("all") @says("Chiefs do as they like.")
permit (principal, action, resource) when { principal.roles.contains("chief") };"""
NURSE_READS = ["--roles", "nurse", "--type", "DocumentReference", "--patient", "p1"]


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(words)


def no_database(work: Callable[[Database], Awaitable[int]]) -> int:
    raise AssertionError("it needs no database")


def policy(*words: str) -> tuple[int, str]:
    printed = io.StringIO()
    return run(parse(*words), Console(file=printed, width=200), no_database), printed.getvalue()


async def policy_in(database: Database, *words: str) -> tuple[int, str]:
    """The same for what needs a database: the work is awaited here, where there is an event loop."""
    printed = io.StringIO()
    given: list[Awaitable[int]] = []

    def keep(work: Callable[[Database], Awaitable[int]]) -> int:
        given.append(work(database))
        return 0

    run(parse(*words), Console(file=printed, width=200), keep)
    return await given[0], printed.getvalue()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    written = tmp_path / "own.cedar"
    written.write_text(OWN)
    return written


@pytest.fixture
def bad_file(tmp_path: Path) -> Path:
    written = tmp_path / "bad.cedar"
    written.write_text("nonsense")
    return written


def test_check_takes_a_good_text(file: Path) -> None:
    assert policy("check", str(file)) == (0, "1 policies can be put in force.\n")


def test_check_names_what_is_wrong(file: Path) -> None:
    file.write_text(OWN + 'permit (principal, action == Action::"update", resource);')
    assert policy("check", str(file)) == (1, "error in `policy1`: it has no @id\n")
    with pytest.raises(Fault, match="can't be read"):
        policy("check", str(file.with_name("missing.cedar")))


def test_explain_names_the_policy_that_permits() -> None:
    status, told = policy("explain", *NURSE_READS, "--patients", "p1,p2")
    assert status == 0
    assert told.startswith("allowed\n  nurse-reads permits it: Nurses read the records")


def test_explain_says_where_the_nearest_policy_ends() -> None:
    status, told = policy("explain", *NURSE_READS, "--patients", "p1", "--label", "R")
    assert status == 1
    assert told.startswith("denied: no policy permits it\n  nurse-reads does not: Nurses read")
    assert 'not so: !((resource.labels).containsAny(["R", "V"]))' in told


def test_the_page_shows_what_explain_says() -> None:
    page = Path(__file__).parents[1].joinpath("docs", "policies.md").read_text(encoding="utf-8")
    shown = page.partition("$ bonfire policy explain ")[2].partition("```")[0]
    words, _, told = shown.replace("\\\n", " ").partition("\n")
    assert policy("explain", *words.split()) == (1, told)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--roles nurse --suspended --type Patient", "denied: it is forbidden\n  suspended forbids it"),
        ("--roles clinician --refused p1 --type Patient --patient p1", "  consent forbids it"),
        ("--roles analyst --type Observation --patient p1", "only with the mask identity"),
        ("--roles clinician --scopes user/Patient.rs --type Observation", "not the scopes of the token"),
        ("--roles clinician --action breakGlass --patient p1", "  break-glass permits it"),
        ("--roles patient --self p1 --action export --patient p1", "  patient-exports permits it"),
        ("--roles patient --action call --function notes.create --mutation", "patient-calls does not"),
        ("--roles scribe --patients p1 --action update --type DocumentReference --patient p1 --draft", "scribe-drafts"),
        ("--roles patient --user u1 --type AppState --author u1 --category x", "patient-state permits"),
    ],
)
def test_explain_any_action(words: str, told: str) -> None:
    assert told in policy("explain", *words.split())[1]


def test_explain_tries_policies_that_are_not_in_force(file: Path) -> None:
    status, told = policy("explain", "--file", str(file), "--roles", "chief", "--action", "sql")
    assert (status, told) == (0, "allowed\n  all permits it: Chiefs do as they like.\n")


def test_explain_wants_to_know_what_it_is_about() -> None:
    with pytest.raises(Fault, match="say its --type"):
        policy("explain", "--roles", "nurse")
    with pytest.raises(Fault, match="say its name"):
        policy("explain", "--action", "call")


async def test_activate_and_show(database: Database, file: Path) -> None:
    assert await policy_in(database, "show") == (0, f"// What bonfire comes with.\n{default_text()}\n")
    status, told = await policy_in(database, "activate", str(file), "--reason", "chiefs came", "--author", "op")
    assert (status, told) == (0, "1 policies can be put in force.\nVersion 1 is in force for tenant default.\n")
    status, told = await policy_in(database, "show")
    assert told.startswith("// Version 1, by op at ")
    assert told.endswith(f": chiefs came\n{OWN}\n")
    assert (await policy_in(database, "show", "--version", "0"))[1].startswith("// What bonfire comes with.")
    with pytest.raises(Fault, match="no policies of version 7"):
        await policy_in(database, "show", "--version", "7")


async def test_a_text_with_errors_is_not_activated(database: Database, bad_file: Path) -> None:
    status, told = await policy_in(database, "activate", str(bad_file), "--reason", "x")
    assert status == 1
    assert told.startswith("error: it can't be parsed")
    assert (await policy_in(database, "show"))[1].startswith("// What bonfire comes with.")


async def test_explain_what_is_stored(database: Database, file: Path) -> None:
    words = ["explain", "--stored", "--user", "n1", *NURSE_READS]
    assert (await policy_in(database, *words))[0] == 1
    async with database.transaction("default", reach=NOTHING) as conn:
        await relations.grant(conn, user="n1", kind="careTeam", patient="p1", source="test")
    assert (await policy_in(database, *words))[0] == 0
    await policy_in(database, "activate", str(file), "--reason", "chiefs came", "--author", "op")
    assert (await policy_in(database, *words))[0] == 1

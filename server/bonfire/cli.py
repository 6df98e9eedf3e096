"""The `bonfire` command: what a newcomer types, and what an operator's scripts call.

Each command says what it does, shows progress where it takes long, and ends with a sentence that says what to do when
it can't. Exit status: 0 done, 1 it could not be done, 2 the words were wrong.
"""

import argparse
import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from socket import socket
from typing import Any, NoReturn, TypeVar, get_args

import uvloop
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from bonfire.access.identity import DEFAULT_TENANT, Identifier
from bonfire.access.minting import UnsafeKey, is_development_key, make_development_key, mint, read_development_key
from bonfire.access.principal import Kind
from bonfire.app import Server, run_worker, start_node
from bonfire.audit_cli import add_arguments as add_audit_arguments
from bonfire.audit_cli import run as run_audit
from bonfire.changes.source import SourceUnavailable
from bonfire.clinical.builtin import builtin_registry
from bonfire.clinical.demo.load import load_demo
from bonfire.clinical.errors import RegistrationError
from bonfire.clinical.load import ModuleError, ModuleLoader
from bonfire.clinical.registry import Registry
from bonfire.config import SettingError, Settings, read_settings
from bonfire.fhir.importer import import_folder
from bonfire.listening import CannotListen
from bonfire.policy_cli import add_arguments as add_policy_arguments
from bonfire.policy_cli import run as run_policy
from bonfire.reload import supervise
from bonfire.store.cluster import ClusterError
from bonfire.store.embedded import EmbeddedPostgres
from bonfire.store.migrate import MigrationError, migrate
from bonfire.store.model import ModelError
from bonfire.store.pool import Database, DatabaseUnusable
from bonfire.store.reach import EVERYTHING
from bonfire.store.readmodels import check, install
from bonfire.telemetry.logs import configure_logging
from bonfire.telemetry.tracing import TracingUnavailable
from bonfire.workers.handed import Handed
from bonfire.workers.listeners import Listeners
from bonfire.workers.restarts import TRY_AGAIN
from bonfire.workers.supervisor import Supervisor, WorkersFailed
from bonfire_protocol.faults import Fault, FaultCode

_T = TypeVar("_T")

out = Console(soft_wrap=True)
# Soft wrap: a command that a message quotes is copied in one piece, and a log has one line a message.
err = Console(stderr=True, soft_wrap=True)

EXPECTED = (
    SettingError,
    UnsafeKey,
    ModuleError,
    RegistrationError,
    ClusterError,
    MigrationError,
    ModelError,
    DatabaseUnusable,
    SourceUnavailable,
    CannotListen,
    WorkersFailed,
    TracingUnavailable,
    Fault,
)
"""What is said in a sentence, without a traceback: the reader can do something about it."""


def main(argv: list[str] | None = None) -> NoReturn:
    """Entry point."""
    arguments = _parser().parse_args(argv)
    # A service manager's SIGTERM ends the command as Ctrl-C does: what was started is stopped.
    signal.signal(signal.SIGTERM, _terminated)
    try:
        settings = _settings(arguments)
        configure_logging(
            level=settings.log_level,
            form=settings.log_format,
            worker=settings.worker,
            stream=sys.stderr,
            whole_errors=arguments.run is _dev,
        )
        status = arguments.run(arguments, settings)
    except EXPECTED as error:
        err.print(f"[bold red]bonfire:[/] {escape(_sentence(error))}", highlight=False)
        # Its supervisor wants to know.
        status = TRY_AGAIN if getattr(arguments, "handed", None) and _may_pass(error) else 1
    except KeyboardInterrupt:
        status = 130
    sys.exit(status)


def _terminated(number: int, frame: object) -> NoReturn:
    sys.exit(128 + number)


def _may_pass(error: Exception) -> bool:
    """Whether the same words can be done later, with nothing changed but the world."""
    match error:
        case Fault(code=FaultCode.unavailable | FaultCode.busy) | SourceUnavailable(retry=True):
            return True
        case _:
            return False


def _sentence(error: Exception) -> str:
    return error.message if isinstance(error, Fault) else str(error)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bonfire",
        description="The clinical data layer under an app.",
        epilog="Settings come from the environment (DATABASE_URL, BONFIRE_...): see docs/settings.md.",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, run: Any, help: str, *, module: bool = True) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".")
        added.set_defaults(run=run)
        if module:
            added.add_argument("module", nargs="?", type=Path, help="your own functions: a Python file, my_clinic.py")
        return added

    def listening(added: argparse.ArgumentParser) -> None:
        added.add_argument("--host", help="the address to listen on (BONFIRE_HOST, 127.0.0.1)")
        added.add_argument("--port", type=int, help="the port to listen on, 0 for any free one (BONFIRE_PORT, 8000)")
        added.add_argument("--app", type=_pages, metavar="DIR", help="a folder of built pages to serve at /")

    dev = command("dev", _dev, "run everything for development: Postgres, demo patients, no tokens, reload on save")
    listening(dev)
    dev.add_argument("--no-demo", action="store_true", help="do not add demo patients to an empty database")
    dev.add_argument("--no-reload", action="store_true", help="do not start again when your functions are saved")

    serve = command("serve", _serve, "serve on a migrated database; callers need tokens")
    listening(serve)
    serve.add_argument("--workers", type=int, help="how many processes share the port (BONFIRE_WORKERS, 1)")
    serve.add_argument("--handed", type=Handed.parse, help=argparse.SUPPRESS)
    command("worker", _worker, "bring indexes up to date, beside the servers that do it too")
    migrating = command("migrate", _migrate, "bring the database to this version's schema and build your read models")
    migrating.add_argument("--rebuild", action="append", default=[], metavar="MODEL", help="build this read model anew")
    command("check", _check, "compute every read model afresh from its source and report what differs")

    loads = "load FHIR Bundles and resources: JSON or NDJSON files, or folders of them"
    importing = command("import", _import, loads, module=False)
    importing.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="files or folders")
    importing.add_argument("--tenant", default=DEFAULT_TENANT, help=f"whose data they are ({DEFAULT_TENANT})")

    command("url", _url, "print the database's URL, starting the embedded one if it must", module=False)

    minting = "mint a token with BONFIRE_TOKEN_KEY; without that, one for `bonfire dev`"
    token = command("token", _token, minting, module=False)
    token.add_argument("--tenant", default=DEFAULT_TENANT, help=f"whose data the token opens ({DEFAULT_TENANT})")
    token.add_argument("--user", required=True, help="the caller's stable id")
    token.add_argument("--name", help="the caller's name, as people read it (the id)")
    token.add_argument("--role", action="append", help="what the caller is, once for each (clinician)")
    token.add_argument(
        "--kind", choices=get_args(Kind), default="person", help="what the caller is to the law (person)"
    )
    token.add_argument("--patient", metavar="ID", help="the patient that the caller is")
    token.add_argument("--purpose", metavar="CODE", help="why they ask, of HL7's PurposeOfUse (TREAT)")
    token.add_argument("--scope", action="append", help="a SMART scope that bounds the token, once for each")
    token.add_argument("--behalf-of", metavar="USER", help="the user for whom a service or an agent acts")
    token.add_argument("--hours", type=_hours, default=12.0, help="how long it is good for (12)")

    policies = command("policy", _policy, "look at access policies, try them, and put them in force", module=False)
    add_policy_arguments(policies)

    trail = command("audit", _audit, "look at the audit trail, make sure of it, and drop what is too old", module=False)
    add_audit_arguments(trail)

    return parser


def _pages(text: str) -> Path:
    folder = Path(text)
    if not (folder / "index.html").is_file():
        raise argparse.ArgumentTypeError(f"{folder / 'index.html'} is missing: build the app first")
    return folder


def _hours(text: str) -> float:
    hours = float(text)
    if not 0 < hours <= 24 * 366:
        raise argparse.ArgumentTypeError("expected hours, more than 0 and at most a year's (8784)")
    return hours


def _settings(arguments: argparse.Namespace) -> Settings:
    """The environment's settings; the command line's words go before them."""
    settings = read_settings(os.environ)
    given = {name: getattr(arguments, name, None) for name in ("host", "port", "workers")}
    return replace(settings, **{name: value for name, value in given.items() if value is not None})


# ---- commands ---------------------------------------------------------------------------------------------------


def _dev(arguments: argparse.Namespace, settings: Settings) -> int:
    if arguments.module is not None and not arguments.no_reload:
        with _postgres(settings):
            # The parent holds Postgres, so that it goes on running while the child starts again.
            return supervise(arguments.module, [*sys.argv[1:], "--no-reload"], err)
    if settings.host not in ("127.0.0.1", "::1", "localhost"):
        raise SettingError(
            f"BONFIRE_HOST: `bonfire dev` asks nobody for a token, so it listens on this machine only, not on "
            f"{settings.host}; use `bonfire serve` to be reached from elsewhere"
        )
    registry = _registry(arguments.module)
    with _postgres(settings) as url:
        _run(_prepare(url, registry))
        if not arguments.no_demo:
            _run(_add_demo(url))
        return _run(_listen(arguments, settings, url, registry, development=True))


def _serve(arguments: argparse.Namespace, settings: Settings) -> int:
    if not settings.token_keys and settings.oidc_issuer is None:
        raise SettingError(
            "BONFIRE_TOKEN_KEY: `bonfire serve` needs it or BONFIRE_OIDC_ISSUER, to check its callers' tokens; "
            "neither is set"
        )
    made = read_development_key(settings.data_dir)
    if any(is_development_key(key) or key == made for key in settings.token_keys):
        raise SettingError(
            "BONFIRE_TOKEN_KEY: expected a key of your own; this one was made for development, where whoever has the "
            "data folder may be anybody"
        )
    registry = _registry(arguments.module)
    if settings.workers > 1 and arguments.handed is None:
        return _supervise(settings)
    with _postgres(settings) as url:
        return _run(_listen(arguments, settings, url, registry, development=False))


def _supervise(settings: Settings) -> int:
    """Serve by several processes of this very command, which are each handed what it takes to be a part of it."""
    listeners = Listeners(settings.host, settings.port, settings.workers)

    async def supervise(url: str, folder: str) -> None:
        await Supervisor(
            [sys.executable, "-m", "bonfire", *sys.argv[1:]],
            listeners,
            settings.workers,
            environment={**os.environ, "DATABASE_URL": url, "BONFIRE_WORKERS_DIR": folder},
            announce=lambda: _announce(listeners.address, settings.workers),
        ).run()

    try:
        with _postgres(settings) as url, tempfile.TemporaryDirectory(prefix="bonfire-") as folder:
            # Not uvloop: it would be in nobody's way, and the processes have one each.
            asyncio.run(supervise(url, folder))
    finally:
        listeners.close()
    return 0


def _worker(arguments: argparse.Namespace, settings: Settings) -> int:
    with _postgres(settings) as url:
        out.print("Working. Stop with Ctrl-C.")
        _run(run_worker(settings, url, _stop_signal))
    return 0


def _migrate(arguments: argparse.Namespace, settings: Settings) -> int:
    registry = _registry(arguments.module)
    with _postgres(settings) as url:
        _run(_prepare(url, registry, rebuild=arguments.rebuild))
    return 0


def _check(arguments: argparse.Namespace, settings: Settings) -> int:
    registry = _registry(arguments.module)

    async def compare(url: str) -> int:
        async with _database(url) as database, database.owner() as conn:
            differences = await check(conn, registry.models)
        for found in differences:
            # The row's id says which one; its content is a patient's and has no place in a terminal.
            told = f"{found.kind} {found.id} (tenant {found.tenant})"
            err.print(f"[red]{found.model}[/]: {escape(told)}", highlight=False)
        if differences:
            totals = {found.model: found.total for found in differences}
            told = ", ".join(f"{model} in {total} rows" for model, total in totals.items())
            again = " ".join(f"--rebuild {model}" for model in totals)
            err.print(f"Not equal to the source: {told}. To build anew: bonfire migrate {again}", highlight=False)
            return 1
        out.print(f"All {len(registry.models)} read models equal their source.")
        return 0

    with _postgres(settings) as url:
        return _run(compare(url))


def _import(arguments: argparse.Namespace, settings: Settings) -> int:
    async def load(url: str) -> int:
        registry = builtin_registry()
        await _prepare(url, registry)
        async with _database(url) as database:
            with _progress("files") as progress:
                task = progress.add_task("Importing", total=None)

                def tell(done: int, total: int, resources: int) -> None:
                    progress.update(task, completed=done, total=total, description=f"{resources} resources")

                report = await import_folder(database, arguments.tenant, arguments.paths, tell)
        for failure in report.failed:
            err.print(f"[red]{escape(str(failure.file))}[/]: {escape(failure.message)}", highlight=False)
        out.print(report.summary, highlight=False)
        return 1 if report.failed else 0

    with _postgres(settings) as url:
        return _run(load(url))


def _url(arguments: argparse.Namespace, settings: Settings) -> int:
    if settings.database_url is not None:
        print(settings.database_url)
        return 0
    postgres = EmbeddedPostgres()
    url = postgres.start(settings.data_dir, keep=True)
    postgres.stop()
    print(url)
    return 0


def _token(arguments: argparse.Namespace, settings: Settings) -> int:
    if settings.token_keys:
        key = settings.token_keys[0]
    else:
        key = make_development_key(settings.data_dir)
        err.print("A development token: `bonfire dev` takes it, `bonfire serve` does not.", highlight=False)
    now = datetime.now(UTC)
    token = mint(
        key,
        tenant=arguments.tenant,
        user=arguments.user,
        name=arguments.name or arguments.user,
        now=now,
        lifetime=timedelta(hours=arguments.hours),
        roles=arguments.role or ["clinician"],
        kind=arguments.kind,
        patient=arguments.patient,
        purpose=arguments.purpose,
        scope=" ".join(arguments.scope) if arguments.scope else None,
        behalf_of=arguments.behalf_of,
    )
    # What no server would take is refused here, where it can still be mended.
    Identifier(lambda: now, shared_keys=settings.token_keys, development_key=lambda: key).decide(token)
    print(token)
    return 0


def _policy(arguments: argparse.Namespace, settings: Settings) -> int:
    return run_policy(arguments, out, partial(_in_database, settings))


def _audit(arguments: argparse.Namespace, settings: Settings) -> int:
    return run_audit(arguments, out, partial(_in_database, settings))


# ---- what commands share ----------------------------------------------------------------------------------------


def _run(work: Coroutine[Any, Any, _T]) -> _T:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def _in_database(settings: Settings, work: Callable[[Database], Awaitable[int]]) -> int:
    async def connected(url: str) -> int:
        async with _database(url) as database:
            return await work(database)

    with _postgres(settings) as url:
        return _run(connected(url))


def _registry(module: Path | None) -> Registry:
    builtin = builtin_registry()
    return builtin if module is None else ModuleLoader(module).load(builtin)


@contextmanager
def _postgres(settings: Settings) -> Iterator[str]:
    """The database's URL; the embedded Postgres runs for as long as somebody needs it."""
    if settings.database_url is not None:
        yield settings.database_url
        return
    embedded = EmbeddedPostgres()
    if not settings.data_dir.exists():
        err.print(f"Making a Postgres in {escape(str(settings.data_dir))} ...")
    url = embedded.start(settings.data_dir)
    try:
        yield url
    finally:
        embedded.stop()


@asynccontextmanager
async def _database(url: str) -> AsyncIterator[Database]:
    database = await Database.connect(url)
    try:
        yield database
    finally:
        await database.close()


@contextmanager
def _progress(unit: str) -> Iterator[Progress]:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit))
    with Progress(*columns, TimeElapsedColumn(), console=err, transient=True, disable=not err.is_terminal) as progress:
        yield progress


async def _prepare(url: str, registry: Registry, *, rebuild: Sequence[str] = ()) -> None:
    """Schema, read models, and a look at every SQL query."""
    unknown = set(rebuild) - {model.name for model in registry.models}
    if unknown:
        known = ", ".join(model.name for model in registry.models)
        raise ModelError(f"there is no read model {', '.join(sorted(unknown))}; there are: {known}")
    for name in await migrate(url):
        err.print(f"Applied {name}")
    async with _database(url) as database:
        with _progress("rows") as progress:
            tasks: dict[str, Any] = {}

            def tell(model: str, rows: int) -> None:
                if model not in tasks:
                    tasks[model] = progress.add_task(f"Building {model}", total=None)
                progress.update(tasks[model], completed=rows)

            async with database.owner() as conn:
                rebuilt = await install(conn, registry.models, progress=tell, rebuild=rebuild)
        if rebuilt:
            err.print(f"Built {', '.join(rebuilt)}")
        async with database.transaction(DEFAULT_TENANT, reach=EVERYTHING, readonly=True) as conn:
            await registry.prepare(conn)


async def _add_demo(url: str) -> None:
    async with _database(url) as database:
        if await load_demo(database, DEFAULT_TENANT, datetime.now(UTC)):
            err.print("Added demo patients: all of them are made up")


async def _listen(
    arguments: argparse.Namespace, settings: Settings, url: str, registry: Registry, *, development: bool
) -> int:
    node = start_node(settings, url=url, registry=registry, development=development, app_folder=arguments.app)
    handed: Handed | None = getattr(arguments, "handed", None)
    on_ready = _announce if handed is None else lambda _: handed.say_ready()
    async with node as running:
        server = Server(running, host=settings.host, port=settings.port, on_ready=on_ready)
        if handed is None:
            await server.serve()
        else:
            handed.when_orphaned(lambda: server.handle_exit(signal.SIGTERM, None))
            await server.serve([socket(fileno=handed.listening)])
        return 0 if server.started else 1


def _announce(address: str, workers: int = 1) -> None:
    live = address.replace("http", "ws", 1)
    shared = f", {workers} workers" if workers > 1 else ""
    out.print(f"bonfire is live at [bold]{address}[/] (socket {live}/live, FHIR {address}/fhir{shared})")


async def _stop_signal() -> None:
    """Returns when this process is asked to stop."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()

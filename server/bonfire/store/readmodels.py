"""Read models in the database: installed as declared, kept true by triggers, read in order, checked on demand.

`install` brings the database to the declarations; `select_rows_sql` reads a model's list; `check` compares each model
with its sources.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import asyncpg

from bonfire.store.check import Difference, check
from bonfire.store.compile_model import (
    SETTINGS,
    build_table,
    candidates,
    create_table,
    drop_tables,
    fill_from_sources,
    fill_latest,
    fingerprint,
    finish_candidates,
    finish_table,
    select_rows_sql,
    set_local,
    source_table,
)
from bonfire.store.compile_triggers import TriggerSet, compile_triggers, touch_only
from bonfire.store.model import ModelError, ReadModel, Source, snake_case
from bonfire.store.probe import probe
from bonfire.store.statements import read_statements

__all__ = ["Difference", "check", "install", "select_rows_sql"]

Progress = Callable[[str, int], None]
"""Told (model, rows) when a model has been filled."""

# Any constant will do, as long as it is this one: the key of the lock that installing processes wait on.
_LOCK_KEY = 0x726561646D6F64

_POLITE_ATTEMPTS = 5
_ATTEMPTS = 16

# A rebuild takes what it takes.
_PATIENCE = {"statement_timeout": "0", "lock_timeout": "0"}

_SQL = read_statements("read_models")


def _ignore(model: str, rows: int) -> None:
    pass


async def install(
    conn: asyncpg.Connection,
    models: Sequence[ReadModel],
    *,
    progress: Progress = _ignore,
    rebuild: Iterable[str] = (),
) -> list[str]:
    """Make the database's read models those in `models`; returns the names of those built, in order.

    A model that is installed as declared is left alone, unless `rebuild` names it; others are built; those that are no
    longer declared are dropped. All of it happens in one transaction, which keeps writers of the models' sources
    waiting and loses none of their writes; screens learn of it and read afresh. `conn` is an owner's connection, in
    no transaction. ModelError when a declaration can't be built; then nothing has changed.
    """
    _refuse_doubles(models)
    contested: list[str] = []
    for attempt in range(1, _ATTEMPTS + 1):
        if not (await _plan(conn, models, frozenset(rebuild))).work:
            return []
        try:
            async with conn.transaction():
                await conn.execute("select pg_advisory_xact_lock($1)", _LOCK_KEY)
                # Read again: another process may have done it while this one waited.
                plan = await _plan(conn, models, frozenset(rebuild))
                await conn.execute(set_local({**SETTINGS, **_PATIENCE}))
                for model in plan.build:
                    await probe(conn, model)
                await _lock(conn, plan.sources, contested, insist=attempt > _POLITE_ATTEMPTS)
                await _carry_out(conn, plan, progress)
                return [model.name for model in plan.build]
        except (_Contested, asyncpg.DeadlockDetectedError, asyncpg.LockNotAvailableError) as error:
            if isinstance(error, _Contested):
                contested.insert(0, error.source)
            if attempt == _ATTEMPTS:
                raise ModelError(
                    "writers and readers of the read models' sources are too busy: try again at a quieter time"
                ) from None
            await asyncio.sleep(min(0.02 * 2**attempt, 1.0))
    raise AssertionError("the last attempt returns or raises")


class _Contested(Exception):
    """A source's lock was not to be had in time."""

    def __init__(self, source: str) -> None:
        super().__init__(source)
        self.source = source


@dataclass(frozen=True)
class _Plan:
    """What is to be done: models to build, names to drop, triggers to swap, sources to leave without models."""

    build: list[ReadModel]
    drop: list[str]
    triggers: list[TriggerSet]
    bare: list[str]
    sources: list[str]

    @property
    def work(self) -> bool:
        return bool(self.build or self.drop or self.triggers or self.bare)


async def _plan(conn: asyncpg.Connection, models: Sequence[ReadModel], rebuild: frozenset[str]) -> _Plan:
    installed = {row["name"]: row for row in await conn.fetch(_SQL["installed_models"])}
    sources = {row["source"]: row["fingerprint"] for row in await conn.fetch(_SQL["installed_sources"])}
    build = [
        model
        for model in models
        if model.name in rebuild
        or model.name not in installed
        or installed[model.name]["fingerprint"] != fingerprint(model)
    ]
    drop = sorted(installed.keys() - {model.name for model in models})
    made_from: dict[str, list[ReadModel]] = {}
    for model in models:
        for source in sorted({source.table for source in model.sources}):
            made_from.setdefault(source, []).append(model)
    wanted = [compile_triggers(source, made) for source, made in sorted(made_from.items())]
    built = {source.table for model in build for source in model.sources}
    triggers = [each for each in wanted if sources.get(each.source) != each.fingerprint or each.source in built]
    bare = sorted(sources.keys() - made_from.keys())
    locked = {each.source for each in triggers}
    for name in (*drop, *(model.name for model in build if model.name in installed)):
        locked.update(installed[name]["sources"])
    return _Plan(build, drop, triggers, bare, sorted(locked | set(bare)))


async def _lock(conn: asyncpg.Connection, sources: Sequence[str], contested: Sequence[str], *, insist: bool) -> None:
    """Keep writers out of all `sources`, those of `contested` first; raises _Contested for one that can't be had.

    The first lock is waited for, however long its writers take: nothing is held yet that they could want. The others
    are waited for in less time than Postgres takes to see a deadlock, so that no writer is its victim; but where some
    always hold one source and want another, that never ends, and a few of them have to start again (`insist`).
    """
    if insist and await conn.fetchval("select rolsuper from pg_roles where rolname = current_user"):
        # Longer than the writers' own, so that one of them gives way; and bounded, in case they have looked too early.
        await conn.execute("set local deadlock_timeout = '3s'")
    order = list(dict.fromkeys([source for source in contested if source in sources] + sorted(sources)))
    for source in order:
        try:
            async with conn.transaction():
                await conn.execute(f"lock table {source_table(Source(source, {}))} in share row exclusive mode")
        except asyncpg.LockNotAvailableError:
            raise _Contested(source) from None
        if not insist:
            await conn.execute("set local lock_timeout = '100ms'")
    if not insist:
        # For readers of the tables that are replaced.
        await conn.execute("set local lock_timeout = '2s'")


async def _carry_out(conn: asyncpg.Connection, plan: _Plan, progress: Progress) -> None:
    for name in plan.drop:
        await conn.execute(drop_tables(name))
        await conn.execute(_SQL["forget_groups"], name)
        await conn.execute(_SQL["forget_model"], name)
    for model in plan.build:
        try:
            progress(model.name, await _build(conn, model))
        except asyncpg.DataError as error:
            # Its message may quote the record.
            raise ModelError(
                f"read model `{model.name}`: an expression fails on a record that is there "
                f"(SQLSTATE {error.sqlstate}); it must give null for what it can't read"
            ) from None
    build: str = await conn.fetchval("select pg_current_xact_id()::text")
    for triggers in plan.triggers:
        for statement in triggers.statements(build):
            await conn.execute(statement)
        await conn.execute(_SQL["note_source"], triggers.source, triggers.fingerprint, build)
    for source in plan.bare:
        for statement in touch_only(source):
            await conn.execute(statement)
        await conn.execute(_SQL["forget_source"], source)
    await conn.execute(_SQL["reset"], [*(model.name for model in plan.build), *plan.drop])


async def _build(conn: asyncpg.Connection, model: ReadModel) -> int:
    """Fill the model's table from its sources and put it in the old one's place; returns the number of rows."""
    if model.latest_by:
        name = candidates(model)
        await conn.execute(f"drop table if exists {name}")
        await conn.execute(create_table(model, name))
        for statement in fill_from_sources(model, name):
            await conn.execute(statement)
        await conn.execute(finish_candidates(model))
        filling = [fill_latest(model, build_table(model))]
    else:
        filling = fill_from_sources(model, build_table(model))
    await conn.execute(create_table(model, build_table(model)))
    rows = 0
    for statement in filling:
        # Postgres answers "INSERT 0 <rows>".
        rows += int((await conn.execute(statement)).rpartition(" ")[2])
    await conn.execute(finish_table(model))
    sources = sorted({source.table for source in model.sources})
    await conn.execute(_SQL["note_model"], model.name, fingerprint(model), sources, rows)
    return rows


def _refuse_doubles(models: Sequence[ReadModel]) -> None:
    spelled: dict[str, str] = {}
    for model in models:
        other = spelled.setdefault(snake_case(model.name), model.name)
        if other != model.name or sum(each.name == model.name for each in models) > 1:
            raise ModelError(f"read models `{other}` and `{model.name}` are both read.{snake_case(model.name)} in SQL")

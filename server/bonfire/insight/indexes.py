"""Which indexes there are, and whether they are on: decided once, at start, and written down for the triggers.

An index is switched on in two steps. First it is marked as on: from then on each write queues its own work. Then, in a
second transaction, a sweep is queued for all that was written before; it starts when all transactions older than itself
are over, so that no write falls between the two. `build` is set with the sweep: a start that was cut off between the
steps is done again by the next one.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import asyncpg

from bonfire.insight import agent_context, semantic_search
from bonfire.insight.agent_context import AgentContextIndex
from bonfire.insight.embeddings import Embedder, ProviderError, ProviderUnusable, load_provider
from bonfire.insight.semantic_search import SemanticSearchIndex, Unavailable, find_vectors
from bonfire.lane import queue
from bonfire.lane.handler import Handler
from bonfire.store.pool import Database

_log = logging.getLogger(__name__)

AGENT_CONTEXT = "agentContext"
SEMANTIC_SEARCH = "semanticSearch"

SET_OFF = "the settings switch it off"
NO_PROVIDER = "no embedding provider is set"

# A provider that is slow to answer is not waited for at start: its lane tries again as often as it must.
PROBE_SECONDS = 10.0

IndexState = Literal["off", "on"]


class Index(Handler, Protocol):
    """An index: its lane's work, and what it takes to switch it on."""

    @property
    def sources(self) -> Sequence[str]:
        """What it is made from: FHIR types and `AppState/<collection>`."""
        ...

    @property
    def build(self) -> str:
        """Names what its content depends on besides the records: under another build, all is made afresh."""
        ...

    async def begin(self, conn: asyncpg.Connection) -> None:
        """Make an empty place for its content. `conn`: the owner's."""
        ...


@dataclass(frozen=True)
class Indexes:
    """The indexes as they stand on this node: `handlers` for the worker, `states` for the freshness object, `reasons`
    of those that are off, and `semantic_search` where it is on. `sources` is what those that are on are made from: a
    commit that wrote none of it has queued no work."""

    handlers: Mapping[str, Handler]
    states: Mapping[str, IndexState]
    reasons: Mapping[str, str]
    sources: frozenset[str]
    semantic_search: SemanticSearchIndex | None

    @classmethod
    async def switch(
        cls, database: Database, *, agent_context: bool, embeddings: str | None, dimensions: int
    ) -> "Indexes":
        """Switch each index on or off. `embeddings` names the provider as `module:function`, `dimensions` the length of
        its vectors. An index that can't be on is off, with the reason; that keeps no node from starting.

        An index that is switched off forgets what it held, and mutations that wait for it are told "off".
        """
        async with database.owner() as conn:
            context = AgentContextIndex() if agent_context else SET_OFF
            search = await _semantic_search(conn, embeddings, dimensions)
            decided: dict[str, Index | str] = {AGENT_CONTEXT: context, SEMANTIC_SEARCH: search}
            for name, index in decided.items():
                if isinstance(index, str):
                    _log.info("index %s is off: %s", name, index)
                    await _switch_off(conn, name, index)
                else:
                    _log.info("index %s is on", name)
                    await _switch_on(conn, name, index)
        on = {name: index for name, index in decided.items() if not isinstance(index, str)}
        return cls(
            handlers=on,
            sources=frozenset(source for index in on.values() for source in index.sources),
            states={name: "off" if isinstance(index, str) else "on" for name, index in decided.items()},
            reasons={name: index for name, index in decided.items() if isinstance(index, str)},
            semantic_search=None if isinstance(search, str) else search,
        )


async def _semantic_search(
    conn: asyncpg.Connection, embeddings: str | None, dimensions: int
) -> SemanticSearchIndex | str:
    """The index, or why it must be off."""
    if embeddings is None:
        return NO_PROVIDER
    try:
        provider = load_provider(embeddings)
        schema = await find_vectors(conn)
        await Embedder(provider, name=embeddings, dimensions=dimensions, timeout=PROBE_SECONDS).embed(["bonfire"])
    except (ProviderUnusable, Unavailable) as error:
        return str(error)
    except ProviderError as error:
        _log.warning("index %s: %s", SEMANTIC_SEARCH, error)
    return SemanticSearchIndex(Embedder(provider, name=embeddings, dimensions=dimensions), schema)


_LOCK = "lock table bonfire.index in share row exclusive mode"


async def _switch_on(conn: asyncpg.Connection, name: str, index: Index) -> None:
    """Two nodes that start at once do it once."""
    async with conn.transaction():
        await conn.execute(_LOCK)
        build = await conn.fetchval("select build from bonfire.index where name = $1 and enabled", name)
        if build == index.build:
            # What it is made from may be another list than last time; what it holds is right.
            await conn.execute("update bonfire.index set sources = $2 where name = $1", name, index.sources)
            return
        await index.begin(conn)
        await conn.execute(
            """insert into bonfire.index (name, enabled, sources) values ($1, true, $2)
               on conflict (name) do update
               set enabled = true, sources = excluded.sources, build = null, reason = null""",
            name,
            index.sources,
        )
    async with conn.transaction():
        await conn.execute(_LOCK)
        await conn.execute(
            """with first as (
                 update bonfire.index set build = $2 where name = $1 and build is null returning name
               )
               insert into bonfire.job (tenant, index, patient, priority)
               select distinct p.tenant, first.name, '*', 1 from first cross join public.patient p""",
            name,
            index.build,
        )


async def _switch_off(conn: asyncpg.Connection, name: str, reason: str) -> None:
    async with conn.transaction():
        await conn.execute(_LOCK)
        was_on = await conn.fetchval("select enabled from bonfire.index where name = $1", name)
        await conn.execute(
            """insert into bonfire.index (name, enabled, reason) values ($1, false, $2)
               on conflict (name) do update
               set enabled = false, reason = excluded.reason, build = null, sources = '{}'""",
            name,
            reason,
        )
        if was_on:
            await _FORGET[name](conn)
        # Also what a transaction has queued that still saw it on the last time.
        await queue.drop(conn, name)


_FORGET = {AGENT_CONTEXT: agent_context.forget, SEMANTIC_SEARCH: semantic_search.forget}

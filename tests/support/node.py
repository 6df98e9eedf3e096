"""A whole node in the test's own process, on a database of the test's own: what it logs, counts and traces can be
looked at."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bonfire.app import Server, start_node
from bonfire.clinical.builtin import builtin_registry
from bonfire.clinical.registry import Registry
from bonfire.config import Settings
from bonfire.store.pool import Database
from bonfire.store.readmodels import install


@asynccontextmanager
async def serving(url: str, registry: Registry | None = None, settings: Settings | None = None) -> AsyncIterator[str]:
    """The address of a node with these functions, ours beside them, which asks nobody for a token."""
    functions = builtin_registry()
    if registry is not None:
        functions.include(registry)
    database = await Database.connect(url)
    async with database.owner() as conn:
        await install(conn, functions.models)
    await database.close()
    listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    node = start_node(
        settings or Settings(agent_context="off"), url=url, registry=functions, development=True, app_folder=None
    )
    async with node as running:
        server = Server(running, host="127.0.0.1", port=0, on_ready=listening.set_result)
        task = asyncio.create_task(server.serve())
        try:
            yield await listening
        finally:
            server.should_exit = True
            await task

"""A bonfire server as a process of a benchmark: `python -m bench.node URL [KEY]`. With the key that signs tokens it
takes callers with these alone, as in production."""

import asyncio
import logging
import sys

import uvloop

from bench.child import answer_nothing, answer_parent, raise_file_limit
from bench.rows import bench_registry
from bonfire.app import Server, start_node
from bonfire.config import Settings


async def main(url: str, key: str | None = None) -> None:
    raise_file_limit()
    registry = bench_registry()
    # Indexes are made after the write, by workers that may be processes of their own: they are not what is measured.
    settings = Settings(agent_context="off", token_keys=() if key is None else (key,))
    listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    async with start_node(settings, url=url, registry=registry, development=key is None, app_folder=None) as node:
        server = Server(node, host="127.0.0.1", port=0, on_ready=listening.set_result)
        serving = asyncio.create_task(server.serve())
        port = int((await listening).rsplit(":", 1)[1])

        await answer_parent({"port": port}, answer_nothing)
        server.should_exit = True
        await serving


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    uvloop.run(main(*sys.argv[1:]))

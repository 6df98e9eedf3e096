"""Finds what only the database can tell of a declaration: does each expression compile, to the right type, from its
row alone?"""

import asyncpg

from bonfire.store.model import ReadModel


async def probe(conn: asyncpg.Connection, model: ReadModel) -> None:
    """ModelError for the first expression of the model that can't be used, naming it and what to do."""

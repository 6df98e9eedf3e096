"""The pool: transactions bound to a tenant, faults, and restarts of the server."""

from bonfire.store.pool import Database


async def test_a_transaction_runs_as_the_app_role_in_its_tenant(database: Database) -> None:
    async with database.transaction("north") as connection:
        assert await connection.fetchrow("select current_user::text, bonfire.current_tenant()") == (
            "bonfire_app",
            "north",
        )

"""What callers may do, as a database has it: a gate with its policies, for tests that run without a node."""

import msgspec

from bonfire.access import activation
from bonfire.access.facts import Facts
from bonfire.access.gate import Access, Gate
from bonfire.access.policies import PolicyBook, UnknownPolicies
from bonfire.access.principal import Principal
from bonfire.store.pool import Database
from bonfire.store.reach import EVERYTHING


class Gatekeeper:
    def __init__(self, database: Database) -> None:
        self.database = database
        self.gate = Gate(PolicyBook())

    async def access(self, by: Principal) -> Access:
        """What they may do, by the facts that the database has of them now."""
        async with self.database.transaction(by.tenant, reach=EVERYTHING) as conn:
            spelled = await conn.fetchval("select bonfire.access_facts($1)::text", by.user)
        return await self.regate(by, msgspec.json.decode(spelled, type=Facts))

    async def regate(self, by: Principal, facts: Facts) -> Access:
        """The same, by these facts."""
        try:
            return self.gate.access(by, facts)
        except UnknownPolicies:
            async with self.database.transaction(by.tenant, reach=EVERYTHING) as conn:
                await activation.load(conn, self.gate.book, by.tenant, facts.policies)
            return self.gate.access(by, facts)

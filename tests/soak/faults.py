"""What goes wrong, and how it is made to."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Sequence
from random import Random
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM
from typing import assert_never

import asyncpg

from bonfire.store.model import ModelError, ReadModel
from bonfire.store.pool import Database, DatabaseUnusable
from bonfire.store.readmodels import install
from bonfire_protocol.faults import Fault as Refusal
from soak.clinic import clinic
from soak.node import Node
from soak.postgres import SoakPostgres
from soak.proxy import Link
from soak.script import Fault
from soak.standby import SoakStandby

_TROUBLE = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
    EOFError,
    Refusal,
    ModelError,
    DatabaseUnusable,
)
"""What another fault, made at the same time, may do to the making of one."""

_A_BACKEND = """
select pid from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid() order by pid
"""
_WALSENDERS = "select pg_terminate_backend(pid) from pg_stat_activity where backend_type = 'walsender'"
_DROP_SLOTS = "select pg_drop_replication_slot(slot_name) from pg_replication_slots where not active and not temporary"
_FILL_WAL = "select pg_logical_emit_message(false, 'soak', repeat('x', 1000000)) from generate_series(1, $1::int)"


class Faults:
    """Carries faults out. `counts`: how often each was; `blocked`: which could not be made here, and why."""

    def __init__(
        self,
        postgres: SoakPostgres,
        standby: SoakStandby | None,
        nodes: list[Node],
        random: Random,
        models: Sequence[ReadModel],
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.blocked: dict[str, str] = {}
        self._postgres = postgres
        self._standby = standby
        self._nodes = nodes
        self._random = random
        self._models = models
        # Only one of these at a time touches Postgres as a whole.
        self._whole = asyncio.Lock()

    async def run(self, faults: list[Fault]) -> None:
        """All of them, each at its time, beside one another."""
        started = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as group:
            for fault in sorted(faults, key=lambda one: one.at):
                await asyncio.sleep(max(0.0, started + fault.at - asyncio.get_running_loop().time()))
                group.create_task(self._one(fault))

    async def heal(self) -> None:
        """Everything works again."""
        self._postgres.free_disk()
        await asyncio.to_thread(self._postgres.start)
        for node in self._nodes:
            node.heal()
        if self._standby is not None:
            self._standby.proxy.heal()
            await self._standby.start_again()
        for node in self._nodes:
            async with asyncio.timeout(60):
                await node.until_ready()

    async def _one(self, fault: Fault) -> None:
        try:
            if await self._make(fault):
                self.counts[fault.kind] += 1
        except _TROUBLE:
            # Another fault was in the way.
            self.counts[f"{fault.kind} (missed)"] += 1

    async def _make(self, fault: Fault) -> bool:
        node = self._nodes[fault.target % len(self._nodes)]
        match fault.kind:
            case "kill node":
                if not node.kill_worker(fault.target // 7):
                    node.signal(SIGKILL)
            case "stop node":
                node.signal(SIGTERM)
            case "freeze node":
                node.signal(SIGSTOP)
                await asyncio.sleep(fault.seconds)
                node.signal(SIGCONT)
            case "jump clock":
                jump = self._random.choice([-3600, -30, -2, 2, 30, 3600])
                if not node.set_clock(jump):
                    self.blocked[fault.kind] = "libfaketime is not installed"
                    return False
                await asyncio.sleep(fault.seconds)
                node.set_clock(0)
            case "kill postgres":
                async with self._whole:
                    self._postgres.kill()
                    await asyncio.sleep(fault.seconds / 2)
                    await asyncio.to_thread(self._postgres.start)
            case "kill backend":
                await self._kill_backend(fault)
            case "end backend":
                await self._ask("select pg_terminate_backend($1)", await self._backend(fault))
            case "end walsender":
                await self._ask(_WALSENDERS)
            case "drop slot":
                await self._ask(_WALSENDERS)
                await self._ask(_DROP_SLOTS)
            case "invalidate slot":
                await self._invalidate(node, fault)
            case "fill disk":
                return await self._fill_disk(fault)
            case "drain connections":
                await self._drain(fault)
            case "hold locks":
                await self._hold_locks(fault)
            case "rebuild model":
                await self._rebuild(fault)
            case "lose database":
                # The network is gone and has told nobody: what was connected stays so, and hears nothing any more.
                for link in node.database_links:
                    link.change(swallowing=True)
            case "kill standby" | "lag standby":
                return await self._trouble_standby(fault)
            case "lag replication" | "stall database" | "cut database":
                await self._trouble_database(node, fault)
            case "cut sockets" | "stall sockets" | "swallow sockets" | "drip sockets":
                await self._trouble_sockets(node, fault)
            case _:
                assert_never(fault.kind)
        return True

    async def _ask(self, sql: str, *arguments: object) -> list[asyncpg.Record]:
        async with asyncio.timeout(10):
            conn = await self._postgres.connect()
            try:
                return list(await conn.fetch(sql, *arguments))
            finally:
                conn.terminate()

    async def _backend(self, fault: Fault) -> int:
        rows = await self._ask(_A_BACKEND)
        return int(rows[fault.target % len(rows)]["pid"]) if rows else 0

    async def _kill_backend(self, fault: Fault) -> None:
        """kill -9, upon which Postgres throws everybody out and recovers."""
        pid = await self._backend(fault)
        if pid:
            async with self._whole:
                self._postgres.kill_backend(pid)
                await asyncio.sleep(1)

    async def _invalidate(self, node: Node, fault: Fault) -> None:
        """A node's slot holds more WAL than it may: its reader does not read, and much is written."""
        links = [link for link in node.database_links if link.replication]
        await self._ask("alter system set max_slot_wal_keep_size = '16MB'")
        await self._ask("select pg_reload_conf()")
        for link in links:
            link.change(stalled=True)
        try:
            for _ in range(3):
                await self._ask(_FILL_WAL, 24)
                await self._ask("select pg_switch_wal()")
                await self._ask("checkpoint")
            await asyncio.sleep(fault.seconds / 2)
        finally:
            for link in links:
                link.change(stalled=False)
            await self._ask("alter system reset max_slot_wal_keep_size")
            await self._ask("select pg_reload_conf()")

    async def _fill_disk(self, fault: Fault) -> bool:
        async with self._whole:
            if not self._postgres.fill_disk():
                self.blocked[fault.kind] = "the WAL has no file system of its own"
                return False
            try:
                with contextlib.suppress(*_TROUBLE):
                    await self._ask(_FILL_WAL, 40)
                await asyncio.sleep(fault.seconds / 2)
            finally:
                self._postgres.free_disk()
                await asyncio.to_thread(self._postgres.start)
        return True

    async def _drain(self, fault: Fault) -> None:
        """Somebody takes all the connections that Postgres has to give."""
        taken: list[asyncpg.Connection] = []
        try:
            with contextlib.suppress(*_TROUBLE):
                while len(taken) < 200:
                    async with asyncio.timeout(5):
                        taken.append(await self._postgres.connect())
            await asyncio.sleep(fault.seconds)
        finally:
            for conn in taken:
                conn.terminate()

    async def _hold_locks(self, fault: Fault) -> None:
        """A maintenance script locks a table that everybody writes, and thinks."""
        conn = await self._postgres.connect()
        try:
            async with asyncio.timeout(15), conn.transaction():
                table = ["task", "documentreference", "bonfire.mutation"][fault.target % 3]
                await conn.execute(f"lock table {table} in share row exclusive mode")
                await asyncio.sleep(fault.seconds)
        finally:
            conn.terminate()

    async def _rebuild(self, fault: Fault) -> None:
        """A deploy builds a read model anew under everybody's eyes."""
        model = clinic.models[fault.target % len(clinic.models)].name
        database = await Database.connect(self._postgres.url)
        try:
            async with asyncio.timeout(20), database.owner() as conn:
                await install(conn, self._models, rebuild=[model])
        finally:
            await database.close()

    async def _trouble_standby(self, fault: Fault) -> bool:
        standby = self._standby
        if standby is None:
            return False
        if fault.kind == "kill standby":
            standby.kill()
            await asyncio.sleep(fault.seconds / 2)
            await standby.start_again()
            return True
        for link in standby.proxy.links:
            link.change(down_delay=2 * fault.seconds)
        await asyncio.sleep(3 * fault.seconds)
        for link in standby.proxy.links:
            link.change(down_delay=0.0)
        return True

    async def _trouble_database(self, node: Node, fault: Fault) -> None:
        links = [link for link in node.database_links if link.replication or fault.kind != "lag replication"]
        for link in links:
            match fault.kind:
                case "lag replication":
                    link.change(down_delay=fault.seconds)
                case "stall database":
                    link.change(stalled=True)
                case _:
                    link.cut()
        await asyncio.sleep(2 * fault.seconds)
        for link in links:
            link.change(down_delay=0.0, stalled=False)

    async def _trouble_sockets(self, node: Node, fault: Fault) -> None:
        everybody = sorted(node.front.links, key=lambda link: link.peer)
        links: list[Link] = self._random.sample(everybody, min(len(everybody), 1 + fault.target % 8))
        for link in links:
            match fault.kind:
                case "cut sockets":
                    link.cut()
                case "stall sockets":
                    link.change(stalled=True)
                case "swallow sockets":
                    link.change(swallowing=True)
                case _:
                    link.change(drip=1 + fault.target % 300)
        await asyncio.sleep(4 * fault.seconds)
        for link in links:
            link.change(stalled=False, drip=0)

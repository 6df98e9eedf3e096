"""A clinic to call: functions on a database, with a clock and ids that a test can foretell."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import msgspec

from bonfire.access.audit import Trail
from bonfire.access.gate import Access
from bonfire.access.principal import Principal
from bonfire.clinical.execute import Outcome, Retrying, mutate, query_once
from bonfire.clinical.registry import Registry
from bonfire.lane.retry import RetryPolicy
from bonfire.store.pool import Database
from bonfire.store.reach import EVERYTHING
from support.gatekeeper import Gatekeeper

CLINICIAN = frozenset({"clinician"})

AMARA = Principal(tenant="north", user="amara", name="Dr. Amara Okafor", roles=CLINICIAN)
BEN = Principal(tenant="north", user="ben", name="Ben Whitfield, NP", roles=CLINICIAN)
SOUTH = Principal(tenant="south", user="amara", name="Dr. Amara Okafor", roles=CLINICIAN)
NIA = Principal(tenant="north", user="nia", name="Nia Boateng, RN", roles=frozenset({"nurse"}))
FRONT = Principal(tenant="north", user="frank", name="Frank Oduya", roles=frozenset({"frontDesk"}))
ADMIN = Principal(tenant="north", user="root", name="Ada Minh", roles=frozenset({"administrator"}))
SCRIBE = Principal(tenant="north", user="sam", name="Sam Reyes", roles=frozenset({"scribe"}))
ANALYST = Principal(tenant="north", user="anna", name="Anna Lind", roles=frozenset({"analyst"}), purpose="HRESCH")
AGENT = Principal(
    tenant="north",
    user="ambient",
    name="Ambient 2",
    roles=frozenset({"agent"}),
    kind="agent",
    behalf_of="amara",
)
NOBODY = Principal(tenant="north", user="zoe", name="Zoe")

_encoder = msgspec.json.Encoder(decimal_format="number")


@dataclass
class Clinic:
    """Calls functions as a caller would. Each call is a minute later than the one before."""

    database: Database
    registry: Registry
    now: datetime = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
    indexes: dict[str, str] = field(default_factory=dict)
    numbers: Any = field(default_factory=count)

    def __post_init__(self) -> None:
        self.trail = Trail(self.database)
        self.gatekeeper = Gatekeeper(self.database)

    async def access(self, by: Principal) -> Access:
        """What they may do, by the facts that the database has of them now."""
        return await self.gatekeeper.access(by)

    async def outcome(
        self,
        name: str,
        args: dict[str, Any] | None = None,
        *,
        by: Principal = AMARA,
        id: str | None = None,
        patient: str | None = None,
        version: str | None = None,
        max_value_bytes: int = 1 << 20,
        access: Access | None = None,
    ) -> Outcome:
        """`access`: what the caller is held to be able to do; without it, what the database says of them now."""
        self.now += timedelta(minutes=1)
        return await mutate(
            self.database,
            self.registry,
            access or await self.access(by),
            lambda facts: self.gatekeeper.regate(by, facts),
            self.trail,
            id=id or f"m{next(self.numbers)}",
            mutation=name,
            args=_encoder.encode(args or {}),
            patient=patient,
            version=version,
            clock=lambda: self.now,
            new_id=lambda: f"id{next(self.numbers)}",
            indexes=self.indexes,
            retrying=Retrying(RetryPolicy(base=0.001, cap=0.01, max_attempts=6)),
            max_value_bytes=max_value_bytes,
        )

    async def mutate(self, name: str, args: dict[str, Any] | None = None, **stated: Any) -> Any:
        """The value of a mutation."""
        return msgspec.json.decode((await self.outcome(name, args, **stated)).value)

    async def query(self, name: str, args: dict[str, Any] | None = None, *, by: Principal = AMARA) -> Any:
        """The value of a query."""
        text = _encoder.encode(args or {})
        access = await self.access(by)
        return msgspec.json.decode(await query_once(self.database, self.registry, access, name, text, self.now))

    async def patient(self, name: str = "Ada") -> str:
        """The id of a new patient."""
        created = await self.mutate("patients.create", {"given": name, "family": "Lovelace"})
        return str(created["id"])

    async def resource(self, resource_type: str, id: str, *, by: Principal = AMARA) -> dict[str, Any]:
        """A resource as FHIR has it."""
        async with self.database.transaction(by.tenant, reach=EVERYTHING) as conn:
            text = await conn.fetchval(
                f"select bonfire.fhir(resource_type, id, txid, ts, resource)::text from {resource_type.lower()} "
                "where id = $1",
                id,
            )
        decoded: dict[str, Any] = msgspec.json.decode(text)
        return decoded

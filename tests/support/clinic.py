"""A clinic to call: functions on a database, with a clock and ids that a test can foretell."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import msgspec

from bonfire.access.principal import Principal
from bonfire.clinical.execute import Outcome, Retrying, mutate, query_once
from bonfire.clinical.registry import Registry
from bonfire.lane.retry import RetryPolicy
from bonfire.store.pool import Database
from bonfire.store.reach import EVERYTHING

AMARA = Principal(tenant="north", user="amara", name="Dr. Amara Okafor")
BEN = Principal(tenant="north", user="ben", name="Ben Whitfield, NP")
SOUTH = Principal(tenant="south", user="amara", name="Dr. Amara Okafor")

_encoder = msgspec.json.Encoder(decimal_format="number")


@dataclass
class Clinic:
    """Calls functions as a caller would. Each call is a minute later than the one before."""

    database: Database
    registry: Registry
    now: datetime = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
    indexes: dict[str, str] = field(default_factory=dict)
    numbers: Any = field(default_factory=count)

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
    ) -> Outcome:
        self.now += timedelta(minutes=1)
        return await mutate(
            self.database,
            self.registry,
            by,
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
        return msgspec.json.decode(await query_once(self.database, self.registry, by, name, text, self.now))

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

"""What the database says of a caller, as of one commit: how they are related to patients, and the tenant's policies."""

from msgspec import Struct


class Relation(Struct, frozen=True):
    """How a user is related to a patient. `kind`: `careTeam`, `breakGlass`, `refused` (the patient's consent denies
    this user) or `suspended` (patient is "*"). `until`: seconds since 1970 at which it ends by itself."""

    kind: str
    patient: str
    until: float | None = None


class Facts(Struct, frozen=True):
    """`relations` in the order of kind and patient; `policies` is the version of the tenant's policies, 0 where it has
    none of its own and the ones that bonfire comes with hold."""

    relations: tuple[Relation, ...] = ()
    policies: int = 0

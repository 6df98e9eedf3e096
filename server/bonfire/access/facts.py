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

    def bounded_by(self, person: "Facts") -> "Facts":
        """Facts of a program that acts for this person: what suspends them, or keeps them from a patient's records,
        does so to the program too. Their care teams give it nothing."""
        taken = [relation for relation in person.relations if relation.kind in _BINDING]
        ends: dict[tuple[str, str], float | None] = {}
        for relation in (*self.relations, *taken):
            key = (relation.kind, relation.patient)
            until = ends.get(key, relation.until)
            ends[key] = None if until is None or relation.until is None else max(until, relation.until)
        relations = tuple(Relation(kind, patient, until) for (kind, patient), until in sorted(ends.items()))
        return Facts(relations, max(self.policies, person.policies))


_BINDING = ("refused", "suspended")

"""Who asks."""

from typing import Literal

from msgspec import Struct

Kind = Literal["person", "service", "agent"]


class Principal(Struct, frozen=True):
    """A caller whose identity has been checked: the tenant they act in, their stable id there, and the name that
    people read on a note.

    `roles` are the clinic's own words (`clinician`, `nurse`...); without one, a caller may do nothing. `patient`: the
    patient that this person is. `purpose`: why they ask, a code of HL7's v3 PurposeOfUse. `scopes`: SMART scopes that
    bound what the token may be used for; None: it is not bound so. `behalf_of`: the user for whom a service or an agent
    acts. `expires_at`: when the token ends, seconds since 1970; None: never.
    """

    tenant: str
    user: str
    name: str
    roles: frozenset[str] = frozenset()
    kind: Kind = "person"
    patient: str | None = None
    purpose: str = "TREAT"
    scopes: frozenset[str] | None = None
    behalf_of: str | None = None
    expires_at: int | None = None

    @property
    def answering(self) -> tuple[str, ...]:
        """The users whose standing bears on what this caller may do: the caller, and then whom they act for."""
        if self.behalf_of is None or self.behalf_of == self.user:
            return (self.user,)
        return self.user, self.behalf_of

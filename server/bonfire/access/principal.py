"""Who asks."""

from msgspec import Struct


class Principal(Struct, frozen=True):
    """A caller whose identity has been checked: the tenant they act in, their stable id there, and the name that
    people read on a note. `access` is the fingerprint of what they may see: callers with the same one may share a
    live query's result."""

    tenant: str
    user: str
    name: str
    access: str = "tenant"

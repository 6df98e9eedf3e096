"""The clinical layer: typed functions, ours and the user's own, over FHIR records and app state.

What a module of one's own needs is here; docs/own-functions.md shows how to write one.
"""

from bonfire.clinical.arguments import Value
from bonfire.clinical.contexts import MutationContext, QueryContext
from bonfire.clinical.depends import Depends
from bonfire.clinical.errors import RegistrationError
from bonfire.clinical.mutations import Subject
from bonfire.clinical.registry import Registry
from bonfire.clinical.times import Instant
from bonfire.store.app_state import Document
from bonfire.store.model import Order, ReadModel, Source, asc, desc
from bonfire_protocol.faults import Fault, FaultCode

__all__ = [
    "Depends",
    "Document",
    "Fault",
    "FaultCode",
    "Instant",
    "MutationContext",
    "Order",
    "QueryContext",
    "ReadModel",
    "RegistrationError",
    "Registry",
    "Source",
    "Subject",
    "Value",
    "asc",
    "desc",
]

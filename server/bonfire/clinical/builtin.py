"""The functions that bonfire comes with, in one registry."""

from bonfire.clinical.app_state import app_state
from bonfire.clinical.chart import chart
from bonfire.clinical.drafts import drafts
from bonfire.clinical.encounters import encounters
from bonfire.clinical.notes import notes
from bonfire.clinical.patients import patients
from bonfire.clinical.registry import Registry
from bonfire.clinical.scores import scores
from bonfire.clinical.vitals import vitals


def builtin_registry() -> Registry:
    """A new registry with all of them."""
    registry = Registry()
    for room in (patients, encounters, notes, drafts, scores, vitals, chart, app_state):
        registry.include(room)
    return registry

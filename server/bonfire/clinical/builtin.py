"""The functions that bonfire comes with, in one registry."""

from bonfire.clinical.app_state import app_state
from bonfire.clinical.audit import audit
from bonfire.clinical.care_teams import care_teams
from bonfire.clinical.chart import chart
from bonfire.clinical.drafts import drafts
from bonfire.clinical.encounters import encounters
from bonfire.clinical.grants import grants
from bonfire.clinical.notes import notes
from bonfire.clinical.patients import patients
from bonfire.clinical.read_models import (
    READ_MODELS,
    drafts_by_patient,
    latest_scores,
    notes_by_patient,
    patients_model,
    scores_by_patient,
    timeline,
)
from bonfire.clinical.registry import Registry
from bonfire.clinical.scores import scores
from bonfire.clinical.vitals import vitals


def builtin_registry() -> Registry:
    """A new registry with all of them."""
    registry = Registry()
    for part in (patients, encounters, notes, drafts, scores, vitals, chart, app_state, care_teams, grants, audit):
        registry.include(part)
    for model in READ_MODELS:
        registry.add(model)
    registry.live("patients.list", patients_model, limit=2000)
    registry.live("notes.listByPatient", notes_by_patient, limit=500)
    registry.live("drafts.listByPatient", drafts_by_patient, limit=100, caller="owner")
    registry.live("scores.latest", latest_scores, limit=100)
    registry.live("scores.history", scores_by_patient, limit=500)
    registry.live("timeline.list", timeline, limit=1000)
    return registry

"""Our read models: what the screens of a chart list.

Each column is one SQL expression over a record, with the functions of migration 0021 that give null for what they can't
read: whatever JSON a record holds, it can be written, and shows what could be made out.
"""

from bonfire.clinical.drafts import COLLECTION as DRAFTS
from bonfire.clinical.instruments import INSTRUMENTS
from bonfire.clinical.notes import KINDS
from bonfire.clinical.patients import MRN_SYSTEM
from bonfire.store.identifiers import quote_literal
from bonfire.store.model import APP_STATE, ReadModel, Source, asc, desc

LONGEST_TEXT = 200_000
"""Characters of a note's text: as many as our functions take. An imported document that is longer is cut there."""

_LONGEST_LABEL = 500


def _label(expression: str) -> str:
    """An expression for what is read in a list: a title may be anything, and a list is no place for a book."""
    return f"left({expression}, {_LONGEST_LABEL})"


def _patient(resource_type: str) -> str:
    return f"bonfire.patient_of('{resource_type}', r.id, r.resource)"


def _text_of(element: str) -> str:
    """The string in an element of the resource."""
    return f"bonfire.string(r.resource -> '{element}')"


def _encounter(path: str = "encounter,reference") -> str:
    return f"bonfire.ref_id(r.resource #>> '{{{path}}}', 'Encounter')"


def _first_time(*elements: str) -> str:
    """The first of these elements (`recorded`, `period,start`) that is a time."""
    times = [f"bonfire.instant(r.resource #>> '{{{element}}}')" for element in elements]
    return times[0] if len(times) == 1 else f"coalesce({', '.join(times)})"


def _has_code(path: str, code: str) -> str:
    return f"""jsonb_path_exists(r.resource, '$.{path}.coding[*].code ? (@ == "{code}")')"""


def _any_of(*expressions: str) -> str:
    return f"coalesce({', '.join(expressions)})"


def _case(subject: str, cases: dict[str, str], otherwise: str) -> str:
    whens = " ".join(f"when {quote_literal(value)} then {quote_literal(result)}" for value, result in cases.items())
    return f"case {subject} {whens} else {otherwise} end"


# ---- notes ------------------------------------------------------------------------------------------------------

_PLAIN = """jsonb_path_query_first(r.resource, '$.content[*].attachment ? (@.contentType starts with "text/plain")')"""

# A document that somebody signs or drafts, or whose words can be shown; any other is a file.
_IS_NOTE = f"(r.resource ? 'docStatus' or {_PLAIN} is not null or {_has_code('category[*]', 'clinical-note')})"

# As `notes.note_status` has it.
_NOTE_STATUS = """case
  when 'entered-in-error' in (r.resource ->> 'status', r.resource ->> 'docStatus') then 'enteredInError'
  when r.resource ->> 'status' = 'superseded' then 'superseded'
  when r.resource ->> 'docStatus' = 'preliminary' then 'draft'
  when r.resource ->> 'docStatus' = 'amended' then 'amended'
  else 'signed'
end"""

_NOTE_TITLE = _label(
    _any_of(
        _text_of("description"),
        "bonfire.string(r.resource #> '{content,0,attachment,title}')",
        "bonfire.concept(r.resource -> 'type')",
        "'Note'",
    )
)

_AUTHOR = "jsonb_path_query_first(r.resource, '$.author[*].display ? (@.type() == \"string\")') #>> '{}'"

_NOTE_CODE = "jsonb_path_query_first(r.resource, '$.type.coding[*].code ? (@.type() == \"string\")') #>> '{}'"

notes_by_patient = ReadModel(
    name="notesByPatient",
    description="A patient's notes, the newest first.",
    columns={
        "patientId": "text",
        "version": "text",
        "status": "text",
        "kind": "text",
        "title": "text",
        "text": "text",
        "date": "timestamptz",
        "author": "text",
        "signedBy": "text",
        "replaces": "text",
        "encounterId": "text",
        "code": "text",
        "display": "text",
        "updatedAt": "timestamptz",
    },
    sources=(
        Source(
            "DocumentReference",
            where=_IS_NOTE,
            select={
                "patientId": _patient("DocumentReference"),
                "version": "r.txid::text",
                "status": _NOTE_STATUS,
                "kind": _case(_NOTE_CODE, {code: kind for kind, (code, _) in KINDS.items()}, "null"),
                "title": _NOTE_TITLE,
                "text": f"coalesce(bonfire.plain_text(bonfire.string({_PLAIN} -> 'data'), {LONGEST_TEXT}), '')",
                "date": _any_of(_first_time("date"), _first_time("content,0,attachment,creation")),
                "author": _label(_AUTHOR),
                "signedBy": _label("bonfire.string(r.resource #> '{authenticator,display}')"),
                "replaces": (
                    "bonfire.ref_id(jsonb_path_query_first(r.resource, "
                    "'$.relatesTo[*] ? (@.code == \"replaces\").target.reference') #>> '{}', 'DocumentReference')"
                ),
                "encounterId": _encounter("context,encounter,0,reference"),
                "code": _label(_NOTE_CODE),
                "display": _label("bonfire.concept(r.resource -> 'type')"),
                "updatedAt": "r.ts",
            },
        ),
    ),
    key=("patientId",),
    order=(desc("date"),),
)

# ---- scores -----------------------------------------------------------------------------------------------------

_SCORE_VALUE = _any_of(
    "bonfire.number(r.resource #> '{valueQuantity,value}')", "bonfire.number(r.resource -> 'valueInteger')"
)

# The code of a total by which an instrument is known, else the first LOINC code, else the first code.
_LOINC_CODE = """jsonb_path_query_first(r.resource, '$.code.coding[*] ? (@.system == "http://loinc.org").code')"""
_ANY_CODE = "jsonb_path_query_first(r.resource, '$.code.coding[*].code')"
_TOTAL_CODE = f"bonfire.string(coalesce({_LOINC_CODE}, {_ANY_CODE}))"

_KNOWN_TOTALS = {instrument.total[0]: instrument.code for instrument in INSTRUMENTS.values()}

_IS_SURVEY = _has_code("category[*]", "survey")

_IS_SCORE = f"""({_IS_SURVEY} or {" or ".join(_has_code("code", code) for code in _KNOWN_TOTALS)})
  and {_SCORE_VALUE} is not null
  and coalesce(r.resource ->> 'status', '') not in ('entered-in-error', 'cancelled')"""

_OBSERVED = _first_time("effectiveDateTime", "effectivePeriod,start", "effectiveInstant", "issued")

_SCORE_COLUMNS = {
    "patientId": _patient("Observation"),
    "code": _case(_TOTAL_CODE, _KNOWN_TOTALS, _TOTAL_CODE),
    "name": _label("bonfire.concept(r.resource -> 'code')"),
    "value": _SCORE_VALUE,
    "unit": _label("bonfire.string(r.resource #> '{valueQuantity,unit}')"),
    "severity": _label("bonfire.concept(r.resource #> '{interpretation,0}')"),
    "at": _OBSERVED,
    "recordedAt": "r.cts",
    "encounterId": _encounter(),
    "version": "r.txid::text",
}

scores_by_patient = ReadModel(
    name="scoresByPatient",
    description="A patient's scores of one questionnaire (`phq-9`, `gad-7` or a LOINC code), the newest first.",
    columns={
        "patientId": "text",
        "code": "text",
        "name": "text",
        "value": "numeric",
        "unit": "text",
        "severity": "text",
        "at": "timestamptz",
        "recordedAt": "timestamptz",
        "encounterId": "text",
        "version": "text",
    },
    sources=(Source("Observation", where=_IS_SCORE, select=_SCORE_COLUMNS),),
    key=("patientId", "code"),
    order=(desc("at"), desc("recordedAt")),
)

latest_scores = ReadModel(
    name="latestScores",
    description="A patient's newest score of each questionnaire.",
    columns={**scores_by_patient.columns, "observationId": "text"},
    sources=(Source("Observation", where=_IS_SCORE, select={**_SCORE_COLUMNS, "observationId": "r.id"}),),
    key=("patientId",),
    order=(asc("code"),),
    latest_by=("patientId", "code"),
    # Of scores measured at one time, the one recorded last: correcting an older one does not make it the newest.
    latest_order=(desc("at"), desc("recordedAt")),
)

# ---- the timeline -----------------------------------------------------------------------------------------------

_NOT_IN_ERROR = "coalesce(r.resource ->> 'status', '') <> 'entered-in-error'"
_NOT_REFUTED = f"not {_has_code('verificationStatus', 'entered-in-error')}"

_BLOOD_PRESSURE = (
    "bonfire.number(jsonb_path_query_first(r.resource, "
    "'$.component[*] ? (@.code.coding[*].code == \"{code}\").valueQuantity.value'))::text"
)

_OBSERVATION_VALUE = _any_of(
    "bonfire.quantity(r.resource -> 'valueQuantity')",
    "bonfire.concept(r.resource -> 'valueCodeableConcept')",
    _text_of("valueString"),
    "bonfire.number(r.resource -> 'valueInteger')::text",
    "bonfire.flag(r.resource -> 'valueBoolean')::text",
    _text_of("valueDateTime"),
    f"""case when r.resource ? 'component' then coalesce(
      {_BLOOD_PRESSURE.format(code="8480-6")} || '/' || {_BLOOD_PRESSURE.format(code="8462-4")} || ' mmHg',
      bonfire.components(r.resource -> 'component')) end""",
)

_FIRST_ATTACHMENT_TITLE = "bonfire.string(r.resource #> '{content,0,attachment,title}')"


def _events(
    resource_type: str,
    *,
    kind: str,
    at: str,
    title: str,
    detail: str = "null",
    status: str = "r.resource ->> 'status'",
    encounter: str | None = None,
    where: str = _NOT_IN_ERROR,
) -> Source:
    """The records of a type on the timeline. Those that were entered in error did not happen."""
    return Source(
        resource_type,
        where=where,
        select={
            "patientId": _patient(resource_type),
            "kind": kind,
            "at": at,
            "title": _label(title),
            "detail": _label(detail),
            "status": _label(status),
            "resourceType": f"'{resource_type}'",
            "resourceId": "r.id",
            "encounterId": encounter or _encounter(),
        },
    )


timeline = ReadModel(
    name="timeline",
    description="All that happened to a patient, the newest first.",
    columns={
        "patientId": "text",
        "kind": "text",
        "at": "timestamptz",
        "title": "text",
        "detail": "text",
        "status": "text",
        "resourceType": "text",
        "resourceId": "text",
        "encounterId": "text",
    },
    sources=(
        _events(
            "Encounter",
            kind="'encounter'",
            at=_first_time("period,start"),
            title=_any_of(
                "bonfire.concept(r.resource -> 'type')",
                "bonfire.string(r.resource #> '{class,display}')",
                "bonfire.string(r.resource #> '{class,code}')",
                "'Encounter'",
            ),
            detail="bonfire.concept(r.resource -> 'reasonCode')",
            encounter="r.id",
        ),
        _events(
            "DocumentReference",
            kind=f"case when {_IS_NOTE} then 'note' else 'file' end",
            at=_any_of(_first_time("date"), _first_time("content,0,attachment,creation")),
            title=_NOTE_TITLE,
            detail=f"case when {_IS_NOTE} then {_AUTHOR} else "
            "bonfire.string(r.resource #> '{content,0,attachment,contentType}') end",
            status=f"case when {_IS_NOTE} then {_NOTE_STATUS} else r.resource ->> 'status' end",
            encounter=_encounter("context,encounter,0,reference"),
            where=f"{_NOT_IN_ERROR} and coalesce(r.resource ->> 'docStatus', '') <> 'entered-in-error'",
        ),
        _events(
            "Observation",
            kind=f"case when {_IS_SURVEY} and {_SCORE_VALUE} is not null then 'score' else 'observation' end",
            at=_OBSERVED,
            title="bonfire.concept(r.resource -> 'code')",
            detail=_OBSERVATION_VALUE,
        ),
        _events(
            "DiagnosticReport",
            kind="'report'",
            at=_first_time("effectiveDateTime", "effectivePeriod,start", "issued"),
            title="bonfire.concept(r.resource -> 'code')",
            detail=_text_of("conclusion"),
        ),
        _events(
            "Condition",
            kind="'condition'",
            at=_first_time("onsetDateTime", "onsetPeriod,start", "recordedDate"),
            title="bonfire.concept(r.resource -> 'code')",
            detail="bonfire.concept(r.resource -> 'clinicalStatus')",
            status="bonfire.string(r.resource #> '{clinicalStatus,coding,0,code}')",
            where=_NOT_REFUTED,
        ),
        _events(
            "AllergyIntolerance",
            kind="'allergy'",
            at=_first_time("onsetDateTime", "onsetPeriod,start", "recordedDate"),
            title="bonfire.concept(r.resource -> 'code')",
            detail="bonfire.concept(r.resource #> '{reaction,0,manifestation}')",
            status="bonfire.string(r.resource #> '{clinicalStatus,coding,0,code}')",
            where=_NOT_REFUTED,
        ),
        *(
            _events(
                resource_type,
                kind="'medication'",
                at=at,
                title=_any_of(
                    "bonfire.concept(r.resource -> 'medicationCodeableConcept')",
                    "bonfire.string(r.resource #> '{medicationReference,display}')",
                ),
                detail=detail,
                encounter=_encounter(encounter),
            )
            for resource_type, at, detail, encounter in (
                (
                    "MedicationRequest",
                    _first_time("authoredOn"),
                    "bonfire.string(r.resource #> '{dosageInstruction,0,text}')",
                    "encounter,reference",
                ),
                (
                    "MedicationStatement",
                    _first_time("effectiveDateTime", "effectivePeriod,start", "dateAsserted"),
                    "bonfire.string(r.resource #> '{dosage,0,text}')",
                    "context,reference",
                ),
                (
                    "MedicationAdministration",
                    _first_time("effectiveDateTime", "effectivePeriod,start"),
                    "bonfire.string(r.resource #> '{dosage,text}')",
                    "context,reference",
                ),
            )
        ),
        _events(
            "Procedure",
            kind="'procedure'",
            at=_first_time("performedDateTime", "performedPeriod,start"),
            title="bonfire.concept(r.resource -> 'code')",
            detail=_any_of(
                "bonfire.concept(r.resource -> 'reasonCode')",
                "bonfire.string(r.resource #> '{reasonReference,0,display}')",
            ),
        ),
        _events(
            "Immunization",
            kind="'immunization'",
            at=_first_time("occurrenceDateTime", "recorded"),
            title="bonfire.concept(r.resource -> 'vaccineCode')",
            detail="bonfire.string(r.resource #> '{manufacturer,display}')",
        ),
        _events(
            "Media",
            kind="'file'",
            at=_first_time("createdDateTime", "createdPeriod,start", "issued"),
            title=_any_of(
                "bonfire.string(r.resource #> '{content,title}')",
                "bonfire.concept(r.resource -> 'type')",
                "'File'",
            ),
            detail="bonfire.string(r.resource #> '{content,contentType}')",
        ),
    ),
    key=("patientId",),
    order=(desc("at"),),
)

# ---- people and drafts ------------------------------------------------------------------------------------------

_NAME = """coalesce(
  jsonb_path_query_first(r.resource, '$.name[*] ? (@.use == "official")'),
  jsonb_path_query_first(r.resource, '$.name[*]'))"""
_GIVEN = f"bonfire.joined({_NAME} -> 'given', ' ')"
_FAMILY = f"bonfire.string({_NAME} -> 'family')"

patients_model = ReadModel(
    name="patients",
    description="All patients, by family name and given names.",
    columns={
        "name": "text",
        "family": "text",
        "given": "text",
        # As FHIR spells it: of some people only the year is known.
        "birthDate": "text",
        "gender": "text",
        "identifier": "text",
        "active": "boolean",
        "deceased": "boolean",
        "version": "text",
        "updatedAt": "timestamptz",
    },
    sources=(
        Source(
            "Patient",
            select={
                "name": _label(
                    _any_of(
                        f"bonfire.string({_NAME} -> 'text')",
                        f"nullif(concat_ws(' ', {_GIVEN}, {_FAMILY}), '')",
                        "'(no name)'",
                    )
                ),
                "family": _label(_FAMILY),
                "given": _label(_GIVEN),
                "birthDate": (
                    "case when bonfire.instant(r.resource ->> 'birthDate') is not null "
                    "then r.resource ->> 'birthDate' end"
                ),
                "gender": _label(_text_of("gender")),
                "identifier": _label(
                    "jsonb_path_query_first(r.resource, '$.identifier[*] ? "
                    f'(@.type.coding[*].code == "MR" || @.system == "{MRN_SYSTEM}").value ? '
                    "(@.type() == \"string\")') #>> '{}'"
                ),
                "active": "coalesce(bonfire.flag(r.resource -> 'active'), true)",
                "deceased": "coalesce(bonfire.flag(r.resource -> 'deceasedBoolean'), r.resource ? 'deceasedDateTime')",
                "version": "r.txid::text",
                "updatedAt": "r.ts",
            },
        ),
    ),
    order=(asc("family"), asc("given")),
)

drafts_by_patient = ReadModel(
    name="draftsByPatient",
    description="What a user is writing about a patient.",
    columns={
        "owner": "text",
        "patientId": "text",
        "version": "text",
        "text": "text",
        "title": "text",
        "kind": "text",
        "encounterId": "text",
        "updatedAt": "timestamptz",
    },
    sources=(
        Source(
            f"{APP_STATE}/{DRAFTS}",
            select={
                "owner": "r.owner",
                "patientId": "r.patient",
                "version": "r.version::text",
                "text": f"coalesce(left(bonfire.string(r.data -> 'text'), {LONGEST_TEXT}), '')",
                "title": _label("bonfire.string(r.data -> 'title')"),
                "kind": _label("bonfire.string(r.data -> 'kind')"),
                "encounterId": _label("bonfire.string(r.data -> 'encounterId')"),
                "updatedAt": "r.updated_at",
            },
        ),
    ),
    key=("owner", "patientId"),
    # In no order of time: an index over what changes at every keystroke would grow at every keystroke.
)

READ_MODELS: tuple[ReadModel, ...] = (
    patients_model,
    notes_by_patient,
    timeline,
    scores_by_patient,
    latest_scores,
    drafts_by_patient,
)
"""All of ours."""

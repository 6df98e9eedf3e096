"""Records masked: nothing of who somebody is, all of what was measured."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from bonfire.access.masking import mask

ADA: dict[str, Any] = {
    "resourceType": "Patient",
    "id": "p1",
    "meta": {"versionId": "3", "security": [{"system": "s", "code": "N"}], "source": "https://lovelace.example"},
    "text": {"status": "generated", "div": "<div>Ada Lovelace</div>"},
    "identifier": [{"system": "urn:mrn", "value": "LOVELACE-1"}],
    "active": True,
    "name": [{"family": "Lovelace", "given": ["Ada"]}],
    "_name": [{"extension": [{"url": "u", "valueString": "Lovelace"}]}],
    "telecom": [{"system": "email", "value": "ada@lovelace.example"}],
    "gender": "female",
    "birthDate": "1815-12-10",
    "_birthDate": {"extension": [{"url": "http://hl7.org/t", "valueDateTime": "1815-12-10T04:00:00Z"}]},
    "deceasedDateTime": "1852-11-27T10:00:00Z",
    "address": [{"city": "Lovelace Town", "postalCode": "W1"}],
    "maritalStatus": {"coding": [{"system": "m", "code": "M", "display": "Married"}], "text": "to Mr Lovelace"},
    "photo": [{"contentType": "image/png", "data": "TG92ZWxhY2U="}],
    "contact": [{"name": {"text": "Lovelace"}}],
    "generalPractitioner": [{"reference": "Practitioner/d1", "display": "Dr. Lovelace"}],
    "managingOrganization": {"identifier": {"value": "Lovelace"}, "display": "Lovelace Clinic"},
    "contained": [{"resourceType": "RelatedPerson", "id": "r", "name": [{"text": "Lovelace"}], "gender": "male"}],
    "extension": [
        {"url": "http://hl7.org/race", "valueCoding": {"system": "r", "code": "2106-3", "display": "White"}},
        {"url": "http://hl7.org/mother", "valueString": "Lovelace"},
    ],
}

SCORE: dict[str, Any] = {
    "resourceType": "Observation",
    "id": "o1",
    "status": "final",
    "category": [{"coding": [{"system": "c", "code": "survey", "display": "Survey"}]}],
    "code": {"coding": [{"system": "http://loinc.org", "code": "44261-6", "display": "PHQ-9"}], "text": "Lovelace's"},
    "subject": {"reference": "Patient/p1", "display": "Ada Lovelace"},
    "performer": [{"type": "Practitioner", "identifier": {"value": "lovelace"}, "display": "Dr. Lovelace"}],
    "effectiveDateTime": "2026-03-02T09:00:00Z",
    "valueQuantity": {"value": Decimal("12.50"), "unit": "{score}", "system": "u", "code": "{score}"},
    "note": [{"authorString": "Lovelace", "time": "2026-03-02", "text": "Lovelace said"}],
    "derivedFrom": [{"reference": "QuestionnaireResponse/q1/_history/2"}, {"reference": "https://x.lovelace/Any/1"}],
}

FILE: dict[str, Any] = {
    "resourceType": "DocumentReference",
    "id": "d1",
    "status": "current",
    "description": "Lovelace, referral",
    "content": [
        {
            "attachment": {
                "contentType": "text/plain",
                "data": "TG92ZWxhY2U=",
                "url": "https://files/Lovelace",
                "title": "Lovelace",
                "size": 8,
            }
        }
    ],
}


@pytest.mark.parametrize("resource", [ADA, SCORE, FILE], ids=lambda each: each["resourceType"])
def test_nothing_of_who_it_is_is_left(resource: dict[str, Any]) -> None:
    text = msgspec.json.encode(mask("identity", resource)).decode().lower()
    for word in ("lovelace", "tg92zwxhy2u", "1815-12", "1852-11", "w1"):
        assert word not in text


def test_what_was_measured_and_when_stays() -> None:
    masked = mask("identity", SCORE)
    assert masked["valueQuantity"] == SCORE["valueQuantity"]
    assert masked["effectiveDateTime"] == SCORE["effectiveDateTime"]
    assert masked["code"]["coding"] == SCORE["code"]["coding"]
    assert masked["subject"] == {"reference": "Patient/p1"}
    assert masked["derivedFrom"] == [{"reference": "QuestionnaireResponse/q1/_history/2"}]
    assert (masked["status"], masked["category"]) == (SCORE["status"], SCORE["category"])


def test_of_a_person_the_year_is_left_and_what_many_have_in_common() -> None:
    masked = mask("identity", ADA)
    assert (masked["birthDate"], masked["deceasedDateTime"], masked["gender"]) == ("1815", "1852", "female")
    assert masked["generalPractitioner"] == [{"reference": "Practitioner/d1"}]
    assert masked["extension"] == ADA["extension"][:1]
    assert masked["contained"] == [{"resourceType": "RelatedPerson", "id": "r", "gender": "male"}]
    assert (masked["id"], masked["active"]) == ("p1", True)


def test_it_says_that_it_is_masked_and_not_the_whole() -> None:
    meta = mask("identity", ADA)["meta"]
    assert meta["versionId"] == "3"
    assert [label["code"] for label in meta["security"]] == ["N", "REDACTED"]
    assert [tag["code"] for tag in meta["tag"]] == ["SUBSETTED"]


def test_the_record_itself_is_left_as_it_was() -> None:
    before = msgspec.json.encode(ADA)
    mask("identity", ADA)
    assert msgspec.json.encode(ADA) == before


def test_a_mask_that_is_none_is_an_error() -> None:
    with pytest.raises(ValueError, match="there is no mask `hat`"):
        mask("hat", ADA)

import base64

import pytest

from bonfire.insight.fhir_read import concept_text, dig, document_title, items_at, plain_text, text_at
from bonfire_protocol.values import Json


def attachment(text: str, content_type: str = "text/plain") -> Json:
    return {"attachment": {"contentType": content_type, "data": base64.b64encode(text.encode()).decode()}}


@pytest.mark.parametrize("path", [("a", 1, "b"), ("a", "b"), ("a", 0, 0), ("x",), ("a", -1)])
def test_a_way_that_breaks_leads_nowhere(path: tuple[str | int, ...]) -> None:
    assert dig({"a": [{"b": "c"}]}, *path) is None


def test_what_is_there_is_found() -> None:
    assert dig({"a": [{"b": "c"}]}, "a", 0, "b") == "c"


def test_a_text_comes_on_one_line_and_only_if_it_is_one() -> None:
    resource = {"text": " two\n lines ", "number": 1, "empty": " "}
    assert [text_at(resource, name) for name in ("text", "number", "empty", "absent")] == [
        "two lines",
        None,
        None,
        None,
    ]


def test_items_of_what_is_no_list_are_none() -> None:
    assert list(items_at({"a": "text"}, "a")) == []


@pytest.mark.parametrize(
    ("concept", "text"),
    [
        ({"text": "Asthma", "coding": [{"display": "Asthma (disorder)"}]}, "Asthma"),
        ({"coding": [{"code": "1"}, {"code": "2", "display": "Asthma"}]}, "Asthma"),
        ({"coding": [{"code": "AMB"}]}, "AMB"),
        ({"code": "AMB", "display": "ambulatory"}, "ambulatory"),
        ({"coding": "wrong"}, None),
        (None, None),
    ],
)
def test_a_concept_reads_as_people_write_it(concept: object, text: str | None) -> None:
    assert concept_text(concept) == text


def test_the_plain_texts_of_a_document_are_joined() -> None:
    content = [attachment("one\n"), attachment("<p>two", "text/html"), attachment("three", "text/plain; charset=utf-8")]
    assert plain_text({"content": content}) == "one\n\nthree"


@pytest.mark.parametrize("data", ["=", "/w==", 1, None])
def test_what_is_no_text_is_none(data: object) -> None:
    assert plain_text({"content": [{"attachment": {"contentType": "text/plain", "data": data}}]}) == ""


def test_a_document_always_has_a_title() -> None:
    assert document_title({"description": "Visit", "type": {"text": "Progress note"}}) == "Visit"
    assert document_title({"type": {"text": "Progress note"}}) == "Progress note"
    assert document_title({}) == "Note"

"""`_id` and `identifier`, the two parameters by which resources are found."""

import pytest

from bonfire.fhir.criteria import Criteria, Token, parse_conditional, parse_query
from bonfire.fhir.outcome import Refusal


@pytest.mark.parametrize(
    ("query", "token"),
    [
        ("identifier=http://npi|1", Token("http://npi", "1")),
        ("identifier=http%3A%2F%2Fnpi%7C1", Token("http://npi", "1")),
        ("identifier=|1", Token("", "1")),
        ("identifier=1", Token(None, "1")),
        ("identifier=a\\|b|c\\,d\\\\", Token("a|b", "c,d\\")),
    ],
)
def test_an_identifier_is_a_system_and_a_value(query: str, token: Token) -> None:
    assert parse_query("Patient", query) == Criteria("Patient", identifiers=(frozenset({token}),))


def test_commas_are_or_and_repetition_is_and() -> None:
    assert parse_query("Patient", "_id=a,b&_id=c&identifier=x,y") == Criteria(
        "Patient",
        (frozenset("ab"), frozenset("c")),
        (frozenset({Token(None, "x"), Token(None, "y")}),),
    )


@pytest.mark.parametrize(
    "query", ["name=x", "identifier=a|b&name=x", "identifier=", "identifier=a|", "", "_count=1", "identifier=a|%00"]
)
def test_anything_else_is_refused(query: str) -> None:
    with pytest.raises(Refusal) as refused:
        parse_query("Patient", query, place="Bundle.entry[0].request.ifNoneExist")
    assert refused.value.field == "Bundle.entry[0].request.ifNoneExist"


def test_a_type_without_identifiers_is_found_by_id_only() -> None:
    with pytest.raises(Refusal):
        parse_query("Binary", "identifier=a|b")
    assert parse_query("Binary", "_id=a").ids == (frozenset("a"),)


def test_a_conditional_reference_is_told_from_other_links() -> None:
    assert parse_conditional("Practitioner?identifier=s|v", "x") == parse_query("Practitioner", "identifier=s|v")
    for link in ("Practitioner/1", "urn:uuid:x?y", "#a", "Nobody?identifier=s|v", "http://x/Patient?identifier=1"):
        assert parse_conditional(link, "x") is None

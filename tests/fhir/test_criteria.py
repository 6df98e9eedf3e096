"""`_id` and `identifier`, the two parameters by which resources are found."""

import pytest

from bonfire.fhir.criteria import Brought, Criteria, Token, parse_conditional, parse_query
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


def test_no_record_has_an_id_with_a_nul() -> None:
    assert parse_query("Patient", "_id=a,b%00c").ids == (frozenset({"a"}),)


def test_a_type_without_identifiers_is_found_by_id_only() -> None:
    with pytest.raises(Refusal):
        parse_query("Binary", "identifier=a|b")
    assert parse_query("Binary", "_id=a").ids == (frozenset("a"),)


def test_a_conditional_reference_is_told_from_other_links() -> None:
    assert parse_conditional("Practitioner?identifier=s|v", "x") == parse_query("Practitioner", "identifier=s|v")
    for link in ("Practitioner/1", "urn:uuid:x?y", "#a", "Nobody?identifier=s|v", "http://x/Patient?identifier=1"):
        assert parse_conditional(link, "x") is None


@pytest.mark.parametrize(
    ("query", "met"),
    [
        ("identifier=s|1", True),
        ("identifier=1", True),
        ("identifier=t|2,s|1", True),
        ("identifier=s|1&identifier=|2", True),
        ("identifier=s|2", False),
        ("identifier=|1", False),
        ("identifier=s|1&identifier=3", False),
        ("_id=p", True),
        ("_id=q&identifier=1", False),
    ],
)
def test_what_is_brought_is_found_by_the_same_criteria(query: str, met: bool) -> None:
    brought = Brought()
    brought.add("Patient", "p", {"identifier": [{"system": "s", "value": "1"}, {"value": "2"}]})
    brought.add("Person", "p", {"identifier": [{"system": "s", "value": "1"}]})
    assert brought.meeting(parse_query("Patient", query)) == ({"p"} if met else set())


def test_a_type_with_a_single_identifier_is_brought_too() -> None:
    brought = Brought()
    brought.add("Bundle", "b", {"identifier": {"system": "s", "value": "1"}})
    assert brought.meeting(parse_query("Bundle", "identifier=s|1")) == {"b"}
    assert brought.others("Bundle", ["a", "b"]) == {"a"}


def test_equal_criteria_have_equal_keys() -> None:
    one, other = parse_query("Patient", "identifier=a|b,c|d"), parse_query("Patient", "identifier=c|d,a|b")
    assert (one, one.key) == (other, other.key)
    assert one.key != parse_query("Person", "identifier=a|b,c|d").key

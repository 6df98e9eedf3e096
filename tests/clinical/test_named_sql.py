"""Named parameters: found where they are ones, and nowhere else."""

import pytest

from bonfire.clinical.named_sql import number


def test_a_parameter_used_twice_has_one_number() -> None:
    numbered = number("select :a, :b, :a")
    assert numbered.text == "select $1, $2, $1"
    assert numbered.names == ("a", "b")


@pytest.mark.parametrize(
    "sql",
    [
        "select ':a'",
        "select 'it''s :a'",
        'select "odd:name", "a "" :a"',
        r"select E'it\'s :a'",
        "select $$ :a $$",
        "select $tag$ :a $$ :b $tag$",
        "select '{}'::jsonb",
        "select xs[1:2]",
        "select xs[lower:upper]",
        "select f(x := 1)",
    ],
)
def test_what_only_looks_like_a_parameter_is_left_alone(sql: str) -> None:
    assert number(sql).text == sql
    assert number(sql).names == ()


@pytest.mark.parametrize(
    "sql",
    ["select 1 -- :a", "select /* :a */ 1", "select /* :a /* :b */ :c */ 1", "-- it's\nselect 1"],
)
def test_comments_are_dropped_with_what_is_in_them(sql: str) -> None:
    numbered = number(sql)
    assert numbered.names == ()
    assert "1" in numbered.text
    assert ":" not in numbered.text


def test_a_parameter_may_stand_against_an_operator_or_a_cast() -> None:
    assert number("select * from t where a=:a and b>=:b::int and c = any(:c)").text == (
        "select * from t where a=$1 and b>=$2::int and c = any($3)"
    )


def test_a_string_beside_a_parameter_hides_nothing() -> None:
    assert number("select ':no' || :yes || ':no'").names == ("yes",)


def test_a_closing_semicolon_is_dropped_and_a_second_statement_refused() -> None:
    assert number("select 1; ").text == "select 1"
    assert number("select ';'").text == "select ';'"
    with pytest.raises(ValueError, match="one statement"):
        number("select 1; delete from patient")


@pytest.mark.parametrize(
    ("sql", "problem"),
    [("select $1", "numbered"), ("select /* 1", "never closed"), ("select $a$ 1", "never closed")],
)
def test_what_can_not_be_numbered_is_refused(sql: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        number(sql)


def test_how_a_parameter_is_spelled_is_the_callers_choice() -> None:
    assert number("select :a", lambda name, place: f"${place}::{name}").text == "select $1::a"

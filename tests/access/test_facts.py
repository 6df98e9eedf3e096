"""Facts of those who act for somebody else."""

import pytest

from bonfire.access.facts import Facts, Relation
from bonfire.access.principal import Principal


def test_what_binds_a_person_binds_whoever_acts_for_them() -> None:
    agent = Facts((Relation("careTeam", "p1"), Relation("refused", "p3", 5.0)), 2)
    person = Facts(
        (
            Relation("breakGlass", "p9", 9.0),
            Relation("careTeam", "p2"),
            Relation("refused", "p1", 7.0),
            Relation("refused", "p3", 6.0),
            Relation("suspended", "*"),
        ),
        3,
    )
    assert agent.bounded_by(person) == Facts(
        (
            Relation("careTeam", "p1"),
            Relation("refused", "p1", 7.0),
            Relation("refused", "p3", 6.0),
            Relation("suspended", "*"),
        ),
        3,
    )


@pytest.mark.parametrize(("own", "persons"), [(None, 5.0), (5.0, None), (None, None)])
def test_what_has_no_end_stays_without(own: float | None, persons: float | None) -> None:
    agent, person = Facts((Relation("refused", "p", own),)), Facts((Relation("refused", "p", persons),))
    assert agent.bounded_by(person) == Facts((Relation("refused", "p"),))


def test_who_answers_for_a_caller() -> None:
    assert Principal("t", "ada", "Ada").answering == ("ada",)
    assert Principal("t", "bot", "Bot", kind="agent", behalf_of="ada").answering == ("bot", "ada")
    assert Principal("t", "ada", "Ada", behalf_of="ada").answering == ("ada",)

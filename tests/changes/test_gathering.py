"""What is held of a transaction, however large it is."""

import random
from collections.abc import Iterable

from msgspec import Raw

from bonfire.changes.gathering import Gathered, Gathering
from bonfire.engine.commit import IndexProgress, Message, RowChange, ViewChange


def touch(source: str, *patients: str, tenant: str = "t") -> Message:
    return Message(tenant=tenant, source=source, patients=list(patients))


def rows(view: str, *changes: tuple[str, str | None], tenant: str = "t") -> Message:
    """Rows of `view` that are now under a key, and came from another one."""
    return Message(
        tenant=tenant, views=[ViewChange(view, [RowChange(key, "id", old, Raw(b"{}")) for key, old in changes])]
    )


def gather(messages: Iterable[Message], *, size: int = 10, carried: int = 100, named: int = 5) -> Gathered:
    gathering = Gathering(carried=carried, named=named)
    for message in messages:
        gathering.add(message, size)
    return gathering.finish()


def test_a_small_transaction_is_carried_as_it_came() -> None:
    messages = [touch("A", "p"), rows("v", ("k", None))] * 5
    assert gather(messages) == Gathered(messages, frozenset())


def test_a_large_one_names_its_keys_old_and_new_and_whom_it_touches() -> None:
    messages = [
        touch("A", "p"),
        touch("A", "q"),
        touch("B"),
        rows("v", ("k", None), ("l", "m")),
        rows("v", ("k", "k"), tenant="u"),
    ]
    gathered = gather(messages, size=30)
    assert gathered.bulk == {("t", "v", "k"), ("t", "v", "l"), ("t", "v", "m"), ("u", "v", "k")}
    assert gathered.messages == [touch("A", "p", "q"), touch("B")]
    assert all(not message.views for message in gathered.messages)


def test_everybody_is_everybody_in_either_order() -> None:
    everybody = Message(tenant="t", source="A", patients=None)
    for order in ([touch("A", "p"), everybody], [everybody, touch("A", "p")]):
        assert gather(order, size=200).messages == [everybody]


def test_whose_access_changes_is_kept_and_too_many_are_everybody() -> None:
    said = [
        Message(tenant="t", access=["ada", "bo"]),
        Message(tenant="u", access=["*"]),
        Message(tenant="t", access=["ada", "cy"]),
    ]
    assert gather([rows("v", ("k", None)), *said], size=60).messages == [
        Message(tenant="t", access=["ada", "bo", "cy"]),
        Message(tenant="u", access=["*"]),
    ]
    many = [Message(tenant="t", access=[f"u{n}"]) for n in range(1500)]
    (everybody,) = gather(many, size=60).messages
    assert "*" in everybody.access
    assert len(everybody.access) <= 1000


def test_what_a_mutation_and_the_lanes_say_is_kept() -> None:
    said = [
        Message(tenant="t", mutation="m"),
        Message(tenant="t", index=IndexProgress("m", "agent", "fresh")),
    ]
    assert gather([rows("v", ("k", None)), *said], size=60).messages == said


def test_too_many_keys_become_their_view_and_the_others_stay() -> None:
    many = [rows("large", *((f"k{n}", None) for n in range(4))), rows("small", ("a", None), ("b", None))]
    gathered = gather([*many, rows("large", ("again", None))], size=60)
    assert gathered.messages == [Message(reset=["large"])]
    assert gathered.bulk == {("t", "small", "a"), ("t", "small", "b")}


def test_too_many_patients_become_everybody() -> None:
    gathered = gather([touch("A", "p"), touch("B", *(f"p{n}" for n in range(6))), touch("A", "q")], size=60)
    assert list(gathered.messages) == [touch("A", "p", "q"), Message(tenant="t", source="B", patients=None)]


def test_whatever_comes_is_named_somehow_and_bounded() -> None:
    randomness = random.Random(3)
    for _ in range(200):
        messages = []
        for _ in range(randomness.randrange(1, 30)):
            if randomness.random() < 0.3:
                messages.append(touch(randomness.choice("AB"), *randomness.sample("pqrstuvw", 2)))
            else:
                changes = [
                    (randomness.choice("abcdefg"), randomness.choice([None, *"abcdefg"]))
                    for _ in range(randomness.randrange(4))
                ]
                messages.append(rows(randomness.choice(["v", "w"]), *changes))
        gathered = gather(messages, size=randomness.choice([1, 10, 200]))
        reset = {view for message in gathered.messages for view in message.reset}
        carried = {
            (message.tenant, change.view, key)
            for message in gathered.messages
            for change in message.views
            for row in change.rows
            for key in (row.key, row.old_key)
        }
        assert not (carried and gathered.bulk)
        assert len(gathered.bulk) <= 5
        for message in messages:
            for change in message.views:
                for row in change.rows:
                    for key in (row.key, row.old_key):
                        if key is not None:
                            named = (message.tenant, change.view, key)
                            assert change.view in reset or named in gathered.bulk or named in carried
        everybody = {message.source for message in gathered.messages if message.source and message.patients is None}
        told = {(message.source, patient) for message in gathered.messages for patient in message.patients or ()}
        for message in messages:
            for patient in message.patients or ():
                assert message.source in everybody or (message.source, patient) in told

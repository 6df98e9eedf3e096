"""The text of a message."""

import pytest
from msgspec import Raw

from bonfire.changes.decode import UnreadableMessage, decode_message


def test_what_a_trigger_writes() -> None:
    message = decode_message(
        b'{"tenant": "t", "source": "DocumentReference", "patients": ["p1"], "views": [{"view": "notesByPatient",'
        b' "rows": [["p1", "n1", null, {"id": "n1", "n": 1.50}], ["p2", "n2", "p1", null]]}]}'
    )
    assert (message.tenant, message.source, message.patients) == ("t", "DocumentReference", ["p1"])
    (view,) = message.views
    assert view.rows[0].row == Raw(b'{"id": "n1", "n": 1.50}')
    assert (view.rows[1].old_key, view.rows[1].gone) == ("p1", True)


def test_the_other_kinds() -> None:
    assert decode_message('{"tenant": "t", "mutation": "m"}').mutation == "m"
    assert decode_message('{"reset": ["notesByPatient"]}').reset == ["notesByPatient"]
    index = decode_message(
        '{"tenant": "t", "index": {"mutation": "m", "index": "semanticSearch", "state": "fresh", "reason": null}}'
    ).index
    assert index is not None
    assert index.state == "fresh"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"not json",
        b'{"tenant": 1}',
        b'{"tenant": "t", "grants": ["a newer version says this"]}',
        b'{"tenant": "t", "views": [{"view": "v", "rows": [["k", "id"]]}]}',
        b'{"tenant": "\xff"}',
        b"[" * 100_000,
    ],
)
def test_what_can_not_be_read_is_never_passed_over(text: bytes) -> None:
    with pytest.raises(UnreadableMessage):
        decode_message(text)


@pytest.mark.parametrize(
    "text",
    [
        b'{"tenant": {"Meier": 1}}',
        b'{"Meier": "b"}',
        b'{"tenant": "t", "index": {"mutation": "m", "index": "i", "state": "Meier"}}',
        b'{"tenant": "t", "views": [{"view": "v", "rows": [["k", "id", null, {"Meier": }]]}]}',
    ],
)
def test_the_error_says_nothing_of_the_content(text: bytes) -> None:
    with pytest.raises(UnreadableMessage) as caught:
        decode_message(text)
    assert "Meier" not in str(caught.value)
    assert caught.value.__suppress_context__

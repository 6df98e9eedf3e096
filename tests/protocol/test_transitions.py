"""What is held plus parts is the result: the vectors that the TypeScript client runs too."""

from typing import Any

import msgspec
import pytest

from bonfire_protocol.codec import decode_down
from bonfire_protocol.down import Patch, Resumed, Snapshot, Subscribed
from protocol.patching import Unfit, apply
from protocol.vectors import load, name_of


@pytest.mark.parametrize("case", load("transitions"), ids=name_of)
def test_transition(case: dict[str, Any]) -> None:
    rows = case["rows"]
    number, more = 1, False
    try:
        for spelled in case["parts"]:
            part = decode_down(msgspec.json.encode(spelled))
            assert isinstance(part, Subscribed | Resumed | Snapshot | Patch)
            if isinstance(part, Subscribed | Resumed):
                number = part.query
            if part.query == number:
                rows, more = apply(rows, part), part.more
    except Unfit:
        rows = None
    assert rows == case["result"]
    if rows is not None:
        assert more == case["more"]

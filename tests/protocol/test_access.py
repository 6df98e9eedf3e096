"""What is taken away is gone, and what is narrowed is replaced: the vectors that the TypeScript client runs too."""

from typing import Any, cast

import msgspec
import pytest
from websockets.asyncio.client import ClientConnection

from bonfire_protocol.codec import decode_down
from protocol.patching import Holder
from protocol.vectors import load, name_of
from support.live_client import LiveClient

CASES = load("access")


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_access(case: dict[str, Any]) -> None:
    holder = Holder({id: (held["query"], held["rows"]) for id, held in case["subscriptions"].items()})
    for spelled in case["frames"]:
        holder.take(decode_down(msgspec.json.encode(spelled)))
    assert holder.shown == case["shown"]
    streams = [spelled["stream"] for spelled in case["frames"] if spelled["type"] == "access"]
    assert holder.stream == (streams[-1] if streams else None)


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_the_client_of_other_tests(case: dict[str, Any]) -> None:
    """It has no socket here: it is given the frames by hand."""
    client = LiveClient(cast(ClientConnection, None))
    for id, held in case["subscriptions"].items():
        client.queries[id], client.results[held["query"]] = held["query"], held["rows"]
    for spelled in case["frames"]:
        client._take(spelled)
    assert {id: client.rows(id) for id in client.queries} == case["shown"]


def test_no_two_vectors_have_one_name() -> None:
    for name in ("frames", "bad", "transitions", "access"):
        names = [name_of(case) for case in load(name)]
        assert len(names) == len(set(names))

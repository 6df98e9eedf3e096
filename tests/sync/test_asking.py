"""One client's queries that are asked once: the trail first, and by what the client may see when it is answered."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from bonfire.access.facts import Facts, Relation
from bonfire_protocol.down import Refused, Result
from bonfire_protocol.faults import Fault, FaultCode
from support.hostile import HELLO, Node, running
from support.speaking import Client, changes_rights, settle

ON_THE_TEAM = Facts((Relation("careTeam", "p"),))
ASK = b'{"type":"query","id":"q","query":"rows.list","args":{"patientId":"p"}}'


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    async with running() as made:
        yield made


async def test_the_answer_goes_out_when_the_trail_has_it(node: Node) -> None:
    client = Client(node)
    node.rows = ["a", "b"]
    node.trail.holds = True
    await client.say(HELLO, ASK)
    await client.until(lambda: node.trail.of("query"))
    assert client.heard(Result) == []
    (event,) = node.trail.of("query")
    assert (event.query, event.patient, event.count) == ("rows.list", "p", 2)
    assert event.policies == ("clinician-calls", "clinician-reads")
    node.trail.release()
    await client.until(lambda: client.heard(Result))
    assert bytes(client.heard(Result)[0].value) == b'[{"id":"a"},{"id":"b"}]'


async def test_what_the_trail_can_not_take_is_not_answered(node: Node) -> None:
    client = Client(node)
    await client.say(HELLO)
    node.trail.trouble = Fault(FaultCode.unavailable, "the trail is away")
    await client.say(ASK)
    await client.until(lambda: client.heard(Refused))
    assert client.heard(Result) == []
    node.trail.trouble = None
    await client.say(ASK)
    await client.until(lambda: client.heard(Result))
    assert [(event.patient, event.count) for event in node.trail.of("query")] == [("p", 1), ("p", 1)]


async def test_it_is_planned_again_where_rights_have_changed_meanwhile(node: Node) -> None:
    node.door.role, node.facts.facts["u"] = "nurse", ON_THE_TEAM
    client = Client(node)
    await client.say(HELLO)
    node.facts.facts.clear()
    node.facts.open.clear()
    changes_rights(node)
    await client.say(ASK)
    assert client.heard(Result, Refused) == []
    node.facts.open.set()
    await client.until(lambda: client.heard(Refused))
    assert (client.heard(Refused)[0].code, client.heard(Result)) == (FaultCode.forbidden, [])


async def test_what_was_read_before_rights_changed_is_not_shown(node: Node) -> None:
    node.door.role, node.facts.facts["u"] = "nurse", ON_THE_TEAM
    client = Client(node)
    await client.say(HELLO)
    answer = node.reader.answer

    def meanwhile(read: Any) -> Any:
        node.reader.answer = answer
        node.facts.facts.clear()
        changes_rights(node)
        return answer(read)

    node.reader.answer = meanwhile
    await client.say(ASK)
    await client.until(lambda: client.heard(Result, Refused))
    assert [type(frame) for frame in client.heard(Result, Refused)] == [Refused]
    assert node.trail.of("query") == []


async def test_who_stays_in_doubt_is_refused_after_a_while(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bonfire.sync.asking.DOUBT_SECONDS", 0.05)
    client = Client(node)
    await client.say(HELLO)
    node.facts.open.clear()
    changes_rights(node)
    await client.say(ASK)
    await client.until(lambda: client.heard(Refused))
    (refused,) = client.heard(Refused)
    assert (refused.id, refused.code, refused.next) == ("q", FaultCode.unavailable, "retry")
    node.facts.open.set()


async def test_a_query_that_fails_is_refused_and_the_connection_goes_on(node: Node) -> None:
    client = Client(node)
    await client.say(HELLO)
    answer = node.reader.answer

    def fail(read: Any) -> Any:
        raise RuntimeError("about Mrs Okafor")

    node.reader.answer = fail
    await client.say(ASK)
    await client.until(lambda: client.heard(Refused))
    assert client.heard(Refused)[0].code is FaultCode.internal
    assert b"Okafor" not in bytes(client.transport.written)
    node.reader.answer = answer
    await client.say(ASK)
    await client.until(lambda: client.heard(Result))


async def test_who_goes_meanwhile_leaves_nothing(node: Node) -> None:
    client = Client(node)
    node.trail.holds = True
    await client.say(HELLO, ASK)
    client.transport.abort()
    await settle()
    assert not node.live.connections
    assert node.hub.engine.counts["sessions"] == 0

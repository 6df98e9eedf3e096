"""One client's subscriptions on a node whose database and trail are the test's: what the trail has, what is shown, and
what becomes of them when the client's rights change."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from bonfire.access.facts import Facts, Relation
from bonfire.engine.commit import Message
from bonfire.sync.endpoint import Limits
from bonfire_protocol.down import (
    Access,
    Patch,
    Refused,
    Renewed,
    Snapshot,
    Subscribed,
    Transition,
    Unsubscribed,
    Welcome,
)
from bonfire_protocol.faults import Fault, FaultCode
from support.hostile import HELLO, SUBSCRIBE, Node, running
from support.speaking import Client, changes_rights, settle, touches

ON_THE_TEAM = Facts((Relation("careTeam", "p"),))
RENEW = b'{"type":"renew","id":"r","token":"x"}'
UNSUBSCRIBE = b'{"type":"unsubscribe","id":"s"}'


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    async with running(Limits(subscriptions=3)) as made:
        yield made


# ---- the trail first --------------------------------------------------------------------------------------------


async def test_a_subscription_is_live_when_the_trail_has_it(node: Node) -> None:
    client = Client(node)
    node.trail.holds = True
    await client.say(HELLO, SUBSCRIBE % b"s")
    assert client.heard(Subscribed, Transition) == []
    assert node.hub.engine.counts["live_queries"] == 0, "it is not even read"
    (event,) = node.trail.of("subscribe")
    assert (event.user, event.query, event.patient, event.outcome) == ("u", "rows.list", "p", 0)
    assert event.policies == ("clinician-calls", "clinician-reads")
    (welcome,) = client.heard(Welcome)
    assert event.request == welcome.connection
    node.trail.release()
    await client.until(lambda: client.heard(Transition))
    assert [frame.id for frame in client.heard(Subscribed)] == ["s"]


async def test_what_the_trail_can_not_take_is_not_shown(node: Node) -> None:
    client = Client(node)
    node.trail.trouble = Fault(FaultCode.unavailable, "the trail is away")
    await client.say(HELLO, SUBSCRIBE % b"s")
    (refused,) = client.heard(Refused)
    assert (refused.id, refused.code, refused.next) == ("s", FaultCode.unavailable, "retry")
    assert node.hub.engine.counts["live_queries"] == 0
    node.trail.trouble = None
    await client.say(SUBSCRIBE % b"s")
    await client.until(lambda: client.heard(Subscribed))


async def test_one_that_is_let_go_while_it_waits_never_comes(node: Node) -> None:
    client = Client(node)
    node.trail.holds = True
    await client.say(HELLO, SUBSCRIBE % b"s", UNSUBSCRIBE)
    assert [frame.id for frame in client.heard(Unsubscribed)] == ["s"]
    await client.say(SUBSCRIBE % b"s")
    node.trail.release()
    await client.until(lambda: client.heard(Transition))
    assert len(client.heard(Subscribed)) == 1, "the second of that name, once"
    assert client.heard(Refused) == []


async def test_those_that_wait_count(node: Node) -> None:
    client = Client(node)
    node.trail.holds = True
    await client.say(HELLO, *(SUBSCRIBE % name for name in (b"a", b"b", b"a", b"c", b"d")))
    assert [(one.id, one.code) for one in client.heard(Refused)] == [
        ("a", FaultCode.duplicate_id),
        ("d", FaultCode.too_many),
    ]


async def test_who_goes_while_it_waits_leaves_nothing(node: Node) -> None:
    client = Client(node)
    node.trail.holds = True
    await client.say(HELLO, SUBSCRIBE % b"s")
    client.transport.abort()
    await settle()
    node.trail.release()
    await settle()
    assert node.hub.engine.counts["live_queries"] == 0
    assert node.trail.of("push") == []


# ---- rights change ----------------------------------------------------------------------------------------------


async def test_one_that_waits_is_judged_by_what_the_client_may_see_then(node: Node) -> None:
    node.door.role, node.facts.facts["u"] = "nurse", ON_THE_TEAM
    client = Client(node)
    node.trail.holds = True
    await client.say(HELLO, SUBSCRIBE % b"s")
    node.facts.facts.clear()
    changes_rights(node)
    await settle()
    node.trail.release()
    await client.until(lambda: client.heard(Refused))
    (refused,) = client.heard(Refused)
    assert (refused.id, refused.code) == ("s", FaultCode.forbidden)
    assert client.heard(Subscribed) == []
    assert len(node.trail.of("deny")) == 1


async def test_what_is_the_same_goes_on_and_nothing_is_said(node: Node) -> None:
    client = Client(node)
    await client.say(HELLO, SUBSCRIBE % b"s")
    await client.until(lambda: client.heard(Subscribed))
    node.facts.facts["u"] = ON_THE_TEAM
    changes_rights(node)
    await settle()
    touches(node, "a", "b")
    await client.until(lambda: client.heard(Patch))
    assert len(client.heard(Subscribed)) == 1
    assert client.heard(Access, Unsubscribed) == []


async def test_what_is_narrowed_is_told_again_with_the_new_name_of_the_stream(node: Node) -> None:
    node.facts.facts["u"] = ON_THE_TEAM
    client = Client(node)
    await client.say(HELLO, SUBSCRIBE % b"s")
    await client.until(lambda: client.heard(Subscribed))
    node.door.role = "nurse"
    node.rows = ["b"]
    await client.say(RENEW)
    await client.until(lambda: len(client.heard(Subscribed)) == 2)
    first, again = client.heard(Subscribed)
    assert again.id == first.id == "s"
    assert again.query != first.query
    assert [bytes(row) for row in again.rows] == [b'{"id":"b"}']
    kinds = [type(frame) for frame in client.heard(Renewed, Access, Subscribed, Transition)]
    assert kinds == [Subscribed, Transition, Renewed, Access, Subscribed, Transition]
    (welcome,), (told,) = client.heard(Welcome), client.heard(Access)
    assert told.stream != welcome.stream
    another = Client(node)
    await another.say(HELLO)
    assert another.heard(Welcome)[0].stream == told.stream, "by it the client resumes"


async def test_what_may_not_be_seen_any_more_ends_and_no_row_of_it_is_shown_from_that_commit_on(node: Node) -> None:
    node.door.role, node.facts.facts["u"] = "nurse", ON_THE_TEAM
    client = Client(node)
    await client.say(HELLO, SUBSCRIBE % b"s")
    await client.until(lambda: client.heard(Subscribed))
    node.facts.facts.clear()
    node.facts.open.clear()
    node.rows = ["a", "secret"]
    # In one commit, whose row is read before it is known what the client may see.
    changes_rights(node, Message("t", "Patient", ["p"]))
    await settle()
    touches(node, "a", "secret", "more")
    await settle()
    node.facts.open.set()
    await client.until(lambda: client.heard(Unsubscribed))
    (ended,) = client.heard(Unsubscribed)
    assert (ended.id, ended.code) == ("s", FaultCode.forbidden)
    touches(node, "still")
    await settle()
    assert client.heard(Patch, Snapshot) == []
    assert b"secret" not in bytes(client.transport.written)
    assert node.hub.engine.counts["live_queries"] == 0
    await client.say(UNSUBSCRIBE)
    assert client.heard(Refused)[-1].code is FaultCode.not_found


async def test_who_subscribes_while_in_doubt_is_shown_nothing_before_it_is_over(node: Node) -> None:
    node.door.role, node.facts.facts["u"] = "nurse", ON_THE_TEAM
    client = Client(node)
    await client.say(HELLO)
    node.facts.facts.clear()
    node.facts.open.clear()
    changes_rights(node)
    await client.say(SUBSCRIBE % b"s")
    assert client.heard(Subscribed) == []
    node.facts.open.set()
    await client.until(lambda: client.heard(Unsubscribed, Refused))
    assert client.heard(Subscribed) == []
    assert b'"rows"' not in bytes(client.transport.written)


async def test_who_is_suspended_loses_all(node: Node) -> None:
    client = Client(node)
    await client.say(HELLO, SUBSCRIBE % b"a", SUBSCRIBE % b"b")
    await client.until(lambda: len(client.heard(Subscribed)) == 2)
    node.facts.facts["u"] = Facts((Relation("suspended", "*"),))
    changes_rights(node)
    await client.until(lambda: len(client.heard(Unsubscribed)) == 2)
    assert {frame.code for frame in client.heard(Unsubscribed)} == {FaultCode.forbidden}
    await client.say(SUBSCRIBE % b"c")
    assert client.heard(Refused)[-1].code is FaultCode.forbidden
    (event,) = node.trail.of("deny")
    assert (event.query, event.policies, event.outcome) == ("rows.list", ("suspended",), 4)


# ---- what the trail has of it -----------------------------------------------------------------------------------


async def test_what_was_pushed_is_told_once_at_the_end(node: Node) -> None:
    client = Client(node)
    await client.say(HELLO, SUBSCRIBE % b"s")
    await client.until(lambda: client.heard(Subscribed))
    for number in range(3):
        touches(node, "a", f"n{number}")
        await client.until(lambda number=number: len(client.heard(Patch)) == number + 1)  # type: ignore[misc]  # at once
    assert node.trail.of("push") == []
    await client.say(UNSUBSCRIBE)
    (event,) = node.trail.of("push")
    assert (event.query, event.patient, event.count) == ("rows.list", "p", 3)
    assert event.since is not None


async def test_a_connections_end_is_that_of_its_subscriptions(node: Node) -> None:
    client = Client(node)
    await client.say(HELLO, SUBSCRIBE % b"s", SUBSCRIBE % b"silent")
    await client.until(lambda: len(client.heard(Subscribed)) == 2)
    touches(node, "b")
    await client.until(lambda: client.heard(Patch))
    client.transport.abort()
    await settle()
    assert [event.count for event in node.trail.of("push")] == [1, 1]


async def test_where_nothing_was_pushed_nothing_is_told(node: Node) -> None:
    client = Client(node)
    await client.say(HELLO, SUBSCRIBE % b"s")
    await client.until(lambda: client.heard(Subscribed))
    await client.say(UNSUBSCRIBE)
    assert node.trail.of("push") == []


async def test_what_was_pushed_before_rights_changed_counts(node: Node) -> None:
    node.facts.facts["u"] = ON_THE_TEAM
    client = Client(node)
    await client.say(HELLO, SUBSCRIBE % b"s")
    await client.until(lambda: client.heard(Subscribed))
    touches(node, "b")
    await client.until(lambda: client.heard(Patch))
    node.door.role = "nurse"
    await client.say(RENEW)
    await client.until(lambda: len(client.heard(Subscribed)) == 2)
    touches(node, "c")
    await client.until(lambda: len(client.heard(Patch)) == 2)
    await client.say(UNSUBSCRIBE)
    (event,) = node.trail.of("push")
    assert event.count == 2


async def test_what_was_pushed_by_a_query_that_failed_is_told_when_the_client_has_another(node: Node) -> None:
    client = Client(node)
    await client.say(HELLO, SUBSCRIBE % b"s")
    await client.until(lambda: client.heard(Subscribed))
    touches(node, "b")
    await client.until(lambda: client.heard(Patch))
    answer = node.reader.answer

    def fail(read: Any) -> Any:
        raise Fault(FaultCode.bad_arguments, "This can never be read.")

    node.reader.answer = fail
    touches(node, "c")
    await client.until(lambda: client.heard(Unsubscribed))
    node.reader.answer = answer
    await client.say(SUBSCRIBE % b"s")
    await client.until(lambda: len(client.heard(Subscribed)) == 2)
    (event,) = node.trail.of("push")
    assert event.count == 1


async def test_a_denial_is_in_the_trail_and_other_refusals_are_not(node: Node) -> None:
    node.door.role = "nurse"
    client = Client(node)
    await client.say(
        HELLO,
        SUBSCRIBE % b"s",
        b'{"type":"query","id":"q","query":"rows.list","args":{"patientId":"p"}}',
        b'{"type":"subscribe","id":"x","query":"Mrs Okafor","args":{}}',
        b'{"type":"subscribe","id":"y","query":"rows.list","args":{"nobody":1}}',
    )
    await client.until(lambda: len(client.heard(Refused)) == 4)
    codes = {frame.id: frame.code for frame in client.heard(Refused)}
    assert codes["s"] is codes["q"] is FaultCode.forbidden
    assert FaultCode.forbidden not in (codes["x"], codes["y"])
    assert [(event.query, event.outcome) for event in node.trail.of("deny")] == [("rows.list", 4)] * 2
    assert node.trail.of("subscribe", "query") == []


async def test_whoever_comes_in_is_in_the_trail(node: Node) -> None:
    client = Client(node)
    await client.say(HELLO)
    (event,) = node.trail.of("login")
    assert (event.user, event.roles, event.surface) == ("u", ("clinician",), "socket")


async def test_a_token_is_not_renewed_for_another_person(node: Node) -> None:
    node.door.behalf_of = "nia"
    client = Client(node)
    await client.say(HELLO)
    node.door.behalf_of = "ben"
    await client.say(RENEW)
    await client.until(lambda: client.heard(Refused))
    assert client.heard(Refused)[0].code is FaultCode.forbidden
    assert client.heard(Renewed) == []

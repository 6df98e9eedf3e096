"""What clients may see, over commits that change it: on schedules that the test makes, and with Postgres' own
snapshots."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest

from bonfire.access.facts import Facts, Relation
from bonfire.access.gate import Access
from bonfire.access.principal import Principal
from bonfire.engine.commit import Commit, Message
from bonfire.store import relations
from bonfire.store.pool import Database
from bonfire.store.reach import EVERYTHING
from bonfire.sync.admission import Admission
from bonfire_protocol.faults import Fault, FaultCode
from support.admitting import ScriptedFacts, admitting

AWAY = Fault(FaultCode.unavailable, "away")
ON_THE_TEAM = Facts((Relation("careTeam", "p1"),))
MINE = frozenset({"type:Observation", "patient:p1", "label:"})


def nurse(user: str = "nia", tenant: str = "t") -> Principal:
    return Principal(tenant, user, user.title(), frozenset({"nurse"}))


@dataclass(eq=False)
class Client:
    """A member that keeps what it is told."""

    principal: Principal = field(default_factory=nurse)
    doubts: list[int] = field(default_factory=list)
    granted: list[Access] = field(default_factory=list)

    def doubt(self, position: int) -> None:
        self.doubts.append(position)

    def regrant(self, access: Access) -> None:
        self.granted.append(access)


def changes(xid: int, *users: str, tenant: str = "t", position: int | None = None) -> Commit:
    return Commit(position or 10 * xid, xid, [Message(tenant, access=list(users))])


async def until(ready: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not ready():
            await asyncio.sleep(0.001)


async def rest() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
def facts() -> ScriptedFacts:
    return ScriptedFacts()


@pytest.fixture
async def admission(facts: ScriptedFacts) -> AsyncIterator[Admission]:
    made = admitting(facts)
    yield made
    await made.stop()


# ---- who is let in ---------------------------------------------------------------------------------------------------


async def test_facts_that_were_read_before_a_commit_could_be_seen_are_read_again(
    admission: Admission, facts: ScriptedFacts
) -> None:
    facts.facts["nia"] = ON_THE_TEAM
    facts.xid = 7
    admission.commit(changes(7, "nia"))
    admitted = asyncio.create_task(admission.admit(nurse()))
    await until(lambda: len(facts.reads) >= 3)
    assert not admitted.done()
    facts.facts["nia"], facts.xid = Facts(), 8
    assert (await admitted).facts == Facts()


async def test_a_commit_that_comes_while_facts_are_read_is_in_them(admission: Admission, facts: ScriptedFacts) -> None:
    facts.facts["nia"], facts.xid = ON_THE_TEAM, 7
    facts.open.clear()
    admitted = asyncio.create_task(admission.admit(nurse()))
    await until(lambda: facts.reads)
    admission.commit(changes(7, "nia"))
    facts.facts["nia"], facts.xid = Facts(), 8
    facts.open.set()
    assert (await admitted).facts == Facts()


async def test_nobody_waits_for_another_users_commit(admission: Admission, facts: ScriptedFacts) -> None:
    facts.xid = 7
    admission.commit(changes(7, "somebody else"))
    admission.commit(changes(8, "nia", tenant="another"))
    assert (await admission.admit(nurse())).principal.user == "nia"


async def test_all_who_wait_share_a_read(admission: Admission, facts: ScriptedFacts) -> None:
    facts.open.clear()
    first = [asyncio.create_task(admission.admit(nurse(f"n{number}"))) for number in range(20)]
    await until(lambda: facts.reads)
    second = [asyncio.create_task(admission.admit(nurse(f"m{number % 5}"))) for number in range(20)]
    await rest()
    facts.open.set()
    admitted = await asyncio.gather(*first, *second)
    assert [access.principal.user for access in admitted[20:26]] == ["m0", "m1", "m2", "m3", "m4", "m0"]
    assert sorted(map(len, facts.reads)) == [5, 20], "each user once, and no read is shared that began before the call"


async def test_who_comes_while_rights_change_without_end_is_sent_away(
    admission: Admission, facts: ScriptedFacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bonfire.sync.admission.ATTEMPTS", 3)
    facts.xid = 7
    admission.commit(changes(7, "*"))
    with pytest.raises(Fault, match="being changed") as refused:
        await admission.admit(nurse())
    assert (refused.value.code, refused.value.next) == (FaultCode.busy, "retry")
    facts.xid = 8
    await admission.admit(nurse())


@pytest.mark.parametrize("trouble", [AWAY, TimeoutError(), OSError()])
async def test_while_the_database_is_away_nobody_is_let_in(
    admission: Admission, facts: ScriptedFacts, trouble: Exception
) -> None:
    facts.trouble = trouble
    with pytest.raises(Fault) as refused:
        await admission.admit(nurse())
    assert refused.value.code is FaultCode.unavailable
    facts.trouble = None
    await admission.admit(nurse())


async def test_who_gives_up_waiting_is_in_nobodys_way(admission: Admission, facts: ScriptedFacts) -> None:
    facts.open.clear()
    gone, stays = (asyncio.create_task(admission.admit(nurse())) for _ in range(2))
    await until(lambda: facts.reads)
    gone.cancel()
    facts.open.set()
    assert (await stays).facts == Facts()


# ---- who is there ----------------------------------------------------------------------------------------------------


async def test_whose_rights_change_is_doubted_at_once_and_told_when_they_are_known(
    admission: Admission, facts: ScriptedFacts
) -> None:
    client, other = Client(), Client(nurse("bo"))
    for member in (client, other):
        admission.join(member)
    facts.xid = 7
    admission.commit(changes(7, "nia"))
    assert (client.doubts, client.granted) == ([70], [])
    await until(lambda: len(facts.reads) >= 2)
    assert client.granted == []
    facts.facts["nia"], facts.xid = ON_THE_TEAM, 8
    await until(lambda: client.granted)
    (access,) = client.granted
    assert access.reach.fits(MINE)
    assert (other.doubts, other.granted) == ([], [])


async def test_a_client_is_doubted_before_it_is_let_in(admission: Admission, facts: ScriptedFacts) -> None:
    client = Client()
    facts.open.clear()
    admission.join(client)
    admitted = asyncio.create_task(admission.admit(client.principal))
    await until(lambda: facts.reads)
    admission.commit(changes(7, "nia"))
    assert client.doubts == [70]
    facts.open.set()
    await admitted
    await until(lambda: client.granted)


async def test_a_star_is_everybody_of_the_tenant(admission: Admission) -> None:
    clients = [Client(nurse(user)) for user in ("nia", "nia", "bo")]
    stranger = Client(nurse("nia", tenant="another"))
    for member in (*clients, stranger):
        admission.join(member)
    admission.commit(changes(7, "*"))
    assert [client.doubts for client in clients] == [[70]] * 3
    await until(lambda: all(client.granted for client in clients))
    assert stranger.doubts == []


async def test_commits_that_change_no_rights_are_none_of_its_business(
    admission: Admission, facts: ScriptedFacts
) -> None:
    client = Client()
    admission.join(client)
    admission.commit(Commit(70, 7, [Message("t", "Patient", ["p1"]), Message(None)]))
    await rest()
    assert (client.doubts, facts.reads) == ([], [])


async def test_who_is_doubted_again_meanwhile_is_told_the_newest_only(
    admission: Admission, facts: ScriptedFacts
) -> None:
    client = Client()
    admission.join(client)
    facts.facts["nia"], facts.xid = ON_THE_TEAM, 8
    facts.open.clear()
    admission.commit(changes(7, "nia"))
    await until(lambda: facts.reads)
    admission.commit(changes(8, "nia"))
    facts.facts["nia"], facts.xid = Facts(), 9
    facts.open.set()
    await until(lambda: client.granted)
    await rest()
    assert client.doubts == [70, 80]
    assert {access.facts for access in client.granted} == {Facts()}


async def test_each_client_of_a_user_is_told_by_its_own_token(admission: Admission) -> None:
    as_nurse, as_clinician = Client(), Client(Principal("t", "nia", "Nia", frozenset({"clinician"})))
    for member in (as_nurse, as_clinician):
        admission.join(member)
    admission.commit(changes(7, "nia"))
    await until(lambda: as_nurse.granted and as_clinician.granted)
    assert [client.granted[0].reach.fits(MINE) for client in (as_nurse, as_clinician)] == [False, True]


async def test_who_has_left_is_told_nothing(admission: Admission, facts: ScriptedFacts) -> None:
    client = Client()
    admission.join(client)
    facts.open.clear()
    admission.commit(changes(7, "nia"))
    admission.leave(client)
    admission.leave(client)
    facts.open.set()
    admission.commit(changes(8, "*"))
    await rest()
    assert (client.doubts, client.granted) == ([70], [])


async def test_who_asks_for_it_is_told_anew(admission: Admission) -> None:
    """A renewed token says other roles."""
    client = Client()
    admission.join(client)
    client.principal = Principal("t", "nia", "Nia", frozenset({"clinician"}))
    admission.reconsider(client)
    await until(lambda: client.granted)
    assert client.granted[0].reach.fits(MINE)


async def test_who_is_doubted_stays_so_until_the_database_is_back(
    admission: Admission, facts: ScriptedFacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bonfire.sync.admission.random.uniform", lambda least, most: 0.001)
    client = Client()
    admission.join(client)
    facts.trouble = AWAY
    admission.commit(changes(7, "nia"))
    await asyncio.sleep(0.02)
    assert (client.doubts, client.granted) == ([70], [])
    facts.trouble = None
    await until(lambda: client.granted)


# ---- the stream is cut -----------------------------------------------------------------------------------------------


async def test_over_a_gap_everybody_is_doubted_and_told_when_the_stream_goes_on(
    admission: Admission, facts: ScriptedFacts
) -> None:
    client = Client()
    admission.join(client)
    admission.gap(100)
    await rest()
    assert (client.doubts, facts.reads) == ([101], []), "a snapshot from before its end could miss what was lost"
    admission.up()
    await until(lambda: client.granted)


async def test_who_was_let_in_between_a_gap_and_its_end_is_doubted_too(
    admission: Admission, facts: ScriptedFacts
) -> None:
    client = Client()
    admission.gap(100)
    admission.join(client)
    facts.facts["nia"] = ON_THE_TEAM
    await admission.admit(client.principal)
    facts.facts["nia"] = Facts()
    admission.up()
    assert client.doubts == [101]
    await until(lambda: client.granted)
    assert client.granted[0].facts == Facts()


async def test_what_was_being_read_at_a_gap_is_read_again(admission: Admission, facts: ScriptedFacts) -> None:
    client = Client()
    admission.join(client)
    facts.facts["nia"] = ON_THE_TEAM
    facts.open.clear()
    admission.commit(changes(7, "nia"))
    await until(lambda: facts.reads)
    admission.gap(100)
    admission.up()
    facts.facts["nia"] = Facts()
    facts.open.set()
    await until(lambda: client.granted)
    assert {access.facts for access in client.granted} == {Facts()}


async def test_what_was_told_before_a_gap_is_waited_for_still(admission: Admission, facts: ScriptedFacts) -> None:
    """A stream that goes on without a cut: its last commits may not be visible yet."""
    client = Client()
    admission.join(client)
    facts.facts["nia"], facts.xid = ON_THE_TEAM, 7
    admission.commit(changes(7, "nia"))
    admission.gap(100)
    admission.up()
    await until(lambda: len(facts.reads) >= 3)
    assert client.granted == []
    facts.facts["nia"], facts.xid = Facts(), 8
    await until(lambda: client.granted)
    assert client.granted[-1].facts == Facts()


async def test_another_databases_commits_are_others(admission: Admission, facts: ScriptedFacts) -> None:
    facts.xid = 7
    admission.commit(changes(7, "nia"))
    admission.start_over()
    await asyncio.wait_for(admission.admit(nurse()), 5)


# ---- policies --------------------------------------------------------------------------------------------------------

ALL = """@id("all") permit (principal, action == Action::"read", resource);
@id("admin") permit (principal, action == Action::"administer", resource);"""


async def test_a_tenants_policies_are_read_once_for_all(admission: Admission, facts: ScriptedFacts) -> None:
    facts.texts[3] = ALL
    for user in ("nia", "bo", "cy"):
        facts.facts[user] = Facts(policies=3)
    admitted = await asyncio.gather(*(admission.admit(nurse(user)) for user in ("nia", "bo", "cy", "nia")))
    assert [access.reach.everything for access in admitted] == [True] * 4
    assert facts.loads == {3: 1}


async def test_policies_that_are_not_there_permit_nothing(admission: Admission, facts: ScriptedFacts) -> None:
    facts.facts["nia"] = Facts(policies=9)
    access = await admission.admit(nurse())
    assert access.reach.nothing
    assert not access.allows_road("subscribe").allowed


async def test_broken_policies_permit_nothing_and_the_log_says_so(
    admission: Admission, facts: ScriptedFacts, caplog: pytest.LogCaptureFixture
) -> None:
    facts.texts[4] = "permit everything to everybody"
    facts.facts["nia"] = Facts(policies=4)
    with caplog.at_level(logging.ERROR):
        access = await admission.admit(nurse())
    assert access.reach.nothing
    assert "version 4 of tenant t" in caplog.text
    assert "everybody" not in caplog.text


# ---- Postgres --------------------------------------------------------------------------------------------------------


async def test_a_grant_that_is_told_before_it_can_be_seen_is_in_what_its_user_is_let_in_with(
    database: Database,
) -> None:
    admission = admitting(database)
    client = Client()
    admission.join(client)
    try:
        async with database.transaction("t", reach=EVERYTHING) as conn:
            await relations.grant(conn, user="nia", kind="breakGlass", patient="p1", source="g1", by="nia")
            xid = int(await conn.fetchval("select pg_current_xact_id()::text"))
            admission.commit(changes(xid, "nia", position=1000))
            admitted = asyncio.create_task(admission.admit(nurse()))
            await asyncio.sleep(0.1)
            assert not admitted.done()
            assert client.granted == []
        access = await asyncio.wait_for(admitted, 5)
        await until(lambda: client.granted)
        assert [relation.kind for relation in access.facts.relations] == ["breakGlass"]
        assert client.granted[-1].facts == access.facts
        assert access.reach.fits(MINE | {"label:R"})
    finally:
        await admission.stop()


async def test_facts_are_those_of_the_callers_own_tenant(database: Database) -> None:
    admission = admitting(database)
    async with database.transaction("t", reach=EVERYTHING) as conn:
        await relations.grant(conn, user="nia", kind="breakGlass", patient="p1", source="g1")
    here, there = await asyncio.gather(admission.admit(nurse()), admission.admit(nurse(tenant="another")))
    assert (len(here.facts.relations), len(there.facts.relations)) == (1, 0)
    await admission.stop()


# ---- who acts for somebody -------------------------------------------------------------------------------------------

SUSPENDED = Facts((Relation("suspended", "*"),))


def agent() -> Principal:
    return Principal("t", "bot", "Bot", frozenset({"agent"}), kind="agent", behalf_of="nia")


async def test_an_agent_is_not_let_in_for_a_person_who_is_suspended(admission: Admission, facts: ScriptedFacts) -> None:
    facts.facts["bot"] = ON_THE_TEAM
    assert (await admission.admit(agent())).reach.fits(MINE)
    facts.facts["nia"] = SUSPENDED
    assert (await admission.admit(agent())).reach.nothing


@pytest.mark.parametrize("who", ["bot", "nia", "*"])
async def test_an_agent_is_doubted_with_the_person(admission: Admission, facts: ScriptedFacts, who: str) -> None:
    facts.facts["bot"] = ON_THE_TEAM
    client = Client(agent())
    admission.join(client)
    facts.facts["nia" if who == "*" else who] = SUSPENDED
    admission.commit(changes(7, who))
    assert set(client.doubts) == {70}
    await until(lambda: client.granted)
    assert client.granted[-1].reach.nothing
    admission.leave(client)
    admission.commit(changes(8, who))
    assert set(client.doubts) == {70}


async def test_an_agent_whose_person_is_doubted_meanwhile_is_granted_nothing_yet(
    admission: Admission, facts: ScriptedFacts
) -> None:
    facts.facts["bot"], facts.xid = ON_THE_TEAM, 8
    client = Client(agent())
    admission.join(client)
    facts.open.clear()
    admission.commit(changes(7, "bot"))
    await until(lambda: facts.reads)
    admission.commit(changes(8, "nia"))
    facts.open.set()
    await until(lambda: len(facts.reads) > 5)
    assert not client.granted
    facts.facts["nia"], facts.xid = SUSPENDED, 9
    await until(lambda: client.granted)
    assert all(access.reach.nothing for access in client.granted)


async def test_who_is_doubted_is_counted_until_it_is_told(admission: Admission, facts: ScriptedFacts) -> None:
    client = Client()
    admission.join(client)
    facts.open.clear()
    admission.commit(changes(7, "nia"))
    assert admission.doubted == 1
    await until(lambda: facts.reads)
    assert (admission.doubted, admission.regrants) == (1, 0)
    facts.open.set()
    await until(lambda: client.granted)
    await rest()
    assert (admission.doubted, admission.regrants) == (0, 1)
    assert admission.reads == len(facts.reads)

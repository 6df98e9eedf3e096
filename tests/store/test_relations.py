"""Relations: what care teams, consents and grants say of users, and who is told when it changes."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from bonfire.changes.decode import decode_message
from bonfire.store import relations
from bonfire.store.migrate import MIGRATIONS, migrate
from bonfire.store.pool import Database
from bonfire.store.reach import NOTHING
from bonfire_protocol.values import Json
from support.records import of
from support.told import listen, told

AMARA = {"identifier": {"system": "urn:bonfire:user", "value": "amara"}}
BEN = {"reference": "Practitioner/ben"}


def team(*members: Json, patient: str | None = "p", **more: object) -> Json:
    """A CareTeam; a member stands for a participant without a period."""
    participants = [member if "member" in member else {"member": member} for member in members]
    return {"status": "active", "subject": patient and of(patient), "participant": participants, **more}


def until(member: Json, end: object) -> Json:
    return {"member": member, "period": {"end": end}}


def consent(*actors: Json, kind: str = "deny", **more: object) -> Json:
    provision = {"type": kind, "actor": [{"role": {}, "reference": actor} for actor in actors]}
    return {"status": "active", "patient": of("p"), "provision": provision, **more}


@pytest.fixture
async def conn(database: Database) -> AsyncIterator[asyncpg.Connection]:
    """An owner's connection to a database whose messages are kept."""
    async with database.owner() as conn:
        await listen(conn)
        yield conn


async def put(conn: asyncpg.Connection, table: str, resource: Json, *, id: str = "t", tenant: str = "north") -> None:
    await conn.execute(
        f"""insert into public.{table} (tenant, id, resource) values ($1, $2, $3)
            on conflict (tenant, id) do update set resource = excluded.resource""",
        tenant,
        id,
        json.dumps(resource),
    )


async def related(conn: asyncpg.Connection) -> list[str]:
    return [
        row["line"]
        for row in await conn.fetch(
            """select concat_ws(' ', user_id, kind, patient, source, extract(epoch from until)::bigint) as line
               from bonfire.relation where tenant = 'north' order by 1"""
        )
    ]


async def access_told(conn: asyncpg.Connection) -> list[Json]:
    """The messages since the last time that say whose access has changed."""
    return [message for message in await told(conn) if "access" in message]


async def access(conn: asyncpg.Connection) -> list[list[str]]:
    """Whose access has changed since the last time, message by message."""
    return [message["access"] for message in await access_told(conn)]


async def test_who_is_in_a_care_team_is_related_as_long_as_it_says_so(conn: asyncpg.Connection) -> None:
    await put(conn, "careteam", team(AMARA, BEN))
    assert await related(conn) == ["amara careTeam p CareTeam/t", "ben careTeam p CareTeam/t"]
    assert await access(conn) == [["amara", "ben"]]
    await put(conn, "careteam", team(AMARA, BEN, name="saved again"))
    assert await access(conn) == []
    await put(conn, "careteam", team(AMARA))
    assert await related(conn) == ["amara careTeam p CareTeam/t"]
    assert await access(conn) == [["ben"]]
    await put(conn, "careteam", team(AMARA, BEN), id="u")
    assert await access(conn) == [["amara", "ben"]]
    await conn.execute("delete from public.careteam where id = 't'")
    assert await related(conn) == ["amara careTeam p CareTeam/u", "ben careTeam p CareTeam/u"]
    assert await access(conn) == [["amara"]]
    await put(conn, "careteam", team(AMARA, BEN, patient="q"), id="u")
    assert await related(conn) == ["amara careTeam q CareTeam/u", "ben careTeam q CareTeam/u"]
    assert await access(conn) == [["amara", "ben"], ["amara", "ben"]]
    await put(conn, "careteam", team(AMARA, BEN, patient="q", status="inactive"), id="u")
    assert await related(conn) == []
    assert await access(conn) == [["amara", "ben"]]
    await put(conn, "careteam", team(AMARA, status=None), id="u")
    assert await related(conn) == ["amara careTeam p CareTeam/u"]


async def test_a_team_in_one_tenant_says_nothing_in_another(conn: asyncpg.Connection) -> None:
    await put(conn, "careteam", team(AMARA))
    await put(conn, "careteam", team(AMARA, patient="q"), tenant="south")
    await put(conn, "careteam", team(patient="q"), tenant="south")
    assert await related(conn) == ["amara careTeam p CareTeam/t"]
    assert [message["tenant"] for message in await access_told(conn)] == ["north", "south", "south"]


@pytest.mark.parametrize(
    ("participant", "expected"),
    [
        (until(AMARA, "2020-01-01"), []),
        (until(AMARA, "2999-12-31"), [f"{int(datetime(3000, 1, 1, tzinfo=UTC).timestamp())}"]),
        (until(AMARA, "2999-11"), [f"{int(datetime(2999, 12, 1, tzinfo=UTC).timestamp())}"]),
        (until(AMARA, "2999"), [f"{int(datetime(3000, 1, 1, tzinfo=UTC).timestamp())}"]),
        (until(AMARA, "2999-12-31T12:00:00+02:00"), [f"{int(datetime(2999, 12, 31, 10, tzinfo=UTC).timestamp())}"]),
        ({"member": AMARA, "period": {"start": "2020-01-01"}}, [""]),
        (until(AMARA, None), [""]),
        (until(AMARA, "soon"), []),
        (until(AMARA, {"not": "a date"}), []),
        ({"member": [AMARA, BEN]}, ["", ""]),
        ({"member": {**AMARA, **BEN}}, ["", ""]),
        ({"member": {"identifier": {"system": "urn:other", "value": "amara"}}}, []),
        ({"member": {"identifier": {"system": "urn:bonfire:user", "value": ""}}}, []),
        ({"member": {"identifier": {"system": "urn:bonfire:user", "value": 7}}}, []),
        ({"member": {"reference": "https://c/Practitioner/ben/_history/2"}}, [""]),
        ({"member": {"reference": "Patient/amara"}}, []),
        ({"member": None}, []),
    ],
)
async def test_a_member_is_one_until_the_period_ends(
    conn: asyncpg.Connection, participant: Json, expected: list[str]
) -> None:
    await put(conn, "careteam", {"status": "active", "subject": of("p"), "participant": [participant]})
    assert [line.partition("CareTeam/t")[2].strip() for line in await related(conn)] == expected


@pytest.mark.parametrize(
    "resource",
    [
        {},
        {"participant": "amara"},
        team(AMARA, patient=None),
        team(AMARA, patient="p", subject={"reference": "Group/g"}),
        team(AMARA, status="entered-in-error"),
        team(AMARA, period={"end": "2020"}),
        {"status": "active", "subject": of("p"), "participant": [7, None, [], {"member": 7}]},
    ],
)
async def test_what_is_no_team_relates_nobody(conn: asyncpg.Connection, resource: Json) -> None:
    await put(conn, "careteam", resource)
    assert await related(conn) == []


async def test_who_is_there_twice_is_there_until_the_later_end(conn: asyncpg.Connection) -> None:
    await put(conn, "careteam", team(until(AMARA, "2998-12-31"), until(AMARA, "2999-12-31")))
    (line,) = await related(conn)
    assert line.endswith(f" {int(datetime(3000, 1, 1, tzinfo=UTC).timestamp())}")
    await told(conn)
    await put(conn, "careteam", team(until(AMARA, "2999-12-31"), AMARA))
    assert await related(conn) == ["amara careTeam p CareTeam/t"]
    assert await access(conn) == [["amara"]]


async def test_a_consent_that_denies_refuses_those_that_it_names(conn: asyncpg.Connection) -> None:
    await put(conn, "consent", consent(AMARA, BEN))
    assert await related(conn) == ["amara refused p Consent/t", "ben refused p Consent/t"]
    assert await access(conn) == [["amara", "ben"]]
    await put(conn, "consent", consent(AMARA))
    assert await access(conn) == [["ben"]]
    for withdrawn in (consent(AMARA, kind="permit"), consent(AMARA, status="inactive"), {"patient": of("p")}):
        await put(conn, "consent", consent(AMARA))
        assert await related(conn) == ["amara refused p Consent/t"]
        await put(conn, "consent", withdrawn)
        assert await related(conn) == []
    provision = {"type": "deny", "actor": [{"reference": AMARA}]}
    await put(conn, "consent", {**consent(), "provision": {**provision, "period": {"end": "2020"}}})
    assert await related(conn) == []
    await put(conn, "consent", {**consent(), "provision": {**provision, "period": {"end": "some day"}}})
    assert await related(conn) == ["amara refused p Consent/t"]


async def test_many_at_once(conn: asyncpg.Connection) -> None:
    await conn.execute(
        """insert into public.careteam (tenant, id, resource)
           select 'north', 't' || n,
             jsonb_set($2::jsonb, '{participant,0,member,reference}', to_jsonb('Practitioner/u' || n))
           from generate_series(1, $1::int) n""",
        1000,
        json.dumps(team(BEN)),
    )
    (users,) = await access(conn)
    assert len(users) == 1000
    await conn.execute('update public.careteam set resource = resource || \'{"name": "x"}\'')
    assert await access(conn) == []
    await put(conn, "careteam", team(AMARA), id="t1001")
    await told(conn)
    await conn.execute("delete from public.careteam")
    assert await related(conn) == []
    assert await access(conn) == [["*"]]


async def test_grants_are_made_and_ended_and_told(database: Database, conn: asyncpg.Connection) -> None:
    soon = datetime.now(UTC) + timedelta(hours=4)
    async with database.transaction("north", reach=NOTHING) as app:
        await relations.grant(
            app, user="amara", kind="breakGlass", patient="p", source="g1", by="amara", reason="emergency", until=soon
        )
        await relations.grant(app, user="ben", kind="suspended", patient=relations.EVERYBODY, source="g2", by="root")
    assert await access(conn) == [["amara"], ["ben"]]
    async with database.transaction("north", reach=NOTHING) as app:
        assert json.loads(await relations.facts_of(app, "amara")) == {
            "relations": [{"kind": "breakGlass", "patient": "p", "until": soon.timestamp()}],
            "policies": 0,
        }
        assert await relations.end(app, user="amara", kind="breakGlass", patient="p", source="g1")
        assert not await relations.end(app, user="amara", kind="breakGlass", patient="p", source="g1")
    assert await access(conn) == [["amara"]]
    assert await related(conn) == ["ben suspended * g2"]
    async with database.transaction("south", reach=NOTHING) as app:
        assert not await relations.end(app, user="ben", kind="suspended", patient="*", source="g2")
    with pytest.raises(asyncpg.CheckViolationError):
        async with database.transaction("north", reach=NOTHING) as app:
            await relations.grant(app, user="ben", kind="suspended", patient="p", source="g3")


async def test_of_several_reasons_the_longest_counts(database: Database, conn: asyncpg.Connection) -> None:
    now = datetime.now(UTC)
    async with database.transaction("north", reach=NOTHING) as app:

        async def facts() -> Any:
            return json.loads(await relations.facts_of(app, "amara"))["relations"]

        for hours, source in ((1, "a"), (3, "b"), (-1, "c")):
            await relations.grant(
                app, user="amara", kind="breakGlass", patient="p", source=source, until=now + timedelta(hours=hours)
            )
        await relations.grant(app, user="amara", kind="breakGlass", patient="o", source="c", until=now)
        await relations.grant(app, user="amara", kind="careTeam", patient="b", source="x")
        await relations.grant(app, user="amara", kind="careTeam", patient="B", source="x")
        await relations.grant(app, user="ben", kind="careTeam", patient="A", source="x")
        longest = {"kind": "breakGlass", "patient": "p", "until": (now + timedelta(hours=3)).timestamp()}
        team_of = [{"kind": "careTeam", "patient": patient, "until": None} for patient in ("B", "b")]
        assert await facts() == [longest, *team_of]
        await relations.grant(app, user="amara", kind="breakGlass", patient="p", source="d")
        assert await facts() == [{**longest, "until": None}, *team_of]


async def test_what_has_ended_is_taken_away_and_told_once(database: Database, conn: asyncpg.Connection) -> None:
    past, future = (datetime.now(UTC) + timedelta(hours=hours) for hours in (-1, 1))
    for tenant in ("north", "south"):
        async with database.transaction(tenant, reach=NOTHING) as app:
            await relations.grant(app, user="amara", kind="breakGlass", patient="p", source="a", until=past)
            await relations.grant(app, user="ben", kind="breakGlass", patient="p", source="b", until=future)
            await relations.grant(app, user="cy", kind="careTeam", patient="p", source="c")
    await told(conn)
    async with database.owner() as other, other.transaction():
        assert await relations.end_expired(other) == 2
        # The lock is held to the transaction's end: whoever comes meanwhile leaves it to that one.
        assert await relations.end_expired(conn) == 0
    messages = await access_told(conn)
    assert sorted(messages, key=str) == [{"tenant": tenant, "access": ["amara"]} for tenant in ("north", "south")]
    assert await relations.end_expired(conn) == 0
    assert await told(conn) == []
    assert await conn.fetchval("select count(*) from bonfire.relation") == 4


async def test_the_app_can_not_keep_house_of_others(database: Database) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with database.transaction("north", reach=NOTHING) as app:
            await relations.end_expired(app)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with database.transaction("north", reach=NOTHING) as app:
            await app.execute("select bonfire.put_relations('CareTeam', '{south}', '{t}', array['{}'::jsonb])")


async def test_new_policies_are_told_to_everybody_and_never_change(
    database: Database, conn: asyncpg.Connection
) -> None:
    insert = "insert into bonfire.policy (version, text, author, reason) values ($1, 'permit', 'root', 'first')"
    async with database.transaction("north", reach=NOTHING) as app:
        await app.execute(insert, 1)
        await app.execute(insert, 2)
        assert json.loads(await relations.facts_of(app, "amara"))["policies"] == 2
    messages = await access_told(conn)
    assert messages == [{"tenant": "north", "access": ["*"]}] * 2
    assert [decode_message(json.dumps(message)).access for message in messages] == [["*"], ["*"]]
    for change in ("update bonfire.policy set text = 'forbid'", "delete from bonfire.policy"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with database.transaction("north", reach=NOTHING) as app:
                await app.execute(change)
    async with database.transaction("south", reach=NOTHING) as app:
        assert json.loads(await relations.facts_of(app, "amara"))["policies"] == 0


async def test_teams_that_were_there_before_are_related(empty_database_url: str, tmp_path: Path) -> None:
    """A database of the release before gets its relations as it is migrated, and its policies on the tables."""
    for migration in sorted(MIGRATIONS.glob("*.sql")):
        if migration.name < "0040":
            (tmp_path / migration.name).write_bytes(migration.read_bytes())
    await migrate(empty_database_url, folder=tmp_path)
    conn = await asyncpg.connect(empty_database_url)
    await put(conn, "careteam", team(AMARA, until(BEN, "2020")))
    await put(conn, "consent", consent(BEN))
    await migrate(empty_database_url)
    assert await related(conn) == ["amara careTeam p CareTeam/t", "ben refused p Consent/t"]
    await conn.close()

"""What the database itself keeps of records, whoever writes and with whatever statement."""

import asyncio

import asyncpg
import pytest

from bonfire.store.pool import Database
from bonfire.store.reach import EVERYTHING
from support.psql import PsqlError, psql


def statuses(url: str, table: str = "patient") -> list[str]:
    """Status and gender of every version, oldest first; the current ones are marked."""
    return psql(
        url,
        f"""
        select id, status, resource ->> 'gender', place
        from (select *, 'current' as place from {table} union all select *, 'history' from {table}_history) v
        order by id, txid
        """,
    ).splitlines()


def test_on_conflict_do_update_is_an_update(database_url: str) -> None:
    psql(
        database_url,
        """
        insert into patient (id, resource) values ('p', '{"gender": "male"}');
        insert into patient as p (id, txid, status, resource)
        values ('p', nextval('transaction_id_seq'), 'created', '{"gender": "other"}'),
               ('q', 1, 'created', '{"gender": "male"}')
        on conflict (tenant, id) do update
        set resource = excluded.resource, status = excluded.status, txid = excluded.txid, ts = excluded.ts;
        """,
    )
    assert statuses(database_url) == [
        "p|created|male|history",
        "p|updated|other|current",
        "q|created|male|current",
    ]


def test_merge_inserts_updates_and_deletes(database_url: str) -> None:
    psql(
        database_url,
        """
        insert into patient (id, resource) values ('p', '{"gender": "male"}'), ('q', '{"gender": "male"}');
        merge into patient using (values ('p', 'other'), ('q', null), ('r', 'female')) as given (id, gender)
        on patient.id = given.id
        when matched and gender is null then delete
        when matched then update set resource = jsonb_build_object('gender', gender)
        when not matched then insert (id, resource) values (given.id, jsonb_build_object('gender', gender));
        """,
    )
    assert statuses(database_url) == [
        "p|created|male|history",
        "p|updated|other|current",
        "q|created|male|history",
        "q|deleted|male|history",
        "r|created|female|current",
    ]


def test_truncate_is_a_delete_of_all(database_url: str) -> None:
    psql(
        database_url,
        """
        insert into patient (id, tenant, resource)
        values ('p', 'north', '{"gender": "male"}'), ('q', 'south', '{"gender": "female"}');
        truncate patient;
        """,
    )
    assert statuses(database_url) == [
        "p|created|male|history",
        "p|deleted|male|history",
        "q|created|female|history",
        "q|deleted|female|history",
    ]


def test_each_update_of_one_transaction_is_a_version(database_url: str) -> None:
    psql(
        database_url,
        """
        begin;
        insert into "group" (id, resource) values ('g', '{"gender": "1"}');
        update "group" set resource = '{"gender": "2"}';
        update "group" set resource = resource;
        delete from "group";
        insert into "group" (id, resource) values ('g', '{"gender": "3"}');
        commit;
        """,
    )
    assert psql(
        database_url,
        "select status, resource ->> 'gender' from group_history union all"
        " select status, resource ->> 'gender' from \"group\" order by 2, 1",
    ).splitlines() == ["created|1", "updated|2", "updated|2", "deleted|2", "recreated|3"]


def test_many_rows_in_one_statement(database_url: str) -> None:
    psql(
        database_url,
        """
        insert into observation (id, resource) select 'o' || n, '{}' from generate_series(1, 3000) n;
        update observation set resource = '{"status": "final"}';
        delete from observation where id like 'o1%';
        """,
    )
    assert psql(database_url, "select status, count(*) from observation group by 1").splitlines() == ["updated|1889"]
    assert psql(
        database_url, "select status, count(*), count(distinct txid) from observation_history group by 1 order by 1"
    ).splitlines() == ["created|3000|3000", "updated|1111|1111", "deleted|1111|1111"]


def test_a_version_that_rolls_back_was_never_there(database_url: str) -> None:
    psql(
        database_url,
        """
        insert into patient (id, resource) values ('p', '{"gender": "male"}');
        begin;
        update patient set resource = '{}';
        delete from patient;
        rollback;
        """,
    )
    assert statuses(database_url) == ["p|created|male|current"]


def test_what_a_statement_sets_is_kept_where_it_may(database_url: str) -> None:
    psql(
        database_url,
        """
        set timezone = 'UTC';
        insert into patient (id, txid, ts, cts, resource)
        values ('p', 500, '2020-01-02T00:00Z', '2020-01-01T00:00Z', '{}');
        update patient set resource = '{"gender": "male"}', txid = 600, ts = '2020-01-03T00:00Z';
        """,
    )
    rows = psql(
        database_url,
        "set timezone = 'UTC'; select txid, ts, cts from patient_history union all select txid, ts, cts from patient",
    )
    assert rows.splitlines() == [
        "500|2020-01-02 00:00:00+00|2020-01-01 00:00:00+00",
        "600|2020-01-03 00:00:00+00|2020-01-01 00:00:00+00",
    ]


def test_a_version_is_never_older_than_the_one_it_replaces(database_url: str) -> None:
    psql(
        database_url,
        """
        insert into patient (id, txid, resource) values ('p', 9000, '{}');
        update patient set txid = 5;
        update patient set resource = '{}';
        delete from patient;
        insert into patient (id, txid, resource) values ('p', 6, '{}');
        """,
    )
    assert psql(
        database_url, "select txid from patient_history union all select txid from patient order by 1"
    ).splitlines() == ["9000", "9001", "9002", "9003", "9004"]


def test_the_creation_time_outlives_updates_and_deletion(database_url: str) -> None:
    psql(
        database_url,
        """
        insert into patient (id, ts, resource) values ('p', '2020-01-01', '{}');
        update patient set resource = '{"gender": "male"}';
        delete from patient;
        insert into patient (id, resource) values ('p', '{}');
        """,
    )
    assert (
        psql(
            database_url,
            "select count(distinct cts), count(*)"
            " from (select cts from patient union all select cts from patient_history) v",
        )
        == "1|4"
    )


def test_columns_can_not_be_spoofed(database_url: str) -> None:
    psql(
        database_url,
        """
        insert into patient (id, resource_type, resource, xid) values ('p', 'Person', '{}', '1');
        update patient set resource_type = 'Person', xid = '1', status = 'recreated';
        """,
    )
    assert psql(
        database_url,
        "select resource_type, status, xid > '1' from patient union all"
        " select resource_type, status, xid > '1' from patient_history order by 2",
    ).splitlines() == ["Patient|created|t", "Patient|updated|t"]


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("update patient set id = 'q'", "the id and the tenant of a record never change"),
        ("update patient set tenant = 'south'", "the id and the tenant of a record never change"),
        ("update patient set status = 'deleted'", "a current record can not have the status deleted"),
        ("insert into patient (id, status, resource) values ('q', 'deleted', '{}')", "can not have the status deleted"),
        ("update patient set resource = '[]'", "a resource is a JSON object, and this is array"),
        ('update patient set resource = \'{"resourceType": "Person"}\'', "the table of Patient takes no resource"),
        ("update patient set resource = '{\"meta\": null}'", "the meta of a resource is a JSON object"),
        ("update patient set resource = null", "violates not-null constraint"),
        ("insert into patient (id) values ('q')", "violates not-null constraint"),
        ("insert into patient_history (id, txid, resource) values ('old', 1, '{}')", "violates not-null constraint"),
    ],
)
def test_what_can_not_be_is_refused_with_the_reason(database_url: str, statement: str, reason: str) -> None:
    psql(database_url, "insert into patient (id, resource) values ('p', '{\"gender\": \"male\"}')")
    with pytest.raises(PsqlError, match=reason):
        psql(database_url, statement)
    assert statuses(database_url) == ["p|created|male|current"]


def test_history_of_elsewhere_can_be_loaded(database_url: str) -> None:
    psql(
        database_url,
        """
        insert into patient_history (id, txid, ts, cts, status, resource) values
          ('p', 10, '2020-01-01', '2020-01-01', 'created', '{"gender": "1"}'),
          ('p', 14, '2020-01-04', '2020-01-01', 'deleted', '{"gender": "3"}'),
          ('p', 12, '2020-01-02', '2020-01-01', 'updated', '{"gender": "2"}');
        insert into patient (id, txid, ts, status, resource)
          values ('p', 20, '2020-01-05', 'updated', '{"gender": "4"}');
        """,
    )
    assert statuses(database_url) == [
        "p|created|1|history",
        "p|updated|2|history",
        "p|deleted|3|history",
        "p|updated|4|current",
    ]


def test_psql_writes_for_the_tenant_that_it_names(database_url: str) -> None:
    psql(
        database_url,
        """
        insert into patient (id, resource) values ('p', '{}');
        set bonfire.tenant = 'north';
        insert into patient (id, resource) values ('p', '{}');
        insert into patient_history select * from patient where tenant = 'north';
        update patient set resource = '{"gender": "male"}' where tenant = 'north';
        """,
    )
    assert psql(database_url, "select tenant, status from patient order by 1").splitlines() == [
        "default|created",
        "north|updated",
    ]
    assert psql(database_url, "select tenant, status from patient_history") == "north|created"


async def test_the_app_role_writes_no_history(database: Database) -> None:
    for statement in (
        "insert into patient_history (id, txid, status, resource) values ('p', 1, 'created', '{}')",
        "update patient_history set resource = '{}'",
        "delete from patient_history",
        "truncate patient",
        "drop table patient",
        "create table mine (id text)",
        "alter table patient disable row level security",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with database.transaction("default", reach=EVERYTHING) as conn:
                await conn.execute(statement)


async def test_the_app_role_can_not_write_for_another_tenant(database: Database) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        async with database.transaction("north", reach=EVERYTHING) as conn:
            await conn.execute("insert into patient (id, tenant, resource) values ('p', 'south', '{}')")
    async with database.transaction("south", reach=EVERYTHING) as conn:
        await conn.execute("insert into patient (id, resource) values ('p', '{}')")
    async with database.transaction("north", reach=EVERYTHING) as conn:
        assert await conn.execute("update patient set resource = '{}'") == "UPDATE 0"
        assert await conn.execute("delete from patient") == "DELETE 0"
        assert await conn.fetchval("select count(*) from patient") == 0


async def test_every_table_with_a_tenant_that_the_app_role_reaches_has_row_level_security(database: Database) -> None:
    async with database.owner() as conn:
        bare = await conn.fetch(
            """
            select c.oid::regclass::text as name from pg_class c
            join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant' and not a.attisdropped
            where c.relkind in ('r', 'p')
              and c.relnamespace not in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
              and has_table_privilege('bonfire_app', c.oid, 'select, insert, update, delete, truncate')
              and (not c.relrowsecurity or not exists (select from pg_policy where polrelid = c.oid))
            """
        )
    assert [row["name"] for row in bare] == []


async def test_a_delete_and_an_update_of_one_record_at_once(database: Database) -> None:
    async with database.owner() as conn:
        await conn.execute("insert into patient (id, resource) select 'p' || n, '{}' from generate_series(1, 40) n")

    async def write(statement: str) -> None:
        for n in range(1, 41):
            async with database.transaction("default", reach=EVERYTHING) as conn:
                await conn.execute(statement, f"p{n}")

    await asyncio.gather(
        write('update patient set resource = \'{"gender": "male"}\' where id = $1'),
        write("delete from patient where id = $1"),
        write('update patient set resource = \'{"gender": "female"}\' where id = $1'),
    )
    async with database.owner() as conn:
        assert await conn.fetchval("select count(*) from patient") == 0
        versions = await conn.fetch(
            "select id, array_agg(status::text order by txid) as s from patient_history group by id"
        )
    assert len(versions) == 40
    for row in versions:
        assert row["s"][0] == "created"
        assert row["s"][-1] == "deleted"
        assert set(row["s"][1:-1]) <= {"updated"}

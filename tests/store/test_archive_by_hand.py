"""What people who archive by hand type into psql leaves the rows that the database leaves by itself."""

import pytest

from support.psql import psql

# Versions of one record, oldest first, without what differs from run to run (id, numbers, times); `kept` says that the
# creation time is that of the first version, `order` that number and time go up together with the rows, `commits` that
# each version bears the transaction that wrote it (here one each).
VERSIONS = """
with versions as (
  select 'history' as place, * from patient_history where id = '{id}'
  union all
  select 'current', * from patient where id = '{id}'
)
select place, resource_type, status, resource, tenant,
       cts = (select min(ts) from versions) as kept,
       txid > coalesce(lag(txid) over w, 0) and ts > coalesce(lag(ts) over w, '-infinity') as "order",
       xid > coalesce(lag(xid) over w, '0') and xid < pg_snapshot_xmax(pg_current_snapshot()) as commits
from versions
window w as (order by txid)
order by txid;
"""

CREATE = """insert into patient (id, resource) values ('{id}', '{{"gender": "female", "active": true}}');"""
UPDATE = """update patient set resource = '{{"gender": "female", "active": false}}' where id = '{id}';"""
DELETE = "delete from patient where id = '{id}';"

HAND_CREATE = """
INSERT INTO patient (id, txid, status, resource)
VALUES ('{id}', nextval('transaction_id_seq'), 'created', '{{"gender": "female", "active": true}}');
"""
HAND_COPY = """
COPY patient (id, txid, status, resource) FROM STDIN;
{id}\t4000000\tcreated\t{{"gender": "female", "active": true}}
\\.
"""
HAND_ARCHIVE = "INSERT INTO patient_history SELECT * FROM patient WHERE id = '{id}';"
HAND_ARCHIVE_COLUMNS = """
INSERT INTO patient_history (id, txid, ts, resource_type, status, resource, cts)
SELECT id, txid, ts, resource_type, status, resource, cts FROM patient WHERE id = '{id}';
"""
HAND_ARCHIVE_FEW_COLUMNS = """
INSERT INTO patient_history (id, txid, status, resource)
SELECT id, txid, status, resource FROM patient WHERE id = '{id}';
"""
HAND_UPDATE = """
UPDATE patient
SET txid = nextval('transaction_id_seq'), ts = current_timestamp, status = 'updated',
    resource = '{{"gender": "female", "active": false}}'
WHERE id = '{id}';
"""
HAND_TOMBSTONE = """
INSERT INTO patient_history (id, txid, status, resource)
SELECT id, nextval('transaction_id_seq'), 'deleted', resource FROM patient WHERE id = '{id}';
"""
HAND_TOMBSTONE_VALUES = """
INSERT INTO patient_history (id, txid, status, resource)
VALUES ('{id}', nextval('transaction_id_seq'), 'deleted', '{{}}');
"""
HAND_TOMBSTONE_NUMBERED_TOO_LOW = """
INSERT INTO patient_history (id, txid, status, resource) SELECT id, txid - 1, 'deleted', resource
FROM patient WHERE id = '{id}';
"""
HAND_TOMBSTONE_NO_RESOURCE = """
INSERT INTO patient_history (id, txid, status) VALUES ('{id}', nextval('transaction_id_seq'), 'deleted');
"""
HAND_TOMBSTONE_ALL_COLUMNS = """
INSERT INTO patient_history
SELECT id, nextval('transaction_id_seq'), ts, cts, resource_type, 'deleted', resource, tenant, xid
FROM patient WHERE id = '{id}';
"""
HAND_RECREATE = """
INSERT INTO patient (id, txid, status, resource)
VALUES ('{id}', nextval('transaction_id_seq'), 'recreated', '{{"gender": "female", "active": true}}');
"""

ROADS = {
    "create": (HAND_CREATE, CREATE),
    "copy": (HAND_COPY, CREATE),
    "archive, update": (CREATE + HAND_ARCHIVE + HAND_UPDATE, CREATE + UPDATE),
    "archive, update in one transaction": (
        CREATE + "BEGIN;" + HAND_ARCHIVE + HAND_UPDATE + "COMMIT;",
        CREATE + UPDATE,
    ),
    "archive, plain update": (CREATE + HAND_ARCHIVE + UPDATE, CREATE + UPDATE),
    "update without archiving": (CREATE + HAND_UPDATE, CREATE + UPDATE),
    "archive twice": (
        CREATE + HAND_ARCHIVE + HAND_ARCHIVE.replace(";", " ON CONFLICT DO NOTHING;") + HAND_UPDATE,
        CREATE + UPDATE,
    ),
    "archive by columns, update": (CREATE + HAND_ARCHIVE_COLUMNS + HAND_UPDATE, CREATE + UPDATE),
    "archive by few columns, update": (CREATE + HAND_ARCHIVE_FEW_COLUMNS + HAND_UPDATE, CREATE + UPDATE),
    "two updates, each archived": (
        CREATE + (HAND_ARCHIVE + HAND_UPDATE) * 2,
        CREATE + UPDATE * 2,
    ),
    "archive and update in one statement": (
        CREATE + "WITH archived AS (" + HAND_ARCHIVE.rstrip(";") + ")" + HAND_UPDATE,
        CREATE + UPDATE,
    ),
    "archive, tombstone, delete": (CREATE + HAND_ARCHIVE + HAND_TOMBSTONE + DELETE, CREATE + DELETE),
    "archive, tombstone, delete in one transaction": (
        CREATE + "BEGIN;" + HAND_ARCHIVE + HAND_TOMBSTONE + DELETE + "COMMIT;",
        CREATE + DELETE,
    ),
    "archive, tombstone of values, delete": (CREATE + HAND_ARCHIVE + HAND_TOMBSTONE_VALUES + DELETE, CREATE + DELETE),
    "archive, tombstone without resource, delete": (
        CREATE + HAND_ARCHIVE + HAND_TOMBSTONE_NO_RESOURCE + DELETE,
        CREATE + DELETE,
    ),
    "archive, tombstone of all columns, delete": (
        CREATE + HAND_ARCHIVE + HAND_TOMBSTONE_ALL_COLUMNS + DELETE,
        CREATE + DELETE,
    ),
    "archive, tombstone numbered too low, delete": (
        CREATE + HAND_ARCHIVE + HAND_TOMBSTONE_NUMBERED_TOO_LOW + DELETE,
        CREATE + DELETE,
    ),
    "tombstone before the archive": (CREATE + HAND_TOMBSTONE + HAND_ARCHIVE + DELETE, CREATE + DELETE),
    "tombstone only, delete": (CREATE + HAND_TOMBSTONE + DELETE, CREATE + DELETE),
    "archive only, delete": (CREATE + HAND_ARCHIVE + DELETE, CREATE + DELETE),
    "tombstone bearing the current number, delete": (
        CREATE + HAND_TOMBSTONE.replace("nextval('transaction_id_seq')", "txid") + DELETE,
        CREATE + DELETE,
    ),
    "update, then delete, all by hand": (
        HAND_CREATE + HAND_ARCHIVE + HAND_UPDATE + HAND_ARCHIVE + HAND_TOMBSTONE + DELETE,
        CREATE + UPDATE + DELETE,
    ),
    "delete, recreate by hand": (
        HAND_CREATE + HAND_ARCHIVE + HAND_TOMBSTONE + DELETE + HAND_RECREATE,
        CREATE + DELETE + CREATE,
    ),
    "delete, create by hand": (
        HAND_CREATE + HAND_ARCHIVE + HAND_TOMBSTONE + DELETE + HAND_CREATE,
        CREATE + DELETE + CREATE,
    ),
    "delete, recreate, delete by hand": (
        HAND_CREATE + HAND_ARCHIVE + HAND_TOMBSTONE + DELETE + HAND_RECREATE + HAND_ARCHIVE + HAND_TOMBSTONE + DELETE,
        CREATE + DELETE + CREATE + DELETE,
    ),
}


@pytest.mark.parametrize("road", ROADS)
def test_by_hand_leaves_the_rows_that_the_database_leaves(database_url: str, road: str) -> None:
    by_hand, by_database = ROADS[road]
    psql(database_url, by_hand.format(id="hand"))
    psql(database_url, by_database.format(id="kept"))

    expected = psql(database_url, VERSIONS.format(id="kept"))
    assert psql(database_url, VERSIONS.format(id="hand")) == expected
    assert expected.splitlines(), "there are rows to compare"
    for line in expected.splitlines():
        assert line.endswith("|t|t|t"), line


def test_a_statement_over_many_rows_leaves_one_version_and_one_tombstone_each(database_url: str) -> None:
    psql(
        database_url,
        """
        INSERT INTO patient (id, txid, status, resource)
          SELECT gen_random_uuid(), nextval('transaction_id_seq'), 'created', '{"active": true}'
          FROM generate_series(1, 500);
        INSERT INTO patient_history SELECT * FROM patient WHERE resource @> '{"active": true}';
        UPDATE patient SET txid = nextval('transaction_id_seq'), status = 'updated', resource = '{"active": false}';
        INSERT INTO patient_history SELECT * FROM patient;
        INSERT INTO patient_history (id, txid, status, resource)
          SELECT id, nextval('transaction_id_seq'), 'deleted', resource FROM patient;
        DELETE FROM patient;
        """,
    )
    assert psql(database_url, "SELECT count(*) FROM patient") == "0"
    assert psql(
        database_url,
        "SELECT status, count(*), count(DISTINCT id), count(DISTINCT txid) FROM patient_history GROUP BY 1 ORDER BY 1",
    ).splitlines() == ["created|500|500|500", "updated|500|500|500", "deleted|500|500|500"]


def test_a_generated_id_and_ten_thousand_copied_rows(database_url: str) -> None:
    psql(
        database_url,
        "INSERT INTO patient (id, txid, status, resource)"
        " VALUES (gen_random_uuid(), nextval('transaction_id_seq'), 'created', '{\"gender\": \"male\"}');",
    )
    lines = "".join(f'copied-{n}\t{n + 1000}\tcreated\t{{"multipleBirthInteger": {n}}}\n' for n in range(10_000))
    psql(database_url, f"COPY patient (id, txid, status, resource) FROM STDIN;\n{lines}\\.\n")

    assert psql(database_url, "SELECT count(*), count(DISTINCT xid), max(txid) FROM patient") == "10001|2|10999"
    assert psql(database_url, "SELECT count(*) FROM patient_history") == "0"


def test_a_tombstone_that_no_delete_followed_does_not_stand_for_a_later_one(database_url: str) -> None:
    psql(database_url, (CREATE + HAND_TOMBSTONE + UPDATE + DELETE).format(id="p"))
    assert psql(database_url, "SELECT status FROM patient_history ORDER BY txid").splitlines() == [
        "created",
        "deleted",
        "updated",
        "deleted",
    ]


def test_an_archived_version_is_the_version_itself(database_url: str) -> None:
    psql(
        database_url,
        CREATE.format(id="p")
        + """INSERT INTO patient_history (id, txid, status, resource)
             SELECT id, txid, 'updated', '{"gender": "unknown"}' FROM patient;"""
        + UPDATE.format(id="p"),
    )
    assert psql(database_url, "SELECT status, resource ->> 'gender' FROM patient_history") == "created|female"

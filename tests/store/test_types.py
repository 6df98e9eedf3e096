"""The R4 types: one list in Python, the same in the database."""

import pytest

from bonfire.store.pool import Database
from bonfire.store.types import RESOURCE_TYPES, table_of
from bonfire_protocol.faults import Fault, FaultCode


def test_all_types_of_r4_and_no_other() -> None:
    assert len(RESOURCE_TYPES) == 146
    assert {"Patient", "Observation", "DocumentReference", "Group", "List", "Media", "Parameters"} <= RESOURCE_TYPES
    # Abstract types, and types of R4B, R5 and other dialects.
    assert not {"Resource", "DomainResource", "Citation", "SubscriptionTopic", "Transport", "Project"} & RESOURCE_TYPES


def test_a_tables_name_is_the_type_in_lower_case() -> None:
    assert table_of("DocumentReference") == "documentreference"


@pytest.mark.parametrize("name", ["", "patient", "Resource", 'Patient"; drop table patient; --', "patient_history"])
def test_what_is_no_type_has_no_table(name: str) -> None:
    with pytest.raises(Fault) as fault:
        table_of(name)
    assert (fault.value.code, fault.value.field) == (FaultCode.unsupported, "resourceType")


async def test_the_database_has_the_same_types(database: Database) -> None:
    async with database.owner() as conn:
        tables = await conn.fetch(
            "select c.relname::text as name, pg_get_expr(d.adbin, d.adrelid) as default from pg_class c"
            " join pg_attribute a on a.attrelid = c.oid and a.attname = 'resource_type'"
            " join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum"
            " where c.relnamespace = 'public'::regnamespace and c.relkind = 'r'"
        )
    expected = {}
    for resource_type in RESOURCE_TYPES:
        for table in (table_of(resource_type), f"{table_of(resource_type)}_history"):
            expected[table] = f"'{resource_type}'::text"
    assert {row["name"]: row["default"] for row in tables} == expected

"""A read model's declaration as SQL: its table, its rows from their sources, its row's JSON, its order.

There is one generator of each: what triggers write, what a rebuild fills, what a snapshot reads and what the check
recomputes are the same texts, so that they can't disagree.
"""

import hashlib
import json
from collections.abc import Mapping
from functools import cache

from bonfire.store.identifiers import quote_identifier, quote_literal
from bonfire.store.model import (
    APP_STATE,
    LONGEST_KEY_BYTES,
    LONGEST_ORDER_CHARACTERS,
    ColumnType,
    Order,
    ReadModel,
    Source,
    snake_case,
)
from bonfire.store.statements import fill, read_statements

COMPILER = 2
"""Raised when the same declaration compiles to something else: every model is then rebuilt."""

SETTINGS = {
    "search_path": "pg_catalog, pg_temp",
    "timezone": "UTC",
    "datestyle": "ISO, YMD",
    "intervalstyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "standard_conforming_strings": "on",
}
"""What an expression could depend on besides its row: the same in triggers, rebuilds and checks, whoever writes."""

FACETS = "facets"
"""The column that no model may declare: what a policy may ask of a row (docs/access.md)."""

_TYPES: dict[ColumnType, str] = {
    "text": "text",
    "timestamptz": "timestamptz",
    "date": "date",
    "integer": "bigint",
    "numeric": "numeric",
    "boolean": "boolean",
    "jsonb": "jsonb",
}


@cache
def _templates() -> dict[str, str]:
    return {**read_statements("read_models"), **read_statements("read_model_triggers")}


def render(template: str, **parts: str) -> str:
    """The named template of `sql/read_model*.sql`, with its fields filled in; what is filled in is not read again."""
    return fill(_templates()[template], **parts)


def assignments(settings: Mapping[str, str]) -> list[str]:
    """`name = value` for each setting, as SET takes it."""
    # A search path is a list of names, not one string.
    return [f"{name} = {value if name == 'search_path' else quote_literal(value)}" for name, value in settings.items()]


def set_local(settings: Mapping[str, str]) -> str:
    """The statements that make these settings for the rest of a transaction."""
    return ";".join(f"set local {assignment}" for assignment in assignments(settings))


def table(model: ReadModel) -> str:
    """The table that screens read."""
    return f"read.{quote_identifier(snake_case(model.name))}"


def candidates(model: ReadModel) -> str:
    """Where a latest-per-key model keeps all rows of all its groups: what comes next when the latest one goes."""
    return f"read_base.{quote_identifier(snake_case(model.name))}"


def build_table(model: ReadModel) -> str:
    """Where the model's table is built, out of the readers' way."""
    return f"read_build.{quote_identifier(snake_case(model.name))}"


def column(name: str) -> str:
    """A declared column's quoted name."""
    return quote_identifier(snake_case(name))


def column_list(model: ReadModel, alias: str = "") -> str:
    """`tenant, id`, the declared columns and the facets, of one row."""
    prefix = f"{alias}." if alias else ""
    return ", ".join(f"{prefix}{name}" for name in ("tenant", "id", *kept_columns(model)))


def kept_columns(model: ReadModel) -> tuple[str, ...]:
    """What a row keeps besides its tenant and id: the declared columns, and the facets of the record that it was made
    from, which say who may see it and are no part of its JSON."""
    return (*map(column, model.columns), FACETS)


def source_table(source: Source) -> str:
    """The table that is written when this source changes."""
    return "bonfire.app_state" if source.table == APP_STATE else f"public.{quote_identifier(source.table.lower())}"


def source_id(model: ReadModel, source: Source) -> str:
    """The id of source row `r` among the rows of all the model's sources."""
    own = "r.collection || '/' || r.id" if source.of == APP_STATE else "r.id"
    return own if len(model.sources) == 1 else f"{quote_literal(source.of + '/')} || {own}"


def in_scope(source: Source) -> str:
    """Whether row `r` of the source's table is the source's at all: only then may a model's row carry its id."""
    return "true" if source.collection is None else f"r.collection = {quote_literal(source.collection)}"


def nulls(model: ReadModel) -> dict[str, str]:
    """A null of each kept column's type."""
    return {column(name): f"null::{_TYPES[kind]}" for name, kind in model.columns.items()} | {FACETS: "null::text[]"}


def source_facets(source: Source) -> str:
    """The facets of source row `r`."""
    if source.table == APP_STATE:
        return "bonfire.app_state_facets(r.collection, r.owner, r.patient)"
    return f"bonfire.facets({quote_literal(source.table)}, r.id, r.resource)"


def projection(model: ReadModel, source: Source, rows: str) -> str:
    """The model's rows for the source rows in `rows` (a table, or a table's alias of that shape), with `keep`."""
    ordered = {term.column for term in (*model.order, *model.latest_order)} - {*model.key, *model.latest_by}
    return render(
        "projection",
        id=f'({source_id(model, source)}) collate "C"',
        where=source.where,
        rows=rows,
        scope="" if source.collection is None else f" where {in_scope(source)}",
        kept=_kept(model),
        facets=source_facets(source),
        raw="".join(
            f",\n    case when r.belongs then ({source.select[name]}\n    )::{_TYPES[kind]} end{_collation(kind)}"
            f" as {column(name)}"
            if name in source.select
            else f",\n    null::{_TYPES[kind]}{_collation(kind)} as {column(name)}"
            for name, kind in model.columns.items()
        ),
        checked="".join(
            f", {_checked(column(name), kind, name in ordered)} as {column(name)}"
            for name, kind in model.columns.items()
        ),
    )


def source_rows(model: ReadModel) -> str:
    """The rows of all sources, straight from their tables, with `keep`: the truth that a table must equal."""
    return "\nunion all\n".join(projection(model, source, source_table(source)) for source in model.sources)


def recomputed(model: ReadModel) -> str:
    """The rows that the model's table must hold, from its sources alone."""
    if model.latest_by:
        return latest(model, source_rows(model))
    return render("kept", columns=column_list(model, "p"), rows=source_rows(model))


def latest(model: ReadModel, rows: str) -> str:
    """Of `rows`, the first of each group."""
    return render(
        "latest",
        columns="".join(f", p.{name}" for name in kept_columns(model)),
        group_id=group_id(model, "c"),
        rows=rows,
        order=order_terms(model.latest_order, "p"),
    )


def group_id(model: ReadModel, alias: str) -> str:
    """The id of a group: the values of `latest_by`, joined so that different groups have different ids."""
    values = [f"{alias}.{column(name)}" for name in model.latest_by]
    if len(values) == 1:
        return values[0]
    return " || '/' || ".join(f"replace(replace({value}, '%', '%25'), '/', '%2F')" for value in values)


def order_terms(terms: tuple[Order, ...], alias: str) -> str:
    """ORDER BY terms, the id last. An index that lists the same terms gives the rows in this order."""
    prefix = f"{alias}." if alias else ""
    spelled = [f"{prefix}{column(term.column)}{' desc' if term.descending else ''} nulls last" for term in terms]
    return ", ".join([*spelled, f"{prefix}id"])


def key_text(model: ReadModel, alias: str) -> str:
    """The key as the messages spell it: the key columns' values joined with U+001F."""
    return " || chr(31) || ".join(f"{alias}.{column(name)}" for name in model.key) or "text ''"


def row_json(model: ReadModel, alias: str) -> str:
    """A row's JSON text, from a row of the model's table or of its projection."""
    fields = ", ".join(
        f'bonfire.instant_text({alias}.{column(name)}) as "{name}"'
        if kind == "timestamptz"
        else f'{alias}.{column(name)} as "{name}"'
        for name, kind in model.columns.items()
    )
    return render("row_json", id=f"{alias}.id", fields=fields)


def differs(model: ReadModel, one: str, other: str) -> str:
    """Whether two rows differ in a byte: `=` would take 1.0 for 1.00."""
    return " *<> ".join(
        f"(row({', '.join(f'{alias}.{name}' for name in kept_columns(model))})::record)" for alias in (one, other)
    )


def create_table(model: ReadModel, name: str) -> str:
    """The table `name` for the model's rows."""
    columns = "".join(f", {column(name)} {_TYPES[kind]}{_collation(kind)}" for name, kind in model.columns.items())
    # App state is saved again and again: with room on its page a row stays there, and the page cleans itself.
    fill = "50" if all(source.table == APP_STATE for source in model.sources) else "90"
    return render("table", build=name, columns=columns, fill=fill)


def drop_tables(model_name: str) -> str:
    """The statement that drops all tables of the model of this name."""
    name = quote_identifier(snake_case(model_name))
    return f"drop table if exists read.{name}, read_base.{name}, read_build.{name}"


def fill_from_sources(model: ReadModel, name: str) -> list[str]:
    """Statements that fill table `name` with the rows of each source."""
    return [
        render("fill", table=name, columns=column_list(model), projection=rows)
        for rows in (projection(model, source, source_table(source)) for source in model.sources)
    ]


def fill_latest(model: ReadModel, name: str) -> str:
    """The statement that fills table `name` with the first row of each group of candidates."""
    rows = render("candidates", columns=column_list(model), table=candidates(model))
    return render("fill", table=name, columns=column_list(model), projection=latest(model, rows))


def finish_table(model: ReadModel) -> str:
    """The statements that make the filled table the one that screens read."""
    terms = ", ".join(["tenant", *map(column, model.key), order_terms(model.order, "")])
    listed = bool(model.key or model.order)
    comments = "".join(
        f";\ncomment on column {build_table(model)}.{column(name)} is {quote_literal(name)}" for name in model.columns
    )
    return render(
        "finish_table",
        build=build_table(model),
        table=table(model),
        # Without a key and an order the primary key is the list's index.
        indexes=render("list_index", build=build_table(model), terms=terms) if listed else "",
        description=quote_literal(model.description or f"Read model {model.name}.") + comments,
    )


def finish_candidates(model: ReadModel) -> str:
    """The statements that index the filled candidates of a latest-per-key model."""
    terms = ", ".join(["tenant", *map(column, model.latest_by), order_terms(model.latest_order, "")])
    return render("finish_candidates", table=candidates(model), terms=terms)


def select_rows_sql(model: ReadModel) -> str:
    """The snapshot of one key's rows: $1 the key's text, $2 how many at most. One column, `row`: the row's JSON exactly
    as messages spell it, in the model's order. Run it inside a tenant's transaction."""
    keys = [f"t.{column(name)}" for name in model.key]
    if len(keys) > 1:
        matches = [f"{key} = split_part($1::text, chr(31), {part})" for part, key in enumerate(keys, 1)]
    else:
        matches = [f"{key} = $1::text" for key in keys] or ["$1::text = ''"]
    return render(
        "snapshot",
        row=row_json(model, "t"),
        table=table(model),
        key=" and ".join(matches),
        order=order_terms(model.order, "t"),
    )


def differences_sql(model: ReadModel) -> str:
    """Where the model's table is not what its sources give: (tenant, id, kind, total), at most $1 rows."""
    return render("differences", table=table(model), rows=recomputed(model), differs=differs(model, "t", "p"))


def fingerprint(model: ReadModel) -> str:
    """A hash of all that decides what the model's table looks like and holds."""
    declared = [
        COMPILER,
        SETTINGS,
        model.name,
        list(model.columns.items()),
        [[source.of, sorted(source.select.items()), source.where] for source in model.sources],
        model.key,
        [[term.column, term.descending] for term in model.order],
        model.latest_by,
        [[term.column, term.descending] for term in model.latest_order],
    ]
    return hashlib.sha256(json.dumps(declared).encode()).hexdigest()


def _collation(kind: ColumnType) -> str:
    # By code point, so that a text's order is the same in every database and in the engine.
    return ' collate "C"' if kind == "text" else ""


def _kept(model: ReadModel) -> str:
    conditions = ["q.belongs"]
    for name in dict.fromkeys((*model.key, *model.latest_by)):
        # Null and false alike for a null.
        conditions.append(f"octet_length(q.{column(name)}) <= {LONGEST_KEY_BYTES}")
        if len(model.key) > 1 and name in model.key:
            conditions.append(f"strpos(q.{column(name)}, chr(31)) = 0")
    return f"({' and '.join(conditions)}) is true" if len(conditions) > 1 else conditions[0]


def _checked(name: str, kind: ColumnType, ordered: bool) -> str:
    """A projected value, or null where no row may hold it."""
    value = f"q.{name}"
    match kind:
        case "timestamptz" | "date":
            # Years of four digits only: text order is then time order.
            return f"case when {value} >= '0001-01-01' and {value} < '10000-01-01' then {value} end"
        case "numeric":
            # No NaN, no infinity, nothing that a double can't come near or that is too long for an index entry.
            return f"case when abs({value}) < 1e300 and scale({value}) <= 500 then {value} end"
        case "text" if ordered:
            return f"left({value}, {LONGEST_ORDER_CHARACTERS})"
        case _:
            return value

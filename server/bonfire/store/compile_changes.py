"""What one event of one source's table does to one read model, as the PL/pgSQL of its trigger function.

A plain model's rows follow the written rows one by one. A latest-per-key model keeps them as candidates, and puts the
first candidate of each touched group where the group's row differs.
"""

from dataclasses import dataclass
from typing import Literal

from bonfire.store.compile_model import (
    candidates,
    column,
    column_list,
    differs,
    group_id,
    in_scope,
    kept_columns,
    key_text,
    nulls,
    order_terms,
    projection,
    render,
    row_json,
    source_id,
    source_table,
    table,
)
from bonfire.store.identifiers import quote_literal
from bonfire.store.model import APP_STATE, ReadModel, Source

Event = Literal["insert", "update", "delete"]


@dataclass(frozen=True)
class Change:
    """What one event of one source's table does to one model."""

    model: ReadModel
    source: Source
    event: Event

    @property
    def condition(self) -> str | None:
        """Which rows the model takes notice of; None for all."""
        scope = None if self.source.collection is None else in_scope(self.source)
        where = None if self.source.where == "true" else f"({self.source.where}\n)"
        return " and ".join(filter(None, (scope, where))) or None

    def one(self) -> str:
        """The PL/pgSQL for a statement of one row."""
        return self._one() + render("told_one", head=self._head, name=self._name)

    def many(self) -> str:
        """The PL/pgSQL for a statement of more rows."""
        if self.model.latest_by:
            return self._latest_many()
        if self.event == "insert":
            return self._told_many(render("insert_many", insert=self._insert(), line=self._line("t")))
        return self._told_many(self._change_many(self._rows()))

    def _one(self) -> str:
        if self.model.latest_by:
            return self._latest_one()
        if self.event == "insert":
            insert = self._insert()
            return render("insert_one", insert=insert, line=self._line("t"), reset=self._reset)
        return self._change_one(self._rows(), "the_row")

    # ---- what is told ---------------------------------------------------------------------------------------

    @property
    def _name(self) -> str:
        return f"text {quote_literal(self.model.name)}"

    @property
    def _head(self) -> str:
        return f"""'{{"view":"{self.model.name}","rows":['"""

    @property
    def _reset(self) -> str:
        return f"""'{{"reset":["{self.model.name}"]}}'"""

    def _line(self, row: str, old_key: str | None = None) -> str:
        """The message's entry of a row that is under its key now; `old_key` (SQL): the key that it was under before."""
        key = key_text(self.model, row)
        moved = "'null'" if old_key is None else f"coalesce(to_json(nullif({old_key}, {key}))::text, 'null')"
        return (
            f"'[' || to_json({key}) || ',' || to_json({row}.id) || ',' || {moved} || ','"
            f" || {row_json(self.model, row)} || ']'"
        )

    def _gone(self, row: str) -> str:
        """The message's entry of a row that has left its key."""
        return f"'[' || to_json({row}.old_key) || ',' || to_json({row}.id) || ',null,null]'"

    def _told_many(self, statement: str, arguments: str = "") -> str:
        return render(
            "told_many",
            statement=statement,
            arguments=arguments,
            head=self._head,
            name=self._name,
            reset=self._reset,
        )

    # ---- rows put in and taken out --------------------------------------------------------------------------

    def _rows(self) -> str:
        """What the written rows are now, as a projection gives them."""
        if self.event != "delete":
            return projection(self.model, self.source, "new_rows")
        app_state = self.source.table == APP_STATE
        again = f"s.tenant = o.tenant and s.id = o.source_id{' and s.collection = o.collection' if app_state else ''}"
        same = render("again", table=source_table(self.source), row=again)
        return render(
            "deleted",
            columns="".join(f", {value} as {name}" for name, value in nulls(self.model).items()),
            id=source_id(self.model, self.source),
            source_key=f", r.id as source_id{', r.collection' if app_state else ''}",
            scope=in_scope(self.source),
            projection=projection(self.model, self.source, same),
        )

    def _insert(self) -> str:
        return render(
            "insert",
            table=table(self.model),
            columns=column_list(self.model),
            projection=self._rows(),
            updates=_updates(self.model),
        )

    def _change_one(self, rows: str, variable: str, *, more: bool = False) -> str:
        """Bring the model's table to the one row in `rows`, and say what has changed: in `view_rows`, or, where there
        is `more` than one such change, at the end of it."""
        line, gone = self._line("t", f"{variable}.old_key"), self._gone(variable)
        if more:
            line, gone = (f"concat_ws(',', view_rows, {entry})" for entry in (line, gone))
        return render(
            "change_one",
            **_change_parts(self.model, table(self.model), rows),
            variable=variable,
            before="view_rows" if more else "null",
            values=column_list(self.model, variable),
            returning=f"\n        returning {line} into view_rows",
            gone=f"\n        view_rows := {gone};",
            then="",
        )

    def _change_many(self, rows: str) -> str:
        change = render("change", **_change_parts(self.model, table(self.model), rows))
        line = f"case when d.keep then {self._line('d', 'd.old_key')} else {self._gone('d')} end"
        return render("change_many", change=change, line=line)

    # ---- the latest of each group ---------------------------------------------------------------------------

    def _latest_one(self) -> str:
        """Keep the candidate; then put the first candidate of each group that it touches where it differs."""
        model = self.model
        places = list(enumerate(model.latest_by))
        groups = render(
            "groups_of_row",
            new_values="".join(f", the_row.{column(name)} as value_{place}" for place, name in places),
            old_values="".join(f", the_row.old_value_{place}" for place, _ in places),
        )
        values = "".join(f", the_group.value_{place}" for place, _ in places)
        latest = self._latest_of(f"(values (the_group.tenant, the_group.id{values}))")
        parts = _change_parts(model, candidates(model), self._rows())
        parts["old_group"] += f", {group_id(model, 'p')} as new_group"
        return render(
            "change_one",
            **parts,
            variable="the_row",
            before="null",
            values=column_list(model, "the_row"),
            returning="",
            gone="",
            then="\n"
            + render(
                "groups_one",
                name=quote_literal(model.name),
                groups=groups,
                step=self._change_one(latest, "latest_row", more=True),
            ),
        )

    def _latest_many(self) -> str:
        """The same for many candidates."""
        model = self.model
        places = list(enumerate(model.latest_by))
        variables = ["group_tenants", "group_ids", *(f"group_values_{place}" for place, _ in places)]
        arrays = ", ".join(f"${place}::text[]" for place, _ in enumerate(variables, 1))
        step = self._told_many(
            self._change_many(self._latest_of(f"unnest({arrays})")), arguments=f" using {', '.join(variables)}"
        )
        return render(
            "groups_many",
            change=render("change", **_change_parts(model, candidates(model), self._rows())),
            new_group=group_id(model, "d"),
            new_values="".join(f", d.{column(name)} as value_{place}" for place, name in places),
            old_values="".join(f", d.old_value_{place}" for place, _ in places),
            name=quote_literal(model.name),
            arrays="".join(f", array_agg(value_{place})" for place, _ in places),
            variables=", ".join(variables),
            step=step,
        )

    def _latest_of(self, groups: str) -> str:
        """The first candidate of each of `groups`: rows of tenant, id and the group's values."""
        model = self.model
        places = list(enumerate(model.latest_by))
        return render(
            "latest_of_groups",
            groups=groups,
            names="".join(f", value_{place}" for place, _ in places),
            columns="".join(f", c.{name}" for name in kept_columns(model)),
            candidates=candidates(model),
            matches="".join(f" and c.{column(name)} = g.value_{place}" for place, name in places),
            order=order_terms(model.latest_order, "c"),
        )


def _change_parts(model: ReadModel, name: str, rows: str) -> dict[str, str]:
    """What both ways of bringing table `name` to `rows` are made of."""
    old_group = ""
    if model.latest_by:
        old_group = f", {group_id(model, 't')} as old_group" + "".join(
            f", t.{column(value)} as old_value_{place}" for place, value in enumerate(model.latest_by)
        )
    return {
        "table": name,
        "columns": column_list(model),
        "projection": rows,
        "updates": _updates(model),
        "old_key": key_text(model, "t"),
        "old_group": old_group,
        "differs": differs(model, "p", "t"),
    }


def _updates(model: ReadModel) -> str:
    return ", ".join(f"{name} = excluded.{name}" for name in kept_columns(model))

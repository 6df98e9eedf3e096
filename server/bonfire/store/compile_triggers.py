"""What a write does to read models: per table that is written, three trigger functions generated from all the models
made from it.

A function has a path for statements of one row (plans kept for the session, no sorting, no windows) and one for more
(planned at each call, so that no plan made for ten rows meets a million). Both are made of the same texts.
"""

import hashlib
from dataclasses import dataclass
from typing import Literal, assert_never

from bonfire.store.compile_model import (
    SETTINGS,
    assignments,
    candidates,
    column,
    column_list,
    differs,
    group_id,
    in_scope,
    key_text,
    order_terms,
    projection,
    render,
    row_json,
    source_id,
    source_table,
    table,
)
from bonfire.store.identifiers import quote_identifier, quote_literal
from bonfire.store.model import APP_STATE, ReadModel, Source

Event = Literal["insert", "update", "delete"]

EVENTS: tuple[Event, ...] = ("insert", "update", "delete")

_TRANSITIONS: dict[Event, str] = {
    "insert": "new table as new_rows",
    "update": "old table as old_rows new table as new_rows",
    "delete": "old table as old_rows",
}


@dataclass(frozen=True)
class TriggerSet:
    """The triggers of one source (a FHIR type or `AppState`). `statements` create or replace them, under a lock that
    keeps writers out. `fingerprint` is equal for equal functions; the functions know it, to refuse a transaction whose
    snapshot is older than they are."""

    source: str
    statements: tuple[str, ...]
    fingerprint: str


def compile_triggers(written: str, models: list[ReadModel]) -> TriggerSet:
    """The triggers of `written`, which all of `models` are made from."""
    bodies = {event: _function(written, models, event) for event in EVENTS}
    fingerprint = hashlib.sha256("\0".join(bodies.values()).encode()).hexdigest()
    statements = [body.replace(_UNKNOWN, fingerprint) for body in bodies.values()]
    statements += [_trigger(written, event, _function_name(written, event), "") for event in EVENTS]
    return TriggerSet(written, tuple(statements), fingerprint)


def touch_only(written: str) -> tuple[str, ...]:
    """The statements that bring `written` back to what it is without models: writes are told, nothing is kept."""
    function = "bonfire.touch_app_state" if written == APP_STATE else "bonfire.touch"
    triggers = [_trigger(written, event, f"{function}_{event}", quote_literal(written)) for event in EVENTS]
    return (*triggers, *(f"drop function {_function_name(written, event)}()" for event in EVENTS))


# Stands for the fingerprint in the texts that it is computed from.
_UNKNOWN = "0" * 64


def _function_name(written: str, event: Event) -> str:
    kind = "app_state" if written == APP_STATE else written.lower()
    return f"bonfire.{quote_identifier(f'views_{kind}_{event}')}"


def _trigger(written: str, event: Event, function: str, arguments: str) -> str:
    return render(
        "trigger",
        trigger=f"bonfire_20_views_{event}",
        event=event,
        table=source_table(Source(written, {})),
        transitions=_TRANSITIONS[event],
        function=function,
        arguments=arguments,
    )


def _function(written: str, models: list[ReadModel], event: Event) -> str:
    changes = [
        change
        for model in models
        for source in model.sources
        if source.table == written
        for change in [_Change(model, source, event)]
    ]
    rows = ["new_rows"] if event == "insert" else ["old_rows"] if event == "delete" else ["new_rows", "old_rows"]
    patient = "r.patient" if written == APP_STATE else f"bonfire.patient_of({quote_literal(written)}, r.id, r.resource)"
    name = f"'{APP_STATE}/' || r.collection" if written == APP_STATE else f"text {quote_literal(written)}"
    touched = [render("touch_rows", source=name, patient=patient, rows=each) for each in rows]
    most_groups = max((len(model.latest_by) for model in models), default=0)
    return render(
        "trigger_function",
        function=_function_name(written, event),
        settings="".join(f" set {assignment}" for assignment in assignments(SETTINGS)),
        group_variables="".join(f"\n  group_values_{place} text[];" for place in range(most_groups)),
        rows=rows[0],
        source=quote_literal(written),
        fingerprint=quote_literal(_UNKNOWN),
        touch=render("touch", rows="\nunion all\n".join(touched)),
        one="\n".join(change.one() for change in changes),
        many="\n".join(change.many() for change in changes),
    )


@dataclass(frozen=True)
class _Change:
    """What one event of one source's table does to one model."""

    model: ReadModel
    source: Source
    event: Event

    def one(self) -> str:
        """The PL/pgSQL for a statement of one row."""
        if self.model.latest_by:
            return self._candidates(many=False) + self._grouped(many=False)
        match self.event:
            case "insert":
                return self._told("one_insert", render("insert_one", insert=self._insert(), line=self._line("t")))
            case "update":
                return self._told("one", render("change_one", change=self._change(), line=_change_line(self.model)))
            case "delete":
                return self._told("one", render("delete_one", delete=self._delete(), line=_gone_line(self.model)))
            case _:
                assert_never(self.event)

    def many(self) -> str:
        """The PL/pgSQL for a statement of more rows."""
        if self.model.latest_by:
            return self._candidates(many=True) + self._grouped(many=True)
        match self.event:
            case "insert":
                return self._told("many", render("insert_many", insert=self._insert(), line=self._line("t")))
            case "update":
                return self._told("many", render("change_many", change=self._change(), line=_change_line(self.model)))
            case "delete":
                return self._told("many", render("delete_many", delete=self._delete(), line=_gone_line(self.model)))
            case _:
                assert_never(self.event)

    def _told(self, template: str, statement: str, arguments: str = "") -> str:
        name = self.model.name
        parts = {"statement": statement, "head": f"""'{{"view":"{name}","rows":['""", "name": f"text '{name}'"}
        if template != "one":
            parts["reset"] = f"""'{{"reset":["{name}"]}}'"""
        if template == "many":
            parts["arguments"] = arguments
        return render(template, **parts)

    def _line(self, row: str) -> str:
        """The message's entry of a row that is new under its key."""
        key = f"to_json({key_text(self.model, row)})"
        return f"'[' || {key} || ',' || to_json({row}.id) || ',null,' || {row_json(self.model, row)} || ']'"

    def _insert(self) -> str:
        return render(
            "insert",
            table=table(self.model),
            columns=column_list(self.model),
            projection=projection(self.model, self.source, "new_rows"),
            assignments=_updates(self.model),
        )

    def _change(self) -> str:
        return _change(self.model, table(self.model), projection(self.model, self.source, "new_rows"))

    def _delete(self) -> str:
        return _delete(self.model, self.source, table(self.model))

    def _candidates(self, *, many: bool) -> str:
        """First step of a latest-per-key model: keep its candidates, lock and name the groups that this touched."""
        model = self.model
        places = list(enumerate(model.latest_by))
        if self.event == "delete":
            deleted = _delete(model, self.source, candidates(model))
            with_rows = f"with gone as (\n{deleted}\n    returning {column_list(model, 't')}\n), "
            rows = render(
                "deleted_groups",
                group=group_id(model, "t"),
                values="".join(f", t.{column(name)} as value_{place}" for place, name in places),
            )
        else:
            with_rows = _change(model, candidates(model), projection(model, self.source, "new_rows")) + ", "
            rows = render(
                "changed_groups",
                new_group=group_id(model, "d"),
                new_values="".join(f", d.{column(name)} as value_{place}" for place, name in places),
                old_group="d.old_group",
                old_values="".join(f", d.old_value_{place}" for place, _ in places),
            )
        values = "".join(f", array_agg(value_{place})" for place, _ in places)
        variables = ", ".join(_group_variables(model))
        template = "groups_many" if many else "groups_one"
        groups = render("groups", rows=rows, name=quote_literal(model.name))
        return render(template, groups=with_rows + groups, values=values, variables=variables)

    def _grouped(self, *, many: bool) -> str:
        """Second step: the first candidate of each touched group, put where it differs."""
        model = self.model
        variables = _group_variables(model)
        arrays = [f"${place}::text[]" for place, _ in enumerate(variables, 1)] if many else variables
        rows = render(
            "latest_of_groups",
            arrays=", ".join(arrays),
            names="".join(f", value_{place}" for place, _ in enumerate(model.latest_by)),
            columns="".join(f", c.{column(name)}" for name in model.columns),
            candidates=candidates(model),
            matches="".join(f" and c.{column(name)} = g.value_{place}" for place, name in enumerate(model.latest_by)),
            order=order_terms(model.latest_order, "c"),
        )
        change = _change(model, table(model), rows)
        line = _change_line(model)
        if many:
            statement = render("change_many", change=change, line=line)
            step = self._told("many", statement, arguments=f" using {', '.join(variables)}")
        else:
            step = self._told("one", render("change_one_of_many", change=change, line=line))
        return render("if_grouped", step=step)


def _change(model: ReadModel, name: str, rows: str) -> str:
    """The statement's start that brings table `name` to `rows`; its `d` is what differs."""
    if model.latest_by:
        old_group = f", {group_id(model, 't')} as old_group" + "".join(
            f", t.{column(value)} as old_value_{place}" for place, value in enumerate(model.latest_by)
        )
    else:
        old_group = ""
    return render(
        "change",
        table=name,
        columns=column_list(model),
        projection=rows,
        assignments=_updates(model),
        old_key=key_text(model, "t"),
        old_group=old_group,
        differs=differs(model, "p", "t"),
    )


def _change_line(model: ReadModel) -> str:
    """The message's entry of a row in `d`."""
    key = key_text(model, "d")
    return (
        f"'[' || to_json(case when d.keep then {key} else d.old_key end) || ',' || to_json(d.id) || ','"
        f" || coalesce(to_json(case when d.keep and d.old_key <> {key} then d.old_key end)::text, 'null') || ','"
        f" || case when d.keep then {row_json(model, 'd')} else 'null' end || ']'"
    )


def _delete(model: ReadModel, source: Source, name: str) -> str:
    app_state = source.table == APP_STATE
    again = f"s.tenant = o.tenant and s.id = o.source_id{' and s.collection = o.collection' if app_state else ''}"
    return render(
        "delete",
        table=name,
        id=source_id(model, source),
        source_key=f", r.id as source_id{', r.collection' if app_state else ''}",
        scope=f" where {in_scope(source)}",
        projection=projection(model, source, render("again", table=source_table(source), row=again)),
    )


def _gone_line(model: ReadModel) -> str:
    """The message's entry of a deleted row `t`."""
    return f"'[' || to_json({key_text(model, 't')}) || ',' || to_json(t.id) || ',null,null]'"


def _updates(model: ReadModel) -> str:
    return ", ".join(f"{column(name)} = excluded.{column(name)}" for name in model.columns)


def _group_variables(model: ReadModel) -> list[str]:
    return ["group_tenants", "group_ids", *(f"group_values_{place}" for place, _ in enumerate(model.latest_by))]

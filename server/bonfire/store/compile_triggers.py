"""What a write does to read models: per table that is written, three trigger functions generated from all the models
made from it.

A function has a path for statements of one row (plans kept for the session, no sorting, no windows) and one for more
(planned at each call, so that no plan made for ten rows meets a million). Both are made of the same texts.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from bonfire.store.compile_changes import Change, Event
from bonfire.store.compile_model import SETTINGS, assignments, render, source_table
from bonfire.store.identifiers import quote_identifier, quote_literal
from bonfire.store.model import APP_STATE, ReadModel, Source

EVENTS: tuple[Event, ...] = ("insert", "update", "delete")

_TRANSITIONS: dict[Event, str] = {
    "insert": "new table as new_rows",
    "update": "old table as old_rows new table as new_rows",
    "delete": "old table as old_rows",
}


@dataclass(frozen=True)
class TriggerSet:
    """The triggers of one source (a FHIR type or `AppState`). `fingerprint` is equal for equal functions."""

    source: str
    fingerprint: str
    functions: tuple[str, ...]

    def statements(self, build: str) -> list[str]:
        """What creates or replaces them, under a lock that keeps writers out. `build` names the build of their models,
        a new one each time: a transaction whose snapshot does not see it yet is refused."""
        functions = [function.replace(_BUILD, build) for function in self.functions]
        return functions + [_trigger(self.source, event, _function_name(self.source, event), "") for event in EVENTS]


def compile_triggers(written: str, models: list[ReadModel]) -> TriggerSet:
    """The triggers of `written`, which all of `models` are made from."""
    functions = tuple(_function(written, models, event) for event in EVENTS)
    return TriggerSet(written, hashlib.sha256("\0".join(functions).encode()).hexdigest(), functions)


def touch_only(written: str) -> tuple[str, ...]:
    """The statements that bring `written` back to what it is without models: writes are told, nothing is kept."""
    function = "bonfire.touch_app_state" if written == APP_STATE else "bonfire.touch"
    triggers = [_trigger(written, event, f"{function}_{event}", quote_literal(written)) for event in EVENTS]
    return (*triggers, *(f"drop function {_function_name(written, event)}()" for event in EVENTS))


# Stands for the build in a function's text: a name that nobody has in an expression.
_BUILD = "$bonfire_build$"


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
    changes = [Change(model, source, event) for model in models for source in model.sources if source.table == written]
    # What a row must satisfy to be of interest to a model; several models often ask the same.
    conditions = list(dict.fromkeys(change.condition for change in changes if change.condition is not None))
    belongs = {condition: f"belongs_{place}" for place, condition in enumerate(conditions)}
    most_groups = max((len(model.latest_by) for model in models), default=0)
    variables = [f"{name} boolean" for name in belongs.values()]
    variables += [f"group_values_{place} text[]" for place in range(most_groups)]
    one = []
    for change in changes:
        step = change.one()
        if change.condition is not None:
            step = render("if_belongs", variable=belongs[change.condition], step=step)
        one.append(step)
    return render(
        "trigger_function",
        function=_function_name(written, event),
        settings="".join(f" set {assignment}" for assignment in assignments(SETTINGS)),
        variables="".join(f"\n  {variable};" for variable in variables),
        rows="old_rows" if event == "delete" else "new_rows",
        source=quote_literal(written),
        build=quote_literal(_BUILD),
        belongs="".join(f", {name}" for name in belongs.values()),
        touch_one=_touch(written, event, belongs),
        touch_many=_touch(written, event, {}),
        one="\n".join(one),
        many="\n".join(change.many() for change in changes),
    )


def _touch(written: str, event: Event, belongs: Mapping[str, str]) -> str:
    """Whose records a statement wrote, and whether a row belongs, or did, to what each condition is for."""
    name = f"'{APP_STATE}/' || r.collection" if written == APP_STATE else f"text {quote_literal(written)}"
    patient = "r.patient" if written == APP_STATE else f"bonfire.patient_of({quote_literal(written)}, r.id, r.resource)"
    tables = {"insert": ["new_rows"], "update": ["new_rows", "old_rows"], "delete": ["old_rows"]}[event]
    conditions = "".join(f", ({condition}) is true as {variable}" for condition, variable in belongs.items())
    rows = [render("touch_rows", source=name, patient=patient, rows=table, belongs=conditions) for table in tables]
    return render(
        "touch",
        rows="\nunion all\n".join(rows),
        belongs="".join(f", bool_or(r.{variable}) as {variable}" for variable in belongs.values()),
    )

"""All live queries of a node, found by what a commit touches: a hash look-up, never a walk over subscriptions."""

from collections.abc import Iterator
from itertools import islice
from typing import TypeVar

from bonfire.engine.history import Digest, RowKey
from bonfire.engine.ordering import Ordering
from bonfire.engine.query import AppPlan, KeyedPlan, LiveQuery, Plan, QueryIdentity

_K = TypeVar("_K")


class QueryIndex:
    """Live queries by identity, by (tenant, read model, key), and by (tenant, source) and patient.

    What is found comes in the same order whenever the same has happened (dicts, where sets would do): a schedule can be
    replayed exactly."""

    def __init__(self) -> None:
        self._numbers = 0
        self._orderings: dict[tuple[tuple[str, bool], ...], Ordering] = {}
        self._queries: dict[QueryIdentity, LiveQuery] = {}
        self._keyed: dict[RowKey, dict[LiveQuery, None]] = {}
        self._dependents: dict[tuple[str, str], dict[str | None, dict[LiveQuery, None]]] = {}

    def __len__(self) -> int:
        return len(self._queries)

    def __iter__(self) -> Iterator[LiveQuery]:
        return iter(list(self._queries.values()))

    def __contains__(self, query: LiveQuery) -> bool:
        return self._queries.get(query.identity) is query

    def find(self, identity: QueryIdentity) -> LiveQuery | None:
        return self._queries.get(identity)

    def at(self, choice: float) -> LiveQuery | None:
        """The query at this share (from 0 up to 1) of them all; None when there is none."""
        place = int(choice * len(self._queries))
        return next(islice(self._queries.values(), place, None), None)

    def add(self, identity: QueryIdentity, plan: Plan) -> LiveQuery:
        """A new live query; its number is never given again."""
        self._numbers += 1
        query = self._queries[identity] = LiveQuery(self._numbers, identity, plan, self._ordering(plan))
        match plan:
            case KeyedPlan():
                self._keyed.setdefault((identity.tenant, plan.view, plan.key), {})[query] = None
            case AppPlan():
                for source, patient in plan.dependencies:
                    by_patient = self._dependents.setdefault((identity.tenant, source), {})
                    by_patient.setdefault(patient, {})[query] = None
        return query

    def _ordering(self, plan: Plan) -> Ordering | None:
        """One for all queries on a read model: each holds a type of its own, which is dear."""
        if not isinstance(plan, KeyedPlan):
            return None
        ordering = self._orderings.get(plan.order)
        if ordering is None:
            ordering = self._orderings[plan.order] = Ordering(plan.order)
        return ordering

    def drop(self, query: LiveQuery) -> None:
        """Forget it. It must be here."""
        del self._queries[query.identity]
        tenant = query.identity.tenant
        match query.plan:
            case KeyedPlan(view=view, key=key):
                _discard(self._keyed, (tenant, view, key), query)
            case AppPlan(dependencies=dependencies):
                for source, patient in dependencies:
                    by_patient = self._dependents.get((tenant, source))
                    if by_patient is not None:
                        _discard(by_patient, patient, query)
                        if not by_patient:
                            del self._dependents[(tenant, source)]

    def keyed(self, key: RowKey) -> dict[LiveQuery, None]:
        """The queries that show rows of this key."""
        return self._keyed.get(key, _NONE)

    def dependents(self, digest: Digest) -> list[LiveQuery]:
        """The app queries with a dependency that this commit wrote."""
        touched: dict[LiveQuery, None] = {}
        for source, patients in digest.touched.items():
            by_patient = self._dependents.get(source)
            if by_patient is None:
                continue
            keys = list(by_patient) if patients is None else [None, *sorted(patients)]
            for key in keys:
                touched.update(by_patient.get(key, _NONE))
        return list(touched)

    def on_views(self, views: set[str]) -> list[LiveQuery]:
        """The queries that show rows of these read models: a walk, for the rare rebuild."""
        return [query for query in self if query.plan.view in views]


_NONE: dict[LiveQuery, None] = {}


def _discard(index: dict[_K, dict[LiveQuery, None]], key: _K, query: LiveQuery) -> None:
    members = index.get(key)
    if members is not None:
        members.pop(query, None)
        if not members:
            del index[key]

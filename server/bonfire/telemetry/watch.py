"""Mutations as they are seen from outside: counted, timed, and traced where traces are wanted."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bonfire.telemetry.metrics import Mutations
from bonfire.telemetry.tracing import MutationTrace, Tracing
from bonfire_protocol.faults import Fault, FaultCode


class Watched:
    """A mutation under way. Who runs it sets `outcome` where that is no fault."""

    def __init__(self, trace: MutationTrace | None) -> None:
        self.trace = trace
        self.outcome: str = FaultCode.internal.value


class MutationWatch:
    """Watches a node's mutations. `clock` is a monotonic one, in seconds."""

    def __init__(self, tracing: Tracing | None, clock: Callable[[], float] = time.perf_counter) -> None:
        self.counts = Mutations()
        self._tracing = tracing
        self._clock = clock

    @contextmanager
    def mutation(self, tenant: str, id: str, function: str) -> Iterator[Watched]:
        """Around one mutation. `function` must be a name that the registry knows, not what a client says."""
        watched = Watched(None if self._tracing is None else self._tracing.mutation(tenant, id, function))
        begun = self._clock()
        try:
            yield watched
        except Fault as fault:
            watched.outcome = fault.code.value
            raise
        finally:
            self.counts.done(function, watched.outcome, self._clock() - begun)
            if watched.trace is not None:
                watched.trace.end(watched.outcome)

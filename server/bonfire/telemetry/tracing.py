"""Traces, from a mutation to the frames that it caused: what the code that is traced says, and to whom.

Off by default, and then there is no object to call at all: `Tracing | None`. `otel.py` implements it, for those who
have installed OpenTelemetry.

    mutation notes.create            who called what: the function, the tenant, the outcome
      transaction                    one for each attempt
        commit                       from the last statement to the database's answer
          fan-out                    on each node: from the commit's arrival there to the last socket
          read                       on each node: queries that are run again because of it, and of those that it links

A node that did not do the mutation knows only what the change stream tells, the tenant and the mutation's id. So the
ids of the trace and of `commit` are made of these two, alike on every node. An attribute never holds a patient's data:
no argument, no result, no text of an error.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol


class Sending(Protocol):
    """What comes of a commit on one node, on its way to the sockets."""

    def queued(self, frames: int, size: int) -> None:
        """So many frames, of `size` bytes over all sockets, go out because of it."""

    def end(self) -> None:
        """All of them have been handed to the sockets."""


class MutationTrace(Protocol):
    """A mutation under way."""

    def transaction(self, attempt: int) -> AbstractContextManager[object]:
        """Around one attempt, from 1. An exception ends it as failed."""

    def committing(self, xid: int) -> None:
        """Within an attempt: all is done but the commit."""

    def end(self, outcome: str) -> None:
        """`committed`, `replayed`, or the code of a fault."""


class Tracing(Protocol):
    """Where a node's traces go."""

    def mutation(self, tenant: str, id: str, function: str) -> MutationTrace: ...

    def fan_out(self, tenant: str, id: str, *, position: int, xid: int) -> Sending: ...

    def read(self, positions: Sequence[int], queries: Sequence[str]) -> Sending | None:
        """`queries` are read again because of the commits at `positions`. None when no mutation's is among those."""

    def close(self) -> None:
        """Send what has not been sent; may take seconds, so not on the event loop's thread."""


class TracingUnavailable(Exception):
    """Traces are wanted and can't be made; the message says what to install."""


def open_tracing(endpoint: str | None, environment: Mapping[str, str], worker: int | None) -> Tracing | None:
    """Tracing to the OpenTelemetry collector at `endpoint` (its OTLP/HTTP address, `http://collector:4318`), or as the
    standard variables of `environment` say; None where neither names one."""
    standard = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    if endpoint is None and not any(environment.get(name) for name in standard):
        return None
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    try:
        from bonfire.telemetry import otel
    except ImportError as error:
        raise TracingUnavailable(
            f"traces are wanted, and {error.name} is not installed: pip install 'bonfire[otel]'"
        ) from error
    return otel.exporting(endpoint, worker)

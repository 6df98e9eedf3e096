"""What is logged, and what is traced, for tests to look at."""

import io
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from bonfire.telemetry.logs import LogForm, configure_logging
from bonfire.telemetry.otel import OtelTracing

Configure = Callable[..., io.StringIO]


@pytest.fixture
def configure() -> Iterator[Configure]:
    """Have the log written to what is returned; afterwards all is as it was."""
    names = ("", "bonfire", "bonfire.websocket", "httpx", "uvicorn.error")
    loggers = [logging.getLogger(name) for name in names]
    before = [(logger, logger.level, list(logger.handlers)) for logger in loggers]

    def begin(form: LogForm = "json", level: str = "info", worker: int | None = None, **more: Any) -> io.StringIO:
        stream = io.StringIO()
        # pytest's own handlers stay out of it: they would be closed.
        logging.getLogger().handlers[:] = []
        configure_logging(level=level, form=form, worker=worker, stream=stream, **more)
        return stream

    yield begin
    for logger, level, handlers in before:
        logger.setLevel(level)
        logger.handlers[:] = handlers


class Traced:
    """Tracing whose spans are kept in memory."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.tracing = OtelTracing(SimpleSpanProcessor(self._exporter), None)

    @property
    def spans(self) -> dict[str, list[ReadableSpan]]:
        """Those that have ended, by name, in the order of their ends."""
        found: dict[str, list[ReadableSpan]] = {}
        for span in self._exporter.get_finished_spans():
            found.setdefault(span.name, []).append(span)
        return found

    def only(self, name: str) -> ReadableSpan:
        (span,) = self.spans[name]
        return span


@pytest.fixture
def traced() -> Iterator[Traced]:
    made = Traced()
    yield made
    made.tracing.close()

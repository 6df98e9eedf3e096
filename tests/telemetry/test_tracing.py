"""Whether there are traces at all."""

import sys

import pytest

from bonfire import telemetry
from bonfire.telemetry.tracing import TracingUnavailable, open_tracing


def test_there_are_none_unless_they_are_wanted() -> None:
    assert open_tracing(None, {"OTEL_SERVICE_NAME": "clinic"}, None) is None
    assert open_tracing("http://collector:4318", {"OTEL_SDK_DISABLED": "true"}, None) is None


@pytest.mark.parametrize("name", ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"])
def test_opentelemetrys_own_settings_will_do(name: str) -> None:
    tracing = open_tracing(None, {name: "http://collector:4318"}, None)
    assert tracing is not None
    tracing.close()


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "bonfire.telemetry.otel", raising=False)
    monkeypatch.delattr(telemetry, "otel", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)
    with pytest.raises(TracingUnavailable, match=r"pip install 'bonfire\[otel\]'"):
        open_tracing("http://collector:4318", {}, None)

"""The agent of `bench.agents` in a worker that makes spans, and drops them once they would be exported."""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from temporalio.contrib.opentelemetry import create_tracer_provider
from typing_extensions import override

from bench.agents import agent

__all__ = ["agent"]


class _Dropping(SpanExporter):
    @override
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


_provider = create_tracer_provider()
_provider.add_span_processor(BatchSpanProcessor(_Dropping()))
trace.set_tracer_provider(_provider)

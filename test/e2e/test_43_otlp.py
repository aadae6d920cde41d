# SPDX-License-Identifier: Apache-2.0
"""The exporters of OpenTelemetry's own SDK send metrics, logs and traces here, plain and packed, and understand what
they are told."""
import logging

import pytest
import requests
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (ExportMetricsServiceRequest,
                                                                          ExportMetricsServiceResponse)
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from test_41_connectors import Foldback, until
from test_43_ingest import CONFIG, Ingest

SHOP = Resource.create({"service.name": "shop"})
CODINGS = [Compression.NoCompression, Compression.Gzip, Compression.Deflate]


@pytest.fixture(scope="module")
def ingest(tmp_path_factory):
    fold = Foldback(tmp_path_factory.mktemp("otlp"), CONFIG % 9)
    try:
        fold.start()
        i = Ingest(fold)
        i.headers = {"Authorization": "Bearer " + i.token}
        yield i
    finally:
        fold.stop()


def url(ingest, path):
    return f"http://{ingest.address}/v1/{path}"


def fact(ingest, name):
    return ingest.facts().get(name, {})


@pytest.mark.parametrize("coding", CODINGS, ids=lambda c: c.value)
def test_metrics_of_the_sdk_become_facts(ingest, coding):
    name = "sdk_" + coding.value
    delta = {Counter: AggregationTemporality.DELTA, Histogram: AggregationTemporality.DELTA}
    exporter = OTLPMetricExporter(endpoint=url(ingest, "metrics"), headers=ingest.headers, compression=coding,
                                  preferred_temporality=delta)
    provider = MeterProvider([PeriodicExportingMetricReader(exporter, export_interval_millis=3600000)], SHOP)
    meter = provider.get_meter("shop")
    orders = meter.create_counter(name + ".orders")
    orders.add(2, {"region": "eu"})
    orders.add(3, {"region": "us"})
    meter.create_gauge(name + ".depth").set(4.5)
    wait = meter.create_histogram(name + ".wait", unit="s")
    for seconds in (1, 3):
        wait.record(seconds)
    meter.create_up_down_counter(name + ".open").add(-2)
    assert provider.force_flush(30000)
    until(lambda: fact(ingest, name + ".orders").get("last") == 5, 60)
    until(lambda: fact(ingest, name + ".wait").get("last") == 2, 60)
    assert fact(ingest, name + ".depth")["last"] == 4.5
    assert fact(ingest, name + ".open")["last"] == -2
    orders.add(7)
    provider.shutdown()
    until(lambda: fact(ingest, name + ".orders").get("total_sum") == 12, 60)


@pytest.mark.parametrize("coding", CODINGS, ids=lambda c: c.value)
def test_logs_of_the_sdk_are_counted_by_severity(ingest, coding):
    before = fact(ingest, "otel.logs.error").get("total_sum", 0)
    provider = LoggerProvider(SHOP)
    exporter = OTLPLogExporter(endpoint=url(ingest, "logs"), headers=ingest.headers, compression=coding)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    for _ in range(3):
        provider.get_logger("shop").emit(LogRecord(body="no", severity_number=SeverityNumber.ERROR))
    provider.shutdown()
    until(lambda: fact(ingest, "otel.logs.error").get("total_sum", 0) == before + 3, 60)


@pytest.mark.parametrize("coding", CODINGS, ids=lambda c: c.value)
def test_spans_of_the_sdk_are_durations_by_service_and_name(ingest, coding):
    provider = TracerProvider(resource=SHOP)
    exporter = OTLPSpanExporter(endpoint=url(ingest, "traces"), headers=ingest.headers, compression=coding)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    span = provider.get_tracer("shop").start_span("GET /" + coding.value, start_time=1_000_000_000)
    span.end(1_250_000_000)
    provider.shutdown()
    until(lambda: fact(ingest, "shop.get__" + coding.value).get("last") == 250, 60)


def test_what_is_refused_is_told_in_the_exporters_own_words(ingest):
    def post(message, **more):
        headers = ingest.headers | {"Content-Type": "application/x-protobuf"} | more
        return requests.post(url(ingest, "metrics"), message, headers=headers, timeout=60)
    request = ExportMetricsServiceRequest()
    scope = request.resource_metrics.add().scope_metrics.add()
    for i in range(513):
        scope.metrics.add(name=f"part.{i}").gauge.data_points.add(as_double=i)
    answer = post(request.SerializeToString())
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/x-protobuf")
    partial = ExportMetricsServiceResponse.FromString(answer.content).partial_success
    assert partial.rejected_data_points == 1
    assert "512 names" in partial.error_message

    status_pb2 = pytest.importorskip("google.rpc.status_pb2")
    for body, more, status, says in [(b"\xff\xff\xff", {}, 400, "nothing was taken"),
                                     (b"\x1f\x8bno", {"Content-Encoding": "gzip"}, 400, "Content-Encoding"),
                                     (b"", {"Content-Encoding": "br"}, 415, "gzip, deflate, zstd")]:
        answer = post(body, **more)
        assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/x-protobuf")
        told = status_pb2.Status.FromString(answer.content)
        assert told.code == 3
        assert says in told.message


def test_a_wrong_token_is_a_failure_that_is_not_tried_again(ingest, caplog):
    exporter = OTLPSpanExporter(endpoint=url(ingest, "traces"), headers={"Authorization": "Bearer wrong-wrong-wrong-1"})
    provider = TracerProvider(resource=SHOP)
    with caplog.at_level(logging.ERROR):
        span = provider.get_tracer("shop").start_span("never")
        span.end()
        assert exporter.export([span]).name == "FAILURE"
    exporter.shutdown()
    assert "401" in caplog.text
    assert "shop.never" not in ingest.facts()

# SPDX-License-Identifier: Apache-2.0
"""Totals as exporters send them by default: each becomes what it grew by, whatever is lost, comes twice or begins anew."""
import time

import pytest
import requests
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (ExportMetricsServiceRequest,
                                                                          ExportMetricsServiceResponse)
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from google.protobuf import json_format
from test_43_ingest import CONFIG, Foldback, Ingest, until

CUMULATIVE, DELTA = 2, 1
EXPONENTIAL = "exponential_histogram"


@pytest.fixture(scope="module")
def ingest(tmp_path_factory):
    fold = Foldback(tmp_path_factory.mktemp("totals"), CONFIG % 9)
    try:
        fold.start()
        i = Ingest(fold)
        i.headers = {"Authorization": "Bearer " + i.token}
        yield i
    finally:
        fold.stop()


def fact(ingest, name):
    return ingest.facts().get(name, {})


def test_the_sdk_as_it_comes_is_counted_right(ingest):
    def provider(instance):
        exporter = OTLPMetricExporter(endpoint=f"http://{ingest.address}/v1/metrics", headers=ingest.headers)
        return MeterProvider([PeriodicExportingMetricReader(exporter, export_interval_millis=3600000)],
                             Resource.create({"service.name": "shop", "service.instance.id": instance}))
    made = []
    for instance in "ab":  # two of one service: each has totals of its own
        p = provider(instance)
        meter = p.get_meter("shop")
        made.append((p, meter.create_counter("total.orders"), meter.create_histogram("total.wait")))
    for n in range(3):
        for p, orders, wait in made:
            orders.add(10, {"region": "eu"})
            orders.add(1, {"region": "us"})
            wait.record(n + 1)
            assert p.force_flush(30000)
    until(lambda: fact(ingest, "total.orders").get("total_sum") == 66, 60, "11 each time, of both")
    assert fact(ingest, "total.orders")["last"] == 11
    until(lambda: fact(ingest, "total.wait").get("last") == 3, 60, "the mean of what came since")
    for p, _, _ in made:
        p.shutdown()


class Exporter:
    """Points of one series with times of their own."""

    def __init__(self, ingest, name, kind="sum", as_json=False, temporality=CUMULATIVE, monotonic=True):
        self.ingest, self.name, self.kind, self.as_json = ingest, name, kind, as_json
        self.temporality, self.monotonic = temporality, monotonic
        self.start = self.now = time.time_ns()

    def request(self, value, count=None, repeat=False, attributes=(("a", "1"), ("b", "2"))):
        self.now += 0 if repeat else 1000000
        message = ExportMetricsServiceRequest()
        metric = message.resource_metrics.add().scope_metrics.add().metrics.add(name=self.name)
        data = getattr(metric, self.kind)
        if self.kind != "summary":
            data.aggregation_temporality = self.temporality
        if self.kind == "sum":
            data.is_monotonic = self.monotonic
            point = data.data_points.add(as_double=value)
        else:
            point = data.data_points.add(count=count)
            if value is not None:
                point.sum = value
        point.start_time_unix_nano, point.time_unix_nano = self.start, self.now
        for key, text in attributes:
            point.attributes.add(key=key).value.string_value = text
        return message

    def send(self, *args, **more):
        message = self.request(*args, **more)
        if self.as_json:
            body, kind = json_format.MessageToJson(message, use_integers_for_enums=True), "application/json"
        else:
            body, kind = message.SerializeToString(), "application/x-protobuf"
        answer = requests.post(f"http://{self.ingest.address}/v1/metrics", body, timeout=60,
                               headers=self.ingest.headers | {"Content-Type": kind})
        assert answer.status_code == 200, answer.text
        return answer


FORMS = pytest.mark.parametrize("as_json", [False, True], ids=["protobuf", "json"])


@FORMS
def test_a_sum_that_repeats_and_begins_anew_is_counted_once(ingest, as_json):
    name = f"sum.{as_json}".lower()
    e = Exporter(ingest, name, as_json=as_json)
    e.send(7)
    e.send(9)
    e.send(9, repeat=True)  # an answer was lost, so it comes again
    e.send(10, attributes=(("b", "2"), ("a", "1")))  # the order says nothing
    e.send(100, attributes=(("a", "2"),))  # another series of the same name
    until(lambda: fact(ingest, name).get("total_sum") == 110, 30, "7 + 2 + 1 + 100")
    e.start = e.now
    e.send(4)  # a restart
    e.send(1)  # and one that tells no new start
    until(lambda: fact(ingest, name).get("total_sum") == 115, 30, "4 and 1 more")


@FORMS
def test_what_began_before_foldback_is_a_base(ingest, as_json):
    name = f"base.{as_json}".lower()
    e = Exporter(ingest, name, as_json=as_json)
    e.start = 1
    e.send(1000000)
    e.send(1000003)
    until(lambda: fact(ingest, name).get("total_sum") == 3, 30, "what came since")


@FORMS
@pytest.mark.parametrize("kind", ["histogram", EXPONENTIAL, "summary"])
def test_histograms_and_summaries_are_the_mean_of_what_came_since(ingest, kind, as_json):
    name = f"{kind[:5]}.{as_json}".lower()
    e = Exporter(ingest, name, kind, as_json)
    e.send(10.0, 5)
    until(lambda: fact(ingest, name).get("last") == 2, 30, "the first")
    e.send(40.0, 8)
    until(lambda: fact(ingest, name).get("last") == 10, 30, "30 in 3")
    e.send(40.0, 8)  # nothing new
    e.send(41.0, 9)
    until(lambda: fact(ingest, name).get("last") == 1, 30, "1 in 1")
    assert fact(ingest, name)["total"] == 3


@FORMS
def test_deltas_and_sums_that_may_fall_are_taken_as_they_are(ingest, as_json):
    delta = Exporter(ingest, f"delta.{as_json}".lower(), as_json=as_json, temporality=DELTA)
    for value in (3, 3, 4):
        delta.send(value)
    until(lambda: fact(ingest, delta.name).get("total_sum") == 10, 30, "all three")
    level = Exporter(ingest, f"level.{as_json}".lower(), as_json=as_json, monotonic=False)
    for value in (9, 4):
        level.send(value)
    until(lambda: fact(ingest, level.name).get("last") == 4, 30, "the level")
    mean = Exporter(ingest, f"mean.{as_json}".lower(), "histogram", as_json, temporality=DELTA)
    mean.send(8.0, 2)
    mean.send(8.0, 4)
    until(lambda: fact(ingest, mean.name).get("last") == 2, 30, "8 in 4")


def test_a_histogram_without_a_sum_is_told_as_rejected(ingest):
    answer = Exporter(ingest, "no.sum", "histogram").send(None, 5)
    partial = ExportMetricsServiceResponse.FromString(answer.content).partial_success
    assert partial.rejected_data_points == 1
    assert "no finite value" in partial.error_message
    assert "no.sum" not in ingest.facts()

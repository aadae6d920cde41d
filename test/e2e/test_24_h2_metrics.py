"""HTTP/2 in metrics: the whole foldback."""
import http.client
import json
import os
import sys

from conftest import Origin, ok
from h2_util import H2, HEADERS, PING, RST_STREAM, Raw, block, frame

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "fault"))
from fb import Foldback, until  # noqa: E402


def scrape(fold):
    with open(os.path.join(fold.state, "admin.json")) as f:
        where = json.load(f)
    c = http.client.HTTPConnection(where["address"], timeout=5)
    with open(where["token_file"]) as f:
        c.request("GET", "/metrics", headers={"Authorization": "Bearer " + f.read().strip()})
    text = c.getresponse().read().decode()
    c.close()
    return text.splitlines()


def test_streams_resets_and_floods_are_counted(tmp_path):
    origin = Origin(lambda m, w: ok())
    fold = Foldback(tmp_path, "http2: { control_frames: 100 }\nservices:\n  app: { endpoints: [\"127.0.0.1:%d\"] }\n"
                    % origin.port).start()
    try:
        c = H2(fold.port)
        assert c.get().status == 200 and c.get().status == 200
        reset = Raw(fold.port)
        reset.send(frame(HEADERS, 4, 1, block(method="POST")) + frame(RST_STREAM, 0, 1, b"\0\0\0\x08"))
        malformed = Raw(fold.port)
        malformed.send(frame(HEADERS, 5, 1, block(path="")))
        assert malformed.wait(RST_STREAM) is not None
        flood = Raw(fold.port)
        flood.send(frame(PING, 0, 0, b"12345678") * 300)
        assert flood.goaway() == 11
        until(lambda: 'foldback_http2_floods_total{kind="control"} 1' in scrape(fold), 5, "the flood is counted")
        until(lambda: "foldback_http2_streams_open 0" in scrape(fold), 5, "no stream is at work")
        text = scrape(fold)
        for line in ("foldback_http2_connections 3", "foldback_http2_streams_total 4", "foldback_http2_refused_total 0",
                     'foldback_http2_resets_total{by="client"} 1', 'foldback_http2_resets_total{by="foldback"} 1',
                     'foldback_http2_floods_total{kind="resets"} 0', 'foldback_http2_floods_total{kind="headers"} 0'):
            assert line in text, [x for x in text if "http2" in x]
        assert [x for x in text if x.startswith("foldback_http2_control_frames_total ")]
    finally:
        fold.stop()
        origin.close()


def test_streams_at_work_and_protocols_are_counted(tmp_path):
    origin = Origin(lambda m, w: ok())
    fold = Foldback(tmp_path, "services:\n  app: { endpoints: [\"127.0.0.1:%d\"] }\n" % origin.port).start()
    try:
        c = H2(fold.port)
        assert [c.get().status for _ in range(3)] == [200] * 3
        assert fold.get() == 200
        held = Raw(fold.port)
        held.send(frame(HEADERS, 4, 1, block(method="POST")))
        until(lambda: "foldback_http2_streams_open 1" in scrape(fold), 5, "a stream waits for its body")
        held.send(frame(RST_STREAM, 0, 1, b"\0\0\0\x08"))
        until(lambda: "foldback_http2_streams_open 0" in scrape(fold), 5, "the stream is over")
        until(lambda: 'foldback_protocol_requests_total{protocol="http2"} 4' in scrape(fold), 5, "its request is counted")
        text = scrape(fold)
        for line in ('foldback_protocol_requests_total{protocol="http1"} 1', 'foldback_protocol_requests_total{protocol="tcp"} 0',
                     'foldback_tls_requests_total{version="none"} 5', 'foldback_tls_requests_total{version="1.3"} 0',
                     'foldback_grpc_calls_total{result="ok"} 0'):
            assert line in text, [x for x in text if "_total{" in x]
        said = fold.api("GET", "/v1/status")["protocols"]
        assert said["requests"] == {"http1": 1, "http2": 4, "tcp": 0} and said["http2"]["streams_open"] == 0
        assert "http2     80.0 % of requests, 2 connections, 0 streams at work, 0 floods ended" in fold.cli("status").stdout
    finally:
        fold.stop()
        origin.close()

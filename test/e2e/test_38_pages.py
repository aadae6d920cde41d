# SPDX-License-Identifier: Apache-2.0
"""Pages of the file where foldback itself answers (error_pages)."""
import pytest

from conftest import config, free_port, ok
from h2_util import H2

pytestmark = pytest.mark.short
PAGES = """error_pages:
  - status: [502, 503, 504]
    body: |
      <h1>Back soon</h1><style>p { color: red }</style>
      <p>{request_id}, say {request_id} to us.</p>
  - { status: [400, 404], body: nothing here, type: text/plain }
"""
OF_ROUTE = ", error_pages: [{ status: 502, body: '{\"of\": \"the shop\"}', type: application/json }]"


def page(request_id):
    return ("<h1>Back soon</h1><style>p { color: red }</style>\n<p>%s, say %s to us.</p>\n" % (request_id, request_id)).encode()


def test_a_page_of_the_file_stands_in_place_of_foldbacks_own_words(world):
    proxy = world.proxy(config(free_port(), extra=PAGES))
    m = proxy.get("/")
    assert m.status == 502 and m.body == page(m.get("x-request-id"))
    assert m.all("content-type") == ["text/html; charset=utf-8"] and m.get("content-length") == str(len(m.body))
    assert 'details="connect_refused"' in m.get("proxy-status") and m.get("cache-control") == "no-store"
    head = proxy.get("/", method="HEAD")
    assert head.body == b"" and head.get("content-length") == str(len(m.body))


def test_programs_get_the_reason_as_before(world):
    proxy = world.proxy(config(free_port(), extra=PAGES))
    m = proxy.get("/", "Accept: application/json")
    assert m.get("content-type") == "application/problem+json" and b'"reason":"connect_refused"' in m.body


def test_a_route_has_pages_of_its_own_before_those_of_all(world):
    text = config(free_port(), extra=PAGES, route=OF_ROUTE).replace("match: /,", "match: { path: /, host: test },")
    proxy = world.proxy(text)
    m = proxy.get("/")
    assert m.body == b'{"of": "the shop"}' and m.get("content-type") == "application/json"
    w = proxy.connect()
    m = w.send("GET / HTTP/1.1\r\nHost: other\r\n\r\n").response()
    w.close()
    assert (m.status, m.body, m.get("content-type")) == (404, b"nothing here", "text/plain")


def test_what_is_no_request_gets_its_page_too(world):
    w = world.proxy(config(free_port(), extra=PAGES)).connect()
    w.send(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
    m = w.response()
    assert (m.status, m.body) == (400, b"nothing here")


def test_answers_of_endpoints_stay(world):
    up = world.origin(lambda r, w: b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\ntheir")
    proxy = world.proxy(config(up, extra=PAGES))
    m = proxy.get("/")
    assert (m.status, m.body) == (404, b"their")


def test_pages_go_to_streams_too(world):
    proxy = world.proxy(config(free_port(), extra=PAGES))
    h2 = H2(proxy.port)
    answer = h2.get("/")
    h2.close()
    assert answer.status == 502 and bytes(answer.body) == page(answer.fields["x-request-id"])


def test_a_large_page_is_whole_and_a_reload_changes_it(world):
    dead = free_port()
    large = "x" * 65000
    proxy = world.proxy(config(dead, extra="error_pages: [{ status: 502, body: %s }]\n" % large))
    w = proxy.connect()
    for _ in range(3):
        w.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
    assert [w.response().body for _ in range(3)] == [large.encode()] * 3
    up = world.origin(lambda r, w: ok("well"))
    proxy.reload(config(dead, extra="error_pages: [{ status: 502, body: small }]\n"))
    assert proxy.get("/").body == b"small"
    proxy.reload(config(up))
    assert proxy.get("/").body == b"well"

/* SPDX-License-Identifier: Apache-2.0 */
/* Whole texts: what they mean, and what is said about the wrong ones. */
#include "base/assert.h"
#include "conf/conf.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka.h needs some of the above */
#include <cmocka.h>

#define LISTEN "listen: [\":8080\"]\n"
#define SERVICE "services: { shop: { endpoints: [\"10.0.0.1:80\"] } }\n"
#define BASE LISTEN SERVICE
/* A service with one more key. */
#define WITH(more) LISTEN "services: { shop: { endpoints: [\"10.0.0.1:80\"], " more " } }\n"
#define ROUTED(route) BASE "routes: [" route "]\n"

static struct conf *good(const char *text)
{
    struct conf *c;
    struct conf_report report;
    enum fb_code code = conf_parse(span_of(text), "t.yaml", &c, &report);
    for (size_t i = 0; i < report.count; i++)
        if (!report.at[i].is_warning)
            print_error("%u:%u %s\n", report.at[i].line, report.at[i].column, report.at[i].text);
    conf_report_fini(&report);
    assert_int_equal(code, FB_OK);
    return c;
}

/* ---- meaning ---- */

static const char guide_text[] =
    "# comment\n"
    "listen: [\":8080\", {address: \"[::1]:81\", protocols: [http1]}, \"fd:3\", \"fd:web-1.sock\", "
    "localhost:82]\n"
    "state: /var/lib/foldback\n"
    "mode: recommend\n"
    "services:\n"
    "  shop:\n"
    "    endpoints: [10.0.0.1:80, \"dns://Shop.Example:8000\", {address: \"[::1]:1\", version: "
    "1.10, weight: 50%}]\n"
    "    objective: { latency: 99.9% < 250ms, errors: < 0.1% }\n"
    "    tune: { limit: { mode: act, min: 8, max: 512 }, timeout: observe, retry: { value: 5% "
    "} }\n"
    "    mode: act\n"
    "    balance: least-request\n"
    "    queue: { wait: 100ms, capacity: 50 }\n"
    "    health: { path: /up, host: \"up.internal\", port: 8081, interval: 1s, timeout: 500ms, "
    "rise: 1, fall: 9 }\n"
    "    eject: no\n"
    "    host: origin.example:81\n"
    "  other: { endpoints: [\":3000\"], queue: off, health: /ping }\n"
    "routes:\n"
    "  - { match: /checkout/, service: shop, priority: critical, timeout: 2s, deadline: 5s, "
    "key: X-User }\n"
    "  - { match: { host: \"*.Example.org\", path: /a*.png, method: GET|HEAD, header: { X-P: "
    "\"a*\", X-Q: \"*\" } },\n"
    "      service: other, stream: true, tune: { timeout: { min: 100ms, max: 1s } } }\n"
    "  - { match: /exact, service: other, priority: best-effort }\n"
    "  - { match: /, service: shop, key: address }\n";

static void check_first_service(const struct conf_service *sv)
{
    assert_int_equal(sv->endpoint_count, 3);
    assert_int_equal(sv->endpoints[0].kind, CONF_ENDPOINT_ADDRESS);
    assert_int_equal(sv->endpoints[1].kind, CONF_ENDPOINT_DNS);
    assert_string_equal(sv->endpoints[1].host, "shop.example");
    assert_int_equal(sv->endpoints[1].port, 8000);
    assert_string_equal(sv->endpoints[2].host, "::1");
    assert_string_equal(sv->endpoints[2].version, "1.10"); /* not 1.1 */
    assert_float_equal(sv->endpoints[2].weight_pct, 50, 0);
    assert_float_equal(sv->latency_quantile, 0.999, 1e-12);
    assert_int_equal(sv->latency_us, 250000);
    assert_float_equal(sv->error_ratio_max, 0.001, 1e-12);
    assert_int_equal(sv->mode, EV_MODE_ACT);
    assert_int_equal(sv->balance, CONF_BALANCE_LEAST_REQUEST);
    assert_int_equal(sv->tune[KNOB_LIMIT].mode, EV_MODE_ACT);
    assert_float_equal(sv->tune[KNOB_LIMIT].min, 8, 0);
    assert_float_equal(sv->tune[KNOB_LIMIT].max, 512, 0);
    assert_true(isnan(sv->tune[KNOB_LIMIT].value));
    assert_int_equal(sv->tune[KNOB_TIMEOUT_MS].mode, EV_MODE_OBSERVE);
    assert_int_equal(sv->tune[KNOB_RETRY_PCT].mode, -1);
    assert_float_equal(sv->tune[KNOB_RETRY_PCT].value, 5, 0);
    assert_int_equal(sv->queue_wait_max_ms, 100);
    assert_int_equal(sv->queue_capacity, 50);
    assert_false(sv->is_queue_off);
    assert_true(sv->health.is_on);
    assert_string_equal(sv->health.path, "/up");
    assert_string_equal(sv->health.host, "up.internal");
    assert_int_equal(sv->health.port, 8081);
    assert_int_equal(sv->health.fall, 9);
    assert_false(sv->is_ejecting);
    assert_string_equal(sv->host_header, "origin.example:81");
}

static void check_routes(const struct conf *c)
{
    assert_int_equal(c->route_count, 4);
    const struct conf_route *rt = c->routes;
    assert_string_equal(rt[0].name, "shop /checkout/");
    assert_int_equal(rt[0].path_kind, CONF_PATH_PREFIX);
    assert_int_equal(rt[0].class, EV_CLASS_CRITICAL);
    assert_int_equal(rt[0].timeout_ms, 2000);
    assert_int_equal(rt[0].deadline_ms, 5000);
    assert_string_equal(rt[0].key.name, "X-User");
    assert_int_equal(rt[1].path_kind, CONF_PATH_GLOB);
    assert_string_equal(rt[1].host, "*.example.org");
    assert_int_equal(rt[1].header_count, 2);
    assert_string_equal(rt[1].headers[0].value, "a*");
    assert_string_equal(rt[1].headers[1].value, ""); /* only present */
    assert_true(rt[1].is_stream);
    assert_int_equal(rt[1].service, 1);
    assert_float_equal(rt[1].timeout_tune.max, 1000, 0);
    assert_int_equal(rt[2].path_kind, CONF_PATH_EXACT);
    assert_int_equal(rt[2].class, EV_CLASS_BEST_EFFORT);
    assert_int_equal(rt[3].path_kind, CONF_PATH_ANY);
    assert_string_equal(rt[3].key.name, "");
}

static void the_shape_of_the_guide_is_understood(void **state)
{
    (void)state;
    struct conf *c = good(guide_text);
    assert_int_equal(c->listen_count, 5);
    assert_string_equal(c->listens[1].address, "[::1]:81");
    assert_string_equal(c->listens[3].address, "fd:web-1.sock");
    assert_string_equal(c->listens[4].address, "127.0.0.1:82");
    assert_string_equal(c->p.top_state, "/var/lib/foldback");
    assert_int_equal(c->p.top_mode, EV_MODE_RECOMMEND);
    assert_int_equal(c->service_count, 2);
    check_first_service(&c->services[0]);
    const struct conf_service *sv = &c->services[1];
    assert_string_equal(sv->endpoints[0].host, "127.0.0.1");
    assert_int_equal(sv->mode, EV_MODE_RECOMMEND); /* inherited */
    assert_true(sv->is_queue_off);
    assert_true(sv->is_ejecting);
    assert_string_equal(sv->health.path, "/ping");

    check_routes(c);
    conf_unref(c);
}

static void without_routes_all_goes_to_the_one_service(void **state)
{
    (void)state;
    struct conf *c = good(BASE);
    assert_int_equal(c->route_count, 1);
    assert_int_equal(c->routes[0].path_kind, CONF_PATH_ANY);
    assert_string_equal(c->routes[0].name, "shop /");
    assert_int_equal(c->routes[0].timeout_tune.mode, -1);
    conf_unref(c);
}

static void words_that_yaml_would_twist_stay_text(void **state)
{
    (void)state;
    struct conf *c =
        good(LISTEN "state: no\nnode: 1.10\nservices: { yes: { endpoints: [\"10.0.0.1:80\"] } }\n"
                    "routes: [{ match: /, service: yes, key: 0x10 }]\n");
    assert_string_equal(c->p.top_state, "no");
    assert_string_equal(c->p.top_node, "1.10");
    assert_string_equal(c->services[0].name, "yes");
    assert_string_equal(c->routes[0].key.name, "0x10");
    conf_unref(c);
}

static void route_names_fit_the_registry_and_differ(void **state)
{
    (void)state;
    struct buf text;
    buf_init(&text, 64 * KIB);
    buf_puts(&text, BASE "routes:\n");
    for (int i = 0; i < 2; i++) {
        buf_puts(&text, "  - { service: shop, match: /");
        for (int k = 0; k < 300; k++)
            buf_putc(&text, 'a');
        buf_printf(&text, "%d }\n", i);
    }
    struct conf *c = good(buf_str(&text));
    assert_true(strlen(c->routes[0].name) < 104);
    assert_string_not_equal(c->routes[0].name, c->routes[1].name);
    conf_unref(c);
    buf_fini(&text);
}

static void the_hash_follows_the_text(void **state)
{
    (void)state;
    struct conf *a = good(BASE), *b = good(BASE), *c = good(BASE "mode: act\n");
    assert_true(a->hash == b->hash);
    assert_true(a->hash != c->hash);
    assert_string_equal(a->text, BASE);
    assert_ptr_equal(conf_ref(a), a);
    conf_unref(a);
    conf_unref(a);
    conf_unref(b);
    conf_unref(c);
    conf_unref(NULL);
}

/* ---- complaints ---- */

#define ROW(text, ...)                                                                             \
    {                                                                                              \
        .says = text, __VA_ARGS__                                                                  \
    }
static const struct {
    const char *says, *text, *want;
    uint32_t line, column;
} bad[] = {
    ROW("range", .text = BASE "limits:\n  header_timeout: 7ms\n", .line = 4, .column = 19,
        .want = "limits.header_timeout must be 100ms..120s, got 7ms"),
    ROW("above", .text = BASE "limits: { header_count: 201 }\n", .line = 3,
        .want = "must be 10..200, got 201"),
    ROW("far above", .text = BASE "limits: { header_count: 99999999999999999999 }\n",
        .want = "must be 10..200"),
    ROW("sub-unit", .text = BASE "limits: { header_timeout: 500us }\n",
        .want = "must be 100ms..120s"),
    ROW("bare duration", .text = BASE "limits: { idle_timeout: 10 }\n",
        .want = "limits.idle_timeout needs a unit, got \"10\"; write for example 10s"),
    ROW("bare size", .text = BASE "limits: { line_bytes: 8192 }\n",
        .want = "needs a unit, got \"8192\"; write for example 8KiB"),
    ROW("bare rate", .text = BASE "limits: { min_rate: 500 }\n", .want = "needs a unit"),
    ROW("decimal size", .text = BASE "limits: { line_bytes: 8KB }\n", .want = "ambiguous unit"),
    ROW("no number", .text = BASE "limits: { header_count: many }\n", .want = "not understood"),
    ROW("bool", .text = BASE "gateway: { server_timing: maybe }\n",
        .want = "must be true or false"),
    ROW("word", .text = BASE "mode: akt\n", .line = 3, .column = 7,
        .want = "must be observe, recommend or act, got \"akt\"; did you mean `act`?"),
    ROW("far word", .text = BASE "mode: automatic\n",
        .want = "must be observe, recommend or act, got \"automatic\""),
    ROW("unknown section", .text = BASE "limts: {}\n",
        .want = "unknown key `limts` at the top level; did you mean `limits`?"),
    ROW("unknown key", .text = BASE "limits: { header_timout: 5s }\n",
        .want = "did you mean `header_timeout`?"),
    ROW("too far to suggest", .text = BASE "upstreem_things: 1\n", .want = "lists all keys"),
    ROW("wrong level up", .text = BASE "endpoints: []\n",
        .want = "`endpoints` belongs under services.NAME, not at the top level"),
    ROW("wrong level of a param", .text = BASE "header_timeout: 5s\n",
        .want = "`header_timeout` belongs under limits"),
    ROW("wrong level down", .text = WITH("listen: x"),
        .want = "`listen` belongs at the top level, not under services.NAME"),
    ROW("wrong section", .text = BASE "limits: { connect_timeout: 1s }\n",
        .want = "belongs under upstream, not under limits"),
    ROW("key of Envoy", .text = WITH("lb_policy: ROUND_ROBIN"), .want = "here it is `balance`"),
    ROW("key of a connector", .text = WITH("tls: { ca_file: x }"), .want = "here it is `ca`"),
    ROW("one letter less", .text = LISTEN "services: { shop: { endpoint: [\"10.0.0.1:80\"] } }\n",
        .want = "here it is `endpoints: [HOST:PORT]`"),
    ROW("near beats a connector", .text = WITH("objective: { latenc: 1 }"),
        .want = "did you mean `latency`?"),
    ROW("timeout of a service", .text = WITH("timeout: 10s"), .want = "it belongs under routes[]"),
    ROW("key of nginx in a section", .text = BASE "limits: { client_max_body_size: 10m }\n",
        .want = "here it is `limits.body_bytes`"),
    ROW("key of HAProxy at the top", .text = BASE "backends: {}\n",
        .want = "here it is `services`"),
    ROW("path of a route", .text = ROUTED("{ path: /x, service: shop }"),
        .want = "here it is `match: /x/`"),
    ROW("match of nginx, exact", .text = ROUTED("{ match: \"= /x\", service: shop }"),
        .want = "write /x: the first route"),
    ROW("match of nginx, prefix", .text = ROUTED("{ match: \"^~ /img/\", service: shop }"),
        .want = "write /img/: the first route"),
    ROW("nothing behind =", .text = ROUTED("{ match: \"=\", service: shop }"),
        .want = "must begin with /"),
    ROW("weight of nginx",
        .text =
            LISTEN "services: { shop: { endpoints: [{ address: \"10.0.0.1:80\", weight: 3 }] } }\n",
        .want = "write 300% for 3 x an even share"),
    ROW("weight of HAProxy",
        .text = LISTEN
        "services: { shop: { endpoints: [{ address: \"10.0.0.1:80\", weight: 50 }] } }\n",
        .want = "write 50% (100% is even)"),
    ROW("cache for a time", .text = ROUTED("{ match: /, service: shop, cache: 10m }"),
        .want = "must be on, off or a map, got \"10m\"; for example { ttl: 10m }"),
    ROW("compress with one coding", .text = ROUTED("{ match: /, service: shop, compress: gzip }"),
        .want = "must be on, off or a map, got \"gzip\""),
    ROW("twice", .text = BASE "mode: act\nmode: act\n", .line = 4, .column = 1,
        .want = "mode is given twice, first in line 3"),
    ROW("twice in flow", .text = WITH("eject: no, eject: no"),
        .want = "services.shop.eject is given twice"),
    ROW("no value", .text = BASE "limits:\n  idle_timeout:\n", .line = 4,
        .want = "limits.idle_timeout has no value"),
    ROW("list for value", .text = BASE "mode: [act]\n",
        .want = "mode must be one value, got a list"),
    ROW("value for map", .text = BASE "limits: 5\n",
        .want = "limits must be a map, got a single value"),
    ROW("empty file", .text = "", .line = 1, .want = "says nothing"),
    ROW("only a word", .text = "hello\n", .want = "the file must be a map"),
    ROW("a list", .text = "- a\n", .want = "must be a map"),
    ROW("tab", .text = BASE "\tx: 1\n", .line = 3, .want = "not YAML"),
    ROW("unclosed", .text = "listen: [\":80\"\n", .want = "not YAML"),
    ROW("alias", .text = LISTEN "state: *x\n" SERVICE, .line = 2, .column = 8,
        .want = "aliases (*name) are not used"),
    ROW("anchor", .text = "listen: &a [\":80\"]\n" SERVICE, .want = "anchors (&name) are not used"),
    ROW("merge", .text = BASE "limits: { <<: {} }\n", .want = "unknown key `<<`"),
    ROW("tag", .text = BASE "mode: !!str act\n", .want = "tags (!name) are not used"),
    ROW("two documents", .text = BASE "---\na: 1\n", .want = "only one document"),
    ROW("directive", .text = BASE "%n\x99\n", .line = 3, .column = 1,
        .want = "must not begin with %"),
    ROW("directive behind a mark", .text = "\xef\xbb\xbf%n\n" BASE,
        .want = "must not begin with %"),
    ROW("directive behind CR", .text = BASE "\r%n\n", .want = "must not begin with %"),
    ROW("not UTF-8", .text = BASE "# \xc3\xa9\xff\n", .line = 3, .column = 4,
        .want = "0xff is not UTF-8"),
    ROW("surrogate", .text = BASE "# \xed\xa0\x80\n", .want = "not UTF-8"),
    ROW("control", .text = BASE "# \x01\n", .want = "0x01 is a control character"),
    ROW("deep", .text = "a: [[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]\n", .want = "deeper than 16"),
    ROW("map as key", .text = "? {a: 1}\n: 2\n", .want = "a key must be one word"),
    ROW("control byte", .text = BASE "state: \"a\\nb\"\n", .want = "control characters"),
    ROW("nul byte", .text = BASE "state: \"a\\0b\"\n", .want = "control characters"),
    ROW("no listen", .text = SERVICE, .want = "`listen` is missing"),
    ROW("no services", .text = LISTEN, .want = "`services` is missing"),
    ROW("listen bare", .text = "listen: [8080]\n" SERVICE, .column = 10, .want = "write \":8080\""),
    ROW("listen one", .text = "listen: \":8080\"\n" SERVICE, .want = "listen must be a list"),
    ROW("listen port", .text = "listen: [\":70000\"]\n" SERVICE, .want = "port of 0..65535"),
    ROW("listen name", .text = "listen: [\"example.org:80\"]\n" SERVICE,
        .want = "must be an IP address"),
    ROW("listen v6", .text = "listen: [\"::1:80\"]\n" SERVICE, .want = "[IPv6]:PORT"),
    ROW("listen twice", .text = "listen: [\":80\", \":80\"]\n" SERVICE, .want = "twice"),
    ROW("proxy_protocol", .text = "listen: [{ address: \":1\", proxy_protocol: v1 }]\n" SERVICE,
        .column = 43, .want = "listen[0].proxy_protocol must be true or false, got \"v1\""),
    ROW("trusted without header",
        .text = "listen: [{ address: \":1\", trusted: [10.0.0.0/8] }]\n" SERVICE,
        .want = "add `proxy_protocol: true`"),
    ROW("forwarded_from without HTTP",
        .text = "listen: [{ address: \":1\", protocol: tcp, service: shop, "
                "forwarded_from: [10.0.0.0/8] }]\n" SERVICE,
        .want = "is for fields of HTTP"),
    ROW("trusted with bits behind its length",
        .text =
            "listen: [{ address: \":1\", proxy_protocol: on, trusted: [10.0.0.1/8] }]\n" SERVICE,
        .want = "no bit set behind its length, got \"10.0.0.1/8\""),
    ROW("trusted too long",
        .text =
            "listen: [{ address: \":1\", proxy_protocol: on, trusted: [10.0.0.0/33] }]\n" SERVICE,
        .want = "got \"10.0.0.0/33\""),
    ROW("trusted name",
        .text = "listen: [{ address: \":1\", proxy_protocol: on, trusted: [balancer] }]\n" SERVICE,
        .want = "must be an address, or a network"),
    ROW("trusted empty",
        .text = "listen: [{ address: \":1\", proxy_protocol: on, trusted: [] }]\n" SERVICE,
        .want = "must have 1..64 prefixes, got 0"),
    ROW("h2 without tls", .text = WITH("protocol: h2"), .want = "which is over TLS: add `tls: on`"),
    ROW("h2c with tls", .text = WITH("protocol: h2c, tls: on"), .want = "write `protocol: h2`"),
    ROW("protocol of a service", .text = WITH("protocol: h3"),
        .want = "must be http1, h2c, h2 or auto, got"),
    ROW("auto without tls", .text = WITH("protocol: auto"), .want = "add `tls: on`"),
    ROW("proxy_protocol of a service", .text = WITH("proxy_protocol: v3"),
        .want = "must be off, v1 or v2, got \"v3\""),
    ROW("tcp without service", .text = "listen: [{ address: \":1\", protocol: tcp }]\n" SERVICE,
        .want = "a listener with `protocol: tcp` needs `service`"),
    ROW("tcp with an unknown service",
        .text = "listen: [{ address: \":1\", protocol: tcp, service: shup }]\n" SERVICE,
        .want = "there is no service `shup`; did you mean `shop`?"),
    ROW("tcp with protocols",
        .text = "listen: [{ address: \":1\", protocol: tcp, service: shop, protocols: [http1] "
                "}]\n" SERVICE,
        .want = "`protocols` are those of HTTP"),
    ROW("service without tcp", .text = "listen: [{ address: \":1\", service: shop }]\n" SERVICE,
        .want = "requests find theirs by `routes`"),
    ROW("route to a service of connections",
        .text = "listen: [{ address: \":1\", protocol: tcp, service: shop }]\n" SERVICE
                "routes: [{ match: /, service: shop }]\n",
        .want = "give requests a service of their own"),
    ROW("listen empty", .text = "listen: []\n" SERVICE, .want = "1..64"),
    ROW("listen without address", .text = "listen: [{ protocols: [http1] }]\n" SERVICE,
        .want = "needs `address`"),
    ROW("tls", .text = "listen: [{ address: \":1\", tls: { key: /dev/null } }]\n" SERVICE,
        .want = "tls has key without cert"),
    ROW("a protocol that nobody speaks",
        .text = "listen: [{ address: \":1\", protocols: [spdy] }]\n" SERVICE,
        .want = "knows http1 and h2"),
    ROW("no protocol at all", .text = "listen: [{ address: \":1\", protocols: [] }]\n" SERVICE,
        .want = "names no protocol"),
    ROW("cache", .text = ROUTED("{ match: /, service: shop, cache: maybe }"),
        .want = "cache must be on, off or a map"),
    ROW("cache budget", .text = ROUTED("{ match: /, service: shop, cache: { budget: 64KiB } }"),
        .want = "must be 1MiB..1TiB, got 64KiB"),
    ROW("cache key", .text = ROUTED("{ match: /, service: shop, cache: { key: host } }"),
        .want = "must be url or path"),
    ROW("cache vary", .text = ROUTED("{ match: /, service: shop, cache: { vary: [\"a b\"] } }"),
        .want = "is not the name of a header field"),
    ROW("compress", .text = ROUTED("{ match: /, service: shop, compress: maybe }"),
        .want = "compress must be on, off or a map"),
    ROW("compress level", .text = ROUTED("{ match: /, service: shop, compress: { level: 10 } }"),
        .want = "must be 1..9, got 10"),
    ROW("compress min_bytes",
        .text = ROUTED("{ match: /, service: shop, compress: { min_bytes: 2GiB } }"),
        .want = "must be 0..1GiB, got 2GiB"),
    ROW("compress types",
        .text = ROUTED("{ match: /, service: shop, compress: { types: [text] } }"),
        .want = "is no media type"),
    ROW("compress no types", .text = ROUTED("{ match: /, service: shop, compress: { types: [] } }"),
        .want = "types must have 1..64 media types, got 0"),
    ROW("cache typo", .text = ROUTED("{ match: /, service: shop, cache: { tll: 5s } }"),
        .want = "did you mean `ttl`"),
    ROW("admin port", .text = BASE "admin: { listen: \":8080\" }\n", .want = "choose another port"),
    ROW("admin token", .text = BASE "admin: { token_file: /nowhere/token }\n",
        .want = "/nowhere/token"),
    ROW("node", .text = BASE "node: a b\n", .want = "node must be 1..63"),
    ROW("ring", .text = BASE "gateway: { ring_cells: 1025 }\n", .want = "power of two"),
    ROW("glide", .text = BASE "gateway: { static_after: 70s }\n",
        .want = "must be more than gateway.static_after"),
    ROW("service name", .text = LISTEN "services: { \"a b\": { endpoints: [\"10.0.0.1:80\"] } }\n",
        .want = "a service name is 1..40"),
    ROW("no endpoints", .text = LISTEN "services: { shop: {} }\n",
        .want = "services.shop has no endpoints"),
    ROW("endpoint port", .text = LISTEN "services: { shop: { endpoints: [\"10.0.0.1\"] } }\n",
        .want = "services.shop.endpoints[0] must be HOST:PORT"),
    ROW("endpoint port 0", .text = LISTEN "services: { shop: { endpoints: [\"10.0.0.1:0\"] } }\n",
        .want = "port of 1..65535"),
    ROW("endpoint number",
        .text = LISTEN "services: { shop: { endpoints: [\"10.0.0.300:80\"] } }\n",
        .want = "neither an IP address nor a host name"),
    ROW("endpoint https and not",
        .text = LISTEN "services: { shop: { endpoints: [\"https://a:1\", \"b:1\"] } }\n",
        .want = "TLS is for all endpoints of a service"),
    ROW("endpoint consul", .text = LISTEN "services: { shop: { endpoints: [\"consul://a:1\"] } }\n",
        .want = "not in this version yet"),
    ROW("endpoint twice", .text = LISTEN "services: { shop: { endpoints: [\"a:1\", \"A:1\"] } }\n",
        .want = "same endpoint as number 1"),
    ROW("weight",
        .text = LISTEN "services: { shop: { endpoints: [{ address: \"a:1\", weight: 5 }] } }\n",
        .want = "write 500% for 5 x an even share"),
    ROW("weight range",
        .text = LISTEN "services: { shop: { endpoints: [{ address: \"a:1\", weight: 1001% }] } }\n",
        .want = "0%..1000%"),
    ROW("version",
        .text = LISTEN "services: { shop: { endpoints: [{ address: \"a:1\", version: a/b }] } }\n",
        .want = "version must be"),
    ROW("objective", .text = WITH("objective: { latency: 99 < 250ms }"),
        .want = "must look like `99% < 250ms`"),
    ROW("objective unit", .text = WITH("objective: { latency: 99% < 250 }"), .want = "write 250ms"),
    ROW("objective share", .text = WITH("objective: { latency: 30% < 250ms }"),
        .want = "50%..99.99%"),
    ROW("objective bound", .text = WITH("objective: { latency: 99% < 5h }"), .want = "100us..10m"),
    ROW("objective errors", .text = WITH("objective: { errors: 0.1% }"),
        .want = "must look like `< 0.1%`"),
    ROW("objective errors range", .text = WITH("objective: { errors: < 80% }"),
        .want = "0.001%..50%"),
    ROW("loop", .text = WITH("tune: { limt: act }"), .want = "did you mean `limit`?"),
    ROW("loop case", .text = WITH("tune: { LIMIT: act }"), .want = "tune has no loop `LIMIT`"),
    ROW("tune range", .text = WITH("tune: { limit: { min: 0 } }"),
        .want = "services.shop.tune.limit.min must be 1..4096"),
    ROW("tune unit", .text = WITH("tune: { timeout: { min: 500 } }"), .want = "write 500ms"),
    ROW("tune order", .text = WITH("tune: { limit: { min: 9, max: 8 } }"),
        .want = "min (9) is more than max (8)"),
    ROW("tune value", .text = WITH("tune: { limit: { max: 8, value: 9 } }"),
        .want = "value (9) is outside"),
    ROW("queue", .text = WITH("queue: { wait: 0 }"), .want = "1ms..60s"),
    ROW("health", .text = WITH("health: { path: up }"), .want = "must begin with /"),
    ROW("health by gRPC without HTTP/2", .text = WITH("health: { grpc: on }"),
        .want = "add `protocol: h2c`"),
    ROW("health by gRPC and a path", .text = WITH("protocol: h2c, health: { grpc: on, path: /x }"),
        .want = "`grpc` or `path`, not both"),
    ROW("health by gRPC of no name", .text = WITH("protocol: h2c, health: { grpc: /a.B/C }"),
        .want = "such as shop.Cart"),
    ROW("host", .text = WITH("host: \"a b\""), .want = "host must be a host name"),
    ROW("routes needed",
        .text = LISTEN "services: { a: { endpoints: [\"a:1\"] }, b: { endpoints: [\"b:1\"] } }\n",
        .want = "`routes` is missing"),
    ROW("route without match", .text = ROUTED("{ service: shop }"), .want = "needs `match`"),
    ROW("route without service", .text = ROUTED("{ match: / }"), .want = "needs `service`"),
    ROW("route service", .text = ROUTED("{ match: /, service: shpo }"),
        .want = "there is no service `shpo`; did you mean `shop`?"),
    ROW("route priority", .text = ROUTED("{ match: /, service: shop, priority: high }"),
        .want = "critical, default, degraded or best-effort"),
    ROW("route tune", .text = ROUTED("{ match: /, service: shop, tune: { limit: act } }"),
        .want = "belongs under services.NAME.tune"),
    ROW("path", .text = ROUTED("{ match: checkout, service: shop }"),
        .want = "routes[0].match must begin with /"),
    ROW("path query", .text = ROUTED("{ match: /a?b, service: shop }"),
        .want = "must hold no blanks, queries"),
    ROW("path dots", .text = ROUTED("{ match: /a/../b, service: shop }"),
        .want = "no . or .. segments"),
    ROW("path escape", .text = ROUTED("{ match: /%2f, service: shop }"),
        .want = "two upper-case hex digits"),
    ROW("path plain escape", .text = ROUTED("{ match: /%41, service: shop }"),
        .want = "needs no escape"),
    ROW("match host", .text = ROUTED("{ match: { host: \"a:80\" }, service: shop }"),
        .want = "without port"),
    ROW("match method", .text = ROUTED("{ match: { method: get }, service: shop }"),
        .want = "upper case"),
    ROW("match no method", .text = ROUTED("{ match: { method: \"\" }, service: shop }"),
        .want = "upper case"),
    ROW("match a method and none",
        .text = ROUTED("{ match: { method: [\"\", GET] }, service: shop }"), .want = "upper case"),
    ROW("match star", .text = ROUTED("{ match: { header: { A: \"a*b\" } }, service: shop }"),
        .want = "only allowed at the beginning or end"),
    ROW("match name", .text = ROUTED("{ match: { header: { \"a b\": x } }, service: shop }"),
        .want = "not the name of a header field"),
    ROW("same match",
        .text = ROUTED("{ match: /, service: shop }, { match: { path: / }, service: shop }"),
        .want = "never used, remove one"),
};

static void each_mistake_is_named_with_its_place_and_the_next_step(void **state)
{
    (void)state;
    for (size_t i = 0; i < FB_COUNT(bad); i++) {
        struct conf *c;
        struct conf_report report;
        enum fb_code code = conf_parse(span_of(bad[i].text), "t.yaml", &c, &report);
        bool is_found = false, is_placed = false;
        for (size_t k = 0; k < report.count; k++) {
            const struct conf_problem *p = &report.at[k];
            if (!strstr(p->text, bad[i].want))
                continue;
            is_found = true;
            is_placed |= (!bad[i].line || bad[i].line == p->line) &&
                         (!bad[i].column || bad[i].column == p->column);
        }
        if (!is_found || !is_placed) {
            print_error("%s: want \"%s\" at %u:%u\n", bad[i].says, bad[i].want, bad[i].line,
                        bad[i].column);
            for (size_t k = 0; k < report.count; k++)
                print_error("  got %u:%u %s\n", report.at[k].line, report.at[k].column,
                            report.at[k].text);
        }
        assert_int_equal(code, FB_E_CONFIG);
        assert_null(c);
        assert_true(is_found);
        assert_true(is_placed);
        conf_report_fini(&report);
    }
}

static void all_errors_of_a_run_come_in_the_order_of_lines(void **state)
{
    (void)state;
    static const char text[] =
        "listen: [8080]\nmode: akt\nlimts: {}\nlimits:\n  header_timeout: 7ms\n  idle_timeout: 10\n"
        "services:\n  shop: { endpoints: [\"a\"] }\n";
    struct conf *c;
    struct conf_report report;
    assert_int_equal(conf_parse(span_of(text), "t.yaml", &c, &report), FB_E_CONFIG);
    assert_int_equal(report.error_count, 6);
    for (size_t i = 1; i < report.count; i++)
        assert_true(report.at[i].line >= report.at[i - 1].line);
    conf_report_fini(&report);
}

static void a_report_reads_like_a_compilers(void **state)
{
    (void)state;
    static const char text[] = BASE "limits:\n  # \xc3\xa9\n  { \xc3\xa9: 1 }\n";
    struct conf *c;
    struct conf_report report;
    struct buf out;
    buf_init(&out, 64 * KIB);
    assert_int_equal(conf_parse(span_of(text), "t.yaml", &c, &report), FB_E_CONFIG);
    conf_report_print(&report, "t.yaml", span_of(text), &out);
    assert_non_null(
        strstr(buf_str(&out), "t.yaml:5:5: error: unknown key `\xc3\xa9` under limits"));
    assert_non_null(strstr(buf_str(&out), "\n      { \xc3\xa9: 1 }\n        ^\nt.yaml: 1 error\n"));
    conf_report_fini(&report);
    buf_fini(&out);
}

static void warnings_do_not_stop_the_start(void **state)
{
    (void)state;
    static const char text[] =
        LISTEN "services: { a: { endpoints: [\"a:1\"] }, b: { endpoints: [\"b:1\"] } }\n"
               "routes: [{ match: /, service: a }, { match: /x, service: a }]\n";
    struct conf *c;
    struct conf_report report;
    assert_int_equal(conf_parse(span_of(text), "t.yaml", &c, &report), FB_OK);
    assert_int_equal(report.count, 2);
    assert_true(report.at[0].is_warning);
    assert_non_null(strstr(report.at[0].text, "no route leads to service `b`"));
    assert_non_null(strstr(report.at[1].text, "never used"));
    conf_report_fini(&report);
    conf_unref(c);
}

static void a_bomb_of_aliases_is_refused_at_once(void **state)
{
    (void)state;
    struct buf text;
    struct conf *c;
    struct conf_report report;
    buf_init(&text, 64 * KIB);
    buf_puts(&text, "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for (int i = 1; i < 10; i++)
        buf_printf(&text, "a%d: &a%d [*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d]\n", i, i, i - 1,
                   i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1);
    assert_int_equal(conf_parse(buf_span(&text), "bomb.yaml", &c, &report), FB_E_CONFIG);
    assert_int_equal(report.error_count, 1);
    assert_int_equal(report.at[0].line, 1);
    conf_report_fini(&report);
    buf_fini(&text);
}

static void as_many_long_hosts_as_a_match_takes_are_read(void **state)
{
    (void)state;
    struct buf text;
    struct conf *c;
    struct conf_report report;
    buf_init(&text, 64 * KIB);
    buf_puts(&text, LISTEN "services: { shop: { endpoints: [\"a:1\"] } }\n");
    buf_printf(&text, "routes: [{ service: shop, match: { path: /%0500d, host: [", 0);
    for (int i = 0; i < CONF_HOSTS_MAX; i++)
        buf_printf(&text, "%s%03d.%060d.%060d.%060d.%060d.org", i ? ", " : "", i, 0, 0, 0, 0);
    buf_puts(&text, "] } }]\n");
    assert_int_equal(conf_parse(buf_span(&text), "t.yaml", &c, &report), FB_OK);
    assert_int_equal(report.count, 0);
    assert_int_equal(strlen(c->routes[0].host), CONF_HOSTS_MAX * 252 - 1);
    conf_report_fini(&report);
    conf_unref(c);
    buf_fini(&text);
}

static void sizes_are_bounded(void **state)
{
    (void)state;
    struct buf text;
    struct conf *c;
    struct conf_report report;
    buf_init(&text, 4 * MIB);
    buf_puts(&text, BASE);
    while (text.len <= MIB)
        buf_puts(&text, "# a comment that makes the file long\n");
    assert_int_equal(conf_parse(buf_span(&text), "t.yaml", &c, &report), FB_E_CONFIG);
    assert_non_null(strstr(report.at[0].text, "the most is 1 MiB"));
    conf_report_fini(&report);
    buf_clear(&text);
    buf_puts(&text, LISTEN "services: { shop: { endpoints: [\"a:1\"");
    for (int i = 0; i < 1100; i++)
        buf_printf(&text, ", \"h%d:1\"", i);
    buf_puts(&text, "] } }\n");
    assert_int_equal(conf_parse(buf_span(&text), "t.yaml", &c, &report), FB_E_CONFIG);
    assert_non_null(strstr(report.at[0].text, "the most is 1024"));
    conf_report_fini(&report);
    buf_clear(&text);
    for (int i = 0; i < 50000; i++) /* a thousand complaints help nobody */
        buf_printf(&text, "k%d: 1\n", i);
    assert_int_equal(conf_parse(buf_span(&text), "t.yaml", &c, &report), FB_E_CONFIG);
    assert_true(report.error_count > 50000);
    assert_int_equal(report.count, 100);
    conf_report_fini(&report);
    buf_fini(&text);
}

static void a_missing_file_is_an_error_that_names_it(void **state)
{
    (void)state;
    struct conf *c;
    struct conf_report report;
    struct fb_err err;
    assert_int_equal(conf_load("/nowhere/foldback.yaml", &c, &report, &err), FB_E_CONFIG);
    assert_non_null(strstr(err.text, "/nowhere/foldback.yaml: No such file"));
    assert_null(c);
    conf_report_fini(&report);
    assert_int_equal(conf_load("/", &c, &report, &err), FB_E_CONFIG);
    assert_non_null(strstr(err.text, "/ cannot be read: Is a directory"));
    conf_report_fini(&report);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_shape_of_the_guide_is_understood),
        cmocka_unit_test(without_routes_all_goes_to_the_one_service),
        cmocka_unit_test(words_that_yaml_would_twist_stay_text),
        cmocka_unit_test(route_names_fit_the_registry_and_differ),
        cmocka_unit_test(the_hash_follows_the_text),
        cmocka_unit_test(each_mistake_is_named_with_its_place_and_the_next_step),
        cmocka_unit_test(all_errors_of_a_run_come_in_the_order_of_lines),
        cmocka_unit_test(a_report_reads_like_a_compilers),
        cmocka_unit_test(warnings_do_not_stop_the_start),
        cmocka_unit_test(a_bomb_of_aliases_is_refused_at_once),
        cmocka_unit_test(as_many_long_hosts_as_a_match_takes_are_read),
        cmocka_unit_test(sizes_are_bounded),
        cmocka_unit_test(a_missing_file_is_an_error_that_names_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

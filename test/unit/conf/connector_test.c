/* SPDX-License-Identifier: Apache-2.0 */
#include "conf/conf_int.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define HEAD "listen: [\":8080\"]\nservices: { app: { endpoints: [\"127.0.0.1:3000\"] } }\n"

static struct conf *parse(const char *text, struct conf_report *report)
{
    struct conf *c = NULL;
    char whole[2000];
    snprintf(whole, sizeof whole, HEAD "connectors: { a: %s }\n", text);
    return conf_parse(span_of(whole), "t.yaml", &c, report) == FB_OK ? c : NULL;
}

static void each_mistake_is_one_sentence(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } rows[] = {
        {"{ path: x }", "has no `type`"},
        {"{ type: fil, path: x }", "did you mean `file`?"},
        {"{ type: file }", "needs `path`"},
        {"{ type: file, path: x, filtr: a }", "did you mean `filter`?"},
        {"{ type: file, path: x, events: [alrt] }", "did you mean alert"},
        {"{ type: file, path: x, events: [] }", "at least one event"},
        {"{ type: file, path: x, filter: \"status>>1\" }", "expected a number"},
        {"{ type: file, path: x, direction: both }", "sink, source or fleet"},
        {"{ type: file, path: x, per: event, format: binary }", "is JSON"},
        {"{ type: file, path: x, in_flight: 0 }", "must be 1..256"},
        {"{ type: file, path: x, block: 1KiB }", "must be 4KiB..256KiB"},
        {"{ type: file, path: x, delay: 5 }", "needs a unit"},
        {"7", "must be a map"},
        {"{ type: kafka, brokers: \"b:9092,b:99999\", topic: t }", "\"b:99999\" is no address"},
        {"{ type: kafka, brokers: \"kafka://b\", topic: t }", "is no address"},
        {"{ type: kafka, brokers: \"[fd00::1]:9092,[fd00::2]\", topic: t/u }",
         "is no name of a topic: 1..249 letters"},
        {"{ type: kafka, brokers: b, topic: .. }", "is no name of a topic"},
        {"{ type: kafka, brokers: b, topic: [t, u] }", "a sink has one topic, got 2"},
        {"{ type: kafka, brokers: b, topic: t, ca_file: /dev/null }", "without `tls: true`"},
        {"{ type: kafka, brokers: b, topic: t, tls: true, cert_file: /dev/null }",
         "needs `key_file`"},
        {"{ type: kafka, brokers: b, topic: t, sasl: plain, username: u }",
         "needs `password_file`"},
        {"{ type: kafka, brokers: b, topic: t, password_file: /dev/null }",
         "without `sasl: plain`"},
        {"{ type: kafka, brokers: b, topic: t, sasl: oauthbearer }", "needs one of `token_url`"},
        {"{ type: kafka, brokers: b, topic: t, sasl: oauthbearer, token_url: login, client_id: i, "
         "client_secret_file: /dev/null }",
         "is no URL"},
        {"{ type: kafka, brokers: b, topic: t, sasl: oauthbearer, token_url: \"https://l/t\", "
         "client_id: i }",
         "needs `client_secret_file`"},
        {"{ type: kafka, brokers: b, topic: t, sasl: oauthbearer, token_file: /dev/null, scope: s "
         "}",
         "without `token_url`"},
        {"{ type: kafka, brokers: b, topic: t, transactions: true, acks: 1 }", "need `acks: all`"},
        {"{ type: eventhubs, topic: t }", "needs `connection_string_file`, or `brokers`"},
        {"{ type: eventhubs, connection_string_file: /dev/null, token_file: /dev/null }",
         "that holds a key"},
        {"{ type: eventhubs, connection_string_file: /dev/null, topic: hub- }",
         "is no name of an event hub"},
        {"{ type: kinesis, stream: a b, aws_region: eu-central-1 }", "is no name of a stream"},
        {"{ type: kinesis, stream: s, aws_region: Frankfurt }", "is no region of AWS"},
        {"{ type: kinesis, stream: \"arn:aws:kinesis:us-east-1:1:stream/s\", aws_region: "
         "eu-central-1 }",
         "they must be the same"},
        {"{ type: kinesis, stream: \"arn:aws:kinesis:eu-central-1:1:s\", aws_region: eu-central-1 "
         "}",
         "is no ARN of a stream"},
        {"{ type: kinesis, stream: s, aws_region: eu-central-1, credentials: file }",
         "needs `credentials_file`"},
        {"{ type: kinesis, stream: s, aws_region: eu-central-1, pack: kpl }",
         "a block is one record"},
        {"{ type: kinesis, stream: s, aws_region: eu-central-1, endpoint: localhost }",
         "is no URL"},
        {"{ type: pubsub, project: p }", "needs `topic` in a sink"},
        {"{ type: pubsub, project: p, topic: t1 }", "3..255 letters"},
        {"{ type: pubsub, topic: events }", "needs `project`"},
        {"{ type: pubsub, topic: projects/p/subscriptions/events }",
         "projects/PROJECT/topics/NAME"},
        {"{ type: pubsub, project: p, topic: goog-events }", "is no name of a topic"},
        {"{ type: pubsub, project: p, topic: events, endpoint: \"a:b\" }", "is no address"},
        {"{ type: redis, address: localhost, stream: s }", "write HOST:PORT"},
        {"{ type: redis, address: \"r:6379\", stream: s, ca_file: /dev/null }",
         "without `tls: true`"},
        {"{ type: redis, address: \"r:6379\", stream: s, user: u }", "needs `password_file`"},
    };
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        struct conf_report report;
        struct conf *c = parse(rows[i].text, &report);
        assert_null(c);
        bool is_said = false;
        for (size_t p = 0; p < report.count; p++)
            is_said |= strstr(report.at[p].text, rows[i].says) != NULL;
        if (!is_said || report.error_count != 1)
            print_message("%s: %zu errors, first: %s\n", rows[i].text, report.error_count,
                          report.count ? report.at[0].text : "");
        assert_true(is_said);
        assert_int_equal(report.error_count, 1);
        conf_report_fini(&report);
    }
}

static void what_a_broker_takes_is_good(void **state)
{
    (void)state;
    static const char *const rows[] = {
        "{ type: kafka, brokers: [\"b-1:9092\", \"[fd00::1]:9092\", b], topic: a.b_c-D }",
        "{ type: kafka, direction: source, brokers: b, topic: [t, u], group: g, start: earliest }",
        "{ type: kafka, brokers: b, topic: t, tls: true, sasl: oauthbearer, client_id: i,"
        " token_url: \"https://l/t\", client_secret_file: /dev/null, scope: s }",
        "{ type: eventhubs, connection_string_file: /dev/null }",
        "{ type: eventhubs, brokers: \"n.servicebus.windows.net:9093\", topic: hub,"
        " token_command: [/bin/true] }",
        "{ type: kinesis, stream: \"arn:aws-cn:kinesis:cn-north-1:1:stream/s\","
        " aws_region: cn-north-1 }",
        "{ type: kinesis, stream: s, aws_region: us-gov-west-1, per: event, pack: kpl }",
        "{ type: pubsub, topic: projects/example.com:p/topics/events }",
        "{ type: pubsub, direction: source, project: p, subscription: shop, pull_max: 5 }",
        "{ type: redis, address: [\"/run/redis.sock\", \"r:6379\"], stream: \"a:{node}\" }",
    };
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        struct conf_report report;
        struct conf *c = parse(rows[i], &report);
        if (!c || report.count)
            fail_msg("%s: %s", rows[i], report.count ? report.at[0].text : "");
        conf_unref(c);
        conf_report_fini(&report);
    }
}

static void a_key_that_a_source_does_not_read_is_told_and_starts(void **state)
{
    (void)state;
    static const char *const rows[] = {"events: [request]", "filter: status>=500", "format: binary",
                                       "per: event",        "delay: 1s",           "block: 8KiB",
                                       "in_flight: 4",      "redact: false"};
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        struct conf_report report;
        char text[200], want[60];
        snprintf(text, sizeof text, "{ type: file, path: x, direction: source, %s }", rows[i]);
        snprintf(want, sizeof want, "%.*s says nothing in a source", (int)strcspn(rows[i], ":"),
                 rows[i]);
        struct conf *c = parse(text, &report);
        assert_non_null(c);
        assert_int_equal(report.count, 1);
        assert_true(report.at[0].is_warning);
        assert_non_null(strstr(report.at[0].text, want));
        conf_unref(c);
        conf_report_fini(&report);
    }
}

#define BUS "connectors: { bus: { type: file, path: b, direction: fleet }, "
#define EDGE "fleet: { connector: bus, role: edge }\n"

static void events_of_an_edge_node_stay_in_its_region(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says; /* NULL: good */
    } rows[] = {
        {BUS "a: { type: file, path: x } }\n" EDGE, "say `region:` at the top level and here"},
        {"region: eu\n" BUS "a: { type: file, path: x } }\n" EDGE, "add `region: eu`"},
        {"region: eu\n" BUS "a: { type: file, path: x, region: us } }\n" EDGE, "add `region: eu`"},
        {"region: eu\n" BUS "a: { type: file, path: x, region: eu } }\n" EDGE, NULL},
        {BUS "}\n" EDGE "handlers: { h: { url: 'http://h/x' } }\n", "handlers.h sends events"},
        {"region: eu\n" BUS "}\n" EDGE "handlers: { h: { url: 'http://h/x', region: eu } }\n",
         NULL},
        {BUS "a: { type: file, path: x, direction: source } }\n" EDGE, NULL},
        {BUS "}\n" EDGE, NULL},
        {BUS "a: { type: file, path: x } }\nfleet: { connector: bus, role: gateway }\n", NULL},
    };
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        struct conf_report report;
        struct conf *c = NULL;
        char whole[2000];
        snprintf(whole, sizeof whole, HEAD "%s", rows[i].text);
        enum fb_code code = conf_parse(span_of(whole), "t.yaml", &c, &report);
        if ((code == FB_OK) != !rows[i].says || (rows[i].says && report.error_count != 1))
            fail_msg("row %zu: %s", i, report.count ? report.at[0].text : "good");
        if (rows[i].says) {
            assert_non_null(strstr(report.at[0].text, rows[i].says));
            assert_true(report.at[0].line > 0);
        }
        conf_report_fini(&report);
        conf_unref(c);
    }
}

static void values_come_in_one_normal_form(void **state)
{
    (void)state;
    struct conf_report report;
    struct conf *c = parse("{ type: file, path: x, sync: no, rotate: 1MiB, delay: 2s,"
                           " events: [decision, alert], filter: \"status>=500\", from: start,"
                           " per: event, redact: off, region: eu }",
                           &report);
    assert_non_null(c);
    assert_int_equal(c->connector_count, 1);
    const struct conf_connector *k = &c->connectors[0];
    assert_string_equal(k->name, "a");
    assert_string_equal(k->type, "file");
    assert_string_equal(conf_connector_value(k, "sync"), "false");
    assert_string_equal(conf_connector_value(k, "rotate"), "1048576");
    assert_string_equal(conf_connector_value(k, "delay"), "2000");
    assert_string_equal(conf_connector_value(k, "keep"), "5");
    assert_string_equal(conf_connector_value(k, "timeout"), "30000");
    assert_null(conf_connector_value(k, "brokers"));
    assert_true(k->events == (1u << EV_DECISION | 1u << EV_ALERT));
    assert_true(k->is_per_event);
    assert_true(k->is_from_start);
    assert_false(k->is_source);
    assert_false(k->is_redacted);
    assert_int_equal(k->delay_ms, 2000);
    assert_string_equal(k->region, "eu");
    uint64_t hash = k->hash;
    conf_unref(c);
    conf_report_fini(&report);
    c = parse("{ type: file, path: y }", &report);
    assert_non_null(c);
    assert_true(c->connectors[0].hash != hash);
    assert_true(c->connectors[0].events == UINT64_MAX);
    conf_unref(c);
    conf_report_fini(&report);
}

/* What each type promises to people who have not installed it. */
static void each_type_has_a_level_and_a_word(void **state)
{
    (void)state;
    size_t count, words = 0;
    const struct conf_connector_row *types = conf_connector_rows(&count);
    for (size_t i = 0; i < count; i++) {
        assert_true(value_word(span_of(types[i].name), conf_key_row(KEY_CONNECTOR_type)->words) >=
                    0);
        assert_true(types[i].level > LEVEL_CONNECTOR);
        assert_ptr_equal(conf_connector_row(types[i].name), &types[i]);
    }
    for (struct span rest = span_of(conf_key_row(KEY_CONNECTOR_type)->words); rest.len; words++)
        (void)span_cut(rest, '|', &rest);
    assert_int_equal(words, count);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_mistake_is_one_sentence),
        cmocka_unit_test(what_a_broker_takes_is_good),
        cmocka_unit_test(a_key_that_a_source_does_not_read_is_told_and_starts),
        cmocka_unit_test(events_of_an_edge_node_stay_in_its_region),
        cmocka_unit_test(values_come_in_one_normal_form),
        cmocka_unit_test(each_type_has_a_level_and_a_word),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

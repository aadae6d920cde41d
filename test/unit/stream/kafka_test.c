/* SPDX-License-Identifier: Apache-2.0 */
/* The connector of Kafka against librdkafka's mock cluster: what a broker refuses, when it is away,
 * and what its account of the sink's offset does. */
#include "base/clock.h"
#include "stream/connectors/kafka_int.h"

#include <inttypes.h>
#include <librdkafka/rdkafka_mock.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

#define TOPIC "events"
#define SEND_MS 30000
#define PRODUCE 0
#define END_TXN 26

extern const struct connector_type foldback_connector;
static const struct connector_type *const type = &foldback_connector;

struct world {
    rd_kafka_t *holder;
    rd_kafka_mock_cluster_t *cluster;
    char brokers[200];
    const char *transactions;
    uint32_t troubles;
    char trouble[480];
    char position[CONNECTOR_POSITION_BYTES]; /* of a source; "" none */
    /* what a source gave */
    uint32_t count, room;
    uint64_t sum;
    char first[16], last[CONNECTOR_POSITION_BYTES];
    struct connector *giver; /* a member of the group that partitions are taken from */
    uint32_t given_back;
    char at_give_back[CONNECTOR_POSITION_BYTES];
};

static const char *value(const void *conf, const char *key)
{
    const struct world *w = conf;
    const char *const rows[][2] = {
        {"brokers", w->brokers}, {"topic", TOPIC}, {"group", "readers"},
        {"start", "earliest"},   {"acks", "all"},  {"transactions", w->transactions},
        {"compression", "none"}, {"linger", "0"},  {"message_max", "1000000"},
        {"tls", "false"},        {"sasl", "none"}, {"timeout", "30000"}};
    for (size_t i = 0; i < FB_COUNT(rows); i++)
        if (strcmp(rows[i][0], key) == 0)
            return rows[i][1];
    return "";
}

static bool position(void *ctx, const char *topic, uint32_t partition,
                     char out[CONNECTOR_POSITION_BYTES])
{
    const struct world *w = ctx;
    assert_string_equal(topic, TOPIC);
    assert_int_equal(partition, 0);
    snprintf(out, CONNECTOR_POSITION_BYTES, "%s", w->position);
    return w->position[0] != '\0';
}

static bool is_stopping(void *ctx)
{
    (void)ctx;
    return false;
}

static void say(void *ctx, enum fb_log_level level, const char *text)
{
    (void)ctx, (void)level, (void)text;
}

static void trouble(void *ctx, const struct fb_err *err)
{
    struct world *w = ctx;
    w->troubles++;
    snprintf(w->trouble, sizeof w->trouble, "%s", err->text);
}

/* As the runner does: what came in is acknowledged. */
static void give_back(void *ctx)
{
    struct world *w = ctx;
    struct connector_done done = {.topic = TOPIC};
    struct fb_err err;
    if (!w->giver)
        return;
    w->given_back++;
    snprintf(w->at_give_back, sizeof w->at_give_back, "%s", w->last);
    snprintf(done.position, sizeof done.position, "%s", w->last);
    assert_int_equal(type->commit(w->giver, &done, 1, &err), FB_OK);
}

/* As many partitions as brokers, one led by each. */
static void world_of(struct world *w, int brokers)
{
    char text[200];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    *w = (struct world){.transactions = "false", .room = UINT32_MAX};
    rd_kafka_conf_set(conf, "log_level", "0", text, sizeof text);
    w->holder = rd_kafka_new(RD_KAFKA_PRODUCER, conf, text, sizeof text);
    assert_non_null(w->holder);
    w->cluster = rd_kafka_mock_cluster_new(w->holder, brokers);
    assert_non_null(w->cluster);
    rd_kafka_mock_topic_create(w->cluster, TOPIC, brokers, 1);
    for (int32_t i = 0; i < brokers && brokers > 1; i++)
        rd_kafka_mock_partition_set_leader(w->cluster, TOPIC, i, i + 1);
    snprintf(w->brokers, sizeof w->brokers, "%s", rd_kafka_mock_cluster_bootstraps(w->cluster));
}

static void world_begin(struct world *w)
{
    world_of(w, 1);
}

static void world_end(struct world *w)
{
    rd_kafka_mock_cluster_destroy(w->cluster);
    rd_kafka_destroy(w->holder);
}

static struct connector *begin(struct world *w, bool is_source, bool was_fenced)
{
    struct fb_err err = {.text = ""};
    struct connector *c = NULL;
    struct connector_setup setup = {.name = "k",
                                    .node = "n1",
                                    .state_dir = "/nowhere",
                                    .is_source = is_source,
                                    .was_fenced = was_fenced,
                                    .value = value,
                                    .conf = w,
                                    .position = position,
                                    .give_back = give_back,
                                    .is_stopping = is_stopping,
                                    .say = say,
                                    .trouble = trouble,
                                    .ctx = w};
    enum fb_code code = type->open(&c, &setup, &err);
    assert_string_equal(err.text, "");
    assert_int_equal(code, FB_OK);
    return c;
}

struct sent {
    struct connector_record record[100];
    char text[100][16];
    struct connector_mark mark;
    uint32_t delivered;
    struct fb_err err;
};

/* <count> records "0", "1" ... of one key. */
static enum fb_code send_some(struct connector *c, struct sent *s, uint32_t count,
                              uint32_t timeout_ms)
{
    struct connector_batch batch = {.at = s->record,
                                    .count = count,
                                    .timeout_ms = timeout_ms,
                                    .mark = s->mark.offset ? &s->mark : NULL};
    for (uint32_t i = 0; i < count; i++) {
        snprintf(s->text[i], sizeof s->text[i], "%u", i);
        s->record[i] = (struct connector_record){
            .key = SPAN("node"), .value = span_of(s->text[i]), .wall_ms = 1700000000000};
    }
    s->err = (struct fb_err){.text = ""};
    enum fb_code code = type->send(c, &batch, &s->err);
    s->delivered = 0;
    for (uint32_t i = 0; i < count; i++)
        s->delivered += s->record[i].result == CONNECTOR_DELIVERED;
    return code;
}

static bool each(void *arg, const struct connector_message *m)
{
    struct world *w = arg;
    char text[16];
    if (w->count == w->room)
        return false;
    snprintf(text, sizeof text, "%.*s", SPAN_ARG(m->value));
    if (w->count++ == 0)
        snprintf(w->first, sizeof w->first, "%s", text);
    w->sum += strtoull(text, NULL, 10);
    snprintf(w->last, sizeof w->last, "%s", m->position);
    return true;
}

/* Until <count> messages came, or the broker had a minute. */
static void receive_some(struct world *w, struct connector *c, uint32_t count)
{
    struct fb_err err;
    for (uint32_t i = 0; i < 600 && w->count < count; i++) {
        enum fb_code code = type->receive(c, each, w, 100, &err);
        assert_true(code == FB_OK || code == FB_E_AGAIN);
        if (w->count == w->room)
            return;
    }
    assert_int_equal(w->count, count);
}

static void what_a_sink_sends_a_source_gets_once_and_in_order(void **state)
{
    struct world w;
    struct sent s = {.delivered = 0};
    (void)state;
    world_begin(&w);
    struct connector *out = begin(&w, false, false);
    assert_int_equal(send_some(out, &s, 100, SEND_MS), FB_OK);
    assert_int_equal(s.delivered, 100);
    type->close(out);
    struct connector *in = begin(&w, true, false);
    receive_some(&w, in, 100);
    assert_int_equal(w.sum, 4950);
    assert_string_equal(w.first, "0");
    assert_string_equal(w.last, "99");
    struct connector_done done = {.topic = TOPIC, .position = "99"};
    struct fb_err err;
    assert_int_equal(type->commit(in, &done, 1, &err), FB_OK);
    struct connector_place place = {.behind = 1};
    assert_true(type->place(in, &place));
    assert_int_equal(place.behind, 0);
    assert_int_equal(place.came, 100);
    type->close(in);
    world_end(&w);
}

static void a_source_goes_on_behind_the_position_that_foldback_has(void **state)
{
    struct world w;
    struct sent s = {.delivered = 0};
    (void)state;
    world_begin(&w);
    struct connector *out = begin(&w, false, false);
    assert_int_equal(send_some(out, &s, 20, SEND_MS), FB_OK);
    type->close(out);
    snprintf(w.position, sizeof w.position, "9");
    struct connector *in = begin(&w, true, false);
    receive_some(&w, in, 10);
    assert_string_equal(w.first, "10");
    type->close(in);
    world_end(&w);
}

static void a_message_that_found_no_room_comes_again(void **state)
{
    struct world w;
    struct sent s = {.delivered = 0};
    (void)state;
    world_begin(&w);
    struct connector *out = begin(&w, false, false);
    assert_int_equal(send_some(out, &s, 10, SEND_MS), FB_OK);
    type->close(out);
    w.room = 4;
    struct connector *in = begin(&w, true, false);
    receive_some(&w, in, 10);
    assert_int_equal(w.count, 4);
    w.room = UINT32_MAX;
    receive_some(&w, in, 10);
    assert_int_equal(w.sum, 45);
    type->close(in);
    world_end(&w);
}

/* What the group then makes of it: test/peer/test_kafka_exact.py, for the mock cluster refuses
 * positions while its group changes. */
static void before_another_member_goes_on_what_came_in_is_given_back(void **state)
{
    struct world w;
    struct sent s = {.delivered = 0};
    struct fb_err err;
    (void)state;
    world_begin(&w);
    struct connector *out = begin(&w, false, false);
    assert_int_equal(send_some(out, &s, 10, SEND_MS), FB_OK);
    type->close(out);
    w.giver = begin(&w, true, false);
    receive_some(&w, w.giver, 10);
    assert_int_equal(w.given_back, 0);
    struct connector *second = begin(&w, true, false);
    for (uint32_t i = 0; i < 600 && w.given_back == 0; i++) {
        (void)!type->receive(second, each, &w, 50, &err);
        (void)!type->receive(w.giver, each, &w, 50, &err);
    }
    assert_int_equal(w.given_back, 1);
    assert_string_equal(w.at_give_back, "9");
    struct connector *first = w.giver;
    w.giver = NULL;
    type->close(first);
    type->close(second);
    world_end(&w);
}

static void what_the_leader_refuses_for_a_moment_is_stored_once(void **state)
{
    struct world w;
    struct sent s = {.delivered = 0};
    (void)state;
    world_begin(&w);
    rd_kafka_mock_push_request_errors(
        w.cluster, PRODUCE, 3, RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS, RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT);
    struct connector *out = begin(&w, false, false);
    assert_int_equal(send_some(out, &s, 5, SEND_MS), FB_OK);
    assert_int_equal(s.delivered, 5);
    type->close(out);
    struct connector *in = begin(&w, true, false);
    receive_some(&w, in, 5);
    assert_int_equal(w.sum, 10);
    type->close(in);
    world_end(&w);
}

static void a_record_that_is_too_large_is_told_apart_from_a_missing_right(void **state)
{
    struct world w;
    struct sent s = {.delivered = 0};
    (void)state;
    world_begin(&w);
    struct connector *out = begin(&w, false, false);
    rd_kafka_mock_push_request_errors(w.cluster, PRODUCE, 1, RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE);
    assert_int_equal(send_some(out, &s, 1, SEND_MS), FB_OK);
    assert_int_equal(s.record[0].result, CONNECTOR_TOO_LARGE);
    rd_kafka_mock_push_request_errors(w.cluster, PRODUCE, 1,
                                      RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
    assert_int_equal(send_some(out, &s, 1, SEND_MS), FB_E_DENIED);
    assert_int_equal(s.record[0].result, CONNECTOR_RETRY);
    assert_non_null(strstr(s.err.text, "uthorization failed"));
    type->close(out);
    world_end(&w);
}

static void a_broker_that_is_away_is_said_and_the_records_stay_open(void **state)
{
    struct world w;
    struct sent s = {.delivered = 0};
    (void)state;
    world_begin(&w);
    rd_kafka_mock_broker_set_down(w.cluster, 1);
    struct connector *out = begin(&w, false, false);
    enum fb_code code = send_some(out, &s, 3, 3000);
    assert_true(code == FB_E_TIMEOUT || code == FB_E_AGAIN);
    assert_int_equal(s.delivered, 0);
    assert_int_equal(s.record[2].result, CONNECTOR_RETRY);
    assert_int_equal(w.troubles, 1); /* once a call */
    assert_non_null(strstr(w.trouble, "no answer"));
    rd_kafka_mock_broker_set_up(w.cluster, 1);
    assert_int_equal(send_some(out, &s, 3, SEND_MS), FB_OK);
    assert_int_equal(s.delivered, 3);
    type->close(out);
    world_end(&w);
}

/* What a process of <owner> and <who> left at the broker. */
static void leave_mark(struct world *w, int64_t offset, const char *metadata)
{
    char text[200];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set(conf, "bootstrap.servers", w->brokers, text, sizeof text);
    rd_kafka_conf_set(conf, "group.id", "foldback-n1-k", text, sizeof text);
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, text, sizeof text);
    assert_non_null(rk);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_t *at = rd_kafka_topic_partition_list_add(list, TOPIC, 0);
    at->offset = offset;
    at->metadata = strdup(metadata);
    at->metadata_size = strlen(metadata);
    assert_int_equal(rd_kafka_commit(rk, list, 0), RD_KAFKA_RESP_ERR_NO_ERROR);
    rd_kafka_topic_partition_list_destroy(list);
    rd_kafka_destroy(rk);
}

static void a_sink_without_transactions_keeps_no_mark(void **state)
{
    struct world w;
    struct fb_err err;
    struct connector_mark mark = {.offset = 7, .owner = "us"};
    (void)state;
    world_begin(&w);
    struct connector *out = begin(&w, false, false);
    assert_int_equal(type->mark(out, &mark, &err), FB_E_NOT_FOUND);
    assert_int_equal(mark.offset, 7);
    type->close(out);
    world_end(&w);
}

static void the_mark_of_the_broker_moves_the_sink_forward_and_never_back(void **state)
{
    static const struct {
        uint64_t own;
        const char *left;
        uint64_t limit, want, beyond;
    } rows[] = {{100, "us host/1/a", 1000, 500, 0},
                {700, "us host/1/a", 1000, 700, 0},
                {100, "others host/1/a", 1000, 100, 0},
                /* beyond the log as it was found: of another one */
                {100, "us host/1/a", 499, 100, 500}};
    (void)state;
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        struct world w;
        struct fb_err err = {.text = ""};
        struct connector_mark mark = {.offset = rows[i].own, .owner = "us", .limit = rows[i].limit};
        world_begin(&w);
        w.transactions = "true";
        leave_mark(&w, 500, rows[i].left);
        struct connector *out = begin(&w, false, false);
        enum fb_code code = type->mark(out, &mark, &err);
        assert_string_equal(err.text, "");
        assert_int_equal(code, FB_OK);
        assert_int_equal(mark.offset, rows[i].want);
        assert_int_equal(mark.beyond, rows[i].beyond);
        type->close(out);
        world_end(&w);
    }
}

static void of_a_transaction_with_a_refused_record_nothing_is_stored(void **state)
{
    struct world w;
    struct fb_err err = {.text = ""};
    struct sent s = {.mark = {.offset = 10, .owner = "us"}};
    struct connector_mark mark = {.offset = 0, .owner = "us"};
    (void)state;
    world_begin(&w);
    w.transactions = "true";
    struct connector *out = begin(&w, false, false);
    assert_int_equal(type->mark(out, &mark, &err), FB_OK);
    assert_int_equal(send_some(out, &s, 10, SEND_MS), FB_OK);
    assert_int_equal(s.delivered, 10);
    rd_kafka_mock_push_request_errors(w.cluster, PRODUCE, 1, RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE);
    s.mark.offset = 20;
    assert_int_equal(send_some(out, &s, 10, SEND_MS), FB_OK);
    assert_int_equal(s.delivered, 0); /* all or none */
    assert_int_equal(send_some(out, &s, 10, SEND_MS), FB_OK);
    assert_int_equal(s.delivered, 10);
    mark.offset = 10;
    assert_int_equal(type->mark(out, &mark, &err), FB_OK);
    assert_int_equal(mark.offset, 20);
    type->close(out);
    world_end(&w);
}

/* One leader acknowledges, the other one is away until the time is over. */
static void of_a_transaction_that_is_late_nothing_counts_as_delivered(void **state)
{
    (void)state;
    struct world w;
    struct sent s = {.mark = {.offset = 7, .owner = "o"}};
    struct connector_batch batch = {
        .at = s.record, .count = 40, .timeout_ms = 3000, .mark = &s.mark};
    char key[40][8];
    world_of(&w, 2);
    w.transactions = "true";
    rd_kafka_mock_coordinator_set(w.cluster, "transaction", "foldback-n1-k", 1);
    rd_kafka_mock_coordinator_set(w.cluster, "group", "foldback-n1-k", 1);
    struct connector *c = begin(&w, false, false);
    assert_int_equal(type->mark(c, &(struct connector_mark){.offset = 1, .owner = "o"}, &s.err),
                     FB_OK);
    rd_kafka_mock_broker_set_down(w.cluster, 2);
    for (uint32_t i = 0; i < batch.count; i++) {
        int len = snprintf(key[i], sizeof key[i], "key %u", i);
        s.record[i] = (struct connector_record){.key = {key[i], (size_t)len}, .value = SPAN("x")};
    }
    assert_int_not_equal(type->send(c, &batch, &s.err), FB_OK);
    for (uint32_t i = 0; i < batch.count; i++)
        assert_int_not_equal(s.record[i].result, CONNECTOR_DELIVERED);
    type->close(c);
    world_end(&w);
}

static void a_transaction_that_the_broker_ended_is_made_again_by_a_new_session(void **state)
{
    struct world w;
    struct fb_err err = {.text = ""};
    struct sent s = {.mark = {.offset = 10, .owner = "us"}};
    struct connector_mark mark = {.offset = 0, .owner = "us"};
    (void)state;
    world_begin(&w);
    w.transactions = "true";
    struct connector *out = begin(&w, false, false);
    assert_int_equal(type->mark(out, &mark, &err), FB_OK);
    rd_kafka_mock_push_request_errors(w.cluster, END_TXN, 1,
                                      RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH);
    assert_int_equal(send_some(out, &s, 10, SEND_MS), FB_E_AGAIN);
    assert_int_equal(s.delivered, 0);
    /* Nobody else claimed it (the mock stores no offsets of transactions): it goes on. */
    assert_int_equal(type->mark(out, &mark, &err), FB_OK);
    assert_int_equal(send_some(out, &s, 10, SEND_MS), FB_OK);
    assert_int_equal(s.delivered, 10);
    type->close(out);
    world_end(&w);
}

static void a_process_that_was_fenced_by_another_one_stays_down_and_names_it(void **state)
{
    struct world w;
    struct fb_err err = {.text = ""};
    struct connector_mark mark = {.offset = 0, .owner = "us"};
    (void)state;
    world_begin(&w);
    w.transactions = "true";
    leave_mark(&w, 500, "them host-2/4711/abcd");
    struct connector *out = begin(&w, false, true);
    for (int i = 0; i < 3; i++) { /* however often it looks: it takes nothing back */
        assert_int_equal(type->mark(out, &mark, &err), FB_E_CONFLICT);
        assert_non_null(strstr(err.text, "host-2/4711/abcd"));
        assert_non_null(strstr(err.text, "foldback connector resume k"));
    }
    type->close(out);
    out = begin(&w, false, false); /* a person said so */
    assert_int_equal(type->mark(out, &mark, &err), FB_OK);
    type->close(out);
    world_end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_sink_sends_a_source_gets_once_and_in_order),
        cmocka_unit_test(a_source_goes_on_behind_the_position_that_foldback_has),
        cmocka_unit_test(a_message_that_found_no_room_comes_again),
        cmocka_unit_test(before_another_member_goes_on_what_came_in_is_given_back),
        cmocka_unit_test(what_the_leader_refuses_for_a_moment_is_stored_once),
        cmocka_unit_test(a_record_that_is_too_large_is_told_apart_from_a_missing_right),
        cmocka_unit_test(a_broker_that_is_away_is_said_and_the_records_stay_open),
        cmocka_unit_test(a_sink_without_transactions_keeps_no_mark),
        cmocka_unit_test(the_mark_of_the_broker_moves_the_sink_forward_and_never_back),
        cmocka_unit_test(of_a_transaction_with_a_refused_record_nothing_is_stored),
        cmocka_unit_test(of_a_transaction_that_is_late_nothing_counts_as_delivered),
        cmocka_unit_test(a_transaction_that_the_broker_ended_is_made_again_by_a_new_session),
        cmocka_unit_test(a_process_that_was_fenced_by_another_one_stays_down_and_names_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* SQL over a log of 20,000 requests, 20 decisions and a name that changes in the middle. */
#include "query/query.h"

#include "query/column.h"
#include "query/print.h"
#include "stream/log.h"

#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
/* cmocka.h needs some of the above */
#include <cmocka.h>

#define REQUESTS 20000
#define EACH_US UINT64_C(1000)
#define FIRST_US UINT64_C(1000000000)

static char dir[64];
static uint64_t wall_minus_mono_us;
static volatile sig_atomic_t is_stopped;

static void put(struct log *log, const struct ev_head *ev, uint64_t *offset)
{
    struct span record = {(const char *)ev, (size_t)ev->cells * EV_CELL_BYTES};
    assert_int_equal(log_append(log, record, *offset), 1);
    ++*offset;
}

static void put_name(struct log *log, uint64_t *offset, uint16_t number, const char *name)
{
    struct ev_name n = EV_INIT(NAME, name, FIRST_US + *offset);
    n.number = number;
    n.kind = EV_KIND_SERVICE;
    memcpy(n.name, name, strlen(name));
    put(log, &n.head, offset);
}

static int make_log(void **state)
{
    (void)state;
    struct log_conf conf;
    struct log *log;
    struct log_reader *r;
    const struct ev_head *ev;
    uint64_t offset = 0;
    strcpy(dir, "/tmp/foldback-query-XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    log_conf_init(&conf);
    conf.node = 0xabc;
    if (log_open(&log, dir, &conf, NULL, NULL) != FB_OK)
        return -1;
    put_name(log, &offset, 0, "shop");
    put_name(log, &offset, 1, "mail");
    for (uint32_t i = 0; i < REQUESTS; i++) {
        if (i == REQUESTS / 2)
            put_name(log, &offset, 0, "store");
        struct ev_request q = EV_INIT(REQUEST, request, FIRST_US + i * EACH_US);
        q.request_id = 0xfedcba9876543210;
        q.service = i % 4 == 0 ? 0 : i % 4 == 1 ? 1 : EV_NONE;
        q.route = q.endpoint = q.version = EV_NONE;
        q.reason = REASON_ANSWERED;
        q.status = i % 100 == 0 ? 503 : 200;
        q.total_us = i + 1;
        put(log, &q.head, &offset);
        if (i % 1000 == 0) {
            struct ev_decision d = EV_INIT(DECISION, decision, q.head.time_us);
            d.decision_id = i / 1000;
            d.verdict = i < 10000 ? REASON_LEARN_PROBE_UP : REASON_NONE;
            d.target_kind = EV_KIND_SERVICE;
            d.from = i;
            d.to = i / 2.0;
            put(log, &d.head, &offset);
            /* several blocks, so that whole ones can be left out */
            if (log_flush(log, 60000) != FB_OK)
                return -1;
        }
    }
    struct ev_command c = EV_INIT(COMMAND, command, FIRST_US + REQUESTS * EACH_US);
    memcpy(c.actor, "ann", 3);
    put(log, &c.head, &offset);
    struct ev_key k = EV_INIT(KEY, key, FIRST_US + REQUESTS * EACH_US);
    k.op = EV_KEY_ERASED;
    k.erasure = 0xc7ce0acb22d91c4e;
    put(log, &k.head, &offset);
    log_close(log);
    if (log_reader_open(&r, dir, LOG_FROM_START, NULL) != FB_OK ||
        log_reader_next(r, &ev, &offset) != FB_OK)
        return -1;
    wall_minus_mono_us = log_reader_wall_us(r) - ev->time_us;
    log_reader_close(r);
    return 0;
}

static int remove_log(void **state)
{
    char command[128];
    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command);
}

static uint64_t scanned;

/* The answer as CSV lines joined by '|', or the error. */
static const char *ask_with(struct query_conf *conf, const char *sql)
{
    static char text[64 * 1024];
    struct query *q;
    struct print p;
    struct fb_err err = {0};
    char *at = NULL;
    size_t len = 0;
    conf->source = (struct scan_source){.dir = dir, .is_stopped = &is_stopped};
    assert_int_equal(query_open(&q, conf, &err), FB_OK);
    FILE *f = open_memstream(&at, &len);
    print_init(&p, f, PRINT_CSV);
    struct query_sink sink = print_sink(&p);
    enum fb_code code = query_run(q, sql, &sink, &err);
    assert_true(print_end(&p));
    fclose(f);
    scanned = query_source(q)->scanned;
    if (code != FB_OK) {
        snprintf(text, sizeof text, "%s at %d: %s", fb_error_row(code)->name, query_error_at(q),
                 err.text);
    } else {
        size_t n = 0;
        const char *body = strstr(at, "\r\n") + 2;
        for (; *body && n + 1 < sizeof text; body++)
            if (*body != '\r')
                text[n++] = *body == '\n' ? '|' : *body;
        text[n ? n - 1 : 0] = '\0';
    }
    print_fini(&p);
    query_close(q);
    free(at);
    return text;
}

static const char *ask(const char *sql)
{
    struct query_conf conf = {.until_us = UINT64_MAX, .now_us = UINT64_C(2000000000000000)};
    return ask_with(&conf, sql);
}

static void each_type_is_a_table_and_names_hold_where_they_stand(void **state)
{
    (void)state;
    assert_string_equal(ask("SELECT count(*) FROM request"), "20000");
    assert_string_equal(ask("SELECT count(*), sum(from_value), max(to_value) FROM decision"),
                        "20,190000,9500");
    assert_string_equal(ask("SELECT service, count(*) FROM request GROUP BY 1 ORDER BY 1"),
                        ",10000|mail,5000|shop,2500|store,2500");
    assert_string_equal(ask("SELECT count(*) FROM request WHERE service = 'store'"), "2500");
    assert_string_equal(ask("SELECT DISTINCT target FROM decision ORDER BY 1"), "shop|store");
    assert_string_equal(ask("SELECT request_id, node, reason FROM request LIMIT 1"),
                        "fedcba9876543210,0000000000000abc,answered");
    assert_string_equal(ask("SELECT type, count(*) FROM events GROUP BY 1 ORDER BY 1"),
                        "command,1|decision,20|key,1|name,3|request,20000");
    /* As `foldback erase` printed it; as a number it would be below 0. */
    assert_string_equal(ask("SELECT op, op_id, erasure FROM key WHERE op = 'erased'"),
                        "erased,7,c7ce0acb22d91c4e");
    assert_string_equal(ask("SELECT verdict, verdict_id, count(*) FROM decision GROUP BY 1, 2 "
                            "ORDER BY 3, 2"),
                        ",0,10|learn_probe_up,301,10");
    assert_string_equal(ask("SELECT count(*) FROM events WHERE type = 'decision'"), "20");
    assert_string_equal(ask("SELECT count(*) FROM events WHERE type = 'nothing'"), "0");
    assert_string_equal(ask("SELECT json ->> 'status' FROM events WHERE type = 'request' LIMIT 1"),
                        "503");
}

static void every_column_of_every_table_can_be_named_without_quotes(void **state)
{
    (void)state;
    for (uint8_t t = 0; t < EV_TYPE_END; t++) {
        const struct column_table *table = column_table(t);
        for (uint32_t i = 0; table->name && i < table->count; i++) {
            char sql[200];
            snprintf(sql, sizeof sql, "SELECT %s FROM %s WHERE %s IS NULL AND 0", table->at[i].name,
                     table->name, table->at[i].name);
            assert_string_equal(ask(sql), "");
            for (uint32_t k = 0; k < i; k++)
                assert_string_not_equal(table->at[k].name, table->at[i].name);
        }
    }
}

/* "+column" keeps a condition from being looked at here: the answer may not change. */
static void a_condition_finds_the_same_whoever_looks_at_it(void **state)
{
    (void)state;
    static const char *const columns[] = {"status",   "total_us", "service", "request_id", "offset",
                                          "class_id", "reason",   "time_us", "stream_us"};
    static const char *const tests[] = {"= 503",
                                        "> 200",
                                        ">= 200.5",
                                        "< 12000",
                                        "<= 17",
                                        "= 'shop'",
                                        "> 'm'",
                                        "= '503'",
                                        "= -1",
                                        "IN (200, 503)",
                                        "IN ('shop', 'mail')",
                                        "= NULL",
                                        "= 'fedcba9876543210'",
                                        "> 1000005000",
                                        "BETWEEN 100 AND 300"};
    for (size_t c = 0; c < FB_COUNT(columns); c++)
        for (size_t t = 0; t < FB_COUNT(tests); t++) {
            char sql[200], want[200];
            /* The column keeps its affinity in a plain subquery that is not flattened. */
            snprintf(sql, sizeof sql,
                     "WITH r AS MATERIALIZED (SELECT %s AS x FROM request) SELECT count(*) FROM r "
                     "WHERE x %s",
                     columns[c], tests[t]);
            snprintf(want, sizeof want, "%s", ask(sql));
            snprintf(sql, sizeof sql, "SELECT count(*) FROM request WHERE %s %s", columns[c],
                     tests[t]);
            assert_string_equal(ask(sql), want);
        }
}

static void bounds_of_time_and_offset_leave_blocks_unread(void **state)
{
    (void)state;
    char sql[200];
    /* Between two events: the wall clock is read per block, and two readings differ by a little. */
    uint64_t wall_us = FIRST_US + wall_minus_mono_us + 15000 * EACH_US - EACH_US / 2;
    snprintf(sql, sizeof sql,
             "SELECT count(*), min(total_us) FROM request WHERE time_us >= %" PRIu64, wall_us);
    assert_string_equal(ask(sql), "5000,15001");
    assert_true(scanned < 8000);
    snprintf(sql, sizeof sql, "SELECT count(*) FROM request WHERE time >= iso(%" PRIu64 ")",
             wall_us);
    assert_string_equal(ask(sql), "5000");
    assert_true(scanned < 8000);
    snprintf(sql, sizeof sql, "SELECT count(*) FROM request WHERE time_us < %" PRIu64,
             wall_us - 10000 * EACH_US);
    assert_string_equal(ask(sql), "5000");
    assert_true(scanned < 8000);
    assert_string_equal(ask("SELECT count(*) FROM request WHERE offset = 100"), "1");
    assert_true(scanned < 10);
    assert_string_equal(ask("SELECT offset FROM request WHERE offset > 5000 LIMIT 1"), "5001");
    assert_true(scanned < 2000);
    struct query_conf conf = {.since_us = wall_us, .until_us = wall_us + 10 * EACH_US};
    assert_string_equal(ask_with(&conf, "SELECT count(*) FROM request"), "10");
    assert_true(scanned < 4000);
}

static void quantiles_are_within_one_percent(void **state)
{
    (void)state;
    assert_true(fabs(atof(ask("SELECT p50(total_us) FROM request")) - 10000) <= 100);
    assert_true(fabs(atof(ask("SELECT p99(total_us) FROM request")) - 19800) <= 198);
    assert_true(fabs(atof(ask("SELECT p999(total_us / 1000.0) FROM request")) - 19.98) <= 0.2);
    assert_true(fabs(atof(ask("SELECT quantile(total_us, 0.25) FROM request")) - 5000) <= 50);
    assert_string_equal(ask("SELECT p99(total_us) FROM request WHERE status = 1"), "");
    /* not times only: zero, less than zero, far above and both kinds of numbers at once */
    assert_true(atof(ask("SELECT p50(total_us * 0) FROM request")) == 0);
    assert_true(atof(ask("SELECT p50(-7) FROM request")) == -7);
    assert_true(fabs(atof(ask("SELECT p50(-total_us) FROM request")) + 10000) <= 100);
    assert_true(fabs(atof(ask("SELECT p50(total_us * 1000000000) FROM request")) - 1e13) <= 1e11);
    assert_true(fabs(atof(ask("SELECT p50(total_us / 1e9) FROM request")) - 1e-5) <= 1e-7);
    assert_true(fabs(atof(ask("SELECT p99(CASE WHEN total_us < 5000 THEN 1 ELSE total_us + 0.5 END)"
                              " FROM request")) -
                     19800) <= 198);
    assert_non_null(strstr(ask("SELECT quantile(total_us, 7) FROM request"), "at most 1"));
    assert_non_null(strstr(ask("SELECT p50(reason) FROM request"), "numbers"));
}

static void times_can_be_grouped_and_counted_per_second(void **state)
{
    (void)state;
    assert_string_equal(ask("SELECT bucket('2026-11-22T17:00:07.5Z', '5s')"),
                        "2026-11-22T17:00:05Z");
    assert_string_equal(ask("SELECT bucket(1795366807500000, '500ms')"),
                        "2026-11-22T17:00:07.500000Z");
    assert_string_equal(
        ask("SELECT seconds('10s'), iso(0), iso(ago('10s')) < '2033-05-18T03:33:20'"),
        "10,1970-01-01T00:00:00.000000Z,1");
    assert_string_equal(ask("SELECT bucket(NULL, '5s')"), "");
    assert_non_null(strstr(ask("SELECT bucket(time, 'x') FROM request"), "length of time"));
    assert_non_null(strstr(ask("SELECT count(*) FROM request WHERE time > 'soon'"), "no time"));
    assert_string_equal(
        ask("SELECT max(n) <= 1000, min(n) > 0, sum(n) FROM (SELECT count(*) n FROM "
            "request GROUP BY bucket(time, '1s'))"),
        "1,1,20000");
}

static void nothing_can_be_written_attached_or_loaded(void **state)
{
    (void)state;
    static const char *const rows[] = {"ATTACH '/tmp/x.db' AS x",
                                       "PRAGMA journal_mode",
                                       "CREATE TABLE t(a)",
                                       "CREATE TEMP TABLE t(a)",
                                       "CREATE VIRTUAL TABLE t USING request",
                                       "INSERT INTO request(status) VALUES (1)",
                                       "DELETE FROM request",
                                       "UPDATE request SET status = 1",
                                       "DROP TABLE request",
                                       "VACUUM INTO '/tmp/x.db'",
                                       "BEGIN",
                                       "SELECT load_extension('x')"};
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        const char *said = ask(rows[i]);
        assert_true(strncmp(said, "DENIED", 6) == 0 || strncmp(said, "USAGE", 5) == 0);
    }
    assert_int_equal(strncmp(ask(rows[0]), "DENIED", 6), 0);
}

static void an_error_says_where_and_what_next(void **state)
{
    (void)state;
    assert_string_equal(
        ask("SELECT foo FROM request"),
        "USAGE at 7: no such column: foo; `foldback events tables` lists tables and "
        "columns");
    assert_non_null(strstr(ask("SELECT 1 FROM nix"), "`foldback events tables`"));
    assert_non_null(strstr(ask("SELECT 1; SELECT 2"), "one SELECT at a time"));
    assert_non_null(strstr(ask("  "), "empty"));
    assert_non_null(strstr(ask("SELECT x("), "USAGE at"));
}

static void personal_fields_are_hidden_from_conditions_too(void **state)
{
    (void)state;
    struct query_conf hidden = {.until_us = UINT64_MAX, .is_redacted = true};
    assert_string_equal(ask("SELECT actor FROM command"), "ann");
    assert_string_equal(ask_with(&hidden, "SELECT actor FROM command"), "-");
    assert_string_equal(ask_with(&hidden, "SELECT count(*) FROM command WHERE actor = 'ann'"), "0");
    assert_null(strstr(ask_with(&hidden, "SELECT json FROM events WHERE type = 'command'"), "ann"));
}

static void a_signal_ends_a_query_and_memory_is_bounded(void **state)
{
    (void)state;
    is_stopped = 1;
    assert_int_equal(strncmp(ask("SELECT count(*) FROM request"), "AGAIN", 5), 0);
    assert_int_equal(strncmp(ask("WITH RECURSIVE t(a) AS (SELECT 1 UNION ALL SELECT a+1 FROM t) "
                                 "SELECT count(*) FROM t"),
                             "AGAIN", 5),
                     0);
    is_stopped = 0;
    const char *said = ask("SELECT length(group_concat(hex(zeroblob(1000000)))) FROM request");
    assert_true(strncmp(said, "NOMEM", 5) == 0 || strstr(said, "too big"));
}

static void formats_quote_what_needs_it(void **state)
{
    (void)state;
    assert_string_equal(ask("SELECT 'a,b', 'say \"x\"', NULL, '', 1.5, -3"),
                        "\"a,b\",\"say \"\"x\"\"\",,\"\",1.5,-3");
    assert_int_equal(print_format_by_name("jsonl"), PRINT_JSONL);
    assert_int_equal(print_format_by_name("xml"), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_type_is_a_table_and_names_hold_where_they_stand),
        cmocka_unit_test(every_column_of_every_table_can_be_named_without_quotes),
        cmocka_unit_test(a_condition_finds_the_same_whoever_looks_at_it),
        cmocka_unit_test(bounds_of_time_and_offset_leave_blocks_unread),
        cmocka_unit_test(quantiles_are_within_one_percent),
        cmocka_unit_test(times_can_be_grouped_and_counted_per_second),
        cmocka_unit_test(nothing_can_be_written_attached_or_loaded),
        cmocka_unit_test(an_error_says_where_and_what_next),
        cmocka_unit_test(personal_fields_are_hidden_from_conditions_too),
        cmocka_unit_test(a_signal_ends_a_query_and_memory_is_bounded),
        cmocka_unit_test(formats_quote_what_needs_it),
    };
    return cmocka_run_group_tests(tests, make_log, remove_log);
}

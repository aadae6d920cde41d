/* SPDX-License-Identifier: Apache-2.0 */
/* Queries on threads: how many, how long, and that nobody waits for one that nobody wants. */
#include "main/brain_query.h"

#include "base/clock.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
/* cmocka.h needs some of the above */
#include <cmocka.h>

#define HOUR_US (3600 * US_PER_S)
#define PATIENCE_US (60 * US_PER_S)
#define ENDLESS                                                                                    \
    "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"

static char dir[64], log_dir[80];

static int make_dir(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/foldback-brain-query-XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    snprintf(log_dir, sizeof log_dir, "%s/log", dir);
    return mkdir(log_dir, 0700);
}

static int remove_dir(void **state)
{
    (void)state;
    return rmdir(log_dir) || rmdir(dir);
}

static enum fb_code begin(struct brain_query *bq, const char *sql, uint32_t *ticket)
{
    struct fb_err err = {0};
    return brain_query_begin(
        bq, &(struct admin_query){.sql = sql, .rows_max = 10, .is_redacted = true}, ticket, &err);
}

static struct admin_query_answer wait_for(struct brain_query *bq, uint32_t ticket, struct buf *body)
{
    struct admin_query_answer answer;
    struct pollfd fd = {.fd = brain_query_fd(bq), .events = POLLIN};
    while (!brain_query_take(bq, ticket, body, &answer)) {
        uint64_t ended;
        assert_int_equal(poll(&fd, 1, (int)(PATIENCE_US / 1000)), 1);
        assert_int_equal(read(fd.fd, &ended, sizeof ended), sizeof ended);
    }
    return answer;
}

static void an_answer_comes_with_its_descriptor(void **state)
{
    (void)state;
    struct buf body;
    uint32_t ticket = 0;
    struct brain_query *bq = brain_query_new(dir, HOUR_US);
    buf_init(&body, MIB);
    assert_int_equal(begin(bq, "SELECT 1 AS a, 'x' AS b, NULL, 0.5", &ticket), FB_OK);
    assert_int_not_equal(ticket, 0);
    assert_int_equal(wait_for(bq, ticket, &body).err.code, FB_OK);
    assert_non_null(strstr(buf_str(&body), "\"rows\":[[1,\"x\",null,0.5]],\"row_count\":1"));
    assert_int_equal(begin(bq, "SELECT nothing_of", &ticket), FB_OK);
    struct admin_query_answer answer = wait_for(bq, ticket, &body);
    assert_int_equal(answer.err.code, FB_E_USAGE);
    assert_int_equal(answer.error_at, 7);
    buf_fini(&body);
    brain_query_free(bq);
}

static void a_dropped_query_gives_its_place_away(void **state)
{
    (void)state;
    uint32_t ticket[BRAIN_QUERIES_MAX], more = 0;
    struct brain_query *bq = brain_query_new(dir, HOUR_US);
    for (uint32_t i = 0; i < BRAIN_QUERIES_MAX; i++)
        assert_int_equal(begin(bq, ENDLESS, &ticket[i]), FB_OK);
    assert_int_equal(begin(bq, "SELECT 1", &more), FB_E_AGAIN);
    brain_query_drop(bq, ticket[0]);
    enum fb_code code = FB_E_AGAIN;
    for (uint64_t end_us = fb_mono_us() + PATIENCE_US; code == FB_E_AGAIN && fb_mono_us() < end_us;
         usleep(1000))
        code = begin(bq, ENDLESS, &more);
    assert_int_equal(code, FB_OK);
    brain_query_free(bq); /* which also ends those that run, long before the hour is over */
}

static void a_query_ends_with_its_time(void **state)
{
    (void)state;
    struct buf body;
    uint32_t ticket;
    struct brain_query *bq = brain_query_new(dir, US_PER_S);
    buf_init(&body, MIB);
    assert_int_equal(begin(bq, ENDLESS, &ticket), FB_OK);
    struct admin_query_answer answer = wait_for(bq, ticket, &body);
    assert_int_equal(answer.err.code, FB_E_TIMEOUT);
    assert_non_null(strstr(answer.err.text, "stopped after 1 s"));
    assert_int_equal(body.len, 0);
    buf_fini(&body);
    brain_query_free(bq);
}

/* One call of a function asks nobody whether it shall end: the brain's end does not wait for it. */
static void a_query_that_cannot_be_ended_is_left_behind(void **state)
{
    uint32_t ticket;
    struct brain_query *bq = brain_query_new(dir, HOUR_US);
    (void)state;
    assert_non_null(bq);
    assert_int_equal(begin(bq,
                           "WITH t(x) AS (SELECT printf('%.3000c', 'a')) SELECT x GLOB "
                           "'*a*a*a*a*a*a*a*a*a*b' FROM t",
                           &ticket),
                     FB_OK);
    usleep(200000); /* it is in there by now, or ends at once: both are fine */
    brain_query_free(bq);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_comes_with_its_descriptor),
        cmocka_unit_test(a_dropped_query_gives_its_place_away),
        cmocka_unit_test(a_query_ends_with_its_time),
        cmocka_unit_test(a_query_that_cannot_be_ended_is_left_behind)};
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}

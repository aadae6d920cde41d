/* SPDX-License-Identifier: Apache-2.0 */
/* What the end of a command means for its record. */
#include "stream/connectors/connector.h"
#include "stream/connectors/exec_call.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

extern const struct connector_type foldback_connector;

static struct {
    enum exec_end end;
    int32_t status;
} answer;

enum fb_code exec_call_run(struct exec_call *call, struct fb_err *err)
{
    (void)err;
    call->answer = (struct exec_answer){.end = answer.end, .status = answer.status};
    return FB_OK;
}

void exec_call_end(struct exec_call *call)
{
    (void)call;
}

static const char *value(const void *conf, const char *key)
{
    (void)conf;
    return strcmp(key, "tries") == 0 ? "3" : "/bin/command";
}

static void say(void *ctx, enum fb_log_level level, const char *text)
{
    (void)ctx, (void)level, (void)text;
}

static struct connector *begin(void)
{
    static const struct connector_setup setup = {.name = "h", .value = value, .say = say};
    struct connector *c = NULL;
    struct fb_err err;
    assert_int_equal(foldback_connector.open(&c, &setup, &err), FB_OK);
    return c;
}

static enum connector_result send_one(struct connector *c, const char *offset, bool is_resent)
{
    struct connector_header header = {"foldback-offset", span_of(offset)};
    struct connector_record record = {.headers = &header, .header_count = 1, .value = SPAN("{}")};
    struct connector_batch batch = {.at = &record, .count = 1, .is_resent = is_resent};
    struct fb_err err;
    enum fb_code code = foldback_connector.send(c, &batch, &err);
    if (record.result != CONNECTOR_RETRY)
        assert_int_equal(code, FB_OK);
    return record.result;
}

static void a_record_is_tried_so_often_before_it_is_given_up(void **state)
{
    (void)state;
    struct connector *c = begin();
    answer.end = EXEC_EXITED;
    answer.status = 1;
    assert_int_equal(send_one(c, "5", false), CONNECTOR_RETRY);
    assert_int_equal(send_one(c, "5", false), CONNECTOR_RETRY);
    assert_int_equal(send_one(c, "5", false), CONNECTOR_POISON);
    assert_int_equal(send_one(c, "6", false), CONNECTOR_RETRY);
    answer.status = 0;
    assert_int_equal(send_one(c, "6", false), CONNECTOR_DELIVERED);
    foldback_connector.close(c);
}

static void one_that_is_sent_again_is_tried_once_and_takes_no_try_of_another(void **state)
{
    (void)state;
    static const enum exec_end ends[] = {EXEC_EXITED, EXEC_SIGNALLED, EXEC_TIMED_OUT};
    struct connector *c = begin();
    for (size_t i = 0; i < FB_COUNT(ends); i++) {
        answer.end = ends[i];
        answer.status = 9;
        assert_int_equal(send_one(c, "7", false), CONNECTOR_RETRY);
        assert_int_equal(send_one(c, "7", false), CONNECTOR_RETRY);
        assert_int_equal(send_one(c, "2", true), CONNECTOR_POISON);
        assert_int_equal(send_one(c, "7", true), CONNECTOR_POISON);
        assert_int_equal(send_one(c, "7", false), CONNECTOR_POISON); /* its third */
        answer.end = EXEC_EXITED;
        assert_int_equal(send_one(c, "1", false), CONNECTOR_RETRY);
    }
    foldback_connector.close(c);
}

static void a_command_that_cannot_be_started_says_nothing_of_the_record(void **state)
{
    (void)state;
    struct connector *c = begin();
    answer.end = EXEC_NOT_STARTED;
    answer.status = ENOENT;
    for (int i = 0; i < 5; i++) {
        assert_int_equal(send_one(c, "5", false), CONNECTOR_RETRY);
        assert_int_equal(send_one(c, "5", true), CONNECTOR_RETRY);
    }
    foldback_connector.close(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_record_is_tried_so_often_before_it_is_given_up),
        cmocka_unit_test(one_that_is_sent_again_is_tried_once_and_takes_no_try_of_another),
        cmocka_unit_test(a_command_that_cannot_be_started_says_nothing_of_the_record),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

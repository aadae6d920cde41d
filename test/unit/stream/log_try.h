/* SPDX-License-Identifier: Apache-2.0 */
/* log_try: a folder per test, a log in it, and what must come out of it again. */
#ifndef FB_TEST_UNIT_STREAM_LOG_TRY_H
#define FB_TEST_UNIT_STREAM_LOG_TRY_H
#include "log_dir.h"

static struct log_dir dir;

static int set_up(void **state)
{
    (void)state;
    log_dir_make(&dir);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    log_dir_remove(&dir);
    return 0;
}

static struct log *open_log(const struct log_conf *conf, struct log_recovery *rec)
{
    struct log *log = NULL;
    struct fb_err err = {.text = ""};
    if (log_open(&log, dir.path, conf, rec, &err) != FB_OK)
        fail_msg("%s", err.text);
    return log;
}

static void flush(struct log *log)
{
    assert_int_equal(log_flush(log, 10000), FB_OK);
}

/* Reads from the start: the offsets <from> .. <to>-1 must come, whole, and nothing else. */
static void check_events(uint64_t from, uint64_t to)
{
    struct log_reader *r;
    const struct ev_head *ev;
    uint64_t offset;
    assert_int_equal(log_reader_open(&r, dir.path, LOG_FROM_START, NULL), FB_OK);
    for (uint64_t want = from; want < to; want++) {
        assert_int_equal(log_reader_next(r, &ev, &offset), FB_OK);
        assert_int_equal(offset, want);
        struct ev_request wanted = numbered_event(want);
        assert_memory_equal(ev, &wanted, sizeof wanted);
    }
    assert_int_equal(log_reader_next(r, &ev, &offset), FB_E_END);
    log_reader_close(r);
}
#endif

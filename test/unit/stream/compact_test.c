/* SPDX-License-Identifier: Apache-2.0 */
/* Finished segments of small blocks become full ones, and nobody who reads can tell. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../guard/key_dir.h"
#include "base/clock.h"
#include "log_dir.h"
#include "random_events.h"
#include "stream/check.h"
#include "stream/compact.h"
#include "stream/writer.h"

#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define T0 (UINT64_C(1700000000) * US_PER_S)
#define WAIT_US (60 * US_PER_S)

static struct key_dir top;
static struct log_dir dir; /* <top>/log */
static struct keyring *keys;
static struct log_io io;

static int set_up(void **state)
{
    (void)state;
    key_dir_make(&top);
    snprintf(dir.path, sizeof dir.path, "%.50s/log", top.path);
    io = (struct log_io){0};
    log_io_complete(&io);
    return mkdir(dir.path, 0750);
}

static int tear_down(void **state)
{
    (void)state;
    keyring_unref(keys);
    keys = NULL;
    log_dir_remove(&dir);
    key_dir_remove(&top);
    return 0;
}

/* Keys for personal fields; with <is_sealed> for blocks, too. */
static void start_keys(bool is_sealed)
{
    struct keyring_conf conf = {.period_us = 3600 * US_PER_S,
                                .master = is_sealed ? top.master : ""};
    assert_int_equal(keyring_start(&keys, top.path, &conf, T0, NULL), FB_OK);
}

/* ---- what a reader sees ---- */

struct seen {
    uint64_t offset, wall_us, node;
    uint32_t period, bytes; /* the record follows */
};

static void put_event(struct buf *b, struct log_reader *r, const struct ev_head *ev,
                      uint64_t offset)
{
    struct seen s = {.offset = offset,
                     .wall_us = log_reader_wall_us(r),
                     .node = log_reader_node(r),
                     .period = log_reader_period(r),
                     .bytes = (uint32_t)ev->cells * EV_CELL_BYTES};
    buf_put(b, &s, sizeof s);
    buf_put(b, ev, s.bytes);
}

/* Everything from <from> on, holes included; at most <max> events. */
static void put_all(struct buf *b, struct log_reader *r, uint64_t max)
{
    const struct ev_head *ev;
    uint64_t offset;
    enum fb_code code;
    while (max-- > 0 && (code = log_reader_next(r, &ev, &offset)) != FB_E_END) {
        if (code == FB_OK)
            put_event(b, r, ev, offset);
        else if (code == FB_E_DAMAGED)
            buf_put(b, log_reader_skip(r), sizeof *log_reader_skip(r));
        else
            fail_msg("code %d: %s", (int)code, log_reader_why(r));
    }
}

static void read_all(struct buf *b)
{
    struct log_reader *r;
    buf_clear(b);
    assert_int_equal(log_reader_open(&r, dir.path, LOG_FROM_START, NULL), FB_OK);
    put_all(b, r, UINT64_MAX);
    log_reader_close(r);
    assert_false(b->failed);
}

/* From a few places, by offset and by time, a few events each. */
static void read_places(struct buf *b, uint64_t end, uint64_t seed)
{
    struct log_reader *r;
    struct rng rng;
    const struct ev_head *ev;
    uint64_t offset;
    rng_init(&rng, seed);
    buf_clear(b);
    assert_int_equal(log_reader_open(&r, dir.path, LOG_FROM_START, NULL), FB_OK);
    for (int i = 0; i < 30; i++) {
        uint64_t place = rng_u64(&rng) % (end + 1);
        assert_int_equal(log_reader_seek(r, place), FB_OK);
        put_all(b, r, 3);
        assert_int_equal(log_reader_seek(r, place), FB_OK);
        if (log_reader_next(r, &ev, &offset) != FB_OK)
            continue;
        uint64_t wall_us = log_reader_wall_us(r);
        struct log_wants wants = {.since_us = wall_us, .until_us = wall_us + 1};
        log_reader_want(r, &wants);
        assert_int_equal(log_reader_seek(r, LOG_FROM_START), FB_OK);
        bool is_there = false; /* push-down leaves out whole blocks, never the wanted event */
        while (!is_there && log_reader_next(r, &ev, &offset) != FB_E_END)
            is_there = log_reader_wall_us(r) == wall_us;
        assert_true(is_there);
        log_reader_want(r, &(struct log_wants){.until_us = UINT64_MAX});
    }
    log_reader_close(r);
    assert_false(b->failed);
}

static void check_same(const struct buf *a, const struct buf *b)
{
    assert_int_equal(a->len, b->len);
    assert_true(a->len > 0);
    assert_memory_equal(a->at, b->at, a->len);
}

/* ---- writing and compacting ---- */

static uint64_t wall_now_us;

static uint64_t fake_wall_us(void)
{
    return wall_now_us;
}

static struct log_conf small_conf(void)
{
    struct log_conf conf = log_dir_conf();
    conf.compact_us = 0;
    conf.group_us = 200;
    conf.segment_bytes = 64 * KIB;
    conf.keys = keys;
    conf.io.wall_us = fake_wall_us;
    return conf;
}

/* A log of many small blocks: holes, starts, a clock that is corrected and one that jumps; the time
 * of events grows.  Returns the end. */
static uint64_t write_random(uint64_t seed)
{
    static _Alignas(8) unsigned char bytes[BLOCK_RAW_BYTES_MAX];
    struct rng rng;
    struct log *log;
    struct log_conf conf = small_conf();
    uint64_t next = 0, event_us = 1000;
    rng_init(&rng, seed);
    wall_now_us = T0;
    for (uint32_t start = 1; start <= 3; start++) {
        conf.epoch = start;
        conf.next_offset_min = next;
        assert_int_equal(log_open(&log, dir.path, &conf, NULL, NULL), FB_OK);
        for (uint32_t i = 0, blocks = 20 + rng_below(&rng, 150); i < blocks; i++) {
            uint32_t style = rng_below(&rng, 30);
            wall_now_us += style == 0 ? 3600 * US_PER_S : rng_below(&rng, 40);
            next += style == 1 ? rng_below(&rng, 20) : 0;
            size_t len = random_events(&rng, bytes, sizeof bytes, 1 + rng_below(&rng, 60));
            uint32_t count = 0;
            for (size_t at = 0; at < len; count++) {
                struct ev_head *ev = (void *)(bytes + at);
                ev->time_us = event_us += 1 + rng_below(&rng, 500);
                at += (size_t)ev->cells * EV_CELL_BYTES;
            }
            assert_int_equal(log_append(log, (struct span){(char *)bytes, len}, next), count);
            next += count;
            assert_int_equal(log_flush(log, 20000), FB_OK);
        }
        next = log_next_offset(log);
        log_close(log);
    }
    return next;
}

/* Every segment; returns how many were replaced. */
static uint32_t compact_all(struct compact_result *sum)
{
    struct segment_list list;
    struct compact_from from = {.dir = dir.path, .io = &io, .keys = keys};
    struct compact_result one;
    uint32_t done = 0;
    *sum = (struct compact_result){0};
    assert_int_equal(segment_list_read(&list, dir.path, NULL), FB_OK);
    for (size_t i = 0; i < list.count; i++) {
        compact_segment(&from, &list.at[i], &one);
        done += one.is_done;
        sum->has_failed |= one.has_failed;
        sum->events += one.events;
        if (one.is_done) {
            sum->bytes += one.bytes;
            sum->before_bytes += one.before_bytes;
        }
    }
    segment_list_fini(&list);
    assert_int_equal(access(dir.path, F_OK), 0);
    return done;
}

static bool has_tmp(void)
{
    char path[200];
    snprintf(path, sizeof path, "%s/compact.tmp", dir.path);
    return access(path, F_OK) == 0;
}

/* Checked by the keys of the folder; what was found. */
static struct log_check check_log(void)
{
    struct log_check found;
    struct log_check_how how = {.dir = dir.path};
    if (keys) {
        how.codec = block_codec_new();
        block_codec_keys(how.codec, keys);
    }
    assert_int_equal(log_check_run(&found, &how, NULL), FB_OK);
    block_codec_free(how.codec);
    free(found.place);
    found.place = NULL;
    return found;
}

/* ---- the promise ---- */

static void random_logs_read_back_identically(void **state)
{
    struct buf before, after;
    struct compact_result sum;
    uint64_t won = 0;
    (void)state;
    buf_init(&before, 64 * MIB);
    buf_init(&after, 64 * MIB);
    for (uint64_t seed = 1; seed <= 24; seed++) {
        log_dir_empty(&dir);
        if (seed % 3)
            start_keys(seed % 3 == 2);
        uint64_t end = write_random(seed);
        struct log_check was = check_log();
        read_all(&before);
        uint32_t done = compact_all(&sum);
        assert_true(done >= 3);
        assert_false(sum.has_failed);
        assert_false(has_tmp());
        read_all(&after);
        check_same(&before, &after);
        struct log_check is = check_log();
        assert_int_equal(is.events, was.events);
        assert_int_equal(is.holes, was.holes);
        assert_int_equal(is.damaged, 0);
        assert_int_equal(is.next_offset, was.next_offset);
        assert_int_equal(is.before_bytes, was.stored_bytes);
        assert_true(is.first_wall_us <= was.first_wall_us); /* the earliest of more events */
        assert_int_equal(is.last_wall_us, was.last_wall_us);
        assert_true(is.blocks * 3 < was.blocks);
        assert_memory_equal(is.types, was.types, sizeof is.types);
        won += was.bytes - is.bytes;
        /* Twice is no more than once. */
        assert_int_equal(compact_all(&sum), 0);
        read_places(&after, end, seed);
        keyring_unref(keys);
        keys = NULL;
        char path[200];
        snprintf(path, sizeof path, "%.60s/keys", top.path);
        unlink(path);
    }
    assert_true(won > MIB);
    buf_fini(&before);
    buf_fini(&after);
}

static void places_are_found_as_before(void **state)
{
    struct buf before, after;
    struct compact_result sum;
    (void)state;
    buf_init(&before, 16 * MIB);
    buf_init(&after, 16 * MIB);
    uint64_t end = write_random(77);
    read_places(&before, end, 5);
    assert_true(compact_all(&sum) > 0);
    read_places(&after, end, 5);
    check_same(&before, &after);
    buf_fini(&before);
    buf_fini(&after);
}

/* ---- keys ---- */

static void write_custom(uint64_t from, uint64_t to)
{
    struct log *log;
    struct log_conf conf = small_conf();
    wall_now_us = T0;
    assert_int_equal(log_open(&log, dir.path, &conf, NULL, NULL), FB_OK);
    for (uint64_t i = from; i < to; i++) {
        struct ev_custom ev = EV_INIT(CUSTOM, custom, T0 + i);
        snprintf(ev.text, sizeof ev.text, "person %u", (unsigned)i);
        assert_int_equal(log_append(log, (struct span){(char *)&ev, sizeof ev}, i), 1);
        if (i % 10 == 9)
            assert_int_equal(log_flush(log, 20000), FB_OK);
    }
    log_close(log);
}

static void what_was_erased_stays_erased(void **state)
{
    struct buf before, after;
    struct compact_result sum;
    (void)state;
    buf_init(&before, 16 * MIB);
    buf_init(&after, 16 * MIB);
    start_keys(true);
    write_custom(0, 100);
    /* The second period begins in the same segment's time: each text keeps its own. */
    assert_int_equal(keyring_watch(keys, T0 + 2 * 3600 * US_PER_S, NULL), FB_OK);
    write_custom(100, 200);
    uint32_t period = 0;
    struct log_reader *r;
    const struct ev_head *ev;
    uint64_t offset;
    assert_int_equal(log_reader_open(&r, dir.path, 42, NULL), FB_OK);
    assert_int_equal(log_reader_next(r, &ev, &offset), FB_OK);
    period = log_reader_period(r);
    log_reader_close(r);
    struct keyring_text text = {.period = period, .offset = 42};
    struct keyring_erasure erasure = {.texts = &text, .count = 1, .who = "test"};
    assert_int_equal(keyring_erase(keys, &erasure, NULL), FB_OK);
    read_all(&before);
    assert_non_null(memmem(before.at, before.len, "(erased)", 8));
    assert_int_equal(compact_all(&sum), 2);
    read_all(&after);
    check_same(&before, &after);
    /* What is erased afterwards is gone, too, and only that. */
    text.offset = 57;
    assert_int_equal(keyring_erase(keys, &erasure, NULL), FB_OK);
    assert_int_equal(log_reader_open(&r, dir.path, 56, NULL), FB_OK);
    for (uint64_t i = 56; i < 59; i++) {
        char says[20];
        snprintf(says, sizeof says, "person %u", (unsigned)i);
        assert_int_equal(log_reader_next(r, &ev, &offset), FB_OK);
        assert_int_equal(offset, i);
        assert_string_equal(((const struct ev_custom *)(const void *)ev)->text,
                            i == 57 ? "(erased)" : says);
    }
    log_reader_close(r);
    buf_fini(&before);
    buf_fini(&after);
}

/* All nonces of all blocks, behind one another. */
static size_t nonces(unsigned char *to, size_t room)
{
    char path[256];
    struct buf file;
    size_t count = 0, segments = log_dir_segment(&dir, SIZE_MAX, path);
    buf_init(&file, 16 * MIB);
    for (size_t i = 0; i < segments; i++) {
        struct block_head head;
        log_dir_segment(&dir, i, path);
        file_read(path, &file);
        for (size_t at = 0; at < file.len; at += block_bytes(&head), count++) {
            struct span bytes = {file.at + at, file.len - at};
            assert_int_equal(block_head_read(bytes, &head), FB_OK);
            assert_true((count + 1) * 12 <= room);
            memcpy(to + count * 12, head.nonce, 12);
        }
    }
    buf_fini(&file);
    return count;
}

static void a_nonce_is_never_used_twice(void **state)
{
    static unsigned char old[1000 * 12], new[1000 * 12];
    struct compact_result sum;
    (void)state;
    start_keys(true);
    write_custom(0, 400);
    size_t were = nonces(old, sizeof old);
    assert_int_equal(compact_all(&sum), 1);
    size_t are = nonces(new, sizeof new);
    assert_true(are < were);
    assert_true(are > 0);
    for (size_t i = 0; i < are; i++)
        for (size_t k = 0; k < were; k++)
            assert_memory_not_equal(new + i * 12, old + k * 12, 12);
}

static void blocks_of_a_retired_key_stay_as_they_are(void **state)
{
    struct buf before, after;
    struct compact_result sum;
    char path[256];
    (void)state;
    buf_init(&before, 16 * MIB);
    buf_init(&after, 16 * MIB);
    start_keys(true);
    write_custom(0, 200);
    assert_int_equal(keyring_rotate(keys, "test", T0, NULL), FB_OK);
    log_dir_segment(&dir, 0, path);
    file_read(path, &before);
    assert_int_equal(compact_all(&sum), 0);
    file_read(path, &after);
    check_same(&before, &after);
    write_custom(200, 400); /* the active key's are compacted */
    assert_int_equal(compact_all(&sum), 1);
    buf_fini(&before);
    buf_fini(&after);
}

/* ---- what fails ---- */

static int fail_call, fail_errno; /* the call that fails; 0: none */
static bool is_killing;           /* kill -9 instead */

static bool fails(void)
{
    if (fail_call == 0 || --fail_call > 0)
        return false;
    if (is_killing)
        kill(getpid(), SIGKILL);
    errno = fail_errno;
    return true;
}

static ssize_t bad_pwrite(int fd, const void *bytes, size_t len, off_t at)
{
    /* Half of it comes to the disk. */
    ssize_t n = pwrite(fd, bytes, len / 2 + 1, at);
    return fails() ? -1 : n;
}

static int bad_sync(int fd)
{
    return fails() ? -1 : fdatasync(fd);
}

static int bad_create(const char *in, const char *path)
{
    (void)in;
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
    if (!fails())
        return fd;
    close(fd);
    unlink(path);
    return -1;
}

static int bad_replace(const char *in, const char *from, const char *to)
{
    (void)in;
    if (fails())
        return -1;
    int done = rename(from, to);
    if (is_killing && fails()) /* between the rename and the sync of the folder */
        return -1;
    return done;
}

static const struct log_io bad_io = {
    .pwrite = bad_pwrite, .sync = bad_sync, .create = bad_create, .replace = bad_replace};

static void each_call_that_fails_leaves_the_old_segment(void **state)
{
    static const int errors[] = {ENOSPC, EIO, EROFS, EDQUOT};
    struct buf before, file, after;
    struct segment_list list;
    char path[256];
    (void)state;
    buf_init(&before, 16 * MIB);
    buf_init(&file, 16 * MIB);
    buf_init(&after, 16 * MIB);
    write_random(3);
    read_all(&before);
    log_dir_segment(&dir, 0, path);
    file_read(path, &file);
    io = bad_io;
    log_io_complete(&io);
    struct compact_from from = {.dir = dir.path, .io = &io};
    assert_int_equal(segment_list_read(&list, dir.path, NULL), FB_OK);
    struct compact_result result;
    int call = 1;
    for (;; call++) {
        fail_call = call;
        fail_errno = errors[call % 4];
        compact_segment(&from, &list.at[0], &result);
        if (!result.has_failed)
            break;
        assert_false(result.is_done);
        assert_false(result.is_settled); /* it is tried again */
        assert_non_null(strstr(result.reason, strerror(errors[call % 4])));
        assert_false(has_tmp());
        file_read(path, &after);
        check_same(&file, &after);
        assert_true(call < 1000);
    }
    assert_true(call > 4);
    assert_true(result.is_done);
    segment_list_fini(&list);
    read_all(&after);
    check_same(&before, &after);
    buf_fini(&before);
    buf_fini(&file);
    buf_fini(&after);
}

/* Killed before, between and after all calls: the next start finds every event and no rest. */
static void a_kill_at_each_call_leaves_the_old_or_the_new_segment(void **state)
{
    struct buf before, after;
    (void)state;
    buf_init(&before, 16 * MIB);
    buf_init(&after, 16 * MIB);
    write_random(4);
    read_all(&before);
    int call = 1, status = 0, with_rest = 0;
    for (;; call++) {
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            struct compact_result result;
            struct segment_list list;
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            io = bad_io;
            log_io_complete(&io);
            is_killing = true;
            fail_call = call;
            struct compact_from from = {.dir = dir.path, .io = &io};
            if (segment_list_read(&list, dir.path, NULL) != FB_OK)
                _exit(2);
            compact_segment(&from, &list.at[0], &result);
            _exit(0);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        with_rest += has_tmp();
        read_all(&after); /* readers care for nothing of this */
        check_same(&before, &after);
        struct log_conf conf = small_conf();
        struct log_recovery rec;
        struct log *log;
        assert_int_equal(log_open(&log, dir.path, &conf, &rec, NULL), FB_OK);
        assert_int_equal(rec.damaged_places, 0);
        log_close(log);
        assert_false(has_tmp());
        read_all(&after);
        check_same(&before, &after);
        if (WIFEXITED(status))
            break;
        assert_int_equal(WTERMSIG(status), SIGKILL);
        assert_true(call < 1000);
    }
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_true(call > 4);
    assert_true(with_rest > 2);
    buf_fini(&before);
    buf_fini(&after);
}

static void a_damaged_segment_is_left_as_it_is(void **state)
{
    struct buf file, after;
    struct compact_result sum;
    char path[256];
    (void)state;
    buf_init(&file, 16 * MIB);
    buf_init(&after, 16 * MIB);
    write_random(5);
    log_dir_segment(&dir, 0, path);
    file_read(path, &file);
    /* A byte of a header, of a body, of padding; cut short; longer than it was. */
    for (size_t i = 0; i < 200; i++) {
        size_t at = file.len * i / 200;
        file.at[at] ^= 0x20;
        file_write(path, file.at, file.len - (i == 7 ? 5 : 0));
        struct segment_list list;
        struct compact_result result;
        struct compact_from from = {.dir = dir.path, .io = &io};
        assert_int_equal(segment_list_read(&list, dir.path, NULL), FB_OK);
        list.at[0].bytes -= i == 9 ? 8 : 0;
        compact_segment(&from, &list.at[0], &result);
        segment_list_fini(&list);
        assert_false(result.is_done);
        assert_true(result.is_settled);
        assert_false(has_tmp());
        file_read(path, &after);
        assert_int_equal(after.len, file.len - (i == 7 ? 5 : 0));
        assert_memory_equal(after.at, file.at, after.len);
        file.at[at] ^= 0x20;
    }
    file_write(path, file.at, file.len);
    assert_true(compact_all(&sum) > 0);
    buf_fini(&file);
    buf_fini(&after);
}

/* ---- readers meanwhile ---- */

static void a_reader_of_the_old_file_reads_on(void **state)
{
    struct buf before, after;
    struct compact_result sum;
    struct log_reader *r;
    (void)state;
    buf_init(&before, 16 * MIB);
    buf_init(&after, 16 * MIB);
    write_random(6);
    read_all(&before);
    assert_int_equal(log_reader_open(&r, dir.path, LOG_FROM_START, NULL), FB_OK);
    put_all(&after, r, 100); /* it stands in the first segment */
    assert_true(compact_all(&sum) > 1);
    put_all(&after, r, UINT64_MAX);
    log_reader_close(r);
    check_same(&before, &after);
    buf_fini(&before);
    buf_fini(&after);
}

static void the_age_of_a_segment_stays(void **state)
{
    struct compact_result sum;
    struct stat st;
    char path[256];
    (void)state;
    write_random(8);
    log_dir_segment(&dir, 0, path);
    const struct timespec long_ago[2] = {{.tv_sec = 1000000}, {.tv_sec = 1234567}};
    assert_int_equal(utimensat(AT_FDCWD, path, long_ago, 0), 0);
    assert_true(compact_all(&sum) > 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mtim.tv_sec, 1234567);
}

/* ---- the log does it by itself ---- */

static struct log_stats wait_for(struct log *log, uint64_t *next, uint64_t segments,
                                 uint64_t failures)
{
    struct log_stats st;
    uint64_t until_us = fb_mono_us() + WAIT_US;
    do {
        append_numbered(log, *next, *next + 20);
        *next += 20;
        assert_int_equal(log_flush(log, 20000), FB_OK);
        log_stats_read(log, &st);
    } while ((st.compacted.segments < segments || st.compacted.failures < failures) &&
             fb_mono_us() < until_us);
    assert_true(st.compacted.segments >= segments);
    assert_true(st.compacted.failures >= failures);
    return st;
}

static void check_numbered(uint64_t to)
{
    struct log_reader *r;
    const struct ev_head *ev;
    uint64_t offset;
    assert_int_equal(log_reader_open(&r, dir.path, LOG_FROM_START, NULL), FB_OK);
    for (uint64_t want = 0; want < to; want++) {
        struct ev_request wanted = numbered_event(want);
        assert_int_equal(log_reader_next(r, &ev, &offset), FB_OK);
        assert_int_equal(offset, want);
        assert_memory_equal(ev, &wanted, sizeof wanted);
    }
    log_reader_close(r);
}

static void a_log_rolls_by_time_and_compacts_what_is_finished(void **state)
{
    (void)state;
    struct log_conf conf = log_dir_conf();
    struct log *log;
    uint64_t next = 0;
    conf.compact_us = 1000;
    assert_int_equal(log_open(&log, dir.path, &conf, NULL, NULL), FB_OK);
    struct log_stats st = wait_for(log, &next, 3, 0);
    assert_true(st.segments > 3); /* 64 MiB each would take hours */
    assert_true(st.compacted.after_bytes < st.compacted.before_bytes);
    assert_int_equal(st.compacted.failures, 0);
    assert_false(st.compacted.is_failing);
    check_numbered(next);
    log_close(log);
    struct log_check found = check_log();
    assert_int_equal(found.bytes, found.stored_bytes);
    assert_true(found.before_bytes > found.stored_bytes);
    assert_int_equal(found.missing, 0);
    check_numbered(next);
}

static void a_quiet_log_and_one_without_compaction_do_not_roll(void **state)
{
    (void)state;
    struct log_conf conf = log_dir_conf();
    struct log_stats st;
    struct log *log;
    uint64_t next = 0;
    conf.compact_us = 0;
    assert_int_equal(log_open(&log, dir.path, &conf, NULL, NULL), FB_OK);
    for (int i = 0; i < 100; i++)
        st = wait_for(log, &next, 0, 0);
    assert_int_equal(st.segments, 1);
    log_close(log);
    conf.compact_us = 1;
    assert_int_equal(log_open(&log, dir.path, &conf, NULL, NULL), FB_OK);
    for (int i = 0; i < 20; i++) /* below 64 KiB */
        st = wait_for(log, &next, 0, 0);
    assert_int_equal(st.segments, 2);
    log_close(log);
}

static int full_create(const char *in, const char *path)
{
    (void)in;
    if (strstr(path, "compact.tmp") && fail_errno) {
        errno = fail_errno;
        return -1;
    }
    return open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
}

static void a_log_that_cannot_compact_says_so_and_tries_again(void **state)
{
    (void)state;
    struct log_conf conf = log_dir_conf();
    struct log *log;
    uint64_t next = 0;
    conf.compact_us = 1000;
    conf.compact_retry_ms = 20;
    conf.io.create = full_create;
    fail_errno = ENOSPC;
    assert_int_equal(log_open(&log, dir.path, &conf, NULL, NULL), FB_OK);
    struct log_stats st = wait_for(log, &next, 0, 2);
    assert_true(st.compacted.is_failing);
    assert_non_null(strstr(st.compacted.reason, strerror(ENOSPC)));
    assert_int_equal(st.compacted.segments, 0);
    assert_int_equal(st.state, LOG_OK); /* writing goes on */
    log_close(log);
    fail_errno = 0;
    assert_int_equal(log_open(&log, dir.path, &conf, NULL, NULL), FB_OK);
    st = wait_for(log, &next, 1, 0);
    assert_false(st.compacted.is_failing);
    log_close(log);
    check_numbered(next);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(random_logs_read_back_identically),
        TEST(places_are_found_as_before),
        TEST(what_was_erased_stays_erased),
        TEST(a_nonce_is_never_used_twice),
        TEST(blocks_of_a_retired_key_stay_as_they_are),
        TEST(each_call_that_fails_leaves_the_old_segment),
        TEST(a_kill_at_each_call_leaves_the_old_or_the_new_segment),
        TEST(a_damaged_segment_is_left_as_it_is),
        TEST(a_reader_of_the_old_file_reads_on),
        TEST(the_age_of_a_segment_stays),
        TEST(a_log_rolls_by_time_and_compacts_what_is_finished),
        TEST(a_quiet_log_and_one_without_compaction_do_not_roll),
        TEST(a_log_that_cannot_compact_says_so_and_tries_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

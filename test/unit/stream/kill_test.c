/* SPDX-License-Identifier: Apache-2.0 */
/* kill -9 of a writer at random points, 500 rounds on one log after another.
 *
 * A child opens the log, appends numbered events and tells what is acknowledged in shared memory.
 * The parent kills it somewhere in its start, its writing, its rolling or its compaction of what
 * others left.  The next child must find
 * at least what was acknowledged; now and then everything is read.  The page cache outlives the
 * child, so the directory may be in memory; real disks and power cuts: power_test.c and
 * test/fault. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/rng.h"
#include "log_dir.h"

#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

#define ROUNDS 500
#define ROUNDS_PER_LOG 50

struct shared {
    _Atomic uint64_t acknowledged; /* over all children of this log */
    _Atomic uint64_t opened;       /* starts that found everything */
    _Atomic uint64_t compacted;    /* segments that children replaced */
    _Atomic bool is_wrong;         /* a start found less than was acknowledged */
};

static struct log_dir dir;
static struct shared *shared;

static _Noreturn void child(uint64_t seed)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    struct rng rng;
    struct log *log;
    struct log_recovery rec;
    struct log_conf conf = log_dir_conf();
    conf.segment_bytes = 64 * KIB;
    conf.group_us = 500;
    conf.compact_us = conf.compact_retry_ms = 1;
    conf.epoch = (uint32_t)seed;
    rng_init(&rng, seed);
    bool is_good = log_open(&log, dir.path, &conf, &rec, NULL) == FB_OK;
    if (!is_good || rec.next_offset < atomic_load(&shared->acknowledged) || rec.lost_events ||
        rec.damaged_places) {
        atomic_store(&shared->is_wrong, true);
        _exit(1);
    }
    atomic_store(&shared->acknowledged, rec.next_offset);
    atomic_fetch_add(&shared->opened, 1);
    uint64_t compacted = 0;
    for (uint64_t next = rec.next_offset;;) {
        struct log_stats st;
        log_stats_read(log, &st);
        if (st.queued_bytes < conf.queue_bytes / 2) {
            uint64_t to = next + 1 + rng_below(&rng, 200);
            append_numbered(log, next, to);
            next = to;
            if (seed % 2) /* small blocks, to be joined */
                is_good = log_flush(log, 1000) == FB_OK;
        }
        atomic_store(&shared->acknowledged, log_acknowledged(log));
        atomic_fetch_add(&shared->compacted, st.compacted.segments - compacted);
        compacted = st.compacted.segments;
    }
}

/* Everything that was acknowledged, in order, byte for byte. */
static void check_all(void)
{
    struct log_conf conf = log_dir_conf();
    struct log_recovery rec;
    struct log_reader *r;
    struct log *log;
    const struct ev_head *ev;
    uint64_t offset, want = 0;
    assert_int_equal(log_open(&log, dir.path, &conf, &rec, NULL), FB_OK);
    assert_true(rec.next_offset >= atomic_load(&shared->acknowledged));
    assert_int_equal(log_reader_open(&r, dir.path, LOG_FROM_START, NULL), FB_OK);
    while (log_reader_next(r, &ev, &offset) == FB_OK) {
        struct ev_request wanted = numbered_event(want);
        assert_int_equal(offset, want++);
        assert_memory_equal(ev, &wanted, sizeof wanted);
    }
    assert_int_equal(want, rec.next_offset);
    log_reader_close(r);
    log_close(log);
}

static void five_hundred_kills_take_nothing_that_was_acknowledged(void **state)
{
    (void)state;
    struct rng rng;
    uint64_t acknowledged = 0;
    rng_init(&rng, 7);
    for (uint64_t round = 0; round < ROUNDS; round++) {
        if (round % ROUNDS_PER_LOG == 0) {
            log_dir_empty(&dir);
            atomic_store(&shared->acknowledged, 0);
        }
        uint64_t seen = atomic_load(&shared->opened);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0)
            child(round + 1);
        /* One of each log lives until it has compacted a segment. */
        uint64_t compacted = atomic_load(&shared->compacted);
        uint64_t patient_us = fb_mono_us() + 60 * US_PER_S;
        while (round % ROUNDS_PER_LOG == ROUNDS_PER_LOG - 2 && fb_mono_us() < patient_us &&
               atomic_load(&shared->compacted) == compacted && !atomic_load(&shared->is_wrong))
            nanosleep(&(struct timespec){.tv_nsec = 50000}, NULL);
        /* Half of them are killed in their start, the others in their writing. */
        bool shall_write = rng_below(&rng, 2) == 1;
        uint64_t until_us = fb_mono_us() + 30 * US_PER_S;
        while (shall_write && atomic_load(&shared->opened) == seen && fb_mono_us() < until_us &&
               !atomic_load(&shared->is_wrong))
            nanosleep(&(struct timespec){.tv_nsec = 50000}, NULL);
        long us = rng_below(&rng, shall_write ? 6000 : 1000);
        nanosleep(&(struct timespec){.tv_nsec = us * 1000}, NULL);
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        assert_false(atomic_load(&shared->is_wrong));
        if (round % ROUNDS_PER_LOG == ROUNDS_PER_LOG - 1) {
            acknowledged += atomic_load(&shared->acknowledged);
            check_all();
        }
    }
    assert_true(atomic_load(&shared->opened) > ROUNDS / 4);
    assert_true(acknowledged > 0);
    assert_true(atomic_load(&shared->compacted) > 0);
    print_message("%d kills, %llu starts got to writing, %llu events acknowledged, %llu segments "
                  "compacted\n",
                  ROUNDS, (unsigned long long)atomic_load(&shared->opened),
                  (unsigned long long)acknowledged,
                  (unsigned long long)atomic_load(&shared->compacted));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(five_hundred_kills_take_nothing_that_was_acknowledged),
    };
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        return 1;
    log_dir_make(&dir);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    log_dir_remove(&dir);
    return failed;
}

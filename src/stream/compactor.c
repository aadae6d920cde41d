/* SPDX-License-Identifier: Apache-2.0 */
#include "stream/compactor.h"

#include "base/assert.h"
#include "base/clock.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* Rest as a multiple of work: a quarter of one core at most, 700,000 events/s. */
#define REST_FACTOR 3
/* A disk that took seconds for one block shall not be rested from for longer. */
#define REST_US_MAX (1 * US_PER_S)

enum phase { IDLE, WORKING, DONE };

struct compactor {
    char dir[4096];
    struct log_io io;
    struct keyring *keys; /* referenced */
    pthread_t thread;

    pthread_mutex_t lock; /* protects all below; never held during I/O */
    pthread_cond_t wake;  /* an offer, the end of a job, or the stop */
    enum phase phase;
    bool has_thread, has_ended, stop;
    struct segment seg;
    struct compact_result result;
};

static void *run(void *arg);
static void wait_until(struct compactor *c, uint64_t until_us);

enum fb_code compactor_new(struct compactor **out, const char *dir, const struct log_io *io,
                           struct keyring *keys, struct fb_err *err)
{
    struct compactor *c = calloc(1, sizeof *c);
    if (!c)
        return fb_fail(err, FB_E_NOMEM, "no memory for the log %s", dir);
    snprintf(c->dir, sizeof c->dir, "%s", dir);
    c->io = *io;
    c->keys = keys ? keyring_ref(keys) : NULL;
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->wake, &attr);
    pthread_condattr_destroy(&attr);
    *out = c;
    return FB_OK;
}

bool compactor_close(struct compactor *c, uint64_t until_us)
{
    if (!c)
        return true;
    pthread_mutex_lock(&c->lock);
    c->stop = true;
    pthread_cond_broadcast(&c->wake);
    while (c->has_thread && !c->has_ended && fb_mono_us() < until_us)
        wait_until(c, until_us);
    bool has_thread = c->has_thread, has_ended = c->has_ended;
    pthread_mutex_unlock(&c->lock);
    if (has_thread && !has_ended) {
        /* The disk hangs inside a system call: the memory must outlive the thread. */
        pthread_detach(c->thread);
        return false;
    }
    if (has_thread)
        pthread_join(c->thread, NULL);
    pthread_mutex_destroy(&c->lock);
    pthread_cond_destroy(&c->wake);
    keyring_unref(c->keys);
    free(c);
    return true;
}

bool compactor_is_idle(struct compactor *c)
{
    pthread_mutex_lock(&c->lock);
    bool is_idle = c->phase == IDLE;
    pthread_mutex_unlock(&c->lock);
    return is_idle;
}

/* It takes no signal, as the log's writer. */
static bool start(struct compactor *c)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&c->thread, NULL, run, c);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = failed;
    return !failed;
}

void compactor_offer(struct compactor *c, const struct segment *seg)
{
    pthread_mutex_lock(&c->lock);
    fb_assert(c->phase == IDLE);
    fb_assert(!c->stop);
    c->seg = *seg;
    c->phase = WORKING;
    if (!c->has_thread && !start(c)) {
        c->result = (struct compact_result){.number = seg->number,
                                            .bytes = seg->bytes,
                                            .before_bytes = seg->bytes,
                                            .has_failed = true};
        snprintf(c->result.reason, sizeof c->result.reason, "no thread: %s", strerror(errno));
        c->phase = DONE;
    } else {
        c->has_thread = true;
    }
    pthread_cond_broadcast(&c->wake);
    pthread_mutex_unlock(&c->lock);
}

bool compactor_take(struct compactor *c, struct compact_result *result)
{
    pthread_mutex_lock(&c->lock);
    bool is_done = c->phase == DONE;
    if (is_done) {
        *result = c->result;
        c->phase = IDLE;
    }
    pthread_mutex_unlock(&c->lock);
    return is_done;
}

/* Until something happens, or that time.  Locked. */
static void wait_until(struct compactor *c, uint64_t until_us)
{
    until_us -= fb_mono_offset(); /* stream time -> the clock of the condition variable */
    struct timespec at = {.tv_sec = (time_t)(until_us / US_PER_S),
                          .tv_nsec = (long)(until_us % US_PER_S * 1000)};
    pthread_cond_timedwait(&c->wake, &c->lock, &at);
}

static bool rest(void *arg, uint64_t worked_us)
{
    struct compactor *c = arg;
    uint64_t until_us = fb_mono_us() + fb_min_u64(worked_us * REST_FACTOR, REST_US_MAX);
    pthread_mutex_lock(&c->lock);
    while (!c->stop && fb_mono_us() < until_us)
        wait_until(c, until_us);
    bool goes_on = !c->stop;
    pthread_mutex_unlock(&c->lock);
    return goes_on;
}

static void *run(void *arg)
{
    struct compactor *c = arg;
    const struct compact_from from = {
        .dir = c->dir, .io = &c->io, .keys = c->keys, .rest = rest, .arg = c};
    pthread_mutex_lock(&c->lock);
    while (!c->stop) {
        if (c->phase != WORKING) {
            pthread_cond_wait(&c->wake, &c->lock);
            continue;
        }
        struct segment seg = c->seg;
        struct compact_result result;
        pthread_mutex_unlock(&c->lock);
        compact_segment(&from, &seg, &result);
        pthread_mutex_lock(&c->lock);
        c->result = result;
        c->phase = DONE;
    }
    c->has_ended = true;
    pthread_cond_broadcast(&c->wake);
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

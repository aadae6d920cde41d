/* SPDX-License-Identifier: Apache-2.0 */
/* How long dead letters are kept, and the thread that sees to it. */
#include "base/clock.h"
#include "base/log.h"
#include "stream/connectors/letter_line.h"
#include "stream/connectors/letters_int.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* A look costs one rewrite of what loses letters; a hundredth of the age is how late it may be. */
#define LOOKS_PER_AGE 100
#define LOOK_MS_MIN 1000
#define LOOK_MS_MAX 600000
#define FIRST_BYTES 64 /* of a line: its time */
#define STEP_MS 1000   /* until a reload is seen */
/* A clock that is set a year ahead removes nothing: time passes no faster than it does. */
#define SLACK_US (3600 * US_PER_S)
#define FREE_WAIT_S 2

static uint64_t size_of(const char *path, uint64_t *modified_ms)
{
    struct stat st;
    if (stat(path, &st) != 0 || !S_ISREG(st.st_mode))
        return 0;
    *modified_ms = (uint64_t)st.st_mtim.tv_sec * 1000 + (uint64_t)st.st_mtim.tv_nsec / 1000000;
    return (uint64_t)st.st_size;
}

/* Is a letter of it too old, by the first line or by the last change? */
static bool has_old(const char *path, uint64_t before_ms)
{
    char text[FIRST_BYTES];
    uint64_t modified_ms = UINT64_MAX;
    int fd = size_of(path, &modified_ms) ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return false;
    ssize_t n = pread(fd, text, sizeof text, 0);
    close(fd);
    struct letter_look look = letter_line_look((struct span){text, n < 0 ? 0 : (size_t)n});
    return look.time_ms < before_ms || modified_ms < before_ms;
}

/* The files of one connector, the older one first. */
static bool expire_one(const char *base, int lock, const struct letters_cut *age,
                       uint64_t bytes_max, uint64_t *removed)
{
    static const char *const ends[] = {".1", ""};
    char path[LETTERS_PATH_BYTES + 4];
    uint64_t modified_ms = 0, all = 0;
    bool is_good = true;
    for (size_t i = 0; i < FB_COUNT(ends) && is_good; i++) {
        snprintf(path, sizeof path, "%s%s", base, ends[i]);
        if (has_old(path, age->before_ms))
            is_good = letters_cut_file(path, lock, age, removed);
        all += size_of(path, &modified_ms);
    }
    uint64_t over = bytes_max ? fb_sub_floor_u64(all, bytes_max) : 0;
    for (size_t i = 0; i < FB_COUNT(ends) && is_good && over; i++) {
        snprintf(path, sizeof path, "%s%s", base, ends[i]);
        const struct letters_cut cut = {.skip_bytes =
                                            fb_min_u64(over, size_of(path, &modified_ms))};
        if (cut.skip_bytes)
            is_good = letters_cut_file(path, lock, &cut, removed);
        over -= cut.skip_bytes;
    }
    return is_good;
}

enum fb_code letters_expire(const char *state_dir, const struct letters_bounds *bounds,
                            uint64_t wall_us, uint64_t *removed, struct fb_err *err)
{
    struct letters_names names;
    char connector[256], done[256] = "", base[LETTERS_PATH_BYTES];
    uint64_t age_ms = atomic_load(&bounds->age_ms), bytes_max = atomic_load(&bounds->bytes_max);
    struct letters_cut age = {.before_ms =
                                  age_ms ? fb_sub_floor_u64(wall_us / US_PER_MS, age_ms) : 0};
    enum fb_code code = FB_OK;
    int lock = letters_lock(state_dir, 0);
    if (lock < 0 && errno == ENOENT)
        return FB_OK;
    if (lock < 0)
        return fb_fail(err, errno == EWOULDBLOCK ? FB_E_AGAIN : FB_E_IO,
                       "%s/connectors cannot be locked: %s", state_dir, strerror(errno));
    if (!letters_names_read(&names, state_dir))
        code =
            fb_fail(err, FB_E_IO, "%s/connectors cannot be read: %s", state_dir, strerror(errno));
    for (size_t i = 0; code == FB_OK && i < names.count; i++) {
        letters_connector(names.at[i], connector);
        if (strcmp(connector, done) == 0) /* sorted: NAME.dead.jsonl, NAME.dead.jsonl.1 */
            continue;
        memcpy(done, connector, sizeof done);
        if (snprintf(base, sizeof base, "%s/connectors/%s.dead.jsonl", state_dir, connector) >=
            (int)sizeof base)
            continue;
        if (!expire_one(base, lock, &age, bytes_max, removed))
            code = fb_fail(err, FB_E_IO, "dead letters in %s cannot be taken away: %s", base,
                           strerror(errno));
    }
    letters_names_fini(&names);
    letters_unlock(lock);
    return code;
}

/* ---- the thread ---- */

struct letters_keeper {
    struct letters_bounds bounds; /* 0: not yet */
    char state_dir[512];
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool stop; /* under the lock */
};

/* False: stop. */
static bool rest(struct letters_keeper *k, uint64_t ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)(ms / 1000);
    pthread_mutex_lock(&k->lock);
    while (!k->stop && pthread_cond_timedwait(&k->wake, &k->lock, &until) != ETIMEDOUT)
        ;
    bool goes_on = !k->stop;
    pthread_mutex_unlock(&k->lock);
    return goes_on;
}

/* False: another has the lock, try again soon. */
static bool look(struct letters_keeper *k, uint64_t wall_us, bool *was_bad)
{
    struct fb_err err;
    uint64_t removed = 0;
    enum fb_code code = letters_expire(k->state_dir, &k->bounds, wall_us, &removed, &err);
    if (removed)
        fb_log(FB_LOG_WARN,
               "%llu dead letters were older or more than dead_letters.retain_age and "
               "retain_bytes allow, and are removed",
               (unsigned long long)removed);
    if (code != FB_OK && code != FB_E_AGAIN && !*was_bad)
        fb_log(FB_LOG_ERROR, "%s", err.text);
    *was_bad = code != FB_OK && code != FB_E_AGAIN;
    return code != FB_E_AGAIN;
}

static void *run(void *arg)
{
    struct letters_keeper *k = arg;
    uint64_t wall0_us = fb_wall_us(), mono0_us = fb_mono_us(), waited_ms = 0;
    uint64_t seen_age = 0, seen_bytes = 0;
    bool was_bad = false;
    do {
        uint64_t age_ms = atomic_load(&k->bounds.age_ms);
        uint64_t bytes_max = atomic_load(&k->bounds.bytes_max);
        uint64_t every_ms = fb_max_u64(
            LOOK_MS_MIN, fb_min_u64(age_ms ? age_ms / LOOKS_PER_AGE : LOOK_MS_MAX, LOOK_MS_MAX));
        bool is_new = age_ms != seen_age || bytes_max != seen_bytes;
        if ((age_ms || bytes_max) && (is_new || waited_ms >= every_ms)) {
            uint64_t passed_us = fb_sub_floor_u64(fb_mono_us(), mono0_us);
            bool is_done =
                look(k, fb_min_u64(fb_wall_us(), wall0_us + passed_us + SLACK_US), &was_bad);
            waited_ms = is_done ? 0 : every_ms;
        }
        seen_age = age_ms;
        seen_bytes = bytes_max;
        waited_ms += STEP_MS;
    } while (rest(k, STEP_MS));
    return NULL;
}

struct letters_keeper *letters_keeper_new(const char *state_dir)
{
    pthread_condattr_t attr;
    sigset_t all, was;
    struct letters_keeper *k = calloc(1, sizeof *k);
    if (!k)
        return NULL;
    snprintf(k->state_dir, sizeof k->state_dir, "%s", state_dir);
    pthread_mutex_init(&k->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&k->wake, &attr);
    pthread_condattr_destroy(&attr);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &was);
    bool is_started = pthread_create(&k->thread, NULL, run, k) == 0;
    pthread_sigmask(SIG_SETMASK, &was, NULL);
    if (is_started) {
        pthread_setname_np(k->thread, "fb-letters");
        return k;
    }
    pthread_mutex_destroy(&k->lock);
    pthread_cond_destroy(&k->wake);
    free(k);
    return NULL;
}

void letters_keeper_bounds(struct letters_keeper *k, uint64_t age_ms, uint64_t bytes_max)
{
    atomic_store(&k->bounds.age_ms, age_ms);
    atomic_store(&k->bounds.bytes_max, bytes_max);
}

void letters_keeper_free(struct letters_keeper *k)
{
    struct timespec until;
    if (!k)
        return;
    pthread_mutex_lock(&k->lock);
    k->stop = true;
    pthread_cond_signal(&k->wake);
    pthread_mutex_unlock(&k->lock);
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += FREE_WAIT_S;
    if (pthread_timedjoin_np(k->thread, NULL, &until) != 0) {
        (void)pthread_detach(k->thread); /* a disk that hangs: the process ends next */
        return;
    }
    pthread_mutex_destroy(&k->lock);
    pthread_cond_destroy(&k->wake);
    free(k);
}

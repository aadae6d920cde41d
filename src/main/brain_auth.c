/* SPDX-License-Identifier: Apache-2.0 */
/* brain_auth: alerts about files of users and the queue of password checks; what the gateway sees
 * of them lies in the memory file.
 *
 *   refused  a changed file is not good      over: all files are
 *   full     a check found no room at all    over: for 10 s each one found it
 *
 * One client that asks for more than its part is no alert: that is what its bound is for. */
#include "base/clock.h"
#include "main/brain_int.h"

#include <inttypes.h>
#include <stdio.h>

#define FULL_OVER_US (10 * US_PER_S)

static void watch_users(struct brain *b);
static void watch_queue(struct brain *b, uint64_t now_us);

void brain_watch_auth(struct brain *b)
{
    watch_users(b);
    watch_queue(b, fb_mono_us());
}

void brain_recall_auth(struct brain *b, const struct ev_alert *told)
{
    if (told->reason == REASON_ALERT_USERS_REFUSED)
        b->is_users_bad = !told->is_over;
    if (told->reason == REASON_ALERT_AUTH_FULL)
        b->is_auth_full = !told->is_over;
}

static void watch_users(struct brain *b)
{
    const struct memfile_auth *m = &b->mem.head->auth;
    uint32_t bad = atomic_load_explicit(&m->bad_files, memory_order_acquire);
    if ((bad > 0) == b->is_users_bad)
        return;
    struct ev_alert ev = ev_alert_init(REASON_ALERT_USERS_REFUSED, 0, 2, !bad, fb_mono_us());
    ev.value = bad;
    if (bad)
        snprintf(ev.text, sizeof ev.text, "%.205s", m->why);
    else
        snprintf(ev.text, sizeof ev.text, "the files of users are good again and in force");
    b->is_users_bad = bad > 0;
    brain_say(b, &ev.head);
}

static void watch_queue(struct brain *b, uint64_t now_us)
{
    const struct memfile_auth *m = &b->mem.head->auth;
    uint64_t full = atomic_load_explicit(&m->refused[MEMFILE_AUTH_FULL], memory_order_relaxed);
    uint64_t fresh = fb_sub_floor_u64(full, b->auth_full_seen);
    b->auth_full_seen = full;
    if (fresh || !b->auth_full_us)
        b->auth_full_us = now_us;
    bool is_full = fresh || (b->is_auth_full && now_us - b->auth_full_us < FULL_OVER_US);
    if (is_full == b->is_auth_full)
        return;
    struct ev_alert ev = ev_alert_init(REASON_ALERT_AUTH_FULL, 0, 1, !is_full, now_us);
    ev.value = (double)full;
    if (is_full)
        snprintf(ev.text, sizeof ev.text,
                 "as many passwords wait to be checked as may, and %" PRIu64
                 " requests got 503: somebody guesses, or the hashes are dear; `foldback why auth`",
                 fresh);
    else
        snprintf(ev.text, sizeof ev.text, "each password finds room to be checked again");
    b->is_auth_full = is_full;
    brain_say(b, &ev.head);
}

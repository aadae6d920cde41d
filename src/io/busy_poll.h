/* SPDX-License-Identifier: Apache-2.0 */
/* busy_poll: is it worth to look for events a little longer before going to sleep?
 *
 * Each wait says whether it ended within the spin time.  While the share of such waits is high
 * enough the loop spins; while it does not, waits go on being judged, so that it begins again by
 * itself.  A thread that is taken off its core while it could run shares that core with somebody
 * who needs it more: then it rests.  So it does when the thread is busy for most of the time
 * anyway: then requests wait for each other and not for wake-ups.  Pure: time and counters are
 * arguments. */
#ifndef FB_IO_BUSY_POLL_H
#define FB_IO_BUSY_POLL_H
#include <stdbool.h>
#include <stdint.h>

#define BUSY_POLL_JUDGE_US 100000 /* how often involuntary switches are to be looked at */

struct busy_poll {
    uint32_t most_us; /* 0: never */
    float hits;       /* share of waits that ended within most_us, 0..1 */
    bool is_on;       /* has hysteresis */
    uint64_t switches, judged_us;
    uint64_t waited_us; /* since judged_us, polling and sleeping */
    uint64_t rest_until_us;
};

/* How long to spin now: 0 or most_us. */
uint32_t busy_poll_budget_us(const struct busy_poll *s, uint64_t now_us);
/* A wait of <waited_us>, spinning included, is over. */
void busy_poll_waited(struct busy_poll *s, uint64_t waited_us, bool had_events);
/* Every BUSY_POLL_JUDGE_US.  <switches>: involuntary context switches of this thread since its
 * start. */
void busy_poll_judge(struct busy_poll *s, uint64_t switches, uint64_t now_us);
#endif

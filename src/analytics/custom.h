/* SPDX-License-Identifier: Apache-2.0 */
/* custom: facts of what applications send (EV_CUSTOM): per name the last value, how many came, and
 * their sum, each second of the last minute.
 *
 * Windows are whole seconds that are over; time comes in tick events.  At most CUSTOM_NAMES_MAX
 * names: a new one takes the place of the one that was silent longest, if that is silent for
 * CUSTOM_SILENT_S; else it is refused and counted.
 * Pure.  Memory: about 200 KiB.  Threads: one at a time per struct. */
#ifndef FB_ANALYTICS_CUSTOM_H
#define FB_ANALYTICS_CUSTOM_H
#include "analytics/pack.h"
#include "event/event.h"

#define CUSTOM_NAMES_MAX 256u
#define CUSTOM_SECONDS 60u
#define CUSTOM_SILENT_S 600u

struct custom_name {
    char name[40];
    double last, total_sum;
    uint64_t total, last_s; /* last_s: second of the stream in which the last one came */
    double sum[CUSTOM_SECONDS + 1];
    uint32_t count[CUSTOM_SECONDS + 1]; /* by second modulo; one is open */
    uint32_t reserved;
};
struct custom_sum {
    uint64_t count;
    double sum;
    uint32_t seconds; /* that the window really covers; 0: nothing is over yet */
};

struct customs;
struct customs *customs_new(void); /* NULL without memory */
void customs_free(struct customs *c);
/* EV_CUSTOM and EV_TICK; others change nothing. */
void customs_feed(struct customs *c, const struct ev_head *ev);

uint32_t customs_count(const struct customs *c);
const struct custom_name *customs_at(const struct customs *c, uint32_t i);         /* i < count */
const struct custom_name *customs_find(const struct customs *c, const char *name); /* NULL */
/* Over the last <seconds> (1 to CUSTOM_SECONDS). */
struct custom_sum customs_sum(const struct customs *c, const struct custom_name *n,
                              uint32_t seconds);
/* The second that began <ago> seconds before the open one, ago >= 1. */
struct custom_sum customs_second(const struct customs *c, const struct custom_name *n,
                                 uint32_t ago);
uint64_t customs_now_s(const struct customs *c); /* the open second */
/* `deploy`, or `<anything>.deploy`; <whose> is that, "" when there is none. */
bool custom_is_deploy(const char name[40], char whose[40]);
/* Whole seconds since the last deploy marker: an event named `deploy` or `<anything>.deploy`.
 * UINT64_MAX: none is known. */
uint64_t customs_deploy_age_s(const struct customs *c);
uint64_t customs_refused(const struct customs *c); /* events whose name found no place */

void customs_save(const struct customs *c, struct buf *out);
FB_MUST_USE
bool customs_load(struct customs *c, struct unpack *u);
#endif

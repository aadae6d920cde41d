/* SPDX-License-Identifier: Apache-2.0 */
/* brain_query: questions in SQL that come over the admin API, each on a thread of its own.
 *
 *   FREE --begin--> RUNNING --(thread)--> DONE --take, or begin after a drop--> FREE
 *
 * A thread reads the log from disk as any reader does; of the brain it touches nothing.  It runs
 * with a lower priority than the loops, for BRAIN_QUERY_TIME_US at most.  SQLite's memory is
 * bounded by asking, not by its hard limit, which the state file of the brain would feel. Threads:
 * the brain's loop; the eventfd becomes readable when a query has ended. */
#ifndef FB_MAIN_BRAIN_QUERY_H
#define FB_MAIN_BRAIN_QUERY_H
#include "output/admin.h"

#define BRAIN_QUERIES_MAX 2
#define BRAIN_QUERY_TIME_US (10 * US_PER_S)
#define BRAIN_QUERY_BYTES_MAX (64 * MIB) /* SQLite, the brain's own 2 MiB included */
#define BRAIN_QUERY_ANSWER_BYTES_MAX (4 * MIB)

struct brain_query;
/* <time_us> for each query, as BRAIN_QUERY_TIME_US.  NULL without memory or descriptor. */
struct brain_query *brain_query_new(const char *state_dir, uint64_t time_us);
/* Ends what runs, within 2 s: what does not end by then is left to the end of the process and told.
 * NULL is fine. */
void brain_query_free(struct brain_query *bq);
int brain_query_fd(const struct brain_query *bq);
/* As in struct admin_source. */
FB_MUST_USE
enum fb_code brain_query_begin(struct brain_query *bq, const struct admin_query *ask,
                               uint32_t *ticket, struct fb_err *err);
FB_MUST_USE
bool brain_query_take(struct brain_query *bq, uint32_t ticket, struct buf *body,
                      struct admin_query_answer *out);
void brain_query_drop(struct brain_query *bq, uint32_t ticket);
#endif

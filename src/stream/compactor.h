/* SPDX-License-Identifier: Apache-2.0 */
/* compactor: a thread that compacts one segment after another (compact.h) beside the writer.
 *
 *   IDLE --compactor_offer--> WORKING --(its thread)--> DONE --compactor_take--> IDLE
 *
 * It works a quarter of the time, so that neither the gateway's cores nor the writer's disk are
 * its. The thread starts with the first segment.
 *
 * Threads: the log's writer thread calls offer and take, log_open new, log_close close. */
#ifndef FB_STREAM_COMPACTOR_H
#define FB_STREAM_COMPACTOR_H
#include "stream/compact.h"

struct compactor;
/* <io> complete; everything is copied. */
FB_MUST_USE
enum fb_code compactor_new(struct compactor **c, const char *dir, const struct log_io *io,
                           struct keyring *keys, struct fb_err *err);
/* Waits at most until <until_us> (stream time); false: its thread hangs in a system call and is
 * left to the process, and the lock of the log must be, too.  NULL is fine. */
bool compactor_close(struct compactor *c, uint64_t until_us);
bool compactor_is_idle(struct compactor *c);
/* Only while it is idle. */
void compactor_offer(struct compactor *c, const struct segment *seg);
/* True once for each offer, when it has ended. */
bool compactor_take(struct compactor *c, struct compact_result *result);
#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* statsd: StatsD and DogStatsD over UDP and a Unix datagram socket, on a thread of its own.
 *
 *   datagrams -> lines -> tally --each interval--> ingress (the brain's queue)
 *
 * However much comes, the stream gets one event per name and interval.  A full queue drops nothing:
 * the tally goes on and is put with the next interval.  Datagrams that come faster than the thread
 * reads are dropped by the kernel (counted: too_fast).
 * Threads: new and free from one; the work is on its own. */
#ifndef FB_INGEST_STATSD_H
#define FB_INGEST_STATSD_H
#include "base/error.h"
#include "event/ingest.h"
#include "event/ingress.h"

struct statsd_setup {
    const char *address; /* "127.0.0.1:8125", "" none */
    const char *socket;  /* path, "" none */
    uint32_t interval_ms;
    bool is_folding_tags; /* values of tags become parts of the name; else they are dropped */
    struct ingress *ingress;
    struct ingest_stats *stats;
};
struct statsd;
/* Errors: IO, PORT_IN_USE, NOMEM. */
FB_MUST_USE
enum fb_code statsd_new(struct statsd **statsd, const struct statsd_setup *setup,
                        struct fb_err *err);
void statsd_free(struct statsd *s); /* what was counted is put first; NULL is fine */
#endif

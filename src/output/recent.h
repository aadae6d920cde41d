/* SPDX-License-Identifier: Apache-2.0 */
/* recent: the last requests and their samples, so that `why REQUEST_ID` answers at once and the tap
 * can show method and path beside the figures.
 *
 * Rings of fixed size: 8,192 requests (1 MiB) and 1,024 samples (256 KiB); older ones are in the
 * log.  A request is found by looking at all of them, newest first; a sample through a small open
 * hash of ring positions, where a collision forgets the older entry.
 * Threads: one at a time per struct recent. */
#ifndef FB_OUTPUT_RECENT_H
#define FB_OUTPUT_RECENT_H
#include "event/event.h"

#define RECENT_REQUESTS_MAX 8192
#define RECENT_SAMPLES_MAX 1024

struct recent {
    struct ev_request *request;
    uint64_t *offset; /* of each request */
    struct ev_sample *sample;
    uint64_t request_count, sample_count;       /* ever added */
    uint64_t sample_at[2 * RECENT_SAMPLES_MAX]; /* position + 1 by hash of the id */
};

struct recent *recent_new(void); /* NULL without memory */
void recent_free(struct recent *r);
void recent_add_request(struct recent *r, const struct ev_request *ev, uint64_t offset);
void recent_add_sample(struct recent *r, const struct ev_sample *ev);
/* NULL when it is not among the last ones; *offset (may be NULL) is its place in the log. */
const struct ev_request *recent_request(const struct recent *r, uint64_t request_id,
                                        uint64_t *offset);
const struct ev_sample *recent_sample(const struct recent *r, uint64_t request_id);

/* All samples go: somebody was erased, and a sample may be his. */
void recent_forget_samples(struct recent *r);
/* Path without what may name a person: segments with a digit, '@', '%' or more than 24 bytes become
 * "*".  "/orders/4711/items" -> "/orders/ * /items" (without the blanks). */
void recent_redact_path(struct span path, struct buf *out);
#endif

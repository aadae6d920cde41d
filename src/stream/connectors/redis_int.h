/* SPDX-License-Identifier: Apache-2.0 */
/* redis_int: one connector of type redis, shared by redis.c and redis_source.c.
 *
 * Threads: the connector's own. */
#ifndef FB_STREAM_CONNECTORS_REDIS_INT_H
#define FB_STREAM_CONNECTORS_REDIS_INT_H
#include "stream/connectors/redis_link.h"

#define REDIS_NAME_BYTES 512
#define REDIS_ID_BYTES 48   /* two u64, "-" */
#define REDIS_COUNT_MAX 256 /* most entries of one answer */

struct connector {
    struct connector_setup setup;
    struct redis_link link;
    char stream[REDIS_NAME_BYTES], group[REDIS_NAME_BYTES], consumer[REDIS_NAME_BYTES];
    uint64_t max_len, max_age_ms, claim_after_ms;
    /* source (redis_source.c) */
    bool has_group;
    bool is_draining;                  /* what this consumer was given before is read again */
    char drain_from[REDIS_ID_BYTES];   /* behind this id */
    char claim_cursor[REDIS_ID_BYTES]; /* "0-0": a new round */
    uint64_t claim_at_us, look_at_us;  /* next times */
    uint32_t count_max;                /* entries of one question; less after an answer too large */
    bool is_giant;                     /* one alone was too large */
    uint64_t behind, lost, lost_said;
    char lost_id[REDIS_ID_BYTES]; /* "": no gap waits to be told */
};

enum fb_code redis_receive(struct connector *c, connector_each *each, void *arg,
                           uint32_t timeout_ms, struct fb_err *err);
enum fb_code redis_commit(struct connector *c, const struct connector_done *done, uint32_t count,
                          struct fb_err *err);
uint64_t redis_behind(struct connector *c);
#endif

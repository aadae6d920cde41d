/* SPDX-License-Identifier: Apache-2.0 */
/* backoff: how long to wait before the next try.  Pure.  Threads: any. */
#ifndef FB_STREAM_CONNECTORS_BACKOFF_H
#define FB_STREAM_CONNECTORS_BACKOFF_H
#include "base/base.h"

#define BACKOFF_FIRST_MS 100

/* Full jitter: evenly in 0 .. min(most_ms, 100 ms x 2^attempt), so that a hundred nodes do not come
 * back together.  <attempt> counts failures in a row from 0; <unit> is random in 0 <= unit < 1. */
static inline uint32_t backoff_ms(uint32_t attempt, uint32_t most_ms, double unit)
{
    uint64_t top = BACKOFF_FIRST_MS;
    for (uint32_t i = 0; i < attempt && top < most_ms; i++)
        top *= 2;
    top = top < most_ms ? top : most_ms;
    return (uint32_t)((double)top * unit);
}
#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* base: what every module may assume: attributes, sizes, small arithmetic.
 *
 * No product knowledge.  Threads: any. */
#ifndef FB_BASE_BASE_H
#define FB_BASE_BASE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FB_MUST_USE __attribute__((warn_unused_result))
#define FB_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define FB_LIKELY(x) __builtin_expect(!!(x), 1)
#define FB_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define FB_CACHE_LINE_BYTES 64

#define KIB ((size_t)1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)

#define US_PER_MS UINT64_C(1000)
#define US_PER_S UINT64_C(1000000)

#define FB_COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* The struct that embeds <member>, from a pointer to the member. */
#define FB_CONTAINER(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

static inline uint32_t fb_min_u32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}
static inline uint32_t fb_max_u32(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}
static inline uint64_t fb_min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}
static inline uint64_t fb_max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}
static inline double fb_clamp(double v, double lo, double hi)
{
    return v < lo ? lo : v > hi ? hi : v;
}
/* a - b, or 0 when b is later: clocks of two threads may differ by a microsecond. */
static inline uint64_t fb_sub_floor_u64(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}
static inline uint32_t fb_sat_u32(uint64_t v)
{
    return v > UINT32_MAX ? UINT32_MAX : (uint32_t)v;
}
#endif

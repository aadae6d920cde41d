/* SPDX-License-Identifier: Apache-2.0 */
/* Form: (zero words u32, literal words u32, literals)* until <len> is filled.  Little endian, as
 * the machine. */
#include "analytics/pack.h"

#include "base/assert.h"

#include <string.h>

static uint32_t word_at(const unsigned char *bytes, size_t i)
{
    uint32_t v;
    memcpy(&v, bytes + 4 * i, sizeof v);
    return v;
}

void pack_put_u64(struct buf *out, uint64_t v)
{
    buf_put(out, &v, sizeof v);
}

void pack_put(struct buf *out, const void *bytes, size_t len)
{
    fb_assert(len % 4 == 0);
    fb_assert(len / 4 <= UINT32_MAX);
    const unsigned char *at = bytes;
    size_t words = len / 4;
    size_t i = 0;
    while (i < words) {
        size_t zero_from = i;
        while (i < words && word_at(at, i) == 0)
            i++;
        size_t from = i;
        /* two zero words inside literals cost as much as a new run: break at three */
        while (i < words && !(word_at(at, i) == 0 && i + 2 < words && word_at(at, i + 1) == 0 &&
                              word_at(at, i + 2) == 0))
            i++;
        uint32_t run[2] = {(uint32_t)(from - zero_from), (uint32_t)(i - from)};
        buf_put(out, run, sizeof run);
        buf_put(out, at + 4 * from, 4 * (i - from));
    }
}

static void take(struct unpack *u, void *into, size_t len)
{
    if (u->is_broken || u->rest.len < len) {
        u->is_broken = true;
        memset(into, 0, len);
        return;
    }
    memcpy(into, u->rest.at, len);
    u->rest.at += len;
    u->rest.len -= len;
}

void unpack_get(struct unpack *u, void *bytes, size_t len)
{
    fb_assert(len % 4 == 0);
    unsigned char *at = bytes;
    size_t words = len / 4;
    size_t i = 0;
    while (i < words && !u->is_broken) {
        uint32_t run[2];
        take(u, run, sizeof run);
        if (run[0] > words - i || run[1] > words - i - run[0] || run[0] + (uint64_t)run[1] == 0) {
            u->is_broken = true;
            break;
        }
        memset(at + 4 * i, 0, (size_t)run[0] * 4);
        i += run[0];
        take(u, at + 4 * i, (size_t)run[1] * 4);
        i += run[1];
    }
    if (u->is_broken)
        memset(bytes, 0, len);
}

uint64_t unpack_get_u64(struct unpack *u)
{
    uint64_t v;
    take(u, &v, sizeof v);
    return v;
}

uint64_t pack_hash(struct span bytes)
{
    /* multiply, rotate, fold: eight bytes a step, finished with the mixer of splitmix64 */
    uint64_t h = UINT64_C(0x9e3779b97f4a7c15) ^ bytes.len;
    size_t i = 0;
    for (; i + 8 <= bytes.len; i += 8) {
        uint64_t v;
        memcpy(&v, bytes.at + i, sizeof v);
        h ^= v * UINT64_C(0xc2b2ae3d27d4eb4f);
        h = ((h << 27) | (h >> 37)) * UINT64_C(0x9e3779b185ebca87);
    }
    for (; i < bytes.len; i++)
        h = (h ^ (unsigned char)bytes.at[i]) * UINT64_C(0x100000001b3);
    h = (h ^ (h >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    h = (h ^ (h >> 27)) * UINT64_C(0x94d049bb133111eb);
    return h ^ (h >> 31);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "query/hybrid.h"

#include "base/assert.h"
#include "query/thrift.h"

uint32_t hybrid_bits(uint32_t max)
{
    uint32_t bits = 1;
    while (bits < 32 && max >> bits)
        bits++;
    return bits;
}

/* <count> is a multiple of 8 but for the last ones of all. */
static void put_packed(struct buf *out, const uint32_t *values, uint32_t count, uint32_t bits)
{
    uint32_t groups = (count + 7) / 8, held = 0;
    uint64_t word = 0;
    if (count == 0)
        return;
    thrift_varint(out, (uint64_t)groups << 1 | 1);
    for (uint32_t i = 0; i < groups * 8; i++) {
        word |= (uint64_t)(i < count ? values[i] : 0) << held;
        for (held += bits; held >= 8; held -= 8, word >>= 8)
            buf_putc(out, (char)word);
    }
    fb_assert(held == 0);
}

static void put_run(struct buf *out, uint32_t value, uint32_t length, uint32_t bits)
{
    thrift_varint(out, (uint64_t)length << 1);
    for (uint32_t byte = 0; byte < (bits + 7) / 8; byte++)
        buf_putc(out, (char)(value >> (8 * byte)));
}

void hybrid_put(struct buf *out, const uint32_t *values, uint32_t count, uint32_t bits)
{
    uint32_t packed_from = 0, i = 0;
    fb_assert(bits >= 1 && bits <= 32);
    while (i < count) {
        uint32_t same = 1;
        while (i + same < count && values[i + same] == values[i])
            same++;
        /* A run costs as much as a group of eight single bits: from there on it is shorter. */
        if (same < 8) {
            i += fb_min_u32(8, count - i);
            continue;
        }
        put_packed(out, values + packed_from, i - packed_from, bits);
        put_run(out, values[i], same, bits);
        i += same;
        packed_from = i;
    }
    put_packed(out, values + packed_from, count - packed_from, bits);
}

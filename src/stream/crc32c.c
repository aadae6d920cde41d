/* SPDX-License-Identifier: Apache-2.0 */
#include "stream/crc32c.h"

#include <pthread.h>
#include <string.h>

#if defined(__x86_64__)
#include <nmmintrin.h>
#define HAS_SSE42_CODE 1
#endif

/* x^32 + ... of Castagnoli, bits reversed. */
#define POLYNOMIAL UINT32_C(0x82f63b78)

static uint32_t table[8][256]; /* [k]: the byte followed by k zero bytes; eight bytes at a time */
static pthread_once_t table_once = PTHREAD_ONCE_INIT;

static void table_fill(void)
{
    for (uint32_t b = 0; b < 256; b++) {
        uint32_t crc = b;
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ ((crc & 1) ? POLYNOMIAL : 0);
        table[0][b] = crc;
    }
    for (uint32_t b = 0; b < 256; b++)
        for (int k = 1; k < 8; k++)
            table[k][b] = (table[k - 1][b] >> 8) ^ table[0][table[k - 1][b] & 0xff];
}

uint32_t crc32c_table(uint32_t before, const void *bytes, size_t len)
{
    pthread_once(&table_once, table_fill);
    const unsigned char *p = bytes;
    uint32_t crc = ~before;
    for (; len >= 8; len -= 8, p += 8) {
        uint64_t w;
        memcpy(&w, p, 8);
        w ^= crc;
        crc = table[7][w & 0xff] ^ table[6][(w >> 8) & 0xff] ^ table[5][(w >> 16) & 0xff] ^
              table[4][(w >> 24) & 0xff] ^ table[3][(w >> 32) & 0xff] ^ table[2][(w >> 40) & 0xff] ^
              table[1][(w >> 48) & 0xff] ^ table[0][w >> 56];
    }
    while (len-- > 0)
        crc = (crc >> 8) ^ table[0][(crc ^ *p++) & 0xff];
    return ~crc;
}

#ifdef HAS_SSE42_CODE
__attribute__((target("sse4.2"))) static uint32_t crc32c_sse42(uint32_t before, const void *bytes,
                                                               size_t len)
{
    const unsigned char *p = bytes;
    uint64_t crc = (uint32_t)~before;
    for (; len >= 8; len -= 8, p += 8) {
        uint64_t w;
        memcpy(&w, p, 8);
        crc = _mm_crc32_u64(crc, w);
    }
    while (len-- > 0)
        crc = _mm_crc32_u8((uint32_t)crc, *p++);
    return ~(uint32_t)crc;
}
#endif

uint32_t crc32c(uint32_t before, const void *bytes, size_t len)
{
#ifdef HAS_SSE42_CODE
    if (__builtin_cpu_supports("sse4.2")) /* one load and a test: libgcc looked it up at start */
        return crc32c_sse42(before, bytes, len);
#endif
    return crc32c_table(before, bytes, len);
}

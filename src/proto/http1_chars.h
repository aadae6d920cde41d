/* SPDX-License-Identifier: Apache-2.0 */
/* http1_chars: which bytes may stand where, and scans that stop at the first byte that may not.
 *
 * Inside proto/ only.  Threads: any. */
#ifndef FB_PROTO_HTTP1_CHARS_H
#define FB_PROTO_HTTP1_CHARS_H
#include "base/base.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

enum {
    CHAR_TOKEN = 1,       /* RFC 9110 5.6.2 */
    CHAR_VALUE = 2,       /* field-vchar, SP, HTAB */
    CHAR_TARGET = 4,      /* visible ASCII without '#' */
    CHAR_REG_NAME = 8,    /* a host that is not an IP literal; no escapes */
    CHAR_UNRESERVED = 16, /* RFC 3986 2.3 */
    CHAR_PATH = 32,       /* pchar without '%', and '/' */
    CHAR_HEX = 64,
    CHAR_DIGIT = 128,
};

extern const uint8_t http1_chars[256];

static inline bool char_is(char c, unsigned kind)
{
    return (http1_chars[(unsigned char)c] & kind) != 0;
}

static inline const char *scan_kind(const char *c, const char *end, unsigned kind)
{
    while (c < end && char_is(*c, kind))
        c++;
    return c;
}

/* Values are 20 to 200 bytes long: 16 at a time is about four times as fast as the table. */
static inline const char *scan_value(const char *c, const char *end)
{
#ifdef __SSE2__
    const __m128i blank = _mm_set1_epi8(0x20);
    const __m128i tab = _mm_set1_epi8(0x09);
    const __m128i del = _mm_set1_epi8(0x7f);
    while (end - c >= 16) {
        __m128i x = _mm_loadu_si128((const __m128i *)(const void *)c);
        __m128i ok =
            _mm_or_si128(_mm_cmpeq_epi8(_mm_max_epu8(x, blank), x), _mm_cmpeq_epi8(x, tab));
        ok = _mm_andnot_si128(_mm_cmpeq_epi8(x, del), ok);
        unsigned bad = (unsigned)_mm_movemask_epi8(ok) ^ 0xffffu;
        if (bad != 0)
            return c + __builtin_ctz(bad);
        c += 16;
    }
#endif
    return scan_kind(c, end, CHAR_VALUE);
}

static inline const char *scan_target(const char *c, const char *end)
{
#ifdef __SSE2__
    const __m128i blank = _mm_set1_epi8(0x20);
    const __m128i hash = _mm_set1_epi8('#');
    const __m128i del = _mm_set1_epi8(0x7f);
    while (end - c >= 16) {
        __m128i x = _mm_loadu_si128((const __m128i *)(const void *)c);
        /* Signed: bytes from 0x80 are negative, so below the blank too. */
        __m128i ok = _mm_cmpgt_epi8(x, blank);
        __m128i no = _mm_or_si128(_mm_cmpeq_epi8(x, hash), _mm_cmpeq_epi8(x, del));
        unsigned bad = (unsigned)_mm_movemask_epi8(_mm_andnot_si128(no, ok)) ^ 0xffffu;
        if (bad != 0)
            return c + __builtin_ctz(bad);
        c += 16;
    }
#endif
    return scan_kind(c, end, CHAR_TARGET);
}

/* Letters differ from their capitals in this bit; '-' and digits have it set already, so that for
 * bytes of a token (c | 0x20) == k is an exact comparison with a lower-case k. */
#define CHAR_LOWER_BIT 0x20

static inline char char_lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c | CHAR_LOWER_BIT) : c;
}

/* Value of a hex digit; 16 for any other byte. */
static inline unsigned char_hex(char c)
{
    if (c >= '0' && c <= '9')
        return (unsigned)(c - '0');
    char l = (char)(c | CHAR_LOWER_BIT);
    return l >= 'a' && l <= 'f' ? (unsigned)(l - 'a' + 10) : 16;
}
#endif

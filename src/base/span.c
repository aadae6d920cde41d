/* SPDX-License-Identifier: Apache-2.0 */
#include "base/span.h"

struct span span_trim(struct span s)
{
    while (s.len && (s.at[0] == ' ' || s.at[0] == '\t')) {
        s.at++;
        s.len--;
    }
    while (s.len && (s.at[s.len - 1] == ' ' || s.at[s.len - 1] == '\t'))
        s.len--;
    return s;
}

struct span span_cut(struct span s, char sep, struct span *rest)
{
    const char *hit = s.len ? memchr(s.at, sep, s.len) : NULL;
    if (!hit) {
        *rest = (struct span){s.len ? s.at + s.len : s.at, 0}; /* NULL + 0 is undefined in C17 */
        return s;
    }
    size_t head = (size_t)(hit - s.at);
    *rest = (struct span){hit + 1, s.len - head - 1};
    return (struct span){s.at, head};
}

bool span_to_u64(struct span s, uint64_t *value)
{
    uint64_t sum = 0;
    if (s.len == 0)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        if (s.at[i] < '0' || s.at[i] > '9')
            return false;
        uint64_t digit = (uint64_t)(s.at[i] - '0');
        if (i >= 19 && sum > (UINT64_MAX - digit) / 10) /* 19 digits always fit */
            return false;
        sum = sum * 10 + digit;
    }
    *value = sum;
    return true;
}

size_t span_utf8(struct span s, size_t i)
{
    const unsigned char *at = (const unsigned char *)s.at + i;
    size_t left = s.len - i;
    unsigned lo = 0x80, hi = 0xbf;
    size_t n;
    if (at[0] < 0x80)
        return 1;
    if (at[0] >= 0xc2 && at[0] <= 0xdf) {
        n = 2;
    } else if (at[0] >= 0xe0 && at[0] <= 0xef) {
        n = 3;
        lo = at[0] == 0xe0 ? 0xa0 : lo;
        hi = at[0] == 0xed ? 0x9f : hi;
    } else if (at[0] >= 0xf0 && at[0] <= 0xf4) {
        n = 4;
        lo = at[0] == 0xf0 ? 0x90 : lo;
        hi = at[0] == 0xf4 ? 0x8f : hi;
    } else {
        return 0;
    }
    if (left < n || at[1] < lo || at[1] > hi)
        return 0;
    for (size_t i = 2; i < n; i++)
        if (at[i] < 0x80 || at[i] > 0xbf)
            return 0;
    return n;
}

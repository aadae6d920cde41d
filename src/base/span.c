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
        if (sum > (UINT64_MAX - digit) / 10)
            return false;
        sum = sum * 10 + digit;
    }
    *value = sum;
    return true;
}

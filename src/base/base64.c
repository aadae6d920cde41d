/* SPDX-License-Identifier: Apache-2.0 */
#include "base/base64.h"

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_put(struct buf *out, struct span bytes)
{
    if (!buf_reserve(out, (bytes.len + 2) / 3 * 4))
        return;
    for (size_t i = 0; i < bytes.len; i += 3) {
        uint32_t v = 0;
        for (size_t k = 0; k < 3; k++)
            v = v << 8 | (i + k < bytes.len ? (unsigned char)bytes.at[i + k] : 0u);
        for (size_t k = 0; k < 4; k++)
            out->at[out->len++] = i + k > bytes.len ? '=' : digits[v >> (18 - 6 * k) & 63];
    }
}

static int digit_of(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

size_t base64_take(struct span text, struct buf *out)
{
    size_t i = 0;
    uint32_t bits = 0, have = 0;
    for (int d; i < text.len && (d = digit_of(text.at[i])) >= 0; i++) {
        bits = bits << 6 | (uint32_t)d;
        if ((have += 6) < 8)
            continue;
        have -= 8;
        buf_putc(out, (char)(bits >> have & 0xff));
    }
    return i;
}

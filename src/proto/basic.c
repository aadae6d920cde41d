/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/basic.h"

static int digit_of(char ch)
{
    if (ch >= 'A' && ch <= 'Z')
        return ch - 'A';
    if (ch >= 'a' && ch <= 'z')
        return ch - 'a' + 26;
    if (ch >= '0' && ch <= '9')
        return ch - '0' + 52;
    return ch == '+' ? 62 : ch == '/' ? 63 : -1;
}

/* All of <text> or nothing; the padding may be missing.  Bits that are left over must be 0, so that
 * one password has one spelling. */
static bool decode(struct span text, char *out, size_t room, size_t *bytes)
{
    uint32_t bits = 0, held = 0;
    size_t n = 0;
    bool is_padded = text.len % 4 == 0;
    for (int pads = 0; is_padded && pads < 2 && text.len && text.at[text.len - 1] == '='; pads++)
        text.len--;
    if (text.len % 4 == 1)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        int digit = digit_of(text.at[i]);
        if (digit < 0)
            return false;
        bits = (bits << 6 | (uint32_t)digit) & 0xffff;
        held += 6;
        if (held < 8)
            continue;
        held -= 8;
        if (n == room)
            return false;
        out[n++] = (char)(bits >> held & 0xff);
    }
    *bytes = n;
    return (bits & ((1u << held) - 1)) == 0;
}

bool basic_read(struct span value, struct basic *out)
{
    const struct span scheme = SPAN("basic ");
    size_t bytes;
    if (value.len <= scheme.len || !span_ieq((struct span){value.at, scheme.len}, scheme))
        return false;
    struct span text = span_trim((struct span){value.at + scheme.len, value.len - scheme.len});
    if (!decode(text, out->bytes, sizeof out->bytes - 1, &bytes))
        return false;
    out->bytes[bytes] = '\0';
    char *colon = memchr(out->bytes, ':', bytes);
    if (!colon || memchr(out->bytes, '\0', bytes))
        return false;
    *colon = '\0';
    out->user = (struct span){out->bytes, (size_t)(colon - out->bytes)};
    out->password = (struct span){colon + 1, bytes - out->user.len - 1};
    return out->user.len > 0 && out->user.len <= BASIC_USER_BYTES_MAX &&
           out->password.len <= BASIC_PASSWORD_BYTES_MAX;
}

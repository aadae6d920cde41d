/* SPDX-License-Identifier: Apache-2.0 */
/* Networks: an address and how many of its bits count. */
#include "conf/conf.h"

#include <arpa/inet.h>

#define V4_OFFSET_BITS 96u

static bool is_bit_set(const unsigned char *at, unsigned bit)
{
    return (at[bit / 8] >> (7 - bit % 8) & 1) != 0;
}

bool conf_prefix_read(struct span text, struct conf_prefix *out)
{
    static const unsigned char mapped[12] = {[10] = 0xff, [11] = 0xff};
    char host[64];
    struct span length;
    struct span address = span_cut(text, '/', &length);
    bool has_length = address.len < text.len;
    uint64_t bits;
    if (address.len == 0 || address.len >= sizeof host)
        return false;
    memcpy(host, address.at, address.len);
    host[address.len] = 0;
    *out = (struct conf_prefix){.bits = 128};
    memcpy(out->at, mapped, sizeof mapped);
    unsigned offset = V4_OFFSET_BITS;
    if (inet_pton(AF_INET, host, out->at + sizeof mapped) != 1) {
        offset = 0;
        if (inet_pton(AF_INET6, host, out->at) != 1)
            return false;
    }
    if (has_length) {
        if (!span_to_u64(length, &bits) || bits > 128 - offset)
            return false;
        out->bits = (uint8_t)(bits + offset);
    }
    for (unsigned bit = out->bits; bit < 128; bit++)
        if (is_bit_set(out->at, bit))
            return false;
    return true;
}

bool conf_prefix_has(const struct conf_prefix *at, size_t count, const unsigned char *address)
{
    for (size_t i = 0; i < count; i++) {
        unsigned whole = at[i].bits / 8u, rest = at[i].bits % 8u;
        if (memcmp(at[i].at, address, whole) != 0)
            continue;
        if (rest == 0 || (at[i].at[whole] ^ address[whole]) >> (8 - rest) == 0)
            return true;
    }
    return false;
}

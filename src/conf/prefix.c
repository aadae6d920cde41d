/* SPDX-License-Identifier: Apache-2.0 */
/* Networks: an address and how many of its bits count. */
#include "conf/conf.h"

#include <arpa/inet.h>

#define V4_OFFSET_BITS 96u
static const unsigned char v4_in_v6[12] = {[10] = 0xff, [11] = 0xff};

static bool is_bit_set(const unsigned char *at, unsigned bit)
{
    return (at[bit / 8] >> (7 - bit % 8) & 1) != 0;
}

bool conf_prefix_read(struct span text, struct conf_prefix *out)
{
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
    memcpy(out->at, v4_in_v6, sizeof v4_in_v6);
    unsigned offset = V4_OFFSET_BITS;
    if (inet_pton(AF_INET, host, out->at + sizeof v4_in_v6) != 1) {
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

void conf_prefix_print(const struct conf_prefix *p, struct buf *out)
{
    char host[INET6_ADDRSTRLEN] = "";
    bool is_v4 = p->bits >= V4_OFFSET_BITS && memcmp(p->at, v4_in_v6, sizeof v4_in_v6) == 0;
    unsigned offset = is_v4 ? V4_OFFSET_BITS : 0;
    inet_ntop(is_v4 ? AF_INET : AF_INET6, p->at + offset / 8, host, sizeof host);
    buf_printf(out, "%s/%u", host, p->bits - offset);
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

/* SPDX-License-Identifier: Apache-2.0 */
/* srv: SRV records (RFC 2782) out of a DNS answer.
 *
 * The answer comes from the network: nothing in it is believed beyond its bounds.  Records of other
 * types are skipped, a target of "." (the service is decidedly not available) or with characters
 * that no host name has is left out.  Pure.  Threads: any. */
#ifndef FB_IO_SRV_H
#define FB_IO_SRV_H
#include "base/span.h"

#define SRV_MAX 64 /* per name; more are ignored */

struct srv {
    char host[256]; /* lower case, without the last dot */
    uint16_t port, priority, weight;
};
struct srv_list {
    struct srv at[SRV_MAX];
    uint32_t count, ignored;
    uint32_t ttl_s; /* shortest of the answer; 0 when there is none */
};
bool srv_same(const struct srv_list *a, const struct srv_list *b); /* but for the time */
/* Sorted by priority, host and port.  False: the answer is malformed; <list> is empty then. */
bool srv_parse(struct span answer, struct srv_list *list);
#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* proxy_protocol: the header that a load balancer puts before the bytes of a connection to say who
 * the client is: HAProxy's PROXY protocol, version 1 (a line of text) and 2 (binary).
 *
 * Strict: one byte that does not fit refuses the header, since what follows would be taken for
 * something else.  The outcome depends on the bytes alone, never on how they were cut.
 * Holds always:  MORE only below PROXY_HEAD_MAX_BYTES;  head_bytes <= length of the bytes.
 * Memory: the caller's.  Threads: any.  Units: bytes. */
#ifndef FB_PROTO_PROXY_PROTOCOL_H
#define FB_PROTO_PROXY_PROTOCOL_H
#include "base/span.h"

/* Version 2 may announce 64 KiB of extensions; those in use (ALPN, authority, a certificate's name,
 * cloud ids) need a few hundred bytes. */
#define PROXY_HEAD_MAX_BYTES 4096
/* The longest version 1 line with its CR LF. */
#define PROXY_V1_MAX_BYTES 107
/* What proxy_write needs at most. */
#define PROXY_WRITE_MAX_BYTES 108

enum proxy_step { PROXY_MORE, PROXY_DONE, PROXY_FAILED };
enum proxy_family { PROXY_NONE, PROXY_IPV4, PROXY_IPV6 };

struct proxy_head {
    uint32_t head_bytes; /* what was read; the client's bytes begin behind it */
    uint8_t version;     /* 1 or 2 */
    uint8_t family;      /* enum proxy_family; NONE: the addresses of the connection itself hold
                            (LOCAL, UNKNOWN, or a family without an IP address) */
    bool is_local;       /* the sender speaks for itself: a health check */
    unsigned char source[16], target[16]; /* network order; IPv4 in the first 4 */
    uint16_t source_port, target_port;
};

/* <bytes>: everything since the connection began.  Extensions (TLV) are checked for their lengths
 * and skipped. */
FB_MUST_USE
enum proxy_step proxy_read(struct span bytes, struct proxy_head *head);
/* The header of <head> in its version; returns its length. */
size_t proxy_write(const struct proxy_head *head, char out[PROXY_WRITE_MAX_BYTES]);
#endif

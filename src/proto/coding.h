/* SPDX-License-Identifier: Apache-2.0 */
/* coding: content codings, and which of them a client wants (RFC 9110 12.5.3).
 *
 * Pure.  Threads: any.  Memory: none. */
#ifndef FB_PROTO_CODING_H
#define FB_PROTO_CODING_H
#include "proto/http1.h"

enum coding {
    CODING_NONE, /* nobody asked */
    CODING_IDENTITY,
    CODING_GZIP,
    CODING_BR,
    CODING_ZSTD
};

/* The one with the highest weight; zstd, br, gzip, identity when weights are equal.  A request
 * that says nothing, or that forbids changes (no-transform), gets identity. */
enum coding coding_choose(const struct http1_head *request);
const char *coding_name(enum coding coding);
#endif

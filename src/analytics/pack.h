/* SPDX-License-Identifier: Apache-2.0 */
/* pack: flat state as bytes for a snapshot, with runs of zero words left out.
 *
 * State is mostly zeros (unused scopes, knobs, buckets), so a run-length code over 32-bit words is
 * small, exact and needs no field list.  Errors of a reader stick: read everything, look at
 * is_broken once. Pure.  Threads: any. */
#ifndef FB_ANALYTICS_PACK_H
#define FB_ANALYTICS_PACK_H
#include "base/buf.h"

/* <len> is a multiple of 4. */
void pack_put(struct buf *out, const void *bytes, size_t len);
void pack_put_u64(struct buf *out, uint64_t v);

struct unpack {
    struct span rest;
    bool is_broken;
};
/* Fills exactly <len> bytes; on damage they are zero and is_broken is set. */
void unpack_get(struct unpack *u, void *bytes, size_t len);
uint64_t unpack_get_u64(struct unpack *u);

/* 64-bit hash of bytes: equal states have equal hashes; not for secrets. */
uint64_t pack_hash(struct span bytes);
#endif

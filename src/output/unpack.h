/* SPDX-License-Identifier: Apache-2.0 */
/* unpack: what a body was before Content-Encoding: gzip, deflate (in its zlib frame) or zstd.
 *
 * Bounded by <out>: a body that would become larger costs no more than that much memory and work.
 * Members of gzip and frames of zstd may follow one another, as their RFCs have it.  zstd asks for
 * a window of at most 8 MiB (RFC 9659).  Pure.  Threads: any. */
#ifndef FB_OUTPUT_UNPACK_H
#define FB_OUTPUT_UNPACK_H
#include "base/base.h"
#include "base/buf.h"

enum unpack_coding { UNPACK_PLAIN, UNPACK_ZLIB, UNPACK_ZSTD, UNPACK_UNKNOWN };
enum unpack_result {
    UNPACK_OK,
    UNPACK_TOO_LARGE, /* more than out->max */
    UNPACK_BROKEN,    /* no such stream, or it ends before its end */
    UNPACK_NO_MEMORY
};

/* Of the value of Content-Encoding: one coding; "identity" and "" are none. */
enum unpack_coding unpack_coding_of(struct span value);
/* Appends to <out>. */
FB_MUST_USE
enum unpack_result unpack(enum unpack_coding coding, struct span in, struct buf *out);
#endif

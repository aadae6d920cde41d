/* SPDX-License-Identifier: Apache-2.0 */
/* encoder: bytes in, fewer bytes out, by one content coding, a step at a time.
 *
 * Memory: the libraries' own; the window is bounded to 256 KiB and the tables with it.
 * Threads: one at a time. */
#ifndef FB_GATEWAY_ENCODER_H
#define FB_GATEWAY_ENCODER_H
#define ZLIB_CONST
#include "base/span.h"
#include "proto/coding.h"

#include <brotli/encode.h>
#include <zlib.h>
#include <zstd.h>

struct encoder {
    enum coding coding;
    z_stream gzip;
    BrotliEncoderState *br;
    ZSTD_CCtx *zstd;
    uint64_t bytes; /* that it holds at most */
};

/* What an open one holds at most. */
uint64_t encoder_bytes(enum coding coding, int level);
/* <level>: as the coding counts.  <bytes>: of the whole body when known, else 0: no more may come.
 * False: no memory; close it all the same. */
bool encoder_open(struct encoder *z, enum coding coding, int level, uint64_t bytes);
void encoder_close(struct encoder *z);

enum encoder_want {
    ENCODER_KEEP,  /* it may hold back what came */
    ENCODER_FLUSH, /* all that came is to be readable */
    ENCODER_END    /* as FLUSH, and nothing comes any more */
};
enum encoder_step { ENCODER_WHOLE, ENCODER_MORE, ENCODER_FAILED };
/* Takes from the front of <in>, writes at most <out>.len bytes at <out>.at and sets out->len.
 * MORE: call again with the rest of <in> and new room. */
enum encoder_step encoder_run(struct encoder *z, struct span *in, struct span *out,
                              enum encoder_want want);
#endif

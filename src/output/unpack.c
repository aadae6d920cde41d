/* SPDX-License-Identifier: Apache-2.0 */
#include "output/unpack.h"

#include "base/assert.h"

#include <zlib.h>
#include <zstd.h>

#define STEP_BYTES (16 * KIB)
#define ZSTD_WINDOW_LOG 23

enum unpack_coding unpack_coding_of(struct span value)
{
    static const struct {
        const char *name;
        enum unpack_coding coding;
    } rows[] = {{"", UNPACK_PLAIN},      {"identity", UNPACK_PLAIN}, {"gzip", UNPACK_ZLIB},
                {"x-gzip", UNPACK_ZLIB}, {"deflate", UNPACK_ZLIB},   {"zstd", UNPACK_ZSTD}};
    struct span one = span_trim(value);
    for (size_t i = 0; i < FB_COUNT(rows); i++)
        if (span_ieq(one, span_of(rows[i].name)))
            return rows[i].coding;
    return UNPACK_UNKNOWN;
}

static enum unpack_result unpack_zlib(struct span in, struct buf *out)
{
    unsigned char room[STEP_BYTES];
    z_stream z = {.next_in = (Bytef *)(uintptr_t)in.at, .avail_in = (uInt)in.len};
    int code = inflateInit2(&z, 15 + 32); /* gzip, or deflate in its zlib frame */
    if (code != Z_OK)
        return UNPACK_NO_MEMORY;
    while (code == Z_OK && !out->failed) {
        z.next_out = room;
        z.avail_out = sizeof room;
        code = inflate(&z, Z_NO_FLUSH);
        if (code == Z_OK || code == Z_STREAM_END)
            buf_put(out, room, sizeof room - z.avail_out);
        if (code == Z_OK && z.avail_in == 0 && z.avail_out > 0)
            code = Z_DATA_ERROR; /* it ends before its end */
        else if (code == Z_STREAM_END && z.avail_in > 0)
            code = inflateReset(&z);
    }
    (void)inflateEnd(&z);
    return out->failed            ? UNPACK_TOO_LARGE
           : code == Z_STREAM_END ? UNPACK_OK
           : code == Z_MEM_ERROR  ? UNPACK_NO_MEMORY
                                  : UNPACK_BROKEN;
}

static enum unpack_result unpack_zstd(struct span in, struct buf *out)
{
    unsigned char room[STEP_BYTES];
    ZSTD_inBuffer from = {in.at, in.len, 0};
    ZSTD_DCtx *z = ZSTD_createDCtx();
    size_t left = 1; /* 0: a frame is complete */
    if (!z)
        return UNPACK_NO_MEMORY;
    size_t set = ZSTD_DCtx_setParameter(z, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG);
    fb_assert(!ZSTD_isError(set));
    while (!out->failed) {
        ZSTD_outBuffer to = {room, sizeof room, 0};
        size_t was = from.pos;
        left = ZSTD_decompressStream(z, &to, &from);
        if (ZSTD_isError(left))
            break;
        buf_put(out, room, to.pos);
        bool is_full = left && to.pos == sizeof room; /* it may hold back more */
        if (from.pos == from.size && !is_full)
            break;
        if (from.pos == was && to.pos == 0)
            break; /* no progress */
    }
    ZSTD_freeDCtx(z);
    return out->failed ? UNPACK_TOO_LARGE : left == 0 ? UNPACK_OK : UNPACK_BROKEN;
}

enum unpack_result unpack(enum unpack_coding coding, struct span in, struct buf *out)
{
    fb_assert(coding != UNPACK_UNKNOWN);
    if (coding == UNPACK_ZLIB)
        return unpack_zlib(in, out);
    if (coding == UNPACK_ZSTD)
        return unpack_zstd(in, out);
    buf_put_span(out, in);
    return out->failed ? UNPACK_TOO_LARGE : UNPACK_OK;
}

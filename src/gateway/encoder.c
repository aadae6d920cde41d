/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/encoder.h"

/* They bound what an encoder holds: 256 KiB of what it has seen, and tables to look it up. */
#define WINDOW_LOG 18
#define ZSTD_HASH_LOG 17
#define ZSTD_CHAIN_LOG 18
/* 8 and 9 hold 18 and 34 MiB for 2 % fewer bytes. */
#define BR_QUALITY_MAX 7

static uint32_t br_quality(int level)
{
    return fb_min_u32((uint32_t)level, BR_QUALITY_MAX);
}

static enum encoder_step run_gzip(z_stream *z, struct span *in, struct span *out,
                                  enum encoder_want want);
static enum encoder_step run_br(BrotliEncoderState *z, struct span *in, struct span *out,
                                enum encoder_want want);
static enum encoder_step run_zstd(ZSTD_CCtx *z, struct span *in, struct span *out,
                                  enum encoder_want want);

uint64_t encoder_bytes(enum coding coding, int level)
{
    static const uint32_t br_kib[BR_QUALITY_MAX + 1] = {2304, 2304, 2304, 2304,
                                                        2304, 5120, 5120, 11264};
    switch (coding) {
    case CODING_GZIP:
        return 272 * KIB;
    case CODING_BR:
        return br_kib[br_quality(level)] * KIB;
    case CODING_ZSTD:
        return 3 * MIB;
    case CODING_NONE:
    case CODING_IDENTITY:
        break;
    }
    return 0;
}

static bool open_br(struct encoder *z, int level, uint64_t bytes)
{
    z->br = BrotliEncoderCreateInstance(NULL, NULL, NULL);
    return z->br && BrotliEncoderSetParameter(z->br, BROTLI_PARAM_QUALITY, br_quality(level)) &&
           BrotliEncoderSetParameter(z->br, BROTLI_PARAM_LGWIN, WINDOW_LOG) &&
           (!bytes || BrotliEncoderSetParameter(z->br, BROTLI_PARAM_SIZE_HINT,
                                                (uint32_t)fb_min_u64(bytes, UINT32_MAX / 2)));
}

static bool open_zstd(struct encoder *z, int level, uint64_t bytes)
{
    const struct {
        ZSTD_cParameter name;
        int value;
    } set[] = {{ZSTD_c_compressionLevel, level},
               {ZSTD_c_windowLog, WINDOW_LOG},
               {ZSTD_c_hashLog, ZSTD_HASH_LOG},
               {ZSTD_c_chainLog, ZSTD_CHAIN_LOG}};
    z->zstd = ZSTD_createCCtx();
    for (size_t i = 0; i < FB_COUNT(set); i++)
        if (!z->zstd || ZSTD_isError(ZSTD_CCtx_setParameter(z->zstd, set[i].name, set[i].value)))
            return false;
    return !bytes || !ZSTD_isError(ZSTD_CCtx_setPledgedSrcSize(z->zstd, bytes));
}

bool encoder_open(struct encoder *z, enum coding coding, int level, uint64_t bytes)
{
    *z = (struct encoder){.coding = CODING_NONE, .bytes = encoder_bytes(coding, level)};
    switch (coding) {
    case CODING_GZIP:
        if (deflateInit2(&z->gzip, level, Z_DEFLATED, MAX_WBITS + 16, 8, Z_DEFAULT_STRATEGY) !=
            Z_OK)
            return false;
        break;
    case CODING_BR:
        if (!open_br(z, level, bytes))
            return false;
        break;
    case CODING_ZSTD:
        if (!open_zstd(z, level, bytes))
            return false;
        break;
    case CODING_NONE:
    case CODING_IDENTITY:
        return false;
    }
    z->coding = coding;
    return true;
}

void encoder_close(struct encoder *z)
{
    if (z->coding == CODING_GZIP)
        deflateEnd(&z->gzip);
    if (z->br)
        BrotliEncoderDestroyInstance(z->br);
    ZSTD_freeCCtx(z->zstd);
    *z = (struct encoder){.coding = CODING_NONE};
}

enum encoder_step encoder_run(struct encoder *z, struct span *in, struct span *out,
                              enum encoder_want want)
{
    switch (z->coding) {
    case CODING_GZIP:
        return run_gzip(&z->gzip, in, out, want);
    case CODING_BR:
        return run_br(z->br, in, out, want);
    case CODING_ZSTD:
        return run_zstd(z->zstd, in, out, want);
    case CODING_NONE:
    case CODING_IDENTITY:
        break;
    }
    return ENCODER_FAILED;
}

static enum encoder_step run_gzip(z_stream *z, struct span *in, struct span *out,
                                  enum encoder_want want)
{
    static const int flush[] = {Z_NO_FLUSH, Z_SYNC_FLUSH, Z_FINISH};
    size_t room = out->len;
    z->next_in = (const Bytef *)in->at;
    z->avail_in = (uInt)in->len;
    z->next_out = (Bytef *)(uintptr_t)out->at;
    z->avail_out = (uInt)room;
    int r = deflate(z, flush[want]);
    in->at += in->len - z->avail_in;
    in->len = z->avail_in;
    out->len = room - z->avail_out;
    if (r == Z_STREAM_ERROR || (want == ENCODER_END && r == Z_BUF_ERROR))
        return ENCODER_FAILED;
    bool is_more = want == ENCODER_END ? r != Z_STREAM_END : z->avail_out == 0;
    return is_more ? ENCODER_MORE : ENCODER_WHOLE;
}

static enum encoder_step run_br(BrotliEncoderState *z, struct span *in, struct span *out,
                                enum encoder_want want)
{
    static const BrotliEncoderOperation operation[] = {
        BROTLI_OPERATION_PROCESS, BROTLI_OPERATION_FLUSH, BROTLI_OPERATION_FINISH};
    const uint8_t *from = (const uint8_t *)in->at;
    uint8_t *to = (uint8_t *)(uintptr_t)out->at;
    size_t left = out->len;
    if (!BrotliEncoderCompressStream(z, operation[want], &in->len, &from, &left, &to, NULL))
        return ENCODER_FAILED;
    in->at = (const char *)from;
    out->len -= left;
    bool is_more = want == ENCODER_END
                       ? !BrotliEncoderIsFinished(z)
                       : in->len > 0 || BrotliEncoderHasMoreOutput(z) == BROTLI_TRUE;
    return is_more ? ENCODER_MORE : ENCODER_WHOLE;
}

static enum encoder_step run_zstd(ZSTD_CCtx *z, struct span *in, struct span *out,
                                  enum encoder_want want)
{
    static const ZSTD_EndDirective directive[] = {ZSTD_e_continue, ZSTD_e_flush, ZSTD_e_end};
    ZSTD_inBuffer from = {in->at, in->len, 0};
    ZSTD_outBuffer to = {(void *)(uintptr_t)out->at, out->len, 0};
    size_t left = ZSTD_compressStream2(z, &to, &from, directive[want]);
    in->at += from.pos;
    in->len -= from.pos;
    out->len = to.pos;
    if (ZSTD_isError(left))
        return ENCODER_FAILED;
    bool is_more = want == ENCODER_KEEP ? in->len > 0 : left > 0;
    return is_more ? ENCODER_MORE : ENCODER_WHOLE;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* compress: bodies on their way to clients that want them smaller.
 *
 * A filter before client_answer's writer: answers of endpoints and of the cache come through here
 * as canonical text and payload, whatever the client speaks.  The head is judged and rewritten
 * once; each piece of payload is encoded and flushed at once, so that nothing waits for more bytes.
 * Memory: one encoder per answer (at most ENCODERS_MAX per thread), OUT_BYTES of stack; what the
 * client does not take waits in client.out as ever, and the endpoint is read no further. */
#define ZLIB_CONST
#include "base/assert.h"
#include "gateway/gateway_int.h"

#include <brotli/encode.h>
#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>

#define ENCODERS_MAX 256
#define OUT_BYTES (16 * KIB)
#define WINDOW_LOG 18 /* 256 KiB: bounds what an encoder holds */
#define HEAD_ROOM_BYTES 256

struct compress {
    enum coding coding;
    z_stream gzip;
    BrotliEncoderState *br;
    ZSTD_CCtx *zstd;
};

/* What the judgement needs of a canonical head. */
struct facts {
    uint64_t status, length;
    struct span type;
    bool has_length;
    bool is_fixed; /* coded already, or must not change */
    bool varies;   /* Vary says so already */
};

static struct chunk *rewrite(struct request *req, const struct answer_piece *piece);
static void encode(struct request *req, const struct answer_piece *piece);

void compress_ask(struct request *req, const struct http1_head *head)
{
    if (req->route == ROUTE_NONE || !req->gen->conf->routes[req->route].compress.is_on)
        return;
    req->coding = (uint8_t)(req->version_minor == 0 ? CODING_IDENTITY : coding_choose(head));
}

void compress_answer(struct request *req, const struct answer_piece *piece)
{
    struct chunk *room = NULL;
    struct answer_piece now = *piece;
    if (piece->head.len && !req->is_answered) {
        room = rewrite(req, piece);
        if (room)
            now.head = chunk_span(room);
    }
    if (req->compress)
        encode(req, &now);
    else
        client_write(req, &now);
    chunk_give(&req->worker->chunks, room);
}

/* ---- encoders ---- */

static bool start(struct compress *z, const struct conf_compress *conf, const struct facts *f)
{
    switch (z->coding) {
    case CODING_GZIP:
        return deflateInit2(&z->gzip, conf->level, Z_DEFLATED, MAX_WBITS + 16, 8,
                            Z_DEFAULT_STRATEGY) == Z_OK;
    case CODING_BR:
        z->br = BrotliEncoderCreateInstance(NULL, NULL, NULL);
        return z->br && BrotliEncoderSetParameter(z->br, BROTLI_PARAM_QUALITY, conf->level) &&
               BrotliEncoderSetParameter(z->br, BROTLI_PARAM_LGWIN, WINDOW_LOG) &&
               (!f->has_length ||
                BrotliEncoderSetParameter(z->br, BROTLI_PARAM_SIZE_HINT,
                                          (uint32_t)fb_min_u64(f->length, UINT32_MAX / 2)));
    case CODING_ZSTD:
        z->zstd = ZSTD_createCCtx();
        return z->zstd &&
               !ZSTD_isError(
                   ZSTD_CCtx_setParameter(z->zstd, ZSTD_c_compressionLevel, conf->level)) &&
               !ZSTD_isError(ZSTD_CCtx_setParameter(z->zstd, ZSTD_c_windowLog, WINDOW_LOG));
    case CODING_NONE:
    case CODING_IDENTITY:
        break;
    }
    return false;
}

static bool begin(struct request *req, enum coding coding, const struct facts *f)
{
    struct worker *w = req->worker;
    struct memfile_compress *m = &w->gw->mem->head->compress;
    struct compress *z = w->encoder_count < ENCODERS_MAX ? calloc(1, sizeof *z) : NULL;
    if (z) {
        w->encoder_count++;
        req->compress = z;
        z->coding = coding;
        if (start(z, &req->gen->conf->routes[req->route].compress, f)) {
            atomic_fetch_add_explicit(&m->answers, 1, memory_order_relaxed);
            return true;
        }
        compress_end(req);
    }
    atomic_fetch_add_explicit(&m->refused, 1, memory_order_relaxed);
    return false;
}

void compress_end(struct request *req)
{
    struct compress *z = req->compress;
    if (!z)
        return;
    if (z->coding == CODING_GZIP)
        deflateEnd(&z->gzip);
    if (z->br)
        BrotliEncoderDestroyInstance(z->br);
    ZSTD_freeCCtx(z->zstd);
    free(z);
    req->compress = NULL;
    req->worker->encoder_count--;
}

enum step { STEP_WHOLE, STEP_MORE, STEP_FAILED };

static enum step step_gzip(z_stream *z, struct span *in, struct span *out, bool is_last)
{
    z->next_in = (const Bytef *)in->at;
    z->avail_in = (uInt)in->len;
    z->next_out = (Bytef *)(uintptr_t)out->at;
    z->avail_out = OUT_BYTES;
    int r = deflate(z, is_last ? Z_FINISH : Z_SYNC_FLUSH);
    in->at += in->len - z->avail_in;
    in->len = z->avail_in;
    out->len = OUT_BYTES - z->avail_out;
    if (r == Z_STREAM_ERROR || (is_last && r == Z_BUF_ERROR))
        return STEP_FAILED;
    bool is_more = is_last ? r != Z_STREAM_END : z->avail_out == 0;
    return is_more ? STEP_MORE : STEP_WHOLE;
}

static enum step step_br(BrotliEncoderState *z, struct span *in, struct span *out, bool is_last)
{
    const uint8_t *from = (const uint8_t *)in->at;
    uint8_t *to = (uint8_t *)(uintptr_t)out->at;
    size_t room = OUT_BYTES;
    if (!BrotliEncoderCompressStream(z, is_last ? BROTLI_OPERATION_FINISH : BROTLI_OPERATION_FLUSH,
                                     &in->len, &from, &room, &to, NULL))
        return STEP_FAILED;
    in->at = (const char *)from;
    out->len = OUT_BYTES - room;
    bool is_more = is_last ? !BrotliEncoderIsFinished(z)
                           : in->len > 0 || BrotliEncoderHasMoreOutput(z) == BROTLI_TRUE;
    return is_more ? STEP_MORE : STEP_WHOLE;
}

static enum step step_zstd(ZSTD_CCtx *z, struct span *in, struct span *out, bool is_last)
{
    ZSTD_inBuffer from = {in->at, in->len, 0};
    ZSTD_outBuffer to = {(void *)(uintptr_t)out->at, OUT_BYTES, 0};
    size_t left = ZSTD_compressStream2(z, &to, &from, is_last ? ZSTD_e_end : ZSTD_e_flush);
    in->at += from.pos;
    in->len -= from.pos;
    out->len = to.pos;
    return ZSTD_isError(left) ? STEP_FAILED : left ? STEP_MORE : STEP_WHOLE;
}

static enum step run(struct compress *z, struct span *in, struct span *out, bool is_last)
{
    switch (z->coding) {
    case CODING_GZIP:
        return step_gzip(&z->gzip, in, out, is_last);
    case CODING_BR:
        return step_br(z->br, in, out, is_last);
    case CODING_ZSTD:
        return step_zstd(z->zstd, in, out, is_last);
    case CODING_NONE:
    case CODING_IDENTITY:
        break;
    }
    return STEP_FAILED;
}

static void encode(struct request *req, const struct answer_piece *piece)
{
    char room[OUT_BYTES];
    struct memfile_compress *m = &req->worker->gw->mem->head->compress;
    struct answer_piece now = {.head = piece->head};
    struct span in = piece->payload.len ? piece->payload : SPAN(""); /* never NULL + 0 */
    if (!in.len && !piece->is_last) {
        client_write(req, &now);
        return;
    }
    atomic_fetch_add_explicit(&m->in_bytes, in.len, memory_order_relaxed);
    enum step step = STEP_MORE;
    while (step == STEP_MORE && !req->client->is_broken) {
        now.payload = (struct span){room, 0};
        step = run(req->compress, &in, &now.payload, piece->is_last);
        if (step == STEP_FAILED) { /* a cut connection: no client takes it for the whole */
            req->client->is_broken = true;
            break;
        }
        atomic_fetch_add_explicit(&m->out_bytes, now.payload.len, memory_order_relaxed);
        now.is_last = piece->is_last && step == STEP_WHOLE;
        now.trailers = now.is_last ? piece->trailers : NULL;
        if (now.head.len || now.payload.len || now.is_last)
            client_write(req, &now);
        now.head = (struct span){NULL, 0};
    }
    if (piece->is_last)
        compress_end(req);
}

/* ---- heads ---- */

/* The next line without its end; false behind the last field. */
static bool next_field(struct span *rest, struct span *line, struct span *name, struct span *value)
{
    *line = span_cut(*rest, '\n', rest);
    if (line->len && line->at[line->len - 1] == '\r')
        line->len--;
    *name = span_cut(*line, ':', value);
    *value = span_trim(*value);
    return line->len > 0;
}

static bool list_has(struct span list, struct span word)
{
    struct span one;
    while (http1_list_next(&list, &one))
        if (span_ieq(one, word))
            return true;
    return false;
}

static bool read_facts(struct span head, struct facts *f)
{
    struct span rest, line, name, value;
    *f = (struct facts){0};
    line = span_cut(head, '\n', &rest);
    if (line.len < 12 || !span_to_u64((struct span){line.at + 9, 3}, &f->status))
        return false;
    while (next_field(&rest, &line, &name, &value)) {
        if (span_ieq(name, SPAN("content-type")))
            f->type = span_trim(span_cut(value, ';', &value));
        else if (span_ieq(name, SPAN("content-length")))
            f->has_length = span_to_u64(value, &f->length);
        else if (span_ieq(name, SPAN("content-encoding")) ||
                 span_ieq(name, SPAN("content-digest")) || span_ieq(name, SPAN("repr-digest")) ||
                 span_ieq(name, SPAN("digest")) || span_ieq(name, SPAN("content-md5")))
            f->is_fixed = true;
        else if (span_ieq(name, SPAN("cache-control")))
            f->is_fixed |= list_has(value, SPAN("no-transform"));
        else if (span_ieq(name, SPAN("vary")))
            f->varies |= list_has(value, SPAN("accept-encoding")) || list_has(value, SPAN("*"));
    }
    return true;
}

static bool type_fits(const struct conf_compress *conf, struct span type)
{
    const struct span star = SPAN("/*");
    for (size_t i = 0; i < conf->type_count; i++) {
        struct span t = span_of(conf->types[i]);
        bool is_kind = t.len > star.len && memcmp(t.at + t.len - star.len, "/*", star.len) == 0;
        if (!is_kind && span_ieq(t, type))
            return true;
        /* event streams live long: an encoder for each only where somebody asks for it */
        if (is_kind && type.len >= t.len && strncasecmp(t.at, type.at, t.len - 1) == 0 &&
            !span_ieq(type, SPAN("text/event-stream")))
            return true;
    }
    return false;
}

static bool fits(const struct request *req, const struct facts *f, const struct answer_piece *piece)
{
    const struct conf_compress *conf = &req->gen->conf->routes[req->route].compress;
    bool is_whole = piece->is_last && req->method != HTTP1_HEAD;
    uint64_t bytes = f->has_length ? f->length : is_whole ? piece->payload.len : UINT64_MAX;
    return f->status == 200 && !f->is_fixed && bytes > 0 && bytes >= conf->min_bytes &&
           type_fits(conf, f->type);
}

static void put_fields(struct span head, bool is_coded, struct http1_out *w)
{
    struct span rest, line, name, value;
    line = span_cut(head, '\n', &rest);
    http1_put(w, line);
    http1_put(w, SPAN("\n"));
    while (next_field(&rest, &line, &name, &value)) {
        if (is_coded &&
            (span_ieq(name, SPAN("content-length")) || span_ieq(name, SPAN("accept-ranges"))))
            continue;
        bool is_strong =
            is_coded && span_ieq(name, SPAN("etag")) && !span_starts(value, SPAN("W/"));
        if (is_strong) {
            http1_put(w, SPAN("ETag: W/"));
            http1_put(w, value);
        } else {
            http1_put(w, line);
        }
        http1_put(w, SPAN("\r\n"));
    }
}

/* The head that the client gets; NULL: as it is.  Starts the encoder when there will be a body. A
 * 304 speaks of what a 200 would have been: its tag must be the weak one that the client has. */
static struct chunk *rewrite(struct request *req, const struct answer_piece *piece)
{
    struct facts f;
    enum coding coding = (enum coding)req->coding;
    if (!read_facts(piece->head, &f) || (f.status != 304 && !fits(req, &f, piece)))
        return NULL;
    struct chunk *room = chunk_take(&req->worker->chunks, piece->head.len + HEAD_ROOM_BYTES);
    if (!room)
        return NULL;
    bool has_body = f.status == 200 && req->method != HTTP1_HEAD;
    if (coding > CODING_IDENTITY && has_body && !begin(req, coding, &f))
        coding = CODING_IDENTITY;
    bool is_coded = coding > CODING_IDENTITY;
    struct http1_out w = http1_out(room->at, piece->head.len + HEAD_ROOM_BYTES);
    put_fields(piece->head, is_coded, &w);
    if (!f.varies)
        http1_put(&w, SPAN("Vary: Accept-Encoding\r\n"));
    if (is_coded && f.status == 200)
        http1_put_field(&w, SPAN("Content-Encoding"), span_of(coding_name(coding)));
    if (is_coded && has_body && req->framing_out == HTTP1_BODY_LENGTH) {
        req->framing_out = HTTP1_BODY_CHUNKED;
        http1_put_framing(&w, HTTP1_BODY_CHUNKED, 0);
    }
    http1_put_end(&w);
    fb_assert(!w.failed);
    room->from = 0;
    room->to = (uint32_t)w.len;
    return room;
}

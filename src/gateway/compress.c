/* SPDX-License-Identifier: Apache-2.0 */
/* compress: bodies on their way to clients that want them smaller.
 *
 * A filter before client_answer's writer: answers of endpoints and of the cache come through here
 * as canonical text and payload, whatever the client speaks.  The head is judged and rewritten
 * once; each piece of payload is encoded and flushed at once, so that nothing waits for more bytes.
 * What the cache has stored in the client's coding passes with nothing but its head rewritten.
 * Memory: one encoder per answer (at most ENCODERS_MAX_BYTES per thread), OUT_BYTES of stack; what
 * the client does not take waits in client.out as ever, and the endpoint is read no further. */
#include "gateway/compress.h"
#include "base/assert.h"
#include "gateway/cache.h"
#include "gateway/encoder.h"

#include <stdlib.h>

#define ENCODERS_MAX_BYTES (256 * MIB) /* of one thread */
#define OUT_BYTES (16 * KIB)
#define HEAD_ROOM_BYTES 256

/* What the judgement needs of a canonical head. */
struct facts {
    uint64_t status, length;
    struct span type;
    bool has_length;
    bool is_fixed; /* coded already, or must not change */
    bool varies;   /* Vary says so already */
};

static bool is_stored(const struct request *req);
static struct chunk *rewrite(struct request *req, const struct answer_piece *piece);
static void read_fields(struct span rest, struct facts *f);
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
        if (!room && is_stored(req)) { /* no memory, and its bytes are not what this head says */
            req->client->is_broken = true;
            return;
        }
    }
    if (req->encoder)
        encode(req, &now);
    else
        client_write(req, &now);
    chunk_give(&req->worker->chunks, room);
}

/* ---- encoders ---- */

static bool begin(struct request *req, enum coding coding, const struct facts *f)
{
    struct worker *w = req->worker;
    struct memfile_compress *m = &w->gw->mem->head->compress;
    int level = req->gen->conf->routes[req->route].compress.level;
    bool has_room = w->encoder_bytes + encoder_bytes(coding, level) <= ENCODERS_MAX_BYTES;
    struct encoder *z = has_room ? calloc(1, sizeof *z) : NULL;
    if (z) {
        bool is_open = encoder_open(z, coding, level, f->has_length ? f->length : 0);
        w->encoder_bytes += z->bytes;
        req->encoder = z;
        if (is_open) {
            atomic_fetch_add_explicit(&m->answers, 1, memory_order_relaxed);
            req->traits |= coding == CODING_GZIP ? EV_TRAIT_BIT(GZIP)
                           : coding == CODING_BR ? EV_TRAIT_BIT(BROTLI)
                                                 : EV_TRAIT_BIT(ZSTD);
            return true;
        }
        compress_end(req);
    }
    atomic_fetch_add_explicit(&m->refused, 1, memory_order_relaxed);
    req->traits |= EV_TRAIT_BIT(NOT_CODED);
    return false;
}

void compress_end(struct request *req)
{
    struct encoder *z = req->encoder;
    if (!z)
        return;
    req->worker->encoder_bytes -= z->bytes;
    encoder_close(z);
    free(z);
    req->encoder = NULL;
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
    req->plain_bytes += in.len;
    enum encoder_step step = ENCODER_MORE;
    while (step == ENCODER_MORE && !req->client->is_broken) {
        now.payload = (struct span){room, sizeof room};
        step = encoder_run(req->encoder, &in, &now.payload,
                           piece->is_last ? ENCODER_END : ENCODER_FLUSH);
        if (step == ENCODER_FAILED) { /* a cut connection: no client takes it for the whole */
            req->client->is_broken = true;
            break;
        }
        atomic_fetch_add_explicit(&m->out_bytes, now.payload.len, memory_order_relaxed);
        req->coded_bytes += now.payload.len;
        now.is_last = piece->is_last && step == ENCODER_WHOLE;
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
    struct span rest, line;
    *f = (struct facts){0};
    line = span_cut(head, '\n', &rest);
    if (line.len < 12 || !span_to_u64((struct span){line.at + 9, 3}, &f->status))
        return false;
    read_fields(rest, f);
    return true;
}

static void read_fields(struct span rest, struct facts *f)
{
    struct span line, name, value;
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

static bool fits(const struct request *req, const struct facts *f, uint64_t bytes)
{
    const struct conf_compress *conf = &req->gen->conf->routes[req->route].compress;
    return f->status == 200 && !f->is_fixed && bytes > 0 && bytes >= conf->min_bytes &&
           type_fits(conf, f->type);
}

bool compress_would(const struct request *req, struct span fields, uint64_t bytes)
{
    struct facts f = {.status = 200};
    read_fields(fields, &f);
    return fits(req, &f, bytes);
}

/* Of the body before; as large as can be when nobody has said. */
static uint64_t bytes_of(const struct request *req, const struct facts *f,
                         const struct answer_piece *piece)
{
    bool is_whole = piece->is_last && req->method != HTTP1_HEAD;
    return f->has_length ? f->length : is_whole ? piece->payload.len : UINT64_MAX;
}

/* What a stored form has, its length is known; nothing needs to be judged or encoded any more. */
static bool is_stored(const struct request *req)
{
    return req->cw && req->cw->coded;
}

static void put_fields(struct span head, bool is_coded, bool keeps_length, struct http1_out *w)
{
    struct span rest, line, name, value;
    line = span_cut(head, '\n', &rest);
    http1_put(w, line);
    http1_put(w, SPAN("\n"));
    while (next_field(&rest, &line, &name, &value)) {
        if (is_coded && ((!keeps_length && span_ieq(name, SPAN("content-length"))) ||
                         span_ieq(name, SPAN("accept-ranges"))))
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
    if (!read_facts(piece->head, &f) ||
        (f.status != 304 && !is_stored(req) && !fits(req, &f, bytes_of(req, &f, piece))))
        return NULL;
    struct chunk *room = chunk_take(&req->worker->chunks, piece->head.len + HEAD_ROOM_BYTES);
    if (!room)
        return NULL;
    bool is_new = f.status == 200 && req->method != HTTP1_HEAD && !is_stored(req);
    if (coding > CODING_IDENTITY && is_new && !begin(req, coding, &f))
        coding = CODING_IDENTITY;
    if (req->encoder && req->cw && req->cw->served)
        cache_coded_ask(req);
    bool is_coded = coding > CODING_IDENTITY;
    struct http1_out w = http1_out(room->at, piece->head.len + HEAD_ROOM_BYTES);
    put_fields(piece->head, is_coded, is_stored(req), &w);
    if (!f.varies)
        http1_put(&w, SPAN("Vary: Accept-Encoding\r\n"));
    if (is_coded && f.status == 200)
        http1_put_field(&w, SPAN("Content-Encoding"), span_of(coding_name(coding)));
    if (is_coded && is_new && req->framing_out == HTTP1_BODY_LENGTH) {
        req->framing_out = HTTP1_BODY_CHUNKED;
        http1_put_framing(&w, HTTP1_BODY_CHUNKED, 0);
    }
    http1_put_end(&w);
    fb_assert(!w.failed);
    room->from = 0;
    room->to = (uint32_t)w.len;
    return room;
}

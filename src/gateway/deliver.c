/* SPDX-License-Identifier: Apache-2.0 */
/* deliver: the one way of every answer to its client: of endpoints, and of foldback itself. */
#include "base/assert.h"
#include "gateway/compress.h"

#include <sys/uio.h>

/* What stands around trailers: the end of a chunk, the last chunk and the empty line. */
#define TAIL_BYTES 16

static struct iovec iov_of(struct span s)
{
    return (struct iovec){(void *)(uintptr_t)s.at, s.len};
}

void client_answer(struct request *req, const struct answer_piece *piece)
{
    if (req->coding != CODING_NONE && !piece->is_interim)
        compress_answer(req, piece);
    else
        client_write(req, piece);
}

void client_write(struct request *req, const struct answer_piece *piece)
{
    if (req->client->kind == CLIENT_H2) {
        h2_stream_answer(req, piece);
        return;
    }
    char line[HTTP1_CHUNK_HEAD_MAX_BYTES], few[sizeof(struct trailer_room)];
    struct chunk *many = NULL; /* large trailers */
    char *last = few;
    size_t last_bytes = sizeof few;
    if (piece->trailers && trailers_text_bytes(piece->trailers) + TAIL_BYTES > sizeof few) {
        last_bytes = trailers_text_bytes(piece->trailers) + TAIL_BYTES;
        many = chunk_take(&req->worker->chunks, last_bytes);
        if (!many) {
            req->client->is_broken = true;
            return;
        }
        last = many->at;
    }
    struct iovec iov[4];
    int count = 0;
    struct http1_out chunk = http1_out(line, sizeof line), tail = http1_out(last, last_bytes);
    bool is_chunked = !piece->is_interim && req->framing_out == HTTP1_BODY_CHUNKED;
    if (piece->head.len)
        iov[count++] = iov_of(piece->head);
    if (piece->payload.len && is_chunked) {
        http1_put_chunk_head(&chunk, piece->payload.len);
        iov[count++] = iov_of(http1_out_span(&chunk));
        http1_put(&tail, SPAN("\r\n"));
    }
    if (piece->payload.len)
        iov[count++] = iov_of(piece->payload);
    if (piece->is_last && is_chunked) {
        if (piece->trailers)
            http1_put_chunk_last(&tail, piece->trailers->fields, piece->trailers->field_count);
        else
            http1_put(&tail, SPAN(HTTP1_CHUNK_LAST));
    }
    fb_assert(!tail.failed);
    if (tail.len)
        iov[count++] = iov_of(http1_out_span(&tail));
    if (!piece->is_interim)
        req->is_answered = true;
    if (piece->is_last && count && client_send_later(req->client, iov, count))
        return;
    if (count)
        client_send(req->client, iov, count);
    chunk_give(&req->worker->chunks, many);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* h2_share: incremental streams of one urgency share their connection evenly (RFC 9218 section 10).
 *
 * The library puts a stream that has bytes again at the front of those that wait, whatever it has
 * sent before: of three downloads one got 10 % and one 70 %.  So each stream counts what it has
 * sent, and one that is a quantum ahead of another that could send lets that one go first.
 * A stream that had nothing to send does not save it up: it comes back at most LAG_BYTES behind
 * the one that was served last. Holds always: somebody goes; who stepped back once, and nobody
 * sent, steps back no more. */
#include "base/assert.h"
#include "gateway/h2_int.h"

/* Four frames: to change streams at each costs more CPU. */
#define QUANTUM_BYTES (64 * KIB)
#define LAG_BYTES (128 * KIB)

static bool could_send(const struct h2_conn *conn, const struct h2_stream *st)
{
    bool has_bytes = chunk_span(st->c.out).len || st->now.len;
    return has_bytes && !st->is_closed && !st->c.is_broken && h2_has_window(conn->session, st->id);
}

void h2_share_ready(struct h2_stream *st)
{
    st->share_bytes =
        fb_max_u64(st->share_bytes, fb_sub_floor_u64(st->conn->share_bytes, LAG_BYTES));
}

bool h2_share_steps_back(struct h2_stream *st)
{
    const struct h2_conn *conn = st->conn;
    if (!st->is_incremental || conn->stream_count < 2 || st->stepped_back == conn->share_turn)
        return false;
    for (const struct h2_stream *other = conn->streams; other; other = other->next) {
        if (!other->is_incremental || other->urgency != st->urgency ||
            other->share_bytes + QUANTUM_BYTES > st->share_bytes || !could_send(conn, other))
            continue;
        st->stepped_back = conn->share_turn;
        return true;
    }
    return false;
}

void h2_share_sent(struct h2_stream *st, size_t bytes)
{
    struct h2_conn *conn = st->conn;
    if (!st->is_incremental)
        return;
    conn->share_bytes = fb_max_u64(conn->share_bytes, st->share_bytes);
    conn->share_turn++;
    st->share_bytes += bytes;
}

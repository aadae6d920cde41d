/* SPDX-License-Identifier: Apache-2.0 */
/* h2_conn: one HTTP/2 connection of a client: its socket, its session, its waits. */
#include "base/assert.h"
#include "gateway/h2_int.h"

#include <errno.h>
#include <sys/uio.h>

/* Frames beyond this are written at once; more is made when they are gone. */
#define OUT_FULL_BYTES CHUNK_BODY_BYTES
/* A payload of this size goes to the socket from where it lies. */
#define DIRECT_BYTES (4 * KIB)
/* After so many of them the thread's other connections come first, and what is ready at the
 * endpoints: else those streams would share the line whose bytes happened to be here already. */
#define PUMPS_PER_TURN 8
/* Between "no new streams, please" and refusing them: a round trip and more (RFC 9113 6.8). */
#define GOAWAY_GAP_US (1 * US_PER_S)
#define RATE_STEP_US (1 * US_PER_S)

static bool step(struct h2_conn *conn);
static bool flush(struct h2_conn *conn);
static bool pump_once(struct h2_conn *conn);
static void run_late(struct h2_conn *conn);
static void serve(struct h2_conn *conn);
static void run_dirty(struct h2_conn *conn);
static void on_flush(struct loop_job *job);
static void end(struct h2_conn *conn);
static void append(struct h2_conn *conn, struct span bytes);
static bool write_out(struct client *c);
static bool is_full(const struct client *c);
static void wrote(struct client *c, size_t n);
static bool is_slow_reader(struct client *c, uint64_t blocked_us);

void client_begin_h2(struct client *c, struct span bytes)
{
    struct worker *w = c->worker;
    const struct conf_params *p = &w->gen->conf->p;
    const struct h2_conf conf = {.limits = w->gen->limits,
                                 .streams_max = p->http2_streams,
                                 .stream_window_bytes = (uint32_t)p->http2_window,
                                 .connection_window_bytes = (uint32_t)p->http2_connection_window,
                                 .table_bytes = (uint32_t)p->http2_table_bytes,
                                 .resets_max = p->http2_resets,
                                 .control_max = p->http2_control_frames};
    struct h2_conn *conn = slab_take(&w->h2_conns);
    if (!w->h2)
        w->h2 = h2_shared_new(rng_u64(&w->rng));
    struct h2 *session = conn && w->h2 ? h2_new(w->h2, &conf, &h2_conn_hooks, conn) : NULL;
    if (!session) {
        if (conn)
            slab_give(&w->h2_conns, conn);
        c->is_broken = true;
        return;
    }
    *conn = (struct h2_conn){.c = c,
                             .session = session,
                             .worker = w,
                             .flush = {.on_run = on_flush},
                             .idle_us = c->since_us,
                             .share_turn = 1,
                             .streams_max = conf.streams_max};
    c->h2 = conn;
    w->h2_conn_count++;
    if (client_is_leaving(c))
        h2_conn_drain(c);
    conn->is_busy = true;
    bool is_over = bytes.len && h2_take(session, bytes, loop_now_us(w->loop)) == H2_OVER;
    conn->is_busy = false;
    if (h2_is_in_head(session))
        conn->head_since_us = c->since_us;
    serve(conn);
    if (is_over)
        end(conn);
}

bool h2_conn_step(struct client *c)
{
    return step(c->h2);
}

/* False: it waits. */
static bool step(struct h2_conn *conn)
{
    struct client *c = conn->c;
    struct worker *w = conn->worker;
    bool is_over = false;
    while (flush(conn) && c->can_read) {
        ssize_t n = link_recv(&c->link, w->in, w->in_bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN) {
            c->can_read = false;
            break;
        }
        if (n <= 0) {
            c->is_broken = true;
            return true;
        }
        if ((size_t)n < w->in_bytes && !c->has_ended)
            c->can_read = false;
        uint64_t now_us = loop_now_us(w->loop);
        conn->is_busy = true;
        is_over = h2_take(conn->session, (struct span){w->in, (size_t)n}, now_us) == H2_OVER;
        conn->is_busy = false;
        if (!h2_is_in_head(conn->session))
            conn->head_since_us = 0;
        else if (!conn->head_since_us)
            conn->head_since_us = now_us;
        serve(conn);
        if (is_over)
            break;
    }
    if (c->is_broken)
        return true;
    if (is_over || h2_is_over(conn->session)) {
        end(conn);
        return true;
    }
    if (conn->goaway_us && conn->is_goaway_final && conn->stream_count == 0 && !c->out) {
        end(conn);
        return true;
    }
    client_wait(c);
    c->is_running = false;
    return false;
}

void h2_conn_pump(struct h2_conn *conn)
{
    while (pump_once(conn))
        ;
}

/* True when there is more, and room for it. */
static bool pump_once(struct h2_conn *conn)
{
    if (conn->is_busy || conn->c->is_broken)
        return false;
    conn->has_more = true;
    if (is_full(conn->c) && !write_out(conn->c))
        return false;
    conn->pumped_bytes = 0;
    conn->is_busy = true;
    conn->has_more = h2_pump(conn->session, OUT_FULL_BYTES);
    conn->is_busy = false;
    if (conn->late_count) {
        run_late(conn);
        conn->has_more = true;
    }
    return conn->has_more;
}

/* RFC 9218 section 10: incremental streams of one urgency share the connection.  The library puts a
 * stream that has bytes again before all others, so one that is refilled at once would take it
 * all: it comes back after the others had a round. */
void h2_conn_late(struct h2_conn *conn, struct h2_stream *st)
{
    conn->late_count += !st->is_late;
    st->is_late = true;
}

static void run_late(struct h2_conn *conn)
{
    for (struct h2_stream *st = conn->streams; st; st = st->next) {
        if (!st->is_late)
            continue;
        st->is_late = false;
        if (!st->is_closed)
            h2_resume(conn->session, st->id);
    }
    conn->late_count = 0;
}

/* The same where streams may run in between: the urgent one gets its next bytes from its endpoint
 * before another one gets its turn. */
static void serve(struct h2_conn *conn)
{
    for (uint32_t pumps = 0;; pumps++) {
        run_dirty(conn);
        if (conn->had_its_turn)
            return;
        if (pumps == PUMPS_PER_TURN) {
            conn->had_its_turn = true;
            loop_defer(conn->worker->loop, &conn->flush);
            return;
        }
        if (!pump_once(conn) || conn->c->is_broken)
            return;
    }
}

static bool is_full(const struct client *c)
{
    return chunk_span(c->out).len >= OUT_FULL_BYTES;
}

void h2_conn_touch(struct h2_conn *conn, struct h2_stream *st)
{
    if (st->is_dirty)
        return;
    st->is_dirty = true;
    st->dirty_next = conn->dirty;
    conn->dirty = st;
    loop_defer(conn->worker->loop, &conn->flush);
}

static void run_dirty(struct h2_conn *conn)
{
    while (conn->dirty) {
        struct h2_stream *st = conn->dirty;
        conn->dirty = st->dirty_next;
        st->is_dirty = false;
        client_run(&st->c);
    }
}

/* ---- writing ---- */

void h2_conn_put(struct h2_conn *conn, struct span bytes)
{
    append(conn, bytes);
    loop_defer(conn->worker->loop, &conn->flush);
}

bool h2_conn_put_payload(struct h2_conn *conn, struct span head, struct span payload)
{
    struct client *c = conn->c;
    if (conn->pumped_bytes >= OUT_FULL_BYTES || (is_full(c) && !write_out(c)))
        return false;
    conn->pumped_bytes += payload.len;
    struct span waiting = chunk_span(c->out);
    if (payload.len < DIRECT_BYTES || !c->can_write || c->is_broken) {
        append(conn, head);
        h2_conn_put(conn, payload);
        return true;
    }
    struct iovec iov[3] = {{(void *)(uintptr_t)waiting.at, waiting.len},
                           {(void *)(uintptr_t)head.at, head.len},
                           {(void *)(uintptr_t)payload.at, payload.len}};
    int from = waiting.len ? 0 : 1;
    ssize_t n = link_write(&c->link, iov + from, 3 - from);
    if (n < 0 && errno != EAGAIN && errno != EINTR) {
        c->is_broken = true;
        return true;
    }
    size_t sent = n > 0 ? (size_t)n : 0;
    if (sent < waiting.len + head.len + payload.len)
        c->can_write = false;
    struct span parts[3] = {waiting, head, payload};
    size_t left = sent;
    for (int i = 0; i < 3; i++) {
        size_t part = left < parts[i].len ? left : parts[i].len;
        left -= part;
        if (i == 0)
            wrote(c, part);
        else if (parts[i].len > part)
            append(conn, (struct span){parts[i].at + part, parts[i].len - part});
    }
    c->written_bytes += sent - fb_min_u64(sent, waiting.len);
    if (c->out)
        loop_defer(conn->worker->loop, &conn->flush);
    return true;
}

/* The end of the turn: one write for all that its streams said. */
static void on_flush(struct loop_job *job)
{
    struct h2_conn *conn = FB_CONTAINER(job, struct h2_conn, flush);
    conn->had_its_turn = false;
    serve(conn);
    client_run(conn->c);
}

/* True when everything is out, also what waited in the session for room. */
static bool flush(struct h2_conn *conn)
{
    struct client *c = conn->c;
    while (write_out(c)) {
        if (!conn->has_more || conn->is_busy || conn->had_its_turn)
            return true;
        serve(conn);
        if (!c->out)
            return true;
    }
    return false;
}

static bool write_out(struct client *c)
{
    while (c->out && c->can_write && !c->is_broken) {
        struct span rest = chunk_span(c->out);
        struct iovec iov = {(void *)(uintptr_t)rest.at, rest.len};
        ssize_t n = link_write(&c->link, &iov, 1);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            c->can_write = false;
            c->is_broken = errno != EAGAIN;
            return false;
        }
        if ((size_t)n < rest.len)
            c->can_write = false;
        wrote(c, (size_t)n);
    }
    return !c->out;
}

/* <n> bytes of <out> went to the socket. */
static void wrote(struct client *c, size_t n)
{
    struct worker *w = c->worker;
    uint64_t now_us = loop_now_us(w->loop);
    if (!c->out)
        return;
    c->blocked_us += fb_sub_floor_u64(now_us, c->since_us);
    c->written_bytes += n;
    c->since_us = now_us;
    c->out->from += (uint32_t)n;
    if (c->out->from == c->out->to) {
        chunk_give(&w->chunks, c->out);
        c->out = NULL;
        c->blocked_us = 0;
    } else if (is_slow_reader(c, c->blocked_us)) {
        c->is_broken = true;
    }
}

static void append(struct h2_conn *conn, struct span bytes)
{
    struct client *c = conn->c;
    struct worker *w = conn->worker;
    if (c->is_broken || bytes.len == 0)
        return;
    if (!c->out) {
        c->out = chunk_take(&w->chunks, CHUNK_BODY_BYTES);
        c->since_us = loop_now_us(w->loop);
        c->read_from_bytes = c->written_bytes;
    }
    if (!c->out || !chunk_append(&w->chunks, &c->out, bytes))
        c->is_broken = true;
}

/* The mean rate over the time in which the socket was full.  What its kernel and ours hold counts
 * as read, which is a constant. */
static bool is_slow_reader(struct client *c, uint64_t blocked_us)
{
    const struct conf_params *p = &c->worker->gen->conf->p;
    if (blocked_us <= 2 * p->limits_min_rate_grace * US_PER_MS)
        return false;
    uint64_t read_bytes = c->written_bytes - c->read_from_bytes;
    return read_bytes * US_PER_S / blocked_us < p->limits_min_rate;
}

/* ---- waits and the end ---- */

void h2_conn_wait(struct client *c)
{
    const struct h2_conn *conn = c->h2;
    const struct conf_params *p = &c->worker->gen->conf->p;
    uint64_t now_us = loop_now_us(c->worker->loop), due_us = UINT64_MAX;
    if (c->out)
        due_us =
            fb_min_u64(c->since_us + p->limits_write_timeout * US_PER_MS, now_us + RATE_STEP_US);
    else if (conn->stream_count == 0)
        due_us = fb_min_u64(client_rest_us(c, conn->idle_us),
                            conn->idle_us + (conn->has_streamed ? p->limits_idle_timeout
                                                                : p->limits_header_timeout) *
                                                US_PER_MS);
    if (conn->head_since_us)
        due_us = fb_min_u64(due_us, conn->head_since_us + p->limits_header_timeout * US_PER_MS);
    if (conn->goaway_us && !conn->is_goaway_final)
        due_us = fb_min_u64(due_us, conn->goaway_us);
    if (due_us != UINT64_MAX)
        loop_timer_set(c->worker->loop, &c->timer, due_us);
}

void h2_conn_timer(struct client *c)
{
    struct h2_conn *conn = c->h2;
    struct worker *w = conn->worker;
    const struct conf_params *p = &w->gen->conf->p;
    uint64_t now_us = loop_now_us(w->loop);
    uint64_t wait_us = fb_sub_floor_u64(now_us, c->since_us);
    if (conn->goaway_us && !conn->is_goaway_final && conn->goaway_us <= now_us) {
        conn->is_goaway_final = true;
        h2_goaway(conn->session, true);
    }
    if (c->out) {
        if (wait_us >= p->limits_write_timeout * US_PER_MS ||
            is_slow_reader(c, c->blocked_us + wait_us))
            c->is_broken = true;
    } else if (conn->head_since_us &&
               now_us - conn->head_since_us >= p->limits_header_timeout * US_PER_MS) {
        report_refused(w, REASON_HEADER_TIMEOUT, 0, conn->head_since_us, 0);
        h2_terminate(conn->session, H2_ENHANCE_YOUR_CALM);
    } else if (conn->stream_count == 0) {
        uint64_t most_ms = conn->has_streamed ? p->limits_idle_timeout : p->limits_header_timeout;
        (void)client_rest(c, conn->idle_us);
        if (now_us - conn->idle_us >= most_ms * US_PER_MS)
            h2_terminate(conn->session, H2_NO_ERROR);
    }
    serve(conn);
    client_run(c);
}

void h2_conn_drain(struct client *c)
{
    struct h2_conn *conn = c->h2;
    if (conn->goaway_us)
        return;
    conn->goaway_us = loop_now_us(conn->worker->loop) + GOAWAY_GAP_US;
    h2_goaway(conn->session, false);
    loop_defer(conn->worker->loop, &conn->flush);
}

void h2_conn_each(struct client *c, void (*visit)(struct client *stream))
{
    for (struct h2_stream *st = c->h2->streams, *next; st; st = next) {
        next = st->next;
        visit(&st->c);
    }
}

/* The session is over: what it said last goes out, then the connection closes like any other. */
static void end(struct h2_conn *conn)
{
    struct client *c = conn->c;
    enum h2_flood flood = h2_flood_of(conn->session);
    conn->worker->h2_floods[flood]++;
    if (flood)
        report_refused(conn->worker, REASON_H2_FLOOD, 0, c->since_us, 0);
    h2_conn_close(c); /* <conn> may be gone */
    c->is_closing = true;
    c->since_us = loop_now_us(c->worker->loop);
}

/* Its streams are cut; requests that still work at their endpoints keep <conn> until they end. */
void h2_conn_close(struct client *c)
{
    struct h2_conn *conn = c->h2;
    struct worker *w = conn->worker;
    conn->is_busy = true; /* nothing is pumped any more */
    conn->is_closing = true;
    conn->dirty = NULL;
    while (conn->streams)
        h2_stream_drop(conn->streams);
    loop_job_cancel(w->loop, &conn->flush);
    h2_free(conn->session);
    conn->session = NULL;
    conn->c = NULL;
    c->h2 = NULL;
    w->h2_conn_count--;
    if (conn->used == 0)
        slab_give(&w->h2_conns, conn);
}

void h2_slot_give(struct h2_conn *conn)
{
    fb_assert(conn->used > 0);
    conn->worker->h2_stream_count--;
    if (--conn->used == 0 && !conn->c)
        slab_give(&conn->worker->h2_conns, conn);
}

/* Each 100 ms: what its thread counted goes where the brain sees it. */
void h2_show(struct worker *w)
{
    struct memfile_h2 *m = &w->gw->mem->head->h2;
    uint32_t at = w->gw->setup->slot * MEMFILE_THREADS_MAX + w->index;
    atomic_store_explicit(&m->connections[at], w->h2_conn_count, memory_order_relaxed);
    atomic_store_explicit(&m->streams[at], w->h2_stream_count, memory_order_relaxed);
    if (!w->h2)
        return;
    const struct h2_counts now = *h2_counts(w->h2);
    const uint64_t values[MEMFILE_H2_COUNTS] = {
        now.streams,
        now.resets_in,
        now.resets_out,
        now.control,
        w->h2_refused,
        w->h2_floods[H2_FLOOD_RESETS],
        w->h2_floods[H2_FLOOD_CONTROL],
        w->h2_floods[H2_FLOOD_HEADERS],
    };
    for (size_t i = 0; i < MEMFILE_H2_COUNTS; i++) {
        if (values[i] != w->h2_shown[i])
            atomic_fetch_add_explicit(&m->counts[i], values[i] - w->h2_shown[i],
                                      memory_order_relaxed);
        w->h2_shown[i] = values[i];
    }
}

/* ---- hooks of the session ---- */

static void *on_head(void *arg, const struct h2_begin *begin)
{
    struct h2_conn *conn = arg;
    conn->has_streamed = true;
    if (conn->used >= conn->streams_max) { /* RFC 9113 8.7: it may be sent again */
        conn->worker->h2_refused++;
        report_refused(conn->worker, REASON_H2_REFUSED, 0, loop_now_us(conn->worker->loop), 0);
        h2_reset(conn->session, begin->id, H2_REFUSED_STREAM);
        return NULL;
    }
    return h2_stream_open(conn, begin);
}

static void on_priority(void *arg, void *stream, struct h2_priority priority)
{
    struct h2_stream *st = stream;
    (void)arg;
    st->is_incremental = priority.is_incremental;
    st->urgency = priority.urgency;
}

static void on_malformed(void *arg, size_t head_bytes)
{
    struct h2_conn *conn = arg;
    report_refused(conn->worker, REASON_H2_MALFORMED, 0, loop_now_us(conn->worker->loop),
                   head_bytes);
}

static void on_put(void *arg, struct span frames)
{
    h2_conn_put(arg, frames);
}

const struct h2_hooks h2_conn_hooks = {
    .on_head = on_head,
    .on_data = h2_stream_data,
    .on_end = h2_stream_end,
    .on_gone = h2_stream_gone,
    .on_priority = on_priority,
    .on_malformed = on_malformed,
    .give = h2_stream_give,
    .put = on_put,
    .put_data = h2_stream_put,
};

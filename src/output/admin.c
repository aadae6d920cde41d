/* SPDX-License-Identifier: Apache-2.0 */
#include "output/admin_int.h"

#include "base/assert.h"
#include "event/repeats.h"
#include "io/socket.h"
#include "knob/numbers.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static enum fb_code admin_listen(struct admin *a, const struct admin_setup *setup,
                                 struct fb_err *err);
static void accept_some(struct admin *a);
static void answer_queries(struct admin *a);
static bool make_room(struct admin *a);
static void note_cost(struct admin *a, const struct ev_head *ev);

enum fb_code admin_new(struct admin **admin, const struct admin_setup *setup, struct fb_err *err)
{
    fb_assert(setup->source.facts != NULL);
    fb_assert(setup->source.book != NULL);
    fb_assert(setup->source.memfile != NULL);
    struct admin *a = calloc(1, sizeof *a);
    if (!a)
        return fb_fail(err, FB_E_NOMEM, "admin: no memory for the server");
    *admin = NULL;
    a->listener = a->epoll = -1;
    a->source = setup->source;
    if (!a->source.table)
        a->source.table = a->source.memfile->knobs;
    a->now_us = a->start_us = setup->now_us;
    snprintf(a->node, sizeof a->node, "%s", setup->node ? setup->node : "foldback");
    buf_init(&a->scratch, CONN_OUT_MAX_BYTES - 16 * KIB);
    buf_init(&a->scratch2, CONN_STREAM_MAX_BYTES);
    history_init(&a->history);
    a->recent = recent_new();
    a->born_wall_us = setup->wall_us;
    a->metrics = metrics_new(setup->wall_us);
    enum fb_code code = FB_E_NOMEM;
    if (!timeline_init(&a->timeline) || !a->recent || !a->metrics) {
        fb_fail(err, code, "admin: no memory for the timeline");
        goto fail;
    }
    a->timeline.wall_minus_mono_us = setup->wall_us - setup->now_us;
    a->metrics->wall_minus_mono_us = a->timeline.wall_minus_mono_us;
    if (!auth_init(&a->auth, setup->token, setup->address)) {
        code =
            fb_fail(err, FB_E_RANGE,
                    "admin: the token must be 16 to 128 letters, digits, - or _, and the address "
                    "HOST:PORT; correct admin.token_file or admin.listen");
        goto fail;
    }
    code = admin_listen(a, setup, err);
    if (code != FB_OK)
        goto fail;
    *admin = a;
    return FB_OK;
fail:
    admin_free(a);
    return code;
}

static enum fb_code admin_listen(struct admin *a, const struct admin_setup *setup,
                                 struct fb_err *err)
{
    a->listener = setup->listen_fd;
    if (a->listener < 0) {
        enum fb_code code = sock_listen(setup->address, &a->listener, 1, err);
        if (code != FB_OK) {
            a->listener = -1;
            return code;
        }
    }
    struct sock_addr bound;
    if (!sock_local(a->listener, &bound))
        return fb_fail(err, FB_E_IO, "admin: %s has no local address", setup->address);
    sock_format(&bound, a->address);
    auth_begin(&a->auth, sock_port(&bound), setup->session_seed);
    a->epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = a};
    if (a->epoll < 0 || epoll_ctl(a->epoll, EPOLL_CTL_ADD, a->listener, &e) != 0)
        return fb_fail(err, FB_E_IO, "admin: epoll: %s", strerror(errno));
    e.data.ptr = &a->source.query_fd;
    if (a->source.query_begin && epoll_ctl(a->epoll, EPOLL_CTL_ADD, a->source.query_fd, &e) != 0)
        return fb_fail(err, FB_E_IO, "admin: epoll: %s", strerror(errno));
    return FB_OK;
}

void admin_free(struct admin *a)
{
    if (!a)
        return;
    for (size_t i = 0; i < ADMIN_CONNS_MAX; i++)
        if (a->conn[i])
            conn_close(a->conn[i]);
    if (a->listener >= 0)
        close(a->listener);
    if (a->epoll >= 0)
        close(a->epoll);
    history_fini(&a->history);
    timeline_fini(&a->timeline);
    recent_free(a->recent);
    metrics_free(a->metrics);
    series_free(a->series);
    repeats_free(a->repeats);
    buf_fini(&a->scratch);
    buf_fini(&a->scratch2);
    free(a);
}

enum fb_code admin_ingest_tokens(struct admin *a, struct span text, struct fb_err *err)
{
    uint32_t line = 0;
    if (auth_set_ingest(&a->auth, text, &line))
        return FB_OK;
    return fb_fail(err, FB_E_FORMAT,
                   "line %u is no token: one per line, 16 to 128 letters, digits, - or _, at most "
                   "%d of them",
                   line, AUTH_INGEST_MAX);
}

void admin_beacon_origins(struct admin *a, const char *origins)
{
    snprintf(a->beacon_origins, sizeof a->beacon_origins, "%s", origins);
}

int admin_fd(const struct admin *a)
{
    return a->epoll;
}

void admin_run(struct admin *a, uint64_t now_us)
{
    a->now_us = now_us;
    /* One batch: what is left makes the descriptor readable again, after the rings had their turn.
     */
    struct epoll_event ready[16];
    int count = epoll_wait(a->epoll, ready, (int)FB_COUNT(ready), 0);
    for (int i = 0; i < count; i++)
        if (ready[i].data.ptr != a && ready[i].data.ptr != &a->source.query_fd)
            conn_on_ready(ready[i].data.ptr, ready[i].events);
    /* Last: an answer and making room may close a connection that is in <ready>. */
    for (int i = 0; i < count; i++)
        if (ready[i].data.ptr == a)
            accept_some(a);
        else if (ready[i].data.ptr == &a->source.query_fd)
            answer_queries(a);
}

static void answer_queries(struct admin *a)
{
    uint64_t ended;
    (void)!read(a->source.query_fd, &ended, sizeof ended);
    for (size_t i = 0; i < ADMIN_CONNS_MAX; i++)
        if (a->conn[i])
            conn_on_answer(a->conn[i]);
}

static void accept_some(struct admin *a)
{
    for (int i = 0; i < 8; i++) {
        struct sock_addr peer;
        int fd = sock_accept(a->listener, &peer);
        if (fd < 0)
            return;
        if ((a->conn_count >= ADMIN_CONNS_MAX && !make_room(a)) || !conn_new(a, fd, &peer)) {
            static const char busy[] = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n"
                                       "Retry-After: 5\r\nConnection: close\r\n\r\n";
            (void)send(fd, busy, sizeof busy - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
            close(fd);
        }
    }
}

/* Closes the connection that has been idle longest between two requests. */
static bool make_room(struct admin *a)
{
    struct conn *oldest = NULL;
    for (size_t i = 0; i < ADMIN_CONNS_MAX; i++) {
        struct conn *c = a->conn[i];
        bool is_free = c && (c->phase == CONN_READ || c->phase == CONN_LINGER);
        if (is_free && (!oldest || c->last_us < oldest->last_us))
            oldest = c;
    }
    if (oldest)
        conn_close(oldest);
    return oldest != NULL;
}

void admin_tick(struct admin *a, uint64_t now_us)
{
    a->now_us = now_us;
    if (history_tick(&a->history, a->source.facts, timeline_wall_us(&a->timeline, now_us))) {
        struct admin_stream s = {0};
        if (a->source.stream)
            a->source.stream(a->source.ctx, &s);
        uint64_t took_us = now_us - a->events_last_us;
        if (a->events_last_us && took_us > 0)
            a->events_per_s =
                (double)fb_sub_floor_u64(s.events, a->events_last) * 1e6 / (double)took_us;
        a->events_last = s.events;
        a->events_last_us = now_us;
    }
    stream_tick(a);
    for (size_t i = 0; i < ADMIN_CONNS_MAX; i++) {
        struct conn *c = a->conn[i];
        bool is_due = c && c->waits_for && c->waits_for != CONN_WAIT_QUERY &&
                      (now_us >= c->wait_until_us || c->waits_for == CONN_WAIT_EVENT);
        if (is_due)
            conn_on_answer(c);
        if (a->conn[i])
            conn_check_idle(a->conn[i]);
    }
}

void admin_on_event(struct admin *a, const struct ev_head *ev, uint64_t offset, bool is_replay)
{
    a->last_offset = offset;
    timeline_feed(&a->timeline, ev, offset);
    if (ev->type == EV_REQUEST)
        recent_add_request(a->recent, (const struct ev_request *)ev, offset);
    else if (ev->type == EV_SAMPLE)
        recent_add_sample(a->recent, (const struct ev_sample *)ev);
    else if (ev->type == EV_KEY && ((const struct ev_key *)ev)->op == EV_KEY_ERASED)
        recent_forget_samples(a->recent);
    if (ev->type == EV_NAME && ev_owner_is_other(&a->owners, (const struct ev_name *)ev)) {
        uint16_t number = ((const struct ev_name *)ev)->number;
        history_forget(&a->history, (struct fact_scope){EV_KIND_ENDPOINT, number});
    }
    if (is_replay)
        return;
    metrics_feed(a->metrics, ev);
    note_cost(a, ev);
    if (a->stream_count > 0)
        stream_on_event(a, ev, offset);
}

static void note_cost(struct admin *a, const struct ev_head *ev)
{
    if (ev->type == EV_TICK)
        a->tick = *(const struct ev_tick *)ev;
    if (ev->type != EV_RESOURCE)
        return;
    const struct ev_resource *r = (const struct ev_resource *)ev;
    if (r->scope >= FB_COUNT(a->cpu_last))
        return;
    struct ev_resource *last = &a->cpu_last[r->scope];
    uint64_t took_us = fb_sub_floor_u64(r->head.time_us, last->head.time_us);
    if (last->head.type && took_us < 100000)
        return; /* too short a time to say anything */
    if (last->head.type && r->cpu_us >= last->cpu_us)
        a->cpu_share[r->scope] = (double)(r->cpu_us - last->cpu_us) / (double)took_us;
    *last = *r;
}

const struct timeline_alert *admin_alert_at(const struct admin *a, uint64_t index)
{
    return timeline_alert_at(&a->timeline, index);
}

const char *admin_address(const struct admin *a)
{
    return a->address;
}

void admin_url(const struct admin *a, struct buf *out)
{
    /* A browser cannot open "all addresses". */
    struct span host = span_of(a->address);
    if (span_starts(host, SPAN("0.0.0.0:")) || span_starts(host, SPAN("[::]:")))
        buf_printf(out, "http://127.0.0.1%s/?token=%s", strrchr(a->address, ':'), a->auth.token);
    else
        buf_printf(out, "http://%s/?token=%s", a->address, a->auth.token);
}

const char *admin_name(const struct admin *a, enum ev_kind kind, uint16_t number)
{
    if (number >= KNOB_TARGETS_MAX || kind == EV_KIND_NONE)
        return "";
    return memfile_name(a->source.memfile, kind, number);
}

const char *admin_name_at(const struct admin *a, enum ev_kind kind, uint16_t number,
                          uint64_t time_us)
{
    if (number >= KNOB_TARGETS_MAX || kind == EV_KIND_NONE)
        return "";
    return numbers_name_at(a->source.memfile, kind, number, time_us);
}

static const char *name_for_filter(void *ctx, enum ev_kind kind, uint16_t number, uint64_t time_us)
{
    return admin_name_at(ctx, kind, number, time_us);
}

struct filter_names admin_names(const struct admin *a)
{
    /* The context is only read: name_for_filter takes it as const again. */
    return (struct filter_names){name_for_filter, (void *)(uintptr_t)a};
}

bool admin_is_ready(const struct admin *a)
{
    const struct memfile_head *h = a->source.memfile->head;
    uint64_t beat_us = atomic_load_explicit(&h->gateway_beat_us, memory_order_relaxed);
    bool has_ticked = fb_sub_floor_u64(a->now_us, a->tick.head.time_us) < 2 * US_PER_S;
    return has_ticked && fb_sub_floor_u64(a->now_us, beat_us) < 2 * US_PER_S &&
           !atomic_load_explicit(&h->gateway_is_draining, memory_order_relaxed);
}

bool admin_has_left(const struct admin *a, enum ev_kind kind, uint16_t number)
{
    const struct memfile *m = a->source.memfile;
    const struct memfile_name *rows = kind == EV_KIND_SERVICE    ? m->services
                                      : kind == EV_KIND_ROUTE    ? m->routes
                                      : kind == EV_KIND_ENDPOINT ? m->endpoints
                                                                 : NULL;
    return rows && number < KNOB_TARGETS_MAX &&
           atomic_load_explicit(&rows[number].has_left, memory_order_relaxed) != 0;
}

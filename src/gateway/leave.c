/* SPDX-License-Identifier: Apache-2.0 */
/* leave: a client leaves before it has its answer, while its endpoint works, or may work.
 *
 * What the endpoint still works on keeps its places: with the limiter, with the caps and with the
 * client's connection.  Else a client that only resets has any number of requests at work
 * (CVE-2023-44487), and impatient clients double the load.
 *
 *   AWAITING    the answer is waited for, as if somebody wanted it
 *   ANSWERING   many endpoints send the head first and work then: what comes is read and dropped
 *      the answer ends            --> OVER; the connection serves another request
 *      AWAY_BYTES, or AWAY_US     --> told
 *   told        connection closed, or RST_STREAM --> LEFT, its places are taken for a while -->
 * OVER
 *
 * Told at once, since they may have no end: gRPC calls, event streams, and bodies that HTTP/2
 * cannot end half.  From then on nothing is heard of the work, so its length is guessed from other
 * answers: limiter and caps of all clients count for twice the usual time, the client's connection
 * and caps of one client for SLOT_TIMES of it where that is below LEFT_MIN_US.  Too long hurts who
 * shares the connection (a sidecar's users, a CDN's): 100 cancels per second, held for a second
 * each, are 100 slots.  What was told because it only sent (AWAY_BYTES) leaves no work behind.
 *
 * Copies that lost (hedge.c) and questions past their bound never had a client that could send many
 * of them: their first piece ends them. */
#include "base/assert.h"
#include "gateway/cache.h"
#include "gateway/compress.h"
#include "gateway/h2_int.h"
#include "gateway/h2_upstream.h"

/* A download that was given up shows itself with this much: one window of HTTP/2.  Reading it costs
 * less than a millisecond, and small answers leave their connection usable. */
#define AWAY_BYTES H2U_WINDOW_BYTES
/* How long silence is taken for work.  Half as long, and reports of some seconds are cut off while
 * they are at work; twice, and drips of no end hold their places for longer. */
#define AWAY_US (10 * US_PER_S)
#define AWAY_MAX_US (30 * US_PER_S) /* where answers usually take longer than half of AWAY_US */
/* Nothing is known yet of the endpoint: longer than most answers take, shorter than a time-out. */
#define LEFT_UNKNOWN_US (1 * US_PER_S)
#define LEFT_MIN_US (1 * US_PER_S)
#define LEFT_MAX_US (10 * US_PER_S)
/* For clients that leave on purpose, where work is slow.  Half of it, and methods that take more
 * than ten times the mean are at work when their slots are free; twice, and answers that take 25 ms
 * hold theirs for all of LEFT_MIN_US. */
#define SLOT_TIMES 20.0
/* Twice the mean covers nine of ten answers of a service with a usual spread. */
#define USUAL_TIMES 2.0

static void say_why(struct request *req);
static bool goes_on_alone(struct request *req);
static bool leave_awaiting(struct request *req);
static bool leave_answering(struct request *req);
static bool ends_half(struct request *req);
static bool tell(struct request *req);
static bool only_sent(const struct request *req);
static void end(struct request *req);
static void read_away(struct request *req);

void request_detach(struct request *req)
{
    hedge_leave(req);
    say_why(req);
    req->client = NULL;
    req->end_us = loop_now_us(req->worker->loop);
    if (req->phase == REQUEST_CONNECTING || req->phase == REQUEST_AWAITING)
        request_wait_over(req, req->end_us);
    if (goes_on_alone(req)) {
        request_adopt(req);
        return;
    }
    if (req->up)
        upstream_close(req->up);
    req->phase = REQUEST_OVER;
    if (req->is_ticket_live)
        service_done(req, GATE_ABANDONED);
    request_free(req);
}

static void say_why(struct request *req)
{
    struct client *c = req->client;
    bool is_delivered = req->phase == REQUEST_OVER && req->is_out_done && !c->out;
    bool is_ours = c->is_cut || req->reason == REASON_READER_TOO_SLOW; /* we cut it, and said why */
    if (is_delivered || is_ours)
        return;
    req->reason = req->phase == REQUEST_QUEUED   ? REASON_CLIENT_GONE_QUEUED
                  : req->phase == REQUEST_TUNNEL ? REASON_TUNNEL_CUT
                  : h2_stream_was_reset(c)       ? REASON_STREAM_RESET
                                                 : REASON_CLIENT_GONE;
    req->is_aborted = true;
}

static bool goes_on_alone(struct request *req)
{
    switch ((enum request_phase)req->phase) {
    case REQUEST_QUEUED:
        return !service_cancel(req); /* a grant is on its way: forward_granted ends it */
    case REQUEST_COLLAPSED:
        return !cache_wait_over(req); /* it is told already, and ends there */
    case REQUEST_AWAITING:
        return leave_awaiting(req);
    case REQUEST_ANSWERING:
        return leave_answering(req);
    case REQUEST_CONNECTING:
    case REQUEST_TUNNEL:
    case REQUEST_HELD:
    case REQUEST_GUARDED:
    case REQUEST_BACKOFF:
    case REQUEST_LEFT:
    case REQUEST_OVER:
        break;
    }
    return false;
}

/* The endpoint has all of the request that it will get. */
static bool is_sent(const struct request *req)
{
    return req->is_in_done && chunk_span(req->body).len == 0 && req->head_sent == req->head->to;
}

static bool leave_awaiting(struct request *req)
{
    struct upstream *up = req->up;
    const struct h2u_stream *st = up->kind == UPSTREAM_H2 ? (const struct h2u_stream *)up : NULL;
    bool is_open = st && st->id != 0 && !st->is_gone && !st->is_ended;
    req->goes_on = is_sent(req) && cache_goes_on(req);
    if (req->goes_on)
        return true;
    if (is_open && (req->is_grpc || !is_sent(req)))
        return tell(req);
    return is_sent(req) || ends_half(req);
}

static bool leave_answering(struct request *req)
{
    bool is_h2 = req->up->kind == UPSTREAM_H2;
    req->goes_on = cache_goes_on(req);
    if (req->goes_on)
        return true;
    compress_end(req);
    if (req->is_endless || req->is_stream || (is_h2 && req->is_grpc))
        return tell(req);
    if (!is_sent(req) && (is_h2 || !ends_half(req)))
        return tell(req);
    if (!leave_holds(req))
        return false;
    read_away(req);
    return true;
}

/* Of a reset stream whose body was on its way: the endpoint has the head and may be at work, so its
 * slot is not free yet.  It reads the end of the body too early; what it does about that ends the
 * request: an answer, closing, or the timeout. */
static bool ends_half(struct request *req)
{
    struct upstream *up = req->up;
    if (!req->h2_slot || up->kind != UPSTREAM_H1 || req->head_sent < req->head->to)
        return false;
    link_shutdown(&up->link);
    up->is_keep_alive = false;
    if (req->body)
        req->body->from = req->body->to;
    req->is_in_done = true;
    return true;
}

/* ---- what it still holds ---- */

/* The slot of a stream is its connection's, and worth nothing without it. */
static bool holds_slot(const struct request *req)
{
    return req->held || (req->h2_slot && !req->h2_slot->is_closing);
}

bool leave_holds(const struct request *req)
{
    return !req->worker->is_draining && (req->is_ticket_live || holds_slot(req));
}

/* What its endpoint's answers usually take; 0: nothing is known. */
struct usual {
    uint64_t head_us, whole_us;
};

static struct usual usual_of(const struct request *req)
{
    struct endpoint *ep = req->ep;
    struct service *sv = ep->sv;
    struct gate_endpoint_view view;
    bool is_known = false;
    spin_lock(&sv->lock);
    if (!atomic_load_explicit(&ep->is_gone, memory_order_relaxed))
        is_known = gate_endpoint_view(sv->gate, ep->index, &view) && view.has_answered;
    spin_unlock(&sv->lock);
    return (struct usual){.head_us = is_known ? (uint64_t)view.latency_us : 0,
                          .whole_us = ep->pools[req->worker->index].whole_us};
}

static uint64_t longest_us(struct usual u)
{
    return fb_max_u64(u.head_us, u.whole_us);
}

static uint64_t times_us(double times, uint64_t usual_us, uint64_t most_us)
{
    return fb_min_u64((uint64_t)(times * (double)usual_us), most_us);
}

void leave_learn(struct upstream *up, const struct request *req)
{
    struct pool *p = &up->ep->pools[up->worker->index];
    if (!req->client || req->client->blocked_us || req->is_stream || req->is_endless)
        return; /* the length is not the endpoint's */
    /* a sixteenth: one long report among small answers is forgotten in some tens of them */
    p->whole_us = p->whole_us ? p->whole_us - p->whole_us / 16 + req->service_us / 16
                              : fb_max_u64(req->service_us, 1);
}

/* ---- reading away ---- */

static void read_away(struct request *req)
{
    struct upstream *up = req->up;
    struct worker *w = req->worker;
    uint64_t wait_us = times_us(USUAL_TIMES, longest_us(usual_of(req)), AWAY_MAX_US);
    req->away_until_us = loop_now_us(w->loop) + fb_max_u64(wait_us, AWAY_US);
    if (req->is_ticket_live && !req->is_first_byte_told)
        service_first_byte(req); /* else the whole time counts as the wait for the head */
    request_arm(req);
    /* what its client had no room for waits, and no event will say so */
    if (up->kind == UPSTREAM_H2) {
        struct h2u_stream *st = (struct h2u_stream *)up;
        h2u_touch(st);
        loop_defer(w->loop, &st->conn->job);
    } else if (up->can_read) {
        loop_defer(w->loop, &up->again);
    }
}

bool leave_reads_on(struct request *req, size_t bytes)
{
    if (req->is_silent) {
        end(req);
        return false;
    }
    if (!req->away_until_us)
        read_away(req);
    if (bytes && !req->away_bytes && req->is_ticket_live && !loop_timer_is_set(&req->transfer))
        service_transfer(req); /* it came up while this was work */
    req->away_bytes += fb_sat_u32(bytes);
    if (leave_holds(req) && req->away_bytes <= AWAY_BYTES && !req->is_endless)
        return true;
    leave_tell(req);
    return false;
}

bool leave_is_work(const struct request *req)
{
    return req->away_until_us && req->away_bytes == 0;
}

/* ---- telling the endpoint ---- */

/* False: nothing is held. */
static bool tell(struct request *req)
{
    if (!leave_holds(req) || req->is_silent)
        return false;
    uint64_t now_us = loop_now_us(req->worker->loop);
    struct usual u = usual_of(req);
    uint64_t longest = longest_us(u), work_us = 0, slot_us = 0;
    if (!only_sent(req)) {
        /* what a download takes says nothing of the wait for a head */
        uint64_t usual = req->first_byte_us || !u.head_us ? longest : u.head_us;
        work_us = usual ? times_us(USUAL_TIMES, usual, LEFT_MAX_US) : LEFT_UNKNOWN_US;
        slot_us = times_us(USUAL_TIMES, longest, LEFT_MAX_US);
    }
    /* heads alone do not tell how long the work behind them is */
    uint64_t floor_us = u.whole_us ? times_us(SLOT_TIMES, longest, LEFT_MIN_US) : LEFT_MIN_US;
    upstream_close(req->up);
    req->phase = REQUEST_LEFT;
    req->away_until_us = now_us + work_us;
    req->left_until_us = now_us + fb_max_u64(fb_max_u64(work_us, slot_us), floor_us);
    if (req->is_ticket_live)
        gate_left(&req->ticket, now_us);
    request_arm(req);
    return true;
}

/* A download: it was told because so much came. */
static bool only_sent(const struct request *req)
{
    return req->away_bytes > AWAY_BYTES;
}

void leave_tell(struct request *req)
{
    if (!tell(req))
        end(req);
}

uint64_t leave_due_us(const struct request *req)
{
    fb_assert(req->phase == REQUEST_LEFT);
    bool is_work = req->is_ticket_live || req->held & HELD_WORK;
    return is_work ? req->away_until_us : req->left_until_us;
}

void leave_due(struct request *req)
{
    fb_assert(req->phase == REQUEST_LEFT);
    bool is_transfer = only_sent(req) && req->outcome == GATE_OK;
    if (req->is_ticket_live)
        service_done(req, is_transfer ? GATE_RELEASED : GATE_ABANDONED);
    cap_give(req, HELD_WORK);
    if (holds_slot(req) && req->left_until_us > loop_now_us(req->worker->loop))
        request_arm(req);
    else
        end(req);
}

void leave_release(struct request *req)
{
    if (!req->client && req->away_until_us && !leave_holds(req))
        end(req);
}

static void end(struct request *req)
{
    if (req->up)
        upstream_close(req->up);
    forward_finished(req, relay_outcome_for_nobody(req));
}

/* No answer is owed to anybody: the next gateway has an own count of what is at work. */
void leave_drain(struct worker *w)
{
    for (struct request *req = w->orphans, *next; req; req = next) {
        next = req->next;
        if (req->phase == REQUEST_LEFT || (req->phase == REQUEST_ANSWERING && req->away_until_us))
            end(req);
    }
}

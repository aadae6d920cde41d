/* SPDX-License-Identifier: Apache-2.0 */
/* forward: what happens to a request between its head and its answer: waiting, sending, trying
 * again.
 *
 * Nothing here runs the client connection: whoever calls in from an event does that last
 * (client_run), when the request still has a client.  A request without one is freed here when its
 * endpoint is through. */
#include "base/assert.h"
#include "gateway/authz.h"
#include "gateway/cache.h"

static void send_or_wait(struct request *req, enum gate_answer a);
static uint64_t due_of(const struct request *req);
static void time_out(struct request *req, uint64_t now_us);
static void drop_upstream(struct request *req);
static uint32_t retry_word(enum gate_outcome outcome);

void forward_arrive(struct request *req)
{
    if (!request_is_shut(req)) {
        send_or_wait(req, service_arrive(req, false));
        return;
    }
    req->phase = REQUEST_OVER; /* no endpoint is to blame, and none is asked */
    if (!req->client)
        request_free(req);
    else if (!cache_rescue(req))
        answer_local(req, REASON_UPSTREAM_TLS_FILES);
}

void forward_granted(struct request *req)
{
    struct client *c = req->client;
    fb_assert(req->phase == REQUEST_QUEUED);
    uint64_t now_us = loop_now_us(req->worker->loop);
    req->queue_us += fb_sat_u32(fb_sub_floor_u64(now_us, req->ticket.queued_us));
    if (!c && req->twin) {
        hedge_granted(req);
        return;
    }
    if (!c && !req->is_own) { /* it left while the grant was on its way */
        req->phase = REQUEST_OVER;
        if (req->is_ticket_live)
            service_cancel(req);
        request_free(req);
        return;
    }
    send_or_wait(req, req->is_ticket_live ? GATE_SEND : GATE_SHED);
    if (c)
        client_run(c);
}

void forward_failed(struct request *req, uint16_t reason, enum gate_outcome outcome)
{
    fb_assert(req->up == NULL);
    req->is_failed = outcome != GATE_ABANDONED && outcome != GATE_OK;
    req->is_censored = outcome == GATE_TIMED_OUT;
    request_wait_over(req, loop_now_us(req->worker->loop));
    if (req->is_ticket_live)
        service_done(req, req->client || req->is_own || req->is_silent ? outcome : GATE_ABANDONED);
    if (hedge_takes_over(req))
        return;
    if (!req->client && !authz_is_wanted(req)) {
        req->phase = REQUEST_OVER;
        request_free(req);
        return;
    }
    uint64_t backoff_us = 0;
    bool is_unsent = outcome == GATE_CONNECT_FAILED;
    if (!req->is_answered && (is_unsent || req->is_replayable) && !req->worker->is_draining &&
        (req->gen->conf->p.upstream_retry_on & retry_word(outcome)) &&
        service_retry(req, outcome, &backoff_us)) {
        forward_again(req, backoff_us);
        return;
    }
    req->phase = REQUEST_OVER;
    if (!req->client) {
        request_free(req);
        return;
    }
    if (cache_rescue(req))
        return;
    if (!req->is_answered) {
        answer_local(req, reason);
        return;
    }
    /* The head is out: the only honest end is to cut the connection, so that nobody takes a part
     * for the whole. */
    req->reason = reason;
    req->is_out_done = true;
    req->is_keep_alive = false;
    req->client->is_cut = true;
}

/* What upstream.retry_on calls a failure without an answer. */
static uint32_t retry_word(enum gate_outcome outcome)
{
    if (outcome == GATE_CONNECT_FAILED)
        return CONF_RETRY_CONNECT;
    return outcome == GATE_TIMED_OUT ? CONF_RETRY_TIMEOUT : CONF_RETRY_RESET;
}

/* A wait without an answer counts with its length: the endpoint would have taken longer. */
void request_wait_over(struct request *req, uint64_t now_us)
{
    if (req->sent_us && !req->first_byte_us)
        req->upstream_us = fb_sat_u32(fb_sub_floor_u64(now_us, req->sent_us));
}

void forward_again(struct request *req, uint64_t backoff_us)
{
    if (backoff_us) {
        req->phase = REQUEST_BACKOFF;
        req->backoff_us = loop_now_us(req->worker->loop) + backoff_us;
        request_arm(req);
    } else {
        send_or_wait(req, service_arrive(req, true));
    }
}

void forward_refuse(struct request *req, uint16_t reason)
{
    if (req->phase == REQUEST_QUEUED && !service_cancel(req))
        return; /* a grant is on its way and decides */
    req->phase = REQUEST_OVER;
    if (req->client)
        answer_local(req, reason);
    else
        request_free(req);
}

void forward_finished(struct request *req, enum gate_outcome outcome)
{
    fb_assert(req->up == NULL);
    req->phase = REQUEST_OVER;
    if (req->is_ticket_live)
        service_done(req, outcome);
    if (!req->client)
        request_free(req);
}

void request_arm(struct request *req)
{
    uint64_t due_us = due_of(req);
    if (due_us != UINT64_MAX)
        loop_timer_set(req->worker->loop, &req->timer, due_us);
}

uint64_t request_timeout_us(const struct request *req)
{
    const struct worker *w = req->worker;
    const struct conf *conf = req->gen->conf;
    if (req->route == ROUTE_NONE)
        return conf->p.upstream_timeout * US_PER_MS;
    uint16_t number = req->gen->route_numbers[req->route];
    uint64_t ms = conf->routes[req->route].timeout_ms;
    if (ms == 0)
        ms = conf->p.upstream_timeout;
    const struct knob_table *knobs = w->gw->mem->knobs;
    if (number != EV_NONE && knob_version(knobs, KNOB_TIMEOUT_MS, number) > 0) {
        double value = knob_read(knobs, KNOB_TIMEOUT_MS, number);
        if (w->static_age_us)
            value = knob_glide(value, (double)ms, w->static_age_us,
                               conf->p.gateway_static_after * US_PER_MS,
                               conf->p.gateway_safe_after * US_PER_MS);
        ms = (uint64_t)value;
    }
    return ms * US_PER_MS;
}

/* The one timer of a request: whatever it waits for is looked at when the timer comes up. */
void forward_timer(struct loop_timer *t)
{
    struct request *req = FB_CONTAINER(t, struct request, timer);
    struct client *c = req->client;
    uint64_t now_us = loop_now_us(req->worker->loop);
    if (due_of(req) > now_us) {
        request_arm(req);
        return;
    }
    bool is_waiting = req->phase == REQUEST_CONNECTING || req->phase == REQUEST_AWAITING;
    if (is_waiting && req->hedge_at_us && req->hedge_at_us <= now_us)
        hedge_due(req);
    if (due_of(req) > now_us)
        request_arm(req);
    else if (req->phase == REQUEST_BACKOFF)
        send_or_wait(req, service_arrive(req, true));
    else
        time_out(req, now_us);
    if (c)
        client_run(c);
}

static void send_or_wait(struct request *req, enum gate_answer a)
{
    switch (a) {
    case GATE_SEND:
        upstream_start(req);
        return;
    case GATE_WAIT:
        req->phase = REQUEST_QUEUED;
        request_arm(req);
        return;
    case GATE_SHED:
        req->phase = REQUEST_OVER;
        if (!req->client) {
            request_free(req);
            return;
        }
        if (cache_rescue(req))
            return;
        if (req->ticket.reason == REASON_NO_ENDPOINT &&
            atomic_load_explicit(&req->sv->has_dns_failed, memory_order_relaxed))
            answer_local(req, REASON_DNS_FAILED);
        else
            answer_local(req, req->ticket.reason);
        return;
    }
}

static uint64_t hedge_or(const struct request *req, uint64_t due_us)
{
    return req->hedge_at_us ? fb_min_u64(req->hedge_at_us, due_us) : due_us;
}

static uint64_t due_of(const struct request *req)
{
    const struct conf_params *p = &req->gen->conf->p;
    uint64_t due_us = UINT64_MAX;
    switch ((enum request_phase)req->phase) {
    case REQUEST_BACKOFF:
        return req->backoff_us;
    case REQUEST_HELD:
    case REQUEST_QUEUED:
        return req->deadline_us;
    case REQUEST_GUARDED:
        return fb_min_u64(req->guard->until_us, req->deadline_us);
    case REQUEST_COLLAPSED:
        return fb_min_u64(req->cw->wait_until_us, req->deadline_us);
    case REQUEST_CONNECTING:
        due_us = req->sent_us + p->upstream_connect_timeout * US_PER_MS;
        return hedge_or(req, fb_min_u64(due_us, req->deadline_us));
    case REQUEST_AWAITING:
        /* a slow upload is the client's doing: the endpoint's time begins after the last byte sent
         */
        due_us = fb_max_u64(req->sent_us, req->active_us) + req->timeout_us;
        return hedge_or(req, fb_min_u64(due_us, req->deadline_us));
    case REQUEST_ANSWERING:
        due_us =
            req->active_us +
            (req->is_stream ? p->limits_tunnel_idle_timeout : p->upstream_idle_timeout) * US_PER_MS;
        return req->away_until_us ? fb_min_u64(req->away_until_us, due_us) : due_us;
    case REQUEST_LEFT:
        return leave_due_us(req);
    case REQUEST_TUNNEL:
        return req->active_us + p->limits_tunnel_idle_timeout * US_PER_MS;
    case REQUEST_OVER:
        return UINT64_MAX;
    }
    return due_us;
}

static void time_out(struct request *req, uint64_t now_us)
{
    bool is_deadline = req->deadline_us <= now_us;
    switch ((enum request_phase)req->phase) {
    case REQUEST_GUARDED:
        if (is_deadline)
            forward_refuse(req, REASON_SHED_DEADLINE);
        else
            authz_late(req);
        return;
    case REQUEST_HELD:
    case REQUEST_QUEUED:    /* only its deadline ends it here; the gate sheds what waits too long */
        if (req->is_silent) /* a copy that nobody asks for any more */
            hedge_drop(req);
        else
            forward_refuse(req, REASON_SHED_DEADLINE);
        return;
    case REQUEST_COLLAPSED: /* it goes to the endpoint by itself */
        if (cache_wait_over(req))
            forward_arrive(req);
        return;
    case REQUEST_CONNECTING:
        drop_upstream(req);
        forward_failed(req, is_deadline ? REASON_DEADLINE : REASON_CONNECT_TIMEOUT,
                       GATE_CONNECT_FAILED);
        return;
    case REQUEST_AWAITING:
        drop_upstream(req);
        forward_failed(req, is_deadline ? REASON_DEADLINE : REASON_UPSTREAM_TIMEOUT,
                       GATE_TIMED_OUT);
        return;
    case REQUEST_ANSWERING:
        if (req->client && req->client->out) { /* we wait for the reader, whose own timer runs */
            req->active_us = now_us;
            request_arm(req);
            return;
        }
        if (req->away_until_us) {
            leave_tell(req);
            return;
        }
        drop_upstream(req);
        forward_failed(req, REASON_UPSTREAM_IDLE, GATE_FAILED);
        return;
    case REQUEST_TUNNEL:
        drop_upstream(req);
        forward_failed(req, REASON_TUNNEL_CUT, GATE_OK);
        return;
    case REQUEST_LEFT:
        leave_due(req);
        return;
    case REQUEST_BACKOFF:
    case REQUEST_OVER:
        return;
    }
}

static void drop_upstream(struct request *req)
{
    struct upstream *up = req->up;
    fb_assert(up != NULL);
    upstream_close(up);
}

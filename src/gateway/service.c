/* SPDX-License-Identifier: Apache-2.0 */
/* service: each call into a gate, under the lock of its service and with the clock read under it.
 *
 * What gate_next gives back belongs to some worker: it is told by a deferred call on this thread or
 * by a message to the other.  Between the unlock and that call the ticket is sent or ended already,
 * and its owner may find that out when its client leaves (service_cancel). */
#include "base/assert.h"
#include "base/clock.h"
#include "gateway/gateway_int.h"

/* One lock of a few hundred ns hands out this many; more would keep other threads waiting. */
#define GRANTS_MAX 32
#define TICK_BUSY_US 5000

struct grants {
    struct request *at[GRANTS_MAX];
    uint32_t count;
};

static uint64_t lock(struct service *sv);
static void collect(struct service *sv, struct grants *g, uint64_t now_us);
static void deliver(struct service *sv, struct grants *g, struct worker *w);
static void note_sent(struct request *req);
static void note_over(struct request *req);
static void on_grant_message(struct loop_message *m);
static void on_grant_job(struct loop_job *j);
static void arm_transfer(struct request *req, uint64_t transfer_us);
static void on_transfer(struct loop_timer *t);

static inline void live_add(struct service *sv, uint32_t n)
{
    uint32_t live = atomic_load_explicit(&sv->live, memory_order_relaxed);
    atomic_store_explicit(&sv->live, live + n, memory_order_relaxed);
}

enum gate_answer service_arrive(struct request *req, bool is_retry)
{
    struct service *sv = req->sv;
    struct grants g = {.count = 0};
    uint64_t now_us = lock(sv);
    enum gate_answer a = is_retry ? gate_retry_send(sv->gate, &req->ticket, now_us)
                                  : gate_arrive(sv->gate, &req->ticket, now_us);
    if (a != GATE_SHED) {
        req->is_ticket_live = true;
        live_add(sv, 1);
    }
    if (a == GATE_SEND)
        note_sent(req);
    else
        collect(sv, &g, now_us); /* a full queue may have given up somebody else */
    spin_unlock(&sv->lock);
    if (g.count)
        deliver(sv, &g, req->worker);
    return a;
}

bool service_is_roomy(struct service *sv)
{
    struct gate_view view;
    lock(sv);
    gate_view(sv->gate, &view);
    spin_unlock(&sv->lock);
    return view.in_flight * 2 < view.limit_sum && !view.is_overloaded;
}

bool service_mirror(struct request *two)
{
    struct service *sv = two->sv;
    uint64_t now_us = lock(sv);
    bool is_sent = gate_send_spare(sv->gate, &two->ticket, now_us);
    if (is_sent) {
        two->is_ticket_live = true;
        live_add(sv, 1);
        note_sent(two);
    }
    spin_unlock(&sv->lock);
    return is_sent;
}

enum gate_answer service_hedge(struct request *two, const struct request *first)
{
    struct service *sv = two->sv;
    struct grants g = {.count = 0};
    uint64_t now_us = lock(sv);
    enum gate_answer a = gate_hedge(sv->gate, &two->ticket, &first->ticket, now_us);
    if (a != GATE_SHED) {
        two->is_ticket_live = true;
        live_add(sv, 1);
    }
    if (a == GATE_SEND)
        note_sent(two);
    else if (a == GATE_WAIT)
        collect(sv, &g, now_us);
    spin_unlock(&sv->lock);
    if (g.count)
        deliver(sv, &g, two->worker);
    return a;
}

void service_first_byte(struct request *req)
{
    struct service *sv = req->sv;
    uint64_t now_us = lock(sv);
    gate_first_byte(sv->gate, &req->ticket, now_us);
    uint64_t transfer_us = gate_transfer_us(sv->gate, &req->ticket);
    spin_unlock(&sv->lock);
    req->is_first_byte_told = true;
    arm_transfer(req, transfer_us);
}

void service_transfer(struct request *req)
{
    fb_assert(req->is_ticket_live);
    lock(req->sv);
    uint64_t transfer_us = gate_transfer_us(req->sv->gate, &req->ticket);
    spin_unlock(&req->sv->lock);
    arm_transfer(req, transfer_us);
}

static void arm_transfer(struct request *req, uint64_t transfer_us)
{
    if (transfer_us == UINT64_MAX || req->phase != REQUEST_ANSWERING)
        return;
    req->transfer.on_due = on_transfer;
    loop_timer_set(req->worker->loop, &req->transfer, loop_now_us(req->worker->loop) + transfer_us);
}

/* The head was there long ago, the body still comes: the endpoint is through with the work, or does
 * it at a pace that has nothing to do with how much it has in hand.  Without this a handful of
 * downloads shut everybody else out of a small limit. */
static void on_transfer(struct loop_timer *t)
{
    struct request *req = FB_CONTAINER(t, struct request, transfer);
    if (req->phase != REQUEST_ANSWERING || !req->is_ticket_live || !req->is_first_byte_told ||
        req->outcome != GATE_OK || leave_is_work(req))
        return;
    service_done(req, GATE_RELEASED);
    leave_release(req);
}

void service_done(struct request *req, enum gate_outcome outcome)
{
    struct service *sv = req->sv;
    struct grants g = {.count = 0};
    fb_assert(req->is_ticket_live);
    uint64_t now_us = lock(sv);
    /* the first byte and the end mostly come in one read: then one lock serves both */
    if (req->first_byte_us && !req->is_first_byte_told)
        gate_first_byte(sv->gate, &req->ticket, now_us);
    gate_done(sv->gate, &req->ticket, outcome, now_us);
    note_over(req);
    collect(sv, &g, now_us);
    spin_unlock(&sv->lock);
    if (g.count)
        deliver(sv, &g, req->worker);
}

bool service_retry(struct request *req, enum gate_outcome outcome, uint64_t *backoff_us)
{
    struct service *sv = req->sv;
    uint64_t now_us = lock(sv);
    bool may = gate_retry(sv->gate, &req->ticket, outcome, backoff_us, now_us);
    spin_unlock(&sv->lock);
    return may;
}

bool service_cancel(struct request *req)
{
    struct service *sv = req->sv;
    struct grants g = {.count = 0};
    uint64_t now_us = lock(sv);
    /* While we wait for a grant, another state than QUEUED means that it is on its way to us. */
    bool is_on_its_way = req->phase == REQUEST_QUEUED && req->ticket.state != GATE_QUEUED;
    if (!is_on_its_way) {
        bool was_sent = req->ticket.state == GATE_IN_FLIGHT;
        gate_cancel(sv->gate, &req->ticket, now_us);
        if (was_sent) {
            note_over(req);
        } else {
            req->is_ticket_live = false;
            live_add(sv, UINT32_MAX);
        }
        collect(sv, &g, now_us);
    }
    spin_unlock(&sv->lock);
    if (g.count)
        deliver(sv, &g, req->worker);
    return !is_on_its_way;
}

void service_probe(struct endpoint *ep, enum eject_probe said)
{
    struct service *sv = ep->sv;
    uint64_t now_us = lock(sv);
    if (!atomic_load_explicit(&ep->is_gone, memory_order_relaxed))
        gate_endpoint_probe(sv->gate, ep->index, said, now_us);
    spin_unlock(&sv->lock);
}

void service_tick(struct service *sv, struct worker *w, uint64_t now_us)
{
    uint64_t gap_us =
        atomic_load_explicit(&sv->live, memory_order_relaxed) ? TICK_BUSY_US : 100 * US_PER_MS;
    /* read without the lock: at worst two threads tick in one round */
    if (fb_sub_floor_u64(now_us, __atomic_load_n(&sv->ticked_us, __ATOMIC_RELAXED)) < gap_us)
        return;
    struct grants g = {.count = 0};
    now_us = lock(sv);
    __atomic_store_n(&sv->ticked_us, now_us, __ATOMIC_RELAXED);
    gate_tick(sv->gate, now_us);
    collect(sv, &g, now_us);
    spin_unlock(&sv->lock);
    if (g.count)
        deliver(sv, &g, w);
}

static uint64_t lock(struct service *sv)
{
    spin_lock(&sv->lock);
    uint64_t now_us = fb_max_u64(fb_mono_us(), sv->last_us);
    sv->last_us = now_us;
    return now_us;
}

static void collect(struct service *sv, struct grants *g, uint64_t now_us)
{
    while (g->count < GRANTS_MAX) {
        struct gate_ticket *t = gate_next(sv->gate, now_us);
        if (!t)
            return;
        struct request *req = FB_CONTAINER(t, struct request, ticket);
        if (t->state == GATE_IN_FLIGHT) {
            note_sent(req);
        } else {
            req->is_ticket_live = false;
            live_add(sv, UINT32_MAX);
        }
        g->at[g->count++] = req;
    }
}

static void deliver(struct service *sv, struct grants *g, struct worker *w)
{
    for (;;) {
        bool is_full = g->count == GRANTS_MAX;
        for (uint32_t i = 0; i < g->count; i++) {
            struct request *req = g->at[i];
            if (req->worker == w) {
                req->grant.job = (struct loop_job){.on_run = on_grant_job};
                loop_defer(w->loop, &req->grant.job);
            } else {
                req->grant.message = (struct loop_message){.on_message = on_grant_message};
                loop_post(req->worker->loop, &req->grant.message);
            }
        }
        if (!is_full)
            return;
        g->count = 0;
        uint64_t now_us = lock(sv);
        collect(sv, g, now_us);
        spin_unlock(&sv->lock);
    }
}

/* Under the lock: it is in flight to the endpoint of its ticket from now on. */
static void note_sent(struct request *req)
{
    struct endpoint *ep = req->sv->endpoints[req->ticket.endpoint];
    fb_assert(ep != NULL);
    req->ep = ep;
    req->ep_number = ep->number;
    req->ep_generation = ep->generation;
    req->ep_version = atomic_load_explicit(&ep->version, memory_order_relaxed);
    req->in_flight = (uint16_t)fb_min_u32(req->ticket.in_flight_at_send, UINT16_MAX);
    if (ep->in_flight)
        atomic_fetch_add_explicit(ep->in_flight, 1, memory_order_relaxed);
}

static void note_over(struct request *req)
{
    req->is_ticket_live = false;
    loop_timer_stop(req->worker->loop, &req->transfer);
    live_add(req->sv, UINT32_MAX);
    if (req->ep->in_flight)
        atomic_fetch_sub_explicit(req->ep->in_flight, 1, memory_order_relaxed);
}

static void on_grant_message(struct loop_message *m)
{
    forward_granted(FB_CONTAINER(m, struct request, grant.message));
}

static void on_grant_job(struct loop_job *j)
{
    forward_granted(FB_CONTAINER(j, struct request, grant.job));
}

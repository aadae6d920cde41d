/* SPDX-License-Identifier: Apache-2.0 */
/* Hedging (loops.md 2.6): the real gate, ten endpoints of four workers in virtual time, a second
 * copy of each request that waits longer than a fixed delay.
 *
 * An event is a time and a job; a job is one send, or one that waits.  Stalls freeze an endpoint
 * for 200 ms: what it works on ends that much later. */
#include "base/assert.h"
#include "reflex/gate.h"
#include "tap.h"

#include <math.h>

#define ENDPOINTS 10
#define WORKERS 4
#define MEAN_US 10000.0
#define JOBS_MAX 400000
#define DELAY_US (30 * US_PER_MS) /* 95 % of an exponential time of 10 ms */

enum kind { ARRIVE, COMPLETE, HEDGE, STALL, TICK };
struct job {
    struct gate_ticket ticket; /* first: tickets come back from the gate */
    struct job *next, *twin;   /* waits at the endpoint; the other copy */
    uint64_t arrive_us;
    uint32_t stalls;
    bool is_copy, is_answered;
};
struct happening {
    uint64_t at_us, order;
    struct job *job;
    uint32_t endpoint;
    enum kind kind;
};
struct server {
    struct job *first, *last;
    uint64_t stalled_until_us;
    uint32_t running, stalls;
};
struct model {
    struct gate *g;
    struct rng rng;
    struct happening *heap;
    size_t heap_len;
    struct job *jobs;
    size_t job_count;
    struct server servers[ENDPOINTS];
    uint64_t now_us, end_us, stall_us, order, copies, requests, shed;
    double rate_per_us, stall_gap_us;
    float *latency_ms;
    size_t latency_count;
    bool is_hedging;
};

static void push(struct model *m, uint64_t at_us, enum kind kind, struct job *job,
                 uint32_t endpoint)
{
    struct happening h = {at_us, m->order++, job, endpoint, kind};
    size_t i = m->heap_len++;
    for (; i > 0; i = (i - 1) / 2) {
        struct happening *up = &m->heap[(i - 1) / 2];
        if (up->at_us < at_us || (up->at_us == at_us && up->order < h.order))
            break;
        m->heap[i] = *up;
    }
    m->heap[i] = h;
}

static struct happening pop(struct model *m)
{
    struct happening top = m->heap[0], last = m->heap[--m->heap_len];
    size_t i = 0;
    for (;;) {
        size_t k = 2 * i + 1;
        if (k >= m->heap_len)
            break;
        const struct happening *a = &m->heap[k], *b = a + 1;
        if (k + 1 < m->heap_len &&
            (b->at_us < a->at_us || (b->at_us == a->at_us && b->order < a->order)))
            k++;
        const struct happening *low = &m->heap[k];
        if (last.at_us < low->at_us || (last.at_us == low->at_us && last.order < low->order))
            break;
        m->heap[i] = *low;
        i = k;
    }
    m->heap[i] = last;
    return top;
}

static void start(struct model *m, struct job *j)
{
    struct server *s = &m->servers[j->ticket.endpoint];
    uint64_t from_us = fb_max_u64(m->now_us, s->stalled_until_us);
    s->running++;
    j->stalls = s->stalls;
    push(m, from_us + (uint64_t)rng_exp(&m->rng, MEAN_US), COMPLETE, j, j->ticket.endpoint);
}

static void submit(struct model *m, struct job *j)
{
    struct server *s = &m->servers[j->ticket.endpoint];
    if (s->running < WORKERS) {
        start(m, j);
    } else {
        j->next = NULL;
        if (s->last)
            s->last->next = j;
        else
            s->first = j;
        s->last = j;
    }
    if (m->is_hedging && !j->is_copy)
        push(m, m->now_us + DELAY_US, HEDGE, j, 0);
}

static void pump(struct model *m)
{
    struct gate_ticket *t;
    while ((t = gate_next(m->g, m->now_us))) {
        struct job *j = FB_CONTAINER(t, struct job, ticket);
        if (t->state == GATE_IN_FLIGHT) {
            submit(m, j);
            continue;
        }
        if (j->is_copy)
            j->twin->twin = NULL;
        else
            m->shed++;
    }
}

static struct job *job_new(struct model *m)
{
    fb_assert(m->job_count < JOBS_MAX);
    struct job *j = &m->jobs[m->job_count++];
    *j = (struct job){.arrive_us = m->now_us,
                      .ticket = {.arrive_us = m->now_us,
                                 .deadline_us = UINT64_MAX,
                                 .key_hash = rng_u64(&m->rng) | 1,
                                 .class = EV_CLASS_DEFAULT,
                                 .is_idempotent = true}};
    return j;
}

static void arrive(struct model *m)
{
    struct job *j = job_new(m);
    m->requests++;
    switch (gate_arrive(m->g, &j->ticket, m->now_us)) {
    case GATE_SEND:
        submit(m, j);
        break;
    case GATE_WAIT:
        break;
    case GATE_SHED:
        m->shed++;
        break;
    }
    pump(m);
    if (m->now_us < m->end_us)
        push(m, m->now_us + 1 + (uint64_t)rng_exp(&m->rng, 1 / m->rate_per_us), ARRIVE, NULL, 0);
}

static void hedge(struct model *m, struct job *j)
{
    if (j->is_answered || j->twin || j->ticket.state != GATE_IN_FLIGHT)
        return;
    struct job *two = job_new(m);
    two->is_copy = true;
    switch (gate_hedge(m->g, &two->ticket, &j->ticket, m->now_us)) {
    case GATE_SHED:
        m->job_count--;
        push(m, m->now_us + 10 * US_PER_MS, HEDGE, j, 0);
        return;
    case GATE_SEND:
        submit(m, two);
        break;
    case GATE_WAIT:
        break;
    }
    m->copies++;
    j->twin = two;
    two->twin = j;
    pump(m);
}

static void complete(struct model *m, struct job *j, uint32_t endpoint)
{
    struct server *s = &m->servers[endpoint];
    if (s->stalls != j->stalls) { /* it stood still meanwhile */
        uint64_t lost_us = (s->stalls - j->stalls) * m->stall_us;
        j->stalls = s->stalls;
        push(m, m->now_us + lost_us, COMPLETE, j, endpoint);
        return;
    }
    s->running--;
    struct job *next = s->first;
    if (next) {
        s->first = next->next;
        if (!s->first)
            s->last = NULL;
        start(m, next);
    }
    gate_first_byte(m->g, &j->ticket, m->now_us);
    gate_done(m->g, &j->ticket, GATE_OK, m->now_us);
    struct job *client = j->is_copy ? j->twin : j;
    if (client && !client->is_answered) {
        client->is_answered = true;
        m->latency_ms[m->latency_count++] = (float)(m->now_us - client->arrive_us) / 1000;
    }
    struct job *other = j->twin;
    if (other) { /* it goes on alone; what still waits does not */
        other->twin = NULL;
        j->twin = NULL;
        if (other->is_copy && other->ticket.state == GATE_QUEUED)
            gate_cancel(m->g, &other->ticket, m->now_us);
    }
    pump(m);
}

static int by_size(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

struct seen {
    double p999_ms, p50_ms, copies_pct;
};
struct trial {
    double load, stalled_share;
    bool is_plain; /* round robin without limits, as proxies are without being told */
    bool is_hedging;
};
static struct seen run(const struct trial *trial, uint64_t seed)
{
    struct gate_conf conf;
    static struct model m;
    m = (struct model){
        .is_hedging = trial->is_hedging, .end_us = 60 * US_PER_S, .stall_us = 200 * US_PER_MS};
    m.rate_per_us = trial->load * ENDPOINTS * WORKERS / MEAN_US;
    m.stall_gap_us = trial->stalled_share > 0 ? (double)m.stall_us / trial->stalled_share : 0;
    m.heap = malloc(JOBS_MAX * sizeof *m.heap);
    m.jobs = calloc(JOBS_MAX, sizeof *m.jobs);
    m.latency_ms = malloc(JOBS_MAX * sizeof *m.latency_ms);
    gate_conf_default(&conf, 500 * US_PER_MS);
    if (trial->is_plain) {
        conf.balance = GATE_BALANCE_ROUND_ROBIN;
        conf.is_limit_learned = false;
        conf.limit_fixed = 1000;
    }
    m.g = gate_new(&conf, seed);
    fb_assert(m.heap && m.jobs && m.latency_ms && m.g);
    rng_init(&m.rng, seed);
    m.now_us = US_PER_S;
    for (uint32_t i = 0; i < ENDPOINTS; i++) {
        gate_endpoint_add(
            m.g,
            &(struct gate_keep){.limit = 6, .base_us = MEAN_US, .cv = 1, .latency_us = MEAN_US},
            m.now_us);
        if (m.stall_gap_us > 0)
            push(&m, m.now_us + (uint64_t)rng_exp(&m.rng, m.stall_gap_us), STALL, NULL, i);
    }
    push(&m, m.now_us, TICK, NULL, 0);
    push(&m, m.now_us, ARRIVE, NULL, 0);
    while (m.heap_len) {
        struct happening h = pop(&m);
        m.now_us = h.at_us;
        switch (h.kind) {
        case ARRIVE:
            arrive(&m);
            break;
        case COMPLETE:
            complete(&m, h.job, h.endpoint);
            break;
        case HEDGE:
            hedge(&m, h.job);
            break;
        case STALL:
            m.servers[h.endpoint].stalls++;
            m.servers[h.endpoint].stalled_until_us = m.now_us + m.stall_us;
            if (m.now_us < m.end_us)
                push(&m, m.now_us + m.stall_us + (uint64_t)rng_exp(&m.rng, m.stall_gap_us), STALL,
                     NULL, h.endpoint);
            break;
        case TICK:
            gate_tick(m.g, m.now_us);
            pump(&m);
            if (m.now_us < m.end_us + 5 * US_PER_S)
                push(&m, m.now_us + 5 * US_PER_MS, TICK, NULL, 0);
            break;
        }
    }
    qsort(m.latency_ms, m.latency_count, sizeof *m.latency_ms, by_size);
    struct seen seen = {.p999_ms = m.latency_ms[(size_t)((double)m.latency_count * 0.999)],
                        .p50_ms = m.latency_ms[m.latency_count / 2],
                        .copies_pct = 100.0 * (double)m.copies / (double)m.requests};
    gate_free(m.g);
    free(m.heap);
    free(m.jobs);
    free(m.latency_ms);
    return seen;
}

static struct seen mean(struct trial trial, unsigned seeds)
{
    struct seen sum = {0};
    for (unsigned i = 1; i <= seeds; i++) {
        struct seen one = run(&trial, i);
        sum.p999_ms += one.p999_ms / seeds;
        sum.p50_ms += one.p50_ms / seeds;
        sum.copies_pct += one.copies_pct / seeds;
    }
    return sum;
}

/* One token is there at the start. */
#define BUDGET_PCT 2.01

int main(int argc, char **argv)
{
    struct tap t = tap_begin(argc, argv);
    unsigned seeds = t.seeds > 10 ? 10 : 3;
    struct trial trial = {.load = 0.4, .stalled_share = 0.01, .is_plain = true};
    struct seen without = mean(trial, seeds);
    trial.is_hedging = true;
    struct seen with = mean(trial, seeds);
    double plain_ms = without.p999_ms;
    tap_at_least(&t, without.p999_ms / with.p999_ms, 1.6,
                 "stalls of 200 ms, round robin: p99.9 %.0f ms alone, %.0f with copies",
                 without.p999_ms, with.p999_ms);
    tap_at_most(&t, with.copies_pct, BUDGET_PCT, "stalls, round robin: copies in %% of requests");
    tap_at_most(&t, with.p50_ms / without.p50_ms, 1.02, "stalls: the median does not pay");
    trial.is_plain = trial.is_hedging = false;
    without = mean(trial, seeds);
    trial.is_hedging = true;
    with = mean(trial, seeds);
    tap_at_most(&t, with.p999_ms / without.p999_ms, 0.8,
                "stalls, adaptive: p99.9 %.0f ms alone, %.0f with copies", without.p999_ms,
                with.p999_ms);
    tap_at_least(&t, plain_ms / with.p999_ms, 2.7,
                 "stalls: p99.9 of plain round robin %.0f ms, of balance and copies %.0f", plain_ms,
                 with.p999_ms);
    tap_at_most(&t, with.copies_pct, BUDGET_PCT, "stalls, adaptive: copies in %% of requests");
    struct seen over = mean((struct trial){.load = 1.2, .is_hedging = true}, seeds);
    tap_at_most(&t, over.copies_pct, 0.02, "overload 1.2x: no copies but of the first second");
    return tap_end(&t);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/limit_model.h"

#include "base/assert.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const uint64_t tick_us = 5000;
#define LATENCY_SLOTS 400 /* logarithmic, 3 % wide, from 10 us */

enum step_kind { STEP_ARRIVE, STEP_SERVED, STEP_ANSWER, STEP_TICK, STEP_CHANGE };

struct job {
    struct job *next;
    uint64_t arrive_us, paused_us; /* pause time of the endpoint at the start of service */
    struct limit_tag tag;
    uint16_t ep;
    uint8_t class, phase;
};
struct step {
    uint64_t at_us, order;
    enum step_kind kind;
    uint32_t index;
    struct job *job;
};
struct fifo {
    struct job *head, *tail;
    uint32_t count;
};
struct endpoint {
    struct limit_model_endpoint now;
    struct fifo queue;
    uint32_t busy, in_flight;
    double latency_us;
    uint64_t seen_us;
    _Alignas(16) unsigned char state[LIMIT_MODEL_STATE_BYTES];
};
struct model {
    const struct limit_model_conf *conf;
    const struct limit_model_policy *policy;
    struct limit_model_result *out;
    struct rng rng;
    uint64_t now_us, phase_end_us, end_us, orders, refused_us;
    uint32_t phase;
    struct step *heap;
    size_t heap_count, heap_room;
    struct fifo queue[2];
    struct job *free_jobs;
    struct endpoint ep[LIMIT_MODEL_ENDPOINTS];
    uint32_t latency[LIMIT_MODEL_PHASES][LATENCY_SLOTS];
    uint32_t ticks[LIMIT_MODEL_PHASES];
};

bool limit_model_is_tracing;

static void step_add(struct model *m, uint64_t at_us, enum step_kind kind, uint32_t index,
                     struct job *job);
static struct step step_take(struct model *m);
static void step_run(struct model *m, const struct step *s);
static void arrive(struct model *m);
static void arrive_next(struct model *m);
static void dispatch(struct model *m);
static void expire(struct model *m);
static void send(struct model *m, struct job *j, uint32_t ep);
static void serve_next(struct model *m, uint32_t ep);
static void served(struct model *m, struct job *j);
static void answer(struct model *m, struct job *j);
static void end_job(struct model *m, struct job *j, bool is_answered);
static void tick(struct model *m);
static void change(struct model *m, uint32_t index);
static void phases_sum_up(struct model *m);

void limit_model_run(const struct limit_model_conf *conf, const struct limit_model_policy *policy,
                     uint64_t seed, struct limit_model_result *out)
{
    struct model *m = calloc(1, sizeof *m);
    fb_assert(m != NULL);
    *out = (struct limit_model_result){0};
    m->conf = conf;
    m->policy = policy;
    m->out = out;
    rng_init(&m->rng, seed);
    m->now_us = US_PER_S;
    m->phase_end_us = m->now_us + (uint64_t)(conf->phase[0].s * 1e6);
    m->end_us = m->now_us;
    for (uint32_t i = 0; i < conf->phases; i++)
        m->end_us += (uint64_t)(conf->phase[i].s * 1e6);
    for (uint32_t i = 0; i < conf->endpoints; i++) {
        m->ep[i].now = conf->ep[i];
        policy->init(m->ep[i].state, &m->ep[i].now, m->now_us);
    }
    for (uint32_t i = 0; i < conf->changes; i++)
        step_add(m, m->now_us + (uint64_t)(conf->change[i].at_s * 1e6), STEP_CHANGE, i, NULL);
    step_add(m, m->now_us + tick_us, STEP_TICK, 0, NULL);
    if (conf->clients == 0)
        arrive_next(m);
    for (uint32_t i = 0; i < conf->clients; i++)
        step_add(m, m->now_us + i, STEP_ARRIVE, 0, NULL);
    while (m->heap_count > 0) {
        struct step s = step_take(m);
        m->now_us = s.at_us;
        while (m->now_us >= m->phase_end_us && m->phase + 1 < conf->phases)
            m->phase_end_us += (uint64_t)(conf->phase[++m->phase].s * 1e6);
        step_run(m, &s);
        out->steps++;
    }
    phases_sum_up(m);
    while (m->free_jobs != NULL) {
        struct job *j = m->free_jobs;
        m->free_jobs = j->next;
        free(j);
    }
    free(m->heap);
    free(m);
}

static void step_run(struct model *m, const struct step *s)
{
    switch (s->kind) {
    case STEP_ARRIVE:
        arrive(m);
        break;
    case STEP_SERVED:
        served(m, s->job);
        break;
    case STEP_ANSWER:
        answer(m, s->job);
        break;
    case STEP_TICK:
        tick(m);
        break;
    case STEP_CHANGE:
        change(m, s->index);
        break;
    }
}

/* ---- gateway ---- */

/* Some wait, or were refused in the last four ticks. */
static bool is_more_wanted(const struct model *m)
{
    return m->queue[0].count + m->queue[1].count > 0 ||
           (m->refused_us > 0 && m->now_us - m->refused_us < 4 * tick_us);
}

static void fifo_put(struct fifo *f, struct job *j)
{
    j->next = NULL;
    if (f->tail != NULL)
        f->tail->next = j;
    else
        f->head = j;
    f->tail = j;
    f->count++;
}

static struct job *fifo_take(struct fifo *f)
{
    struct job *j = f->head;
    f->head = j->next;
    if (f->head == NULL)
        f->tail = NULL;
    f->count--;
    return j;
}

static void arrive_next(struct model *m)
{
    double gap_us = rng_exp(&m->rng, 1e6 / m->conf->phase[m->phase].per_s);
    uint64_t at_us = m->now_us + (uint64_t)(gap_us + 0.5);
    if (at_us < m->end_us)
        step_add(m, at_us, STEP_ARRIVE, 0, NULL);
}

static void arrive(struct model *m)
{
    if (m->conf->clients == 0)
        arrive_next(m);
    else if (m->now_us >= m->end_us)
        return;
    struct job *j = m->free_jobs;
    if (j != NULL)
        m->free_jobs = j->next;
    else
        j = malloc(sizeof *j);
    fb_assert(j != NULL);
    uint8_t class = rng_unit(&m->rng) < m->conf->high_share ? 0 : 1;
    *j = (struct job){.arrive_us = m->now_us, .class = class, .phase = (uint8_t)m->phase};
    m->out->phase[j->phase].class[class].sent++;
    fifo_put(&m->queue[class], j);
    dispatch(m);
    if (m->conf->wait_max_us <= 0 && m->queue[class].count > 0)
        end_job(m, fifo_take(&m->queue[class]), false);
}

/* Sends from the queue, high first, to the endpoint with room and the least (in flight + 1) x
 * latency. */
static void dispatch(struct model *m)
{
    expire(m);
    for (int class = 0; class < 2; class ++) {
        while (m->queue[class].count > 0) {
            int best = -1;
            double least = 0;
            for (uint32_t i = 0; i < m->conf->endpoints; i++) {
                if (!m->policy->has_room(m->ep[i].state))
                    continue;
                double score = (m->ep[i].in_flight + 1) * fmax(1, m->ep[i].latency_us);
                if (best >= 0 && score >= least)
                    continue;
                best = (int)i;
                least = score;
            }
            if (best < 0)
                return;
            send(m, fifo_take(&m->queue[class]), (uint32_t)best);
        }
    }
}

static void expire(struct model *m)
{
    for (int class = 0; class < 2; class ++) {
        struct fifo *f = &m->queue[class];
        while (f->head != NULL && (double)(m->now_us - f->head->arrive_us) > m->conf->wait_max_us)
            end_job(m, fifo_take(f), false);
    }
}

static void send(struct model *m, struct job *j, uint32_t ep)
{
    struct endpoint *e = &m->ep[ep];
    j->ep = (uint16_t)ep;
    e->in_flight++;
    m->policy->on_send(e->state, &j->tag, m->now_us);
    fifo_put(&e->queue, j);
    serve_next(m, ep);
}

static void answer(struct model *m, struct job *j)
{
    struct endpoint *e = &m->ep[j->ep];
    double us = (double)(m->now_us - j->tag.sent_us);
    double weight = fmax(0.01, 1 - exp(-(double)(m->now_us - e->seen_us) / 3e6));
    e->latency_us = e->seen_us == 0 ? us : e->latency_us + weight * (us - e->latency_us);
    e->seen_us = m->now_us;
    e->in_flight--;
    bool is_wanted = is_more_wanted(m);
    m->policy->on_done(e->state, &j->tag, is_wanted, m->now_us);
    end_job(m, j, true);
    dispatch(m);
}

static void end_job(struct model *m, struct job *j, bool is_answered)
{
    struct limit_model_class *c = &m->out->phase[j->phase].class[j->class];
    double us = (double)(m->now_us - j->arrive_us);
    bool is_in_time = is_answered && us <= m->conf->objective_us;
    if (is_in_time) {
        c->in_time++;
        double inside_us = (double)(m->now_us - j->tag.sent_us);
        int slot = (int)(log(fmax(inside_us, 10) / 10) / 0.03);
        m->latency[j->phase][slot < LATENCY_SLOTS ? slot : LATENCY_SLOTS - 1]++;
    } else if (is_answered) {
        c->late++;
    } else {
        c->shed++;
        m->refused_us = m->now_us;
    }
    uint64_t bin = (j->arrive_us - US_PER_S) / LIMIT_MODEL_BIN_US;
    if (bin < LIMIT_MODEL_BINS) {
        m->out->bin[bin].sent++;
        m->out->bin[bin].in_time += is_in_time;
    }
    j->next = m->free_jobs;
    m->free_jobs = j;
    if (m->conf->clients > 0) /* a client that was refused thinks for a millisecond */
        step_add(m, m->now_us + (is_answered ? 0 : 1000), STEP_ARRIVE, 0, NULL);
}

static void tick(struct model *m)
{
    expire(m);
    bool is_wanted = is_more_wanted(m);
    uint32_t busy = 0;
    for (uint32_t i = 0; i < m->conf->endpoints; i++) {
        m->policy->tick(m->ep[i].state, is_wanted, m->now_us);
        uint32_t limit = m->policy->limit(m->ep[i].state);
        m->out->limit_mean[m->phase][i] += limit;
        m->out->limit_max = fb_max_u32(m->out->limit_max, limit);
        busy += m->ep[i].in_flight;
        if (m->now_us < m->end_us)
            m->out->limit_at_end[i] = limit;
    }
    m->ticks[m->phase]++;
    dispatch(m);
    if (limit_model_is_tracing && m->now_us % 100000 < tick_us) {
        printf("# %7.2f s queue %4u+%-4u", (double)(m->now_us - US_PER_S) / 1e6, m->queue[0].count,
               m->queue[1].count);
        for (uint32_t i = 0; i < m->conf->endpoints; i++)
            printf(" | %3u of %3u, latency %.0f us", m->ep[i].in_flight,
                   m->policy->limit(m->ep[i].state), m->ep[i].latency_us);
        printf("\n");
    }
    if (m->now_us < m->end_us || busy > 0)
        step_add(m, m->now_us + tick_us, STEP_TICK, 0, NULL);
}

/* ---- endpoint ---- */

/* Pause time of an endpoint from its birth to <t_us>. */
static uint64_t paused(const struct limit_model_endpoint *c, uint64_t t_us)
{
    if (c->pause_every_us == 0)
        return 0;
    uint64_t d = t_us - US_PER_S, in = d % c->pause_every_us;
    uint64_t off = c->pause_every_us - c->pause_for_us;
    return d / c->pause_every_us * c->pause_for_us + (in > off ? in - off : 0);
}

static void serve_next(struct model *m, uint32_t ep)
{
    struct endpoint *e = &m->ep[ep];
    const struct limit_model_endpoint *c = &e->now;
    while (e->busy < c->workers && e->queue.count > 0) {
        struct job *j = fifo_take(&e->queue);
        double us = c->mean_us;
        if (c->dist == LIMIT_MODEL_EXP)
            us = rng_exp(&m->rng, us);
        else if (c->dist == LIMIT_MODEL_LOGNORMAL)
            us *= exp(c->sigma * rng_normal(&m->rng) - c->sigma * c->sigma / 2);
        e->busy++;
        double over = ((double)e->busy + e->queue.count - c->workers) / c->workers;
        if (over > 0)
            us *= fmin(c->slow_max, 1 + c->alpha * over);
        j->paused_us = paused(c, m->now_us);
        step_add(m, m->now_us + (uint64_t)(us + 0.5), STEP_SERVED, 0, j);
    }
}

static void served(struct model *m, struct job *j)
{
    struct endpoint *e = &m->ep[j->ep];
    uint64_t paused_us = paused(&e->now, m->now_us);
    if (paused_us > j->paused_us) {
        step_add(m, m->now_us + paused_us - j->paused_us, STEP_SERVED, 0, j);
        j->paused_us = paused_us;
        return;
    }
    e->busy--;
    double back_us = e->now.network_us;
    if (e->now.noise_us > 0)
        back_us += rng_exp(&m->rng, e->now.noise_us);
    uint64_t at_us = m->now_us + (uint64_t)back_us;
    if (m->conf->turn_us > 0)
        at_us = (at_us / m->conf->turn_us + 1) * m->conf->turn_us;
    serve_next(m, j->ep);
    if (at_us == m->now_us)
        answer(m, j);
    else
        step_add(m, at_us, STEP_ANSWER, 0, j);
}

static void change(struct model *m, uint32_t index)
{
    for (uint32_t i = 0; i < m->conf->endpoints; i++) {
        if (m->conf->change[index].ep >= 0 && m->conf->change[index].ep != (int)i)
            continue;
        struct limit_model_endpoint *c = &m->ep[i].now;
        c->workers = (uint32_t)(m->conf->ep[i].workers * m->conf->change[index].workers);
        c->mean_us = m->conf->ep[i].mean_us * m->conf->change[index].mean_x;
        serve_next(m, i);
    }
}

/* ---- heap of steps: earliest first, then in the order of their making ---- */

static bool is_before(const struct step *a, const struct step *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->order < b->order;
}

static void step_add(struct model *m, uint64_t at_us, enum step_kind kind, uint32_t index,
                     struct job *job)
{
    if (m->heap_count == m->heap_room) {
        m->heap_room = m->heap_room ? 2 * m->heap_room : 1024;
        m->heap = realloc(m->heap, m->heap_room * sizeof *m->heap);
        fb_assert(m->heap != NULL);
    }
    struct step s = {at_us, m->orders++, kind, index, job};
    size_t i = m->heap_count++;
    for (; i > 0 && is_before(&s, &m->heap[(i - 1) / 2]); i = (i - 1) / 2)
        m->heap[i] = m->heap[(i - 1) / 2];
    m->heap[i] = s;
}

static struct step step_take(struct model *m)
{
    struct step first = m->heap[0], last = m->heap[--m->heap_count];
    size_t i = 0;
    for (;;) {
        size_t k = 2 * i + 1;
        if (k >= m->heap_count)
            break;
        if (k + 1 < m->heap_count && is_before(&m->heap[k + 1], &m->heap[k]))
            k++;
        if (!is_before(&m->heap[k], &last))
            break;
        m->heap[i] = m->heap[k];
        i = k;
    }
    m->heap[i] = last;
    return first;
}

static void phases_sum_up(struct model *m)
{
    for (uint32_t p = 0; p < m->conf->phases; p++) {
        for (uint32_t i = 0; i < m->conf->endpoints; i++)
            m->out->limit_mean[p][i] /= fb_max_u32(1, m->ticks[p]);
        uint32_t all = 0, half = 0;
        int slot = 0;
        for (int i = 0; i < LATENCY_SLOTS; i++)
            all += m->latency[p][i];
        for (; slot < LATENCY_SLOTS - 1 && (half += m->latency[p][slot]) * 2 < all; slot++)
            ;
        m->out->latency_us_p50[p] = 10 * exp(0.03 * (slot + 0.5));
    }
}

/* ---- the learner as a policy ---- */

static void learner_init(void *state, const struct limit_model_endpoint *ep, uint64_t now_us)
{
    (void)ep;
    _Static_assert(sizeof(struct limit) <= LIMIT_MODEL_STATE_BYTES, "the state of a policy");
    limit_init(state, &(struct limit_conf){.min = 1, .max = 1000, .start = 4}, now_us);
}
static bool learner_has_room(const void *state)
{
    return limit_has_room(state);
}
static void learner_on_send(void *state, struct limit_tag *tag, uint64_t now_us)
{
    limit_on_send(state, tag, now_us);
}
static void learner_on_done(void *state, const struct limit_tag *tag, bool is_wanted,
                            uint64_t now_us)
{
    limit_on_done(state, tag, LIMIT_OK, is_wanted, now_us);
}
static void learner_tick(void *state, bool is_wanted, uint64_t now_us)
{
    limit_tick(state, is_wanted, now_us);
    struct ev_proposal p;
    if (!limit_model_is_tracing || !limit_take_proposal(state, &p))
        return;
    const struct limit *l = state;
    printf(
        "#   %p %.3f s %s: %u -> %u in %u moves, %.0f us of %u against %.0f us of %u, ratio %.2f "
        "+- %.2f, clear %.1f, cv %.2f\n",
        state, (double)(now_us - US_PER_S) / 1e6, ev_reason_row(p.reason)->name, p.limit_from,
        p.limit_to, p.moves, p.latency_us, p.samples, p.base_us, p.base_samples, p.ratio, p.error,
        l->clear, l->cv);
}
static uint32_t learner_limit(const void *state)
{
    return limit_now(state);
}

const struct limit_model_policy limit_model_learner = {
    .name = "learner",
    .init = learner_init,
    .has_room = learner_has_room,
    .on_send = learner_on_send,
    .on_done = learner_on_done,
    .tick = learner_tick,
    .limit = learner_limit,
};

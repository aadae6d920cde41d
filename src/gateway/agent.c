/* SPDX-License-Identifier: Apache-2.0 */
/* agent: asks a small server beside each endpoint how it is (proto/agent_text.h).
 *
 *   resting --interval--> connecting, reading --line | end | timeout--> judged --> resting
 *
 * Nothing is sent: connecting is the question.  What it says adds up until it says otherwise, as
 * with HAProxy; after three questions without an answer nothing of it holds any more.
 *
 * Threads: thread 0. */
#include "base/assert.h"
#include "gateway/gateway_int.h"
#include "proto/agent_text.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define MISSES_MAX 3
#define ANSWER_MAX_US (2 * US_PER_S)

struct agent {
    struct loop_handle handle;
    struct loop_timer timer;
    struct worker *worker;
    struct endpoint *ep;
    struct conf_agent conf;
    struct gate_word word; /* as told to the gate */
    bool is_drain;         /* its word on itself, apart from is_down */
    uint32_t misses;       /* in a row */
    bool is_open;
    uint32_t got;
    char line[AGENT_LINE_BYTES_MAX];
};

static void on_timer(struct loop_timer *t);
static void on_ready(struct loop_handle *h, uint32_t events);
static void begin(struct agent *a);
static void hang_up(struct agent *a);
static void judge(struct agent *a, bool is_whole);
static void rest(struct agent *a, bool is_first);
static void tell(struct agent *a, const struct gate_word *word);

void agent_sync(struct service *sv, struct worker *w)
{
    for (uint32_t i = 0; i < GATE_ENDPOINTS_MAX; i++) {
        struct endpoint *ep = sv->endpoints[i];
        if (!ep || atomic_load_explicit(&ep->is_gone, memory_order_relaxed))
            continue;
        /* a Unix socket has no other port where its agent could be */
        if (!sv->conf || !sv->conf->agent.port || sock_is_unix(&ep->addr)) {
            if (ep->agent)
                tell(ep->agent, &(struct gate_word){.weight_pct = 100});
            agent_stop(ep);
            continue;
        }
        struct agent *a = ep->agent;
        bool is_new = a == NULL;
        if (is_new)
            a = calloc(1, sizeof *a);
        if (!a)
            continue; /* without memory it is not asked; what it said would only age */
        a->conf = sv->conf->agent;
        if (!is_new)
            continue;
        a->worker = w;
        a->ep = ep;
        a->word.weight_pct = 100;
        a->handle = (struct loop_handle){.on_ready = on_ready, .fd = -1};
        a->timer.on_due = on_timer;
        ep->agent = a;
        rest(a, true);
    }
}

void agent_stop(struct endpoint *ep)
{
    struct agent *a = ep->agent;
    if (!a)
        return;
    hang_up(a);
    loop_timer_stop(a->worker->loop, &a->timer);
    ep->agent = NULL;
    free(a);
}

static void rest(struct agent *a, bool is_first)
{
    double part = is_first ? rng_unit(&a->worker->rng) : 0.9 + 0.2 * rng_unit(&a->worker->rng);
    uint64_t rest_us = (uint64_t)((double)(a->conf.interval_ms * US_PER_MS) * part);
    loop_timer_set(a->worker->loop, &a->timer, loop_now_us(a->worker->loop) + rest_us + US_PER_MS);
}

static void on_timer(struct loop_timer *t)
{
    struct agent *a = FB_CONTAINER(t, struct agent, timer);
    if (a->is_open)
        judge(a, false);
    else
        begin(a);
}

static void begin(struct agent *a)
{
    struct worker *w = a->worker;
    struct sock_addr to = a->ep->addr;
    int fd;
    a->got = 0;
    if (to.any.sa_family == AF_INET6)
        to.v6.sin6_port = htons(a->conf.port);
    else
        to.v4.sin_port = htons(a->conf.port);
    int why = sock_connect(&to, &fd);
    if (fd < 0) {
        (void)why;
        judge(a, false);
        return;
    }
    if (loop_add(w->loop, &a->handle, fd, LOOP_READ | LOOP_EDGE) != FB_OK) {
        close(fd);
        rest(a, false); /* our own lack of descriptors says nothing about the endpoint */
        return;
    }
    a->is_open = true;
    loop_timer_set(w->loop, &a->timer,
                   loop_now_us(w->loop) +
                       fb_min_u64(a->conf.interval_ms * US_PER_MS, ANSWER_MAX_US));
}

static void on_ready(struct loop_handle *h, uint32_t events)
{
    struct agent *a = FB_CONTAINER(h, struct agent, handle);
    (void)events;
    for (;;) {
        ssize_t n = recv(h->fd, a->line + a->got, sizeof a->line - a->got, 0);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n <= 0) {
            judge(a, n == 0 && a->got > 0);
            return;
        }
        const char *end = memchr(a->line + a->got, '\n', (size_t)n);
        a->got += (uint32_t)n;
        if (end)
            a->got = (uint32_t)(end - a->line);
        if (end || a->got == sizeof a->line) {
            judge(a, end != NULL);
            return;
        }
    }
}

static void hang_up(struct agent *a)
{
    if (!a->is_open)
        return;
    close(a->handle.fd);
    loop_forget(a->worker->loop, &a->handle);
    a->is_open = false;
}

static void judge(struct agent *a, bool is_whole)
{
    struct agent_report r;
    struct gate_word word = a->word;
    while (a->got && (a->line[a->got - 1] == '\r' || a->line[a->got - 1] == '\n'))
        a->got--;
    hang_up(a);
    rest(a, false);
    if (!is_whole || !agent_parse((struct span){a->line, a->got}, &r)) {
        if (a->misses < MISSES_MAX && ++a->misses == MISSES_MAX) {
            a->is_drain = false;
            tell(a, &(struct gate_word){.weight_pct = 100, .is_lost = true});
        }
        return;
    }
    a->misses = 0;
    word.is_lost = false;
    if (r.has_weight)
        word.weight_pct = r.weight_pct;
    if (r.has_cap)
        word.cap = r.cap;
    if (r.admin != AGENT_ADMIN_NONE)
        a->is_drain = r.admin != AGENT_READY;
    if (r.state != AGENT_STATE_NONE)
        word.is_down = r.state == AGENT_DOWN;
    word.is_out = a->is_drain;
    tell(a, &word);
}

static void tell(struct agent *a, const struct gate_word *word)
{
    struct endpoint *ep = a->ep;
    struct service *sv = ep->sv;
    spin_lock(&sv->lock);
    uint64_t now_us = fb_max_u64(loop_refresh_us(a->worker->loop), sv->last_us);
    sv->last_us = now_us;
    gate_endpoint_word(sv->gate, ep->index, word, now_us);
    spin_unlock(&sv->lock);
    a->word = *word;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "io/loop.h"

#include "base/assert.h"
#include "base/clock.h"
#include "io/busy_poll.h"
#include "io/wheel.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

/* Events of one turn.  More would delay timers of a busy thread; fewer would cost more epoll_wait
 * calls. */
#define BATCH 256
/* An idle loop looks at the clock this often anyway. */
#define SLEEP_MAX_MS 10000

struct loop {
    int epoll_fd, event_fd;
    uint64_t now_us;
    struct epoll_event ready[BATCH];
    int ready_count, ready_at; /* of the batch in hand; loop_remove clears what is still to come */
    struct loop_job *job_first, **job_last;
    uint32_t job_count;
    struct loop_handle mailbox;
    _Atomic(struct loop_message *) inbox; /* newest first */
    _Atomic bool is_stopping;
    struct wheel wheel;
    struct busy_poll busy_poll;
    uint64_t switches_us; /* when the context switches were looked at */
};

static void on_mail(struct loop_handle *h, uint32_t events);
static void run_jobs(struct loop *l);
static void wake(struct loop *l);
static int wait_events(struct loop *l, uint32_t wait_ms);

enum fb_code loop_new(struct loop **out, struct fb_err *err)
{
    struct loop *l = calloc(1, sizeof *l);
    if (!l)
        return fb_fail(err, FB_E_NOMEM, "event loop: no memory");
    l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    l->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    l->job_last = &l->job_first;
    l->mailbox = (struct loop_handle){.on_ready = on_mail, .fd = -1};
    l->now_us = fb_mono_us();
    wheel_init(&l->wheel, l->now_us);
    if (l->epoll_fd < 0 || l->event_fd < 0) {
        enum fb_code code =
            fb_fail(err, FB_E_IO, "event loop: %s; raise the limit of open files (ulimit -n)",
                    strerror(errno));
        loop_free(l);
        return code;
    }
    enum fb_code code = loop_add(l, &l->mailbox, l->event_fd, LOOP_READ | LOOP_EDGE);
    if (code != FB_OK) {
        loop_free(l);
        return fb_fail(err, code, "event loop: %s", strerror(errno));
    }
    *out = l;
    return FB_OK;
}

void loop_free(struct loop *l)
{
    if (!l)
        return;
    if (l->epoll_fd >= 0)
        close(l->epoll_fd);
    if (l->event_fd >= 0)
        close(l->event_fd);
    free(l);
}

void loop_run(struct loop *l, void (*on_turn)(void *arg), void *arg)
{
    while (!atomic_load_explicit(&l->is_stopping, memory_order_relaxed)) {
        loop_turn(l, SLEEP_MAX_MS);
        if (on_turn)
            on_turn(arg);
    }
}

void loop_turn(struct loop *l, uint32_t wait_ms)
{
    wait_ms = l->job_count ? 0 : wheel_wait_ms(&l->wheel, l->now_us, wait_ms);
    int n = wait_events(l, wait_ms);
    fb_assert(n >= 0 || errno == EINTR);
    l->ready_count = n > 0 ? n : 0;
    for (l->ready_at = 0; l->ready_at < l->ready_count; l->ready_at++) {
        struct loop_handle *h = l->ready[l->ready_at].data.ptr;
        if (!h)
            continue; /* removed earlier in this turn */
        uint32_t bits = l->ready[l->ready_at].events, events = 0;
        if (bits & EPOLLIN)
            events |= LOOP_READ;
        if (bits & EPOLLOUT)
            events |= LOOP_WRITE;
        if (bits & (EPOLLRDHUP | EPOLLHUP))
            events |= LOOP_END | LOOP_READ;
        if (bits & EPOLLERR)
            events |= LOOP_ERROR | LOOP_READ;
        h->on_ready(h, events);
    }
    l->ready_count = 0;
    wheel_advance(&l->wheel, l->now_us);
    run_jobs(l);
}

/* Looks for events, spins while that pays, then sleeps; now_us is new afterwards. */
static int wait_events(struct loop *l, uint32_t wait_ms)
{
    if (wait_ms == 0 || l->busy_poll.most_us == 0) {
        int n = epoll_wait(l->epoll_fd, l->ready, BATCH, (int)wait_ms);
        l->now_us = fb_mono_us();
        return n;
    }
    int n = epoll_wait(l->epoll_fd, l->ready, BATCH, 0);
    uint64_t from_us = l->now_us = fb_mono_us();
    if (n != 0)
        return n;
    if (from_us - l->switches_us >= BUSY_POLL_JUDGE_US) {
        struct rusage use;
        l->switches_us = from_us;
        if (getrusage(RUSAGE_THREAD, &use) == 0)
            busy_poll_judge(&l->busy_poll, (uint64_t)use.ru_nivcsw, from_us);
    }
    uint64_t until_us = from_us + busy_poll_budget_us(&l->busy_poll, from_us);
    while (n == 0 && l->now_us < until_us) {
        n = epoll_wait(l->epoll_fd, l->ready, BATCH, 0);
        l->now_us = fb_mono_us();
    }
    if (n == 0) {
        n = epoll_wait(l->epoll_fd, l->ready, BATCH, (int)wait_ms);
        l->now_us = fb_mono_us();
    }
    busy_poll_waited(&l->busy_poll, l->now_us - from_us, n > 0);
    return n;
}

void loop_busy_poll(struct loop *l, uint32_t most_us)
{
    l->busy_poll.most_us = most_us;
}

void loop_stop(struct loop *l)
{
    atomic_store_explicit(&l->is_stopping, true, memory_order_release);
    wake(l);
}

uint64_t loop_now_us(const struct loop *l)
{
    return l->now_us;
}

uint64_t loop_refresh_us(struct loop *l)
{
    l->now_us = fb_mono_us();
    return l->now_us;
}

static uint32_t epoll_bits(uint32_t events)
{
    uint32_t bits = EPOLLRDHUP;
    if (events & LOOP_READ)
        bits |= EPOLLIN;
    if (events & LOOP_WRITE)
        bits |= EPOLLOUT;
    if (events & LOOP_EDGE)
        bits |= EPOLLET;
    return bits;
}

enum fb_code loop_add(struct loop *l, struct loop_handle *h, int fd, uint32_t events)
{
    fb_assert(h->on_ready != NULL);
    fb_assert(fd >= 0);
    struct epoll_event ev = {.events = epoll_bits(events), .data.ptr = h};
    if (epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0)
        return FB_E_IO;
    h->fd = fd;
    return FB_OK;
}

void loop_change(struct loop *l, struct loop_handle *h, uint32_t events)
{
    struct epoll_event ev = {.events = epoll_bits(events), .data.ptr = h};
    int failed = epoll_ctl(l->epoll_fd, EPOLL_CTL_MOD, h->fd, &ev);
    fb_assert(failed == 0);
}

void loop_remove(struct loop *l, struct loop_handle *h)
{
    if (h->fd < 0)
        return;
    epoll_ctl(l->epoll_fd, EPOLL_CTL_DEL, h->fd, NULL);
    loop_forget(l, h);
}

void loop_forget(struct loop *l, struct loop_handle *h)
{
    h->fd = -1;
    for (int i = l->ready_at + 1; i < l->ready_count; i++)
        if (l->ready[i].data.ptr == h)
            l->ready[i].data.ptr = NULL;
}

void loop_timer_set(struct loop *l, struct loop_timer *t, uint64_t due_us)
{
    wheel_set(&l->wheel, t, due_us);
}

void loop_timer_stop(struct loop *l, struct loop_timer *t)
{
    (void)l;
    wheel_stop(t);
}

void loop_defer(struct loop *l, struct loop_job *job)
{
    fb_assert(job->on_run != NULL);
    if (job->is_queued)
        return;
    job->is_queued = true;
    job->next = NULL;
    *l->job_last = job;
    l->job_last = &job->next;
    l->job_count++;
}

void loop_job_cancel(struct loop *l, struct loop_job *job)
{
    if (!job->is_queued)
        return;
    for (struct loop_job **at = &l->job_first; *at; at = &(*at)->next) {
        if (*at != job)
            continue;
        *at = job->next;
        if (l->job_last == &job->next)
            l->job_last = at;
        break;
    }
    job->is_queued = false;
    l->job_count--;
}

void loop_post(struct loop *l, struct loop_message *message)
{
    struct loop_message *was = atomic_load_explicit(&l->inbox, memory_order_relaxed);
    do {
        message->next = was;
    } while (!atomic_compare_exchange_weak_explicit(&l->inbox, &was, message, memory_order_release,
                                                    memory_order_relaxed));
    if (!was) /* else somebody has woken it already and it has not looked yet */
        wake(l);
}

/* Jobs that jobs ask for run in the next turn: descriptors get their share in between. */
static void run_jobs(struct loop *l)
{
    for (uint32_t n = l->job_count; n > 0 && l->job_first; n--) {
        struct loop_job *job = l->job_first;
        l->job_first = job->next;
        if (!l->job_first)
            l->job_last = &l->job_first;
        l->job_count--;
        job->is_queued = false;
        job->on_run(job);
    }
}

static void on_mail(struct loop_handle *h, uint32_t events)
{
    (void)events;
    struct loop *l = FB_CONTAINER(h, struct loop, mailbox);
    uint64_t count;
    /* Read first: a message that is posted after the exchange below finds an empty inbox and wakes
     * again. */
    if (read(l->event_fd, &count, sizeof count) < 0)
        fb_assert(errno == EAGAIN);
    struct loop_message *m = atomic_exchange_explicit(&l->inbox, NULL, memory_order_acquire);
    struct loop_message *oldest = NULL;
    while (m) {
        struct loop_message *next = m->next;
        m->next = oldest;
        oldest = m;
        m = next;
    }
    while (oldest) {
        struct loop_message *next = oldest->next;
        oldest->on_message(oldest);
        oldest = next;
    }
}

static void wake(struct loop *l)
{
    uint64_t one = 1;
    if (write(l->event_fd, &one, sizeof one) < 0)
        fb_assert(errno == EAGAIN); /* the counter is full: it is awake for sure */
}

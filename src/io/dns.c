/* SPDX-License-Identifier: Apache-2.0 */
/* A and AAAA are asked apart, so that a failure of one keeps its old addresses while the other
 * moves.
 *
 *   watch: WAITING --due--> ASKING (2 queries) --both answered--> WAITING (TTL, or a short rest
 * after a failure)
 *                                 \--unwatched--> GONE --last answer--> freed
 *
 * The thread writes <latest>, dns_poll compares it with <told>, what the owner knows: changes that
 * come faster than the owner looks fall together, so nothing can pile up. */
#include "io/dns.h"

#include "base/assert.h"
#include "base/clock.h"
#include "io/thread.h"

#include <ares.h>
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define DNS_FAIL_FIRST_MS 500
#define DNS_HOST_BYTES 256

struct address_list {
    union dns_address at[DNS_ADDRESSES_MAX];
    uint32_t count, ignored;
};
enum answer { ANSWER_NONE, ANSWER_GOOD, ANSWER_EMPTY, ANSWER_FAILED };

struct watch;
struct query { /* one of the two of a round */
    struct watch *watch;
    int family; /* 0: IPv4, 1: IPv6 */
};
struct watch {
    struct watch *next;
    struct dns *dns;
    uint32_t id;
    uint16_t port;
    char host[DNS_HOST_BYTES];
    /* thread only */
    struct srv_list *srv;         /* NULL, or fresh and latest; <latest> under the lock */
    struct address_list fresh[2]; /* of the running round: IPv4, IPv6 */
    enum answer answer[2];
    struct query query[2];
    uint32_t asking, fail_count, fresh_ttl_ms;
    uint64_t due_us; /* UINT64_MAX: never again */
    char fresh_why[64];
    /* under the lock */
    struct address_list latest[2], told;
    uint32_t ttl_ms;
    bool is_dirty, is_failed, is_gone;
    char why[64];
};
struct dns {
    pthread_mutex_t lock; /* of the list of watches and of the marked fields */
    struct watch *watches;
    uint32_t last_id;
    bool is_ending;
    pthread_t thread;
    int wake_fd, ready_fd, epoll_fd;
    struct dns_conf conf;
    char *servers_csv;
    ares_channel channel; /* thread only, as all below */
    uint32_t running;     /* queries */
    bool has_channel, wants_new_channel;
};

static void *dns_thread(void *arg);
static void query_done(void *arg, int status, int timeouts, struct ares_addrinfo *info);
static void srv_done(void *arg, int status, int timeouts, unsigned char *answer, int bytes);
static void round_done(struct watch *w);

/* ---- lifetime ---- */

static void on_socket(void *arg, ares_socket_t fd, int readable, int writable)
{
    struct dns *d = arg;
    struct epoll_event ev = {.events = (readable ? EPOLLIN : 0u) | (writable ? EPOLLOUT : 0u),
                             .data.fd = fd};
    if (!readable && !writable)
        epoll_ctl(d->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
    else if (epoll_ctl(d->epoll_fd, EPOLL_CTL_MOD, fd, &ev) != 0)
        epoll_ctl(d->epoll_fd, EPOLL_CTL_ADD, fd, &ev);
}

static bool channel_open(struct dns *d)
{
    /* 1232 bytes pass every path without fragments (DNS flag day 2020): 70 addresses without TCP.
     */
    struct ares_options options = {.timeout = (int)d->conf.timeout_ms,
                                   .tries = (int)d->conf.tries,
                                   .flags = ARES_FLAG_EDNS,
                                   .ednspsz = 1232,
                                   .sock_state_cb = on_socket,
                                   .sock_state_cb_data = d};
    int status = ares_init_options(&d->channel, &options,
                                   ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_FLAGS |
                                       ARES_OPT_EDNSPSZ | ARES_OPT_SOCK_STATE_CB);
    d->has_channel = status == ARES_SUCCESS;
    if (d->has_channel && d->servers_csv &&
        ares_set_servers_ports_csv(d->channel, d->servers_csv) != ARES_SUCCESS) {
        ares_destroy(d->channel);
        d->has_channel = false;
    }
    return d->has_channel;
}

enum fb_code dns_new(const struct dns_conf *conf, struct dns **out, struct fb_err *err)
{
    *out = NULL;
    struct dns *d = calloc(1, sizeof *d);
    if (!d || ares_library_init(ARES_LIB_INIT_ALL) != ARES_SUCCESS) {
        free(d);
        return fb_fail(err, FB_E_NOMEM, "dns: no memory");
    }
    d->conf = *conf;
    d->conf.timeout_ms = conf->timeout_ms ? conf->timeout_ms : 2000;
    d->conf.tries = conf->tries ? conf->tries : 3;
    d->conf.ttl_min_ms = conf->ttl_min_ms ? conf->ttl_min_ms : DNS_TTL_MIN_MS;
    d->servers_csv = conf->servers_csv ? strdup(conf->servers_csv) : NULL;
    d->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    d->ready_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    d->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    pthread_mutex_init(&d->lock, NULL);
    struct epoll_event wake = {.events = EPOLLIN, .data.fd = d->wake_fd};
    bool is_good = d->wake_fd >= 0 && d->ready_fd >= 0 && d->epoll_fd >= 0 &&
                   (!conf->servers_csv || d->servers_csv) &&
                   epoll_ctl(d->epoll_fd, EPOLL_CTL_ADD, d->wake_fd, &wake) == 0 && channel_open(d);
    is_good = is_good && thread_start(&d->thread, "dns", dns_thread, d) == FB_OK;
    if (is_good) {
        *out = d;
        return FB_OK;
    }
    fb_fail(err, FB_E_IO, "dns: the resolver cannot start%s%s: %s",
            conf->servers_csv ? " with servers " : "", conf->servers_csv ? conf->servers_csv : "",
            strerror(errno));
    d->is_ending = true; /* there is no thread */
    dns_free(d);
    return FB_E_IO;
}

static void wake(int fd)
{
    uint64_t one = 1;
    ssize_t wrote = write(fd, &one, sizeof one);
    fb_assert(wrote == sizeof one || errno == EAGAIN); /* EAGAIN: it is awake already */
}

void dns_free(struct dns *d)
{
    if (!d)
        return;
    if (!d->is_ending) {
        pthread_mutex_lock(&d->lock);
        d->is_ending = true;
        pthread_mutex_unlock(&d->lock);
        wake(d->wake_fd);
        pthread_join(d->thread, NULL);
    }
    if (d->has_channel)
        ares_destroy(d->channel); /* ends all queries: their callbacks see ARES_EDESTRUCTION */
    while (d->watches) {
        struct watch *next = d->watches->next;
        fb_assert(d->watches->asking == 0);
        free(d->watches->srv);
        free(d->watches);
        d->watches = next;
    }
    const int fds[] = {d->wake_fd, d->ready_fd, d->epoll_fd};
    for (size_t i = 0; i < FB_COUNT(fds); i++)
        if (fds[i] >= 0)
            close(fds[i]);
    pthread_mutex_destroy(&d->lock);
    ares_library_cleanup();
    free(d->servers_csv);
    free(d);
}

int dns_fd(const struct dns *d)
{
    return d->ready_fd;
}

/* ---- owner's side ---- */

/* A host of digits is its own answer. */
static bool watch_is_number(struct watch *w)
{
    union dns_address a = {0};
    if (inet_pton(AF_INET, w->host, &a.v4.sin_addr) == 1) {
        a.v4.sin_family = AF_INET;
        a.v4.sin_port = htons(w->port);
        w->latest[0].at[0] = a;
        w->latest[0].count = 1;
        return true;
    }
    if (inet_pton(AF_INET6, w->host, &a.v6.sin6_addr) == 1) {
        a.v6.sin6_family = AF_INET6;
        a.v6.sin6_port = htons(w->port);
        w->latest[1].at[0] = a;
        w->latest[1].count = 1;
        return true;
    }
    return false;
}

uint32_t dns_watch(struct dns *d, const char *host, uint16_t port)
{
    struct watch *w = calloc(1, sizeof *w);
    if (!w)
        return 0;
    w->dns = d;
    w->port = port;
    snprintf(w->host, sizeof w->host, "%s", host);
    bool is_number = watch_is_number(w);
    if (is_number) {
        w->due_us = UINT64_MAX;
        w->ttl_ms = DNS_TTL_MAX_MS;
        w->is_dirty = true;
    }
    pthread_mutex_lock(&d->lock);
    uint32_t id = w->id = ++d->last_id;
    w->next = d->watches;
    d->watches = w;
    pthread_mutex_unlock(&d->lock);
    wake(is_number ? d->ready_fd : d->wake_fd);
    return id;
}

uint32_t dns_watch_srv(struct dns *d, const char *name)
{
    struct watch *w = calloc(1, sizeof *w);
    struct srv_list *srv = calloc(2, sizeof *srv);
    if (!w || !srv) {
        free(w);
        free(srv);
        return 0;
    }
    w->dns = d;
    w->srv = srv;
    snprintf(w->host, sizeof w->host, "%s", name);
    pthread_mutex_lock(&d->lock);
    uint32_t id = w->id = ++d->last_id;
    w->next = d->watches;
    d->watches = w;
    pthread_mutex_unlock(&d->lock);
    wake(d->wake_fd);
    return id;
}

void dns_unwatch(struct dns *d, uint32_t watch)
{
    pthread_mutex_lock(&d->lock);
    for (struct watch *w = d->watches; w; w = w->next)
        if (w->id == watch)
            w->is_gone = true; /* the thread frees it: an answer may be on its way */
    pthread_mutex_unlock(&d->lock);
    wake(d->wake_fd);
}

static bool same_address(const union dns_address *a, const union dns_address *b)
{
    if (a->any.sa_family != b->any.sa_family)
        return false;
    if (a->any.sa_family == AF_INET)
        return a->v4.sin_addr.s_addr == b->v4.sin_addr.s_addr;
    return memcmp(&a->v6.sin6_addr, &b->v6.sin6_addr, sizeof a->v6.sin6_addr) == 0 &&
           a->v6.sin6_scope_id == b->v6.sin6_scope_id;
}

static bool has_address(const struct address_list *list, const union dns_address *a)
{
    for (uint32_t i = 0; i < list->count; i++)
        if (same_address(&list->at[i], a))
            return true;
    return false;
}

static void add_address(struct address_list *list, const union dns_address *a)
{
    if (has_address(list, a))
        return;
    if (list->count == DNS_ADDRESSES_MAX)
        list->ignored++;
    else
        list->at[list->count++] = *a;
}

/* Takes the next change of the list, or false. */
struct taken {
    struct dns_change change;
    struct address_list now, added, removed;
    struct srv srv[SRV_MAX];
    char host[DNS_HOST_BYTES], why[64];
};

static bool take_change(struct dns *d, struct taken *t)
{
    bool is_taken = false;
    pthread_mutex_lock(&d->lock);
    for (struct watch *w = d->watches; w && !is_taken; w = w->next) {
        if (!w->is_dirty || w->is_gone)
            continue;
        memset(t, 0, sizeof *t);
        for (int f = 0; f < 2; f++)
            for (uint32_t i = 0; i < w->latest[f].count; i++)
                add_address(&t->now, &w->latest[f].at[i]);
        for (uint32_t i = 0; i < t->now.count; i++)
            if (!has_address(&w->told, &t->now.at[i]))
                add_address(&t->added, &t->now.at[i]);
        for (uint32_t i = 0; i < w->told.count; i++)
            if (!has_address(&t->now, &w->told.at[i]))
                add_address(&t->removed, &w->told.at[i]);
        w->told = t->now;
        w->is_dirty = false;
        memcpy(t->host, w->host, sizeof t->host);
        memcpy(t->why, w->why, sizeof t->why);
        t->change = (struct dns_change){.watch = w->id,
                                        .host = t->host,
                                        .added = t->added.at,
                                        .added_count = t->added.count,
                                        .removed = t->removed.at,
                                        .removed_count = t->removed.count,
                                        .now = t->now.at,
                                        .now_count = t->now.count,
                                        .srv = t->srv,
                                        .ttl_ms = w->ttl_ms,
                                        .ignored = t->now.ignored + w->latest[0].ignored +
                                                   w->latest[1].ignored,
                                        .is_failed = w->is_failed,
                                        .why_failed = t->why};
        if (w->srv) {
            memcpy(t->srv, w->srv[1].at, sizeof t->srv);
            t->change.srv_count = w->srv[1].count;
            t->change.ignored = w->srv[1].ignored;
        }
        is_taken = true;
    }
    pthread_mutex_unlock(&d->lock);
    return is_taken;
}

size_t dns_poll(struct dns *d, dns_change_fn *fn, void *arg)
{
    struct taken t;
    size_t count = 0;
    uint64_t ignored;
    ssize_t got = read(d->ready_fd, &ignored, sizeof ignored);
    (void)got; /* EAGAIN: polled without a sign, which is fine */
    for (; take_change(d, &t); count++)
        fn(arg, &t.change);
    return count;
}

/* ---- thread ---- */

static void ask(struct watch *w)
{
    static const int families[2] = {AF_INET, AF_INET6};
    char service[8];
    struct dns *d = w->dns;
    snprintf(service, sizeof service, "%u", w->port);
    w->fresh_ttl_ms = DNS_TTL_MAX_MS;
    w->fresh_why[0] = 0;
    if (w->srv) {
        w->asking = 1;
        d->running++;
        ares_query(d->channel, w->host, 1, 33, srv_done, w);
        return;
    }
    w->asking = 2; /* before the first call: an answer from the hosts file comes at once */
    memset(w->fresh, 0, sizeof w->fresh);
    for (int f = 0; f < 2; f++) {
        struct ares_addrinfo_hints hints = {.ai_family = families[f],
                                            .ai_flags = ARES_AI_NUMERICSERV | ARES_AI_NOSORT};
        w->answer[f] = ANSWER_NONE;
        w->query[f] = (struct query){w, f};
        d->running++;
        ares_getaddrinfo(d->channel, w->host, service, &hints, query_done, &w->query[f]);
    }
}

static uint32_t clamp_ttl_ms(const struct dns *d, int ttl_s)
{
    uint64_t ms = ttl_s > 0 ? (uint64_t)ttl_s * 1000 : 0;
    return (uint32_t)fb_min_u64(fb_max_u64(ms, d->conf.ttl_min_ms), DNS_TTL_MAX_MS);
}

static void query_done(void *arg, int status, int timeouts, struct ares_addrinfo *info)
{
    struct query *q = arg;
    struct watch *w = q->watch;
    struct address_list *fresh = &w->fresh[q->family];
    (void)timeouts;
    w->dns->running--;
    for (struct ares_addrinfo_node *n = info ? info->nodes : NULL; n; n = n->ai_next) {
        union dns_address a = {0};
        if (n->ai_addrlen > sizeof a)
            continue;
        memcpy(&a, n->ai_addr, n->ai_addrlen);
        add_address(fresh, &a);
        w->fresh_ttl_ms = fb_min_u32(w->fresh_ttl_ms, clamp_ttl_ms(w->dns, n->ai_ttl));
    }
    for (struct ares_addrinfo_cname *c = info ? info->cnames : NULL; c; c = c->next)
        w->fresh_ttl_ms = fb_min_u32(w->fresh_ttl_ms, clamp_ttl_ms(w->dns, c->ttl));
    if (fresh->count)
        w->answer[q->family] = ANSWER_GOOD;
    else if (status == ARES_SUCCESS || status == ARES_ENODATA || status == ARES_ENOTFOUND)
        w->answer[q->family] = ANSWER_EMPTY;
    else
        w->answer[q->family] = ANSWER_FAILED;
    if (fresh->count == 0 && !w->fresh_why[0])
        snprintf(w->fresh_why, sizeof w->fresh_why, "%s",
                 ares_strerror(status == ARES_SUCCESS ? ARES_ENODATA : status));
    ares_freeaddrinfo(info);
    fb_assert(w->asking > 0);
    if (--w->asking == 0)
        round_done(w);
}

static void srv_done(void *arg, int status, int timeouts, unsigned char *answer, int bytes)
{
    struct watch *w = arg;
    (void)timeouts;
    w->dns->running--;
    w->asking = 0;
    memset(w->answer, 0, sizeof w->answer);
    struct span text = {(const char *)answer, bytes > 0 ? (size_t)bytes : 0};
    bool is_good = status == ARES_SUCCESS && srv_parse(text, &w->srv[0]);
    w->answer[0] = is_good && w->srv[0].count                                      ? ANSWER_GOOD
                   : is_good || status == ARES_ENODATA || status == ARES_ENOTFOUND ? ANSWER_EMPTY
                                                                                   : ANSWER_FAILED;
    if (w->answer[0] == ANSWER_GOOD)
        w->fresh_ttl_ms = clamp_ttl_ms(w->dns, (int)fb_min_u32(w->srv[0].ttl_s, INT32_MAX));
    else
        snprintf(w->fresh_why, sizeof w->fresh_why, "%s",
                 status == ARES_SUCCESS ? "no usable SRV record" : ares_strerror(status));
    round_done(w);
}

/* Both answers are here. */
static void round_done(struct watch *w)
{
    struct dns *d = w->dns;
    uint64_t now_us = fb_mono_us();
    bool is_failed = w->answer[0] != ANSWER_GOOD && w->answer[1] != ANSWER_GOOD;
    pthread_mutex_lock(&d->lock);
    if (w->srv && !is_failed && !srv_same(&w->srv[0], &w->srv[1])) {
        w->srv[1] = w->srv[0];
        w->is_dirty = true;
    }
    if (is_failed) {
        uint32_t first_ms = fb_min_u32(DNS_FAIL_FIRST_MS, d->conf.ttl_min_ms);
        w->ttl_ms = (uint32_t)fb_min_u64((uint64_t)first_ms << fb_min_u32(w->fail_count, 16),
                                         DNS_FAIL_RETRY_MS);
        w->fail_count++;
        if (!w->is_failed)
            w->is_dirty = true;
        memcpy(w->why, w->fresh_why, sizeof w->why);
        if (w->answer[0] == ANSWER_FAILED || w->answer[1] == ANSWER_FAILED)
            d->wants_new_channel = true; /* the servers of the system may have changed */
    } else {
        for (int f = 0; f < 2; f++) {
            bool is_same = w->answer[f] == ANSWER_FAILED || w->fresh[f].count == w->latest[f].count;
            for (uint32_t i = 0; i < w->fresh[f].count && is_same; i++)
                is_same = has_address(&w->latest[f], &w->fresh[f].at[i]);
            w->is_dirty |= !is_same;
            if (w->answer[f] != ANSWER_FAILED)
                w->latest[f] = w->fresh[f];
        }
        w->is_dirty |= w->is_failed; /* tells that it is well again */
        w->fail_count = 0;
        w->ttl_ms = w->fresh_ttl_ms;
        w->why[0] = 0;
    }
    w->is_failed = is_failed;
    bool is_news = w->is_dirty;
    pthread_mutex_unlock(&d->lock);
    w->due_us = now_us + w->ttl_ms * US_PER_MS;
    if (is_news)
        wake(d->ready_fd);
}

/* Asks what is due and frees what is gone; when the next is due. */
static uint64_t look_after(struct dns *d, uint64_t now_us)
{
    uint64_t next_us = UINT64_MAX;
    for (;;) {
        struct watch *due = NULL;
        next_us = UINT64_MAX;
        pthread_mutex_lock(&d->lock);
        for (struct watch **at = &d->watches; *at;) {
            struct watch *w = *at;
            if (w->is_gone && w->asking == 0) {
                *at = w->next;
                free(w->srv);
                free(w);
                continue;
            }
            at = &w->next;
            if (w->asking || w->is_gone)
                continue;
            if (w->due_us <= now_us && !due)
                due = w;
            else
                next_us = fb_min_u64(next_us, w->due_us);
        }
        pthread_mutex_unlock(&d->lock);
        if (!due)
            return next_us;
        ask(due); /* only this thread frees watches */
    }
}

static int wait_ms(struct dns *d, uint64_t now_us, uint64_t next_us)
{
    struct timeval most, left, *t;
    uint64_t ms = next_us <= now_us       ? 0
                  : next_us == UINT64_MAX ? 3600000
                                          : (next_us - now_us) / US_PER_MS + 1;
    ms = fb_min_u64(ms, 3600000);
    most =
        (struct timeval){.tv_sec = (time_t)(ms / 1000), .tv_usec = (suseconds_t)(ms % 1000 * 1000)};
    t = ares_timeout(d->channel, &most, &left);
    return (int)(t->tv_sec * 1000 + (t->tv_usec + 999) / 1000);
}

static void *dns_thread(void *arg)
{
    struct dns *d = arg;
    struct epoll_event events[16];
    for (;;) {
        uint64_t counted;
        pthread_mutex_lock(&d->lock);
        bool is_ending = d->is_ending;
        pthread_mutex_unlock(&d->lock);
        if (is_ending)
            return NULL;
        if (d->wants_new_channel && d->running == 0) {
            d->wants_new_channel = false;
            ares_destroy(d->channel);
            d->has_channel = false;
        }
        if (!d->has_channel &&
            !channel_open(d)) { /* no memory, no descriptor: again after a rest */
            usleep(100000);
            continue;
        }
        uint64_t now_us = fb_mono_us();
        uint64_t next_us = look_after(d, now_us);
        int count = epoll_wait(d->epoll_fd, events, FB_COUNT(events), wait_ms(d, now_us, next_us));
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd == d->wake_fd) {
                ssize_t got = read(fd, &counted, sizeof counted);
                (void)got;
                continue;
            }
            uint32_t what = events[i].events;
            ares_process_fd(d->channel, what & ~(uint32_t)EPOLLOUT ? fd : ARES_SOCKET_BAD,
                            what & EPOLLOUT ? fd : ARES_SOCKET_BAD);
        }
        ares_process_fd(d->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD); /* timeouts */
    }
}

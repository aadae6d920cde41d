/* SPDX-License-Identifier: Apache-2.0 */
/* overload: measures what the gateway itself uses, and does what reflex/overload.h says.
 *
 * Thread 0 measures and judges each 100 ms; each thread then acts on its own connections.
 *   memory       what we hold, as a share of that and of what is left: of overload.memory_limit, of
 *                RLIMIT_AS, of the cgroup, of the host; the scarcest counts
 *   descriptors  connections of all threads and what was open at the start, of RLIMIT_NOFILE
 *   cpu          how long an event waits until its thread takes it (a message that a thread sends
 *                itself goes to the end of what is ready), and how late its timer came, of
 *                overload.delay.  How busy a thread is
 *                says nothing: with few connections it is always busy and nobody waits.
 *   ring         events that the brain has not taken yet
 * Idle connections close; HTTP/2 connections are told to end when requests are refused already. */
#include "reflex/overload.h"
#include "base/assert.h"
#include "gateway/gateway_int.h"
#include "reflex/admit.h"
#include "reflex/fair.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

/* Each tick looks at so many connections: 20,000 idle ones are seen in half a second. */
#define LOOK_MAX 4096
#define CGROUP_ROOT "/sys/fs/cgroup"

struct own_load {
    struct overload reflex;
    struct overload_verdict verdict, said;
    double used[OVERLOAD_RESOURCES];
    int statm_fd, meminfo_fd, group_now_fd, group_stat_fd;
    uint64_t group_max_bytes; /* 0: none */
    uint32_t start_descriptors;
    uint32_t threshold;    /* in force */
    struct spin fair_lock; /* taken per request while some are refused, and by the tick */
    struct fair fair;      /* of all threads: a greedy user may be on another one than the others */
};

static void set_threshold(struct gw *gw, uint32_t threshold, uint64_t now_us);
static double memory_used(struct own_load *own, const struct conf_params *p);
static double descriptors_used(const struct gw *gw, const struct own_load *own);
static double delay_used(const struct gw *gw, uint64_t bound_us);
static double ring_used(const struct gw *gw);
static void find_cgroup(struct own_load *own);
static void show(struct gw *gw);
static void say(struct gw *gw, uint64_t now_us);
static void close_idle(struct worker *w, uint64_t idle_us);
static void on_probe(struct loop_message *m);

static uint32_t count_descriptors(void)
{
    uint32_t count = 0;
    DIR *dir = opendir("/proc/self/fd");
    while (dir && readdir(dir))
        count++;
    if (dir)
        closedir(dir);
    return count > 3 ? count - 3 : 0; /* ".", ".." and the one that reads */
}

bool own_init(struct gw *gw)
{
    struct own_load *own = calloc(1, sizeof *own);
    if (!own)
        return false;
    gw->own = own;
    own->statm_fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    own->meminfo_fd = open("/proc/meminfo", O_RDONLY | O_CLOEXEC);
    own->group_now_fd = own->group_stat_fd = -1;
    find_cgroup(own);
    own->start_descriptors = count_descriptors();
    atomic_store_explicit(&gw->own_threshold, ADMIT_ALL, memory_order_relaxed);
    atomic_store_explicit(&gw->own_idle_us, UINT64_MAX, memory_order_relaxed);
    for (uint32_t i = 0; i < gw->thread_count; i++)
        gw->workers[i].own_probe = (struct loop_message){.on_message = on_probe};
    return true;
}

void own_fini(struct gw *gw)
{
    if (!gw->own)
        return;
    const int fds[] = {gw->own->statm_fd, gw->own->meminfo_fd, gw->own->group_now_fd,
                       gw->own->group_stat_fd};
    for (size_t i = 0; i < FB_COUNT(fds); i++)
        if (fds[i] >= 0)
            close(fds[i]);
    free(gw->own);
    gw->own = NULL;
}

/* ---- judging: thread 0 ---- */

void own_judge(struct gw *gw, uint64_t now_us)
{
    struct own_load *own = gw->own;
    const struct conf_params *p = &gw->gen->conf->p;
    const struct overload_conf conf = {
        .target = {[OVERLOAD_MEMORY] = p->overload_memory / 100.0,
                   [OVERLOAD_DESCRIPTORS] = p->overload_descriptors / 100.0,
                   [OVERLOAD_CPU] = 0.95,
                   [OVERLOAD_RING] = 0.9}};
    own->used[OVERLOAD_MEMORY] = memory_used(own, p);
    own->used[OVERLOAD_DESCRIPTORS] = descriptors_used(gw, own);
    own->used[OVERLOAD_CPU] = delay_used(gw, p->overload_delay * US_PER_MS);
    own->used[OVERLOAD_RING] = ring_used(gw);
    own->verdict = overload_step(&own->reflex, &conf, own->used, now_us);
    bool is_acting = p->overload_mode == CONF_OVERLOAD_ACT;
    struct overload_verdict v = is_acting ? own->verdict : (struct overload_verdict){0};
    /* closing connections frees memory and descriptors, and costs CPU time */
    const double *at = own->reflex.place;
    double place = at[OVERLOAD_MEMORY] > at[OVERLOAD_DESCRIPTORS] ? at[OVERLOAD_MEMORY]
                                                                  : at[OVERLOAD_DESCRIPTORS];
    atomic_store_explicit(&gw->own_idle_us, overload_idle_us(is_acting ? place : 0),
                          memory_order_relaxed);
    set_threshold(gw, is_acting ? v.threshold : ADMIT_ALL, now_us);
    atomic_store_explicit(&gw->own_stage, (uint8_t)v.stage, memory_order_relaxed);
    if (gw->is_retired) /* its successor tells */
        return;
    show(gw);
    if (p->overload_mode != CONF_OVERLOAD_OFF)
        say(gw, now_us);
}

static void set_threshold(struct gw *gw, uint32_t threshold, uint64_t now_us)
{
    struct own_load *own = gw->own;
    spin_lock(&own->fair_lock);
    fair_tick(&own->fair, threshold, now_us);
    if (threshold != own->threshold)
        fair_plan(&own->fair, threshold);
    own->threshold = threshold;
    spin_unlock(&own->fair_lock);
    atomic_store_explicit(&gw->own_threshold, threshold, memory_order_relaxed);
}

static uint64_t number_in(int fd, const char *key, uint32_t skip)
{
    char text[4096];
    ssize_t n = fd < 0 ? -1 : pread(fd, text, sizeof text - 1, 0);
    if (n <= 0)
        return 0;
    text[n] = '\0';
    const char *at = key ? strstr(text, key) : text;
    if (!at)
        return 0;
    char *end = (char *)(uintptr_t)at + (key ? strlen(key) : 0);
    uint64_t number = strtoull(end, &end, 10);
    while (skip-- > 0)
        number = strtoull(end, &end, 10);
    return number;
}

static double memory_used(struct own_load *own, const struct conf_params *p)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    double held = (double)(number_in(own->statm_fd, NULL, 1) * page);
    double most = held + (double)number_in(own->meminfo_fd, "MemAvailable:", 0) * 1024;
    if (own->group_max_bytes) {
        uint64_t now = number_in(own->group_now_fd, NULL, 0);
        uint64_t cached = number_in(own->group_stat_fd, "inactive_file ", 0);
        now = fb_sub_floor_u64(now, cached); /* the kernel takes that back by itself */
        most = fb_clamp(held + (double)fb_sub_floor_u64(own->group_max_bytes, now), 1, most);
    }
    if (p->overload_memory_limit)
        most = fb_clamp((double)p->overload_memory_limit, 1, most);
    double used = most > 0 ? held / most : 0;
    struct rlimit r;
    if (getrlimit(RLIMIT_AS, &r) == 0 && r.rlim_cur != RLIM_INFINITY && r.rlim_cur > 0) {
        double space = (double)(number_in(own->statm_fd, NULL, 0) * page) / (double)r.rlim_cur;
        used = space > used ? space : used;
    }
    return used;
}

static double descriptors_used(const struct gw *gw, const struct own_load *own)
{
    struct rlimit r;
    uint64_t open = own->start_descriptors;
    if (getrlimit(RLIMIT_NOFILE, &r) < 0 || r.rlim_cur == RLIM_INFINITY)
        return 0;
    for (uint32_t i = 0; i < gw->thread_count; i++)
        open += atomic_load_explicit(&gw->workers[i].shown_descriptors, memory_order_relaxed);
    return (double)open / (double)r.rlim_cur;
}

static double delay_used(const struct gw *gw, uint64_t bound_us)
{
    uint64_t now_us = loop_now_us(gw->workers[0].loop), worst_us = 0;
    for (uint32_t i = 0; i < gw->thread_count; i++) {
        const struct worker *w = &gw->workers[i];
        uint64_t sent_us = atomic_load_explicit(&w->own_probe_us, memory_order_relaxed);
        uint64_t delay_us = atomic_load_explicit(&w->own_delay_us, memory_order_relaxed);
        if (sent_us) /* still on its way */
            delay_us = fb_max_u64(delay_us, fb_sub_floor_u64(now_us, sent_us));
        worst_us = fb_max_u64(worst_us, delay_us);
    }
    return bound_us ? fb_clamp((double)worst_us / (double)bound_us, 0, 1) : 0;
}

static double ring_used(const struct gw *gw)
{
    double most = 0;
    for (uint32_t i = 0; i < gw->thread_count; i++) {
        const struct ring *r = gw->workers[i].ring;
        uint64_t head = atomic_load_explicit(&r->head, memory_order_relaxed),
                 tail = atomic_load_explicit(&r->tail, memory_order_relaxed);
        double used = (double)fb_sub_floor_u64(head, tail) / (double)r->cells;
        most = used > most ? used : most;
    }
    return most;
}

/* The smallest memory limit on the way from our group to the root; version 2, else version 1. */
static void find_cgroup(struct own_load *own)
{
    char text[4096], path[4400], file[4500];
    int fd = open("/proc/self/cgroup", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    if (n <= 0)
        return;
    text[n] = '\0';
    char *two = strncmp(text, "0::/", 4) == 0 ? text : strstr(text, "\n0::/");
    char *one = strstr(text, ":memory:/");
    char *own_path = one ? one + 8 : two ? strchr(two, '/') : NULL;
    if (!own_path)
        return;
    own_path[strcspn(own_path, "\n")] = '\0';
    snprintf(path, sizeof path, CGROUP_ROOT "%s%s", one ? "/memory" : "", own_path);
    size_t root = sizeof CGROUP_ROOT - 1 + (one ? strlen("/memory") : 0);
    while (strlen(path) >= root) {
        snprintf(file, sizeof file, "%s/%s", path, one ? "memory.limit_in_bytes" : "memory.max");
        fd = open(file, O_RDONLY | O_CLOEXEC);
        uint64_t most = number_in(fd, NULL, 0); /* "max" is 0 */
        if (fd >= 0)
            close(fd);
        if (most && most < (UINT64_C(1) << 60) &&
            (!own->group_max_bytes || most < own->group_max_bytes)) {
            own->group_max_bytes = most;
            const int old[] = {own->group_now_fd, own->group_stat_fd};
            for (size_t i = 0; i < FB_COUNT(old); i++)
                if (old[i] >= 0)
                    close(old[i]);
            snprintf(file, sizeof file, "%s/%s", path,
                     one ? "memory.usage_in_bytes" : "memory.current");
            own->group_now_fd = open(file, O_RDONLY | O_CLOEXEC);
            snprintf(file, sizeof file, "%s/memory.stat", path);
            own->group_stat_fd = open(file, O_RDONLY | O_CLOEXEC);
        }
        char *slash = strrchr(path, '/');
        if (!slash)
            return;
        *slash = '\0';
    }
}

static void show(struct gw *gw)
{
    const struct own_load *own = gw->own;
    struct memfile_head *head = gw->mem->head;
    _Static_assert((int)MEMFILE_OWN_RESOURCES == (int)OVERLOAD_RESOURCES, "one row per resource");
    for (uint32_t r = 0; r < OVERLOAD_RESOURCES; r++) {
        atomic_store_explicit(&head->own_used_ppm[r],
                              (uint32_t)fb_clamp(own->used[r] * 1e6, 0, 1e7), memory_order_relaxed);
        atomic_store_explicit(&head->own_place_ppm[r], (uint32_t)(own->reflex.place[r] * 1e6),
                              memory_order_relaxed);
    }
    atomic_store_explicit(&head->own_stage, own->verdict.stage, memory_order_relaxed);
    atomic_store_explicit(&head->own_threshold, own->verdict.threshold, memory_order_relaxed);
    uint64_t pushed = 0;
    for (uint32_t i = 0; i < gw->thread_count; i++)
        pushed += atomic_load_explicit(&gw->workers[i].rates_pushed, memory_order_relaxed);
    atomic_store_explicit(&head->rates_pushed, pushed, memory_order_relaxed);
    atomic_store_explicit(&head->caps_uncounted,
                          atomic_load_explicit(&gw->caps_uncounted, memory_order_relaxed),
                          memory_order_relaxed);
}

/* An alert when connections or requests suffer, at each change of stage, and when all is over. */
static void say(struct gw *gw, uint64_t now_us)
{
    static const char *const acts[] = {
        "all is as usual again", "free memory is given back", "idle connections are closed",
        "requests are refused, the lowest class first", "new connections wait"};
    struct own_load *own = gw->own;
    const struct overload_verdict *v = &own->verdict;
    bool was_told = own->said.stage >= OVERLOAD_SHORT;
    bool is_over = v->stage == OVERLOAD_NONE;
    if (v->stage == own->said.stage || (!was_told && v->stage < OVERLOAD_SHORT) ||
        (was_told && v->stage == OVERLOAD_TRIM))
        return;
    bool is_acting = gw->gen->conf->p.overload_mode == CONF_OVERLOAD_ACT;
    enum overload_resource cause = is_over ? own->said.cause : v->cause;
    uint8_t severity = v->stage >= OVERLOAD_REFUSE ? 2 : 1;
    struct ev_alert ev = ev_alert_init(REASON_ALERT_OWN_LOAD, EV_NONE, severity, is_over, now_us);
    ev.value = own->used[cause];
    ev.threshold = (double)v->threshold;
    snprintf(ev.text, sizeof ev.text, "foldback itself %s %s (%.0f %% in use): %s%s",
             is_over ? "has enough" : "runs short of", overload_resource_name(cause),
             100 * own->used[cause], is_acting ? "" : "overload.mode is observe, else ",
             acts[v->stage]);
    ring_put(gw->workers[0].ring, &ev.head);
    fb_log(is_over ? FB_LOG_INFO : FB_LOG_WARN, "%s", ev.text);
    own->said = *v;
}

/* ---- acting: each thread ---- */

bool own_act(struct worker *w, uint64_t now_us)
{
    struct gw *gw = w->gw;
    atomic_store_explicit(&w->shown_descriptors, w->client_count + w->upstreams.used_count,
                          memory_order_relaxed);
    if (!atomic_load_explicit(&w->own_probe_us, memory_order_relaxed)) {
        atomic_store_explicit(&w->own_probe_us, loop_refresh_us(w->loop), memory_order_relaxed);
        loop_post(w->loop, &w->own_probe);
    }
    uint8_t stage = atomic_load_explicit(&gw->own_stage, memory_order_relaxed);
    if (stage == OVERLOAD_NONE)
        return true;
    while (w->idle_oldest && now_us - w->idle_oldest->idle_us >= US_PER_S)
        upstream_close(w->idle_oldest);
    struct slab *slabs[] = {&w->clients,  &w->requests,     &w->upstreams,
                            &w->trailers, &w->chunks.small, &w->chunks.body};
    for (size_t i = 0; i < FB_COUNT(slabs); i++)
        slab_shrink(slabs[i]);
    uint64_t idle_us = atomic_load_explicit(&gw->own_idle_us, memory_order_relaxed);
    if (stage >= OVERLOAD_SHORT && idle_us != UINT64_MAX)
        close_idle(w, idle_us);
    /* even then a tenth of the time: a bound below what foldback needs to stand must not lock the
     * door for ever */
    return stage < OVERLOAD_PAUSE || now_us % US_PER_S < US_PER_S / 10;
}

static void on_probe(struct loop_message *m)
{
    struct worker *w = FB_CONTAINER(m, struct worker, own_probe);
    uint64_t sent_us = atomic_load_explicit(&w->own_probe_us, memory_order_relaxed);
    uint64_t now_us = loop_refresh_us(w->loop);
    uint64_t delay_us = fb_max_u64(fb_sub_floor_u64(now_us, sent_us), w->tick_late_us);
    atomic_store_explicit(&w->own_delay_us, delay_us, memory_order_relaxed);
    w->tick_late_us = 0;
    atomic_store_explicit(&w->own_probe_us, 0, memory_order_relaxed);
}

/* Between two requests nobody is owed anything.  The list begins with the newest connection; who is
 * over his time closes wherever he stands, so the rest of a long list comes with the next ticks. */
static void close_idle(struct worker *w, uint64_t idle_us)
{
    uint64_t now_us = loop_now_us(w->loop);
    struct client *next = w->client_list;
    bool is_refusing = own_ends_connections(w);
    for (uint32_t i = 0; next && i < LOOK_MAX; i++) {
        struct client *c = next;
        next = c->next;
        if (c->kind != CLIENT_H1 || c->is_running || now_us - c->since_us < idle_us)
            continue;
        if (c->h2 && is_refusing) /* its streams end as they are, then it closes */
            h2_conn_drain(c);
        else if (!c->h2 && !c->req && !c->in && !c->out && !c->is_lingering)
            client_close(c);
    }
}

bool own_refuses(struct request *req)
{
    struct worker *w = req->worker;
    struct own_load *own = w->gw->own;
    const struct gate_ticket *t = &req->ticket;
    uint32_t threshold = atomic_load_explicit(&w->gw->own_threshold, memory_order_relaxed);
    if (FB_LIKELY(threshold >= ADMIT_ALL) || t->class == EV_CLASS_CRITICAL)
        return false;
    uint32_t level = admit_level(t->class, t->key_hash, req->start_us, &w->rng);
    spin_lock(&own->fair_lock);
    fair_ask(&own->fair, t->class, t->key_hash);
    bool passes = fair_passes(&own->fair, t->key_hash, level, threshold, &w->rng);
    spin_unlock(&own->fair_lock);
    return !passes;
}

bool own_ends_connections(const struct worker *w)
{
    return atomic_load_explicit(&w->gw->own_stage, memory_order_relaxed) >= OVERLOAD_REFUSE &&
           atomic_load_explicit(&w->gw->own_idle_us, memory_order_relaxed) != UINT64_MAX;
}

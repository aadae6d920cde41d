/* SPDX-License-Identifier: Apache-2.0 */
/* gateway: starts the workers, keeps their common things, listens to the supervisor. */
#include "gateway/gateway.h"

#include "base/assert.h"
#include "base/clock.h"
#include "gateway/authz.h"
#include "gateway/cache.h"
#include "gateway/control_msg.h"
#include "gateway/discover.h"
#include "gateway/holds.h"
#include "io/sandbox.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static bool start(struct gw *gw, const struct gateway_setup *setup, struct fb_err *err);
static void stop_all(struct gw *gw);
static void on_control(struct loop_handle *h, uint32_t events);
static void on_dns(struct loop_handle *h, uint32_t events);
static void on_dns_change(void *arg, const struct dns_change *change);
static void begin_drain(struct gw *gw);
static void stop_checks(struct gw *gw);
static void retire(struct gw *gw);
static void reload(struct gw *gw, const struct control_msg *m, int fd);
static struct conf *read_conf(int fd, const char *file, struct buf *why);
static void put_in_force(struct gw *gw, struct generation *gen);
static void on_switch(struct loop_message *m);
static void raise_descriptors(void);

int gateway_run(const struct gateway_setup *setup)
{
    struct fb_err err = {0};
    struct gw *gw = calloc(1, sizeof *gw);
    if (!gw) {
        fb_log(FB_LOG_ERROR, "no memory to start");
        return 1;
    }
    signal(SIGPIPE, SIG_IGN); /* a closed connection is an errno here */
    raise_descriptors();
    bool is_up = start(gw, setup, &err);
    if (is_up) {
        sandbox_enter("gateway");
        for (uint32_t i = 1; i < gw->thread_count; i++) {
            char name[16] = "gateway-";
            name[8] = (char)('0' + i / 10);
            name[9] = (char)('0' + i % 10);
            name[10] = '\0';
            if (thread_start(&gw->workers[i].thread, name, worker_main, &gw->workers[i]) != FB_OK) {
                fb_log(FB_LOG_ERROR, "cannot start thread %u; lower `threads`", i);
                _exit(1);
            }
        }
        if (setup->control_fd >= 0)
            control_send(setup->control_fd, CONTROL_READY, 0, 0, "");
        worker_main(&gw->workers[0]);
        for (uint32_t i = 1; i < gw->thread_count; i++)
            pthread_join(gw->workers[i].thread, NULL);
    } else {
        fb_log(FB_LOG_ERROR, "%s", err.text);
    }
    stop_checks(gw);
    struct generation *gen = gw->gen;
    authz_stop(gw->authz);
    for (uint32_t i = 0; i < gw->thread_count; i++)
        worker_fini(&gw->workers[i]);
    if (gen)
        generation_free(gen);
    dns_free(gw->dns);
    cache_coder_stop(gw);
    cache_store_free(gw->cache);
    service_fini_all(gw);
    access_log_free(gw->log);
    rate_table_free(gw->rates);
    holds_free(gw->holds);
    authz_free(gw->authz);
    tickets_fini(&gw->tickets);
    own_fini(gw);
    listen_offers_drop(gw);
    tls_files_fini(gw);
    free(gw->workers);
    free(gw);
    return is_up ? 0 : 1;
}

enum fb_code gateway_dns(struct gw *gw, struct fb_err *err)
{
    const struct conf_params *p = &gw->setup->conf->p;
    const struct dns_conf conf = {.servers_csv = p->dns_servers[0] ? p->dns_servers : NULL};
    enum fb_code code = dns_new(&conf, &gw->dns, err);
    if (code != FB_OK)
        return code;
    gw->dns_handle = (struct loop_handle){.on_ready = on_dns, .fd = -1};
    if (loop_add(gw->workers[0].loop, &gw->dns_handle, dns_fd(gw->dns), LOOP_READ) != FB_OK)
        return fb_fail(err, FB_E_IO, "dns: no room for one more descriptor");
    return FB_OK;
}

void gateway_tick(struct gw *gw)
{
    struct worker *w = &gw->workers[0];
    struct memfile_head *head = gw->mem->head;
    uint64_t now_us = loop_now_us(w->loop), total = 0;
    uint32_t requests = 0, clients = 0;
    for (struct service *sv = gw->services; sv; sv = sv->next) {
        service_knobs(sv, w);
        if (!gw->is_retired)
            service_report(sv, w, now_us);
        service_sweep(sv);
    }
    if (!gw->is_retired) {
        discover_tick(gw);
        sync_tick(gw, now_us);
    }
    for (uint32_t i = 0; i < gw->thread_count; i++) {
        requests += atomic_load_explicit(&gw->workers[i].shown_requests, memory_order_relaxed);
        clients += atomic_load_explicit(&gw->workers[i].shown_clients, memory_order_relaxed);
        total += atomic_load_explicit(&gw->workers[i].shown_requests_total, memory_order_relaxed);
    }
    cache_tick(gw);
    authz_tick(gw, now_us);
    if (!gw->is_retired) {
        tls_files_tick(gw, now_us);
        atomic_store_explicit(&head->gateway_beat_us, now_us, memory_order_relaxed);
        atomic_store_explicit(&head->connections, clients, memory_order_relaxed);
        atomic_store_explicit(&head->requests, total, memory_order_relaxed);
    }
    own_judge(gw, now_us);
    if (!gw->drain_us)
        return;
    if (requests)
        gw->busy_us = now_us;
    /* A retired one closes no idle connection: a request may be on its way.  They end with their
     * next answer, or by limits.idle_timeout. */
    bool is_quiet = requests == 0 &&
                    (clients == 0 || (!gw->is_retired && now_us - gw->busy_us >= DRAIN_QUIET_US));
    const struct conf_params *p = &w->gen->conf->p;
    uint64_t most_ms = gw->is_retired ? p->gateway_retire_timeout : p->gateway_drain_timeout;
    bool is_late = now_us - gw->drain_us >= most_ms * US_PER_MS;
    if (!is_quiet && !is_late)
        return;
    if (requests && !gw->last_call_us) {
        gw->last_call_us = now_us;
        atomic_store_explicit(&gw->is_last_call, true, memory_order_release);
    }
    if (requests && now_us - gw->last_call_us < LAST_CALL_US)
        return;
    if (gw->setup->control_fd >= 0)
        control_send(gw->setup->control_fd, CONTROL_DRAINED, 0, requests, "");
    stop_all(gw);
}

static bool start_workers(struct gw *gw, const struct gateway_setup *setup, struct fb_err *err)
{
    gw->workers = aligned_alloc(
        FB_CACHE_LINE_BYTES, (sizeof(struct worker) * gw->thread_count + FB_CACHE_LINE_BYTES - 1) &
                                 ~(size_t)(FB_CACHE_LINE_BYTES - 1));
    if (!gw->workers) {
        fb_fail(err, FB_E_NOMEM, "gateway: no memory for %u threads", gw->thread_count);
        return false;
    }
    if (!tickets_init(&gw->tickets, setup->conf->p.tls_ticket_rotation * US_PER_MS, gw->start_us)) {
        fb_fail(err, FB_E_IO, "tls: no randomness from the system");
        return false;
    }
    memset(gw->workers, 0, sizeof(struct worker) * gw->thread_count);
    for (uint32_t i = 0; i < gw->thread_count; i++)
        if (!worker_init(&gw->workers[i], gw, i, err))
            return false;
    return true;
}

static bool start(struct gw *gw, const struct gateway_setup *setup, struct fb_err *err)
{
    gw->setup = setup;
    gw->mem = setup->mem;
    gw->thread_count = setup->mem->head->threads;
    gw->key_seed = setup->seed;
    gw->start_us = fb_mono_us();
    if (!gw->key_seed && getrandom(&gw->key_seed, sizeof gw->key_seed, 0) < 0)
        gw->key_seed = gw->start_us;
    gw->cache = cache_store_new(gw->key_seed);
    if (!gw->cache) {
        fb_fail(err, FB_E_NOMEM, "gateway: no memory for the cache");
        return false;
    }
    if (!start_workers(gw, setup, err))
        return false;
    if (!own_init(gw)) {
        fb_fail(err, FB_E_NOMEM, "gateway: no memory to watch its own use");
        return false;
    }
    const struct conf_params *p = &setup->conf->p;
    if (access_log_new(p->access_log_format, p->access_log_path, p->access_log_query, &gw->log,
                       err) != FB_OK)
        return false;
    /* What a dead gateway left in flight is not in flight any more. */
    for (uint32_t i = 0; i < KNOB_TARGETS_MAX; i++)
        atomic_store_explicit(&gw->mem->gauges[i].in_flight[setup->slot], 0, memory_order_relaxed);
    struct generation *gen = generation_new(gw, setup->conf, err);
    if (!gen)
        return false;
    /* What a gateway before this one had and this one has not: it was taken out in between. */
    numbers_begin(gw->mem, setup->slot, fb_mono_us());
    sources_begin(gw->mem, setup->slot);
    put_in_force(gw, gen);
    for (uint32_t i = 0; i < gw->thread_count; i++) {
        access_buf_init(&gw->workers[i].access, gw->log);
        if (!worker_switch(&gw->workers[i], gen)) {
            fb_fail(err, FB_E_NOMEM, "gateway: no memory for thread %u", i);
            return false;
        }
    }
    for (struct service *sv = gw->services; sv; sv = sv->next)
        service_knobs(sv, &gw->workers[0]);
    gw->control = (struct loop_handle){.on_ready = on_control, .fd = -1};
    if (setup->control_fd >= 0 &&
        loop_add(gw->workers[0].loop, &gw->control, setup->control_fd, LOOP_READ) != FB_OK) {
        fb_fail(err, FB_E_IO, "gateway: the control channel does not work: %s", strerror(errno));
        return false;
    }
    atomic_store_explicit(&gw->mem->head->gateway_is_draining, 0, memory_order_relaxed);
    atomic_fetch_add_explicit(&gw->mem->head->gateway_epoch, 1, memory_order_release);
    return true;
}

static void stop_all(struct gw *gw)
{
    if (atomic_exchange_explicit(&gw->is_stopped, true, memory_order_acq_rel))
        return;
    for (uint32_t i = 0; i < gw->thread_count; i++)
        loop_stop(gw->workers[i].loop);
}

static void on_control(struct loop_handle *h, uint32_t events)
{
    struct gw *gw = FB_CONTAINER(h, struct gw, control);
    static struct control_msg m; /* thread 0 only */
    (void)events;
    for (;;) {
        struct control_fds fds;
        int got = control_receive_fds(gw->setup->control_fd, &m, &fds);
        if (got == 0)
            return;
        if (got < 0) { /* the supervisor died: its successor starts a gateway of its own */
            loop_remove(gw->workers[0].loop, &gw->control);
            gw->is_retired = false;
            begin_drain(gw);
            return;
        }
        switch (m.kind) {
        case CONTROL_RELOAD:
            reload(gw, &m, fds.count ? fds.at[0] : -1);
            listen_offers_drop(gw);
            break;
        case CONTROL_LISTEN:
            listen_offer(gw, m.number, &fds);
            fds.count = 0;
            break;
        case CONTROL_DRAIN:
            gw->is_retired = false; /* asked to hurry: as any other drain */
            begin_drain(gw);
            break;
        case CONTROL_RETIRE:
            retire(gw);
            break;
        case CONTROL_STOP:
            stop_all(gw);
            break;
        case CONTROL_ENDPOINT: /* what is said here stands in the memory file as well */
            for (struct service *sv = gw->services; sv; sv = sv->next)
                service_knobs(sv, &gw->workers[0]);
            break;
        case CONTROL_PURGE:
            gateway_tell(
                gw, m.value >> 1,
                cache_purge(gw, m.number, m.value & 1, (struct span){m.text, m.text_bytes}));
            break;
        case CONTROL_LIST:
            discover_own(gw, m.number, (struct span){m.text, m.text_bytes});
            break;
        case CONTROL_RESET:
            service_reset(gw, m.number);
            break;
        default:
            break; /* of a newer supervisor */
        }
        for (size_t i = 0; i < fds.count; i++)
            close(fds.at[i]);
    }
}

void gateway_tell(struct gw *gw, uint32_t ticket, uint64_t value)
{
    if (ticket)
        control_send(gw->setup->control_fd, CONTROL_TOLD, (uint16_t)ticket, fb_sat_u32(value), "");
}

static void begin_drain(struct gw *gw)
{
    bool has_begun = gw->drain_us != 0;
    gw->drain_us = gw->busy_us = loop_now_us(gw->workers[0].loop);
    if (has_begun)
        return;
    atomic_store_explicit(&gw->mem->head->gateway_is_draining, 1, memory_order_relaxed);
    for (uint32_t i = 0; i < gw->thread_count; i++)
        loop_post(gw->workers[i].loop, &gw->workers[i].stop);
}

static void stop_checks(struct gw *gw)
{
    for (struct service *sv = gw->services; sv; sv = sv->next)
        for (uint32_t i = 0; i < GATE_ENDPOINTS_MAX; i++)
            if (sv->endpoints[i]) {
                probe_stop(sv->endpoints[i]);
                agent_stop(sv->endpoints[i]);
            }
}

/* The gateway after this one serves already, from the same sockets: connections that wait there are
 * its own.  What both would say or write (health, gauges, learned values, names) is its alone. */
static void retire(struct gw *gw)
{
    if (gw->drain_us)
        return;
    gw->is_retired = true;
    stop_checks(gw);
    discover_retire(gw);
    gw->drain_us = gw->busy_us = loop_now_us(gw->workers[0].loop);
    for (uint32_t i = 0; i < gw->thread_count; i++)
        loop_post(gw->workers[i].loop, &gw->workers[i].stop);
}

static void on_dns(struct loop_handle *h, uint32_t events)
{
    struct gw *gw = FB_CONTAINER(h, struct gw, dns_handle);
    (void)events;
    dns_poll(gw->dns, on_dns_change, gw);
}

static void on_dns_change(void *arg, const struct dns_change *change)
{
    struct gw *gw = arg;
    if (!gw->is_retired) /* names in the memory file have one writer */
        discover_dns(gw, change);
}

static void reload(struct gw *gw, const struct control_msg *m, int fd)
{
    struct buf why;
    struct fb_err err = {0};
    char file[256];
    size_t n = m->text_bytes < sizeof file - 1 ? m->text_bytes : sizeof file - 1;
    memcpy(file, m->text, n);
    file[n] = '\0';
    buf_init(&why, CONTROL_TEXT_BYTES);
    struct generation *gen = NULL;
    struct conf *conf = NULL;
    if (gw->gen->number != 1 &&
        atomic_load_explicit(&gw->gen->switched, memory_order_acquire) < gw->thread_count)
        buf_puts(&why, "the reload before this one is not in force yet; try again");
    else
        conf = read_conf(fd, file, &why);
    if (conf) {
        gen = generation_new(gw, conf, &err);
        if (!gen)
            buf_puts(&why, err.text);
    }
    if (!gen) {
        control_send(gw->setup->control_fd, CONTROL_REFUSED, 0, 0, buf_str(&why));
        conf_unref(conf);
        buf_fini(&why);
        return;
    }
    conf_reload_needs_restart(gw->gen->conf, conf, &why);
    struct worker *w0 = &gw->workers[0];
    (void)w0;
    if (access_log_reopen(gw->log, conf->p.access_log_format, conf->p.access_log_path,
                          conf->p.access_log_query, &err) != FB_OK)
        fb_log(FB_LOG_WARN, "%s", err.text);
    size_t len = why.len < sizeof gw->reload_text - 1 ? why.len : sizeof gw->reload_text - 1;
    memcpy(gw->reload_text, why.at ? why.at : "", len);
    gw->reload_text[len] = '\0';
    put_in_force(gw, gen);
    for (uint32_t i = 0; i < gw->thread_count; i++) {
        struct generation_use *use = &gen->use[i];
        use->generation = gen;
        use->worker = &gw->workers[i];
        use->message = (struct loop_message){.on_message = on_switch};
        loop_post(gw->workers[i].loop, &use->message);
    }
    conf_unref(conf);
    buf_fini(&why);
}

/* The text behind <fd>, parsed; NULL with every problem in <why>. */
static struct conf *read_conf(int fd, const char *file, struct buf *why)
{
    struct stat st;
    struct conf *conf = NULL;
    if (fd < 0 || fstat(fd, &st) < 0 || st.st_size > (off_t)(16 * MIB)) {
        buf_puts(why, "no configuration came with the request");
        return NULL;
    }
    size_t bytes = (size_t)st.st_size, got = 0;
    char *text = malloc(bytes + 1);
    while (text && got < bytes) {
        ssize_t n = pread(fd, text + got, bytes - got, (off_t)got);
        if (n <= 0)
            break;
        got += (size_t)n;
    }
    if (!text || got < bytes) {
        buf_puts(why, "the configuration could not be read");
        free(text);
        return NULL;
    }
    struct conf_report report = {0};
    struct span all = {text, bytes};
    if (conf_parse(all, file, &conf, &report) != FB_OK) {
        conf = NULL;
        struct buf whole;
        buf_init(&whole, MIB);
        conf_report_print(&report, file, all, &whole);
        size_t most = CONTROL_TEXT_BYTES - 1 - why->len;
        buf_put(why, whole.at, whole.len < most ? whole.len : most);
        buf_fini(&whole);
    }
    conf_report_fini(&report);
    free(text);
    return conf;
}

/* Who looks is to see what is configured: names and their numbers stay. */
static void mark_names(struct gw *gw, const struct generation *gen)
{
    uint16_t numbers[KNOB_TARGETS_MAX];
    size_t count = fb_min_u64(gen->conf->service_count, KNOB_TARGETS_MAX);
    for (size_t i = 0; i < count; i++)
        numbers[i] = gen->services[i]->number;
    memfile_configured(gw->mem, EV_KIND_SERVICE, numbers, count);
    memfile_configured(gw->mem, EV_KIND_ROUTE, gen->route_numbers, gen->conf->route_count);
}

/* Services, endpoints and names follow the new configuration; workers switch by themselves. */
static void put_in_force(struct gw *gw, struct generation *gen)
{
    if (gw->gen)
        tls_files_good(gw); /* a reload takes nothing else */
    gw->gen = gen;
    for (size_t i = 0; i < gen->conf->service_count; i++) {
        service_sync(gen->services[i], gen);
        service_ask(gen->services[i]);
    }
    service_retire(gw, gen->number);
    mark_names(gw, gen);
    cache_configure(gw);
    atomic_store_explicit(&gw->mem->head->config_hash, gen->conf->hash, memory_order_release);
}

static void on_switch(struct loop_message *m)
{
    struct generation_use *use = FB_CONTAINER(m, struct generation_use, message);
    struct generation *gen = use->generation;
    struct gw *gw = use->worker->gw;
    if (!worker_switch(use->worker, gen)) {
        fb_log(FB_LOG_ERROR, "no memory for the limits of the new configuration on thread %u",
               use->worker->index);
        abort(); /* two configurations at once would be worse than a restart, which takes 200 ms */
    }
    if (atomic_fetch_add_explicit(&gen->switched, 1, memory_order_acq_rel) + 1 == gw->thread_count)
        control_send(gw->setup->control_fd, CONTROL_RELOADED, 0, gen->number, gw->reload_text);
}

static void raise_descriptors(void)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur < r.rlim_max) {
        r.rlim_cur = r.rlim_max;
        setrlimit(RLIMIT_NOFILE, &r);
    }
}

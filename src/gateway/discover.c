/* SPDX-License-Identifier: Apache-2.0 */
/* discover: where endpoints come from that the configuration does not name by address.
 *
 *   configuration --> name (A, AAAA)                      --> addresses
 *                 --> SRV name --> one name per record    --> addresses, with weight, port and tier
 *                 --> list file --> addresses, names, SRV names
 *   admin API     --> own list, a file in the state folder that the brain writes --> the same
 *
 * Each arrow is a watch with its parent.  A source that fails or reads badly keeps what it gave
 * last and says why.  A name that is not wanted any more goes when its successors have had an
 * answer: between two sets there is never none.
 *
 * Threads: thread 0. */
#include "gateway/discover.h"

#include "base/assert.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#define LIST_BYTES_MAX (1 * MIB)
/* Besides inotify, which not every file system has: a list is looked at this often. */
#define LIST_POLL_US (1 * US_PER_S)

/* What tells one state of a file from another. */
struct stamp {
    uint64_t inode, bytes, device;
    struct timespec changed;
};

struct watch {
    struct watch *next;
    struct service *sv;
    struct watch *parent; /* NULL: the configuration */
    enum conf_endpoint_kind kind;
    char host[CONF_OWN_PATH_BYTES]; /* name or path */
    uint16_t port;
    bool is_own;     /* the list of what the API added: no file means none */
    bool is_named;   /* its parent wants it */
    bool is_settled; /* it had an answer, or a failure */
    bool is_unread;  /* a list that could not be read last, whatever it says */
    struct wish wish;
    uint32_t id;     /* of dns_watch */
    uint16_t row;    /* of knob/sources.h, where it says what it has; EV_NONE: it does not */
    uint16_t ticket; /* who waits for its first answer; 0: nobody */
    char why[120];   /* its last look-up failed: how */
    uint32_t count;
    struct sock_addr at[DNS_ADDRESSES_MAX];
    /* lists */
    struct stamp read, seen; /* what was read; what the poll saw last */
    struct conf *list;
    int inotify;
};

static struct watch *want_source(struct watch *parent, struct service *sv,
                                 const struct conf_endpoint *e);
static void want_own(struct service *sv);
static bool open_source(struct watch *x);
static void close_source(struct watch *x);
static void prune(struct service *sv);
static void changed(struct service *sv);
static void drop_children(struct watch *parent);
static bool is_top_name(const struct watch *x);
static void say_names(struct service *sv);
static void take_row(struct watch *x);
static void take_rows(struct gw *gw);
static void on_srv(struct watch *x, const struct dns_change *change);
static void on_inotify(struct loop_handle *h, uint32_t events);
static void list_watch(struct watch *x);
static void look_at_lists(struct gw *gw, bool is_told);
static bool list_look(struct watch *x, bool is_told);
static void list_read(struct watch *x);
static struct watch *own_name(const struct service *sv, struct span text);
static bool is_known(const struct watch *x);

void wish_of(const struct conf_endpoint *e, const struct wish *from, struct wish *wish)
{
    *wish = (struct wish){.weight_pct = e->weight_pct, .is_dns = e->kind != CONF_ENDPOINT_ADDRESS};
    memcpy(wish->version, e->version, sizeof wish->version);
    memcpy(wish->zone, e->zone, sizeof wish->zone);
    if (conf_endpoint_is_unix(e)) /* what its certificate is for, where the service names nothing */
        snprintf(wish->host, sizeof wish->host, "localhost");
    else
        memcpy(wish->host, e->host, sizeof wish->host);
    wish->in_flight_max = e->in_flight_max;
    wish->tier = e->is_backup;
    wish->origin = e->kind == CONF_ENDPOINT_ADDRESS ? MEMFILE_ORIGIN_CONFIG
                   : e->kind == CONF_ENDPOINT_FILE  ? MEMFILE_ORIGIN_FILE
                                                    : MEMFILE_ORIGIN_DNS;
    if (!from)
        return;
    wish->source = from->source;
    wish->origin = from->origin; /* what the configuration names, not what that names */
    wish->weight_pct *= from->weight_pct / 100;
    if (!wish->version[0])
        memcpy(wish->version, from->version, sizeof wish->version);
    if (!wish->zone[0])
        memcpy(wish->zone, from->zone, sizeof wish->zone);
    if (!wish->in_flight_max)
        wish->in_flight_max = from->in_flight_max;
    wish->tier = (uint8_t)(wish->tier + from->tier);
}

void discover_sync(struct service *sv)
{
    for (struct watch *x = sv->gw->watches; x; x = x->next)
        if (x->sv == sv && !x->parent)
            x->is_named = false;
    for (size_t i = 0; sv->conf && i < sv->conf->endpoint_count; i++) {
        const struct conf_endpoint *e = &sv->conf->endpoints[i];
        if (e->kind == CONF_ENDPOINT_ADDRESS)
            continue;
        struct watch *x = want_source(NULL, sv, e);
        if (x && x->kind == CONF_ENDPOINT_FILE)
            list_read(x); /* a reload reads lists anew */
    }
    if (sv->conf && sv->gw->setup->state_dir && sv->gw->setup->state_dir[0])
        want_own(sv);
    prune(sv);
    say_names(sv);
}

bool discover_walk(struct service *sv)
{
    bool is_pending = false;
    for (struct watch *x = sv->gw->watches; x; x = x->next) {
        if (x->sv != sv)
            continue;
        is_pending |= !x->is_settled;
        for (uint32_t i = 0; i < x->count; i++)
            service_want(sv, &x->at[i], &x->wish);
        for (size_t i = 0; x->list && i < x->list->services[0].endpoint_count; i++) {
            const struct conf_endpoint *e = &x->list->services[0].endpoints[i];
            struct sock_addr addr;
            struct wish wish;
            wish_of(e, &x->wish, &wish);
            if (service_address(sv, e, &addr))
                service_want(sv, &addr, &wish);
        }
    }
    return is_pending;
}

void discover_dns(struct gw *gw, const struct dns_change *change)
{
    struct watch *x = gw->watches;
    while (x && x->id != change->watch)
        x = x->next;
    if (!x)
        return;
    x->is_settled = true;
    snprintf(x->why, sizeof x->why, "%s", change->is_failed ? change->why_failed : "");
    atomic_store_explicit(&x->sv->has_dns_failed, change->is_failed, memory_order_relaxed);
    if (change->is_failed) {
        fb_log(FB_LOG_WARN, "service %s: name %s: %s; %s", x->sv->name, x->host, change->why_failed,
               x->count || x->kind == CONF_ENDPOINT_SRV ? "its last addresses stay in use"
                                                        : "it has no address until it resolves");
    } else if (x->kind == CONF_ENDPOINT_SRV) {
        on_srv(x, change);
    } else {
        x->count = 0;
        for (uint32_t i = 0; i < change->now_count && i < DNS_ADDRESSES_MAX; i++) {
            struct sock_addr *a = &x->at[x->count++];
            *a = (struct sock_addr){.bytes = dns_address_bytes(&change->now[i])};
            memcpy(&a->any, &change->now[i], a->bytes);
        }
    }
    changed(x->sv);
}

void discover_tick(struct gw *gw)
{
    uint64_t now_us = loop_now_us(gw->workers[0].loop);
    if (fb_sub_floor_u64(now_us, gw->lists_us) < LIST_POLL_US)
        return;
    gw->lists_us = now_us;
    take_rows(gw);
    look_at_lists(gw, false);
}

/* Its successor may need the rows: after an upgrade it has each name that this one has. */
void discover_retire(struct gw *gw)
{
    for (struct watch *x = gw->watches; x; x = x->next)
        x->row = EV_NONE;
    sources_begin(gw->mem, gw->setup->slot);
}

void discover_fini(struct gw *gw)
{
    while (gw->watches) {
        struct watch *x = gw->watches;
        gw->watches = x->next;
        conf_unref(x->list);
        free(x);
    }
    if (gw->inotify_handle.on_ready)
        close(gw->inotify_handle.fd);
}

static bool is_address(struct span text, struct sock_addr *out)
{
    struct fb_err err;
    return span_starts(text, SPAN("unix:")) ? sock_parse_endpoint(text, 0, out)
                                            : sock_parse(text, out, &err) == FB_OK;
}

void discover_own(struct gw *gw, uint16_t ticket, struct span what)
{
    struct span address, name = span_cut(what, '\n', &address);
    struct sock_addr addr;
    struct service *sv = gw->services;
    while (sv && !span_eq(name, span_of(sv->name)))
        sv = sv->next;
    for (struct watch *x = gw->watches; sv && x; x = x->next)
        if (x->sv == sv && x->is_own) {
            list_read(x);
            changed(sv);
            break;
        }
    struct watch *follows = sv ? own_name(sv, address) : NULL;
    if (follows && !is_known(follows)) {
        gateway_tell(gw, follows->ticket, 1); /* two asked for the same: the later one waits */
        follows->ticket = ticket;
        return;
    }
    gateway_tell(gw, ticket,
                 follows || (sv && is_address(address, &addr) && service_has(sv, &addr)));
}

/* ---- the tree of sources ---- */

/* The one that there is, or a new one; NULL: it cannot be, which is said. */
static struct watch *want_source(struct watch *parent, struct service *sv,
                                 const struct conf_endpoint *e)
{
    struct gw *gw = sv->gw;
    struct watch *x = gw->watches;
    while (x && !(x->sv == sv && x->parent == parent && x->kind == e->kind && x->port == e->port &&
                  strcmp(x->host, e->host) == 0))
        x = x->next;
    bool is_new = x == NULL;
    if (is_new) {
        x = calloc(1, sizeof *x);
        if (!x) {
            fb_log(FB_LOG_ERROR, "service %s: no memory to look at %s", sv->name, e->host);
            return NULL;
        }
        x->sv = sv;
        x->parent = parent;
        x->kind = e->kind;
        x->port = e->port;
        x->inotify = -1;
        x->row = EV_NONE;
        snprintf(x->host, sizeof x->host, "%s", e->host);
        if (!open_source(x)) {
            free(x);
            return NULL;
        }
        x->next = gw->watches;
        gw->watches = x;
        take_row(x);
    }
    wish_of(e, parent ? &parent->wish : NULL, &x->wish);
    if (x->row != EV_NONE)
        x->wish.source = (uint16_t)(x->row + 1);
    x->is_named = true;
    return x;
}

static void want_own(struct service *sv)
{
    struct gw *gw = sv->gw;
    struct watch *x = gw->watches;
    while (x && !(x->sv == sv && x->is_own))
        x = x->next;
    if (!x) {
        x = calloc(1, sizeof *x);
        if (!x) {
            fb_log(FB_LOG_ERROR, "service %s: no memory for the endpoints of the admin API",
                   sv->name);
            return;
        }
        *x = (struct watch){.sv = sv,
                            .kind = CONF_ENDPOINT_FILE,
                            .is_own = true,
                            .is_settled = true,
                            .inotify = -1,
                            .row = EV_NONE,
                            .wish = {.weight_pct = 100, .origin = MEMFILE_ORIGIN_API},
                            .next = gw->watches};
        conf_own_path(gw->setup->state_dir, sv->name, x->host);
        gw->watches = x;
        list_watch(x);
    }
    x->is_named = true;
    list_read(x);
}

static bool open_source(struct watch *x)
{
    struct gw *gw = x->sv->gw;
    struct fb_err err;
    if (x->kind == CONF_ENDPOINT_FILE) {
        x->is_settled = true;
        list_watch(x);
        return true;
    }
    if (!gw->dns && gateway_dns(gw, &err) != FB_OK) {
        fb_log(FB_LOG_ERROR, "service %s: name %s is not looked up: %s", x->sv->name, x->host,
               err.text);
        return false;
    }
    x->id = x->kind == CONF_ENDPOINT_SRV ? dns_watch_srv(gw->dns, x->host)
                                         : dns_watch(gw->dns, x->host, x->port);
    return x->id != 0;
}

static void close_source(struct watch *x)
{
    struct gw *gw = x->sv->gw;
    if (x->kind != CONF_ENDPOINT_FILE)
        dns_unwatch(gw->dns, x->id);
    if (x->row != EV_NONE)
        sources_drop(gw->mem, x->row);
    /* Whoever waits for x->ticket is told nothing: 0 means that there is no room, which takes the
     * name out of the list, though it may be there anew by now, or its service may come back. */
    if (x->inotify >= 0) {
        bool is_shared = false; /* one folder is one watch of the kernel */
        for (struct watch *y = gw->watches; y; y = y->next)
            is_shared |= y != x && y->inotify == x->inotify;
        if (!is_shared)
            inotify_rm_watch(gw->inotify_handle.fd, x->inotify);
    }
    conf_unref(x->list);
    free(x);
}

/* Its successors had no answer yet: it stays until then. */
static bool is_awaited(const struct watch *x)
{
    for (const struct watch *y = x->sv->gw->watches; y && x->sv->conf; y = y->next)
        if (y->sv == x->sv && y->parent == x->parent && y->is_named && !y->is_settled)
            return true;
    return false;
}

/* Frees what nobody wants, children before parents. */
static void prune(struct service *sv)
{
    struct gw *gw = sv->gw;
    for (bool is_changed = true; is_changed;) {
        is_changed = false;
        for (struct watch *x = gw->watches; x; x = x->next) {
            bool is_over = x->parent && !x->parent->is_named && !is_awaited(x->parent);
            if (x->sv == sv && x->is_named && is_over) {
                x->is_named = false;
                is_changed = true;
            }
        }
    }
    for (bool is_changed = true; is_changed;) {
        is_changed = false;
        for (struct watch **at = &gw->watches; *at;) {
            struct watch *x = *at;
            bool has_child = false;
            for (struct watch *y = gw->watches; y; y = y->next)
                has_child |= y->parent == x;
            if (x->sv != sv || x->is_named || has_child || is_awaited(x)) {
                at = &x->next;
                continue;
            }
            *at = x->next;
            close_source(x);
            is_changed = true;
        }
    }
}

/* Until its parent names them anew. */
static void drop_children(struct watch *parent)
{
    for (struct watch *x = parent->sv->gw->watches; x; x = x->next)
        if (x->parent == parent)
            x->is_named = false;
}

static void changed(struct service *sv)
{
    prune(sv);
    service_resync(sv);
    service_ask(sv);
    say_names(sv);
}

/* ---- what is said of names ---- */

/* One that the configuration, a list or the API names, not an SRV record. */
static bool is_top_name(const struct watch *x)
{
    return x->kind != CONF_ENDPOINT_FILE && (!x->parent || x->parent->kind == CONF_ENDPOINT_FILE);
}

/* With what its SRV records name. */
static void sum_up(const struct watch *x, struct source *s)
{
    bool is_settled = x->is_settled;
    s->addresses = x->count;
    snprintf(s->why, sizeof s->why, "%s", x->why);
    for (const struct watch *y = x->sv->gw->watches; y; y = y->next) {
        if (y->parent != x || !y->is_named)
            continue;
        s->addresses += y->count;
        is_settled &= y->is_settled;
        if (y->why[0] && !s->why[0])
            snprintf(s->why, sizeof s->why, "%.60s: %.56s", y->host, y->why);
    }
    s->state = s->addresses ? (s->why[0] ? SOURCE_KEPT : SOURCE_KNOWN)
               : is_settled ? SOURCE_NONE
                            : SOURCE_ASKED;
}

static void take_row(struct watch *x)
{
    struct gw *gw = x->sv->gw;
    if (is_top_name(x) && !gw->drain_us)
        x->row = sources_take(gw->mem, gw->setup->slot);
}

/* Rows that others gave back (names that left, the gateway of before an upgrade) are for names that
 * found none. */
static void take_rows(struct gw *gw)
{
    uint32_t lack = 0;
    if (gw->drain_us ||
        atomic_load_explicit(&gw->mem->head->gateway_slot, memory_order_acquire) != gw->setup->slot)
        return;
    for (struct watch *x = gw->watches; x; x = x->next) {
        if (x->row != EV_NONE || !is_top_name(x))
            continue;
        if (!lack)
            take_row(x);
        lack += x->row == EV_NONE;
        if (x->row == EV_NONE)
            continue;
        x->wish.source = (uint16_t)(x->row + 1);
        for (struct watch *y = gw->watches; y; y = y->next)
            if (y->parent == x)
                y->wish.source = x->wish.source;
        x->sv->is_list_new = true;
    }
    sources_say_lack(gw->mem, lack);
    gw->lack_ticks = lack ? gw->lack_ticks + 1 : 0;
    if (gw->lack_ticks == 2) /* in the first the gateway before this one may still have its own */
        fb_log(
            FB_LOG_WARN,
            "names: of more than %d, how each is cannot be told: %u are followed all the same, and "
            "are \"unknown\" in `foldback endpoint list`",
            MEMFILE_SOURCES, lack);
}

static bool is_known(const struct watch *x)
{
    struct source s = {0};
    sum_up(x, &s);
    return s.state != SOURCE_ASKED;
}

static struct watch *own_name(const struct service *sv, struct span text)
{
    char name[SOURCE_TEXT_BYTES];
    for (struct watch *x = sv->gw->watches; x; x = x->next) {
        struct source s = {.port = x->port};
        if (x->sv != sv || !x->is_named || !x->parent || !x->parent->is_own || !is_top_name(x))
            continue;
        snprintf(s.host, sizeof s.host, "%.255s", x->host);
        sources_text(&s, name);
        if (span_eq(text, span_of(name)))
            return x;
    }
    return NULL;
}

static void say_names(struct service *sv)
{
    struct gw *gw = sv->gw;
    for (struct watch *x = gw->watches; x; x = x->next) {
        if (x->sv != sv || !is_top_name(x))
            continue;
        struct source s;
        memset(&s, 0, sizeof s); /* rows are compared byte for byte */
        s.service = sv->number;
        s.port = x->port;
        s.origin = x->wish.origin;
        s.weight_pct = x->wish.weight_pct;
        snprintf(s.host, sizeof s.host, "%.255s", x->host);
        sum_up(x, &s);
        if (x->row != EV_NONE)
            sources_say(gw->mem, x->row, &s);
        if (x->ticket && s.state != SOURCE_ASKED) {
            if (x->is_named) /* as in close_source */
                gateway_tell(gw, x->ticket, 1);
            x->ticket = 0;
        }
    }
}

/* ---- SRV records ----
 *
 * Weights of one priority say shares of it (RFC 2782): here relative to their mean, which is 100 %.
 * A priority is a tier: the next one is used when none of the first is healthy.  Weight 0 beside
 * others means "hardly ever"; when all are 0 they are even. */

static void on_srv(struct watch *x, const struct dns_change *change)
{
    drop_children(x);
    uint32_t tier = 0;
    for (uint32_t i = 0; i < change->srv_count; i++) {
        const struct srv *s = &change->srv[i];
        double sum = 0, count = 0;
        if (i > 0 && s->priority != change->srv[i - 1].priority)
            tier++;
        for (uint32_t k = 0; k < change->srv_count; k++)
            if (change->srv[k].priority == s->priority) {
                sum += change->srv[k].weight;
                count++;
            }
        struct conf_endpoint e = {.kind = CONF_ENDPOINT_DNS, .port = s->port, .weight_pct = 100};
        memcpy(e.host, s->host, sizeof e.host);
        if (sum > 0)
            e.weight_pct = fb_clamp(100 * s->weight * count / sum, 1, 1000);
        struct watch *y = want_source(x, x->sv, &e);
        if (y)
            y->wish.tier = (uint8_t)fb_min_u32(x->wish.tier + tier, UINT8_MAX - 1);
    }
}

/* ---- lists in files ---- */

static void list_watch(struct watch *x)
{
    struct gw *gw = x->sv->gw;
    char folder[CONF_OWN_PATH_BYTES];
    if (!gw->inotify_handle.on_ready) {
        int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
        gw->inotify_handle = (struct loop_handle){.on_ready = on_inotify, .fd = -1};
        if (fd < 0 || loop_add(gw->workers[0].loop, &gw->inotify_handle, fd, LOOP_READ) != FB_OK) {
            if (fd >= 0)
                close(fd);
            gw->inotify_handle.on_ready = NULL; /* the poll is there */
            return;
        }
    }
    /* The folder, not the file: a new file that is renamed over the old one is another file. */
    snprintf(folder, sizeof folder, "%s", x->host);
    char *slash = strrchr(folder, '/');
    if (slash)
        slash[slash == folder] = '\0';
    x->inotify = inotify_add_watch(gw->inotify_handle.fd, slash ? folder : ".",
                                   IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE | IN_ONLYDIR);
}

static void on_inotify(struct loop_handle *h, uint32_t events)
{
    struct gw *gw = FB_CONTAINER(h, struct gw, inotify_handle);
    _Alignas(struct inotify_event) char text[4096];
    uint32_t kinds = 0;
    ssize_t n;
    (void)events;
    while ((n = read(h->fd, text, sizeof text)) > 0)
        for (ssize_t at = 0; at < n;) {
            const struct inotify_event *ev = (const void *)(text + at);
            kinds |= ev->mask;
            at += (ssize_t)(sizeof *ev + ev->len);
        }
    /* Created alone is still being written, but for links: those show a file that is whole. */
    bool is_told = (kinds & (IN_CLOSE_WRITE | IN_MOVED_TO | IN_Q_OVERFLOW)) != 0;
    if (!gw->is_retired)
        look_at_lists(gw, is_told);
}

static void look_at_lists(struct gw *gw, bool is_told)
{
    for (struct watch *x = gw->watches; x; x = x->next)
        if (x->kind == CONF_ENDPOINT_FILE)
            x->sv->is_list_new |= list_look(x, is_told);
    /* What follows may free watches. */
    for (struct service *sv = gw->services; sv; sv = sv->next)
        if (sv->is_list_new) {
            sv->is_list_new = false;
            changed(sv);
        }
}

static bool same_stamp(const struct stamp *a, const struct stamp *b)
{
    return a->inode == b->inode && a->bytes == b->bytes && a->device == b->device &&
           a->changed.tv_sec == b->changed.tv_sec && a->changed.tv_nsec == b->changed.tv_nsec;
}

static struct stamp stamp_of(const char *path)
{
    struct stat st;
    if (stat(path, &st) < 0)
        return (struct stamp){0};
    return (struct stamp){.inode = st.st_ino,
                          .bytes = (uint64_t)st.st_size,
                          .device = st.st_dev,
                          .changed = st.st_mtim};
}

/* Without word from inotify a change must stand for two looks: half a file may be a good list too.
 */
static bool list_look(struct watch *x, bool is_told)
{
    struct stamp now = stamp_of(x->host);
    bool is_still = same_stamp(&now, &x->seen);
    x->seen = now;
    if ((same_stamp(&now, &x->read) && !x->is_unread) || !(is_told || is_still))
        return false;
    list_read(x);
    return !x->is_unread;
}

static void list_say(struct watch *x, uint16_t reason)
{
    struct worker *w = &x->sv->gw->workers[0];
    struct ev_health ev = EV_INIT(HEALTH, health, loop_now_us(w->loop));
    ev.head.origin = (uint8_t)w->index;
    ev.service = x->sv->number;
    ev.endpoint = EV_NONE;
    ev.reason = reason;
    ring_put(w->ring, &ev.head);
}

static struct conf *list_parse(struct watch *x, char *text, char why[400])
{
    struct conf_report report = {0};
    struct conf *list = NULL;
    int fd = open(x->host, O_RDONLY | O_CLOEXEC);
    ssize_t got = -1, n = 0;
    if (fd >= 0)
        for (got = 0; (n = read(fd, text + got, LIST_BYTES_MAX + 1 - (size_t)got)) > 0; got += n)
            ;
    x->is_unread = fd < 0 || n < 0;
    if (x->is_unread) {
        snprintf(why, 400, "%s", strerror(errno));
    } else if (conf_parse_endpoints((struct span){text, (size_t)got}, x->host, &list, &report) !=
               FB_OK) {
        list = NULL;
        const struct conf_problem *p = report.count ? &report.at[0] : NULL;
        for (size_t i = 0; i < report.count && p->is_warning; i++)
            p = &report.at[i];
        snprintf(why, 400, "line %u: %.360s", p ? p->line : 0, p ? p->text : "no memory");
    }
    conf_report_fini(&report);
    if (fd >= 0)
        close(fd);
    return list;
}

static void list_read(struct watch *x)
{
    char why[400] = "no memory";
    char *text = malloc(LIST_BYTES_MAX + 1);
    x->read = x->seen = stamp_of(x->host);
    if (x->is_own && !x->read.inode) {
        x->is_unread = false;
        conf_unref(x->list);
        x->list = NULL;
        drop_children(x); /* names in it go as its addresses do */
        free(text);
        return;
    }
    bool was_unread = x->is_unread;
    x->is_unread = true;
    struct conf *list = text ? list_parse(x, text, why) : NULL;
    free(text);
    if (!list && was_unread && x->is_unread)
        return; /* that is said: no descriptor is free, or it is gone */
    if (!list) {
        fb_log(FB_LOG_WARN, "service %s: list %s: %s; %s", x->sv->name, x->host, why,
               x->list ? "the endpoints read last stay in use"
                       : "it has no endpoints from there until it can be read");
        list_say(x, REASON_HEALTH_LIST_BAD);
        return;
    }
    const struct conf_service *all = &list->services[0];
    bool is_same = x->list && x->list->hash == list->hash;
    conf_unref(x->list);
    x->list = list;
    drop_children(x);
    for (size_t i = 0; i < all->endpoint_count; i++)
        if (all->endpoints[i].kind != CONF_ENDPOINT_ADDRESS)
            (void)want_source(x, x->sv, &all->endpoints[i]);
    if (is_same)
        return;
    fb_log(FB_LOG_INFO, "service %s: list %s has %zu endpoints", x->sv->name, x->host,
           all->endpoint_count);
    list_say(x, REASON_HEALTH_LIST_READ);
}

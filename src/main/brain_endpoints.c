/* SPDX-License-Identifier: Apache-2.0 */
/* brain_endpoints: endpoints that operators add to services through the admin API.
 *
 *   API --order--> list of the service, a file in the state folder --LIST--> gateway, which reads
 * it
 *    ^------------------------------- TOLD (is the address in?) <------------------'
 *
 * The file is the truth: the gateway reads it at its start, at a reload and in an upgrade without
 * asking anybody (gateway/discover.c), and it is read again before each change.  What does not fit
 * into the service any more is taken out again.
 *
 * Threads: the brain's loop. */
#include "base/clock.h"
#include "base/log.h"
#include "io/socket.h"
#include "knob/sources.h"
#include "main/brain_int.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_BYTES_MAX (1 * MIB)
#define ASKED_MAX ADMIN_CONNS_MAX

struct own {
    struct admin_endpoint of;
    bool is_backup;
    uint32_t in_flight_max;
};
struct brain_endpoints {
    uint32_t count;
    struct own at[KNOB_TARGETS_MAX];
    uint16_t ticket;     /* the last one; purges have theirs from here too */
    struct asked {       /* what the gateway has not answered yet */
        uint16_t ticket; /* 0: it has */
        bool is_added;
        struct admin_endpoint of;
    } asked[ASKED_MAX];
};

static const struct conf_service *service_of(const struct brain *b, const char *name);
static bool read_endpoint(const struct conf_endpoint *e, struct admin_endpoint *out);
static enum fb_code read_order(const struct conf_service *sv, struct admin_endpoint *e,
                               struct fb_err *err);
static struct own *find(struct brain_endpoints *x, const char *service, const char *address);
static bool is_there(const struct brain *b, const struct admin_endpoint *e);
static enum fb_code load(struct brain *b, const char *service, struct fb_err *err);
static enum fb_code save(struct brain *b, const char *service, struct fb_err *err);
static void take_out(struct brain_endpoints *x, struct own *o);
static enum fb_code add(struct brain *b, struct admin_endpoint_order *o, struct fb_err *err);
static enum fb_code drop(struct brain *b, const struct admin_endpoint_order *o, struct fb_err *err);
static uint16_t number_of(const struct brain *b, const struct admin_endpoint *e);
static bool replace_asked(struct brain_endpoints *x, const struct admin_endpoint *e);
static void undrain(struct brain *b, const struct admin_endpoint *e);
static void say_source(const struct brain *b, const struct admin_endpoint *e,
                       char text[SOURCE_TEXT_BYTES]);

void brain_endpoints_start(struct brain *b)
{
    char path[CONF_OWN_PATH_BYTES];
    struct fb_err err;
    b->endpoints = calloc(1, sizeof *b->endpoints);
    snprintf(path, sizeof path, "%s/" CONF_OWN_FOLDER, b->setup->state_dir);
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        fb_log(FB_LOG_WARN, "cannot make %s: %s; endpoints cannot be added through the API", path,
               strerror(errno));
    DIR *folder = opendir(path);
    if (!b->endpoints || !folder) {
        if (folder)
            closedir(folder);
        return;
    }
    for (const struct dirent *d; (d = readdir(folder)) != NULL;) {
        char name[ADMIN_SERVICE_BYTES];
        size_t len = strlen(d->d_name);
        if (len <= 5 || len - 5 >= sizeof name || strcmp(d->d_name + len - 5, ".yaml") != 0)
            continue;
        memcpy(name, d->d_name, len - 5);
        name[len - 5] = '\0';
        if (load(b, name, &err) != FB_OK)
            fb_log(FB_LOG_WARN, "%s", err.text);
    }
    closedir(folder);
}

void brain_endpoints_stop(struct brain *b)
{
    free(b->endpoints);
    b->endpoints = NULL;
}

uint16_t brain_ticket(struct brain *b)
{
    if (!b->endpoints)
        return 0;
    if (++b->endpoints->ticket == 0)
        b->endpoints->ticket = 1;
    struct asked *old = &b->endpoints->asked[b->endpoints->ticket % ASKED_MAX];
    if (old->ticket == b->endpoints->ticket) /* nobody answered it, 65,535 tickets ago */
        old->ticket = 0;
    return b->endpoints->ticket;
}

const struct admin_endpoint *brain_on_endpoint_at(void *ctx, uint32_t index)
{
    const struct brain *b = ctx;
    return b->endpoints && index < b->endpoints->count ? &b->endpoints->at[index].of : NULL;
}

static void tell_gateway(struct brain *b, uint16_t ticket, const struct admin_endpoint *e)
{
    char text[ADMIN_SERVICE_BYTES + ADMIN_ADDRESS_BYTES + 2];
    snprintf(text, sizeof text, "%s\n%s", e->service, e->address);
    control_send(b->setup->control_fd, CONTROL_LIST, ticket, 0, text);
}

enum fb_code brain_on_endpoint_order(void *ctx, struct admin_endpoint_order *o, struct fb_err *err)
{
    struct brain *b = ctx;
    if (!b->endpoints)
        return fb_fail(err, FB_E_NOMEM, "there is no memory for endpoints of the API");
    const struct conf_service *sv = service_of(b, o->of.service);
    if (!sv)
        return fb_fail(err, FB_E_NOT_FOUND,
                       "there is no service \"%s\"; `foldback status` lists the services",
                       o->of.service);
    enum fb_code code = read_order(sv, &o->of, err);
    if (code == FB_OK)
        code = load(b, o->of.service, err);
    if (code == FB_OK)
        code = o->verb == ADMIN_ENDPOINT_REMOVE ? drop(b, o, err) : add(b, o, err);
    if (code != FB_OK)
        return code;
    o->ticket = brain_ticket(b);
    bool was_added = replace_asked(b->endpoints, &o->of);
    bool is_added = o->verb == ADMIN_ENDPOINT_ADD;
    b->endpoints->asked[o->ticket % ASKED_MAX] =
        (struct asked){.ticket = (uint16_t)o->ticket,
                       .is_added = is_added || (was_added && o->verb == ADMIN_ENDPOINT_CHANGE),
                       .of = o->of};
    if (is_added)
        undrain(b, &o->of);
    tell_gateway(b, (uint16_t)o->ticket, &o->of);
    return FB_OK;
}

/* What the gateway has no room for is not kept either. */
void brain_endpoints_told(struct brain *b, uint16_t ticket, uint32_t value)
{
    struct fb_err err;
    struct asked *asked = b->endpoints ? &b->endpoints->asked[ticket % ASKED_MAX] : NULL;
    if (!ticket || !asked || asked->ticket != ticket)
        return;
    asked->ticket = 0;
    if (value || !asked->is_added || load(b, asked->of.service, &err) != FB_OK)
        return;
    struct own *o = find(b->endpoints, asked->of.service, asked->of.address);
    if (!o)
        return;
    take_out(b->endpoints, o);
    if (save(b, asked->of.service, &err) == FB_OK)
        tell_gateway(b, 0, &asked->of);
    else
        fb_log(FB_LOG_WARN, "%s", err.text);
}

/* ---- orders ---- */

static enum fb_code add(struct brain *b, struct admin_endpoint_order *o, struct fb_err *err)
{
    struct brain_endpoints *x = b->endpoints;
    struct own *old = find(x, o->of.service, o->of.address);
    char from[SOURCE_TEXT_BYTES];
    if (!old && is_there(b, &o->of)) {
        say_source(b, &o->of, from);
        return fb_fail(err, FB_E_CONFLICT,
                       "%s has %s from %s already; change it there, or for now with `foldback set "
                       "weight_pct '%s %s' PERCENT` or `foldback drain`",
                       o->of.service, o->of.address, from, o->of.service, o->of.address);
    }
    if (!old && x->count == KNOB_TARGETS_MAX)
        return fb_fail(err, FB_E_CONFLICT,
                       "%d endpoints have been added through the API, which is the most; remove "
                       "one first: `foldback endpoint list`",
                       KNOB_TARGETS_MAX);
    o->verb = old ? ADMIN_ENDPOINT_CHANGE : ADMIN_ENDPOINT_ADD;
    struct own was = {.of = {.weight_pct = 100}};
    struct own *to = old ? old : &x->at[x->count++];
    if (old)
        was = *old;
    struct admin_endpoint now = o->of;
    if (isnan(now.weight_pct))
        now.weight_pct = was.of.weight_pct;
    if (!now.zone[0])
        memcpy(now.zone, was.of.zone, sizeof now.zone);
    if (!now.version[0])
        memcpy(now.version, was.of.version, sizeof now.version);
    *to = was;
    to->of = o->of = now;
    enum fb_code code = save(b, o->of.service, err);
    if (code != FB_OK && old)
        *old = was;
    else if (code != FB_OK)
        x->count--;
    return code;
}

static enum fb_code drop(struct brain *b, const struct admin_endpoint_order *o, struct fb_err *err)
{
    struct own *old = find(b->endpoints, o->of.service, o->of.address);
    char from[SOURCE_TEXT_BYTES];
    if (!old && is_there(b, &o->of)) {
        say_source(b, &o->of, from);
        return fb_fail(err, FB_E_CONFLICT,
                       "%s of %s comes from %s; take it out there, with `foldback reload` after a "
                       "change of the file, or for now `foldback drain '%s %s'`",
                       o->of.address, o->of.service, from, o->of.service, o->of.address);
    }
    if (!old)
        return fb_fail(err, FB_E_NOT_FOUND,
                       "%s has no endpoint %s; `foldback endpoint list %s` shows those that it has",
                       o->of.service, o->of.address, o->of.service);
    struct own was = *old;
    take_out(b->endpoints, old);
    enum fb_code code = save(b, o->of.service, err);
    if (code != FB_OK)
        b->endpoints->at[b->endpoints->count++] = was;
    return code;
}

/* In the registry; EV_NONE: it was never there. */
static uint16_t number_of(const struct brain *b, const struct admin_endpoint *e)
{
    char name[MEMFILE_NAME_BYTES];
    memfile_endpoint_name(e->service, e->address, name);
    for (uint16_t i = 0; i < KNOB_TARGETS_MAX; i++)
        if (strcmp(memfile_name(&b->mem, EV_KIND_ENDPOINT, i), name) == 0)
            return i;
    return EV_NONE;
}

/* What the gateway says of an older order for the same must not undo the newer one.  True: one of
 * those was an add that nothing was said of yet. */
static bool replace_asked(struct brain_endpoints *x, const struct admin_endpoint *e)
{
    bool was_added = false;
    for (size_t i = 0; i < ASKED_MAX; i++) {
        struct asked *old = &x->asked[i];
        if (!old->ticket || strcmp(old->of.service, e->service) != 0 ||
            strcmp(old->of.address, e->address) != 0)
            continue;
        was_added |= old->is_added;
        old->ticket = 0;
    }
    return was_added;
}

/* Whoever adds an endpoint wants requests there, whatever was said of that address before. */
static void undrain(struct brain *b, const struct admin_endpoint *e)
{
    uint16_t number = number_of(b, e);
    if (number == EV_NONE || !engine_is_drained(b->fold.engine, number))
        return;
    struct ev_command ev = EV_INIT(COMMAND, command, fb_mono_us());
    ev.verb = EV_VERB_UNDRAIN;
    ev.target = number;
    ev.target_kind = EV_KIND_ENDPOINT;
    ev.knob = ev.loop = EV_NONE;
    memcpy(ev.actor, "admin", 6);
    memcpy(ev.why, "added anew", 11);
    brain_say(b, &ev.head);
}

/* ---- what there is ---- */

static const struct conf_service *service_of(const struct brain *b, const char *name)
{
    const struct conf *conf = b->fold.conf;
    for (size_t i = 0; conf && i < conf->service_count; i++)
        if (strcmp(conf->services[i].name, name) == 0)
            return &conf->services[i];
    return NULL;
}

/* As foldback writes it from here on; false: a list has no place for that. */
static bool read_endpoint(const struct conf_endpoint *e, struct admin_endpoint *out)
{
    _Static_assert(ADMIN_ADDRESS_BYTES >= SOURCE_TEXT_BYTES, "a name fits");
    struct sock_addr addr;
    struct source name = {.port = e->port};
    out->is_name = e->kind == CONF_ENDPOINT_DNS || e->kind == CONF_ENDPOINT_SRV;
    if (out->is_name) {
        snprintf(name.host, sizeof name.host, "%s", e->host);
        sources_text(&name, out->address);
        return true;
    }
    if (e->kind != CONF_ENDPOINT_ADDRESS || !sock_parse_endpoint(span_of(e->host), e->port, &addr))
        return false;
    sock_format(&addr, out->address);
    return true;
}

/* What `endpoints` of the file takes, read by the same code, but for lists in files. */
static enum fb_code read_order(const struct conf_service *sv, struct admin_endpoint *e,
                               struct fb_err *err)
{
    char list[ADMIN_ADDRESS_BYTES + 8], was[ADMIN_ADDRESS_BYTES];
    struct conf *conf = NULL;
    struct conf_report report = {0};
    bool is_good = true, is_tls = false;
    memcpy(was, e->address, sizeof was);
    for (const char *c = was; *c; c++) /* it stands in quotes in the list */
        is_good &= *c > ' ' && *c < 0x7f && *c != '"' && *c != '\\';
    snprintf(list, sizeof list, "[\"%s\"]", was);
    is_good = is_good && conf_parse_endpoints(span_of(list), "endpoint", &conf, &report) == FB_OK;
    if (is_good) {
        is_tls = conf->services[0].endpoints[0].is_tls;
        is_good = read_endpoint(&conf->services[0].endpoints[0], e);
        conf_unref(conf);
    }
    conf_report_fini(&report);
    if (!is_good)
        return fb_fail(err, FB_E_RANGE,
                       "\"%s\" is no endpoint: write IP:PORT or dns://NAME:PORT with a port of "
                       "1..65535, such as 10.0.0.5:8080, [::1]:8080 or dns://shop.internal:8080, "
                       "unix:/PATH of a Unix socket, or dns+srv://NAME; a list, file://PATH, "
                       "belongs into services.%s.endpoints "
                       "of the file",
                       was, e->service);
    char name[MEMFILE_NAME_BYTES];
    if (!e->is_name && !memfile_endpoint_name(e->service, e->address, name))
        return fb_fail(err, FB_E_RANGE,
                       "%s is too long: with the name of its service it has %d bytes at most; a "
                       "link to it with a shorter path does",
                       was, MEMFILE_NAME_BYTES - 1);
    if (is_tls && !sv->tls.is_on)
        return fb_fail(err, FB_E_RANGE,
                       "%s asks for TLS, which is for all endpoints of a service: write `tls: on` "
                       "in services.%s of the file",
                       was, e->service);
    return FB_OK;
}

static struct own *find(struct brain_endpoints *x, const char *service, const char *address)
{
    for (uint32_t i = 0; i < x->count; i++)
        if (strcmp(x->at[i].of.service, service) == 0 && strcmp(x->at[i].of.address, address) == 0)
            return &x->at[i];
    return NULL;
}

/* Has the service this from its file, a list or a name?  Only asked of what is not ours. */
static bool is_there(const struct brain *b, const struct admin_endpoint *e)
{
    const struct conf_service *sv = service_of(b, e->service);
    struct admin_endpoint its;
    for (size_t i = 0; sv && i < sv->endpoint_count; i++)
        if (read_endpoint(&sv->endpoints[i], &its) && strcmp(its.address, e->address) == 0)
            return true;
    if (!sv || e->is_name)
        return false;
    for (size_t i = 0; i < ASKED_MAX; i++) {
        const struct asked *asked = &b->endpoints->asked[i];
        if (asked->ticket && strcmp(asked->of.service, e->service) == 0 &&
            strcmp(asked->of.address, e->address) == 0)
            return false; /* taken out a moment ago: the gateway does not know it yet */
    }
    uint16_t number = number_of(b, e);
    return number != EV_NONE &&
           !atomic_load_explicit(&b->mem.endpoints[number].has_left, memory_order_relaxed);
}

/* What brings it: its name, or "its configuration". */
static void say_source(const struct brain *b, const struct admin_endpoint *e,
                       char text[SOURCE_TEXT_BYTES])
{
    uint16_t number = e->is_name ? EV_NONE : number_of(b, e);
    uint32_t row = number == EV_NONE ? 0
                                     : atomic_load_explicit(&b->mem.endpoints[number].source,
                                                            memory_order_relaxed);
    struct source name;
    if (row && sources_read(&b->mem, (uint16_t)(row - 1), &name))
        sources_text(&name, text);
    else
        snprintf(text, SOURCE_TEXT_BYTES, "its configuration");
}

/* ---- the file ---- */

static char *read_file(const char *path, size_t *bytes)
{
    char *text = malloc(FILE_BYTES_MAX + 1);
    int fd = text ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    ssize_t n = 0;
    *bytes = 0;
    while (fd >= 0 && (n = read(fd, text + *bytes, FILE_BYTES_MAX + 1 - *bytes)) > 0)
        *bytes += (size_t)n;
    bool is_bad = fd < 0 || n < 0;
    int why = errno;
    if (fd >= 0)
        close(fd);
    if (is_bad) {
        free(text);
        errno = text ? why : ENOMEM;
        return NULL;
    }
    return text;
}

static void take_out(struct brain_endpoints *x, struct own *o)
{
    size_t at = (size_t)(o - x->at);
    memmove(o, o + 1, (x->count - at - 1) * sizeof *o);
    x->count--;
}

/* Somebody may have edited the file: nothing of his is lost, and nothing is written over what
 * cannot be read. */
static enum fb_code load(struct brain *b, const char *service, struct fb_err *err)
{
    struct brain_endpoints *x = b->endpoints;
    char path[CONF_OWN_PATH_BYTES];
    size_t bytes;
    struct conf *conf = NULL;
    struct conf_report report = {0};
    conf_own_path(b->setup->state_dir, service, path);
    char *text = read_file(path, &bytes);
    if (!text && errno != ENOENT)
        return fb_fail(err, FB_E_IO, "the endpoints of the API in %s cannot be read: %s", path,
                       strerror(errno));
    enum fb_code code =
        text ? conf_parse_endpoints((struct span){text, bytes}, path, &conf, &report) : FB_OK;
    free(text);
    if (code != FB_OK) {
        const struct conf_problem *p = report.count ? &report.at[0] : NULL;
        fb_fail(err, FB_E_CONFLICT, "%s, line %u: %s; mend it, or remove the file", path,
                p ? p->line : 0, p ? p->text : "no memory");
        conf_report_fini(&report);
        return FB_E_CONFLICT;
    }
    for (uint32_t i = x->count; i-- > 0;)
        if (strcmp(x->at[i].of.service, service) == 0)
            take_out(x, &x->at[i]);
    for (size_t i = 0; conf && i < conf->services[0].endpoint_count; i++) {
        const struct conf_endpoint *e = &conf->services[0].endpoints[i];
        struct admin_endpoint of = {.weight_pct = e->weight_pct};
        if (x->count == KNOB_TARGETS_MAX || !read_endpoint(e, &of)) {
            code = fb_fail(err, FB_E_CONFLICT,
                           "%s: \"%.100s\" has no place there: a list of the API has addresses "
                           "and names, and all together %d at most; mend it, or remove the file",
                           path, e->host, KNOB_TARGETS_MAX);
            break;
        }
        struct own *o = &x->at[x->count++];
        *o = (struct own){.of = of, .is_backup = e->is_backup, .in_flight_max = e->in_flight_max};
        snprintf(o->of.service, sizeof o->of.service, "%s", service);
        memcpy(o->of.version, e->version, sizeof o->of.version);
        memcpy(o->of.zone, e->zone, sizeof o->of.zone);
    }
    conf_unref(conf);
    conf_report_fini(&report);
    return code;
}

static void write_list(const struct brain_endpoints *x, const char *service, struct buf *out)
{
    buf_puts(out,
             "# What `foldback endpoint add` and the admin API added; foldback writes this file.\n"
             "endpoints:\n");
    for (uint32_t i = 0; i < x->count; i++) {
        const struct own *o = &x->at[i];
        if (strcmp(o->of.service, service) != 0)
            continue;
        buf_printf(out, "  - { address: \"%s\", weight: %.6g%%", o->of.address, o->of.weight_pct);
        if (o->of.zone[0])
            buf_printf(out, ", zone: \"%s\"", o->of.zone);
        if (o->of.version[0])
            buf_printf(out, ", version: \"%s\"", o->of.version);
        if (o->is_backup)
            buf_puts(out, ", backup: true");
        if (o->in_flight_max)
            buf_printf(out, ", max_in_flight: %u", o->in_flight_max);
        buf_puts(out, " }\n");
    }
}

/* A name that came or went is on the disk when its folder is. */
static bool sync_folder(const char *path)
{
    char folder[CONF_OWN_PATH_BYTES];
    snprintf(folder, sizeof folder, "%s", path);
    char *slash = strrchr(folder, '/');
    if (!slash)
        return false;
    *slash = '\0';
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool is_good = fd >= 0 && fsync(fd) == 0;
    int why = errno;
    if (fd >= 0)
        close(fd);
    errno = why;
    return is_good;
}

/* Whole or not at all, and on the disk before anybody hears that it is done. */
static bool replace_file(const char *path, struct span text)
{
    char draft[CONF_OWN_PATH_BYTES + 8];
    snprintf(draft, sizeof draft, "%s.new", path);
    int fd = open(draft, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return false;
    bool is_good = write(fd, text.at, text.len) == (ssize_t)text.len && fsync(fd) == 0;
    int why = errno;
    is_good &= close(fd) == 0;
    if (is_good && rename(draft, path) == 0)
        return sync_folder(path);
    if (!is_good)
        errno = why;
    why = errno;
    unlink(draft);
    errno = why;
    return false;
}

/* Checked as the gateway will read it: an unknown character in a zone must not cost the list. */
static enum fb_code check(struct span text, const char *path, struct fb_err *err)
{
    struct conf *conf = NULL;
    struct conf_report report = {0};
    enum fb_code code = conf_parse_endpoints(text, path, &conf, &report);
    if (code != FB_OK)
        fb_fail(err, FB_E_RANGE, "%s", report.count ? report.at[0].text : "no memory");
    else
        conf_unref(conf);
    conf_report_fini(&report);
    return code == FB_OK ? FB_OK : FB_E_RANGE;
}

static enum fb_code save(struct brain *b, const char *service, struct fb_err *err)
{
    char path[CONF_OWN_PATH_BYTES];
    const struct brain_endpoints *x = b->endpoints;
    uint32_t count = 0;
    conf_own_path(b->setup->state_dir, service, path);
    for (uint32_t i = 0; i < x->count; i++)
        count += strcmp(x->at[i].of.service, service) == 0;
    if (count == 0) {
        if (unlink(path) == 0 ? sync_folder(path) : errno == ENOENT)
            return FB_OK;
        return fb_fail(err, FB_E_IO, "cannot remove %s: %s", path, strerror(errno));
    }
    struct buf text;
    buf_init(&text, FILE_BYTES_MAX);
    write_list(x, service, &text);
    enum fb_code code = check(buf_span(&text), path, err);
    if (code == FB_OK && !replace_file(path, buf_span(&text)))
        code = fb_fail(err, FB_E_IO, "cannot write %s: %s; nothing was changed", path,
                       strerror(errno));
    buf_fini(&text);
    return code;
}

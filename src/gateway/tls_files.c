/* SPDX-License-Identifier: Apache-2.0 */
/* tls_files: the certificates of one configuration, and the first thread's look at them each
 * second. */
#include "base/assert.h"
#include "base/clock.h"
#include "gateway/gateway_int.h"
#include "io/tls.h"

#include <stdio.h>
#include <stdlib.h>

#define POLL_US (1 * US_PER_S)

static enum fb_code listener_new(struct gw *gw, const struct conf_listen *l, size_t index,
                                 struct tls_server **out, struct fb_err *err);
static enum fb_code server_new(struct gw *gw, const struct conf_listen *l, struct tls_server **out,
                               struct fb_err *err);
static enum fb_code service_new(struct gw *gw, const struct conf_service *c,
                                struct tls_client **out, struct fb_err *err);
static void poll_services(struct gw *gw);
static void show_certs(struct gw *gw);
static bool is_back(const struct gw *gw);

static const char *alpn_of(const struct conf_service *sv)
{
    return sv->protocol == CONF_PROTOCOL_H2     ? "h2"
           : sv->protocol == CONF_PROTOCOL_AUTO ? "h2,http/1.1"
                                                : "http/1.1";
}

enum fb_code tls_files_load(struct gw *gw, struct generation *gen, struct fb_err *err)
{
    const struct conf *conf = gen->conf;
    enum fb_code code = FB_OK;
    if (!gw->gen)
        gw->tls_own = calloc(1, sizeof *gw->tls_own);
    if (!gw->gen && !gw->tls_own)
        return fb_fail(err, FB_E_NOMEM, "tls: no memory for listeners");
    gen->tls = calloc(conf->listen_count + 1, sizeof(struct tls_server *));
    gen->tls_out = calloc(conf->service_count + 1, sizeof(struct tls_client *));
    if (!gen->tls || !gen->tls_out)
        return fb_fail(err, FB_E_NOMEM, "tls: no memory for listeners");
    for (size_t i = 0; i < conf->listen_count && code == FB_OK; i++)
        if (conf->listens[i].tls.is_on)
            code = listener_new(gw, &conf->listens[i], i, &gen->tls[i], err);
    for (size_t i = 0; i < conf->service_count && code == FB_OK; i++)
        if (conf->services[i].tls.is_on)
            code = service_new(gw, &conf->services[i], &gen->tls_out[i], err);
    return code;
}

/* What is said of certificate files is in the memory file, where alerts come from; but a gateway
 * that starts keeps it to itself until it serves: an upgrade can still be refused, and then what
 * the one before it said holds on. */
static struct memfile_tls *shown_by(const struct gw *gw)
{
    return gw->tls_own ? gw->tls_own : &gw->mem->head->tls;
}

static bool is_in_charge(const struct gw *gw)
{
    return atomic_load_explicit(&gw->mem->head->gateway_slot, memory_order_acquire) ==
           gw->setup->slot;
}

static void take_charge(struct gw *gw)
{
    struct memfile_tls *own = gw->tls_own, *shown = &gw->mem->head->tls;
    memcpy(shown->why, own->why, sizeof shown->why);
    memcpy(shown->why_out, own->why_out, sizeof shown->why_out);
    for (size_t i = 0; i < MEMFILE_LISTENS_MAX; i++)
        atomic_store_explicit(&shown->refused[i], own->refused[i], memory_order_release);
    for (size_t i = 0; i < KNOB_TARGETS_MAX; i++)
        atomic_store_explicit(&shown->refused_out[i], own->refused_out[i], memory_order_release);
    tls_files_fini(gw);
}

void tls_files_fini(struct gw *gw)
{
    free(gw->tls_own);
    gw->tls_own = NULL;
}

void tls_files_good(struct gw *gw)
{
    struct memfile_tls *shown = shown_by(gw);
    for (size_t i = 0; i < MEMFILE_LISTENS_MAX; i++)
        atomic_store_explicit(&shown->refused[i], 0, memory_order_relaxed);
    for (size_t i = 0; i < KNOB_TARGETS_MAX; i++)
        atomic_store_explicit(&shown->refused_out[i], 0, memory_order_relaxed);
}

static void refuse_service(struct gw *gw, const char *name, uint16_t number, const char *why,
                           const char *what)
{
    struct memfile_tls *shown = shown_by(gw);
    fb_log(FB_LOG_ERROR, "service %s: %s; %s", name, why, what);
    snprintf(shown->why_out, sizeof shown->why_out, "service %.40s: %.120s; %.60s", name, why,
             what);
    if (number != EV_NONE)
        atomic_store_explicit(&shown->refused_out[number], 1, memory_order_release);
}

static enum fb_code service_new(struct gw *gw, const struct conf_service *sv,
                                struct tls_client **out, struct fb_err *err)
{
    const struct conf_tls_out *t = &sv->tls;
    struct fb_err why = {0};
    const struct tls_client_conf c = {.ca = t->ca,
                                      .name = t->name,
                                      .cert = t->cert,
                                      .key = t->key,
                                      .alpn = alpn_of(sv),
                                      .is_unverified = t->is_unverified,
                                      .is_patient = is_back(gw)};
    enum fb_code code = tls_client_new(&c, out, &why);
    if (code != FB_OK)
        return fb_fail(err, code, "service %.60s: %.380s", sv->name, why.text);
    if (why.text[0])
        refuse_service(gw, sv->name, memfile_number(gw->mem, EV_KIND_SERVICE, sv->name, EV_NONE),
                       why.text, "its requests are refused until the files are good");
    return FB_OK;
}

/* A gateway that comes back after a crash must not stay down for a file that somebody is just
 * writing: what is good serves, and the rest is told. */
static enum fb_code listener_new(struct gw *gw, const struct conf_listen *l, size_t index,
                                 struct tls_server **out, struct fb_err *err)
{
    struct memfile_tls *shown = shown_by(gw);
    struct fb_err why = {0};
    enum fb_code code = server_new(gw, l, out, &why);
    if (code != FB_OK && err)
        *err = why;
    if (code != FB_OK || !why.text[0])
        return code;
    fb_log(FB_LOG_ERROR, "%s; %s serves without it until it is good", why.text, l->address);
    snprintf(shown->why, sizeof shown->why, "%.180s; it is missed since the gateway came back",
             why.text);
    atomic_store_explicit(&shown->refused[index], 1, memory_order_release);
    return FB_OK;
}

/* One served before in this seat, and died: an upgrade, which can still be refused, has another. */
static bool is_back(const struct gw *gw)
{
    const struct memfile_head *head = gw->mem->head;
    return !gw->gen && atomic_load_explicit(&head->gateway_epoch, memory_order_acquire) > 0 &&
           atomic_load_explicit(&head->gateway_slot, memory_order_acquire) == gw->setup->slot;
}

void tls_files_free(struct generation *gen)
{
    for (size_t i = 0; gen->tls && i < gen->conf->listen_count; i++)
        tls_server_unref(gen->tls[i]);
    for (size_t i = 0; gen->tls_out && i < gen->conf->service_count; i++)
        tls_client_unref(gen->tls_out[i]);
    free(gen->tls);
    free(gen->tls_out);
}

void tls_files_tick(struct gw *gw, uint64_t now_us)
{
    struct generation *gen = gw->gen;
    struct memfile_tls *shown = shown_by(gw);
    tickets_tick(&gw->tickets, now_us);
    if (gw->tls_own && !is_in_charge(gw))
        return;
    if (gw->tls_own) {
        take_charge(gw);
        shown = shown_by(gw);
    }
    if (now_us - gw->tls_polled_us < POLL_US)
        return;
    gw->tls_polled_us = now_us;
    gw->tickets.rotate_us = gen->conf->p.tls_ticket_rotation * US_PER_MS;
    for (size_t i = 0; i < gen->conf->listen_count; i++) {
        const char *address = gen->conf->listens[i].address;
        struct fb_err err = {0};
        if (!gen->tls[i])
            continue;
        switch (tls_server_poll(gen->tls[i], &err)) {
        case TLS_POLL_SAME:
            break;
        case TLS_POLL_NEW:
            fb_log(FB_LOG_INFO, "tls: %s serves the new certificates", address);
            atomic_store_explicit(&shown->refused[i], 0, memory_order_relaxed);
            atomic_fetch_add_explicit(&shown->reloads, 1, memory_order_relaxed);
            break;
        case TLS_POLL_REFUSED:
            fb_log(FB_LOG_ERROR, "%s; %s goes on with the certificates it has", err.text, address);
            snprintf(shown->why, sizeof shown->why, "%.180s; the old ones serve", err.text);
            atomic_store_explicit(&shown->refused[i], 1, memory_order_release);
            break;
        }
    }
    poll_services(gw);
    atomic_store_explicit(&shown->warn_s, gen->conf->p.tls_expiry_warning / 1000,
                          memory_order_relaxed);
    show_certs(gw);
}

static void poll_services(struct gw *gw)
{
    const struct generation *gen = gw->gen;
    struct memfile_tls *shown = shown_by(gw);
    for (size_t i = 0; i < gen->conf->service_count; i++) {
        struct tls_client *t = gen->tls_out[i];
        const struct service *sv = gen->services[i];
        struct fb_err err = {0};
        enum tls_poll is = t ? tls_client_poll(t, &err) : TLS_POLL_SAME;
        if (is == TLS_POLL_REFUSED) {
            refuse_service(gw, sv->name, sv->number, err.text,
                           tls_client_is_shut(t)
                               ? "its requests are refused until the files are good"
                               : "it goes on with the files it has");
        } else if (is == TLS_POLL_NEW) {
            fb_log(FB_LOG_INFO, "service %s: the new certificate files are in force", sv->name);
            if (sv->number != EV_NONE)
                atomic_store_explicit(&shown->refused_out[sv->number], 0, memory_order_relaxed);
            atomic_fetch_add_explicit(&shown->reloads, 1, memory_order_relaxed);
        }
    }
}

static enum fb_code server_new(struct gw *gw, const struct conf_listen *l, struct tls_server **out,
                               struct fb_err *err)
{
    const struct conf_tls *tls = &l->tls;
    struct tls_cert_files *files = calloc(tls->cert_count + 1, sizeof *files);
    if (!files)
        return fb_fail(err, FB_E_NOMEM, "tls: no memory for certificates");
    for (size_t i = 0; i < tls->cert_count; i++)
        files[i] = (struct tls_cert_files){
            .cert = tls->certs[i].cert, .key = tls->certs[i].key, .ocsp = tls->certs[i].ocsp};
    if (tls->is_internal) {
        enum fb_code made = gw->setup->state_dir && gw->setup->state_dir[0]
                                ? tls_internal_init(gw->setup->state_dir, err)
                                : fb_fail(err, FB_E_CONFIG, "tls: internal needs a state folder");
        if (made != FB_OK) {
            free(files);
            return made;
        }
    }
    const struct tls_server_conf c = {.certs = files,
                                      .cert_count = tls->cert_count,
                                      .internal_dir = tls->is_internal ? gw->setup->state_dir : "",
                                      .client_ca = tls->client_ca,
                                      .verify = (enum tls_verify)tls->verify,
                                      .ciphers = tls->ciphers,
                                      .alpn = l->is_http1_off ? "h2"
                                              : l->is_h2_off  ? "http/1.1"
                                                              : "h2,http/1.1",
                                      .is_13_only = tls->is_13_only,
                                      .is_patient = is_back(gw),
                                      .tickets = &gw->tickets};
    enum fb_code code = tls_server_new(&c, out, err);
    free(files);
    return code;
}

static void show_certs(struct gw *gw)
{
    struct memfile_tls *shown = shown_by(gw);
    struct tls_cert_info info[MEMFILE_CERTS_MAX];
    size_t count = 0;
    for (size_t i = 0; i < gw->gen->conf->listen_count && count < MEMFILE_CERTS_MAX; i++)
        if (gw->gen->tls[i])
            count += tls_server_certs(gw->gen->tls[i], info + count, MEMFILE_CERTS_MAX - count);
    for (size_t i = 0; i < count; i++) {
        struct memfile_cert *c = &shown->certs[i];
        if (strcmp(c->name, info[i].name) != 0 || strcmp(c->file, info[i].file) != 0) {
            memcpy(c->name, info[i].name, sizeof c->name);
            memcpy(c->file, info[i].file, sizeof c->file);
        }
        atomic_store_explicit(&c->not_after_s, info[i].not_after_s, memory_order_relaxed);
        atomic_store_explicit(&c->staple_made_s, info[i].staple_made_s, memory_order_relaxed);
        atomic_store_explicit(&c->staple_until_s, info[i].staple_until_s, memory_order_relaxed);
    }
    atomic_store_explicit(&shown->cert_count, (uint32_t)count, memory_order_release);
}

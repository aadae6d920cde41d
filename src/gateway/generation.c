/* SPDX-License-Identifier: Apache-2.0 */
/* generation: one configuration made ready: routes compiled, services and numbers looked up.
 *
 * Workers switch to the newest one by a message; requests keep the one they began with.  Each
 * worker counts its own requests per generation; the last worker that leaves frees it. */
#include "base/assert.h"
#include "gateway/authz.h"

#include <stdio.h>
#include <stdlib.h>

static bool is_token_char(char ch);

struct generation *generation_new(struct gw *gw, struct conf *conf, struct fb_err *err)
{
    struct generation *gen = aligned_alloc(FB_CACHE_LINE_BYTES, sizeof *gen);
    if (!gen)
        goto no_memory;
    memset(gen, 0, sizeof *gen);
    gen->conf = conf_ref(conf);
    gen->number = gw->gen ? gw->gen->number + 1 : 1;
    gen->workers = gw->thread_count;
    if (!rate_prepare(gw, conf) || !cap_prepare(gw, conf))
        goto no_memory;
    gen->routes = route_table_new(conf);
    gen->services = calloc(conf->service_count + 1, sizeof(struct service *));
    gen->route_numbers = calloc(conf->route_count + 1, sizeof(uint16_t));
    if (!gen->routes || !gen->services || !gen->route_numbers)
        goto no_memory;
    gen->limits = (struct http1_limits){.line_bytes = (uint32_t)conf->p.limits_line_bytes,
                                        .header_bytes = (uint32_t)conf->p.limits_header_bytes,
                                        .header_count = conf->p.limits_header_count};
    snprintf(gen->node, sizeof gen->node, "%s",
             conf->p.top_node[0] ? conf->p.top_node : "foldback");
    for (char *at = gen->node; *at; at++)
        if (!is_token_char(*at))
            *at = '-'; /* it stands in fields as a token */
    int n = snprintf(gen->via_text, sizeof gen->via_text, "Via: 1.1 %s\r\n", gen->node);
    gen->via = (struct span){gen->via_text, (size_t)n};
    gen->threads = gw->thread_count;
    if (tls_files_load(gw, gen, err) != FB_OK || authz_load(gw, gen, err) != FB_OK ||
        listen_plan_new(gw, gen, err) != FB_OK) {
        generation_free(gen);
        return NULL;
    }
    for (size_t i = 0; i < conf->service_count; i++) {
        gen->services[i] = service_get(gw, &conf->services[i]);
        if (!gen->services[i])
            goto no_memory;
    }
    if (!split_compile(gen, gw))
        goto no_memory;
    for (size_t i = 0; i < conf->route_count; i++) {
        const struct conf_route *r = &conf->routes[i];
        uint16_t parent = conf_route_is_own(r) ? EV_NONE : gen->services[r->service]->number;
        gen->route_numbers[i] = memfile_number(gw->mem, EV_KIND_ROUTE, r->name, parent);
        report_name(&gw->workers[0], r->name,
                    &(struct naming){
                        .kind = EV_KIND_ROUTE, .number = gen->route_numbers[i], .parent = parent});
    }
    return gen;
no_memory:
    fb_fail(err, FB_E_NOMEM, "configuration: no memory to put it in force; the old one stays");
    if (gen)
        generation_free(gen);
    return NULL;
}

void generation_leave(struct generation *gen, struct worker *w)
{
    fb_assert(gen->use[w->index].requests == 0);
    fb_assert(gen != w->gen);
    if (atomic_fetch_sub_explicit(&gen->workers, 1, memory_order_acq_rel) == 1)
        generation_free(gen);
}

void generation_free(struct generation *gen)
{
    tls_files_free(gen);
    authz_unload(gen);
    listen_plan_free(gen, gen->threads);
    split_free(gen);
    route_table_free(gen->routes);
    free(gen->services);
    free(gen->route_numbers);
    conf_unref(gen->conf);
    free(gen);
}

static bool is_token_char(char ch)
{
    return http1_is_token((struct span){&ch, 1});
}

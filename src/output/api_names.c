/* SPDX-License-Identifier: Apache-2.0 */
/* api_names: the names that services follow: what each has brought, and what ails it. */
#include "knob/sources.h"
#include "output/why_int.h"

#include <stdio.h>

static bool is_own(const struct admin_endpoint *e, const struct source *s, const char *service)
{
    char text[SOURCE_TEXT_BYTES];
    if (strcmp(e->service, service) != 0 || !strstr(e->address, s->host))
        return false; /* most of a million pairs, with a thousand names */
    sources_text(s, text);
    return strcmp(e->address, text) == 0;
}

static const char *origin_of(const struct source *s)
{
    return s->origin == MEMFILE_ORIGIN_API    ? "api"
           : s->origin == MEMFILE_ORIGIN_FILE ? "list"
                                              : "configuration";
}

bool api_source_of(const struct admin *a, uint16_t number, struct source *out)
{
    const struct memfile *m = a->source.memfile;
    uint32_t row = atomic_load_explicit(&m->endpoints[number].source, memory_order_relaxed);
    return row && row <= MEMFILE_SOURCES && sources_read(m, (uint16_t)(row - 1), out) &&
           out->service == m->endpoints[number].parent;
}

static void put_one(struct json *j, const struct source *s, const char *state)
{
    char text[SOURCE_TEXT_BYTES];
    sources_text(s, text);
    json_object_begin(j);
    json_key_str(j, "name", text);
    json_key_str(j, "source", origin_of(s));
    json_key_f64(j, "weight_pct", s->weight_pct);
    json_key_str(j, "state", state);
    json_key_u64(j, "addresses", s->addresses);
    json_key_str(j, "why", s->why);
    json_object_end(j);
}

void api_too_many_names(const struct admin *a, char text[API_TOO_MANY_BYTES])
{
    snprintf(text, API_TOO_MANY_BYTES,
             "the gateway tells how %d names are, and %u more are followed or wait to be",
             MEMFILE_SOURCES, sources_lack(a->source.memfile));
}

/* Those that the gateway follows, and those of the API that it does not (yet). */
void api_put_names(struct api_call *c, uint16_t service)
{
    const struct admin *a = c->admin;
    const struct admin_source *from = &a->source;
    const char *name = admin_name(a, EV_KIND_SERVICE, service);
    const struct admin_endpoint *e;
    struct source s;
    uint32_t lack = sources_lack(from->memfile);
    char too_many[API_TOO_MANY_BYTES];
    api_too_many_names(a, too_many);
    json_key(&c->j, "names");
    json_array_begin(&c->j);
    for (uint16_t i = 0; i < sources_top(from->memfile); i++)
        if (sources_read(from->memfile, i, &s) && s.service == service)
            put_one(&c->j, &s, sources_state_name(s.state));
    for (uint32_t i = 0; from->endpoint_at && (e = from->endpoint_at(from->ctx, i)) != NULL; i++) {
        bool is_followed = !e->is_name || strcmp(e->service, name) != 0;
        for (uint16_t k = 0; !is_followed && k < sources_top(from->memfile); k++)
            is_followed =
                sources_read(from->memfile, k, &s) && s.service == service && is_own(e, &s, name);
        if (is_followed)
            continue;
        json_object_begin(&c->j);
        json_key_str(&c->j, "name", e->address);
        json_key_str(&c->j, "source", "api");
        json_key_f64(&c->j, "weight_pct", e->weight_pct);
        json_key_str(&c->j, "state", lack ? "unknown" : "not_in_force");
        json_key_u64(&c->j, "addresses", 0);
        json_key_str(&c->j, "why", lack ? too_many : "");
        json_object_end(&c->j);
    }
    json_array_end(&c->j);
}

bool api_find_name(const struct admin *a, const char *service, const char *text, struct source *out)
{
    char its[SOURCE_TEXT_BYTES];
    for (uint16_t i = 0; i < sources_top(a->source.memfile); i++) {
        if (!sources_read(a->source.memfile, i, out))
            continue;
        sources_text(out, its);
        if (strcmp(its, text) == 0 &&
            (!service[0] || strcmp(admin_name(a, EV_KIND_SERVICE, out->service), service) == 0))
            return true;
    }
    return false;
}

void api_say_name(struct api_call *c, const struct source *s)
{
    switch ((enum source_state)s->state) {
    case SOURCE_ASKED:
        why_say(c, "It is being looked up; requests go there as soon as it has an address.");
        break;
    case SOURCE_KNOWN:
        why_say(c, "It has %u address%s, which take requests.", s->addresses,
                s->addresses == 1 ? "" : "es");
        break;
    case SOURCE_KEPT:
        why_say(c,
                "Its last look-up failed (%s); the %u address%s of before stay in use, and it is "
                "asked again.",
                s->why, s->addresses, s->addresses == 1 ? "" : "es");
        break;
    case SOURCE_NONE:
        why_say(c,
                "It has no address%s%s; no request goes there, and it is asked again every few "
                "seconds until it has one.",
                s->why[0] ? ": " : "", s->why);
        break;
    case SOURCE_STATES:
        break;
    }
}

void why_say_names(struct api_call *c, uint16_t service)
{
    char text[SOURCE_TEXT_BYTES];
    struct source s;
    for (uint16_t i = 0; i < sources_top(c->admin->source.memfile); i++) {
        if (!sources_read(c->admin->source.memfile, i, &s) || s.service != service ||
            s.state == SOURCE_KNOWN)
            continue;
        sources_text(&s, text);
        why_say(c, "It follows the name %s:", text);
        api_say_name(c, &s);
    }
}

/* One of the API that the gateway tells nothing of. */
static bool why_listed(struct api_call *c, const char *service, const char *text)
{
    const struct admin_source *from = &c->admin->source;
    const struct admin_endpoint *e = NULL;
    char too_many[API_TOO_MANY_BYTES];
    for (uint32_t i = 0; from->endpoint_at && (e = from->endpoint_at(from->ctx, i)) != NULL; i++)
        if (e->is_name && strcmp(e->address, text) == 0 &&
            (!service[0] || strcmp(e->service, service) == 0))
            break;
    if (!e)
        return false;
    why_begin(c, "name", text);
    why_say(c, "%s has this name from the admin API, with weight %.6g %%.", e->service,
            e->weight_pct);
    api_too_many_names(c->admin, too_many);
    if (sources_lack(from->memfile))
        why_say(c, "How it is is not known: %s.", too_many);
    else
        why_say(c, "It is written down, and the gateway does not follow it (yet).");
    json_array_end(&c->j);
    json_key(&c->j, "next");
    json_array_begin(&c->j);
    why_say(c, "foldback endpoint list %s", e->service);
    json_array_end(&c->j);
    json_object_end(&c->j);
    return true;
}

/* "dns://shop.internal:80", with its service before it where two have the same. */
bool why_name(struct api_call *c, const char *q)
{
    char service[ADMIN_SERVICE_BYTES] = "", text[SOURCE_TEXT_BYTES];
    const char *name = strstr(q, "dns://"), *srv = strstr(q, "dns+srv://");
    struct source s;
    name = srv ? srv : name;
    if (!name || (name > q && (name[-1] != ' ' || (size_t)(name - q) > sizeof service)))
        return false;
    if (name > q)
        memcpy(service, q, (size_t)(name - q) - 1);
    snprintf(text, sizeof text, "%s", name);
    if (!api_find_name(c->admin, service, text, &s))
        return why_listed(c, service, text);
    const char *of = admin_name(c->admin, EV_KIND_SERVICE, s.service);
    why_begin(c, "name", text);
    why_say(c, "%s follows this name; it comes from the %s.", of,
            s.origin == MEMFILE_ORIGIN_API    ? "admin API"
            : s.origin == MEMFILE_ORIGIN_FILE ? "list of endpoints in a file"
                                              : "configuration");
    if (s.origin == MEMFILE_ORIGIN_API)
        why_say(c, "Its weight is %.6g %%; it stays until `foldback endpoint remove %s %s`.",
                s.weight_pct, of, text);
    api_say_name(c, &s);
    json_array_end(&c->j);
    json_key(&c->j, "next");
    json_array_begin(&c->j);
    why_say(c, "foldback endpoint list %s", of);
    why_say(c, "foldback why '%s'", of);
    json_array_end(&c->j);
    json_object_end(&c->j);
    return true;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* What the cache holds, and dropping of it. */
#include "output/admin_int.h"

#include <math.h>
#include <stdio.h>

static void put_warning(struct api_call *c, bool is_now);

#define RUN(name) void api_run_##name(struct api_call *c)
#define API(method, path, run, ...) RUN(run);
#include "output/api.def"
#undef API

/* Powers of two from 64 KiB to 64 GiB: the range of the bins. */
#define CURVE_POINTS 21

static void put_curve(struct json *j, const struct curves *curves, uint16_t number)
{
    struct curve_view view;
    bool is_known = curves && curve_view(curves, number, &view) &&
                    view.samples >= CURVE_SAMPLES_MIN && view.requests > 0;
    json_key_f64(j, "origin_ms", is_known && view.origin_us > 0 ? view.origin_us / 1e3 : NAN);
    json_key(j, "curve");
    json_array_begin(j);
    for (uint32_t i = 0; is_known && i < CURVE_POINTS; i++) {
        uint64_t bytes = UINT64_C(64) * KIB << i;
        json_object_begin(j);
        json_key_u64(j, "bytes", bytes);
        json_key_f64(j, "miss_ratio",
                     1 - curve_hits(curves, number, (double)bytes) / view.requests);
        json_object_end(j);
    }
    json_array_end(j);
}

bool api_cold(const struct admin *a, uint16_t route, struct cold_view *out)
{
    const struct metric_route *r = &a->metrics->route[route];
    return a->source.curves && r->use.head.type && admin_name(a, EV_KIND_ROUTE, route)[0] &&
           cold_look(a->source.curves, a->source.facts, &r->use, r->service, out);
}

/* What an empty cache would mean; null while it is not known. */
static void put_cold(struct json *j, const struct admin *a, uint16_t number)
{
    struct cold_view v;
    if (!api_cold(a, number, &v)) {
        json_key_f64(j, "cold", NAN); /* null */
        return;
    }
    json_key(j, "cold");
    json_object_begin(j);
    json_key_f64(j, "now_per_s", v.now_per_s);
    json_key_f64(j, "cold_per_s", v.cold_per_s);
    json_key_f64(j, "capacity_per_s", v.capacity_per_s);
    json_key_f64(j, "load_ratio", v.load_ratio);
    json_key_f64(j, "refill_s", isfinite(v.refill_s) ? v.refill_s : NAN);
    json_object_end(j);
}

static void put_cache(struct json *j, const struct admin *a, uint16_t number)
{
    const struct metric_route *r = &a->metrics->route[number];
    uint64_t asked = 0, served;
    for (uint8_t i = EV_CACHE_MISS; i < EV_CACHE_END; i++)
        asked += r->cache[i];
    served = r->cache[EV_CACHE_HIT] + r->cache[EV_CACHE_STALE] + r->cache[EV_CACHE_COLLAPSED] +
             r->cache[EV_CACHE_REVALIDATED];
    json_object_begin(j);
    json_key_str(j, "route", admin_name(a, EV_KIND_ROUTE, number));
    json_key_f64(j, "hit_ratio", asked ? (double)served / (double)asked : NAN);
    json_key(j, "requests");
    json_object_begin(j);
    for (uint8_t i = EV_CACHE_MISS; i < EV_CACHE_END; i++)
        json_key_u64(j, ev_cache_name(i), r->cache[i]);
    json_object_end(j);
    json_key_u64(j, "used_bytes", r->use.used_bytes);
    json_key_u64(j, "budget_bytes", r->use.budget_bytes);
    json_key_u64(j, "entries", r->use.entries);
    json_key_u64(j, "stored", r->stored);
    json_key_u64(j, "evicted", r->evicted);
    json_key_u64(j, "refused", r->refused);
    put_curve(j, a->source.curves, number);
    put_cold(j, a, number);
    json_object_end(j);
}

RUN(cache)
{
    const struct admin *a = c->admin;
    uint64_t total = 0, memory = 0;
    for (uint16_t i = 0; i < KNOB_TARGETS_MAX; i++)
        if (a->metrics->route[i].use.head.type) {
            total = a->metrics->route[i].use.total_bytes;
            memory = a->metrics->route[i].use.memory_bytes;
        }
    json_object_begin(&c->j);
    json_key_u64(&c->j, "memory_bytes", memory);
    json_key_u64(&c->j, "total_bytes", total);
    json_key(&c->j, "routes");
    json_array_begin(&c->j);
    for (uint16_t i = 0; i < KNOB_TARGETS_MAX; i++)
        if (a->metrics->route[i].use.head.type && admin_name(a, EV_KIND_ROUTE, i)[0])
            put_cache(&c->j, a, i);
    json_array_end(&c->j);
    json_object_end(&c->j);
}

/* In the log as an event of its own: who dropped what, and why. */
static void note_purge(struct api_call *c, const struct jsonin *in, const char *what)
{
    struct admin_source *s = &c->admin->source;
    const char *actor = jsonin_text(in, "actor", "admin"), *why = jsonin_text(in, "why", "");
    struct ev_custom ev = EV_INIT(CUSTOM, custom, c->admin->now_us);
    struct fb_err err;
    memcpy(ev.name, "foldback.cache.purge", 20);
    char text[sizeof ev.text + 1];
    int n = snprintf(text, sizeof text, "%s by %s%s%s", what, actor ? actor : "admin",
                     why && why[0] ? ": " : "", why ? why : "");
    memcpy(ev.text, text, fb_min_u64(n > 0 ? (uint64_t)n : 0, sizeof ev.text));
    if (s->submit)
        (void)s->submit(s->ctx, &ev.head, &err);
}

/* What a purge of many answers may bring, when more than the endpoints can take. */
static void put_warning(struct api_call *c, bool is_now)
{
    char text[300];
    struct cold_view v, worst = {.load_ratio = 0};
    uint16_t route = 0;
    for (uint16_t i = 0; i < KNOB_TARGETS_MAX; i++)
        if (api_cold(c->admin, i, &v) && v.load_ratio > worst.load_ratio) {
            worst = v;
            route = i;
        }
    if (worst.load_ratio <= 1)
        return;
    const char *name = admin_name(c->admin, EV_KIND_ROUTE, route);
    int n = snprintf(text, sizeof text,
                     "With an empty cache %.100s sends %.0f requests per second instead of %.0f: "
                     "%.1f x what its endpoints take.",
                     name, worst.cold_per_s, worst.now_per_s, worst.load_ratio);
    if (is_now)
        snprintf(text + n, sizeof text - (size_t)n,
                 " Without --now old answers fill in while there is no room.");
    else if (isfinite(worst.refill_s))
        snprintf(text + n, sizeof text - (size_t)n,
                 " Old answers fill in while there is no room, for about %.0f s.", worst.refill_s);
    json_key_str(&c->j, "warning", text);
}

/* "http://HOST/PATH", "HOST/PATH"; the scheme may be missing, the host may not. */
static bool is_url(const char *text)
{
    const char *scheme = strstr(text, "://");
    if (scheme && strncmp(text, "http://", 7) != 0 && strncmp(text, "https://", 8) != 0)
        return false;
    const char *host = scheme ? scheme + 3 : text;
    size_t len = strcspn(host, "/");
    for (const char *at = text; *at; at++)
        if ((unsigned char)*at <= ' ' || *at == 0x7f)
            return false;
    for (size_t i = 0; i < len; i++)
        if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:[]",
                    host[i]))
            return false;
    return len > 0 && (scheme || host[len] == '/');
}

/* What to drop, and whether at once; false after api_fail. */
static bool read_purge(struct api_call *c, struct jsonin *in, struct admin_purge *p)
{
    static const char *const kinds[] = {"all", "url", "prefix", "tag"};
    uint16_t count = 0;
    *p = (struct admin_purge){.text = ""};
    if (!api_body(c, in))
        return false;
    for (uint16_t i = 0; i < FB_COUNT(kinds); i++) {
        const struct jsonin_field *f = jsonin_find(in, kinds[i]);
        if (!f || (i == 0 && !(f->kind == JSONIN_BOOL && f->number != 0)))
            continue;
        count++;
        p->kind = i;
        p->text = i ? jsonin_text(in, kinds[i], "") : "";
    }
    if (count != 1 || !p->text || (p->kind && !p->text[0]) || strlen(p->text) > 2000) {
        api_fail(c, FB_E_USAGE,
                 "say what to drop: one of url, prefix, tag (text of 1 to 2000 bytes), all: true");
        return false;
    }
    const struct jsonin_field *now = jsonin_find(in, "now");
    if ((p->kind == 1 || p->kind == 2) && !is_url(p->text)) {
        api_fail(c, FB_E_RANGE,
                 "\"%.200s\" is no %s; write http://HOST/PATH or HOST/PATH (of a prefix: where it "
                 "begins; on the command line it ends with *), or name a tag",
                 p->text, kinds[p->kind]);
        return false;
    }
    if (now && now->kind != JSONIN_BOOL) {
        api_fail(c, FB_E_RANGE, "now must be true or false");
        return false;
    }
    p->is_paced = !((now && now->number != 0) || p->kind == 1);
    return true;
}

static void on_purged(struct api_call *c, const uint32_t *told)
{
    struct jsonin in;
    struct admin_purge p;
    if (!read_purge(c, &in, &p))
        return;
    c->status = told ? 200 : 202;
    json_object_begin(&c->j);
    json_key_str(&c->j, "verb", "purge");
    if (told)
        json_key_u64(&c->j, "purged", *told);
    json_key_bool(&c->j, "is_paced", p.is_paced);
    if (p.kind != 1)
        put_warning(c, !p.is_paced);
    json_object_end(&c->j);
}

RUN(cache_purge)
{
    static const char *const kinds[] = {"all", "url", "prefix", "tag"};
    struct jsonin in;
    struct admin_purge p;
    struct fb_err err = {0};
    struct admin_source *s = &c->admin->source;
    uint32_t ticket = 0;
    if (!read_purge(c, &in, &p))
        return;
    if (!s->purge) {
        api_fail_status(c, 501, FB_E_AGAIN, "this process has no cache");
        return;
    }
    if (s->purge(s->ctx, &p, &ticket, &err) != FB_OK) {
        api_fail_err(c, &err);
        return;
    }
    char what[120];
    snprintf(what, sizeof what, "%s %.100s", kinds[p.kind], p.text);
    note_purge(c, &in, what);
    api_wait_told(c, ticket, on_purged);
}

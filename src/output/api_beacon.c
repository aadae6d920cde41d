/* SPDX-License-Identifier: Apache-2.0 */
/* Beacons of browsers (navigator.sendBeacon): page speed as visitors see it.
 *
 * No token, as a page cannot keep one: so only pages of listed origins, only known names and plain
 * numbers in their bounds, small bodies, and a bound on how many per second. */
#include "output/admin_int.h"

#include <stdio.h>

#define RUN(name) void api_run_##name(struct api_call *c)
#define API(method, path, run, ...) RUN(run);
#include "output/api.def"
#undef API

#define BODY_MAX_BYTES 1024

static const struct {
    const char *key, *name;
    double max;
} known[] = {{"LCP", "web.lcp", 600000},
             {"INP", "web.inp", 600000},
             {"FCP", "web.fcp", 600000},
             {"CLS", "web.cls", 1000},
             {"TTFB", "web.ttfb", 600000}};

static bool is_listed(const char *origins, struct span origin)
{
    for (struct span rest = span_of(origins); rest.len > 0;)
        if (span_ieq(span_trim(span_cut(rest, ',', &rest)), origin))
            return true;
    return false;
}

static void refuse(struct api_call *c, enum ingest_refused why)
{
    ingest_refuse(c->admin->source.ingest, INGEST_BEACON, why, 1);
}

/* BEACONS_PER_S each second, one second's worth at once. */
static bool is_too_fast(struct admin *a)
{
    if (fb_sub_floor_u64(a->now_us, a->beacon_us) >= US_PER_S) {
        a->beacon_us = a->now_us;
        a->beacons = 0;
    }
    return a->beacons++ >= BEACONS_PER_S;
}

/* The records of a body, all or none; false after api_fail. */
static bool read_numbers(struct api_call *c, const struct jsonin *in, struct ev_custom *out)
{
    for (size_t i = 0; i < in->count; i++) {
        const struct jsonin_field *f = &in->field[i];
        size_t k = 0;
        while (k < FB_COUNT(known) && strcmp(known[k].key, f->key) != 0)
            k++;
        if (k == FB_COUNT(known)) {
            refuse(c, INGEST_REFUSED_NAME);
            api_fail(c, FB_E_RANGE, "\"%.32s\" is none of LCP, INP, FCP, CLS, TTFB", f->key);
            return false;
        }
        if (f->kind != JSONIN_NUMBER || !(f->number >= 0) || f->number > known[k].max) {
            refuse(c, INGEST_REFUSED_VALUE);
            api_fail(c, FB_E_RANGE, "%s must be a number from 0 to %g", f->key, known[k].max);
            return false;
        }
        out[i] = EV_INIT(CUSTOM, custom, c->admin->now_us);
        out[i].value = f->number;
        memcpy(out[i].name, known[k].name, strlen(known[k].name));
    }
    return true;
}

static void take(struct api_call *c, struct span body)
{
    struct jsonin in = {.count = 0};
    struct ev_custom out[JSONIN_FIELDS_MAX];
    struct fb_err err = {0};
    if (jsonin_parse(&in, body, &err) != FB_OK) {
        refuse(c, INGEST_REFUSED_SYNTAX);
        api_fail(c, FB_E_FORMAT, "%s", err.text);
    } else if (read_numbers(c, &in, out) &&
               (in.count == 0 ||
                api_ingest_put(c, INGEST_BEACON,
                               (struct span){(const char *)out, in.count * sizeof out[0]}))) {
        c->status = 204;
    }
}

/* The answer may be seen by the page that asks; browsers send beacons with their cookies, which
 * mean nothing here.  False after api_fail: its origin is not listed. */
static bool allow_origin(struct api_call *c, const char *more)
{
    struct admin *a = c->admin;
    const struct http1_field *origin = http1_find_name(c->head, SPAN("origin"));
    snprintf(c->header, sizeof c->header, "Vary: Origin\r\n");
    if (!a->source.ingress || !origin || !is_listed(a->beacon_origins, origin->value)) {
        refuse(c, INGEST_REFUSED_ORIGIN);
        api_fail_status(c, 403, FB_E_DENIED,
                        "beacons are taken from pages of ingest.beacon_origins only");
        return false;
    }
    snprintf(c->header, sizeof c->header,
             "Vary: Origin\r\nAccess-Control-Allow-Origin: %.*s\r\n"
             "Access-Control-Allow-Credentials: true\r\n%s",
             (int)fb_min_u64(origin->value.len, 150), origin->value.at, more);
    return true;
}

RUN(beacon_ask)
{
    if (allow_origin(c, "Access-Control-Allow-Methods: POST\r\n"
                        "Access-Control-Allow-Headers: Content-Type\r\n"
                        "Access-Control-Max-Age: 600\r\n"))
        c->status = 204;
}

RUN(beacon)
{
    struct admin *a = c->admin;
    if (!allow_origin(c, ""))
        return;
    if (c->conn->body.len > BODY_MAX_BYTES) {
        refuse(c, INGEST_REFUSED_TOO_LARGE);
        api_fail_status(c, 413, FB_E_RANGE, "a beacon has at most 1024 bytes");
    } else if (is_too_fast(a)) {
        refuse(c, INGEST_REFUSED_TOO_FAST);
        size_t len = strlen(c->header);
        snprintf(c->header + len, sizeof c->header - len, "Retry-After: 1\r\n");
        api_fail_status(c, 429, FB_E_AGAIN, "more than 200 beacons in a second; wait");
    } else {
        struct buf plain;
        struct span body;
        buf_init(&plain, BODY_MAX_BYTES);
        if (api_charset_ok(c, INGEST_BEACON) && api_unpack(c, INGEST_BEACON, &plain, &body))
            take(c, body);
        buf_fini(&plain);
    }
}

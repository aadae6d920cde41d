/* SPDX-License-Identifier: Apache-2.0 */
/* brain_tls: alerts about certificates; what the gateway sees of its files lies in the memory file.
 */
#include "base/clock.h"
#include "base/log.h"
#include "main/brain_int.h"

#include <stdio.h>

#define DAY_S 86400

static void watch_expiry(struct brain *b, uint32_t index, uint64_t wall_s);
static void watch_staple(struct brain *b, uint32_t index, uint64_t wall_s);
static void watch_renewal(struct brain *b);
static void watch_files(struct brain *b, uint32_t listener);
static void watch_services(struct brain *b, uint16_t service);

void brain_watch_tls(struct brain *b)
{
    const struct memfile_tls *t = &b->mem.head->tls;
    uint32_t count =
        fb_min_u32(atomic_load_explicit(&t->cert_count, memory_order_acquire), MEMFILE_CERTS_MAX);
    uint64_t wall_s = fb_wall_us() / US_PER_S;
    for (uint32_t i = 0; i < count; i++) {
        watch_expiry(b, i, wall_s);
        watch_staple(b, i, wall_s);
    }
    watch_renewal(b);
    for (uint32_t i = 0; i < MEMFILE_LISTENS_MAX; i++)
        watch_files(b, i);
    for (uint16_t i = 0; i < KNOB_TARGETS_MAX; i++)
        watch_services(b, i);
}

void brain_recall_tls(struct brain *b, const struct ev_alert *told)
{
    if (told->reason == REASON_ALERT_CERT_REFUSED && told->target < MEMFILE_LISTENS_MAX)
        b->is_tls_refused[told->target] = !told->is_over;
    if (told->reason == REASON_ALERT_CERT_OUT_REFUSED && told->target < KNOB_TARGETS_MAX)
        b->is_tls_out_refused[told->target] = !told->is_over;
    if (told->reason == REASON_ALERT_RENEW_FAILED)
        b->is_renew_failing = !told->is_over;
}

static void watch_expiry(struct brain *b, uint32_t index, uint64_t wall_s)
{
    const struct memfile_tls *t = &b->mem.head->tls;
    const struct memfile_cert *c = &t->certs[index];
    uint64_t ends_s = atomic_load_explicit(&c->not_after_s, memory_order_relaxed);
    uint64_t warn_s = atomic_load_explicit(&t->warn_s, memory_order_relaxed);
    uint64_t left_s = fb_sub_floor_u64(ends_s, wall_s);
    uint8_t state = ends_s <= wall_s ? 2 : left_s <= warn_s ? 1 : 0;
    if (ends_s == 0 || state == b->cert_state[index])
        return;
    struct ev_alert ev = ev_alert_init(REASON_ALERT_CERT_EXPIRES, (uint16_t)index,
                                       state == 2 ? 2 : 1, state == 0, fb_mono_us());
    ev.value = ((double)ends_s - (double)wall_s) / DAY_S;
    ev.threshold = (double)warn_s / DAY_S;
    int days = (int)fb_clamp(ev.value, -99999, 99999);
    if (state == 2)
        snprintf(ev.text, sizeof ev.text, "the certificate of %.63s (%.100s) has ended: renew it",
                 c->name, c->file);
    else if (state == 1)
        snprintf(ev.text, sizeof ev.text,
                 "the certificate of %.63s (%.80s) ends in %d days: see why it is not renewed",
                 c->name, c->file, days);
    else
        snprintf(ev.text, sizeof ev.text, "the certificate of %.63s was renewed for %d days",
                 c->name, days);
    b->cert_state[index] = state;
    brain_say(b, &ev.head);
    fb_log(state ? FB_LOG_ERROR : FB_LOG_INFO, "%.207s", ev.text);
}

/* In the last quarter of its life nobody has fetched a new one: whoever does it is late. */
static void watch_staple(struct brain *b, uint32_t index, uint64_t wall_s)
{
    const struct memfile_cert *c = &b->mem.head->tls.certs[index];
    uint64_t made_s = atomic_load_explicit(&c->staple_made_s, memory_order_relaxed);
    uint64_t until_s = atomic_load_explicit(&c->staple_until_s, memory_order_relaxed);
    uint64_t left_s = fb_sub_floor_u64(until_s, wall_s);
    bool is_due = left_s < fb_sub_floor_u64(until_s, made_s) / 4;
    uint8_t state = until_s == 0 || until_s == UINT64_MAX ? 0 : left_s == 0 ? 2 : is_due ? 1 : 0;
    if (state == b->staple_state[index])
        return;
    struct ev_alert ev =
        ev_alert_init(REASON_ALERT_STAPLE_OLD, (uint16_t)index, 1, state == 0, fb_mono_us());
    ev.value = (double)left_s;
    if (state == 2)
        snprintf(ev.text, sizeof ev.text,
                 "the OCSP answer of %.63s (%.70s) has ended and is not stapled: fetch a new one",
                 c->name, c->file);
    else if (state == 1)
        snprintf(ev.text, sizeof ev.text,
                 "the OCSP answer of %.63s (%.70s) ends in %u hours: fetch a new one", c->name,
                 c->file, (unsigned)fb_min_u64(left_s / 3600, 99999));
    else
        snprintf(ev.text, sizeof ev.text, "the OCSP answer of %.63s is fresh", c->name);
    b->staple_state[index] = state;
    brain_say(b, &ev.head);
    fb_log(state ? FB_LOG_WARN : FB_LOG_INFO, "%.207s", ev.text);
}

static void watch_renewal(struct brain *b)
{
    const struct memfile_renew *m = &b->mem.head->renew;
    bool is_failing = atomic_load_explicit(&m->is_failing, memory_order_acquire) != 0;
    if (is_failing == b->is_renew_failing)
        return;
    struct ev_alert ev = ev_alert_init(REASON_ALERT_RENEW_FAILED, 0, 1, !is_failing, fb_mono_us());
    ev.value = atomic_load_explicit(&m->last_code, memory_order_relaxed);
    if (is_failing)
        snprintf(ev.text, sizeof ev.text,
                 "the program of tls.renew_exec ended with code %u; it is tried again within the "
                 "hour, or start it by hand to see what it says",
                 atomic_load_explicit(&m->last_code, memory_order_relaxed));
    else
        snprintf(ev.text, sizeof ev.text, "the program of tls.renew_exec ended well");
    b->is_renew_failing = is_failing;
    brain_say(b, &ev.head);
}

static void watch_files(struct brain *b, uint32_t listener)
{
    const struct memfile_tls *t = &b->mem.head->tls;
    bool is_bad = atomic_load_explicit(&t->refused[listener], memory_order_acquire) != 0;
    if (is_bad == b->is_tls_refused[listener])
        return;
    struct ev_alert ev =
        ev_alert_init(REASON_ALERT_CERT_REFUSED, (uint16_t)listener, 2, !is_bad, fb_mono_us());
    if (is_bad)
        snprintf(ev.text, sizeof ev.text, "%.200s", t->why);
    else
        snprintf(ev.text, sizeof ev.text, "the certificate files are good again and in force");
    b->is_tls_refused[listener] = is_bad;
    brain_say(b, &ev.head);
}

static void watch_services(struct brain *b, uint16_t service)
{
    const struct memfile_tls *t = &b->mem.head->tls;
    bool is_bad = atomic_load_explicit(&t->refused_out[service], memory_order_acquire) != 0;
    if (is_bad == b->is_tls_out_refused[service])
        return;
    struct ev_alert ev =
        ev_alert_init(REASON_ALERT_CERT_OUT_REFUSED, service, 2, !is_bad, fb_mono_us());
    ev.target_kind = EV_KIND_SERVICE;
    if (is_bad)
        snprintf(ev.text, sizeof ev.text, "%.200s", t->why_out);
    else
        snprintf(ev.text, sizeof ev.text,
                 "service %.63s: its certificate files are good and in force",
                 memfile_name(&b->mem, EV_KIND_SERVICE, service));
    b->is_tls_out_refused[service] = is_bad;
    brain_say(b, &ev.head);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "analytics/cold.h"

#include <math.h>

/* 16 steps per octave: half of a bin of the curve. */
#define STEP_FACTOR 1.0442737824274138
#define FIRST_BYTES (64.0 * 1024)
/* The tail of a curve takes long and spares little: what counts as back. */
#define BACK_RATIO 0.9
#define RATE_MIN 0.01

static double refill_s(const struct curves *c, uint16_t route, const struct cold_seen *seen,
                       double requests)
{
    double asked = seen->spared_per_s + seen->fetched_per_s;
    double spare = INFINITY, answer_bytes = seen->used_bytes / seen->entries, total_s = 0;
    double goal = curve_hits(c, route, seen->used_bytes) * BACK_RATIO;
    if (!isnan(seen->capacity_per_s))
        spare = seen->capacity_per_s - fmax(seen->service_per_s - seen->fetched_per_s, 0);
    if (spare < RATE_MIN)
        return INFINITY;
    for (double b = 0, next = FIRST_BYTES; b < seen->used_bytes; b = next, next *= STEP_FACTOR) {
        double end = fmin(next, seen->used_bytes), hits = curve_hits(c, route, (b + end) / 2);
        if (hits >= goal)
            break;
        double per_s = fmin(asked * (1 - hits / requests), spare);
        total_s += (end - b) / answer_bytes / fmax(per_s, RATE_MIN);
    }
    return total_s;
}

bool cold_predict(const struct curves *c, uint16_t route, const struct cold_seen *seen,
                  struct cold_view *out)
{
    struct curve_view view;
    bool is_known = curve_view(c, route, &view) && view.samples >= CURVE_SAMPLES_MIN &&
                    view.requests > 0 && seen->entries >= 1 && seen->used_bytes > 0;
    if (!is_known || !(seen->spared_per_s + seen->fetched_per_s > 0))
        return false;
    *out = (struct cold_view){.now_per_s = seen->fetched_per_s,
                              .cold_per_s = seen->fetched_per_s + seen->spared_per_s,
                              .capacity_per_s = seen->capacity_per_s,
                              .load_ratio = NAN,
                              .refill_s = refill_s(c, route, seen, view.requests)};
    if (seen->capacity_per_s > 0)
        out->load_ratio = (fmax(seen->service_per_s, seen->fetched_per_s) + seen->spared_per_s) /
                          seen->capacity_per_s;
    return true;
}

static double minute(const struct facts *f, enum ev_kind kind, uint16_t number, enum fact_id id)
{
    struct fact got = facts_get(f, (struct fact_scope){(uint8_t)kind, number}, id, FACT_60S);
    return got.state == FACT_OK ? got.value : NAN;
}

bool cold_look(const struct curves *c, const struct facts *f, const struct ev_cache_use *use,
               uint16_t service, struct cold_view *out)
{
    double limit = minute(f, EV_KIND_SERVICE, service, FACT_LIMIT);
    double wait_ms = minute(f, EV_KIND_SERVICE, service, FACT_UPSTREAM_P50);
    struct cold_seen seen = {.spared_per_s =
                                 minute(f, EV_KIND_ROUTE, use->route, FACT_CACHE_SPARED_RATE),
                             .fetched_per_s = minute(f, EV_KIND_ROUTE, use->route, FACT_SENT_RATE),
                             .service_per_s = minute(f, EV_KIND_SERVICE, service, FACT_SENT_RATE),
                             .capacity_per_s = wait_ms > 0 ? limit / (wait_ms / 1e3) : NAN,
                             .used_bytes = (double)use->used_bytes,
                             .entries = (double)use->entries};
    return cold_predict(c, use->route, &seen, out);
}

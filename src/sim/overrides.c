/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "sim/sim.h"

static const char *const balance_names[] = {
    [GATE_BALANCE_ADAPTIVE] = "adaptive",           [GATE_BALANCE_ROUND_ROBIN] = "round_robin",
    [GATE_BALANCE_LEAST_REQUEST] = "least_request", [GATE_BALANCE_WEIGHTED] = "weighted",
    [GATE_BALANCE_RANDOM_TWO] = "random_two",       [GATE_BALANCE_HASH] = "hash"};

/* Numbers: where they go and what is legal. */
struct number_row {
    const char *key;
    size_t offset;
    bool is_double;
    double min, max;
};
#define ROW(k, field, dbl, lo, hi)                                                                 \
    {                                                                                              \
        .key = (k), .offset = offsetof(struct sim_overrides, field), .is_double = (dbl),           \
        .min = (lo), .max = (hi)                                                                   \
    }
static const struct number_row numbers[] = {
    ROW("queue_wait_ms", queue_wait_ms, false, 0, 60000),
    ROW("queue_capacity", queue_capacity, false, 1, 1e6),
    ROW("gateways", gateways, false, 1, 16),
    ROW("exchange_ms", exchange_ms, false, 0, 10000),
    ROW("timeout_ms", timeout_ms, false, 0, 600000),
    ROW("clients", clients, false, 1, 100000),
    ROW("retry_pct", retry_pct, true, 0, 100),
    ROW("load", load_factor, true, 0.001, 1000),
    ROW("time", time_factor, true, 0.01, 100),
    ROW("stretch", stretch, true, 0.01, 100),
};
#undef ROW

static enum fb_code set_balance(struct sim_overrides *o, const char *value, struct fb_err *err);
static enum fb_code set_limit(struct sim_overrides *o, const char *value, struct fb_err *err);
static enum fb_code set_switch(int *to, const char *key, const char *value, struct fb_err *err);
static bool to_number(const char *text, double *value);

void sim_overrides_init(struct sim_overrides *o)
{
    o->balance = o->is_learned = o->limit_fixed = o->is_ejecting = o->is_codel = -1;
    o->queue_wait_ms = o->queue_capacity = o->gateways = o->timeout_ms = o->clients =
        o->is_looping = o->exchange_ms = -1;
    o->retry_pct = -1;
    o->load_factor = o->time_factor = o->stretch = 1;
    o->trace_rows = 0;
}

enum fb_code sim_override(struct sim_overrides *o, const char *key, const char *value,
                          struct fb_err *err)
{
    if (strcmp(key, "balance") == 0)
        return set_balance(o, value, err);
    if (strcmp(key, "limit") == 0)
        return set_limit(o, value, err);
    if (strcmp(key, "eject") == 0)
        return set_switch(&o->is_ejecting, key, value, err);
    if (strcmp(key, "codel") == 0)
        return set_switch(&o->is_codel, key, value, err);
    if (strcmp(key, "loops") == 0)
        return set_switch(&o->is_looping, key, value, err);
    for (size_t i = 0; i < FB_COUNT(numbers); i++) {
        const struct number_row *row = &numbers[i];
        if (strcmp(key, row->key) != 0)
            continue;
        double v;
        if (!to_number(value, &v) || v < row->min || v > row->max)
            return fb_fail(err, FB_E_RANGE,
                           "simulate: %s must be a number from %g to %g, got \"%s\"", key, row->min,
                           row->max, value);
        void *field = (char *)o + row->offset;
        if (row->is_double)
            *(double *)field = v;
        else
            *(int *)field = (int)v;
        return FB_OK;
    }
    return fb_fail(
        err, FB_E_USAGE,
        "simulate: no parameter \"%s\"; there are balance, limit, eject, codel, loops, "
        "queue_wait_ms, "
        "queue_capacity, gateways, exchange_ms, timeout_ms, clients, retry_pct, load, time and "
        "stretch",
        key);
}

enum fb_code sim_override_trace(struct sim_overrides *o, struct span csv, struct fb_err *err)
{
    uint32_t line = 0;
    o->trace_rows = 0;
    while (csv.len > 0) {
        struct span row = span_trim(span_cut(csv, '\n', &csv));
        line++;
        if (row.len == 0 || row.at[0] == '#')
            continue;
        char text[64];
        if (row.len >= sizeof(text))
            return fb_fail(err, FB_E_FORMAT,
                           "simulate: line %u of the trace is longer than 63 bytes", line);
        memcpy(text, row.at, row.len);
        text[row.len] = 0;
        char *comma = strchr(text, ',');
        struct sim_trace_row r = {0, 0};
        if (comma)
            *comma = 0;
        bool is_good = comma && to_number(text, &r.seconds) && to_number(comma + 1, &r.requests);
        if (!is_good && line == 1)
            continue; /* heading */
        if (!is_good || r.seconds <= 0 || r.seconds > 86400 || r.requests < 0 || r.requests > 1e9)
            return fb_fail(
                err, FB_E_FORMAT,
                "simulate: line %u of the trace must be \"seconds,requests\" with seconds above 0",
                line);
        if (o->trace_rows == SIM_TRACE_MAX)
            return fb_fail(err, FB_E_RANGE, "simulate: the trace has more than %d rows; join some",
                           SIM_TRACE_MAX);
        o->trace[o->trace_rows++] = r;
    }
    if (o->trace_rows == 0)
        return fb_fail(err, FB_E_FORMAT, "simulate: the trace has no rows \"seconds,requests\"");
    return FB_OK;
}

static enum fb_code set_balance(struct sim_overrides *o, const char *value, struct fb_err *err)
{
    for (size_t i = 0; i < FB_COUNT(balance_names); i++)
        if (strcmp(value, balance_names[i]) == 0) {
            o->balance = (int)i;
            return FB_OK;
        }
    return fb_fail(err, FB_E_RANGE,
                   "simulate: balance must be adaptive, round_robin, least_request, weighted, "
                   "random_two or hash, got \"%s\"",
                   value);
}

static enum fb_code set_limit(struct sim_overrides *o, const char *value, struct fb_err *err)
{
    double v = 0;
    bool is_learned = strcmp(value, "learned") == 0;
    bool is_none = strcmp(value, "none") == 0;
    if (!is_learned && !is_none && (!to_number(value, &v) || v < 1 || v > 100000))
        return fb_fail(err, FB_E_RANGE,
                       "simulate: limit must be learned, none or 1..100000, got \"%s\"", value);
    o->is_learned = is_learned;
    o->limit_fixed = (int)v;
    return FB_OK;
}

static enum fb_code set_switch(int *to, const char *key, const char *value, struct fb_err *err)
{
    bool is_on = strcmp(value, "on") == 0;
    if (!is_on && strcmp(value, "off") != 0)
        return fb_fail(err, FB_E_RANGE, "simulate: %s must be on or off, got \"%s\"", key, value);
    *to = is_on;
    return FB_OK;
}

static bool to_number(const char *text, double *value)
{
    char *end;
    *value = strtod(text, &end);
    while (*end == ' ' || *end == '\t')
        end++;
    return end != text && *end == 0 && *value - *value == 0; /* finite */
}

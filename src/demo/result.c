/* SPDX-License-Identifier: Apache-2.0 */
#include "demo/result.h"

#include <stdlib.h>
#include <string.h>

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static double quantile_ms(const uint32_t *sorted_us, size_t n, double q)
{
    if (n == 0)
        return 0;
    size_t at = (size_t)(q * (double)n);
    return (double)sorted_us[at < n ? at : n - 1] / 1000.0;
}

static void add(struct result_class *c, const struct load_sample *s)
{
    c->offered++;
    c->ok += s->outcome == LOAD_OK;
    c->in_time += s->outcome == LOAD_OK && s->latency_us <= DEMO_DEADLINE_US;
    c->shed += s->outcome == LOAD_SHED;
    c->errors += s->outcome == LOAD_ERROR;
    c->timeouts += s->outcome == LOAD_TIMEOUT;
}

void result_compute(const struct load_board *board, uint32_t from_ms, uint32_t until_ms,
                    struct result *out)
{
    uint32_t count = atomic_load_explicit(&board->count, memory_order_acquire);
    uint32_t *room = malloc((count ? count : 1) * sizeof *room);
    memset(out, 0, sizeof *out);
    for (int class = -1; room && class < EV_CLASS_COUNT; class ++) {
        struct result_class *c = class < 0 ? &out->all : &out->class[class];
        size_t n = 0;
        for (uint32_t i = 0; i < count; i++) {
            const struct load_sample *s = &board->sample[i];
            if (s->at_ms < from_ms || s->at_ms >= until_ms || (class >= 0 && s->class != class))
                continue;
            add(c, s);
            if (s->outcome == LOAD_OK)
                room[n++] = s->latency_us;
        }
        qsort(room, n, sizeof *room, by_value);
        c->p50_ms = quantile_ms(room, n, 0.5);
        c->p99_ms = quantile_ms(room, n, 0.99);
        c->p999_ms = quantile_ms(room, n, 0.999);
    }
    free(room);
}

double result_in_time_pct(const struct result_class *c)
{
    return c->offered ? 100.0 * (double)c->in_time / (double)c->offered : 0;
}

static void class_to_json(const struct result_class *c, struct json *j)
{
    json_object_begin(j);
    json_key_u64(j, "offered", c->offered);
    json_key_f64(j, "in_time_pct", result_in_time_pct(c));
    json_key_f64(j, "p50_ms", c->p50_ms);
    json_key_f64(j, "p99_ms", c->p99_ms);
    json_key_f64(j, "p999_ms", c->p999_ms);
    json_key_u64(j, "shed", c->shed);
    json_key_u64(j, "errors", c->errors);
    json_key_u64(j, "timeouts", c->timeouts);
    json_object_end(j);
}

void result_to_json(const struct result *r, struct json *j)
{
    json_object_begin(j);
    json_key(j, "classes");
    json_object_begin(j);
    for (uint8_t i = 0; i < EV_CLASS_COUNT; i++) {
        json_key(j, ev_class_name(i));
        class_to_json(&r->class[i], j);
    }
    json_object_end(j);
    json_key_u64(j, "offered", r->all.offered);
    json_key_f64(j, "goodput_pct", result_in_time_pct(&r->all));
    json_key_f64(j, "p50_ms", r->all.p50_ms);
    json_key_f64(j, "p99_ms", r->all.p99_ms);
    json_key_f64(j, "p999_ms", r->all.p999_ms);
    json_key_u64(j, "shed", r->all.shed);
    json_key_u64(j, "timeouts", r->all.timeouts);
    json_key_u64(j, "errors", r->all.errors + r->all.timeouts);
    json_object_end(j);
}

static void row(struct buf *out, const char *name, const struct result_class *a,
                const struct result_class *b)
{
    buf_printf(out, "  %-12s %8llu | %6.1f %% %8.0f %8.0f %8.0f | %6.1f %% %8.0f %8.0f %8.0f\n",
               name, (unsigned long long)a->offered, result_in_time_pct(a), a->p50_ms, a->p99_ms,
               a->p999_ms, result_in_time_pct(b), b->p50_ms, b->p99_ms, b->p999_ms);
}

void result_table(const struct result *ours, const struct result *twin, struct buf *out)
{
    buf_printf(out, "\n  %-12s %8s | %-35s | %-35s\n", "", "", "foldback", "static round robin");
    buf_printf(out, "  %-12s %8s | %8s %8s %8s %8s | %8s %8s %8s %8s\n", "class", "offered",
               "in time", "p50 ms", "p99 ms", "p99.9 ms", "in time", "p50 ms", "p99 ms",
               "p99.9 ms");
    for (uint8_t i = 0; i < EV_CLASS_COUNT; i++)
        row(out, ev_class_name(i), &ours->class[i], &twin -> class[i]);
    row(out, "all", &ours->all, &twin->all);
    const struct result_class *a = &ours->all, *b = &twin->all;
    buf_printf(
        out,
        "\n  in time within %llu ms of the moment the user clicked; quantiles of good answers\n",
        (unsigned long long)(DEMO_DEADLINE_US / 1000));
    buf_printf(out, "  %-21s | errors %llu, gave up %llu, told at once to come back %llu\n",
               "foldback", (unsigned long long)a->errors, (unsigned long long)a->timeouts,
               (unsigned long long)a->shed);
    buf_printf(out, "  %-21s | errors %llu, gave up %llu, told at once to come back %llu\n",
               "static round robin", (unsigned long long)b->errors, (unsigned long long)b->timeouts,
               (unsigned long long)b->shed);
}

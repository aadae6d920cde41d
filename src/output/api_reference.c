/* SPDX-License-Identifier: Apache-2.0 */
/* GET /v1/reference: the tables as they are in this build. */
#include "output/admin_int.h"

void api_run_reference(struct api_call *c);

static void put_events(struct json *j)
{
    static const char *const privacy[] = {"open", "pseudonym", "personal"};
    json_key(j, "events");
    json_array_begin(j);
    for (uint8_t t = 1; t < EV_TYPE_END; t++) {
        const struct ev_type_row *row = ev_type_row(t);
        if (!row->name)
            continue;
        json_object_begin(j);
        json_key_str(j, "name", row->name);
        json_key_u64(j, "id", t);
        json_key_str(j, "what", row->what);
        json_key(j, "fields");
        json_array_begin(j);
        for (uint8_t i = 0; i < row->field_count; i++) {
            const struct ev_field_row *f = &row->fields[i];
            if (ev_field_is_reserved(f))
                continue;
            json_object_begin(j);
            json_key_str(j, "name", f->name);
            json_key_str(j, "unit", f->unit);
            json_key_str(j, "privacy", privacy[f->privacy <= 2 ? f->privacy : 2]);
            json_key_str(j, "what", f->what);
            json_object_end(j);
        }
        json_array_end(j);
        json_object_end(j);
    }
    json_array_end(j);
}

static void put_facts(struct json *j)
{
    json_key(j, "facts");
    json_array_begin(j);
    for (uint16_t i = 1; i < FACT_END; i++) {
        const struct fact_row *row = fact_row(i);
        if (!row->name)
            continue;
        json_object_begin(j);
        json_key_str(j, "name", row->name);
        json_key_str(j, "unit", row->unit);
        json_key_str(j, "what", row->what);
        json_object_end(j);
    }
    json_array_end(j);
}

static void put_knobs(struct json *j)
{
    json_key(j, "knobs");
    json_array_begin(j);
    for (uint16_t i = 0; i < KNOB_COUNT; i++) {
        const struct knob_row *row = knob_row(i);
        if (!row->name)
            continue;
        json_object_begin(j);
        json_key_str(j, "name", row->name);
        json_key_str(j, "kind", ev_kind_name((uint8_t)row->kind));
        json_key_str(j, "unit", row->unit);
        json_key_f64(j, "min", row->min);
        json_key_f64(j, "max", row->max);
        json_key_f64(j, "safe", row->safe);
        json_key_u64(j, "dwell_ms", row->dwell_ms);
        json_key_str(j, "loop", loop_row((uint16_t)row->loop)->name);
        json_key_str(j, "what", row->what);
        json_key_str(j, "why", row->why);
        json_object_end(j);
    }
    json_array_end(j);
    json_key(j, "loops");
    json_array_begin(j);
    for (uint16_t i = 1; i < LOOP_COUNT; i++) {
        json_object_begin(j);
        json_key_str(j, "name", loop_row(i)->name);
        json_key_u64(j, "period_ms", loop_row(i)->period_ms);
        json_key_str(j, "what", loop_row(i)->what);
        json_object_end(j);
    }
    json_array_end(j);
}

static void put_reasons(struct json *j)
{
    static const char *const kinds[] = {"request", "health", "learn", "loop",
                                        "loss",    "alert",  "alert"};
    json_key(j, "reasons");
    json_array_begin(j);
    for (uint16_t i = 1; i < REASON_END; i++) {
        const struct ev_reason_row *row = ev_reason_row(i);
        if (!row->name)
            continue;
        json_object_begin(j);
        json_key_str(j, "name", row->name);
        json_key_u64(j, "id", i);
        json_key_str(j, "kind", (size_t)row->kind < FB_COUNT(kinds) ? kinds[row->kind] : "");
        json_key_u64(j, "status", row->status);
        json_key_str(j, "proxy_status", row->proxy_status);
        json_key_str(j, "sentence", row->sentence);
        json_object_end(j);
    }
    json_array_end(j);
}

static void put_errors(struct json *j)
{
    json_key(j, "errors");
    json_array_begin(j);
    for (unsigned i = 0; i < FB_E_COUNT; i++) {
        const struct fb_error_row *row = fb_error_row((enum fb_code)i);
        json_object_begin(j);
        json_key_str(j, "name", row->name);
        json_key_u64(j, "exit_code", (uint64_t)row->exit_code);
        json_key_str(j, "what", row->what);
        json_key_str(j, "remedy", row->remedy);
        json_object_end(j);
    }
    json_array_end(j);
}

static void put_metrics(struct json *j)
{
    static const char *const kinds[] = {"counter", "gauge", "histogram", "info"};
    json_key(j, "metrics");
    json_array_begin(j);
    for (unsigned i = 0; i < METRIC_ID_COUNT; i++) {
        const struct metric_row *row = metric_row(i);
        json_object_begin(j);
        json_key_str(j, "name", row->name);
        json_key_str(j, "kind", kinds[row->kind]);
        json_key_str(j, "labels", row->labels);
        json_key_str(j, "most_series", row->most_series);
        json_key_str(j, "what", row->help);
        json_object_end(j);
    }
    json_array_end(j);
}

static void put_api(struct json *j)
{
    static const char *const access[] = {"open", "read", "write", "ingest"};
    json_key(j, "api");
    json_array_begin(j);
    for (size_t i = 0; i < api_row_count(); i++) {
        const struct api_row *row = api_row_at(i);
        json_object_begin(j);
        json_key_str(j, "method", row->method);
        json_key_str(j, "path", row->path);
        json_key_str(j, "access", access[row->access]);
        json_key_str(j, "query", row->query);
        json_key_str(j, "what", row->what);
        json_object_end(j);
    }
    json_array_end(j);
}

void api_run_reference(struct api_call *c)
{
    json_object_begin(&c->j);
    put_events(&c->j);
    put_facts(&c->j);
    put_knobs(&c->j);
    put_reasons(&c->j);
    put_errors(&c->j);
    put_metrics(&c->j);
    put_api(&c->j);
    json_object_end(&c->j);
}

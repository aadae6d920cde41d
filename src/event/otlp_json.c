/* SPDX-License-Identifier: Apache-2.0 */
/* The JSON form of OTLP: lowerCamelCase names, 64-bit integers as text or number. */
#include "event/otlp.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

struct reading {
    otlp_each *each;
    void *arg;
    struct span service;
    uint64_t resource, scope; /* sums of hashes */
};

static struct span text_at(const json_t *o, const char *key)
{
    const char *text = json_string_value(json_object_get(o, key));
    return text ? span_of(text) : (struct span){"", 0};
}

/* NAN: there is none. */
static double number_at(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    const char *text = json_string_value(v);
    char *end = NULL;
    if (json_is_number(v))
        return json_number_value(v);
    double number = text && text[0] ? strtod(text, &end) : NAN;
    return end && *end == '\0' ? number : NAN;
}

/* The same for the same, in whatever order its members come. */
static uint64_t hash_of(const json_t *v)
{
    char *text = json_dumps(v, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);
    uint64_t hash = otlp_hash(text ? span_of(text) : SPAN(""));
    free(text);
    return hash;
}

static uint64_t hash_all(const json_t *attributes)
{
    uint64_t sum = 0;
    size_t i;
    const json_t *a;
    json_array_foreach(attributes, i, a)
    {
        sum += hash_of(a);
    }
    return sum;
}

/* Nanoseconds since 1970, a 64-bit integer as text or number; 0 unknown. */
static uint64_t time_at(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    uint64_t ns = 0;
    if (json_is_integer(v))
        return json_integer_value(v) > 0 ? (uint64_t)json_integer_value(v) : 0;
    return json_is_string(v) && span_to_u64(text_at(o, key), &ns) ? ns : 0;
}

static void read_identity(const struct reading *r, const json_t *p, struct otlp_sample *s)
{
    const uint64_t sums[3] = {r->resource, r->scope, hash_all(json_object_get(p, "attributes"))};
    s->start_ns = time_at(p, "startTimeUnixNano");
    s->time_ns = time_at(p, "timeUnixNano");
    s->series = otlp_series(sums, s->name);
}

/* A summary is cumulative; a sum that may fall is no total. */
static bool is_total(const json_t *data, const char *kind)
{
    const json_t *t = json_object_get(data, "aggregationTemporality");
    const char *name = json_string_value(t);
    bool is_cumulative = json_integer_value(t) == 2 ||
                         (name && strcmp(name, "AGGREGATION_TEMPORALITY_CUMULATIVE") == 0);
    if (strcmp(kind, "sum") == 0)
        return is_cumulative && json_is_true(json_object_get(data, "isMonotonic"));
    return strcmp(kind, "summary") == 0 || (strcmp(kind, "gauge") != 0 && is_cumulative);
}

static void read_points(struct reading *r, const json_t *points, struct otlp_sample *s)
{
    size_t i;
    const json_t *p;
    json_array_foreach(points, i, p)
    {
        double count = number_at(p, "count"), value = number_at(p, "asDouble");
        s->weight = s->kind == OTLP_MEAN ? count : 1;
        if (s->is_total)
            read_identity(r, p, s);
        if (s->kind == OTLP_MEAN)
            s->value = number_at(p, "sum") / (s->is_total ? 1 : count);
        else
            s->value = isnan(value) ? number_at(p, "asInt") : value;
        bool is_there = json_object_get(p, "asDouble") || json_object_get(p, "asInt");
        /* a value that is no number is told as one, and refused with the others */
        if (s->kind == OTLP_MEAN ? s->weight > 0 : is_there)
            r->each(r->arg, s);
    }
}

static void read_metric(struct reading *r, const json_t *m)
{
    static const struct {
        const char *key;
        enum otlp_kind kind;
    } kinds[] = {{"gauge", OTLP_GAUGE},
                 {"sum", OTLP_SUM},
                 {"histogram", OTLP_MEAN},
                 {"exponentialHistogram", OTLP_MEAN},
                 {"summary", OTLP_MEAN}};
    for (size_t i = 0; i < FB_COUNT(kinds); i++) {
        struct otlp_sample s = {
            .kind = kinds[i].kind, .service = r->service, .name = text_at(m, "name")};
        const json_t *data = json_object_get(m, kinds[i].key);
        s.is_total = is_total(data, kinds[i].key);
        read_points(r, json_object_get(data, "dataPoints"), &s);
    }
}

static void read_log(struct reading *r, const json_t *l)
{
    double severity = number_at(l, "severityNumber");
    struct otlp_sample s = {.kind = OTLP_SUM, .service = r->service, .value = 1, .weight = 1};
    s.name = span_of(otlp_severity_name(severity >= 1 && severity <= 24 ? (uint64_t)severity : 0));
    r->each(r->arg, &s);
}

static void read_span(struct reading *r, const json_t *o)
{
    double ns = number_at(o, "endTimeUnixNano") - number_at(o, "startTimeUnixNano");
    struct otlp_sample s = {.kind = OTLP_MEAN,
                            .service = r->service,
                            .name = text_at(o, "name"),
                            .value = ns > 0 ? ns / 1e6 : 0,
                            .weight = 1};
    r->each(r->arg, &s);
}

static void read_resource(struct reading *r, const json_t *part)
{
    size_t i;
    const json_t *a;
    r->service = (struct span){"", 0};
    r->resource = hash_all(json_object_get(json_object_get(part, "resource"), "attributes"));
    json_array_foreach(json_object_get(json_object_get(part, "resource"), "attributes"), i, a)
    {
        if (span_eq(text_at(a, "key"), SPAN("service.name")))
            r->service = text_at(json_object_get(a, "value"), "stringValue");
    }
}

/* An integer beyond 64 bits makes all integers of the document real numbers, not the document bad.
 */
static json_t *load(struct span s, json_error_t *error)
{
    json_t *root = json_loadb(s.at, s.len, 0, error);
    if (!root && json_error_code(error) == json_error_numeric_overflow)
        root = json_loadb(s.at, s.len, JSON_DECODE_INT_AS_REAL, error);
    return root;
}

/* Lists down to <keys>; what is not there is an empty one.  Unknown fields are passed over, as the
 * specification has it, but not a document of another signal. */
static bool has_shape(const json_t *o, const char *const *keys, size_t depth, char why[160])
{
    const json_t *list = json_object_get(o, keys[0]);
    size_t i;
    const json_t *one;
    if (!json_is_object(o) || (list && !json_is_array(list))) {
        snprintf(why, 160,
                 json_is_object(o) ? "%s is not a list" : "an entry above %s is no object",
                 keys[0]);
        return false;
    }
    json_array_foreach(list, i, one)
    {
        if (depth > 1 && !has_shape(one, keys + 1, depth - 1, why))
            return false;
        if (depth == 1 && !json_is_object(one)) {
            snprintf(why, 160, "an entry of %s is no object", keys[0]);
            return false;
        }
    }
    return true;
}

bool otlp_read_json(enum otlp_signal signal, struct span bytes, otlp_each *each, void *arg,
                    char why[160])
{
    static const char *const keys[][3] = {{"resourceMetrics", "scopeMetrics", "metrics"},
                                          {"resourceLogs", "scopeLogs", "logRecords"},
                                          {"resourceSpans", "scopeSpans", "spans"}};
    static void (*const read[])(struct reading *, const json_t *) = {read_metric, read_log,
                                                                     read_span};
    struct reading r = {.each = each, .arg = arg, .service = {"", 0}};
    json_error_t error;
    if (bytes.len == 0) {
        snprintf(why, 160, "the body is empty");
        return false;
    }
    json_t *root = load(bytes, &error);
    size_t i, k, n;
    const json_t *part, *scope, *one;
    if (!json_is_object(root)) {
        snprintf(why, 160, root ? "not a JSON object" : "line %d: %.120s", error.line, error.text);
        json_decref(root);
        return false;
    }
    for (i = 0; i < FB_COUNT(keys); i++)
        if (!json_object_get(root, keys[signal][0]) && json_object_get(root, keys[i][0])) {
            snprintf(why, 160, "%s belongs to another path: this one takes %s", keys[i][0],
                     keys[signal][0]);
            json_decref(root);
            return false;
        }
    if (!has_shape(root, keys[signal], FB_COUNT(keys[signal]), why)) {
        json_decref(root);
        return false;
    }
    json_array_foreach(json_object_get(root, keys[signal][0]), i, part)
    {
        read_resource(&r, part);
        json_array_foreach(json_object_get(part, keys[signal][1]), k, scope)
        {
            r.scope = hash_of(json_object_get(scope, "scope"));
            json_array_foreach(json_object_get(scope, keys[signal][2]), n, one)
                read[signal](&r, one);
        }
    }
    json_decref(root);
    return true;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The routing table, path matching, and the OpenAPI document that is written from both. */
#include "output/api.h"

#include "base/assert.h"

#include <stdio.h>

#define API(method, path, run, ...) void api_run_##run(struct api_call *c);
#include "output/api.def"
#undef API

static const struct api_row rows[] = {
#define API(method_, path_, run_, access_, query_, body_, answer_, what_)                          \
    {.method = #method_,                                                                           \
     .path = path_,                                                                                \
     .name = #run_,                                                                                \
     .access = API_##access_,                                                                      \
     .query = query_,                                                                              \
     .body = body_,                                                                                \
     .answer = answer_,                                                                            \
     .what = what_,                                                                                \
     .run = api_run_##run_},
#include "output/api.def"
#undef API
};

static const struct {
    const char *name, *type, *what;
} queries[] = {
#define API_QUERY(name, type, what) {#name, type, what},
#include "output/api.def"
#undef API_QUERY
};

static const struct {
    const char *name, *text;
} schemas[] = {
#include "output/api_schemas.inc"
};

size_t api_row_count(void)
{
    return FB_COUNT(rows);
}

const struct api_row *api_row_at(size_t i)
{
    fb_assert(i < FB_COUNT(rows));
    return &rows[i];
}

static bool path_fits(struct span pattern, struct span path, struct span params[2])
{
    size_t count = 0;
    for (;;) {
        struct span have = span_cut(path, '/', &path);
        struct span want = span_cut(pattern, '/', &pattern);
        if (want.len > 0 && want.at[0] == '{') {
            if (have.len == 0)
                return false;
            fb_assert(count < 2);
            params[count++] = have;
        } else if (!span_eq(have, want)) {
            return false;
        }
        if (pattern.len == 0 || path.len == 0)
            return pattern.len == path.len;
    }
}

const struct api_row *api_find(struct span method, struct span path, struct span params[2],
                               bool *is_path_known)
{
    *is_path_known = false;
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        struct span found[2] = {{"", 0}, {"", 0}};
        if (path.len == 0 || path.at[path.len - 1] == '/' ||
            !path_fits(span_of(rows[i].path), path, found))
            continue;
        *is_path_known = true;
        if (!span_eq(method, span_of(rows[i].method)))
            continue;
        params[0] = found[0];
        params[1] = found[1];
        return &rows[i];
    }
    return NULL;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

bool api_decode(struct span in, bool is_query, char *out, size_t cap)
{
    size_t len = 0;
    for (size_t i = 0; i < in.len; i++) {
        char c = in.at[i];
        if (c == '+' && is_query) {
            c = ' ';
        } else if (c == '%') {
            int high = i + 2 < in.len ? hex_digit(in.at[i + 1]) : -1;
            int low = i + 2 < in.len ? hex_digit(in.at[i + 2]) : -1;
            if (high < 0 || low < 0)
                return false;
            c = (char)(high << 4 | low);
            i += 2;
        }
        if (c == '\0' || len + 1 >= cap)
            return false;
        out[len++] = c;
    }
    if (cap > 0)
        out[len] = '\0';
    return cap > 0;
}

/* ---- OpenAPI ---- */
struct span api_schema(const char *name)
{
    for (size_t i = 0; i < FB_COUNT(schemas); i++)
        if (strcmp(schemas[i].name, name) == 0)
            return span_of(schemas[i].text);
    return (struct span){"", 0};
}

static void put_parameter(struct json *j, struct span name, const char *in)
{
    const char *type = "string", *what = "";
    for (size_t i = 0; i < FB_COUNT(queries); i++)
        if (strcmp(in, "query") == 0 && span_eq(name, span_of(queries[i].name))) {
            type = queries[i].type;
            what = queries[i].what;
        }
    json_object_begin(j);
    json_key(j, "name");
    json_span(j, name);
    json_key_str(j, "in", in);
    json_key_bool(j, "required", strcmp(in, "path") == 0);
    if (what[0])
        json_key_str(j, "description", what);
    json_key(j, "schema");
    json_object_begin(j);
    json_key_str(j, "type", type);
    json_object_end(j);
    json_object_end(j);
}

static void put_parameters(struct json *j, const struct api_row *row)
{
    json_key(j, "parameters");
    json_array_begin(j);
    for (struct span rest = span_of(row->path); rest.len > 0;) {
        struct span part = span_cut(rest, '/', &rest);
        if (part.len > 2 && part.at[0] == '{')
            put_parameter(j, (struct span){part.at + 1, part.len - 2}, "path");
    }
    for (struct span rest = span_of(row->query); rest.len > 0;)
        put_parameter(j, span_cut(rest, ',', &rest), "query");
    json_array_end(j);
}

/* {"content": {"application/json": {"schema": {"$ref": ...}}}} */
static void put_content(struct json *j, const char *schema)
{
    bool is_media = strchr(schema, '/') != NULL;
    json_key(j, "content");
    json_object_begin(j);
    json_key(j, is_media ? schema : "application/json");
    json_object_begin(j);
    if (!is_media) {
        char ref[80];
        snprintf(ref, sizeof ref, "#/components/schemas/%s", schema);
        json_key(j, "schema");
        json_object_begin(j);
        json_key_str(j, "$ref", ref);
        json_object_end(j);
    }
    json_object_end(j);
    json_object_end(j);
}

static const char *good_status(const struct api_row *row)
{
    return row->answer[0] == '\0'                                                         ? "204"
           : strcmp(row->answer, "Accepted") == 0 || strcmp(row->answer, "Ingested") == 0 ? "202"
                                                                                          : "200";
}

static void put_operation(struct json *j, const struct api_row *row)
{
    char method[8];
    size_t len = strlen(row->method);
    fb_assert(len < sizeof method);
    for (size_t i = 0; i <= len; i++) /* the NUL has no letter bit to set */
        method[i] = row->method[i] ? (char)(row->method[i] | 0x20) : '\0';
    json_key(j, method);
    json_object_begin(j);
    json_key_str(j, "operationId", row->name);
    json_key_str(j, "summary", row->what);
    put_parameters(j, row);
    if (row->body[0]) {
        json_key(j, "requestBody");
        json_object_begin(j);
        json_key_bool(j, "required", strcmp(row->body, "Scope") != 0);
        put_content(j, row->body);
        json_object_end(j);
    }
    if (row->access == API_OPEN) {
        json_key(j, "security");
        json_array_begin(j);
        json_array_end(j);
    }
    json_key(j, "responses");
    json_object_begin(j);
    json_key(j, good_status(row));
    json_object_begin(j);
    json_key_str(j, "description", row->what);
    if (row->answer[0])
        put_content(j, row->answer);
    json_object_end(j);
    json_key(j, "default");
    json_raw(j, SPAN("{\"description\":\"Problem (RFC 9457) with code and remedy.\",\"content\":"
                     "{\"application/problem+json\":{\"schema\":"
                     "{\"$ref\":\"#/components/schemas/Problem\"}}}}"));
    json_object_end(j);
    json_object_end(j);
}

static void put_paths(struct json *j)
{
    json_key(j, "paths");
    json_object_begin(j);
    for (size_t i = 0; i < FB_COUNT(rows); i++) {
        bool is_first = true;
        for (size_t k = 0; k < i; k++)
            is_first &= strcmp(rows[k].path, rows[i].path) != 0;
        if (!is_first)
            continue;
        json_key(j, rows[i].path);
        json_object_begin(j);
        for (size_t k = i; k < FB_COUNT(rows); k++)
            if (strcmp(rows[k].path, rows[i].path) == 0)
                put_operation(j, &rows[k]);
        json_object_end(j);
    }
    json_object_end(j);
}

void api_openapi(struct json *j)
{
    json_object_begin(j);
    json_key_str(j, "openapi", "3.1.0");
    json_key(j, "info");
    json_object_begin(j);
    json_key_str(j, "title", "foldback admin API");
    json_key_str(j, "version", FB_VERSION);
    json_key_str(j, "summary", "What a running foldback sees and decides, and how to steer it.");
    json_key(j, "license");
    json_raw(j, SPAN("{\"name\":\"Apache-2.0\",\"identifier\":\"Apache-2.0\"}"));
    json_object_end(j);
    json_key(j, "security");
    json_raw(j, SPAN("[{\"token\":[]},{\"session\":[]}]"));
    put_paths(j);
    json_key(j, "components");
    json_object_begin(j);
    json_key(j, "securitySchemes");
    json_raw(j, SPAN("{\"token\":{\"type\":\"http\",\"scheme\":\"bearer\"},\"session\":{\"type\":"
                     "\"apiKey\",\"in\":\"cookie\",\"name\":\"foldback_PORT\"}}"));
    json_key(j, "schemas");
    json_object_begin(j);
    for (size_t i = 0; i < FB_COUNT(schemas); i++) {
        json_key(j, schemas[i].name);
        json_raw(j, span_of(schemas[i].text));
    }
    json_object_end(j);
    json_object_end(j);
    json_object_end(j);
}

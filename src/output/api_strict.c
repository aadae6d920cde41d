/* SPDX-License-Identifier: Apache-2.0 */
/* A name that a call does not know is refused: {"rout": "shop /"} must not become "every route".
 * What is legal comes from the tables behind GET /v1/openapi.json. */
#include "output/admin_int.h"

#include <stdio.h>

#define VALUE_MAX_BYTES 120 /* of a query; no name is longer */

/* Behind the JSON value at <s>: a string, or anything with its brackets. */
static struct span skip_value(struct span s)
{
    int depth = 0;
    bool is_text = false;
    size_t i = 0;
    for (; i < s.len; i++) {
        char ch = s.at[i];
        if (is_text && ch == '\\')
            i++;
        else if (ch == '"')
            is_text = !is_text;
        else if (!is_text && (ch == '{' || ch == '['))
            depth++;
        else if (!is_text && (ch == '}' || ch == ']') && depth-- == 0)
            break;
        else if (!is_text && ch == ',' && depth == 0)
            break;
    }
    return (struct span){s.at + i, s.len - i};
}

/* The next name of the compact object whose inside is <*rest>; false at its end. */
static bool next_name(struct span *rest, struct span *name)
{
    if (rest->len && rest->at[0] == ',')
        *rest = (struct span){rest->at + 1, rest->len - 1};
    if (rest->len == 0 || rest->at[0] != '"')
        return false;
    struct span behind;
    *name = span_cut((struct span){rest->at + 1, rest->len - 1}, '"', &behind);
    *rest = skip_value((struct span){behind.at + 1, behind.len - 1}); /* behind the colon */
    return true;
}

/* Inside of "properties" of a schema that allows no other name; false: it does. */
static bool properties_of(const char *schema, struct span *inside)
{
    static const char closed[] = "\"additionalProperties\":false}", head[] = "\"properties\":{";
    struct span text = api_schema(schema);
    if (text.len < sizeof closed ||
        memcmp(text.at + text.len - (sizeof closed - 1), closed, sizeof closed - 1) != 0)
        return false;
    const char *at = strstr(text.at, head);
    if (!at)
        return false;
    at += sizeof head - 1;
    *inside = (struct span){at, text.len - (size_t)(at - text.at)};
    return true;
}

bool api_fields_known(struct api_call *c, const struct jsonin *in)
{
    struct span inside = {"", 0}, rest, name;
    if (!c->row || (c->row->body[0] && !properties_of(c->row->body, &inside)))
        return true;
    for (size_t i = 0; i < in->count; i++) {
        bool is_known = false;
        for (rest = inside; !is_known && next_name(&rest, &name);)
            is_known = span_eq(name, span_of(in->field[i].key));
        if (is_known)
            continue;
        struct buf legal;
        buf_init(&legal, 400);
        for (rest = inside; next_name(&rest, &name);)
            buf_printf(&legal, "%s%.*s", legal.len ? ", " : "", SPAN_ARG(name));
        api_fail(c, FB_E_RANGE, "there is no field \"%.60s\" in this call, which takes %s",
                 in->field[i].key, legal.len ? buf_str(&legal) : "none");
        buf_fini(&legal);
        return false;
    }
    return true;
}

static bool is_listed(struct span list, struct span name)
{
    while (list.len)
        if (span_eq(span_cut(list, ',', &list), name))
            return true;
    return false;
}

bool api_query_known(struct api_call *c)
{
    struct span rest = c->head->query, legal = span_of(c->row->query);
    char text[VALUE_MAX_BYTES];
    while (rest.len) {
        struct span value, later = {"", 0}, pair = span_cut(rest, '&', &rest);
        struct span name = span_cut(pair, '=', &value);
        if (pair.len == 0)
            continue;
        if (!is_listed(legal, name)) {
            api_fail(c, FB_E_RANGE, "there is no parameter \"%.*s\" in this call, which takes %s",
                     (int)fb_min_u64(name.len, 60), name.at, legal.len ? c->row->query : "none");
            return false;
        }
        for (later = rest; later.len;) {
            struct span ignored;
            if (span_eq(span_cut(span_cut(later, '&', &later), '=', &ignored), name)) {
                api_fail(c, FB_E_RANGE, "%.*s is given twice", SPAN_ARG(name));
                return false;
            }
        }
        bool is_long = span_eq(name, SPAN("filter")) || span_eq(name, SPAN("q")) ||
                       span_eq(name, SPAN("scope"));
        if (!is_long && !api_decode(value, true, text, sizeof text)) {
            api_fail(c, FB_E_RANGE, "%.*s is not well percent-encoded, or longer than %d bytes",
                     SPAN_ARG(name), VALUE_MAX_BYTES - 1);
            return false;
        }
    }
    return true;
}

bool api_query_bool(struct api_call *c, const char *name, bool *value)
{
    char text[VALUE_MAX_BYTES];
    if (!api_query(c, name, text, sizeof text))
        return true;
    bool is_true = strcmp(text, "true") == 0 || strcmp(text, "1") == 0;
    if (is_true || strcmp(text, "false") == 0 || strcmp(text, "0") == 0) {
        *value = is_true;
        return true;
    }
    api_fail(c, FB_E_RANGE, "%s must be true or false, got \"%s\"", name, text);
    return false;
}

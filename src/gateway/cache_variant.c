/* SPDX-License-Identifier: Apache-2.0 */
/* Variants: which request fields an answer depends on, and with which values.
 *
 * Values are compared in a normal form: fields of one name joined, blanks around commas gone; the
 * two lists whose order says nothing (Accept-Encoding, Accept-Language) in lower case and sorted.
 */
#include "base/assert.h"
#include "gateway/cache_store.h"
#include "proto/http1_write.h"

#include <ctype.h>

#define ELEMENTS_MAX 32

static bool put_line(struct http1_out *w, struct span name, const struct http1_head *request);
static void put_value(struct http1_out *w, struct span name, const struct http1_head *request);

bool cache_vary_has_star(const struct http1_head *answer)
{
    for (uint32_t i = 0; i < answer->field_count; i++) {
        struct span rest = answer->fields[i].value, name;
        if (answer->fields[i].id != HTTP1_H_VARY)
            continue;
        while (http1_list_next(&rest, &name))
            if (span_eq(name, SPAN("*")))
                return true;
    }
    return false;
}

/* Has <variant> a line for <name> already? */
static bool has_name(struct span variant, struct span name)
{
    while (variant.len) {
        struct span line = span_cut(variant, '\n', &variant), value;
        if (span_eq(span_cut(line, ':', &value), name))
            return true;
    }
    return false;
}

bool cache_variant_make(const struct cache_names *names, const struct http1_head *request,
                        char out[CACHE_VARIANT_BYTES], size_t *len)
{
    struct http1_out w = http1_out(out, CACHE_VARIANT_BYTES);
    const struct http1_head *answer = names->answer;
    for (uint32_t i = 0; i < answer->field_count; i++) {
        struct span rest = answer->fields[i].value, name;
        if (answer->fields[i].id != HTTP1_H_VARY)
            continue;
        while (http1_list_next(&rest, &name))
            if (!http1_is_token(name) || !put_line(&w, name, request))
                return false;
    }
    for (size_t i = 0; i < names->own_count; i++)
        if (!put_line(&w, span_of(names->own[i]), request))
            return false;
    *len = w.len;
    return !w.failed;
}

bool cache_variant_fits(struct span variant, const struct http1_head *request)
{
    char at[CACHE_VARIANT_BYTES];
    while (variant.len) {
        struct span value;
        struct span line = span_cut(variant, '\n', &variant);
        struct span name = span_cut(line, ':', &value);
        struct http1_out w = http1_out(at, sizeof at);
        put_value(&w, name, request);
        if (w.failed || !span_eq(http1_out_span(&w), value))
            return false;
    }
    return true;
}

static bool put_line(struct http1_out *w, struct span name, const struct http1_head *request)
{
    char lower[64];
    if (name.len > sizeof lower)
        return false;
    for (size_t i = 0; i < name.len; i++)
        lower[i] = (char)tolower((unsigned char)name.at[i]);
    struct span n = {lower, name.len};
    if (has_name(http1_out_span(w), n))
        return true;
    http1_put(w, n);
    http1_put(w, SPAN(":"));
    put_value(w, n, request);
    http1_put(w, SPAN("\n"));
    return !w->failed;
}

static int order(struct span a, struct span b)
{
    int c = strncasecmp(a.at, b.at, a.len < b.len ? a.len : b.len);
    return c ? c : (a.len > b.len) - (a.len < b.len);
}

/* Sorted, in lower case; more elements than ELEMENTS_MAX stay as they came. */
static void put_set(struct http1_out *w, struct span *element, size_t count)
{
    for (size_t i = 1; i < count; i++)
        for (size_t k = i; k > 0 && order(element[k], element[k - 1]) < 0; k--) {
            struct span swap = element[k];
            element[k] = element[k - 1];
            element[k - 1] = swap;
        }
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            http1_put(w, SPAN(","));
        size_t from = w->len;
        http1_put(w, element[i]);
        for (size_t k = from; k < w->len; k++)
            w->at[k] = (char)tolower((unsigned char)w->at[k]);
    }
}

static void put_value(struct http1_out *w, struct span name, const struct http1_head *request)
{
    bool is_set = span_eq(name, SPAN("accept-encoding")) || span_eq(name, SPAN("accept-language"));
    struct span element[ELEMENTS_MAX];
    size_t count = 0;
    bool is_first = true;
    for (uint32_t i = 0; i < request->field_count; i++) {
        struct span rest = request->fields[i].value, one;
        if (!span_ieq(request->fields[i].name, name))
            continue;
        while (http1_list_next(&rest, &one)) {
            if (is_set && count < ELEMENTS_MAX) {
                element[count++] = one;
                continue;
            }
            if (!is_first)
                http1_put(w, SPAN(","));
            http1_put(w, one);
            is_first = false;
        }
    }
    put_set(w, element, count);
}

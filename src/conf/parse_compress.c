/* SPDX-License-Identifier: Apache-2.0 */
/* routes[].compress: off, on, or a map. */
#include "conf/conf_int.h"

#include <ctype.h>

#define DEFAULT_MIN_BYTES 1024
#define DEFAULT_LEVEL 4

static const char *const usual_types[] = {
    "text/*",
    "application/json",
    "application/javascript",
    "application/xml",
    "application/xhtml+xml",
    "application/rss+xml",
    "application/atom+xml",
    "application/ld+json",
    "application/manifest+json",
    "application/problem+json",
    "application/geo+json",
    "application/graphql-response+json",
    "application/wasm",
    "image/svg+xml",
};

static void compress_types(struct reader *rd, const struct node *n, struct conf_compress *c);

void compress_default(struct conf_compress *c)
{
    *c = (struct conf_compress){.level = DEFAULT_LEVEL,
                                .min_bytes = DEFAULT_MIN_BYTES,
                                .types = usual_types,
                                .type_count = FB_COUNT(usual_types)};
}

void parse_compress(struct reader *rd, const struct node *n, struct conf_compress *c)
{
    uint64_t number;
    if (n->kind == NODE_SCALAR) {
        read_switch(rd, n, "{ types: [text/html], min_bytes: 1KiB }", &c->is_on);
        return;
    }
    if (!read_is(rd, n, NODE_MAP, "on, or { min_bytes: 1KiB, level: 4 }"))
        return;
    c->is_on = true;
    for (const struct node *k = n->first; k; k = k->next) {
        switch (read_key(rd, k, LEVEL_COMPRESS)) {
        case KEY_COMPRESS_types:
            compress_types(rd, k, c);
            break;
        case KEY_COMPRESS_min_bytes:
            read_key_number(rd, k, KEY_COMPRESS_min_bytes, &c->min_bytes);
            break;
        case KEY_COMPRESS_level:
            if (read_key_number(rd, k, KEY_COMPRESS_level, &number))
                c->level = (uint8_t)number;
            break;
        default:
            break;
        }
    }
}

/* "text/html", or "text/" and a star. */
static bool is_media_type(struct span s)
{
    struct span sub, kind = span_cut(s, '/', &sub);
    return parse_is_token(kind) && parse_is_token(sub) && !memchr(kind.at, '*', kind.len) &&
           (span_eq(sub, SPAN("*")) || !memchr(sub.at, '*', sub.len));
}

static void compress_types(struct reader *rd, const struct node *n, struct conf_compress *c)
{
    if (!read_is(rd, n, NODE_LIST, "[text/*, application/json]"))
        return;
    if (n->count == 0 || n->count > CONF_COMPRESS_TYPES_MAX) {
        problem(rd, n, "types must have 1..%d media types, got %u", CONF_COMPRESS_TYPES_MAX,
                n->count);
        return;
    }
    const char **at = arena_get(rd->keep, n->count * sizeof *at);
    size_t count = 0;
    if (!at)
        return;
    for (const struct node *k = n->first; k; k = k->next) {
        struct span s;
        if (!read_scalar(rd, k, &s))
            continue;
        if (!is_media_type(s)) {
            problem(rd, k, "\"%.*s\" is no media type: write application/json, or text/* for all",
                    SHOWN(s));
            continue;
        }
        char *name = arena_get(rd->keep, s.len + 1);
        if (!name)
            return;
        for (size_t i = 0; i < s.len; i++)
            name[i] = (char)tolower((unsigned char)s.at[i]);
        at[count++] = name;
    }
    c->types = at;
    c->type_count = count;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* map_back: what clients get for the addresses and cookie paths that an endpoint names. */
#include "base/assert.h"
#include "conf/conf_int.h"

#include <ctype.h>
#include <string.h>

#define PAIRS_MAX 32
#define TEXT_BYTES_MAX 1024

typedef const char *text_fault(struct span s, bool is_to);

static bool is_visible(struct span s)
{
    for (size_t i = 0; i < s.len; i++)
        if (s.at[i] <= ' ' || s.at[i] >= 0x7f || strchr("\"<>\\", s.at[i]))
            return false;
    return s.len <= TEXT_BYTES_MAX;
}

static const char *location_fault(struct span s, bool is_to)
{
    struct span rest = s, piece;
    enum conf_var var;
    if (!is_visible(s))
        return "must have at most 1024 bytes, without blanks, quotes and \\";
    bool has_scheme = span_starts(s, SPAN("http://")) || span_starts(s, SPAN("https://")) ||
                      (is_to && span_starts(s, SPAN("{scheme}://")));
    if (!has_scheme && (s.len == 0 || s.at[0] != '/' || (s.len > 1 && s.at[1] == '/')))
        return "must begin with http://, https:// or one /";
    while (is_to && conf_var_next(&rest, &piece, &var))
        if (var != CONF_VAR_NONE && var != CONF_VAR_HOST && var != CONF_VAR_SCHEME)
            return "may hold {host} and {scheme}, no other {word}";
    return NULL;
}

static const char *cookie_path_fault(struct span s, bool is_to)
{
    (void)is_to;
    if (!is_visible(s) || (s.len && memchr(s.at, ';', s.len)))
        return "must have at most 1024 bytes, without blanks, quotes, ; and \\";
    return s.len && s.at[0] == '/' ? NULL : "must begin with /";
}

static const char *cookie_domain_fault(struct span s, bool is_to)
{
    if (s.len == 0 && is_to)
        return NULL;
    if (s.len && s.at[0] == '.')
        s = (struct span){s.at + 1, s.len - 1};
    return value_is_name(s) ? NULL : "must be a name such as example.org";
}

static void read_pairs_of(struct reader *rd, const struct node *n, text_fault *fault_of,
                          struct conf_pairs *out)
{
    char path[NODE_PATH_BYTES];
    if (!read_is(rd, n, NODE_MAP, "{ /: /app/ }"))
        return;
    if (n->count == 0 || n->count > PAIRS_MAX) {
        problem(rd, n, "%s must have 1..%d entries, got %u", node_path(n, path), PAIRS_MAX,
                n->count);
        return;
    }
    struct conf_pair *at = arena_get(rd->keep, n->count * sizeof *at);
    for (const struct node *k = n->first; k && at; k = k->next) {
        struct span to;
        if (!read_is(rd, k, NODE_SCALAR, "a text"))
            continue;
        to = k->text; /* "" takes a domain away */
        const char *fault = fault_of(k->key->text, false);
        if (fault)
            problem(rd, k->key, "%s: what is replaced %s, got \"%.*s\"", node_path(n, path), fault,
                    SHOWN(k->key->text));
        fault = fault_of(to, true);
        if (fault)
            problem(rd, k, "%s %s, got \"%.*s\"", node_path(k, path), fault, SHOWN(to));
        at[out->count++] =
            (struct conf_pair){arena_text(rd->keep, k->key->text), arena_text(rd->keep, to)};
    }
    out->at = at;
}

static bool read_off(struct reader *rd, const struct node *n)
{
    int word;
    return n->kind == NODE_SCALAR && read_word(rd, n, "on|off", &word) && word == 1;
}

const struct conf_back *parse_back(struct reader *rd, const struct node *n, bool has_reason)
{
    if ((n && read_off(rd, n)) || (!n && !has_reason))
        return NULL;
    struct conf_back *back = arena_get(rd->keep, sizeof *back);
    if (!back || !n || n->kind == NODE_SCALAR)
        return back;
    if (!read_is(rd, n, NODE_MAP, "on, off, or { location: { \"http://app:3000/\": /app/ } }"))
        return back;
    if (n->count == 0)
        problem(rd, n, "map_back is empty; write on, off, or { cookie_path: { /: /app/ } }");
    for (const struct node *k = n->first; k; k = k->next) {
        switch (read_key(rd, k, LEVEL_BACK)) {
        case KEY_BACK_location:
            read_pairs_of(rd, k, location_fault, &back->location);
            break;
        case KEY_BACK_cookie_path:
            read_pairs_of(rd, k, cookie_path_fault, &back->cookie_path);
            break;
        case KEY_BACK_cookie_domain:
            read_pairs_of(rd, k, cookie_domain_fault, &back->cookie_domain);
            break;
        default:
            break;
        }
    }
    return back;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* rewrite: paths that regular expressions make of paths.
 *
 * What groups matched are bytes of a path in normal form, chosen by the client, put together anew:
 * `^/a(.*)$` and `/$1` make /../x of /a../x.  So the whole must be in normal form again, or the
 * request is refused; and in a query a group, {path} and {host} cannot begin a parameter of their
 * own. */
#include "base/regex.h"
#include "gateway/rules.h"
#include "proto/http1_target.h"

static void put_template(const struct request *req, const struct rules_where *at,
                         const struct conf_template *t, bool is_query, struct http1_out *w);

static uint16_t refusal(enum regex_result result)
{
    return result == REGEX_COSTLY ? REASON_PATTERN_LIMIT : REASON_NONE;
}

/* Is it what http1_target.h would make of it?  <w> has the room to find out behind it. */
static bool is_normal(struct span path, struct http1_out *w)
{
    struct http1_out again = http1_out(w->at + w->len, w->cap - w->len);
    if (path.len > 1 && path.at[1] == '/')
        return false; /* //name would be another host to who takes it as a link */
    return http1_path_normalise_text(path, &again) == HTTP1_E_NONE && !again.failed &&
           span_eq(path, http1_out_span(&again));
}

uint16_t rewrite_target(struct request *req, const struct rules_where *at, struct http1_out *w,
                        struct span *target)
{
    const struct conf_rewrite *rw = rules_of(req)->rewrite;
    struct span query = {target->at + at->path.len, target->len - at->path.len};
    enum regex_result result = regex_match(rw->path.regex, req->worker->regex, at->path);
    if (result != REGEX_YES)
        return refusal(result);
    size_t from = w->len;
    put_template(req, at, &rw->path, false, w);
    if (w->failed)
        return REASON_HEADERS_TOO_LARGE;
    if (!is_normal((struct span){w->at + from, w->len - from}, w))
        return REASON_REWRITE_UNSAFE;
    if (rw->has_query) {
        http1_put(w, SPAN("?"));
        put_template(req, at, &rw->query, true, w);
        if (!rw->drops_query && query.len > 1) {
            http1_put(w, SPAN("&"));
            http1_put(w, (struct span){query.at + 1, query.len - 1});
        }
    } else if (!rw->drops_query) {
        http1_put(w, query);
    }
    *target = (struct span){w->at + from, w->len - from};
    return w->failed ? REASON_HEADERS_TOO_LARGE : REASON_NONE;
}

uint16_t rewrite_put_location(struct request *req, const struct rules_where *at,
                              struct http1_out *w)
{
    const struct conf_template *t = &rules_of(req)->to_parts;
    if (t->regex) {
        enum regex_result result = regex_match(t->regex, req->worker->regex, at->path);
        if (result != REGEX_YES) /* it did when the route was chosen */
            return REASON_PATTERN_LIMIT;
    }
    put_template(req, at, t, false, w);
    struct span to = http1_out_span(w);
    if (to.len > 1 && to.at[0] == '/' && to.at[1] == '/')
        return REASON_REWRITE_UNSAFE; /* another host, which the client chose */
    return REASON_NONE;
}

/* What a client chose stays, in a query, the value that it is written into. */
static void put_escaped(struct span s, struct http1_out *w)
{
    static const char digits[] = "0123456789ABCDEF";
    for (size_t i = 0; i < s.len; i++) {
        char ch = s.at[i];
        char text[3] = {'%', digits[(unsigned char)ch >> 4], digits[(unsigned char)ch & 15]};
        bool is_special = ch == '&' || ch == ';' || ch == '=' || ch == '+';
        http1_put(w, is_special ? (struct span){text, 3} : (struct span){&s.at[i], 1});
    }
}

/* <is_query>: from the beginning; else from its first ? on. */
static void put_template(const struct request *req, const struct rules_where *at,
                         const struct conf_template *t, bool is_query, struct http1_out *w)
{
    for (size_t i = 0; i < t->count; i++) {
        const struct conf_piece *p = &t->pieces[i];
        if (p->var == CONF_VAR_NONE)
            is_query |= p->text.len && memchr(p->text.at, '?', p->text.len);
        is_query |= p->var == CONF_VAR_QUERY || p->var == CONF_VAR_TARGET;
        bool is_clients = p->var == CONF_VAR_PATH || p->var == CONF_VAR_HOST;
        if (p->var != CONF_VAR_GROUP && !(is_query && is_clients)) {
            rules_put_var(req, at, p->var, p->text, w);
            continue;
        }
        struct span value = p->var == CONF_VAR_PATH ? at->path
                            : p->var == CONF_VAR_HOST
                                ? at->host
                                : regex_group(req->worker->regex, at->path, p->group);
        if (is_query)
            put_escaped(value, w);
        else
            http1_put(w, value);
    }
}

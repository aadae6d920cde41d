/* SPDX-License-Identifier: Apache-2.0 */
/* What a route changes on the way, refuses, or answers by itself: allow, deny, request_headers,
 * response_headers, rewrite, redirect, respond. */
#include "conf/conf_int.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

#define FIELD_VALUE_BYTES_MAX 4096
#define FIELDS_BYTES_MAX (8 * KIB) /* what any client and endpoint takes beside its own */

/* On these rest framing, conditions, ranges, codings and the way of a request: they are foldback's
 * own, and a rule that bends them would break what stands on them.  Lower case, sorted by cause. */
static const char *const own_fields[] = {"connection",
                                         "keep-alive",
                                         "proxy-connection",
                                         "transfer-encoding",
                                         "content-length",
                                         "te",
                                         "trailer",
                                         "upgrade",
                                         "expect",
                                         "host",
                                         "date",
                                         "age",
                                         "cache-status",
                                         "via",
                                         "max-forwards",
                                         "content-encoding",
                                         "content-range",
                                         "range",
                                         "if-match",
                                         "if-none-match",
                                         "if-modified-since",
                                         "if-unmodified-since",
                                         "if-range",
                                         "x-request-id",
                                         "traceparent",
                                         "x-forwarded-for",
                                         "x-forwarded-proto",
                                         "x-forwarded-host",
                                         "x-forwarded-port",
                                         "x-forwarded-prefix",
                                         "forwarded",
                                         "x-deadline-ms",
                                         "x-attempt",
                                         "x-client-cert-subject"};

static const struct {
    const char *word;
    enum conf_var var;
} vars[] = {{"client_address", CONF_VAR_CLIENT_ADDRESS},
            {"host", CONF_VAR_HOST},
            {"path", CONF_VAR_PATH},
            {"query", CONF_VAR_QUERY},
            {"target", CONF_VAR_TARGET},
            {"scheme", CONF_VAR_SCHEME},
            {"request_id", CONF_VAR_REQUEST_ID}};
#define VARS_TEXT "{client_address}, {host}, {path}, {query}, {target}, {scheme}, {request_id}"

static void read_fields(struct reader *rd, const struct node *n, struct conf_fields *out);
static void read_rewrite(struct reader *rd, const struct node *n, const struct regex *match,
                         struct conf_rules *rules);
static void read_redirect(struct reader *rd, const struct node *n, const struct regex *match,
                          struct conf_rules *rules);
static void read_respond(struct reader *rd, const struct node *n, struct conf_rules *rules);
static void check_own(struct reader *rd, const struct rules_nodes *at,
                      const struct conf_rules *rules, bool has_service);

const struct conf_rules *parse_rules(struct reader *rd, const struct rules_nodes *at,
                                     const struct rules_route *route)
{
    if (!at->allow && !at->deny && !at->request && !at->response && !at->rewrite && !at->redirect &&
        !at->respond && !at->back && !route->has_host)
        return NULL;
    struct conf_rules *rules = arena_get(rd->keep, sizeof *rules);
    if (!rules)
        return NULL;
    *rules =
        (struct conf_rules){.strip_prefix = "", .add_prefix = "", .to = "", .body = "", .type = ""};
    if (at->allow)
        (void)read_prefixes(rd, at->allow, &rules->allow, &rules->allow_count);
    if (at->deny)
        (void)read_prefixes(rd, at->deny, &rules->deny, &rules->deny_count);
    if (at->request)
        read_fields(rd, at->request, &rules->request);
    if (at->response)
        read_fields(rd, at->response, &rules->response);
    if (at->rewrite)
        read_rewrite(rd, at->rewrite, route->regex, rules);
    if (at->redirect)
        read_redirect(rd, at->redirect, route->regex, rules);
    if (at->respond)
        read_respond(rd, at->respond, rules);
    check_own(rd, at, rules, route->has_service);
    bool has_reason = rules->strip_prefix[0] || rules->add_prefix[0] || route->has_host;
    rules->back = parse_back(rd, at->back, has_reason);
    if (rules->own >= CONF_OWN_REDIRECT)
        rules->back = NULL; /* no endpoint says anything */
    return rules;
}

/* Who answers: a service, or the route itself. */
static void check_own(struct reader *rd, const struct rules_nodes *at,
                      const struct conf_rules *rules, bool has_service)
{
    if (at->redirect && at->respond) {
        problem(rd, at->respond->key,
                "a route has `redirect` or `respond`, not both; remove one of the two");
        return;
    }
    if (rules->own == CONF_OWN_HTTPS && !has_service)
        problem(rd, at->redirect->key,
                "`redirect: https` sends on only who comes in the clear: name the `service` of "
                "those who come by https, or write { to: \"https://{host}{target}\" } for all");
    bool is_alone = rules->own >= CONF_OWN_REDIRECT;
    const struct node *own = at->redirect ? at->redirect : at->respond;
    if (is_alone && has_service)
        problem(rd, own->key, "the route answers by itself: remove its `service`, or this");
    if (is_alone && (at->rewrite || at->request))
        problem(rd, at->rewrite ? at->rewrite->key : at->request->key,
                "the route answers by itself and asks no endpoint: this would do nothing");
}

/* ---- values with {words} ---- */

bool conf_var_next(struct span *rest, struct span *piece, enum conf_var *var)
{
    *var = CONF_VAR_NONE;
    if (rest->len == 0)
        return false;
    for (size_t i = 0; i < rest->len; i++) {
        if (rest->at[i] != '{')
            continue;
        size_t end = i + 1;
        while (end < rest->len && (islower((unsigned char)rest->at[end]) || rest->at[end] == '_'))
            end++;
        if (end == i + 1 || end == rest->len || rest->at[end] != '}')
            continue;
        if (i == 0) {
            *piece = (struct span){rest->at + 1, end - 1};
            *rest = (struct span){rest->at + end + 1, rest->len - end - 1};
            *var = CONF_VAR_UNKNOWN;
            for (size_t k = 0; k < FB_COUNT(vars); k++)
                if (span_eq(*piece, span_of(vars[k].word)))
                    *var = vars[k].var;
            return true;
        }
        *piece = (struct span){rest->at, i};
        *rest = (struct span){rest->at + i, rest->len - i};
        return true;
    }
    *piece = *rest;
    *rest = (struct span){rest->at + rest->len, 0};
    return true;
}

/* The head of the request is gone when its answer comes. */
static bool is_kept(enum conf_var var)
{
    return var == CONF_VAR_NONE || var == CONF_VAR_CLIENT_ADDRESS || var == CONF_VAR_SCHEME ||
           var == CONF_VAR_REQUEST_ID;
}

static bool vars_are_known(struct reader *rd, const struct node *n, struct span text,
                           bool is_response)
{
    struct span piece;
    enum conf_var var;
    char path[NODE_PATH_BYTES];
    while (conf_var_next(&text, &piece, &var)) {
        if (is_response ? is_kept(var) : var != CONF_VAR_UNKNOWN)
            continue;
        problem(rd, n, "%s: {%.*s} stands for nothing here; there are %s", node_path(n, path),
                SHOWN(piece), is_response ? "{client_address}, {scheme}, {request_id}" : VARS_TEXT);
        return false;
    }
    return true;
}

/* ---- fields ---- */

bool parse_free_field(struct reader *rd, const struct node *n, struct span name)
{
    if (!parse_is_token(name)) {
        problem(rd, n, "\"%.*s\" is not the name of a header field", SHOWN(name));
        return false;
    }
    for (size_t i = 0; i < FB_COUNT(own_fields); i++) {
        if (!span_ieq(name, span_of(own_fields[i])))
            continue;
        if (span_ieq(name, SPAN("host")))
            problem(rd, n, "Host is set by `host` of the service, not by a rule");
        else
            problem(rd, n,
                    "%.*s is a field that foldback itself answers for: no rule may change it",
                    SHOWN(name));
        return false;
    }
    return true;
}

/* Visible text, blanks inside. */
static bool is_field_value(struct span s)
{
    for (size_t i = 0; i < s.len; i++) {
        unsigned char ch = (unsigned char)s.at[i];
        if ((ch < ' ' && ch != '\t') || ch == 0x7f)
            return false;
    }
    return s.len <= FIELD_VALUE_BYTES_MAX;
}

static void read_pairs(struct reader *rd, const struct node *n, const struct conf_field **out,
                       size_t *count)
{
    bool is_response = span_eq(n->parent->key->text, SPAN("response_headers"));
    char path[NODE_PATH_BYTES];
    if (!read_is(rd, n, NODE_MAP, "{ X-Env: prod }"))
        return;
    if (n->count == 0 || n->count > CONF_FIELDS_MAX) {
        problem(rd, n, "%s must have 1..%d fields, got %u", node_path(n, path), CONF_FIELDS_MAX,
                n->count);
        return;
    }
    struct conf_field *at = arena_get(rd->keep, n->count * sizeof *at);
    if (!at)
        return;
    for (const struct node *k = n->first; k; k = k->next) {
        struct span s;
        bool is_good = parse_free_field(rd, k->key, k->key->text);
        if (!read_scalar(rd, k, &s))
            continue;
        s = span_trim(s);
        if (!is_field_value(s))
            problem(rd, k, "%s must be one line of at most %d bytes without control characters",
                    node_path(k, path), FIELD_VALUE_BYTES_MAX);
        else if (vars_are_known(rd, k, s, is_response) && is_good)
            at[(*count)++] =
                (struct conf_field){arena_text(rd->keep, k->key->text), arena_text(rd->keep, s)};
    }
    *out = at;
}

const char **parse_free_fields(struct reader *rd, const struct node *n, const char *example,
                               size_t most, size_t *count)
{
    char path[NODE_PATH_BYTES];
    *count = 0;
    if (!read_is(rd, n, NODE_LIST, example))
        return NULL;
    if (n->count == 0 || n->count > most) {
        problem(rd, n, "%s must have 1..%zu names, got %u", node_path(n, path), most, n->count);
        return NULL;
    }
    const char **at = arena_get(rd->keep, n->count * sizeof *at);
    for (const struct node *k = n->first; k && at; k = k->next) {
        struct span s;
        if (read_scalar(rd, k, &s) && parse_free_field(rd, k, s))
            at[(*count)++] = arena_text(rd->keep, s);
    }
    return at;
}

static void check_size(struct reader *rd, const struct node *n, const struct conf_fields *f)
{
    size_t bytes = 0;
    char path[NODE_PATH_BYTES];
    for (size_t i = 0; i < f->set_count; i++)
        bytes += strlen(f->set[i].name) + strlen(f->set[i].value) + 4;
    for (size_t i = 0; i < f->add_count; i++)
        bytes += strlen(f->add[i].name) + strlen(f->add[i].value) + 4;
    if (bytes > FIELDS_BYTES_MAX)
        problem(rd, n, "%s must have at most %u bytes in all, got %zu", node_path(n, path),
                (unsigned)FIELDS_BYTES_MAX, bytes);
}

static void read_fields(struct reader *rd, const struct node *n, struct conf_fields *out)
{
    if (!read_is(rd, n, NODE_MAP, "{ set: { X-Env: prod }, remove: [Cookie] }"))
        return;
    if (n->count == 0)
        problem(rd, n, "nothing is set, added or removed; for example { set: { X-Env: prod } }");
    for (const struct node *k = n->first; k; k = k->next) {
        switch (read_key(rd, k, LEVEL_FIELDS)) {
        case KEY_FIELDS_set:
            read_pairs(rd, k, &out->set, &out->set_count);
            break;
        case KEY_FIELDS_add:
            read_pairs(rd, k, &out->add, &out->add_count);
            break;
        case KEY_FIELDS_remove:
            out->remove = parse_free_fields(rd, k, "[Server, X-Powered-By]", CONF_FIELDS_MAX,
                                            &out->remove_count);
            break;
        default:
            break;
        }
    }
    check_size(rd, n, out);
}

/* ---- rewrite ---- */

/* Without a / at the end, so that what follows begins with one. */
static void read_prefix(struct reader *rd, const struct node *n, const char **out)
{
    struct span s;
    char path[NODE_PATH_BYTES];
    if (!parse_path(rd, n, &s))
        return;
    while (s.len && s.at[s.len - 1] == '/')
        s.len--;
    if (s.len && s.at[1] == '/')
        problem(rd, n, "%s must not begin with //: that would name another host",
                node_path(n, path));
    *out = arena_text(rd->keep, s);
}

static void read_rewrite(struct reader *rd, const struct node *n, const struct regex *match,
                         struct conf_rules *rules)
{
    const struct node *pattern = NULL, *to = NULL;
    if (!read_is(rd, n, NODE_MAP, "{ strip_prefix: /api }"))
        return;
    if (n->count == 0)
        problem(rd, n, "rewrite is empty; for example { strip_prefix: /api }");
    for (const struct node *k = n->first; k; k = k->next) {
        switch (read_key(rd, k, LEVEL_REWRITE)) {
        case KEY_REWRITE_strip_prefix:
            read_prefix(rd, k, &rules->strip_prefix);
            break;
        case KEY_REWRITE_add_prefix:
            read_prefix(rd, k, &rules->add_prefix);
            break;
        case KEY_REWRITE_pattern:
            pattern = k;
            break;
        case KEY_REWRITE_to:
            to = k;
            break;
        default:
            break;
        }
    }
    if (!pattern && !to)
        return;
    if (rules->strip_prefix[0] || rules->add_prefix[0])
        problem(rd, pattern ? pattern->key : to->key,
                "a rewrite has prefixes or `to`, not both: put the prefix into `to`");
    parse_rewrite_to(rd, pattern, to, match, rules);
}

/* ---- redirect, respond ---- */

/* Behind "scheme://" a host must be fixed or the client's own, and "/" must not become "//": else
 * whoever writes a link chooses where our name leads to. */
static bool is_safe_target(struct span s)
{
    for (size_t i = 0; i < s.len; i++)
        if ((unsigned char)s.at[i] <= ' ' || (unsigned char)s.at[i] >= 0x7f || s.at[i] == '\\')
            return false;
    struct span rest = s;
    if (span_starts(s, SPAN("https://")))
        rest = (struct span){s.at + 8, s.len - 8};
    else if (span_starts(s, SPAN("http://")))
        rest = (struct span){s.at + 7, s.len - 7};
    else
        return s.len > 0 && s.at[0] == '/' && (s.len == 1 || (s.at[1] != '/' && s.at[1] != '{'));
    if (span_starts(rest, SPAN("{host}"))) {
        rest = (struct span){rest.at + 6, rest.len - 6};
    } else {
        size_t n = 0;
        while (n < rest.len && (isalnum((unsigned char)rest.at[n]) || strchr(".-_[]", rest.at[n])))
            n++;
        if (n == 0)
            return false;
        rest = (struct span){rest.at + n, rest.len - n};
    }
    if (rest.len && rest.at[0] == ':') { /* a port */
        size_t n = 1;
        while (n < rest.len && isdigit((unsigned char)rest.at[n]))
            n++;
        rest = (struct span){rest.at + n, rest.len - n};
    }
    return rest.len == 0 || rest.at[0] == '/' || rest.at[0] == '?' ||
           span_starts(rest, SPAN("{path}")) || span_starts(rest, SPAN("{target}")) ||
           span_starts(rest, SPAN("{query}"));
}

static void read_target(struct reader *rd, const struct node *n, const struct regex *match,
                        struct conf_rules *rules)
{
    struct span s;
    if (!read_scalar(rd, n, &s))
        return;
    if (s.len > 2048 || !is_safe_target(s))
        problem(
            rd, n,
            "to must be https://HOST..., http://HOST... or /PATH, without blanks, where HOST is "
            "a name or {host} and {path} or {target} follows it at once, for example "
            "\"https://example.org{target}\"; got \"%.*s\"",
            SHOWN(s));
    else {
        rules->to = arena_text(rd->keep, s);
        rules->to_parts.regex = match;
        (void)parse_template(rd, n, span_of(rules->to), &rules->to_parts, false);
    }
}

static void read_redirect(struct reader *rd, const struct node *n, const struct regex *match,
                          struct conf_rules *rules)
{
    struct span s;
    uint64_t number;
    rules->status = 308;
    if (n->kind == NODE_SCALAR) {
        rules->to = "https://{host}{target}";
        if (read_scalar(rd, n, &s) && span_eq(s, SPAN("https")))
            rules->own = CONF_OWN_HTTPS;
        else
            problem(rd, n,
                    "redirect must be https, or { to: \"https://example.org{target}\" }, got "
                    "\"%.*s\"",
                    SHOWN(s));
        return;
    }
    rules->own = CONF_OWN_REDIRECT;
    if (!read_is(rd, n, NODE_MAP, "https, or { to: \"https://example.org{target}\" }"))
        return;
    bool has_target = false;
    for (const struct node *k = n->first; k; k = k->next) {
        switch (read_key(rd, k, LEVEL_REDIRECT)) {
        case KEY_REDIRECT_to:
            has_target = true;
            read_target(rd, k, match, rules);
            break;
        case KEY_REDIRECT_status:
            if (!read_key_number(rd, k, KEY_REDIRECT_status, &number))
                break;
            if (number > 303 && number != 307 && number != 308)
                problem(rd, k, "status must be 301, 302, 303, 307 or 308, got %u",
                        (unsigned)number);
            rules->status = (uint16_t)number;
            break;
        default:
            break;
        }
    }
    if (!has_target)
        problem(rd, n, "redirect needs `to`, for example { to: \"https://example.org{target}\" }");
}

void parse_media_type(struct reader *rd, const struct node *n, const char **out)
{
    struct span s;
    char path[NODE_PATH_BYTES];
    if (!read_scalar(rd, n, &s))
        return;
    if (s.len == 0 || s.len > 200 || !is_field_value(s) || !memchr(s.at, '/', s.len))
        problem(rd, n, "%s must be a media type such as text/html, got \"%.*s\"",
                node_path(n, path), SHOWN(s));
    *out = arena_text(rd->keep, s);
}

static void read_respond(struct reader *rd, const struct node *n, struct conf_rules *rules)
{
    uint64_t number;
    rules->own = CONF_OWN_RESPOND;
    rules->status = 200;
    rules->type = "text/plain; charset=utf-8";
    if (!read_is(rd, n, NODE_MAP, "{ status: 200, body: ok }"))
        return;
    for (const struct node *k = n->first; k; k = k->next) {
        switch (read_key(rd, k, LEVEL_RESPOND)) {
        case KEY_RESPOND_status:
            if (read_key_number(rd, k, KEY_RESPOND_status, &number))
                rules->status = (uint16_t)number;
            break;
        case KEY_RESPOND_body:
            (void)parse_body(rd, k, &rules->body);
            break;
        case KEY_RESPOND_type:
            parse_media_type(rd, k, &rules->type);
            break;
        default:
            break;
        }
    }
    if (rules->body[0] && (rules->status == 204 || rules->status == 304))
        problem(rd, n, "an answer with status %u has no body: remove `body`", rules->status);
}

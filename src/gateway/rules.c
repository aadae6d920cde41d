/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/rules.h"

#include "base/assert.h"
#include "gateway/back.h"

#include <strings.h>

static void put_value(const struct request *req, const struct rules_where *at, const char *text,
                      struct http1_out *w);
static uint16_t refuses(const struct request *req, const struct conf_rules *rules,
                        const struct http1_head *head);

uint16_t rules_answer(struct request *req, const struct rules_where *at)
{
    const struct conf_rules *rules = rules_of(req);
    struct worker *w = req->worker;
    uint16_t reason = refuses(req, rules, at->head);
    if (reason)
        return reason;
    if (rules->own == CONF_OWN_RESPOND)
        return REASON_RESPONDED;
    if (rules->own == CONF_OWN_NONE ||
        (rules->own == CONF_OWN_HTTPS && rules_is_https(req, at->head)))
        return rules->back && !back_note(req, at) ? REASON_SHED_OVERLOAD : REASON_NONE;
    if (!at->host.len && strstr(rules->to, "{host}"))
        return REASON_BAD_HOST; /* HTTP/1.0 may leave it out */
    size_t most = strlen(rules->to) + at->host.len + 3 * at->target.len + CHUNK_SLACK_BYTES;
    req->head = chunk_take(&w->chunks, most);
    if (!req->head)
        return REASON_SHED_OVERLOAD;
    struct http1_out out = http1_out(req->head->at, chunk_room(req->head));
    if (rules->to_parts.count) {
        uint16_t failed = rewrite_put_location(req, at, &out);
        if (failed)
            return failed;
    } else {
        put_value(req, at, rules->to, &out);
    }
    if (out.failed) /* {target} or $1 more than three times */
        return REASON_HEADERS_TOO_LARGE;
    req->head->to = (uint32_t)out.len;
    return REASON_REDIRECTED;
}

void rules_say(struct request *req)
{
    const struct conf_rules *rules = rules_of(req);
    bool is_redirect = req->reason == REASON_REDIRECTED;
    struct http1_out out = http1_out(req->worker->out, req->worker->out_bytes);
    struct span body = is_redirect ? SPAN("") : span_of(rules->body);
    req->status = rules->status;
    req->framing_out = HTTP1_BODY_LENGTH;
    http1_put_status_line(&out, rules->status);
    http1_put(&out, worker_date(req->worker));
    if (is_redirect)
        http1_put_field(&out, SPAN("Location"), chunk_span(req->head));
    else if (body.len && rules_keeps(rules, SPAN("content-type")))
        http1_put_field(&out, SPAN("Content-Type"), span_of(rules->type));
    if (rules->status != 204 && rules->status != 304)
        http1_put_field_u64(&out, SPAN("Content-Length"), body.len);
    char line[] = "X-Request-Id: 0123456789abcdef\r\n";
    http1_hex16(line + 14, req->request_id);
    http1_put(&out, (struct span){line, sizeof line - 1});
    rules_put_set(req, false, &out);
    if (!req->is_keep_alive)
        http1_put(&out, SPAN("Connection: close\r\n"));
    else if (req->version_minor == 0)
        http1_put(&out, SPAN("Connection: keep-alive\r\n"));
    http1_put_end(&out);
    if (out.failed) { /* the room is that of the longest legal head; rules of 64 long fields */
        req->is_keep_alive = false;
        out = http1_out(req->worker->out, req->worker->out_bytes);
        http1_put_status_line(&out, req->status = 500);
        http1_put(&out, SPAN("Content-Length: 0\r\nConnection: close\r\n\r\n"));
        body.len = 0;
    }
    if (req->method == HTTP1_HEAD)
        body.len = 0;
    client_answer(req, &(struct answer_piece){
                           .head = http1_out_span(&out), .payload = body, .is_last = true});
}

/* Behind "/api" only a whole segment ends: /apis stays. */
static bool is_stripped(struct span path, struct span prefix)
{
    return prefix.len && span_starts(path, prefix) &&
           (path.len == prefix.len || path.at[prefix.len] == '/');
}

bool rules_strips(const struct conf_rules *rules, struct span path)
{
    return is_stripped(path, span_of(rules->strip_prefix));
}

static void put_fields(const struct request *req, const struct rules_where *at,
                       const struct conf_field *fields, size_t count, struct http1_out *w)
{
    for (size_t i = 0; i < count; i++) {
        http1_put(w, span_of(fields[i].name));
        http1_put(w, SPAN(": "));
        put_value(req, at, fields[i].value, w);
        http1_put_end(w);
    }
}

static bool is_named(const struct conf_fields *f, struct span name)
{
    for (size_t i = 0; i < f->remove_count; i++)
        if (span_ieq(name, span_of(f->remove[i])))
            return true;
    for (size_t i = 0; i < f->set_count; i++)
        if (span_ieq(name, span_of(f->set[i].name)))
            return true;
    return false;
}

uint16_t rules_request(struct request *req, const struct rules_where *at, struct http1_out *w,
                       struct span *target, struct span *fields)
{
    const struct conf_rules *rules = rules_of(req);
    const struct http1_head *head = at->head;
    struct span prefix = span_of(rules->strip_prefix);
    bool is_path = at->path.len && at->path.at[0] == '/'; /* not the asterisk of OPTIONS */
    bool strips = is_path && is_stripped(at->path, prefix);
    for (uint32_t i = 0; i < head->field_count; i++)
        if (is_named(&rules->request, head->fields[i].name) ||
            (prefix.len && span_ieq(head->fields[i].name, SPAN("x-forwarded-prefix"))))
            head->fields[i].flags |= HTTP1_FIELD_HOP;
    if (is_path && rules->rewrite) {
        uint16_t reason = rewrite_target(req, at, w, target);
        if (reason)
            return reason;
    }
    size_t from = w->len;
    if (is_path && (strips || rules->add_prefix[0])) {
        struct span rest = *target;
        if (strips)
            rest = (struct span){rest.at + prefix.len, rest.len - prefix.len};
        http1_put(w, span_of(rules->add_prefix));
        if (rest.len == 0 || rest.at[0] != '/')
            http1_put(w, SPAN("/"));
        else if (!rules->add_prefix[0]) /* //name would be another host to who takes it as a link */
            while (rest.len > 1 && rest.at[1] == '/')
                rest = (struct span){rest.at + 1, rest.len - 1};
        http1_put(w, rest);
        *target = (struct span){w->at + from, w->len - from};
    }
    from = w->len;
    if (strips)
        http1_put_field(w, SPAN("X-Forwarded-Prefix"), prefix);
    put_fields(req, at, rules->request.set, rules->request.set_count, w);
    put_fields(req, at, rules->request.add, rules->request.add_count, w);
    *fields = (struct span){w->at + from, w->len - from};
    return REASON_NONE;
}

bool rules_keeps(const struct conf_rules *rules, struct span name)
{
    return !is_named(&rules->response, name);
}

void rules_put_kept(const struct request *req, const struct http1_head *head, uint64_t skip,
                    struct http1_out *w)
{
    const struct conf_rules *rules = rules_of(req);
    for (uint32_t i = 0; i < head->field_count; i++) {
        const struct http1_field *f = &head->fields[i];
        if (!(f->flags & HTTP1_FIELD_HOP) && !(skip >> f->id & 1) && rules_keeps(rules, f->name) &&
            !back_put(req, f->name, f->value, w))
            http1_put_field(w, f->name, f->value);
    }
}

/* What answer.c writes itself, and must not stand there twice. */
static bool is_ours_already(struct span name)
{
    return span_ieq(name, SPAN("content-type")) || span_ieq(name, SPAN("cache-control")) ||
           span_ieq(name, SPAN("retry-after")) || span_ieq(name, SPAN("proxy-status")) ||
           span_ieq(name, SPAN("www-authenticate"));
}

void rules_put_set(const struct request *req, bool is_ours, struct http1_out *w)
{
    const struct conf_fields *f = &rules_of(req)->response;
    for (size_t i = 0; i < f->set_count; i++)
        if (!(is_ours && is_ours_already(span_of(f->set[i].name))) &&
            !(req->reason == REASON_REDIRECTED && strcasecmp(f->set[i].name, "location") == 0))
            put_fields(req, NULL, &f->set[i], 1, w);
    put_fields(req, NULL, f->add, f->add_count, w);
}

/* ---- who asks ---- */

void rules_address(const struct request *req, const struct http1_head *head, unsigned char out[16])
{
    struct sock_addr forwarded;
    bool is_forwarded = who_forwarded(req, head, &forwarded);
    proxied_address(is_forwarded ? &forwarded : &req->client->peer, out);
}

static uint16_t refuses(const struct request *req, const struct conf_rules *rules,
                        const struct http1_head *head)
{
    unsigned char address[16];
    if (rules->allow_count + rules->deny_count == 0)
        return REASON_NONE;
    rules_address(req, head, address);
    bool is_refused =
        conf_prefix_has(rules->deny, rules->deny_count, address) ||
        (rules->allow_count && !conf_prefix_has(rules->allow, rules->allow_count, address));
    return is_refused ? REASON_ADDRESS_DENIED : REASON_NONE;
}

bool rules_is_https(const struct request *req, const struct http1_head *head)
{
    if (req->is_forwarded && http1_has(head, HTTP1_H_X_FORWARDED_PROTO))
        return span_ieq(http1_find(head, HTTP1_H_X_FORWARDED_PROTO)->value, SPAN("https"));
    return req->tls;
}

/* ---- values ---- */

/* <at> NULL: of an answer, where only what the request keeps is known (parse_rules.c). */
static void put_value(const struct request *req, const struct rules_where *at, const char *text,
                      struct http1_out *w)
{
    struct span rest = span_of(text), piece;
    enum conf_var var;
    while (conf_var_next(&rest, &piece, &var))
        rules_put_var(req, at, var, piece, w);
}

void rules_put_var(const struct request *req, const struct rules_where *at, enum conf_var var,
                   struct span text, struct http1_out *w)
{
    char hex[16];
    switch (var) {
    case CONF_VAR_CLIENT_ADDRESS:
        text = (struct span){req->peer_text, req->peer_text_bytes};
        break;
    case CONF_VAR_REQUEST_ID:
        http1_hex16(hex, req->request_id);
        text = (struct span){hex, sizeof hex};
        break;
    case CONF_VAR_SCHEME:
        text = req->is_https ? SPAN("https") : SPAN("http");
        break;
    case CONF_VAR_HOST:
        text = at->host;
        break;
    case CONF_VAR_PATH:
        text = at->path;
        break;
    case CONF_VAR_TARGET:
        text = at->target;
        break;
    case CONF_VAR_QUERY:
        text = (struct span){at->target.at + at->path.len, at->target.len - at->path.len};
        break;
    case CONF_VAR_NONE:
    case CONF_VAR_GROUP:
    case CONF_VAR_UNKNOWN:
        break;
    }
    http1_put(w, text);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Looking up and serving. */
#include "gateway/cache.h"
#include "gateway/back.h"

#include "base/assert.h"

#include <stdio.h>

static struct cache_work *work_new(struct request *req, const struct conf_cache *conf);
static void key_make(struct cache_work *cw, const struct http1_head *head,
                     const struct cache_where *where);
static struct span without_line_end(struct span s)
{
    while (s.len && (s.at[s.len - 1] == '\n' || s.at[s.len - 1] == '\r'))
        s.len--;
    return span_trim(s);
}

static void put_head(struct request *req, const struct cache_entry *e, uint16_t status,
                     struct http1_out *w);

static struct cache_store *store_of(const struct request *req)
{
    return req->worker->gw->cache;
}

static struct span field_of(const struct http1_head *head, enum http1_header id)
{
    const struct http1_field *f = http1_has(head, id) ? http1_find(head, id) : NULL;
    return f ? f->value : (struct span){NULL, 0};
}

static struct span named(const struct http1_head *head, struct span name)
{
    const struct http1_field *f = http1_find_name(head, name);
    return f ? f->value : (struct span){NULL, 0};
}

/* Sets up the work of this request and looks into the store. */
static uint16_t look(struct request *req, const struct http1_head *head,
                     const struct cache_where *where)
{
    const struct conf_cache *conf = &req->gen->conf->routes[req->route].cache;
    bool is_get = head->method == HTTP1_GET, is_head = head->method == HTTP1_HEAD;
    if (head->method == HTTP1_OPTIONS || req->is_upgrade)
        return REASON_NONE;
    struct cache_work *cw = work_new(req, conf);
    if (!cw)
        return REASON_NONE; /* without memory it goes past the cache */
    key_make(cw, head, where);
    if (!is_get && !is_head) {
        cw->is_unsafe = true;
        cw->forward = CACHE_FORWARD_METHOD;
        return REASON_NONE;
    }
    cache_asked_read(head, &cw->asked);
    if (req->guard) /* for whom it was let in, however that was shown */
        cw->asked.has_authorization = true;
    cw->client =
        (struct cache_conditions){.if_none_match = field_of(head, HTTP1_H_IF_NONE_MATCH),
                                  .if_modified_since = field_of(head, HTTP1_H_IF_MODIFIED_SINCE),
                                  .range = field_of(head, HTTP1_H_RANGE)};
    if (cw->client.range.at)
        cw->client.if_range = named(head, SPAN("if-range"));
    bool has_other_conditions =
        http1_has(head, HTTP1_H_IF_MATCH) || named(head, SPAN("if-unmodified-since")).at != NULL;
    bool is_no_store = conf->heeds_clients && (cw->asked.directives.flags & CACHE_NO_STORE);
    if (has_other_conditions || !req->is_in_done || is_no_store) {
        req->cache = EV_CACHE_BYPASS;
        cw->forward = CACHE_FORWARD_BYPASS;
        return REASON_NONE;
    }
    cw->is_plain = is_get && !cw->client.range.at && !cw->client.if_none_match.at &&
                   !cw->client.if_modified_since.at;
    bool has_others;
    struct cache_entry *e = cache_find(store_of(req), &cw->key, head, &has_others);
    cache_judge_found(cw, e, has_others);
    if (!cw->served && conf->heeds_clients && (cw->asked.directives.flags & CACHE_ONLY_IF_CACHED))
        return REASON_CACHE_ONLY;
    return REASON_NONE;
}

uint16_t cache_look(struct request *req, const struct http1_head *head,
                    const struct cache_where *where)
{
    uint16_t reason = look(req, head, where);
    struct cache_work *cw = req->cw;
    bool is_at_once = cw && cw->served && !cw->wants_refresh;
    if (cw && !reason && !is_at_once && !cache_keep(cw)) {
        cache_work_end(req); /* without memory it goes past the cache */
        req->cache = EV_CACHE_OFF;
    }
    return reason;
}

/* The old answer may be written out although it is over, because there is no room to ask. */
static bool is_guarded(const struct cache_work *cw, const struct cache_entry *e, int64_t age_s,
                       uint64_t now_us)
{
    const struct request *req = cw->req;
    uint64_t purged_us = atomic_load_explicit(&e->purged_us, memory_order_relaxed);
    if (cw->conf->guard_ms == 0 || !cache_is_full(req->sv))
        return false;
    if (purged_us)
        return now_us - purged_us < cw->conf->guard_ms * US_PER_MS;
    return age_s >= e->lifetime_s && cache_may_guard(cw->conf, e, age_s);
}

void cache_judge_found(struct cache_work *cw, struct cache_entry *e, bool has_others)
{
    struct request *req = cw->req;
    uint64_t now_us = loop_now_us(req->worker->loop);
    req->cache = EV_CACHE_MISS;
    cw->is_guarded = false;
    if (!e) {
        cw->forward = has_others ? CACHE_FORWARD_VARY_MISS : CACHE_FORWARD_URI_MISS;
        return;
    }
    int64_t age_s = cache_age_s(e, now_us);
    enum cache_use use = cache_judge_use(cw->conf, &cw->asked, e, age_s);
    if (atomic_load_explicit(&e->purged_us, memory_order_relaxed))
        use = CACHE_USE_REVALIDATE;
    if (use == CACHE_USE_REVALIDATE && !cw->asked.is_no_cache && is_guarded(cw, e, age_s, now_us)) {
        use = CACHE_USE_STALE;
        cw->is_guarded = true;
    }
    bool is_old = age_s >= e->lifetime_s;
    switch (use) {
    case CACHE_USE_STALE:
        cw->wants_refresh = true;
        cw->served = e;
        req->cache = EV_CACHE_STALE;
        return;
    case CACHE_USE_FRESH:
        cw->served = e;
        req->cache = is_old ? EV_CACHE_STALE : EV_CACHE_HIT;
        return;
    case CACHE_USE_REVALIDATE:
        cw->stale = e;
        cw->forward = is_old ? CACHE_FORWARD_STALE : CACHE_FORWARD_REQUEST;
        if (!is_old)
            req->cache = EV_CACHE_BYPASS;
        return;
    }
}

static struct cache_work *work_new(struct request *req, const struct conf_cache *conf)
{
    struct cache_work *cw = slab_take(&req->worker->cache_works);
    if (!cw)
        return NULL;
    *cw = (struct cache_work){.req = req, .conf = conf};
    req->cw = cw;
    return cw;
}

/* Behind what the scratch memory holds already. */
static void key_make(struct cache_work *cw, const struct http1_head *head,
                     const struct cache_where *where)
{
    struct request *req = cw->req;
    const char *end = where->target.at + where->target.len;
    if (end < where->host.at + where->host.len)
        end = where->host.at + where->host.len;
    struct worker *w = req->worker;
    struct http1_out out =
        http1_out(w->out + (end - w->out), w->out_bytes - (size_t)(end - w->out));
    cache_key_put(&out, req, head, where);
    cw->key.route = req->gen->route_numbers[req->route];
    cw->key.version = req->ticket.wanted; /* of a split: each has answers of its own */
    cw->key.text = http1_out_span(&out);
    cw->key.hash = cache_hash(store_of(req), cw->key.route, cw->key.text);
    fb_assert(!out.failed);
}

/* Copies what the spans point to: the head and the scratch memory go. */
bool cache_keep(struct cache_work *cw)
{
    struct span *parts[] = {&cw->key.text, &cw->client.if_none_match, &cw->client.if_modified_since,
                            &cw->client.range, &cw->client.if_range};
    size_t bytes = 0;
    for (size_t i = 0; i < FB_COUNT(parts); i++)
        bytes += parts[i]->len;
    if (cw->keep)
        return true;
    cw->keep = chunk_take(&cw->req->worker->chunks, bytes);
    if (!cw->keep)
        return false;
    char *at = cw->keep->at;
    for (size_t i = 0; i < FB_COUNT(parts); i++) {
        if (parts[i]->len)
            memcpy(at, parts[i]->at, parts[i]->len);
        if (parts[i]->at)
            parts[i]->at = at;
        at += parts[i]->len;
    }
    return true;
}

void cache_work_end(struct request *req)
{
    struct cache_work *cw = req->cw;
    struct cache_store *s = store_of(req);
    if (!cw)
        return;
    loop_job_cancel(req->worker->loop, &cw->again);
    cache_end_pending(cw, false);
    cache_entry_unref(s, cw->served);
    cache_entry_unref(s, cw->stale);
    cache_entry_unref(s, cw->fill);
    chunk_give(&req->worker->chunks, cw->keep);
    slab_give(&req->worker->cache_works, cw);
    req->cw = NULL;
}

/* ---- serving ---- */

static bool is_not_modified(const struct cache_work *cw, const struct cache_entry *e)
{
    if (e->status != 200)
        return false;
    if (cw->client.if_none_match.at)
        return e->etag.len ? cache_etag_is_in(cw->client.if_none_match, e->etag, true)
                           : span_eq(cw->client.if_none_match, SPAN("*"));
    if (!cw->client.if_modified_since.at || e->last_modified_s == CACHE_NO_DATE)
        return false;
    int64_t since_s = cache_date_parse(cw->client.if_modified_since, e->last_modified_s);
    return since_s != CACHE_NO_DATE && e->last_modified_s <= since_s;
}

/* If-Range: the part is only right for the answer that the client has the rest of. */
static bool is_range_right(const struct cache_work *cw, const struct cache_entry *e)
{
    struct span if_range = cw->client.if_range;
    if (!if_range.at)
        return true;
    if (cache_etag_is_valid(if_range))
        return e->etag.len && cache_etag_is_in(if_range, e->etag, false);
    int64_t date_s = cache_date_parse(if_range, e->last_modified_s);
    return date_s != CACHE_NO_DATE && date_s == e->last_modified_s;
}

struct part {
    uint16_t status;
    uint64_t first, bytes; /* of the body */
};

static struct part choose_part(const struct cache_work *cw, const struct cache_entry *e)
{
    uint64_t first, last, total = e->body ? e->body->bytes : 0;
    if (is_not_modified(cw, e))
        return (struct part){304, 0, 0};
    if (cw->client.range.at && e->status == 200 && cw->req->method == HTTP1_GET &&
        is_range_right(cw, e)) {
        switch (cache_range_parse(cw->client.range, total, &first, &last)) {
        case CACHE_RANGE_PART:
            return (struct part){206, first, last - first + 1};
        case CACHE_RANGE_BEYOND:
            return (struct part){416, 0, 0};
        case CACHE_RANGE_NONE:
            break;
        }
    }
    return (struct part){e->status, 0, total};
}

static bool has_no_body(uint16_t status)
{
    return status == 204 || status == 304;
}

static uint16_t reason_of(const struct cache_work *cw, enum ev_cache verdict)
{
    switch (verdict) {
    case EV_CACHE_STALE:
        return cw->is_guarded ? REASON_CACHE_GUARDED : REASON_CACHE_STALE;
    case EV_CACHE_REVALIDATED:
        return REASON_CACHE_REVALIDATED;
    case EV_CACHE_COLLAPSED:
        return REASON_CACHE_COLLAPSED;
    default:
        return REASON_CACHE_HIT;
    }
}

/* Which bytes of how many; of an answer that is no part, nothing. */
static void put_range(struct http1_out *out, const struct part *part, uint64_t total_bytes)
{
    char range[80];
    int n;
    if (part->status == 206)
        n = snprintf(range, sizeof range, "bytes %llu-%llu/%llu", (unsigned long long)part->first,
                     (unsigned long long)(part->first + part->bytes - 1),
                     (unsigned long long)total_bytes);
    else if (part->status == 416)
        n = snprintf(range, sizeof range, "bytes */%llu", (unsigned long long)total_bytes);
    else
        return;
    http1_put_field(out, SPAN("Content-Range"), (struct span){range, (size_t)n});
}

/* Takes the reference of <e>. */
void cache_serve(struct request *req, struct cache_entry *e, enum ev_cache verdict)
{
    struct cache_work *cw = req->cw;
    struct worker *w = req->worker;
    if (cw->served != e)
        cache_entry_unref(w->gw->cache, cw->served);
    cw->served = e;
    req->cache = (uint8_t)verdict;
    struct part part = choose_part(cw, e);
    struct http1_out out = http1_out(w->out, w->out_bytes);
    if (request_is_leaving(req))
        req->is_keep_alive = false;
    req->phase = REQUEST_OVER;
    req->status = part.status;
    req->reason = reason_of(cw, verdict);
    cache_sample(req, e, verdict);
    put_head(req, e, part.status, &out);
    const struct cache_body *body = e->body;
    uint64_t total_bytes = body ? body->bytes : 0;
    if (part.status == 200 && (cw->coded = cache_coded(req, e)) != NULL) {
        body = cw->coded;
        req->traits |= EV_TRAIT_BIT(STORED_CODED);
        part.bytes = body->bytes;
    }
    put_range(&out, &part, total_bytes);
    if (!has_no_body(part.status))
        http1_put_framing(&out, HTTP1_BODY_LENGTH, part.bytes);
    if (!req->is_keep_alive)
        http1_put(&out, SPAN("Connection: close\r\n"));
    else if (req->version_minor == 0)
        http1_put(&out, SPAN("Connection: keep-alive\r\n"));
    http1_put_end(&out);
    if (out.failed) {
        answer_local(req, REASON_INTERNAL);
        return;
    }
    req->framing_out = has_no_body(part.status) ? HTTP1_BODY_NONE : HTTP1_BODY_LENGTH;
    cw->left_bytes = req->method == HTTP1_HEAD ? 0 : part.bytes;
    cw->segment = body ? body->first : NULL;
    cw->segment_at = part.first;
    while (cw->segment && cw->segment_at >= cw->segment->len && cw->left_bytes) {
        cw->segment_at -= cw->segment->len;
        cw->segment = cw->segment->next;
    }
    struct answer_piece piece = {.head = http1_out_span(&out), .is_last = cw->left_bytes == 0};
    if (cw->left_bytes) {
        size_t n = fb_min_u64(cw->left_bytes, cw->segment->len - cw->segment_at);
        piece.payload = (struct span){cw->segment->at + cw->segment_at, n};
        cw->left_bytes -= n;
        cw->segment = cw->segment->next;
        cw->segment_at = 0;
        piece.is_last = cw->left_bytes == 0;
    }
    req->is_out_done = piece.is_last;
    client_answer(req, &piece);
}

static void on_again(struct loop_job *job)
{
    struct cache_work *cw = FB_CONTAINER(job, struct cache_work, again);
    client_run(cw->req->client);
}

/* Much that becomes little never fills the client's socket: an encoder gets one segment a turn. */
bool cache_more(struct request *req)
{
    struct cache_work *cw = req->cw;
    struct client *c = req->client;
    uint32_t segments = 0;
    while (!req->is_out_done && !c->out && !c->is_broken) {
        fb_assert(cw->segment != NULL);
        if (req->encoder && segments++ > 0) {
            cw->again.on_run = on_again;
            loop_defer(req->worker->loop, &cw->again);
            return false;
        }
        size_t n = fb_min_u64(cw->left_bytes, cw->segment->len);
        cw->left_bytes -= n;
        struct answer_piece piece = {.payload = {cw->segment->at, n},
                                     .is_last = cw->left_bytes == 0};
        cw->segment = cw->segment->next;
        req->is_out_done = piece.is_last;
        client_answer(req, &piece);
    }
    return true;
}

/* Which of the kept fields a 304 or 416 repeats (RFC 9110 15.4.5). */
static bool is_of_short_answer(struct span line)
{
    return !(line.len > 8 && strncasecmp(line.at, "content-", 8) == 0 &&
             !(line.len > 17 && strncasecmp(line.at, "content-location:", 17) == 0));
}

static void put_head(struct request *req, const struct cache_entry *e, uint16_t status,
                     struct http1_out *w)
{
    int64_t age_s = cache_age_s(e, loop_now_us(req->worker->loop));
    const struct conf_rules *rules = rules_of(req);
    bool is_short = status == 304 || status == 416;
    http1_put_status_line(w, status);
    if (!is_short && !rules) {
        http1_put(w, e->head);
    } else {
        struct span rest = e->head;
        while (rest.len) {
            const char *from = rest.at;
            span_cut(rest, '\n', &rest);
            struct span line = {from, (size_t)(rest.at - from)};
            if (rest.len == 0)
                line.len = (size_t)(e->head.at + e->head.len - from);
            struct span value, name = span_cut(line, ':', &value);
            if ((is_short && !is_of_short_answer(line)) || (rules && !rules_keeps(rules, name)))
                continue;
            if (!rules || !back_put(req, name, without_line_end(value), w))
                http1_put(w, line);
        }
    }
    if (rules)
        rules_put_set(req, false, w);
    http1_put_field_u64(w, SPAN("Age"), (uint64_t)(age_s > 0 ? age_s : 0));
    cache_put_status(req, w);
    char line[] = "X-Request-Id: 0123456789abcdef\r\n";
    http1_hex16(line + 14, req->request_id);
    http1_put(w, (struct span){line, sizeof line - 1});
}

void cache_put_status(const struct request *req, struct http1_out *w)
{
    static const char *const words[] = {"",        "uri-miss", "vary-miss", "stale",
                                        "request", "method",   "bypass"};
    const struct cache_work *cw = req->cw;
    http1_put(w, SPAN("Cache-Status: "));
    http1_put(w, span_of(req->gen->node));
    bool is_hit = cw->served && req->cache != EV_CACHE_REVALIDATED;
    if (is_hit) {
        http1_put(w, SPAN("; hit"));
    } else if (cw->forward) {
        http1_put(w, SPAN("; fwd="));
        http1_put(w, span_of(words[cw->forward]));
    }
    if (cw->forward_status) {
        http1_put(w, SPAN("; fwd-status="));
        http1_put_u64(w, cw->forward_status);
    }
    if (cw->served || cw->is_stored) {
        const struct cache_entry *e = cw->served ? cw->served : cw->fill;
        int64_t ttl_s = e ? e->lifetime_s - cache_age_s(e, loop_now_us(req->worker->loop)) : 0;
        http1_put(w, ttl_s < 0 ? SPAN("; ttl=-") : SPAN("; ttl="));
        http1_put_u64(w, (uint64_t)(ttl_s < 0 ? -ttl_s : ttl_s));
    }
    if (cw->is_stored)
        http1_put(w, SPAN("; stored"));
    if (cw->is_collapsed)
        http1_put(w, SPAN("; collapsed"));
    http1_put_end(w);
}

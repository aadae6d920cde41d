/* SPDX-License-Identifier: Apache-2.0 */
/* Answers of endpoints on their way into the store. */
#include "base/assert.h"
#include "gateway/cache.h"

#include <time.h>

static bool not_modified(struct upstream *up, struct request *req, const struct http1_head *head);
static void begin_fill(struct request *req, const struct http1_head *head);
static void invalidate(struct request *req, const struct http1_head *head);

static struct cache_store *store_of(const struct request *req)
{
    return req->worker->gw->cache;
}

static bool is_failure(uint16_t status)
{
    return status == 500 || status == 502 || status == 503 || status == 504;
}

bool cache_head(struct upstream *up, struct request *req, const struct http1_head *head)
{
    struct cache_work *cw = req->cw;
    cw->forward_status = cw->is_revalidating || head->status >= 500 ? head->status : 0;
    if (cw->is_unsafe) {
        if (head->status < 400)
            invalidate(req, head);
        return true;
    }
    if (cw->stale && cw->is_revalidating && head->status == 304)
        return not_modified(up, req, head);
    if (is_failure(head->status) && req->client && cache_rescue(req)) {
        enum gate_outcome outcome = (enum gate_outcome)req->outcome;
        upstream_close(up); /* its body may be long */
        if (req->is_ticket_live)
            service_done(req, outcome);
        return false;
    }
    if (cw->forward != CACHE_FORWARD_BYPASS)
        begin_fill(req, head);
    return true;
}

static struct cache_moment moment_of(const struct request *req)
{
    uint64_t now_us = loop_now_us(req->worker->loop);
    return (struct cache_moment){.wall_s = (int64_t)time(NULL),
                                 .delay_s =
                                     (int64_t)(fb_sub_floor_u64(now_us, req->sent_us) / US_PER_S)};
}

static void set_facts(struct cache_entry *e, const struct cache_judgement *j,
                      const struct request *req)
{
    e->flags = j->flags;
    e->stored_us = loop_now_us(req->worker->loop);
    e->age_s = j->age_s;
    e->lifetime_s = j->lifetime_s;
    e->stale_while_revalidate_s = j->stale_while_revalidate_s;
    e->stale_if_error_s = j->stale_if_error_s;
    e->date_s = j->date_s;
    e->last_modified_s = j->last_modified_s;
}

static struct span value_of(const struct http1_head *head, enum http1_header id)
{
    const struct http1_field *f = http1_has(head, id) ? http1_find(head, id) : NULL;
    return f ? f->value : (struct span){NULL, 0};
}

/* Hashes of the words in Surrogate-Key (by blanks) and Cache-Tag (by commas). */
static uint16_t read_tags(const struct cache_store *s, const struct http1_head *head,
                          uint64_t tags[CACHE_TAGS_MAX])
{
    uint16_t count = 0;
    for (uint32_t i = 0; i < head->field_count; i++) {
        const struct http1_field *f = &head->fields[i];
        bool is_surrogate = span_ieq(f->name, SPAN("surrogate-key"));
        if (f->id != HTTP1_H_OTHER || (!is_surrogate && !span_ieq(f->name, SPAN("cache-tag"))))
            continue;
        struct span rest = f->value;
        while (rest.len && count < CACHE_TAGS_MAX) {
            struct span one = span_trim(span_cut(rest, is_surrogate ? ' ' : ',', &rest));
            if (one.len)
                tags[count++] = cache_tag_hash(s, one);
        }
    }
    return count;
}

/* The fields to keep, into <w>. */
static void put_kept(struct request *req, const struct http1_head *head, struct http1_out *w)
{
    struct cache_directives d;
    cache_directives_read(head, &d);
    for (uint32_t i = 0; i < head->field_count; i++)
        if (!cache_is_dropped_field(&head->fields[i], &d))
            http1_put_field(w, head->fields[i].name, head->fields[i].value);
    if (!http1_has(head, HTTP1_H_DATE))
        http1_put(w, worker_date(req->worker));
}

/* An entry for this answer, without a body; NULL when it cannot be kept. */
static struct cache_entry *entry_of(struct request *req, const struct http1_head *head,
                                    const struct cache_judgement *j)
{
    struct cache_work *cw = req->cw;
    struct worker *w = req->worker;
    uint64_t tags[CACHE_TAGS_MAX];
    char variant[CACHE_VARIANT_BYTES];
    size_t variant_bytes = 0;
    struct cache_names names = {
        .answer = head, .own = cw->conf->vary, .own_count = cw->conf->vary_count};
    bool is_selective = http1_has(head, HTTP1_H_VARY) || names.own_count;
    const struct http1_head *asked = is_selective ? cache_head_again(req) : NULL;
    if (is_selective && (!asked || !cache_variant_make(&names, asked, variant, &variant_bytes)))
        return NULL;
    struct http1_out out = http1_out(w->out, w->out_bytes);
    put_kept(req, head, &out);
    if (out.failed)
        return NULL;
    struct cache_making m = {.key = cw->key,
                             .variant = {variant, variant_bytes},
                             .head = http1_out_span(&out),
                             .etag = value_of(head, HTTP1_H_ETAG),
                             .last_modified = value_of(head, HTTP1_H_LAST_MODIFIED),
                             .tags = tags,
                             .tag_count = read_tags(store_of(req), head, tags)};
    struct cache_entry *e = cache_entry_new(store_of(req), &m);
    if (!e)
        return NULL;
    e->status = head->status;
    set_facts(e, j, req);
    return e;
}

static void begin_fill(struct request *req, const struct http1_head *head)
{
    struct cache_work *cw = req->cw;
    struct cache_judgement j;
    struct cache_moment at = moment_of(req);
    uint64_t most = cw->conf->max_object_bytes ? cw->conf->max_object_bytes
                                               : req->gen->conf->p.cache_max_object;
    cache_judge(cw->conf, &cw->asked, head, &at, &j);
    bool is_fitting = head->framing != HTTP1_BODY_LENGTH || head->body_bytes <= most;
    bool is_fresh = j.lifetime_s > j.age_s && !(j.flags & CACHE_ENTRY_NO_CACHE);
    if (req->method == HTTP1_GET && j.is_storable && is_fitting)
        cw->fill = entry_of(req, head, &j);
    req->is_kept = cw->fill != NULL;
    if (cw->fill) {
        cw->fill->origin_us = req->upstream_us;
        cw->is_stored = req->is_kept = true;
        cw->fill_expected_bytes = head->framing == HTTP1_BODY_LENGTH ? head->body_bytes : 0;
        if (!is_fresh) /* who waits could not use it: they need not wait for its end */
            cache_end_pending(cw, true);
        return;
    }
    cache_end_pending(cw, !is_failure(head->status));
    if (cw->stale && req->method == HTTP1_GET && head->status < 400)
        cache_remove(store_of(req), cw->stale); /* what it stood for is gone */
}

void cache_feed(struct request *req, struct span payload)
{
    struct cache_work *cw = req->cw;
    struct cache_store *s = store_of(req);
    if (!cw->fill || payload.len == 0)
        return;
    uint64_t most = cw->conf->max_object_bytes ? cw->conf->max_object_bytes
                                               : req->gen->conf->p.cache_max_object;
    if (!cw->fill->body)
        cw->fill->body = cache_body_new(s);
    struct cache_body *b = cw->fill->body;
    if (b && b->bytes + payload.len <= most &&
        cache_body_add(s, b, cw->key.route, payload, cw->fill_expected_bytes))
        return;
    cache_entry_unref(s, cw->fill); /* too large, or no memory */
    cw->fill = NULL;
    req->is_kept = false;
    cache_end_pending(cw, true);
}

void cache_filled(struct request *req)
{
    struct cache_work *cw = req->cw;
    uint64_t got = cw->fill && cw->fill->body ? cw->fill->body->bytes : 0;
    if (cw->fill && cw->fill_expected_bytes && got != cw->fill_expected_bytes) {
        cache_entry_unref(store_of(req), cw->fill); /* a part is never taken for the whole */
        cw->fill = NULL;
    }
    if (cw->fill) {
        fb_assert(cw->fill_expected_bytes == 0 ||
                  (cw->fill->body && cw->fill->body->bytes == cw->fill_expected_bytes));
        cache_publish(store_of(req), cw->fill);
        if (!req->is_own)
            cache_sample(req, cw->fill, EV_CACHE_MISS);
        cache_entry_unref(store_of(req), cw->fill);
        cw->fill = NULL;
    }
    cache_end_pending(cw, false);
}

bool cache_goes_on(const struct request *req)
{
    return req->cw && (req->cw->fill || req->cw->pending);
}

void cache_end_pending(struct cache_work *cw, bool is_useless)
{
    struct request *req = cw->req;
    if (!cw->pending)
        return;
    struct cache_pending *p = cw->pending;
    cw->pending = NULL;
    cache_pending_end(store_of(req), p, is_useless, loop_now_us(req->worker->loop));
}

/* ---- 304 ---- */

/* Does the 304 carry a field of this name? */
static bool is_updated(const struct http1_head *head, struct span name)
{
    for (uint32_t i = 0; i < head->field_count; i++)
        if (span_ieq(head->fields[i].name, name))
            return true;
    return false;
}

/* RFC 9111 3.2: all fields of the 304 replace those kept, but for what describes the body kept. */
static bool is_fixed(struct span name)
{
    return span_ieq(name, SPAN("content-encoding")) || span_ieq(name, SPAN("content-type")) ||
           span_ieq(name, SPAN("content-range")) || span_ieq(name, SPAN("content-length"));
}

/* The kept fields as the 304 leaves them; one without Date was made now (RFC 9110 6.6.1). */
static void put_updated(const struct cache_entry *was, const struct http1_head *head,
                        struct span date, struct http1_out *w)
{
    bool has_date = http1_has(head, HTTP1_H_DATE);
    struct cache_directives d;
    struct span rest = was->head;
    while (rest.len) {
        const char *from = rest.at;
        struct span line = span_cut(rest, '\n', &rest), value;
        struct span name = span_cut(line, ':', &value);
        if (is_fixed(name) ||
            !(is_updated(head, name) || (!has_date && span_ieq(name, SPAN("date")))))
            http1_put(w, (struct span){from, line.len + 1});
    }
    if (!has_date)
        http1_put(w, date);
    cache_directives_read(head, &d);
    for (uint32_t i = 0; i < head->field_count; i++)
        if (!is_fixed(head->fields[i].name) && !cache_is_dropped_field(&head->fields[i], &d))
            http1_put_field(w, head->fields[i].name, head->fields[i].value);
}

/* The successor of <was>: the same body under the fields of the 304; NULL without memory. */
static struct cache_entry *successor(struct request *req, struct cache_entry *was,
                                     const struct http1_head *head)
{
    struct cache_work *cw = req->cw;
    struct worker *w = req->worker;
    struct http1_out out = http1_out(w->out, w->out_bytes);
    http1_put_status_line(&out, was->status);
    size_t line_bytes = out.len;
    put_updated(was, head, worker_date(w), &out);
    http1_put_end(&out);
    if (out.failed)
        return NULL;
    struct http1_limits limits = req->gen->limits;
    limits.header_bytes *= 2;
    limits.header_count = w->field_room;
    /* read again as one answer: what holds now is what both together say */
    http1_response_begin(&w->request_parser, &limits, w->request_fields, HTTP1_HEAD);
    if (http1_parse(&w->request_parser, http1_out_span(&out)) != HTTP1_DONE)
        return NULL;
    const struct http1_head *both = &w->request_parser.head;
    struct cache_judgement j;
    struct cache_moment at = moment_of(req);
    cache_judge(cw->conf, &cw->asked, both, &at, &j);
    struct cache_making m = {
        .key = cw->key,
        .variant = was->variant,
        .head = {out.at + line_bytes, out.len - line_bytes - 2},
        .etag = value_of(both, HTTP1_H_ETAG),
        .last_modified = value_of(both, HTTP1_H_LAST_MODIFIED),
        .tags = was->tags,
        .tag_count = was->tag_count,
    };
    struct cache_entry *e = cache_entry_new(w->gw->cache, &m);
    if (!e)
        return NULL;
    e->status = was->status;
    e->origin_us = was->origin_us;
    set_facts(e, &j, req);
    e->flags |= was->flags & CACHE_ENTRY_ETAG_WEAKENED;
    e->body = was->body;
    if (e->body)
        atomic_fetch_add_explicit(&e->body->refs, 1, memory_order_relaxed);
    if (j.is_storable)
        cache_publish(w->gw->cache, e);
    else
        cache_remove(w->gw->cache, was);
    return e;
}

static bool not_modified(struct upstream *up, struct request *req, const struct http1_head *head)
{
    struct cache_work *cw = req->cw;
    struct cache_entry *e = successor(req, cw->stale, head);
    if (!e) {
        e = cw->stale;
        cache_entry_ref(e);
    }
    cw->is_stored = atomic_load_explicit(&e->is_published, memory_order_relaxed);
    cache_end_pending(cw, e->lifetime_s <= e->age_s);
    bool has_client = req->client != NULL;
    struct cache_store *s = store_of(req);
    relay_finish(up, req); /* frees the request when nobody waits for it */
    if (!has_client) {
        cache_entry_unref(s, e);
        return false;
    }
    req->is_out_done = false;
    cache_serve(req, e, EV_CACHE_REVALIDATED);
    return false;
}

bool cache_rescue(struct request *req)
{
    struct cache_work *cw = req->cw;
    if (!cw || !cw->stale || !req->client || req->is_answered)
        return false;
    uint64_t now_us = loop_now_us(req->worker->loop);
    int64_t age_s = cache_age_s(cw->stale, now_us);
    if (!cache_may_rescue(cw->conf, cw->stale, age_s))
        return false;
    struct cache_entry *e = cw->stale;
    cw->stale = NULL;
    cache_end_pending(cw, false);
    cache_serve(req, e, EV_CACHE_STALE);
    return true;
}

/* ---- unsafe methods (RFC 9111 4.4) ---- */

static void invalidate(struct request *req, const struct http1_head *head)
{
    struct cache_work *cw = req->cw;
    struct cache_store *s = store_of(req);
    const struct span refs[] = {value_of(head, HTTP1_H_LOCATION), {NULL, 0}};
    const struct http1_field *content = http1_find_name(head, SPAN("content-location"));
    if (!cw->key.text.len)
        return;
    cache_remove_key(s, &cw->key);
    for (size_t i = 0; i < 2; i++) {
        struct span ref = i == 0 ? refs[0] : content ? content->value : refs[1];
        char text[1024];
        struct http1_out w = http1_out(text, sizeof text);
        if (!ref.len || !cache_key_of_reference(&w, cw->key.text, ref))
            continue;
        struct cache_key key = {.route = cw->key.route, .text = http1_out_span(&w)};
        key.hash = cache_hash(s, key.route, key.text);
        cache_remove_key(s, &key);
    }
}

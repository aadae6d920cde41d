/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/authz_question.h"

#include "base/assert.h"
#include "gateway/request_head.h"
#include "gateway/rules.h"

#define BODY_BYTES_MAX CHUNK_BODY_BYTES
/* What nobody wants of an answer is read up to here, for the connection's sake. */
#define DROPPED_BYTES_MAX (64 * KIB)

static struct chunk *write_head(struct request *subject, struct http1_head *head,
                                struct span target);
static void on_told(struct loop_job *job);

static const struct conf_auth *conf_of(const struct request *subject)
{
    return subject->gen->conf->routes[subject->route].auth;
}

static struct authz_question *question_of(const struct request *asking)
{
    struct authz_work *g = asking->guard;
    return g && g->is_question ? FB_CONTAINER(g, struct authz_question, work) : NULL;
}

bool authz_is_wanted(const struct request *asking)
{
    const struct authz_question *q = question_of(asking);
    return q && q->subject && !q->is_heard;
}

struct client *authz_asker(const struct request *req)
{
    const struct authz_question *q = question_of(req);
    return !q ? request_waiter(req) : q->subject ? q->subject->client : NULL;
}

/* ---- asking ---- */

uint16_t question_ask(struct request *subject, struct http1_head *head, struct span target)
{
    struct worker *w = subject->worker;
    struct generation *gen = subject->gen;
    uint64_t now_us = loop_now_us(w->loop);
    struct chunk *room = chunk_take(&w->chunks, sizeof(struct authz_question));
    struct chunk *text = room ? write_head(subject, head, target) : NULL;
    struct request *asking = text ? slab_take(&w->requests) : NULL;
    if (!asking) {
        chunk_give(&w->chunks, text);
        chunk_give(&w->chunks, room);
        return REASON_SHED_OVERLOAD;
    }
    struct authz_question *q = (void *)room->at;
    *q = (struct authz_question){.work = {.chunk = room, .is_question = true},
                                 .subject = subject,
                                 .asking = asking,
                                 .told = {.on_run = on_told}};
    *asking = (struct request){.worker = w,
                               .gen = gen,
                               .sv = gen->services[conf_of(subject)->service],
                               .timer = {.on_due = forward_timer},
                               .guard = &q->work,
                               .head = text,
                               .head_base = text->to,
                               .start_us = now_us,
                               .end_us = now_us,
                               .deadline_us = subject->guard->until_us,
                               .request_id = subject->request_id,
                               .route = ROUTE_NONE,
                               .ep_number = EV_NONE,
                               .ep_version = EV_NONE,
                               .grpc_status = EV_NONE,
                               .peer_text_bytes = subject->peer_text_bytes,
                               .method = HTTP1_GET,
                               .version_minor = 1,
                               .is_own = true,
                               .is_kept = true,
                               .is_in_done = true,
                               .is_replayable = true};
    memcpy(asking->peer_text, subject->peer_text, subject->peer_text_bytes);
    asking->ticket = (struct gate_ticket){.arrive_us = now_us,
                                          .deadline_us = asking->deadline_us,
                                          .key_hash = subject->ticket.key_hash,
                                          .place_hash = subject->ticket.place_hash,
                                          .class = subject->ticket.class,
                                          .is_idempotent = true};
    gen->use[w->index].requests++;
    w->request_count++;
    request_adopt(asking);
    subject->guard->question = q;
    subject->phase = REQUEST_GUARDED; /* it may be over at once */
    forward_arrive(asking);
    return REASON_NONE;
}

/* Its own answer, which a client must not give in its place; but not what it judges clients by. */
static bool is_its_answer(const struct conf_auth *conf, const struct http1_field *f)
{
    bool is_proof = f->id == HTTP1_H_AUTHORIZATION || f->id == HTTP1_H_COOKIE;
    for (size_t i = 0; i < conf->copied_count && !is_proof; i++)
        if (authz_is_taken_for(f->name, span_of(conf->copied[i])))
            return true;
    return false;
}

/* Of a proxy before us, and only where that is trusted and the name is the true one. */
static bool is_forged(const struct request *subject, struct span name)
{
    const struct span kind = SPAN("x-forwarded-");
    if (name.len < kind.len || !authz_is_taken_for((struct span){name.at, kind.len}, kind))
        return false;
    return !subject->is_forwarded || memchr(name.at, '_', name.len);
}

/* What is about the body, the protocol, or kept answers; and what only others may say. */
static bool is_ours(const struct request *subject, const struct http1_field *f)
{
    static const char *const names[] = {
        "accept-encoding", "priority",           "if-unmodified-since", "if-range",
        "x-forwarded-uri", "x-forwarded-method", "x-original-method",   "x-original-url",
        "x-original-uri",  "x-real-ip",          "forwarded",           "x-client-cert-subject",
        "x-request-id"};
    static const char *const kinds[] = {"content-", "sec-websocket-"};
    if (is_forged(subject, f->name) || is_its_answer(conf_of(subject), f))
        return true;
    for (size_t i = 0; i < FB_COUNT(kinds); i++) {
        size_t n = strlen(kinds[i]);
        if (f->name.len > n && strncasecmp(f->name.at, kinds[i], n) == 0)
            return true;
    }
    for (size_t i = 0; i < FB_COUNT(names); i++)
        if (authz_is_taken_for(f->name, span_of(names[i])))
            return true;
    return false;
}

/* <head> is not used for anything else: its fields get marks. */
static struct chunk *write_head(struct request *subject, struct http1_head *head,
                                struct span target)
{
    struct worker *w = subject->worker;
    const struct conf_auth *conf = conf_of(subject);
    const struct conf_service *sv = &subject->gen->conf->services[conf->service];
    size_t most = head->head_bytes + target.len + strlen(conf->path) + 2 * KIB;
    struct chunk *c = chunk_take(&w->chunks, most + CHUNK_SLACK_BYTES);
    if (!c)
        return NULL;
    struct http1_out out = http1_out(c->at, most);
    uint64_t skip = HTTP1_SKIP_FRAMING | REQUEST_HEAD_OWN | HTTP1_SKIP(EXPECT) | HTTP1_SKIP(RANGE) |
                    HTTP1_SKIP(IF_MATCH) | HTTP1_SKIP(IF_NONE_MATCH) |
                    HTTP1_SKIP(IF_MODIFIED_SINCE) | HTTP1_SKIP(MAX_FORWARDS);
    for (uint32_t i = 0; i < head->field_count; i++)
        if (is_ours(subject, &head->fields[i]))
            head->fields[i].flags |= HTTP1_FIELD_HOP;
    http1_put_request_line(&out, SPAN("GET"), span_of(conf->path));
    http1_put_field(&out, SPAN("Host"),
                    sv->host_header && sv->host_header[0] ? span_of(sv->host_header)
                    : head->host.len                      ? head->host
                                                          : span_of(sv->name));
    http1_put_fields(&out, head, skip);
    request_head_put_client(subject, head, &out, true);
    http1_put_field(&out, SPAN("X-Forwarded-Method"), head->method_text);
    http1_put_field(&out, SPAN("X-Forwarded-Uri"), target);
    if (out.failed) {
        chunk_give(&w->chunks, c);
        return NULL;
    }
    c->to = (uint32_t)out.len;
    return c;
}

/* ---- what comes back ---- */

static bool is_passed_on(const struct conf_auth *conf, uint16_t status)
{
    bool is_redirect =
        status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
    return status == 401 || status == 403 || (is_redirect && conf->takes_redirects);
}

static bool is_named(const struct conf_auth *conf, struct span name)
{
    for (size_t i = 0; i < conf->copied_count; i++)
        if (span_ieq(name, span_of(conf->copied[i])))
            return true;
    return false;
}

/* Of a 2xx what is named; of a refusal what its client should hear. */
static bool goes_on(const struct conf_auth *conf, const struct http1_field *f, uint16_t status)
{
    if (status < 300)
        return is_named(conf, f->name);
    return !(f->flags & HTTP1_FIELD_HOP) && f->id != HTTP1_H_CONTENT_LENGTH &&
           f->id != HTTP1_H_TRANSFER_ENCODING && f->id != HTTP1_H_X_REQUEST_ID &&
           f->id != HTTP1_H_DATE;
}

/* False: without memory. */
static bool keep_fields(struct authz_question *q, const struct http1_head *head)
{
    size_t most = 64;
    for (uint32_t i = 0; i < head->field_count; i++)
        most += head->fields[i].name.len + head->fields[i].value.len + sizeof(": \r\n") - 1;
    q->fields = chunk_take(&q->asking->worker->chunks, most);
    if (!q->fields)
        return false;
    struct http1_out out = http1_out(q->fields->at, q->fields->cap);
    for (uint32_t i = 0; i < head->field_count; i++)
        if (goes_on(conf_of(q->subject), &head->fields[i], head->status))
            http1_put_field(&out, head->fields[i].name, head->fields[i].value);
    fb_assert(!out.failed);
    q->fields->to = (uint32_t)out.len;
    return true;
}

static void tell(struct authz_question *q)
{
    if (!q->subject || q->is_heard)
        return;
    q->is_heard = true;
    loop_defer(q->subject->worker->loop, &q->told);
}

void authz_hear(struct request *asking, const struct http1_head *head)
{
    struct authz_question *q = question_of(asking);
    if (!q || !q->subject || q->is_heard)
        return;
    bool is_good = head->status >= 200 && head->status < 300;
    bool is_answer = is_passed_on(conf_of(q->subject), head->status);
    asking->is_answered = true; /* what breaks off behind it is not asked again */
    q->status = head->status;
    if ((is_good || is_answer) && !keep_fields(q, head))
        q->is_lost = true;
    if (!is_answer || q->is_lost)
        tell(q); /* its body says nothing more */
}

void authz_feed(struct request *asking, struct span payload)
{
    struct authz_question *q = question_of(asking);
    if (!q || payload.len == 0)
        return;
    if (!q->subject || q->is_heard || !q->fields || q->is_body_lost) {
        q->dropped_bytes += payload.len;
        if (q->dropped_bytes > DROPPED_BYTES_MAX) { /* the next piece ends it, and nobody is told */
            asking->is_own = false;
            asking->is_silent = true;
        }
        return;
    }
    if (chunk_span(q->body).len + payload.len > BODY_BYTES_MAX ||
        !chunk_append(&asking->worker->chunks, &q->body, payload))
        q->is_body_lost = true;
}

static void free_question(struct worker *w, struct authz_question *q)
{
    fb_assert(!q->subject);
    fb_assert(!q->asking);
    loop_job_cancel(w->loop, &q->told);
    chunk_give(&w->chunks, q->fields);
    chunk_give(&w->chunks, q->body);
    chunk_give(&w->chunks, q->work.chunk);
}

void authz_answered(struct request *asking)
{
    struct authz_question *q = question_of(asking);
    asking->guard = NULL;
    q->asking = NULL;
    if (!asking->is_out_done)
        q->is_body_lost = true;
    tell(q);
    if (!q->subject)
        free_question(asking->worker, q);
}

void question_leave(struct request *subject)
{
    struct authz_question *q = subject->guard->question;
    q->subject = NULL;
    loop_job_cancel(subject->worker->loop, &q->told);
    if (!q->asking) {
        free_question(subject->worker, q);
        return;
    }
    if (q->is_heard)
        return;
    q->asking->h2_slot = subject->h2_slot;
    subject->h2_slot = NULL;
    cap_hand_over(subject, q->asking);
    bool is_waiting = q->asking->phase == REQUEST_QUEUED && service_cancel(q->asking);
    if (is_waiting ||
        q->asking->phase == REQUEST_BACKOFF) { /* it was not sent: nobody works on it */
        q->asking->phase = REQUEST_OVER;
        request_free(q->asking);
    }
}

uint16_t question_verdict(const struct authz_question *q)
{
    if (q->is_lost)
        return REASON_AUTH_UNAVAILABLE;
    if (q->status >= 200 && q->status < 300)
        return REASON_NONE;
    return q->status && is_passed_on(conf_of(q->subject), q->status) ? REASON_AUTH_DENIED
                                                                     : REASON_AUTH_UNAVAILABLE;
}

/* What else it says is no failure of it, and clients can have it say that: by what they send. */
bool question_has_failed(const struct authz_question *q)
{
    return q->status == 0 || q->status >= 500;
}

static void on_told(struct loop_job *job)
{
    struct authz_question *q = FB_CONTAINER(job, struct authz_question, told);
    struct request *subject = q->subject;
    if (subject && subject->phase == REQUEST_GUARDED)
        authz_verdict(subject, question_verdict(q));
}

/* ---- what goes on ---- */

void question_copy(const struct request *subject, struct http1_head *head, uint32_t most)
{
    const struct authz_question *q = subject->guard->question;
    struct span rest = chunk_span(q->fields), value;
    bool is_good = q->status >= 200 && q->status < 300; /* else it is let in all the same */
    while (is_good && rest.len && most--) {
        struct span line = span_cut(rest, '\r', &rest);
        struct span name = span_cut(line, ':', &value);
        enum http1_header id = http1_header_lookup(name);
        rest = (struct span){rest.at + 1, rest.len - 1}; /* LF */
        head->fields[head->field_count++] =
            (struct http1_field){.name = name, .value = span_trim(value), .id = (uint8_t)id};
        if (id != HTTP1_H_OTHER)
            head->seen |= UINT64_C(1) << id;
    }
}

/* Without the body that a line is about there is no such line. */
static void put_lines(struct span lines, bool has_body, bool *has_control, struct http1_out *out)
{
    while (lines.len) {
        struct span rest, line = span_cut(lines, '\r', &rest);
        struct span name = span_cut(line, ':', &(struct span){0});
        line.len += 2; /* CR LF */
        lines = (struct span){rest.at + 1, rest.len - 1};
        bool is_of_body = name.len > 8 && strncasecmp(name.at, "content-", 8) == 0;
        *has_control |= span_ieq(name, SPAN("cache-control"));
        if (has_body || !is_of_body)
            http1_put(out, line);
    }
}

void authz_say(struct request *subject)
{
    const struct authz_question *q = subject->guard->question;
    struct worker *w = subject->worker;
    struct http1_out out = http1_out(w->out, w->out_bytes);
    bool is_whole = !q->is_body_lost && !q->asking;
    struct span body = is_whole ? chunk_span(q->body) : SPAN("");
    bool has_control = false;
    subject->status = q->status;
    subject->framing_out = HTTP1_BODY_LENGTH;
    http1_put_status_line(&out, q->status);
    http1_put(&out, worker_date(w));
    put_lines(chunk_span(q->fields), body.len > 0, &has_control, &out);
    if (!has_control)
        http1_put(&out, SPAN("Cache-Control: no-store\r\n"));
    http1_put_field_u64(&out, SPAN("Content-Length"), body.len);
    answer_put_proxy_status(w, ev_reason_row(REASON_AUTH_DENIED), &out);
    char line[] = "X-Request-Id: 0123456789abcdef\r\n";
    http1_hex16(line + 14, subject->request_id);
    http1_put(&out, (struct span){line, sizeof line - 1});
    if (rules_of(subject))
        rules_put_set(subject, true, &out);
    if (!subject->is_keep_alive)
        http1_put(&out, SPAN("Connection: close\r\n"));
    else if (subject->version_minor == 0)
        http1_put(&out, SPAN("Connection: keep-alive\r\n"));
    http1_put_end(&out);
    if (out.failed) {
        subject->is_keep_alive = false;
        out = http1_out(w->out, w->out_bytes);
        http1_put_status_line(&out, subject->status = 403);
        http1_put(&out, SPAN("Content-Length: 0\r\nConnection: close\r\n\r\n"));
        body.len = 0;
    }
    if (subject->method == HTTP1_HEAD)
        body.len = 0;
    client_answer(subject, &(struct answer_piece){
                               .head = http1_out_span(&out), .payload = body, .is_last = true});
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/authz.h"

#include "base/assert.h"
#include "gateway/authz_question.h"
#include "gateway/authz_users.h"
#include "gateway/rules.h"

#include <ctype.h>

#define FIELDS_ADDED_MAX 32 /* the name of the user, or what another service says */

static bool keep_head(struct request *req, const struct http1_head *head, struct span user);
static void let_in(struct request *req);
static uint16_t ask_password(struct request *req, const struct http1_head *head);
static void on_told(struct loop_message *m);

static const struct conf_auth *conf_of(const struct request *req)
{
    return req->gen->conf->routes[req->route].auth;
}

static bool is_excepted(const struct request *req, const struct http1_head *head,
                        const struct conf_auth *conf)
{
    unsigned char address[16];
    if (conf->except_count == 0)
        return false;
    rules_address(req, head, address);
    return conf_prefix_has(conf->except, conf->except_count, address);
}

static uint16_t refused(struct request *req, uint16_t reason)
{
    bool is_failure = reason == REASON_AUTH_BUSY || reason == REASON_AUTH_UNAVAILABLE;
    req->traits |= is_failure ? EV_TRAIT_BIT(AUTH_FAILED) : EV_TRAIT_BIT(AUTH_REFUSED);
    return reason;
}

static uint16_t ask_service(struct request *req, struct http1_head *head, struct span target)
{
    if (!keep_head(req, head, SPAN("")))
        return REASON_SHED_OVERLOAD;
    req->guard->until_us = loop_now_us(req->worker->loop) + conf_of(req)->timeout_ms * US_PER_MS;
    return question_ask(req, head, target);
}

uint16_t authz_ask(struct request *req, struct http1_head **head, struct span target)
{
    const struct conf_auth *conf = conf_of(req);
    uint16_t reason;
    if (is_excepted(req, *head, conf))
        reason = keep_head(req, *head, SPAN("")) ? REASON_NONE : REASON_SHED_OVERLOAD;
    else
        reason = conf->file ? ask_password(req, *head) : ask_service(req, *head, target);
    if (reason)
        return reason == REASON_SHED_OVERLOAD ? reason : refused(req, reason);
    if (req->phase != REQUEST_GUARDED) {
        let_in(req);
        *head = &req->guard->head;
    }
    return REASON_NONE;
}

struct http1_head *authz_head(struct request *req)
{
    return &req->guard->head;
}

static void settle(struct request *req, uint16_t reason)
{
    fb_assert(req->phase == REQUEST_GUARDED);
    fb_assert(req->client != NULL);
    loop_timer_stop(req->worker->loop, &req->timer);
    bool is_let_in = reason == REASON_NONE;
    if (reason == REASON_AUTH_UNAVAILABLE && conf_of(req)->is_open &&
        question_has_failed(req->guard->question)) {
        req->traits |= EV_TRAIT_BIT(AUTH_FAILED);
        is_let_in = true;
    } else if (is_let_in && !conf_of(req)->file) {
        req->traits |= EV_TRAIT_BIT(AUTH_ALLOWED);
    }
    if (!is_let_in) {
        forward_refuse(req, refused(req, reason));
        return;
    }
    let_in(req);
    request_let_in(req);
}

void authz_verdict(struct request *req, uint16_t reason)
{
    struct client *c = req->client;
    settle(req, reason);
    client_run(c);
}

void authz_late(struct request *req)
{
    settle(req,
           req->guard->question ? question_verdict(req->guard->question) : REASON_AUTH_UNAVAILABLE);
}

void authz_end(struct request *req)
{
    struct authz_work *g = req->guard;
    if (g->is_question) {
        authz_answered(req);
        return;
    }
    if (g->wait)
        authz_wait_leave(g->wait);
    if (g->question)
        question_leave(req);
    req->guard = NULL;
    chunk_give(&req->worker->chunks, g->chunk);
}

void authz_put_challenge(const struct request *req, struct http1_out *out)
{
    http1_put(out, SPAN("WWW-Authenticate: Basic realm=\""));
    http1_put(out, span_of(conf_of(req)->realm));
    http1_put(out, SPAN("\", charset=\"UTF-8\"\r\n"));
}

/* ---- passwords ---- */

/* Several can mean one to us and another to the endpoint. */
static const struct http1_field *only_field(const struct http1_head *head, bool *has_more)
{
    const struct http1_field *found = NULL;
    *has_more = false;
    for (uint32_t i = 0; i < head->field_count; i++) {
        if (head->fields[i].id != HTTP1_H_AUTHORIZATION)
            continue;
        *has_more |= found != NULL;
        found = &head->fields[i];
    }
    return found;
}

static uint16_t submit(struct request *req, const struct http1_head *head, const struct basic *said,
                       const unsigned char tag[MAC_BYTES], uint64_t version)
{
    char hash[HTPASSWD_HASH_BYTES_MAX];
    static const struct conf_who who = {.by = CONF_WHO_ADDRESS, .v4_bits = 32, .v6_bits = 64};
    struct authz_job job = {.tag = tag,
                            .hash = hash,
                            .password = said->password.at,
                            .client_key = who_hash(req, head, &who, req->worker->gw->key_seed)};
    if (!authz_users_find(req->gen->users[req->route], said->user, version, hash, &job.is_known))
        return REASON_AUTH_BUSY; /* the file changed in between */
    if (!keep_head(req, head, said->user))
        return REASON_SHED_OVERLOAD;
    req->guard->wait = authz_submit(req, &job, on_told);
    if (!req->guard->wait)
        return REASON_AUTH_BUSY;
    req->phase = REQUEST_GUARDED;
    return REASON_NONE;
}

static uint16_t judge(struct request *req, const struct http1_head *head, const struct basic *said)
{
    struct worker *w = req->worker;
    unsigned char tag[MAC_BYTES];
    uint64_t version;
    if (!authz_users_version(req->gen->users[req->route], &version) ||
        !authz_tag(w, version, said, tag))
        return REASON_AUTH_UNAVAILABLE;
    switch (authz_recall(w->gw->authz, tag, conf_of(req)->remember_ms * US_PER_MS)) {
    case AUTHZ_RIGHT:
        req->traits |= EV_TRAIT_BIT(AUTH_REMEMBERED);
        return keep_head(req, head, said->user) ? REASON_NONE : REASON_SHED_OVERLOAD;
    case AUTHZ_WRONG:
        return REASON_AUTH_REFUSED;
    case AUTHZ_UNKNOWN:
        break;
    }
    return submit(req, head, said, tag, version);
}

static uint16_t ask_password(struct request *req, const struct http1_head *head)
{
    struct basic said;
    bool has_more;
    const struct http1_field *f = only_field(head, &has_more);
    if (!f)
        return REASON_AUTH_REQUIRED;
    if (has_more || !basic_read(f->value, &said))
        return REASON_AUTH_REFUSED;
    uint16_t reason = judge(req, head, &said);
    mac_wipe(&said, sizeof said);
    return reason;
}

static void on_told(struct loop_message *m)
{
    struct authz_wait *wait = FB_CONTAINER(m, struct authz_wait, message);
    struct request *req = wait->req;
    enum htpasswd_verdict verdict = wait->verdict;
    authz_wait_give(wait);
    if (!req) /* it ended meanwhile */
        return;
    req->guard->wait = NULL;
    if (req->phase != REQUEST_GUARDED) /* refused for another reason, and not yet gone */
        return;
    if (verdict == HTPASSWD_RIGHT)
        req->traits |= EV_TRAIT_BIT(AUTH_CHECKED);
    authz_verdict(req, verdict == HTPASSWD_RIGHT   ? REASON_NONE
                       : verdict == HTPASSWD_WRONG ? REASON_AUTH_REFUSED
                                                   : REASON_AUTH_UNAVAILABLE);
}

/* ---- the head ---- */

static struct span copy(struct chunk *c, struct span s)
{
    char *at = c->at + c->to;
    fb_assert(s.len <= chunk_room(c));
    if (s.len)
        memcpy(at, s.at, s.len);
    c->to += (uint32_t)s.len;
    return (struct span){s.at ? at : NULL, s.len};
}

/* What a route asks of its client is asked before anything else is known of the request: the head
 * is copied, and room is left for what is added. */
static bool keep_head(struct request *req, const struct http1_head *head, struct span user)
{
    size_t bytes = user.len, room = head->field_count + FIELDS_ADDED_MAX;
    struct http1_head kept = *head;
    struct span *texts[] = {&kept.method_text, &kept.target, &kept.path,
                            &kept.query,       &kept.host,   &kept.host_name};
    for (uint32_t i = 0; i < head->field_count; i++)
        bytes += head->fields[i].name.len + head->fields[i].value.len;
    for (size_t i = 0; i < FB_COUNT(texts); i++)
        bytes += texts[i]->len;
    struct chunk *c =
        chunk_take(&req->worker->chunks,
                   sizeof(struct authz_work) + room * sizeof(struct http1_field) + bytes);
    if (!c)
        return false;
    struct authz_work *g = (void *)c->at;
    kept.fields = (void *)(g + 1);
    c->to = (uint32_t)(sizeof *g + room * sizeof(struct http1_field));
    for (uint32_t i = 0; i < head->field_count; i++) {
        struct http1_field f = head->fields[i];
        f.name = copy(c, f.name);
        f.value = copy(c, f.value);
        f.flags &= (uint8_t)~HTTP1_FIELD_PLAIN_LINE; /* the line is not there any more */
        kept.fields[i] = f;
    }
    for (size_t i = 0; i < FB_COUNT(texts); i++)
        *texts[i] = copy(c, *texts[i]);
    *g = (struct authz_work){
        .chunk = c, .head = kept, .until_us = UINT64_MAX, .user = copy(c, user)};
    req->guard = g;
    return true;
}

bool authz_is_taken_for(struct span a, struct span b)
{
    if (a.len != b.len)
        return false;
    for (size_t i = 0; i < a.len; i++) {
        int x = a.at[i] == '_' ? '-' : tolower((unsigned char)a.at[i]);
        int y = b.at[i] == '_' ? '-' : tolower((unsigned char)b.at[i]);
        if (x != y)
            return false;
    }
    return true;
}

static void take_away(struct http1_head *head, struct span name)
{
    uint32_t kept = 0;
    enum http1_header id = http1_header_lookup(name);
    for (uint32_t i = 0; i < head->field_count; i++)
        if (!authz_is_taken_for(head->fields[i].name, name))
            head->fields[kept++] = head->fields[i];
    head->field_count = kept;
    if (id != HTTP1_H_OTHER)
        head->seen &= ~(UINT64_C(1) << id);
}

/* What only we, or who is asked, may say to the endpoint. */
static bool is_given(const struct conf_auth *conf, struct span name)
{
    for (size_t i = 0; i < conf->copied_count; i++)
        if (authz_is_taken_for(name, span_of(conf->copied[i])))
            return true;
    return conf->file && authz_is_taken_for(name, span_of(conf->user_header));
}

void authz_clean_trailers(const struct request *req, struct http1_trailers *trailers)
{
    const struct conf_auth *conf = req->route == ROUTE_NONE ? NULL : conf_of(req);
    uint32_t kept = 0;
    if (!conf)
        return;
    for (uint32_t i = 0; i < trailers->field_count; i++)
        if (!is_given(conf, trailers->fields[i].name))
            trailers->fields[kept++] = trailers->fields[i];
    trailers->field_count = kept;
}

/* What the cache, the rules and the endpoint see: without the password, with the name; with what
 * the service that was asked says, and not with what the client says in its place. */
static void let_in(struct request *req)
{
    const struct conf_auth *conf = conf_of(req);
    struct http1_head *head = &req->guard->head;
    for (size_t i = 0; i < conf->copied_count; i++)
        take_away(head, span_of(conf->copied[i]));
    if (req->guard->question)
        question_copy(req, head, FIELDS_ADDED_MAX);
    if (!conf->file)
        return;
    struct span name = span_of(conf->user_header);
    if (!conf->is_forwarded)
        take_away(head, SPAN("authorization"));
    if (!name.len)
        return;
    take_away(head, name);
    if (!req->guard->user.len)
        return; /* it was let in unasked */
    enum http1_header id = http1_header_lookup(name);
    head->fields[head->field_count++] =
        (struct http1_field){.name = name, .value = req->guard->user, .id = (uint8_t)id};
    if (id != HTTP1_H_OTHER)
        head->seen |= UINT64_C(1) << id;
}

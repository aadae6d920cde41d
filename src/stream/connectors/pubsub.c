/* SPDX-License-Identifier: Apache-2.0 */
/* pubsub: Google Pub/Sub, by unary gRPC calls over libcurl's HTTP/2.
 *
 * gRPC and not the JSON of the REST interface: a block of 256 KiB goes as it is and not as base64
 * (a third more bytes of the 10 MB that a request may have, and CPU for them), failures have exact
 * codes, and every server speaks it: the service, its emulator, and pstest, which knows nothing
 * else.
 *
 * Order.  All messages of one PublishRequest must have one ordering key, so a batch is cut into
 * chains, one per key; a chain has at most one request under way.  A request is stored as a whole
 * or not at all; after a failed one nothing of its chain follows in this send, and the runner
 * sends the open ones again in order.  Chains of different keys go side by side. */
#include "stream/connectors/pubsub_int.h"

#include "base/clock.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define LOOK_TRIES 4
#define CHAINS_AT_ONCE 8 /* streams of one connection; a node has few keys */
#define END UINT32_MAX

static const char *value(const struct connector *c, const char *key)
{
    return c->setup.value(c->setup.conf, key);
}

/* ---- life ---- */
static enum fb_code read_endpoint(struct connector *c, struct fb_err *err)
{
    const char *at = value(c, "endpoint"), *scheme = "https://";
    if (!*at) {
        const char *emulator = getenv("PUBSUB_EMULATOR_HOST"); /* as Google's own clients do */
        at = emulator && *emulator ? emulator : "pubsub.googleapis.com";
        if (emulator && *emulator && !strstr(emulator, "://"))
            scheme = "http://";
    }
    if (strstr(at, "://")) {
        scheme = "";
        if (strncmp(at, "http://", 7) != 0 && strncmp(at, "https://", 8) != 0)
            return fb_fail(
                err, FB_E_CONFIG,
                "connectors.%s: endpoint must be HOST:PORT, https://HOST:PORT or, for an "
                "emulator, http://HOST:PORT, got \"%.100s\"",
                c->setup.name, at);
    }
    int len = snprintf(c->base, sizeof c->base, "%s%s", scheme, at);
    if (len < 0 || (size_t)len >= sizeof c->base)
        return fb_fail(err, FB_E_CONFIG, "connectors.%s: endpoint has more than 290 bytes",
                       c->setup.name);
    while (len > 0 && c->base[len - 1] == '/')
        c->base[--len] = '\0';
    c->has_token = strncmp(c->base, "https://", 8) == 0;
    return FB_OK;
}

/* The full name from `topic` or `subscription`, short or full, and the project. */
static enum fb_code read_path(struct connector *c, const char *project, struct fb_err *err)
{
    const char *key = c->setup.is_source ? "subscription" : "topic";
    const char *name = value(c, key);
    int len;
    if (!*name)
        return fb_fail(err, FB_E_CONFIG,
                       "connectors.%s needs `%s`: name of the %s, as in `%s: foldback`",
                       c->setup.name, key, key, key);
    if (strncmp(name, "projects/", 9) == 0) {
        char between[32];
        snprintf(between, sizeof between, "/%ss/", key);
        if (!strstr(name, between))
            return fb_fail(
                err, FB_E_CONFIG,
                "connectors.%s: %s must be NAME or projects/PROJECT%sNAME, got \"%.100s\"",
                c->setup.name, key, between, name);
        len = snprintf(c->path, sizeof c->path, "%s", name);
    } else {
        if (*value(c, "project"))
            project = value(c, "project");
        if (!*project)
            return fb_fail(err, FB_E_CONFIG,
                           "connectors.%s needs `project`: the id of the project of %s \"%.100s\"",
                           c->setup.name, key, name);
        len = snprintf(c->path, sizeof c->path, "projects/%s/%ss/%s", project, key, name);
    }
    if (len < 0 || (size_t)len >= sizeof c->path)
        return fb_fail(err, FB_E_CONFIG, "connectors.%s: the name of the %s is too long",
                       c->setup.name, key);
    c->short_name = strrchr(c->path, '/') + 1;
    return FB_OK;
}

static enum fb_code read_conf(struct connector *c, struct fb_err *err)
{
    char project[128] = "";
    c->is_ordered = strcmp(value(c, "ordering"), "true") == 0;
    c->ack_deadline_s = (uint32_t)(strtoull(value(c, "ack_deadline"), NULL, 10) / 1000);
    c->pull_max = (uint32_t)strtoul(value(c, "pull_max"), NULL, 10);
    c->calls.ca_file = value(c, "ca_file");
    c->calls.is_stopping = c->setup.is_stopping;
    c->calls.ctx = c->setup.ctx;
    c->token.key_file = value(c, "key_file");
    snprintf(c->metadata, sizeof c->metadata, "http://%s", value(c, "metadata_host"));
    c->token.metadata = c->metadata;
    enum fb_code code = read_endpoint(c, err);
    if (code == FB_OK && *c->token.key_file) { /* what is wrong with it is said now */
        struct token_key key;
        code = token_key_read(c->token.key_file, &key, err);
        snprintf(project, sizeof project, "%s", code == FB_OK ? key.project : "");
        token_key_fini(&key);
    }
    return code == FB_OK ? read_path(c, project, err) : code;
}

static void pubsub_close(struct connector *c)
{
    pubsub_pull_fini(c);
    calls_fini(&c->calls);
    token_fini(&c->token);
    free(c);
}

static enum fb_code pubsub_open(struct connector **out, const struct connector_setup *setup,
                                struct fb_err *err)
{
    struct connector *c = calloc(1, sizeof *c);
    if (!c)
        return fb_fail(err, FB_E_NOMEM, "no memory for the connector %s", setup->name);
    c->setup = *setup;
    enum fb_code code = read_conf(c, err);
    if (code == FB_OK && !calls_init(&c->calls))
        code = fb_fail(err, FB_E_NOMEM, "no memory for the connector %s", setup->name);
    if (code != FB_OK) {
        pubsub_close(c);
        return code;
    }
    *out = c;
    return FB_OK;
}

/* ---- calls ---- */
struct call *pubsub_begin(struct connector *c, const char *method, struct buf *request,
                          uint32_t timeout_ms, struct fb_err *err)
{
    enum fb_code code = c->has_token ? token_get(&c->token, &c->calls, err) : FB_OK;
    if (code != FB_OK) {
        buf_fini(request);
        return NULL;
    }
    struct call_grpc how = {.base = c->base,
                            .method = method,
                            .token = c->has_token ? c->token.value : "",
                            .timeout_ms = timeout_ms};
    struct call *call = call_grpc(&c->calls, &how, request);
    if (!call)
        fb_fail(err, FB_E_NOMEM, "no memory for a request to %s", c->base);
    return call;
}

enum fb_code pubsub_wait(struct connector *c, struct call *call, struct fb_err *err)
{
    if (!call)
        return err->code;
    if (!calls_wait(&c->calls, call))
        return fb_fail(err, FB_E_AGAIN, "stopped meanwhile");
    return pubsub_outcome(c, call, err);
}

static enum fb_code no_answer(const struct connector *c, const struct call *call,
                              struct fb_err *err)
{
    const char *why = *call->error ? call->error : curl_easy_strerror(call->transport);
    if (call->transport == CURLE_PEER_FAILED_VERIFICATION ||
        call->transport == CURLE_SSL_CACERT_BADFILE)
        return fb_fail(err, FB_E_CONFIG,
                       "the certificate of %s is not of a known authority (%.200s); ca_file names "
                       "others",
                       c->base, why);
    return fb_fail(err, call->transport == CURLE_OPERATION_TIMEDOUT ? FB_E_TIMEOUT : FB_E_AGAIN,
                   "%s does not answer: %.250s; see `endpoint`, and the way out from here", c->base,
                   why);
}

static enum fb_code refused(struct connector *c, const struct call *call, struct fb_err *err)
{
    const char *name = grpc_status_name(call->status);
    const char *role = c->setup.is_source ? "roles/pubsub.subscriber" : "roles/pubsub.publisher";
    switch (call->status) {
    case GRPC_UNAUTHENTICATED:
        token_refuse(&c->token);
        if (c->token.refused < 2) /* one may have ended or been taken back; a new one may help */
            return fb_fail(err, FB_E_AGAIN, "%s refuses the token; the next try has another",
                           c->base);
        return fb_fail(err, FB_E_DENIED,
                       "%s refuses the token (%.160s): check key_file, the clock, and that the "
                       "service account is enabled",
                       c->base, call->message);
    case GRPC_PERMISSION_DENIED:
        return fb_fail(err, FB_E_DENIED, "%s: no permission (%.160s): give the account %s on it",
                       c->path, call->message, role);
    case GRPC_NOT_FOUND:
        return fb_fail(err, FB_E_CONFIG,
                       "%s does not exist at %s: create it, or correct `%s` or `project`", c->path,
                       c->base, c->setup.is_source ? "subscription" : "topic");
    case GRPC_FAILED_PRECONDITION:
    case GRPC_UNIMPLEMENTED:
    case GRPC_INVALID_ARGUMENT:
        return fb_fail(err, FB_E_CONFIG, "%s at %s: %s: %.200s", c->path, c->base, name,
                       call->message);
    default:
        return fb_fail(err, FB_E_AGAIN, "%s: %s: %.200s", c->base, name, call->message);
    }
}

enum fb_code pubsub_outcome(struct connector *c, const struct call *call, struct fb_err *err)
{
    struct span message;
    if (call->status == GRPC_NONE)
        return no_answer(c, call, err);
    if (call->status != GRPC_OK)
        return refused(c, call, err);
    c->token.refused = 0;
    if (!call_message(call, &message))
        return fb_fail(err, FB_E_AGAIN, "%s gives an answer that is no gRPC message", c->base);
    return FB_OK;
}

/* ---- sink ---- */
struct chain {
    uint32_t first, last; /* records, joined by next[] */
    uint32_t sent;        /* records in the request that is under way */
    bool is_alone;        /* one record per request: one of them is bad, which? */
    struct call *call;
};
struct sending {
    struct connector *c;
    struct connector_batch *batch;
    struct chain chain[PUBSUB_MESSAGES_MAX];
    uint32_t next[PUBSUB_MESSAGES_MAX];
    uint32_t chain_count, active;
    uint64_t until_us;
    enum fb_code code; /* the first failure */
    struct fb_err *err;
};

static void note(struct sending *s, enum fb_code code, const struct fb_err *err)
{
    if (s->code != FB_OK)
        return;
    s->code = code;
    if (s->err)
        *s->err = *err;
}

static void make_chains(struct sending *s)
{
    for (uint32_t i = 0; i < s->batch->count; i++) {
        struct span key = s->batch->at[i].key;
        uint32_t k = 0;
        s->batch->at[i].result = CONNECTOR_UNSENT;
        s->next[i] = END;
        while (k < s->chain_count && !span_eq(s->batch->at[s->chain[k].first].key, key))
            k++;
        if (k == s->chain_count)
            s->chain[s->chain_count++] = (struct chain){.first = i, .last = i};
        else
            s->next[s->chain[k].last] = i;
        s->chain[k].last = i;
    }
}

/* The next request of a chain that has records left; false: it could not begin. */
static bool begin(struct sending *s, struct chain *chain)
{
    struct connector *c = s->c;
    struct fb_err err;
    struct buf request;
    uint64_t now_us = fb_mono_us();
    if (now_us + US_PER_MS >= s->until_us) {
        fb_fail(&err, FB_E_TIMEOUT, "%s is too slow: not all was stored in %u ms", c->base,
                s->batch->timeout_ms);
        note(s, FB_E_TIMEOUT, &err);
        return false;
    }
    buf_init(&request, 12 * MIB);
    proto_text(&request, 1, span_of(c->path));
    chain->sent = 0;
    for (uint32_t i = chain->first; i != END && (chain->sent == 0 || !chain->is_alone);
         i = s->next[i], chain->sent++)
        proto_publish_message(&request, &s->batch->at[i], c->is_ordered);
    chain->call = pubsub_begin(c, "google.pubsub.v1.Publisher/Publish", &request,
                               (uint32_t)((s->until_us - now_us) / US_PER_MS), &err);
    if (!chain->call)
        note(s, err.code, &err);
    return chain->call != NULL;
}

/* Gives the records of the request that ended a result and takes them off the chain. */
static void pass(struct sending *s, struct chain *chain, enum connector_result result)
{
    for (; chain->sent > 0; chain->sent--) {
        s->batch->at[chain->first].result = result;
        chain->first = s->next[chain->first];
    }
}

/* True when the chain goes on. */
static bool settle(struct sending *s, struct chain *chain)
{
    struct span message;
    struct fb_err err;
    struct call *call = chain->call;
    /* "Invalid resource name given": the topic's, whatever is sent to it */
    if (call->status == GRPC_INVALID_ARGUMENT && strstr(call->message, "resource name")) {
        note(s,
             fb_fail(&err, FB_E_CONFIG, "%s at %s: %.200s", s->c->path, s->c->base, call->message),
             &err);
        pass(s, chain, CONNECTOR_RETRY);
        return false;
    }
    if (call->status == GRPC_INVALID_ARGUMENT) {
        if (chain->sent > 1) {
            chain->is_alone = true;
            return true;
        }
        /* "Request payload size exceeds the limit", "The value for message_size is too large" */
        bool is_large = strstr(call->message, "too large") || strstr(call->message, "exceeds");
        pass(s, chain, is_large ? CONNECTOR_TOO_LARGE : CONNECTOR_POISON);
        s->c->setup.say(s->c->setup.ctx, FB_LOG_WARN, call->message);
        return !is_large; /* its halves come first */
    }
    enum fb_code code = pubsub_outcome(s->c, call, &err);
    if (code == FB_OK && (!call_message(call, &message) || proto_published(message) != chain->sent))
        code = fb_fail(&err, FB_E_AGAIN, "%s does not say that it stored %u messages", s->c->base,
                       chain->sent);
    if (code != FB_OK) {
        note(s, code, &err);
        pass(s, chain, CONNECTOR_RETRY);
        return false;
    }
    pass(s, chain, CONNECTOR_DELIVERED);
    return true;
}

/* Begins what may begin, looks at what is done; false: nothing is under way and nothing begins. */
static bool advance(struct sending *s)
{
    bool is_busy = false;
    for (uint32_t k = 0; k < s->chain_count; k++) {
        struct chain *chain = &s->chain[k];
        if (chain->call && chain->call->is_done) {
            bool goes_on = settle(s, chain);
            call_free(chain->call);
            chain->call = NULL;
            s->active--;
            if (!goes_on)
                chain->first = END;
        }
        if (!chain->call && chain->first != END && s->active < CHAINS_AT_ONCE) {
            if (begin(s, chain))
                s->active++;
            else
                chain->first = END;
        }
        is_busy |= chain->call != NULL;
    }
    return is_busy;
}

static enum fb_code pubsub_send(struct connector *c, struct connector_batch *batch,
                                struct fb_err *err)
{
    struct fb_err stopped;
    struct sending *s = calloc(1, sizeof *s);
    if (!s)
        return fb_fail(err, FB_E_NOMEM, "no memory to send");
    *s = (struct sending){.c = c, .batch = batch, .code = FB_OK, .err = err};
    s->until_us = fb_mono_us() + batch->timeout_ms * US_PER_MS;
    make_chains(s);
    while (advance(s)) {
        if (c->setup.is_stopping(c->setup.ctx)) {
            fb_fail(&stopped, FB_E_AGAIN, "stopped meanwhile");
            note(s, FB_E_AGAIN, &stopped);
            break;
        }
        calls_drive(&c->calls, 100);
    }
    for (uint32_t k = 0; k < s->chain_count; k++)
        call_free(s->chain[k].call); /* what was under way may be stored, and is sent again */
    enum fb_code code = s->code;
    free(s);
    return code;
}

/* ---- check ---- */
struct checking {
    uint32_t timeout_ms;
    connector_step *step;
    void *arg;
    struct fb_err *err;
};

/* A server that is done with a stream while the request is still on its way, as one that does not
 * know the method, is taken by the library for one that broke it: asked again while there is time.
 * <needed>: the second field, or NULL. */
static enum fb_code look(struct connector *c, const struct checking *k, const char *method,
                         const char *needed, struct call **call)
{
    enum fb_code code = FB_E_AGAIN;
    uint64_t begin_us = fb_mono_us();
    for (uint32_t i = 0; i < LOOK_TRIES && code == FB_E_AGAIN; i++) {
        if (fb_mono_us() - begin_us >= k->timeout_ms * US_PER_MS)
            break;
        struct buf request;
        buf_init(&request, 4 * KIB);
        proto_text(&request, 1, span_of(c->path));
        if (needed)
            proto_text(&request, 2, span_of(needed));
        call_free(*call);
        *call = pubsub_begin(c, method, &request, k->timeout_ms, k->err);
        code = pubsub_wait(c, *call, k->err);
        if (*call && (*call)->status == GRPC_UNIMPLEMENTED)
            break;
    }
    return code;
}

static void tell(const struct checking *k, bool is_good, const char *fmt, ...) FB_PRINTF(3, 4);
static void tell(const struct checking *k, bool is_good, const char *fmt, ...)
{
    char text[600];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    k->step(k->arg, is_good, text);
}

/* Accounts that may publish often may not look: then the permission itself is asked for. */
static enum fb_code check_permission(struct connector *c, const struct checking *k)
{
    const char *needed =
        c->setup.is_source ? "pubsub.subscriptions.consume" : "pubsub.topics.publish";
    struct call *call = NULL;
    struct span message;
    enum fb_code code = look(c, k, "google.iam.v1.IAMPolicy/TestIamPermissions", needed, &call);
    if (call && call->status == GRPC_UNIMPLEMENTED) { /* an emulator */
        code = FB_OK;
    } else if (code == FB_OK && call_message(call, &message)) {
        if (proto_is_granted(message, needed))
            tell(k, true, "permission %s is given", needed);
        else
            code = fb_fail(
                k->err, FB_E_DENIED, "%s: no permission %s: give the account %s on it", c->path,
                needed, c->setup.is_source ? "roles/pubsub.subscriber" : "roles/pubsub.publisher");
    }
    if (code != FB_OK)
        tell(k, false, "%s", k->err->text);
    call_free(call);
    return code;
}

static enum fb_code check_subscription(struct connector *c, const struct checking *k,
                                       const struct call *call)
{
    struct span message;
    struct proto_subscription sub;
    enum fb_code code = FB_OK;
    if (!call_message(call, &message) || !proto_subscription(message, &sub))
        code = fb_fail(k->err, FB_E_AGAIN, "%s gives an answer that is no Subscription", c->base);
    else if (sub.is_push)
        code = fb_fail(k->err, FB_E_CONFIG,
                       "%s is a push subscription: create one of type pull for foldback", c->path);
    else if (sub.is_detached)
        code =
            fb_fail(k->err, FB_E_CONFIG, "%s is detached from its topic: create another", c->path);
    if (code != FB_OK) {
        tell(k, false, "%s", k->err->text);
        return code;
    }
    tell(k, true, "%s exists: ack deadline %u s, message ordering %s, exactly-once %s", c->path,
         sub.ack_deadline_s, sub.is_ordered ? "on" : "off", sub.is_exactly_once ? "on" : "off");
    if (c->is_ordered && !sub.is_ordered)
        tell(k, true, "without message ordering, messages of one key may come in another order");
    return FB_OK;
}

static enum fb_code pubsub_check(struct connector *c, uint32_t timeout_ms, connector_step *step,
                                 void *arg, struct fb_err *err)
{
    struct checking k = {.timeout_ms = timeout_ms, .step = step, .arg = arg, .err = err};
    struct call *call = NULL;
    if (c->has_token) {
        enum fb_code code = token_get(&c->token, &c->calls, err);
        if (code != FB_OK) {
            tell(&k, false, "%s", err->text);
            return code;
        }
        tell(&k, true, "a token came from %s",
             *c->token.key_file ? "the service account of key_file" : c->token.metadata);
    }
    enum fb_code code = look(c, &k,
                             c->setup.is_source ? "google.pubsub.v1.Subscriber/GetSubscription"
                                                : "google.pubsub.v1.Publisher/GetTopic",
                             NULL, &call);
    if (call && call->status == GRPC_PERMISSION_DENIED) {
        tell(&k, true, "the account may not look at %s (roles/pubsub.viewer lets it)", c->path);
        code = FB_OK;
    } else if (code != FB_OK) {
        tell(&k, false, "%s", err->text);
    } else if (c->setup.is_source) {
        code = check_subscription(c, &k, call);
    } else {
        tell(&k, true, "%s exists at %s", c->path, c->base);
    }
    call_free(call);
    return code == FB_OK ? check_permission(c, &k) : code;
}

CONNECTOR_EXPORT = {.abi = CONNECTOR_ABI,
                    .bytes = sizeof(struct connector_type),
                    .name = "pubsub",
                    .can =
                        CONNECTOR_SINK | CONNECTOR_SOURCE | CONNECTOR_ORDERED | CONNECTOR_UNORDERED,
                    .send_max = PUBSUB_MESSAGES_MAX,
                    .record_bytes_max = PUBSUB_BYTES_MAX,
                    .send_bytes_max = PUBSUB_BYTES_MAX,
                    .open = pubsub_open,
                    .close = pubsub_close,
                    .check = pubsub_check,
                    .send = pubsub_send,
                    .receive = pubsub_receive,
                    .commit = pubsub_commit,
                    .behind = pubsub_behind};

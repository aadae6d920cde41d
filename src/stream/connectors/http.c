/* SPDX-License-Identifier: Apache-2.0 */
/* http: each record is the body of a POST to a URL: a function, a chat hook, a pager.
 *
 *   2xx delivered | 408 425 429 5xx, no answer: again | 3xx 401 403 404 405 410: needs a hand, kept
 * | other 4xx: dead letter
 *
 * A refusal that names no fault of the event (wrong address, wrong key) must not bury one event
 * after the other, so it is waited for.  Requests of one send go out together, at most
 * <concurrency>; the runner gives one record per key, which keeps the order of a key.
 *
 * A signature is HMAC-SHA256 over "TIME.BODY":  Foldback-Signature: t=1764000000,v1=HEX; and the
 * same over "ID.TIME.BODY" as standardwebhooks.com has it. */
#include "stream/connectors/connector.h"
#include "stream/connectors/hook.h"

#include "base/buf.h"
#include "base/clock.h"

#include <curl/curl.h>
#include <openssl/crypto.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define CONCURRENCY_MAX 64
#define SEND_RECORDS_MAX 256
#define SECRET_BYTES_MAX 4096
#define SIGN_KEY_BYTES_MIN 16
#define URL_BYTES 2048
#define ANSWER_BYTES 160
#define ANSWER_BYTES_MAX (64 * KIB) /* read of a body; it only serves to keep the connection */
#define POLL_MS 50
/* Longest that Retry-After of a receiver is obeyed; the rest is backoff. */
#define RETRY_AFTER_MAX_MS 60000

struct call {
    CURL *easy;
    struct curl_slist *headers;
    struct connector_record *record;
    char answer[ANSWER_BYTES]; /* what a refusal said */
    size_t answer_len;
    uint64_t answer_bytes;
};

struct connector {
    struct connector_setup setup;
    char url[URL_BYTES], where[256]; /* <where>: without what may be secret */
    char ca[1024];
    char sign_key[SECRET_BYTES_MAX], bearer[SECRET_BYTES_MAX];
    size_t sign_key_len;
    unsigned char standard_key[SECRET_BYTES_MAX]; /* of it, for the headers webhook-* */
    size_t standard_key_len;
    const char *content_type;
    uint32_t concurrency, rate_per_s;
    double tokens; /* of the rate, at most one second's worth */
    uint64_t tokens_us, not_before_us;
    CURLM *multi;
    struct call call[CONCURRENCY_MAX];
};

static enum fb_code read_secret(struct connector *c, const char *key, char *out,
                                struct fb_err *err);
static enum fb_code read_url(struct connector *c, struct fb_err *err);
static bool start(struct connector *c, struct call *call, struct connector_record *record,
                  uint32_t timeout_ms);
static void finish(struct connector *c, struct call *call, CURLcode how, struct fb_err *err);
static void drop(struct connector *c, struct call *call);

static const char *value(const struct connector *c, const char *key)
{
    return c->setup.value(c->setup.conf, key);
}

static const char *content_type(const struct connector *c)
{
    const char *format = value(c, "format");
    bool is_one = strcmp(value(c, "per"), "event") == 0;
    if (strcmp(format, "binary") == 0)
        return "Content-Type: application/octet-stream";
    if (!is_one)
        return "Content-Type: application/x-ndjson";
    return strcmp(format, "cloudevents") == 0
               ? "Content-Type: application/cloudevents+json; charset=utf-8"
               : "Content-Type: application/json";
}

static void init_curl(void)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

static void http_close(struct connector *c)
{
    for (uint32_t i = 0; i < c->concurrency; i++) {
        if (c->call[i].record)
            drop(c, &c->call[i]);
        if (c->call[i].easy)
            curl_easy_cleanup(c->call[i].easy);
    }
    if (c->multi)
        curl_multi_cleanup(c->multi);
    OPENSSL_cleanse(c->sign_key, sizeof c->sign_key);
    OPENSSL_cleanse(c->standard_key, sizeof c->standard_key);
    OPENSSL_cleanse(c->bearer, sizeof c->bearer);
    free(c);
}

static enum fb_code http_open(struct connector **out, const struct connector_setup *setup,
                              struct fb_err *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, init_curl);
    struct connector *c = calloc(1, sizeof *c);
    if (!c)
        return fb_fail(err, FB_E_NOMEM, "no memory for %s", setup->name);
    c->setup = *setup;
    snprintf(c->ca, sizeof c->ca, "%s", value(c, "ca_file"));
    c->content_type = content_type(c);
    c->concurrency =
        fb_min_u32((uint32_t)strtoul(value(c, "concurrency"), NULL, 10), CONCURRENCY_MAX);
    c->concurrency = c->concurrency ? c->concurrency : 1;
    c->rate_per_s = (uint32_t)strtoul(value(c, "rate"), NULL, 10);
    c->tokens = c->rate_per_s;
    c->tokens_us = fb_mono_us();
    enum fb_code code = read_url(c, err);
    if (code == FB_OK)
        code = read_secret(c, "sign_key_file", c->sign_key, err);
    if (code == FB_OK)
        code = read_secret(c, "bearer_file", c->bearer, err);
    c->sign_key_len = strlen(c->sign_key);
    if (code == FB_OK && c->sign_key_len && c->sign_key_len < SIGN_KEY_BYTES_MIN)
        code = fb_fail(err, FB_E_CONFIG, "%s: a key has at least %d bytes; see `sign_key_file`",
                       value(c, "sign_key_file"), SIGN_KEY_BYTES_MIN);
    if (code == FB_OK && !hook_key((struct span){c->sign_key, c->sign_key_len}, c->standard_key,
                                   sizeof c->standard_key, &c->standard_key_len))
        code = fb_fail(err, FB_E_CONFIG, "%s: behind whsec_ comes base64; see `sign_key_file`",
                       value(c, "sign_key_file"));
    if (code == FB_OK && c->sign_key_len && c->standard_key_len < SIGN_KEY_BYTES_MIN)
        code = fb_fail(err, FB_E_CONFIG,
                       "%s: behind whsec_ comes the base64 of a key of at least %d bytes; make one "
                       "with `openssl rand -base64 24`",
                       value(c, "sign_key_file"), SIGN_KEY_BYTES_MIN);
    c->multi = curl_multi_init();
    for (uint32_t i = 0; i < c->concurrency; i++)
        c->call[i].easy = curl_easy_init();
    for (uint32_t i = 0; code == FB_OK && i < c->concurrency; i++)
        if (!c->multi || !c->call[i].easy)
            code = fb_fail(err, FB_E_NOMEM, "no memory for %s", setup->name);
    if (code != FB_OK) {
        http_close(c);
        return code;
    }
    *out = c;
    return FB_OK;
}

/* The first line of the file; "" when the key is not given. */
static enum fb_code read_secret(struct connector *c, const char *key, char *out, struct fb_err *err)
{
    const char *path = value(c, key);
    out[0] = '\0';
    if (!*path)
        return FB_OK;
    FILE *f = fopen(path, "re");
    if (!f)
        return fb_fail(err, FB_E_CONFIG, "%s cannot be read; see `%s` of %s", path, key,
                       c->setup.name);
    bool is_good = fgets(out, SECRET_BYTES_MAX, f) != NULL;
    fclose(f);
    out[strcspn(out, "\r\n")] = '\0';
    if (!is_good || !out[0])
        return fb_fail(err, FB_E_CONFIG, "%s is empty; see `%s` of %s", path, key, c->setup.name);
    return FB_OK;
}

/* Checked here too, for what stands in a file; the message never repeats it. */
static enum fb_code read_url(struct connector *c, struct fb_err *err)
{
    char line[SECRET_BYTES_MAX];
    enum fb_code code = read_secret(c, "url_file", line, err);
    if (code != FB_OK)
        return code;
    const char *url = line[0] ? line : value(c, "url");
    bool is_known = strncmp(url, "http://", 7) == 0 || strncmp(url, "https://", 8) == 0;
    if (!is_known || strlen(url) >= sizeof c->url)
        return fb_fail(err, FB_E_CONFIG,
                       "the URL of %s is http://... or https://..., below %zu bytes", c->setup.name,
                       sizeof c->url);
    snprintf(c->url, sizeof c->url, "%s", url);
    const char *host = strstr(url, "://") + 3;
    const char *end = host + strcspn(host, "/?#"), *name = end;
    while (name > host && name[-1] != '@') /* user:password@ */
        name--;
    snprintf(c->where, sizeof c->where, "%.*s%.*s", (int)(host - url), url,
             (int)fb_min_u64((uint64_t)(end - name), 200), name);
    return FB_OK;
}

/* ---- one request ---- */
static size_t on_answer(char *at, size_t size, size_t count, void *arg)
{
    struct call *call = arg;
    size_t len = size * count, take = fb_min_u64(len, sizeof call->answer - 1 - call->answer_len);
    for (size_t i = 0; i < take; i++) /* for a log: one line, plain */
        call->answer[call->answer_len++] = at[i] >= ' ' && at[i] < 0x7f ? at[i] : ' ';
    call->answer[call->answer_len] = '\0';
    call->answer_bytes += len;
    return call->answer_bytes <= ANSWER_BYTES_MAX ? len : 0; /* 0 ends it: the status is known */
}

static bool add_header(struct call *call, const char *text)
{
    struct curl_slist *more = curl_slist_append(call->headers, text);
    if (more)
        call->headers = more;
    return more != NULL;
}

static struct span header_of(const struct connector_record *r, const char *name)
{
    for (uint32_t i = 0; i < r->header_count; i++)
        if (strcmp(r->headers[i].name, name) == 0)
            return r->headers[i].value;
    return SPAN("");
}

/* The three headers of standardwebhooks.com; its id names the events: the first one, and how many
 * when there are several, for after a restart the same first one may lead another batch. */
static bool add_standard(const struct connector *c, struct call *call, uint64_t at_s)
{
    char id[112], line[HOOK_SIGNATURE_BYTES];
    struct span node = header_of(call->record, "foldback-node");
    struct span offset = header_of(call->record, "foldback-offset");
    struct span key = {(const char *)c->standard_key, c->standard_key_len};
    struct span count = header_of(call->record, "foldback-count");
    bool is_one = count.len == 0 || span_eq(count, SPAN("1"));
    snprintf(id, sizeof id, "%.*s/%.*s%s%.*s", (int)fb_min_u64(node.len, 60), node.at,
             (int)fb_min_u64(offset.len, 30), offset.at, is_one ? "" : "+",
             is_one ? 0 : (int)fb_min_u64(count.len, 10), count.at);
    const struct hook_message m = {span_of(id), at_s, call->record->value};
    if (!hook_sign_standard(key, &m, line) || !add_header(call, line))
        return false;
    snprintf(line, sizeof line, "webhook-id: %s", id);
    if (!add_header(call, line))
        return false;
    snprintf(line, sizeof line, "webhook-timestamp: %llu", (unsigned long long)at_s);
    return add_header(call, line);
}

static bool add_signature(const struct connector *c, struct call *call)
{
    char line[HOOK_SIGNATURE_BYTES];
    uint64_t at_s = fb_wall_us() / US_PER_S;
    struct span key = {c->sign_key, c->sign_key_len};
    if (!key.len)
        return true;
    return hook_sign(key, at_s, call->record->value, line) && add_header(call, line) &&
           add_standard(c, call, at_s);
}

static bool add_headers(const struct connector *c, struct call *call)
{
    char line[SECRET_BYTES_MAX + 40];
    bool is_good = add_header(call, c->content_type) && add_header(call, "Expect:");
    for (uint32_t i = 0; i < call->record->header_count; i++) {
        const struct connector_header *h = &call->record->headers[i];
        snprintf(line, sizeof line, "%s: %.*s", h->name, SPAN_ARG(h->value));
        is_good &= add_header(call, line);
    }
    if (c->bearer[0]) {
        snprintf(line, sizeof line, "Authorization: Bearer %s", c->bearer);
        is_good &= add_header(call, line);
        OPENSSL_cleanse(line, sizeof line);
    }
    return is_good && add_signature(c, call);
}

static bool start(struct connector *c, struct call *call, struct connector_record *record,
                  uint32_t timeout_ms)
{
    CURL *e = call->easy;
    call->record = record;
    call->answer_len = 0;
    call->answer_bytes = 0;
    call->answer[0] = '\0';
    curl_easy_reset(e); /* keeps its connections */
    bool is_good = add_headers(c, call);
    curl_easy_setopt(e, CURLOPT_URL, c->url);
    curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(e, CURLOPT_PROXY, ""); /* the environment has no say */
    curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(e, CURLOPT_USERAGENT, "foldback/" FB_VERSION);
    curl_easy_setopt(e, CURLOPT_HTTPHEADER, call->headers);
    curl_easy_setopt(e, CURLOPT_POST, 1L);
    curl_easy_setopt(e, CURLOPT_POSTFIELDS, record->value.at);
    curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)record->value.len);
    curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, (long)(timeout_ms ? timeout_ms : 1));
    curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_answer);
    curl_easy_setopt(e, CURLOPT_WRITEDATA, call);
    curl_easy_setopt(e, CURLOPT_PRIVATE, call);
    if (c->ca[0])
        curl_easy_setopt(e, CURLOPT_CAINFO, c->ca);
    if (is_good && curl_multi_add_handle(c->multi, e) == CURLM_OK)
        return true;
    curl_slist_free_all(call->headers);
    call->headers = NULL;
    call->record = NULL;
    return false;
}

static void drop(struct connector *c, struct call *call)
{
    curl_multi_remove_handle(c->multi, call->easy);
    curl_slist_free_all(call->headers);
    call->headers = NULL;
    call->record = NULL;
}

/* A certificate or name that is wrong stays wrong until somebody looks. */
static bool is_wrong(CURLcode how)
{
    return how == CURLE_PEER_FAILED_VERIFICATION || how == CURLE_SSL_CACERT_BADFILE ||
           how == CURLE_URL_MALFORMAT || how == CURLE_UNSUPPORTED_PROTOCOL;
}

static void obey_retry_after(struct connector *c, CURL *easy)
{
    curl_off_t after_s = 0;
    if (curl_easy_getinfo(easy, CURLINFO_RETRY_AFTER, &after_s) != CURLE_OK || after_s <= 0)
        return;
    uint64_t ms = fb_min_u64((uint64_t)after_s * 1000, RETRY_AFTER_MAX_MS);
    c->not_before_us = fb_mono_us() + ms * US_PER_MS;
}

/* What it ended with; of several failures the one that needs a hand is told.  A status is an
 * answer, also when the body behind it breaks off, does not end or has another length than it said:
 * the receiver has the event. */
static void finish(struct connector *c, struct call *call, CURLcode how, struct fb_err *err)
{
    long status = 0;
    struct connector_record *record = call->record;
    curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
    enum hook_answer answer = hook_answer_of(status);
    bool is_told = err->code == FB_E_DENIED || err->code == FB_E_CONFIG;
    record->result = CONNECTOR_RETRY;
    if (how != CURLE_OK && status < 200) {
        if (!is_told)
            fb_fail(err, is_wrong(how) ? FB_E_CONFIG : FB_E_AGAIN, "%s: %s; see the URL of %s",
                    c->where, curl_easy_strerror(how), c->setup.name);
    } else if (answer == HOOK_TAKEN) {
        record->result = CONNECTOR_DELIVERED;
    } else if (answer == HOOK_NEEDS_HAND) {
        if (!is_told)
            fb_fail(err, FB_E_DENIED, "%s answers %ld; see the URL and the keys of %s: %s",
                    c->where, status, c->setup.name, call->answer);
    } else if (answer == HOOK_AGAIN) {
        obey_retry_after(c, call->easy);
        if (!is_told)
            fb_fail(err, FB_E_AGAIN, "%s answers %ld: %s", c->where, status, call->answer);
    } else if (answer == HOOK_TOO_LARGE) {
        record->result = CONNECTOR_TOO_LARGE;
    } else {
        char text[512];
        snprintf(text, sizeof text, "%s answers %ld, the event is not sent again: %s", c->where,
                 status, call->answer);
        c->setup.say(c->setup.ctx, FB_LOG_WARN, text);
        record->result = CONNECTOR_POISON;
    }
    drop(c, call);
}

/* ---- a batch ---- */
/* Time until the next request may go, 0 now. */
static uint32_t wait_ms(struct connector *c)
{
    uint64_t now_us = fb_mono_us();
    if (now_us < c->not_before_us)
        return (uint32_t)((c->not_before_us - now_us) / US_PER_MS + 1);
    if (!c->rate_per_s)
        return 0;
    double most = c->rate_per_s;
    c->tokens += (double)(now_us - c->tokens_us) / US_PER_S * most;
    c->tokens = c->tokens > most ? most : c->tokens;
    c->tokens_us = now_us;
    return c->tokens >= 1 ? 0 : (uint32_t)((1 - c->tokens) / most * 1000) + 1;
}

struct batch_run {
    struct connector_batch *batch;
    uint32_t next, active;
    uint64_t until_us;
    bool was_any;
};

/* Starts what may start; the wait until more may, UINT32_MAX when nothing waits for time. */
static uint32_t start_more(struct connector *c, struct batch_run *run, struct fb_err *err)
{
    for (uint32_t i = 0; i < c->concurrency && run->next < run->batch->count; i++) {
        uint64_t now_us = fb_mono_us();
        uint32_t ms;
        if (c->call[i].record)
            continue;
        if (now_us >= run->until_us || err->code == FB_E_DENIED || err->code == FB_E_CONFIG) {
            run->next = run->batch->count; /* what is left: the next time */
            return UINT32_MAX;
        }
        if ((ms = wait_ms(c)) > 0)
            return ms;
        uint32_t left_ms = (uint32_t)((run->until_us - now_us) / US_PER_MS);
        if (!start(c, &c->call[i], &run->batch->at[run->next], left_ms)) {
            fb_fail(err, FB_E_NOMEM, "no memory to send to %s", c->where);
            run->next = run->batch->count;
            return UINT32_MAX;
        }
        c->tokens -= 1;
        run->next++;
        run->active++;
    }
    return UINT32_MAX;
}

static enum fb_code http_send(struct connector *c, struct connector_batch *batch,
                              struct fb_err *err)
{
    struct batch_run run = {.batch = batch,
                            .until_us = fb_mono_us() + (uint64_t)batch->timeout_ms * US_PER_MS};
    err->code = FB_OK;
    err->text[0] = '\0';
    for (;;) {
        uint32_t ms = start_more(c, &run, err);
        bool is_waiting = run.next < batch->count;
        if (run.active == 0 && !is_waiting)
            break;
        /* A rate waits as long as it must, so that each send gets something done. */
        if (c->setup.is_stopping(c->setup.ctx))
            break;
        int running, left;
        curl_multi_perform(c->multi, &running);
        const CURLMsg *m;
        bool was_done = false;
        while ((m = curl_multi_info_read(c->multi, &left)) != NULL) {
            struct call *call = NULL;
            CURLcode how = m->data.result;
            if (m->msg != CURLMSG_DONE)
                continue;
            curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&call);
            finish(c, call, how, err);
            run.active--;
            was_done = true;
        }
        if (!was_done)
            curl_multi_poll(c->multi, NULL, 0, (int)fb_min_u32(ms, POLL_MS), NULL);
    }
    for (uint32_t i = 0; i < c->concurrency; i++)
        if (c->call[i].record)
            drop(c, &c->call[i]); /* stays unsent: sent again */
    return err->code;
}

/* ---- check ---- */
/* Each second or so, or sooner: not 0 ends the call. */
static int on_check_progress(void *arg, curl_off_t a, curl_off_t b, curl_off_t x, curl_off_t y)
{
    const struct connector *c = arg;
    (void)a, (void)b, (void)x, (void)y;
    return c->setup.is_stopping(c->setup.ctx);
}

static enum fb_code http_check(struct connector *c, uint32_t timeout_ms, connector_step *step,
                               void *arg, struct fb_err *err)
{
    char text[400];
    CURL *e = curl_easy_init(); /* of its own: what it connected is closed behind it */
    if (!e)
        return fb_fail(err, FB_E_NOMEM, "no memory for the check of %s", c->setup.name);
    curl_easy_setopt(e, CURLOPT_URL, c->url);
    curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(e, CURLOPT_PROXY, "");
    curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(e, CURLOPT_CONNECT_ONLY, 1L);
    curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, (long)timeout_ms);
    if (c->ca[0])
        curl_easy_setopt(e, CURLOPT_CAINFO, c->ca);
    curl_easy_setopt(e, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(e, CURLOPT_XFERINFOFUNCTION, on_check_progress);
    curl_easy_setopt(e, CURLOPT_XFERINFODATA, c);
    CURLcode how = curl_easy_perform(e);
    curl_easy_cleanup(e);
    if (how != CURLE_OK) {
        enum fb_code code =
            fb_fail(err, is_wrong(how) ? FB_E_CONFIG : FB_E_AGAIN, "%s: %s; see the URL of %s",
                    c->where, curl_easy_strerror(how), c->setup.name);
        step(arg, false, err->text);
        return code;
    }
    snprintf(text, sizeof text, "%s reached; no event was sent", c->where);
    step(arg, true, text);
    return FB_OK;
}

CONNECTOR_EXPORT = {.abi = CONNECTOR_ABI,
                    .bytes = sizeof(struct connector_type),
                    .name = "http",
                    .can = CONNECTOR_SINK,
                    .send_max = SEND_RECORDS_MAX,
                    .record_bytes_max = 1 * MIB,
                    .send_bytes_max = 16 * MIB,
                    .open = http_open,
                    .close = http_close,
                    .check = http_check,
                    .send = http_send};

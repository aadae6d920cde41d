/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "stream/connectors/kinesis_int.h"

#include <stdio.h>

#define ANSWER_BYTES_MAX (24 * MIB) /* 10 MB of records are 13.4 MB as base64 */
#define STEP_MS 50
#define CONNECT_MS 5000

static size_t on_bytes(char *at, size_t size, size_t count, void *arg)
{
    struct connector *c = arg;
    buf_put(&c->http.answer, at, size * count);
    return c->http.answer.failed ? 0 : size * count;
}

static bool make(struct connector *c)
{
    struct http *h = &c->http;
    if (!h->multi) {
        h->multi = curl_multi_init();
        buf_init(&h->answer, ANSWER_BYTES_MAX);
    }
    if (h->multi && !h->easy)
        h->easy = curl_easy_init();
    return h->multi && h->easy;
}

void http_drop(struct connector *c)
{
    struct http *h = &c->http;
    if (h->is_busy)
        curl_multi_remove_handle(h->multi, h->easy);
    h->is_busy = false;
    curl_slist_free_all(h->headers);
    h->headers = NULL;
}

void http_fini(struct connector *c)
{
    struct http *h = &c->http;
    http_drop(c);
    if (h->easy)
        curl_easy_cleanup(h->easy);
    if (h->multi) {
        curl_multi_cleanup(h->multi);
        buf_fini(&h->answer);
    }
}

static bool add_header(struct http *h, const char *line)
{
    struct curl_slist *more = curl_slist_append(h->headers, line);
    if (more)
        h->headers = more;
    return more != NULL;
}

/* SigV4: host, date and all headers that are given are signed, the token with them. */
static bool sign(struct connector *c)
{
    char service[80], token[sizeof c->keys.token + 40];
    CURL *e = c->http.easy;
    snprintf(service, sizeof service, "aws:amz:%s:kinesis", c->region);
    bool is_good = curl_easy_setopt(e, CURLOPT_AWS_SIGV4, service) == CURLE_OK &&
                   curl_easy_setopt(e, CURLOPT_USERNAME, c->keys.id) == CURLE_OK &&
                   curl_easy_setopt(e, CURLOPT_PASSWORD, c->keys.secret) == CURLE_OK;
    if (is_good && c->keys.token[0]) {
        snprintf(token, sizeof token, "X-Amz-Security-Token: %s", c->keys.token);
        is_good = add_header(&c->http, token);
    }
    return is_good;
}

static bool set_up(struct connector *c, const struct http_request *r)
{
    CURL *e = c->http.easy;
    curl_easy_reset(e);
    CURLcode bad = CURLE_OK;
#define SET(option, value) (bad = bad == CURLE_OK ? curl_easy_setopt(e, option, value) : bad)
    SET(CURLOPT_URL, r->url);
    SET(CURLOPT_ERRORBUFFER, c->http.error);
    SET(CURLOPT_WRITEFUNCTION, on_bytes);
    SET(CURLOPT_WRITEDATA, c);
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_QUICK_EXIT, 1L); /* close does not wait for a name server */
    SET(CURLOPT_PROXY, "");      /* not from the environment */
    SET(CURLOPT_PROTOCOLS_STR, "http,https");
    SET(CURLOPT_TCP_KEEPALIVE, 1L);
    SET(CURLOPT_CONNECTTIMEOUT_MS, (long)fb_min_u64(CONNECT_MS, r->timeout_us / US_PER_MS + 1));
    SET(CURLOPT_EXPECT_100_TIMEOUT_MS, 1L);
    SET(CURLOPT_SSL_VERIFYPEER, c->is_verified ? 1L : 0L);
    SET(CURLOPT_SSL_VERIFYHOST, c->is_verified ? 2L : 0L);
    if (c->ca_file[0])
        SET(CURLOPT_CAINFO, c->ca_file);
    if (strcmp(r->method, "GET") != 0) {
        SET(CURLOPT_POST, 1L);
        SET(CURLOPT_CUSTOMREQUEST, r->method);
        SET(CURLOPT_POSTFIELDS, r->body.at ? r->body.at : "");
        SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->body.len);
    }
#undef SET
    return bad == CURLE_OK;
}

enum fb_code http_begin(struct connector *c, const struct http_request *r, struct fb_err *err)
{
    struct http *h = &c->http;
    http_drop(c);
    bool is_good = make(c) && set_up(c, r);
    for (const char *const *line = r->headers; is_good && *line; line++)
        is_good = add_header(h, *line);
    if (is_good && r->is_signed)
        is_good = sign(c);
    if (is_good && h->headers)
        is_good = curl_easy_setopt(h->easy, CURLOPT_HTTPHEADER, h->headers) == CURLE_OK;
    if (!is_good || curl_multi_add_handle(h->multi, h->easy) != CURLM_OK)
        return fb_fail(err, FB_E_NOMEM, "connector %s: no memory for a request", c->setup.name);
    buf_clear(&h->answer);
    h->error[0] = '\0';
    h->status = 0;
    h->is_busy = true;
    h->deadline_us = fb_mono_us() + r->timeout_us;
    return FB_OK;
}

/* Scheme and host: the path may be a secret of a container. */
static struct span origin_of(const char *url)
{
    const char *host = url ? strstr(url, "://") : NULL;
    const char *path = host ? strchr(host + 3, '/') : NULL;
    return (struct span){url, !url ? 0 : path ? (size_t)(path - url) : strlen(url)};
}

/* <origin>: of the service, or of a place of credentials, which has keys of its own. */
static const char *place_key(const struct connector *c, struct span origin)
{
    if (!span_starts(span_of(c->endpoint), origin))
        return "";
    return kinesis_value(c, "endpoint")[0] ? "; see `endpoint`"
                                           : "; see `aws_region`, and the way out from here";
}

static enum fb_code failed(struct connector *c, CURLcode code, struct fb_err *err)
{
    char *url = NULL;
    const char *text = c->http.error[0] ? c->http.error : curl_easy_strerror(code);
    curl_easy_getinfo(c->http.easy, CURLINFO_EFFECTIVE_URL, &url);
    struct span at = origin_of(url);
    at.len = at.len > 200 ? 200 : at.len;
    bool is_trust = code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE;
    bool is_setting = code == CURLE_URL_MALFORMAT || code == CURLE_UNSUPPORTED_PROTOCOL;
    if (c->http.answer.failed)
        return fb_fail(err, FB_E_AGAIN, "%.*s: its answer is larger than 24 MiB", SPAN_ARG(at));
    return fb_fail(err, is_trust || is_setting ? FB_E_CONFIG : FB_E_AGAIN, "%.*s: %.160s%s",
                   SPAN_ARG(at), text, is_trust ? "; see `ca_file`" : place_key(c, at));
}

enum fb_code http_wait(struct connector *c, uint64_t until_us, struct fb_err *err)
{
    struct http *h = &c->http;
    for (;;) {
        int running = 0, left = 0;
        CURLMsg *m;
        CURLMcode bad = curl_multi_perform(h->multi, &running);
        while ((m = curl_multi_info_read(h->multi, &left)) && m->msg != CURLMSG_DONE)
            continue;
        if (m) {
            CURLcode code = m->data.result;
            curl_easy_getinfo(h->easy, CURLINFO_RESPONSE_CODE, &h->status);
            enum fb_code is = code == CURLE_OK ? FB_OK : failed(c, code, err);
            http_drop(c);
            return is;
        }
        uint64_t now_us = fb_mono_us();
        const char *why = bad != CURLM_OK                              ? curl_multi_strerror(bad)
                          : c->setup.is_stopping(c->setup.ctx)         ? "foldback stops here"
                          : now_us >= h->deadline_us && h->deadline_us ? "no answer in time"
                                                                       : NULL;
        if (why) {
            http_drop(c);
            bool is_away = !c->setup.is_stopping(c->setup.ctx);
            return fb_fail(err, FB_E_TIMEOUT, "Kinesis at %.200s: %s%s", c->endpoint, why,
                           is_away ? place_key(c, span_of(c->endpoint)) : "");
        }
        if (now_us >= until_us) {
            err->text[0] = '\0';
            return FB_E_AGAIN;
        }
        uint64_t ms = (fb_min_u64(until_us, h->deadline_us) - now_us) / US_PER_MS;
        curl_multi_poll(h->multi, NULL, 0, (int)fb_min_u64(ms, STEP_MS), NULL);
    }
}

enum fb_code http_whole(struct connector *c, const struct http_request *request, struct fb_err *err)
{
    enum fb_code code = http_begin(c, request, err);
    return code == FB_OK ? http_wait(c, UINT64_MAX, err) : code;
}

/* ---- actions ---- */
enum fb_code kinesis_begin(struct connector *c, const char *action, uint64_t deadline_us,
                           struct fb_err *err)
{
    char target[80];
    uint64_t now_us = fb_mono_us();
    enum fb_code code = keys_want(c, err);
    if (code != FB_OK)
        return code;
    if (c->body.failed)
        return fb_fail(err, FB_E_NOMEM, "connector %s: no memory for a request", c->setup.name);
    snprintf(target, sizeof target, "X-Amz-Target: Kinesis_20131202.%s", action);
    const char *const headers[] = {"Content-Type: application/x-amz-json-1.1", target, NULL};
    struct http_request r = {.method = "POST",
                             .url = c->endpoint,
                             .headers = headers,
                             .body = buf_span(&c->body),
                             .timeout_us = deadline_us > now_us ? deadline_us - now_us : 1000,
                             .is_signed = true};
    return http_begin(c, &r, err);
}

static const char *next_step(const struct kinesis_refusal *r, enum fb_code code)
{
    if (strstr(r->type, "Signature") && strstr(r->message, "xpired"))
        return "; the clock of this machine is wrong";
    if (strncmp(r->type, "AccessDenied", 12) == 0)
        return "; give the role or user the policy of doc/guide/kinesis.md";
    if (strncmp(r->type, "KMS", 3) == 0)
        return "; the role or user needs the key of the stream";
    if (strncmp(r->type, "ResourceNotFound", 16) == 0)
        return "; see `stream` and `aws_region`";
    return code == FB_E_DENIED ? "; the access key or its secret is wrong: see `credentials`" : "";
}

enum fb_code kinesis_over(struct connector *c, const char *action, struct kinesis_refusal *refusal,
                          struct fb_err *err)
{
    long status = c->http.status;
    *refusal = (struct kinesis_refusal){.type = ""};
    if (status == 200)
        return FB_OK;
    kinesis_refusal_read(refusal, status, buf_span(&c->http.answer));
    enum fb_code code = kinesis_refusal_code(refusal, status);
    if (code == FB_E_DENIED || strncmp(refusal->type, "ExpiredToken", 12) == 0)
        keys_refused(c);
    return fb_fail(err, code, "Kinesis at %.120s refused %s with %s: %.140s%s", c->endpoint, action,
                   refusal->type, refusal->message, next_step(refusal, code));
}

enum fb_code kinesis_call(struct connector *c, const char *action, uint64_t deadline_us,
                          struct kinesis_refusal *refusal, struct fb_err *err)
{
    *refusal = (struct kinesis_refusal){.type = ""};
    enum fb_code code = kinesis_begin(c, action, deadline_us, err);
    if (code == FB_OK)
        code = http_wait(c, UINT64_MAX, err);
    return code == FB_OK ? kinesis_over(c, action, refusal, err) : code;
}

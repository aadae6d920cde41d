/* SPDX-License-Identifier: Apache-2.0 */
#include "stream/connectors/pubsub_call.h"

#include "base/assert.h"

#include <openssl/evp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define PREFIX_BYTES 5
#define REQUEST_BYTES_MAX (12 * MIB) /* the service takes 10 MB */
/* A pull of 1,000 messages of 10 MB does not come: servers end answers far below. */
#define ANSWER_BYTES_MAX (64 * MIB)
#define PLAIN_ANSWER_BYTES_MAX (64 * KIB)
#define DETAILS_BYTES_MAX (256 * KIB)
#define SLICE_MS 100       /* a stop is seen after this at the latest */
#define CONNECT_MS 10000L  /* TCP and TLS together */
#define KEEPALIVE_SECS 30L /* balancers forget idle connections after minutes */

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void start_curl(void)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

bool calls_init(struct calls *cs)
{
    pthread_once(&once, start_curl);
    cs->multi = curl_multi_init();
    cs->is_suspect = false;
    return cs->multi != NULL;
}

void calls_fini(struct calls *cs)
{
    if (cs->multi)
        curl_multi_cleanup(cs->multi);
    cs->multi = NULL;
}

static size_t on_body(char *bytes, size_t one, size_t count, void *arg)
{
    struct call *call = arg;
    buf_put(&call->answer, bytes, one * count);
    return call->answer.failed ? 0 : one * count;
}

static size_t on_header(char *bytes, size_t one, size_t count, void *arg)
{
    call_header(arg, (struct span){bytes, one * count});
    return one * count;
}

static struct call *call_new(struct calls *cs, const char *url, uint32_t timeout_ms)
{
    struct call *call = calloc(1, sizeof *call);
    if (!call)
        return NULL;
    *call = (struct call){.owner = cs, .easy = curl_easy_init(), .status = GRPC_NONE};
    buf_init(&call->request, REQUEST_BYTES_MAX);
    buf_init(&call->answer, ANSWER_BYTES_MAX);
    buf_init(&call->details, DETAILS_BYTES_MAX);
    CURL *e = call->easy;
    if (!e) {
        call_free(call);
        return NULL;
    }
    curl_easy_setopt(e, CURLOPT_URL, url);
    curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(e, CURLOPT_PROXY, ""); /* the environment does not choose where tokens go */
    curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, (long)timeout_ms);
    curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
    curl_easy_setopt(e, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(e, CURLOPT_TCP_KEEPIDLE, KEEPALIVE_SECS);
    curl_easy_setopt(e, CURLOPT_TCP_KEEPINTVL, KEEPALIVE_SECS);
    curl_easy_setopt(e, CURLOPT_FRESH_CONNECT, cs->is_suspect ? 1L : 0L);
    curl_easy_setopt(e, CURLOPT_PIPEWAIT, 1L); /* calls share one connection */
    curl_easy_setopt(e, CURLOPT_ERRORBUFFER, call->error);
    curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(e, CURLOPT_WRITEDATA, call);
    curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(e, CURLOPT_HEADERDATA, call);
    curl_easy_setopt(e, CURLOPT_PRIVATE, call);
    if (*cs->ca_file)
        curl_easy_setopt(e, CURLOPT_CAINFO, cs->ca_file);
    return call;
}

static bool add_header(struct call *call, const char *line)
{
    struct curl_slist *more = curl_slist_append(call->headers, line);
    if (more)
        call->headers = more;
    return more != NULL;
}

static struct call *call_start(struct call *call)
{
    curl_easy_setopt(call->easy, CURLOPT_HTTPHEADER, call->headers);
    if (curl_multi_add_handle(call->owner->multi, call->easy) == CURLM_OK)
        return call;
    call_free(call);
    return NULL;
}

struct call *call_grpc(struct calls *cs, const struct call_grpc *how, struct buf *request)
{
    char url[512], line[64];
    bool is_plain = strncmp(how->base, "http://", 7) == 0;
    snprintf(url, sizeof url, "%s/%s", how->base, how->method);
    struct call *call = call_new(cs, url, how->timeout_ms);
    if (!call) {
        buf_fini(request);
        return NULL;
    }
    call->is_grpc = true;
    char prefix[PREFIX_BYTES] = {0, (char)(request->len >> 24), (char)(request->len >> 16),
                                 (char)(request->len >> 8), (char)request->len};
    /* Room is made once: a batch may be megabytes. */
    bool is_good = buf_reserve(&call->request, PREFIX_BYTES + request->len) && !request->failed;
    buf_put(&call->request, prefix, sizeof prefix);
    buf_put_span(&call->request, buf_span(request));
    buf_fini(request);
    is_good &= add_header(call, "content-type: application/grpc");
    is_good &= add_header(call, "te: trailers");
    is_good &= add_header(call, "expect:");
    snprintf(line, sizeof line, "grpc-timeout: %um", how->timeout_ms);
    is_good &= add_header(call, line);
    if (*how->token && !is_plain) {
        struct buf bearer;
        buf_init(&bearer, 16 * KIB);
        buf_printf(&bearer, "authorization: Bearer %s", how->token);
        is_good &= !bearer.failed && add_header(call, buf_str(&bearer));
        OPENSSL_cleanse(bearer.at, bearer.len);
        buf_fini(&bearer);
    }
    if (!is_good || call->request.failed) {
        call_free(call);
        return NULL;
    }
    CURL *e = call->easy;
    curl_easy_setopt(e, CURLOPT_HTTP_VERSION,
                     is_plain ? CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE : CURL_HTTP_VERSION_2TLS);
    /* libcurl 7.88 begins HTTP/2 anew on a connection without TLS that it uses again: "Error in the
     * HTTP2 framing layer".  Emulators get a connection per call. */
    if (is_plain) {
        curl_easy_setopt(e, CURLOPT_FRESH_CONNECT, 1L);
        curl_easy_setopt(e, CURLOPT_FORBID_REUSE, 1L);
    }
    curl_easy_setopt(e, CURLOPT_POST, 1L);
    curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)call->request.len);
    curl_easy_setopt(e, CURLOPT_POSTFIELDS, call->request.at);
    return call_start(call);
}

struct call *call_http(struct calls *cs, const char *url, struct span body, const char *header,
                       uint32_t timeout_ms)
{
    struct call *call = call_new(cs, url, timeout_ms);
    if (!call)
        return NULL;
    buf_fini(&call->answer);
    buf_init(&call->answer, PLAIN_ANSWER_BYTES_MAX);
    if (header && !add_header(call, header)) {
        call_free(call);
        return NULL;
    }
    if (body.len) {
        buf_put_span(&call->request, body);
        curl_easy_setopt(call->easy, CURLOPT_POST, 1L);
        curl_easy_setopt(call->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)call->request.len);
        curl_easy_setopt(call->easy, CURLOPT_POSTFIELDS, call->request.at);
    }
    return call_start(call);
}

/* Tokens may stand in all of them. */
static void wipe(struct buf *b)
{
    if (b->at)
        OPENSSL_cleanse(b->at, b->len);
    buf_fini(b);
}

void call_free(struct call *call)
{
    if (!call)
        return;
    if (call->easy) {
        curl_multi_remove_handle(call->owner->multi, call->easy);
        curl_easy_cleanup(call->easy);
    }
    for (struct curl_slist *h = call->headers; h; h = h->next)
        OPENSSL_cleanse(h->data, strlen(h->data));
    curl_slist_free_all(call->headers);
    if (call->is_grpc) /* data of the stream, no secrets: megabytes are not wiped */
        buf_fini(&call->request), buf_fini(&call->answer);
    else
        wipe(&call->request), wipe(&call->answer);
    buf_fini(&call->details);
    free(call);
}

/* ---- answers ---- */
static bool named(struct span line, struct span name, struct span *value)
{
    if (line.len <= name.len || line.at[name.len] != ':' ||
        !span_ieq((struct span){line.at, name.len}, name))
        return false;
    *value = (struct span){line.at + name.len + 1, line.len - name.len - 1};
    while (value->len && (value->at[value->len - 1] == '\r' || value->at[value->len - 1] == '\n'))
        value->len--;
    *value = span_trim(*value);
    return true;
}

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Percent-coded as gRPC says; what is not printable becomes a blank. */
static void read_message(struct call *call, struct span text)
{
    size_t out = 0;
    for (size_t i = 0; i < text.len && out < sizeof call->message - 1; i++) {
        char c = text.at[i];
        if (c == '%' && i + 2 < text.len && hex(text.at[i + 1]) >= 0 && hex(text.at[i + 2]) >= 0) {
            c = (char)(hex(text.at[i + 1]) * 16 + hex(text.at[i + 2]));
            i += 2;
        }
        call->message[out++] = c >= 0x20 && c < 0x7f ? c : ' ';
    }
    call->message[out] = '\0';
}

/* Base64 with or without padding; what is broken is left out: it only adds to a status. */
static void read_details(struct call *call, struct span text)
{
    size_t whole = (text.len + 3) / 4 * 4;
    if (text.len == 0 || whole > DETAILS_BYTES_MAX)
        return;
    char *padded = malloc(whole);
    unsigned char *bytes = malloc(whole);
    if (padded && bytes) {
        memset(padded, '=', whole);
        memcpy(padded, text.at, text.len);
        size_t pad = 0;
        while (pad < 2 && padded[whole - 1 - pad] == '=')
            pad++;
        int len = EVP_DecodeBlock(bytes, (unsigned char *)padded, (int)whole);
        buf_clear(&call->details);
        if (len > 0 && (size_t)len >= pad)
            buf_put(&call->details, bytes, (size_t)len - pad);
    }
    free(padded);
    free(bytes);
}

void call_header(struct call *call, struct span line)
{
    struct span value;
    uint64_t number;
    if (!call->is_grpc)
        return;
    if (named(line, SPAN("grpc-status"), &value))
        call->status = span_to_u64(value, &number) && number <= GRPC_UNAUTHENTICATED
                           ? (enum grpc_status)number
                           : GRPC_UNKNOWN;
    else if (named(line, SPAN("grpc-message"), &value))
        read_message(call, value);
    else if (named(line, SPAN("grpc-status-details-bin"), &value))
        read_details(call, value);
}

/* What an HTTP status without a gRPC status means (the table of the gRPC project). */
static enum grpc_status status_of_http(long http)
{
    switch (http) {
    case 400:
        return GRPC_UNKNOWN;
    case 401:
        return GRPC_UNAUTHENTICATED;
    case 403:
        return GRPC_PERMISSION_DENIED;
    case 404:
        return GRPC_UNIMPLEMENTED;
    case 429:
    case 502:
    case 503:
    case 504:
        return GRPC_UNAVAILABLE;
    default:
        return GRPC_UNKNOWN;
    }
}

static void finish(struct call *call, CURLcode code)
{
    call->is_done = true;
    call->transport = code;
    curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &call->http);
    call->owner->is_suspect = code == CURLE_OPERATION_TIMEDOUT;
    if (!call->is_grpc)
        return;
    /* A status that came counts, however the stream ended then. */
    if (call->status == GRPC_NONE && code == CURLE_OK) {
        call->status = status_of_http(call->http);
        snprintf(call->message, sizeof call->message, "HTTP status %ld without a gRPC status",
                 call->http);
    }
}

static void reap(struct calls *cs)
{
    int left;
    CURLMsg *m;
    while ((m = curl_multi_info_read(cs->multi, &left))) {
        struct call *call = NULL;
        if (m->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&call);
        fb_assert(call);
        finish(call, m->data.result);
    }
}

void calls_drive(struct calls *cs, uint32_t ms)
{
    int running;
    curl_multi_perform(cs->multi, &running);
    reap(cs);
    if (ms == 0 || cs->is_stopping(cs->ctx))
        return;
    curl_multi_poll(cs->multi, NULL, 0, (int)fb_min_u64(ms, SLICE_MS), NULL);
    curl_multi_perform(cs->multi, &running);
    reap(cs);
}

bool calls_wait(struct calls *cs, struct call *call)
{
    while (!call->is_done) { /* ends: each call has a timeout */
        if (cs->is_stopping(cs->ctx))
            return false;
        calls_drive(cs, SLICE_MS);
    }
    return true;
}

bool call_message(const struct call *call, struct span *message)
{
    const unsigned char *at = (const unsigned char *)call->answer.at;
    if (call->answer.len < PREFIX_BYTES || at[0] != 0)
        return false;
    size_t len = (size_t)at[1] << 24 | (size_t)at[2] << 16 | (size_t)at[3] << 8 | at[4];
    if (len != call->answer.len - PREFIX_BYTES)
        return false;
    *message = (struct span){call->answer.at + PREFIX_BYTES, len};
    return true;
}

const char *grpc_status_name(enum grpc_status status)
{
    static const char *const names[] = {"OK",
                                        "CANCELLED",
                                        "UNKNOWN",
                                        "INVALID_ARGUMENT",
                                        "DEADLINE_EXCEEDED",
                                        "NOT_FOUND",
                                        "ALREADY_EXISTS",
                                        "PERMISSION_DENIED",
                                        "RESOURCE_EXHAUSTED",
                                        "FAILED_PRECONDITION",
                                        "ABORTED",
                                        "OUT_OF_RANGE",
                                        "UNIMPLEMENTED",
                                        "INTERNAL",
                                        "UNAVAILABLE",
                                        "DATA_LOSS",
                                        "UNAUTHENTICATED"};
    return (size_t)status < FB_COUNT(names) ? names[status] : "no answer";
}

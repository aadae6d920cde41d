/* SPDX-License-Identifier: Apache-2.0 */
/* prometheus: the /metrics page of a service, read each interval; what the rules name becomes
 * facts.
 *
 *   GET -> lines -> rules -> NAME.fact = number ... and NAME.up = 1
 *   no answer, no 200, not whole, no metrics, too large: NAME.up = 0 and nothing else
 *
 * Each target has a thread of its own (the runner's), so one that is dead, slow or endless delays
 * nobody.  A page is never kept: lines are judged as they come; memory is bounded by one line, the
 * series that rules name (event/scrape.h) and the kernel's socket. */
#include "stream/connectors/connector.h"

#include "base/assert.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/siphash.h"
#include "event/scrape.h"

#include <curl/curl.h>
#include <openssl/crypto.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#define POLL_MS 50
#define SECRET_BYTES_MAX 4096
#define URL_BYTES 2048
#define HEAD_BYTES_MAX (64 * KIB)
#define MESSAGE_BYTES_MAX (64 * KIB)
#define ACCEPT                                                                                     \
    "Accept: application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5,"     \
    "*/*;q=0.1"

struct page {                /* the one that is being read */
    bool is_begun, is_taken; /* is_taken: 200 and a type that is one of metrics */
    bool is_too_large;
    uint64_t bytes, head_bytes;
    char type[80];
};

struct connector {
    struct connector_setup setup;
    char url[URL_BYTES], where[256]; /* <where>: for messages */
    const char *ca, *bearer_file, *basic_file;
    uint64_t every_us, bytes_max, due_us, asked_us, pages;
    uint32_t timeout_ms;
    bool is_failing;
    CURLM *multi;
    CURL *easy;
    struct curl_slist *headers;
    struct scrape *scrape;
    struct page page;
    struct promtext text;
    struct buf message; /* facts that were not taken yet */
};

static enum fb_code read_page(struct connector *c, uint32_t timeout_ms, struct fb_err *err);
static enum fb_code prepare(struct connector *c, uint32_t timeout_ms, struct fb_err *err);
static enum fb_code judge(struct connector *c, CURLcode how, struct fb_err *err);

static const char *value(const struct connector *c, const char *key)
{
    return c->setup.value(c->setup.conf, key);
}

static void init_curl(void)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

static void prometheus_close(struct connector *c)
{
    if (c->easy)
        curl_easy_cleanup(c->easy);
    if (c->multi)
        curl_multi_cleanup(c->multi);
    curl_slist_free_all(c->headers);
    scrape_free(c->scrape);
    buf_fini(&c->message);
    free(c);
}

/* Without what follows the path: it may hold a secret. */
static void name_target(struct connector *c)
{
    snprintf(c->url, sizeof c->url, "%s", value(c, "url"));
    snprintf(c->where, sizeof c->where, "%.*s", (int)fb_min_u64(strcspn(c->url, "?#"), 200),
             c->url);
}

static enum fb_code prometheus_open(struct connector **out, const struct connector_setup *setup,
                                    struct fb_err *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, init_curl);
    struct connector *c = calloc(1, sizeof *c);
    if (!c)
        return fb_fail(err, FB_E_NOMEM, "no memory for %s", setup->name);
    c->setup = *setup;
    buf_init(&c->message, MESSAGE_BYTES_MAX);
    name_target(c);
    c->ca = value(c, "ca_file");
    c->bearer_file = value(c, "bearer_file");
    c->basic_file = value(c, "basic_file");
    c->every_us = strtoull(value(c, "every"), NULL, 10) * US_PER_MS;
    c->timeout_ms = (uint32_t)strtoul(value(c, "timeout"), NULL, 10);
    c->bytes_max = strtoull(value(c, "page_max"), NULL, 10);
    fb_assert(c->every_us > 0);
    fb_assert(c->timeout_ms * US_PER_MS < c->every_us);
    c->multi = curl_multi_init();
    c->easy = curl_easy_init();
    uint64_t key[2];
    if (getrandom(key, sizeof key, 0) == (ssize_t)sizeof key)
        c->scrape = scrape_new(span_of(value(c, "metrics")), key, err);
    else
        fb_fail(err, FB_E_AGAIN, "%s: the system gives no random numbers", setup->name);
    enum fb_code code = c->scrape ? FB_OK : err->code;
    if (code == FB_OK && (!c->multi || !c->easy))
        code = fb_fail(err, FB_E_NOMEM, "no memory for %s", setup->name);
    if (code != FB_OK)
        prometheus_close(c);
    else
        *out = c;
    return code;
}

/* ---- one page ---- */
static size_t on_head(char *at, size_t size, size_t count, void *arg)
{
    struct connector *c = arg;
    (void)at;
    c->page.head_bytes += size * count;
    c->page.is_too_large |= c->page.head_bytes > HEAD_BYTES_MAX;
    return c->page.is_too_large ? 0 : size * count;
}

static void on_sample(void *arg, const struct prom_sample *sample)
{
    struct connector *c = arg;
    scrape_take(c->scrape, sample);
}

/* Status and type are known: is the body one of metrics? */
static void begin_page(struct connector *c)
{
    static const char openmetrics[] = "application/openmetrics-text";
    long status = 0;
    const char *type = NULL;
    curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(c->easy, CURLINFO_CONTENT_TYPE, &type);
    snprintf(c->page.type, sizeof c->page.type, "%s", type ? type : "");
    c->page.is_begun = true;
    bool is_openmetrics = strncasecmp(c->page.type, openmetrics, sizeof openmetrics - 1) == 0;
    bool is_text = !c->page.type[0] || strncasecmp(c->page.type, "text/plain", 10) == 0;
    c->page.is_taken = status == 200 && (is_openmetrics || is_text);
    promtext_init(&c->text, is_openmetrics, on_sample, c);
}

static size_t on_body(char *at, size_t size, size_t count, void *arg)
{
    struct connector *c = arg;
    size_t len = size * count;
    if (!c->page.is_begun)
        begin_page(c);
    c->page.bytes += len;
    c->page.is_too_large |= c->page.bytes > c->bytes_max;
    if (!c->page.is_taken || c->page.is_too_large)
        return 0; /* ends the transfer */
    return promtext_feed(&c->text, (struct span){at, len}) && scrape_is_good(c->scrape) ? len : 0;
}

static bool add_header(struct connector *c, const char *text)
{
    struct curl_slist *more = curl_slist_append(c->headers, text);
    if (more)
        c->headers = more;
    return more != NULL;
}

/* The first line of a file, read each time: tokens of service accounts are replaced while we run.
 */
static enum fb_code read_secret(const struct connector *c, const char *key, const char *path,
                                char out[SECRET_BYTES_MAX], struct fb_err *err)
{
    FILE *f = fopen(path, "re");
    bool is_read = f && fgets(out, SECRET_BYTES_MAX, f);
    if (f)
        fclose(f);
    if (is_read)
        out[strcspn(out, "\r\n")] = '\0';
    if (is_read && out[0])
        return FB_OK;
    return fb_fail(err, FB_E_AGAIN, "%s cannot be read or is empty; see `%s` of %s", path, key,
                   c->setup.name);
}

static enum fb_code add_who(struct connector *c, struct fb_err *err)
{
    char secret[SECRET_BYTES_MAX] = "", line[SECRET_BYTES_MAX + 40];
    bool is_basic = *c->basic_file;
    if (!is_basic && !*c->bearer_file)
        return FB_OK;
    enum fb_code code = is_basic ? read_secret(c, "basic_file", c->basic_file, secret, err)
                                 : read_secret(c, "bearer_file", c->bearer_file, secret, err);
    snprintf(line, sizeof line, "Authorization: Bearer %s", secret);
    if (code == FB_OK && is_basic && !strchr(secret, ':'))
        code = fb_fail(err, FB_E_AGAIN, "%s must hold USER:PASSWORD; see `basic_file` of %s",
                       c->basic_file, c->setup.name);
    if (code == FB_OK && is_basic) {
        curl_easy_setopt(c->easy, CURLOPT_HTTPAUTH, (long)CURLAUTH_BASIC);
        curl_easy_setopt(c->easy, CURLOPT_USERPWD, secret);
    } else if (code == FB_OK && !add_header(c, line)) {
        code = fb_fail(err, FB_E_NOMEM, "no memory to ask %s", c->where);
    }
    OPENSSL_cleanse(secret, sizeof secret);
    OPENSSL_cleanse(line, sizeof line);
    return code;
}

static enum fb_code prepare(struct connector *c, uint32_t timeout_ms, struct fb_err *err)
{
    CURL *e = c->easy;
    char limit[80];
    snprintf(limit, sizeof limit, "X-Prometheus-Scrape-Timeout-Seconds: %.3f", timeout_ms / 1000.0);
    curl_slist_free_all(c->headers);
    c->headers = NULL;
    curl_easy_reset(e); /* keeps its connection */
    if (!add_header(c, ACCEPT) || !add_header(c, limit))
        return fb_fail(err, FB_E_NOMEM, "no memory to ask %s", c->where);
    enum fb_code code = add_who(c, err);
    if (code != FB_OK)
        return code;
    curl_easy_setopt(e, CURLOPT_URL, c->url);
    curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(e, CURLOPT_PROXY, ""); /* the environment has no say */
    curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(e, CURLOPT_USERAGENT, "foldback/" FB_VERSION);
    curl_easy_setopt(e, CURLOPT_HTTPHEADER, c->headers);
    curl_easy_setopt(e, CURLOPT_ACCEPT_ENCODING, "gzip");
    curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, (long)(timeout_ms ? timeout_ms : 1));
    curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_head);
    curl_easy_setopt(e, CURLOPT_HEADERDATA, c);
    curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(e, CURLOPT_WRITEDATA, c);
    if (*c->ca)
        curl_easy_setopt(e, CURLOPT_CAINFO, c->ca);
    if (curl_multi_add_handle(c->multi, e) != CURLM_OK)
        return fb_fail(err, FB_E_NOMEM, "no memory to ask %s", c->where);
    return FB_OK;
}

/* FB_OK: the whole page went through the rules; the caller commits. */
static enum fb_code read_page(struct connector *c, uint32_t timeout_ms, struct fb_err *err)
{
    int active = 1, queued;
    CURLcode how = CURLE_ABORTED_BY_CALLBACK;
    c->page = (struct page){.is_begun = false};
    c->asked_us = fb_mono_us();
    scrape_begin(c->scrape);
    enum fb_code code = prepare(c, timeout_ms, err);
    if (code != FB_OK)
        return code;
    while (active && !c->setup.is_stopping(c->setup.ctx)) {
        (void)curl_multi_perform(c->multi, &active);
        if (active)
            (void)curl_multi_poll(c->multi, NULL, 0, POLL_MS, NULL);
    }
    for (CURLMsg *m; (m = curl_multi_info_read(c->multi, &queued));)
        if (m->msg == CURLMSG_DONE)
            how = m->data.result;
    code = judge(c, how, err);
    curl_multi_remove_handle(c->multi, c->easy);
    return code;
}

static enum fb_code judge(struct connector *c, CURLcode how, struct fb_err *err)
{
    long status = 0;
    curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status);
    if (how == CURLE_OK && !c->page.is_begun)
        begin_page(c); /* no body */
    if (c->page.is_too_large)
        return fb_fail(err, FB_E_RANGE, "%s answers more than %llu bytes; see `page_max` of %s",
                       c->where, (unsigned long long)c->bytes_max, c->setup.name);
    if (c->page.is_begun && status != 200)
        return fb_fail(err, FB_E_AGAIN, "%s answers %ld; see the URL%s of %s", c->where, status,
                       status != 401 && status != 403 ? ""
                       : *c->basic_file               ? " and `basic_file`"
                                                      : " and `bearer_file`",
                       c->setup.name);
    if (c->page.is_begun && !c->page.is_taken)
        return fb_fail(err, FB_E_FORMAT, "%s answers %.60s: that is no page of metrics", c->where,
                       c->page.type);
    if (c->page.is_begun && c->text.why[0])
        return fb_fail(err, FB_E_FORMAT, "%s, %s", c->where, c->text.why);
    if (!scrape_is_good(c->scrape))
        return fb_fail(err, FB_E_RANGE,
                       "%s: more than %u series match; name labels in `metrics` of %s", c->where,
                       SCRAPE_SERIES_MAX, c->setup.name);
    if (how != CURLE_OK)
        return fb_fail(err, FB_E_AGAIN, "%s: %s", c->where, curl_easy_strerror(how));
    if (!promtext_end(&c->text))
        return fb_fail(err, FB_E_FORMAT, "%s, %s", c->where, c->text.why);
    return FB_OK;
}

/* ---- facts ---- */
static void put_fact(void *arg, const char *name, double number)
{
    struct connector *c = arg;
    buf_printf(&c->message, "{\"name\":\"%s.%s\",\"value\":%.17g}\n", c->setup.name, name, number);
}

/* Behind it is the next page: the interval as it was agreed, each target at a time of its own. */
static uint64_t next_due(const struct connector *c, uint64_t now_us)
{
    static const uint64_t salt[2] = {UINT64_C(0x736372617065), 1};
    uint64_t phase =
        (siphash(salt, span_of(c->setup.name)) ^ siphash(salt, span_of(c->setup.node)) * 31) %
        c->every_us;
    uint64_t due = now_us - now_us % c->every_us + phase;
    while (due <= now_us + c->every_us / 2) /* the first ones are not closer than that */
        due += c->every_us;
    return due;
}

static enum fb_code scrape_once(struct connector *c, struct fb_err *err)
{
    enum fb_code code = read_page(c, c->timeout_ms, err);
    c->due_us = c->due_us ? c->due_us + c->every_us : next_due(c, c->asked_us);
    if (c->due_us <= fb_mono_us())
        c->due_us = next_due(c, fb_mono_us()); /* the machine slept */
    if (c->setup.is_stopping(c->setup.ctx)) {
        scrape_abort(c->scrape);
        return FB_OK;
    }
    buf_clear(&c->message);
    if (code == FB_OK)
        scrape_commit(c->scrape, c->asked_us, put_fact, c);
    else
        scrape_abort(c->scrape);
    put_fact(c, "up", code == FB_OK);
    fb_assert(!c->message.failed);
    return code;
}

static void tell_missing(struct connector *c)
{
    char text[400];
    struct span name;
    for (uint32_t i = 0; c->pages == 0 && i < scrape_rules(c->scrape); i++)
        if (scrape_found(c->scrape, i, &name) == 0) {
            snprintf(text, sizeof text,
                     "%s has nothing now that matches rule %u of `metrics` (%.*s)", c->where, i + 1,
                     SPAN_ARG(name));
            c->setup.say(c->setup.ctx, FB_LOG_WARN, text);
        }
    c->pages++;
}

static bool give(struct connector *c, connector_each *each, void *arg)
{
    struct connector_message m = {.topic = c->setup.name, .position = "0", .key = SPAN("")};
    m.value = buf_span(&c->message);
    if (m.value.len == 0)
        return true;
    if (!each(arg, &m))
        return false; /* no room in the queue: nothing is asked for until there is */
    buf_clear(&c->message);
    return true;
}

static void wait_until(struct connector *c, uint64_t until_us)
{
    uint64_t now_us;
    while ((now_us = fb_mono_us()) < until_us && !c->setup.is_stopping(c->setup.ctx))
        usleep((useconds_t)fb_min_u64(until_us - now_us, POLL_MS * US_PER_MS));
}

/* While it fails the wait is here, so that the state says so until the next page. */
static enum fb_code prometheus_receive(struct connector *c, connector_each *each, void *arg,
                                       uint32_t timeout_ms, struct fb_err *err)
{
    uint64_t until_us = fb_mono_us() + timeout_ms * US_PER_MS;
    if (!give(c, each, arg)) {
        wait_until(c, until_us);
        return FB_OK;
    }
    wait_until(c, c->is_failing ? c->due_us : fb_min_u64(until_us, c->due_us));
    if (fb_mono_us() < c->due_us || c->setup.is_stopping(c->setup.ctx))
        return FB_OK;
    enum fb_code code = scrape_once(c, err);
    c->is_failing = code != FB_OK;
    if (code == FB_OK)
        tell_missing(c);
    (void)give(c, each, arg); /* else in the next call */
    return code == FB_OK ? FB_OK : FB_E_AGAIN;
}

static enum fb_code prometheus_commit(struct connector *c, const struct connector_done *done,
                                      uint32_t count, struct fb_err *err)
{
    (void)c, (void)done, (void)count, (void)err;
    return FB_OK;
}

static void ignore_fact(void *arg, const char *name, double number)
{
    (void)arg, (void)name, (void)number;
}

static enum fb_code prometheus_check(struct connector *c, uint32_t timeout_ms, connector_step *step,
                                     void *arg, struct fb_err *err)
{
    char text[400];
    struct span name;
    enum fb_code code = read_page(c, fb_min_u32(timeout_ms, c->timeout_ms), err);
    if (code != FB_OK) {
        step(arg, false, err->text);
        return code;
    }
    snprintf(text, sizeof text, "%s answers %llu samples, %llu bytes of %.60s", c->where,
             (unsigned long long)c->text.samples, (unsigned long long)c->page.bytes,
             c->page.type[0] ? c->page.type : "no type");
    step(arg, true, text);
    scrape_commit(c->scrape, c->asked_us, ignore_fact, NULL);
    for (uint32_t i = 0; i < scrape_rules(c->scrape); i++) {
        uint32_t found = scrape_found(c->scrape, i, &name);
        snprintf(text, sizeof text, "rule %u of `metrics`, %.*s: %u series", i + 1, SPAN_ARG(name),
                 found);
        step(arg, found > 0, text);
    }
    return FB_OK;
}

CONNECTOR_EXPORT = {.abi = CONNECTOR_ABI,
                    .bytes = sizeof(struct connector_type),
                    .name = "prometheus",
                    .can = CONNECTOR_SOURCE | CONNECTOR_SEEKS | CONNECTOR_FORGETS,
                    .open = prometheus_open,
                    .close = prometheus_close,
                    .check = prometheus_check,
                    .receive = prometheus_receive,
                    .commit = prometheus_commit};

/* SPDX-License-Identifier: Apache-2.0 */
/* Bearer tokens of an identity provider: OAuth 2.0 client credentials (RFC 6749 section 4.4), asked
 * for here, for a librdkafka that was built without it (Debian's) cannot.
 *
 * The secret goes into the Authorization header; a provider that knows only the other way, in the
 * body, answers 400 or 401 and is asked again that way.  Threads: the connector's. */
#include "base/buf.h"
#include "stream/connectors/kafka_int.h"
#include "stream/connectors/oauth_says.h"

#include <curl/curl.h>
#include <jansson.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>

#define ANSWER_BYTES_MAX (64 * KIB)
#define FETCH_MS 10000
#define POLL_MS 100
#define LIFE_MAX_S (24 * 3600)
#define LIFE_MIN_S 1

struct fetch {
    struct connector *c;
    CURL *easy;
    struct buf answer;
    long http;
    char error[CURL_ERROR_SIZE];
    CURLcode how;
    bool is_stopped;
};

static size_t on_bytes(char *at, size_t size, size_t count, void *arg)
{
    struct fetch *f = arg;
    buf_put(&f->answer, at, size * count);
    return f->answer.failed ? 0 : size * count; /* 0: it ends with an error */
}

/* Until it is over, in slices, so that a stop is seen. */
static void drive(struct fetch *f)
{
    CURLM *multi = curl_multi_init();
    int running = 1, left;
    f->how = CURLE_OUT_OF_MEMORY;
    if (!multi)
        return;
    if (curl_multi_add_handle(multi, f->easy) == CURLM_OK) {
        while (running > 0 && curl_multi_perform(multi, &running) == CURLM_OK && running > 0) {
            f->is_stopped = f->c->setup.is_stopping(f->c->setup.ctx);
            if (f->is_stopped || curl_multi_poll(multi, NULL, 0, POLL_MS, NULL) != CURLM_OK)
                break;
        }
        const CURLMsg *m = curl_multi_info_read(multi, &left);
        f->how = m && m->msg == CURLMSG_DONE ? m->data.result : CURLE_ABORTED_BY_CALLBACK;
        curl_multi_remove_handle(multi, f->easy);
    }
    curl_multi_cleanup(multi);
    curl_easy_getinfo(f->easy, CURLINFO_RESPONSE_CODE, &f->http);
}

/* NAME=VALUE, escaped. */
static void put_field(struct fetch *f, struct buf *body, const char *name, const char *value)
{
    char *text = curl_easy_escape(f->easy, value, 0);
    if (body->len)
        buf_putc(body, '&');
    buf_puts(body, name);
    buf_putc(body, '=');
    if (text)
        buf_puts(body, text);
    body->failed |= !text;
    if (text)
        OPENSSL_cleanse(text, strlen(text));
    curl_free(text);
}

/* Client and secret as RFC 6749 section 2.3.1 wants them: escaped, then as a basic login. */
static void set_login(struct fetch *f, const char *id, const char *secret)
{
    char *user = curl_easy_escape(f->easy, id, 0);
    char *password = curl_easy_escape(f->easy, secret, 0);
    curl_easy_setopt(f->easy, CURLOPT_HTTPAUTH, CURLAUTH_BASIC);
    curl_easy_setopt(f->easy, CURLOPT_USERNAME, user ? user : "");
    curl_easy_setopt(f->easy, CURLOPT_PASSWORD, password ? password : "");
    if (password)
        OPENSSL_cleanse(password, strlen(password));
    curl_free(user);
    curl_free(password);
}

static void set_place(struct fetch *f)
{
    const char *ca = kafka_value(f->c, "token_ca_file");
    curl_easy_setopt(f->easy, CURLOPT_URL, kafka_value(f->c, "token_url"));
    curl_easy_setopt(f->easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(f->easy, CURLOPT_PROXY, "");
    curl_easy_setopt(f->easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(f->easy, CURLOPT_TIMEOUT_MS, (long)FETCH_MS);
    curl_easy_setopt(f->easy, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(f->easy, CURLOPT_WRITEDATA, f);
    curl_easy_setopt(f->easy, CURLOPT_ERRORBUFFER, f->error);
    if (*ca)
        curl_easy_setopt(f->easy, CURLOPT_CAINFO, ca);
}

static void ask(struct fetch *f, const char *secret, bool is_in_body)
{
    const char *id = kafka_value(f->c, "client_id"), *scope = kafka_value(f->c, "scope");
    struct buf body;
    buf_init(&body, 64 * KIB);
    buf_clear(&f->answer);
    f->error[0] = '\0';
    f->http = 0;
    curl_easy_reset(f->easy);
    set_place(f);
    put_field(f, &body, "grant_type", "client_credentials");
    if (*scope)
        put_field(f, &body, "scope", scope);
    if (is_in_body) {
        put_field(f, &body, "client_id", id);
        put_field(f, &body, "client_secret", secret);
    } else {
        set_login(f, id, secret);
    }
    curl_easy_setopt(f->easy, CURLOPT_POSTFIELDSIZE, (long)body.len);
    curl_easy_setopt(f->easy, CURLOPT_POSTFIELDS, buf_str(&body));
    if (body.failed)
        f->how = CURLE_OUT_OF_MEMORY;
    else
        drive(f);
    if (body.at)
        OPENSSL_cleanse(body.at, body.len);
    buf_fini(&body);
}

/* Some providers give the seconds as text. */
static double seconds_of(const json_t *v)
{
    return json_is_string(v) ? strtod(json_string_value(v), NULL) : json_number_value(v);
}

static bool take(struct span json, char out[KAFKA_TOKEN_BYTES], uint32_t *life_s)
{
    json_t *all = json_loadb(json.len ? json.at : "", json.len, 0, NULL);
    const char *text = json_string_value(json_object_get(all, "access_token"));
    double life = seconds_of(json_object_get(all, "expires_in"));
    bool is_good = text && *text && strlen(text) < KAFKA_TOKEN_BYTES;
    for (const char *c = text; is_good && *c; c++)
        is_good = *c > 0x20 && *c < 0x7f;
    if (is_good)
        snprintf(out, KAFKA_TOKEN_BYTES, "%s", text);
    *life_s = !(life >= LIFE_MIN_S) ? 0 : life < LIFE_MAX_S ? (uint32_t)life : LIFE_MAX_S;
    json_decref(all);
    return is_good;
}

static enum fb_code settle(const struct fetch *f, char out[KAFKA_TOKEN_BYTES], uint32_t *life_s,
                           struct fb_err *err)
{
    const char *url = kafka_value(f->c, "token_url");
    char why[200];
    if (f->is_stopped)
        return fb_fail(err, FB_E_AGAIN, "stopped meanwhile");
    if (f->how == CURLE_PEER_FAILED_VERIFICATION || f->how == CURLE_SSL_CACERT_BADFILE)
        return fb_fail(err, FB_E_CONFIG,
                       "the certificate of %.160s is not of a known authority (%.120s); "
                       "token_ca_file names others",
                       url, *f->error ? f->error : curl_easy_strerror(f->how));
    if (f->how == CURLE_OPERATION_TIMEDOUT)
        return fb_fail(err, FB_E_TIMEOUT, "%.200s gave no token within %d s", url, FETCH_MS / 1000);
    if (f->how != CURLE_OK)
        return fb_fail(err, FB_E_AGAIN, "%.200s is not reached: %.160s", url,
                       *f->error ? f->error : curl_easy_strerror(f->how));
    if (f->http >= 400 && f->http < 500 && f->http != 429 && f->http != 408) {
        oauth_says(buf_span(&f->answer), why, sizeof why);
        return fb_fail(err, FB_E_DENIED,
                       "%.160s gives no token (%ld, %s): see client_id, client_secret_file and "
                       "scope",
                       url, f->http, why);
    }
    if (f->http != 200)
        return fb_fail(err, FB_E_AGAIN, "%.200s answers with status %ld", url, f->http);
    if (!take(buf_span(&f->answer), out, life_s))
        return fb_fail(err, FB_E_AGAIN, "%.200s answers without a readable access_token", url);
    return FB_OK;
}

enum fb_code kafka_oidc(struct connector *c, char out[KAFKA_TOKEN_BYTES], uint32_t *life_s,
                        struct fb_err *err)
{
    char secret[2400];
    struct fetch f = {.c = c, .easy = NULL};
    out[0] = '\0';
    *life_s = 0;
    enum fb_code code = kafka_secret(c, "client_secret_file", secret, sizeof secret, err);
    if (code != FB_OK)
        return code;
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK || !(f.easy = curl_easy_init())) {
        OPENSSL_cleanse(secret, sizeof secret);
        return fb_fail(err, FB_E_AGAIN, "no memory to fetch a token");
    }
    buf_init(&f.answer, ANSWER_BYTES_MAX);
    ask(&f, secret, false);
    if (f.how == CURLE_OK && (f.http == 400 || f.http == 401))
        ask(&f, secret, true);
    code = settle(&f, out, life_s, err);
    OPENSSL_cleanse(secret, sizeof secret);
    if (f.answer.at)
        OPENSSL_cleanse(f.answer.at, f.answer.len);
    buf_fini(&f.answer);
    curl_easy_cleanup(f.easy);
    curl_global_cleanup();
    return code;
}

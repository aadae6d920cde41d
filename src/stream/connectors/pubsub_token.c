/* SPDX-License-Identifier: Apache-2.0 */
#include "stream/connectors/pubsub_token.h"

#include "base/clock.h"
#include "stream/connectors/oauth_says.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SCOPE "https://www.googleapis.com/auth/pubsub"
#define KEY_FILE_BYTES_MAX (64 * KIB)
#define LIFE_S 3600 /* Google takes no longer one */
#define FETCH_MS 10000
/* Before the end of a token: more than the longest call, less than what the metadata server keeps
 * (it renews five minutes before). */
#define MARGIN_S 120
#define TOKEN_BYTES_MAX (8 * KIB)
#define HOW_TO_GET_ONE                                                                             \
    "gcloud iam service-accounts keys create FILE --iam-account=NAME@PROJECT.iam.gserviceaccount." \
    "com makes one"

void token_fini(struct token *t)
{
    if (t->value)
        OPENSSL_cleanse(t->value, strlen(t->value));
    free(t->value);
    t->value = NULL;
}

void token_refuse(struct token *t)
{
    t->renew_us = 0;
    t->refused++;
}

/* ---- key file ---- */
static enum fb_code read_file(const char *path, struct buf *out, struct fb_err *err)
{
    char part[4096];
    ssize_t n;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return fb_fail(err, FB_E_CONFIG, "key_file %.200s: %s", path, strerror(errno));
    while ((n = read(fd, part, sizeof part)) > 0)
        buf_put(out, part, (size_t)n);
    int error = errno;
    close(fd);
    OPENSSL_cleanse(part, sizeof part);
    if (n < 0)
        return fb_fail(err, FB_E_CONFIG, "key_file %.200s: %s", path, strerror(error));
    if (out->failed || out->len == 0)
        return fb_fail(err, FB_E_CONFIG, "key_file %.200s has %s; " HOW_TO_GET_ONE, path,
                       out->len ? "more than 64 KiB" : "nothing in it");
    return FB_OK;
}

static bool take(const json_t *all, const char *name, char *out, size_t size)
{
    const char *text = json_string_value(json_object_get(all, name));
    if (!text || !*text || strlen(text) >= size)
        return false;
    for (const char *c = text; *c; c++) /* it stands in messages */
        if (*c <= 0x20 || *c >= 0x7f)
            return false;
    snprintf(out, size, "%s", text);
    return true;
}

/* The assertion is as good as the key for an hour: it goes over TLS, or to this machine. */
static bool is_safe_uri(const char *uri)
{
    static const char *const near[] = {"http://127.0.0.1:", "http://127.0.0.1/",
                                       "http://localhost:", "http://localhost/"};
    for (size_t i = 0; i < FB_COUNT(near); i++)
        if (strncmp(uri, near[i], strlen(near[i])) == 0)
            return true;
    return strncmp(uri, "https://", 8) == 0;
}

static enum fb_code read_key(const char *path, const json_t *all, struct token_key *out,
                             struct fb_err *err)
{
    const char *type = json_string_value(json_object_get(all, "type"));
    const char *pem = json_string_value(json_object_get(all, "private_key"));
    if (!type || strcmp(type, "service_account") != 0)
        return fb_fail(err, FB_E_CONFIG,
                       "key_file %.200s is not the key of a service account (\"type\": "
                       "\"service_account\"); " HOW_TO_GET_ONE,
                       path);
    if (!take(all, "client_email", out->email, sizeof out->email) || !pem)
        return fb_fail(err, FB_E_CONFIG,
                       "key_file %.200s has no client_email or no private_key; " HOW_TO_GET_ONE,
                       path);
    if (!take(all, "token_uri", out->token_uri, sizeof out->token_uri))
        snprintf(out->token_uri, sizeof out->token_uri, "https://oauth2.googleapis.com/token");
    if (!is_safe_uri(out->token_uri))
        return fb_fail(err, FB_E_CONFIG, "token_uri of key_file %.200s must begin with https://",
                       path);
    if (!take(all, "project_id", out->project, sizeof out->project))
        out->project[0] = '\0';
    if (!take(all, "private_key_id", out->key_id, sizeof out->key_id))
        out->key_id[0] = '\0';
    out->pem = strdup(pem);
    return out->pem ? FB_OK : fb_fail(err, FB_E_NOMEM, "no memory for key_file %.200s", path);
}

enum fb_code token_key_read(const char *path, struct token_key *out, struct fb_err *err)
{
    struct buf text;
    *out = (struct token_key){.pem = NULL};
    buf_init(&text, KEY_FILE_BYTES_MAX);
    enum fb_code code = read_file(path, &text, err);
    if (code == FB_OK) {
        json_t *all = json_loadb(text.at, text.len, JSON_REJECT_DUPLICATES, NULL);
        code = json_is_object(all) ? read_key(path, all, out, err)
                                   : fb_fail(err, FB_E_CONFIG,
                                             "key_file %.200s is not JSON; " HOW_TO_GET_ONE, path);
        json_decref(all);
    }
    if (text.at)
        OPENSSL_cleanse(text.at, text.len);
    buf_fini(&text);
    return code;
}

void token_key_fini(struct token_key *key)
{
    if (key->pem)
        OPENSSL_cleanse(key->pem, strlen(key->pem));
    free(key->pem);
    key->pem = NULL;
}

/* ---- JWT (RFC 7515, 7519) ---- */
static void put_base64url(struct buf *out, const void *bytes, size_t len)
{
    size_t whole = (len + 2) / 3 * 4;
    char *text = malloc(whole + 1);
    if (!text) {
        out->failed = true;
        return;
    }
    int n = EVP_EncodeBlock((unsigned char *)text, bytes, (int)len);
    while (n > 0 && text[n - 1] == '=')
        n--;
    for (int i = 0; i < n; i++)
        text[i] = text[i] == '+' ? '-' : text[i] == '/' ? '_' : text[i];
    buf_put(out, text, (size_t)n);
    free(text);
}

static void put_json(struct buf *out, json_t *made)
{
    char *text = made ? json_dumps(made, JSON_COMPACT) : NULL;
    if (text)
        put_base64url(out, text, strlen(text));
    else
        out->failed = true;
    free(text);
    json_decref(made);
}

static bool sign(EVP_PKEY *key, struct span text, struct buf *out)
{
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    size_t len = 0;
    unsigned char *bytes = NULL;
    bool is_good = md && EVP_DigestSignInit(md, NULL, EVP_sha256(), NULL, key) == 1 &&
                   EVP_DigestSign(md, NULL, &len, (const unsigned char *)text.at, text.len) == 1 &&
                   (bytes = malloc(len)) &&
                   EVP_DigestSign(md, bytes, &len, (const unsigned char *)text.at, text.len) == 1;
    if (is_good)
        put_base64url(out, bytes, len);
    free(bytes);
    EVP_MD_CTX_free(md);
    return is_good;
}

enum fb_code token_jwt(const struct token_key *key, uint64_t now_s, struct buf *out,
                       struct fb_err *err)
{
    BIO *bio = BIO_new_mem_buf(key->pem, -1);
    /* The callback refuses passwords: without it OpenSSL would ask on the terminal. */
    EVP_PKEY *pkey = bio ? PEM_read_bio_PrivateKey(bio, NULL, NULL, (void *)"") : NULL;
    BIO_free(bio);
    if (!pkey || EVP_PKEY_base_id(pkey) != EVP_PKEY_RSA) {
        EVP_PKEY_free(pkey);
        return fb_fail(err, FB_E_CONFIG,
                       "the private_key of %s is no RSA key without a password; " HOW_TO_GET_ONE,
                       key->email);
    }
    json_t *head = json_pack("{s:s,s:s}", "alg", "RS256", "typ", "JWT");
    if (head && key->key_id[0])
        json_object_set_new(head, "kid", json_string(key->key_id));
    put_json(out, head);
    buf_putc(out, '.');
    put_json(out, json_pack("{s:s,s:s,s:s,s:I,s:I}", "iss", key->email, "scope", SCOPE, "aud",
                            key->token_uri, "iat", (json_int_t)now_s, "exp",
                            (json_int_t)(now_s + LIFE_S)));
    struct buf signature;
    buf_init(&signature, 8 * KIB);
    bool is_good = !out->failed && sign(pkey, buf_span(out), &signature);
    buf_putc(out, '.');
    buf_put_span(out, buf_span(&signature));
    is_good &= !out->failed && !signature.failed;
    buf_fini(&signature);
    EVP_PKEY_free(pkey);
    return is_good ? FB_OK : fb_fail(err, FB_E_CONFIG, "the key of %s cannot sign", key->email);
}

/* ---- token servers ---- */
bool token_answer(struct span json, char **value, uint32_t *life_s)
{
    json_t *all = json_loadb(json.at, json.len, 0, NULL);
    const char *text = json_string_value(json_object_get(all, "access_token"));
    json_int_t life = json_integer_value(json_object_get(all, "expires_in"));
    bool is_good = text && *text && strlen(text) <= TOKEN_BYTES_MAX && life > 0;
    for (const char *c = text; is_good && *c; c++) /* it becomes a header field */
        is_good = *c > 0x20 && *c < 0x7f;
    if (is_good) {
        *value = strdup(text);
        *life_s = (uint32_t)fb_min_u64((uint64_t)life, 12 * 3600);
        is_good = *value != NULL;
    }
    json_decref(all);
    return is_good;
}

struct asked {
    struct call *call;
    const char *who, *hint; /* its address; what may help when it refuses */
};

/* What the answer means; takes the token out of it. */
static enum fb_code settle(struct token *t, const struct asked *asked, struct fb_err *err)
{
    const struct call *call = asked->call;
    const char *who = asked->who, *hint = asked->hint;
    char why[200], *value;
    uint32_t life_s;
    if (call->transport == CURLE_PEER_FAILED_VERIFICATION ||
        call->transport == CURLE_SSL_CACERT_BADFILE)
        return fb_fail(err, FB_E_CONFIG, "token server %.200s: %s; see ca_file", who, call->error);
    if (call->transport != CURLE_OK)
        return fb_fail(err, FB_E_AGAIN, "token server %.200s is not reached: %s%s", who,
                       *call->error ? call->error : curl_easy_strerror(call->transport), hint);
    if (call->http >= 400 && call->http < 500 && call->http != 429 && call->http != 408) {
        oauth_says(buf_span(&call->answer), why, sizeof why);
        return fb_fail(err, FB_E_DENIED, "token server %.200s refuses (%ld, %s)%s", who, call->http,
                       why, hint);
    }
    if (call->http != 200)
        return fb_fail(err, FB_E_AGAIN, "token server %.200s answers with status %ld", who,
                       call->http);
    if (!token_answer(buf_span(&call->answer), &value, &life_s))
        return fb_fail(err, FB_E_AGAIN, "token server %.200s gives no readable token", who);
    token_fini(t);
    t->value = value;
    uint32_t margin_s = life_s / 4 < MARGIN_S ? life_s / 4 : MARGIN_S;
    t->renew_us = fb_mono_us() + (uint64_t)(life_s - margin_s) * US_PER_S;
    return FB_OK;
}

static enum fb_code wait_for(struct token *t, struct calls *cs, const struct asked *asked,
                             struct fb_err *err)
{
    if (!asked->call)
        return fb_fail(err, FB_E_NOMEM, "no memory to fetch a token");
    enum fb_code code = calls_wait(cs, asked->call) ? settle(t, asked, err)
                                                    : fb_fail(err, FB_E_AGAIN, "stopped meanwhile");
    call_free(asked->call);
    return code;
}

static enum fb_code from_key_file(struct token *t, struct calls *cs, struct fb_err *err)
{
    struct token_key key;
    struct buf body;
    char hint[400];
    enum fb_code code = token_key_read(t->key_file, &key, err);
    if (code != FB_OK)
        return code;
    buf_init(&body, 16 * KIB);
    buf_puts(&body, "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=");
    struct buf jwt;
    buf_init(&jwt, 8 * KIB);
    code = token_jwt(&key, fb_wall_us() / US_PER_S, &jwt, err);
    buf_put_span(&body, buf_span(&jwt));
    if (code == FB_OK) {
        snprintf(hint, sizeof hint,
                 "; is `key_file` (%.120s) still listed in IAM, and this machine's clock right?",
                 key.email);
        struct asked asked = {.who = key.token_uri, .hint = hint};
        asked.call = call_http(cs, key.token_uri, buf_span(&body), NULL, FETCH_MS);
        code = wait_for(t, cs, &asked, err);
    }
    if (jwt.at)
        OPENSSL_cleanse(jwt.at, jwt.len);
    if (body.at)
        OPENSSL_cleanse(body.at, body.len);
    buf_fini(&jwt);
    buf_fini(&body);
    token_key_fini(&key);
    return code;
}

static enum fb_code from_metadata(struct token *t, struct calls *cs, struct fb_err *err)
{
    char url[512];
    snprintf(url, sizeof url, "%s/computeMetadata/v1/instance/service-accounts/default/token",
             t->metadata);
    struct asked asked = {.who = t->metadata,
                          .hint = "; without key_file this machine must be one of Google Cloud "
                                  "with a service account"};
    asked.call = call_http(cs, url, (struct span){"", 0}, "Metadata-Flavor: Google", FETCH_MS);
    return wait_for(t, cs, &asked, err);
}

enum fb_code token_get(struct token *t, struct calls *cs, struct fb_err *err)
{
    if (t->value && fb_mono_us() < t->renew_us)
        return FB_OK;
    return *t->key_file ? from_key_file(t, cs, err) : from_metadata(t, cs, err);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "stream/connectors/kinesis_int.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#define FILE_BYTES_MAX (256 * KIB)
#define REQUEST_US (5 * US_PER_S)
#define RETRY_US (5 * US_PER_S)
#define RENEW_EARLY_S 300
#define CONTAINER_ORIGIN "http://169.254.170.2"

/* AWS's own variables are the one use of the environment: containers and functions get their
 * credentials in no other way. */
static const char *environment(const char *name)
{
    const char *v = getenv(name);
    return v ? v : "";
}

static bool read_file(const char *path, struct buf *out)
{
    char part[4096];
    size_t n;
    FILE *f = fopen(path, "re");
    while (f && (n = fread(part, 1, sizeof part, f)) > 0)
        buf_put(out, part, n);
    bool is_good = f && !ferror(f) && !out->failed;
    if (f)
        fclose(f);
    return is_good;
}

static enum fb_code from_file(struct connector *c, struct fb_err *err)
{
    struct buf text;
    struct stat st;
    char why[120] = "";
    const char *path = c->credentials_file;
    if (!path[0])
        return fb_fail(err, FB_E_CONFIG,
                       "connectors.%s: `credentials: file` needs "
                       "`credentials_file`",
                       c->setup.name);
    c->keys_file_time = stat(path, &st) == 0 ? (int64_t)st.st_mtime : 0;
    buf_init(&text, FILE_BYTES_MAX);
    errno = 0;
    bool is_read = read_file(path, &text);
    if (!is_read)
        snprintf(why, sizeof why, "%s", errno ? strerror(errno) : "larger than 256 KiB");
    bool is_good = is_read && kinesis_keys_from_ini(&c->keys, buf_span(&text), c->profile, why);
    if (text.at)
        explicit_bzero(text.at, text.cap);
    buf_fini(&text);
    snprintf(c->keys_from, sizeof c->keys_from, "the profile [%.40s] of %.140s", c->profile, path);
    return is_good ? FB_OK
                   : fb_fail(err, FB_E_CONFIG, "%.200s: %s; see `credentials_file` and `profile`",
                             path, why);
}

static enum fb_code from_environment(struct connector *c, struct fb_err *err)
{
    struct kinesis_keys *k = &c->keys;
    *k = (struct kinesis_keys){.expires_s = 0};
    const char *id = environment("AWS_ACCESS_KEY_ID");
    const char *secret = environment("AWS_SECRET_ACCESS_KEY");
    const char *token = environment("AWS_SESSION_TOKEN");
    if (!id[0] || !secret[0] || strlen(id) >= sizeof k->id || strlen(secret) >= sizeof k->secret ||
        strlen(token) >= sizeof k->token)
        return fb_fail(err, FB_E_CONFIG,
                       "connectors.%s: AWS_ACCESS_KEY_ID or "
                       "AWS_SECRET_ACCESS_KEY is not in foldback's environment",
                       c->setup.name);
    snprintf(k->id, sizeof k->id, "%s", id);
    snprintf(k->secret, sizeof k->secret, "%s", secret);
    snprintf(k->token, sizeof k->token, "%s", token);
    snprintf(c->keys_from, sizeof c->keys_from, "the environment");
    return FB_OK;
}

/* ---- over HTTP ---- */
static enum fb_code ask(struct connector *c, const struct http_request *r, const char *who,
                        struct fb_err *err)
{
    enum fb_code code = http_whole(c, r, err);
    if (code != FB_OK)
        return code;
    if (c->http.status != 200)
        return fb_fail(err, c->http.status >= 500 ? FB_E_AGAIN : FB_E_DENIED,
                       "connectors.%s: %s gave no credentials: HTTP status %ld; is there a role?",
                       c->setup.name, who, c->http.status);
    return FB_OK;
}

static enum fb_code keep_answer(struct connector *c, const char *who, struct fb_err *err)
{
    char why[120] = "";
    bool is_good = kinesis_keys_from_json(&c->keys, buf_span(&c->http.answer), why);
    if (c->http.answer.at)
        explicit_bzero(c->http.answer.at, c->http.answer.len);
    if (!is_good)
        return fb_fail(err, FB_E_AGAIN, "connectors.%s: credentials of %s: %s", c->setup.name, who,
                       why);
    snprintf(c->keys_from, sizeof c->keys_from, "%s", who);
    return FB_OK;
}

/* The agent of ECS and EKS: on this machine or over TLS, nobody else may ask for the token. */
static bool is_near(const char *url)
{
    static const char *const near[] = {
        "https://",       "http://127.0.0.1",      "http://localhost",     "http://[::1]",
        CONTAINER_ORIGIN, "http://169.254.170.23", "http://[fd00:ec2::23]"};
    for (size_t i = 0; i < FB_COUNT(near); i++) {
        size_t len = strlen(near[i]);
        if (strncmp(url, near[i], len) == 0 &&
            (i == 0 || url[len] == '/' || url[len] == ':' || url[len] == '\0'))
            return strchr(url, '@') == NULL;
    }
    return false;
}

static enum fb_code from_container(struct connector *c, struct fb_err *err)
{
    char url[700], header[4300] = "";
    const char *relative = environment("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
    const char *full = environment("AWS_CONTAINER_CREDENTIALS_FULL_URI");
    const char *token_file = environment("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
    struct buf token;
    if (!relative[0] && !full[0])
        return fb_fail(err, FB_E_CONFIG,
                       "connectors.%s: AWS_CONTAINER_CREDENTIALS_RELATIVE_URI and _FULL_URI are "
                       "not in foldback's environment",
                       c->setup.name);
    snprintf(url, sizeof url, "%s%s", relative[0] ? CONTAINER_ORIGIN : "",
             relative[0] ? relative : full);
    if (!is_near(url))
        return fb_fail(err, FB_E_CONFIG,
                       "connectors.%s: AWS_CONTAINER_CREDENTIALS_FULL_URI must be https, or http "
                       "on this machine",
                       c->setup.name);
    buf_init(&token, 4096);
    if (token_file[0] && !read_file(token_file, &token))
        fb_fail(err, FB_E_CONFIG, "%.200s: %s", token_file, strerror(errno));
    else if (!token_file[0])
        buf_puts(&token, environment("AWS_CONTAINER_AUTHORIZATION_TOKEN"));
    struct span text = span_trim(buf_span(&token));
    while (text.len && (text.at[text.len - 1] == '\n' || text.at[text.len - 1] == '\r'))
        text.len--;
    if (text.len && !memchr(text.at, '\n', text.len) && !memchr(text.at, '\r', text.len))
        snprintf(header, sizeof header, "Authorization: %.*s", SPAN_ARG(text));
    bool is_bad = token_file[0] && !header[0];
    buf_fini(&token);
    if (is_bad)
        return fb_fail(err, FB_E_CONFIG, "%.200s has no token of one line", token_file);
    const char *const headers[] = {header[0] ? header : NULL, NULL};
    struct http_request r = {
        .method = "GET", .url = url, .headers = headers, .timeout_us = REQUEST_US};
    enum fb_code code = ask(c, &r, "the container's endpoint", err);
    return code == FB_OK ? keep_answer(c, "the container's endpoint", err) : code;
}

/* The answer as a header or a part of a URL: one line of visible bytes. */
static bool take_line(struct connector *c, char *out, size_t size)
{
    struct span rest, line = span_trim(span_cut(buf_span(&c->http.answer), '\n', &rest));
    if (line.len == 0 || line.len >= size)
        return false;
    for (size_t i = 0; i < line.len; i++)
        if ((unsigned char)line.at[i] <= 0x20 || (unsigned char)line.at[i] >= 0x7f)
            return false;
    memcpy(out, line.at, line.len);
    out[line.len] = '\0';
    return true;
}

/* IMDSv2: a token for a token. */
static enum fb_code from_instance(struct connector *c, struct fb_err *err)
{
    static const char who[] = "the instance's metadata (IMDSv2)";
    char url[1000], token[1000], header[1100], role[300];
    const char *const ttl[] = {"X-aws-ec2-metadata-token-ttl-seconds: 21600", NULL};
    const char *const with_token[] = {header, NULL};
    struct http_request r = {.method = "PUT", .url = url, .headers = ttl, .timeout_us = REQUEST_US};
    snprintf(url, sizeof url, "%.600s/latest/api/token", c->metadata_endpoint);
    enum fb_code code = ask(c, &r, who, err);
    if (code == FB_OK && !take_line(c, token, sizeof token))
        code = fb_fail(err, FB_E_AGAIN, "connectors.%s: %s gave no token", c->setup.name, who);
    if (code != FB_OK)
        return code;
    snprintf(header, sizeof header, "X-aws-ec2-metadata-token: %s", token);
    r.method = "GET";
    r.headers = with_token;
    snprintf(url, sizeof url, "%.600s/latest/meta-data/iam/security-credentials/",
             c->metadata_endpoint);
    code = ask(c, &r, who, err);
    if (code == FB_OK && (!take_line(c, role, sizeof role) || strpbrk(role, "/?#")))
        code = fb_fail(err, FB_E_DENIED, "connectors.%s: this instance has no role", c->setup.name);
    if (code != FB_OK)
        return code;
    snprintf(url, sizeof url, "%.600s/latest/meta-data/iam/security-credentials/%s",
             c->metadata_endpoint, role);
    code = ask(c, &r, who, err);
    return code == FB_OK ? keep_answer(c, who, err) : code;
}

/* ---- which, and when again ---- */
static enum kinesis_credentials place(const struct connector *c)
{
    if (c->credentials != KEYS_AUTO)
        return c->credentials;
    if (c->credentials_file[0])
        return KEYS_FILE;
    if (environment("AWS_ACCESS_KEY_ID")[0])
        return KEYS_ENVIRONMENT;
    if (environment("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")[0] ||
        environment("AWS_CONTAINER_CREDENTIALS_FULL_URI")[0])
        return KEYS_CONTAINER;
    return KEYS_INSTANCE;
}

static bool is_due(const struct connector *c)
{
    struct stat st;
    uint64_t now_s = fb_wall_us() / US_PER_S;
    if (!c->keys.id[0])
        return true;
    if (place(c) == KEYS_FILE)
        return stat(c->credentials_file, &st) == 0 && (int64_t)st.st_mtime != c->keys_file_time;
    if (!c->keys.expires_s)
        return false;
    uint64_t got_s = c->keys_at_us / US_PER_S;
    uint64_t life_s = c->keys.expires_s > got_s ? c->keys.expires_s - got_s : 0;
    return now_s + fb_min_u64(RENEW_EARLY_S, life_s / 4) >= c->keys.expires_s &&
           fb_mono_us() >= c->keys_retry_us;
}

enum fb_code keys_want(struct connector *c, struct fb_err *err)
{
    static enum fb_code (*const from[])(struct connector *,
                                        struct fb_err *) = {[KEYS_FILE] = from_file,
                                                            [KEYS_ENVIRONMENT] = from_environment,
                                                            [KEYS_CONTAINER] = from_container,
                                                            [KEYS_INSTANCE] = from_instance};
    if (!is_due(c))
        return FB_OK;
    struct kinesis_keys *old = malloc(sizeof *old);
    if (!old)
        return fb_fail(err, FB_E_NOMEM, "connector %s: no memory", c->setup.name);
    *old = c->keys;
    enum kinesis_credentials where = place(c);
    enum fb_code code = from[where](c, err);
    c->keys_retry_us = fb_mono_us() + (code == FB_OK ? US_PER_S : RETRY_US);
    if (code == FB_OK) {
        c->keys_at_us = fb_wall_us();
    } else {
        /* Keys that still live are better than none. */
        c->keys = (struct kinesis_keys){.expires_s = 0};
        if (old->id[0] && (!old->expires_s || old->expires_s > fb_wall_us() / US_PER_S)) {
            c->keys = *old;
            code = FB_OK;
        } else if (c->credentials == KEYS_AUTO && where == KEYS_INSTANCE) {
            struct fb_err why = *err;
            code = fb_fail(err, FB_E_CONFIG,
                           "connectors.%s: no AWS credentials: no `credentials_file`, none in the "
                           "environment, no container's endpoint, and of the instance: %.200s",
                           c->setup.name, why.text);
        }
    }
    explicit_bzero(old, sizeof *old);
    free(old);
    return code;
}

void keys_refused(struct connector *c)
{
    explicit_bzero(&c->keys, sizeof c->keys);
}

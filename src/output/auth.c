/* SPDX-License-Identifier: Apache-2.0 */
#include "output/auth.h"

#include "base/assert.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <openssl/crypto.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>
#include <stdio.h>

#define MAC_HEX_BYTES 64
#define EXPIRY_HEX_BYTES 16

static bool secret_eq(struct span a, struct span b);
static bool is_ip_literal(struct span host);
static bool session_ok(const struct auth *a, struct span cookie, uint64_t now_us);
static void session_mac(const struct auth *a, const char *expiry, char hex[MAC_HEX_BYTES + 1]);
static enum auth_result count_failure(struct auth *a, const unsigned char *source, uint64_t now_us);

static bool is_token(struct span s)
{
    if (s.len < AUTH_TOKEN_MIN_BYTES || s.len >= sizeof((struct auth *)0)->token)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        char c = s.at[i];
        bool is_word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!is_word && c != '-' && c != '_')
            return false;
    }
    return true;
}

bool auth_init(struct auth *a, const char *token, const char *address)
{
    *a = (struct auth){0};
    if (!is_token(span_of(token)))
        return false;
    memcpy(a->token, token, strlen(token));
    const char *colon = address ? strrchr(address, ':') : NULL;
    if (!colon || (size_t)(colon - address) >= sizeof a->host)
        return false;
    memcpy(a->host, address, (size_t)(colon - address));
    a->is_loopback = strncmp(a->host, "127.", 4) == 0 || strcmp(a->host, "[::1]") == 0 ||
                     strcmp(a->host, "localhost") == 0;
    return true;
}

bool auth_set_ingest(struct auth *a, struct span text, uint32_t *line)
{
    char tokens[AUTH_INGEST_MAX][sizeof a->ingest[0]] = {{0}};
    uint32_t count = 0;
    for (*line = 1; text.len > 0; ++*line) {
        struct span one = span_cut(text, '\n', &text);
        if (one.len > 0 && one.at[one.len - 1] == '\r')
            one.len--;
        one = span_trim(one);
        if (one.len == 0 || one.at[0] == '#')
            continue;
        if (!is_token(one) || count == AUTH_INGEST_MAX)
            return false;
        memcpy(tokens[count++], one.at, one.len);
    }
    memcpy(a->ingest, tokens, sizeof tokens);
    a->ingest_count = count;
    return true;
}

/* Every token is looked at, so that the time says nothing about which one it was. */
static enum auth_result role_of(const struct auth *a, struct span token)
{
    bool is_ingest = false;
    for (uint32_t i = 0; i < a->ingest_count; i++)
        is_ingest |= secret_eq(token, span_of(a->ingest[i]));
    if (secret_eq(token, span_of(a->token)))
        return AUTH_OK;
    return is_ingest ? AUTH_INGEST : AUTH_WRONG;
}

struct span auth_bearer(struct span authorization)
{
    struct span bearer = SPAN("Bearer ");
    if (authorization.len <= bearer.len ||
        !span_ieq((struct span){authorization.at, bearer.len}, bearer))
        return (struct span){"", 0};
    return span_trim((struct span){authorization.at + bearer.len, authorization.len - bearer.len});
}

bool auth_may_ingest(const struct auth *a, struct span authorization)
{
    struct span token = auth_bearer(authorization);
    return token.len > 0 && role_of(a, token) != AUTH_WRONG;
}

void auth_begin(struct auth *a, uint16_t port, const uint64_t seed[2])
{
    snprintf(a->cookie_name, sizeof a->cookie_name, "foldback_%u", port);
    unsigned char bytes[16 + sizeof a->token];
    memcpy(bytes, seed, 16);
    memcpy(bytes + 16, a->token, sizeof a->token); /* a new token ends old sessions */
    SHA256(bytes, sizeof bytes, a->key);
    OPENSSL_cleanse(bytes, sizeof bytes);
}

bool auth_host_ok(const struct auth *a, struct span host_name)
{
    if (!a->is_loopback || is_ip_literal(host_name))
        return true;
    return span_ieq(host_name, SPAN("localhost")) || span_ieq(host_name, span_of(a->host));
}

bool auth_origin_ok(const struct auth_request *r)
{
    if (!r->is_write)
        return true;
    if (r->fetch_site.len > 0 && !span_eq(r->fetch_site, SPAN("same-origin")) &&
        !span_eq(r->fetch_site, SPAN("none")))
        return false;
    if (r->origin.len == 0)
        return true; /* not a browser: the CLI, curl */
    struct span scheme = SPAN("http://");
    if (!span_starts(r->origin, scheme))
        return false;
    return span_ieq((struct span){r->origin.at + scheme.len, r->origin.len - scheme.len}, r->host);
}

enum auth_result auth_check(struct auth *a, const struct auth_request *r, uint64_t now_us)
{
    /* A valid session goes on while somebody else guesses. */
    for (struct span rest = r->cookie; rest.len > 0;) {
        struct span pair = span_trim(span_cut(rest, ';', &rest)), value;
        struct span name = span_cut(pair, '=', &value);
        if (span_eq(name, span_of(a->cookie_name)) && session_ok(a, value, now_us))
            return AUTH_OK;
    }
    struct span token = auth_bearer(r->authorization);
    return token.len == 0 ? AUTH_MISSING : auth_login(a, r->source, token, now_us);
}

enum auth_result auth_login(struct auth *a, const unsigned char *source, struct span token,
                            uint64_t now_us)
{
    enum auth_result role = role_of(a, token);
    if (role != AUTH_WRONG)
        return role;
    return count_failure(a, source, now_us);
}

void auth_put_cookie(const struct auth *a, struct buf *out, uint64_t now_us, bool expire)
{
    char expiry[EXPIRY_HEX_BYTES + 1], mac[MAC_HEX_BYTES + 1];
    snprintf(expiry, sizeof expiry, "%016" PRIx64, now_us + AUTH_SESSION_US);
    session_mac(a, expiry, mac);
    buf_printf(out, "%s=%s.%s; Path=/; HttpOnly; SameSite=Strict; Max-Age=%u", a->cookie_name,
               expire ? "" : expiry, expire ? "" : mac,
               expire ? 0U : (unsigned)(AUTH_SESSION_US / US_PER_S));
}

static bool session_ok(const struct auth *a, struct span cookie, uint64_t now_us)
{
    if (cookie.len != EXPIRY_HEX_BYTES + 1 + MAC_HEX_BYTES || cookie.at[EXPIRY_HEX_BYTES] != '.')
        return false;
    char expiry[EXPIRY_HEX_BYTES + 1] = "", mac[MAC_HEX_BYTES + 1];
    memcpy(expiry, cookie.at, EXPIRY_HEX_BYTES);
    session_mac(a, expiry, mac);
    struct span given = {cookie.at + EXPIRY_HEX_BYTES + 1, MAC_HEX_BYTES};
    if (!secret_eq(given, (struct span){mac, MAC_HEX_BYTES}))
        return false;
    uint64_t until_us = 0; /* ours: the code above vouches for it */
    for (size_t i = 0; i < EXPIRY_HEX_BYTES; i++) {
        char c = expiry[i];
        until_us = until_us << 4 | (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    return now_us < until_us;
}

static void session_mac(const struct auth *a, const char *expiry, char hex[MAC_HEX_BYTES + 1])
{
    unsigned char mac[EVP_MAX_MD_SIZE];
    unsigned int len = 0;
    const unsigned char *made = HMAC(EVP_sha256(), a->key, (int)sizeof a->key,
                                     (const unsigned char *)expiry, strlen(expiry), mac, &len);
    fb_assert(made != NULL);
    fb_assert(len == MAC_HEX_BYTES / 2);
    for (unsigned int i = 0; i < len; i++)
        snprintf(hex + 2 * (size_t)i, 3, "%02x", mac[i]);
}

static bool secret_eq(struct span a, struct span b)
{
    return a.len == b.len && CRYPTO_memcmp(a.at, b.at, a.len) == 0;
}

static const unsigned char nowhere[AUTH_SOURCE_BYTES];

static bool is_recent(const struct auth_source *s, uint64_t now_us)
{
    return s->failures && now_us - s->window_us < 60 * US_PER_S;
}

static bool is_of(const struct auth_source *s, const unsigned char *source)
{
    return memcmp(s->at, source ? source : nowhere, sizeof s->at) == 0;
}

uint32_t auth_failures(const struct auth *a, const unsigned char *source, uint64_t now_us)
{
    for (size_t i = 0; i < AUTH_SOURCES_MAX; i++)
        if (is_recent(&a->sources[i], now_us) && is_of(&a->sources[i], source))
            return a->sources[i].failures;
    return 0;
}

/* With all places taken by others the one that began first is forgotten. */
static enum auth_result count_failure(struct auth *a, const unsigned char *source, uint64_t now_us)
{
    struct auth_source *place = &a->sources[0];
    for (size_t i = 0; i < AUTH_SOURCES_MAX; i++) {
        struct auth_source *s = &a->sources[i];
        if (is_recent(s, now_us) && is_of(s, source)) {
            place = s;
            break;
        }
        bool is_free = !is_recent(s, now_us), was_free = !is_recent(place, now_us);
        if (is_free ? !was_free : !was_free && s->window_us < place->window_us)
            place = s;
    }
    if (!is_recent(place, now_us) || !is_of(place, source)) {
        *place = (struct auth_source){.window_us = now_us};
        memcpy(place->at, source ? source : nowhere, sizeof place->at);
    }
    if (place->failures >= AUTH_FAILURES_MAX)
        return AUTH_TOO_MANY;
    place->failures++;
    return AUTH_WRONG;
}

static bool is_ip_literal(struct span host)
{
    char text[64];
    unsigned char address[16];
    if (host.len == 0 || host.len >= sizeof text)
        return false;
    if (host.at[0] == '[' && host.at[host.len - 1] == ']') {
        host.at++;
        host.len -= 2;
    }
    memcpy(text, host.at, host.len);
    text[host.len] = '\0';
    return inet_pton(AF_INET, text, address) == 1 || inet_pton(AF_INET6, text, address) == 1;
}

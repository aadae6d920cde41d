/* SPDX-License-Identifier: Apache-2.0 */
#include "stream/connectors/letter_line.h"

#include "base/base64.h"
#include "base/json.h"

#include <inttypes.h>
#include <openssl/sha.h>
#include <stdio.h>

#define HEAD_BYTES (GCM_NONCE_BYTES + GCM_TAG_BYTES)

static bool skip(struct span *rest, struct span word)
{
    if (!span_starts(*rest, word))
        return false;
    *rest = (struct span){rest->at + word.len, rest->len - word.len};
    return true;
}

static bool take_u64(struct span *rest, uint64_t *value)
{
    size_t n = 0;
    while (n < rest->len && rest->at[n] >= '0' && rest->at[n] <= '9')
        n++;
    if (!span_to_u64((struct span){rest->at, n}, value))
        return false;
    *rest = (struct span){rest->at + n, rest->len - n};
    return true;
}

/* Behind the opening quote; up to behind the closing one. */
static bool skip_string(struct span *rest)
{
    size_t i = 0;
    while (i < rest->len && rest->at[i] != '"')
        i += rest->at[i] == '\\' ? 2 : 1;
    if (i >= rest->len)
        return false;
    *rest = (struct span){rest->at + i + 1, rest->len - i - 1};
    return true;
}

struct letter_look letter_line_look(struct span line)
{
    struct letter_look look = {0}, clear = {0};
    struct span rest = line;
    uint64_t key_id;
    if (!skip(&rest, SPAN("{\"time_ms\":")) || !take_u64(&rest, &look.time_ms))
        return look;
    clear.time_ms = look.time_ms;
    if (!skip(&rest, SPAN(",\"connector\":\"")) || !skip_string(&rest) ||
        !skip(&rest, SPAN(",\"key_id\":")) || !take_u64(&rest, &key_id) || key_id == 0 ||
        key_id > UINT32_MAX)
        return clear;
    look.key_id = (uint32_t)key_id;
    look.aad = (struct span){line.at, (size_t)(rest.at - line.at)};
    if (skip(&rest, SPAN(",\"sealed_base64\":\"")))
        look.sealed = rest;
    return look;
}

void letter_line_id(struct span line, char id[LETTER_ID_BYTES])
{
    unsigned char hash[SHA256_DIGEST_LENGTH];
    size_t len = line.len && line.at[line.len - 1] == '\n' ? line.len - 1 : line.len;
    SHA256((const unsigned char *)line.at, len, hash);
    for (size_t i = 0; i < LETTER_ID_BYTES / 2; i++)
        snprintf(id + 2 * i, 3, "%02x", hash[i]);
}

enum fb_code letter_line_seal(struct keyring *keys, const char *connector, uint64_t time_ms,
                              struct span clear, struct buf *out)
{
    unsigned char head[HEAD_BYTES];
    uint32_t key_id;
    struct json j;
    size_t begin = out->len;
    enum fb_code code = keyring_take(keys, clear.len, &key_id, head);
    if (code != FB_OK)
        return code;
    json_init(&j, out);
    json_object_begin(&j);
    json_key_u64(&j, "time_ms", time_ms);
    json_key_str(&j, "connector", connector);
    json_key_u64(&j, "key_id", key_id);
    struct buf sealed;
    buf_init(&sealed, HEAD_BYTES + clear.len);
    bool has_room = !out->failed && buf_reserve(&sealed, HEAD_BYTES + clear.len);
    if (has_room) {
        struct keyring_use use = {
            .key_id = key_id, .nonce = head, .aad = {out->at + begin, out->len - begin}};
        code = keyring_seal(keys, &use, clear, sealed.at + HEAD_BYTES, head + GCM_NONCE_BYTES);
        memcpy(sealed.at, head, HEAD_BYTES);
        sealed.len = HEAD_BYTES + clear.len;
    }
    if (has_room && code == FB_OK) {
        buf_puts(out, ",\"sealed_base64\":\"");
        base64_put(out, buf_span(&sealed));
        buf_puts(out, "\"}\n");
    }
    buf_fini(&sealed);
    if (code == FB_OK && (!has_room || out->failed))
        code = FB_E_NOMEM;
    return code;
}

enum fb_code letter_line_open(struct keyring *keys, const struct letter_look *look, struct buf *out)
{
    struct buf bytes;
    if (!keys)
        return FB_E_KEY;
    buf_init(&bytes, look->sealed.len + 1);
    size_t digits = base64_take(look->sealed, &bytes);
    enum fb_code code = FB_OK;
    if (bytes.failed || digits == look->sealed.len || bytes.len < HEAD_BYTES)
        code = bytes.failed ? FB_E_NOMEM : FB_E_DAMAGED; /* cut: the closing quote is missing */
    size_t len = code == FB_OK ? bytes.len - HEAD_BYTES : 0;
    if (code == FB_OK && !buf_reserve(out, len))
        code = FB_E_NOMEM;
    if (code == FB_OK) {
        const unsigned char *head = (const unsigned char *)bytes.at;
        struct keyring_use use = {.key_id = look->key_id, .nonce = head, .aad = look->aad};
        code = keyring_unseal(keys, &use, (struct span){bytes.at + HEAD_BYTES, len},
                              out->at + out->len, head + GCM_NONCE_BYTES);
    }
    if (code == FB_OK)
        out->len += len;
    buf_fini(&bytes);
    return code;
}

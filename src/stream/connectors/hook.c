/* SPDX-License-Identifier: Apache-2.0 */
#include "stream/connectors/hook.h"

#include "base/buf.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>

bool hook_sign(struct span key, uint64_t at_s, struct span body, char line[HOOK_SIGNATURE_BYTES])
{
    unsigned char mac[EVP_MAX_MD_SIZE];
    unsigned int mac_len = 0;
    struct buf text;
    buf_init(&text, body.len + 32);
    buf_printf(&text, "%llu.", (unsigned long long)at_s);
    buf_put_span(&text, body);
    bool is_good = !text.failed && HMAC(EVP_sha256(), key.at, (int)key.len,
                                        (const unsigned char *)text.at, text.len, mac, &mac_len);
    buf_fini(&text);
    int len = snprintf(line, HOOK_SIGNATURE_BYTES,
                       "Foldback-Signature: t=%llu,v1=", (unsigned long long)at_s);
    for (unsigned int i = 0; i < mac_len && i < 32; i++)
        len += snprintf(line + len, HOOK_SIGNATURE_BYTES - (size_t)len, "%02x", mac[i]);
    return is_good;
}

bool hook_key(struct span text, unsigned char *key, size_t cap, size_t *len)
{
    static const struct span prefix = {"whsec_", 6};
    unsigned char room[4096];
    if (!span_starts(text, prefix)) {
        memcpy(key, text.at, fb_min_u64(text.len, cap));
        *len = text.len;
        return text.len <= cap;
    }
    struct span packed = {text.at + prefix.len, text.len - prefix.len};
    size_t padding = 0;
    while (padding < 2 && packed.len > padding && packed.at[packed.len - 1 - padding] == '=')
        padding++;
    if (packed.len == 0 || packed.len % 4 != 0 || packed.len > sizeof room ||
        memchr(packed.at, '=', packed.len - padding))
        return false;
    int n = EVP_DecodeBlock(room, (const unsigned char *)packed.at, (int)packed.len);
    bool is_good = n > 0 && (size_t)n - padding <= cap;
    *len = is_good ? (size_t)n - padding : 0;
    memcpy(key, room, *len);
    OPENSSL_cleanse(room, sizeof room);
    return is_good;
}

bool hook_sign_standard(struct span key, const struct hook_message *m,
                        char line[HOOK_SIGNATURE_BYTES])
{
    unsigned char mac[EVP_MAX_MD_SIZE];
    char text_mac[2 * EVP_MAX_MD_SIZE];
    unsigned int mac_len = 0;
    struct buf text;
    buf_init(&text, m->id.len + m->body.len + 32);
    buf_put_span(&text, m->id);
    buf_printf(&text, ".%llu.", (unsigned long long)m->at_s);
    buf_put_span(&text, m->body);
    bool is_good = !text.failed && HMAC(EVP_sha256(), key.at, (int)key.len,
                                        (const unsigned char *)text.at, text.len, mac, &mac_len);
    buf_fini(&text);
    (void)EVP_EncodeBlock((unsigned char *)text_mac, mac, (int)mac_len);
    snprintf(line, HOOK_SIGNATURE_BYTES, "webhook-signature: v1,%.100s", text_mac);
    return is_good;
}

enum hook_answer hook_answer_of(long status)
{
    if (status >= 200 && status < 300)
        return HOOK_TAKEN;
    if ((status >= 300 && status < 400) || status == 401 || status == 403 || status == 404 ||
        status == 405 || status == 410)
        return HOOK_NEEDS_HAND;
    if (status == 408 || status == 425 || status == 429 || status >= 500 || status < 200)
        return HOOK_AGAIN;
    return status == 413 ? HOOK_TOO_LARGE : HOOK_REFUSED;
}

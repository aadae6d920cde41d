/* SPDX-License-Identifier: Apache-2.0 */
#include "io/digest.h"

#include <openssl/evp.h>
#include <string.h>

#define KEY_MAX_BYTES 64u

bool digest_websocket_accept(struct span key, char accept[DIGEST_ACCEPT_BYTES])
{
    static const char magic[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    unsigned char text[KEY_MAX_BYTES + sizeof magic], hash[EVP_MAX_MD_SIZE];
    unsigned char base64[DIGEST_ACCEPT_BYTES + 1];
    unsigned hash_bytes = 0;
    if (key.len == 0 || key.len > KEY_MAX_BYTES)
        return false;
    memcpy(text, key.at, key.len);
    memcpy(text + key.len, magic, sizeof magic - 1);
    if (EVP_Digest(text, key.len + sizeof magic - 1, hash, &hash_bytes, EVP_sha1(), NULL) != 1)
        return false;
    if (EVP_EncodeBlock(base64, hash, (int)hash_bytes) != DIGEST_ACCEPT_BYTES)
        return false;
    memcpy(accept, base64, DIGEST_ACCEPT_BYTES);
    return true;
}

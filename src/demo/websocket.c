/* SPDX-License-Identifier: Apache-2.0 */
#include "demo/websocket.h"

#include "base/assert.h"

#include <openssl/evp.h>
#include <string.h>

void ws_accept_key(struct span key, char out[WS_ACCEPT_BYTES])
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    unsigned char text[128], digest[EVP_MAX_MD_SIZE];
    unsigned int len = 0;
    if (key.len > sizeof text - sizeof guid)
        key.len = sizeof text - sizeof guid;
    memcpy(text, key.at, key.len);
    memcpy(text + key.len, guid, sizeof guid - 1);
    fb_assert(EVP_Digest(text, key.len + sizeof guid - 1, digest, &len, EVP_sha1(), NULL) == 1);
    EVP_EncodeBlock((unsigned char *)out, digest, (int)len); /* 28 characters and a terminator */
}

int ws_read(struct span in, char message[WS_MESSAGE_MAX], uint32_t *bytes)
{
    if (in.len < 2)
        return 0;
    unsigned char first = (unsigned char)in.at[0], second = (unsigned char)in.at[1];
    unsigned opcode = first & 0x0f, len = second & 0x7f;
    bool is_masked = (second & 0x80) != 0;
    if (!(first & 0x80) || (opcode != 1 && opcode != 2) || len > WS_MESSAGE_MAX)
        return -1;
    size_t head = is_masked ? 6 : 2;
    if (in.len < head + len)
        return 0;
    for (unsigned i = 0; i < len; i++)
        message[i] = is_masked ? (char)(in.at[head + i] ^ in.at[2 + (i & 3)]) : in.at[head + i];
    *bytes = len;
    return (int)(head + len);
}

size_t ws_write(char *out, struct span message, uint32_t mask)
{
    fb_assert(message.len <= WS_MESSAGE_MAX);
    size_t head = mask ? 6 : 2;
    out[0] = (char)0x81;
    out[1] = (char)(message.len | (mask ? 0x80 : 0));
    if (mask)
        memcpy(out + 2, &mask, 4);
    for (size_t i = 0; i < message.len; i++)
        out[head + i] = mask ? (char)(message.at[i] ^ out[2 + (i & 3)]) : message.at[i];
    return head + message.len;
}

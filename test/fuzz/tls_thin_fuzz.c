/* SPDX-License-Identifier: Apache-2.0 */
/* tls_thin_fuzz: bytes of a peer against a connection that gave up its SSL.
 *
 * The first two bytes say how large reads and writes are; then rows of (type, length, text), each
 * sealed with the connection's keys, or put on the wire as it is (type 0), until the input ends.
 * Asserted: what comes out is the text of data records in their order, and an end is one. */
#include "../unit/io/thin_peer.h"
#include "base/base.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define WIRE_BYTES 65536
enum { TYPE_HANDSHAKE = 22, TYPE_DATA = 23 };

static unsigned char wire[WIRE_BYTES], text[WIRE_BYTES];
static size_t wire_bytes, text_bytes;

static void put_rows(struct span in)
{
    struct thin_peer peer = {.secret = {1}};
    unsigned char inner[512];
    wire_bytes = text_bytes = 0;
    while (in.len >= 2 && wire_bytes + sizeof inner + PEER_MORE_BYTES < WIRE_BYTES) {
        int type = (unsigned char)in.at[0];
        size_t len = (unsigned char)in.at[1];
        in = (struct span){in.at + 2, in.len - 2};
        len = len < in.len ? len : in.len;
        if (len)
            memcpy(type ? inner : wire + wire_bytes, in.at, len);
        inner[len] = (unsigned char)type;
        if (type == TYPE_DATA) {
            memcpy(text + text_bytes, inner, len);
            text_bytes += len;
        }
        wire_bytes +=
            type ? thin_peer_seal(&peer, (struct span){(char *)inner, len + 1}, wire + wire_bytes)
                 : len;
        if (type == TYPE_HANDSHAKE && len == 5 && memcmp(inner, "\x18\0\0\1", 4) == 0)
            thin_peer_update(&peer);
        in = (struct span){in.at + len, in.len - len};
    }
}

static void run(struct tls_thin *t, const int *fd, size_t cut, size_t room)
{
    EVP_CIPHER_CTX *aead = EVP_CIPHER_CTX_new();
    unsigned char got[256];
    size_t sent = 0, seen = 0;
    enum thin_step is = THIN_WAIT;
    while (is == THIN_GOT || (is == THIN_WAIT && sent < wire_bytes)) {
        bool is_drained = false;
        struct thin_read r = {.aead = aead,
                              .at = got,
                              .room = room,
                              .fd = fd[1],
                              .is_drained = &is_drained,
                              .is_peek = (seen ^ sent) % 7 == 0};
        if (is == THIN_WAIT) {
            size_t part = wire_bytes - sent < cut ? wire_bytes - sent : cut;
            ssize_t n = send(fd[0], wire + sent, part, MSG_NOSIGNAL);
            fb_assert(n > 0);
            sent += (size_t)n;
        }
        is = tls_thin_read(t, &r);
        if (is == THIN_GOT && r.is_peek) {
            r.is_peek = false;
            is = tls_thin_read(t, &r);
            fb_assert(is == THIN_GOT);
        }
        if (is != THIN_GOT)
            continue;
        fb_assert(r.got > 0);
        fb_assert(r.got <= room);
        fb_assert(seen + r.got <= text_bytes);
        fb_assert(memcmp(text + seen, got, r.got) == 0);
        seen += r.got;
    }
    fb_assert(is == THIN_ENDED || is == THIN_FAILED || sent == wire_bytes);
    unsigned char out[128];
    fb_assert(tls_thin_write(t, aead, SPAN("answer"), out) >= 6 + PEER_MORE_BYTES);
    EVP_CIPHER_CTX_free(aead);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct tls_secrets secrets = {.client = {1}, .server = {2}};
    int fd[2];
    if (size < 2)
        return 0;
    put_rows((struct span){(const char *)data + 2, size - 2});
    struct tls_thin *t = tls_thin_of(0x1301, &secrets);
    int failed = socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd);
    fb_assert(t != NULL);
    fb_assert(failed == 0);
    run(t, fd, data[0] + 1u, data[1] + 1u);
    tls_thin_free(t);
    close(fd[0]);
    close(fd[1]);
    return 0;
}

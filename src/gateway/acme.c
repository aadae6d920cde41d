/* SPDX-License-Identifier: Apache-2.0 */
/* acme: answers to the question of a certificate authority whether we are who we say (RFC 8555
 * section 8.3); the ACME client writes them as files, one per token. */
#include "gateway/gateway_int.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define PREFIX "/.well-known/acme-challenge/"
#define TOKEN_BYTES_MAX 128

static bool is_token(struct span s)
{
    for (size_t i = 0; i < s.len; i++) {
        char ch = s.at[i];
        if (!(ch >= 'a' && ch <= 'z') && !(ch >= 'A' && ch <= 'Z') && !(ch >= '0' && ch <= '9') &&
            ch != '-' && ch != '_')
            return false;
    }
    return s.len > 0 && s.len <= TOKEN_BYTES_MAX;
}

bool acme_find(struct request *req, struct span path)
{
    struct worker *w = req->worker;
    const char *dir = req->gen->conf->p.tls_acme_dir;
    const struct span prefix = SPAN(PREFIX);
    if (!dir[0] || path.len <= prefix.len || memcmp(path.at, prefix.at, prefix.len) != 0)
        return false;
    struct span token = {path.at + prefix.len, path.len - prefix.len};
    if (!is_token(token) || (req->method != HTTP1_GET && req->method != HTTP1_HEAD))
        return false;
    char name[TOKEN_BYTES_MAX + 1];
    memcpy(name, token.at, token.len);
    name[token.len] = '\0';
    int at = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int fd = at < 0 ? -1 : openat(at, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    struct stat st;
    ssize_t n = -1;
    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0 &&
        st.st_size < (off_t)sizeof w->challenge)
        n = read(fd, w->challenge, sizeof w->challenge);
    if (fd >= 0)
        close(fd);
    if (at >= 0)
        close(at);
    w->challenge_bytes = n > 0 ? (uint32_t)n : 0;
    return n > 0;
}

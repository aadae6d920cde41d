/* SPDX-License-Identifier: Apache-2.0 */
/* socket: listening, connecting and accepting, always non-blocking and close-on-exec; addresses as
 * text.
 *
 * Threads: any.  Errors: IO, PORT_IN_USE, USAGE; the sentence names the address and the next step.
 */
#ifndef FB_IO_SOCKET_H
#define FB_IO_SOCKET_H
#include "base/error.h"
#include "base/span.h"

#include <netinet/in.h>
#include <sys/socket.h>

/* It stands in each connection, so a Unix socket is the number of its path here and not the path.
 */
struct sock_addr {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
        struct {
            sa_family_t family;
            uint32_t path; /* socket_path.h; 0: a socket without a name, as those of clients are */
        } un;              /* AF_UNIX */
    };
    socklen_t bytes; /* 0: none */
};

/* "unix:" with its path and its end; "[ffff:...]:65535%scope" is shorter. */
#define SOCK_TEXT_BYTES 116
#define SOCK_BACKLOG 4096

/* "127.0.0.1:80", "[::1]:80"; ":80" and "*:80" mean all addresses; no names.  Port 0 is legal. */
FB_MUST_USE
enum fb_code sock_parse(struct span text, struct sock_addr *out, struct fb_err *err);
/* Address (no port, no brackets) and port. */
FB_MUST_USE
bool sock_parse_host(struct span host, uint16_t port, struct sock_addr *out);
/* What an endpoint of the configuration is: <host> is an address, or "unix:/run/app.sock" or
 * "unix:@name" without a port.  Never for what a client says: each new path stays in memory. */
FB_MUST_USE
bool sock_parse_endpoint(struct span host, uint16_t port, struct sock_addr *out);
static inline bool sock_is_unix(const struct sock_addr *a)
{
    return a->any.sa_family == AF_UNIX;
}
/* "127.0.0.1:80", "[::1]:80", "unix:/run/app.sock"; IPv4 in IPv6 is written as IPv4. */
void sock_format(const struct sock_addr *a, char text[SOCK_TEXT_BYTES]);
/* The same without port, not terminated, for each request: returns how many bytes, at most
 * SOCK_HOST_BYTES.  "unix" of a Unix socket, whatever its path. */
#define SOCK_HOST_BYTES 46
size_t sock_host_text(const struct sock_addr *a, char text[SOCK_HOST_BYTES]);
/* The address alone, without port and brackets; "unix:" and its path. */
void sock_format_host(const struct sock_addr *a, char text[SOCK_TEXT_BYTES]);
uint16_t sock_port(const struct sock_addr *a); /* 0: a Unix socket */
bool sock_eq(const struct sock_addr *a, const struct sock_addr *b);

/* "unix:" and "fd:" have one socket, which all threads share. */
bool sock_is_shared(const char *address);
/* Whether somebody listens at a Unix socket: 0 or EAGAIN yes, else why not. */
int sock_try_unix(const char *address);
/* The file of a socket that is shut for good; of other addresses nothing, and not a file where
 * somebody else listens by now. */
void sock_remove_file(const char *address);
/* Listening sockets on one address.  With <count> above 1 they share the port (SO_REUSEPORT) and
 * the kernel spreads connections over them.  "fd:N": an inherited listening socket (the first is N
 * itself, the others are dup's).  "unix:/PATH": one socket with mode 0660 and its dup's; the file
 * that a process left behind is replaced.  Port 0: all get the same free port.  PORT_IN_USE also
 * when another foldback of the same user listens there.  On an error nothing stays open. */
FB_MUST_USE
enum fb_code sock_listen(const char *address, int *fds, size_t count, struct fb_err *err);
/* The same where sockets of our own have the port for other addresses, and share it (below). */
FB_MUST_USE
enum fb_code sock_listen_beside(const char *address, int *fds, size_t count, struct fb_err *err);
void sock_share_port(int fd, bool is_on);
/* Where a socket is bound. */
bool sock_local(int fd, struct sock_addr *out);

/* Begins a connection with TCP_NODELAY: 0 or EINPROGRESS with *fd set (then wait for LOOP_WRITE and
 * ask sock_error), else errno with *fd = -1.  A Unix socket is connected at once or not at all:
 * ENOENT, EACCES, ECONNREFUSED (nobody listens), EAGAIN (as many wait there as may). */
FB_MUST_USE
int sock_connect(const struct sock_addr *to, int *fd);
/* What has come is acknowledged at once, once, not up to 40 ms later.  Nothing on a Unix socket. */
void sock_ack_now(int fd);
/* The pending error of a socket, 0 when none. */
int sock_error(int fd);
/* The next connection with TCP_NODELAY, or -1 with errno. */
int sock_accept(int listener, struct sock_addr *peer);
#endif

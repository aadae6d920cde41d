/* SPDX-License-Identifier: Apache-2.0 */
/* dns: names that are looked up again and again, so that services follow them.
 *
 * A watch is a name with a port.  One background thread asks for A and AAAA, waits for the shorter
 * TTL (1 s .. 5 min) and asks again; it never stops asking.  A change is queued and dns_fd becomes
 * readable; dns_poll hands the changes over in the caller's thread.
 *
 *   dns_watch --> first answer: ADDED all --> later answers: ADDED / REMOVED --> dns_unwatch
 *
 * Holds always: a failure (no answer, SERVFAIL, an empty answer) removes nothing: the last good
 * answer stays and the failure is reported once.  Numbers ("10.0.0.1") resolve at once, without a
 * server. Threads: dns_new, dns_watch, dns_unwatch, dns_poll, dns_free: one owner (the gateway's
 * first thread). Errors: NOMEM, IO at dns_new; everything later is a change with is_failed. */
#ifndef FB_IO_DNS_H
#define FB_IO_DNS_H
#include "base/error.h"
#include "io/srv.h"

#include <netinet/in.h>
#include <sys/socket.h>

#define DNS_ADDRESSES_MAX 64 /* per name; more are ignored, counted in .ignored */
#define DNS_TTL_MIN_MS 1000
#define DNS_TTL_MAX_MS (5 * 60 * 1000)
#define DNS_FAIL_RETRY_MS 5000 /* after a failure; the first ones come sooner: 0.5, 1, 2, 4 s */

struct dns;

struct dns_conf {
    const char *servers_csv; /* "127.0.0.1:5353,[::1]:5353"; NULL: those of the system */
    uint32_t timeout_ms;     /* of one try; 0: 2000 */
    uint32_t tries;          /* 0: 3 */
    uint32_t ttl_min_ms;     /* 0: DNS_TTL_MIN_MS; for tests */
};

union dns_address { /* with the port of the watch */
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

struct dns_change {
    uint32_t watch;
    const char *host;
    const union dns_address *added, *removed,
        *now; /* borrowed for the callback; <now>: all that count */
    uint32_t added_count, removed_count, now_count;
    const struct srv *srv; /* of dns_watch_srv: all that count; then there are no addresses */
    uint32_t srv_count;
    uint32_t ttl_ms; /* until it is asked again */
    uint32_t ignored;
    bool is_failed;         /* nothing was added or removed */
    const char *why_failed; /* "" otherwise */
};
typedef void dns_change_fn(void *arg, const struct dns_change *change);

FB_MUST_USE
enum fb_code dns_new(const struct dns_conf *conf, struct dns **out, struct fb_err *err);
void dns_free(struct dns *d);    /* ends the thread; NULL is fine */
int dns_fd(const struct dns *d); /* readable while changes wait */
/* A number for this watch, never 0 and never used twice; 0 without memory. */
uint32_t dns_watch(struct dns *d, const char *host, uint16_t port);
/* The same for SRV records of a name such as _http._tcp.example.org. */
uint32_t dns_watch_srv(struct dns *d, const char *name);
void dns_unwatch(struct dns *d, uint32_t watch);
/* Calls <fn> for each change that waits; returns how many.  <fn> may watch and unwatch. */
size_t dns_poll(struct dns *d, dns_change_fn *fn, void *arg);
/* Length of the address for connect(2). */
static inline socklen_t dns_address_bytes(const union dns_address *a)
{
    return a->any.sa_family == AF_INET6 ? sizeof a->v6 : sizeof a->v4;
}
#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* listen_int: the listeners of one worker, and how a reload changes them (listen.c).
 *
 * The supervisor opens sockets, for it has the rights, and sends those that are new before the file
 * that names them; one that stays is the same socket, so that no connection on its way meets a
 * closed one.  A listener that the new file does not have is closed at once, and its connections
 * end as at a drain of the gateway:
 *
 *   live --leaves the file--> gone --drain_timeout--> last call --0.5 s--> cut --last client-->
 * freed
 *
 * Included by gateway_int.h.  Threads: a listener belongs to its worker, a plan to thread 0 until
 * the workers have taken theirs out of it. */
#ifndef FB_GATEWAY_LISTEN_INT_H
#define FB_GATEWAY_LISTEN_INT_H
#include "gateway/gateway.h"
#include "io/loop.h"

/* While draining, kept connections that are quiet get this long to send one more request, which is
 * answered with Connection: close; so nobody meets a closed connection on the way. */
#define DRAIN_QUIET_US (1 * US_PER_S)
/* After the drain's time what was never sent is refused; what is in flight has this long to end.
 * The supervisor waits 2 s longer than the drain. */
#define LAST_CALL_US (500 * US_PER_MS)

struct control_fds;
struct gw;
struct worker;
struct generation;
struct client;
struct request;

struct listener {
    struct loop_handle handle;
    struct worker *worker;
    struct listener *next;          /* of those that are gone */
    struct tls_server *tls;         /* referenced; NULL: it speaks without TLS */
    const struct conf_listen *conf; /* of the newest file that has it */
    struct conf *file;              /* that <conf> is a part of; referenced */
    struct service *service;        /* tcp: where connections go; NULL: it is gone */
    uint64_t gone_us, last_call_us;
    uint32_t clients; /* connections that came in here */
    int fd;           /* -1: closed */
    bool is_gone;     /* not in the newest file */
};

/* Where the listeners of a generation come from. */
struct listen_plan {
    size_t count;
    int16_t from[MEMFILE_LISTENS_MAX]; /* which one of the generation before; -1: it is new */
    struct listener *fresh[]; /* [thread * count + i] of the new ones, until the worker has it */
};

/* The sockets of a CONTROL_LISTEN; they wait for the file. */
void listen_offer(struct gw *gw, uint16_t index, const struct control_fds *fds);
void listen_offers_drop(struct gw *gw); /* what no file took is closed */
/* Errors: NOMEM, CONFIG (an address without sockets). */
FB_MUST_USE
enum fb_code listen_plan_new(struct gw *gw, struct generation *gen, struct fb_err *err);
void listen_plan_free(struct generation *gen, uint32_t threads);
void listen_switch(struct worker *w, struct generation *gen); /* as its worker did */
void listen_accept(struct worker *w, bool is_on);
void listen_pause_over(struct loop_timer *t);
void listen_close(struct worker *w);                  /* the whole gateway drains */
void listen_leave(struct worker *w, uint64_t now_us); /* each 100 ms: those that are gone */
void listen_fini(struct worker *w);
void listener_joined(struct client *c); /* it came in there */
void listener_left(struct client *c);   /* it is closed; with the last one what is gone is freed */
/* Its connection takes no further request. */
bool client_is_leaving(const struct client *c);
bool request_is_leaving(const struct request *req);
#endif

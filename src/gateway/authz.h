/* SPDX-License-Identifier: Apache-2.0 */
/* authz: who may ask on a route with `auth`: asked after the limits of the route, before the cache
 * and before any endpoint.
 *
 *   authz_ask --let in--> request.c goes on with the head that authz_ask gave it
 *        |  \--refused--> the reason of the answer
 *        \--not known yet--> REQUEST_GUARDED --told--> request_let_in | forward_refuse
 *
 * What a guarded request needs later is one chunk: its head, copied, for the scratch memory that it
 * was parsed in belongs to others meanwhile.  Its body is held back by what body.c has room for.
 * Threads: the worker of the request, but where it says otherwise. */
#ifndef FB_GATEWAY_AUTHZ_H
#define FB_GATEWAY_AUTHZ_H
#include "gateway/gateway_int.h"
#include "io/htpasswd.h"
#include "io/mac.h"
#include "proto/basic.h"

struct authz;       /* of the process: the memory and the threads of passwords */
struct authz_users; /* one file, as one generation names it */

struct authz_question; /* authz_question.h */
struct authz_work {    /* of one request, in a chunk of its own */
    struct chunk *chunk;
    bool is_question; /* of a request of our own that asks for another; nothing else is set */
    struct http1_head head;
    uint64_t until_us;               /* then it is over without a verdict; UINT64_MAX: never */
    struct span user;                /* as the client says */
    struct authz_wait *wait;         /* NULL: it waits for no password */
    struct authz_question *question; /* NULL: nobody is asked */
};

/* ---- authz.c: for request.c and its kin ---- */
/* 0: let in, *head is what goes on; or not known yet, then the phase is REQUEST_GUARDED.  Else the
 * reason of the refusal.  <target>: in normal form. */
uint16_t authz_ask(struct request *req, struct http1_head **head, struct span target);
/* The head of a request that was guarded. */
struct http1_head *authz_head(struct request *req);
void authz_verdict(struct request *req, uint16_t reason); /* 0: let in; runs its client */
void authz_late(struct request *req);                     /* until_us has come */
void authz_end(struct request *req);                      /* with the request */
/* WWW-Authenticate of a 401. */
void authz_put_challenge(const struct request *req, struct http1_out *out);

/* Of the fields behind the body of a request: who is named there is not who the client says. */
void authz_clean_trailers(const struct request *req, struct http1_trailers *trailers);
/* X-User and x_user: programs behind a gateway interface cannot tell them apart. */
bool authz_is_taken_for(struct span a, struct span b);

/* ---- authz_question.c: of requests of our own, which may be no question ---- */
void authz_hear(struct request *asking, const struct http1_head *head); /* its final head */
void authz_feed(struct request *asking, struct span payload);
void authz_answered(struct request *asking); /* it ends */
bool authz_is_wanted(const struct request *asking);
/* Whom the guarded request, or the question about one, is for; NULL: he left. */
struct client *authz_asker(const struct request *req);
void authz_say(struct request *req); /* a refused client gets the answer of who was asked */

/* ---- authz_users.c: files; first thread ---- */
FB_MUST_USE
enum fb_code authz_load(struct gw *gw, struct generation *gen, struct fb_err *err);
void authz_unload(struct generation *gen);
void authz_tick(struct gw *gw, uint64_t now_us); /* each 100 ms */

/* ---- authz_pool.c: the memory of passwords, and the threads that compute them ---- */
struct authz *authz_new(struct gw *gw); /* NULL without memory or randomness */
void authz_stop(struct authz *a);       /* no worker runs any more, none is freed; NULL is fine */
void authz_free(struct authz *a);       /* stopped, and no request is left; NULL is fine */

enum authz_memory { AUTHZ_UNKNOWN, AUTHZ_RIGHT, AUTHZ_WRONG };
/* False: the library cannot. */
bool authz_tag(struct worker *w, uint64_t version, const struct basic *said,
               unsigned char tag[MAC_BYTES]);
enum authz_memory authz_recall(struct authz *a, const unsigned char tag[MAC_BYTES],
                               uint64_t remember_us);

struct authz_wait { /* of a request for its verdict; of the pool */
    struct loop_message message;
    struct authz *authz;
    struct loop *loop;
    struct request *req; /* NULL: it is over; its worker's */
    struct authz_wait *next;
    struct job *job; /* under the pool's lock; NULL: it is told */
    enum htpasswd_verdict verdict;
};
struct authz_job { /* what is to be computed */
    const unsigned char *tag;
    const char *hash, *password;
    uint64_t client_key; /* who has to wait when it asks for much */
    bool is_known;       /* there is such a user */
};
/* The wait, whose message comes exactly once; NULL: too much is waiting. */
struct authz_wait *authz_submit(struct request *req, const struct authz_job *job,
                                void (*on_told)(struct loop_message *m));
uint32_t authz_waiting(struct authz *a);       /* passwords that wait or are computed */
void authz_wait_give(struct authz_wait *wait); /* it was told */
/* Nobody waits any more: no message comes, or one with its req at NULL. */
void authz_wait_leave(struct authz_wait *wait);
#endif

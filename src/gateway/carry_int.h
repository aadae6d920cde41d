/* SPDX-License-Identifier: Apache-2.0 */
/* carry_int: the second part of gateway_int.h: what carries requests besides HTTP/1 on a plain
 * connection: tunnels, PROXY headers, passed connections, HTTP/2 towards endpoints; and certificate
 * files.  Included by it only. */
#ifndef FB_GATEWAY_CARRY_INT_H
#define FB_GATEWAY_CARRY_INT_H

/* ---- tunnel.c: bytes that are not ours to understand, both ways ---- */
/* A client and an endpoint that are both fast would keep the thread to themselves: so many reads of
 * an answer, or of one direction of a tunnel, are one turn's. */
#define READS_PER_TURN 4
void tunnel_begin(struct request *req);
void tunnel_run(struct request *req);

/* ---- tcp.c: connections that are passed through ---- */
bool tcp_begin(struct client *c); /* a step of the client: false when it is gone */
void tcp_connected(struct request *req);
struct tcp_moved {
    size_t bytes;     /* that <to> has taken */
    struct span rest; /* read and not taken, in the worker's scratch memory */
    bool is_broken;   /* <to> is */
};
bool tcp_splice_fits(const struct request *req, const struct link *from, const struct link *to);
/* WAITS: there is nothing now; REFUSED: read it the ordinary way. */
enum splice_step tcp_splice(struct worker *w, int from, int to, struct tcp_moved *moved);
void tcp_refuse(struct request *req, uint16_t reason);

/* ---- proxied.c: PROXY protocol headers, of load balancers and to endpoints ---- */
bool proxied_is_trusted(const struct conf_listen *conf, const struct sock_addr *peer);
bool proxied_is_proxy(const struct client *c); /* what it says of others is believed */
/* True: the header was there and the client's own bytes follow; false: <c> waits or is gone. */
bool proxied_read(struct client *c);
void proxied_late(struct client *c); /* it did not come in time; frees <c> */
/* Requests with the same key may share a connection; 0: no header is sent. */
uint64_t proxied_key(const struct request *req, const struct conf_service *conf);
FB_MUST_USE
bool proxied_write(int fd, struct request *req, uint8_t version); /* false: of no use */
size_t proxied_local(uint8_t version, char *out, size_t room);    /* for our own checks */

/* ---- h2_upstream.c: HTTP/2 towards endpoints; as the calls of upstream.c ---- */
bool h2u_is_for(const struct request *req); /* this attempt speaks HTTP/2 */
void h2u_start(struct request *req);
void h2u_run(struct upstream *up);
void h2u_send(struct upstream *up);
void h2u_close(struct upstream *up);
void h2u_expire(struct worker *w);
void h2u_fini(struct worker *w);

/* ---- upstream.c ---- */
/* An attempt that began otherwise goes on with HTTP/1.  <ready> (may be NULL): a connection whose
 * handshake is over; it belongs to the callee. */
void upstream_start_http1(struct request *req, const struct link *ready);

/* ---- h2_tunnel.c: WebSocket on a stream of an endpoint (RFC 8441) ---- */
/* What of the endpoint's bytes the client takes now.  False: both sides ended, or it is broken. */
bool h2u_tunnel_read(struct request *req);
bool h2u_tunnel_end(struct request *req); /* the client sends nothing more; false: nobody does */

/* ---- probe_h2.c: what a health check says in HTTP/2 ---- */
struct probe_h2;
struct probe_h2 *probe_h2_new(struct link *link); /* after its handshake; NULL without memory */
void probe_h2_free(struct probe_h2 *p);           /* NULL is fine */
/* <call>: the body of a call of grpc.health.v1, until the answer is there; {NULL, 0}: a GET. */
bool probe_h2_ask(struct probe_h2 *p, struct span head, struct span call);
/* Reads what there is; *status 0: not yet.  False: there will be none. */
bool probe_h2_take(struct probe_h2 *p, uint16_t *status);

/* ---- body.c ---- */
/* What is kept of the body, unsent, gets chunk framing or loses it; false without memory. */
bool body_frame(struct request *req, bool is_raw);

/* ---- orca.c: load reports of answers; they go no further ---- */
void orca_head(const struct request *req, const struct http1_head *head);
void orca_trailers(const struct request *req, struct http1_trailers *trailers);

/* ---- trailers.c ---- */
struct trailer_room *trailers_take(struct worker *w);            /* empty; NULL without memory */
void trailers_give(struct worker *w, struct trailer_room *room); /* NULL is fine */
/* Copies those that may be forwarded into the empty <room>; false without memory. */
bool trailers_keep(struct worker *w, struct trailer_room *room, const struct http1_field *fields,
                   uint32_t count);
size_t trailers_text_bytes(const struct http1_trailers *t); /* as lines */

/* ---- leave.c: what is left of a request whose client has left ---- */
bool leave_holds(const struct request *req); /* limiter, a cap or its connection count it */
/* <bytes> of the answer came for nobody.  False: <req> has no endpoint any more, or is gone. */
bool leave_reads_on(struct request *req, size_t bytes);
/* Nobody wants the answer, and nothing of it came since: its endpoint works. */
bool leave_is_work(const struct request *req);
void leave_tell(struct request *req);             /* the endpoint learns it; <req> may be gone */
uint64_t leave_due_us(const struct request *req); /* of REQUEST_LEFT */
void leave_due(struct request *req);
void leave_release(struct request *req); /* the limiter does not count it any more */
void leave_learn(struct upstream *up, const struct request *req); /* a whole answer was read */
void leave_drain(struct worker *w);
/* As what an answer counts that nobody wanted. */
enum gate_outcome relay_outcome_for_nobody(const struct request *req);

/* ---- acme.c ---- */
/* A file answers <path>: it lies in worker.challenge. */
bool acme_find(struct request *req, struct span path);

/* ---- tls_files.c ---- */
FB_MUST_USE
enum fb_code tls_files_load(struct gw *gw, struct generation *gen, struct fb_err *err);
void tls_files_free(struct generation *gen);
void tls_files_tick(struct gw *gw, uint64_t now_us); /* thread 0, each 100 ms */
void tls_files_fini(struct gw *gw);
void tls_files_good(struct gw *gw); /* nothing is refused, as far as is known */
#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* blame: which setting of a service its endpoint does not fit.
 *
 * An endpoint that answers nothing useful often says what is wrong all the same: with an alert of
 * TLS, or in another protocol than the service has.  Who reads the reason knows what to change.
 * Threads: those of the connection. */
#ifndef FB_GATEWAY_BLAME_H
#define FB_GATEWAY_BLAME_H
#include "gateway/gateway_int.h"

struct h2u_conn;

uint16_t blame_handshake(const struct request *req, const struct tls_conn *tls);
/* A new connection ended, or <seen> came, instead of an answer; REASON_NONE: nothing tells why. */
uint16_t blame_end(struct link *link, struct span seen, bool is_h2);
/* The same of a connection of HTTP/2, before anything else of its end: into conn->blame. */
void blame_h2(struct h2u_conn *conn, struct span seen);
void blame_h2_unheard(struct h2u_conn *conn); /* it takes nothing more, but may have spoken */
/* The reason of a connection that could not be made, for this errno; of a Unix socket it is logged
 * what is wrong, because the reason alone does not tell a missing file from one without a listener.
 */
uint16_t blame_connect(struct worker *w, const struct endpoint *ep, int why);
void blame_say(struct worker *w, const struct endpoint *ep, const struct link *link,
               uint16_t reason);
#endif

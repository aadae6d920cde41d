/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/blame.h"

#include "base/clock.h"
#include "gateway/h2_upstream.h"
#include "io/socket_path.h"
#include "io/tls.h"

/* A wrong setting fails at each try: one line per worker and this time says enough. */
#define SAY_GAP_US (5 * US_PER_S)
/* RFC 8446 section 6.2. */
#define ALERT_NO_APPLICATION_PROTOCOL 120

static bool is_alert(struct span seen);
static bool is_settings(struct span seen);
static bool may_say(struct worker *w);

uint16_t blame_handshake(const struct request *req, const struct tls_conn *tls)
{
    enum tls_fault fault = tls_fault_of(tls);
    if (fault == TLS_FAULT_CERT)
        return REASON_UPSTREAM_CERT;
    if (tls_is_cert_refused(tls))
        return REASON_UPSTREAM_CERT_REFUSED;
    if (fault == TLS_FAULT_NOT_TLS)
        return REASON_UPSTREAM_NOT_TLS;
    if (tls_alert(tls) == ALERT_NO_APPLICATION_PROTOCOL &&
        request_conf(req)->protocol == CONF_PROTOCOL_H2)
        return REASON_UPSTREAM_NOT_HTTP2;
    return REASON_UPSTREAM_TLS;
}

uint16_t blame_end(struct link *link, struct span seen, bool is_h2)
{
    if (link->tls) {
        tls_last_word(link->tls);
        if (tls_is_cert_refused(link->tls))
            return REASON_UPSTREAM_CERT_REFUSED;
    } else if (is_alert(seen)) {
        return REASON_UPSTREAM_WANTS_TLS;
    }
    if (is_h2 && span_starts(seen, SPAN("HTTP/1")))
        return REASON_UPSTREAM_NOT_HTTP2;
    return !is_h2 && is_settings(seen) ? REASON_UPSTREAM_WANTS_HTTP2 : REASON_NONE;
}

void blame_h2(struct h2u_conn *conn, struct span seen)
{
    const struct pool *pool = &conn->ep->pools[conn->worker->index];
    if (h2_client_is_settled(conn->session))
        return; /* it speaks HTTP/2 */
    conn->blame = blame_end(&conn->link, seen, true);
    conn->is_blame_sure = conn->blame != REASON_NONE;
    if (!conn->blame && !seen.len && !conn->link.tls && pool->h2_streams_max == 0)
        conn->blame = REASON_UPSTREAM_NOT_HTTP2; /* no word of it now, nor ever before */
    if (conn->blame)
        blame_say(conn->worker, conn->ep, &conn->link, conn->blame);
}

void blame_h2_unheard(struct h2u_conn *conn)
{
    struct worker *w = conn->worker;
    ssize_t n = 0;
    if (!h2_client_is_settled(conn->session) && !conn->link.tls)
        n = link_recv(&conn->link, w->in, w->in_bytes);
    blame_h2(conn, (struct span){w->in, n > 0 ? (size_t)n : 0});
}

uint16_t blame_connect(struct worker *w, const struct endpoint *ep, int why)
{
    if (sock_is_unix(&ep->addr) && may_say(w))
        fb_log(FB_LOG_WARN, "service %s: no connection to %s: %s", ep->sv->name, ep->text,
               socket_path_why(why));
    return upstream_reason_of(why);
}

static bool may_say(struct worker *w)
{
    uint64_t now_us = loop_now_us(w->loop);
    if (w->blame_said_us && now_us - w->blame_said_us < SAY_GAP_US)
        return false;
    w->blame_said_us = now_us;
    return true;
}

void blame_say(struct worker *w, const struct endpoint *ep, const struct link *link,
               uint16_t reason)
{
    if (!may_say(w))
        return;
    enum tls_fault fault = link->tls ? tls_fault_of(link->tls) : TLS_FAULT_NONE;
    if (fault != TLS_FAULT_NONE)
        fb_log(FB_LOG_WARN, "service %s: TLS with %s (%s) failed: %s: %s", ep->sv->name, ep->text,
               ep->host, tls_fault_name(fault), tls_fault_text(link->tls));
    else
        fb_log(FB_LOG_WARN, "service %s, endpoint %s: %s", ep->sv->name, ep->text,
               ev_reason_row(reason)->sentence);
}

/* A record of TLS whose content is an alert. */
static bool is_alert(struct span seen)
{
    return span_starts(seen, SPAN("\x15\x03"));
}

/* The frame with which a connection of HTTP/2 begins (RFC 9113 section 3.4): it belongs to no
 * stream, acknowledges nothing, and has less than 64 KiB. */
static bool is_settings(struct span seen)
{
    static const char settings[] = {0, 0, 0, 4, 0, 0, 0, 0, 0};
    return seen.len >= sizeof settings && seen.at[0] == 0 &&
           memcmp(seen.at + 3, settings + 3, sizeof settings - 3) == 0;
}

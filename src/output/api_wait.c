/* SPDX-License-Identifier: Apache-2.0 */
/* Answers that wait for something: a word of the gateway, or an event that is on its way.
 *
 * The connection is in WAIT meanwhile; the brain's loop goes on. */
#include "output/admin_int.h"

/* The gateway answers in some 20 ms; one that died is back within 200 ms and says nothing.  The
 * command line waits 5 s. */
#define TOLD_US (4 * US_PER_S)
/* A request's event is with the brain 18 ms after its answer, on a busy machine later. */
#define EVENT_US (1 * US_PER_S)

void api_wait_told(struct api_call *c, uint32_t ticket, api_told_fn *on_told)
{
    if (!ticket) {
        on_told(c, NULL);
        return;
    }
    c->conn->ticket = ticket;
    c->conn->on_told = on_told;
    c->conn->waits_for = CONN_WAIT_TOLD;
    c->conn->wait_until_us = c->admin->now_us + TOLD_US;
}

void admin_on_told(struct admin *a, uint32_t ticket, uint32_t value)
{
    a->told_ticket = ticket;
    a->told = value;
    for (size_t i = 0; ticket && i < ADMIN_CONNS_MAX; i++)
        if (a->conn[i] && a->conn[i]->waits_for == CONN_WAIT_TOLD && a->conn[i]->ticket == ticket)
            conn_on_answer(a->conn[i]);
    a->told_ticket = 0;
}

bool api_told_answer(struct api_call *c)
{
    const struct admin *a = c->admin;
    bool is_told = a->told_ticket && a->told_ticket == c->conn->ticket;
    if (!is_told && a->now_us < c->conn->wait_until_us)
        return false;
    uint32_t told = a->told;
    c->conn->waits_for = CONN_WAIT_NONE;
    c->conn->on_told(c, is_told ? &told : NULL);
    return true;
}

bool api_wait_event(struct api_call *c)
{
    struct conn *conn = c->conn;
    if (conn->waits_for == CONN_WAIT_EVENT)
        return c->admin->now_us < conn->wait_until_us;
    conn->waits_for = CONN_WAIT_EVENT;
    conn->wait_until_us = c->admin->now_us + EVENT_US;
    return true;
}

bool api_event_answer(struct api_call *c)
{
    if (!api_why(c))
        return false;
    c->conn->waits_for = CONN_WAIT_NONE;
    return true;
}

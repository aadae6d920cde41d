/* SPDX-License-Identifier: Apache-2.0 */
/* authz_question: a request of our own that asks another service whether a client may ask here.
 *
 *   subject (GUARDED) --question--> a GET to auth.request.service, in its queue, limit and pool
 *      2xx: at its head the subject goes on, with the named fields of that answer
 *      401, 403 (redirects, where configured): the subject's client gets that answer
 *      5xx, nothing in time, no room: refused, or let in where `on_failure: allow`
 *      anything else: refused
 *
 * Either may end first.  The question is freed by whoever ends last; until the answer is there the
 * place of the subject's stream is the question's, and what its client holds of `concurrency`, so
 * that a client that leaves cannot have more of them asked than it may have in hand.
 * Threads: the worker's. */
#ifndef FB_GATEWAY_AUTHZ_QUESTION_H
#define FB_GATEWAY_AUTHZ_QUESTION_H
#include "gateway/authz.h"

struct authz_question {
    struct authz_work work;           /* first: the `guard` of the asking request */
    struct request *subject, *asking; /* NULL: ended */
    struct loop_job told;             /* the subject hears the verdict */
    struct chunk *fields;             /* lines of the answer that go on */
    struct chunk *body;               /* of a refusal */
    uint64_t dropped_bytes;
    uint16_t status;   /* 0: no answer yet */
    bool is_heard;     /* the verdict is on its way, or given */
    bool is_body_lost; /* too long, or not whole */
    bool is_lost;      /* there was no memory for what it says */
};

/* 0: it is asked; else why that is not possible.  <target>: as the endpoint would get it, but for
 * its rewrites. */
uint16_t question_ask(struct request *subject, struct http1_head *head, struct span target);
/* The verdict of what was heard until now. */
uint16_t question_verdict(const struct authz_question *q);
/* Who is asked gave no answer, or one of its own failure. */
bool question_has_failed(const struct authz_question *q);
/* The subject needs no answer any more; frees it when nobody asks either. */
void question_leave(struct request *subject);
/* After a 2xx: the fields of the answer that the endpoint gets, into <head>; room is for <most>. */
void question_copy(const struct request *subject, struct http1_head *head, uint32_t most);
#endif

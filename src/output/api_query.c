/* SPDX-License-Identifier: Apache-2.0 */
/* Questions to the log in SQL.  The brain answers them on a thread of its own; the connection waits
 * in WAIT, and when its peer leaves the query ends. */
#include "output/admin_int.h"

#include <stdio.h>

#define ROWS_MAX 10000
#define ROWS_USUAL 1000

void api_run_events_query(struct api_call *c);

static bool read_number(struct api_call *c, const struct jsonin *in, struct admin_query *ask)
{
    const struct jsonin_field *limit = jsonin_find(in, "limit"),
                              *redact = jsonin_find(in, "redact");
    ask->rows_max = ROWS_USUAL;
    ask->is_redacted = !redact || redact->number != 0;
    if (redact && redact->kind != JSONIN_BOOL) {
        api_fail(c, FB_E_RANGE, "redact is true or false");
        return false;
    }
    if (!limit)
        return true;
    bool is_number = limit->kind == JSONIN_NUMBER && limit->number >= 1 &&
                     limit->number <= ROWS_MAX && limit->number == (uint32_t)limit->number;
    if (is_number)
        ask->rows_max = (uint32_t)limit->number;
    else
        api_fail(c, FB_E_RANGE, "limit must be 1 to %d", ROWS_MAX);
    return is_number;
}

void api_run_events_query(struct api_call *c)
{
    const struct admin_source *s = &c->admin->source;
    struct admin_query ask = {0};
    struct jsonin in;
    struct fb_err err = {0};
    if (!s->query_begin) {
        api_fail_status(c, 501, FB_E_AGAIN, "this process keeps no log");
        return;
    }
    if (!api_body(c, &in) || !read_number(c, &in, &ask))
        return;
    ask.sql = jsonin_text(&in, "sql", "");
    if (!ask.sql || !ask.sql[0]) {
        api_fail(c, FB_E_USAGE, "sql is missing: {\"sql\": \"SELECT count(*) FROM request\"}");
        return;
    }
    enum fb_code code = s->query_begin(s->ctx, &ask, &c->conn->ticket, &err);
    if (code == FB_OK) {
        c->conn->waits_for = CONN_WAIT_QUERY;
        return;
    }
    if (code == FB_E_AGAIN) {
        snprintf(c->header, sizeof c->header, "Retry-After: 1\r\n");
        api_fail_status(c, 429, FB_E_AGAIN, err.text);
    } else
        api_fail_err(c, &err);
}

/* What the one who asks can do about it is another question: 4xx, but for time and our own. */
static uint16_t status_of(enum fb_code code)
{
    switch (code) {
    case FB_E_USAGE:
        return 400;
    case FB_E_NOMEM:
    case FB_E_RANGE:
        return 422;
    case FB_E_TIMEOUT:
        return 504;
    case FB_E_AGAIN:
        return 503;
    default:
        return 500;
    }
}

bool api_query_answer(struct api_call *c)
{
    const struct admin_source *s = &c->admin->source;
    struct admin_query_answer answer = {.error_at = -1};
    if (!s->query_take(s->ctx, c->conn->ticket, c->out, &answer))
        return false;
    c->conn->waits_for = CONN_WAIT_NONE;
    if (answer.err.code == FB_E_DENIED) /* to write: no other token would help */
        answer.err.code = FB_E_USAGE;
    if (answer.err.code != FB_OK)
        api_fail_at(c, status_of(answer.err.code), &answer.err, (uint32_t)(answer.error_at + 1));
    return true;
}

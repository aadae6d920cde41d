/* SPDX-License-Identifier: Apache-2.0 */
/* grpc: what foldback knows about gRPC calls: their deadline, how they ended, how to refuse one.
 *
 * A call is a POST over HTTP/2 with a content type of application/grpc; its status stands in the
 * trailers, or in the head when there is nothing else ("trailers-only"), under HTTP status 200.  So
 * the outcome that limits, ejection and loops learn from is that of grpc-status. */
#include "gateway/gateway_int.h"

enum { /* https://grpc.io/docs/guides/status-codes */
       GRPC_OK = 0,
       GRPC_UNKNOWN = 2,
       GRPC_DEADLINE_EXCEEDED = 4,
       GRPC_RESOURCE_EXHAUSTED = 8,
       GRPC_UNIMPLEMENTED = 12,
       GRPC_INTERNAL = 13,
       GRPC_UNAVAILABLE = 14,
       GRPC_DATA_LOSS = 15,
       GRPC_UNAUTHENTICATED = 16,
       GRPC_PERMISSION_DENIED = 7
};

static bool read_timeout_us(struct span text, uint64_t *us);
static void take_status(struct request *req, const struct http1_field *fields, uint32_t count);
static enum gate_outcome outcome_of(uint16_t status);
static uint16_t status_of(uint16_t reason, uint16_t http);

void grpc_begin(struct request *req, const struct http1_head *head)
{
    const struct span type = SPAN("application/grpc");
    if (req->protocol != EV_PROTOCOL_HTTP2 || !http1_has(head, HTTP1_H_CONTENT_TYPE))
        return;
    struct span value = http1_find(head, HTTP1_H_CONTENT_TYPE)->value;
    if (value.len < type.len || !span_ieq((struct span){value.at, type.len}, type) ||
        (value.len > type.len && value.at[type.len] != '+' && value.at[type.len] != ';'))
        return;
    req->is_grpc = true;
    const struct http1_field *f = http1_find_name(head, SPAN("grpc-timeout"));
    uint64_t us;
    if (f && read_timeout_us(f->value, &us))
        req->deadline_us = fb_min_u64(req->deadline_us, req->start_us + us);
}

enum gate_outcome grpc_head(struct request *req, const struct http1_head *head,
                            enum gate_outcome outcome)
{
    if (!req->is_grpc || head->status != 200)
        return outcome;
    take_status(req, head->fields, head->field_count);
    return req->grpc_status == EV_NONE ? outcome : outcome_of(req->grpc_status);
}

void grpc_end(struct request *req, const struct http1_trailers *trailers)
{
    if (!req->is_grpc || req->status != 200)
        return;
    if (trailers)
        take_status(req, trailers->fields, trailers->field_count);
    if (req->grpc_status == EV_NONE)
        req->grpc_status = GRPC_UNKNOWN; /* as its client sees it */
    req->outcome = (uint8_t)outcome_of(req->grpc_status);
    req->is_failed = req->outcome != GATE_OK;
    if (req->is_failed && req->reason == REASON_ANSWERED)
        req->reason = REASON_GRPC_FAILED;
}

bool grpc_refuse(struct request *req, uint16_t reason)
{
    struct worker *w = req->worker;
    const struct ev_reason_row *row = ev_reason_row(reason);
    if (!req->is_grpc)
        return false;
    req->grpc_status = status_of(reason, row->status);
    req->status = 200;
    req->framing_out = HTTP1_BODY_NONE;
    struct http1_out out = http1_out(w->out, w->out_bytes);
    http1_put_status_line(&out, 200);
    http1_put(&out, worker_date(w));
    http1_put(&out, SPAN("Content-Type: application/grpc\r\n"));
    http1_put_field_u64(&out, SPAN("grpc-status"), req->grpc_status);
    http1_put_field(&out, SPAN("grpc-message"), span_of(row->sentence));
    answer_put_proxy_status(w, row, &out);
    if (row->status == 503) /* gRFC A6: not before; those refused together come back apart */
        http1_put_field_u64(&out, SPAN("grpc-retry-pushback-ms"), 1000 + rng_below(&w->rng, 2000));
    http1_put_end(&out);
    client_answer(req, &(struct answer_piece){.head = http1_out_span(&out), .is_last = true});
    return true;
}

/* At most eight digits and a unit: H, M, S, m, u, n. */
static bool read_timeout_us(struct span text, uint64_t *us)
{
    static const struct {
        char unit;
        uint64_t ns;
    } units[] = {{'H', 3600 * UINT64_C(1000000000)},
                 {'M', 60 * UINT64_C(1000000000)},
                 {'S', UINT64_C(1000000000)},
                 {'m', 1000000},
                 {'u', 1000},
                 {'n', 1}};
    uint64_t value;
    if (text.len < 2 || text.len > 9 || !span_to_u64((struct span){text.at, text.len - 1}, &value))
        return false;
    for (size_t i = 0; i < FB_COUNT(units); i++) {
        if (units[i].unit == text.at[text.len - 1]) {
            *us = (value * units[i].ns + 999) / 1000;
            return true;
        }
    }
    return false;
}

static void take_status(struct request *req, const struct http1_field *fields, uint32_t count)
{
    uint64_t value;
    for (uint32_t i = 0; i < count; i++) {
        if (span_ieq(fields[i].name, SPAN("grpc-status")) && span_to_u64(fields[i].value, &value) &&
            value < EV_NONE)
            req->grpc_status = (uint16_t)value;
    }
}

/* What says something about the endpoint; the rest is about the call. */
static enum gate_outcome outcome_of(uint16_t status)
{
    switch (status) {
    case GRPC_RESOURCE_EXHAUSTED:
        return GATE_OVERLOADED;
    case GRPC_DEADLINE_EXCEEDED:
        return GATE_TIMED_OUT;
    case GRPC_UNKNOWN:
    case GRPC_INTERNAL:
    case GRPC_UNAVAILABLE:
    case GRPC_DATA_LOSS:
        return GATE_FAILED;
    default:
        return GATE_OK;
    }
}

/* As gRPC maps statuses of HTTP; limits of the caller's own are "exhausted", not "come again". */
static uint16_t status_of(uint16_t reason, uint16_t http)
{
    if (reason == REASON_DEADLINE || reason == REASON_SHED_DEADLINE)
        return GRPC_DEADLINE_EXCEEDED;
    switch (http) {
    case 408:
        return GRPC_DEADLINE_EXCEEDED;
    case 413:
    case 414:
    case 429:
    case 431:
        return GRPC_RESOURCE_EXHAUSTED;
    case 401:
        return GRPC_UNAUTHENTICATED;
    case 403:
        return GRPC_PERMISSION_DENIED;
    case 404:
    case 501:
        return GRPC_UNIMPLEMENTED;
    case 502:
    case 503:
    case 504:
        return GRPC_UNAVAILABLE;
    default:
        return GRPC_INTERNAL;
    }
}

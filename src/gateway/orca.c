/* SPDX-License-Identifier: Apache-2.0 */
/* Load reports in answers: taken out of what the client sees, and told to the gate. */
#include "proto/orca.h"
#include "gateway/gateway_int.h"

/* Often enough for means over seconds; more would only be more locking. */
#define LOAD_EVERY_US (20 * US_PER_MS)

static void tell(struct endpoint *ep, const struct orca *o, uint64_t now_us)
{
    struct service *sv = ep->sv;
    uint64_t told_us = atomic_load_explicit(&ep->load_us, memory_order_relaxed);
    if (told_us && fb_sub_floor_u64(now_us, told_us) < LOAD_EVERY_US)
        return;
    atomic_store_explicit(&ep->load_us, now_us, memory_order_relaxed);
    struct load_report report = {o->utilisation, o->per_s, o->err_per_s, now_us};
    spin_lock(&sv->lock);
    if (!atomic_load_explicit(&ep->is_gone, memory_order_relaxed))
        gate_endpoint_load(sv->gate, ep->index, &report);
    spin_unlock(&sv->lock);
}

static bool take(const struct request *req, const struct http1_field *f, struct orca *o)
{
    enum orca_field field = ORCA_NONE;
    size_t len = f->name.len;
    if (f->id != HTTP1_H_OTHER || (len != 21 && len != 25) || (f->name.at[0] | 0x20) != 'e')
        return false;
    field = orca_field(f->name);
    if (field == ORCA_NONE || !request_conf(req)->has_load_reports)
        return false;
    if (req->ep && orca_parse(field, f->value, o))
        tell(req->ep, o, loop_now_us(req->worker->loop));
    return true;
}

void orca_head(const struct request *req, const struct http1_head *head)
{
    struct orca o;
    for (uint32_t i = 0; i < head->field_count; i++)
        if (take(req, &head->fields[i], &o))
            head->fields[i].flags |= HTTP1_FIELD_HOP;
}

/* gRPC sends them behind the answer. */
void orca_trailers(const struct request *req, struct http1_trailers *trailers)
{
    struct orca o;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < trailers->field_count; i++)
        if (!take(req, &trailers->fields[i], &o))
            trailers->fields[kept++] = trailers->fields[i];
    trailers->field_count = kept;
}

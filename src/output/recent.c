/* SPDX-License-Identifier: Apache-2.0 */
#include "output/recent.h"

#include <stdlib.h>
#include <string.h>

/* Fibonacci hashing (Knuth 6.4): ids may be sequential. */
static size_t slot_of(uint64_t id, size_t slots)
{
    return (size_t)((id * UINT64_C(0x9e3779b97f4a7c15)) >> 32) & (slots - 1);
}

struct recent *recent_new(void)
{
    struct recent *r = calloc(1, sizeof *r);
    if (!r)
        return NULL;
    r->request = calloc(RECENT_REQUESTS_MAX, sizeof *r->request);
    r->offset = calloc(RECENT_REQUESTS_MAX, sizeof *r->offset);
    r->sample = calloc(RECENT_SAMPLES_MAX, sizeof *r->sample);
    if (!r->request || !r->offset || !r->sample) {
        recent_free(r);
        return NULL;
    }
    return r;
}

void recent_free(struct recent *r)
{
    if (!r)
        return;
    free(r->request);
    free(r->offset);
    free(r->sample);
    free(r);
}

/* No index by id: it would be one more cold line for each request, for a question that a person
 * asks now and then. */
void recent_add_request(struct recent *r, const struct ev_request *ev, uint64_t offset)
{
    size_t at = (size_t)(r->request_count++ % RECENT_REQUESTS_MAX);
    r->request[at] = *ev;
    r->offset[at] = offset;
}

void recent_add_sample(struct recent *r, const struct ev_sample *ev)
{
    r->sample[r->sample_count % RECENT_SAMPLES_MAX] = *ev;
    r->sample_at[slot_of(ev->request_id, FB_COUNT(r->sample_at))] = ++r->sample_count;
}

const struct ev_request *recent_request(const struct recent *r, uint64_t request_id,
                                        uint64_t *offset)
{
    uint64_t kept = fb_min_u64(r->request_count, RECENT_REQUESTS_MAX);
    for (uint64_t back = 1; back <= kept; back++) {
        size_t i = (size_t)((r->request_count - back) % RECENT_REQUESTS_MAX);
        if (r->request[i].request_id != request_id)
            continue;
        if (offset)
            *offset = r->offset[i];
        return &r->request[i];
    }
    return NULL;
}

void recent_forget_samples(struct recent *r)
{
    memset(r->sample, 0, RECENT_SAMPLES_MAX * sizeof *r->sample);
    memset(r->sample_at, 0, sizeof r->sample_at);
}

const struct ev_sample *recent_sample(const struct recent *r, uint64_t request_id)
{
    uint64_t at = r->sample_at[slot_of(request_id, FB_COUNT(r->sample_at))];
    if (at == 0)
        return NULL;
    const struct ev_sample *s = &r->sample[(at - 1) % RECENT_SAMPLES_MAX];
    return s->request_id == request_id ? s : NULL;
}

void recent_redact_path(struct span path, struct buf *out)
{
    while (path.len > 0) {
        struct span rest, segment = span_cut(path, '/', &rest);
        bool has_more = segment.len < path.len;
        bool is_personal = segment.len > 24;
        for (size_t i = 0; i < segment.len; i++) {
            char c = segment.at[i];
            is_personal |= (c >= '0' && c <= '9') || c == '@' || c == '%';
        }
        buf_put_span(out, is_personal ? SPAN("*") : segment);
        if (has_more)
            buf_putc(out, '/');
        path = rest;
    }
}

/* SPDX-License-Identifier: Apache-2.0 */
/* From the runner's records to PutRecords.
 *
 * PutRecords keeps no order among its records when some fail.  So a request has at most one record
 * of a key; what follows of the key goes with the next request, when this one was stored.  Events
 * of one key (per: event) that wait together are packed into one record, as lines or in the form of
 * the Kinesis Producer Library. */
#include "base/base64.h"
#include "base/clock.h"
#include "base/json.h"
#include "stream/connectors/kinesis_int.h"

#include <stdio.h>
#include <stdlib.h>

#define PACK_BYTES_MAX (256 * KIB)
#define CHAINS 1024u
#define NONE UINT32_MAX
#define KEY_BYTES_MAX 256

struct request {
    uint32_t puts;
    uint64_t bytes;
    bool is_alone; /* one event only: the service found an earlier request illegal */
};

static bool make_room(struct connector *c)
{
    if (c->put)
        return true;
    c->put = calloc(KINESIS_RECORDS_MAX, sizeof *c->put);
    c->next = calloc(KINESIS_SEND_MAX, sizeof *c->next);
    c->chain = calloc(CHAINS, sizeof *c->chain);
    if (c->put && c->next && c->chain)
        return true;
    free(c->put);
    free(c->next);
    free(c->chain);
    c->put = NULL;
    c->next = c->chain = NULL;
    return false;
}

static struct span key_of(const struct connector_record *r)
{
    struct span key = r->key;
    if (key.len == 0)
        return SPAN("-");
    key.len = key.len > KEY_BYTES_MAX ? KEY_BYTES_MAX : key.len;
    return key;
}

static uint32_t chain_of(struct span key)
{
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < key.len; i++)
        h = (h ^ (unsigned char)key.at[i]) * 16777619u;
    return h % CHAINS;
}

static struct put *find(struct connector *c, struct span key)
{
    for (uint32_t i = c->chain[chain_of(key)]; i; i = c->put[i - 1].same)
        if (span_eq(c->put[i - 1].key, key))
            return &c->put[i - 1];
    return NULL;
}

/* Puts record <i> into the request; false: there is no room for a new key, and so for none. */
static bool place(struct connector *c, struct request *q, struct connector_record *r, uint32_t i)
{
    struct span key = key_of(r);
    struct put *p = find(c, key);
    uint64_t bytes = r->value.len + KINESIS_PACK_ROOM;
    if (p) {
        if (c->pack == PACK_NONE || p->is_closed || p->bytes + bytes > PACK_BYTES_MAX ||
            q->bytes + bytes > KINESIS_REQUEST_BYTES_MAX) {
            p->is_closed = true; /* what comes later of this key waits, too */
            return true;
        }
        c->next[p->last] = i;
    } else {
        bytes += key.len + KINESIS_PACK_ROOM;
        if (q->puts == KINESIS_RECORDS_MAX ||
            (q->puts && q->bytes + bytes > KINESIS_REQUEST_BYTES_MAX))
            return false;
        uint32_t *head = &c->chain[chain_of(key)];
        p = &c->put[q->puts++];
        *p = (struct put){.key = key, .first = i, .same = *head};
        *head = q->puts;
    }
    p->last = i;
    c->next[i] = NONE;
    p->count++;
    p->bytes += bytes;
    q->bytes += bytes;
    return true;
}

static void choose(struct connector *c, struct connector_batch *batch, struct request *q)
{
    q->puts = 0;
    q->bytes = 0;
    memset(c->chain, 0, CHAINS * sizeof *c->chain);
    for (uint32_t i = 0; i < batch->count; i++) {
        struct connector_record *r = &batch->at[i];
        if (r->result != CONNECTOR_RETRY)
            continue; /* done, or refused for ever */
        if (!place(c, q, r, i) || q->is_alone)
            return;
    }
}

static struct span pack(struct connector *c, const struct connector_batch *batch,
                        const struct put *p)
{
    if (p->count == 1)
        return batch->at[p->first].value;
    buf_clear(&c->packed);
    if (c->pack == PACK_KPL)
        kinesis_pack_begin(&c->packed, p->key);
    for (uint32_t i = p->first; i != NONE; i = c->next[i]) {
        struct span value = batch->at[i].value;
        if (c->pack == PACK_KPL) {
            kinesis_pack_add(&c->packed, value);
            continue;
        }
        buf_put_span(&c->packed, value);
        if (value.len == 0 || value.at[value.len - 1] != '\n')
            buf_putc(&c->packed, '\n');
    }
    if (c->pack == PACK_KPL)
        kinesis_pack_end(&c->packed, 0);
    if (c->packed.failed)
        c->body.failed = true;
    return buf_span(&c->packed);
}

static void write_body(struct connector *c, const struct connector_batch *batch,
                       const struct request *q)
{
    struct json j;
    buf_clear(&c->body);
    json_init(&j, &c->body);
    json_object_begin(&j);
    json_key_str(&j, c->stream_key, c->stream);
    json_key(&j, "Records");
    json_array_begin(&j);
    for (uint32_t i = 0; i < q->puts; i++) {
        json_object_begin(&j);
        json_key(&j, "PartitionKey");
        json_span(&j, c->put[i].key);
        json_key(&j, "Data");
        json_raw(&j, SPAN("\""));
        base64_put(&c->body, pack(c, batch, &c->put[i]));
        buf_putc(&c->body, '"');
        json_object_end(&j);
    }
    json_array_end(&j);
    json_object_end(&j);
}

static void mark(struct connector *c, struct connector_batch *batch, const struct put *p,
                 enum connector_result result)
{
    for (uint32_t i = p->first; i != NONE; i = c->next[i])
        batch->at[i].result = result;
}

static enum fb_code settle(struct connector *c, struct connector_batch *batch,
                           const struct request *q, struct fb_err *err)
{
    bool is_stored[KINESIS_RECORDS_MAX];
    struct kinesis_refusal first;
    uint32_t failed = 0;
    if (!kinesis_put_read(buf_span(&c->http.answer), q->puts, is_stored, &first))
        return fb_fail(err, FB_E_AGAIN,
                       "Kinesis at %.160s answered PutRecords with something else; see `endpoint`",
                       c->endpoint);
    for (uint32_t i = 0; i < q->puts; i++) {
        failed += !is_stored[i];
        if (is_stored[i])
            mark(c, batch, &c->put[i], CONNECTOR_DELIVERED);
    }
    if (!failed)
        return FB_OK;
    /* A record of its own is refused for a time only; what is illegal fails the request. */
    return fb_fail(err, kinesis_refusal_code(&first, 500) == FB_E_DENIED ? FB_E_DENIED : FB_E_AGAIN,
                   "stream %.120s did not take %u of %u records: %s: %.140s", c->stream, failed,
                   q->puts, first.type, first.message);
}

static bool is_all_done(const struct connector_batch *batch)
{
    for (uint32_t i = 0; i < batch->count; i++)
        if (batch->at[i].result == CONNECTOR_RETRY)
            return false;
    return true;
}

enum fb_code kinesis_send(struct connector *c, struct connector_batch *batch, struct fb_err *err)
{
    uint64_t until_us = fb_mono_us() + batch->timeout_ms * US_PER_MS;
    struct request q = {.is_alone = false};
    struct kinesis_refusal refusal;
    if (!make_room(c))
        return fb_fail(err, FB_E_NOMEM, "no memory for the connector %s", c->setup.name);
    for (uint32_t i = 0; i < batch->count; i++)
        batch->at[i].result = CONNECTOR_RETRY;
    while (!is_all_done(batch)) {
        if (c->setup.is_stopping(c->setup.ctx) || fb_mono_us() >= until_us)
            return fb_fail(err, FB_E_TIMEOUT, "stream %.120s: not all was sent in time", c->stream);
        choose(c, batch, &q);
        write_body(c, batch, &q);
        enum fb_code code = kinesis_call(c, "PutRecords", until_us, &refusal, err);
        if (code == FB_E_RANGE && q.puts == 1 && c->put[0].count == 1) {
            mark(c, batch, &c->put[0],
                 strstr(refusal.message, "ength") || c->http.status == 413 ? CONNECTOR_TOO_LARGE
                                                                           : CONNECTOR_POISON);
            continue;
        }
        if (code == FB_E_RANGE) {
            q.is_alone = true; /* find the one that is illegal */
            continue;
        }
        if (code == FB_OK)
            code = settle(c, batch, &q, err);
        if (code != FB_OK)
            return code;
    }
    return FB_OK;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The source side of pubsub.
 *
 *   pull (kept under way between calls) -> pending -> given to the runner
 *        pending: deadline extended while it waits to become durable
 *   commit -> Acknowledge -> gone
 *
 * Acknowledge ids live in a table of ours and a token names a place in it and the generation of
 * its tenant: a token from before a reconnect finds nothing and does no harm.
 * A message whose acknowledgement fails comes again and the runner drops it as known. */
#include "stream/connectors/pubsub_int.h"

#include "base/assert.h"
#include "base/clock.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

/* More are not pulled while so many wait: at 200 bytes an id they take 4 MiB. */
#define PENDING_MAX 16384u
#define ACKS_PER_CALL 1000u /* ids have some 200 bytes; a request takes 512 KiB of them */
#define ACK_BYTES_MAX (400 * KIB)
#define PULL_MS 20000u
#define ACK_MS 10000u
/* The shortest deadline that a subscription may have is 10 s: half of it after a message came, it
 * is extended.  Most are durable by then and cost no call. */
#define FIRST_LOOK_US (5 * US_PER_S)
#define LOOK_EVERY_US (500 * US_PER_MS)
#define EMPTY_US (50 * US_PER_MS)
#define NONE UINT32_MAX

struct pending {
    char *ack_id;       /* NULL: free */
    uint64_t extend_us; /* when to extend */
    uint32_t generation;
    uint32_t next_free;
};

/* One sequence for all connectors and all reconnects of this process. */
static atomic_uint generations = 1;

static void *token_of(const struct connector *c, uint32_t slot)
{
    return (void *)(uintptr_t)((uint64_t)c->pending[slot].generation << 32 | (slot + 1u));
}

static uint32_t slot_of(const struct connector *c, const void *token)
{
    uint64_t bits = (uint64_t)(uintptr_t)token;
    uint32_t slot = (uint32_t)bits - 1u;
    return slot < c->pending_cap && c->pending[slot].ack_id &&
                   c->pending[slot].generation == bits >> 32
               ? slot
               : NONE;
}

static bool make_room(struct connector *c)
{
    uint32_t cap = c->pending_cap ? 2 * c->pending_cap : 256;
    struct pending *more = realloc(c->pending, cap * sizeof *more);
    if (!more)
        return false;
    if (!c->pending_cap)
        c->pending_free = NONE;
    for (uint32_t i = cap; i-- > c->pending_cap;) {
        more[i] = (struct pending){.next_free = c->pending_free};
        c->pending_free = i;
    }
    c->pending = more;
    c->pending_cap = cap;
    return true;
}

static uint32_t pending_add(struct connector *c, struct span ack_id)
{
    if ((!c->pending_cap || c->pending_free == NONE) && !make_room(c))
        return NONE;
    uint32_t slot = c->pending_free;
    struct pending *p = &c->pending[slot];
    p->ack_id = strndup(ack_id.at, ack_id.len);
    if (!p->ack_id)
        return NONE;
    c->pending_free = p->next_free;
    p->generation = atomic_fetch_add(&generations, 1);
    p->extend_us = fb_mono_us() + FIRST_LOOK_US;
    c->pending_count++;
    return slot;
}

static void pending_remove(struct connector *c, uint32_t slot)
{
    struct pending *p = &c->pending[slot];
    fb_assert(p->ack_id);
    free(p->ack_id);
    p->ack_id = NULL;
    p->next_free = c->pending_free;
    c->pending_free = slot;
    c->pending_count--;
}

void pubsub_pull_fini(struct connector *c)
{
    call_free(c->pull); /* what it would have brought comes again after its deadline */
    call_free(c->extend);
    c->pull = c->extend = NULL;
    for (uint32_t i = 0; i < c->pending_cap; i++)
        free(c->pending[i].ack_id);
    free(c->pending);
    c->pending = NULL;
    c->pending_cap = c->pending_count = 0;
}

/* ---- deadlines ---- */
static void say(const struct connector *c, enum fb_log_level level, const char *text)
{
    char line[700];
    snprintf(line, sizeof line, "connector %s: %.600s", c->setup.name, text);
    c->setup.say(c->setup.ctx, level, line);
}

static void end_extend(struct connector *c)
{
    struct fb_err err;
    if (pubsub_outcome(c, c->extend, &err) != FB_OK && !c->has_said_expired) {
        char text[600];
        snprintf(text, sizeof text, "deadlines were not extended, messages will come again: %.480s",
                 err.text);
        say(c, FB_LOG_WARN, text);
        c->has_said_expired = true; /* once: it may go on for long */
    }
    call_free(c->extend);
    c->extend = NULL;
}

/* Begins to extend what is due; at most one call at a time, never waits. */
static void extend(struct connector *c)
{
    uint64_t now_us = fb_mono_us();
    if (c->extend && c->extend->is_done)
        end_extend(c);
    if (c->extend || c->pending_count == 0 || now_us < c->look_us)
        return;
    /* A token is not fetched here: this is no place to wait. */
    if (c->has_token && (!c->token.value || now_us >= c->token.renew_us))
        return;
    struct buf request;
    struct fb_err err;
    uint32_t count = 0, seen = 0, at = c->extend_from;
    buf_init(&request, 2 * ACK_BYTES_MAX);
    proto_text(&request, 1, span_of(c->path));
    proto_number(&request, 3, c->ack_deadline_s);
    for (; seen < c->pending_cap && count < ACKS_PER_CALL && request.len < ACK_BYTES_MAX; seen++) {
        at = at + 1 < c->pending_cap ? at + 1 : 0;
        struct pending *p = &c->pending[at];
        if (!p->ack_id || now_us < p->extend_us)
            continue;
        proto_text(&request, 4, span_of(p->ack_id));
        p->extend_us = now_us + c->ack_deadline_s * US_PER_S / 2;
        count++;
    }
    c->extend_from = at;
    c->look_us = seen < c->pending_cap ? now_us : now_us + LOOK_EVERY_US;
    if (count == 0) {
        buf_fini(&request);
        return;
    }
    c->extend =
        pubsub_begin(c, "google.pubsub.v1.Subscriber/ModifyAckDeadline", &request, ACK_MS, &err);
    calls_drive(&c->calls, 0);
}

/* Asked for after each round of the runner, also while it takes nothing in: the moment to look at
 * the deadlines of what waits.  How much waits at the broker only Cloud Monitoring knows. */
uint64_t pubsub_behind(struct connector *c)
{
    if (c->extend)
        calls_drive(&c->calls, 0);
    extend(c);
    return UINT64_MAX;
}

/* ---- pull ---- */
static enum fb_code begin_pull(struct connector *c, struct fb_err *err)
{
    struct buf request;
    if (c->pull || c->pending_count >= PENDING_MAX || fb_mono_us() < c->pull_us)
        return FB_OK;
    buf_init(&request, 4 * KIB);
    proto_text(&request, 1, span_of(c->path));
    proto_number(&request, 3, c->pull_max);
    c->given = (struct span){NULL, 0};
    c->pull = pubsub_begin(c, "google.pubsub.v1.Subscriber/Pull", &request, PULL_MS, err);
    return c->pull ? FB_OK : err->code;
}

static void end_pull(struct connector *c)
{
    call_free(c->pull);
    c->pull = NULL;
}

/* The pull is done: its answer is looked through once before anything of it is used. */
static enum fb_code open_answer(struct connector *c, struct fb_err *err)
{
    struct span message = {"", 0};
    struct proto_received one;
    struct proto_field f;
    /* Nothing came until the end of its time: that is how an empty subscription answers. */
    if (c->pull->status == GRPC_DEADLINE_EXCEEDED ||
        (c->pull->status == GRPC_NONE && c->pull->transport == CURLE_OPERATION_TIMEDOUT &&
         c->pull->http == 200)) {
        end_pull(c);
        return FB_OK;
    }
    enum fb_code code = pubsub_outcome(c, c->pull, err);
    bool is_good = code == FB_OK && call_message(c->pull, &message);
    struct proto_reader r = {.rest = message};
    while (is_good && proto_next(&r, &f))
        is_good = f.number != 1 || (f.is_bytes && proto_received(f.bytes, &one));
    if (code == FB_OK && (!is_good || r.is_bad))
        code = fb_fail(err, FB_E_AGAIN, "%s gives an answer that is no PullResponse", c->base);
    if (code != FB_OK) {
        end_pull(c);
        return code;
    }
    c->given = message;
    if (message.len == 0)
        c->pull_us = fb_mono_us() + EMPTY_US;
    return FB_OK;
}

/* False: the runner has no room; the rest of the answer waits. */
static bool give(struct connector *c, connector_each *each, void *arg, bool *gave)
{
    struct proto_reader r = {.rest = c->given};
    struct proto_field f;
    struct proto_received m;
    while (proto_next(&r, &f)) {
        if (f.number != 1 || !proto_received(f.bytes, &m)) {
            c->given = r.rest;
            continue;
        }
        uint32_t slot = pending_add(c, m.ack_id);
        if (slot == NONE)
            return false;
        struct connector_message out = {.topic = c->short_name,
                                        .key = m.ordering_key,
                                        .value = m.data,
                                        .wall_ms = m.wall_ms,
                                        .token = token_of(c, slot)};
        snprintf(out.position, sizeof out.position, "%.*s", SPAN_ARG(m.message_id));
        if (!each(arg, &out)) {
            pending_remove(c, slot);
            return false;
        }
        *gave = true;
        c->given = r.rest;
    }
    end_pull(c);
    return true;
}

enum fb_code pubsub_receive(struct connector *c, connector_each *each, void *arg,
                            uint32_t timeout_ms, struct fb_err *err)
{
    uint64_t until_us = fb_mono_us() + timeout_ms * US_PER_MS;
    bool gave = false;
    for (;;) {
        enum fb_code code = begin_pull(c, err);
        if (code != FB_OK)
            return code;
        uint64_t now_us = fb_mono_us();
        uint32_t left_ms = now_us < until_us ? (uint32_t)((until_us - now_us) / US_PER_MS) : 0;
        if (!c->pull || !c->pull->is_done)
            calls_drive(&c->calls, left_ms);
        extend(c);
        if (c->pull && c->pull->is_done) {
            if (!c->given.at)
                code = open_answer(c, err);
            if (code != FB_OK || (c->pull && !give(c, each, arg, &gave)))
                return code;
        }
        if (gave || left_ms == 0 || c->setup.is_stopping(c->setup.ctx))
            return FB_OK;
    }
}

/* ---- acknowledge ---- */
/* What an exactly-once subscription says of the ids of one call; true: some are worth a retry. */
static bool settle_failures(struct connector *c, const struct call *call, uint32_t *slots,
                            uint32_t *count)
{
    struct span details = buf_span(&call->details);
    struct proto_ack_failures f = proto_ack_failures(details);
    uint32_t kept = 0;
    if (f.permanent + f.transient == 0)
        return false;
    if (f.permanent) {
        char text[300];
        snprintf(text, sizeof text,
                 "%u acknowledgements failed for good (expired): the messages come again and are "
                 "dropped as known",
                 f.permanent);
        say(c, FB_LOG_WARN, text);
    }
    for (uint32_t i = 0; i < *count; i++) {
        if (proto_ack_may_retry(details, span_of(c->pending[slots[i]].ack_id)))
            slots[kept++] = slots[i];
        else
            pending_remove(c, slots[i]);
    }
    *count = kept;
    return kept > 0;
}

static enum fb_code acknowledge(struct connector *c, uint32_t *slots, uint32_t count,
                                struct fb_err *err)
{
    for (uint32_t attempt = 0; attempt < 4 && count > 0; attempt++) {
        struct buf request;
        struct call *call;
        buf_init(&request, 2 * ACK_BYTES_MAX);
        proto_text(&request, 1, span_of(c->path));
        for (uint32_t i = 0; i < count; i++)
            proto_text(&request, 2, span_of(c->pending[slots[i]].ack_id));
        call = pubsub_begin(c, "google.pubsub.v1.Subscriber/Acknowledge", &request, ACK_MS, err);
        enum fb_code code = pubsub_wait(c, call, err);
        bool is_partial = code != FB_OK && call && call->is_done &&
                          proto_ack_failures(buf_span(&call->details)).permanent +
                                  proto_ack_failures(buf_span(&call->details)).transient >
                              0;
        bool again = is_partial && settle_failures(c, call, slots, &count);
        call_free(call);
        if (code != FB_OK && !is_partial)
            return code; /* the runner gives the same ones again */
        if (!again && !is_partial) {
            for (uint32_t i = 0; i < count; i++)
                pending_remove(c, slots[i]);
            return FB_OK;
        }
    }
    for (uint32_t i = 0; i < count; i++) /* they come again, and are dropped */
        pending_remove(c, slots[i]);
    return FB_OK;
}

enum fb_code pubsub_commit(struct connector *c, const struct connector_done *done, uint32_t count,
                           struct fb_err *err)
{
    uint32_t slots[ACKS_PER_CALL], used = 0;
    size_t bytes = 0;
    enum fb_code code = FB_OK;
    for (uint32_t i = 0; i < count && code == FB_OK; i++) {
        uint32_t slot = slot_of(c, done[i].token);
        if (slot == NONE) /* acknowledged in an earlier try, or of a connection before this */
            continue;
        slots[used++] = slot;
        bytes += strlen(c->pending[slot].ack_id) + 4;
        if (used == ACKS_PER_CALL || bytes >= ACK_BYTES_MAX) {
            code = acknowledge(c, slots, used, err);
            used = 0;
            bytes = 0;
        }
    }
    return code == FB_OK && used ? acknowledge(c, slots, used, err) : code;
}

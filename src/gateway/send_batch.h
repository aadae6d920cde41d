/* SPDX-License-Identifier: Apache-2.0 */
/* send_batch: what the events of one turn of the loop have to write is written when the turn ends.
 *
 * Holds always:  an entry is in the batch exactly while its is_send_due is set; who closes a
 * connection takes it out first.  Memory: bounded; without room one writes at once.  Threads: a
 * batch belongs to its worker.
 *
 * Refusals may rest a little longer while many are given (send_batch_rest): each answer wakes its
 * client, and that is most of what a refusal costs. */
#ifndef FB_GATEWAY_SEND_BATCH_H
#define FB_GATEWAY_SEND_BATCH_H
#include "io/loop.h"

struct client;
struct iovec;
struct upstream;

#define SEND_BATCH_MAX 256u
#define SEND_BATCH_REST_US 1000 /* a refusal waits this long at most, plus a tick of the wheel */

struct send_batch {
    struct loop_job job;
    struct loop_timer timer;
    uint32_t upstream_count, client_count, resting_count;
    bool may_rest;
    struct upstream *upstreams[SEND_BATCH_MAX]; /* NULL: gone meanwhile */
    struct client *clients[SEND_BATCH_MAX];
    struct client *resting[SEND_BATCH_MAX]; /* refused; until the timer */
};

void send_batch_init(struct send_batch *b);
/* Refusals of the next turns leave together, a millisecond later; false: at the turn's end. */
void send_batch_rest(struct send_batch *b, bool may_rest);
/* The request leaves when the turn ends; false: no room, write it now. */
bool upstream_send_later(struct upstream *up);
/* The last piece of a small answer leaves when the turn ends; false: write it now. */
bool client_send_later(struct client *c, const struct iovec *iov, int count);
void send_batch_forget_upstream(struct upstream *up);
void send_batch_forget_client(struct client *c);
#endif

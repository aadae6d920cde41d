/* SPDX-License-Identifier: Apache-2.0 */
/* send_batch: what the events of one turn of the loop have to write is written when the turn ends.
 *
 * Holds always:  an entry is in the batch exactly while its is_send_due is set; who closes a
 * connection takes it out first.  Memory: bounded; without room one writes at once.  Threads: a
 * batch belongs to its worker. */
#ifndef FB_GATEWAY_SEND_BATCH_H
#define FB_GATEWAY_SEND_BATCH_H
#include "io/loop.h"

struct client;
struct iovec;
struct upstream;

#define SEND_BATCH_MAX 256u

struct send_batch {
    struct loop_job job;
    uint32_t upstream_count, client_count;
    struct upstream *upstreams[SEND_BATCH_MAX]; /* NULL: gone meanwhile */
    struct client *clients[SEND_BATCH_MAX];
};

void send_batch_init(struct send_batch *b);
/* The request leaves when the turn ends; false: no room, write it now. */
bool upstream_send_later(struct upstream *up);
/* The last piece of a small answer leaves when the turn ends; false: write it now. */
bool client_send_later(struct client *c, const struct iovec *iov, int count);
void send_batch_forget_upstream(struct upstream *up);
void send_batch_forget_client(struct client *c);
#endif

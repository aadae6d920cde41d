/* SPDX-License-Identifier: Apache-2.0 */
/* tls_ticket: keys with which sessions are given to clients to keep.
 *
 *   now: made at the last rotation, seals and opens     before: the ones before it, open only
 *
 * A server that keeps no session needs a key that only it knows; whoever gets hold of it reads the
 * TLS 1.2 sessions sealed with it.  So keys are random, live in this process only, change by time,
 * and are wiped when they open nothing any more.  Reloads keep them: they belong to the process.
 * Holds always: a ticket opens for at least one and at most TICKET_KEYS rotations after it was
 * made. Threads: any.  The clock is an argument. */
#ifndef FB_IO_TLS_TICKET_H
#define FB_IO_TLS_TICKET_H
#include "base/base.h"
#include "io/thread.h"

#define TICKET_KEYS 3
#define TICKET_NAME_BYTES 16

struct ticket_key {
    unsigned char name[TICKET_NAME_BYTES];
    unsigned char aes[32], mac[32];
};
struct tls_tickets {
    struct spin lock;
    struct ticket_key key[TICKET_KEYS]; /* [0] seals */
    uint32_t count;
    uint64_t made_us, rotate_us;
};

/* False when there is no randomness. */
FB_MUST_USE
bool tickets_init(struct tls_tickets *t, uint64_t rotate_us, uint64_t now_us);
void tickets_fini(struct tls_tickets *t);
/* Makes new keys when it is time; a clock that stood still for long wipes all old ones. */
void tickets_tick(struct tls_tickets *t, uint64_t now_us);
void tickets_seal_key(struct tls_tickets *t, struct ticket_key *out);
/* False: it is gone or never was.  *is_old: the client should get a new ticket. */
bool tickets_find(struct tls_tickets *t, const unsigned char name[TICKET_NAME_BYTES],
                  struct ticket_key *out, bool *is_old);
#endif

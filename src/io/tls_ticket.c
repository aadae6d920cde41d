/* SPDX-License-Identifier: Apache-2.0 */
#include "io/tls_ticket.h"

#include "base/assert.h"

#include <openssl/crypto.h>
#include <string.h>
#include <unistd.h>

bool tickets_init(struct tls_tickets *t, uint64_t rotate_us, uint64_t now_us)
{
    fb_assert(rotate_us > 0);
    *t = (struct tls_tickets){.rotate_us = rotate_us, .made_us = now_us, .count = 1};
    /* from the kernel: OpenSSL's own source takes 2 ms to begin with, TLS or not */
    return getentropy(&t->key[0], sizeof t->key[0]) == 0;
}

void tickets_fini(struct tls_tickets *t)
{
    OPENSSL_cleanse(t, sizeof *t);
}

void tickets_tick(struct tls_tickets *t, uint64_t now_us)
{
    struct ticket_key key;
    uint64_t age_us = fb_sub_floor_u64(now_us, t->made_us);
    if (age_us < t->rotate_us)
        return;
    if (getentropy(&key, sizeof key) != 0)
        return; /* tried again at the next tick */
    spin_lock(&t->lock);
    if (age_us >= TICKET_KEYS * t->rotate_us) {
        OPENSSL_cleanse(t->key, sizeof t->key);
        t->count = 0;
    }
    memmove(&t->key[1], &t->key[0], (TICKET_KEYS - 1) * sizeof t->key[0]);
    t->key[0] = key;
    t->count = fb_min_u32(t->count + 1, TICKET_KEYS);
    t->made_us = now_us;
    spin_unlock(&t->lock);
    OPENSSL_cleanse(&key, sizeof key);
}

void tickets_seal_key(struct tls_tickets *t, struct ticket_key *out)
{
    spin_lock(&t->lock);
    *out = t->key[0];
    spin_unlock(&t->lock);
}

bool tickets_find(struct tls_tickets *t, const unsigned char name[TICKET_NAME_BYTES],
                  struct ticket_key *out, bool *is_old)
{
    bool is_found = false;
    spin_lock(&t->lock);
    for (uint32_t i = 0; i < t->count && !is_found; i++) {
        if (memcmp(t->key[i].name, name, TICKET_NAME_BYTES) != 0)
            continue;
        *out = t->key[i];
        *is_old = i > 0;
        is_found = true;
    }
    spin_unlock(&t->lock);
    return is_found;
}

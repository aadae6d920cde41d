/* SPDX-License-Identifier: Apache-2.0 */
/* TLS in /v1/status: handshakes and certificates, from the memory file. */
#include "base/clock.h"
#include "io/tls.h"
#include "output/admin_int.h"

#include <math.h>
#include <stdatomic.h>

/* Age and what is left of the stapled OCSP answer; null: none, or it does not say. */
static void put_staple(struct json *j, const struct memfile_cert *c, uint64_t wall_s)
{
    uint64_t made_s = atomic_load(&c->staple_made_s), until_s = atomic_load(&c->staple_until_s);
    bool ends = until_s != 0 && until_s != UINT64_MAX;
    json_key_f64(j, "staple_age_s", until_s ? (double)wall_s - (double)made_s : NAN);
    json_key_f64(j, "staple_left_s", ends ? (double)until_s - (double)wall_s : NAN);
}

void put_tls(struct json *j, const struct admin *a)
{
    const struct memfile_tls *t = &a->source.memfile->head->tls;
    uint64_t wall_s = fb_wall_us() / US_PER_S;
    json_object_begin(j);
    json_key_u64(j, "handshakes", atomic_load(&t->full) + atomic_load(&t->resumed));
    json_key_u64(j, "resumed", atomic_load(&t->resumed));
    json_key(j, "failed");
    json_object_begin(j);
    for (int i = 1; i < TLS_FAULT_COUNT; i++)
        json_key_u64(j, tls_fault_name((enum tls_fault)i), atomic_load(&t->failed[i]));
    json_object_end(j);
    json_key(j, "certificates");
    json_array_begin(j);
    uint32_t count = fb_min_u32(atomic_load(&t->cert_count), MEMFILE_CERTS_MAX);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t ends_s = atomic_load(&t->certs[i].not_after_s);
        json_object_begin(j);
        json_key_str(j, "name", t->certs[i].name);
        json_key_str(j, "file", t->certs[i].file);
        put_time(j, "ends", ends_s * US_PER_S);
        json_key_f64(j, "days_left", ((double)ends_s - (double)wall_s) / 86400);
        put_staple(j, &t->certs[i], wall_s);
        json_object_end(j);
    }
    json_array_end(j);
    json_object_end(j);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* kinesis_fuzz: answers of Kinesis and of the places of credentials, and packed records, under
 * arbitrary bytes.
 *
 * Asserted: what is taken is terminated and fit for a header; what is unpacked lies within its
 * bytes; a pack of the bytes is unpacked to the bytes. */
#include "base/assert.h"
#include "base/base64.h"
#include "stream/connectors/kinesis_says.h"

#include <stdlib.h>

static void is_header(const char *text, size_t size)
{
    size_t len = strnlen(text, size);
    fb_assert(len < size);
    for (size_t i = 0; i < len; i++)
        fb_assert(text[i] > 0x20 && text[i] < 0x7f);
}

static void read_keys(struct span all)
{
    struct kinesis_keys k;
    char why[120] = "";
    if (kinesis_keys_from_json(&k, all, why) || kinesis_keys_from_ini(&k, all, "default", why)) {
        fb_assert(k.id[0] && k.secret[0]);
        is_header(k.id, sizeof k.id);
        is_header(k.secret, sizeof k.secret);
        is_header(k.token, sizeof k.token);
    }
}

static void unpack(struct span all)
{
    struct kinesis_unpack u;
    struct span key, value;
    if (!kinesis_unpack_begin(&u, all))
        return;
    while (kinesis_unpack_next(&u, &key, &value)) {
        fb_assert(value.len == 0 ||
                  (value.at >= all.at && value.at + value.len <= all.at + all.len));
        fb_assert(key.len == 0 || (key.at >= all.at && key.at + key.len <= all.at + all.len));
    }
}

static void there_and_back(struct span all)
{
    struct kinesis_unpack u;
    struct span key, value;
    struct buf b;
    buf_init(&b, 16 * MIB);
    kinesis_pack_begin(&b, SPAN("k"));
    kinesis_pack_add(&b, all);
    kinesis_pack_end(&b, 0);
    fb_assert(kinesis_unpack_begin(&u, buf_span(&b)));
    fb_assert(kinesis_unpack_next(&u, &key, &value));
    fb_assert(span_eq(value, all) && span_eq(key, SPAN("k")));
    struct buf text;
    buf_init(&text, 16 * MIB);
    base64_put(&text, all);
    buf_clear(&b);
    fb_assert(kinesis_unbase64(&b, buf_span(&text)) && span_eq(buf_span(&b), all));
    buf_fini(&text);
    buf_fini(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kinesis_refusal r;
    bool is_stored[4];
    struct buf b;
    char *copy = malloc(size ? size : 1); /* exact, so that a byte too far is seen */
    if (!copy)
        return 0;
    if (size)
        memcpy(copy, data, size);
    struct span all = {copy, size};
    kinesis_refusal_read(&r, 400, all);
    fb_assert(r.type[0]);
    (void)kinesis_refusal_code(&r, 400);
    (void)!kinesis_put_read(all, 4, is_stored, &r);
    read_keys(all);
    unpack(all);
    there_and_back(all);
    buf_init(&b, MIB); /* a right checksum over these bytes */
    buf_put(&b, "\xf3\x89\x9a\xc2", 4);
    buf_put(&b, all.at, all.len);
    kinesis_pack_end(&b, 0);
    unpack(buf_span(&b));
    buf_clear(&b);
    if (kinesis_unbase64(&b, all))
        fb_assert(b.len <= size);
    buf_fini(&b);
    free(copy);
    return 0;
}

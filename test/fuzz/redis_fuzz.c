/* SPDX-License-Identifier: Apache-2.0 */
/* redis_fuzz: answers of a Redis server under arbitrary bytes.
 *
 * Asserted: bytes that come at once and bytes that come in two parts give the same answers; a tree
 * is whole and never takes more memory than its maximum. */
#include "base/assert.h"
#include "stream/connectors/redis_codec.h"

#include <stdlib.h>

#define ANSWER_BYTES_MAX (64 * KIB)

static uint64_t digest(const struct redis_answer *a)
{
    uint64_t d = (uint64_t)a->kind * 31 + (uint64_t)a->number;
    for (size_t i = 0; i < a->text.len; i++)
        d = d * 131 + (unsigned char)a->text.at[i];
    if (a->kind == REDIS_STATUS || a->kind == REDIS_BYTES || a->kind == REDIS_ERROR)
        fb_assert(a->text.at[a->text.len] == '\0');
    for (uint32_t i = 0; i < a->count; i++)
        d = d * 137 + digest(&a->at[i]);
    return d;
}

/* Answers until an error or the end of the bytes. */
static uint64_t drain(struct redis_codec *c, uint64_t d, bool *is_bad)
{
    const struct redis_answer *a;
    struct fb_err err;
    while (!*is_bad) {
        enum fb_code code = redis_codec_next(c, &a, &err);
        fb_assert(c->taken <= ANSWER_BYTES_MAX);
        if (code == FB_E_AGAIN)
            break;
        *is_bad = code != FB_OK;
        if (code == FB_OK) {
            (void)redis_member(a, "data");
            d = d * 139 + digest(a);
        }
    }
    return d;
}

static uint64_t read_parts(const uint8_t *data, size_t size, size_t first)
{
    struct redis_codec c;
    struct fb_err err;
    uint64_t d = 1;
    bool is_bad = false;
    if (!redis_codec_init(&c, ANSWER_BYTES_MAX))
        return 0;
    for (int part = 0; part < 2 && !is_bad; part++) {
        struct span s = {(const char *)data + (part ? first : 0), part ? size - first : first};
        is_bad = s.len > 0 && redis_codec_feed(&c, s, &err) != FB_OK;
        d = drain(&c, d, &is_bad);
    }
    redis_codec_fini(&c);
    return d;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 16 * KIB)
        return 0;
    uint64_t whole = read_parts(data, size, size);
    fb_assert(whole == read_parts(data, size, size ? data[0] % size : 0));
    return 0;
}

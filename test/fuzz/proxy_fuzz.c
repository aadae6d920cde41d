/* SPDX-License-Identifier: Apache-2.0 */
/* proxy_fuzz: PROXY protocol headers under arbitrary bytes.
 *
 * Asserted: every cut of the bytes gives MORE or what the whole gives; waiting for more has an end;
 * a header written again from its facts is read as the same facts. */
#include "base/assert.h"
#include "proto/proxy_protocol.h"

#include <stdlib.h>

static void assert_same(const struct proxy_head *a, const struct proxy_head *b)
{
    fb_assert(a->version == b->version);
    fb_assert(a->family == b->family);
    fb_assert(a->is_local == b->is_local);
    fb_assert(a->source_port == b->source_port);
    fb_assert(a->target_port == b->target_port);
    fb_assert(memcmp(a->source, b->source, sizeof a->source) == 0);
    fb_assert(memcmp(a->target, b->target, sizeof a->target) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct proxy_head whole, part, again;
    char *copy = malloc(size ? size : 1), text[PROXY_WRITE_MAX_BYTES];
    if (!copy)
        return 0;
    if (size)
        memcpy(copy, data, size);
    enum proxy_step step = proxy_read((struct span){copy, size}, &whole);
    fb_assert(step != PROXY_MORE || size < PROXY_HEAD_MAX_BYTES);
    fb_assert(step != PROXY_DONE || whole.head_bytes <= size);
    size_t most = size < 300 ? size : 300; /* the interesting cuts */
    for (size_t cut = 0; cut < most; cut++) {
        enum proxy_step early = proxy_read((struct span){copy, cut}, &part);
        if (early == PROXY_DONE) {
            fb_assert(step == PROXY_DONE);
            fb_assert(part.head_bytes == whole.head_bytes);
            assert_same(&part, &whole);
        } else if (early == PROXY_FAILED) {
            fb_assert(step == PROXY_FAILED);
        } else {
            fb_assert(step != PROXY_DONE || cut < whole.head_bytes);
        }
    }
    if (step == PROXY_DONE) {
        size_t len = proxy_write(&whole, text);
        fb_assert(len <= sizeof text);
        fb_assert(proxy_read((struct span){text, len}, &again) == PROXY_DONE);
        fb_assert(again.head_bytes == len);
        assert_same(&again, &whole);
    }
    free(copy);
    return 0;
}

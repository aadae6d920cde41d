/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a packed body: bounded, and a body that comes out is one. */
#include "base/assert.h"
#include "output/unpack.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    if (len == 0)
        return 0;
    struct buf out;
    buf_init(&out, 64 * KIB);
    enum unpack_coding coding = bytes[0] & 1 ? UNPACK_ZSTD : UNPACK_ZLIB;
    enum unpack_result r = unpack(coding, (struct span){(const char *)bytes + 1, len - 1}, &out);
    fb_assert(out.len <= 64 * KIB);
    fb_assert((r == UNPACK_TOO_LARGE) == out.failed);
    fb_assert(len > 1 || r == UNPACK_BROKEN);
    buf_fini(&out);
    return 0;
}

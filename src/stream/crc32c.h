/* SPDX-License-Identifier: Apache-2.0 */
/* crc32c: the Castagnoli checksum (RFC 3720 appendix B.4) of blocks and headers.
 *
 * SSE4.2 when the processor has it (looked up once), a table otherwise.  Threads: any. */
#ifndef FB_STREAM_CRC32C_H
#define FB_STREAM_CRC32C_H
#include "base/base.h"

uint32_t crc32c(uint32_t before, const void *bytes, size_t len); /* begin with before = 0 */
uint32_t crc32c_table(uint32_t before, const void *bytes,
                      size_t len); /* the fallback, for its test */
#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* hybrid: Parquet's encoding of small numbers: runs of one value, and groups of eight packed bits.
 *
 * Source: apache/parquet-format, Encodings.md, "Run Length Encoding / Bit-Packing Hybrid (RLE =
 * 3)": run     varint(length << 1), then the value in ceil(bits / 8) bytes, little endian packed
 * varint(groups << 1 | 1), then eight values of <bits> bits per group, low bits first; the last
 * group is filled up with zeros, and the reader knows how many values there are Without the length
 * that stands before definition levels.  Pure.  Threads: any. */
#ifndef FB_QUERY_HYBRID_H
#define FB_QUERY_HYBRID_H
#include "base/buf.h"

/* Bits that hold 0..max, at least 1: a width of 0 is allowed, but not every reader knows it. */
uint32_t hybrid_bits(uint32_t max);
/* Values below 2^bits; bits is 1..32. */
void hybrid_put(struct buf *out, const uint32_t *values, uint32_t count, uint32_t bits);
#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* thrift: writes structs in Thrift's compact protocol, which Parquet's metadata is in.
 *
 * Source: apache/thrift, doc/specs/thrift-compact-protocol.md ("Struct encoding", "List and Set",
 * "Integer encoding").  Only what Parquet needs: no maps, sets, floats and messages, nothing is
 * read. Fields are written in the order of their ids.  Structs nest up to THRIFT_DEPTH_MAX; the
 * outermost one begins with thrift_init.  A buf without room has <failed>.  Pure.
 * Threads: a struct thrift belongs to one thread. */
#ifndef FB_QUERY_THRIFT_H
#define FB_QUERY_THRIFT_H
#include "base/buf.h"

#define THRIFT_DEPTH_MAX 8

enum thrift_type {
    THRIFT_TRUE = 1,
    THRIFT_FALSE = 2,
    THRIFT_BYTE = 3,
    THRIFT_I16 = 4,
    THRIFT_I32 = 5,
    THRIFT_I64 = 6,
    THRIFT_BINARY = 8,
    THRIFT_LIST = 9,
    THRIFT_STRUCT = 12
};

struct thrift {
    struct buf *out;
    uint32_t depth;                 /* of the struct that is open */
    int16_t last[THRIFT_DEPTH_MAX]; /* id of the field before, for each struct that is open */
};
void thrift_init(struct thrift *t, struct buf *out);
void thrift_bool(struct thrift *t, int16_t id, bool v);
void thrift_byte(struct thrift *t, int16_t id, int8_t v);
void thrift_i16(struct thrift *t, int16_t id, int16_t v);
void thrift_i32(struct thrift *t, int16_t id, int32_t v);
void thrift_i64(struct thrift *t, int16_t id, int64_t v);
void thrift_binary(struct thrift *t, int16_t id, struct span v);
void thrift_struct_begin(struct thrift *t, int16_t id);
void thrift_struct_end(struct thrift *t); /* also of the outermost one */
/* <count> items follow, each by one call of thrift_item_*. */
void thrift_list_begin(struct thrift *t, int16_t id, enum thrift_type type, uint32_t count);
void thrift_item_i32(struct thrift *t, int32_t v);
void thrift_item_binary(struct thrift *t, struct span v);
void thrift_item_struct_begin(struct thrift *t);
/* Seven bits per byte, the low ones first; the high bit says that more follow. */
void thrift_varint(struct buf *out, uint64_t v);
#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* kinesis_says: what Kinesis and the places of AWS's credentials say, and how records are packed.
 *
 *   several events of one key --pack--> f3 89 9a c2 | protobuf AggregatedRecord | MD5
 *
 * The packed form is the one of the Kinesis Producer Library: KCL, Lambda and Firehose unpack it.
 * All input may be hostile.  Pure.  Threads: any. */
#ifndef FB_STREAM_CONNECTORS_KINESIS_SAYS_H
#define FB_STREAM_CONNECTORS_KINESIS_SAYS_H
#include "base/buf.h"
#include "base/error.h"

#include <jansson.h>

/* An answer with another status than 200, or the first failed record of one. */
struct kinesis_refusal {
    char type[64]; /* ProvisionedThroughputExceededException */
    char message[200];
};
void kinesis_refusal_read(struct kinesis_refusal *out, long status, struct span body);
/* FB_E_AGAIN: the same later; FB_E_DENIED, FB_E_CONFIG: no use without a hand; FB_E_RANGE: this
 * request is not legal. */
enum fb_code kinesis_refusal_code(const struct kinesis_refusal *refusal, long status);

struct kinesis_keys {
    char id[132], secret[132];
    char token[8192];   /* "" none */
    uint64_t expires_s; /* since 1970; 0 never */
};
/* Of a container or instance.  False: <why> says what is wrong, without a secret. */
FB_MUST_USE
bool kinesis_keys_from_json(struct kinesis_keys *out, struct span body, char why[120]);
/* [profile] of a credentials file. */
FB_MUST_USE
bool kinesis_keys_from_ini(struct kinesis_keys *out, struct span text, const char *profile,
                           char why[120]);
/* "2026-11-22T18:00:00Z"; 0: not a time. */
uint64_t kinesis_time_s(const char *text);

/* Which of <count> records are stored; false: not an answer to them. */
FB_MUST_USE
bool kinesis_put_read(struct span body, uint32_t count, bool *is_stored,
                      struct kinesis_refusal *first);

/* ---- packing: begin, add..., end ---- */
#define KINESIS_PACK_ROOM                                                                          \
    32 /* most bytes that packing adds per event, and per pack beside its key */
void kinesis_pack_begin(struct buf *out, struct span key);
void kinesis_pack_add(struct buf *out, struct span value);
void kinesis_pack_end(struct buf *out, size_t begin); /* <begin>: out->len before the begin */

#define KINESIS_PACK_KEYS 256
struct kinesis_unpack {
    struct span rest; /* protobuf not read yet */
    struct span key[KINESIS_PACK_KEYS];
    uint32_t keys;
};
/* False: it is a plain record. */
bool kinesis_unpack_begin(struct kinesis_unpack *u, struct span data);
bool kinesis_unpack_next(struct kinesis_unpack *u, struct span *key, struct span *value);

/* Appends the bytes of <text>; false: it is no base64. */
FB_MUST_USE
bool kinesis_unbase64(struct buf *out, struct span text);
/* shardId-000000000012 is partition 12; false: no such name. */
FB_MUST_USE
bool kinesis_shard_number(const char *shard_id, uint32_t *number);
#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* positions: how far a source has come, per topic and partition, or by the ids seen last.
 *
 * One text in state.db ("source:NAME"), written after the events are durable:
 *   "p <partition> <position> <topic>" per partition; "i <hash>" per id of an unordered source.
 * Positions of one partition compare as numbers, part by part ("1700000000000-3"); a source without
 * an order (CONNECTOR_UNORDERED) keeps the newest POSITIONS_IDS ids.
 * Pure.  Threads: one at a time. */
#ifndef FB_STREAM_CONNECTORS_POSITIONS_H
#define FB_STREAM_CONNECTORS_POSITIONS_H
#include "base/buf.h"
#include "stream/connectors/connector.h"

#define POSITIONS_PARTITIONS_MAX 4096
#define POSITIONS_IDS 4096
#define POSITIONS_TEXT_MAX (8 * MIB)

struct position_row {
    char *topic;
    uint32_t partition;
    char at[CONNECTOR_POSITION_BYTES];
    uint64_t turn; /* of the last set */
};
struct positions {
    struct position_row *row;
    uint32_t count, cap;
    uint64_t turn;
    bool is_unordered;
    uint64_t *id; /* a ring */
    uint32_t id_at, id_count;
};

void positions_init(struct positions *p, bool is_unordered);
void positions_fini(struct positions *p);
void positions_load(struct positions *p, struct span text); /* lines that it cannot read are left */
void positions_save(const struct positions *p, struct buf *out);
/* NULL: none yet. */
const char *positions_get(const struct positions *p, const char *topic, uint32_t partition);
/* Is the message at or before what is known? */
bool positions_knows(const struct positions *p, const struct connector_message *m);
/* The row that was set longest ago makes place when all are taken.  False without memory. */
FB_MUST_USE
bool positions_set(struct positions *p, const char *topic, uint32_t partition, const char *at);
/* <0, 0, >0 */
int position_order(const char *a, const char *b);
#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* How far a source is, in offsets of its partitions.  Marks of transactions, aborted records and
 * what was compacted have offsets and are no messages: whoever consumed the last message of a
 * partition may have such behind it, and is at the end all the same when the library says so. */
#include "stream/connectors/kafka_int.h"

void kafka_assigned(struct connector *c, const rd_kafka_topic_partition_list_t *list)
{
    if (c->assigned)
        rd_kafka_topic_partition_list_destroy(c->assigned);
    c->assigned = list ? rd_kafka_topic_partition_list_copy(list) : NULL;
    for (int i = 0; c->assigned && i < c->assigned->cnt; i++)
        c->assigned->elems[i].opaque = NULL;
    c->known = 0;
    c->era++;
}

/* The number of what comes next, and one more: NULL is none. */
void kafka_is_at_end(struct connector *c, const rd_kafka_message_t *m)
{
    rd_kafka_topic_partition_t *p =
        c->assigned ? rd_kafka_topic_partition_list_find(c->assigned, rd_kafka_topic_name(m->rkt),
                                                         m->partition)
                    : NULL;
    if (p && m->offset >= 0)
        p->opaque = (void *)(intptr_t)(m->offset + 1);
}

bool kafka_place(struct connector *c, struct connector_place *place)
{
    uint32_t known = 0;
    if (!c->rk || !c->assigned)
        return false;
    place->came = place->behind = 0;
    rd_kafka_position(c->rk, c->assigned);
    for (int i = 0; i < c->assigned->cnt; i++) {
        const rd_kafka_topic_partition_t *p = &c->assigned->elems[i];
        int64_t low, high, at = (int64_t)(intptr_t)p->opaque - 1;
        at = p->offset > at ? p->offset : at;
        if (at < 0 || rd_kafka_get_watermark_offsets(c->rk, p->topic, p->partition, &low, &high) !=
                          RD_KAFKA_RESP_ERR_NO_ERROR)
            continue;
        known++;
        place->came += (uint64_t)at;
        place->behind += high > at ? (uint64_t)(high - at) : 0;
    }
    c->era += known != c->known;
    c->known = known;
    place->era = c->era;
    return known > 0;
}

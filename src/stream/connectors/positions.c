/* SPDX-License-Identifier: Apache-2.0 */
#include "stream/connectors/positions.h"

#include "base/assert.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

void positions_init(struct positions *p, bool is_unordered)
{
    *p = (struct positions){.is_unordered = is_unordered};
}

void positions_fini(struct positions *p)
{
    for (uint32_t i = 0; i < p->count; i++)
        free(p->row[i].topic);
    free(p->row);
    free(p->id);
    *p = (struct positions){0};
}

/* One run of digits each, without leading zeros, longer is larger. */
static int part_order(struct span a, struct span b)
{
    while (a.len > 1 && a.at[0] == '0')
        a = (struct span){a.at + 1, a.len - 1};
    while (b.len > 1 && b.at[0] == '0')
        b = (struct span){b.at + 1, b.len - 1};
    if (a.len != b.len)
        return a.len < b.len ? -1 : 1;
    return a.len ? memcmp(a.at, b.at, a.len) : 0;
}

int position_order(const char *a, const char *b)
{
    struct span ra = span_of(a), rb = span_of(b);
    while (ra.len || rb.len) {
        struct span pa = span_cut(ra, '-', &ra), pb = span_cut(rb, '-', &rb);
        int order = part_order(pa, pb);
        if (order)
            return order;
    }
    return 0;
}

/* FNV-1a of topic and id: 4,096 of them collide once in 10^12 messages. */
static uint64_t id_of(const char *topic, const char *at)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    const char *const parts[] = {topic, at};
    for (size_t i = 0; i < FB_COUNT(parts); i++)
        for (const char *c = parts[i];; c++) {
            h = (h ^ (unsigned char)*c) * UINT64_C(0x100000001b3);
            if (!*c)
                break;
        }
    return h;
}

static bool id_add(struct positions *p, uint64_t id)
{
    if (!p->id && !(p->id = calloc(POSITIONS_IDS, sizeof *p->id)))
        return false;
    p->id[p->id_at] = id;
    p->id_at = (p->id_at + 1) % POSITIONS_IDS;
    p->id_count += p->id_count < POSITIONS_IDS;
    return true;
}

static struct position_row *find(const struct positions *p, const char *topic, uint32_t partition)
{
    for (uint32_t i = 0; i < p->count; i++)
        if (p->row[i].partition == partition && strcmp(p->row[i].topic, topic) == 0)
            return &p->row[i];
    return NULL;
}

const char *positions_get(const struct positions *p, const char *topic, uint32_t partition)
{
    const struct position_row *row = find(p, topic, partition);
    return row ? row->at : NULL;
}

bool positions_knows(const struct positions *p, const struct connector_message *m)
{
    if (p->is_unordered) {
        uint64_t id = id_of(m->topic, m->position);
        for (uint32_t i = 0; i < p->id_count; i++)
            if (p->id[i] == id)
                return true;
        return false;
    }
    const char *at = positions_get(p, m->topic, m->partition);
    return at && position_order(m->position, at) <= 0;
}

/* Names of a source come and go (a rotated file is a new topic each time). */
static void drop_oldest(struct positions *p)
{
    struct position_row *oldest = &p->row[0];
    for (uint32_t i = 1; i < p->count; i++)
        if (p->row[i].turn < oldest->turn)
            oldest = &p->row[i];
    free(oldest->topic);
    *oldest = p->row[--p->count];
}

bool positions_set(struct positions *p, const char *topic, uint32_t partition, const char *at)
{
    if (p->is_unordered)
        return id_add(p, id_of(topic, at));
    struct position_row *row = find(p, topic, partition);
    if (!row) {
        if (p->count == POSITIONS_PARTITIONS_MAX)
            drop_oldest(p);
        if (p->count == p->cap) {
            uint32_t cap = p->cap ? 2 * p->cap : 16;
            struct position_row *more = realloc(p->row, cap * sizeof *more);
            if (!more)
                return false;
            p->row = more;
            p->cap = cap;
        }
        char *copy = strdup(topic);
        if (!copy)
            return false;
        row = &p->row[p->count++];
        *row = (struct position_row){.topic = copy, .partition = partition};
    }
    snprintf(row->at, sizeof row->at, "%s", at);
    row->turn = ++p->turn;
    return true;
}

void positions_save(const struct positions *p, struct buf *out)
{
    for (uint32_t i = 0; i < p->count; i++)
        buf_printf(out, "p %u %s %s\n", p->row[i].partition, p->row[i].at, p->row[i].topic);
    for (uint32_t i = 0; i < p->id_count; i++) {
        uint32_t at = (p->id_at + POSITIONS_IDS - p->id_count + i) % POSITIONS_IDS;
        buf_printf(out, "i %016" PRIx64 "\n", p->id[at]);
    }
}

void positions_load(struct positions *p, struct span text)
{
    while (text.len) {
        struct span line = span_cut(text, '\n', &text), rest;
        struct span kind = span_cut(line, ' ', &rest);
        uint64_t partition;
        char at[CONNECTOR_POSITION_BYTES], topic[1200];
        if (span_eq(kind, SPAN("i")) && rest.len == 16 && p->is_unordered) {
            snprintf(at, sizeof at, "%.*s", SPAN_ARG(rest));
            (void)!id_add(p, strtoull(at, NULL, 16));
        } else if (span_eq(kind, SPAN("p")) && !p->is_unordered) {
            bool is_number = span_to_u64(span_cut(rest, ' ', &rest), &partition);
            struct span position = span_cut(rest, ' ', &rest);
            if (!is_number || partition > UINT32_MAX || position.len >= sizeof at ||
                rest.len >= sizeof topic)
                continue;
            snprintf(at, sizeof at, "%.*s", SPAN_ARG(position));
            snprintf(topic, sizeof topic, "%.*s", SPAN_ARG(rest));
            (void)!positions_set(p, topic, (uint32_t)partition, at);
        }
    }
}

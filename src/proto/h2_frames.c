/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/h2_frames.h"

#define PREFACE_BYTES 24
#define FRAME_HEAD_BYTES 9
#define DATA_TYPE 0
#define HEADERS_TYPE 1
#define PRIORITY_TYPE 2
#define RST_STREAM_TYPE 3
#define END_STREAM 1
#define PRIORITY_BYTES 5

static bool find(const struct h2_past *p, int32_t id, bool *is_ours)
{
    for (uint32_t i = 0; i < H2_PAST; i++) {
        if ((p->ids[i] | 1) == id && p->ids[i] != 0) {
            *is_ours = (p->ids[i] & 1) == 0;
            return true;
        }
    }
    return false;
}

void h2_past_add(struct h2_past *p, int32_t id, bool is_ours)
{
    if ((id & 1) == 0)
        return;
    int32_t *at = &p->ids[p->at++ % H2_PAST];
    if ((*at | 1) > p->forgotten && *at != 0)
        p->forgotten = *at | 1;
    *at = is_ours ? id & ~1 : id;
}

void h2_past_reset(struct h2_past *p, int32_t id)
{
    for (uint32_t i = 0; i < H2_PAST; i++) {
        if ((p->ids[i] | 1) == id && p->ids[i] != 0)
            p->ids[i] = id;
    }
}

enum h2_frame_verdict h2_past_judge(struct h2_past *p, int32_t id)
{
    bool is_ours;
    if (id > p->highest) {
        p->highest = id;
        return H2_FRAME_OK;
    }
    if (find(p, id, &is_ours))
        return is_ours ? H2_FRAME_OK : H2_FRAME_CLOSED;
    return id <= p->forgotten ? H2_FRAME_OK : H2_FRAME_NEVER_OPENED;
}

void h2_scan_begin(struct h2_scan *s)
{
    *s = (struct h2_scan){.skip = PREFACE_BYTES};
}

enum h2_scan_step h2_scan_next(struct h2_scan *s, struct span bytes, size_t *at)
{
    while (*at < bytes.len) {
        size_t n = fb_min_u64(s->skip, bytes.len - *at);
        s->skip -= (uint32_t)n;
        *at += n;
        bool is_whole = s->got >= FRAME_HEAD_BYTES;
        size_t want = is_whole ? sizeof s->head : FRAME_HEAD_BYTES;
        n = fb_min_u64(want - s->got, bytes.len - *at);
        memcpy(s->head + s->got, bytes.at + *at, n);
        s->got = (uint8_t)(s->got + n);
        *at += n;
        if (s->got < want)
            break;
        uint32_t length = (uint32_t)s->head[0] << 16 | (uint32_t)s->head[1] << 8 | s->head[2];
        uint8_t type = s->head[3];
        if (type == PRIORITY_TYPE && length == PRIORITY_BYTES && !is_whole)
            continue;
        s->skip = is_whole ? length - 4 : length;
        s->got = 0;
        if (is_whole && (s->head[5] & 0x7f) == (s->head[9] & 0x7f) &&
            memcmp(s->head + 6, s->head + 10, 3) == 0)
            return H2_SCAN_PRIORITY;
        bool is_last = (s->head[4] & END_STREAM) != 0;
        s->is_stale = s->is_stale || type == RST_STREAM_TYPE || (type == HEADERS_TYPE && is_last);
        if (type == DATA_TYPE) {
            s->is_last = is_last;
            s->id = (int32_t)((uint32_t)(s->head[5] & 0x7f) << 24 | (uint32_t)s->head[6] << 16 |
                              (uint32_t)s->head[7] << 8 | s->head[8]);
            return H2_SCAN_DATA;
        }
    }
    return H2_SCAN_END;
}

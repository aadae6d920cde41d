/* SPDX-License-Identifier: Apache-2.0 */
/* trailers: fields behind a body, kept until the body has gone.
 *
 * A few short ones lie in the room itself.  Those of gRPC may be as large as a head (a status with
 * details): they get a piece of memory of their own, as large as they are. */
#include "base/assert.h"
#include "gateway/gateway_int.h"

struct trailer_room *trailers_take(struct worker *w)
{
    struct trailer_room *room = slab_take(&w->trailers);
    if (!room)
        return NULL;
    room->wide = NULL;
    room->t = (struct http1_trailers){.at = room->bytes,
                                      .cap = sizeof room->bytes,
                                      .fields = room->fields,
                                      .field_max = FB_COUNT(room->fields)};
    return room;
}

void trailers_give(struct worker *w, struct trailer_room *room)
{
    if (!room)
        return;
    chunk_give(&w->chunks, room->wide);
    slab_give(&w->trailers, room);
}

bool trailers_keep(struct worker *w, struct trailer_room *room, const struct http1_field *fields,
                   uint32_t count)
{
    uint32_t kept = 0;
    size_t bytes = 0;
    fb_assert(room->t.field_count == 0);
    for (uint32_t i = 0; i < count; i++) {
        if (fields[i].flags & (HTTP1_FIELD_NO_TRAILER | HTTP1_FIELD_HOP))
            continue;
        bytes += fields[i].name.len + fields[i].value.len;
        kept++;
    }
    if (kept > room->t.field_max || bytes > room->t.cap) {
        size_t table = kept * sizeof *fields;
        room->wide = chunk_take(&w->chunks, table + bytes);
        if (!room->wide)
            return false;
        room->t.fields = (void *)room->wide->at;
        room->t.field_max = kept;
        room->t.at = room->wide->at + table;
        room->t.cap = (uint32_t)bytes;
    }
    char *at = room->t.at;
    for (uint32_t i = 0; i < count; i++) {
        if (fields[i].flags & (HTTP1_FIELD_NO_TRAILER | HTTP1_FIELD_HOP))
            continue;
        struct http1_field *f = &room->t.fields[room->t.field_count++];
        *f = fields[i];
        memcpy(at, f->name.at, f->name.len);
        f->name.at = at;
        at += f->name.len;
        if (f->value.len)
            memcpy(at, f->value.at, f->value.len);
        f->value.at = at;
        at += f->value.len;
    }
    return true;
}

size_t trailers_text_bytes(const struct http1_trailers *t)
{
    size_t bytes = 0;
    for (uint32_t i = 0; i < t->field_count; i++)
        bytes += t->fields[i].name.len + t->fields[i].value.len + sizeof(": \r\n") - 1;
    return bytes;
}

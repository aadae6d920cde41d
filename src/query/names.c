/* SPDX-License-Identifier: Apache-2.0 */
#include "query/names.h"

#include <stdlib.h>
#include <string.h>

void names_init(struct names *n)
{
    memset(n, 0, sizeof *n);
}

void names_fini(struct names *n)
{
    for (size_t k = 0; k < NAME_KINDS; k++)
        free(n->at[k]);
    names_init(n);
}

static bool make_room(struct names *n, uint8_t kind, uint32_t count)
{
    if (count <= n->count[kind])
        return true;
    uint32_t room = (count + 63) / 64 * 64;
    void *more = realloc(n->at[kind], (size_t)room * NAME_BYTES);
    if (!more)
        return false;
    n->at[kind] = more;
    memset(n->at[kind] + n->count[kind], 0, (size_t)(room - n->count[kind]) * NAME_BYTES);
    n->count[kind] = room;
    return true;
}

bool names_set(struct names *n, uint8_t kind, uint16_t number, const char *name)
{
    if (kind >= NAME_KINDS || number == EV_NONE)
        return true;
    if (!make_room(n, kind, number + UINT32_C(1)))
        return false;
    char *to = n->at[kind][number];
    size_t len = strnlen(name, NAME_BYTES - 1);
    memcpy(to, name, len);
    to[len] = '\0';
    return true;
}

bool names_feed(struct names *n, const struct ev_name *ev)
{
    char name[NAME_BYTES] = {0};
    memcpy(name, ev->name, sizeof ev->name);
    /* What left the configuration keeps its name: its last events may come behind. */
    return names_set(n, ev->kind, ev->number, name);
}

bool names_copy(struct names *to, const struct names *from)
{
    for (uint8_t k = 0; k < NAME_KINDS; k++) {
        if (!make_room(to, k, from->count[k]))
            return false;
        if (to->count[k])
            memset(to->at[k], 0, (size_t)to->count[k] * NAME_BYTES);
        if (from->count[k])
            memcpy(to->at[k], from->at[k], (size_t)from->count[k] * NAME_BYTES);
    }
    return true;
}

const char *names_get(const struct names *n, uint8_t kind, uint16_t number)
{
    return kind < NAME_KINDS && number < n->count[kind] ? n->at[kind][number] : "";
}

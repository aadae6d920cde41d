/* SPDX-License-Identifier: Apache-2.0 */
#include "io/srv.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define TYPE_SRV 33
/* Each jump of a compressed name goes to another place; 64 are more than a name can need. */
#define JUMPS_MAX 64

static int compare(const void *x, const void *y);

struct cursor {
    struct span all;
    size_t at;
    bool is_bad;
};

static uint32_t number(struct cursor *c, size_t bytes)
{
    uint32_t value = 0;
    if (c->is_bad || c->all.len - c->at < bytes) {
        c->is_bad = true;
        return 0;
    }
    for (size_t i = 0; i < bytes; i++)
        value = value << 8 | (unsigned char)c->all.at[c->at++];
    return value;
}

static bool is_host_char(char ch)
{
    return isalnum((unsigned char)ch) || ch == '-' || ch == '_';
}

/* Reads a name, compressed or not, behind the cursor; false: it is none that a host could have.
 * <out> may be NULL. */
static bool name(struct cursor *c, char out[256])
{
    struct cursor at = *c;
    size_t len = 0;
    uint32_t jumps = 0;
    bool is_host = true;
    for (;;) {
        uint32_t label = number(&at, 1);
        if (at.is_bad || label == 0)
            break;
        if (label >= 0xc0) {
            uint32_t to = (label & 0x3f) << 8 | number(&at, 1);
            if (jumps++ == 0)
                c->at = at.at; /* what follows the name follows the first jump */
            if (jumps > JUMPS_MAX || to >= at.all.len)
                at.is_bad = true;
            at.at = to;
        } else if (label > 63 || at.all.len - at.at < label || len + label + 1 > 254) {
            at.is_bad = true;
        } else {
            for (uint32_t i = 0; i < label; i++) {
                char ch = at.all.at[at.at + i];
                is_host &= is_host_char(ch);
                if (out)
                    out[len + i] = (char)tolower((unsigned char)ch);
            }
            len += label;
            if (out)
                out[len] = '.';
            len++;
            at.at += label;
        }
        if (at.is_bad)
            break;
    }
    c->is_bad = at.is_bad;
    if (jumps == 0)
        c->at = at.at;
    if (out)
        out[len > 0 ? len - 1 : 0] = '\0';
    return is_host && len > 0 && !c->is_bad;
}

static void record(struct cursor *c, struct srv_list *list)
{
    name(c, NULL);
    uint32_t type = number(c, 2);
    number(c, 2); /* class: one was asked for */
    uint32_t ttl_s = number(c, 4);
    uint32_t bytes = number(c, 2);
    if (c->is_bad || c->all.len - c->at < bytes) {
        c->is_bad = true;
        return;
    }
    size_t end = c->at + bytes;
    if (list->ttl_s == 0 || ttl_s < list->ttl_s)
        list->ttl_s = ttl_s > 0 ? ttl_s : 1;
    if (type == TYPE_SRV) {
        struct srv s = {.priority = (uint16_t)number(c, 2)};
        s.weight = (uint16_t)number(c, 2);
        s.port = (uint16_t)number(c, 2);
        bool is_good = name(c, s.host) && s.port > 0;
        if (c->is_bad || c->at > end) {
            c->is_bad = true;
            return;
        }
        if (is_good && list->count < SRV_MAX)
            list->at[list->count++] = s;
        else if (is_good)
            list->ignored++;
    }
    c->at = end;
}

bool srv_parse(struct span answer, struct srv_list *list)
{
    struct cursor c = {.all = answer};
    memset(list, 0, sizeof *list);
    number(&c, 4); /* id and flags */
    uint32_t questions = number(&c, 2);
    uint32_t answers = number(&c, 2);
    number(&c, 4);
    for (uint32_t i = 0; i < questions && !c.is_bad; i++) {
        name(&c, NULL);
        number(&c, 4);
    }
    for (uint32_t i = 0; i < answers && !c.is_bad; i++)
        record(&c, list);
    if (c.is_bad)
        memset(list, 0, sizeof *list);
    qsort(list->at, list->count, sizeof list->at[0], compare);
    return !c.is_bad;
}

bool srv_same(const struct srv_list *a, const struct srv_list *b)
{
    return a->count == b->count && memcmp(a->at, b->at, a->count * sizeof a->at[0]) == 0;
}

static int compare(const void *x, const void *y)
{
    const struct srv *a = x, *b = y;
    if (a->priority != b->priority)
        return a->priority < b->priority ? -1 : 1;
    int order = strcmp(a->host, b->host);
    return order ? order : (int)a->port - (int)b->port;
}

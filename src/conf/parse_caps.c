/* SPDX-License-Identifier: Apache-2.0 */
/* `concurrency`: a number for all together, a list of maps for one client each, or a list of both.
 */
#include "conf/conf_int.h"

#include <stdio.h>
#include <string.h>
#include <xxhash.h>

static void parse_cap(struct reader *rd, const struct node *n, struct conf_caps *caps)
{
    struct conf_cap cap = {.status = 429};
    const struct node *max = NULL;
    char path[NODE_PATH_BYTES];
    uint64_t number;
    who_default(&cap.who);
    size_t errors = rd->report->error_count;
    for (const struct node *k = n->first; k; k = k->next) {
        switch (read_key(rd, k, LEVEL_CAP)) {
        case KEY_CAP_max:
            max = k;
            if (read_key_number(rd, k, KEY_CAP_max, &number))
                cap.most = (uint32_t)number;
            break;
        case KEY_CAP_by:
            if (read_who(rd, k, true, &cap.who) && cap.who.by == CONF_WHO_ROUTE)
                problem(rd, k,
                        "%s: all together are a number beside the map, for example [1000, { max: "
                        "10, by: address }]",
                        node_path(k, path));
            break;
        case KEY_CAP_status:
            if (read_key_number(rd, k, KEY_CAP_status, &number))
                cap.status = (uint16_t)number;
            break;
        default:
            break;
        }
    }
    if (!max && rd->report->error_count == errors)
        problem(rd, n, "%s needs `max`, for example { max: 10, by: address }", node_path(n, path));
    bool is_again = false;
    for (uint8_t i = 0; i < caps->count; i++)
        is_again |= strcmp(caps->at[i].who.text, cap.who.text) == 0;
    if (is_again && rd->report->error_count == errors)
        problem(rd, n, "%s counts the same clients as one before it: remove one of them",
                node_path(n, path));
    if (caps->count == CONF_CAPS_MAX)
        problem(rd, n, "%s counts clients in more than %d ways: remove one", node_path(n, path),
                CONF_CAPS_MAX);
    else
        caps->at[caps->count++] = cap;
}

void parse_caps(struct reader *rd, const struct node *n, enum conf_key key, uint32_t *all,
                struct conf_caps *caps)
{
    char path[NODE_PATH_BYTES];
    uint64_t number;
    if (n->kind == NODE_SCALAR) {
        if (read_key_number(rd, n, key, &number))
            *all = (uint32_t)number;
        return;
    }
    if (n->kind == NODE_MAP) {
        parse_cap(rd, n, caps);
        return;
    }
    if (!read_is(rd, n, NODE_LIST, "[1000, { max: 10, by: address }]"))
        return;
    if (n->count == 0)
        problem(rd, n, "%s is empty: write [{ max: 10, by: address }], or remove it",
                node_path(n, path));
    for (const struct node *k = n->first; k; k = k->next) {
        if (k->kind == NODE_MAP) {
            parse_cap(rd, k, caps);
            continue;
        }
        if (*all)
            problem(rd, k, "%s: all together have one number, got a second one; remove one",
                    node_path(k, path));
        else if (read_key_number(rd, k, key, &number))
            *all = (uint32_t)number;
    }
}

/* A client keeps what it has in hand over a reload while its route or service and `by` stay. */
void parse_caps_name(struct conf_caps *caps, const char *kind, const char *name)
{
    for (uint8_t i = 0; i < caps->count; i++) {
        char text[600];
        int n = snprintf(text, sizeof text, "%s\n%.300s\n%.200s", kind, name ? name : "",
                         caps->at[i].who.text);
        caps->at[i].id = XXH3_64bits(text, (size_t)n);
    }
}

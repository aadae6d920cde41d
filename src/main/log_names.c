/* SPDX-License-Identifier: Apache-2.0 */
#include "main/log_names.h"

#include "query/scan.h"
#include "stream/segment.h"
#include "stream/sequencer.h"
#include "stream/state.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Names are looked for in so many events at most: half a second of reading.  Four times as many
 * would make every question about the last minute of a large log wait for two seconds. */
#define LOOK_EVENTS_MAX UINT64_C(8000000)

enum fb_code log_place_find(struct log_place *place, const char *dir, const char *state,
                            struct fb_err *err)
{
    char file[700];
    struct segment_list list = {0};
    const char *folder = dir ? dir : state;
    if (snprintf(place->log, sizeof place->log, "%s/log", folder) >= (int)sizeof place->log)
        return fb_fail(err, FB_E_RANGE, "--dir: longer than %zu bytes", sizeof place->log - 1);
    snprintf(place->state, sizeof place->state, "%s", folder);
    /* <folder>/log is a log even before its first block is on disk. */
    bool is_log = access(place->log, F_OK) == 0;
    if (!is_log && dir) { /* the log folder itself */
        snprintf(place->log, sizeof place->log, "%s", dir);
        snprintf(place->state, sizeof place->state, "%s/..", dir);
    }
    snprintf(file, sizeof file, "%s/state.db", place->state);
    if (access(file, R_OK) != 0)
        place->state[0] = '\0';
    enum fb_code code = FB_E_NOT_FOUND;
    if (access(place->log, F_OK) == 0)
        code = segment_list_read(&list, place->log, err);
    size_t count = list.count;
    segment_list_fini(&list);
    if (code == FB_E_NOT_FOUND || (code == FB_OK && count == 0 && !is_log))
        return fb_fail(err, FB_E_NOT_FOUND,
                       "no event log in %s; name its folder with --state or --dir", folder);
    return code;
}

static enum fb_code load(struct state *st, uint64_t at_least, struct names *names, uint64_t *offset)
{
    struct state_snapshot snap;
    struct fold fold = {0};
    enum fb_code code = state_snapshot_find(st, "fold", at_least, &snap, NULL);
    if (code != FB_OK)
        return code;
    *offset = snap.offset;
    struct span bytes = {snap.bytes, snap.len};
    size_t head = sizeof(struct sequencer_saved);
    code = bytes.len < head ? FB_E_FORMAT : fold_init(&fold, NULL);
    if (code == FB_OK)
        code = fold_load(&fold, (struct span){bytes.at + head, bytes.len - head}, NULL);
    for (uint8_t kind = 1; code == FB_OK && kind < NAME_KINDS; kind++)
        for (uint32_t i = 0; i < EV_NONE; i++) {
            const char *name = engine_name(fold.engine, (enum ev_kind)kind, (uint16_t)i);
            if (name[0] && !names_set(names, kind, (uint16_t)i, name))
                code = FB_E_NOMEM;
        }
    fold_fini(&fold);
    free(snap.bytes);
    return code;
}

struct nearest {
    uint64_t offset, best;
    bool is_found;
};

/* Rows of state_list: "offset epoch bytes". */
static bool look(void *arg, const char *key, struct span value)
{
    struct nearest *n = arg;
    struct span rest;
    uint64_t offset;
    if (strncmp(key, "fold", 4) == 0 && span_to_u64(span_cut(value, ' ', &rest), &offset) &&
        offset <= n->offset && (!n->is_found || offset > n->best)) {
        n->best = offset;
        n->is_found = true;
    }
    return true;
}

enum fb_code log_fold_newest(const struct log_place *place, struct fold *fold, uint64_t *offset,
                             struct fb_err *err)
{
    struct state *st = NULL;
    struct nearest near = {.offset = UINT64_MAX};
    struct state_snapshot snap;
    size_t head = sizeof(struct sequencer_saved);
    *offset = 0;
    if (!place->state[0] || state_peek(&st, place->state, NULL) != FB_OK)
        return FB_OK;
    enum fb_code code = state_list(st, STATE_LIST_SNAPSHOTS, look, &near, err);
    if (code == FB_OK && near.is_found &&
        state_snapshot_find(st, "fold", near.best, &snap, NULL) == FB_OK) {
        struct span bytes = {snap.bytes, snap.len};
        if (bytes.len >= head)
            code = fold_load(fold, (struct span){bytes.at + head, bytes.len - head}, err);
        *offset = snap.offset;
        free(snap.bytes);
    }
    state_close(st);
    return code;
}

bool log_names_at(void *arg, uint64_t offset, struct names *names)
{
    const struct log_place *place = arg;
    struct state *st = NULL;
    struct log_reader *reader;
    struct nearest near = {.offset = offset};
    uint64_t known = 0, first;
    names_init(names);
    if (log_reader_open(&reader, place->log, LOG_FROM_START, NULL) != FB_OK)
        return true; /* numbers have no names then; the scan says what is wrong */
    first = log_reader_first(reader);
    log_reader_close(reader);
    if (offset <= first && first == 0)
        return true;
    enum fb_code code = FB_OK;
    if (place->state[0] && state_peek(&st, place->state, NULL) == FB_OK) {
        if (state_list(st, STATE_LIST_SNAPSHOTS, look, &near, NULL) != FB_OK)
            near.is_found = false;
        bool is_near_start = offset - fb_min_u64(first, offset) <= LOOK_EVENTS_MAX && first == 0;
        if (near.is_found || !is_near_start)
            code = load(st, near.is_found ? near.best : offset, names, &known);
        state_close(st);
    }
    if (code == FB_E_NOMEM)
        return false;
    known = fb_max_u64(known, first);
    if (offset > known && (offset - known <= LOOK_EVENTS_MAX || !st))
        code = scan_learn(place->log, known, offset, names);
    return code != FB_E_NOMEM;
}

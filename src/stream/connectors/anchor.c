/* SPDX-License-Identifier: Apache-2.0 */
#include "stream/connectors/anchor.h"

#include "base/clock.h"
#include "stream/connectors/runner_int.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define READERS_MAX 256
#define NAME_PREFIX "connector:"
/* Between two writes of the anchor: a log that went another way in the last 10 s is told by its end
 * alone. */
#define ANCHOR_EACH_US (10 * US_PER_S)

static void key_of(const char *name, const char *what, char out[96])
{
    snprintf(out, 96, NAME_PREFIX "%.64s:%s", name, what);
}

/* ---- at the start of foldback ---- */
struct found {
    uint64_t log_end;
    struct {
        char name[64];
        uint64_t offset;
    } at[READERS_MAX];
    uint32_t count;
};

static bool each_reader(void *arg, const char *key, struct span value)
{
    struct found *f = arg;
    uint64_t offset;
    size_t len = strlen(NAME_PREFIX);
    if (strncmp(key, NAME_PREFIX, len) != 0 || !span_to_u64(value, &offset) || offset <= f->log_end)
        return true;
    snprintf(f->at[f->count].name, sizeof f->at[0].name, "%s", key + len);
    f->at[f->count].offset = offset;
    return ++f->count < READERS_MAX;
}

enum fb_code anchor_scan(const char *state_dir, uint64_t log_end, struct fb_err *err)
{
    struct state *st;
    struct found *f = calloc(1, sizeof *f);
    if (!f)
        return fb_fail(err, FB_E_NOMEM, "no memory for the positions of connectors");
    f->log_end = log_end;
    enum fb_code code = state_open(&st, state_dir, NULL, err);
    if (code == FB_OK) {
        code = state_list(st, STATE_LIST_READERS, each_reader, f, err);
        for (uint32_t i = 0; i < f->count && code == FB_OK; i++) {
            char key[96], text[24];
            key_of(f->at[i].name, "beyond", key);
            snprintf(text, sizeof text, "%" PRIu64, f->at[i].offset);
            code = state_meta_set(st, key, span_of(text), err);
        }
        state_close(st);
    }
    free(f);
    return code;
}

/* ---- of one connector ---- */
static bool read_meta(struct runner *r, const char *what, char *out, size_t size)
{
    char key[96], *text = NULL;
    struct fb_err err;
    key_of(r->c->name, what, key);
    bool is_there = state_meta_get(r->state, key, &text, &err) == FB_OK && text[0];
    snprintf(out, size, "%s", is_there ? text : "");
    free(text);
    return is_there;
}

/* False: the event at <offset> was written by another start of foldback than the one whose event
 * was delivered.  What cannot be read (retention, damage, a key) tells nothing. */
static bool is_of_epoch(struct runner *r, uint64_t offset, uint64_t epoch)
{
    char dir[600];
    struct log_reader *reader;
    const struct ev_head *ev;
    struct fb_err err;
    uint64_t at;
    bool is_so = true;
    snprintf(dir, sizeof dir, "%s/log", r->setup->state_dir);
    if (log_reader_open(&reader, dir, offset, &err) != FB_OK)
        return true;
    if (log_reader_next(reader, &ev, &at) == FB_OK && at == offset)
        is_so = log_reader_epoch(reader) == epoch;
    log_reader_close(reader);
    return is_so;
}

bool anchor_holds(struct runner *r, uint64_t offset, uint64_t *beyond)
{
    char text[80];
    struct span epoch;
    uint64_t at, of;
    *beyond = offset;
    if (read_meta(r, "beyond", text, sizeof text)) {
        (void)!span_to_u64(span_of(text), beyond);
        return false;
    }
    bool has_anchor = read_meta(r, "anchor", text, sizeof text) &&
                      span_to_u64(span_cut(span_of(text), ' ', &epoch), &at) &&
                      span_to_u64(epoch, &of) && at < offset;
    if (has_anchor && !is_of_epoch(r, at, of))
        return false;
    *beyond = 0;
    return true;
}

enum fb_code anchor_cleared(struct runner *r, struct fb_err *err)
{
    static const char *const whats[] = {"beyond", "anchor"};
    enum fb_code code = FB_OK;
    char key[96], text[80];
    for (size_t i = 0; i < FB_COUNT(whats) && code == FB_OK; i++) {
        if (!read_meta(r, whats[i], text, sizeof text))
            continue;
        key_of(r->c->name, whats[i], key);
        code = state_meta_set(r->state, key, SPAN(""), err);
    }
    return code;
}

void anchor_drop(struct runner *r, bool is_now)
{
    char key[96], text[80];
    struct fb_err err;
    uint64_t now_us = fb_mono_us();
    if (!r->seen_epoch || r->committed != r->seen_offset + 1 || r->anchored == r->committed ||
        (!is_now && now_us - r->anchored_us < ANCHOR_EACH_US))
        return;
    key_of(r->c->name, "anchor", key);
    snprintf(text, sizeof text, "%" PRIu64 " %" PRIu32, r->seen_offset, r->seen_epoch);
    r->anchored_us = now_us;
    if (state_meta_set(r->state, key, span_of(text), &err) == FB_OK)
        r->anchored = r->committed; /* else at the next commit: the older one still holds */
}

void anchor_displaced(struct runner *r, uint64_t beyond, uint64_t from, bool is_receivers)
{
    char where[80];
    if (from == LOG_FROM_START)
        snprintf(where, sizeof where, "the start");
    else
        snprintf(where, sizeof where, "offset %" PRIu64, from);
    RUNNER_STATUS(r, {
        r->status.displaced++;
        snprintf(r->status.displaced_text, sizeof r->status.displaced_text,
                 "connector %s: %sposition %" PRIu64
                 " is of another log (was a copy put back?): goes on at %s; all again: "
                 "`connector reset %s --at start`",
                 r->c->name, is_receivers ? "the receiver's " : "", beyond, where, r->c->name);
    });
}

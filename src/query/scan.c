/* SPDX-License-Identifier: Apache-2.0 */
#include "query/scan.h"

#include "base/assert.h"
#include "base/clock.h"

#include <inttypes.h>

#define PROGRESS_EVENTS (UINT64_C(1) << 18)

static uint64_t bit_of(uint8_t type)
{
    return UINT64_C(1) << (type & 63);
}

enum fb_code scan_open(struct scan *s, struct scan_source *source, struct fb_err *err)
{
    _Static_assert(EV_TYPE_END <= 64, "a mask of types has 64 bits");
    *s = (struct scan){.source = source, .base_at = UINT64_MAX, .is_at_end = true};
    names_init(&s->base);
    names_init(&s->names);
    return log_reader_open(&s->reader, source->dir, LOG_FROM_START, err);
}

void scan_close(struct scan *s)
{
    log_reader_close(s->reader);
    names_fini(&s->base);
    names_fini(&s->names);
    s->reader = NULL;
}

enum fb_code scan_begin(struct scan *s, const struct scan_bounds *bounds, struct fb_err *err)
{
    enum fb_code code = FB_OK;
    s->bounds = *bounds;
    s->is_at_end = bounds->from_offset >= bounds->until_offset ||
                   (bounds->until_us && bounds->since_us >= bounds->until_us);
    if (s->is_at_end)
        return FB_OK;
    uint64_t names = bounds->types ? bit_of(EV_NAME) : 0; /* they are always read */
    log_reader_want(s->reader, &(struct log_wants){.since_us = bounds->since_us,
                                                   .until_us = bounds->until_us,
                                                   .types = bounds->types | names});
    if (bounds->since_us)
        code = log_reader_seek_wall(s->reader, bounds->since_us);
    else
        code = log_reader_seek(s->reader, LOG_FROM_START);
    if (code == FB_OK && bounds->from_offset > log_reader_offset(s->reader))
        code = log_reader_seek(s->reader, bounds->from_offset);
    if (code != FB_OK)
        return fb_fail(err, code, "the log in %s cannot be read: `foldback log check` tells more",
                       s->source->dir);
    uint64_t begin = log_reader_offset(s->reader);
    if (s->base_at != begin) {
        names_fini(&s->base);
        if (s->source->names_at && !s->source->names_at(s->source->arg, begin, &s->base))
            return fb_fail(err, FB_E_NOMEM, "no memory for names");
        s->base_at = begin;
    }
    return names_copy(&s->names, &s->base) ? FB_OK
                                           : fb_fail(err, FB_E_NOMEM, "no memory for names");
}

bool scan_source_is_stopped(const struct scan_source *source)
{
    return (source->is_stopped && *source->is_stopped) ||
           (source->is_left && atomic_load(source->is_left)) ||
           (source->stop_us && fb_mono_us() >= source->stop_us);
}

/* One more event was looked at. */
static void count(struct scan *s)
{
    struct scan_source *src = s->source;
    if (++src->scanned % PROGRESS_EVENTS == 0 && src->on_progress)
        src->on_progress(src->arg, src->scanned, log_reader_lag(s->reader));
}

static bool is_wanted(const struct scan *s, const struct scan_event *e)
{
    const struct scan_bounds *b = &s->bounds;
    return (!b->types || (b->types & bit_of(e->ev->type))) && e->wall_us >= b->since_us &&
           e->wall_us < b->until_us;
}

enum fb_code scan_next(struct scan *s, struct scan_event *e, struct fb_err *err)
{
    for (uint64_t turn = 0; !s->is_at_end; turn++) {
        if (turn % 4096 == 0 && scan_source_is_stopped(s->source))
            return FB_E_AGAIN;
        enum fb_code code = log_reader_next(s->reader, &e->ev, &e->offset);
        if (code == FB_E_DAMAGED) {
            const struct log_skip *skip = log_reader_skip(s->reader);
            if (skip->reason != REASON_NONE) { /* what retention removed is no damage */
                s->source->holes++;
                s->source->missing += skip->to - skip->from;
            }
            continue;
        }
        if (code == FB_E_END || (code == FB_OK && e->offset >= s->bounds.until_offset)) {
            s->is_at_end = true;
            break;
        }
        if (code != FB_OK)
            return fb_fail(err, code,
                           "the log cannot be read at offset %" PRIu64
                           "; `foldback log check` tells more",
                           log_reader_offset(s->reader));
        count(s);
        if (e->ev->type == EV_NAME && !names_feed(&s->names, (const struct ev_name *)e->ev))
            return fb_fail(err, FB_E_NOMEM, "no memory for names");
        e->wall_us = log_reader_wall_us(s->reader);
        if (!is_wanted(s, e))
            continue;
        e->node = log_reader_node(s->reader);
        return FB_OK;
    }
    return FB_E_END;
}

void scan_go_on(struct scan *s)
{
    s->is_at_end = s->bounds.from_offset >= s->bounds.until_offset;
}

enum fb_code scan_learn(const char *dir, uint64_t from, uint64_t until, struct names *names)
{
    struct log_reader *reader;
    const struct ev_head *ev;
    uint64_t offset;
    enum fb_code code = log_reader_open(&reader, dir, from, NULL);
    if (code != FB_OK)
        return code;
    log_reader_want(reader,
                    &(struct log_wants){.until_us = UINT64_MAX, .types = UINT64_C(1) << EV_NAME});
    do {
        code = log_reader_next(reader, &ev, &offset);
        if (code == FB_OK && offset < until && ev->type == EV_NAME &&
            !names_feed(names, (const struct ev_name *)ev))
            code = FB_E_NOMEM;
    } while ((code == FB_OK && offset < until) || code == FB_E_DAMAGED);
    log_reader_close(reader);
    return code == FB_E_END ? FB_OK : code;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "main/export_region.h"

#include "guard/region.h"
#include "stream/reader.h"

static const uint64_t config_type = UINT64_C(1) << EV_CONFIG;

/* A hole may have held the newest configuration, by which something may not go out. */
static enum fb_code fail_hole(const struct log_skip *hole, struct fb_err *err)
{
    return fb_fail(err, FB_E_DAMAGED,
                   "--region: %s The newest configuration may be missing: repair first with "
                   "`foldback log repair`, then start or reload foldback, which writes it again",
                   hole->sentence);
}

/* From the newest snapshot, or the beginning, to the end. */
static enum fb_code read_log(struct export_region *r, const char *log, struct fb_err *err)
{
    struct log_reader *reader;
    const struct ev_head *ev;
    uint64_t offset;
    enum fb_code code = log_reader_open(&reader, log, r->known ? r->known : LOG_FROM_START, err);
    if (code != FB_OK)
        return code;
    struct log_skip hole = {.to = 0};
    log_reader_want(reader, &(struct log_wants){.until_us = UINT64_MAX, .types = config_type});
    while ((code = log_reader_next(reader, &ev, &offset)) == FB_OK || code == FB_E_DAMAGED) {
        const struct conf *was = r->fold.conf;
        if (code == FB_E_DAMAGED)
            hole = *log_reader_skip(reader);
        else if (ev->type == EV_CONFIG)
            fold_feed(&r->fold, ev, NULL);
        if (r->fold.conf != was) /* a whole one, which is newer */
            hole.to = 0;
    }
    if (code != FB_E_END)
        code = fb_fail(err, code, "the log cannot be read: %s", log_reader_why(reader));
    else
        code = hole.to && (r->fold.conf || hole.reason) ? fail_hole(&hole, err) : FB_OK;
    r->known = log_reader_offset(reader);
    log_reader_close(reader);
    return code;
}

enum fb_code export_region_begin(struct export_region *r, const struct log_place *place,
                                 struct fb_err *err)
{
    if (!r->name)
        return FB_OK;
    enum fb_code code = fold_init(&r->fold, err);
    if (code == FB_OK)
        code = log_fold_newest(place, &r->fold, &r->known, err);
    if (code == FB_OK)
        code = read_log(r, place->log, err);
    if (code != FB_OK)
        return code;
    if (!r->fold.conf)
        return fb_fail(err, FB_E_NOT_FOUND,
                       "--region: the log does not hold the configuration that says what is of "
                       "which region");
    if (!region_is_used(r->fold.conf))
        return fb_fail(err, FB_E_CONFIG,
                       "--region: no service or route has a region; leave it out");
    return FB_OK;
}

uint64_t export_region_types(const struct export_region *r, uint64_t types)
{
    return r->name && types ? types | config_type : types;
}

void export_region_feed(struct export_region *r, const struct ev_head *ev, uint64_t offset)
{
    if (r->name && ev->type == EV_CONFIG && offset >= r->known)
        fold_feed(&r->fold, ev, NULL);
}

bool export_region_may_pass(const struct export_region *r, const struct ev_head *ev,
                            const struct filter_names *names)
{
    return !r->name || region_may_pass(&(struct region_book){r->fold.conf, *names}, ev, r->name);
}

void export_region_fini(struct export_region *r)
{
    if (r->name)
        fold_fini(&r->fold);
}

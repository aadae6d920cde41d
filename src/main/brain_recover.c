/* SPDX-License-Identifier: Apache-2.0 */
/* How a brain comes back: snapshot, then the log behind it.
 *
 * The same supervisor (brain died): the rings still hold what the log does not; the sequencer is
 * told what the log has.  A new supervisor: rings are empty, numbers and learned limits go from the
 * old state into the new memory file before the gateway looks there. */
#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "knob/numbers.h"
#include "main/brain_int.h"
#include "main/role.h"
#include "query/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ANCHORS_WANTED 48 /* by time; a few more by bytes and stops fit into STATE_ANCHORS_MAX */
#define LOG_WAIT_US (4 * US_PER_S) /* a stop takes 2 s for a slow disk, and a snapshot */

static enum fb_code open_stream(struct brain *b, struct fb_err *err);
static void read_log_conf(const struct conf *conf, struct log_conf *lc);
static uint64_t load_snapshot(struct brain *b);
static uint64_t replay_log(struct brain *b, uint64_t from, bool is_same_rings);
static void hand_over(struct brain *b);

enum fb_code brain_recover(struct brain *b, struct fb_err *err)
{
    uint64_t begin_us = fb_mono_us();
    bool is_same_rings = atomic_load(&b->mem.head->brain_epoch) != 0;
    snprintf(b->log_dir, sizeof b->log_dir, "%s/log", b->setup->state_dir);
    buf_init(&b->snapshot, STATE_SNAPSHOT_BYTES_MAX);
    enum fb_code code = fold_init(&b->fold, err);
    if (code != FB_OK)
        return code;
    struct state_report report;
    query_memory_init();
    code = state_open(&b->state, b->setup->state_dir, &report, err);
    if (code != FB_OK)
        return code;
    if (report.was_damaged)
        fb_log(FB_LOG_WARN, "%s", report.sentence);
    code = state_epoch_next(b->state, &b->epoch, err);
    if (code != FB_OK)
        return code;
    uint64_t from = load_snapshot(b);
    b->snapshot_saved_offset = from;
    code = open_stream(b, err);
    if (code != FB_OK)
        return code;
    for (uint32_t i = 0; i < memfile_ring_count(&b->mem); i++)
        sequencer_ring_set(b->sequencer, i, b->mem.rings[i]);
    if (is_same_rings)
        sequencer_load(b->sequencer, &b->saved);
    uint64_t last_us = replay_log(b, from, is_same_rings);
    /* The wall clock was set back between two runs: the engine starts its clock anew at the first
     * tick, here and in a replay alike. */
    if (last_us > fb_mono_us() + US_PER_S)
        fb_log(FB_LOG_WARN, "the log ends %llu s in the future; windows begin anew",
               (unsigned long long)((last_us - fb_mono_us()) / US_PER_S));
    if (!is_same_rings && atomic_load(&b->mem.head->gateway_pid) == 0)
        hand_over(b);
    b->tick = facts_now_us(engine_facts(b->fold.engine)) / BRAIN_TICK_US;
    b->recovered_us = fb_mono_us() - begin_us;
    atomic_store(&b->mem.head->brain_epoch, b->epoch);
    if (b->recovered_events)
        fb_log(FB_LOG_INFO, "caught up with %llu events in %llu ms",
               (unsigned long long)b->recovered_events,
               (unsigned long long)(b->recovered_us / 1000));
    return FB_OK;
}

static enum fb_code open_stream(struct brain *b, struct fb_err *err)
{
    struct conf *conf = NULL;
    enum fb_code code = role_read_conf(b->setup->conf_fd, &conf, err);
    if (code != FB_OK)
        return code;
    struct log_conf lc;
    log_conf_init(&lc);
    lc.node = b->mem.head->node_id;
    lc.epoch = b->epoch;
    lc.keys = b->keys;
    lc.next_offset_min = b->snapshot_saved_offset;
    read_log_conf(conf, &lc);
    conf_unref(conf);
    struct log_recovery found;
    /* A brain whose supervisor was killed still completes its log: the next one waits for it. */
    uint64_t until_us = fb_mono_us() + LOG_WAIT_US;
    while ((code = log_open(&b->log, b->log_dir, &lc, &found, err)) == FB_E_CONFLICT &&
           fb_mono_us() < until_us)
        usleep(20000);
    if (code != FB_OK)
        return code;
    if (found.torn_bytes || found.damaged_places || found.lost_events)
        fb_log(FB_LOG_WARN, "%s", found.sentence);
    b->log_end = log_next_offset(b->log);
    struct sequencer_conf sc = {.next_offset = log_next_offset(b->log), .batch_bytes = 1u << 20};
    b->sequencer = sequencer_new(&sc);
    if (!b->sequencer)
        return fb_fail(err, FB_E_NOMEM, "sequencer: no memory");
    return FB_OK;
}

static void read_log_conf(const struct conf *conf, struct log_conf *lc)
{
    lc->segment_bytes = conf->p.log_segment_bytes;
    lc->retain_bytes = conf->p.log_retain_bytes;
    lc->retain_s = conf->p.log_retain_age / 1000;
    lc->operational_s = conf->p.privacy_operational_age / 1000;
    lc->operational_bytes = conf->p.privacy_operational_bytes;
    lc->group_us = (uint32_t)(conf->p.log_commit_interval * 1000);
    lc->group_bytes = (uint32_t)conf->p.log_commit_bytes;
}

void brain_reload_log(struct brain *b, const struct conf *conf)
{
    struct log_conf lc;
    struct fb_err err;
    log_conf_init(&lc);
    read_log_conf(conf, &lc);
    if (log_reconfigure(b->log, &lc, &err) != FB_OK)
        fb_log(FB_LOG_WARN, "the event log goes on as before: %s", err.text);
}

/* Offset behind the newest usable snapshot, 0 when there is none. */
static uint64_t load_snapshot(struct brain *b)
{
    struct state_snapshot snap;
    struct fb_err err;
    enum fb_code code = state_snapshot_load(b->state, "fold", &snap, &err);
    if (code == FB_E_NOT_FOUND)
        return 0;
    if (code != FB_OK) {
        fb_log(FB_LOG_WARN, "no usable snapshot (%s); the log is read from its start", err.text);
        return 0;
    }
    uint64_t from = snap.offset;
    struct span bytes = {snap.bytes, snap.len};
    if (bytes.len >= sizeof b->saved) {
        memcpy(&b->saved, bytes.at, sizeof b->saved);
        bytes = (struct span){bytes.at + sizeof b->saved, bytes.len - sizeof b->saved};
    }
    code = fold_load(&b->fold, bytes, &err);
    free(snap.bytes);
    if (code != FB_OK) {
        fb_log(FB_LOG_WARN, "the snapshot is not used: %s", err.text);
        fold_fini(&b->fold);
        fb_assert(fold_init(&b->fold, NULL) == FB_OK);
        return 0;
    }
    return from;
}

/* Returns the time of the last event. */
static uint64_t replay_log(struct brain *b, uint64_t from, bool is_same_rings)
{
    struct log_reader *r;
    struct fb_err err;
    uint64_t last_us = 0;
    if (log_reader_open(&r, b->log_dir, from, &err) != FB_OK) {
        fb_log(FB_LOG_WARN, "%s", err.text);
        return 0;
    }
    const struct ev_head *ev;
    uint64_t offset;
    size_t told = 0; /* outputs of the last cause that the log has */
    for (;;) {
        enum fb_code code = log_reader_next(r, &ev, &offset);
        if (code == FB_E_DAMAGED) {
            fb_log(FB_LOG_WARN, "%s", log_reader_skip(r)->sentence);
            continue;
        }
        if (code != FB_OK) {
            if (code != FB_E_END)
                fb_log(FB_LOG_WARN,
                       "the log cannot be read at offset %llu (%s); what follows is unknown",
                       (unsigned long long)log_reader_offset(r), log_reader_why(r));
            break;
        }
        if (fold_is_output(ev)) {
            told++;
            engine_feed(b->fold.engine, ev, NULL);
        } else {
            b->out.count = b->out.dropped = told = 0; /* the log holds what came out */
            fold_feed(&b->fold, ev, &b->out);
        }
        if (is_same_rings)
            sequencer_resume(b->sequencer, ev);
        last_us = ev->time_us;
        b->recovered_events++;
    }
    log_reader_close(r);
    /* A crash between a cause and its decisions: the rest is said at the start, behind the log. */
    told = told < b->out.count ? told : b->out.count;
    memmove(b->out.at, b->out.at + told, (b->out.count - told) * sizeof *b->out.at);
    b->out.count -= told;
    return last_us;
}

/* Numbers and learned limits of an earlier run go where the new gateway finds them. */
static void hand_over(struct brain *b)
{
    static const enum ev_kind kinds[] = {EV_KIND_SERVICE, EV_KIND_ROUTE, EV_KIND_ENDPOINT,
                                         EV_KIND_VERSION};
    const struct knob_book *book = engine_book(b->fold.engine);
    uint64_t now_us = fb_mono_us();
    for (size_t k = 0; k < FB_COUNT(kinds); k++)
        for (uint16_t i = 0; i < KNOB_TARGETS_MAX * 3 / 4; i++) { /* room is left for new names */
            const char *name = engine_name(b->fold.engine, kinds[k], i);
            struct memfile_name *rows = kinds[k] == EV_KIND_SERVICE   ? b->mem.services
                                        : kinds[k] == EV_KIND_ROUTE   ? b->mem.routes
                                        : kinds[k] == EV_KIND_VERSION ? b->mem.versions
                                                                      : b->mem.endpoints;
            if (!name[0] || atomic_load(&rows[i].is_used))
                continue;
            snprintf(rows[i].name, sizeof rows[i].name, "%s", name);
            rows[i].version = EV_NONE;
            /* until its service, or the configuration, is seen to have it */
            if (kinds[k] == EV_KIND_ENDPOINT)
                numbers_leave(&b->mem, i, now_us);
            else
                atomic_store_explicit(&rows[i].has_left, 1, memory_order_relaxed);
            atomic_store_explicit(&rows[i].is_used, 1, memory_order_release);
            const struct knob_layer *limit = &book->layer[KNOB_LIMIT][i];
            if (kinds[k] == EV_KIND_ENDPOINT && limit->is_learned &&
                b->mem.keeps[i].saved_us == 0) {
                b->mem.keeps[i].limit = limit->learned;
                b->mem.keeps[i].saved_us = now_us;
            }
        }
}

void brain_snapshot_take(struct brain *b)
{
    buf_clear(&b->snapshot);
    sequencer_save(b->sequencer, &b->saved);
    buf_put(&b->snapshot, &b->saved, sizeof b->saved);
    fold_save(&b->fold, &b->snapshot);
    struct sequencer_stats ss;
    sequencer_stats_read(b->sequencer, &ss);
    b->snapshot_offset = ss.next_offset;
}

/* One per segment, and each stop: when retention takes what is before, a replay begins here.
 * Segments that time has finished are many and small: of these one in so many that the anchors,
 * STATE_ANCHORS_MAX at most, reach over the whole log. */
static bool is_anchor_due(const struct brain *b, const struct log_stats *ls)
{
    if (!b->has_anchor)
        return true;
    if (b->anchor_offset >= ls->newest_offset || !b->fold.conf)
        return false;
    const struct conf_params *p = &b->fold.conf->p;
    return ls->stored_bytes - b->anchor_stored_bytes >= p->log_segment_bytes / 2 ||
           fb_mono_us() - b->anchor_us >= p->log_retain_age * US_PER_MS / ANCHORS_WANTED;
}

void brain_snapshot_save(struct brain *b)
{
    if (b->snapshot.len == 0 || b->snapshot.failed || log_acknowledged(b->log) < b->snapshot_offset)
        return;
    struct state_snapshot snap = {.offset = b->snapshot_offset,
                                  .epoch = b->epoch,
                                  .saved_wall_us = fb_wall_us(),
                                  .bytes = b->snapshot.at,
                                  .len = b->snapshot.len};
    struct fb_err err;
    struct log_stats ls;
    log_stats_read(b->log, &ls);
    snap.is_anchor = b->is_stopping || is_anchor_due(b, &ls);
    snap.first_offset = ls.first_offset;
    if (state_snapshot_save(b->state, "fold", &snap, &err) == FB_OK) {
        if (snap.is_anchor) {
            b->anchor_offset = b->snapshot_offset;
            b->anchor_stored_bytes = ls.stored_bytes;
            b->anchor_us = fb_mono_us();
        }
        b->has_anchor |= snap.is_anchor;
        b->snapshot_saved_offset = b->snapshot_offset;
        b->snapshot_saved_us = fb_mono_us();
    } else {
        fb_log(FB_LOG_WARN, "snapshot not saved: %s", err.text);
    }
    buf_clear(&b->snapshot);
}

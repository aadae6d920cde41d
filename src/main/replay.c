/* SPDX-License-Identifier: Apache-2.0 */
/* `foldback replay`: the recorded events through the same fold again.
 *
 *   --verify         every decision, outcome and alert must come out again, byte for byte
 *   --config FILE    the same traffic under another configuration: prints what would have been
 * decided
 *
 * Recorded outputs follow directly behind the event that caused them, so both sequences are
 * compared in order. */
#include "base/assert.h"
#include "base/clock.h"
#include "main/fold.h"
#include "main/run.h"
#include "stream/reader.h"
#include "stream/sequencer.h"
#include "stream/state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OUT_MAX 4096

struct replay {
    const struct cli_replay_args *args;
    struct fold fold;
    struct engine_out out;
    size_t next; /* first output not yet matched */
    uint64_t events, recorded, derived, differing, missing, extra, holes;
    uint64_t first_difference; /* offset */
    uint64_t log_first, begin; /* oldest offset of the log; where the replay begins */
    struct buf lines;          /* what differs, for people */
};

static bool is_same(const struct replay *r, const struct ev_head *a, const struct ev_head *b);
static void explain(struct replay *r, const char *mark, const struct ev_head *ev, uint64_t offset);
static void settle(struct replay *r, uint64_t offset);
static void compare(struct replay *r, const struct ev_head *recorded, uint64_t offset);
static enum fb_code run(struct replay *r, struct fb_err *err);
static enum fb_code begin_at(struct replay *r, struct log_reader *reader, struct fb_err *err);
static int print(struct replay *r, uint64_t took_us);

int replay_command(const struct cli_replay_args *args)
{
    struct replay r = {.args = args};
    struct fb_err err = {0};
    int code = 1;
    buf_init(&r.lines, 8 * MIB);
    r.out = (struct engine_out){.at = calloc(OUT_MAX, sizeof(union ev_any)), .max = OUT_MAX};
    enum fb_code got =
        r.out.at ? fold_init(&r.fold, &err) : fb_fail(&err, FB_E_NOMEM, "replay: no memory");
    if (got == FB_OK && args->config) {
        struct conf_report report = {0};
        got = conf_load(args->config, &r.fold.conf_override, &report, &err);
        if (got == FB_E_CONFIG && report.count)
            fb_fail(&err, FB_E_CONFIG, "%s:%u:%u: %s", args->config, report.at[0].line,
                    report.at[0].column, report.at[0].text);
        conf_report_fini(&report);
    }
    uint64_t begin_us = fb_mono_us();
    if (got == FB_OK)
        got = run(&r, &err);
    if (got == FB_OK)
        code = print(&r, fb_mono_us() - begin_us);
    else {
        fprintf(stderr, "foldback: %s\n", err.text);
        code = fb_error_row(got)->exit_code;
    }
    fold_fini(&r.fold);
    free(r.out.at);
    buf_fini(&r.lines);
    return code;
}

static enum fb_code run(struct replay *r, struct fb_err *err)
{
    char dir[600];
    struct log_reader *reader;
    snprintf(dir, sizeof dir, "%s/log", r->args->state);
    enum fb_code code = log_reader_open(&reader, dir, r->args->from_offset, err);
    if (code != FB_OK)
        return code;
    code = begin_at(r, reader, err);
    if (code != FB_OK) {
        log_reader_close(reader);
        return code;
    }
    bool is_tty = isatty(STDERR_FILENO);
    uint64_t total = log_reader_lag(reader);
    for (;;) {
        const struct ev_head *ev;
        uint64_t offset;
        code = log_reader_next(reader, &ev, &offset);
        if (code == FB_E_DAMAGED) {
            r->holes++;
            continue;
        }
        if (code != FB_OK || offset >= r->args->until_offset)
            break;
        r->events++;
        if (is_tty && r->events % 500000 == 0)
            fprintf(stderr, "\rreplay: %llu of %llu events", (unsigned long long)r->events,
                    (unsigned long long)total);
        if (fold_is_output(ev)) {
            compare(r, ev, offset);
            continue;
        }
        settle(r, offset);
        fold_feed(&r->fold, ev, &r->out);
    }
    if (is_tty && r->events >= 500000)
        fprintf(stderr, "\r\033[K");
    settle(r, log_reader_offset(reader));
    if (code != FB_OK && code != FB_E_END)
        code = fb_fail(err, code, "the log cannot be read at offset %llu: %s",
                       (unsigned long long)log_reader_offset(reader), log_reader_why(reader));
    log_reader_close(reader);
    return code == FB_E_END ? FB_OK : code;
}

/* What the engine knew before the first event: nothing at offset 0, else what the oldest snapshot
 * behind the wanted offset holds: names, configuration, learned state, facts. */
static enum fb_code begin_at(struct replay *r, struct log_reader *reader, struct fb_err *err)
{
    struct state *state;
    struct state_snapshot snap;
    r->log_first = log_reader_first(reader);
    uint64_t wanted = fb_max_u64(r->log_first, r->args->from_offset);
    if (wanted == 0)
        return FB_OK;
    enum fb_code code = state_open(&state, r->args->state, NULL, err);
    if (code != FB_OK)
        return code;
    code = state_snapshot_find(state, "fold", wanted, &snap, err);
    state_close(state);
    if (code == FB_E_NOT_FOUND)
        return fb_fail(
            err, code,
            "the log begins at offset %llu and no snapshot is at or behind %llu: what was "
            "known there cannot be derived; the next snapshot comes within a minute, and "
            "at each stop",
            (unsigned long long)r->log_first, (unsigned long long)wanted);
    if (code != FB_OK)
        return code;
    struct span bytes = {snap.bytes, snap.len};
    if (bytes.len < sizeof(struct sequencer_saved))
        code = fb_fail(err, FB_E_FORMAT, "snapshot: only %zu bytes", bytes.len);
    else
        code = fold_load(&r->fold,
                         (struct span){bytes.at + sizeof(struct sequencer_saved),
                                       bytes.len - sizeof(struct sequencer_saved)},
                         err);
    free(snap.bytes);
    if (code == FB_OK && snap.offset >= r->args->until_offset)
        code = fb_fail(err, FB_E_RANGE,
                       "the oldest snapshot there is at offset %llu, which is not "
                       "before --until-offset",
                       (unsigned long long)snap.offset);
    if (code == FB_OK)
        code = log_reader_seek(reader, snap.offset);
    r->begin = snap.offset;
    return code;
}

/* The head carries sequence and origin, which the sequencer gives: everything behind it must agree.
 */
static bool is_same(const struct replay *r, const struct ev_head *a, const struct ev_head *b)
{
    struct ev_decision theirs;
    if (r->args->config && a->type == EV_DECISION && b->type == EV_DECISION) {
        /* that the configuration is another one is known: what it decides is asked */
        memcpy(&theirs, a, sizeof theirs);
        theirs.config_hash = ((const struct ev_decision *)(const void *)b)->config_hash;
        a = &theirs.head;
    }
    return a->type == b->type && a->time_us == b->time_us &&
           memcmp((const char *)a + sizeof *a, (const char *)b + sizeof *b,
                  (size_t)a->cells * EV_CELL_BYTES - sizeof *a) == 0;
}

static void compare(struct replay *r, const struct ev_head *recorded, uint64_t offset)
{
    r->recorded++;
    if (r->next >= r->out.count) {
        r->missing++;
        explain(r, "-", recorded, offset);
    } else if (!is_same(r, recorded, &r->out.at[r->next].head)) {
        r->differing++;
        explain(r, "-", recorded, offset);
        explain(r, "+", &r->out.at[r->next++].head, offset);
        r->derived++;
        return;
    } else {
        r->next++;
        r->derived++;
        return;
    }
    if (!r->first_difference)
        r->first_difference = offset;
}

/* An event that is no output comes: whatever was derived and not recorded is too much. */
static void settle(struct replay *r, uint64_t offset)
{
    for (; r->next < r->out.count; r->next++) {
        r->extra++;
        r->derived++;
        explain(r, "+", &r->out.at[r->next].head, offset);
    }
    fb_assert(r->out.dropped == 0);
    r->out.count = 0;
    r->next = 0;
}

static void explain(struct replay *r, const char *mark, const struct ev_head *ev, uint64_t offset)
{
    if (!r->first_difference)
        r->first_difference = offset;
    if (r->lines.len > 4 * MIB)
        return;
    const void *at = ev;
    buf_printf(&r->lines, "%s %llu.%03llu s  ", mark,
               (unsigned long long)(ev->time_us / US_PER_S % 86400),
               (unsigned long long)(ev->time_us / 1000 % 1000));
    if (ev->type == EV_DECISION) {
        engine_explain(r->fold.engine, at, &r->lines);
    } else if (ev->type == EV_ALERT) {
        const struct ev_alert *a = at;
        buf_printf(&r->lines, "%s%s: %.*s", ev_reason_row(a->reason)->name,
                   a->is_over ? " over" : "", (int)strnlen(a->text, sizeof a->text), a->text);
    } else {
        const struct ev_outcome *o = at;
        buf_printf(&r->lines, "outcome of decision %llu: %s", (unsigned long long)o->decision_id,
                   ev_outcome_name(o->outcome));
    }
    buf_putc(&r->lines, '\n');
}

static int print(struct replay *r, uint64_t took_us)
{
    bool is_equal = r->events > 0 && r->differing == 0 && r->missing == 0 && r->extra == 0;
    double rate = took_us ? (double)r->events * 1e6 / (double)took_us : 0;
    if (r->args->is_json) {
        struct buf text;
        struct json j;
        buf_init(&text, 64 * KIB);
        json_init(&j, &text);
        json_object_begin(&j);
        json_key_u64(&j, "from_offset", r->begin);
        json_key_u64(&j, "log_first_offset", r->log_first);
        json_key_u64(&j, "events", r->events);
        json_key_u64(&j, "recorded", r->recorded);
        json_key_u64(&j, "derived", r->derived);
        json_key_u64(&j, "differing", r->differing);
        json_key_u64(&j, "missing", r->missing);
        json_key_u64(&j, "extra", r->extra);
        json_key_u64(&j, "holes", r->holes);
        json_key_bool(&j, "is_equal", is_equal);
        json_key_f64(&j, "events_per_s", rate);
        json_key_u64(&j, "first_difference", r->first_difference);
        json_object_end(&j);
        printf("%s\n", buf_str(&text));
        buf_fini(&text);
    } else {
        if (!is_equal)
            fputs(buf_str(&r->lines), stdout);
        if (r->begin)
            printf("from offset %llu, where a snapshot holds what was known (the log begins at "
                   "%llu)\n",
                   (unsigned long long)r->begin, (unsigned long long)r->log_first);
        printf("%llu events, %llu recorded and %llu derived decisions, outcomes and alerts: ",
               (unsigned long long)r->events, (unsigned long long)r->recorded,
               (unsigned long long)r->derived);
        if (is_equal)
            printf("all equal, bit for bit%s",
                   r->args->config ? ": the other configuration decides the same" : "");
        else if (r->events == 0)
            printf("nothing was compared; `foldback log check` shows what the log holds");
        else
            printf("%llu differ, %llu only recorded (-), %llu only derived (+)",
                   (unsigned long long)r->differing, (unsigned long long)r->missing,
                   (unsigned long long)r->extra);
        printf("; %.1f M events/s\n", rate / 1e6);
        if (r->holes)
            printf("%llu holes in the log were passed over; behind a hole decisions may differ\n",
                   (unsigned long long)r->holes);
    }
    return r->args->is_verify && !is_equal ? 1 : 0;
}

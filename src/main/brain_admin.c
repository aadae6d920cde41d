/* SPDX-License-Identifier: Apache-2.0 */
/* What the brain lends to the admin server (output/admin.h). */
#include "base/clock.h"
#include "base/log.h"
#include "gateway/control_msg.h"
#include "io/textfile.h"
#include "main/brain_int.h"
#include "main/brain_keys.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

static void on_explain(void *ctx, const struct ev_decision *d, struct buf *out)
{
    const struct brain *b = ctx;
    engine_explain(b->fold.engine, d, out);
}

static bool on_signal(void *ctx, uint32_t i, struct signal_view *out)
{
    const struct brain *b = ctx;
    return engine_signal(b->fold.engine, i, out);
}

static bool on_is_drained(void *ctx, uint16_t endpoint)
{
    const struct brain *b = ctx;
    return engine_is_drained(b->fold.engine, endpoint);
}

/* At once: the event, its consequences, the knob table. */
static enum fb_code on_submit(void *ctx, const struct ev_head *ev, struct fb_err *err)
{
    struct brain *b = ctx;
    if (!ev_is_valid(ev) || (ev->type != EV_COMMAND && ev->type != EV_CUSTOM))
        return fb_fail(err, FB_E_FORMAT, "only command and custom events can be submitted");
    union ev_any copy;
    memcpy(&copy, ev, (size_t)ev->cells * EV_CELL_BYTES);
    copy.head.time_us = fb_mono_us();
    brain_say(b, &copy.head);
    const struct ev_command *c = &copy.command;
    if (ev->type == EV_COMMAND && c->target_kind == EV_KIND_ENDPOINT) {
        if (c->verb == EV_VERB_DRAIN || c->verb == EV_VERB_UNDRAIN)
            control_send(b->setup->control_fd, CONTROL_ENDPOINT, c->target,
                         c->verb == EV_VERB_DRAIN, "");
        else if (c->verb == EV_VERB_RESET)
            control_send(b->setup->control_fd, CONTROL_RESET, c->target, 0, "");
    }
    return FB_OK;
}

static void on_stream(void *ctx, struct admin_stream *out)
{
    struct brain *b = ctx;
    struct log_stats ls;
    struct sequencer_stats ss;
    log_stats_read(b->log, &ls);
    sequencer_stats_read(b->sequencer, &ss);
    *out = (struct admin_stream){.first_offset = ls.first_offset,
                                 .next_offset = ss.next_offset,
                                 .durable_offset = ls.next_offset,
                                 .events = ss.events,
                                 .events_lost = ss.lost + ls.lost,
                                 .blocks = ls.blocks,
                                 .log_bytes = ls.log_bytes,
                                 .segments = ls.segments,
                                 .compacted_segments = ls.compacted.segments,
                                 .compacted_saved_bytes =
                                     ls.compacted.before_bytes - ls.compacted.after_bytes,
                                 .compact_failures = ls.compacted.failures,
                                 .uncleared_segments = ls.compacted.uncleared,
                                 .clear_failures = ls.compacted.clear_failures,
                                 .snapshot_offset = b->snapshot_saved_offset,
                                 .snapshot_us = b->snapshot_saved_us,
                                 .recovered_events = b->recovered_events,
                                 .recovered_us = b->recovered_us,
                                 .lag_us = fb_sub_floor_u64(fb_mono_us(), b->durable_us),
                                 .is_disk_ok = ls.state == LOG_OK};
    out->keys = brain_keys_view(b);
    snprintf(out->disk_error, sizeof out->disk_error, "%.*s", (int)sizeof out->disk_error - 1,
             ls.reason);
}

static enum fb_code on_read_events(void *ctx, struct admin_read *read)
{
    struct brain *b = ctx;
    struct fb_err err;
    read->next = read->from;
    if (!b->history && log_reader_open(&b->history, b->log_dir, read->from, &err) != FB_OK)
        return FB_E_IO;
    if (log_reader_offset(b->history) != read->from &&
        log_reader_seek(b->history, read->from) != FB_OK)
        return FB_E_IO;
    for (uint32_t i = 0; i < read->max;) {
        const struct ev_head *ev;
        uint64_t offset;
        enum fb_code code = log_reader_next(b->history, &ev, &offset);
        if (code == FB_E_DAMAGED) {
            const struct log_skip *skip = log_reader_skip(b->history);
            read->next = skip->to;
            if (skip->reason == REASON_NONE && i == 0)
                return FB_E_NOT_FOUND; /* retention took it */
            continue;
        }
        if (code != FB_OK) {
            read->next = log_reader_offset(b->history);
            return code;
        }
        read->next = offset + 1;
        i++;
        if (!read->visit(read->visit_ctx, ev, offset))
            break;
    }
    return FB_OK;
}

/* After a start the timeline shows what was decided before it.  500,000 events take about 60 ms. */
#define TIMELINE_EVENTS_MAX 500000
static bool visit_old(void *arg, const struct ev_head *ev, uint64_t offset)
{
    struct brain *b = arg;
    if (ev->type == EV_DECISION || ev->type == EV_OUTCOME || ev->type == EV_NAME ||
        ev->type == EV_TICK || ev->type == EV_ALERT)
        admin_on_event(b->admin, ev, offset, true);
    if (ev->type == EV_ALERT) {
        brain_recall_tls(b, (const struct ev_alert *)ev);
        brain_recall_auth(b, (const struct ev_alert *)ev);
    }
    return true;
}

static void fill_timeline(struct brain *b)
{
    struct log_stats ls;
    log_stats_read(b->log, &ls);
    struct admin_read read = {
        .from = fb_max_u64(ls.first_offset, fb_sub_floor_u64(ls.next_offset, TIMELINE_EVENTS_MAX)),
        .max = TIMELINE_EVENTS_MAX,
        .visit = visit_old,
        .visit_ctx = b};
    if (ls.next_offset > read.from)
        (void)on_read_events(b, &read);
}

static void on_config_text(void *ctx, struct buf *out)
{
    const struct brain *b = ctx;
    if (b->fold.conf)
        buf_put(out, b->fold.conf->text, b->fold.conf->text_bytes);
}

static void on_config_effective(void *ctx, struct buf *out)
{
    const struct brain *b = ctx;
    if (b->fold.conf)
        conf_show_running(b->fold.conf, span_of(b->waiting), true, out);
}

static void on_config_schema(void *ctx, struct buf *out)
{
    (void)ctx;
    conf_schema(out);
}

/* Read once more when it is asked for: who parsed it for us kept what is in force, not what was
 * said of it. */
static struct span on_config_warnings(void *ctx)
{
    struct brain *b = ctx;
    const struct conf *now = b->fold.conf;
    if (!now || !now->text || b->warnings_hash == now->hash)
        return buf_span(&b->warnings);
    struct conf *conf = NULL;
    struct conf_report report = {0};
    buf_fini(&b->warnings);
    buf_init(&b->warnings, MIB);
    if (conf_parse((struct span){now->text, now->text_bytes}, "", &conf, &report) == FB_OK)
        for (size_t i = 0; i < report.count; i++)
            buf_printf(&b->warnings, "%u\t%s\n", report.at[i].line, report.at[i].text);
    b->warnings_hash = now->hash;
    conf_report_fini(&report);
    conf_unref(conf);
    return buf_span(&b->warnings);
}

/* The supervisor reads the file, checks it and tells gateway and brain; what became of it comes as
 * a CONTROL_VERDICT. */
static enum fb_code on_reload(void *ctx, uint16_t *number, struct fb_err *err)
{
    struct brain *b = ctx;
    if (++b->reload_number == 0) /* that is no one's */
        b->reload_number = 1;
    *number = b->reload_number;
    if (!control_send(b->setup->control_fd, CONTROL_RELOAD, *number, 0, ""))
        return fb_fail(err, FB_E_UNREACHABLE, "the supervisor is gone; start foldback again");
    return FB_OK;
}

void brain_on_verdict(struct brain *b, const struct control_msg *m)
{
    struct span rest = {m->text, m->text_bytes}, file = span_cut(rest, '\n', &rest);
    if (m->value == VERDICT_IN_FORCE)
        snprintf(b->waiting, sizeof b->waiting, "%.*s", SPAN_ARG(rest));
    struct admin_verdict verdict = {.number = m->number,
                                    .is_in_force = m->value == VERDICT_IN_FORCE,
                                    .has_file = m->value != VERDICT_NO_FILE,
                                    .file = file,
                                    .lines = rest};
    if (b->admin)
        admin_on_verdict(b->admin, &verdict);
}

static enum fb_code on_purge(void *ctx, const struct admin_purge *what, uint32_t *ticket,
                             struct fb_err *err)
{
    struct brain *b = ctx;
    *ticket = brain_ticket(b);
    if (!control_send(b->setup->control_fd, CONTROL_PURGE, what->kind,
                      CONTROL_PURGE_VALUE(what->is_paced, *ticket), what->text))
        return fb_fail(err, FB_E_UNREACHABLE, "the supervisor is gone; start foldback again");
    return FB_OK;
}

static enum fb_code on_query_begin(void *ctx, const struct admin_query *ask, uint32_t *ticket,
                                   struct fb_err *err)
{
    const struct brain *b = ctx;
    return brain_query_begin(b->query, ask, ticket, err);
}

static bool on_query_take(void *ctx, uint32_t ticket, struct buf *body,
                          struct admin_query_answer *out)
{
    const struct brain *b = ctx;
    return brain_query_take(b->query, ticket, body, out);
}

static void on_query_drop(void *ctx, uint32_t ticket)
{
    const struct brain *b = ctx;
    brain_query_drop(b->query, ticket);
}

enum fb_code brain_admin_start(struct brain *b, struct fb_err *err)
{
    char token[ADMIN_TOKEN_MAX_BYTES + 2] = "";
    if (!textfile_line(b->setup->token_file, token, sizeof token))
        return fb_fail(err, FB_E_IO, "admin: cannot read the token file %s: %s",
                       b->setup->token_file, strerror(errno));
    struct admin_setup setup = {
        .address = b->setup->admin_address,
        .listen_fd = b->setup->admin_fd,
        .token = token,
        .node = b->fold.conf && b->fold.conf->p.top_node[0] ? b->fold.conf->p.top_node : "foldback",
        .now_us = fb_mono_us(),
        .wall_us = fb_wall_us(),
        .source = {.ctx = b,
                   .facts = engine_facts(b->fold.engine),
                   .book = engine_book(b->fold.engine),
                   .curves = engine_curves(b->fold.engine),
                   .customs = engine_customs(b->fold.engine),
                   .signals = engine_signals(b->fold.engine),
                   .signal = on_signal,
                   .ingress = b->ingress,
                   .ingest = &b->ingest,
                   .memfile = &b->mem,
                   .explain = on_explain,
                   .is_drained = on_is_drained,
                   .submit = on_submit,
                   .fleet = brain_on_fleet,
                   .stream = on_stream,
                   .read_events = on_read_events,
                   .config_text = on_config_text,
                   .config_effective = on_config_effective,
                   .config_schema = on_config_schema,
                   .config_warnings = on_config_warnings,
                   .reload = on_reload,
                   .purge = on_purge,
                   .endpoint_order = brain_on_endpoint_order,
                   .endpoint_at = brain_on_endpoint_at,
                   .connectors = brain_on_connectors,
                   .connector_order = brain_on_connector_order,
                   .letters_send = brain_on_letters_send},
    };
    if (getrandom(setup.session_seed, sizeof setup.session_seed, 0) != sizeof setup.session_seed)
        return fb_fail(err, FB_E_IO, "admin: no randomness for session keys: %s", strerror(errno));
    b->query = brain_query_new(b->setup->state_dir, BRAIN_QUERY_TIME_US);
    if (b->query) {
        setup.source.query_begin = on_query_begin;
        setup.source.query_take = on_query_take;
        setup.source.query_drop = on_query_drop;
        setup.source.query_fd = brain_query_fd(b->query);
    }
    enum fb_code code = admin_new(&b->admin, &setup, err);
    if (code == FB_OK)
        fill_timeline(b);
    return code;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "gateway/control_msg.h"
#include "io/sandbox.h"
#include "main/brain_int.h"
#include "main/brain_keys.h"
#include "main/resource.h"
#include "main/role.h"
#include "output/timeline.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

/* What stood before this start is over when nothing was seen for so long: old segments are tried in
 * the first seconds. */
#define CLEAR_HEAR_US (120 * US_PER_S)

static void turn(struct brain *b);
static void drain(struct brain *b);
static void tick(struct brain *b, uint64_t now_us);
static void flush_batch(struct brain *b);
static void flush_from(struct brain *b, size_t at, uint64_t offset);
static void put(struct brain *b, const struct ev_head *ev);
static void put_own(struct brain *b, struct ev_head *ev);
static void put_out(struct brain *b);
static void say_config(struct brain *b, struct conf *conf);
static void read_control(struct brain *b);
static void watch_disk(struct brain *b, uint64_t now_us);
static void watch_clock(struct brain *b, uint64_t now_us);
static void alert(struct brain *b, uint16_t reason, bool is_over, double value, const char *text);
static void sample_resources(struct brain *b, uint64_t now_us);
static enum fb_code start(struct brain *b, struct fb_err *err);
static void stop(struct brain *b);

int brain_run(const struct brain_setup *setup)
{
    fb_log_init("brain", FB_LOG_INFO);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGINT, SIG_IGN); /* Ctrl-C reaches the group; the supervisor decides the order */
    signal(SIGHUP, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    prctl(PR_SET_NAME, "fb-brain");
    struct brain *b = calloc(1, sizeof *b);
    if (!b)
        return 1;
    b->setup = setup;
    struct fb_err err;
    enum fb_code code = brain_keys_open(b, &err);
    sandbox_enter("brain");
    if (code != FB_OK || start(b, &err) != FB_OK) {
        fb_log(FB_LOG_ERROR, "%s", err.text);
        control_send(setup->control_fd, CONTROL_REFUSED, 0, 0, err.text);
        return fb_error_row(err.code)->exit_code;
    }
    control_send(setup->control_fd, CONTROL_READY, 0, 0, b->admin ? admin_address(b->admin) : "");
    while (!b->is_stopping)
        turn(b);
    stop(b);
    free(b);
    return 0;
}

static enum fb_code start(struct brain *b, struct fb_err *err)
{
    enum fb_code code = memfile_attach(&b->mem, b->setup->mem_fd, err);
    if (code != FB_OK)
        return code;
    b->out_room = calloc(BRAIN_OUT_MAX, sizeof *b->out_room);
    if (!b->out_room)
        return fb_fail(err, FB_E_NOMEM, "brain: no memory");
    b->out = (struct engine_out){.at = b->out_room, .max = BRAIN_OUT_MAX};
    b->supervisor_pid = getppid();
    code = brain_recover(b, err);
    if (code != FB_OK)
        return code;
    struct conf *conf = NULL;
    code = role_read_conf(b->setup->conf_fd, &conf, err);
    if (code != FB_OK)
        return code;
    uint64_t now_us = fb_mono_us();
    b->begun_us = b->next_tick_us = now_us;
    b->next_drain_us = now_us;
    b->next_resource_us = now_us;
    b->next_snapshot_us = now_us + BRAIN_SNAPSHOT_US;
    sequencer_begin(b->sequencer);
    put_out(b); /* what the last run decided and could not write any more */
    flush_batch(b);
    say_config(b, conf);
    code = brain_connectors_start(b, conf, err);
    brain_fleet_apply(b, conf);
    conf_unref(conf);
    if (code != FB_OK)
        return code;
    brain_publish(b);
    brain_endpoints_start(b);
    if (b->setup->admin_fd >= 0) {
        code = brain_admin_start(b, err);
        if (code != FB_OK)
            return code;
    }
    brain_ingest_reload(b, b->fold.conf);
    return FB_OK;
}

static void stop(struct brain *b)
{
    brain_ingest_stop(b);
    brain_connectors_stop(b);
    brain_fleet_stop(b);
    drain(b);
    tick(b, fb_mono_us());
    if (log_flush(b->log, 2000) == FB_OK) {
        brain_snapshot_take(b);
        brain_snapshot_save(b);
    } else {
        fb_log(FB_LOG_WARN,
               "the log could not be completed at the stop; the last events may be missing");
    }
    if (b->admin)
        admin_free(b->admin);
    brain_endpoints_stop(b);
    brain_query_free(b->query);
    if (b->history)
        log_reader_close(b->history);
    sequencer_release(b->sequencer, log_acknowledged(b->log));
    log_close(b->log);
    ingress_free(b->ingress);
    sequencer_free(b->sequencer);
    state_close(b->state);
    keyring_flush(b->keys);
    keyring_unref(b->keys);
    fold_fini(&b->fold);
    buf_fini(&b->snapshot);
    buf_fini(&b->warnings);
    free(b->out_room);
    memfile_close(&b->mem);
}

static void turn(struct brain *b)
{
    uint64_t now_us = fb_mono_us();
    uint64_t wake_us = fb_min_u64(b->next_tick_us, b->next_drain_us);
    int wait_ms = wake_us <= now_us ? 0 : (int)((wake_us - now_us + 999) / 1000);
    struct pollfd fds[3] = {{.fd = b->setup->control_fd, .events = POLLIN},
                            {.fd = -1, .events = POLLIN},
                            {.fd = -1, .events = POLLIN}};
    if (brain_ingress_has_room(b))
        fds[2].fd = ingress_fd(b->ingress);
    if (b->admin)
        fds[1].fd = admin_fd(b->admin);
    if (poll(fds, FB_COUNT(fds), wait_ms) < 0)
        fb_assert(errno == EINTR);
    if (fds[0].revents)
        read_control(b);
    if (fds[2].revents)
        brain_take_ingress(b);
    now_us = fb_mono_us();
    if (now_us >= b->next_drain_us) {
        drain(b);
        b->next_drain_us = now_us + BRAIN_DRAIN_US;
    }
    if (now_us >= b->next_tick_us) {
        drain(b);
        tick(b, fb_mono_us());
        /* after a stop of the machine: one tick that says how late it is, not a volley of old ones
         */
        b->next_tick_us += BRAIN_TICK_US;
        if (b->next_tick_us + US_PER_S < now_us)
            b->next_tick_us = now_us + BRAIN_TICK_US;
    }
    if (b->admin && fds[1].revents)
        admin_run(b->admin, now_us);
}

/* The last word on panic in a batch. */
static uint16_t panic_of(const struct ev_health *ev, uint16_t before)
{
    bool is_panic = ev->reason == REASON_HEALTH_PANIC || ev->reason == REASON_HEALTH_PANIC_OVER;
    return is_panic ? ev->reason : before;
}

/* Rings -> batch -> fold, admin, log; until the rings are empty, at most 64 batches. */
static void drain(struct brain *b)
{
    for (int i = 0; i < 64; i++) {
        sequencer_begin(b->sequencer);
        uint32_t n = sequencer_drain(b->sequencer, 1u << 16);
        if (n == 0)
            break;
        const struct batch *batch = sequencer_batch(b->sequencer);
        size_t at = 0;
        uint64_t offset = batch->first_offset;
        uint16_t panic = 0;
        for (const struct ev_head *ev; (ev = batch_next(batch, &at));) {
            fold_feed(&b->fold, ev, &b->out);
            if (b->admin) /* now, while it is in the first-level cache */
                admin_on_event(b->admin, ev, offset, false);
            offset++;
            if (ev->type == EV_HEALTH)
                panic = panic_of((const struct ev_health *)ev, panic);
        }
        flush_from(b, at, offset);
        if (panic) {
            sequencer_begin(b->sequencer);
            alert(b, REASON_ALERT_PANIC, panic == REASON_HEALTH_PANIC_OVER, 0,
                  ev_reason_row(panic)->sentence);
            flush_batch(b);
        }
    }
    /* request and health events move no knob by themselves: what they cause comes out at the tick
     */
    sequencer_begin(b->sequencer);
}

/* The batch is complete: admin sees it, the log gets it, the rings get their cells back. */
static void flush_batch(struct brain *b)
{
    flush_from(b, 0, sequencer_batch(b->sequencer)->first_offset);
}

/* <at>, <offset>: where that begins which admin has not seen. */
static void flush_from(struct brain *b, size_t at, uint64_t offset)
{
    const struct batch *batch = sequencer_batch(b->sequencer);
    if (batch->count) {
        if (b->admin)
            for (const struct ev_head *ev; (ev = batch_next(batch, &at));)
                admin_on_event(b->admin, ev, offset++, false);
        log_append(b->log, batch_span(batch), batch->first_offset);
    }
    uint64_t durable = log_acknowledged(b->log);
    if (b->ingress)
        ingress_settle(b->ingress, durable);
    if (durable >= batch->first_offset) /* all but this batch */
        b->durable_us = fb_mono_us();
    sequencer_release(b->sequencer, durable);
    sequencer_begin(b->sequencer);
}

static void put(struct brain *b, const struct ev_head *ev)
{
    if (sequencer_put(b->sequencer, ev))
        return;
    flush_batch(b);
    fb_assert(sequencer_put(b->sequencer, ev));
}

/* What the engine said goes into the stream directly behind its cause. */
static void put_out(struct brain *b)
{
    for (size_t i = 0; i < b->out.count; i++)
        put(b, &b->out.at[i].head);
    if (b->out.dropped)
        fb_log(FB_LOG_WARN, "%zu decisions did not fit into one tick", b->out.dropped);
    b->out.count = 0;
    b->out.dropped = 0;
}

/* The engine must see what the log will hold: the sequencer stamps the origin on its copy only. */
static void put_own(struct brain *b, struct ev_head *ev)
{
    ev->origin = EV_ORIGIN_BRAIN;
    fb_assert(!fold_is_output(ev)); /* a replay would wait for the engine to say it */
    put(b, ev);
    fold_feed(&b->fold, ev, &b->out);
}

void brain_put(struct brain *b, struct ev_head *ev)
{
    put_own(b, ev);
}

void brain_flush(struct brain *b)
{
    put_out(b);
    flush_batch(b);
}

void brain_say(struct brain *b, struct ev_head *ev)
{
    put_own(b, ev);
    put_out(b);
    flush_batch(b);
    brain_publish(b);
}

static void tick(struct brain *b, uint64_t now_us)
{
    uint64_t cpu_us = fb_thread_cpu_us();
    struct sequencer_stats seen;
    sequencer_stats_read(b->sequencer, &seen);
    struct log_stats ls;
    log_stats_read(b->log, &ls);
    uint32_t gateway_epoch = atomic_load(&b->mem.head->gateway_epoch);
    b->gateway_epoch = gateway_epoch;
    watch_disk(b, now_us);
    watch_clock(b, now_us);
    if (now_us >= b->next_resource_us) {
        sample_resources(b, now_us);
        brain_watch_tls(b);
        brain_watch_auth(b);
        brain_watch_keys(b);
        brain_watch_privacy(b, b->fold.conf && b->fold.conf->p.privacy_raw_addresses);
        brain_connectors_tick(b);
        brain_ingest_tick(b);
        b->next_resource_us = now_us + BRAIN_RESOURCE_US;
    }
    struct ev_tick ev = EV_INIT(TICK, tick, now_us);
    ev.tick = ++b->tick;
    ev.wall_us = fb_wall_us();
    ev.events = seen.events;
    ev.lost = seen.lost + ls.lost;
    ev.lag_us = fb_sat_u32(fb_sub_floor_u64(now_us, b->next_tick_us));
    ev.loop_us = fb_sat_u32(b->tick_cpu_us);
    put_own(b, &ev.head);
    put_out(b);
    flush_batch(b);
    brain_fleet_tick(b, now_us);
    brain_publish(b);
    atomic_store_explicit(&b->mem.head->brain_beat_us, now_us, memory_order_release);
    if (now_us >= b->next_snapshot_us) {
        brain_snapshot_take(b);
        b->next_snapshot_us = now_us + BRAIN_SNAPSHOT_US;
    }
    brain_snapshot_save(b);
    if (b->admin)
        admin_tick(b->admin, now_us);
    b->tick_cpu_us = fb_thread_cpu_us() - cpu_us;
}

void brain_publish(struct brain *b)
{
    const struct knob_book *book = engine_book(b->fold.engine);
    uint64_t now_us = fb_mono_us();
    for (uint16_t knob = 0; knob < KNOB_COUNT; knob++)
        for (uint16_t t = 0; t < KNOB_TARGETS_MAX; t++)
            if (book->layer[knob][t].is_used)
                knob_publish(b->mem.knobs, (enum knob_id)knob, t, &book->layer[knob][t], now_us);
            else if (knob_row(knob)->kind == EV_KIND_ENDPOINT &&
                     knob_version(b->mem.knobs, (enum knob_id)knob, t) &&
                     atomic_load_explicit(&b->mem.endpoints[t].has_left, memory_order_relaxed))
                knob_unpublish(b->mem.knobs, (enum knob_id)knob,
                               t); /* the next owner's is not its */
    for (uint16_t t = 0; t < KNOB_TARGETS_MAX; t++)
        if (b->mem.endpoints[t].name[0])
            atomic_store_explicit(&b->mem.endpoints[t].is_drained,
                                  engine_is_drained(b->fold.engine, t), memory_order_relaxed);
}

static void put_config_event(void *arg, const struct ev_head *ev)
{
    struct brain *b = arg;
    put(b, ev);
    fold_feed(&b->fold, ev, &b->out);
}

static void say_config(struct brain *b, struct conf *conf)
{
    fold_config_events(conf, ++b->generation, fb_mono_us(), put_config_event, b);
    put_out(b);
    flush_batch(b);
}

static void alert(struct brain *b, uint16_t reason, bool is_over, double value, const char *text)
{
    struct ev_alert ev = ev_alert_init(reason, EV_NONE, 2, is_over, fb_mono_us());
    ev.value = value;
    strncpy(ev.text, text, sizeof ev.text - 1);
    put_own(b, &ev.head);
    fb_log(is_over ? FB_LOG_INFO : FB_LOG_ERROR, "%s", text);
}

/* What an earlier brain said of the log and nobody ended; it has had time to try by then. */
static bool stands_from_before(struct brain *b)
{
    const struct timeline_alert *x;
    bool stands = false;
    if (b->has_heard_log || !b->admin || fb_mono_us() - b->begun_us < CLEAR_HEAR_US)
        return false;
    for (uint64_t i = 0; (x = admin_alert_at(b->admin, i)) != NULL; i++)
        stands |= x->alert.reason == REASON_ALERT_LOG_CLEAR && !x->over_us;
    b->has_heard_log = true;
    return stands;
}

static void watch_clearing(struct brain *b, const struct log_compacted *c)
{
    char text[200];
    bool is_bad = c->uncleared > 0;
    b->is_clear_bad |= stands_from_before(b);
    if (is_bad == b->is_clear_bad)
        return;
    b->is_clear_bad = is_bad;
    if (is_bad)
        snprintf(text, sizeof text,
                 "pseudonyms in %u segments of the event log are past privacy.operational_*: "
                 "%.100s; tried again",
                 c->uncleared, c->clear_reason);
    else
        snprintf(text, sizeof text, "pseudonyms in the event log are within privacy.operational_*");
    alert(b, REASON_ALERT_LOG_CLEAR, !is_bad, (double)c->uncleared, text);
}

static void watch_disk(struct brain *b, uint64_t now_us)
{
    struct log_stats ls;
    log_stats_read(b->log, &ls);
    bool is_bad = ls.state != LOG_OK;
    char text[200];
    if (is_bad != b->is_disk_bad) {
        b->is_disk_bad = is_bad;
        snprintf(text, sizeof text,
                 is_bad ? "the event log cannot be written: %s; traffic goes on"
                        : "the event log can be written again%s",
                 is_bad ? ls.reason : "");
        alert(b, REASON_ALERT_DISK, !is_bad, (double)ls.lost, text);
    }
    if (ls.compacted.is_failing != b->is_compact_bad) {
        b->is_compact_bad = ls.compacted.is_failing;
        snprintf(text, sizeof text,
                 b->is_compact_bad
                     ? "finished segments of the event log cannot be compacted: %.100s; nothing is "
                       "lost, it is tried again every minute"
                     : "finished segments of the event log are compacted again%.100s",
                 b->is_compact_bad ? ls.compacted.reason : "");
        alert(b, REASON_ALERT_LOG_COMPACT, !b->is_compact_bad, (double)ls.compacted.failures, text);
    }
    watch_clearing(b, &ls.compacted);
    struct ev_gap gap;
    if (log_gap_take(b->log, &gap)) {
        gap.head.time_us = now_us;
        put_own(b, &gap.head);
    }
    struct sequencer_stats seen;
    sequencer_stats_read(b->sequencer, &seen);
    if (seen.lost > b->lost_said) {
        snprintf(text, sizeof text, "%llu events were lost between gateway and brain",
                 (unsigned long long)(seen.lost - b->lost_said));
        alert(b, REASON_ALERT_EVENTS_LOST, false, (double)(seen.lost - b->lost_said), text);
        b->lost_said = seen.lost;
    }
}

/* The wall clock against stream time: more than 1 s between two ticks is somebody's hand. */
static void watch_clock(struct brain *b, uint64_t now_us)
{
    int64_t ahead_us = (int64_t)(fb_wall_us() - now_us), jump_us = ahead_us - b->wall_ahead_us;
    char text[160];
    if (b->tick > 0 && b->has_wall &&
        (jump_us > (int64_t)US_PER_S || jump_us < -(int64_t)US_PER_S)) {
        snprintf(text, sizeof text, "the wall clock jumped by %.1f s; stream time goes on evenly",
                 (double)jump_us / 1e6);
        alert(b, REASON_ALERT_CLOCK_JUMP, false, (double)jump_us / 1e6, text);
    }
    b->wall_ahead_us = ahead_us;
    b->has_wall = true;
}

static void sample_resources(struct brain *b, uint64_t now_us)
{
    struct ev_resource r;
    resource_read_host(&r, now_us);
    put_own(b, &r.head);
    const struct {
        enum resource_scope scope;
        pid_t pid;
    } processes[] = {{RESOURCE_SUPERVISOR, b->supervisor_pid},
                     {RESOURCE_GATEWAY, (pid_t)atomic_load(&b->mem.head->gateway_pid)},
                     {RESOURCE_BRAIN, getpid()}};
    for (size_t i = 0; i < FB_COUNT(processes); i++) {
        if (processes[i].pid <= 0 ||
            !resource_read_process(&r, processes[i].scope, processes[i].pid, now_us))
            continue;
        put_own(b, &r.head);
    }
}

static void read_control(struct brain *b)
{
    struct control_msg m;
    int fd = -1;
    int got = control_receive(b->setup->control_fd, &m, &fd);
    if (got < 0) /* the supervisor is gone */
        b->is_stopping = true;
    if (got <= 0)
        return;
    struct conf *conf = NULL;
    struct fb_err err;
    if (m.kind == CONTROL_STOP) {
        b->is_stopping = true;
        b->is_node_stopping = m.number == CONTROL_STOP_NODE;
    } else if (m.kind == CONTROL_RELOAD) {
        if (role_read_conf(fd, &conf, &err) == FB_OK) {
            say_config(b, conf);
            brain_reload_log(b, conf);
            brain_reload_keys(b, conf);
            connectors_apply(b->connectors, conf);
            brain_fleet_apply(b, conf);
            brain_ingest_reload(b, conf);
            conf_unref(conf);
            brain_publish(b);
            control_send(b->setup->control_fd, CONTROL_RELOADED, 0, 0, "");
        } else {
            control_send(b->setup->control_fd, CONTROL_REFUSED, 0, 0, err.text);
        }
    } else if (m.kind == CONTROL_VERDICT) {
        brain_on_verdict(b, &m);
    } else if (m.kind == CONTROL_TOLD) {
        brain_endpoints_told(b, m.number, m.value);
        if (b->admin)
            admin_on_told(b->admin, m.number, m.value);
    }
    if (fd >= 0)
        close(fd);
}

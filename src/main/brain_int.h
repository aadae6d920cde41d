/* SPDX-License-Identifier: Apache-2.0 */
/* brain_int: the brain's state, shared by brain.c, brain_recover.c and brain_admin.c. */
#ifndef FB_MAIN_BRAIN_INT_H
#define FB_MAIN_BRAIN_INT_H
#include "gateway/control_msg.h"
#include "guard/keyring.h"
#include "ingest/statsd.h"
#include "knob/memfile.h"
#include "main/brain.h"
#include "main/brain_query.h"
#include "main/connector_alerts.h"
#include "main/fold.h"
#include "output/admin.h"
#include "stream/connectors/runner.h"
#include "stream/log.h"
#include "stream/reader.h"
#include "stream/sequencer.h"
#include "stream/state.h"

#include <sys/types.h>

#define BRAIN_TICK_US (100 * US_PER_MS)
/* A ring of 32,768 cells holds 18 ms of 0.9 M requests/s; waking more often only costs CPU.  It is
 * a little below log.commit_interval (20 ms), so that one commit takes two drains. */
#define BRAIN_DRAIN_US (18 * US_PER_MS)
#define BRAIN_SNAPSHOT_US (60 * US_PER_S)
#define BRAIN_RESOURCE_US (1 * US_PER_S)
#define BRAIN_OUT_MAX 4096

#define CONNECTORS_SAID_MAX (2 * CONNECTORS_MAX) /* those that went may have letters */

struct brain {
    const struct brain_setup *setup;
    struct memfile mem;
    struct fold fold;
    struct state *state;
    struct log *log;
    uint64_t log_end; /* its end when this process opened it */
    struct keyring *keys;
    char log_dir[512];
    struct sequencer *sequencer;
    struct admin *admin;
    struct ingress *ingress; /* events from other threads */
    struct ingest_stats ingest;
    struct statsd *statsd;
    char statsd_as[512]; /* the settings that it runs with */
    uint64_t statsd_retry_us;
    bool has_heard_doors, is_door_bad; /* as the alert says */
    bool has_heard_log;
    uint64_t begun_us; /* when the loop began */
    struct connectors *connectors;
    struct connector_said said[CONNECTORS_SAID_MAX];
    bool has_heard;             /* what stood at the start is in it */
    struct log_reader *history; /* for the admin's questions */
    struct brain_query *query;  /* NULL: none can be asked */
    struct engine_out out;
    union ev_any *out_room;
    uint64_t next_tick_us, next_drain_us, next_snapshot_us, next_resource_us;
    uint64_t tick, tick_cpu_us;
    int64_t wall_ahead_us; /* wall clock minus stream time at the last tick */
    bool has_wall;
    uint64_t durable_us; /* when the log last had everything */
    uint64_t lost_said;  /* events lost when an alert last said so */
    uint32_t epoch, generation, gateway_epoch;
    pid_t supervisor_pid;
    uint8_t cert_state[MEMFILE_CERTS_MAX];   /* 1 ends soon, 2 has ended: as the alert says */
    uint8_t staple_state[MEMFILE_CERTS_MAX]; /* the same of its stapled OCSP answer */
    bool is_renew_failing, is_users_bad, is_auth_full;
    uint64_t auth_full_seen, auth_full_us; /* checks without room; when the last one was seen */
    bool is_tls_refused[MEMFILE_LISTENS_MAX], is_tls_out_refused[KNOB_TARGETS_MAX];
    bool is_disk_bad, is_compact_bad, is_clear_bad, is_stopping, is_node_stopping, is_keys_bad,
        is_key_near, is_raw;
    struct brain_fleet *fleet; /* NULL: never configured */
    struct brain_endpoints *endpoints;
    struct buf warnings; /* of the file with this hash: lines LINE TAB text */
    uint64_t warnings_hash;
    uint16_t reload_number; /* of the newest reload that the API asked for */
    char waiting[CONTROL_TEXT_BYTES +
                 1]; /* values for the next start, as CONTROL_VERDICT has them */
    /* a snapshot that waits for its offset to be durable */
    struct buf snapshot;
    struct sequencer_saved saved; /* numbering at the snapshot's offset */
    uint64_t snapshot_offset, snapshot_saved_offset, snapshot_saved_us;
    uint64_t anchor_offset;                  /* of the newest anchor that this process saved */
    uint64_t anchor_stored_bytes, anchor_us; /* what the log had stored then; when */
    bool has_anchor;
    uint64_t recovered_events, recovered_us;
};

/* brain_recover.c: snapshot, then the log behind it; opens state, log, sequencer. */
FB_MUST_USE
enum fb_code brain_recover(struct brain *b, struct fb_err *err);
void brain_reload_log(struct brain *b, const struct conf *conf);     /* retention and the like */
void brain_on_verdict(struct brain *b, const struct control_msg *m); /* CONTROL_VERDICT */
void brain_snapshot_take(struct brain *b);
void brain_snapshot_save(struct brain *b); /* when its offset is durable */
/* brain_tls.c: alerts about certificates, once a second. */
void brain_watch_auth(struct brain *b);
void brain_recall_auth(struct brain *b, const struct ev_alert *told);
void brain_watch_tls(struct brain *b);
/* One of before this brain: what stands is ended when it is over. */
void brain_recall_tls(struct brain *b, const struct ev_alert *told);
/* brain_fleet.c: this node among others; none of them waits for a broker. */
void brain_fleet_apply(struct brain *b, struct conf *conf); /* at the start and at each reload */
void brain_fleet_tick(struct brain *b, uint64_t now_us);
void brain_fleet_stop(struct brain *b);
void brain_on_fleet(void *ctx, struct json *j);
/* brain_admin.c: what the admin server is lent. */
FB_MUST_USE
enum fb_code brain_admin_start(struct brain *b, struct fb_err *err);
/* brain.c: one event of the brain's own into the stream, the engine and the log, with what follows
 * from it. */
void brain_say(struct brain *b, struct ev_head *ev);
/* The same in two steps, for many at once. */
void brain_put(struct brain *b, struct ev_head *ev);
void brain_flush(struct brain *b);
/* brain_connectors.c */
FB_MUST_USE
enum fb_code brain_connectors_start(struct brain *b, struct conf *conf, struct fb_err *err);
void brain_connectors_stop(struct brain *b);
void brain_connectors_tick(struct brain *b); /* once a second */
bool brain_ingress_has_room(struct brain *b);
void brain_take_ingress(struct brain *b);
uint32_t brain_on_connectors(void *ctx, struct admin_connector *out, uint32_t max);
enum fb_code brain_on_letters_send(void *ctx, const char *connector, const char *id,
                                   uint32_t *number, struct fb_err *err);
enum fb_code brain_on_connector_order(void *ctx, const struct admin_connector_order *order,
                                      struct fb_err *err);
/* brain_endpoints.c: endpoints that the admin API adds to services */
void brain_endpoints_start(struct brain *b);
void brain_endpoints_stop(struct brain *b);
uint16_t brain_ticket(struct brain *b); /* of a question to the gateway; 0: none can be asked */
void brain_endpoints_told(struct brain *b, uint16_t ticket, uint32_t value);
enum fb_code brain_on_endpoint_order(void *ctx, struct admin_endpoint_order *o, struct fb_err *err);
const struct admin_endpoint *brain_on_endpoint_at(void *ctx, uint32_t index);
/* brain_ingest.c: tokens and listeners as <conf> says; NULL: as by default. */
void brain_ingest_reload(struct brain *b, const struct conf *conf);
void brain_ingest_tick(struct brain *b); /* once a second: opens what could not be opened */
void brain_ingest_stop(struct brain *b); /* before the queue is emptied for the last time */
void brain_publish(struct brain *b);
#endif

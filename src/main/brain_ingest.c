/* SPDX-License-Identifier: Apache-2.0 */
/* brain_ingest: who may bring events in, and the doors besides the admin API. */
#include "base/clock.h"
#include "base/log.h"
#include "main/brain_int.h"
#include "main/state_dir.h"
#include "output/timeline.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define TOKENS_BYTES_MAX (16 * KIB)
#define RETRY_US (5 * US_PER_S) /* an address may be free again any time */

static void read_tokens(struct brain *b, const char *path)
{
    char text[TOKENS_BYTES_MAX];
    struct fb_err err;
    FILE *f = fopen(path, "re");
    size_t len = f ? fread(text, 1, sizeof text, f) : 0;
    bool is_read = f && !ferror(f) && len < sizeof text;
    if (f)
        fclose(f);
    if (!is_read)
        fb_log(FB_LOG_WARN, "ingest: cannot read the tokens in %s: %s; those of before stay", path,
               len == sizeof text ? "larger than 16 KiB" : strerror(errno));
    else if (admin_ingest_tokens(b->admin, (struct span){text, len}, &err) != FB_OK)
        fb_log(FB_LOG_WARN, "ingest: %s: %s; the tokens of before stay", path, err.text);
    explicit_bzero(text, sizeof text);
}

static const char *text_or_none(const char *text)
{
    return strcmp(text, "off") == 0 ? "" : text;
}

static struct statsd_setup setup_of(struct brain *b, const struct conf *conf)
{
    const struct conf_params *p = &conf->p;
    return (struct statsd_setup){.address = text_or_none(p->ingest_statsd),
                                 .socket = text_or_none(p->ingest_statsd_socket),
                                 .interval_ms = (uint32_t)p->ingest_interval,
                                 .is_folding_tags = p->ingest_statsd_tags == 1,
                                 .ingress = b->ingress,
                                 .stats = &b->ingest};
}

/* Opens it, or says in the state why not; brain_ingest_tick tries again. */
static void open_statsd(struct brain *b, const struct statsd_setup *setup)
{
    struct fb_err err = {0};
    bool was_failing = b->ingest.state[INGEST_STATSD] == INGEST_FAILING;
    if (!setup->address[0] && !setup->socket[0]) {
        b->ingest.state[INGEST_STATSD] = INGEST_OFF;
    } else if (statsd_new(&b->statsd, setup, &err) == FB_OK) {
        b->ingest.state[INGEST_STATSD] = INGEST_OPEN;
        if (was_failing)
            fb_log(FB_LOG_INFO, "ingest: StatsD is open");
    } else {
        if (!was_failing || strcmp(b->ingest.error, err.text) != 0)
            fb_log(FB_LOG_ERROR, "%s; it is tried again every 5 s", err.text);
        b->ingest.state[INGEST_STATSD] = INGEST_FAILING;
    }
    snprintf(b->ingest.error, sizeof b->ingest.error, "%.319s", err.text);
    b->statsd_retry_us = fb_mono_us() + RETRY_US;
}

/* The same settings: it goes on, with what it has counted. */
static void start_statsd(struct brain *b, const struct conf *conf)
{
    const struct statsd_setup setup = setup_of(b, conf);
    char as[sizeof b->statsd_as];
    snprintf(as, sizeof as, "%.100s %.300s %u %d", setup.address, setup.socket, setup.interval_ms,
             setup.is_folding_tags);
    if (b->statsd && strcmp(as, b->statsd_as) == 0)
        return;
    statsd_free(b->statsd);
    b->statsd = NULL;
    memcpy(b->statsd_as, as, sizeof as);
    open_statsd(b, &setup);
}

void brain_ingest_stop(struct brain *b)
{
    statsd_free(b->statsd);
    b->statsd = NULL;
}

void brain_ingest_reload(struct brain *b, const struct conf *conf)
{
    char path[700];
    const char *configured = conf ? conf->p.ingest_token_file : "";
    state_dir_ingest_path(b->setup->state_dir, configured, path, sizeof path);
    if (b->admin)
        read_tokens(b, path);
    if (b->admin && conf)
        admin_beacon_origins(b->admin, conf->p.ingest_beacon_origins);
    b->ingest.state[INGEST_PUSH] = b->ingest.state[INGEST_OTLP] =
        b->admin && b->ingress ? INGEST_OPEN : INGEST_OFF;
    b->ingest.state[INGEST_BEACON] =
        b->admin && conf && conf->p.ingest_beacon_origins[0] ? INGEST_OPEN : INGEST_OFF;
    if (conf && b->ingress)
        start_statsd(b, conf);
}

/* What an earlier brain said and nobody ended. */
static void hear_standing(struct brain *b)
{
    const struct timeline_alert *x;
    for (uint64_t i = 0; (x = admin_alert_at(b->admin, i)) != NULL; i++)
        b->is_door_bad |= x->alert.reason == REASON_ALERT_INGEST_DOOR && !x->over_us;
    b->has_heard_doors = true;
}

static void say_door(struct brain *b, bool is_bad)
{
    struct ev_alert ev = ev_alert_init(REASON_ALERT_INGEST_DOOR, 0, 1, !is_bad, fb_mono_us());
    snprintf(ev.text, sizeof ev.text, "%.200s",
             is_bad ? b->ingest.error
             : b->ingest.state[INGEST_STATSD] == INGEST_OFF
                 ? "ingest.statsd: it is not in the configuration any more"
                 : "ingest.statsd: it is open");
    b->is_door_bad = is_bad;
    brain_say(b, &ev.head);
}

void brain_ingest_tick(struct brain *b)
{
    bool is_bad = b->ingest.state[INGEST_STATSD] == INGEST_FAILING;
    if (is_bad && b->fold.conf && fb_mono_us() >= b->statsd_retry_us) {
        const struct statsd_setup setup = setup_of(b, b->fold.conf);
        open_statsd(b, &setup);
        is_bad = b->ingest.state[INGEST_STATSD] == INGEST_FAILING;
    }
    if (b->admin && !b->has_heard_doors)
        hear_standing(b);
    if (is_bad != b->is_door_bad)
        say_door(b, is_bad);
}

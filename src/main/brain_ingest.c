/* SPDX-License-Identifier: Apache-2.0 */
/* brain_ingest: who may bring events in, and the doors besides the admin API. */
#include "base/log.h"
#include "main/brain_int.h"
#include "main/state_dir.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define TOKENS_BYTES_MAX (16 * KIB)

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

/* The same settings: it goes on, with what it has counted. */
static void start_statsd(struct brain *b, const struct conf *conf)
{
    const struct conf_params *p = &conf->p;
    struct fb_err err;
    char as[sizeof b->statsd_as];
    struct statsd_setup setup = {.address = text_or_none(p->ingest_statsd),
                                 .socket = text_or_none(p->ingest_statsd_socket),
                                 .interval_ms = (uint32_t)p->ingest_interval,
                                 .is_folding_tags = p->ingest_statsd_tags == 1,
                                 .ingress = b->ingress,
                                 .stats = &b->ingest};
    bool is_wanted = setup.address[0] || setup.socket[0];
    snprintf(as, sizeof as, "%.100s %.300s %u %d", setup.address, setup.socket, setup.interval_ms,
             setup.is_folding_tags);
    if (b->statsd && strcmp(as, b->statsd_as) == 0)
        return;
    statsd_free(b->statsd);
    b->statsd = NULL;
    memcpy(b->statsd_as, as, sizeof as);
    if (is_wanted && statsd_new(&b->statsd, &setup, &err) != FB_OK)
        fb_log(FB_LOG_ERROR, "%s; StatsD is off until the next reload", err.text);
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
    if (conf && b->ingress)
        start_statsd(b, conf);
}

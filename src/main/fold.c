/* SPDX-License-Identifier: Apache-2.0 */
#include "main/fold.h"

#include "base/assert.h"
#include "base/log.h"
#include "main/engine_conf.h"

#include <string.h>

#define CONFIG_BYTES_MAX (1 * MIB) /* as conf_parse accepts */

static void take_config(struct fold *f, const struct ev_config *part);
static void configure(struct fold *f, struct conf *conf);

enum fb_code fold_init(struct fold *f, struct fb_err *err)
{
    *f = (struct fold){.engine = engine_new()};
    buf_init(&f->text, CONFIG_BYTES_MAX + 1);
    if (!f->engine)
        return fb_fail(err, FB_E_NOMEM, "engine: no memory");
    return FB_OK;
}

void fold_fini(struct fold *f)
{
    if (f->engine)
        engine_free(f->engine);
    conf_unref(f->conf);
    conf_unref(f->conf_override);
    buf_fini(&f->text);
    *f = (struct fold){0};
}

bool fold_is_output(const struct ev_head *ev)
{
    if (ev->origin != EV_ORIGIN_BRAIN)
        return false;
    if (ev->type == EV_DECISION || ev->type == EV_OUTCOME)
        return true;
    if (ev->type != EV_ALERT)
        return false;
    /* all others are the brain's own: they rest on the disk and the clock, not on events */
    return ev_reason_row(((const struct ev_alert *)ev)->reason)->kind == REASON_KIND_DERIVED;
}

void fold_feed(struct fold *f, const struct ev_head *ev, struct engine_out *out)
{
    fb_assert(ev_is_valid(ev));
    f->events++;
    if (ev->type == EV_CONFIG)
        take_config(f, (const struct ev_config *)ev);
    engine_feed(f->engine, ev, out);
}

static void take_config(struct fold *f, const struct ev_config *part)
{
    if (part->part_offset == 0)
        buf_clear(&f->text);
    /* a gap may have eaten a part: then this configuration is unknown and the one before stays */
    if (part->part_offset != f->text.len || part->part_bytes > sizeof part->text)
        return;
    buf_put(&f->text, part->text, part->part_bytes);
    if (!part->is_last || f->text.failed || f->text.len != part->total_bytes)
        return;
    if (f->conf_override) {
        configure(f, conf_ref(f->conf_override));
        return;
    }
    struct conf *conf = NULL;
    struct conf_report report = {0};
    if (conf_parse(buf_span(&f->text), "config event", &conf, &report) == FB_OK)
        configure(f, conf);
    else
        fb_log(FB_LOG_WARN, "the log holds a configuration that this version does not accept; the "
                            "one before stays");
    conf_report_fini(&report);
}

/* Takes over the caller's reference. */
static void configure(struct fold *f, struct conf *conf)
{
    struct engine_conf ec;
    if (engine_conf_init(&ec, conf, NULL) == FB_OK) {
        engine_configure(f->engine, &ec);
        engine_conf_fini(&ec);
    }
    conf_unref(f->conf);
    f->conf = conf;
}

void fold_config_events(const struct conf *conf, uint32_t generation, uint64_t now_us,
                        void (*put)(void *arg, const struct ev_head *ev), void *arg)
{
    struct ev_config part = EV_INIT(CONFIG, config, now_us);
    part.head.origin = EV_ORIGIN_BRAIN;
    part.config_hash = conf->hash;
    part.total_bytes = (uint32_t)conf->text_bytes;
    part.generation = generation;
    size_t at = 0;
    do {
        size_t len = conf->text_bytes - at;
        if (len > sizeof part.text)
            len = sizeof part.text;
        memset(part.text, 0, sizeof part.text);
        memcpy(part.text, conf->text + at, len);
        part.part_offset = (uint32_t)at;
        part.part_bytes = (uint16_t)len;
        at += len;
        part.is_last = at == conf->text_bytes;
        put(arg, &part.head);
    } while (at < conf->text_bytes);
}

/* Layout: u64 length of the configuration text, the text, the engine's bytes. */
void fold_save(const struct fold *f, struct buf *out)
{
    uint64_t len = f->conf ? f->conf->text_bytes : 0;
    buf_put(out, &len, sizeof len);
    if (f->conf)
        buf_put(out, f->conf->text, f->conf->text_bytes);
    engine_save(f->engine, out);
}

enum fb_code fold_load(struct fold *f, struct span bytes, struct fb_err *err)
{
    uint64_t len;
    if (bytes.len < sizeof len)
        return fb_fail(err, FB_E_FORMAT, "snapshot: only %zu bytes", bytes.len);
    memcpy(&len, bytes.at, sizeof len);
    bytes = (struct span){bytes.at + sizeof len, bytes.len - sizeof len};
    if (len > bytes.len)
        return fb_fail(err, FB_E_FORMAT, "snapshot: the configuration in it is cut short");
    struct span text = {bytes.at, (size_t)len};
    struct span engine = {bytes.at + len, bytes.len - (size_t)len};
    enum fb_code code = engine_load(f->engine, engine, err);
    if (code != FB_OK)
        return code;
    if (text.len) {
        struct conf *conf = NULL;
        struct conf_report report = {0};
        if (f->conf_override)
            configure(f, conf_ref(f->conf_override));
        else if (conf_parse(text, "snapshot", &conf, &report) == FB_OK)
            configure(f, conf); /* the same settings: nothing learned is dropped */
        conf_report_fini(&report);
    }
    return FB_OK;
}

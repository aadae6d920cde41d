/* SPDX-License-Identifier: Apache-2.0 */
/* brain_keys: the keys of stored data as the brain uses them: opened before the sandbox, watched
 * once a second, told by events and alerts. */
#include "main/brain_keys.h"
#include "base/clock.h"
#include "base/log.h"
#include "main/brain_int.h"
#include "main/role.h"
#include "stream/segment.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void say_alert(struct brain *b, uint16_t reason, bool is_over, const char *text);

static struct keyring_conf read_conf(const struct conf *conf)
{
    const struct conf_params *p = &conf->p;
    return (struct keyring_conf){.master = p->encryption_master_key,
                                 .rotate_age_us = p->encryption_rotate_age * US_PER_MS,
                                 .rotate_bytes = p->encryption_rotate_bytes,
                                 .period_us = p->privacy_period * US_PER_MS,
                                 .personal_age_us = p->privacy_retain_age * US_PER_MS,
                                 .personal_bytes = p->privacy_retain_bytes};
}

/* The key file is gone, and the newest segment has encrypted blocks: new keys would open nothing of
 * it, and hide the mistake. */
static enum fb_code check_not_lost(const char *state_dir, struct fb_err *err)
{
    char dir[512], path[600], name[SEGMENT_NAME_BYTES];
    struct segment_list list;
    struct block_head head = {0};
    snprintf(dir, sizeof dir, "%s/log", state_dir);
    if (keyring_exists(state_dir) || segment_list_read(&list, dir, NULL) != FB_OK)
        return FB_OK;
    for (size_t i = list.count; i-- > 0 && list.count - i <= 3 && head.key_id == 0;) {
        segment_name(name, list.at[i].number, list.at[i].first_offset);
        snprintf(path, sizeof path, "%s/%s", dir, name);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        for (uint64_t at = 0; fd >= 0 && head.key_id == 0; at = head.position + block_bytes(&head))
            if (segment_head_after(fd, list.at[i].number, at, list.at[i].bytes, &head) != FB_OK)
                break;
        if (fd >= 0)
            close(fd);
    }
    segment_list_fini(&list);
    if (head.key_id == 0)
        return FB_OK;
    return fb_fail(err, FB_E_KEY,
                   "the key file %s/keys is missing, and the log is encrypted with key %u of it; "
                   "nothing was changed; put it back from your backup, or move the state folder "
                   "away to begin anew",
                   state_dir, head.key_id);
}

/* The newest encrypted block must open: a key file of another folder has keys of the same numbers,
 * and would make the whole log a hole. */
static enum fb_code check_fits(const char *state_dir, struct keyring *keys, struct fb_err *err)
{
    char path[700], name[SEGMENT_NAME_BYTES];
    struct segment_list list;
    struct block_head head;
    snprintf(path, sizeof path, "%s/log", state_dir);
    if (segment_list_read(&list, path, NULL) != FB_OK)
        return FB_OK;
    struct block_codec *codec = block_codec_new();
    char *body = malloc(BLOCK_BYTES_MAX);
    void *records = aligned_alloc(64, BLOCK_RAW_BYTES_MAX);
    enum fb_code code = codec && body && records && list.count ? FB_OK : FB_E_END;
    if (code == FB_OK) {
        const struct segment *seg = &list.at[list.count - 1];
        segment_name(name, seg->number, seg->first_offset);
        snprintf(path, sizeof path, "%s/log/%s", state_dir, name);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        block_codec_keys(codec, keys);
        if (fd >= 0 && segment_head_after(fd, seg->number, 0, seg->bytes, &head) == FB_OK &&
            head.key_id) {
            size_t len = block_bytes(&head) - BLOCK_HEADER_BYTES;
            ssize_t n = pread(fd, body, len, head.position + BLOCK_HEADER_BYTES);
            struct span bytes = {body, n < 0 ? 0 : (size_t)n};
            if (block_body_is_good(&head, bytes))
                code = block_decode(codec, &head, bytes, records);
        }
        if (fd >= 0)
            close(fd);
    }
    segment_list_fini(&list);
    block_codec_free(codec);
    free(body);
    free(records);
    if (code != FB_E_DAMAGED && code != FB_E_KEY)
        return FB_OK;
    return fb_fail(err, FB_E_KEY,
                   "the key file %s/keys is not the one of this log, or older: its key %u does not "
                   "open what is stored; nothing was changed; put the newest one back",
                   state_dir, head.key_id);
}

enum fb_code brain_keys_open(struct brain *b, struct fb_err *err)
{
    struct conf *conf = NULL;
    enum fb_code code = role_read_conf(b->setup->conf_fd, &conf, err);
    if (code != FB_OK)
        return code;
    code = check_not_lost(b->setup->state_dir, err);
    struct keyring_conf kc = read_conf(conf);
    if (code == FB_OK)
        code = keyring_start(&b->keys, b->setup->state_dir, &kc, fb_wall_us(), err);
    if (code == FB_OK)
        code = check_fits(b->setup->state_dir, b->keys, err);
    conf_unref(conf);
    return code;
}

void brain_reload_keys(struct brain *b, const struct conf *conf)
{
    struct keyring_conf kc = read_conf(conf);
    keyring_reconfigure(b->keys, &kc);
}

_Static_assert((int)KEYRING_OP_ERASED == EV_KEY_ERASED, "op of the event");

static void say_audit(struct brain *b, const struct keyring_audit *a)
{
    struct ev_key ev = EV_INIT(KEY, key, fb_mono_us());
    ev.op = a->op;
    ev.key_id = a->key_id;
    ev.wall_us = a->wall_us;
    ev.count = a->count;
    ev.bytes = a->bytes;
    ev.erasure = a->erasure;
    ev.period = a->period;
    memcpy(ev.who, a->who, strnlen(a->who, sizeof ev.who));
    brain_say(b, &ev.head);
    if (a->op == KEYRING_OP_ERASED)
        fb_log(FB_LOG_INFO, "keys: erased by %s (%llu texts, %u dead letters)", a->who,
               (unsigned long long)a->count, a->key_id);
    else if (a->op != KEYRING_OP_PERIOD_BEGAN && a->op != KEYRING_OP_PERIOD_ENDED)
        fb_log(FB_LOG_INFO, "keys: %s by %s (key %u)", keyring_op_name(a->op), a->who, a->key_id);
    /* Whoever was erased shall not be told again by what his requests are called. */
    if (a->op == KEYRING_OP_ERASED || a->op == KEYRING_OP_PERIOD_BEGAN)
        memfile_pseudonym_renew(b->mem.head);
}

static void say_audits(struct brain *b)
{
    struct keyring_audit audits[KEYRING_AUDITS_MAX];
    size_t count = keyring_audit_peek(b->keys, audits, KEYRING_AUDITS_MAX);
    for (size_t i = 0; i < count; i++)
        say_audit(b, &audits[i]);
    keyring_audit_done(b->keys, audits, count);
}

void brain_watch_keys(struct brain *b)
{
    struct keyring_view v;
    (void)!keyring_watch(b->keys, fb_wall_us(), NULL); /* the view says it */
    say_audits(b);
    keyring_view(b->keys, &v);
    if (v.is_bad != b->is_keys_bad) {
        b->is_keys_bad = v.is_bad;
        say_alert(b, REASON_ALERT_KEY_FILE, !v.is_bad,
                  v.is_bad ? v.why : "the key file can be read and written again");
    }
    bool is_near =
        v.is_sealing && (v.active_seals >= KEYRING_SEALS_MAX || v.key_count >= KEYRING_KEYS_MAX);
    if (is_near != b->is_key_near) {
        b->is_key_near = is_near;
        say_alert(b, REASON_ALERT_KEY_BOUND, !is_near,
                  is_near
                      ? "the data key cannot be rotated any more: there are too many keys, or the "
                        "key file cannot be written; see `foldback key list`, then `foldback "
                        "key prune`"
                      : "the data key can be rotated again");
    }
}

struct metrics_keys brain_keys_view(struct brain *b)
{
    struct keyring_view v;
    keyring_view(b->keys, &v);
    return (struct metrics_keys){
        .is_encrypted = v.is_sealing,
        .is_ok = !v.is_bad,
        .key_id = v.active_id,
        .keys = v.key_count,
        .periods = v.period_count,
        .age_us = v.is_sealing ? fb_sub_floor_u64(fb_wall_us(), v.active_since_us) : 0,
        .seals = v.active_seals,
        .personal_bytes = v.personal_bytes,
        .rotations = v.rotations,
        .erasures = v.erasures};
}

void brain_watch_privacy(struct brain *b, bool is_raw)
{
    if (is_raw == b->is_raw)
        return;
    b->is_raw = is_raw;
    say_alert(b, REASON_ALERT_RAW_ADDRESSES, !is_raw,
              is_raw ? "privacy.raw_addresses is on: the access log holds whole addresses of people"
                     : "addresses are cut again");
}

static void say_alert(struct brain *b, uint16_t reason, bool is_over, const char *text)
{
    uint8_t severity = is_over ? 0 : reason == REASON_ALERT_RAW_ADDRESSES ? 1 : 2;
    struct ev_alert ev = ev_alert_init(reason, EV_NONE, severity, is_over, fb_mono_us());
    snprintf(ev.text, sizeof ev.text, "%s", text);
    brain_say(b, &ev.head);
    fb_log(is_over ? FB_LOG_INFO : FB_LOG_WARN, "%s", text);
}

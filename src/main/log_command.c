/* SPDX-License-Identifier: Apache-2.0 */
/* `foldback log check`, `log stats` and `log repair`.
 *
 * Exit codes: 0 whole, or every damage is repaired; 1 damage, or a repair is still to be done. */
#include "base/clock.h"
#include "main/run.h"
#include "stream/repair.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct job {
    const struct cli_log_args *args;
    const char *dir;
    struct log_check found;
    struct log_repair repair;
    bool is_repair;
    uint64_t done, left, failed; /* repairs */
    bool has_progress;
};

static void show_progress(void *arg, uint64_t done, uint64_t all);
static enum fb_code lend_keys(struct log_check_how *how, const char *state_dir,
                              struct keyring **keys, struct fb_err *err);
static void repair_places(struct job *j);
static void print_json(const struct job *j);
static void print_text(const struct job *j);

int log_command(const struct cli_log_args *args)
{
    char dir[600];
    struct fb_err err = {0};
    struct job j = {.args = args, .dir = dir, .repair = {.lock_fd = -1, .repair_fd = -1}};
    snprintf(dir, sizeof dir, "%s/log", args->state);
    j.is_repair = strcmp(args->verb, "repair") == 0;
    struct log_check_how how = {.dir = dir, .arg = &j};
    if (isatty(STDERR_FILENO))
        how.progress = show_progress;
    struct keyring *keys = NULL;
    enum fb_code code = FB_OK;
    if (j.is_repair && args->is_applied)
        code = log_repair_begin(&j.repair, dir, &err);
    if (code == FB_OK && !j.is_repair)
        code = lend_keys(&how, args->state, &keys, &err);
    if (code == FB_OK)
        code = log_check_run(&j.found, &how, &err);
    block_codec_free(how.codec);
    if (code == FB_OK && !j.is_repair && j.found.sealed_events && !keys)
        code = fb_fail(&err, FB_E_KEY,
                       "%" PRIu64 " events are encrypted and the key file %s/keys is not there; "
                       "their checksums are right; put it back from your backup",
                       j.found.sealed_events, args->state);
    keyring_unref(keys);
    if (j.has_progress)
        fprintf(stderr, "\r\033[K");
    if (code != FB_OK) {
        fprintf(stderr, "foldback: %s\n", err.text);
    } else {
        if (j.is_repair)
            repair_places(&j);
        if (args->is_json)
            print_json(&j);
        else
            print_text(&j);
    }
    log_repair_end(&j.repair);
    bool is_bad =
        j.is_repair ? j.left || j.failed : strcmp(args->verb, "check") == 0 && j.found.damaged > 0;
    log_check_fini(&j.found);
    return code != FB_OK ? fb_error_row(code)->exit_code : is_bad;
}

/* A repair looks at checksums only: what a wrong key does not open is not damaged. */
static enum fb_code lend_keys(struct log_check_how *how, const char *state_dir,
                              struct keyring **keys, struct fb_err *err)
{
    if (!keyring_exists(state_dir))
        return FB_OK;
    enum fb_code code = keyring_open(keys, state_dir, err);
    if (code != FB_OK)
        return code;
    how->codec = block_codec_new();
    if (!how->codec)
        return fb_fail(err, FB_E_NOMEM, "no memory to check the log");
    block_codec_keys(how->codec, *keys);
    return FB_OK;
}

static void show_progress(void *arg, uint64_t done, uint64_t all)
{
    struct job *j = arg;
    j->has_progress = true;
    fprintf(stderr, "\rlog %s: %" PRIu64 " of %" PRIu64 " MiB", j->args->verb, done / (uint64_t)MIB,
            all / (uint64_t)MIB);
}

static void repair_places(struct job *j)
{
    for (size_t i = 0; i < j->found.place_count; i++) {
        const struct check_place *p = &j->found.place[i];
        struct fb_err err = {0};
        enum repair_step step = log_repair_plan(&j->repair, p);
        if (step == REPAIR_NONE)
            continue;
        if (step == REPAIR_LATER || !j->args->is_applied) {
            j->left++;
        } else if (log_repair_do(&j->repair, j->dir, p, &err) == FB_OK) {
            j->done++;
        } else {
            j->failed++;
            fprintf(stderr, "foldback: %s\n", err.text);
        }
    }
    if (j->found.damaged > j->done + j->left + j->failed) /* more than the list holds */
        j->left = j->found.damaged - j->done - j->failed;
}

/* ---- what is said ---- */

static const char *kind_name(enum check_kind kind)
{
    static const char *const names[] = {"damage", "tail", "empty", "repaired", "hole"};
    return names[kind];
}

static const char *kind_text(enum check_kind kind)
{
    static const char *const texts[] = {"damaged bytes between good blocks",
                                        "damaged bytes at the end of the segment",
                                        "no good block in the segment", "damage, repaired before",
                                        ("no byte is damaged; the log could not be written "
                                         "then, or a start cut off its damaged end")};
    return texts[kind];
}

static const char *step_text(const struct job *j, enum repair_step step)
{
    static const char *const done[] = {"marked as known", "cut off", "moved away"};
    static const char *const plan[] = {"mark it as known", "cut it off", "move the file away"};
    if (step == REPAIR_LATER)
        return "has to wait: foldback writes this segment; stop it, or wait for the next segment";
    return j->args->is_applied ? done[step] : plan[step];
}

static void json_place(struct json *w, const struct job *j, const struct check_place *p)
{
    static const char *const steps[] = {"mark", "cut", "move", "wait", "none"};
    char name[SEGMENT_NAME_BYTES];
    segment_name(name, p->segment, p->segment_first);
    json_object_begin(w);
    json_key_str(w, "kind", kind_name(p->kind));
    json_key_str(w, "file", name);
    json_key_u64(w, "segment", p->segment);
    json_key_u64(w, "position", p->position);
    json_key_u64(w, "bytes", p->bytes);
    json_key_u64(w, "from_offset", p->from);
    json_key_u64(w, "to_offset", p->to);
    json_key_u64(w, "missing_events", p->to - p->from);
    if (j->is_repair)
        json_key_str(w, "step", steps[log_repair_plan(&j->repair, p)]);
    json_object_end(w);
}

static void print_json(const struct job *j)
{
    const struct log_check *f = &j->found;
    struct buf out;
    struct json w;
    buf_init(&out, 4 * MIB);
    json_init(&w, &out);
    json_object_begin(&w);
    json_key_u64(&w, "events", f->events);
    json_key_u64(&w, "first_offset", f->first_offset);
    json_key_u64(&w, "last_offset", f->next_offset ? f->next_offset - 1 : 0);
    json_key_u64(&w, "holes", f->holes);
    json_key_u64(&w, "missing_events", f->missing);
    json_key_u64(&w, "damaged_places", f->damaged);
    json_key_u64(&w, "damaged_bytes", f->damaged_bytes);
    json_key_u64(&w, "repaired_places", f->repaired);
    json_key_u64(&w, "segments", f->segments);
    json_key_u64(&w, "blocks", f->blocks);
    json_key_u64(&w, "bytes", f->bytes);
    json_key_u64(&w, "raw_bytes", f->raw_bytes);
    json_key_f64(&w, "bytes_per_event",
                 f->events ? (double)f->stored_bytes / (double)f->events : 0);
    json_key_f64(&w, "bytes_per_event_before_compaction",
                 f->events ? (double)f->before_bytes / (double)f->events : 0);
    json_key_u64(&w, "first_wall_us", f->first_wall_us);
    json_key_u64(&w, "last_wall_us", f->last_wall_us);
    if (f->sealed_events)
        json_key_u64(&w, "sealed_events", f->sealed_events);
    json_key(&w, "types");
    json_object_begin(&w);
    for (uint8_t i = 0; i < EV_TYPE_END; i++)
        if (f->types[i])
            json_key_u64(&w, ev_type_row(i)->name, f->types[i]);
    json_object_end(&w);
    json_key(&w, "places");
    json_array_begin(&w);
    for (size_t i = 0; i < f->place_count; i++)
        json_place(&w, j, &f->place[i]);
    json_array_end(&w);
    if (j->is_repair) {
        json_key_bool(&w, "is_applied", j->args->is_applied);
        json_key_bool(&w, "is_live", j->repair.is_live);
        json_key_u64(&w, "done", j->done);
        json_key_u64(&w, "left", j->left);
        json_key_u64(&w, "failed", j->failed);
    }
    json_object_end(&w);
    printf("%s\n", buf_str(&out));
    buf_fini(&out);
}

static void print_place(const struct job *j, const struct check_place *p)
{
    char name[SEGMENT_NAME_BYTES];
    segment_name(name, p->segment, p->segment_first);
    if (p->kind == CHECK_HOLE)
        printf("%s: %s", name, kind_text(p->kind));
    else if (p->bytes == 0)
        printf("%s: the file is empty", name);
    else
        printf("%s: bytes %" PRIu64 " to %" PRIu64 ": %s", name, p->position,
               p->position + p->bytes - 1, kind_text(p->kind));
    if (p->to > p->from)
        printf("; offsets %" PRIu64 " to %" PRIu64 " (%" PRIu64 " events) are missing", p->from,
               p->to - 1, p->to - p->from);
    enum repair_step step = log_repair_plan(&j->repair, p);
    if (j->is_repair && step != REPAIR_NONE)
        printf("%s%s", j->args->is_applied || step == REPAIR_LATER ? "; " : "; would ",
               step_text(j, step));
    printf("\n");
}

static void print_wall(const char *before, uint64_t wall_us)
{
    char text[40];
    time_t s = (time_t)(wall_us / US_PER_S);
    struct tm tm;
    gmtime_r(&s, &tm);
    strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S UTC", &tm);
    printf("%s%s", before, text);
}

static void print_stats(const struct log_check *f)
{
    printf("%" PRIu64 " segments, %" PRIu64 " blocks, %.1f MiB; %.1f bytes per event, %.1f times "
           "smaller than the records\n",
           f->segments, f->blocks, (double)f->bytes / (double)MIB,
           f->events ? (double)f->stored_bytes / (double)f->events : 0,
           f->stored_bytes ? (double)f->raw_bytes / (double)f->stored_bytes : 0);
    if (f->before_bytes > f->stored_bytes)
        printf("compaction of finished segments brought it from %.1f to %.1f bytes per event\n",
               (double)f->before_bytes / (double)f->events,
               (double)f->stored_bytes / (double)f->events);
    if (f->events) {
        print_wall("from ", f->first_wall_us);
        print_wall(" to ", f->last_wall_us);
        printf("\n");
    }
    for (uint8_t i = 0; i < EV_TYPE_END; i++)
        if (f->types[i])
            printf("  %-10s %" PRIu64 "\n", ev_type_row(i)->name, f->types[i]);
    if (f->sealed_events)
        printf("  %-10s %" PRIu64 " (no key: only their checksums were read)\n", "sealed",
               f->sealed_events);
}

static void print_text(const struct job *j)
{
    const struct log_check *f = &j->found;
    for (size_t i = 0; i < f->place_count; i++)
        print_place(j, &f->place[i]);
    printf("%" PRIu64 " events, offsets %" PRIu64 " to %" PRIu64 ", %" PRIu64 " holes with %" PRIu64
           " events missing, %" PRIu64 " damaged places with %" PRIu64 " bytes\n",
           f->events, f->first_offset, f->next_offset ? f->next_offset - 1 : 0, f->holes,
           f->missing, f->damaged, f->damaged_bytes);
    if (strcmp(j->args->verb, "stats") == 0)
        print_stats(f);
    if (!j->is_repair) {
        if (f->damaged)
            printf("readers pass over the damage; `foldback log repair` shows what can be done\n");
        return;
    }
    if (!f->damaged)
        printf("there is nothing to repair\n");
    else if (!j->args->is_applied)
        printf("nothing was changed; `foldback log repair --apply` does it and keeps the damaged "
               "bytes in %s/cut\n",
               j->dir);
    else
        printf("%" PRIu64 " repaired, %" PRIu64 " left, %" PRIu64 " failed; the damaged bytes are "
               "kept in %s/cut\n",
               j->done, j->left, j->failed, j->dir);
}

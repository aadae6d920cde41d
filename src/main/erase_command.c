/* SPDX-License-Identifier: Apache-2.0 */
/* `foldback erase --subject TEXT`: makes a person's traces unreadable and proves it.
 *
 *   1. reads the whole log and notes every personal field that mentions TEXT
 *   2. takes the dead letters that mention TEXT out of their files (connectors/letters.h), and
 *      destroys the keys of these fields, and of no other (guard/shred.h)
 *   3. reads all again, with the keys that are left, until nothing mentions TEXT
 *   4. looks for TEXT in the bytes of every file of the state folder
 *
 * Figures, decisions and what a replay computes from do not change: they hold no personal field.
 * The running foldback follows within a second: it forgets the keys and its newest samples, takes a
 * new pseudonym key, and writes the audit event.  TEXT itself is stored nowhere. */
#include "base/clock.h"
#include "base/json.h"
#include "guard/personal.h"
#include "main/key_command.h"
#include "main/run.h"
#include "stream/connectors/letters.h"
#include "stream/reader.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Traffic may bring more of the person while we read. */
#define ROUNDS_MAX 5
/* A request that ended before the command began is on the disk by then: ring, batch and commit take
 * 40 ms with the default log.commit_interval, which may be a second. */
#define UNDER_WAY_US (1300 * 1000)
#define TEXTS_MAX (8u << 20)
#define OPEN_FIELDS_MAX 32

struct open_hit {
    const char *type, *field;
    uint64_t count;
    bool is_personal; /* ... in a block that is older than its keys */
};
struct scan {
    struct span subject;
    struct keyring *keys;       /* of the folder */
    struct keyring_text *texts; /* that mention it */
    size_t count, cap;
    uint64_t events, fields, gone; /* personal fields: readable, destroyed before */
    uint64_t holes;                /* damage that may hide anything */
    uint64_t unsealed;             /* personal fields that mention it and have no key to destroy */
    struct open_hit open[OPEN_FIELDS_MAX];
    size_t open_count;
    bool is_full;
};
struct files {
    uint64_t files, bytes, hits;
    char first[900];
};

/* ---- does a text mention the subject? ---- */

static int hex_of(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Lower case, and %40 as @: paths hold people in both spellings. */
static size_t fold_text(struct span in, char *out)
{
    size_t len = 0;
    for (size_t i = 0; i < in.len; i++) {
        char c = in.at[i];
        if (c == '%' && i + 2 < in.len) {
            int high = hex_of((char)(in.at[i + 1] | 0x20)),
                low = hex_of((char)(in.at[i + 2] | 0x20));
            if (high >= 0 && low >= 0) {
                c = (char)(high << 4 | low);
                i += 2;
            }
        }
        out[len++] = c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
    }
    return len;
}

static bool mentions(const struct scan *s, struct span text)
{
    char folded[512];
    if (text.len > sizeof folded)
        text.len = sizeof folded;
    size_t len = fold_text(text, folded);
    return memmem(folded, len, s->subject.at, s->subject.len) != NULL;
}

/* JSON spells one text in many ways: \u0040 is @.  <out> may be <in>. */
static size_t unescape(struct span in, char *out)
{
    size_t len = 0;
    for (size_t i = 0; i < in.len; i++) {
        char c = in.at[i];
        if (c != '\\' || i + 1 >= in.len) {
            out[len++] = c;
            continue;
        }
        c = in.at[++i];
        uint32_t v = 0;
        for (size_t k = 1; c == 'u' && k <= 4; k++) {
            int d = i + k < in.len ? hex_of((char)(in.at[i + k] | 0x20)) : -1;
            v = d < 0 ? UINT32_MAX : v << 4 | (uint32_t)d;
            c = d < 0 ? 0 : c;
        }
        if (c != 'u') {
            out[len++] = in.at[i];
            continue;
        }
        i += 4;
        if (v >= 0x800) {
            out[len++] = (char)(0xe0 | v >> 12);
            out[len++] = (char)(0x80 | (v >> 6 & 0x3f));
        } else if (v >= 0x80) {
            out[len++] = (char)(0xc0 | v >> 6);
        }
        out[len++] = (char)(v < 0x80 ? v : 0x80 | (v & 0x3f));
    }
    return len;
}

/* The same rules for what is in a dead letter: of any length, and JSON as often as not. */
static bool letter_mentions(void *ctx, struct span text)
{
    struct scan *s = ctx;
    char *plain = malloc(2 * text.len);
    if (!plain) {
        s->holes++;
        return false;
    }
    char *folded = plain + text.len;
    size_t len = fold_text(text, folded);
    bool is_hit = memmem(folded, len, s->subject.at, s->subject.len) != NULL;
    if (!is_hit && memchr(text.at, '\\', text.len)) {
        len = fold_text((struct span){plain, unescape(text, plain)}, folded);
        is_hit = memmem(folded, len, s->subject.at, s->subject.len) != NULL;
    }
    free(plain);
    return is_hit;
}

/* ---- the log ---- */

static void note(struct scan *s, uint32_t period, uint64_t offset)
{
    if (s->count && s->texts[s->count - 1].offset == offset)
        return; /* two fields of one event share their key */
    if (s->count == s->cap) {
        size_t cap = s->cap ? s->cap * 2 : 256;
        struct keyring_text *texts =
            cap <= TEXTS_MAX ? realloc(s->texts, cap * sizeof *texts) : NULL;
        if (!texts) {
            s->is_full = true;
            return;
        }
        s->texts = texts;
        s->cap = cap;
    }
    s->texts[s->count++] = (struct keyring_text){period, offset};
}

static void note_open(struct scan *s, const char *type, const struct ev_field_row *f)
{
    size_t i = 0;
    const char *field = f->name;
    s->unsealed += f->privacy == EV_PERSONAL;
    while (i < s->open_count && (s->open[i].type != type || s->open[i].field != field))
        i++;
    if (i == OPEN_FIELDS_MAX)
        return;
    if (i == s->open_count)
        s->open[s->open_count++] = (struct open_hit){type, field, 0, f->privacy == EV_PERSONAL};
    s->open[i].count++;
}

static void look_at(struct scan *s, const struct ev_head *ev, uint32_t period, uint64_t offset)
{
    const struct ev_type_row *row = ev_type_row(ev->type);
    for (uint8_t i = 0; i < row->field_count; i++) {
        const struct ev_field_row *f = &row->fields[i];
        const char *at = (const char *)ev + f->offset;
        if (f->type != EV_FT_text)
            continue;
        struct span text = {at, strnlen(at, f->bytes)};
        bool is_personal = f->privacy == EV_PERSONAL;
        if (is_personal && span_eq(text, SPAN(PERSONAL_GONE)))
            s->gone++;
        else if (is_personal && text.len)
            s->fields++;
        if (!mentions(s, text))
            continue;
        if (is_personal && period)
            note(s, period, offset);
        else
            note_open(s, row->name, f);
    }
}

static enum fb_code read_log(struct scan *s, const char *state_dir, struct fb_err *err)
{
    char dir[600];
    struct log_reader *reader;
    const struct ev_head *ev;
    uint64_t offset;
    snprintf(dir, sizeof dir, "%s/log", state_dir);
    s->count = s->open_count = 0;
    s->events = s->fields = s->gone = s->holes = s->unsealed = 0;
    enum fb_code code = log_reader_open(&reader, dir, LOG_FROM_START, err);
    if (code != FB_OK)
        return code;
    for (;;) {
        code = log_reader_next(reader, &ev, &offset);
        if (code == FB_E_DAMAGED) {
            s->holes += log_reader_skip(reader)->reason == REASON_LOSS_DAMAGED;
            continue;
        }
        if (code != FB_OK)
            break;
        s->events++;
        look_at(s, ev, log_reader_period(reader), offset);
    }
    if (code == FB_E_END)
        code = FB_OK;
    else
        code = fb_fail(err, code, "the log cannot be read at offset %llu: %s; nothing was erased",
                       (unsigned long long)log_reader_offset(reader), log_reader_why(reader));
    log_reader_close(reader);
    if (code == FB_OK && s->is_full)
        code = fb_fail(err, FB_E_NOMEM, "more than %u texts mention it; name it more precisely",
                       TEXTS_MAX);
    return code;
}

/* ---- the files ---- */

static void search_file(int fd, const char *path, struct span raw, struct files *f)
{
    static char window[1 << 20];
    size_t kept = 0;
    ssize_t n;
    f->files++;
    while ((n = read(fd, window + kept, sizeof window - kept)) > 0) {
        size_t len = kept + (size_t)n;
        f->bytes += (uint64_t)n;
        if (memmem(window, len, raw.at, raw.len)) {
            if (f->hits++ == 0)
                snprintf(f->first, sizeof f->first, "%s", path);
            return;
        }
        kept = fb_min_u64(len, raw.len - 1);
        memmove(window, window + len - kept, kept);
    }
}

static void search_dir(const char *dir, struct span raw, struct files *f)
{
    char path[900];
    struct stat st;
    const char *name = strrchr(dir, '/');
    bool is_letters = name && strcmp(name, "/connectors") == 0;
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        if (snprintf(path, sizeof path, "%s/%s", dir, e->d_name) >= (int)sizeof path ||
            lstat(path, &st) != 0)
            continue;
        if (S_ISDIR(st.st_mode))
            search_dir(path, raw, f);
        if (is_letters && letters_is_file(e->d_name))
            continue; /* decoded by look_at_letters; in base64 a short text is found by chance */
        int fd = S_ISREG(st.st_mode) ? open(path, O_RDONLY | O_CLOEXEC) : -1;
        if (fd >= 0) {
            search_file(fd, path, raw, f);
            close(fd);
        }
    }
    if (d)
        closedir(d);
}

/* ---- the command ---- */

struct result {
    uint64_t erased, periods, first_id;
    uint64_t letters_removed;
    struct letters letters; /* what the last look found */
    uint32_t rounds;
};

static enum fb_code look_at_letters(struct scan *s, const char *state_dir, bool is_removing,
                                    struct letters *l, struct fb_err *err)
{
    *l = (struct letters){
        .keys = s->keys, .is_meant = letter_mentions, .ctx = s, .is_removing = is_removing};
    return letters_go_through(state_dir, l, err);
}

static enum fb_code destroy(struct scan *s, struct keyring *ring, const char *state_dir,
                            struct result *r, struct fb_err *err)
{
    char who[KEYRING_WHO_BYTES];
    enum fb_code code = FB_OK;
    command_who(who);
    /* The first round is audited even when it finds nothing: somebody asked. */
    while (code == FB_OK && r->rounds < ROUNDS_MAX &&
           (s->count || r->letters.meant || r->rounds == 0)) {
        struct keyring_erasure e = {.texts = s->texts, .count = s->count, .who = who};
        code = look_at_letters(s, state_dir, true, &r->letters, err);
        if (code != FB_OK)
            break;
        r->letters_removed += r->letters.meant;
        e.letters = (uint32_t)fb_min_u64(r->letters.meant, UINT32_MAX);
        code = keyring_erase(ring, &e, err);
        if (code != FB_OK)
            break;
        r->first_id = r->rounds++ == 0 ? e.id : r->first_id;
        r->erased += s->count;
        r->periods += e.periods;
        code = read_log(s, state_dir, err);
        if (code == FB_OK)
            code = look_at_letters(s, state_dir, false, &r->letters, err);
    }
    return code;
}

static void print_json(const struct scan *s, const struct result *r, const struct files *f,
                       uint64_t mentioned, bool is_dry)
{
    struct buf out;
    struct json j;
    char id[24];
    buf_init(&out, MIB);
    snprintf(id, sizeof id, "%016llx", (unsigned long long)r->first_id);
    json_init(&j, &out);
    json_object_begin(&j);
    json_key_bool(&j, "is_dry_run", is_dry);
    json_key_str(&j, "erasure", is_dry ? "" : id);
    json_key_u64(&j, "events", s->events);
    json_key_u64(&j, "personal_fields", s->fields);
    json_key_u64(&j, "destroyed_before", s->gone);
    json_key_u64(&j, "mentioned", mentioned);
    json_key_u64(&j, "erased", r->erased);
    json_key_u64(&j, "whole_periods", r->periods);
    json_key_u64(&j, "left", s->count + r->letters.meant);
    json_key_u64(&j, "dead_letters", r->letters.lines);
    json_key_u64(&j, "dead_letters_mentioned", r->letters_removed + r->letters.meant);
    json_key_u64(&j, "dead_letters_removed", r->letters_removed);
    json_key_u64(&j, "dead_letters_unread", r->letters.unread);
    json_key_u64(&j, "unsealed", s->unsealed);
    json_key_u64(&j, "damaged", s->holes);
    json_key_u64(&j, "files", f->files);
    json_key_u64(&j, "file_bytes", f->bytes);
    json_key_u64(&j, "file_hits", f->hits);
    json_key(&j, "open_fields");
    json_array_begin(&j);
    for (size_t i = 0; i < s->open_count; i++) {
        json_object_begin(&j);
        json_key_str(&j, "type", s->open[i].type);
        json_key_str(&j, "field", s->open[i].field);
        json_key_u64(&j, "count", s->open[i].count);
        json_object_end(&j);
    }
    json_array_end(&j);
    json_object_end(&j);
    printf("%s\n", buf_str(&out));
    buf_fini(&out);
}

static void print_text(const struct scan *s, const struct result *r, const struct files *f,
                       uint64_t mentioned, bool is_dry)
{
    printf("looked through  %llu events with %llu readable personal fields (%llu were destroyed "
           "before)\n",
           (unsigned long long)s->events, (unsigned long long)s->fields,
           (unsigned long long)s->gone);
    printf("mentioned in    %llu events and %llu dead letters\n", (unsigned long long)mentioned,
           (unsigned long long)(r->letters_removed + r->letters.meant));
    if (!is_dry) {
        printf("erased          %llu: their keys are destroyed%s\n", (unsigned long long)r->erased,
               r->periods ? ", some with their whole period" : "");
        printf("removed         %llu dead letters from their files\n",
               (unsigned long long)r->letters_removed);
        printf("proof           %llu readable mentions left; %llu of %llu files (%llu bytes) hold "
               "the text%s%s\n",
               (unsigned long long)(s->count + r->letters.meant), (unsigned long long)f->hits,
               (unsigned long long)f->files, (unsigned long long)f->bytes,
               f->hits ? ", first " : "", f->first);
        printf("erasure         %016llx (in the audit event)\n", (unsigned long long)r->first_id);
    }
    for (size_t i = 0; i < s->open_count; i++)
        printf("%s    %llu x %s.%s mentions it and stays until retention takes it\n",
               s->open[i].is_personal ? "not sealed  " : "not personal",
               (unsigned long long)s->open[i].count, s->open[i].type, s->open[i].field);
    if (r->letters.unread)
        printf("not read        %llu dead letters cannot be opened, or hold a block that cannot be "
               "decoded; remove them\n",
               (unsigned long long)r->letters.unread);
    if (s->holes)
        printf(
            "damaged         %llu places of the log cannot be read and may hold it; see foldback "
            "log check\n",
            (unsigned long long)s->holes);
}

/* Dead letters were decoded, the bytes of all other files are searched. */
static void look_at_files(const struct cli_erase_args *args, const struct letters *l,
                          struct files *f)
{
    f->files = l->files;
    f->bytes = l->bytes;
    f->hits = l->meant > 0;
    snprintf(f->first, sizeof f->first, "%s", l->first);
    search_dir(args->state, span_of(args->subject), f);
}

static enum fb_code run(const struct cli_erase_args *args, struct scan *s, bool *is_clean,
                        struct fb_err *err)
{
    struct keyring *ring = NULL;
    struct result r = {0};
    struct files f = {0};
    enum fb_code code = keyring_open(&ring, args->state, err);
    s->keys = ring;
    if (code == FB_OK && command_is_running(args->state))
        usleep(UNDER_WAY_US);
    if (code == FB_OK)
        code = read_log(s, args->state, err);
    uint64_t mentioned = s->count;
    if (code == FB_OK && !args->is_dry)
        code = destroy(s, ring, args->state, &r, err);
    if (code == FB_OK && args->is_dry)
        code = look_at_letters(s, args->state, false, &r.letters, err);
    if (code == FB_OK && !args->is_dry)
        look_at_files(args, &r.letters, &f);
    keyring_unref(ring);
    s->keys = NULL;
    if (code != FB_OK)
        return code;
    (args->is_json ? print_json : print_text)(s, &r, &f, mentioned, args->is_dry);
    *is_clean = args->is_dry || (s->count == 0 && f.hits == 0 && s->holes == 0 &&
                                 s->unsealed == 0 && r.letters.meant == 0 && r.letters.unread == 0);
    return FB_OK;
}

int erase_command(const struct cli_erase_args *args)
{
    char subject[256];
    struct fb_err err = {0};
    bool is_clean = false;
    size_t len = strlen(args->subject);
    if (len < 3 || len > 200) {
        fprintf(stderr,
                "foldback: --subject must have 3..200 letters, got %zu: fewer are in the "
                "traces of everybody\n",
                len);
        return 2;
    }
    struct scan s = {.subject = {subject, fold_text(span_of(args->subject), subject)}};
    enum fb_code code = run(args, &s, &is_clean, &err);
    free(s.texts);
    if (code == FB_E_NOT_FOUND)
        fb_fail(&err, code,
                "%s has no key file: no foldback ran there; name its state folder with --state",
                args->state);
    if (code != FB_OK)
        return command_fail(&err, code);
    return is_clean ? 0 : 1;
}

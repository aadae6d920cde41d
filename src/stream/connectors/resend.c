/* SPDX-License-Identifier: Apache-2.0 */
#include "stream/connectors/resend.h"

#include "base/base64.h"
#include "base/clock.h"
#include "base/log.h"
#include "stream/connectors/letter_line.h"
#include "stream/connectors/letters.h"
#include "stream/connectors/resent.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#define SLICE_LETTERS_MAX 16384
#define SLICE_BYTES_MAX (8 * MIB)
#define SLICE_US (2 * US_PER_S)
#define KEPT_MAX 4096
#define LETTER_BYTES_MAX (512 * MIB)
#define NAMES_BYTES 512 /* of the headers of one letter */

struct slice_letter {
    char id[LETTER_ID_BYTES];
    size_t begin, len; /* in <lines> */
    uint64_t at;       /* in its file */
    uint8_t file;
    enum fb_code code;
};
/* The last line of a file that was tried; "": none. */
struct tried {
    uint64_t at;
    char id[LETTER_ID_BYTES];
    bool is_found; /* it is still there */
};
/* Its two files: who removes a letter replaces its file. */
struct look_of_files {
    struct {
        ino_t number;
        off_t bytes;
        struct timespec changed;
    } file[2];
};
struct resend {
    struct look_of_files files; /* before they were read */
    char only[20];              /* "": all */
    uint64_t until_ms;          /* the time of the newest, by whatever clock it was written */
    bool has_bound;
    char (*kept)[LETTER_ID_BYTES];
    uint32_t kept_count;
    struct slice_letter letter[SLICE_LETTERS_MAX];
    uint32_t count, next; /* of the slice; the first one that was not tried */
    bool has_more;
    struct tried tried[2];   /* as letters.from */
    struct letters *letters; /* while they are read */
    struct resent resent;
    struct buf lines, key, value, sent;
};
/* What one letter says; borrowed from its line and from the buffers. */
struct parcel {
    struct connector_header headers[CONNECTOR_HEADERS_MAX];
    char names[NAMES_BYTES];
    uint64_t events, wall_ms;
    struct connector_record record;
};

static void end(struct runner *r, enum resend_state state, const char *text);
static enum fb_code collect(struct runner *r, struct fb_err *err);
static bool send_one(struct runner *r, struct slice_letter *letter, struct fb_err *err);
static bool is_as_read(const struct runner *r);
static enum fb_code keep_sent(struct runner *r, struct fb_err *err);

void resend_ask(struct runner *r, const char *id, uint32_t number)
{
    struct connector_resend asked = {.number = number, .state = RESEND_WAITS};
    RUNNER_STATUS(r, {
        r->status.resend = asked;
        snprintf(r->resend_id, sizeof r->resend_id, "%s", id);
        r->resend_until_ms = fb_wall_us() / US_PER_MS;
    });
    atomic_store(&r->is_resending, true);
}

static bool begin(struct runner *r)
{
    struct resend *x = calloc(1, sizeof *x);
    char(*kept)[LETTER_ID_BYTES] = calloc(KEPT_MAX, sizeof *kept);
    if (!x || !kept) {
        free(x);
        free(kept);
        end(r, RESEND_ENDED, "no memory to read the dead letters");
        return false;
    }
    x->kept = kept;
    resent_init(&x->resent, r->setup->state_dir, r->c->name);
    buf_init(&x->sent, SLICE_LETTERS_MAX * LETTER_ID_BYTES);
    buf_init(&x->lines, LETTER_BYTES_MAX);
    buf_init(&x->key, LETTER_BYTES_MAX);
    buf_init(&x->value, LETTER_BYTES_MAX);
    r->resend = x;
    struct fb_err err;
    if (resent_load(&x->resent, &err) != FB_OK) { /* that could not be taken out before */
        end(r, RESEND_ENDED, err.text);
        return false;
    }
    RUNNER_STATUS(r, {
        r->status.resend.state = RESEND_RUNS;
        memcpy(x->only, r->resend_id, sizeof x->only);
        x->until_ms = r->resend_until_ms;
    });
    return true;
}

static void end(struct runner *r, enum resend_state state, const char *text)
{
    struct resend *x = r->resend;
    struct fb_err err;
    if (x && resent_take_out(&x->resent, &err) != FB_OK) {
        state = RESEND_ENDED;
        text = err.text;
    }
    RUNNER_STATUS(r, {
        r->status.resend.state = state;
        if (text)
            snprintf(r->status.resend.text, sizeof r->status.resend.text, "%.*s",
                     (int)sizeof r->status.resend.text - 1, text);
    });
    if (x) {
        buf_fini(&x->lines);
        buf_fini(&x->key);
        buf_fini(&x->value);
        buf_fini(&x->sent);
        resent_fini(&x->resent);
        free(x->kept);
        free(x);
    }
    r->resend = NULL;
    atomic_store(&r->is_resending, false);
}

void resend_fails(struct runner *r, const char *why)
{
    if (atomic_load(&r->is_resending))
        end(r, RESEND_ENDED, why);
}

void resend_recover(struct runner *r)
{
    struct resent left;
    struct fb_err err;
    resent_init(&left, r->setup->state_dir, r->c->name);
    if (resent_load(&left, &err) != FB_OK || resent_take_out(&left, &err) != FB_OK)
        fb_log(FB_LOG_WARN, "connector %s: %s", r->c->name, err.text);
    resent_fini(&left);
}

/* ---- one slice ---- */
static bool may_try(const struct runner *r, uint64_t until_us, bool is_first)
{
    const struct resend *x = r->resend;
    return runner_may_go_on(r) && (r->is_marked || !r->keeps_mark) && x->kept_count < KEPT_MAX &&
           is_as_read(r) && (is_first || fb_mono_us() < until_us);
}

/* False: the receiver is away. */
static bool send_slice(struct runner *r, struct fb_err *err)
{
    struct resend *x = r->resend;
    bool is_taken = true;
    /* The files were read, however long that took: at least one of each slice is sent. */
    uint64_t until_us = fb_mono_us() + SLICE_US;
    for (uint32_t first = x->next; is_taken && x->next < x->count; x->next++) {
        if (!may_try(r, until_us, x->next == first))
            break;
        struct slice_letter *letter = &x->letter[x->next];
        is_taken = send_one(r, letter, err);
        if (!is_taken)
            break;
        struct tried *t = &x->tried[letter->file];
        t->at = letter->at;
        memcpy(t->id, letter->id, sizeof t->id);
    }
    return is_taken;
}

void resend_step(struct runner *r)
{
    struct fb_err err = {0}, kept_err;
    if (!atomic_load(&r->is_resending) || (!r->resend && !begin(r)))
        return;
    struct resend *x = r->resend;
    if ((x->next == x->count || !is_as_read(r)) && collect(r, &err) != FB_OK) {
        end(r, RESEND_ENDED, err.text);
        return;
    }
    bool is_taken = send_slice(r, &err);
    bool is_over = is_taken && x->next == x->count && !x->has_more && runner_may_go_on(r);
    char text[120] = "";
    if (x->only[0] && x->count == 0)
        snprintf(text, sizeof text, "no dead letter of %s has the id %s", r->c->name, x->only);
    else if (x->kept_count == KEPT_MAX)
        snprintf(text, sizeof text, "%u letters are refused again: no more are tried", KEPT_MAX);
    if (keep_sent(r, &kept_err) != FB_OK)
        end(r, RESEND_ENDED, kept_err.text);
    else if (!is_taken)
        runner_failed(r, &err); /* ends it */
    else if (text[0])
        end(r, RESEND_ENDED, text);
    else if (is_over)
        end(r, RESEND_DONE, NULL);
}

static void look_at_files(const struct runner *r, struct look_of_files *look)
{
    static const char *const ends[] = {"", ".1"};
    memset(look, 0, sizeof *look); /* with what lies between its fields */
    for (size_t i = 0; i < FB_COUNT(ends); i++) {
        char path[900];
        struct stat st;
        snprintf(path, sizeof path, "%s/connectors/%s.dead.jsonl%s", r->setup->state_dir,
                 r->c->name, ends[i]);
        if (stat(path, &st) != 0)
            continue;
        look->file[i].number = st.st_ino;
        look->file[i].bytes = st.st_size;
        look->file[i].changed = st.st_ctim;
    }
}

/* Else a letter of the slice may have been removed or erased: they are read again. */
static bool is_as_read(const struct runner *r)
{
    struct look_of_files now;
    look_at_files(r, &now);
    return memcmp(&now, &r->resend->files, sizeof now) == 0;
}

static bool is_kept(const struct resend *x, const char *id)
{
    for (uint32_t i = 0; i < x->kept_count; i++)
        if (strcmp(x->kept[i], id) == 0)
            return true;
    return false;
}

/* The first line that is read behind the beginning is the last one that was tried. */
static bool is_behind_tried(struct resend *x, const char *id)
{
    struct letters *l = x->letters;
    struct tried *t = &x->tried[l->file];
    if (l->from[l->file] == 0 || t->is_found)
        return true;
    t->is_found = strcmp(t->id, id) == 0;
    l->is_over = !t->is_found; /* the file is another one */
    return false;
}

static bool is_wanted(void *ctx, struct span stored)
{
    struct resend *x = ctx;
    char id[LETTER_ID_BYTES];
    bool is_whole = stored.len && stored.at[stored.len - 1] == '\n';
    if (!is_whole)
        return false;
    letter_line_id(stored, id);
    if (!is_behind_tried(x, id) ||
        (!x->only[0] && letter_line_look(stored).time_ms > x->until_ms) ||
        (x->only[0] && strcmp(id, x->only) != 0) || is_kept(x, id) || resent_has(&x->resent, id))
        return false;
    bool has_room = x->count < SLICE_LETTERS_MAX &&
                    (x->count == 0 || x->lines.len + stored.len <= SLICE_BYTES_MAX);
    x->has_more = x->letters->is_over = !has_room; /* what is behind one that waits waits too */
    return has_room;
}

static void keep_line(void *ctx, const struct letter_view *view)
{
    struct resend *x = ctx;
    struct slice_letter *letter = &x->letter[x->count++];
    *letter = (struct slice_letter){.begin = x->lines.len,
                                    .len = view->clear.len,
                                    .at = x->letters->line_at,
                                    .file = (uint8_t)x->letters->file,
                                    .code = view->code};
    letter_line_id(view->stored, letter->id);
    buf_put_span(&x->lines, view->clear);
}

/* A clock that was set back since makes no letter one of after the order: whatever is there when it
 * begins is part of it. */
static bool bounds(void *ctx, struct span stored)
{
    struct resend *x = ctx;
    x->until_ms = fb_max_u64(x->until_ms, letter_line_look(stored).time_ms);
    return false;
}

static enum fb_code find_bound(struct runner *r, struct fb_err *err)
{
    struct resend *x = r->resend;
    struct letters letters = {
        .is_wanted = bounds, .ctx = x, .connector = r->c->name, .is_closed = true};
    x->has_bound = true;
    return x->only[0] ? FB_OK : letters_go_through(r->setup->state_dir, &letters, err);
}

/* From the last line of each file that was tried.  *is_lost: one of them is not there any more. */
static enum fb_code read_slice(struct runner *r, bool *is_lost, struct fb_err *err)
{
    struct resend *x = r->resend;
    struct letters letters = {.keys = r->setup->keys,
                              .each = keep_line,
                              .is_wanted = is_wanted,
                              .ctx = x,
                              .connector = r->c->name,
                              .is_oldest_first = true};
    x->count = x->next = 0;
    x->has_more = false;
    x->letters = &letters;
    for (size_t i = 0; i < FB_COUNT(x->tried); i++) {
        letters.from[i] = x->tried[i].id[0] ? x->tried[i].at : 0;
        x->tried[i].is_found = letters.from[i] == 0;
    }
    look_at_files(r, &x->files);
    buf_clear(&x->lines);
    enum fb_code code = letters_go_through(r->setup->state_dir, &letters, err);
    x->letters = NULL;
    *is_lost = false;
    for (size_t i = 0; i < FB_COUNT(x->tried); i++)
        *is_lost |= !x->tried[i].is_found && (i == letters.file || !letters.is_over);
    return code;
}

static enum fb_code collect(struct runner *r, struct fb_err *err)
{
    struct resend *x = r->resend;
    bool is_lost;
    enum fb_code code = x->has_bound ? FB_OK : find_bound(r, err);
    if (code == FB_OK)
        code = read_slice(r, &is_lost, err);
    if (code == FB_OK && is_lost) {
        memset(x->tried, 0, sizeof x->tried);
        code = read_slice(r, &is_lost, err);
    }
    return code == FB_OK && x->lines.failed
               ? fb_fail(err, FB_E_NOMEM, "no memory to read the dead letters")
               : code;
}

/* The slice is over: what was delivered outlives a crash. */
static enum fb_code keep_sent(struct runner *r, struct fb_err *err)
{
    struct resend *x = r->resend;
    uint32_t sent = (uint32_t)(x->sent.len / LETTER_ID_BYTES);
    enum fb_code code = resent_add(&x->resent, buf_span(&x->sent), err);
    buf_clear(&x->sent);
    RUNNER_STATUS(r, r->status.resend.sent += sent);
    return code == FB_OK && resent_count(&x->resent) >= RESENT_MAX
               ? resent_take_out(&x->resent, err)
               : code;
}

/* ---- one letter ---- */
/* Behind "name": of the line; keys are found by their quotes, which no string of JSON holds bare.
 */
static struct span behind(struct span line, const char *name)
{
    char key[40];
    snprintf(key, sizeof key, "\"%s\":", name);
    const char *at = memmem(line.at, line.len, key, strlen(key));
    size_t skip = at ? (size_t)(at - line.at) + strlen(key) : line.len;
    return (struct span){line.at + skip, line.len - skip};
}

static bool number_of(struct span line, const char *name, uint64_t *value)
{
    struct span text = behind(line, name);
    size_t n = 0;
    while (n < text.len && text.at[n] >= '0' && text.at[n] <= '9')
        n++;
    return span_to_u64((struct span){text.at, n}, value);
}

static bool bytes_of(struct span line, const char *name, struct buf *out)
{
    struct span text = behind(line, name);
    buf_clear(out);
    if (text.len == 0 || text.at[0] != '"')
        return false;
    text = (struct span){text.at + 1, text.len - 1};
    size_t digits = base64_take(text, out);
    while (digits < text.len && text.at[digits] == '=')
        digits++;
    return !out->failed && digits < text.len && text.at[digits] == '"';
}

/* A string without escapes: no header of ours has one.  Behind its closing quote. */
static bool take_string(struct span *rest, struct span *out)
{
    const char *end_at =
        rest->len && rest->at[0] == '"' ? memchr(rest->at + 1, '"', rest->len - 1) : NULL;
    if (!end_at)
        return false;
    *out = (struct span){rest->at + 1, (size_t)(end_at - rest->at) - 1};
    *rest = (struct span){end_at + 1, rest->len - out->len - 2};
    return !memchr(out->at, '\\', out->len);
}

static bool take_byte(struct span *rest, char byte)
{
    if (rest->len == 0 || rest->at[0] != byte)
        return false;
    *rest = (struct span){rest->at + 1, rest->len - 1};
    return true;
}

static bool headers_of(struct span line, struct parcel *p)
{
    struct span rest = behind(line, "headers"), name, value;
    size_t used = 0;
    uint32_t n = 0;
    if (!take_byte(&rest, '{'))
        return false;
    do {
        if (!take_string(&rest, &name) || !take_byte(&rest, ':') || !take_string(&rest, &value) ||
            n == CONNECTOR_HEADERS_MAX || used + name.len + 1 > sizeof p->names)
            return false;
        memcpy(p->names + used, name.at, name.len);
        p->names[used + name.len] = '\0';
        p->headers[n++] = (struct connector_header){p->names + used, value};
        used += name.len + 1;
    } while (take_byte(&rest, ','));
    p->record.headers = p->headers;
    p->record.header_count = n;
    return take_byte(&rest, '}');
}

static struct span header(const struct parcel *p, const char *name)
{
    for (uint32_t i = 0; i < p->record.header_count; i++)
        if (strcmp(p->headers[i].name, name) == 0)
            return p->headers[i].value;
    return SPAN("");
}

/* NULL: it may go; else why it stays. */
static const char *open_letter(struct runner *r, struct span line, struct parcel *p)
{
    static const char *const formats[] = {"json", "binary", "cloudevents", "chat"};
    struct resend *x = r->resend;
    if (!headers_of(line, p))
        return "it does not say whose event it is: an earlier version buried it";
    if (!number_of(line, "events", &p->events) || !number_of(line, "wall_ms", &p->wall_ms) ||
        !bytes_of(line, "key_base64", &x->key) || !bytes_of(line, "value_base64", &x->value))
        return "it is not what was written";
    if (!span_eq(header(p, "foldback-format"), span_of(formats[r->cut.conf.format])))
        return "it was made in another format than the connector sends now";
    if (!span_eq(header(p, "foldback-region"), span_of(r->c->region)))
        return "it was made for another region than the connector has now";
    p->record.key = buf_span(&x->key);
    p->record.value = buf_span(&x->value);
    p->record.wall_ms = p->wall_ms;
    return NULL;
}

static void stays(struct runner *r, const struct slice_letter *letter, const char *why)
{
    struct resend *x = r->resend;
    if (x->kept_count < KEPT_MAX)
        memcpy(x->kept[x->kept_count++], letter->id, LETTER_ID_BYTES);
    RUNNER_STATUS(r, {
        r->status.resend.kept++;
        snprintf(r->status.resend.text, sizeof r->status.resend.text, "%s: %.150s", letter->id,
                 why);
    });
}

static void goes(struct runner *r, const struct slice_letter *letter, const struct parcel *p)
{
    buf_put(&r->resend->sent, letter->id, LETTER_ID_BYTES - 1);
    buf_put(&r->resend->sent, "\n", 1);
    RUNNER_STATUS(r, {
        r->status.events += p->events;
        r->status.records++;
        r->status.bytes += p->record.value.len;
    });
    runner_works(r);
}

/* False: the receiver is away; <err> says what it said. */
static bool send_one(struct runner *r, struct slice_letter *letter, struct fb_err *err)
{
    struct parcel p = {.record = {.result = CONNECTOR_UNSENT}};
    struct span line = {r->resend->lines.at + letter->begin, letter->len};
    const char *why = letter->code == FB_E_NOT_FOUND ? "its key was destroyed"
                      : letter->code != FB_OK ? "it cannot be opened; see `foldback letters show`"
                                              : open_letter(r, line, &p);
    const struct connector_type *t = r->type;
    if (!why && t->record_bytes_max && p.record.value.len > t->record_bytes_max)
        why = "larger than the receiver takes";
    if (why) {
        stays(r, letter, why);
        return true;
    }
    struct connector_batch batch = {
        .at = &p.record, .count = 1, .timeout_ms = r->c->timeout_ms, .is_resent = true};
    err->text[0] = '\0';
    enum fb_code code = t->send(r->connector, &batch, err);
    if (r->keeps_mark && p.record.result != CONNECTOR_DELIVERED)
        r->is_marked = false; /* its session is over: the mark comes first, then the others */
    switch (p.record.result) {
    case CONNECTOR_DELIVERED:
        goes(r, letter, &p);
        return true;
    case CONNECTOR_TOO_LARGE:
        stays(r, letter, "larger than the receiver takes");
        return true;
    case CONNECTOR_POISON:
        stays(r, letter, "refused by the receiver again");
        return true;
    case CONNECTOR_UNSENT:
    case CONNECTOR_RETRY:
        break;
    }
    if (code == FB_OK || !err->text[0])
        fb_fail(err, FB_E_AGAIN, "the receiver did not take it");
    err->code = code == FB_OK ? FB_E_AGAIN : code;
    return !runner_may_go_on(r);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* `foldback letters list | show | remove`, and who has which for `letters send`: dead letters of
 * connectors and handlers, for people.
 *
 * Works on the files, running foldback or not: it appends to what it finds under its lock. */
#include "base/json.h"
#include "main/key_command.h"
#include "main/run.h"
#include "stream/connectors/letter_line.h"
#include "stream/connectors/letters.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define BOXES_MAX 256

struct box {
    char connector[256];
    uint64_t letters, bytes, sealed, unread;
    uint64_t first_ms, last_ms;
};
struct look {
    struct box box[BOXES_MAX];
    size_t count;
    uint64_t shown;
    FILE *out;              /* what is shown, in memory: a pager must not hold the lock */
    struct letter_view bad; /* the first one that does not open; its path borrowed */
    char bad_path[900];
};

static struct box *box_of(struct look *look, const char *connector)
{
    for (size_t i = 0; i < look->count; i++)
        if (strcmp(look->box[i].connector, connector) == 0)
            return &look->box[i];
    if (look->count == BOXES_MAX)
        return NULL;
    struct box *box = &look->box[look->count++];
    snprintf(box->connector, sizeof box->connector, "%s", connector);
    return box;
}

static void count_letter(void *ctx, const struct letter_view *letter)
{
    struct box *box = box_of(ctx, letter->connector);
    if (!box)
        return;
    box->letters++;
    box->bytes += letter->stored.len;
    box->sealed += letter->key_id != 0;
    if (letter->time_ms && (!box->first_ms || letter->time_ms < box->first_ms))
        box->first_ms = letter->time_ms;
    if (letter->time_ms > box->last_ms)
        box->last_ms = letter->time_ms;
}

static void show_letter(void *ctx, const struct letter_view *letter)
{
    struct look *look = ctx;
    if (letter->code == FB_OK) {
        char id[LETTER_ID_BYTES];
        size_t skip = letter->clear.len && letter->clear.at[0] == '{';
        letter_line_id(letter->stored, id);
        if (skip)
            fprintf(look->out, "{\"id\":\"%s\",", id);
        fwrite(letter->clear.at + skip, 1, letter->clear.len - skip, look->out);
        look->shown++;
        return;
    }
    if (look->bad.path)
        return;
    look->bad = *letter;
    snprintf(look->bad_path, sizeof look->bad_path, "%s", letter->path);
    look->bad.path = look->bad_path;
}

/* Nothing can be said of a folder that foldback never had. */
static enum fb_code had_foldback(const char *dir, struct fb_err *err)
{
    static const char *const signs[] = {"log", "keys", "connectors"};
    char path[700];
    for (size_t i = 0; i < FB_COUNT(signs); i++) {
        snprintf(path, sizeof path, "%s/%s", dir, signs[i]);
        if (access(path, F_OK) == 0)
            return FB_OK;
    }
    return fb_fail(err, FB_E_NOT_FOUND,
                   "no foldback ran in %s yet; name its state folder with --state", dir);
}

/* ---- list ---- */

static void put_time(struct buf *out, uint64_t time_ms)
{
    char text[40] = "-";
    time_t s = (time_t)(time_ms / 1000);
    struct tm tm;
    if (time_ms && gmtime_r(&s, &tm))
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm);
    buf_printf(out, "%-21s", text);
}

static void print_text(const struct look *look, struct buf *out)
{
    if (look->count == 0) {
        buf_puts(out, "No dead letters.\n");
        return;
    }
    buf_printf(out, "%-24s %8s %9s  %-21s%-21s%s\n", "NAME", "LETTERS", "KIB", "OLDEST", "NEWEST",
               "ENCRYPTED");
    for (size_t i = 0; i < look->count; i++) {
        const struct box *box = &look->box[i];
        buf_printf(out, "%-24s %8llu %9.1f  ", box->connector, (unsigned long long)box->letters,
                   (double)box->bytes / (double)KIB);
        put_time(out, box->first_ms);
        put_time(out, box->last_ms);
        buf_printf(out, "%s\n",
                   box->sealed == box->letters ? "all"
                   : box->sealed               ? "some"
                                               : "none");
    }
}

static void print_json(const struct look *look, struct buf *out)
{
    struct json j;
    json_init(&j, out);
    json_object_begin(&j);
    json_key(&j, "dead_letters");
    json_array_begin(&j);
    for (size_t i = 0; i < look->count; i++) {
        const struct box *box = &look->box[i];
        json_object_begin(&j);
        json_key_str(&j, "name", box->connector);
        json_key_u64(&j, "letters", box->letters);
        json_key_u64(&j, "bytes", box->bytes);
        json_key_u64(&j, "encrypted", box->sealed);
        json_key_u64(&j, "oldest_ms", box->first_ms);
        json_key_u64(&j, "newest_ms", box->last_ms);
        json_object_end(&j);
    }
    json_array_end(&j);
    json_object_end(&j);
    buf_putc(out, '\n');
}

static enum fb_code list(const struct cli_letters_args *args, struct look *look, struct fb_err *err)
{
    struct letters letters = {.each = count_letter, .ctx = look, .is_closed = true};
    struct buf out;
    enum fb_code code = letters_go_through(args->state, &letters, err);
    if (code != FB_OK)
        return code;
    buf_init(&out, MIB);
    (args->is_json ? print_json : print_text)(look, &out);
    fputs(buf_str(&out), stdout);
    buf_fini(&out);
    return FB_OK;
}

/* ---- show ---- */

static bool copy_out(FILE *from)
{
    char room[16 * KIB];
    bool is_good = fflush(from) == 0 && !ferror(from);
    rewind(from);
    for (size_t n; (n = fread(room, 1, sizeof room, from)) > 0;)
        is_good &= fwrite(room, 1, n, stdout) == n;
    return is_good && fflush(stdout) == 0;
}

static enum fb_code show(const struct cli_letters_args *args, struct look *look, struct fb_err *err)
{
    struct letters letters = {.each = show_letter, .ctx = look, .connector = args->name};
    enum fb_code code = keyring_open(&letters.keys, args->state, err);
    if (code != FB_OK && code != FB_E_NOT_FOUND) /* clear letters need none */
        return code;
    int fd = memfd_create("letters", MFD_CLOEXEC); /* never on a disk: it is in the clear */
    look->out = fd < 0 ? NULL : fdopen(fd, "w+");
    if (!look->out) {
        keyring_unref(letters.keys);
        if (fd >= 0)
            close(fd);
        return fb_fail(err, FB_E_NOMEM, "no memory to collect the dead letters");
    }
    code = letters_go_through(args->state, &letters, err);
    keyring_unref(letters.keys);
    bool is_whole = copy_out(look->out);
    fclose(look->out);
    if (code == FB_OK && !is_whole)
        return fb_fail(err, FB_E_IO, "the dead letters could not all be collected or written");
    if (code == FB_OK && letters.lines == 0) /* beside the letters, for a pipe */
        fprintf(stderr, "No dead letters%s%s in %s.\n", args->name ? " of " : "",
                args->name ? args->name : "", args->state);
    if (code != FB_OK || !look->bad.path)
        return code;
    const struct letter_view *bad = &look->bad;
    if (bad->code == FB_E_NOT_FOUND)
        return fb_fail(err, FB_E_NOT_FOUND,
                       "%llu dead letters, the first in %s, are under key %u, which was destroyed: "
                       "nobody can read them any more",
                       (unsigned long long)letters.gone, bad->path, bad->key_id);
    if (bad->code == FB_E_KEY)
        return fb_fail(err, FB_E_KEY,
                       "%llu dead letters, the first in %s, are encrypted, and %s/keys does not "
                       "have key %u; put the newest copy of it back",
                       (unsigned long long)letters.unread, bad->path, args->state, bad->key_id);
    return fb_fail(err, bad->code,
                   "%llu dead letters, the first in %s, are not what was written, or %s/keys is "
                   "of another folder; the others are above",
                   (unsigned long long)letters.unread, bad->path, args->state);
}

/* ---- remove ---- */

static bool is_any(void *ctx, struct span text)
{
    (void)ctx, (void)text;
    return true;
}

static enum fb_code remove_all(const struct cli_letters_args *args, struct fb_err *err)
{
    struct letters letters = {
        .is_meant = is_any, .connector = args->name, .is_removing = true, .is_closed = true};
    enum fb_code code = letters_go_through(args->state, &letters, err);
    if (code == FB_OK && letters.files == 0)
        code = fb_fail(err, FB_E_NOT_FOUND,
                       "%s has no dead letters of %s; see `foldback letters "
                       "list`",
                       args->state, args->name);
    if (code == FB_OK)
        printf("%llu dead letters are removed\n", (unsigned long long)letters.meant);
    return code;
}

/* ---- find ---- */
struct owner {
    const struct cli_letters_args *args;
    struct look *look;
};

static void find_letter(void *ctx, const struct letter_view *letter)
{
    struct owner *o = ctx;
    char id[LETTER_ID_BYTES];
    letter_line_id(letter->stored, id);
    if (!o->args->id || strcmp(o->args->id, id) == 0)
        count_letter(o->look, letter);
}

static enum fb_code find(const struct cli_letters_args *args, struct look *look, struct fb_err *err)
{
    struct owner owner = {args, look};
    struct letters letters = {
        .each = find_letter, .ctx = &owner, .connector = args->name, .is_closed = true};
    enum fb_code code = letters_go_through(args->state, &letters, err);
    for (size_t i = 0; code == FB_OK && i < look->count; i++)
        args->found(args->arg, look->box[i].connector);
    return code;
}

int letters_command(const struct cli_letters_args *args)
{
    static struct look look;
    struct fb_err err = {0};
    enum fb_code code = had_foldback(args->state, &err);
    if (code == FB_OK)
        code = strcmp(args->verb, "show") == 0     ? show(args, &look, &err)
               : strcmp(args->verb, "remove") == 0 ? remove_all(args, &err)
               : strcmp(args->verb, "find") == 0   ? find(args, &look, &err)
                                                   : list(args, &look, &err);
    return code == FB_OK ? 0 : command_fail(&err, code);
}

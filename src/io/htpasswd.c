/* SPDX-License-Identifier: Apache-2.0 */
#include "io/htpasswd.h"

#include "base/siphash.h"

#include <crypt.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NAME_BYTES_MAX 255
#define USERS_MAX 100000
/* Above these one check takes a thread for a second and more (bcrypt 12: about 250 ms), or more
 * than 32 MiB of memory, so that a few wrong passwords hold everybody up. */
#define BCRYPT_COST_MAX 14
#define ROUNDS_MAX 1000000
#define YESCRYPT_N_MAX 'A' /* 2^13 steps of 4 KiB */

struct user {
    struct span name, hash; /* in the text */
    uint32_t line;
};
struct htpasswd {
    uint64_t version;
    size_t count;
    size_t dearest; /* of users: the hash that takes longest */
    char *text;
    struct user users[]; /* by name */
};

static bool is_salt_char(char ch)
{
    return (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (ch >= '0' && ch <= '9') ||
           ch == '.' || ch == '/';
}

static bool is_salt(struct span s)
{
    for (size_t i = 0; i < s.len; i++)
        if (!is_salt_char(s.at[i]))
            return false;
    return true;
}

static struct span rest_of(struct span s, size_t from)
{
    return (struct span){s.at + from, s.len - from};
}

/* $2y$12$<22 of salt><31 of hash> */
static const char *bcrypt_fault(struct span h)
{
    bool is_form = h.len == 60 && h.at[6] == '$' && is_salt(rest_of(h, 7)) && h.at[4] >= '0' &&
                   h.at[4] <= '9' && h.at[5] >= '0' && h.at[5] <= '9';
    int cost = is_form ? (h.at[4] - '0') * 10 + h.at[5] - '0' : 0;
    if (!is_form || cost < 4)
        return "is no whole bcrypt hash";
    return cost > BCRYPT_COST_MAX ? "has a cost above 14: each check would take seconds" : NULL;
}

/* $6$rounds=5000$<salt>$<hash> */
static const char *sha_fault(struct span h, size_t hash_bytes)
{
    const struct span word = SPAN("rounds=");
    struct span rest = rest_of(h, 3), salt = span_cut(rest, '$', &rest);
    if (span_starts(salt, word)) {
        uint64_t rounds;
        if (!span_to_u64(rest_of(salt, word.len), &rounds) || rounds < 1000)
            return "is no whole SHA hash of crypt";
        if (rounds > ROUNDS_MAX)
            return "has more than 1000000 rounds: each check would take seconds";
        salt = span_cut(rest, '$', &rest);
    }
    bool is_form = salt.len <= 16 && is_salt(salt) && rest.len == hash_bytes && is_salt(rest);
    return is_form ? NULL : "is no whole SHA hash of crypt";
}

/* $y$j<N><r>$<salt>$<hash> */
static const char *yescrypt_fault(struct span h)
{
    struct span rest = rest_of(h, 3), setting = span_cut(rest, '$', &rest);
    struct span salt = span_cut(rest, '$', &rest);
    bool is_form = setting.len == 3 && setting.at[0] == 'j' && is_salt(setting) && salt.len &&
                   salt.len <= 86 && is_salt(salt) && rest.len == 43 && is_salt(rest);
    if (!is_form)
        return "is no whole yescrypt hash, or none with usual settings";
    bool is_dear = setting.at[1] > YESCRYPT_N_MAX || setting.at[2] > 'T';
    return is_dear ? "has a cost above 6: each check would take too much memory" : NULL;
}

/* NULL: it is good. */
static const char *hash_fault(struct span h)
{
    if (h.len >= HTPASSWD_HASH_BYTES_MAX)
        return "is too long";
    if (span_starts(h, SPAN("$2b$")) || span_starts(h, SPAN("$2y$")) ||
        span_starts(h, SPAN("$2a$")))
        return bcrypt_fault(h);
    if (span_starts(h, SPAN("$6$")))
        return sha_fault(h, 86);
    if (span_starts(h, SPAN("$5$")))
        return sha_fault(h, 43);
    if (span_starts(h, SPAN("$y$")))
        return yescrypt_fault(h);
    if (span_starts(h, SPAN("$apr1$")) || span_starts(h, SPAN("$1$")))
        return "is of MD5, which is guessed too fast";
    if (span_starts(h, SPAN("{")))
        return "is of SHA-1 or plain text, which is guessed too fast";
    return "is of no scheme that is strong enough: plain text, DES or unknown";
}

static uint32_t value_of(char ch) /* of ./0-9A-Za-z */
{
    return (uint32_t)(ch >= 'a' ? ch - 'a' + 38 : ch >= 'A' ? ch - 'A' + 12 : ch - '.');
}

/* About what one check of a good hash takes: measured, for their order. */
static uint64_t cost_ns(struct span h)
{
    uint64_t rounds;
    switch (h.at[1]) {
    case '2':
        return UINT64_C(45000) << ((h.at[4] - '0') * 10 + h.at[5] - '0');
    case 'y':
        return (UINT64_C(135) << (value_of(h.at[4]) + 1)) * (value_of(h.at[5]) + 1);
    default:
        if (!span_starts(rest_of(h, 3), SPAN("rounds=")) ||
            !span_to_u64(span_cut(rest_of(h, 10), '$', &(struct span){0}), &rounds))
            rounds = 5000;
        return rounds * (h.at[1] == '5' ? 250 : 200);
    }
}

static size_t dearest_of(const struct user *users, size_t count)
{
    size_t dearest = 0;
    for (size_t i = 1; i < count; i++)
        if (cost_ns(users[i].hash) > cost_ns(users[dearest].hash))
            dearest = i;
    return dearest;
}

static const char *name_fault(struct span name)
{
    if (name.len == 0 || name.len > NAME_BYTES_MAX)
        return "has no name of 1 to 255 bytes before the colon";
    for (size_t i = 0; i < name.len; i++)
        if ((unsigned char)name.at[i] < ' ' || name.at[i] == 0x7f)
            return "has a control character in its name";
    return span_trim(name).len == name.len ? NULL : "has a name with blanks at an end";
}

static int compare(struct span a, struct span b)
{
    int order = memcmp(a.at, b.at, a.len < b.len ? a.len : b.len);
    return order ? order : (a.len > b.len) - (a.len < b.len);
}

static int by_name(const void *a, const void *b)
{
    const struct user *x = a, *y = b;
    int order = compare(x->name, y->name);
    return order ? order : (x->line > y->line) - (x->line < y->line);
}

static enum fb_code bad_line(struct fb_err *err, const char *path, uint32_t line, const char *fault)
{
    return fb_fail(err, FB_E_CONFIG,
                   "%.200s: line %u %s; `htpasswd -B %.100s NAME` writes a good one", path, line,
                   fault, path);
}

/* One line; FB_OK without a user: it says nothing. */
static enum fb_code read_line(struct span line, struct user *u, const char *path,
                              struct fb_err *err)
{
    u->name = (struct span){NULL, 0};
    if (line.len && line.at[line.len - 1] == '\r')
        line.len--;
    if (span_trim(line).len == 0 || line.at[0] == '#')
        return FB_OK;
    if (!memchr(line.at, ':', line.len))
        return bad_line(err, path, u->line, "has no colon between name and hash");
    struct span rest, name = span_cut(line, ':', &rest), more;
    struct span hash = span_trim(span_cut(rest, ':', &more));
    const char *fault = name_fault(name);
    if (fault)
        return bad_line(err, path, u->line, fault);
    char what[120];
    fault = hash_fault(hash);
    if (fault) {
        snprintf(what, sizeof what, "has a hash that %s", fault);
        return bad_line(err, path, u->line, what);
    }
    u->name = name;
    u->hash = hash;
    return FB_OK;
}

static enum fb_code check_doubles(const struct htpasswd *h, const char *path, struct fb_err *err)
{
    for (size_t i = 1; i < h->count; i++)
        if (span_eq(h->users[i - 1].name, h->users[i].name))
            return fb_fail(err, FB_E_CONFIG,
                           "%.200s: line %u names the user of line %u again; remove one of them",
                           path, h->users[i].line, h->users[i - 1].line);
    return FB_OK;
}

static uint64_t version_of(struct span text)
{
    static const uint64_t key[2] = {UINT64_C(0x6874706173737764), UINT64_C(0x76657273696f6e31)};
    return siphash(key, text);
}

enum fb_code htpasswd_parse(struct span text, const char *path, struct htpasswd **out,
                            struct fb_err *err)
{
    size_t lines = 1;
    enum fb_code code = FB_OK;
    *out = NULL;
    for (size_t i = 0; i < text.len; i++)
        lines += text.at[i] == '\n';
    if (text.len > HTPASSWD_BYTES_MAX || lines > USERS_MAX)
        return fb_fail(err, FB_E_CONFIG, "%.200s: more than %u MiB or %u lines: it is no such file",
                       path, (unsigned)(HTPASSWD_BYTES_MAX / MIB), USERS_MAX);
    struct htpasswd *h = calloc(1, sizeof *h + lines * sizeof h->users[0]);
    char *copy = h ? malloc(text.len + 1) : NULL;
    if (!copy) {
        free(h);
        return fb_fail(err, FB_E_NOMEM, "%.200s: no memory for it", path);
    }
    if (text.len)
        memcpy(copy, text.at, text.len);
    h->text = copy;
    h->version = version_of(text);
    struct span rest = {copy, text.len};
    for (uint32_t line = 1; rest.len && code == FB_OK; line++) {
        struct user *u = &h->users[h->count];
        u->line = line;
        struct span one = span_cut(rest, '\n', &rest);
        code = read_line(one, u, path, err);
        h->count += code == FB_OK && u->name.len > 0;
    }
    if (code == FB_OK && h->count == 0)
        code =
            fb_fail(err, FB_E_CONFIG,
                    "%.200s: it names nobody; `htpasswd -B %.100s NAME` adds a user", path, path);
    if (code == FB_OK) {
        qsort(h->users, h->count, sizeof h->users[0], by_name);
        h->dearest = dearest_of(h->users, h->count);
        code = check_doubles(h, path, err);
    }
    if (code != FB_OK) {
        htpasswd_free(h);
        return code;
    }
    *out = h;
    return FB_OK;
}

enum fb_code htpasswd_load(const char *path, struct htpasswd **out, struct fb_err *err)
{
    *out = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return fb_fail(err, FB_E_IO, "%.200s: %s", path, strerror(errno));
    enum fb_code code = FB_OK;
    size_t got = 0;
    ssize_t n = 0;
    char *text = malloc(HTPASSWD_BYTES_MAX + 1);
    if (!text)
        code = fb_fail(err, FB_E_NOMEM, "%.200s: no memory for it", path);
    for (; text && (n = read(fd, text + got, HTPASSWD_BYTES_MAX + 1 - got)) > 0; got += (size_t)n)
        ;
    if (n < 0)
        code = fb_fail(err, FB_E_IO, "%.200s: %s", path, strerror(errno));
    if (code == FB_OK)
        code = htpasswd_parse((struct span){text, got}, path, out, err);
    if (text)
        OPENSSL_cleanse(text, got);
    free(text);
    close(fd);
    return code;
}

void htpasswd_free(struct htpasswd *h)
{
    if (!h)
        return;
    free(h->text);
    free(h);
}

size_t htpasswd_count(const struct htpasswd *h)
{
    return h->count;
}

uint64_t htpasswd_version(const struct htpasswd *h)
{
    return h->version;
}

bool htpasswd_find(const struct htpasswd *h, struct span user, char hash[HTPASSWD_HASH_BYTES_MAX])
{
    size_t from = 0, to = h->count;
    const struct user *found = NULL;
    while (from < to && !found) {
        size_t mid = from + (to - from) / 2;
        int order = compare(user, h->users[mid].name);
        if (order == 0)
            found = &h->users[mid];
        else if (order < 0)
            to = mid;
        else
            from = mid + 1;
    }
    struct span text = found ? found->hash : h->count ? h->users[h->dearest].hash : SPAN("");
    memcpy(hash, text.at, text.len);
    hash[text.len] = '\0';
    return found != NULL;
}

void *htpasswd_room_new(void)
{
    return calloc(1, sizeof(struct crypt_data));
}

void htpasswd_room_free(void *room)
{
    free(room);
}

enum htpasswd_verdict htpasswd_check(void *room, const char *password, const char *hash)
{
    struct crypt_data *data = room;
    size_t len = strlen(hash);
    /* not crypt_r: address sanitizers stand in for that one without being able to call it */
    const char *made = crypt_rn(password, hash, data, (int)sizeof *data);
    enum htpasswd_verdict verdict = HTPASSWD_FAILED;
    if (made && made[0] != '*')
        verdict = strlen(made) == len && CRYPTO_memcmp(made, hash, len) == 0 ? HTPASSWD_RIGHT
                                                                             : HTPASSWD_WRONG;
    OPENSSL_cleanse(data, sizeof *data);
    return verdict;
}

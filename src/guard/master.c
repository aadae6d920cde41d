/* SPDX-License-Identifier: Apache-2.0 */
#include "guard/master.h"

#include "base/assert.h"
#include "base/clock.h"
#include "guard/gcm.h"
#include "guard/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define ARGS_MAX 16
static const struct span purpose = {"foldback store key 1", 20};

static enum fb_code read_file(const char *path, unsigned char *key, struct fb_err *err);
static enum fb_code ask(const char *command, struct span question, struct buf *answer,
                        struct fb_err *err);

static bool is_file(const char *master)
{
    return strncmp(master, "file:", 5) == 0;
}

bool master_is_none(const char *text)
{
    return text[0] == '\0' || strcmp(text, "none") == 0;
}

enum fb_code master_check(const char *text, struct fb_err *err)
{
    bool is_exec = strncmp(text, "exec:", 5) == 0;
    if (master_is_none(text))
        return FB_OK;
    if ((is_file(text) || is_exec) && text[5] == '/' && strlen(text) < 1000 && !strchr(text, '\n'))
        return FB_OK;
    return fb_fail(err, FB_E_CONFIG,
                   "encryption.master_key must be file:/absolute/path, exec:/absolute/path or "
                   "none, got \"%.100s\"; a key itself is never written here",
                   text);
}

enum fb_code master_probe(const char *text, struct fb_err *err)
{
    unsigned char key[GCM_KEY_BYTES];
    char program[1024];
    enum fb_code code = master_check(text, err);
    if (code != FB_OK || master_is_none(text))
        return code;
    if (is_file(text)) {
        code = read_file(text + 5, key, err);
        secret_wipe(key, sizeof key);
        return code;
    }
    snprintf(program, sizeof program, "%.*s", (int)strcspn(text + 5, " "), text + 5);
    if (access(program, X_OK) != 0)
        return fb_fail(err, FB_E_KEY, "%s, which has the master key, cannot be run: %s", program,
                       strerror(errno));
    return FB_OK;
}

void master_hex_put(struct buf *out, const void *in, size_t bytes)
{
    static const char digits[] = "0123456789abcdef";
    const unsigned char *at = in;
    for (size_t i = 0; i < bytes; i++) {
        buf_putc(out, digits[at[i] >> 4]);
        buf_putc(out, digits[at[i] & 15]);
    }
}

static int digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool master_hex_get(struct span text, void *out, size_t bytes)
{
    unsigned char *to = out;
    if (text.len != 2 * bytes)
        return false;
    for (size_t i = 0; i < bytes; i++) {
        int high = digit(text.at[2 * i]), low = digit(text.at[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        to[i] = (unsigned char)(high << 4 | low);
    }
    return true;
}

enum fb_code master_wrap(const char *master, const unsigned char *secret, struct buf *text,
                         struct fb_err *err)
{
    fb_assert(!master_is_none(master));
    struct span in = {(const char *)secret, MASTER_SECRET_BYTES};
    if (is_file(master)) {
        unsigned char key[GCM_KEY_BYTES], sealed[MASTER_SECRET_BYTES + GCM_WRAP_BYTES];
        enum fb_code code = read_file(master + 5, key, err);
        if (code == FB_OK && !gcm_wrap(key, purpose, in, sealed))
            code = fb_fail(err, FB_E_INTERNAL, "the store key could not be sealed");
        secret_wipe(key, sizeof key);
        if (code == FB_OK)
            master_hex_put(text, sealed, sizeof sealed);
        return code;
    }
    struct buf question;
    buf_init(&question, 256);
    buf_puts(&question, "wrap ");
    master_hex_put(&question, secret, MASTER_SECRET_BYTES);
    buf_putc(&question, '\n');
    enum fb_code code = ask(master + 5, buf_span(&question), text, err);
    secret_wipe(question.at, question.len);
    buf_fini(&question);
    for (size_t i = 0; code == FB_OK && i < text->len; i++)
        if (text->at[i] <= ' ' || text->at[i] > '~')
            code = fb_fail(err, FB_E_KEY, "%s: its answer to `wrap` is not printable text",
                           master + 5);
    return code;
}

enum fb_code master_unwrap(const char *master, struct span text, unsigned char *secret,
                           struct fb_err *err)
{
    fb_assert(!master_is_none(master));
    if (is_file(master)) {
        unsigned char key[GCM_KEY_BYTES], sealed[MASTER_SECRET_BYTES + GCM_WRAP_BYTES];
        enum fb_code code = read_file(master + 5, key, err);
        if (code == FB_OK &&
            (!master_hex_get(text, sealed, sizeof sealed) ||
             !gcm_unwrap(key, purpose, (struct span){(char *)sealed, sizeof sealed}, secret)))
            code = fb_fail(err, FB_E_KEY,
                           "the master key %s is not the one that sealed the stored keys; nothing "
                           "was changed; give back the right file, or the right "
                           "encryption.master_key",
                           master);
        secret_wipe(key, sizeof key);
        return code;
    }
    struct buf question, answer;
    buf_init(&question, MASTER_TEXT_MAX + 32);
    buf_init(&answer, MASTER_TEXT_MAX);
    buf_puts(&question, "unwrap ");
    buf_put_span(&question, text);
    buf_putc(&question, '\n');
    enum fb_code code = ask(master + 5, buf_span(&question), &answer, err);
    if (code == FB_OK && !master_hex_get(buf_span(&answer), secret, MASTER_SECRET_BYTES))
        code = fb_fail(err, FB_E_KEY,
                       "%s: its answer to `unwrap` is not 64 hex digits; nothing was changed",
                       master + 5);
    if (answer.at)
        secret_wipe(answer.at, answer.len);
    buf_fini(&question);
    buf_fini(&answer);
    return code;
}

static enum fb_code read_file(const char *path, unsigned char *key, struct fb_err *err)
{
    char text[2 * GCM_KEY_BYTES + 8];
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return fb_fail(err, FB_E_KEY,
                       "the master key %s cannot be read: %s; nothing was changed; give the file "
                       "back, readable for this user",
                       path, strerror(errno));
    ssize_t n = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? read(fd, text, sizeof text) : -1;
    close(fd);
    enum fb_code code = FB_OK;
    if (n > 0 && (st.st_mode & 0007))
        code = fb_fail(err, FB_E_KEY,
                       "the master key %s is open to everybody (mode %03o); run chmod 600 on it",
                       path, (unsigned)(st.st_mode & 0777));
    else if (n == GCM_KEY_BYTES)
        memcpy(key, text, GCM_KEY_BYTES);
    else {
        size_t len = n > 0 ? (size_t)n : 0;
        while (len > 2 * GCM_KEY_BYTES && (text[len - 1] == '\n' || text[len - 1] == '\r'))
            len--;
        if (!master_hex_get((struct span){text, len}, key, GCM_KEY_BYTES))
            code = fb_fail(err, FB_E_KEY,
                           "the master key %s must be 32 bytes or 64 hex digits; make one with "
                           "openssl rand -hex 32",
                           path);
    }
    secret_wipe(text, sizeof text);
    return code;
}

/* ---- the program of a KMS ---- */

static bool start_program(const char *command, const int in[2], const int out[2], pid_t *pid)
{
    char words[1024];
    char *argv[ARGS_MAX + 1] = {0}, *rest = words;
    size_t count = 0;
    snprintf(words, sizeof words, "%s", command);
    for (char *word; count < ARGS_MAX && (word = strsep(&rest, " "));)
        if (*word)
            argv[count++] = word;
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    sigset_t none, normal;
    sigemptyset(&none);
    sigemptyset(&normal);
    sigaddset(&normal, SIGPIPE);
    sigaddset(&normal, SIGINT);
    sigaddset(&normal, SIGTERM);
    posix_spawn_file_actions_init(&files);
    posix_spawnattr_init(&attr);
    posix_spawn_file_actions_adddup2(&files, in[0], STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&files, out[1], STDOUT_FILENO);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setsigdefault(&attr, &normal);
    posix_spawnattr_setpgroup(&attr, 0); /* so that what it starts ends with it */
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
                                        POSIX_SPAWN_SETSIGDEF);
    int failed = posix_spawn(pid, argv[0], &files, &attr, argv, environ);
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attr);
    errno = failed;
    return failed == 0;
}

/* Its first line into <line>; false when the time is over or it ends without one. */
static bool read_line(int fd, uint64_t until_us, struct buf *line)
{
    char part[1024];
    for (;;) {
        uint64_t now_us = fb_mono_us();
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (now_us >= until_us || line->failed)
            return false;
        if (poll(&p, 1, (int)((until_us - now_us) / US_PER_MS) + 1) <= 0)
            continue;
        ssize_t n = read(fd, part, sizeof part);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return line->len > 0;
        const char *end = memchr(part, '\n', (size_t)n);
        buf_put(line, part, end ? (size_t)(end - part) : (size_t)n);
        secret_wipe(part, sizeof part);
        if (end)
            return !line->failed;
    }
}

static void end_program(pid_t pid, uint64_t until_us)
{
    while (waitpid(pid, NULL, WNOHANG) == 0) {
        if (fb_mono_us() >= until_us) {
            kill(-pid, SIGKILL);
            (void)waitpid(pid, NULL, 0);
            return;
        }
        usleep(1000);
    }
}

static enum fb_code judge(const char *command, bool is_answered, struct buf *line,
                          struct buf *answer, struct fb_err *err)
{
    struct span text = {line->at, is_answered ? line->len : 0};
    if (text.len && text.at[text.len - 1] == '\r')
        text.len--;
    if (!is_answered)
        return fb_fail(err, FB_E_KEY,
                       "%s did not answer with a line within %d s; nothing was changed; see that "
                       "it runs by hand",
                       command, MASTER_TIMEOUT_MS / 1000);
    if (span_starts(text, SPAN("ok ")) && text.len > 3) {
        buf_put(answer, text.at + 3, text.len - 3);
        return FB_OK;
    }
    if (span_starts(text, SPAN("error ")))
        return fb_fail(err, FB_E_KEY, "%s refused: %.*s; nothing was changed", command,
                       (int)fb_min_u64(text.len - 6, 200), text.at + 6);
    return fb_fail(err, FB_E_KEY, "%s answered with neither \"ok ...\" nor \"error ...\"", command);
}

static enum fb_code ask(const char *command, struct span question, struct buf *answer,
                        struct fb_err *err)
{
    int in[2] = {-1, -1}, out[2] = {-1, -1};
    pid_t pid = 0;
    uint64_t until_us = fb_mono_us() + MASTER_TIMEOUT_MS * US_PER_MS;
    if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0 ||
        !start_program(command, in, out, &pid)) {
        enum fb_code code =
            fb_fail(err, FB_E_KEY, "%s cannot be run: %s; see encryption.master_key", command,
                    strerror(errno));
        for (int i = 0; i < 2; i++) {
            if (in[i] >= 0)
                close(in[i]);
            if (out[i] >= 0)
                close(out[i]);
        }
        return code;
    }
    close(in[0]);
    close(out[1]);
    /* A question fits a pipe (4 KiB < 64 KiB): the write cannot wait.  One that is not read is an
     * answer that does not come. */
    void (*before)(int) = signal(SIGPIPE, SIG_IGN);
    (void)!write(in[1], question.at, question.len);
    signal(SIGPIPE, before);
    close(in[1]);
    struct buf line;
    buf_init(&line, MASTER_TEXT_MAX + 64);
    bool is_answered = read_line(out[0], until_us, &line);
    close(out[0]);
    end_program(pid, is_answered ? fb_mono_us() + US_PER_S : 0);
    enum fb_code code = judge(command, is_answered, &line, answer, err);
    if (line.at)
        secret_wipe(line.at, line.len);
    buf_fini(&line);
    return code;
}

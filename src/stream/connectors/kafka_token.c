/* SPDX-License-Identifier: Apache-2.0 */
/* Bearer tokens (OAUTHBEARER): from an identity provider (kafka_oidc.c), from a file that something
 * else keeps fresh, or from a command that prints one.
 *
 * The library asks for the first one when it connects, and again when four fifths of the time of
 * the newest are over.  What fails before the old token ends is tried again at four fifths of what
 * is left, until then with a line in the log; a token that has ended is an error for a person, a
 * provider that is away one that passes.  Threads: the connector's, within the calls of the
 * library. */
#include "base/clock.h"
#include "stream/connectors/exec_call.h"
#include "stream/connectors/kafka_int.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TOKEN_BYTES KAFKA_TOKEN_BYTES
#define TOKEN_LIFE_MS 300000 /* of one that does not say when it ends */
#define COMMAND_MS 10000     /* an identity provider that answers no sooner is away */
#define OLD_LEFT_MIN_MS 2000 /* a token that ends sooner is no more use */
#define ARGS_MAX 64
#define AWAY_US (100 * US_PER_MS)

/* The middle part of a JWT as text; "" when <token> is none. */
static void read_claims(const char *token, char *out, size_t size)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    const char *at = strchr(token, '.');
    size_t len = 0;
    uint32_t bits = 0;
    for (size_t i = 0; at && *++at && len + 1 < size; i++) {
        const char *digit = strchr(digits, *at);
        if (!digit)
            break;
        bits = bits << 6 | (uint32_t)(digit - digits);
        if (i % 4)
            out[len++] = (char)(bits >> (6 - 2 * (i % 4)) & 0xff);
    }
    out[len] = '\0';
}

/* When the token ends, in ms since 1970. */
static int64_t token_end_ms(const char *token)
{
    char claims[TOKEN_BYTES];
    int64_t now_ms = (int64_t)time(NULL) * 1000;
    read_claims(token, claims, sizeof claims);
    const char *at = strstr(claims, "\"exp\"");
    at = at ? at + strlen("\"exp\"") + strspn(at + strlen("\"exp\""), " :") : "";
    double end_s = strtod(at, NULL);
    return end_s > 0 && end_s < 1e11 ? (int64_t)(end_s * 1000) : now_ms + TOKEN_LIFE_MS;
}

static int64_t now_ms(void)
{
    return (int64_t)time(NULL) * 1000;
}

/* What a command wrote, without spaces around; false: nothing that can be a token. */
static bool is_token(const char *text, char out[TOKEN_BYTES])
{
    const char *from = text + strspn(text, " \r\n\t");
    size_t len = strcspn(from, " \r\n\t");
    bool is_one = len > 0 && len < TOKEN_BYTES && from[len + strspn(from + len, " \r\n\t")] == '\0';
    snprintf(out, TOKEN_BYTES, "%.*s", is_one ? (int)len : 0, from);
    return is_one;
}

static enum fb_code judge(struct connector *c, const struct exec_answer *a, char out[TOKEN_BYTES],
                          struct fb_err *err)
{
    const char *command = kafka_value(c, "token_command");
    int len = (int)strcspn(command, "\n");
    if (a->end == EXEC_EXITED && a->status == 0)
        return is_token(a->text, out)
                   ? FB_OK
                   : fb_fail(err, FB_E_DENIED, "%.*s printed no token: one line, nothing else", len,
                             command);
    if (a->end == EXEC_NOT_STARTED)
        return fb_fail(err, FB_E_CONFIG, "%.*s cannot be started: %s", len, command,
                       strerror(a->status));
    if (a->end == EXEC_TIMED_OUT)
        return fb_fail(err, FB_E_DENIED, "%.*s printed no token within %d s and was ended", len,
                       command, COMMAND_MS / 1000);
    return fb_fail(
        err, FB_E_DENIED, "%.*s %s %d; what it wrote to standard error is in the log of foldback",
        len, command, a->end == EXEC_EXITED ? "ended with code" : "was ended by signal", a->status);
}

/* Of `connector check`, which runs in no foldback: the program is started here. */
static void run_here(const char *command, struct exec_answer *a)
{
    char text[EXEC_COMMAND_BYTES_MAX], *argv[ARGS_MAX + 1], *rest = text;
    char *env[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                   "LANG=C.UTF-8", "HOME=/", NULL};
    uint64_t until_us = fb_mono_us() + COMMAND_MS * US_PER_MS;
    posix_spawn_file_actions_t actions;
    size_t count = 0, len = 0;
    int out[2], status = 0;
    pid_t pid;
    *a = (struct exec_answer){.end = EXEC_NOT_STARTED, .status = EIO};
    snprintf(text, sizeof text, "%s", command);
    while (rest && count < ARGS_MAX)
        argv[count++] = strsep(&rest, "\n");
    argv[count] = NULL;
    if (pipe2(out, O_CLOEXEC) != 0)
        return;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, out[1], 1);
    a->status = posix_spawn(&pid, argv[0], &actions, NULL, argv, env);
    posix_spawn_file_actions_destroy(&actions);
    close(out[1]);
    if (a->status == 0) {
        struct pollfd p = {.fd = out[0], .events = POLLIN};
        ssize_t n = 1;
        while (n > 0 && len < sizeof a->text - 1 && fb_mono_us() < until_us)
            if (poll(&p, 1, 50) > 0 &&
                (n = read(out[0], a->text + len, sizeof a->text - 1 - len)) > 0)
                len += (size_t)n;
        a->end = n > 0 ? EXEC_TIMED_OUT : EXEC_EXITED;
        if (n > 0)
            kill(pid, SIGKILL);
        waitpid(pid, &status, 0);
        if (a->end == EXEC_EXITED && !WIFEXITED(status))
            a->end = EXEC_SIGNALLED;
        a->status = WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status);
    }
    close(out[0]);
}

static enum fb_code run_command(struct connector *c, char out[TOKEN_BYTES], struct fb_err *err)
{
    struct exec_call *x = &c->token_call;
    enum fb_code code = FB_OK;
    *x = (struct exec_call){.setup = &c->setup,
                            .command = kafka_value(c, "token_command"),
                            .timeout_ms = COMMAND_MS,
                            .is_token = true,
                            .fd = -1};
    if (c->setup.state_dir[0]) {
        uint64_t until_us = fb_mono_us() + COMMAND_MS * US_PER_MS;
        while ((code = exec_call_run(x, err)) == FB_E_AGAIN && fb_mono_us() < until_us &&
               !c->setup.is_stopping(c->setup.ctx))
            usleep(AWAY_US); /* at the start the process that runs commands comes after us */
        exec_call_end(x);    /* the next time is minutes away */
    } else {
        run_here(x->command, &x->answer);
    }
    if (code == FB_OK)
        code = judge(c, &x->answer, out, err);
    memset(x->answer.text, 0, sizeof x->answer.text);
    return code;
}

struct token_now {
    char text[TOKEN_BYTES];
    int64_t end_ms; /* since 1970 */
};

/* Which of the three keys tells where tokens come from. */
static const char *source_of(const struct connector *c)
{
    return kafka_value(c, "token_url")[0]       ? "token_url"
           : kafka_value(c, "token_command")[0] ? "token_command"
                                                : "token_file";
}

static enum fb_code read_token(struct connector *c, struct token_now *out, struct fb_err *err)
{
    const char *from = source_of(c);
    uint32_t life_s = 0;
    out->text[0] = '\0';
    enum fb_code code = strcmp(from, "token_url") == 0 ? kafka_oidc(c, out->text, &life_s, err)
                        : strcmp(from, "token_command") == 0
                            ? run_command(c, out->text, err)
                            : kafka_secret(c, from, out->text, TOKEN_BYTES, err);
    if (code == FB_OK && !out->text[0])
        return fb_fail(err, FB_E_DENIED,
                       "no token: none of `token_url`, `token_command` and `token_file`");
    if (code != FB_OK)
        return code;
    out->end_ms = token_end_ms(out->text);
    if (life_s) /* by the answer: a token need not be a JWT, and clocks differ */
        out->end_ms = now_ms() + (int64_t)life_s * 1000;
    if (out->end_ms <= now_ms())
        return fb_fail(err, FB_E_DENIED, "the token has ended: %s",
                       strcmp(from, "token_url") == 0       ? "the provider gives an old one"
                       : strcmp(from, "token_command") == 0 ? "the command prints an old one"
                                                            : "what keeps its file fresh does not");
    return FB_OK;
}

static bool is_passing(enum fb_code code)
{
    return code == FB_E_AGAIN || code == FB_E_TIMEOUT;
}

/* A token is there again: what its absence was said to be is over. */
static void note_token(struct connector *c, const struct token_now *token)
{
    snprintf(c->token, sizeof c->token, "%s", token->text);
    c->token_end_ms = token->end_ms;
    if (is_passing(c->bad))
        c->bad = FB_OK;
}

void kafka_token(rd_kafka_t *rk, const char *config, void *opaque)
{
    struct connector *c = opaque;
    struct fb_err err = {.text = ""};
    struct token_now token;
    char text[300];
    (void)config;
    enum fb_code code = read_token(c, &token, &err);
    if (code != FB_OK && c->token[0] && c->token_end_ms - now_ms() > OLD_LEFT_MIN_MS) {
        snprintf(text, sizeof text, "%.230s; the old token is good for %d s", err.text,
                 (int)((c->token_end_ms - now_ms()) / 1000));
        c->setup.say(c->setup.ctx, FB_LOG_WARN, text);
    } else if (code == FB_OK) {
        note_token(c, &token);
    } else {
        c->token[0] = '\0';
    }
    memset(token.text, 0, sizeof token.text);
    if (c->token[0] &&
        rd_kafka_oauthbearer_set_token(rk, c->token, c->token_end_ms, "foldback", NULL, 0, text,
                                       sizeof text) == RD_KAFKA_RESP_ERR_NO_ERROR)
        return;
    if (!c->token[0])
        snprintf(text, sizeof text, "%.290s", err.text);
    c->bad = is_passing(code) ? FB_E_AGAIN : FB_E_DENIED;
    snprintf(c->bad_text, sizeof c->bad_text, "%.280s; see `%s` of connectors.%s", text,
             source_of(c), c->setup.name);
    rd_kafka_oauthbearer_set_token_failure(rk, text);
}

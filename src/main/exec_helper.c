/* SPDX-License-Identifier: Apache-2.0 */
/* exec_helper: runs the commands of connectors (type exec, token_command), for the brain, which
 * may not.
 *
 *   supervisor --fork--> helper: accept --fork--> server of one connection --fork--> command
 *
 * The helper has the configuration of its start and runs nothing but the commands in it.  At a
 * reload a new one puts its socket in the place of the old; the old one sees that and ends, its
 * connections stay.  The state folder is ours alone, and the peer must be of our account.
 *
 * A command: no shell, an environment of its own, the record on standard input, a session of its
 * own that is ended as a whole when the time is over, the connection ends or the program has ended,
 * and with it what it started in another session: that has become a child of the server.  Of what
 * it writes the begin is kept for the log. */
#include "base/clock.h"
#include "base/log.h"
#include "main/supervisor_int.h"
#include "stream/connectors/exec_wire.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define AGAIN_US (1 * US_PER_S)
#define LOOK_MS 1000
#define POLL_MS 20
#define ARGS_MAX 64
#define END_ROUNDS 200 /* of 1 ms */
#define END_WAIT_US 1000

static _Noreturn void helper(const struct supervisor *s);
static _Noreturn void serve(const struct conf *conf, int fd);

static const char *command_of(const struct conf_connector *c, uint32_t kind);

static bool is_wanted(const struct supervisor *s)
{
    for (size_t i = 0; i < s->conf->connector_count; i++)
        if (command_of(&s->conf->connectors[i], EXEC_RECORD) ||
            command_of(&s->conf->connectors[i], EXEC_TOKEN))
            return s->phase == PHASE_RUN;
    return false;
}

/* NULL: the connector runs none of that kind. */
static const char *command_of(const struct conf_connector *c, uint32_t kind)
{
    bool is_exec = strcmp(c->type, "exec") == 0;
    const char *text = kind == EXEC_TOKEN ? conf_connector_value(c, "token_command")
                       : is_exec          ? conf_connector_value(c, "command")
                                          : NULL;
    return text && text[0] ? text : NULL;
}

uint64_t exec_helper_due_us(const struct supervisor *s)
{
    bool is_there = s->exec.pid && s->exec.conf_hash == s->conf->hash;
    return is_there || !is_wanted(s) ? UINT64_MAX : s->exec.next_us;
}

void exec_helper_advance(struct supervisor *s, uint64_t now_us)
{
    struct exec_helper *x = &s->exec;
    if (now_us < exec_helper_due_us(s))
        return;
    pid_t pid = fork();
    if (pid == 0)
        helper(s);
    if (pid < 0) {
        fb_log(FB_LOG_ERROR, "the process that runs commands cannot be started: %s",
               strerror(errno));
        x->next_us = now_us + AGAIN_US;
        return;
    }
    x->pid = pid; /* one of a configuration before ends by itself */
    x->conf_hash = s->conf->hash;
    x->next_us = 0;
}

bool exec_helper_reaped(struct supervisor *s, pid_t pid)
{
    if (pid != s->exec.pid)
        return false;
    s->exec.pid = 0;
    s->exec.next_us = fb_mono_us() + AGAIN_US;
    return true;
}

/* ---- the helper ---- */
static void be_ordinary(void)
{
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGCHLD, SIG_DFL);
    signal(SIGPIPE, SIG_IGN);
    close_range(3, ~0u, 0);
}

/* The socket under its name, at once and instead of the one before; -1 after a message. */
static int listen_at(const char *state_dir, struct stat *made)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    char fresh[40];
    int dir = open(state_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    snprintf(fresh, sizeof fresh, EXEC_SOCKET ".%d", (int)getpid());
    snprintf(at.sun_path, sizeof at.sun_path, "/proc/self/fd/%d/%s", dir, fresh);
    (void)unlinkat(dir, fresh, 0); /* of a process that had our number */
    mode_t was = umask(077);
    bool is_good = dir >= 0 && fd >= 0 && bind(fd, (void *)&at, sizeof at) == 0 &&
                   listen(fd, 32) == 0 && renameat(dir, fresh, dir, EXEC_SOCKET) == 0 &&
                   fstatat(dir, EXEC_SOCKET, made, 0) == 0;
    umask(was);
    if (!is_good)
        fb_log(FB_LOG_ERROR, "%s/%s cannot be made: %s; commands are not run", state_dir,
               EXEC_SOCKET, strerror(errno));
    if (dir >= 0)
        close(dir);
    return is_good ? fd : -1;
}

static bool is_ours(const char *state_dir, const struct stat *made)
{
    struct stat st;
    char path[SUPERVISOR_PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s", state_dir, EXEC_SOCKET);
    return stat(path, &st) == 0 && st.st_ino == made->st_ino && st.st_dev == made->st_dev;
}

static _Noreturn void helper(const struct supervisor *s)
{
    struct stat made;
    pid_t parent = getppid();
    be_ordinary();
    prctl(PR_SET_NAME, "fb-exec");
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    signal(SIGTERM, SIG_DFL);
    int fd = getppid() == parent ? listen_at(s->setup->state_dir, &made) : -1;
    while (fd >= 0 && is_ours(s->setup->state_dir, &made)) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        while (waitpid(-1, NULL, WNOHANG) > 0)
            ; /* connections that have ended */
        if (poll(&p, 1, LOOK_MS) <= 0)
            continue;
        int one = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
        if (one < 0)
            continue;
        if (fork() == 0) {
            close(fd);
            serve(s->conf, one);
        }
        close(one);
    }
    _exit(0);
}

/* ---- one connection ---- */
static bool read_all(int fd, void *at, size_t len)
{
    char *to = at;
    while (len) {
        ssize_t n = read(fd, to, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        to += n;
        len -= (size_t)n;
    }
    return true;
}

struct running {
    pid_t pid;
    int out, peer; /* what it writes; the connection that it runs for */
    uint64_t until_us;
    struct exec_answer *answer;
    size_t text_len;
};

/* False: it has closed its output. */
static bool take_output(struct running *r)
{
    char bytes[4096];
    ssize_t n = read(r->out, bytes, sizeof bytes);
    if (n == 0)
        return false;
    for (ssize_t i = 0; i < n && r->text_len < EXEC_TEXT_BYTES - 1; i++)
        r->answer->text[r->text_len++] = bytes[i] >= ' ' && bytes[i] < 0x7f ? bytes[i] : ' ';
    return true;
}

static bool is_hung_up(int peer)
{
    char byte;
    return recv(peer, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

/* What the command started and left, whatever session that made for itself.  Each that ends gives
 * us its children, so there are more rounds; one that starts faster than it is ended stays. */
static void end_rest(void)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    for (int round = 0; round < END_ROUNDS && waitpid(-1, NULL, WNOHANG) >= 0; round++) {
        long pid;
        FILE *f = fopen(path, "re");
        while (f && fscanf(f, "%ld", &pid) == 1)
            kill((pid_t)pid, SIGKILL);
        if (f)
            fclose(f);
        usleep(END_WAIT_US);
        while (waitpid(-1, NULL, WNOHANG) > 0)
            ;
    }
}

/* Until it ends, is too late or is not wanted any more; then all of its session ends. */
static void watch(struct running *r)
{
    int status = 0;
    bool is_open = true;
    r->answer->end = EXEC_TIMED_OUT;
    while (fb_mono_us() < r->until_us && !is_hung_up(r->peer)) {
        struct pollfd p = {.fd = is_open ? r->out : -1, .events = POLLIN};
        if (poll(&p, 1, POLL_MS) > 0)
            is_open = take_output(r);
        if (waitpid(r->pid, &status, WNOHANG) != r->pid)
            continue;
        while (is_open && poll(&p, 1, 0) > 0 && r->text_len < EXEC_TEXT_BYTES - 1)
            is_open = take_output(r);
        r->answer->end = WIFEXITED(status) ? EXEC_EXITED : EXEC_SIGNALLED;
        r->answer->status = WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status);
        kill(-r->pid, SIGKILL); /* what it left behind */
        return;
    }
    kill(-r->pid, SIGKILL);
    waitpid(r->pid, &status, 0);
}

/* <fds>: its input and output, where a failure goes, and the kind of the ask. */
static _Noreturn void command(char *text, const char *name, const int fds[4])
{
    char *argv[ARGS_MAX + 1], whose[80];
    size_t count = 0;
    for (char *at = text; at && count < ARGS_MAX;) {
        char *end = strchr(at, '\n');
        argv[count++] = at;
        if (end)
            *end++ = '\0';
        at = end;
    }
    argv[count] = NULL;
    snprintf(whose, sizeof whose, "FOLDBACK_HANDLER=%s", name);
    char *env[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                   "LANG=C.UTF-8", "HOME=/", whose, NULL};
    setsid();
    signal(SIGPIPE, SIG_DFL);
    if (chdir("/") == 0 && dup2(fds[0], 0) == 0 && dup2(fds[1], 1) == 1 &&
        (fds[3] == EXEC_TOKEN || dup2(fds[1], 2) == 2))
        execve(argv[0], argv, env);
    int why = errno;
    if (write(fds[2], &why, sizeof why) < 0)
        why = 0;
    _exit(127);
}

/* The failure pipe closes by itself when the program starts. */
static void run(char *text, const struct exec_ask *ask, int record_fd, struct running *r)
{
    int out[2], failure[2], why;
    if (pipe2(out, O_CLOEXEC) < 0 || pipe2(failure, O_CLOEXEC) < 0)
        _exit(1); /* the peer asks again */
    r->pid = fork();
    if (r->pid < 0)
        _exit(1);
    if (r->pid == 0)
        command(text, ask->name, (const int[4]){record_fd, out[1], failure[1], (int)ask->kind});
    close(out[1]);
    close(failure[1]);
    r->out = out[0];
    fcntl(r->out, F_SETFL, O_NONBLOCK);
    if (read(failure[0], &why, sizeof why) == sizeof why) {
        waitpid(r->pid, NULL, 0);
        r->answer->end = EXEC_NOT_STARTED;
        r->answer->status = why;
    } else {
        watch(r);
    }
    close(failure[0]);
    close(out[0]);
}

static bool is_configured(const struct conf *conf, const struct exec_ask *ask, const char *text)
{
    for (size_t i = 0; i < conf->connector_count; i++) {
        const struct conf_connector *c = &conf->connectors[i];
        const char *command = command_of(c, ask->kind);
        if (command && strcmp(c->name, ask->name) == 0)
            return strcmp(command, text) == 0;
    }
    return false;
}

/* False: the connection has ended, or speaks in tongues. */
static bool serve_one(const struct conf *conf, int fd)
{
    static char record[EXEC_RECORD_BYTES_MAX], text[EXEC_COMMAND_BYTES_MAX + 1];
    struct exec_ask ask;
    struct exec_answer answer = {.magic = EXEC_MAGIC, .end = EXEC_UNKNOWN};
    if (!read_all(fd, &ask, sizeof ask) || ask.magic != EXEC_MAGIC ||
        ask.command_bytes > EXEC_COMMAND_BYTES_MAX || ask.record_bytes > sizeof record ||
        ask.name[sizeof ask.name - 1] != '\0' || !read_all(fd, text, ask.command_bytes) ||
        !read_all(fd, record, ask.record_bytes))
        return false;
    text[ask.command_bytes] = '\0';
    struct running r = {.peer = fd,
                        .until_us = fb_mono_us() + (uint64_t)ask.timeout_ms * US_PER_MS,
                        .answer = &answer};
    int record_fd = memfd_create("record", MFD_CLOEXEC);
    bool is_there = record_fd >= 0 &&
                    write(record_fd, record, ask.record_bytes) == (ssize_t)ask.record_bytes &&
                    lseek(record_fd, 0, SEEK_SET) == 0;
    if (is_there && is_configured(conf, &ask, text)) {
        run(text, &ask, record_fd, &r);
        end_rest();
    }
    if (record_fd >= 0)
        close(record_fd);
    return is_there && send(fd, &answer, sizeof answer, MSG_NOSIGNAL) == sizeof answer;
}

static _Noreturn void serve(const struct conf *conf, int fd)
{
    struct ucred who;
    socklen_t len = sizeof who;
    bool is_ours = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) == 0 && who.uid == geteuid();
    prctl(PR_SET_PDEATHSIG, 0);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    while (is_ours && serve_one(conf, fd))
        ;
    _exit(0);
}

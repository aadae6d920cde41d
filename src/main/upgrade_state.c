/* SPDX-License-Identifier: Apache-2.0 */
/* What a supervisor leaves to the binary that replaces it: lines "key value" in a memory file, and
 * descriptors that stay open across exec. */
#include "base/assert.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "gateway/control_msg.h"
#include "main/role.h"
#include "main/state_dir.h"
#include "main/supervisor_int.h"
#include "main/upgrade.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define STATE_BYTES_MAX (256 * KIB)
#define ARGS_BYTES (64 * KIB)
#define ARGS_MAX 256

static void keep(int fd, bool is_kept);
static void keep_all(const struct supervisor *s, bool is_kept);
static int write_state(const struct supervisor *s, int self_fd);
static char **own_args(char *room, size_t size);
static enum fb_code read_state(int fd, struct supervisor *s, int *self_fd, struct fb_err *err);
static void go_back(int state_fd, int self_fd);

/* ---- the old binary ---- */

void upgrade_exec(struct supervisor *s, const char *binary, struct fb_err *err)
{
    static char args_room[ARGS_BYTES];
    char number[16];
    int self_fd = open("/proc/self/exe", O_PATH);
    int state_fd = self_fd >= 0 ? write_state(s, self_fd) : -1;
    char **args = own_args(args_room, sizeof args_room);
    if (state_fd < 0 || !args) {
        fb_fail(err, FB_E_IO, "no room for what the new supervisor must know: %s", strerror(errno));
        goto fail;
    }
    snprintf(number, sizeof number, "%d", state_fd);
    setenv(UPGRADE_ENV, number, 1);
    keep_all(s, true);
    fflush(NULL);
    execv(binary, args);
    fb_fail(err, FB_E_IO, "%s cannot be executed: %s", binary, strerror(errno));
    keep_all(s, false);
    unsetenv(UPGRADE_ENV);
fail:
    if (self_fd >= 0)
        close(self_fd);
    if (state_fd >= 0)
        close(state_fd);
}

static void keep(int fd, bool is_kept)
{
    if (fd >= 0)
        (void)fcntl(fd, F_SETFD, is_kept ? 0 : FD_CLOEXEC);
}

static void keep_all(const struct supervisor *s, bool is_kept)
{
    const int fds[] = {s->mem.fd,  s->admin_fd,           s->lock_fd,
                       s->conf_fd, s->gateway.control_fd, s->brain.control_fd};
    for (size_t i = 0; i < FB_COUNT(fds); i++)
        keep(fds[i], is_kept);
    for (size_t i = 0; i < s->listen.total; i++)
        keep(s->listen.fds[i], is_kept);
    for (size_t i = 0; i < RETIRED_MAX; i++)
        if (s->retired[i].pid)
            keep(s->retired[i].control_fd, is_kept);
}

static void put_child(struct buf *b, const char *key, const struct child *c)
{
    if (c->pid)
        buf_printf(b, "%s %d %d %u %d %llu\n", key, (int)c->pid, c->control_fd, c->slot,
                   c->is_ready, (unsigned long long)c->started_us);
}

static int write_state(const struct supervisor *s, int self_fd)
{
    struct buf b;
    buf_init(&b, STATE_BYTES_MAX);
    buf_printf(&b, "foldback %d\n", UPGRADE_STATE_VERSION);
    buf_printf(&b, "self %d\nmem %d\nadmin %d\nlock %d\nconf %d\n", self_fd, s->mem.fd, s->admin_fd,
               s->lock_fd, s->conf_fd);
    buf_printf(&b, "admin_address %s\ntoken_file %s\nstate_dir %s\n", s->admin_address,
               s->token_file, s->setup->state_dir);
    if (s->setup->file)
        buf_printf(&b, "file %s\n", s->setup->file);
    buf_printf(&b, "quiet %d\nannounced %d\nreload %d\n", s->setup->is_quiet, s->is_announced,
               s->is_reload_wanted);
    for (size_t i = 0; i < s->listen.total; i++)
        buf_printf(&b, "listen %d %s\n", s->listen.fds[i], s->listen.at[i]);
    put_child(&b, "gateway", &s->gateway);
    put_child(&b, "brain", &s->brain);
    for (size_t i = 0; i < RETIRED_MAX; i++)
        put_child(&b, "retired", &s->retired[i]);
    buf_printf(&b, "id %s\nfrom %s\nbegin %llu\n", s->upgrade.id, FB_VERSION,
               (unsigned long long)s->upgrade.begin_us);
    int fd = b.failed ? -1 : role_text_fd(buf_span(&b));
    buf_fini(&b);
    keep(fd, true);
    return fd;
}

/* As this process was started: what `ps` and systemd show stays the same. */
static char **own_args(char *room, size_t size)
{
    static char *args[ARGS_MAX + 1];
    int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, room, size - 1) : -1;
    if (fd >= 0)
        close(fd);
    if (n <= 0)
        return NULL;
    room[n] = '\0';
    size_t count = 0;
    for (char *at = room; at < room + n && count < ARGS_MAX; at += strlen(at) + 1)
        args[count++] = at;
    args[count] = NULL;
    return args;
}

/* ---- the new binary ---- */

bool upgrade_is_resumed(void)
{
    return getenv(UPGRADE_ENV) != NULL;
}

int upgrade_resume_main(void)
{
    static struct supervisor_setup setup; /* lives as long as the process */
    static struct supervisor s;
    struct fb_err err = {0};
    int state_fd = atoi(getenv(UPGRADE_ENV)), self_fd = -1;
    bool is_back =
        getenv(UPGRADE_BACK_ENV) != NULL; /* the new one could not go on: it is us again */
    fb_log_init("supervisor", FB_LOG_INFO);
    unsetenv(UPGRADE_ENV);
    supervisor_init(&s, &setup);
    enum fb_code code = read_state(state_fd, &s, &self_fd, &err);
    if (code == FB_OK)
        code = role_read_conf(s.conf_fd, &s.conf, &err);
    if (code == FB_OK)
        code = supervisor_signals(&s, &err);
    if (code != FB_OK) {
        fb_log(FB_LOG_ERROR, "the new supervisor cannot go on: %s; the old binary takes over again",
               err.text);
        go_back(state_fd, self_fd);
        return 1;
    }
    close(state_fd);
    close(self_fd);
    keep_all(&s, false);
    unsetenv(UPGRADE_BACK_ENV);
    setup.conf = s.conf;
    s.conf_started = conf_ref(s.conf);
    s.upgrade.step = UPGRADE_BRAIN;
    if (is_back)
        upgrade_abort(&s, "the new binary could not take over the supervisor, the log says why; "
                          "the new gateway serves, supervisor and brain are the old ones");
    else if (!s.brain.pid)
        s.brain.start_at_us = fb_mono_us();
    else
        control_send(s.brain.control_fd, CONTROL_STOP, 0, 0, "");
    return supervisor_loop(&s);
}

static void go_back(int state_fd, int self_fd)
{
    static char room[ARGS_BYTES];
    char number[16], path[40];
    char **args = own_args(room, sizeof room);
    if (self_fd < 0 || !args || getenv(UPGRADE_BACK_ENV))
        return;
    snprintf(number, sizeof number, "%d", state_fd);
    setenv(UPGRADE_ENV, number, 1);
    setenv(UPGRADE_BACK_ENV, "1", 1); /* once */
    snprintf(path, sizeof path, "/proc/self/fd/%d", self_fd);
    execv(path, args);
}

static bool read_child(const char *value, struct child *c, const char *name)
{
    int pid, fd, is_ready;
    unsigned slot;
    unsigned long long started;
    if (sscanf(value, "%d %d %u %d %llu", &pid, &fd, &slot, &is_ready, &started) != 5 ||
        slot >= MEMFILE_SLOTS)
        return false;
    *c = (struct child){.name = name,
                        .pid = pid,
                        .control_fd = fd,
                        .slot = slot,
                        .is_ready = is_ready != 0,
                        .started_us = started};
    return true;
}

/* A descriptor and, since it is known, its address. */
static bool add_listener(struct supervisor *s, const char *value)
{
    char *end;
    long fd = strtol(value, &end, 10);
    return listeners_add(&s->listen, (int)fd, *end == ' ' ? end + 1 : "");
}

/* One line; unknown keys are of a newer version and do not matter. */
static bool take_line(struct supervisor *s, const char *key, const char *value, int *self_fd)
{
    struct supervisor_setup *setup = (struct supervisor_setup *)(uintptr_t)s->setup;
    const struct {
        const char *key;
        int *fd;
    } fds[] = {{"self", self_fd},
               {"mem", &s->mem.fd},
               {"admin", &s->admin_fd},
               {"lock", &s->lock_fd},
               {"conf", &s->conf_fd}};
    for (size_t i = 0; i < FB_COUNT(fds); i++)
        if (strcmp(key, fds[i].key) == 0) {
            *fds[i].fd = atoi(value);
            return true;
        }
    if (strcmp(key, "listen") == 0)
        return add_listener(s, value);
    if (strcmp(key, "gateway") == 0)
        return read_child(value, &s->gateway, "gateway");
    if (strcmp(key, "brain") == 0)
        return read_child(value, &s->brain, "brain");
    if (strcmp(key, "retired") == 0) {
        for (size_t i = 0; i < RETIRED_MAX; i++)
            if (!s->retired[i].pid)
                return read_child(value, &s->retired[i], "gateway");
        return false;
    }
    if (strcmp(key, "admin_address") == 0)
        snprintf(s->admin_address, sizeof s->admin_address, "%s", value);
    else if (strcmp(key, "token_file") == 0)
        snprintf(s->token_file, sizeof s->token_file, "%s", value);
    else if (strcmp(key, "state_dir") == 0)
        setup->state_dir = strdup(value);
    else if (strcmp(key, "file") == 0)
        setup->file = strdup(value);
    else if (strcmp(key, "quiet") == 0)
        setup->is_quiet = value[0] == '1';
    else if (strcmp(key, "announced") == 0)
        s->is_announced = value[0] == '1';
    else if (strcmp(key, "reload") == 0)
        s->is_reload_wanted = value[0] == '1';
    else if (strcmp(key, "id") == 0)
        snprintf(s->upgrade.id, sizeof s->upgrade.id, "%s", value);
    else if (strcmp(key, "from") == 0)
        snprintf(s->upgrade.from, sizeof s->upgrade.from, "%s", value);
    else if (strcmp(key, "begin") == 0)
        s->upgrade.begin_us = strtoull(value, NULL, 10);
    return true;
}

static enum fb_code read_state(int fd, struct supervisor *s, int *self_fd, struct fb_err *err)
{
    static char text[STATE_BYTES_MAX];
    struct stat st;
    ssize_t n = fstat(fd, &st) == 0 ? pread(fd, text, sizeof text - 1, 0) : -1;
    if (n <= 0)
        return fb_fail(err, FB_E_IO, "%s names no state; unset it", UPGRADE_ENV);
    text[n] = '\0';
    int version = 0;
    bool is_whole = sscanf(text, "foldback %d\n", &version) == 1;
    char *more = NULL;
    for (char *line = strtok_r(text, "\n", &more); line; line = strtok_r(NULL, "\n", &more)) {
        char *value = strchr(line, ' ');
        if (!value)
            continue;
        *value++ = '\0';
        is_whole &= take_line(s, line, value, self_fd);
    }
    if (version != UPGRADE_STATE_VERSION)
        return fb_fail(err, FB_E_VERSION, "the state is of version %d, this binary reads %d",
                       version, UPGRADE_STATE_VERSION);
    if (!is_whole || s->listen.total == 0 || !s->setup->state_dir || !s->gateway.pid)
        return fb_fail(err, FB_E_FORMAT, "the state is not whole");
    return memfile_attach(&s->mem, s->mem.fd, err);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* upgrade: hand a running foldback over to another binary.
 *
 * Not by the admin API: what a program executes is decided by who may write its state folder and
 * signal it, not by who has a token. */
#include "base/clock.h"
#include "cli/cli_int.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define WAIT_DEFAULT_S 60

static enum fb_code pick_binary(const struct cli_call *call, char path[PATH_MAX],
                                struct fb_err *err);
static enum fb_code find_supervisor(const char *dir, pid_t *pid, struct fb_err *err);
static bool is_in_use(const char *dir);
static bool takes_upgrades(pid_t pid);
static enum fb_code ask(const char *dir, const char *id, const char *binary, struct fb_err *err);
static json_t *answer_of(const char *dir, const char *id);

int cmd_upgrade(const struct cli_call *call)
{
    const char *dir = client_state_dir(call->option[OPT_STATE]);
    char binary[PATH_MAX], id[40];
    uint64_t timeout_s = WAIT_DEFAULT_S;
    struct fb_err err = {0};
    pid_t pid;
    if (!cli_number(call, OPT_TIMEOUT, 1, 3600, &timeout_s))
        return 2;
    if (pick_binary(call, binary, &err) != FB_OK || find_supervisor(dir, &pid, &err) != FB_OK)
        return cli_fail(&err);
    snprintf(id, sizeof id, "%d-%llu", (int)getpid(), (unsigned long long)fb_mono_us());
    if (ask(dir, id, binary, &err) != FB_OK)
        return cli_fail(&err);
    if (kill(pid, SIGUSR2) < 0) {
        fb_fail(&err, errno == ESRCH ? FB_E_UNREACHABLE : FB_E_DENIED,
                "process %d cannot be told: %s; run this as the user of the running foldback",
                (int)pid, strerror(errno));
        return cli_fail(&err);
    }
    uint64_t until_us = fb_mono_us() + timeout_s * US_PER_S;
    json_t *root;
    while (!(root = answer_of(dir, id)) && fb_mono_us() < until_us)
        usleep(20000);
    if (!root) {
        fb_fail(&err, FB_E_TIMEOUT, "no word of the upgrade within %llu s; see the log",
                (unsigned long long)timeout_s);
        return cli_fail(&err);
    }
    bool is_done = strcmp(cli_str(root, "state"), "done") == 0;
    if (call->is_json)
        cli_print_json(root);
    else
        fprintf(is_done ? stdout : stderr, "%s%s\n",
                is_done ? "" : "foldback: not upgraded: ", cli_str(root, "text"));
    json_decref(root);
    return is_done ? 0 : 1;
}

/* The binary that is called is the one that takes over. */
static enum fb_code pick_binary(const struct cli_call *call, char path[PATH_MAX],
                                struct fb_err *err)
{
    const char *wanted = call->option[OPT_BINARY] ? call->option[OPT_BINARY] : "/proc/self/exe";
    if (!realpath(wanted, path))
        return fb_fail(err, FB_E_NOT_FOUND,
                       "--binary %s: %s; name the program that is to take over", wanted,
                       strerror(errno));
    if (access(path, X_OK) < 0)
        return fb_fail(err, FB_E_DENIED, "--binary %s cannot be executed: %s", path,
                       strerror(errno));
    if (strlen(path) >= 600)
        return fb_fail(err, FB_E_RANGE, "--binary: a path may have 599 bytes, this one has %zu",
                       strlen(path));
    return FB_OK;
}

static enum fb_code find_supervisor(const char *dir, pid_t *pid, struct fb_err *err)
{
    char path[PATH_MAX];
    enum fb_code code = client_state_check(dir, err);
    if (code != FB_OK)
        return code;
    snprintf(path, sizeof path, "%s/admin.json", dir);
    json_t *root = json_load_file(path, 0, NULL);
    *pid = root ? (pid_t)json_integer_value(json_object_get(root, "pid")) : 0;
    json_decref(root);
    if (*pid <= 1)
        return fb_fail(err, FB_E_UNREACHABLE,
                       "no foldback runs with the state folder %s; name another with --state, or "
                       "start one with `foldback run`",
                       dir);
    if (!is_in_use(dir) || !takes_upgrades(*pid))
        return fb_fail(err, FB_E_UNREACHABLE,
                       "process %d of %s is no foldback that can be upgraded; start one with "
                       "`foldback run`",
                       (int)*pid, path);
    return FB_OK;
}

/* A foldback that runs holds the lock of its folder. */
static bool is_in_use(const char *dir)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/lock", dir);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool is_held = fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) < 0;
    if (fd >= 0)
        close(fd);
    return is_held;
}

/* A number left behind by a crash may be somebody else's by now, whom the signal would end. */
static bool takes_upgrades(pid_t pid)
{
    char path[64], line[256];
    unsigned long long handled = 0, mask;
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "SigCgt: %llx", &mask) == 1 || sscanf(line, "SigBlk: %llx", &mask) == 1)
            handled |= mask;
    if (f)
        fclose(f);
    return handled >> (SIGUSR2 - 1) & 1;
}

/* Whole or not at all; readable for the user of the folder, who may be another than root. */
static enum fb_code ask(const char *dir, const char *id, const char *binary, struct fb_err *err)
{
    char path[PATH_MAX], draft[PATH_MAX];
    struct stat st;
    snprintf(path, sizeof path, "%s/upgrade.request", dir);
    snprintf(draft, sizeof draft, "%s/upgrade.request.new", dir);
    FILE *f = fopen(draft, "we");
    bool is_written = f && fprintf(f, "%s\n%s\n", id, binary) > 0;
    if (f && geteuid() == 0 && stat(dir, &st) == 0)
        is_written &= fchown(fileno(f), st.st_uid, st.st_gid) == 0;
    if (f)
        is_written &= fclose(f) == 0;
    if (!is_written || rename(draft, path) < 0)
        return fb_fail(err, FB_E_DENIED,
                       "cannot write to %s: %s; run this as the user of the running foldback", dir,
                       strerror(errno));
    return FB_OK;
}

static json_t *answer_of(const char *dir, const char *id)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/upgrade.answer", dir);
    json_t *root = json_load_file(path, 0, NULL);
    if (root && strcmp(cli_str(root, "id"), id) == 0)
        return root;
    json_decref(root);
    return NULL;
}

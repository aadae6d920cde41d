/* SPDX-License-Identifier: Apache-2.0 */
#include "main/role.h"

#include "base/log.h"
#include "gateway/gateway.h"
#include "io/thread.h"
#include "io/tls_mem.h"
#include "main/brain.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define ARGS_MAX 16
#define LISTENERS_MAX (64 * 64) /* listeners x threads */

static _Noreturn void child(const struct role_start *start)
{
    /* First out of the way of the fixed numbers, then into place: dup2 also clears close-on-exec.
     */
    static const char why[] = "foldback: no descriptors for a process; raise `ulimit -n`\n";
    int from[3 + LISTENERS_MAX];
    const int room = ROLE_FD_MEM + 3 + (int)start->more_count;
    size_t count = 0;
    if (start->is_background)
        thread_haste(THREAD_BACKGROUND);
    const int fixed[3] = {start->mem_fd, start->control_fd, start->conf_fd};
    for (size_t i = 0; i < 3; i++)
        from[count++] = fcntl(fixed[i], F_DUPFD_CLOEXEC, room);
    for (size_t i = 0; i < start->more_count && count < FB_COUNT(from); i++)
        from[count++] = fcntl(start->more[i], F_DUPFD_CLOEXEC, room);
    for (size_t i = 0; i < count; i++)
        if (from[i] < 0 || dup2(from[i], ROLE_FD_MEM + (int)i) < 0) {
            (void)!write(STDERR_FILENO, why, sizeof why - 1);
            _exit(126);
        }
    char *args[ARGS_MAX + 2] = {(char *)(uintptr_t) "foldback"};
    for (size_t i = 0; i < ARGS_MAX && start->argv[i]; i++)
        args[i + 1] = (char *)(uintptr_t)start->argv[i];
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execv(start->binary ? start->binary : "/proc/self/exe", args);
    _exit(127);
}

enum fb_code role_spawn(const struct role_start *start, pid_t *pid, struct fb_err *err)
{
    pid_t made = fork();
    if (made < 0)
        return fb_fail(err, FB_E_IO,
                       "cannot start a process: %s; raise the process limit (ulimit -u)",
                       strerror(errno));
    if (made == 0)
        child(start);
    *pid = made;
    return FB_OK;
}

int role_text_fd(struct span text)
{
    int fd = memfd_create("foldback-conf", MFD_CLOEXEC);
    if (fd < 0)
        return -1;
    size_t done = 0;
    while (done < text.len) {
        ssize_t n = pwrite(fd, text.at + done, text.len - done, (off_t)done);
        if (n <= 0) {
            close(fd);
            return -1;
        }
        done += (size_t)n;
    }
    return fd;
}

enum fb_code role_read_conf(int fd, struct conf **out, struct fb_err *err)
{
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return fb_fail(err, FB_E_IO, "configuration: no text came with the message");
    size_t len = (size_t)st.st_size;
    char *text = malloc(len + 1);
    if (!text)
        return fb_fail(err, FB_E_NOMEM, "configuration: no memory for %zu bytes", len);
    size_t done = 0;
    while (done < len) {
        ssize_t n = pread(fd, text + done, len - done, (off_t)done);
        if (n <= 0)
            break;
        done += (size_t)n;
    }
    text[done] = '\0';
    struct conf_report report = {0};
    enum fb_code code = conf_parse((struct span){text, done}, "", out, &report);
    if (code != FB_OK)
        code = fb_fail(err, FB_E_CONFIG, "configuration: %s",
                       report.count ? report.at[0].text : "not accepted");
    conf_report_fini(&report);
    free(text);
    return code;
}

int role_gateway_main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    fb_log_init("gateway", FB_LOG_INFO);
    if (!tls_mem_begin())
        fb_log(FB_LOG_WARN, "tls: OpenSSL takes its memory from the C library, which is slower");
    signal(SIGPIPE, SIG_IGN);
    signal(SIGINT, SIG_IGN); /* the supervisor decides what a Ctrl-C means */
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    prctl(PR_SET_NAME, "fb-gateway");
    size_t count = (size_t)strtoul(argv[2], NULL, 10);
    uint32_t slot = argc > 3 ? (uint32_t)strtoul(argv[3], NULL, 10) : 0;
    struct memfile mem;
    struct conf *conf = NULL;
    struct fb_err err;
    if (memfile_attach(&mem, ROLE_FD_MEM, &err) != FB_OK ||
        role_read_conf(ROLE_FD_CONF, &conf, &err) != FB_OK) {
        fb_log(FB_LOG_ERROR, "%s", err.text);
        return 1;
    }
    close(ROLE_FD_CONF);
    int *fds = calloc(count ? count : 1, sizeof *fds);
    if (!fds)
        return 1;
    for (size_t i = 0; i < count; i++) {
        fds[i] = ROLE_FD_FIRST + (int)i;
        (void)fcntl(fds[i], F_SETFD, FD_CLOEXEC);
    }
    struct gateway_setup setup = {.mem = &mem,
                                  .listen_fds = fds,
                                  .listen_count = count / mem.head->threads,
                                  .slot = slot < MEMFILE_SLOTS ? slot : 0,
                                  .conf = conf,
                                  .state_dir = argc > 4 ? argv[4] : "",
                                  .control_fd = ROLE_FD_CONTROL};
    int code = gateway_run(&setup);
    conf_unref(conf);
    free(fds);
    memfile_close(&mem);
    return code;
}

/* __brain STATE_DIR TOKEN_FILE ADMIN_ADDRESS; the admin socket is ROLE_FD_FIRST when the address is
 * not "". */
int role_brain_main(int argc, char **argv)
{
    if (argc < 5)
        return 2;
    struct brain_setup setup = {.mem_fd = ROLE_FD_MEM,
                                .control_fd = ROLE_FD_CONTROL,
                                .conf_fd = ROLE_FD_CONF,
                                .admin_fd = argv[4][0] ? ROLE_FD_FIRST : -1,
                                .state_dir = argv[2],
                                .token_file = argv[3],
                                .admin_address = argv[4]};
    return brain_run(&setup);
}
